/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recover.c - a table out of an arena whose process died at any moment, or that was written to
 * by somebody who should not have.
 *
 *     flush and append finished --> chains cut where they are wrong --> transaction undone -->
 *     each slot looked at --> lists, counts and top anew --> chains packed --> late entries in -->
 *     no journal
 *
 * A record counts if it lies inside the arena, its words make sense, and its key has the hash of
 * its slot, in the right bucket. A map has a bit for each unit that something was found in: what
 * comes second to a unit is left out. All that nothing was found in is free.
 *
 * An undo may find no slot for what was removed, and there is no memory for buckets yet: such an
 * entry is late. Then the journal stays until it is in.
 *
 * Invariant: buckets and journal lose only what is wrong in them or there twice, so a process that
 * dies here too leaves as much to find. The top is not believed: all of the file is looked at.
 */
#include <inttypes.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "table/table_priv.h"

#define BUCKET_UNITS   ((uint32_t)(sizeof(struct table_bucket) / TABLE_UNIT_BYTES))
#define OVERFLOW_UNITS ((uint32_t)(TABLE_OVERFLOW_BYTES / TABLE_UNIT_BYTES))

struct entry {
    uint32_t hash, ref;
};

struct recovery {
    struct table *table;
    uint64_t *map; /* a bit a unit */
    uint32_t top;  /* of the map: as much as the file has */
    struct entry *late;
    size_t late_count, late_cap;
};

/* ---- the map ---- */

/* The bits of a word of the map that [UNIT, END) covers, of which AT is the first in it. */
static uint64_t
bits_of(uint32_t at, uint32_t end)
{
    uint32_t from = at % 64, count = end - at;
    uint64_t bits = count >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << count) - 1;
    return bits << from;
}

/* Take UNITS at UNIT, which lie in the map; false when some of them are taken. */
static bool
claim(struct recovery *recovery, uint32_t unit, uint32_t units)
{
    uint32_t end = unit + units;
    for (uint32_t at = unit; at < end; at = (at | 63) + 1)
        if ((recovery->map[at / 64] & bits_of(at, end)) != 0)
            return false;
    for (uint32_t at = unit; at < end; at = (at | 63) + 1)
        recovery->map[at / 64] |= bits_of(at, end);
    return true;
}

/* The first unit from AT on whose bit is TAKEN, or the end of the map. */
static uint32_t
next_unit(const struct recovery *recovery, uint32_t at, bool taken)
{
    while (at < recovery->top) {
        uint64_t word = recovery->map[at / 64];
        uint64_t bits = (taken ? word : ~word) >> (at % 64);
        if (bits != 0)
            return (uint32_t)base_min_u64(at + (unsigned)__builtin_ctzll(bits), recovery->top);
        at = (at | 63) + 1;
    }
    return recovery->top;
}

/* ---- buckets ---- */

/* The block of the segment whose first bucket is FIRST; what aligns it is in front. */
static int
claim_segment(struct recovery *recovery, uint32_t first_index)
{
    const struct table *table = recovery->table;
    const struct table_bucket *bucket = table_bucket(table, first_index);
    if (bucket == NULL)
        return dor_fail(
            DOR_E_CORRUPT, "the table is damaged: bucket %u is outside", first_index);
    uint32_t first =
        (uint32_t)(((const uint8_t *)bucket - table->arena.base) / TABLE_UNIT_BYTES);
    uint32_t units = table_segment_units(first_index);
    for (uint32_t unit = first - 1; unit >= first - 2 * BUCKET_UNITS; unit--) {
        const struct table_block *block = table_arena_at(&table->arena, unit);
        if (block->tag == TABLE_KEY_BUCKETS << 16 && block->length == units &&
            table_heap_block_units(&table->arena, unit) == units &&
            claim(recovery, unit, units))
            return 0;
    }
    return dor_fail(
        DOR_E_CORRUPT, "the table is damaged: no block around bucket %u", first_index);
}

static int
claim_segments(struct recovery *recovery)
{
    struct table_header *header = recovery->table->arena.header;
    int rc = 0;
    unsigned segment = 1;
    uint32_t first = TABLE_FIRST_BUCKETS;
    for (; rc == 0 && first < header->bucket_count; first *= 2, segment++)
        rc = claim_segment(recovery, first);
    /* A process may die between making a segment and the first bucket in it. */
    for (; rc == 0 && segment < TABLE_SEGMENTS; segment++)
        header->segments[segment] = 0;
    return rc;
}

