/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_guest_raw.c - the reader of raw: the input is the file, its format found by content.
 */
#include "images.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    fuzz_write("file", data, size_bytes);
    fuzz_image("file", DOR_IMAGE_AUTO);
    fuzz_image("file", DOR_IMAGE_RAW);
    return 0;
}
