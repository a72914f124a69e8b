/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_priv.h - what the readers of formats share: the mapped files of an image, and the calls
 * that turn them into row and frame.
 *
 * A reader goes through the files in order and says of every byte what it is: a page of the row
 * (guest_image_add_pages, guest_image_add_memory), or not (guest_image_add_literal). The frame
 * asserts that none is forgotten.
 *
 * Ownership:  everything belongs to the image.
 * Threads:    one image, one thread.
 * Errors:     as dor_image_open().
 */
#ifndef DOR_GUEST_IMAGE_PRIV_H
#define DOR_GUEST_IMAGE_PRIV_H

#include "guest/frame.h"

#include <dormouse/image.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Guests of 32-bit days reach 4 GiB; devices lie below it, and memory goes on there. */
#define GUEST_FOUR_GIB (UINT64_C(4) << 30)

struct guest_file {
    char *label;      /* its path, for error texts */
    const char *name; /* in the folder; "" when the image is this one file */
    int fd;           /* kept open where holes may be asked for, otherwise -1 */
    unsigned mode;
    uint64_t size_bytes;
    uint64_t hole_bytes; /* at its begin */
    bool sparse;         /* it has a hole, there or elsewhere */
    uint8_t *data;       /* all of it, mapped; NULL when empty */
};

/* Where pages of the row are in the files. */
struct guest_run {
    uint64_t first_page;
    uint64_t page_count;
    size_t file_index;
    uint64_t offset;
    const uint8_t *bitmap; /* bit i: page i of the run has data; NULL: ask the file system */
};

struct dor_image {
    struct dor_image_info info;
    char *path;
    bool folder;
    struct guest_file *files; /* by name */
    size_t file_count;
    size_t file_room;
    struct dor_image_range *ranges;
    size_t range_count;
    size_t range_room;
    struct guest_run *runs;
    size_t run_count;
    size_t run_room;
    struct guest_frame_builder builder;
    struct base_buf frame;
    uint8_t *bitmap; /* of the image's own, for a run to point to; or NULL */
};

/* One per format; image.c has the table. */
struct guest_format {
    const char *name;
    bool folder; /* it is one, or it is a single file */
    /* Whether the files look like it, by content. */
    bool (*matches)(const struct dor_image *image);
    /* Make row and frame. The caller closes the frame. */
    int (*read)(struct dor_image *image);
};

extern const struct guest_format guest_format_raw;
extern const struct guest_format guest_format_firecracker;
extern const struct guest_format guest_format_qemu;
extern const struct guest_format guest_format_mapped_ram;
extern const struct guest_format guest_format_elf_core;
extern const struct guest_format guest_format_cloud_hypervisor;
extern const struct guest_format guest_format_criu;

/* ---- image.c ---- */

/* Make row and frame of files that are open, by image->info.format. */
DOR_MUST_CHECK int guest_image_read_format(struct dor_image *image);

/* ---- format_cloud_hypervisor.c ---- */

/* The table of memory ranges in the text of a state.json: address and page_count; for free(). */
DOR_MUST_CHECK int guest_cloud_hypervisor_table(
    const char *state, size_t size_bytes, struct dor_image_range **ret, size_t *ret_count);

/* ---- image_files.c ---- */

/* Open and map the file, or every file of the folder, at image->path. */
DOR_MUST_CHECK int guest_image_open_files(struct dor_image *image);
void guest_image_close_files(struct dor_image *image);

/* The index of the file NAME; file_count when there is none. */
size_t guest_image_find(const struct dor_image *image, const char *name);

static inline bool
guest_file_is_whole_pages(const struct guest_file *file)
{
    return file->size_bytes > 0 && file->size_bytes % 4096 == 0;
}

/* Whether the file begins with these bytes, which are not zeros. */
bool guest_file_begins(const struct guest_file *file, const void *bytes, size_t size_bytes);

/* ---- image_row.c ---- */

/* What follows is content of file FILE_INDEX, until the next call. */
DOR_MUST_CHECK int guest_image_begin_file(struct dor_image *image, size_t file_index);

/* SIZE_BYTES at OFFSET of the file are no pages. */
DOR_MUST_CHECK int guest_image_add_literal(
    struct dor_image *image, size_t file_index, uint64_t offset, uint64_t size_bytes);

/* The whole file is no pages: begins and adds it; its holes cost nothing. */
DOR_MUST_CHECK int guest_image_add_other(struct dor_image *image, size_t file_index);

/* Pages at OFFSET of the file come next in the row, from ADDRESS of SPACE on. */
DOR_MUST_CHECK int guest_image_add_pages(
    struct dor_image *image, size_t file_index, uint64_t offset, uint64_t page_count,
    uint64_t address, uint32_t space);

/*
 * The same for guest memory that begins at ADDRESS as if there were no hole: what would lie at or
 * above LOW_BYTES lies from 4 GiB on. LOW_BYTES of UINT64_MAX: there is no hole.
 */
DOR_MUST_CHECK int guest_image_add_memory(
    struct dor_image *image, size_t file_index, uint64_t offset, uint64_t page_count,
    uint64_t address, uint64_t low_bytes);

/* Row alone: a range, and a run with BITMAP (see struct guest_run). For readers of their own mind.
 */
DOR_MUST_CHECK int guest_image_add_range(
    struct dor_image *image, const uint8_t *data, uint64_t page_count, uint64_t address,
    uint32_t space);
DOR_MUST_CHECK int guest_image_add_run(
    struct dor_image *image, size_t file_index, uint64_t offset, uint64_t page_count,
    const uint8_t *bitmap);

#endif
