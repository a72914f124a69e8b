/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upkeep.c - walks over a whole table: scans, and the small steps that keep it in order.
 */
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "table/table_priv.h"

#define CHAIN_LOCAL       64
#define SWEEP_PART        4 /* a sweep begins when a quarter of what is used became free, and: */
#define SWEEP_LEAST_UNITS (65536 / TABLE_UNIT_BYTES)

/* ---- scans ---- */

/* The places of a chain's records, in LOCAL or in memory that *RET_FREE names; how many. */
static uint32_t
gather_chain(
    const struct table *table, uint32_t index, uint32_t local[CHAIN_LOCAL], uint32_t **ret,
    uint32_t **ret_free)
{
    *ret = local;
    *ret_free = NULL;
    uint32_t count = 0, cap = CHAIN_LOCAL;
    const struct table_bucket *bucket = table_bucket(table, index);
    for (uint32_t n = 0; bucket != NULL && n < TABLE_CHAIN_MAX; n++) {
        if (count + TABLE_BUCKET_SLOTS > cap) {
            uint32_t *grown = base_realloc_array(*ret_free, (size_t)cap * 2, sizeof *grown);
            if (grown == NULL)
                break;
            if (*ret_free == NULL)
                memcpy(grown, local, count * sizeof *grown);
            *ret = *ret_free = grown;
            cap *= 2;
        }
        for (unsigned i = 0; i < TABLE_BUCKET_SLOTS; i++)
            if (bucket->ref[i] != 0)
                (*ret)[count++] = bucket->ref[i];
        bucket = table_bucket_next(table, bucket);
    }
    return count;
}

static bool
scan_bucket(struct table *table, uint32_t index, table_scan_fn *fn, void *context)
{
    uint32_t local[CHAIN_LOCAL];
    uint32_t *refs;
    AUTO_FREE uint32_t *free_refs = NULL;
    uint32_t count = gather_chain(table, index, local, &refs, &free_refs);
    for (uint32_t i = 0; i < count; i++) {
        struct table_record record;
        if ((refs[i] & REF_LIBRARY) != 0 || !table_record(table, refs[i], &record))
            continue;
        char scratch[16];
        struct table_key key = table_record_key(table, &record, scratch);
        struct table_value value = table_record_value(&record, refs[i]);
        if (table_record_is_dead(table, &record)) {
            /* Looking for it removes it, so who has scanned all knows how many there are. */
            (void)table_find(table, &key, false, &value);
            continue;
        }
        if (!fn(context, &key, &value))
            return false;
    }
    return true;
}

uint64_t
table_scan(
    struct table *table, uint64_t cursor, uint32_t buckets, table_scan_fn *fn, void *context)
{
    for (uint32_t n = 0; n < buckets; n++) {
        if (cursor >= table->arena.header->bucket_count)
            return 0;
        if (!scan_bucket(table, (uint32_t)cursor++, fn, context))
            break;
    }
    return cursor >= table->arena.header->bucket_count ? 0 : cursor;
}

bool
table_random_key(struct table *table, uint64_t random, char scratch[16], struct table_key *ret)
{
    for (unsigned tries = 0; tries < 100; tries++) {
        struct table_slot slot = table_random_slot(table, random);
        if (slot.bucket == NULL)
            return false;
        struct table_record record;
        if (!table_record(table, slot.bucket->ref[slot.index], &record))
            return false;
        if (!table_record_is_dead(table, &record)) {
            *ret = table_record_key(table, &record, scratch);
            return true;
        }
        if (!table_drop_slot(table, slot))
            return false;
        table->expired++;
        random += 0x9e3779b97f4a7c15u;
    }
    return false;
}

/* ---- steps ---- */

/* Drop what has expired in the next bucket; true when any had. */
static bool
expire_bucket(struct table *table)
{
    const struct table_header *header = table->arena.header;
    if (table->expire_bucket >= header->bucket_count)
        table->expire_bucket = 0;
    bool any = false;
    struct table_bucket *bucket = table_bucket(table, table->expire_bucket);
    for (uint32_t n = 0; bucket != NULL && n < TABLE_CHAIN_MAX; n++) {
        for (unsigned i = 0; i < TABLE_BUCKET_SLOTS; i++) {
            struct table_record record;
            uint32_t ref = bucket->ref[i];
            if ((ref & REF_EXPIRES) == 0 || !table_record(table, ref, &record) ||
                !table_record_is_dead(table, &record))
                continue;
            /* The chain changes with it: what is behind waits for the next time. */
            if (table_drop_slot(table, (struct table_slot){bucket, i})) {
                table->expired++;
                return true;
            }
        }
        bucket = table_bucket_next(table, bucket);
    }
    table->expire_bucket++;
    return any;
}

/* Whether so much has become free since the last sweep that another one is worth its while. */
static bool
wants_sweep(struct table *table)
{
    const struct table_header *header = table->arena.header;
    uint32_t free_units = table_free_units(table);
    if (table->swept_free > free_units)
        table->swept_free = free_units;
    return free_units - table->swept_free > header->used_units / SWEEP_PART + SWEEP_LEAST_UNITS;
}

bool
table_maintain(struct table *table, uint32_t steps)
{
    const struct table_header *header = table->arena.header;
    if (table->in_transaction)
        return false;
    bool more = false;
    if (header->expiring_count > 0) {
        uint32_t found = 0;
        for (uint32_t n = 0; n < steps; n++)
            found += expire_bucket(table);
        more = found > steps / 4;
    }
    uint32_t evictions = 0;
    while (evictions < steps / 4 && table_is_over_limit(table) && table_evict_one(table))
        evictions++;
    more |= evictions > 0 && table_is_over_limit(table);
    if (!table->sweeping)
        table->sweeping = wants_sweep(table);
    if (table->sweeping && table_sweep(table, steps)) {
        table->sweeping = false;
        table->swept_free = table_free_units(table);
    }
    more |= table_heap_trim(&table->arena);
    return more || table->sweeping;
}

/* ---- what is asked about a table ---- */

enum table_policy
table_get_policy(const struct table *table)
{
    return table->policy;
}

const char *
table_policy_name(enum table_policy policy)
{
    switch (policy) {
    case TABLE_EVICT_LRU:
        return "allkeys-lru";
    case TABLE_EVICT_RANDOM:
        return "allkeys-random";
    case TABLE_NO_EVICTION:
        break;
    }
    return "noeviction";
}

uint64_t
table_record_bytes(const struct table *table, uint32_t ref)
{
    struct table_record record;
    return table_record(table, ref, &record) ? (uint64_t)record.units * TABLE_UNIT_BYTES : 0;
}