/* Take the further buckets of the chain INDEX; it ends before one that is taken or outside. */
static void
claim_chain(struct recovery *recovery, uint32_t index)
{
    struct table *table = recovery->table;
    struct table_bucket *bucket = table_bucket(table, index);
    while (bucket != NULL && bucket->next != 0) {
        struct table_bucket *next = table_bucket_next(table, bucket);
        if (next == NULL || !claim(recovery, bucket->next - 1, OVERFLOW_UNITS)) {
            table_arena_put(&table->arena, &bucket->next, 0);
            table->damaged++;
            next = NULL;
        }
        bucket = next;
    }
}

/* ---- the journal ---- */

static struct entry *
find_late(const struct recovery *recovery, uint32_t hash, uint32_t ref)
{
    for (size_t i = 0; i < recovery->late_count; i++)
        if (recovery->late[i].hash == hash && recovery->late[i].ref == ref)
            return &recovery->late[i];
    return NULL;
}

static int
add_late(struct recovery *recovery, uint32_t hash, uint32_t ref)
{
    if (recovery->late_count == recovery->late_cap) {
        size_t cap = recovery->late_cap == 0 ? 64 : 2 * recovery->late_cap;
        struct entry *grown = base_realloc_array(recovery->late, cap, sizeof *grown);
        if (grown == NULL)
            return DOR_E_NO_MEMORY;
        recovery->late = grown;
        recovery->late_cap = cap;
    }
    recovery->late[recovery->late_count++] = (struct entry){hash, ref};
    return 0;
}

/*
 * Undo one entry in the slots alone. An entry may be in two slots, because the process died when
 * it moved one, and this may have been done before, by a process that died at it.
 */
static int
undo_entry(struct table *table, const uint32_t *entry, void *context)
{
    struct recovery *recovery = context;
    uint32_t hash = entry[0], old_ref = entry[1], new_ref = entry[2];
    if (old_ref == new_ref)
        return 0;
    if (new_ref != 0) {
        struct table_slot slot;
        while ((slot = table_slot_of_ref(table, hash, new_ref)).bucket != NULL)
            table_slot_put(table, slot, old_ref);
        struct entry *late = find_late(recovery, hash, new_ref);
        if (late != NULL)
            late->ref = old_ref;
        return 0;
    }
    if (table_slot_of_ref(table, hash, old_ref).bucket != NULL ||
        find_late(recovery, hash, old_ref) != NULL || table_slot_fill(table, hash, old_ref))
        return 0;
    return add_late(recovery, hash, old_ref);
}

static bool
claim_block(void *context, uint32_t unit, uint32_t units)
{
    return claim(context, unit, units);
}

/* ---- records ---- */

/* Whether the record at REF is what a slot with HASH says. */
static bool
is_record(const struct table *table, uint32_t hash, uint32_t ref, struct table_record *ret)
{
    if (!table_record(table, ref, ret))
        return false;
    char scratch[16];
    struct table_key key = table_record_key(table, ret, scratch);
    return key.hash == hash && ret->is_number == ((ref & REF_NUMBER) != 0) &&
           ret->is_library == ((ref & REF_LIBRARY) != 0) &&
           ret->expires == ((ref & REF_EXPIRES) != 0);
}

/* Take the record in a slot of its own chain, or empty the slot. */
static void
claim_slot(struct recovery *recovery, struct table_slot slot)
{
    struct table *table = recovery->table;
    uint32_t hash = slot.bucket->hash[slot.index];
    uint32_t ref = slot.bucket->ref[slot.index];
    struct table_record record;
    if (is_record(table, hash, ref, &record) && claim(recovery, record.unit, record.units)) {
        table_slot_put(table, slot, ref); /* with the length that the record has */
        table_count(table, ref, 1);
        return;
    }
    struct table_slot first = table_slot_of_ref(table, hash, ref);
    if (first.bucket == slot.bucket && first.index == slot.index)
        table->damaged++; /* otherwise it is there twice, and this is the second */
    table_arena_put(&table->arena, &slot.bucket->ref[slot.index], 0);
}

static void
claim_records(struct recovery *recovery, uint32_t index)
{
    struct table *table = recovery->table;
    struct table_bucket *bucket = table_bucket(table, index);
    for (uint32_t n = 0; bucket != NULL && n < TABLE_CHAIN_MAX; n++) {
        /* What belongs elsewhere is there too: a split was under way. It goes when this chain is
         * packed. */
        for (unsigned i = 0; i < TABLE_BUCKET_SLOTS; i++)
            if (bucket->ref[i] != 0 && table_bucket_index(table, bucket->hash[i]) == index)
                claim_slot(recovery, (struct table_slot){bucket, i});
        bucket = table_bucket_next(table, bucket);
    }
}

