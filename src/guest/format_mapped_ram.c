/* SPDX-License-Identifier: Apache-2.0 */
/*
 * format_mapped_ram.c - one file that QEMU >= 9 wrote with the capability mapped-ram: a migration
 * stream (see qevm.c) in which every page of RAM has its place.
 *
 *     stream up to the block's header | bitmap | gap | pages at a multiple of 1 MiB | ... | devices
 *
 * The bitmap has a bit a page, lowest bit of the lowest byte first (words of the little-endian
 * host). A page whose bit is not set is zero to QEMU, whatever the file holds in its place: a page
 * that was written and became zero later leaves its old bytes there. Such bytes go to the frame,
 * and the row has a zero page for them, in our copy of the mapping.
 */
#include "base/err.h"
#include "base/file.h"
#include "base/size.h"
#include "guest/qevm.h"

#include <inttypes.h>
#include <string.h>

struct block_pages {
    struct dor_image *image;
    const struct guest_qevm_block *block;
    const uint8_t *bitmap;
    uint64_t page_count;
    uint64_t first_page; /* of the block, in the row */
    bool stale;          /* old bytes were found */
};

static bool
matches(const struct dor_image *image)
{
    return guest_qevm_matches(&image->files[0]);
}

static bool
is_stale(const struct block_pages *pages, uint64_t i)
{
    const uint8_t *page =
        pages->image->files[0].data + pages->block->pages_offset + i * DOR_PAGE_BYTES;
    bool set = (pages->bitmap[i / 8] >> i % 8 & 1) != 0;
    return !set && (page[0] != 0 || memcmp(page, page + 1, DOR_PAGE_BYTES - 1) != 0);
}

/* Put pages I to END, all stale or all not, into the frame. */
static int
add_stretch(struct block_pages *pages, uint64_t i, uint64_t end, bool stale)
{
    uint64_t count = end - i;
    if (count == 0)
        return 0;
    if (!stale)
        return guest_frame_add_pages(&pages->image->builder, pages->first_page + i, count);
    pages->stale = true;
    return guest_image_add_literal(
        pages->image, 0, pages->block->pages_offset + i * DOR_PAGE_BYTES,
        count * DOR_PAGE_BYTES);
}

/* The frame's content for the pages from I to END, which the file system says hold data. */
static int
add_data(struct block_pages *pages, uint64_t i, uint64_t end)
{
    int rc = 0;
    while (rc == 0 && i < end) {
        bool stale = is_stale(pages, i);
        uint64_t next = i + 1;
        while (next < end && is_stale(pages, next) == stale)
            next++;
        rc = add_stretch(pages, i, next, stale);
        i = next;
    }
    return rc;
}

/* All of the block's content; holes of the file need no look. */
static int
add_content(struct block_pages *pages)
{
    const struct guest_file *file = &pages->image->files[0];
    uint64_t base = pages->block->pages_offset;
    uint64_t at = 0;
    int rc = 0;
    while (rc == 0 && at < pages->page_count) {
        uint64_t start = 0;
        uint64_t end = 0;
        rc = base_file_next_data(
            file->fd, base + at * DOR_PAGE_BYTES, base + pages->page_count * DOR_PAGE_BYTES,
            &start, &end);
        if (rc != 0)
            return rc;
        uint64_t first = (start - base) / DOR_PAGE_BYTES;
        uint64_t last = DIV_ROUND_UP(end - base, DOR_PAGE_BYTES);
        rc = add_stretch(pages, at, first, false);
        if (rc == 0)
            rc = add_data(pages, first, last);
        at = last;
    }
    return rc;
}

/* Make the stale pages zero in our copy, now that the frame has their bytes. */
static int
clear_stale(const struct block_pages *pages)
{
    struct guest_file *file = &pages->image->files[0];
    if (!pages->stale)
        return 0;
    int rc = base_map_writable(file->data, file->size_bytes, file->label);
    for (uint64_t i = 0; rc == 0 && i < pages->page_count; i++)
        if (is_stale(pages, i))
            memset(
                file->data + pages->block->pages_offset + i * DOR_PAGE_BYTES, 0,
                DOR_PAGE_BYTES);
    return rc == 0 ? base_map_read_only(file->data, file->size_bytes, file->label) : rc;
}

