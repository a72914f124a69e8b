/* SPDX-License-Identifier: Apache-2.0 */
/*
 * defragment.h - keeps the cost of reading a snapshot independent of how many generations came
 * before it. A page that never changes again may be the last one wanted of an old group; when
 * a snapshot's pages lie so thinly that reading them decodes too much, put stores some of them
 * again, together.
 *
 * Ownership:  nothing beyond the call; PLACES are changed in place.
 * Threads:    as the store.
 * Errors:     any of reading and writing; the caller rolls back.
 */
#ifndef DOR_STORE_DEFRAGMENT_H
#define DOR_STORE_DEFRAGMENT_H

#include "store/writer.h"

struct store_defragment {
    uint32_t domain;
    uint64_t *places;
    uint64_t page_count;
    const uint64_t *first_new; /* per stream: serials from here on are of this put */
    uint64_t pages_max;        /* store at most this many pages again */
    uint64_t percent_max;      /* decoded bytes per wanted byte that are fine, in per cent */
};

/* Pages stored again, by stream, into RET_PAGES[STORE_STREAMS]. */
DOR_MUST_CHECK int store_defragment(
    struct dor_store *store, struct store_writer *writer, const struct store_defragment *wish,
    uint64_t ret_pages[STORE_STREAMS]);

#endif
