/* SPDX-License-Identifier: Apache-2.0 */
/*
 * format_qemu.c - a folder with the memory of a QEMU guest and its device state: files that were
 * memory-backend-file with share=on, and a migration stream made with x-ignore-shared. The stream
 * lists the RAM blocks with their sizes (see qevm.c); a file of a block's size is its memory.
 *
 * Everything else in the folder, the stream too, goes to the frame.
 */
#include "base/err.h"
#include "base/size.h"
#include "guest/qevm.h"

#include <inttypes.h>
#include <string.h>

/* Blocks below are firmware and tables, which the stream carries itself. */
#define MEMORY_BYTES_MIN (UINT64_C(1) << 20)

static bool
matches(const struct dor_image *image)
{
    for (size_t i = 0; i < image->file_count; i++)
        if (guest_qevm_matches(&image->files[i]))
            return true;
    return false;
}

static int
find_stream(const struct dor_image *image, size_t *ret)
{
    size_t found = image->file_count;
    for (size_t i = 0; i < image->file_count; i++) {
        if (!guest_qevm_matches(&image->files[i]))
            continue;
        if (found < image->file_count)
            return dor_fail(
                DOR_E_USAGE,
                "image %s: %s and %s are both a device state; put one snapshot a folder",
                image->path, image->files[found].name, image->files[i].name);
        found = i;
    }
    if (found == image->file_count)
        return dor_fail(
            DOR_E_USAGE, "image %s: none of its files is a QEMU migration stream", image->path);
    *ret = found;
    return 0;
}

/* Of the files with the block's size the first whose name speaks of memory, or just the first. */
static size_t
find_memory(
    const struct dor_image *image, const struct guest_qevm_block *block,
    const struct guest_qevm_block *const *taken)
{
    size_t found = image->file_count;
    for (size_t i = 0; i < image->file_count; i++) {
        const struct guest_file *file = &image->files[i];
        if (taken[i] != NULL || file->size_bytes != block->used_bytes ||
            !guest_file_is_whole_pages(file))
            continue;
        if (strcasestr(file->name, "mem") != NULL || strcasestr(file->name, "ram") != NULL)
            return i;
        found = found == image->file_count ? i : found;
    }
    return found;
}

static int
match_blocks(
    struct dor_image *image, const struct guest_qevm *stream,
    const struct guest_qevm_block **of_file)
{
    const struct guest_qevm_block *largest = NULL;
    bool any = false;
    for (size_t i = 0; i < stream->block_count; i++) {
        const struct guest_qevm_block *block = &stream->blocks[i];
        largest = largest == NULL || block->used_bytes > largest->used_bytes ? block : largest;
        size_t file = block->used_bytes < MEMORY_BYTES_MIN ? image->file_count
                                                           : find_memory(image, block, of_file);
        if (file == image->file_count)
            continue;
        of_file[file] = block;
        any = true;
    }
    if (any)
        return 0;
    if (largest == NULL)
        return dor_fail(
            DOR_E_USAGE,
            "image %s: its device state lists no RAM; save it with migrate and x-ignore-shared "
            "on, from a guest with memory-backend-file,share=on",
            image->path);
    return dor_fail(
        DOR_E_USAGE,
        "image %s: no file has the %" PRIu64
        " bytes of the RAM block \"%.*s\"; the memory file is "
        "missing or cut",
        image->path, largest->used_bytes, (int)largest->name_bytes, largest->name);
}

static uint64_t
sum_memory(const struct dor_image *image, const struct guest_qevm_block *const *of_file)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < image->file_count; i++)
        sum += of_file[i] == NULL ? 0 : of_file[i]->used_bytes;
    return sum;
}

static int
add_memory(
    struct dor_image *image, size_t file_index, const struct guest_qevm_block *block,
    uint64_t low_bytes)
{
    uint64_t pages = image->files[file_index].size_bytes / DOR_PAGE_BYTES;
    bool known = block->address != DOR_IMAGE_NO_ADDRESS;
    uint64_t address = known ? block->address : 0;
    int rc = guest_image_begin_file(image, file_index);
    if (rc != 0)
        return rc;
    if (address % DOR_PAGE_BYTES != 0 || address > GUEST_FRAME_FILE_BYTES_MAX)
        return dor_fail(
            DOR_E_CORRUPT,
            "image %s: the device state puts RAM block \"%.*s\" at %#" PRIx64
            ", where no memory can be",
            image->path, (int)block->name_bytes, block->name, address);
    /* Past the hole it depends on the machine's options where memory goes on. */
    if (!known || address + block->used_bytes > UINT64_C(2) << 30)
        image->info.addresses_guessed = true;
    return guest_image_add_memory(image, file_index, 0, pages, address, low_bytes);
}

static int
add_files(
    struct dor_image *image, const struct guest_qevm *stream,
    const struct guest_qevm_block *const *of_file)
{
    uint64_t low_bytes = guest_qevm_low_bytes(stream, sum_memory(image, of_file));
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < image->file_count; i++)
        rc = of_file[i] == NULL ? guest_image_add_other(image, i)
                                : add_memory(image, i, of_file[i], low_bytes);
    return rc;
}

static int
read_qemu(struct dor_image *image)
{
    struct guest_qevm stream = {0};
    size_t stream_file = 0;
    int rc = find_stream(image, &stream_file);
    if (rc == 0)
        rc = guest_qevm_read(&image->files[stream_file], &stream);
    if (rc != 0)
        return rc;
    /* Of each file the block whose memory it is. */
    AUTO_FREE const struct guest_qevm_block **of_file =
        base_array(image->file_count, sizeof(void *));
    if (of_file == NULL) {
        guest_qevm_fini(&stream);
        return DOR_E_NO_MEMORY;
    }
    if (stream.mapped_ram)
        rc = dor_fail(
            DOR_E_USAGE,
            "image %s: is a mapped-ram file that holds its own memory; give the file",
            image->files[stream_file].label);
    if (rc == 0)
        rc = match_blocks(image, &stream, of_file);
    if (rc == 0)
        rc = add_files(image, &stream, of_file);
    guest_qevm_fini(&stream);
    return rc;
}

const struct guest_format guest_format_qemu = {
    .name = "qemu",
    .folder = true,
    .matches = matches,
    .read = read_qemu,
};
