/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tables.h - tables in memory files for the tests of the core, and what is said about them in one
 * line each.
 *
 * Ownership:  the caller closes what he makes.
 * Threads:    the test's own.
 * Errors:     whatever should not fail ends the program.
 */
#ifndef TESTS_TABLE_TABLES_H
#define TESTS_TABLE_TABLES_H

#include "tap.h"

#include <fcntl.h>
#include <sys/mman.h>

#include "table/table.h"

#define NOW_MS INT64_C(1700000000000)

static inline int
memory_file(void)
{
    int fd = memfd_create("table", MFD_CLOEXEC);
    if (fd < 0)
        bail("no memory file");
    return fd;
}

static inline struct table *
new_table(uint64_t limit_bytes, enum table_policy policy)
{
    const struct table_options options = {.limit_bytes = limit_bytes, .policy = policy};
    struct table *table;
    if (table_create(memory_file(), &options, &table) != 0)
        bail("%s", dor_err_message());
    table_set_now(table, NOW_MS);
    return table;
}

/* The table in its memory file, as another process would open it; closes TABLE. */
static inline struct table *
open_again(struct table *table, bool recover)
{
    struct table_stat stat;
    table_stat(table, &stat);
    int fd = fcntl(table_arena(table)->fd, F_DUPFD_CLOEXEC, 0);
    int64_t now_ms = table_now(table);
    table_close(table);
    const struct table_options options = {.limit_bytes = stat.limit_bytes};
    if (table_open(fd, &options, recover, &table) != 0)
        bail("%s", dor_err_message());
    table_set_now(table, now_ms);
    return table;
}

static inline struct table_key
key_of(const struct table *table, const char *text)
{
    struct table_key key;
    if (!table_key(table, text, strlen(text), &key))
        bail("the key is too long");
    return key;
}

static inline struct table_key
library_of(const struct table *table, const char *text)
{
    struct table_key key;
    if (!table_library_key(table, text, strlen(text), &key))
        bail("the name is too long");
    return key;
}

static inline int
try_set(struct table *table, const char *key_text, const char *value, int64_t expiry_ms)
{
    struct table_key key = key_of(table, key_text);
    return table_set(table, &key, value, strlen(value), expiry_ms);
}

static inline void
set(struct table *table, const char *key_text, const char *value)
{
    if (try_set(table, key_text, value, 0) != 0)
        bail("%s", dor_err_message());
}

static inline bool
remove_key(struct table *table, const char *key_text)
{
    struct table_key key = key_of(table, key_text);
    return table_remove(table, &key);
}

static inline bool
has_value(struct table *table, const struct table_key *key, const char *want)
{
    struct table_value value;
    bool found = table_find(table, key, true, &value);
    return want == NULL ? !found
                        : found && value.length == strlen(want) &&
                              memcmp(value.bytes, want, value.length) == 0;
}

/* Whether KEY_TEXT has the value WANT; NULL = is not there. */
static inline bool
has(struct table *table, const char *key_text, const char *want)
{
    struct table_key key = key_of(table, key_text);
    return has_value(table, &key, want);
}

static inline struct table_stat
stat_of(const struct table *table)
{
    struct table_stat stat;
    table_stat(table, &stat);
    return stat;
}

static inline void
upkeep(struct table *table)
{
    while (table_maintain(table, 200))
        ;
}

#endif
