/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_priv.h - what the files of a table share: the struct, records, and the calls between
 * buckets, records, transactions and recovery.
 *
 * Ownership:  all of it is the table's.
 * Threads:    those of the table.
 * Errors:     as in table.h.
 */
#ifndef DOR_TABLE_TABLE_PRIV_H
#define DOR_TABLE_TABLE_PRIV_H

#include "base/mem.h"
#include "table/heap.h"
#include "table/table.h"

/* Flags in the place of a record; the rest is its unit. */
#define REF_UNIT_MASK 0x1fffffffu
#define REF_EXPIRES   0x20000000u
#define REF_LIBRARY   0x40000000u
#define REF_NUMBER    0x80000000u

struct table_pin {
    uint32_t unit;
    uint32_t pins;
    uint32_t units; /* to be freed with the last pin; 0 = the record lives */
};

struct table_extent {
    uint32_t unit, units;
};

struct table {
    struct table_arena arena;
    enum table_policy policy;
    table_changed_fn *changed;
    void *context;
    int64_t now_ms;
    uint64_t random_state;
    uint64_t expired, evicted, splits, damaged;
    uint32_t expire_bucket; /* where the search for expired keys goes on */
    uint32_t swept_free;    /* units that were free at most since the last sweep ended */
    uint32_t left_units;    /* free ones that the sweep under way had to leave */
    bool sweeping;
    bool in_transaction;
    struct table_extent *deferred; /* freed in the transaction */
    size_t deferred_count, deferred_cap;
    struct table_pin *pins;
    size_t pin_count, pin_cap;
    struct table_extent *drafts; /* given out by table_draft() */
    size_t draft_count, draft_cap;
    uint32_t *hints; /* hashes of libraries; see libraries.c */
    size_t hint_count, hint_cap;
};

/*
 * Buckets of a chain that are looked at. A chain grows that long only when keys are made to
 * collide.
 */
#define TABLE_CHAIN_MAX 4096u

/* A bucket that continues another, with the words of its block in front. */
#define TABLE_OVERFLOW_BYTES (sizeof(struct table_block) + sizeof(struct table_bucket))

/* A record as its two words describe it, checked to be inside the arena. */
struct table_record {
    uint32_t unit, units;
    uint32_t value_bytes, key_bytes;
    uint32_t value_offset; /* from the start of the record */
    bool expires, is_number, is_library;
    uint8_t *at;
};

/* The present as records have it that are used now, in units of 4096 ms. */
static inline uint16_t
table_use_now(const struct table *table)
{
    return (uint16_t)((uint64_t)table->now_ms >> 12);
}

/* False when what REF leads to is no record. */
bool table_record(const struct table *table, uint32_t ref, struct table_record *ret);
struct table_key table_record_key(
    const struct table *table, const struct table_record *record, char scratch[16]);
struct table_value table_record_value(const struct table_record *record, uint32_t ref);
bool table_record_is_dead(const struct table *table, const struct table_record *record);

struct table_slot {
    struct table_bucket *bucket; /* NULL = none */
    unsigned index;
};

/* ---- buckets.c ---- */

/*
 * The bucket numbered INDEX, below the header's bucket_count or just that; NULL if it lies
 * outside.
 */
struct table_bucket *table_bucket(const struct table *table, uint32_t index);
uint32_t table_bucket_index(const struct table *table, uint32_t hash);
struct table_bucket *
table_bucket_next(const struct table *table, const struct table_bucket *bucket);

struct table_slot table_slot_of_key(const struct table *table, const struct table_key *key);
struct table_slot table_slot_of_ref(const struct table *table, uint32_t hash, uint32_t ref);
DOR_MUST_CHECK int table_slot_insert(struct table *table, uint32_t hash, uint32_t ref);

/* Let SLOT, which is not empty, have REF. */
void table_slot_put(struct table *table, struct table_slot slot, uint32_t ref);

/* Before a value gets another length where it is; table_slot_put() after it. */
void table_slot_forget_length(struct table *table, struct table_slot slot);
void table_slot_remove(struct table *table, uint32_t hash, struct table_slot slot);

/* Put HASH and REF into an empty slot of its chain; false when there is none. */
bool table_slot_fill(struct table *table, uint32_t hash, uint32_t ref);

/* Take what does not belong to bucket INDEX out of its chain, and close the gaps. */
void table_bucket_pack(struct table *table, uint32_t index);