/* Guest memory is split at the hole of the machine; other blocks lie where the guest puts them. */
static int
add_ranges(const struct block_pages *pages, bool main_memory, uint64_t low_bytes)
{
    struct dor_image *image = pages->image;
    const uint8_t *data = image->files[0].data + pages->block->pages_offset;
    uint64_t low_pages = base_min_u64(pages->page_count, low_bytes / DOR_PAGE_BYTES);
    if (!main_memory)
        return guest_image_add_range(image, data, pages->page_count, DOR_IMAGE_NO_ADDRESS, 0);
    int rc = guest_image_add_range(image, data, low_pages, 0, 0);
    if (rc == 0 && pages->page_count > low_pages)
        rc = guest_image_add_range(
            image, data + low_pages * DOR_PAGE_BYTES, pages->page_count - low_pages,
            GUEST_FOUR_GIB, 0);
    return rc;
}

static int
add_block(
    struct dor_image *image, const struct guest_qevm_block *block, bool main_memory,
    uint64_t low_bytes)
{
    struct block_pages pages = {
        .image = image,
        .block = block,
        .bitmap = image->files[0].data + block->bitmap_offset,
        .page_count = block->used_bytes / DOR_PAGE_BYTES,
        .first_page = image->info.page_count,
    };
    int rc = add_ranges(&pages, main_memory, low_bytes);
    if (rc == 0)
        rc = guest_image_add_run(image, 0, block->pages_offset, pages.page_count, pages.bitmap);
    if (rc == 0)
        rc = add_content(&pages);
    return rc == 0 ? clear_stale(&pages) : rc;
}

static const struct guest_qevm_block *
find_largest(const struct guest_qevm *stream)
{
    const struct guest_qevm_block *largest = &stream->blocks[0];
    for (size_t i = 1; i < stream->block_count; i++)
        if (stream->blocks[i].used_bytes > largest->used_bytes)
            largest = &stream->blocks[i];
    return largest;
}

static int
add_stream(struct dor_image *image, const struct guest_qevm *stream)
{
    const struct guest_qevm_block *largest = find_largest(stream);
    uint64_t low_bytes = guest_qevm_low_bytes(stream, largest->used_bytes);
    uint64_t at = 0;
    int rc = guest_image_begin_file(image, 0);
    for (size_t i = 0; rc == 0 && i < stream->block_count; i++) {
        const struct guest_qevm_block *block = &stream->blocks[i];
        if (block->pages_offset == 0 || block->used_bytes == 0)
            continue;
        rc = guest_image_add_literal(image, 0, at, block->pages_offset - at);
        if (rc == 0)
            rc = add_block(image, block, block == largest, low_bytes);
        at = block->pages_offset + block->used_bytes;
    }
    if (rc == 0)
        rc = guest_image_add_literal(image, 0, at, image->files[0].size_bytes - at);
    image->info.addresses_guessed = true;
    return rc;
}

static int
read_mapped_ram(struct dor_image *image)
{
    struct guest_qevm stream = {0};
    int rc = guest_qevm_read(&image->files[0], &stream);
    if (rc != 0)
        return rc;
    if (!stream.mapped_ram || stream.block_count == 0)
        rc = dor_fail(
            DOR_E_UNSUPPORTED, "image %s: is a QEMU migration stream without mapped-ram%s",
            image->files[0].label,
            stream.ignore_shared
                ? "; if it is a device state, give the folder with the memory file too"
                : ", which has its memory packed; save it with the capability mapped-ram on, "
                  "or "
                  "from a memory-backend-file");
    if (rc == 0)
        rc = add_stream(image, &stream);
    guest_qevm_fini(&stream);
    return rc;
}

const struct guest_format guest_format_mapped_ram = {
    .name = "mapped-ram",
    .folder = false,
    .matches = matches,
    .read = read_mapped_ram,
};
