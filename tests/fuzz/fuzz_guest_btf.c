/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_guest_btf.c - the input is BTF whose header is mended; numbers out of it are within bounds.
 */
#include "base/err.h"
#include "base/le.h"
#include "guest/btf.h"

#include <string.h>

enum { HEADER_BYTES = 24 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    struct guest_profile profile;
    if (size_bytes < HEADER_BYTES + 1)
        return 0;
    AUTO_FREE uint8_t *copy = base_alloc(size_bytes);
    if (copy == NULL)
        return 0;
    memcpy(copy, data, size_bytes);
    uint32_t types = base_le32_get(copy + 12);
    if (types > size_bytes - HEADER_BYTES - 1)
        types = (uint32_t)(size_bytes - HEADER_BYTES - 1);
    base_le32_put(copy, 0x1eb9f);
    base_le32_put(copy + 4, HEADER_BYTES);
    base_le32_put(copy + 8, 0);
    base_le32_put(copy + 12, types);
    base_le32_put(copy + 16, types);
    base_le32_put(copy + 20, (uint32_t)(size_bytes - HEADER_BYTES - types));
    copy[HEADER_BYTES + types] = 0;
    copy[size_bytes - 1] = 0;
    guest_profile_init(&profile);
    if (guest_btf_read(copy, size_bytes, &profile) != 0)
        return 0;
    for (size_t i = 0; i < GUEST_NUMBERS; i++)
        dor_assert(
            profile.numbers[i] >= GUEST_UNKNOWN && profile.numbers[i] <= GUEST_NUMBER_MAX);
    return 0;
}
