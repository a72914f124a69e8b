/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_guest_firecracker.c - the reader of firecracker: the input is a u8 of pages, a u8
 * that says whether to mend the CRC, and a vmstate.
 */
#include "guest/crc64.h"
#include "images.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    enum { HEAD_BYTES = 2, CRC_BYTES = 8, VMSTATE_BYTES_MIN = 16, PAGES_MAX = 8 };
    if (size_bytes < HEAD_BYTES + VMSTATE_BYTES_MIN)
        return 0;
    size_t state_bytes = size_bytes - HEAD_BYTES;
    AUTO_FREE uint8_t *state = mend_copy(data + HEAD_BYTES, state_bytes);
    if (state == NULL)
        return 0;
    if (data[1] != 0)
        base_le64_put(
            state + state_bytes - CRC_BYTES, guest_crc64(0, state, state_bytes - CRC_BYTES));
    fuzz_write("image/state", state, state_bytes);
    fuzz_write_pages("image/memory", data[0] % PAGES_MAX);
    fuzz_image("image", DOR_IMAGE_FIRECRACKER);
    return 0;
}
