/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image.c - opens an image: maps its files, finds the format, has its reader make row and frame.
 *
 *     path --image_files.c--> mapped files --matches()--> format --read()--> row and frame
 *
 * A file is asked for its format in the order of the table: first those with a magic number, raw
 * last, since every file of whole pages is that. What a reader refuses is not tried as raw: a
 * cut core would silently be stored as something else. `--format raw` stores it all the same.
 *
 * What it does not do: read pages. They are in the mapping.
 */
#include "base/err.h"
#include "base/file.h"
#include "base/size.h"
#include "guest/image_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* By enum dor_image_format. */
static const struct guest_format *const formats[DOR_IMAGE_FORMATS] = {
    [DOR_IMAGE_RAW] = &guest_format_raw,
    [DOR_IMAGE_FIRECRACKER] = &guest_format_firecracker,
    [DOR_IMAGE_QEMU] = &guest_format_qemu,
    [DOR_IMAGE_MAPPED_RAM] = &guest_format_mapped_ram,
    [DOR_IMAGE_ELF_CORE] = &guest_format_elf_core,
    [DOR_IMAGE_CLOUD_HYPERVISOR] = &guest_format_cloud_hypervisor,
    [DOR_IMAGE_CRIU] = &guest_format_criu,
};

/* From the surest sign to the least. */
static const enum dor_image_format detection_order[] = {
    DOR_IMAGE_CLOUD_HYPERVISOR, DOR_IMAGE_CRIU,       DOR_IMAGE_FIRECRACKER, DOR_IMAGE_QEMU,
    DOR_IMAGE_ELF_CORE,         DOR_IMAGE_MAPPED_RAM, DOR_IMAGE_RAW,
};

/* ------------------------------------------------------------------ names */

const char *
dor_image_format_name(enum dor_image_format format)
{
    if (format == DOR_IMAGE_AUTO)
        return "auto";
    return (unsigned)format < DOR_IMAGE_FORMATS ? formats[format]->name : NULL;
}

int
dor_image_format_parse(const char *name, enum dor_image_format *ret)
{
    char list[256] = "";
    for (unsigned i = DOR_IMAGE_AUTO; i < DOR_IMAGE_FORMATS; i++) {
        const char *known = i == DOR_IMAGE_AUTO ? "auto" : formats[i]->name;
        if (strcmp(name, known) == 0) {
            *ret = (enum dor_image_format)i;
            return 0;
        }
        size_t length = strlen(list);
        snprintf(list + length, sizeof list - length, "%s%s", i == 0 ? "" : ", ", known);
    }
    return dor_fail(DOR_E_USAGE, "%.40s is no image format; there are %s", name, list);
}

/* ------------------------------------------------------------------ opening */

static int
detect(const struct dor_image *image, enum dor_image_format *ret)
{
    for (size_t i = 0; i < ARRAY_LEN(detection_order); i++) {
        const struct guest_format *format = formats[detection_order[i]];
        if (format->folder == image->folder && format->matches(image)) {
            *ret = detection_order[i];
            return 0;
        }
    }
    return dor_fail(
        DOR_E_USAGE,
        "image %s: no file in this folder shows a known snapshot format; give the memory file "
        "itself, or say which it is with --format",
        image->path);
}

static int
check_kind(const struct dor_image *image, const struct guest_format *format)
{
    if (format->folder == image->folder)
        return 0;
    return dor_fail(
        DOR_E_USAGE, "image %s: is a %s, but an image of format %s is a %s", image->path,
        image->folder ? "folder" : "file", format->name, format->folder ? "folder" : "file");
}

static int
finish_frame(struct dor_image *image)
{
    unsigned flags = (image->folder ? GUEST_FRAME_FOLDER : 0u) |
                     (image->info.process ? GUEST_FRAME_PROCESS : 0u) |
                     (image->info.addresses_guessed ? GUEST_FRAME_GUESSED : 0u);
    if (image->info.format == DOR_IMAGE_RAW)
        return 0;
    return guest_frame_finish(
        &image->builder, image->info.format, flags, image->ranges, image->range_count,
        &image->frame);
}

int
guest_image_read_format(struct dor_image *image)
{
    const struct guest_format *format = formats[image->info.format];
    int rc = check_kind(image, format);
    if (rc == 0)
        rc = guest_frame_begin(&image->builder);
    if (rc == 0)
        rc = format->read(image);
    if (rc == 0 && image->info.page_count == 0)
        rc = dor_fail(
            DOR_E_USAGE, "image %s: is of format %s, but holds no whole page of memory",
            image->path, format->name);
    if (rc == 0)
        rc = finish_frame(image);
    image->info.ranges = image->ranges;
    image->info.range_count = image->range_count;
    image->info.frame = image->frame.data;
    image->info.frame_bytes = image->frame.size_bytes;
    return rc;
}

int
dor_image_open(const char *path, enum dor_image_format format, struct dor_image **ret)
{
    if ((unsigned)format >= DOR_IMAGE_FORMATS)
        return dor_fail(DOR_E_USAGE, "image %s: there is no format %d", path, (int)format);
    struct dor_image *image = base_zalloc(sizeof *image);
    if (image == NULL)
        return DOR_E_NO_MEMORY;
    size_t path_bytes = strlen(path) + 1;
    image->info.format = format;
    image->path = base_alloc(path_bytes);
    int rc = image->path == NULL ? DOR_E_NO_MEMORY : 0;
    if (rc == 0) {
        memcpy(image->path, path, path_bytes);
        rc = guest_image_open_files(image);
    }
    if (rc == 0 && format == DOR_IMAGE_AUTO)
        rc = detect(image, &image->info.format);
    if (rc == 0)
        rc = guest_image_read_format(image);
    if (rc != 0) {
        dor_image_close(image);
        return rc;
    }
    *ret = image;
    return 0;
}

