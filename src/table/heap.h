/* SPDX-License-Identifier: Apache-2.0 */
/*
 * heap.h - blocks of an arena: given out, given back, and found again by walking. Every block
 * says in its first two words how long it is, so a walk from the header to the top meets each.
 *
 * Ownership:  blocks belong to the table that asked for them.
 * Threads:    those of the arena.
 * Errors:     DOR_E_NO_SPACE at the arena's limit; what is wrong in the lists of free blocks
 *             costs these blocks, no more.
 */
#ifndef DOR_TABLE_HEAP_H
#define DOR_TABLE_HEAP_H

#include "table/arena.h"

/*
 * The two words in front of every block. Of a record: the length of the value with two flags, and
 * the length of the key with the time of the last use. Of other blocks: units, and a tag.
 */
struct table_block {
    uint32_t length;
    uint32_t tag;
};

#define TABLE_LENGTH_MASK        0x3fffffffu
#define TABLE_LENGTH_EXPIRES     0x40000000u /* eight bytes of time are before the value */
#define TABLE_LENGTH_LIBRARY     0x80000000u /* not a key but the source of functions */
#define TABLE_TAG_KEY_BYTES(tag) ((tag) >> 16)
#define TABLE_KEY_BYTES_MAX      0xff00u /* longer ones are these: */
#define TABLE_KEY_SLACK          0xfffbu /* what the record before it may grow into */
#define TABLE_KEY_NUMBER         0xfffcu /* a record whose key is four bytes, a number */
#define TABLE_KEY_JOURNAL        0xfffdu
#define TABLE_KEY_BUCKETS        0xfffeu
#define TABLE_KEY_FREE           0xffffu

#define TABLE_HEAP_FIRST ((uint32_t)(sizeof(struct table_header) / TABLE_UNIT_BYTES))

/* The units a block takes that must hold SIZE_BYTES, its two words included. */
uint32_t table_heap_units(uint64_t size_bytes);

/*
 * A block of table_heap_units(SIZE_BYTES), whose first two words the caller writes before
 * anything else happens to the arena, having touched what it writes. The limit is not looked at.
 */
DOR_MUST_CHECK int
table_heap_alloc(struct table_arena *arena, uint64_t size_bytes, uint32_t *ret);

/* The same of exactly UNITS, at the top; for blocks that write their length themselves. */
DOR_MUST_CHECK int
table_heap_alloc_top(struct table_arena *arena, uint32_t units, uint32_t *ret);

void table_heap_free(struct table_arena *arena, uint32_t unit, uint32_t units);

/* Units of the block at UNIT; 0 when what is there is no block that ends before the top. */
uint32_t table_heap_block_units(const struct table_arena *arena, uint32_t unit);

/* Forget all free blocks, and what is between FIRST and the top; the buckets are not touched. */
void table_heap_reset(struct table_arena *arena);

/* What is from UNIT on is free and in no list: it is above the top now. */
void table_heap_lower_top(struct table_arena *arena, uint32_t unit);

/* Take the free block at UNIT out of its list; one unit is in none. */
void table_heap_take_out(struct table_arena *arena, uint32_t unit);

/* UNITS of a free block that ends at BELOW at most, or 0; they do not count as used. */
uint32_t table_heap_take_below(struct table_arena *arena, uint32_t units, uint32_t below);

/* Give some of the memory of a long free block at UNIT back; true when there is no more to do. */
bool table_heap_punch(struct table_arena *arena, uint32_t unit);

/* The same of the memory above the top; true when there is more to do. */
bool table_heap_trim(struct table_arena *arena);

/* Make [FROM, TO) one free block, or several if it is long. For who rebuilds the lists. */
void table_heap_add_free(struct table_arena *arena, uint32_t from, uint32_t to);

#endif
