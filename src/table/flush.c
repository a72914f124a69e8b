/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flush.c - emptying a table: all blocks are forgotten at once, but for libraries, pinned
 * records and drafts, which stay where they are. Memory is given back later, a piece at a time.
 *
 *     flush block: u32 units, u32 tag fffd0000, u32 count, u32 0, then of each library u32
 *     hash, u32
 *                  place
 *
 *     none --> the block is written --> header.flush names it --> buckets, counts, heap anew, the
 *     libraries put back --> header.flush = 0 --> the block is freed
 *
 * Without libraries there is no block and the header has TABLE_FLUSH_ALL. Invariant: from the
 * moment the header has either, all that the flush needs is in the block and in the records
 * that it names, and nothing of that changes until the header is 0 again; so a process that
 * dies in between is finished by the next, from the begin.
 */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "table/table_priv.h"

#define HEAD_WORDS  4
#define ENTRY_WORDS 2

/* What stays: room for it was made before. */
struct kept {
    struct table_extent *extents;
    size_t count;
};

static void
keep(struct kept *kept, uint32_t unit, uint32_t units)
{
    if (units != 0)
        kept->extents[kept->count++] = (struct table_extent){unit, units};
}

static int
compare_extents(const void *a, const void *b)
{
    const struct table_extent *left = a, *right = b;
    return (left->unit > right->unit) - (left->unit < right->unit);
}

/* One free block for all that lies between what is KEPT; the top is behind the last of that. */
static void
forget_blocks(struct table *table, struct kept *kept)
{
    struct table_header *header = table->arena.header;
    qsort(kept->extents, kept->count, sizeof *kept->extents, compare_extents);
    table_heap_reset(&table->arena);
    uint32_t from = TABLE_HEAP_FIRST;
    for (size_t i = 0; i < kept->count; i++) {
        const struct table_extent *extent = &kept->extents[i];
        if (extent->unit < from)
            continue; /* a library that is pinned too */
        header->top = extent->unit + extent->units;
        table_heap_add_free(&table->arena, from, extent->unit);
        from = header->top;
        header->used_units += extent->units;
    }
}

/* Put ENTRIES into a block that the header will name; *RET is its unit. */
static int
write_block(struct table *table, const struct base_buf *entries, uint32_t *ret)
{
    uint64_t size_bytes = HEAD_WORDS * sizeof(uint32_t) + entries->size_bytes;
    int rc = table_heap_alloc(&table->arena, size_bytes, ret);
    if (rc != 0)
        return rc;
    uint32_t *words = table_arena_at(&table->arena, *ret);
    table_arena_touch(&table->arena, (uint64_t)*ret * TABLE_UNIT_BYTES, size_bytes);
    words[0] = table_heap_units(size_bytes);
    words[1] = TABLE_KEY_JOURNAL << 16;
    words[2] = (uint32_t)(entries->size_bytes / (ENTRY_WORDS * sizeof(uint32_t)));
    words[3] = 0;
    memcpy(words + HEAD_WORDS, entries->data, entries->size_bytes);
    return 0;
}

/* The entries in the block that the header names, and how many; the units of it, 0 = no block. */
static uint32_t
read_block(const struct table *table, const uint32_t **ret, uint32_t *ret_count)
{
    uint32_t unit = table->arena.header->flush;
    uint32_t units = table_heap_block_units(&table->arena, unit);
    *ret_count = 0;
    if (unit == TABLE_FLUSH_ALL || units <= HEAD_WORDS / 2)
        return 0;
    const uint32_t *words = table_arena_at(&table->arena, unit);
    *ret = words + HEAD_WORDS;
    *ret_count = (uint32_t)base_min_u64(words[2], (units - HEAD_WORDS / 2));
    return units;
}

static bool
is_library(
    const struct table *table, const uint32_t entry[ENTRY_WORDS], struct table_record *ret)
{
    if (!table_record(table, entry[1], ret) || !ret->is_library || ret->is_number)
        return false;
    char scratch[16];
    return table_record_key(table, ret, scratch).hash == entry[0];
}

/*
 * The flush that the header tells of, from its begin. KEPT has room for its libraries and a
 * block.
 */
static void
flush(struct table *table, struct kept *kept)
{
    struct table_header *header = table->arena.header;
    const uint32_t *entries = NULL;
    uint32_t count, unit = header->flush;
    uint32_t units = read_block(table, &entries, &count);
    keep(kept, unit, units);
    struct table_record record;
    for (uint32_t i = 0; i < count; i++)
        if (is_library(table, entries + (size_t)i * ENTRY_WORDS, &record))
            keep(kept, record.unit, record.units);
    table_buckets_reset(table);
    header->key_count = header->library_count = header->expiring_count = 0;
    forget_blocks(table, kept);
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t *entry = entries + (size_t)i * ENTRY_WORDS;
        if (!is_library(table, entry, &record) ||
            table_slot_insert(table, entry[0], entry[1]) != 0) {
            table->damaged++;
            continue;
        }
        table_count(table, entry[1], 1);
        table_buckets_grow(table);
    }
    table_arena_put(&table->arena, &header->flush, 0);
    if (units != 0)
        table_heap_free(&table->arena, unit, units);
    table->sweeping = true;
}

int
table_resume_flush(struct table *table)
{
    struct table_header *header = table->arena.header;
    /* The top may have been taken back already; the file has not. */
    header->top =
        (uint32_t)base_min_u64(table->arena.file_bytes / TABLE_UNIT_BYTES, REF_UNIT_MASK);
    const uint32_t *entries;
    uint32_t count;
    read_block(table, &entries, &count);
    struct kept kept = {.extents = base_array((size_t)count + 1, sizeof *kept.extents)};
    if (kept.extents == NULL)
        return DOR_E_NO_MEMORY;
    flush(table, &kept);
    base_free(kept.extents);
    return 0;
}

int
table_flush(struct table *table, bool libraries)
{
    if (table->in_transaction)
        return dor_fail(DOR_E_BUSY, "a table is not emptied inside a transaction");
    AUTO_BUF struct base_buf entries = {0};
    uint32_t block = TABLE_FLUSH_ALL;
    int rc = libraries ? 0 : table_gather_libraries(table, &entries);
    if (rc != 0)
        return rc;
    size_t count = entries.size_bytes / (ENTRY_WORDS * sizeof(uint32_t));
    AUTO_FREE struct table_extent *extents =
        base_array(table->pin_count + table->draft_count + count + 1, sizeof *extents);
    if (extents == NULL)
        return DOR_E_NO_MEMORY;
    if (count > 0 && (rc = write_block(table, &entries, &block)) != 0)
        return rc;
    struct kept kept = {.extents = extents};
    for (size_t i = 0; i < table->pin_count; i++) {
        struct table_pin *pin = &table->pins[i];
        const struct table_block *record = table_arena_at(&table->arena, pin->unit);
        bool stays = pin->units == 0 && (record->length & TABLE_LENGTH_LIBRARY) != 0;
        uint32_t units =
            pin->units != 0 ? pin->units : table_heap_block_units(&table->arena, pin->unit);
        keep(&kept, pin->unit, units);
        pin->units = stays && !libraries ? 0 : units;
    }
    for (size_t i = 0; i < table->draft_count; i++)
        keep(&kept, table->drafts[i].unit, table->drafts[i].units);
    table_arena_touch(&table->arena, 0, DOR_PAGE_BYTES);
    table_arena_put(&table->arena, &table->arena.header->flush, block);
    flush(table, &kept);
    if (table->changed != NULL)
        table->changed(table->context, TABLE_CHANGE_FLUSH, NULL, NULL);
    return 0;
}
