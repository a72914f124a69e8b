/* SPDX-License-Identifier: Apache-2.0 */
/*
 * format_raw.c - one file that is memory and nothing else: Firecracker's memory file, QEMU's
 * memory-backend-file, a `pmemsave`. Sparse or not.
 *
 * The file does not say where its pages lie. Nearly every x86 monitor leaves a hole for devices
 * that begins at 3 GiB and goes on at 4 GiB, so that is the guess.
 */
#include "base/err.h"
#include "base/size.h"
#include "guest/image_priv.h"

#include <inttypes.h>
#include <string.h>

#define LOW_BYTES (UINT64_C(3) << 30)

/* Files that are memory, but not as it is. */
static const struct packed {
    const char *begins;
    const char *words;
} packed_formats[] = {
    {"KDUMP   ",
     "a kdump-compressed dump; make it with dump-guest-memory without -z, -l and -s"},
    {"makedumpfile", "a flattened makedumpfile dump; make an ELF core with makedumpfile -E"},
    {"LiME", "a LiME dump"},
    {"EMiL", "a LiME dump"},
};

static bool
matches(const struct dor_image *image)
{
    (void)image;
    return true;
}

static int
check_known(const struct guest_file *file)
{
    for (size_t i = 0; i < ARRAY_LEN(packed_formats); i++)
        if (guest_file_begins(file, packed_formats[i].begins, strlen(packed_formats[i].begins)))
            return dor_fail(
                DOR_E_UNSUPPORTED, "image %s: is %s", file->label, packed_formats[i].words);
    return 0;
}

static int
read_raw(struct dor_image *image)
{
    const struct guest_file *file = &image->files[0];
    int rc = check_known(file);
    if (rc != 0)
        return rc;
    if (!guest_file_is_whole_pages(file))
        return dor_fail(
            DOR_E_USAGE,
            "image %s: is not whole pages: %" PRIu64 " bytes are %" PRIu64
            " more than a multiple of %zu; is it cut, or part of a snapshot whose folder "
            "should "
            "be given?",
            file->label, file->size_bytes, file->size_bytes % DOR_PAGE_BYTES, DOR_PAGE_BYTES);
    image->info.addresses_guessed = true;
    rc = guest_image_begin_file(image, 0);
    if (rc == 0)
        rc = guest_image_add_memory(
            image, 0, 0, file->size_bytes / DOR_PAGE_BYTES, 0, LOW_BYTES);
    return rc;
}

const struct guest_format guest_format_raw = {
    .name = "raw",
    .folder = false,
    .matches = matches,
    .read = read_raw,
};
