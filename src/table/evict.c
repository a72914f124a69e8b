/* SPDX-License-Identifier: Apache-2.0 */
/*
 * evict.c - room for what is new: what a table holds against its limit, and which key goes.
 *
 * A key is random by its bucket. Where the first thousands of these are empty, because most keys
 * have gone and buckets stay, it is one of the lowest records of the heap, which the sweep keeps
 * together; so a look takes long only while the sweep has still to come there.
 */
#include <inttypes.h>

#include "base/err.h"
#include "base/le.h"
#include "base/random.h"
#include "table/table_priv.h"

#define EVICT_SAMPLES    8
#define EVICT_TRIES      64
#define CHAIN_SAMPLE     8 /* buckets of a chain that a random key is taken from */
#define BUCKETS_LOOKED   4096
#define HEAP_BLOCKS_LOOK 4096

uint64_t
table_used_units(const struct table *table)
{
    const struct table_header *header = table->arena.header;
    uint64_t ahead =
        table_buckets_ahead(table) * (uint64_t)(sizeof(struct table_bucket) / TABLE_UNIT_BYTES);
    return header->used_units > ahead ? header->used_units - ahead : header->used_units;
}

/*
 * How long ago the record was used, in units of 4096 ms; more than that for what cannot be
 * read.
 */
static uint32_t
idle_time(const struct table *table, uint32_t ref)
{
    struct table_record record;
    if (!table_record(table, ref, &record))
        return UINT32_MAX;
    return (uint16_t)(table_use_now(table) - base_le16_get(record.at + 4));
}

/* A slot with a key in the chain INDEX, which one by RANDOM; none if there is no key. */
static struct table_slot
slot_in_chain(const struct table *table, uint32_t index, uint32_t random)
{
    struct table_bucket *chain[CHAIN_SAMPLE];
    unsigned length = 0;
    struct table_bucket *bucket = table_bucket(table, index);
    for (; bucket != NULL && length < CHAIN_SAMPLE; bucket = table_bucket_next(table, bucket))
        chain[length++] = bucket;
    unsigned slots = length * TABLE_BUCKET_SLOTS;
    for (unsigned i = 0; i < slots; i++) {
        unsigned at = (i + random) % slots;
        uint32_t ref = chain[at / TABLE_BUCKET_SLOTS]->ref[at % TABLE_BUCKET_SLOTS];
        if (ref != 0 && (ref & REF_LIBRARY) == 0)
            return (struct table_slot){chain[at / TABLE_BUCKET_SLOTS], at % TABLE_BUCKET_SLOTS};
    }
    return (struct table_slot){NULL, 0};
}

/* The slot of the record at UNIT if it is a key's. */
static struct table_slot
slot_of_unit(const struct table *table, uint32_t unit)
{
    struct table_record record;
    if (!table_record(table, unit, &record) || record.is_library)
        return (struct table_slot){NULL, 0};
    char scratch[16];
    struct table_key key = table_record_key(table, &record, scratch);
    uint32_t flags = (record.expires ? REF_EXPIRES : 0) | (record.is_number ? REF_NUMBER : 0);
    return table_slot_of_ref(table, key.hash, unit | flags);
}

/* The slot of one of the lowest records of the heap, each as likely; none if there is no key. */
static struct table_slot
slot_in_heap(const struct table *table, uint64_t random)
{
    struct table_slot found = {NULL, 0};
    uint64_t seen = 0;
    uint32_t unit = TABLE_HEAP_FIRST;
    for (unsigned n = 0; n < HEAP_BLOCKS_LOOK; n++) {
        uint32_t units = table_heap_block_units(&table->arena, unit);
        if (units == 0)
            break;
        const struct table_block *block = table_arena_at(&table->arena, unit);
        uint32_t kind = TABLE_TAG_KEY_BYTES(block->tag);
        bool is_record = kind <= TABLE_KEY_BYTES_MAX || kind == TABLE_KEY_NUMBER;
        if (is_record && base_random_splitmix(&random) % (seen + 1) == 0) {
            struct table_slot slot = slot_of_unit(table, unit);
            found = slot.bucket != NULL ? slot : found;
            seen += slot.bucket != NULL;
        } else {
            seen += is_record;
        }
        unit += units;
    }
    return found;
}