void
dor_image_close(struct dor_image *image)
{
    if (image == NULL)
        return;
    guest_image_close_files(image);
    guest_frame_builder_fini(&image->builder);
    base_buf_free(&image->frame);
    base_free(image->ranges);
    base_free(image->runs);
    base_free(image->bitmap);
    base_free(image->path);
    base_free(image);
}

const struct dor_image_info *
dor_image_info(const struct dor_image *image)
{
    return &image->info;
}

int
dor_image_set_diff(struct dor_image *image)
{
    if (image->info.format != DOR_IMAGE_RAW && image->info.format != DOR_IMAGE_FIRECRACKER)
        return dor_fail(
            DOR_E_USAGE,
            "image %s: is of format %s, which has no diffs; they are raw or firecracker",
            image->path, formats[image->info.format]->name);
    image->info.diff = true;
    return 0;
}

/* ------------------------------------------------------------------ pages */

/* The first run that ends after PAGE; one past the last when there is none. */
static const struct guest_run *
find_run(const struct dor_image *image, uint64_t page)
{
    size_t low = 0;
    size_t high = image->run_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct guest_run *run = &image->runs[middle];
        if (run->first_page + run->page_count > page)
            high = middle;
        else
            low = middle + 1;
    }
    return &image->runs[low];
}

static bool
bit_is_set(const uint8_t *bitmap, uint64_t bit)
{
    return (bitmap[bit / 8] >> bit % 8 & 1) != 0;
}

static void
next_in_bitmap(const struct guest_run *run, uint64_t at, uint64_t *ret_first, uint64_t *ret_end)
{
    while (at < run->page_count && !bit_is_set(run->bitmap, at))
        at++;
    *ret_first = at;
    while (at < run->page_count && bit_is_set(run->bitmap, at))
        at++;
    *ret_end = at;
}

/* Pages of the run from AT on that have data; bytes that are not whole pages count as pages. */
static int
next_in_run(
    const struct dor_image *image, const struct guest_run *run, uint64_t at,
    uint64_t *ret_first, uint64_t *ret_end)
{
    const struct guest_file *file = &image->files[run->file_index];
    uint64_t end_bytes = run->offset + run->page_count * DOR_PAGE_BYTES;
    uint64_t start = 0;
    uint64_t end = 0;
    if (run->bitmap != NULL) {
        next_in_bitmap(run, at, ret_first, ret_end);
        return 0;
    }
    int rc = base_file_next_data(
        file->fd, run->offset + at * DOR_PAGE_BYTES, end_bytes, &start, &end);
    if (rc != 0)
        return dor_fail_wrap("image %s", file->label);
    *ret_first = (start - run->offset) / DOR_PAGE_BYTES;
    *ret_end = DIV_ROUND_UP(end - run->offset, DOR_PAGE_BYTES);
    return 0;
}

int
dor_image_next_data(
    const struct dor_image *image, uint64_t page_index, uint64_t *ret_first, uint64_t *ret_end)
{
    const struct guest_run *run = find_run(image, page_index);
    const struct guest_run *end = image->runs + image->run_count;
    for (; run < end; run++) {
        uint64_t at = base_max_u64(page_index, run->first_page) - run->first_page;
        uint64_t first = 0;
        uint64_t last = 0;
        int rc = next_in_run(image, run, at, &first, &last);
        if (rc != 0)
            return rc;
        if (first < last) {
            *ret_first = run->first_page + first;
            *ret_end = run->first_page + last;
            return 0;
        }
    }
    *ret_first = *ret_end = image->info.page_count;
    return 0;
}

/* The index of the range that PAGE is in. */
static size_t
find_range(const struct dor_image *image, uint64_t page)
{
    size_t low = 0;
    size_t high = image->range_count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (image->ranges[middle].first_page <= page)
            low = middle;
        else
            high = middle;
    }
    return low;
}

void
dor_image_read(
    const struct dor_image *image, uint64_t first_page, size_t page_count, void *pages)
{
    uint8_t *to = pages;
    dor_assert(
        first_page <= image->info.page_count &&
        page_count <= image->info.page_count - first_page);
    for (size_t i = find_range(image, first_page); page_count > 0; i++) {
        const struct dor_image_range *range = &image->ranges[i];
        uint64_t skip = first_page - range->first_page;
        size_t count = (size_t)base_min_u64(page_count, range->page_count - skip);
        memcpy(to, range->data + skip * DOR_PAGE_BYTES, count * DOR_PAGE_BYTES);
        to += count * DOR_PAGE_BYTES;
        first_page += count;
        page_count -= count;
    }
}

const uint8_t *
dor_image_page(const struct dor_image *image, uint64_t page_index)
{
    dor_assert(page_index < image->info.page_count);
    const struct dor_image_range *range = &image->ranges[find_range(image, page_index)];
    return range->data + (page_index - range->first_page) * DOR_PAGE_BYTES;
}
