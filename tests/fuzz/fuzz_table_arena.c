/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_table_arena.c - every call on a table whose arena has words that somebody else wrote.
 *
 *     input: a byte of flags, 1 = recover, 2 = from the midst of a transaction, 4 = the file ends
 *            with the top; then u16 number and u32 value of each word that changes
 */
#include "table/hostile.h"

#include "base/le.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

enum { CHANGE_BYTES = 6 };

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    static struct hostile_arena arenas[2];
    if (arenas[0].bytes == NULL)
        hostile_make(&arenas[0], &arenas[1]);
    if (size_bytes == 0)
        return 0;
    struct hostile_arena changed = arenas[data[0] >> 1 & 1];
    uint8_t *bytes = malloc(changed.size_bytes);
    if (bytes == NULL)
        return 0;
    memcpy(bytes, changed.bytes, changed.size_bytes);
    for (size_t at = 1; at + CHANGE_BYTES <= size_bytes; at += CHANGE_BYTES)
        hostile_put(
            bytes, base_le16_get(data + at) % changed.words, base_le32_get(data + at + 2));
    changed.bytes = bytes;
    if ((data[0] & 4) != 0)
        changed.size_bytes = (size_t)changed.words * 4;
    struct table *table = hostile_open(&changed, (data[0] & 1) != 0);
    free(bytes);
    uint32_t sum = 0;
    if (table != NULL)
        hostile_calls(table, &sum);
    table_close(table);
    return 0;
}
