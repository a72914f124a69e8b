/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prefetch.c - asks for memory ahead of look-ups. Of a batch of requests first all buckets are
 * asked for, then all records and the keys behind their values, so that the waits for memory fall
 * together.
 *
 * Nothing here is believed or changes anything: a wrong place costs a wasted line.
 */
#include "table/table_priv.h"

#define PREFETCH_LINES 4 /* of a value; what is behind the processor asks for itself */
#define LINE_BYTES     UINT64_C(64)

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
        uint64_t end = at + sizeof(struct table_block) + bucket->length[i];
        if (end >= table->arena.file_bytes)
            return;
        for (unsigned line = 0; line < PREFETCH_LINES && at + line * LINE_BYTES < end; line++)
            __builtin_prefetch(table->arena.base + at + line * LINE_BYTES);
        if (!key->is_number && bucket->length[i] != TABLE_LENGTH_UNKNOWN)
            __builtin_prefetch(table->arena.base + end);
        return;
    }
}
