/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repack.h - writes one segment anew without some of its pages, or packed otherwise; the pages
 * keep their serial numbers, so no recipe changes.
 *
 * Ownership:  nothing beyond the call.
 * Threads:    as the store.
 * Errors:     any; the caller rolls the store back.
 */
#ifndef DOR_STORE_REPACK_H
#define DOR_STORE_REPACK_H

#include "store/usage.h"
#include "store/writer.h"

struct store_repack {
    const struct store_usage *keep; /* pages to keep */
    /* squeeze: groups with such a page stay as they are; NULL = none */
    const struct store_usage *hot;
    const struct store_usage *pack; /* groups with such a page are packed anew; NULL = none */
    bool squeeze;                   /* pack everything else by PACKING */
    bool keep_old;                  /* the old file stays, as bad.NAME */
    uint64_t waste_percent;         /* a group with this share of dead pages is packed anew */
    /* of patches of STREAM: where a base is now; NULL = where it was */
    uint64_t (*move_base)(const void *context, unsigned stream, uint64_t serial);
    const void *move_context;
    struct store_packing packing;
};

/*
 * Replace the segment ID by a new one, or by none when nothing is kept; saves the catalog and
 * removes the old file, or its name.
 */
DOR_MUST_CHECK int
store_repack_segment(struct dor_store *store, uint32_t id, const struct store_repack *repack);

#endif
