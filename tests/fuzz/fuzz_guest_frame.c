/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_guest_frame.c - the input is a frame whose header is mended. What is taken for one is
 * written, if it is small, and must be files in one folder whose sizes are what the frame says.
 */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "guest/frame.h"
#include "images.h"

enum { HEADER_BYTES = 40, PAGES_AT = 16, BODY_AT = 24, DIGEST_AT = 32, PAGES_MAX = 64 };

static int
read_page(void *context, uint64_t first_page, size_t page_count, void *pages)
{
    dor_assert(first_page + page_count <= *(const uint64_t *)context);
    memset(pages, (int)first_page, page_count * DOR_PAGE_BYTES);
    return 0;
}

/* Bytes of the file, or of all files of the folder. */
static int
add_size(const char *name, void *arg)
{
    uint64_t *sum = arg;
    struct stat status;
    char path[700];
    snprintf(path, sizeof path, "%s/again/%s", fuzz_folder(), name);
    dor_assert(lstat(path, &status) == 0 && S_ISREG(status.st_mode));
    *sum += (uint64_t)status.st_size;
    return 0;
}

static uint64_t
written_bytes(const char *to, bool folder)
{
    AUTO_CLOSE int dir = -1;
    struct stat status;
    uint64_t sum = 0;
    dor_assert(lstat(to, &status) == 0 && S_ISDIR(status.st_mode) == folder);
    if (!folder)
        return (uint64_t)status.st_size;
    dor_assert(base_file_open(AT_FDCWD, to, O_RDONLY | O_DIRECTORY, 0, &dir) == 0);
    dor_assert(base_dir_list(dir, add_size, &sum) == 0);
    return sum;
}

static void
write_it(const uint8_t *frame, size_t size_bytes, const struct dor_frame_info *info)
{
    uint64_t page_count = info->page_count;
    struct dor_page_source source = {
        .page_count = page_count, .read = read_page, .context = &page_count};
    char to[400];
    snprintf(to, sizeof to, "%s/again", fuzz_folder());
    dor_assert(dor_frame_write(frame, size_bytes, to, &source) == 0);
    dor_assert(written_bytes(to, info->folder) == info->file_bytes);
    fuzz_clear(to);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    struct dor_frame_info info;
    if (size_bytes < HEADER_BYTES)
        return 0;
    AUTO_FREE uint8_t *frame = mend_copy(data, size_bytes);
    if (frame == NULL)
        return 0;
    size_t body_bytes = size_bytes - HEADER_BYTES;
    memcpy(frame, "DORFRAME\1\0\0", 12);
    base_le64_put(frame + PAGES_AT, base_le64_get(frame + PAGES_AT) % PAGES_MAX);
    base_le64_put(frame + BODY_AT, body_bytes);
    base_le64_put(
        frame + DIGEST_AT,
        XXH3_64bits(frame, DIGEST_AT) ^ XXH3_64bits(frame + HEADER_BYTES, body_bytes));
    if (dor_frame_read_info(frame, size_bytes, &info) != 0)
        return 0;
    struct dor_image_range *ranges = NULL;
    size_t range_count = 0;
    dor_assert(dor_frame_read_ranges(frame, size_bytes, &ranges, &range_count) == 0);
    dor_assert(range_count == info.range_count);
    free(ranges);
    if (info.file_bytes <= FUZZ_BYTES_MAX && info.file_count <= 64)
        write_it(frame, size_bytes, &info);
    return 0;
}
