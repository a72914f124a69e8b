/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map.h - draws an image as a field of letters that shows how its pages are kept.
 *
 * Ownership:  nothing is kept.
 * Threads:    one.
 * Errors:     none; what cannot be printed shows in ferror() of standard output.
 */
#ifndef DOR_CLI_MAP_H
#define DOR_CLI_MAP_H

#include <dormouse/store.h>

/* At most 24 lines of 64 letters; a letter stands for the kind that most of its pages have. */
void cli_map_print(const struct dor_snapshot *snapshot);

/*
 * The same for a working set in an image of PAGE_COUNT pages: a digit tells in which tenth of the
 * pages the first one behind it is needed.
 */
void cli_map_print_working_set(const struct dor_working_set *set, uint64_t page_count);

#endif
