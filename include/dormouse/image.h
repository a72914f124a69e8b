/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image.h - images of sandbox memory in the formats that virtual machine monitors write.
 *
 * Whatever the format, an image is one row of pages and a frame: the frame is everything in its
 * files that is not a page (headers, device state, bitmaps, text) and says where each run of pages
 * belongs. Pages and frame together give the files back, byte for byte.
 *
 * Ownership:  what dor_image_info() returns belongs to the image and goes with it.
 * Threads:    one handle, one thread at a time; reading through the pointers, any.
 * Errors:     0 or a negative enum dor_errno; dor_err_message() has the words.
 */
#ifndef DORMOUSE_IMAGE_H
#define DORMOUSE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dormouse/err.h>

#ifdef __cplusplus
extern "C" {
#endif

enum dor_image_format {
    DOR_IMAGE_AUTO = 0,    /* by content */
    DOR_IMAGE_RAW,         /* one file of memory: Firecracker's, QEMU's memory-backend-file */
    DOR_IMAGE_FIRECRACKER, /* a folder: memory file and vmstate, full or diff */
    DOR_IMAGE_QEMU,        /* a folder: memory-backend-file and migration stream without RAM */
    DOR_IMAGE_MAPPED_RAM,  /* QEMU >= 9: one migration file with capability mapped-ram */
    DOR_IMAGE_ELF_CORE,    /* QEMU's dump-guest-memory, gcore */
    DOR_IMAGE_CLOUD_HYPERVISOR, /* a folder: config.json, state.json, memory-ranges */
    DOR_IMAGE_CRIU,             /* a folder of CRIU's images: pages-*.img and the rest */
    DOR_IMAGE_FORMATS
};

/* The name that --format takes ("raw", "firecracker", "mapped-ram" ...); NULL for other numbers. */
DOR_PUBLIC const char *dor_image_format_name(enum dor_image_format format);
/* The other way round; DOR_E_USAGE with the list of names. */
DOR_PUBLIC DOR_MUST_CHECK int
dor_image_format_parse(const char *name, enum dor_image_format *ret);

#define DOR_IMAGE_NO_ADDRESS UINT64_MAX

/* A run of pages that follow each other in the row and in the sandbox's address space. */
struct dor_image_range {
    uint64_t first_page; /* in the row of pages; ranges are in this order and leave no gap */
    uint64_t page_count;
    uint64_t address; /* guest physical; for process images virtual; or DOR_IMAGE_NO_ADDRESS */
    uint32_t space;   /* process images: the process, its pid; otherwise 0 */
    const uint8_t
        *data; /* page_count * 4096 bytes, of any alignment, as long as the image is open */
};

struct dor_image_info {
    enum dor_image_format format;
    bool process; /* pages of processes (gcore, CRIU), not of a machine */
    bool
        diff; /* a Firecracker diff: pages for which dor_image_next_data() skips are unchanged */
    /* addresses are a guess: the format does not say where memory lies (raw); see guest layouts */
    bool addresses_guessed;
    uint64_t page_count;
    const struct dor_image_range *ranges;
    size_t range_count;
    const void *frame; /* see docs/formats/frame.md; empty (0 bytes) for a single raw file */
    size_t frame_bytes;
};

struct dor_image;

/*
 * Open the image at PATH, a file or a folder. DOR_E_USAGE: not an image (empty, a pipe, not whole
 * pages ...) or not of FORMAT; DOR_E_CORRUPT: of a known format, but damaged or cut;
 * DOR_E_UNSUPPORTED: a version or feature that is not read. Files are mapped, not copied, and
 * must not shrink while the image is open.
 */
DOR_PUBLIC DOR_MUST_CHECK int
dor_image_open(const char *path, enum dor_image_format format, struct dor_image **ret);
DOR_PUBLIC void dor_image_close(struct dor_image *image);
DOR_PUBLIC const struct dor_image_info *dor_image_info(const struct dor_image *image);

/*
 * The first page at or after PAGE_INDEX that the files hold data for, and where that data ends;
 * both page_count at the end. What lies between is a hole: zeros, or in a diff "unchanged".
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_image_next_data(
    const struct dor_image *image, uint64_t page_index, uint64_t *ret_first, uint64_t *ret_end);

/* Where dor_frame_write() gets pages from; return 0 or a negative enum dor_errno. */
typedef int
dor_page_read_fn(void *context, uint64_t first_page, size_t page_count, void *pages);

/*
 * Write the files of FRAME (as in dor_image_info) to PATH, a new folder or a new file as the frame
 * says: byte for byte what was opened, zero pages as holes. DOR_E_CORRUPT: not a frame.
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_frame_write(
    const void *frame, size_t frame_bytes, const char *path, dor_page_read_fn *read,
    void *context);

#ifdef __cplusplus
}
#endif
#endif
