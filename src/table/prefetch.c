/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prefetch.c - asks for memory ahead of look-ups. Of a batch of requests first all buckets are
 * asked for, then all records, so that the waits for memory fall together.
 *
 * Nothing here is believed or changes anything: a wrong place costs a wasted line.
 */
#include "table/table_priv.h"

#define PREFETCH_LINES 4

void
table_prefetch(const struct table *table, const struct table_key *key)
{
    __builtin_prefetch(table_bucket(table, table_bucket_index(table, key->hash)));
}

void
table_prefetch_record(const struct table *table, const struct table_key *key)
{
    const struct table_bucket *bucket =
        table_bucket(table, table_bucket_index(table, key->hash));
    if (bucket == NULL)
        return;
    for (unsigned i = 0; i < TABLE_BUCKET_SLOTS; i++) {
        if (bucket->hash[i] != key->hash || bucket->ref[i] == 0)
            continue;
        uint64_t at = (uint64_t)(bucket->ref[i] & REF_UNIT_MASK) * TABLE_UNIT_BYTES;
        if (at < table->arena.file_bytes) {
            for (unsigned line = 0; line < PREFETCH_LINES; line++)
                __builtin_prefetch(table->arena.base + at + (uint64_t)line * 64);
        }
        return;
    }
}
