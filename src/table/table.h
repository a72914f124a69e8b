/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.h - the keys of one tenant: strings to strings, in an arena. Look-ups take a cache line
 * of a bucket and the record; the number of buckets grows by one at a time (linear hashing,
 * Litwin, VLDB 1980), so nothing ever stops for a rehash, and a scan meets every key that stays.
 *
 * A change is one store of one word after everything it leads to is in place. A process that is
 * killed leaves the old or the new value; what it left open in a transaction is undone by
 * table_open() with recovery.
 *
 * Keys that are the decimal of a number below 2^32, written as usual, are kept as that number.
 *
 * Ownership:  values that are handed out stay readable until the next change, or as long as they
 *             are pinned.
 * Threads:    one table, one thread at a time.
 * Errors:     DOR_E_NO_SPACE at the limit, DOR_E_USAGE for what is too long, DOR_E_CORRUPT for an
 *             arena that is none.
 */
#ifndef DOR_TABLE_TABLE_H
#define DOR_TABLE_TABLE_H

#include <dormouse/err.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "table/arena.h"

#define TABLE_VALUE_BYTES_MAX (512u << 20)
#define TABLE_KEY_LENGTH_MAX  0xff00u

struct table;

enum table_policy { /* what goes when the limit is reached */
                    TABLE_NO_EVICTION,
                    TABLE_EVICT_LRU,
                    TABLE_EVICT_RANDOM,
};

/* A key with its hash, made once and used for several calls. Borrows the bytes. */
struct table_key {
    const uint8_t *bytes;
    uint32_t length;
    uint32_t hash;
    uint32_t number; /* if is_number */
    bool is_number;
    bool is_library; /* lives beside the keys: seen by no command about keys */
};

struct table_value {
    const uint8_t *bytes; /* 8-aligned, inside the arena */
    uint32_t length;
    uint32_t ref;      /* of the record, for table_pin() */
    int64_t expiry_ms; /* since 1970; 0 = never */
};

struct table_stat {
    uint64_t keys, libraries, expiring;
    uint64_t used_bytes;  /* in blocks, buckets and header */
    uint64_t arena_bytes; /* up to the top, free blocks included */
    uint64_t limit_bytes;
    uint64_t expired, evicted, splits, damaged; /* since the table was opened */
};

/*
 * Told of every change when it is made, KEY and VALUE as they are now; VALUE is NULL when the key
 * went, KEY too for a flush. May not change the table. Changes of a transaction that is given
 * up are not told back: who keeps a log drops what came since table_begin().
 */
enum table_change {
    TABLE_CHANGE_SET,
    TABLE_CHANGE_EXPIRY,
    TABLE_CHANGE_REMOVE,
    TABLE_CHANGE_FLUSH,
    TABLE_CHANGE_APPEND /* VALUE is what was appended */
};
typedef void table_changed_fn(
    void *context, enum table_change change, const struct table_key *key,
    const struct table_value *value);

struct table_options {
    uint64_t limit_bytes; /* 64 KiB to 4 GiB */
    enum table_policy policy;
    table_changed_fn *changed; /* may be NULL */
    void *context;
    table_mapped_fn *mapped; /* the arena's pages are still to come; usually NULL */
    void *mapped_context;
};

/* A new table in the empty memory file FD, which is taken over also on error. */
DOR_MUST_CHECK int
table_create(int fd, const struct table_options *options, struct table **ret);

/*
 * The table in FD, taken over also on error. RECOVER after a process died with it: every bucket
 * and record is looked at, what makes no sense is left out and counted as damaged, an open
 * transaction is undone.
 */
DOR_MUST_CHECK int
table_open(int fd, const struct table_options *options, bool recover, struct table **ret);

void table_close(struct table *table); /* NULL is fine */

struct table_arena *table_arena(struct table *table);
void table_stat(const struct table *table, struct table_stat *ret);
void table_set_limit(struct table *table, uint64_t limit_bytes, enum table_policy policy);

enum table_policy table_get_policy(const struct table *table);

/* The policy's name as Redis has it: "noeviction". */
const char *table_policy_name(enum table_policy policy);

/* Make KEY of LENGTH bytes; false when it is longer than TABLE_KEY_LENGTH_MAX. */
bool
table_key(const struct table *table, const void *bytes, size_t length, struct table_key *ret);
bool table_library_key(
    const struct table *table, const void *bytes, size_t length, struct table_key *ret);

/* The present, in ms since 1970. Keys whose time has come are gone for all calls below. */
void table_set_now(struct table *table, int64_t now_ms);
int64_t table_now(const struct table *table);

/* Ask for the memory that a look-up of KEY will need. */
void table_prefetch(const struct table *table, const struct table_key *key);

/* The next step, when the bucket has come: that of the record and of the key behind its value. */
void table_prefetch_record(const struct table *table, const struct table_key *key);

