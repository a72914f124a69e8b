/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_base_varint.c - whatever bytes come, a varint is refused or, written again, reads back
 * the same.
 */
#include "base/err.h"
#include "base/le.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    const uint8_t *end = data + size_bytes;
    uint64_t v;
    for (const uint8_t *p = data; p != NULL && p < end;) {
        const uint8_t *next = base_varint_get(p, end, &v);
        if (next == NULL)
            break;
        dor_assert(next > p && next <= end && next - p <= BASE_VARINT_BYTES_MAX);
        uint8_t again[BASE_VARINT_BYTES_MAX];
        uint64_t back;
        uint8_t *again_end = base_varint_put(again, v);
        dor_assert(base_varint_get(again, again_end, &back) == again_end && back == v);
        dor_assert(base_zigzag_encode(base_zigzag_decode(v)) == v);
        p = next;
    }
    return 0;
}
