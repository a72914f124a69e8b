/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_table_faults.c - each allocation and each file call of each operation on a table fails once:
 * the operation says so or does without, the table holds what was there before or after it, and
 * nothing is lost from then on.
 */
#include "worlds.h"

#include <errno.h>

#include "base/fault.h"
#include "table/mark.h"

enum { LIMIT_BYTES = 1 << 20, FAULTS_MAX = 500 };

static const struct operation operations[] = {
    {SET, 390, 0},   {REMOVE, 4, 0}, {DRAFT, 31, 0}, {COMMIT, 1, 900},
    {ABORT, 2, 400}, {UPKEEP, 0, 0}, {FLUSH, 0, 0},  {FLUSH_ALL, 0, 0},
};

static struct table *
full_table(struct world *ret)
{
    struct table *table = new_table(LIMIT_BYTES, TABLE_NO_EVICTION);
    *ret = (struct world){0};
    for (unsigned i = 0; i < WORLD_KEYS - 10; i++)
        if (world_set(ret, table, i, false) != 0)
            bail("%s", dor_err_message());
    return table;
}

/* Whether TABLE is as BEFORE or as AFTER, and in order, now and after recovery. */
static bool
is_whole(struct table *table, const struct world *before, const struct world *after)
{
    for (unsigned turn = 0; turn < 2; turn++) {
        const char *trouble = table_trouble(table);
        bool same = world_differs(before, table) == WORLD_KEYS ||
                    world_differs(after, table) == WORLD_KEYS;
        if (trouble != NULL || !same)
            note("%s", trouble != NULL ? trouble : "half done");
        if (turn == 0)
            table = open_again(table, true);
        else
            table_close(table);
        if (trouble != NULL || !same)
            return false;
    }
    return true;
}

static void
test_operation(const struct operation *operation, enum base_fault_kind kind)
{
    bool fired = true, whole = true;
    unsigned nth = 1, failed = 0;
    for (; fired && whole && nth < FAULTS_MAX; nth++) {
        struct world before, world;
        struct table *table = full_table(&before);
        struct world after = before;
        world = before;
        if (world_do(&after, NULL, operation) != 0)
            bail("a model does not fail");
        base_fault_arm(kind, nth, ENOSPC);
        int rc = world_do(&world, table, operation);
        base_fault_arm(FAULT_NONE, 0, 0);
        fired = base_fault_fired();
        failed += rc != 0;
        /* A transaction that fails in the midst is given up by whoever began it; here it was
         * committed with what it had, so only order is asked for. */
        if (operation->kind == COMMIT && rc != 0)
            after = before = world;
        if (operation->kind == COMMIT && rc != 0) {
            const char *trouble = table_trouble(table);
            whole = trouble == NULL;
            table_close(table);
        } else {
            whole = is_whole(table, &before, &after);
        }
    }
    ok(whole && !fired, "operation of kind %d, fault %d: %u places, %u told of it",
       (int)operation->kind, (int)kind, nth - 2, failed);
}

/* Make, open, recover, mark: each with a fault at each place. */
static void
test_opening(enum base_fault_kind kind, bool recover)
{
    bool fired = true, good = true;
    unsigned nth = 1, failed = 0;
    const struct table_options options = {.limit_bytes = LIMIT_BYTES};
    struct world world;
    struct table *table = full_table(&world);
    if (recover) {
        /* With a transaction to be undone, and late entries perhaps. */
        struct world changed = world;
        if (table_begin(table) != 0)
            bail("%s", dor_err_message());
        for (unsigned i = 0; i < 300; i++)
            if (world_change(&changed, table, i) != 0)
                bail("%s", dor_err_message());
    }
    int fd = memory_file();
    const struct table_arena *arena = table_arena(table);
    if (pwrite(fd, arena->base, arena->file_bytes, 0) != (ssize_t)arena->file_bytes)
        bail("a memory file takes no bytes");
    if (recover)
        table_abort(table);
    table_close(table);
    for (; fired && good && nth < FAULTS_MAX; nth++) {
        int copy = dup(fd);
        base_fault_arm(kind, nth, EIO);
        int rc = table_open(copy, &options, recover, &table);
        base_fault_arm(FAULT_NONE, 0, 0);
        fired = base_fault_fired();
        failed += rc != 0;
        good = fired || rc == 0;
        if (rc != 0)
            continue;
        table_set_now(table, NOW_MS);
        good = table_trouble(table) == NULL && world_differs(&world, table) == WORLD_KEYS;
        table_close(table);
    }
    ok(good && !fired && failed > 0, "opening, recovery %d, fault %d: %u places, %u told of it",
       recover, (int)kind, nth - 2, failed);
    close(fd);
}

static void
test_making(enum base_fault_kind kind)
{
    const struct table_options options = {.limit_bytes = LIMIT_BYTES};
    bool fired = true;
    unsigned nth = 1, failed = 0;
    for (; fired && nth < FAULTS_MAX; nth++) {
        struct table *table = NULL;
        base_fault_arm(kind, nth, EIO);
        int rc = table_create(memory_file(), &options, &table);
        int mark_rc = rc == 0 ? table_mark_begin(table_arena(table), memory_file()) : 0;
        base_fault_arm(FAULT_NONE, 0, 0);
        fired = base_fault_fired();
        failed += rc != 0 || mark_rc != 0;
        if (rc == 0)
            table_close(table);
    }
    ok(!fired && failed == nth - 2, "making and marking, fault %d: %u places", (int)kind,
       failed);
}

int
main(void)
{
    for (size_t i = 0; i < ARRAY_LEN(operations); i++) {
        test_operation(&operations[i], FAULT_ALLOC);
        test_operation(&operations[i], FAULT_IO_FAIL);
    }
    for (unsigned recover = 0; recover < 2; recover++) {
        test_opening(FAULT_ALLOC, recover != 0);
        test_opening(FAULT_IO_FAIL, recover != 0);
    }
    test_making(FAULT_ALLOC);
    test_making(FAULT_IO_FAIL);
    return done_testing();
}
