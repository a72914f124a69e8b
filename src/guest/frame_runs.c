/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame_runs.c - runs as the ops give them, sorted by page; what overlaps an earlier one is cut off
 * and kept apart.
 */
#include "guest/frame_runs.h"

#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"

#include <stdlib.h>

static int
append(struct guest_frame_list *list, const struct guest_frame_run *run)
{
    if (list->count == list->cap) {
        size_t cap = list->cap + list->cap / 2 + 16;
        struct guest_frame_run *rows = base_realloc_array(list->rows, cap, sizeof rows[0]);
        if (rows == NULL)
            return DOR_E_NO_MEMORY;
        list->rows = rows;
        list->cap = cap;
    }
    list->rows[list->count++] = *run;
    return 0;
}

int
guest_frame_runs_add(struct guest_frame_runs *runs, const struct guest_frame_run *run)
{
    return append(&runs->places, run);
}

/* The same page first in the earlier file, and there at the lower offset. */
static int
compare_runs(const void *left, const void *right)
{
    const struct guest_frame_run *a = left;
    const struct guest_frame_run *b = right;
    if (a->first_page != b->first_page)
        return a->first_page < b->first_page ? -1 : 1;
    if (a->file != b->file)
        return a->file < b->file ? -1 : 1;
    return (a->offset > b->offset) - (a->offset < b->offset);
}

int
guest_frame_runs_sort(struct guest_frame_runs *runs)
{
    struct guest_frame_list *places = &runs->places;
    uint64_t end = 0; /* of the places kept */
    size_t kept = 0;
    if (places->count > 0)
        qsort(places->rows, places->count, sizeof places->rows[0], compare_runs);
    for (size_t i = 0; i < places->count; i++) {
        struct guest_frame_run run = places->rows[i];
        uint64_t covered =
            run.first_page >= end ? 0 : base_min_u64(end - run.first_page, run.page_count);
        if (covered > 0) {
            struct guest_frame_run part = run;
            part.page_count = covered;
            int rc = append(&runs->again, &part);
            if (rc != 0)
                return rc;
        }
        if (covered == run.page_count)
            continue;
        run.first_page += covered;
        run.page_count -= covered;
        run.offset += covered * DOR_PAGE_BYTES;
        end = run.first_page + run.page_count;
        places->rows[kept++] = run;
    }
    places->count = kept;
    return 0;
}

void
guest_frame_runs_fini(struct guest_frame_runs *runs)
{
    base_free(runs->places.rows);
    base_free(runs->again.rows);
    *runs = (struct guest_frame_runs){0};
}

const struct guest_frame_run *
guest_frame_runs_find(const struct guest_frame_runs *runs, uint64_t page)
{
    size_t low = 0;
    size_t high = runs->places.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct guest_frame_run *run = &runs->places.rows[middle];
        if (run->first_page + run->page_count > page)
            high = middle;
        else
            low = middle + 1;
    }
    return &runs->places.rows[low];
}
