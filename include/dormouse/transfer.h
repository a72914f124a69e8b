/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transfer.h - images from files into a store and back into files, with all that belongs to them:
 * formats, chains of diffs, inspection, sidecars. What put and get of the command line and of the
 * daemon do.
 *
 * Ownership:  an intake is closed by who opened it; results are ended by their _fini.
 * Threads:    one intake, one thread at a time.
 * Errors:     0 or a negative enum dor_errno; dor_err_message() has the words.
 */
#ifndef DORMOUSE_TRANSFER_H
#define DORMOUSE_TRANSFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dormouse/err.h>
#include <dormouse/image.h>
#include <dormouse/store.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DOR_INTAKE_IMAGES_MAX DOR_SIDECARS_MAX
#define DOR_SIDECAR_BYTES_MAX ((size_t)256 << 20)

/* What to put, and how. Everything is borrowed until the intake is closed. */
struct dor_intake_options {
    const char *const *images; /* one path; with `diff` a chain of them, in their order */
    size_t image_count;
    const char *const *sidecars; /* paths; the last part of each is the sidecar's name */
    size_t sidecar_count;
    const char *format; /* as dor_image_format_parse() takes it; NULL = by content */
    const char *parent; /* must be given with `diff` */
    const char *domain; /* NULL = "default" */
    bool replace;
    bool diff;       /* a hole of an image means unchanged */
    bool drop_free;  /* store free pages as zeros where it is sure which are free */
    bool no_inspect; /* do not look into the guest's memory */
    const char *process, *profile_directory, *vmlinux; /* as in struct dor_inspect */
};

struct dor_intake;

/* Whether OPTIONS go together, without looking at any file: DOR_E_USAGE when they do not. */
DOR_PUBLIC DOR_MUST_CHECK int dor_intake_check(const struct dor_intake_options *options);
/*
 * Open the images and read the sidecars. All that can be wrong with them is found here, before a
 * store is opened. DOR_E_USAGE: not such files, or options that do not go together.
 */
DOR_PUBLIC DOR_MUST_CHECK int
dor_intake_open(const struct dor_intake_options *options, struct dor_intake **ret);
/*
 * The same for what is no file; images[0] of OPTIONS, the only one, is then just what to call it in
 * words. IMAGE is taken over, whatever comes of it. PAGES are borrowed; they cannot be looked into,
 * so OPTIONS must say no_inspect.
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_intake_open_image(
    const struct dor_intake_options *options, struct dor_image *image, struct dor_intake **ret);
DOR_PUBLIC DOR_MUST_CHECK int dor_intake_open_pages(
    const struct dor_intake_options *options, const struct dor_page_source *pages,
    struct dor_intake **ret);
DOR_PUBLIC void dor_intake_close(struct dor_intake *intake);
/*
 * Inspect the image and store it under NAME in STORE, which is open for writing. An image that is
 * cut short meanwhile gives DOR_E_IO in programs that called dor_intake_guard(). Errors otherwise
 * as dor_store_put() and dor_inspect().
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_intake_put(
    struct dor_intake *intake, struct dor_store *store, const char *name,
    dor_progress_fn *progress, void *progress_context, struct dor_put_result *ret);
/*
 * Of the last put: why free pages were kept although `drop_free` was set, or that a diff has no
 * hole; "" when there is nothing to say.
 */
DOR_PUBLIC const char *dor_intake_warning(const struct dor_intake *intake);
/*
 * Images are mapped: reading where another program has cut the file raises SIGBUS. From now on
 * this process turns such a signal, in an intake, into DOR_E_IO; any other SIGBUS still ends it.
 */
DOR_PUBLIC void dor_intake_guard(void);

/* How to write an image. */
struct dor_export {
    const char *path;      /* a file or folder as the image was; see dor_frame_writer_open() */
    const char *diff_from; /* write a diff on top of this snapshot; NULL = all of it */
    /* With diff_from: another handle of the same store, to read that snapshot meanwhile. */
    struct dor_store *diff_store;
    const char *sidecars_directory; /* made if it is missing; NULL = none are written */
    dor_progress_fn *progress;
    void *progress_context;
};

struct dor_export_result {
    uint64_t logical_bytes;
    char **sidecar_paths;
    size_t sidecar_count;
};

/*
 * Write snapshot NAME to files. Each is written and synced under a temporary name before the first
 * gets its own; after an error nothing is left. DOR_E_USAGE: something else than a regular file
 * is in the place of one. RET is to be ended by dor_export_result_fini().
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_store_export(
    struct dor_store *store, const char *name, const struct dor_export *how,
    struct dor_export_result *ret);
DOR_PUBLIC void dor_export_result_fini(struct dor_export_result *result);

#ifdef __cplusplus
}
#endif
#endif
