/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame_runs.h - where the pages of a row are in the files of a frame, found by page: for who writes
 * pages in another order than that of the files.
 *
 * Ownership:  runs own their rows; guest_frame_runs_fini().
 * Threads:    plain values; once sorted, any may look up.
 * Errors:     DOR_E_NO_MEMORY.
 */
#ifndef DOR_GUEST_FRAME_RUNS_H
#define DOR_GUEST_FRAME_RUNS_H

#include <stddef.h>
#include <stdint.h>

#include <dormouse/err.h>

/* Pages that follow each other in the row and in a file. */
struct guest_frame_run {
    uint64_t first_page, page_count;
    uint64_t offset; /* in the file */
    uint32_t file;
};

struct guest_frame_list {
    struct guest_frame_run *rows;
    size_t count, cap;
};

struct guest_frame_runs {
    struct guest_frame_list places; /* by page, and no page twice */
    /* What has a place already. No monitor writes a page twice, but a frame may say so. */
    struct guest_frame_list again;
};

/* All zero is one without runs. At most 32 bytes a page of the row, for a frame uses none more. */
DOR_MUST_CHECK int
guest_frame_runs_add(struct guest_frame_runs *runs, const struct guest_frame_run *run);
/* After the last was added and before the first look. */
DOR_MUST_CHECK int guest_frame_runs_sort(struct guest_frame_runs *runs);
void guest_frame_runs_fini(struct guest_frame_runs *runs);

/* The first place that ends after PAGE, or one past the last. */
const struct guest_frame_run *
guest_frame_runs_find(const struct guest_frame_runs *runs, uint64_t page);

#endif
