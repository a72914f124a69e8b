/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_guest_qemu.c - the reader of qemu: the input is the device state after its magic,
 * beside a memory file of 256 pages.
 */
#include "images.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    static bool memory_made; /* the same for all inputs */
    struct base_buf state = {0};
    fuzz_put(&state, "QEVM\0\0\0\3", 8);
    fuzz_put(&state, data, size_bytes);
    fuzz_write("image/devstate", state.data, state.size_bytes);
    base_buf_free(&state);
    if (!memory_made)
        fuzz_write_pages("image/memory", 256);
    memory_made = true;
    fuzz_image("image", DOR_IMAGE_QEMU);
    return 0;
}
