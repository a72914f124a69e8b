/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_guest_mapped_ram.c - the reader of mapped-ram: the input is the migration file after
 * its magic.
 */
#include "images.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    struct base_buf file = {0};
    fuzz_put(&file, "QEVM\0\0\0\3", 8);
    fuzz_put(&file, data, size_bytes);
    fuzz_write("file", file.data, file.size_bytes);
    base_buf_free(&file);
    fuzz_image("file", DOR_IMAGE_MAPPED_RAM);
    return 0;
}
