/* SPDX-License-Identifier: Apache-2.0 */
/*
 * heap.c - segregated lists of free blocks with two levels of sizes (as in TLSF, Masmano et al.,
 * ECRTS 2004), without tags at the ends of blocks: neighbours are joined by a sweep.
 *
 *     units 1 ... 32     a class each; one unit is in no list, the sweep joins it
 *     more               sixteen classes for each doubling: at most a sixteenth is lost
 *
 * A block is taken from the first class that surely fits, what is left over becomes free again;
 * if no list has one, it is taken at the top.
 *
 *     free block: u32 units, u32 tag ffff0000, u32 next, u32 previous (units, 0 = none)
 *
 * Invariants:
 * 1. A block that is not free has exactly table_heap_units() of what its words say it holds, so
 *    its length is written nowhere else.
 * 2. A unit found in a list is believed only after its words were looked at. A wrong one ends the
 *    list; the blocks behind it are lost until the arena is recovered.
 * 3. Only the words of free blocks and of the header change here.
 */
#include "table/heap.h"

#include <string.h>

#include "base/err.h"

#define EXACT_LOG        5
#define EXACT_UNITS      (1u << EXACT_LOG) /* classes 0 ... 31 hold 1 ... 32 units */
#define STEP_LOG         4                 /* 2 to that many classes for each doubling */
#define FREE_TAG         (TABLE_KEY_FREE << 16)
#define PUNCH_UNITS      (65536 / TABLE_UNIT_BYTES)
#define PUNCH_STEP_UNITS ((1u << 20) / TABLE_UNIT_BYTES)
#define TRIM_UNITS       ((256u << 10) / TABLE_UNIT_BYTES) /* stay above the top */
#define PUNCHED          1u /* in the tag of a free block: its memory has been given back */

struct free_block {
    uint32_t units, tag;
    uint32_t next, previous;
};

static unsigned
log2_floor(uint32_t n)
{
    return 31 - (unsigned)__builtin_clz(n);
}

/* Of the classes whose smallest size is at most UNITS the largest. */
static unsigned
class_below(uint32_t units)
{
    if (units <= EXACT_UNITS)
        return units - 1;
    unsigned log = log2_floor(units);
    unsigned part = (units >> (log - STEP_LOG)) & ((1u << STEP_LOG) - 1);
    return EXACT_UNITS - 1 + ((log - EXACT_LOG) << STEP_LOG) + part;
}

static uint32_t
round_units(uint32_t units)
{
    if (units <= EXACT_UNITS)
        return units < 2 ? 2 : units;
    uint32_t step = 1u << (log2_floor(units) - STEP_LOG);
    return (units + step - 1) & ~(step - 1);
}

uint32_t
table_heap_units(uint64_t size_bytes)
{
    return round_units((uint32_t)((size_bytes + TABLE_UNIT_BYTES - 1) / TABLE_UNIT_BYTES));
}

static bool
is_inside(const struct table_arena *arena, uint32_t unit, uint32_t units)
{
    uint32_t top = arena->header->top;
    return unit >= TABLE_HEAP_FIRST && unit < top && units <= top - unit;
}

/* The free block at UNIT if there is one with a place for its links, otherwise NULL. */
static struct free_block *
free_block_at(const struct table_arena *arena, uint32_t unit)
{
    if (!is_inside(arena, unit, 2))
        return NULL;
    struct free_block *block = table_arena_at(arena, unit);
    return (block->tag & ~PUNCHED) == FREE_TAG && block->units >= 2 &&
                   is_inside(arena, unit, block->units)
               ? block
               : NULL;
}

static void
set_head(struct table_header *header, unsigned class, uint32_t unit)
{
    header->free_heads[class] = unit;
    if (unit != 0)
        header->free_map[class / 32] |= 1u << (class % 32);
    else
        header->free_map[class / 32] &= ~(1u << (class % 32));
}

static void
write_free(struct table_arena *arena, uint32_t unit, uint32_t units, uint32_t flags)
{
    struct free_block *block = table_arena_at(arena, unit);
    table_arena_touch(arena, (uint64_t)unit * TABLE_UNIT_BYTES, units < 2 ? 8 : sizeof *block);
    block->units = units;
    block->tag = FREE_TAG | flags;
    if (units < 2)
        return;
    struct table_header *header = arena->header;
    unsigned class = class_below(units);
    struct free_block *next = free_block_at(arena, header->free_heads[class]);
    block->next = next != NULL ? header->free_heads[class] : 0;
    block->previous = 0;
    if (next != NULL) {
        table_arena_touch(arena, (uint64_t)block->next * TABLE_UNIT_BYTES, sizeof *next);
        next->previous = unit;
    }
    set_head(header, class, unit);
}

