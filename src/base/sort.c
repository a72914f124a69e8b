/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sort.c - radix sort by bytes from the lowest, and only by bytes that differ somewhere: the
 * serial numbers of an image differ in three of eight.
 */
#include "base/sort.h"

#include "base/size.h"

enum { RADIX = 256 };

struct base_sort_row *
base_sort_rows(struct base_sort_row *rows, struct base_sort_row *spare, size_t count)
{
    uint64_t differ = 0;
    for (size_t i = 1; i < count; i++)
        differ |= rows[i].key ^ rows[0].key;
    for (unsigned shift = 0; shift < 64; shift += 8) {
        size_t ends[RADIX] = {0};
        if ((differ >> shift & 0xff) == 0)
            continue;
        for (size_t i = 0; i < count; i++)
            ends[rows[i].key >> shift & 0xff]++;
        size_t start = 0;
        for (size_t value = 0; value < ARRAY_LEN(ends); value++) {
            size_t here = ends[value];
            ends[value] = start;
            start += here;
        }
        for (size_t i = 0; i < count; i++)
            spare[ends[rows[i].key >> shift & 0xff]++] = rows[i];
        struct base_sort_row *swap = rows;
        rows = spare;
        spare = swap;
    }
    return rows;
}
