/* SPDX-License-Identifier: Apache-2.0 */
/*
 * array.h - the kernel's array of struct page: one small record for each page of memory, in which
 * the kernel notes what it uses the page for.
 *
 * Ownership:  the array owns its tables; records are the image's bytes, or a copy where they
 *             straddle pages.
 * Threads:    one that is made is only read: any.
 * Errors:     DOR_E_NO_MEMORY; a note that does not say how a record looks is false.
 */
#ifndef DOR_GUEST_ARRAY_H
#define DOR_GUEST_ARRAY_H

#include "base/le.h"
#include "guest/kernel.h"
#include "guest/profile.h"

/* Types of pages in the word that otherwise counts mappings; they changed form twice. */
struct guest_page_types {
    uint32_t mask; /* a page is of type T when (word & (mask | bits)) == T */
    uint32_t buddy, table, slab;
    uint32_t buddy_bits, table_bits, slab_bits;
    bool slab_is_flag; /* up to 6.9 a flag says so */
};

struct guest_array {
    const struct guest_memory *memory;
    uint64_t vmemmap;
    uint32_t record_bytes;
    uint32_t flags, refcount, mapping, lru, type, private_word, compound_head,
        index; /* offsets */
    bool has_index;
    uint8_t flag_lru, flag_swapbacked, flag_slab, flag_dirty, flag_reserved, flag_head;
    struct guest_page_types types;
    const uint8_t **groups; /* of each group of 64 pages the records, or NULL */
    uint64_t *range_groups; /* the first group of each range of memory */
    uint8_t **copies;       /* of groups that straddle pages */
    size_t copy_count, copy_cap;
};

/* How records look, from KERNEL's note and PROFILE. */
bool guest_array_describe(
    struct guest_array *array, const struct guest_kernel *kernel,
    const struct guest_profile *profile);

/* Find the records of all pages of memory. To be ended by guest_array_fini(), also after an error. */
DOR_MUST_CHECK int guest_array_open(struct guest_array *array, struct guest_kernel *kernel);
void guest_array_fini(struct guest_array *array);

/* The record of PFN, NULL when it has none. */
const uint8_t *guest_array_record(const struct guest_array *array, uint64_t pfn);

/* The page whose record is at the virtual ADDRESS; false when that is none of memory's. */
bool guest_array_pfn(const struct guest_array *array, uint64_t address, uint64_t *ret);

static inline uint64_t
guest_record_flags(const struct guest_array *array, const uint8_t *record)
{
    return base_le64_get(record + array->flags);
}

static inline bool
guest_record_has(const struct guest_array *array, const uint8_t *record, unsigned flag)
{
    return (guest_record_flags(array, record) >> flag & 1) != 0;
}

bool guest_record_is_buddy(const struct guest_array *array, const uint8_t *record);
bool guest_record_is_table(const struct guest_array *array, const uint8_t *record);
bool guest_record_is_slab(const struct guest_array *array, const uint8_t *record);

/* PFN, or the first page of the compound page that it is part of. */
uint64_t guest_array_head(const struct guest_array *array, uint64_t pfn, const uint8_t *record);

#endif
