/* SPDX-License-Identifier: Apache-2.0 */
/*
 * group.h - changes of one command that happen together or not at all, in the table and in its
 * log: as a transaction of their own, or inside that of EXEC, which goes on if they do not.
 *
 * Ownership:  a group borrows table and log until its end.
 * Threads:    those of the table.
 * Errors:     those of table_begin().
 */
#ifndef DOR_TABLE_GROUP_H
#define DOR_TABLE_GROUP_H

#include <dormouse/err.h>
#include <stdbool.h>
#include <stddef.h>

#include "table/table.h"

struct table_log;

struct table_group {
    struct table *table;
    struct table_log *log; /* NULL = the table has none */
    bool alone;            /* the transaction is the group's own */
    struct table_savepoint savepoint;
    size_t log_savepoint;
};

DOR_MUST_CHECK int
table_group_begin(struct table *table, struct table_log *log, struct table_group *ret);

/* Keep the group's changes, or take them all back. */
void table_group_end(struct table_group *group, bool keep);

#endif
