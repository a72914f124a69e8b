/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_store_working_set.c - the input is a working set's file whose header is mended; what it
 * decodes to lies inside the image, is encoded to a file that decodes to the same, and makes runs
 * without a page twice.
 */
#include "mend.h"
#include "store/working_set.h"

enum { HEADER_BYTES = 64 };

static struct store_set_key key = {.uuid = {1, 2, 3}, .snapshot_id = 7};

static void
mend(uint8_t *file, size_t size_bytes)
{
    memcpy(file, "DORWSET1", 8);
    memcpy(file + 8, key.uuid, sizeof key.uuid);
    base_le32_put(file + 28, (uint32_t)(size_bytes - HEADER_BYTES));
    base_le64_put(file + 32, key.snapshot_id);
    base_le64_put(file + 40, base_le64_get(file + 40) % ((uint64_t)MEND_PAGES_MAX * 64));
    key.page_count = base_le64_get(file + 40);
    if (base_le32_get(file + 24) == CHUNK_NONE)
        base_le32_put(file + 48, (uint32_t)(size_bytes - HEADER_BYTES));
    base_le32_put(file + 52, 0);
    mend_digest(file, 56, HEADER_BYTES, size_bytes);
}

static void
check_runs(const struct store_working_set *set)
{
    AUTO_FREE struct dor_working_set_run *runs = NULL;
    AUTO_FREE uint8_t *seen = base_array(key.page_count + 1, 1);
    size_t count = 0;
    if (seen == NULL || store_working_set_runs(set, STORE_SET_NO_TURN, &runs, &count) != 0)
        return;
    for (size_t i = 0; i < count; i++)
        for (uint64_t p = 0; p < runs[i].page_count; p++) {
            dor_assert(runs[i].first_page + p < key.page_count);
            dor_assert(seen[runs[i].first_page + p]++ == 0);
        }
}

static void
check_round_trip(const struct store_working_set *set)
{
    AUTO_BUF struct base_buf file = {0};
    struct store_working_set same = {0};
    if (store_working_set_encode(&key, set, &file) != 0)
        return;
    dor_assert(store_working_set_decode(&key, file.data, file.size_bytes, &same) == 0);
    dor_assert(same.wakes == set->wakes && same.window_count == set->window_count);
    dor_assert(
        memcmp(same.windows, set->windows, set->window_count * sizeof *set->windows) == 0);
    store_working_set_fini(&same);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    if (size_bytes < HEADER_BYTES)
        return 0;
    AUTO_FREE uint8_t *file = mend_copy(data, size_bytes);
    struct store_working_set set = {0};
    if (file == NULL)
        return 0;
    mend(file, size_bytes);
    if (store_working_set_decode(&key, file, size_bytes, &set) == 0) {
        check_runs(&set);
        check_round_trip(&set);
    }
    store_working_set_fini(&set);
    return 0;
}
