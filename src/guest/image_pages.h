/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_pages.h - the pages of an image as a source that never touches a hole. In tmpfs a hole that
 * is read through a mapping becomes a page of zeros, in the file itself: a diff that was only
 * looked at would say afterwards that those pages are zero now.
 *
 * Ownership:  the image must stay open; nothing is allocated.
 * Threads:    one.
 * Errors:     as dor_image_next_data().
 */
#ifndef DOR_GUEST_IMAGE_PAGES_H
#define DOR_GUEST_IMAGE_PAGES_H

#include <stdbool.h>
#include <stdint.h>

#include <dormouse/image.h>

struct guest_image_pages {
    struct dor_page_source source; /* the context is the whole struct */
    const struct dor_image *image;
    uint64_t hole_first, data_first, data_end; /* seen last: a hole, then data */
};

/* Whether any of its files has a hole, so that such a source is worth its copies. */
bool guest_image_is_sparse(const struct dor_image *image);

/* PAGES must stay where it is. */
void guest_image_pages_init(struct guest_image_pages *pages, const struct dor_image *image);

/* As the function of struct dor_inspect_pages: the page as it is mapped, NULL where it is a hole. */
const uint8_t *guest_image_pages_find(void *context, uint64_t page_index);

#endif
