/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sort.h - sorts rows by a 64-bit key in linear time: places of pages, a million at a time.
 *
 * Ownership:  both arrays are the caller's.
 * Threads:    any.
 * Errors:     cannot fail.
 */
#ifndef DOR_BASE_SORT_H
#define DOR_BASE_SORT_H

#include <stddef.h>
#include <stdint.h>

struct base_sort_row {
    uint64_t key;
    uint64_t index;
};

/*
 * Sort COUNT rows by key, stable; SPARE is as large as ROWS. Returns whichever of the two holds the
 * result.
 */
struct base_sort_row *
base_sort_rows(struct base_sort_row *rows, struct base_sort_row *spare, size_t count);

#endif
