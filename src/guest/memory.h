/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory.h - a guest's physical memory as an address space over the rows of an image.
 * Every byte of a guest that is looked at is got through here, so this is where it is seen that
 * an address lies inside the image, and that its bytes are there.
 *
 * Ownership:  the memory owns its list of ranges; bytes stay the image's.
 * Threads:    one that is made is only read: any.
 * Errors:     DOR_E_CORRUPT for ranges that overlap or end past 2^52; addresses that lie outside,
 *             or whose bytes the pager cannot bring, are no errors but NULL and false.
 */
#ifndef DOR_GUEST_MEMORY_H
#define DOR_GUEST_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dormouse/image.h>

#include "base/size.h"
#include "guest/pager.h"

struct guest_range {
    uint64_t first_pfn, page_count;
    uint64_t first_row; /* of the image */
    const uint8_t *data;
};

struct guest_memory {
    struct guest_range *ranges; /* by pfn, none empty, none touching another's pages */
    size_t range_count;
    uint64_t row_count;        /* of the image, also those without an address */
    uint64_t end_pfn;          /* one past the highest */
    struct guest_pager *pager; /* brings the bytes; NULL when all are there */
};

/* Ranges without an address, or one that is not a page's, are left out. */
DOR_MUST_CHECK int guest_memory_init(
    struct guest_memory *memory, const struct dor_image_range *ranges, size_t range_count);
void guest_memory_fini(struct guest_memory *memory);

/* The range that holds the page PFN, or NULL. */
const struct guest_range *guest_memory_range(const struct guest_memory *memory, uint64_t pfn);

/* SIZE_BYTES at the physical ADDRESS, NULL when not all of them lie in one range. */
const uint8_t *
guest_memory_at(const struct guest_memory *memory, uint64_t address, size_t size_bytes);

/* Have SIZE_BYTES at DATA brought, which were not got from guest_memory_at(). */
static inline bool
guest_memory_bring(const struct guest_memory *memory, const uint8_t *data, size_t size_bytes)
{
    return memory->pager == NULL || guest_pager_bring(memory->pager, data, size_bytes);
}

/* The image's row of the page PFN. */
bool guest_memory_row(const struct guest_memory *memory, uint64_t pfn, uint64_t *ret);

#endif
