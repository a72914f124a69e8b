/* SPDX-License-Identifier: Apache-2.0 */
/*
 * round_trip.h - takes an image apart and puts it together again: row and frame from
 * dor_image_open(), files from dor_frame_write(), and looks whether they are the same.
 *
 * Ownership:  nothing is kept.
 * Threads:    one at a time.
 * Errors:     bail() for trouble of the test's own.
 */
#ifndef TESTS_GUEST_ROUND_TRIP_H
#define TESTS_GUEST_ROUND_TRIP_H

#include <dormouse/image.h>

#include "tap.h"

/* A page source over an open image. */
static inline int
read_image(void *context, uint64_t first_page, size_t page_count, void *pages)
{
    dor_image_read(context, first_page, page_count, pages);
    return 0;
}

static inline int
next_image_data(void *context, uint64_t page_index, uint64_t *ret_first, uint64_t *ret_end)
{
    return dor_image_next_data(context, page_index, ret_first, ret_end);
}

static inline struct dor_page_source
image_source(struct dor_image *image, bool with_holes)
{
    return (struct dor_page_source){
        .page_count = dor_image_info(image)->page_count,
        .read = read_image,
        .next_data = with_holes ? next_image_data : NULL,
        .context = image,
    };
}

/* Open FROM as FORMAT, write it to TO; 0 or the first error. */
static inline int
copy_image(const char *from, const char *to, enum dor_image_format format, bool with_holes)
{
    struct dor_image *image;
    int rc = dor_image_open(from, format, &image);
    if (rc != 0)
        return rc;
    const struct dor_image_info *info = dor_image_info(image);
    struct dor_page_source source = image_source(image, with_holes);
    rc = dor_frame_write(info->frame, info->frame_bytes, to, &source);
    dor_image_close(image);
    return rc;
}

/* Whether two files, or two folders of files, are the same byte for byte, and in mode. */
static inline bool
same_files(const char *a, const char *b)
{
    char command[2048];
    snprintf(
        command, sizeof command,
        "diff -r '%s' '%s' >&2 && [ \"$(cd '%s' 2>/dev/null && stat -c '%%n %%a %%s' -- *)\" = "
        "\"$(cd '%s' 2>/dev/null && stat -c '%%n %%a %%s' -- *)\" ]",
        a, b, a, b);
    return system(command) == 0;
}

/* Remove a file or a folder. */
static inline void
remove_all(const char *path)
{
    char command[1024];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    if (system(command) != 0)
        bail("cannot remove %s", path);
}

#endif