/* Take BLOCK, at UNIT, out of its list. A neighbour that does not point back is left alone. */
static void
unlink_free(struct table_arena *arena, uint32_t unit, const struct free_block *block)
{
    struct table_header *header = arena->header;
    unsigned class = class_below(block->units);
    struct free_block *next = free_block_at(arena, block->next);
    struct free_block *previous = free_block_at(arena, block->previous);
    uint32_t next_unit = next != NULL && next->previous == unit ? block->next : 0;
    if (header->free_heads[class] == unit) {
        set_head(header, class, next_unit);
    } else if (previous != NULL && previous->next == unit) {
        table_arena_touch(
            arena, (uint64_t)block->previous * TABLE_UNIT_BYTES, sizeof *previous);
        previous->next = next_unit;
    }
    if (next_unit != 0) {
        table_arena_touch(arena, (uint64_t)next_unit * TABLE_UNIT_BYTES, sizeof *next);
        next->previous = previous != NULL ? block->previous : 0;
    }
}

/* The first class from FROM on whose list is not empty, or TABLE_FREE_CLASSES. */
static unsigned
class_with_blocks(const struct table_header *header, unsigned from)
{
    for (unsigned i = from / 32; i < ARRAY_LEN(header->free_map); i++) {
        uint32_t bits = header->free_map[i];
        if (i == from / 32)
            bits &= ~0u << (from % 32);
        if (bits != 0) {
            unsigned class = i * 32 + (unsigned)__builtin_ctz(bits);
            return class < TABLE_FREE_CLASSES ? class : TABLE_FREE_CLASSES;
        }
    }
    return TABLE_FREE_CLASSES;
}

/* Take UNITS from the begin of the free block at UNIT; the rest is free again. */
static void
cut_free(struct table_arena *arena, uint32_t unit, uint32_t units)
{
    const struct free_block *block = table_arena_at(arena, unit);
    uint32_t rest = block->units - units;
    uint32_t flags = block->tag & PUNCHED;
    unlink_free(arena, unit, block);
    if (rest != 0)
        write_free(arena, unit + units, rest, flags);
}

/* A free block of at least UNITS, taken out of its list and cut to UNITS; 0 = there is none. */
static uint32_t
take_free(struct table_arena *arena, uint32_t units)
{
    struct table_header *header = arena->header;
    for (unsigned class = class_with_blocks(header, class_below(units));
         class < TABLE_FREE_CLASSES; class = class_with_blocks(header, class + 1)) {
        uint32_t unit = header->free_heads[class];
        struct free_block *block = free_block_at(arena, unit);
        if (block == NULL || block->units < units) {
            set_head(header, class, 0);
            continue;
        }
        cut_free(arena, unit, units);
        return unit;
    }
    return 0;
}

int
table_heap_alloc_top(struct table_arena *arena, uint32_t units, uint32_t *ret)
{
    struct table_header *header = arena->header;
    uint32_t unit = header->top;
    if (units > UINT32_MAX - unit)
        return dor_fail(DOR_E_NO_SPACE, "the table is full");
    int rc = table_arena_extend(arena, unit + units);
    if (rc != 0)
        return rc;
    table_arena_touch(arena, 0, DOR_PAGE_BYTES);
    header->top = unit + units;
    if (arena->dirty_top < header->top)
        arena->dirty_top = header->top;
    header->used_units += units;
    *ret = unit;
    return 0;
}

int
table_heap_alloc(struct table_arena *arena, uint64_t size_bytes, uint32_t *ret)
{
    uint32_t units = table_heap_units(size_bytes);
    table_arena_touch(arena, 0, DOR_PAGE_BYTES);
    uint32_t unit = take_free(arena, units);
    if (unit == 0)
        return table_heap_alloc_top(arena, units, ret);
    arena->header->used_units += units;
    *ret = unit;
    return 0;
}

