/* SPDX-License-Identifier: Apache-2.0 */
/*
 * group.c - a transaction, or a savepoint in one that is open.
 */
#include "table/group.h"

#include "table/log.h"

int
table_group_begin(struct table *table, struct table_log *log, struct table_group *ret)
{
    struct table_group group = {
        .table = table, .log = log, .alone = !table_in_transaction(table)};
    int rc = group.alone ? table_begin(table) : 0;
    if (rc != 0)
        return rc;
    if (!group.alone)
        group.savepoint = table_savepoint(table);
    if (log != NULL) {
        group.log_savepoint = table_log_savepoint(log);
        table_log_begin(log);
    }
    *ret = group;
    return 0;
}

void
table_group_end(struct table_group *group, bool keep)
{
    if (group->alone && keep)
        table_commit(group->table);
    else if (group->alone)
        table_abort(group->table);
    else if (!keep)
        table_rollback(group->table, &group->savepoint);
    if (group->log == NULL)
        return;
    if (!keep)
        table_log_rollback(group->log, group->log_savepoint);
    table_log_commit(group->log);
}
