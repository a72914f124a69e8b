/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout.h - where raw memory may lie. A raw file says nothing about addresses; monitors put
 * memory from 0 up to a hole under 4 GiB, and what is left from 4 GiB on (Firecracker leaves a
 * second hole at 256 GiB). These are the layouts in use, to be tried until one makes sense.
 *
 * Ownership:  a layout owns its list of ranges.
 * Threads:    any.
 * Errors:     DOR_E_NO_MEMORY.
 */
#ifndef DOR_GUEST_LAYOUT_H
#define DOR_GUEST_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>

#include <dormouse/image.h>

struct guest_layout {
    struct dor_image_range *ranges;
    size_t range_count;
};

/* How many there are; the first one has no hole. */
size_t guest_layout_count(void);

/* Whether layout WHICH differs from all earlier ones for an image of PAGE_COUNT pages. */
bool guest_layout_differs(size_t which, uint64_t page_count);

/* Give the pages of INFO the addresses of layout WHICH. */
DOR_MUST_CHECK int
guest_layout_make(const struct dor_image_info *info, size_t which, struct guest_layout *ret);
void guest_layout_fini(struct guest_layout *layout);

#endif