void
table_heap_lower_top(struct table_arena *arena, uint32_t unit)
{
    /* A sweep that came further begins again: what will be there may start elsewhere. */
    arena->header->top = unit;
    if (arena->sweep_unit >= unit)
        arena->sweep_unit = 0;
}

void
table_heap_free(struct table_arena *arena, uint32_t unit, uint32_t units)
{
    struct table_header *header = arena->header;
    table_arena_touch(arena, 0, DOR_PAGE_BYTES);
    header->used_units -= units < header->used_units ? units : header->used_units;
    if (unit + units == header->top)
        table_heap_lower_top(arena, unit);
    else
        write_free(arena, unit, units, 0);
}

uint32_t
table_heap_block_units(const struct table_arena *arena, uint32_t unit)
{
    if (!is_inside(arena, unit, 1))
        return 0;
    const struct table_block *block = table_arena_at(arena, unit);
    uint32_t length = block->length;
    uint32_t key_bytes = TABLE_TAG_KEY_BYTES(block->tag);
    uint32_t units = length;
    if (key_bytes <= TABLE_KEY_BYTES_MAX || key_bytes == TABLE_KEY_NUMBER)
        units = table_heap_units(
            sizeof *block + ((length & TABLE_LENGTH_EXPIRES) != 0 ? 8 : 0) +
            (uint64_t)(length & TABLE_LENGTH_MASK) +
            (key_bytes == TABLE_KEY_NUMBER ? 4 : key_bytes));
    else if (key_bytes < TABLE_KEY_SLACK)
        return 0;
    return units != 0 && is_inside(arena, unit, units) ? units : 0;
}

void
table_heap_reset(struct table_arena *arena)
{
    struct table_header *header = arena->header;
    table_arena_touch(arena, 0, DOR_PAGE_BYTES);
    memset(header->free_map, 0, sizeof header->free_map);
    memset(header->free_heads, 0, sizeof header->free_heads);
    arena->sweep_unit = 0;
    header->top = TABLE_HEAP_FIRST;
    header->used_units = 0;
}

void
table_heap_add_free(struct table_arena *arena, uint32_t from, uint32_t to)
{
    table_arena_touch(arena, 0, DOR_PAGE_BYTES);
    if (from < to)
        write_free(arena, from, to - from, 0);
}

void
table_heap_take_out(struct table_arena *arena, uint32_t unit)
{
    const struct free_block *block = free_block_at(arena, unit);
    table_arena_touch(arena, 0, DOR_PAGE_BYTES);
    if (block != NULL)
        unlink_free(arena, unit, block);
}

uint32_t
table_heap_take_below(struct table_arena *arena, uint32_t units, uint32_t below)
{
    const struct table_header *header = arena->header;
    for (unsigned class = class_with_blocks(header, class_below(units));
         class < TABLE_FREE_CLASSES; class = class_with_blocks(header, class + 1)) {
        uint32_t unit = header->free_heads[class];
        const struct free_block *block = free_block_at(arena, unit);
        if (block != NULL && unit < below && block->units >= units &&
            block->units <= below - unit) {
            cut_free(arena, unit, units);
            return unit;
        }
    }
    return 0;
}

bool
table_heap_punch(struct table_arena *arena, uint32_t unit)
{
    struct free_block *block = free_block_at(arena, unit);
    if (block == NULL || block->units < PUNCH_UNITS || (block->tag & PUNCHED) != 0 ||
        arena->mark != NULL)
        return true;
    uint32_t end = unit + block->units;
    uint32_t from =
        arena->punched_to > unit && arena->punched_to < end ? arena->punched_to : unit + 2;
    uint32_t to = end - from > PUNCH_STEP_UNITS ? from + PUNCH_STEP_UNITS : end;
    table_arena_punch(arena, from, to);
    arena->punched_to = to < end ? to : 0;
    if (to < end)
        return false;
    block->tag |= PUNCHED;
    return true;
}

bool
table_heap_trim(struct table_arena *arena)
{
    uint32_t top = arena->header->top;
    if (arena->mark != NULL || arena->dirty_top < top ||
        arena->dirty_top - top < TRIM_UNITS + top / 16)
        return false;
    uint32_t to = arena->dirty_top;
    uint32_t from = to - top > PUNCH_STEP_UNITS ? to - PUNCH_STEP_UNITS : top;
    table_arena_punch(arena, from, to);
    arena->dirty_top = from;
    return from > top;
}
