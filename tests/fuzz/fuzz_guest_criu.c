/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_guest_criu.c - the reader of criu: the input is a u8 of pages and a pagemap after its
 * magic.
 */
#include "images.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    enum { PAGES_MAX = 32 };
    struct base_buf map = {0};
    if (size_bytes < 1)
        return 0;
    fuzz_put(&map, "\x19\x43\x56\x54\x25\x40\x08\x56", 8);
    fuzz_put(&map, data + 1, size_bytes - 1);
    fuzz_write("image/pagemap-7.img", map.data, map.size_bytes);
    base_buf_free(&map);
    fuzz_write_pages("image/pages-1.img", data[0] % PAGES_MAX);
    fuzz_image("image", DOR_IMAGE_CRIU);
    return 0;
}
