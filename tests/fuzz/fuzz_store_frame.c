/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_store_frame.c - the input is a frame of a segment whose header is mended; what it decodes
 * to keeps the table's invariants and, encoded, decodes to the same again.
 */
#include "mend.h"
#include "store/table.h"

/* Groups of a real segment end before this. */
#define LIMIT_BYTES (UINT64_C(1) << 40)

static void
mend(uint8_t *frame, size_t size_bytes)
{
    size_t rest = size_bytes - STORE_FRAME_HEADER_BYTES;
    memcpy(frame, "DFRM\1", 5);
    frame[5] &= 1;
    size_t stored_bytes = base_le32_get(frame + 24);
    if (stored_bytes > rest)
        stored_bytes = rest;
    base_le32_put(frame + 24, (uint32_t)stored_bytes);
    base_le32_put(frame + 32, (uint32_t)(rest - stored_bytes));
    if (base_le16_get(frame + 6) == CHUNK_NONE)
        base_le32_put(frame + 28, (uint32_t)stored_bytes);
    mend_digest(frame, 40, STORE_FRAME_HEADER_BYTES, size_bytes);
}

static void
check_groups(const struct store_table *table)
{
    uint64_t row = 0;
    for (uint64_t i = 0; i < table->group_count; i++) {
        const struct store_group *group = &table->groups[i];
        dor_assert(group->first_page == row && group->page_count > 0);
        dor_assert(group->plain_bytes <= STORE_GROUP_BYTES_MAX);
        dor_assert(group->offset + group->stored_bytes <= LIMIT_BYTES);
        dor_assert(group->slides <= table->slides_count);
        for (unsigned page = 0; page < group->page_count; page++, row++) {
            dor_assert(store_table_group(table, row) == group);
            uint32_t bytes = store_table_page_bytes(table, group, row);
            dor_assert(table->offsets[row] + bytes <= group->plain_bytes);
        }
    }
    dor_assert(row == table->page_count);
}

static void
check_pages(const struct store_table *table)
{
    for (uint64_t row = 0; row < table->page_count; row++) {
        dor_assert(row == 0 || table->serials[row - 1] < table->serials[row]);
        dor_assert(store_table_find(table, table->serials[row]) == row);
    }
}

static void
check_same(const struct store_table *a, const struct store_table *b)
{
    dor_assert(a->page_count == b->page_count && a->group_count == b->group_count);
    size_t count = a->page_count;
    dor_assert(memcmp(a->serials, b->serials, count * sizeof *a->serials) == 0);
    dor_assert(memcmp(a->digests, b->digests, count * sizeof *a->digests) == 0);
    dor_assert(memcmp(a->offsets, b->offsets, count * sizeof *a->offsets) == 0);
    if (a->patches)
        dor_assert(memcmp(a->bases, b->bases, count * sizeof *a->bases) == 0);
    else
        dor_assert(memcmp(a->chunk_pages, b->chunk_pages, count) == 0);
    dor_assert(a->fingerprint_count == b->fingerprint_count);
}

static void
check_round_trip(const struct store_table *table, struct chunk_coder *coder)
{
    AUTO_BUF struct base_buf buf = {0};
    struct store_table *again;
    if (store_frame_encode(table, 0, coder, &buf) != 0 ||
        store_table_new(table->patches, &again) != 0)
        return;
    int err = store_frame_decode(again, buf.data, buf.size_bytes, LIMIT_BYTES, coder, "again");
    dor_assert(err == 0 || err == DOR_E_NO_MEMORY);
    if (err == 0)
        check_same(table, again);
    store_table_free(again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    if (size_bytes < STORE_FRAME_HEADER_BYTES)
        return 0;
    AUTO_FREE uint8_t *frame = mend_copy(data, size_bytes);
    struct store_table *table = NULL;
    struct chunk_coder *coder = NULL;
    if (frame == NULL)
        return 0;
    mend(frame, size_bytes);
    if (base_le32_get(frame + 28) > MEND_PLAIN_BYTES_MAX)
        return 0;
    int err = store_table_new(frame[5] == 1, &table);
    if (err == 0)
        err = chunk_coder_new(&coder);
    if (err == 0)
        err = store_frame_decode(table, frame, size_bytes, LIMIT_BYTES, coder, "input");
    if (err == 0) {
        check_groups(table);
        check_pages(table);
        check_round_trip(table, coder);
    }
    chunk_coder_free(coder);
    store_table_free(table);
    return 0;
}
