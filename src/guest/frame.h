/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame.h - makes and reads frames: everything in an image's files that is not a page, and where
 * each run of pages belongs. Format readers call the builder with the content of each file, in
 * order; whoever needs a frame walks it op by op.
 *
 * Ownership:  a builder owns its bytes until guest_frame_finish() hands them out; a reader points
 *             into the frame it was given.
 * Threads:    plain values.
 * Errors:     builders DOR_E_NO_MEMORY, and DOR_E_USAGE when the literals are too many; readers
 *             DOR_E_CORRUPT and DOR_E_UNSUPPORTED.
 */
#ifndef DOR_GUEST_FRAME_H
#define DOR_GUEST_FRAME_H

#include "base/mem.h"

#include <dormouse/image.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GUEST_FRAME_NAME_BYTES_MAX = 255, GUEST_FRAME_FILES_MAX = 4096 };

/* Literals are kept in memory and as a sidecar. */
#define GUEST_FRAME_LITERAL_BYTES_MAX ((uint64_t)256 << 20)
/* 16 TiB, as much as a guest of 2^44 bytes can have. */
#define GUEST_FRAME_FILE_BYTES_MAX (UINT64_C(1) << 44)
#define GUEST_FRAME_PAGES_MAX      (GUEST_FRAME_FILE_BYTES_MAX / 4096)

enum guest_frame_flag {
    GUEST_FRAME_FOLDER = 1,
    GUEST_FRAME_PROCESS = 2,
    GUEST_FRAME_GUESSED = 4,
    GUEST_FRAME_FLAGS = 7
};

/* ---- making ---- */

struct guest_frame_builder {
    struct base_buf bytes;
    uint64_t literal_bytes;
    uint64_t file_left_bytes; /* of the file that was begun */
    uint64_t zero_bytes;      /* at the end so far and not written yet */
    uint64_t run_first_page;  /* likewise a run of pages */
    uint64_t run_page_count;
    uint64_t next_page; /* after the last run written */
};

#define AUTO_FRAME_BUILDER __attribute__((cleanup(guest_frame_builder_fini)))

/* All zero is a builder to begin with. */
DOR_MUST_CHECK int guest_frame_begin(struct guest_frame_builder *builder);
void guest_frame_builder_fini(struct guest_frame_builder *builder);

/* The next file; what is added next must make exactly SIZE_BYTES. Names ascend. */
DOR_MUST_CHECK int guest_frame_add_file(
    struct guest_frame_builder *builder, const char *name, unsigned mode, uint64_t size_bytes);
DOR_MUST_CHECK int
guest_frame_add_zeros(struct guest_frame_builder *builder, uint64_t size_bytes);
/* Bytes as they are; long runs of zeros among them cost nothing. */
DOR_MUST_CHECK int guest_frame_add_literal(
    struct guest_frame_builder *builder, const uint8_t *data, uint64_t size_bytes);
DOR_MUST_CHECK int guest_frame_add_pages(
    struct guest_frame_builder *builder, uint64_t first_page, uint64_t page_count);

/* Close the frame of a row with these ranges and move its bytes to *RET. */
DOR_MUST_CHECK int guest_frame_finish(
    struct guest_frame_builder *builder, enum dor_image_format format, unsigned flags,
    const struct dor_image_range *ranges, size_t range_count, struct base_buf *ret);

/* ---- reading ---- */

enum guest_frame_op_kind {
    GUEST_FRAME_END,
    GUEST_FRAME_FILE,
    GUEST_FRAME_ZEROS,
    GUEST_FRAME_LITERAL,
    GUEST_FRAME_PAGES,
    GUEST_FRAME_PAGES_FROM, /* readers are given GUEST_FRAME_PAGES instead */
    GUEST_FRAME_RANGE,
    GUEST_FRAME_OPS
};

struct guest_frame_op {
    enum guest_frame_op_kind kind;
    uint64_t count;      /* bytes or pages */
    uint64_t first_page; /* GUEST_FRAME_PAGES */
    const uint8_t *data; /* GUEST_FRAME_LITERAL; FILE: the name, COUNT bytes */
    unsigned mode;       /* GUEST_FRAME_FILE */
    uint64_t file_bytes;
    uint32_t space; /* GUEST_FRAME_RANGE */
    uint64_t address;
};

struct guest_frame_reader {
    const uint8_t *start;
    const uint8_t *at;
    const uint8_t *end;
    uint64_t page_count;
    uint64_t next_page;
};

/*
 * Validate all of FRAME, of a row of PAGE_COUNT pages (0: any), and set READER to its first op.
 * Afterwards guest_frame_next() cannot meet anything that is not as frame.md says.
 */
DOR_MUST_CHECK int guest_frame_open(
    const void *frame, size_t frame_bytes, uint64_t page_count,
    struct guest_frame_reader *reader, struct dor_frame_info *ret_info);

/* The op at the reader's place; after GUEST_FRAME_END there is none. */
void guest_frame_next(struct guest_frame_reader *reader, struct guest_frame_op *ret);

#endif
