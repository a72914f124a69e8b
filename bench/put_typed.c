/* SPDX-License-Identifier: Apache-2.0 */
/*
 * put_typed.c - put one image with a region type for each page, which the command line cannot be
 * told.
 *
 *   put_typed STORE NAME IMAGE TYPES [NAME=VALUE ...]
 *
 * TYPES is a file of one byte a page: 0 NRT, 1 RX_MAP, 2 W_MAP. This is not a benchmark in
 * itself: variants.py uses it to compare one index for all pages with one for each region type.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int
main(int argc, char **argv)
{
    if (argc < 5)
        bench_die("usage: put_typed STORE NAME IMAGE TYPES [NAME=VALUE ...]");
    int image_fd = bench_open(argv[3]), types_fd = bench_open(argv[4]);
    uint64_t page_count = bench_size_bytes(image_fd) / BENCH_PAGE_BYTES;
    uint8_t *types = malloc(page_count);
    if (!types || bench_size_bytes(types_fd) != page_count ||
        read(types_fd, types, page_count) != (ssize_t)page_count)
        bench_die("%s: not one byte for each page of %s", argv[4], argv[3]);
    struct dor_options *options = bench_options(argc - 5, argv + 5);
    struct dor_put put = {.image_fd = image_fd, .region_types = types};
    struct dor_put_result result;
    struct dor_store *store;
    bench_must(dor_store_open(argv[1], DOR_OPEN_WRITE, options, &store), argv[1]);
    bench_must(dor_store_put(store, argv[2], &put, &result), argv[2]);
    dor_store_close(store);
    dor_options_free(options);
    free(types);
    return 0;
}
