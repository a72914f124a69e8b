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
#include <sys/uio.h>

#include <dormouse/err.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The numbers are kept in frames: never renumber. */
enum dor_image_format {
    DOR_IMAGE_AUTO = 0,             /* by content */
    DOR_IMAGE_RAW = 1,              /* one file of memory, nothing else */
    DOR_IMAGE_FIRECRACKER = 2,      /* a folder: memory file and vmstate, full or diff */
    DOR_IMAGE_QEMU = 3,             /* a folder: memory-backend-files and device state */
    DOR_IMAGE_MAPPED_RAM = 4,       /* QEMU >= 9: one file, migrated with mapped-ram */
    DOR_IMAGE_ELF_CORE = 5,         /* QEMU's dump-guest-memory, gcore, the kernel's cores */
    DOR_IMAGE_CLOUD_HYPERVISOR = 6, /* a folder: config.json, state.json, memory-ranges */
    DOR_IMAGE_CRIU = 7,             /* a folder of CRIU's images: pages-*.img and the rest */
    DOR_IMAGE_FORMATS = 8
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
    /* Of its first byte, a multiple of 4096: guest physical; in process images virtual; or
     * DOR_IMAGE_NO_ADDRESS (firmware, video memory, shared memory of processes). */
    uint64_t address;
    uint32_t space; /* process images: the process, its pid; otherwise 0 */
    /* page_count * 4096 bytes, of any alignment, as long as the image is open. */
    const uint8_t *data;
};

