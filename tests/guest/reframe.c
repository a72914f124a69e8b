/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reframe.c - `reframe IMAGE OUT [ROW [FRAME]]`: takes the image at IMAGE apart into row and frame,
 * writes it again to OUT, and prints what it saw as JSON. ROW gets the pages of the row, FRAME the
 * frame. For tests with images that programs made.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "guest/round_trip.h"

static uint64_t
count_zero_pages(const struct dor_image_info *info)
{
    static const uint8_t zeros[4096];
    uint64_t count = 0;
    for (size_t i = 0; i < info->range_count; i++)
        for (uint64_t page = 0; page < info->ranges[i].page_count; page++)
            count += memcmp(info->ranges[i].data + page * 4096, zeros, sizeof zeros) == 0;
    return count;
}

static void
print_ranges(const struct dor_image_info *info)
{
    for (size_t i = 0; i < info->range_count; i++) {
        const struct dor_image_range *range = &info->ranges[i];
        printf("%s{\"pages\":%" PRIu64, i == 0 ? "" : ",", range->page_count);
        if (range->address != DOR_IMAGE_NO_ADDRESS)
            printf(",\"address\":%" PRIu64, range->address);
        printf(",\"space\":%" PRIu32 "}", range->space);
    }
}

/* The row as a file of its own: raw is the format without a frame. */
static int
write_row(const char *path, struct dor_image *image)
{
    struct dor_page_source source = image_source(image, false);
    return dor_frame_write(NULL, 0, path, &source);
}

static int
write_frame(const char *path, struct dor_image *image)
{
    const struct dor_image_info *info = dor_image_info(image);
    FILE *file = fopen(path, "wb");
    bool written =
        file != NULL && fwrite(info->frame, 1, info->frame_bytes, file) == info->frame_bytes;
    bool closed = file != NULL && fclose(file) == 0;
    return written && closed ? 0 : DOR_E_IO;
}

static int
reframe(const char *from, const char *to, struct dor_image *image)
{
    const struct dor_image_info *info = dor_image_info(image);
    struct dor_page_source source = image_source(image, false);
    struct dor_frame_info frame = {0};
    int rc = dor_frame_write(info->frame, info->frame_bytes, to, &source);
    if (rc == 0 && info->frame_bytes > 0)
        rc = dor_frame_read_info(info->frame, info->frame_bytes, &frame);
    if (rc != 0)
        return rc;
    printf(
        "{\"image\":\"%s\",\"format\":\"%s\",\"pages\":%" PRIu64 ",\"zero_pages\":%" PRIu64
        ",\"process\":%s,\"frame_bytes\":%zu,\"literal_bytes\":%" PRIu64 ",\"ranges\":[",
        from, dor_image_format_name(info->format), info->page_count, count_zero_pages(info),
        info->process ? "true" : "false", info->frame_bytes, frame.literal_bytes);
    print_ranges(info);
    printf("]}\n");
    return 0;
}

int
main(int argc, char **argv)
{
    struct dor_image *image;
    if (argc < 3 || argc > 5) {
        fprintf(stderr, "usage: reframe IMAGE OUT [ROW [FRAME]]\n");
        return 1;
    }
    int rc = dor_image_open(argv[1], DOR_IMAGE_AUTO, &image);
    if (rc == 0) {
        rc = reframe(argv[1], argv[2], image);
        if (rc == 0 && argc > 3)
            rc = write_row(argv[3], image);
        if (rc == 0 && argc > 4)
            rc = write_frame(argv[4], image);
        dor_image_close(image);
    }
    if (rc != 0)
        fprintf(stderr, "reframe: %s\n", dor_err_message());
    return -rc;
}
