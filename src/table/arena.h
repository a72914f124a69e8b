/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena.h - the memory of one tenant's table: a memory file that starts with a header and grows
 * at its end. All of a table is inside it, so whoever holds the descriptor holds the table, and a
 * storage function can look keys up in a mapping of it. The layout is in docs/formats/table.md.
 *
 * Places in an arena are numbers of 8-byte units, in 32 bits.
 *
 * Ownership:  table_arena_close() gives mapping and descriptor back.
 * Threads:    one arena, one thread at a time; a reader of a mark may be another process.
 * Errors:     DOR_E_CORRUPT for what is no arena, DOR_E_NO_SPACE at the limit, what the system
 *             says.
 */
#ifndef DOR_TABLE_ARENA_H
#define DOR_TABLE_ARENA_H

#include <dormouse/err.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/size.h"

enum {
    TABLE_UNIT_BYTES = 8,
    TABLE_VERSION = 3,
    TABLE_BUCKET_SLOTS = 6,
    TABLE_LENGTH_UNKNOWN = 0xffff, /* in a bucket */
    TABLE_FIRST_BUCKETS = 16,      /* inside the header */
    TABLE_SEGMENTS = 24,
    TABLE_FREE_CLASSES = 432,
};

#define TABLE_MAGIC 0x4c425444u /* "DTBL" */

#define TABLE_FLUSH_ALL 1u /* in place of a block: a flush that keeps nothing */

/* The largest arena: what a 32-bit view of units with three flags reaches. */
#define TABLE_ARENA_BYTES_MAX (UINT64_C(1) << 32)
#define TABLE_ARENA_BYTES_MIN (UINT64_C(1) << 16)

/*
 * Hashes, lengths of values and places of up to six records, and the unit of the bucket that holds
 * the rest. The lengths are there for storage functions, which then need not read the records:
 * nothing here believes them.
 */
struct table_bucket {
    uint32_t hash[TABLE_BUCKET_SLOTS];
    uint32_t next; /* 0 = none */
    uint16_t length[TABLE_BUCKET_SLOTS];
    uint32_t ref[TABLE_BUCKET_SLOTS];
};

_Static_assert(sizeof(struct table_bucket) == 64, "a bucket is a line of memory");

/* The first page of an arena. Storage functions read the fields that the format names. */
struct table_header {
    uint32_t magic, version;
    uint32_t seed; /* of the hash */
    uint32_t top;  /* first unit that was never given out, or is no longer */
    uint32_t bucket_count;
    uint32_t bucket_mask; /* all bits of the next power of two above bucket_count */
    uint32_t key_count;
    uint32_t library_count;
    uint32_t expiring_count;
    uint32_t used_units; /* in blocks that are not free */
    double now_ms;       /* what storage functions hold for the present */
    uint32_t journal;    /* unit of the newest block of the journal, 0 = no transaction */
    uint32_t journal_count;
    uint32_t limit_units; /* used_units may not exceed it */
    uint32_t flush;       /* block of the flush under way, TABLE_FLUSH_ALL, 0 = none */
    uint32_t
        segments[TABLE_SEGMENTS]; /* word of each segment's buckets, less its first number */
    uint32_t free_map[(TABLE_FREE_CLASSES + 31) / 32];
    uint32_t free_heads[TABLE_FREE_CLASSES];
    uint32_t append; /* block of the append under way, 0 = none */
    uint8_t padding
        [3072 -
         4 * (17 + TABLE_SEGMENTS + (TABLE_FREE_CLASSES + 31) / 32 + TABLE_FREE_CLASSES)];
    struct table_bucket buckets[TABLE_FIRST_BUCKETS];
};

/* Pages as they were at one moment; see table/mark.h. */
struct table_mark;

struct table_arena {
    int fd;
    uint8_t *base;
    struct table_header *header;
    uint64_t mapped_bytes; /* reserved addresses; the file may be shorter */
    uint64_t file_bytes;
    uint64_t lacking_bytes;  /* up to where pages may be still to come; 0 = none is */
    struct table_mark *mark; /* NULL = none stands */
    uint32_t sweep_unit;     /* where the sweep of the heap goes on; 0 = at its begin */
    uint32_t punched_to;     /* how far the free block there has given its memory back */
    uint32_t dirty_top;      /* units from there on have no memory */
    uint32_t records_end;    /* what is above is kept for buckets and the journal */
};

/* Make an empty arena in the empty memory file FD, which is taken over also on error. */
DOR_MUST_CHECK int
table_arena_create(int fd, uint64_t limit_bytes, uint32_t seed, struct table_arena *ret);

/*
 * Told of a mapping of an arena's file before anything in it is read: its FILE_BYTES have no pages
 * yet, and who is told sees to it that they come when they are needed.
 */
typedef int table_mapped_fn(void *context, void *base, uint64_t file_bytes);

/*
 * Map the arena in FD, taken over also on error. What is behind the header is believed by nobody.
 * MAPPED may be NULL: all pages are there.
 */
DOR_MUST_CHECK int table_arena_open(
    int fd, uint64_t limit_bytes, table_mapped_fn *mapped, void *context,
    struct table_arena *ret);

/*
 * While pages may be still to come: get all of them, for another mapping of the file would find
 * zeros where they lack. It takes as long as that takes.
 */
void table_arena_complete(struct table_arena *arena);

void table_arena_close(struct table_arena *arena);

/* Make the file reach to unit TOP, which must be inside the mapping. */
DOR_MUST_CHECK int table_arena_extend(struct table_arena *arena, uint32_t top);

/* Give the memory of whole pages inside [FROM, TO) units back; nothing while a mark stands. */
void table_arena_punch(struct table_arena *arena, uint32_t from, uint32_t to);

/* Copy the pages of SIZE_BYTES at OFFSET that have no copy yet to the mark that stands. */
void table_mark_save(struct table_arena *arena, uint64_t offset, uint64_t size_bytes);

/* Before SIZE_BYTES at OFFSET of the arena change. */
static inline void
table_arena_touch(struct table_arena *arena, uint64_t offset, uint64_t size_bytes)
{
    if (__builtin_expect(arena->mark != NULL, 0))
        table_mark_save(arena, offset, size_bytes);
}

static inline void *
table_arena_at(const struct table_arena *arena, uint32_t unit)
{
    return arena->base + (uint64_t)unit * TABLE_UNIT_BYTES;
}

/*
 * Store one word of the arena. Atomic, so that a process that dies between two of them leaves
 * whole words, in this order; nobody else reads them while it lives.
 */
static inline void
table_arena_put(struct table_arena *arena, uint32_t *word, uint32_t value)
{
    table_arena_touch(arena, (uint64_t)((uint8_t *)word - arena->base), sizeof *word);
    atomic_signal_fence(memory_order_seq_cst);
    __atomic_store_n(word, value, __ATOMIC_RELAXED);
    atomic_signal_fence(memory_order_seq_cst);
}

/* The same for half a word. */
static inline void
table_arena_put_half(struct table_arena *arena, uint16_t *half, uint16_t value)
{
    table_arena_touch(arena, (uint64_t)((uint8_t *)half - arena->base), sizeof *half);
    atomic_signal_fence(memory_order_seq_cst);
    __atomic_store_n(half, value, __ATOMIC_RELAXED);
    atomic_signal_fence(memory_order_seq_cst);
}

#endif