struct dor_image_info {
    enum dor_image_format format;
    bool process; /* pages of processes (gcore, CRIU), not of a machine */
    bool diff; /* dor_image_set_diff(): pages that dor_image_next_data() skips are unchanged */
    /* The format does not say where memory lies (raw, Firecracker, QEMU above its 32-bit hole):
     * the addresses are those of the monitor's usual machine. */
    bool addresses_guessed;
    uint64_t page_count; /* at least 1 */
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
 * must not shrink while the image is open. What is no page goes to the frame, in memory: at most
 * 256 MiB of it, or DOR_E_USAGE.
 */
DOR_PUBLIC DOR_MUST_CHECK int
dor_image_open(const char *path, enum dor_image_format format, struct dor_image **ret);
DOR_PUBLIC void dor_image_close(struct dor_image *image);
DOR_PUBLIC const struct dor_image_info *dor_image_info(const struct dor_image *image);

/*
 * Say that the holes of the image mean "as in the parent", which no byte in it tells. DOR_E_USAGE
 * for formats that have no diffs: only raw and firecracker do.
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_image_set_diff(struct dor_image *image);

/*
 * The first page at or after PAGE_INDEX that the files hold data for, and where that data ends;
 * both page_count at the end. What lies between is a hole: zeros, or in a diff "unchanged". Holes
 * are told in units of the file system, so data may be zero too. In a file system in memory a hole
 * that anybody reads through a mapping becomes data in the file: who means to keep a diff leaves
 * holes alone, also in the functions below and in the data of ranges.
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_image_next_data(
    const struct dor_image *image, uint64_t page_index, uint64_t *ret_first, uint64_t *ret_end);

/* Copy PAGE_COUNT pages of the row, which must be there, to PAGES. */
DOR_PUBLIC void dor_image_read(
    const struct dor_image *image, uint64_t first_page, size_t page_count, void *pages);

/* The page PAGE_INDEX, which must be there, as it is mapped: of any alignment. */
DOR_PUBLIC const uint8_t *dor_image_page(const struct dor_image *image, uint64_t page_index);

/* Where dor_frame_write() gets pages from; the functions return 0 or a negative enum dor_errno. */
struct dor_page_source {
    uint64_t page_count; /* of the whole row */
    int (*read)(void *context, uint64_t first_page, size_t page_count, void *pages);
    /*
     * May be NULL: then zero pages become holes. Otherwise like dor_image_next_data(): pages
     * outside data become holes and are not read, all others are written, even if zero. That is
     * how a diff is written, where a hole is not the same as zeros.
     */
    int (*next_data)(
        void *context, uint64_t page_index, uint64_t *ret_first, uint64_t *ret_end);
    void *context;
};

/* Where pages are given to, in any order; the functions return 0 or a negative enum dor_errno. */
struct dor_page_sink {
    /* May be NULL: then all are. Asked of each page that is not zero, perhaps more than once. */
    bool (*wants)(void *context, uint64_t page_index);
    /* PAGE_COUNT neighbours, at most DOR_SINK_PAGES_MAX, each a piece of 4096 bytes of its own. */
    int (*write)(
        void *context, uint64_t first_page, const struct iovec *pages, size_t page_count);
    void *context;
};

enum { DOR_SINK_PAGES_MAX = 64 };

/*
 * Begin to write the files of FRAME (as in dor_image_info), of a row of PAGE_COUNT pages, to PATH,
 * a file or a folder as the frame says: byte for byte what was opened; an empty frame is one raw
 * file. FRAME must stay until the writer is closed. All is written and synced as PATH.part before
 * it gets its name; what a killed writer left there is removed. A regular file at PATH is
 * replaced, a folder there must be empty (DOR_E_EXISTS), anything else is DOR_E_USAGE.
 * DOR_E_CORRUPT: not a frame, or not one of this row.
 */
struct dor_frame_writer;
DOR_PUBLIC DOR_MUST_CHECK int dor_frame_writer_open(
    const void *frame, size_t frame_bytes, const char *path, uint64_t page_count,
    struct dor_frame_writer **ret);
/*
 * Write pages, as to a sink: in any order, and those that are not added are holes. The same page
 * may be added again.
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_frame_writer_add(
    struct dor_frame_writer *writer, uint64_t first_page, const struct iovec *pages,
    size_t page_count);
/* Give the files their name; they are on the disk when this returns 0. Then only close is left. */
DOR_PUBLIC DOR_MUST_CHECK int dor_frame_writer_finish(struct dor_frame_writer *writer);
/* What is not finished is removed. Keeps this thread's last error. */
DOR_PUBLIC void dor_frame_writer_close(struct dor_frame_writer *writer);

/* All of it at once, with the pages of SOURCE. */
DOR_PUBLIC DOR_MUST_CHECK int dor_frame_write(
    const void *frame, size_t frame_bytes, const char *path,
    const struct dor_page_source *source);

/* What a frame tells without its image. */
struct dor_frame_info {
    enum dor_image_format format;
    bool folder;
    bool process;
    bool addresses_guessed;
    uint64_t page_count;
    uint64_t range_count;
    uint64_t file_count;
    uint64_t file_bytes;    /* of all files together */
    uint64_t literal_bytes; /* of them in the frame itself */
};

/* Validate the whole of FRAME, which must not be empty. Errors as dor_frame_write(). */
DOR_PUBLIC DOR_MUST_CHECK int
dor_frame_read_info(const void *frame, size_t frame_bytes, struct dor_frame_info *ret);

/* The ranges of FRAME, without data, for free(). *RET_COUNT is dor_frame_info's range_count. */
DOR_PUBLIC DOR_MUST_CHECK int dor_frame_read_ranges(
    const void *frame, size_t frame_bytes, struct dor_image_range **ret, size_t *ret_count);

/* What a file of a frame is made of. */
enum dor_frame_piece_kind { DOR_FRAME_ZEROS, DOR_FRAME_LITERAL, DOR_FRAME_PAGES };

struct dor_frame_piece {
    enum dor_frame_piece_kind kind;
    uint64_t size_bytes;
    uint64_t first_page;  /* DOR_FRAME_PAGES: of the row */
    const uint8_t *bytes; /* DOR_FRAME_LITERAL: inside the frame */
};

/* Called with each file of a frame and then its pieces in order; a return other than 0 ends it. */
struct dor_frame_visitor {
    /* NAME is empty when the image is no folder. */
    int (*file)(void *context, const char *name, unsigned mode, uint64_t size_bytes);
    int (*piece)(void *context, const struct dor_frame_piece *piece);
    void *context;
};

/* Validate the whole of FRAME, which must not be empty, of a row of PAGE_COUNT pages, then walk. */
DOR_PUBLIC DOR_MUST_CHECK int dor_frame_visit(
    const void *frame, size_t frame_bytes, uint64_t page_count,
    const struct dor_frame_visitor *visitor);

#ifdef __cplusplus
}
#endif
#endif
