/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_store_root.c - the input is a root file whose header is mended; what it decodes to has a
 * digest for each block, and is encoded to a file that decodes to the same.
 */
#include "mend.h"
#include "store/root.h"

enum { HEADER_BYTES = 64 };

static const uint8_t uuid[16] = {1, 2, 3};

static void
mend(uint8_t *file, size_t size_bytes)
{
    memcpy(file, "DORROOT1", 8);
    memcpy(file + 8, uuid, sizeof uuid);
    base_le64_put(file + 32, size_bytes - HEADER_BYTES);
    if (base_le32_get(file + 24) == CHUNK_NONE)
        base_le64_put(file + 40, size_bytes - HEADER_BYTES);
    mend_digest(file, 56, HEADER_BYTES, size_bytes);
}

static void
check_round_trip(const struct dor_root_info *info, const uint64_t *digests)
{
    AUTO_BUF struct base_buf file = {0};
    AUTO_FREE uint64_t *again = NULL;
    struct dor_root_info same;
    uint64_t block_count = info->size_bytes / DOR_PAGE_BYTES;
    dor_assert(dor_name_check(info->name) == 0 && info->path[0] != 0 && info->id != 0);
    dor_assert(store_root_digest(digests, block_count) == info->digest);
    if (store_root_encode(info, digests, uuid, &file) != 0)
        return;
    dor_assert(store_root_decode(file.data, file.size_bytes, uuid, &same, &again) == 0);
    dor_assert(memcmp(digests, again, block_count * sizeof *digests) == 0);
    dor_assert(same.id == info->id && same.modified_ns == info->modified_ns);
    dor_assert(strcmp(same.path, info->path) == 0 && strcmp(same.domain, info->domain) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    if (size_bytes < HEADER_BYTES)
        return 0;
    AUTO_FREE uint8_t *file = mend_copy(data, size_bytes);
    AUTO_FREE uint64_t *digests = NULL;
    struct dor_root_info info;
    if (file == NULL)
        return 0;
    mend(file, size_bytes);
    if (base_le64_get(file + 40) > MEND_PLAIN_BYTES_MAX)
        return 0;
    if (store_root_decode(file, size_bytes, uuid, &info, &digests) == 0)
        check_round_trip(&info, digests);
    return 0;
}
