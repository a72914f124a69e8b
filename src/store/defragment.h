/* SPDX-License-Identifier: Apache-2.0 */
/*
 * defragment.h - keeps the cost of reading a snapshot independent of how many generations came
 * before it. In a long chain most pages become patches of pages that nobody wants themselves, or
 * the last ones wanted of an old group; put stores some of them again, plain and together.
 *
 * Ownership:  nothing beyond the call; PLACES are changed in place.
 * Threads:    as the store.
 * Errors:     any of reading and writing; the caller rolls back.
 */
#ifndef DOR_STORE_DEFRAGMENT_H
#define DOR_STORE_DEFRAGMENT_H

#include "store/writer.h"

struct store_index;

struct store_defragment {
    uint32_t domain;
    uint64_t *places;
    uint64_t page_count;
    const uint64_t *first_new; /* per stream: serials from here on are of this put */
    uint64_t generation;
    uint64_t sweep_pages; /* of the image are looked at for plain pages to store again */
    uint64_t percent_max; /* cost of a full read, of that of a first image, that is fine */
    struct store_index **indexes; /* by region type, where pages stored again are to be found */
};

/* Pages stored again, by the stream they are in now, into RET_PAGES[STORE_STREAMS]. */
DOR_MUST_CHECK int store_defragment(
    struct dor_store *store, struct store_writer *writer, const struct store_defragment *wish,
    uint64_t ret_pages[STORE_STREAMS]);

#endif
