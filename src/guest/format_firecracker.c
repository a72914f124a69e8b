/* SPDX-License-Identifier: Apache-2.0 */
/*
 * format_firecracker.c - a folder with a Firecracker snapshot: a vmstate and a memory file,
 * whatever their names, and perhaps more.
 *
 *     vmstate, full or diff                         memory file
 *     0 ...      magic (u64), version, state:       regions one after another, whole pages,
 *                encoded by bincode, later bitcode   no header; in a diff holes are unchanged
 *     size - 8   CRC64 of all before (see crc64.h)
 *
 * bincode puts the magic at offset 0, lowest byte first; bitcode may put a few bytes before it or
 * pack it. So a file is a vmstate if the magic is near its beginning, or if its CRC is right. The
 * state itself is opaque: every version of Firecracker encodes it in another way. A file with holes
 * is not read for its CRC: it may be the memory, of which the holes must stay.
 *
 * Nothing in the files tells a diff from a full one; see dor_image_set_diff(). Nor where
 * memory lies: on x86-64 below 3 GiB and from 4 GiB on, on aarch64 from 2 GiB on.
 */
#include "base/err.h"
#include "base/le.h"
#include "base/size.h"
#include "guest/crc64.h"
#include "guest/image_priv.h"

#include <inttypes.h>
#include <string.h>

#define X86_LOW_BYTES     (UINT64_C(3) << 30)
#define AARCH64_BASE      (UINT64_C(2) << 30)
#define VMSTATE_BYTES_MAX ((uint64_t)16 << 20) /* Firecracker's own bound is 10 MB */
#define MAGIC_X86         UINT64_C(0x0710198486640000)
#define MAGIC_AARCH64     UINT64_C(0x07101984AAAA0000)

enum { MAGIC_WITHIN_BYTES = 64, CRC_BYTES = 8, VMSTATE_BYTES_MIN = 24 };

static bool
has_magic(const struct guest_file *file, uint64_t magic)
{
    uint8_t bytes[8];
    base_le64_put(bytes, magic);
    size_t within = (size_t)base_min_u64(file->size_bytes, MAGIC_WITHIN_BYTES);
    return within >= sizeof bytes && file->hole_bytes == 0 &&
           memmem(file->data, within, bytes, sizeof bytes) != NULL;
}

static bool
crc_is_right(const struct guest_file *file)
{
    uint64_t stored = base_le64_get(file->data + file->size_bytes - CRC_BYTES);
    /* Zeros have a CRC of 0 and are no vmstate. */
    return stored != 0 && guest_crc64(0, file->data, (size_t)file->size_bytes) == 0;
}

static bool
is_vmstate(const struct guest_file *file)
{
    if (file->size_bytes < VMSTATE_BYTES_MIN || file->size_bytes > VMSTATE_BYTES_MAX)
        return false;
    return has_magic(file, MAGIC_X86) || has_magic(file, MAGIC_AARCH64) ||
           (!file->sparse && crc_is_right(file));
}

static bool
matches(const struct dor_image *image)
{
    for (size_t i = 0; i < image->file_count; i++)
        if (is_vmstate(&image->files[i]))
            return true;
    return false;
}

static int
find_vmstate(const struct dor_image *image, size_t *ret)
{
    size_t found = image->file_count;
    for (size_t i = 0; i < image->file_count; i++) {
        if (!is_vmstate(&image->files[i]))
            continue;
        if (found < image->file_count)
            return dor_fail(
                DOR_E_USAGE,
                "image %s: %s and %s are both a vmstate; put one snapshot a folder",
                image->path, image->files[found].name, image->files[i].name);
        found = i;
    }
    if (found == image->file_count)
        return dor_fail(
            DOR_E_USAGE, "image %s: none of its files is a Firecracker vmstate", image->path);
    if (!crc_is_right(&image->files[found]))
        return dor_fail(
            DOR_E_CORRUPT,
            "image %s: its CRC64 is wrong: it says %016" PRIx64 "; the vmstate is damaged or "
            "cut, take the snapshot again",
            image->files[found].label,
            base_le64_get(
                image->files[found].data + image->files[found].size_bytes - CRC_BYTES));
    *ret = found;
    return 0;
}

/* Of several files of whole pages, the one that is called memory. */
static int
choose_memory(const struct dor_image *image, size_t vmstate, size_t *ret)
{
    size_t first = image->file_count;
    size_t named = image->file_count;
    unsigned count = 0;
    unsigned named_count = 0;
    for (size_t i = 0; i < image->file_count; i++) {
        if (i == vmstate || !guest_file_is_whole_pages(&image->files[i]))
            continue;
        first = count++ == 0 ? i : first;
        if (strcasestr(image->files[i].name, "mem") != NULL && named_count++ == 0)
            named = i;
    }
    if (count == 0)
        return dor_fail(
            DOR_E_USAGE,
            "image %s: there is a vmstate, %s, but no file of whole pages beside it; the "
            "memory "
            "file is missing or cut",
            image->path, image->files[vmstate].name);
    if (count > 1 && named_count != 1)
        return dor_fail(
            DOR_E_USAGE,
            "image %s: %u files could be the memory, such as %s; move the others away, or put "
            "\"mem\" in the name of one",
            image->path, count, image->files[first].name);
    *ret = count == 1 ? first : named;
    return 0;
}

static int
add_memory(struct dor_image *image, size_t file_index, bool aarch64)
{
    int rc = guest_image_begin_file(image, file_index);
    if (rc != 0)
        return rc;
    return guest_image_add_memory(
        image, file_index, 0, image->files[file_index].size_bytes / DOR_PAGE_BYTES,
        aarch64 ? AARCH64_BASE : 0, aarch64 ? UINT64_MAX : X86_LOW_BYTES);
}

static int
read_firecracker(struct dor_image *image)
{
    size_t vmstate = 0;
    size_t memory = 0;
    int rc = find_vmstate(image, &vmstate);
    if (rc == 0)
        rc = choose_memory(image, vmstate, &memory);
    if (rc != 0)
        return rc;
    image->info.addresses_guessed = true;
    bool aarch64 = has_magic(&image->files[vmstate], MAGIC_AARCH64);
    for (size_t i = 0; rc == 0 && i < image->file_count; i++)
        rc = i == memory ? add_memory(image, i, aarch64) : guest_image_add_other(image, i);
    return rc;
}

const struct guest_format guest_format_firecracker = {
    .name = "firecracker",
    .folder = true,
    .matches = matches,
    .read = read_firecracker,
};
