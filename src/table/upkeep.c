/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upkeep.c - walks over a whole table: scans, emptying, and the small steps that keep it in order.
 *
 * A flush forgets all blocks at once and keeps the libraries: they are copied to one block at the
 * top, which the header names until all are in place again, so a process that dies in between is
 * finished by the next. Memory is given back later, a piece at a time.
 */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/le.h"
#include "base/mem.h"
#include "table/table_priv.h"

#define CHAIN_LOCAL      64
#define CHAIN_MAX        (1u << 20)
#define SWEEP_PORTION    8 /* a sweep begins when this part of all blocks was freed: an eighth */
#define SWEEP_LEAST      1024
#define FLUSH_ITEM_BYTES 8 /* u32 length of the name, u32 length of the source */

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
    for (uint32_t n = 0; bucket != NULL && n < CHAIN_MAX; n++) {
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
scan_bucket(
    struct table *table, uint32_t index, bool libraries, table_scan_fn *fn, void *context)
{
    uint32_t local[CHAIN_LOCAL];
    uint32_t *refs;
    AUTO_FREE uint32_t *free_refs = NULL;
    uint32_t count = gather_chain(table, index, local, &refs, &free_refs);
    for (uint32_t i = 0; i < count; i++) {
        struct table_record record;
        if (((refs[i] & REF_LIBRARY) != 0) != libraries ||
            !table_record(table, refs[i], &record) || table_record_is_dead(table, &record))
            continue;
        char scratch[16];
        struct table_key key = table_record_key(table, &record, scratch);
        struct table_value value = table_record_value(&record, refs[i]);
        if (!fn(context, &key, &value))
            return false;
    }
    return true;
}

uint64_t
table_scan(
    struct table *table, uint64_t cursor, uint32_t buckets, bool libraries, table_scan_fn *fn,
    void *context)
{
    for (uint32_t n = 0; n < buckets; n++) {
        if (cursor >= table->arena.header->bucket_count)
            return 0;
        if (!scan_bucket(table, (uint32_t)cursor++, libraries, fn, context))
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

/* ---- emptying ---- */

static bool
copy_library(void *context, const struct table_key *key, const struct table_value *value)
{
    struct base_buf *buf = context;
    uint8_t lengths[FLUSH_ITEM_BYTES];
    base_le32_put(lengths, key->length);
    base_le32_put(lengths + 4, value->length);
    return base_buf_append(buf, lengths, sizeof lengths) == 0 &&
           base_buf_append(buf, key->bytes, key->length) == 0 &&
           base_buf_append(buf, value->bytes, value->length) == 0;
}

/* Put the libraries into a block at the top; *RET is 0 when there are none. */
static int
save_libraries(struct table *table, uint32_t *ret)
{
    *ret = 0;
    const struct table_header *header = table->arena.header;
    AUTO_BUF struct base_buf buf = {0};
    const uint8_t head[sizeof(struct table_block) + 8] = {0};
    int rc = base_buf_append(&buf, head, sizeof head);
    uint64_t cursor = 0;
    do
        cursor = table_scan(table, cursor, header->bucket_count, true, copy_library, &buf);
    while (cursor != 0);
    if (rc != 0 || buf.size_bytes == sizeof head)
        return rc;
    uint32_t units = (uint32_t)DIV_ROUND_UP(buf.size_bytes, TABLE_UNIT_BYTES);
    base_le32_put(buf.data, units);
    base_le32_put(buf.data + 4, TABLE_KEY_JOURNAL << 16);
    base_le64_put(buf.data + 8, buf.size_bytes);
    rc = table_heap_alloc_top(&table->arena, units, ret);
    if (rc == 0)
        memcpy(table_arena_at(&table->arena, *ret), buf.data, buf.size_bytes);
    return rc;
}

static int
compare_extents(const void *a, const void *b)
{
    const struct table_extent *left = a, *right = b;
    return left->unit < right->unit ? -1 : left->unit > right->unit;
}

/* One free block for all but the COUNT extents in KEPT; the top is behind the last of them. */
static void
forget_blocks(struct table *table, struct table_extent *kept, size_t count)
{
    struct table_header *header = table->arena.header;
    qsort(kept, count, sizeof *kept, compare_extents);
    table_heap_reset(&table->arena);
    if (count > 0)
        header->top = kept[count - 1].unit + kept[count - 1].units;
    uint32_t from = TABLE_HEAP_FIRST;
    for (size_t i = 0; i < count; i++) {
        table_heap_add_free(&table->arena, from, kept[i].unit);
        from = kept[i].unit + kept[i].units;
        header->used_units += kept[i].units;
    }
}

/* Put the libraries back that the header's block holds. */
static int
restore_libraries(struct table *table)
{
    struct table_header *header = table->arena.header;
    uint32_t unit = header->flush;
    uint32_t units = unit != 0 ? table_heap_block_units(&table->arena, unit) : 0;
    const uint8_t *block = units >= 2 ? table_arena_at(&table->arena, unit) : NULL;
    uint64_t bytes = block != NULL ? base_le64_get(block + 8) : 0;
    bytes = base_min_u64(bytes, (uint64_t)units * TABLE_UNIT_BYTES);
    int rc = 0;
    for (uint64_t at = 16; rc == 0 && at + FLUSH_ITEM_BYTES <= bytes;) {
        uint64_t name_bytes = base_le32_get(block + at);
        uint64_t source_bytes = base_le32_get(block + at + 4);
        at += FLUSH_ITEM_BYTES;
        struct table_key key;
        if (name_bytes + source_bytes > bytes - at ||
            !table_library_key(table, block + at, name_bytes, &key))
            break;
        rc = table_set(table, &key, block + at + name_bytes, source_bytes, 0);
        at += name_bytes + source_bytes;
    }
    if (rc != 0)
        return rc;
    if (units == 0)
        table->damaged++;
    table_arena_put(&table->arena, &header->flush, 0);
    if (units != 0)
        table_heap_free(&table->arena, unit, units);
    return 0;
}

int
table_resume_flush(struct table *table)
{
    struct table_header *header = table->arena.header;
    /* The top may have been taken back already; the file has not. */
    header->top =
        (uint32_t)base_min_u64(table->arena.file_bytes / TABLE_UNIT_BYTES, REF_UNIT_MASK);
    struct table_extent kept = {
        header->flush, table_heap_block_units(&table->arena, header->flush)};
    table_buckets_reset(table);
    header->key_count = header->library_count = header->expiring_count = 0;
    forget_blocks(table, &kept, kept.units != 0);
    return restore_libraries(table);
}

void
table_flush(struct table *table, bool libraries)
{
    struct table_header *header = table->arena.header;
    AUTO_FREE struct table_extent *kept = base_array(table->pin_count + 1, sizeof *kept);
    uint32_t saved = 0;
    if (kept == NULL || (!libraries && save_libraries(table, &saved) != 0)) {
        table->damaged++;
        return;
    }
    size_t count = 0;
    for (size_t i = 0; i < table->pin_count; i++) {
        struct table_pin *pin = &table->pins[i];
        if (pin->units == 0)
            pin->units = table_heap_block_units(&table->arena, pin->unit);
        if (pin->units != 0)
            kept[count++] = (struct table_extent){pin->unit, pin->units};
    }
    if (saved != 0)
        kept[count++] =
            (struct table_extent){saved, table_heap_block_units(&table->arena, saved)};
    table_arena_touch(&table->arena, 0, DOR_PAGE_BYTES);
    table_arena_put(&table->arena, &header->flush, saved);
    table_buckets_reset(table);
    header->key_count = header->library_count = header->expiring_count = 0;
    forget_blocks(table, kept, count);
    /* Libraries were there before and fit again. */
    if (saved != 0 && restore_libraries(table) != 0)
        table->damaged++;
    if (table->changed != NULL)
        table->changed(table->context, TABLE_CHANGE_FLUSH, NULL, NULL);
    table->sweeping = true;
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
    for (uint32_t n = 0; bucket != NULL && n < CHAIN_MAX; n++) {
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
    uint32_t blocks = header->key_count + header->library_count;
    if (!table->sweeping && table->freed_count > blocks / SWEEP_PORTION + SWEEP_LEAST) {
        table->sweeping = true;
        table->freed_count = 0;
    }
    if (table->sweeping)
        table->sweeping = !table_heap_sweep(&table->arena, steps);
    return more || table->sweeping;
}
