/* SPDX-License-Identifier: Apache-2.0 */
/*
 * append.c - values that grow at their end. One that is appended to a second time gets slack, a
 * block behind its record that nobody else takes, and grows into it in place; with slack in
 * proportion to the value, many appends cost as much as their bytes.
 *
 *     | record: words, value, key | slack .......... |
 *     | record: words, value, appended bytes, key | slack |
 *
 * The key moves, over itself if little is appended. So what comes behind the old value is written
 * down first, in a block that the header names, and a process that dies in between is finished by
 * the next:
 *
 *     intent: u32 units, u32 tag fffd0000, u32 unit of the record, u32 its new first word,
 *             u32 offset of the tail in the record, u32 bytes of the tail, the tail
 *
 *     none --> the block is written --> header.append names it --> the bucket forgets the length
 *     --> the tail is copied, the first word is stored --> the bucket has the length
 *     --> header.append = 0 --> the block is freed
 *
 * Slack belongs to the block before it, whatever that is: it goes with it, and a sweep takes it.
 * In a transaction nothing grows in place, for it may be given up.
 */
#include <string.h>

#include "base/err.h"
#include "base/le.h"
#include "table/table_priv.h"

#define INTENT_WORDS 6
#define SLACK_BYTES  (1u << 20) /* as much as the value is long, above that: */
#define SLACK_PART   8          /* of it */
#define RECORD_FLAGS (TABLE_LENGTH_EXPIRES | TABLE_LENGTH_LIBRARY)

_Static_assert(
    (RECORD_FLAGS | TABLE_LENGTH_MASK) == UINT32_MAX, "a record's first word is these alone");

static uint32_t
slack_units(const struct table *table, uint32_t unit)
{
    uint32_t units = table_heap_block_units(&table->arena, unit);
    const struct table_block *block = table_arena_at(&table->arena, unit);
    return units != 0 && TABLE_TAG_KEY_BYTES(block->tag) == TABLE_KEY_SLACK ? units : 0;
}

void
table_write_slack(struct table *table, uint32_t unit, uint32_t units)
{
    if (units == 0)
        return;
    struct table_block *block = table_arena_at(&table->arena, unit);
    table_arena_touch(&table->arena, (uint64_t)unit * TABLE_UNIT_BYTES, sizeof *block);
    *block = (struct table_block){units, TABLE_KEY_SLACK << 16};
}

void
table_drop_slack(struct table *table, uint32_t unit)
{
    uint32_t units = slack_units(table, unit);
    if (units != 0)
        table_heap_free(&table->arena, unit, units);
}

/* Do what the words of INTENT say; they were checked. */
static void
carry_out(struct table *table, const uint32_t *intent)
{
    struct table_arena *arena = &table->arena;
    uint8_t *at = table_arena_at(arena, intent[2]);
    table_arena_touch(arena, (uint64_t)intent[2] * TABLE_UNIT_BYTES + intent[4], intent[5]);
    memcpy(at + intent[4], intent + INTENT_WORDS, intent[5]);
    table_arena_put(arena, (uint32_t *)(void *)at, intent[3]);
}

/* Append to the value of RECORD, in SLOT, where it is; false when it has no room there. */
static bool
grow(
    struct table *table, struct table_slot slot, const struct table_record *record,
    const void *bytes, uint32_t length)
{
    struct table_arena *arena = &table->arena;
    uint64_t tail_offset = (uint64_t)record->value_offset + record->value_bytes;
    uint64_t tail_bytes = (uint64_t)length + record->key_bytes;
    uint32_t units = table_heap_units(tail_offset + tail_bytes);
    uint32_t slack = slack_units(table, record->unit + record->units);
    uint32_t intent_unit;
    uint64_t intent_bytes = INTENT_WORDS * sizeof(uint32_t) + tail_bytes;
    if (units > record->units + slack ||
        table_heap_alloc(arena, intent_bytes, &intent_unit) != 0)
        return false;
    uint32_t *intent = table_arena_at(arena, intent_unit);
    table_arena_touch(arena, (uint64_t)intent_unit * TABLE_UNIT_BYTES, intent_bytes);
    uint32_t flags = base_le32_get(record->at) & RECORD_FLAGS;
    const uint32_t head[INTENT_WORDS] = {
        table_heap_units(intent_bytes),         TABLE_KEY_JOURNAL << 16, record->unit,
        (record->value_bytes + length) | flags, (uint32_t)tail_offset,   (uint32_t)tail_bytes,
    };
    memcpy(intent, head, sizeof head);
    uint8_t *tail = (uint8_t *)(intent + INTENT_WORDS);
    memcpy(tail, bytes, length);
    memcpy(tail + length, record->at + tail_offset, record->key_bytes);
    table_arena_put(arena, &arena->header->append, intent_unit);
    if (units > record->units)
        table_write_slack(table, record->unit + units, record->units + slack - units);
    table_slot_forget_length(table, slot);
    carry_out(table, intent);
    table_slot_put(table, slot, slot.bucket->ref[slot.index]);
    table_arena_put(arena, &arena->header->append, 0);
    table_heap_free(arena, intent_unit, head[0]);
    return true;
}

