/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout.c - each layout is a list of cuts: from row R on, memory goes on at page A. The rows are
 * those of the whole image, so that a cut may fall into any of its ranges.
 */
#include "guest/layout.h"

#include "base/mem.h"
#include "base/size.h"

#include <string.h>

#define GIB_PAGES ((uint64_t)1 << 18)

enum { CUTS_MAX = 2 };

struct cut {
    uint64_t row, pfn; /* row 0: no cut */
};

/*
 * Firecracker, Cloud Hypervisor and QEMU microvm and pc stop at 3 GiB; q35 at 2 GiB, or at 2.75 GiB
 * when all fits below; older machines and options give 3.5 and 3.25. Firecracker's memory between
 * 4 GiB and its second hole is 252 GiB; after the hole it goes on at 512 GiB.
 */
static const struct cut layouts[][CUTS_MAX] = {
    {{0, 0}},
    {{3 * GIB_PAGES, 4 * GIB_PAGES}},
    {{3 * GIB_PAGES, 4 * GIB_PAGES}, {255 * GIB_PAGES, 512 * GIB_PAGES}},
    {{2 * GIB_PAGES, 4 * GIB_PAGES}},
    {{7 * GIB_PAGES / 2, 4 * GIB_PAGES}},
    {{11 * GIB_PAGES / 4, 4 * GIB_PAGES}},
    {{13 * GIB_PAGES / 4, 4 * GIB_PAGES}},
};

size_t
guest_layout_count(void)
{
    return ARRAY_LEN(layouts);
}

bool
guest_layout_differs(size_t which, uint64_t page_count)
{
    if (which == 0)
        return true;
    const struct cut *last = &layouts[which][0];
    for (size_t i = 0; i < CUTS_MAX; i++)
        if (layouts[which][i].row != 0)
            last = &layouts[which][i];
    return last->row < page_count;
}

/* Rows from ROW to the next cut or END, and the page where they lie. */
static uint64_t
rows_to_cut(const struct cut *cuts, uint64_t row, uint64_t end, uint64_t *ret_pfn)
{
    *ret_pfn = row;
    for (size_t i = 0; i < CUTS_MAX && cuts[i].row != 0; i++) {
        if (row < cuts[i].row)
            return base_min_u64(end, cuts[i].row) - row;
        *ret_pfn = cuts[i].pfn + (row - cuts[i].row);
    }
    return end - row;
}

int
guest_layout_make(const struct dor_image_info *info, size_t which, struct guest_layout *ret)
{
    size_t most = info->range_count + CUTS_MAX;
    struct dor_image_range *ranges = base_array(most, sizeof ranges[0]);
    if (ranges == NULL)
        return DOR_E_NO_MEMORY;
    size_t count = 0;
    for (size_t i = 0; i < info->range_count; i++) {
        const struct dor_image_range *from = &info->ranges[i];
        uint64_t end = from->first_page + from->page_count;
        for (uint64_t row = from->first_page; row < end;) {
            uint64_t pfn;
            uint64_t run = rows_to_cut(layouts[which], row, end, &pfn);
            ranges[count++] = (struct dor_image_range){
                .first_page = row,
                .page_count = run,
                .address = pfn << DOR_PAGE_SHIFT,
                .data = from->data + ((row - from->first_page) << DOR_PAGE_SHIFT),
            };
            row += run;
        }
    }
    ret->ranges = ranges;
    ret->range_count = count;
    return 0;
}

void
guest_layout_fini(struct guest_layout *layout)
{
    base_free(layout->ranges);
    layout->ranges = NULL;
    layout->range_count = 0;
}
