/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pager.h - memory that is in no mapped file: its pages are read from a source when they are first
 * looked at. Ranges point into a mapping of the whole row, so whoever follows a pointer only has
 * to have the bytes brought before.
 *
 * Ownership:  a pager owns its mapping; what the pages are read from is the caller's.
 * Threads:    one.
 * Errors:     the first error of the source is kept: from then on nothing is brought, and
 *             guest_pager_error() gives it back with its words.
 */
#ifndef DOR_GUEST_PAGER_H
#define DOR_GUEST_PAGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dormouse/inspect.h>

#include "base/err.h"

struct guest_pager {
    const struct dor_inspect_pages *pages;
    uint8_t *bytes; /* of all pages; zeros where nothing was brought */
    size_t size_bytes;
    uint64_t *here_bits; /* by block of pages */
    uint64_t *kept_bits; /* likewise: here until the end */
    uint64_t peeked;     /* one more than the block that is here and not kept, or 0 */
    int rc;
    struct base_err err; /* words of rc */
};

/* DOR_E_NO_MEMORY. */
DOR_MUST_CHECK int
guest_pager_open(struct guest_pager *pager, const struct dor_inspect_pages *pages);
void guest_pager_close(struct guest_pager *pager);

/* Bring SIZE_BYTES at DATA, which lie in the pager's mapping, to stay. */
bool guest_pager_bring(struct guest_pager *pager, const uint8_t *data, size_t size_bytes);

/*
 * The page of ROW until the next peek, where it lies in memory already or read for that; or NULL. Who
 * goes through all pages does not fill the memory with them.
 */
const uint8_t *guest_pager_peek(struct guest_pager *pager, uint64_t row);

/* 0, or the first error of the source, recorded again. */
DOR_MUST_CHECK int guest_pager_error(const struct guest_pager *pager);

#endif
