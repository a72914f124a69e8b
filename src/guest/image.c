/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image.c - opens an image: raw memory in one regular file, mapped.
 */
#include <dormouse/image.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/size.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

struct dor_image {
    struct dor_image_info info;
    struct dor_image_range range;
    int fd;
    void *map;
};

const char *
dor_image_format_name(enum dor_image_format format)
{
    static const char *const names[DOR_IMAGE_FORMATS] = {
        "auto",       "raw",      "firecracker",      "qemu",
        "mapped-ram", "elf-core", "cloud-hypervisor", "criu"};
    return (unsigned)format < DOR_IMAGE_FORMATS ? names[format] : NULL;
}

int
dor_image_format_parse(const char *name, enum dor_image_format *ret)
{
    for (enum dor_image_format i = 0; i < DOR_IMAGE_FORMATS; i++)
        if (strcmp(name, dor_image_format_name(i)) == 0) {
            *ret = i;
            return 0;
        }
    return dor_fail(DOR_E_USAGE, "no such format: %s", name);
}

static int
map_file(const char *path, struct dor_image *image)
{
    struct stat status;
    int rc = base_file_open(AT_FDCWD, path, O_RDONLY | O_NONBLOCK, 0, &image->fd);
    if (rc != 0)
        return rc;
    if (fstat(image->fd, &status) != 0)
        return dor_fail_errno(errno, "image %s", path);
    if (!S_ISREG(status.st_mode) || status.st_size <= 0 ||
        (size_t)status.st_size % DOR_PAGE_BYTES != 0)
        return dor_fail(DOR_E_USAGE, "image %s: is not a file of whole pages", path);
    size_t bytes = (size_t)status.st_size;
    void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, image->fd, 0);
    if (map == MAP_FAILED)
        return dor_fail_errno(errno, "image %s: map", path);
    image->map = map;
    image->range = (struct dor_image_range){.page_count = bytes / DOR_PAGE_BYTES, .data = map};
    image->info = (struct dor_image_info){
        .format = DOR_IMAGE_RAW,
        .addresses_guessed = true,
        .page_count = bytes / DOR_PAGE_BYTES,
        .ranges = &image->range,
        .range_count = 1,
    };
    return 0;
}

int
dor_image_open(const char *path, enum dor_image_format format, struct dor_image **ret)
{
    if (format != DOR_IMAGE_AUTO && format != DOR_IMAGE_RAW)
        return dor_fail(DOR_E_UNSUPPORTED, "image %s: only raw images are read", path);
    struct dor_image *image = base_zalloc(sizeof *image);
    if (image == NULL)
        return DOR_E_NO_MEMORY;
    image->fd = -1;
    int rc = map_file(path, image);
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
    if (image->map != NULL)
        (void)munmap(image->map, image->info.page_count * DOR_PAGE_BYTES);
    base_auto_close(&image->fd);
    base_free(image);
}

const struct dor_image_info *
dor_image_info(const struct dor_image *image)
{
    return &image->info;
}

int
dor_image_next_data(
    const struct dor_image *image, uint64_t page_index, uint64_t *ret_first, uint64_t *ret_end)
{
    uint64_t start;
    uint64_t end;
    int rc = base_file_next_data(
        image->fd, page_index * DOR_PAGE_BYTES, image->info.page_count * DOR_PAGE_BYTES, &start,
        &end);
    if (rc != 0)
        return rc;
    *ret_first = start / DOR_PAGE_BYTES;
    *ret_end = DIV_ROUND_UP(end, DOR_PAGE_BYTES);
    return 0;
}
