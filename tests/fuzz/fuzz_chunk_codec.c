/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_chunk_codec.c - the input is a codec (1 byte), the size it should decode to (2 bytes) and
 * stored bytes. They decode to that size or are refused, and as content they come back from every
 * codec.
 */
#include "mend.h"

static void
check_round_trip(
    struct chunk_coder *coder, enum chunk_codec codec, const uint8_t *data, size_t size_bytes)
{
    AUTO_FREE uint8_t *packed = base_alloc(chunk_compress_bound(size_bytes));
    AUTO_FREE uint8_t *back = base_alloc(size_bytes);
    size_t packed_bytes = 0;
    if (packed == NULL || back == NULL ||
        chunk_compress(coder, &codec, 1, data, size_bytes, packed, &packed_bytes) != 0)
        return;
    dor_assert(packed_bytes <= size_bytes);
    dor_assert(chunk_decompress(coder, codec, packed, packed_bytes, back, size_bytes) == 0);
    dor_assert(size_bytes == 0 || memcmp(back, data, size_bytes) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    static struct chunk_coder *coder;
    if (size_bytes < 3 || (coder == NULL && chunk_coder_new(&coder) != 0))
        return 0;
    size_t out_bytes = base_le16_get(data + 1);
    AUTO_FREE uint8_t *out = base_alloc(out_bytes);
    AUTO_FREE uint8_t *stored = mend_copy(data + 3, size_bytes - 3);
    if (out == NULL || stored == NULL)
        return 0;
    int rc = chunk_decompress(coder, data[0], stored, size_bytes - 3, out, out_bytes);
    dor_assert(rc == 0 || rc == DOR_E_CORRUPT || rc == DOR_E_UNSUPPORTED);
    for (unsigned codec = CHUNK_NONE; codec <= CHUNK_LZ4; codec++)
        check_round_trip(coder, (enum chunk_codec)codec, stored, size_bytes - 3);
    return 0;
}
