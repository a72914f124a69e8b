/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_row.c - grows the row of pages and the frame while a reader goes through the files.
 *
 * Invariants:
 *  1. Ranges and runs are in the order of the row and leave no gap.
 *  2. Neighbours in the row, in memory and in address are one range; in the file, one run.
 */
#include "base/err.h"
#include "base/file.h"
#include "base/size.h"
#include "guest/image_priv.h"

#include <inttypes.h>

/* ARRAY with room for one more element of SIZE_BYTES; NULL when there is no memory. */
static void *
make_room(void *array, size_t count, size_t *room, size_t size_bytes)
{
    if (array != NULL && count < *room)
        return array;
    size_t more = *room == 0 ? 8 : *room * 2;
    void *grown = base_realloc_array(array, more, size_bytes);
    if (grown != NULL)
        *room = more;
    return grown;
}

int
guest_image_begin_file(struct dor_image *image, size_t file_index)
{
    const struct guest_file *file = &image->files[file_index];
    return guest_frame_add_file(&image->builder, file->name, file->mode, file->size_bytes);
}

int
guest_image_add_literal(
    struct dor_image *image, size_t file_index, uint64_t offset, uint64_t size_bytes)
{
    const struct guest_file *file = &image->files[file_index];
    dor_assert(offset <= file->size_bytes && size_bytes <= file->size_bytes - offset);
    if (size_bytes == 0)
        return 0;
    int rc = guest_frame_add_literal(&image->builder, file->data + offset, size_bytes);
    return rc == 0 ? 0 : dor_fail_wrap("image %s", file->label);
}

int
guest_image_add_other(struct dor_image *image, size_t file_index)
{
    const struct guest_file *file = &image->files[file_index];
    int rc = guest_image_begin_file(image, file_index);
    uint64_t at = 0;
    while (rc == 0 && at < file->size_bytes) {
        uint64_t start = at;
        uint64_t end = file->size_bytes;
        if (file->fd >= 0)
            rc = base_file_next_data(file->fd, at, file->size_bytes, &start, &end);
        if (rc == 0 && start > at)
            rc = guest_frame_add_zeros(&image->builder, start - at);
        if (rc == 0)
            rc = guest_image_add_literal(image, file_index, start, end - start);
        at = end;
    }
    return rc;
}

int
guest_image_add_range(
    struct dor_image *image, const uint8_t *data, uint64_t page_count, uint64_t address,
    uint32_t space)
{
    struct dor_image_range *last =
        image->range_count == 0 ? NULL : &image->ranges[image->range_count - 1];
    uint64_t last_bytes = last == NULL ? 0 : last->page_count * DOR_PAGE_BYTES;
    uint64_t last_address = last == NULL ? 0 : last->address;
    dor_assert(page_count > 0);
    if (page_count > GUEST_FRAME_PAGES_MAX - image->info.page_count)
        return dor_fail(
            DOR_E_USAGE, "image %s: has more than %" PRIu64 " pages", image->path,
            GUEST_FRAME_PAGES_MAX);
    bool known = address != DOR_IMAGE_NO_ADDRESS;
    if (last != NULL && data == last->data + last_bytes && space == last->space &&
        known == (last_address != DOR_IMAGE_NO_ADDRESS) &&
        (!known || address == last_address + last_bytes)) {
        last->page_count += page_count;
        image->info.page_count += page_count;
        return 0;
    }
    struct dor_image_range *ranges =
        make_room(image->ranges, image->range_count, &image->range_room, sizeof *ranges);
    if (ranges == NULL)
        return DOR_E_NO_MEMORY;
    image->ranges = ranges;
    ranges[image->range_count++] = (struct dor_image_range){
        .first_page = image->info.page_count,
        .page_count = page_count,
        .address = address,
        .space = space,
        .data = data,
    };
    image->info.page_count += page_count;
    return 0;
}

int
guest_image_add_run(
    struct dor_image *image, size_t file_index, uint64_t offset, uint64_t page_count,
    const uint8_t *bitmap)
{
    struct guest_run *last = image->run_count == 0 ? NULL : &image->runs[image->run_count - 1];
    if (last != NULL && bitmap == NULL && last->bitmap == NULL &&
        last->file_index == file_index &&
        last->offset + last->page_count * DOR_PAGE_BYTES == offset) {
        last->page_count += page_count;
        return 0;
    }
    uint64_t first_page = last == NULL ? 0 : last->first_page + last->page_count;
    struct guest_run *runs =
        make_room(image->runs, image->run_count, &image->run_room, sizeof *runs);
    if (runs == NULL)
        return DOR_E_NO_MEMORY;
    image->runs = runs;
    runs[image->run_count++] = (struct guest_run){
        .first_page = first_page,
        .page_count = page_count,
        .file_index = file_index,
        .offset = offset,
        .bitmap = bitmap,
    };
    return 0;
}

int
guest_image_add_pages(
    struct dor_image *image, size_t file_index, uint64_t offset, uint64_t page_count,
    uint64_t address, uint32_t space)
{
    const struct guest_file *file = &image->files[file_index];
    uint64_t first_page = image->info.page_count;
    if (page_count == 0)
        return 0;
    dor_assert(
        offset <= file->size_bytes &&
        page_count <= (file->size_bytes - offset) / DOR_PAGE_BYTES);
    int rc = guest_image_add_range(image, file->data + offset, page_count, address, space);
    if (rc == 0)
        rc = guest_image_add_run(image, file_index, offset, page_count, NULL);
    if (rc == 0)
        rc = guest_frame_add_pages(&image->builder, first_page, page_count);
    return rc;
}

int
guest_image_add_memory(
    struct dor_image *image, size_t file_index, uint64_t offset, uint64_t page_count,
    uint64_t address, uint64_t low_bytes)
{
    uint64_t low_pages = address >= low_bytes ? 0 : (low_bytes - address) / DOR_PAGE_BYTES;
    low_pages = base_min_u64(low_pages, page_count);
    int rc = guest_image_add_pages(image, file_index, offset, low_pages, address, 0);
    if (rc != 0 || low_pages == page_count)
        return rc;
    uint64_t above = address + low_pages * DOR_PAGE_BYTES - low_bytes;
    return guest_image_add_pages(
        image, file_index, offset + low_pages * DOR_PAGE_BYTES, page_count - low_pages,
        GUEST_FOUR_GIB + above, 0);
}