/* Whether the block at UNIT is an intent whose tail lies in the arena and beside the block. */
static bool
is_intent(const struct table *table, uint32_t unit)
{
    uint32_t units = table_heap_block_units(&table->arena, unit);
    const uint32_t *intent = table_arena_at(&table->arena, unit);
    struct table_record record;
    if (units < INTENT_WORDS / 2 || intent[1] != TABLE_KEY_JOURNAL << 16 ||
        !table_record(table, intent[2], &record) || intent[4] < record.value_offset)
        return false;
    uint64_t begin = (uint64_t)record.unit * TABLE_UNIT_BYTES + intent[4];
    uint64_t end = begin + intent[5];
    uint64_t block_begin = (uint64_t)unit * TABLE_UNIT_BYTES;
    uint64_t block_end = block_begin + (uint64_t)units * TABLE_UNIT_BYTES;
    return intent[5] <= block_end - block_begin - INTENT_WORDS * sizeof *intent &&
           end <= (uint64_t)table->arena.header->top * TABLE_UNIT_BYTES &&
           (end <= block_begin || begin >= block_end);
}

void
table_resume_append(struct table *table)
{
    uint32_t unit = table->arena.header->append;
    if (is_intent(table, unit))
        carry_out(table, table_arena_at(&table->arena, unit));
    table_arena_put(&table->arena, &table->arena.header->append, 0);
}

/* Slack for a value that is LENGTH long now. */
static uint32_t
slack_for(uint64_t length)
{
    uint64_t bytes = length;
    if (bytes > SLACK_BYTES)
        bytes = length / SLACK_PART > SLACK_BYTES ? length / SLACK_PART : SLACK_BYTES;
    return (uint32_t)(bytes / TABLE_UNIT_BYTES);
}

/* A new record with OLD's value and BYTES behind it. */
static int
copy(
    struct table *table, const struct table_key *key, const struct table_value *old,
    const void *bytes, uint32_t length)
{
    struct table_draft draft;
    uint64_t new_length = (uint64_t)old->length + length;
    int rc = table_pin(table, old->ref); /* it may be evicted to make room for itself */
    if (rc != 0)
        return rc;
    uint32_t slack = table->in_transaction ? 0 : slack_for(new_length);
    rc = table_make_draft(table, key, new_length, old->expiry_ms, slack, &draft);
    if (rc == 0) {
        dor_assert(draft.bytes != NULL);
        memcpy(draft.bytes, old->bytes, old->length);
        memcpy(draft.bytes + old->length, bytes, length);
        rc = table_place_draft(table, key, &draft);
    }
    table_unpin(table, old->ref);
    return rc;
}

int
table_append(
    struct table *table, const struct table_key *key, const void *bytes, uint32_t length,
    uint64_t *ret)
{
    struct table_value old;
    if (!table_find(table, key, true, &old)) {
        int rc = table_set(table, key, bytes, length, 0);
        if (rc == 0)
            *ret = length;
        return rc;
    }
    uint64_t new_length = (uint64_t)old.length + length;
    if (new_length > TABLE_VALUE_BYTES_MAX)
        return dor_fail(DOR_E_USAGE, "a value may have 512 MiB");
    struct table_slot slot = table_slot_of_ref(table, key->hash, old.ref);
    struct table_record record;
    int rc = 0;
    if (length != 0 &&
        (table->in_transaction || slot.bucket == NULL ||
         !table_record(table, old.ref, &record) || !grow(table, slot, &record, bytes, length)))
        rc = copy(table, key, &old, bytes, length);
    if (rc != 0)
        return rc;
    const struct table_value appended = {
        .bytes = bytes, .length = length, .expiry_ms = old.expiry_ms};
    if (length != 0 && table->changed != NULL)
        table->changed(table->context, TABLE_CHANGE_APPEND, key, &appended);
    *ret = new_length;
    return 0;
}
