/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_table_mark.c - another process reads the arena as it was at the moment of a mark while the
 * table changes, moves and is emptied; what it read is a table with just what was there.
 */
#include "worlds.h"

#include <sched.h>
#include <sys/wait.h>

#include "table/mark.h"

enum { LIMIT_BYTES = 4 << 20, ROUNDS = 12, READ_PAGES = 3 };

struct shared {
    _Atomic uint32_t pages_read;
    _Atomic bool done;
};

static struct shared *shared;

/* The child's part: all of the mark, a few pages at a time, into the file COPY_FD. */
_Noreturn static void
read_mark(int arena_fd, int mark_fd, int copy_fd)
{
    uint64_t bytes;
    static uint8_t pages[READ_PAGES * DOR_PAGE_BYTES];
    int rc = table_mark_arena_bytes(mark_fd, &bytes);
    for (uint64_t at = 0; rc == 0 && at < bytes; at += sizeof pages) {
        size_t size = (size_t)base_min_u64(sizeof pages, bytes - at);
        rc = table_mark_read(arena_fd, mark_fd, bytes, at, size, pages);
        if (rc == 0 && pwrite(copy_fd, pages, size, (off_t)at) != (ssize_t)size)
            rc = DOR_E_IO;
        shared->pages_read += READ_PAGES;
        sched_yield();
    }
    shared->done = true;
    _exit(rc == 0 ? 0 : 1);
}

static void
test_reader(struct table **owner, struct world *world, unsigned round, uint64_t seed)
{
    struct table *table = *owner;
    bool open = round % 3 == 2;
    struct world then = *world;
    int mark_fd = memory_file(), copy_fd = memory_file(), arena_fd = table_arena(table)->fd;
    int rc = open ? table_begin(table) : 0;
    for (unsigned i = 0; rc == 0 && open && i < 30; i++)
        rc = world_change(world, table, i * 5);
    if (rc == 0)
        rc = table_mark_begin(table_arena(table), dup(mark_fd));
    if (rc != 0)
        bail("%s", dor_err_message());
    *shared = (struct shared){0};
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        read_mark(arena_fd, mark_fd, copy_fd);
    if (open)
        table_abort(table);
    *world = then;
    unsigned changes = 0;
    for (; !shared->done || changes < 50; changes++) {
        struct operation operation = world_operation(seed, round * 100000 + changes);
        if (world_do(world, table, &operation) != 0)
            bail("%s", dor_err_message());
        if (changes == 20 && round % 4 == 1) {
            world_flush(world, false);
            rc = table_flush(table, false);
        }
        table_set_limit(table, LIMIT_BYTES, TABLE_NO_EVICTION);
        table_maintain(table, 100);
    }
    int status;
    if (waitpid(child, &status, 0) != child)
        bail("the child is lost");
    ok(WIFEXITED(status) && WEXITSTATUS(status) == 0, "round %u: read over %u changes", round,
       changes);
    table_mark_end(table_arena(table));
    const struct table_options options = {.limit_bytes = LIMIT_BYTES};
    struct table *copy;
    if (table_open(copy_fd, &options, open, &copy) != 0)
        bail("%s", dor_err_message());
    table_set_now(copy, NOW_MS);
    const char *trouble = table_trouble(copy);
    ok(trouble == NULL, "round %u: what was read is in order", round);
    is_int(world_differs(&then, copy), WORLD_KEYS, "round %u: and as it was", round);
    ok(table_trouble(table) == NULL && world_differs(world, table) == WORLD_KEYS,
       "round %u: the table is as it should be now", round);
    table_close(copy);
    close(mark_fd);
}

static void
test_errors(struct table *table)
{
    uint64_t bytes;
    uint8_t page[DOR_PAGE_BYTES];
    int mark_fd = memory_file(), arena_fd = table_arena(table)->fd;
    is_int(table_mark_arena_bytes(mark_fd, &bytes), DOR_E_CORRUPT, "an empty file is no mark");
    if (ftruncate(mark_fd, 5000) != 0)
        bail("no memory file");
    is_int(table_mark_arena_bytes(mark_fd, &bytes), DOR_E_CORRUPT, "nor one of 5000 bytes");
    is_ok(table_mark_begin(table_arena(table), dup(mark_fd)), "a mark");
    is_int(table_mark_begin(table_arena(table), memory_file()), DOR_E_BUSY, "stands alone");
    is_ok(table_mark_arena_bytes(mark_fd, &bytes), "and says how long it is");
    is_int(bytes % DOR_PAGE_BYTES, 0, "in pages");
    is_int(
        table_mark_read(arena_fd, mark_fd, bytes, bytes, DOR_PAGE_BYTES, page), DOR_E_USAGE,
        "no page behind it is read");
    is_int(
        table_mark_read(arena_fd, mark_fd, bytes, 100, DOR_PAGE_BYTES, page), DOR_E_USAGE,
        "nor a part of one");
    /* Memory that became free is not given back while the mark stands. */
    if (table_flush(table, true) != 0)
        bail("%s", dor_err_message());
    upkeep(table);
    bool same = true;
    for (uint64_t at = 0; at < bytes; at += DOR_PAGE_BYTES)
        same &= table_mark_read(arena_fd, mark_fd, bytes, at, sizeof page, page) == 0 &&
                (at != 0 || page[0] == 'D');
    ok(same, "all pages are read after a flush");
    table_mark_end(table_arena(table));
    table_mark_end(table_arena(table));
    close(mark_fd);
}

int
main(void)
{
    uint64_t seed = tap_seed();
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        bail("no memory");
    struct table *table = new_table(LIMIT_BYTES, TABLE_NO_EVICTION);
    struct world world = {0};
    for (unsigned i = 0; i < WORLD_KEYS; i++)
        if (world_set(&world, table, i, false) != 0)
            bail("%s", dor_err_message());
    for (unsigned round = 0; round < ROUNDS; round++)
        test_reader(&table, &world, round, seed);
    test_errors(table);
    table_close(table);
    return done_testing();
}
