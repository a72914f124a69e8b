/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_guest_cloud_hypervisor.c - the reader of cloud-hypervisor: the input is a u8 of pages
 * and state.json.
 */
#include "images.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    enum { PAGES_MAX = 32 };
    if (size_bytes < 1)
        return 0;
    fuzz_write("image/state.json", data + 1, size_bytes - 1);
    fuzz_write("image/config.json", (const uint8_t *)"{}", 2);
    fuzz_write_pages("image/memory-ranges", data[0] % PAGES_MAX);
    fuzz_image("image", DOR_IMAGE_CLOUD_HYPERVISOR);
    return 0;
}