/* The word of the arena at which the record of VALUE begins: what functions have for a handle. */
uint32_t table_value_handle(const struct table_value *value);

/* False when there is no such key. TOUCH: it counts as used now. */
bool table_find(
    struct table *table, const struct table_key *key, bool touch, struct table_value *ret);

/* Bytes that the record of a value takes, its key included. */
uint64_t table_record_bytes(const struct table *table, uint32_t ref);

/* Give KEY the value BYTES; EXPIRY_MS 0 = never. */
DOR_MUST_CHECK int table_set(
    struct table *table, const struct table_key *key, const void *bytes, size_t length,
    int64_t expiry_ms);

/*
 * The same in two steps, for values that are not in one piece or not there yet: *RET is where
 * LENGTH bytes are to be written. Until it is committed or dropped the table may change, and
 * nobody sees it.
 */
struct table_draft {
    uint32_t unit, units;
    uint32_t length;
    uint8_t *bytes;
};
DOR_MUST_CHECK int table_draft(
    struct table *table, const struct table_key *key, size_t length, int64_t expiry_ms,
    struct table_draft *ret);
/*
 * For a draft whose time is not known yet: it must be set before the draft is committed,
 * 0 = never.
 */
#define TABLE_EXPIRY_OPEN (INT64_MAX - 54321) /* a time that nobody sets */
void table_set_draft_expiry(struct table *table, struct table_draft *draft, int64_t expiry_ms);

DOR_MUST_CHECK int
table_commit_draft(struct table *table, const struct table_key *key, struct table_draft *draft);
void table_drop_draft(struct table *table, struct table_draft *draft);

/*
 * Append LENGTH BYTES to the value of KEY, or set it; *RET is how long it is then. Many appends to
 * one key take time in proportion to all their bytes, but in a transaction.
 */
DOR_MUST_CHECK int table_append(
    struct table *table, const struct table_key *key, const void *bytes, uint32_t length,
    uint64_t *ret);

/* False when there was no such key. */
bool table_remove(struct table *table, const struct table_key *key);

/* *RET_FOUND says whether the key is there. EXPIRY_MS in the past removes it. */
DOR_MUST_CHECK int table_expire(
    struct table *table, const struct table_key *key, int64_t expiry_ms, bool *ret_found);

/*
 * Remove all keys, and all libraries too with LIBRARIES; takes hardly longer for many.
 * DOR_E_BUSY in a transaction; on an error nothing has changed.
 */
DOR_MUST_CHECK int table_flush(struct table *table, bool libraries);

/*
 * Keys one bucket after the other: FN for each, until BUCKETS were seen or FN returns false.
 * CURSOR 0 begins; the result is the next cursor, 0 at the end. Keys that are there all the
 * time are met; some may be met twice; those whose time has come are removed. FN may remove the
 * key it is given and change nothing else.
 */
typedef bool
table_scan_fn(void *context, const struct table_key *key, const struct table_value *value);
uint64_t table_scan(
    struct table *table, uint64_t cursor, uint32_t buckets, table_scan_fn *fn, void *context);

/*
 * FN for each library until it returns false. It may remove the library it is given and change
 * nothing else.
 */
DOR_MUST_CHECK int table_each_library(struct table *table, table_scan_fn *fn, void *context);

/*
 * Any key, by the random number RANDOM; false in an empty table. SCRATCH holds a number's text.
 */
bool
table_random_key(struct table *table, uint64_t random, char scratch[16], struct table_key *ret);

/*
 * Changes between begin and commit happen together, also for a process that is killed. Values
 * handed out inside stay readable until the end. One at a time. Begin may evict to have room.
 */
DOR_MUST_CHECK int table_begin(struct table *table);
void table_commit(struct table *table);
void table_abort(struct table *table);
bool table_in_transaction(const struct table *table);

/* A moment of the open transaction; table_rollback() takes back what came after it. */
struct table_savepoint {
    uint32_t journal_count;
    size_t deferred_count;
};
struct table_savepoint table_savepoint(const struct table *table);
void table_rollback(struct table *table, const struct table_savepoint *savepoint);

/* Keep the record's memory as it is, whatever happens to its key, until it is unpinned. */
DOR_MUST_CHECK int table_pin(struct table *table, uint32_t ref);
void table_unpin(struct table *table, uint32_t ref);

/*
 * What keeps a table in order: keys whose time has come go, what is over the limit is evicted,
 * records move together and memory is given back. A change: values that were handed out are not
 * readable any more unless they are pinned. Does at most about STEPS buckets and blocks (a
 * thousand take less than a millisecond); true when there is more to do now. To be called with
 * about as many steps as there were changes since, and some more when there is time.
 */
bool table_maintain(struct table *table, uint32_t steps);

#endif