/* One bucket more if there are too many keys for them; without memory nothing happens. */
void table_buckets_grow(struct table *table);

/* The mask that goes with COUNT buckets. */
static inline uint32_t
table_mask_of(uint32_t count)
{
    return (2u << (31 - (unsigned)__builtin_clz(count))) - 1;
}

/* Buckets that there is memory for, beyond those that are in use. */
uint32_t table_buckets_ahead(const struct table *table);

/* Units of the block of the segment that begins with bucket INDEX. */
uint32_t table_segment_units(uint32_t index);

/* Empty all buckets, and have the first ones alone. */
void table_buckets_reset(struct table *table);

/* ---- table.c ---- */

/* Units below the top that are in no block in use. */
uint32_t table_free_units(const struct table *table);

/* Whether the record at UNIT is pinned or a draft, and must stay where it is. */
bool table_is_held(const struct table *table, uint32_t unit);

/* Count the record REF, or discount it with SIGN -1. */
void table_count(struct table *table, uint32_t ref, int sign);
void table_free_block(struct table *table, uint32_t unit, uint32_t units);

/* The record in SLOT goes, because of its time or to make room. */
bool table_drop_slot(struct table *table, struct table_slot slot);

/* ---- evict.c ---- */

/* Blocks in use; the buckets that are there but not used yet are taken off. */
uint64_t table_used_units(const struct table *table);

/* Room for UNITS more, by eviction if that is the policy. */
DOR_MUST_CHECK int table_make_room(struct table *table, uint32_t units);

bool table_is_over_limit(const struct table *table); /* and may evict */
bool table_evict_one(struct table *table);           /* false when there is no key */

/* A slot with a key, by the random number RANDOM; none when there is no key. */
struct table_slot table_random_slot(const struct table *table, uint64_t random);

/*
 * table_draft() that the list of drafts does not have, with up to SLACK units of slack; and let it
 * be the record of KEY, told to nobody.
 */
DOR_MUST_CHECK int table_make_draft(
    struct table *table, const struct table_key *key, size_t length, int64_t expiry_ms,
    uint32_t slack, struct table_draft *ret);
DOR_MUST_CHECK int
table_place_draft(struct table *table, const struct table_key *key, struct table_draft *draft);

/* ---- append.c ---- */

/* Make [UNIT, UNIT + UNITS) slack; and free what is slack at UNIT, if any. */
void table_write_slack(struct table *table, uint32_t unit, uint32_t units);
void table_drop_slack(struct table *table, uint32_t unit);

/* Finish the append that a process began and did not end. */
void table_resume_append(struct table *table);

/* ---- libraries.c ---- */

struct table_library_entry {
    uint32_t hash, ref;
};

/* A library with HASH is there: it will be found without looking at all buckets. */
void table_note_library(struct table *table, uint32_t hash);

/* All libraries as entries, at the end of RET, which is empty. */
DOR_MUST_CHECK int table_gather_libraries(struct table *table, struct base_buf *ret);

/* ---- transaction.c ---- */

/* Write down that OLD gives way to NEW under HASH (0 = none) before it does. */
DOR_MUST_CHECK int
table_journal_add(struct table *table, uint32_t hash, uint32_t old_ref, uint32_t new_ref);
DOR_MUST_CHECK int table_defer_free(struct table *table, uint32_t unit, uint32_t units);

/* FN for each entry of the journal, {hash, old place, new place}, the last one first. */
typedef int table_entry_fn(struct table *table, const uint32_t *entry, void *context);
DOR_MUST_CHECK int table_journal_walk(struct table *table, table_entry_fn *fn, void *context);

/* FN for each block of the journal until it returns false; false then and if one is damaged. */
bool table_journal_blocks(
    const struct table *table, bool (*fn)(void *context, uint32_t unit, uint32_t units),
    void *context);

/* Forget the journal and free its blocks. */
void table_journal_end(struct table *table);

/* ---- sweep.c ---- */

/* Go on with the sweep of the heap for about STEPS blocks; true when it came to the top. */
bool table_sweep(struct table *table, uint32_t steps);

/* ---- recover.c ---- */
DOR_MUST_CHECK int table_recover(struct table *table);

/* ---- flush.c ---- */

/* Finish the flush that a process began and did not end, if any. */
DOR_MUST_CHECK int table_resume_flush(struct table *table);

#endif
