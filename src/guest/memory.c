/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory.c - a sorted list of ranges and a binary search in it. There are two or three ranges in
 * most images and a few thousand at worst, so the search is never what costs time.
 */
#include "guest/memory.h"

#include "base/err.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* No x86-64 has more than 52 bits of physical address. */
#define END_PFN_MAX (UINT64_C(1) << 40)

static int
compare_ranges(const void *left, const void *right)
{
    uint64_t a = ((const struct guest_range *)left)->first_pfn;
    uint64_t b = ((const struct guest_range *)right)->first_pfn;
    return (a > b) - (a < b);
}

static bool
has_address(const struct dor_image_range *range)
{
    return range->page_count > 0 && range->address != DOR_IMAGE_NO_ADDRESS &&
           range->address % DOR_PAGE_BYTES == 0;
}

static int
check_order(const struct guest_memory *memory)
{
    uint64_t end = 0;
    for (size_t i = 0; i < memory->range_count; i++) {
        const struct guest_range *range = &memory->ranges[i];
        if (range->first_pfn < end)
            return dor_fail(
                DOR_E_CORRUPT, "memory ranges overlap at address %#" PRIx64,
                range->first_pfn << DOR_PAGE_SHIFT);
        if (range->page_count > END_PFN_MAX ||
            range->first_pfn > END_PFN_MAX - range->page_count)
            return dor_fail(
                DOR_E_CORRUPT, "memory range at %#" PRIx64 " ends past 52 bits",
                range->first_pfn << DOR_PAGE_SHIFT);
        end = range->first_pfn + range->page_count;
    }
    return 0;
}

int
guest_memory_init(
    struct guest_memory *memory, const struct dor_image_range *ranges, size_t range_count)
{
    memset(memory, 0, sizeof *memory);
    memory->ranges = base_array(range_count, sizeof memory->ranges[0]);
    if (memory->ranges == NULL)
        return DOR_E_NO_MEMORY;
    for (size_t i = 0; i < range_count; i++) {
        memory->row_count += ranges[i].page_count;
        if (!has_address(&ranges[i]))
            continue;
        memory->ranges[memory->range_count++] = (struct guest_range){
            .first_pfn = ranges[i].address >> DOR_PAGE_SHIFT,
            .page_count = ranges[i].page_count,
            .first_row = ranges[i].first_page,
            .data = ranges[i].data,
        };
    }
    if (memory->range_count > 0)
        qsort(memory->ranges, memory->range_count, sizeof memory->ranges[0], compare_ranges);
    int rc = check_order(memory);
    if (rc != 0)
        guest_memory_fini(memory);
    else if (memory->range_count > 0)
        memory->end_pfn = memory->ranges[memory->range_count - 1].first_pfn +
                          memory->ranges[memory->range_count - 1].page_count;
    return rc;
}

void
guest_memory_fini(struct guest_memory *memory)
{
    base_free(memory->ranges);
    memory->ranges = NULL;
    memory->range_count = 0;
}

const struct guest_range *
guest_memory_range(const struct guest_memory *memory, uint64_t pfn)
{
    size_t low = 0;
    size_t high = memory->range_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct guest_range *range = &memory->ranges[middle];
        if (pfn < range->first_pfn)
            high = middle;
        else if (pfn - range->first_pfn >= range->page_count)
            low = middle + 1;
        else
            return range;
    }
    return NULL;
}

const uint8_t *
guest_memory_at(const struct guest_memory *memory, uint64_t address, size_t size_bytes)
{
    const struct guest_range *range = guest_memory_range(memory, address >> DOR_PAGE_SHIFT);
    if (range == NULL)
        return NULL;
    uint64_t offset = address - (range->first_pfn << DOR_PAGE_SHIFT);
    if (size_bytes > (range->page_count << DOR_PAGE_SHIFT) - offset)
        return NULL;
    const uint8_t *data = range->data + offset;
    return guest_memory_bring(memory, data, size_bytes) ? data : NULL;
}

bool
guest_memory_row(const struct guest_memory *memory, uint64_t pfn, uint64_t *ret)
{
    const struct guest_range *range = guest_memory_range(memory, pfn);
    if (range == NULL)
        return false;
    *ret = range->first_row + (pfn - range->first_pfn);
    return true;
}