/* Late entries that are good are taken, the others get no place. */
static void
claim_late(struct recovery *recovery)
{
    struct table *table = recovery->table;
    for (size_t i = 0; i < recovery->late_count; i++) {
        struct entry *late = &recovery->late[i];
        struct table_record record;
        if (late->ref == 0 || table_slot_of_ref(table, late->hash, late->ref).bucket != NULL) {
            late->ref = 0;
        } else if (
            is_record(table, late->hash, late->ref, &record) &&
            claim(recovery, record.unit, record.units)) {
            table_count(table, late->ref, 1);
        } else {
            late->ref = 0;
            table->damaged++;
        }
    }
}

static void
insert_late(struct recovery *recovery)
{
    struct table *table = recovery->table;
    for (size_t i = 0; i < recovery->late_count; i++) {
        const struct entry *late = &recovery->late[i];
        if (late->ref == 0 || table_slot_insert(table, late->hash, late->ref) == 0)
            continue;
        table_count(table, late->ref, -1);
        table->damaged++;
    }
}

/* ---- all of it ---- */

/* What the map does not have is free. */
static void
rebuild_heap(struct recovery *recovery)
{
    struct table_arena *arena = &recovery->table->arena;
    table_heap_reset(arena);
    arena->header->top = recovery->top;
    uint32_t used = 0, top = TABLE_HEAP_FIRST;
    for (;;) {
        uint32_t from = next_unit(recovery, top, true);
        if (from == recovery->top)
            break;
        table_heap_add_free(arena, top, from);
        top = next_unit(recovery, from, false);
        used += top - from;
    }
    arena->header->used_units = used;
    table_heap_lower_top(arena, top);
}

static int
walk(struct recovery *recovery)
{
    struct table *table = recovery->table;
    struct table_header *header = table->arena.header;
    uint32_t count = header->bucket_count;
    int rc = claim_segments(recovery);
    if (rc != 0)
        return rc;
    for (uint32_t index = 0; index < count; index++)
        claim_chain(recovery, index);
    bool has_journal = header->journal != 0;
    if (has_journal && (rc = table_journal_walk(table, undo_entry, recovery)) != 0)
        return rc;
    if (recovery->late_count == 0 || !table_journal_blocks(table, claim_block, recovery)) {
        table_arena_put(&table->arena, &header->journal, 0);
        table_arena_put(&table->arena, &header->journal_count, 0);
    }
    header->key_count = header->library_count = header->expiring_count = 0;
    for (uint32_t index = 0; index < count; index++)
        claim_records(recovery, index);
    claim_late(recovery);
    rebuild_heap(recovery);
    for (uint32_t index = 0; index < count; index++)
        table_bucket_pack(table, index);
    insert_late(recovery);
    table_journal_end(table);
    return 0;
}

int
table_recover(struct table *table)
{
    struct table_header *header = table->arena.header;
    int rc = header->flush != 0 ? table_resume_flush(table) : 0;
    if (rc != 0)
        return rc;
    header->top =
        (uint32_t)base_min_u64(table->arena.file_bytes / TABLE_UNIT_BYTES, REF_UNIT_MASK);
    if (header->append != 0)
        table_resume_append(table);
    /* Only the count is believed; it may be one ahead or behind of the mask. */
    uint32_t count = header->bucket_count;
    if (count < TABLE_FIRST_BUCKETS || count > REF_UNIT_MASK)
        return dor_fail(DOR_E_CORRUPT, "the table is damaged: it has %u buckets", count);
    header->bucket_mask = table_mask_of(count);
    header->segments[0] = offsetof(struct table_header, buckets) / sizeof(uint32_t);
    struct recovery recovery = {
        .table = table,
        .top = header->top,
        .map = base_zalloc((size_t)header->top / 8 + sizeof(uint64_t)),
    };
    if (recovery.map == NULL)
        return DOR_E_NO_MEMORY;
    rc = walk(&recovery);
    base_free(recovery.map);
    base_free(recovery.late);
    if (rc == 0 && table->damaged > 0)
        dor_log(WARN, "table", "damage", "left_out=%" PRIu64, table->damaged);
    return rc;
}
