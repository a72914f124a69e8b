/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prefetch.c - asks for memory ahead of look-ups. Of a batch of requests first all buckets are
 * asked for, then all records, then the keys behind their values, so that the waits for memory fall
 * together.
 *
 * Nothing here is believed or changes anything: a wrong place costs a wasted line.
 */
#include <string.h>

#include "table/table_priv.h"

#define PREFETCH_LINES 4

void
table_prefetch(const struct table *table, const struct table_key *key)
{
    __builtin_prefetch(table_bucket(table, table_bucket_index(table, key->hash)));
}

uint64_t
table_prefetch_record(const struct table *table, const struct table_key *key)
{
    const struct table_bucket *bucket =
        table_bucket(table, table_bucket_index(table, key->hash));
    if (bucket == NULL)
        return 0;
    for (unsigned i = 0; i < TABLE_BUCKET_SLOTS; i++) {
        if (bucket->hash[i] != key->hash || bucket->ref[i] == 0)
            continue;
        uint64_t at = (uint64_t)(bucket->ref[i] & REF_UNIT_MASK) * TABLE_UNIT_BYTES;
        if (at >= table->arena.file_bytes)
            return 0;
        for (unsigned line = 0; line < PREFETCH_LINES; line++)
            __builtin_prefetch(table->arena.base + at + (uint64_t)line * 64);
        return key->is_number ? 0 : at;
    }
    return 0;
}

void
table_prefetch_key(const struct table *table, uint64_t record)
{
    uint32_t length;
    memcpy(&length, table->arena.base + record, sizeof length);
    uint64_t key = record + 2 * sizeof length + (length & TABLE_LENGTH_MASK);
    if (key < table->arena.file_bytes)
        __builtin_prefetch(table->arena.base + key);
}