/* A slot with a key in the buckets [FROM, TO) behind START, in a ring of all. */
static struct table_slot
slot_in_ring(
    const struct table *table, uint32_t start, uint32_t from, uint32_t to, uint64_t random)
{
    uint32_t count = table->arena.header->bucket_count;
    struct table_slot slot = {NULL, 0};
    for (uint32_t n = from; n < to && slot.bucket == NULL; n++) {
        uint32_t index = start + n < count ? start + n : start + n - count;
        slot = slot_in_chain(table, index, (uint32_t)(random >> 32) & 0xffffff);
    }
    return slot;
}

struct table_slot
table_random_slot(const struct table *table, uint64_t random)
{
    const struct table_header *header = table->arena.header;
    uint32_t count = header->key_count != 0 ? header->bucket_count : 0;
    uint32_t start = count != 0 ? (uint32_t)((random & UINT32_MAX) * count >> 32) : 0;
    uint32_t near = count < BUCKETS_LOOKED ? count : BUCKETS_LOOKED;
    struct table_slot slot = slot_in_ring(table, start, 0, near, random);
    if (slot.bucket == NULL && near < count)
        slot = slot_in_heap(table, random);
    return slot.bucket != NULL ? slot : slot_in_ring(table, start, near, count, random);
}

/* One key goes: a random one, or the longest unused of some (as Redis does). */
bool
table_evict_one(struct table *table)
{
    struct table_slot oldest = {NULL, 0};
    uint32_t oldest_idle = 0;
    unsigned samples = table->policy == TABLE_EVICT_LRU ? EVICT_SAMPLES : 1;
    for (unsigned i = 0; i < samples; i++) {
        struct table_slot slot =
            table_random_slot(table, base_random_splitmix(&table->random_state));
        if (slot.bucket == NULL)
            return false;
        uint32_t idle = idle_time(table, slot.bucket->ref[slot.index]);
        if (oldest.bucket == NULL || idle > oldest_idle) {
            oldest = slot;
            oldest_idle = idle;
        }
    }
    if (!table_drop_slot(table, oldest))
        return false;
    table->evicted++;
    return true;
}

#define BUCKET_UNITS (sizeof(struct table_bucket) / TABLE_UNIT_BYTES)

int
table_make_room(struct table *table, uint32_t units)
{
    uint64_t limit = table->arena.header->limit_units;
    bool evicts = table->policy != TABLE_NO_EVICTION;
    for (unsigned tries = 0;; tries++) {
        uint64_t want = table_used_units(table) + units + TABLE_HEAP_FIRST;
        /* A new key may take a bucket that goes on from a full one, and its growth another. */
        if (want + (evicts ? 0 : 2 * BUCKET_UNITS) <= limit)
            return 0;
        /* A call evicts some, upkeep the rest. What is evicted in a transaction stays until its
         * end, so it may go further. */
        if (evicts && units + TABLE_HEAP_FIRST <= limit &&
            ((table->in_transaction && want <= limit + limit / 8) ||
             (tries >= EVICT_TRIES && want <= limit + limit / 16)))
            return 0;
        if (!evicts || units + TABLE_HEAP_FIRST > limit || table->in_transaction ||
            !table_evict_one(table))
            return dor_fail(
                DOR_E_NO_SPACE, "the table holds %" PRIu64 " bytes, its limit",
                limit * TABLE_UNIT_BYTES);
    }
}

bool
table_is_over_limit(const struct table *table)
{
    return table->policy != TABLE_NO_EVICTION &&
           table_used_units(table) + TABLE_HEAP_FIRST > table->arena.header->limit_units;
}
