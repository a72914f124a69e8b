/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_table_kill.c - a process dies with a table at a random moment, again and again, and sometimes
 * another one while it recovers the table. What is found is what was there before or after the
 * operation it was at, whole transactions and flushes included, and nothing is damaged.
 */
#include "worlds.h"

#include <signal.h>
#include <sys/wait.h>

enum { LIMIT_BYTES = 4 << 20, ROUNDS = 150 };

struct shared {
    _Atomic uint64_t at; /* the operation that is under way */
};

static struct shared *shared;

static struct table *
open_copy(int fd)
{
    const struct table_options options = {.limit_bytes = LIMIT_BYTES};
    struct table *table;
    if (table_open(dup(fd), &options, true, &table) != 0)
        bail("%s", dor_err_message());
    table_set_now(table, NOW_MS);
    return table;
}

static void
wait_for(pid_t child)
{
    int status;
    if (waitpid(child, &status, 0) != child)
        bail("the child is lost");
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
        bail("the child found an error");
}

/* Kill CHILD after at most MOST_US. */
static void
kill_after(pid_t child, struct base_random *rng, uint64_t most_us)
{
    usleep((useconds_t)base_random_below(rng, most_us));
    kill(child, SIGKILL);
    wait_for(child);
}

_Noreturn static void
work(int fd, uint64_t seed, struct world world)
{
    struct table *table = open_copy(fd);
    for (uint64_t n = shared->at;; n++) {
        shared->at = n;
        struct operation operation = world_operation(seed, n);
        if (world_do(&world, table, &operation) != 0) {
            note("operation %" PRIu64 ": %s", n, dor_err_message());
            _exit(1);
        }
    }
}

int
main(void)
{
    uint64_t seed = tap_seed();
    struct base_random rng;
    base_random_init(&rng, seed);
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        bail("no memory");
    struct table *table = new_table(LIMIT_BYTES, TABLE_NO_EVICTION);
    int fd = dup(table_arena(table)->fd);
    table_close(table);
    struct world world = {0};
    unsigned wrong = 0, before = 0, after = 0;
    uint64_t first = 0;
    for (unsigned round = 0; round < ROUNDS && wrong == 0; round++) {
        fflush(stdout);
        pid_t child = fork();
        if (child == 0)
            work(fd, seed, world);
        kill_after(child, &rng, round % 2 == 0 ? 3000 : 30000);
        for (unsigned n = 0; n < round % 4; n++) {
            pid_t other = fork();
            if (other == 0) {
                table_close(open_copy(fd));
                _exit(0);
            }
            kill_after(other, &rng, 1500);
        }
        /* What the child had done for sure, and what it was at. */
        for (; first < shared->at; first++) {
            struct operation done = world_operation(seed, first);
            if (world_do(&world, NULL, &done) != 0)
                bail("a model does not fail");
        }
        struct world next = world;
        struct operation under_way = world_operation(seed, first);
        if (world_do(&next, NULL, &under_way) != 0)
            bail("a model does not fail");
        table = open_copy(fd);
        const char *trouble = table_trouble(table);
        bool is_before = world_differs(&world, table) == WORLD_KEYS;
        bool is_after = world_differs(&next, table) == WORLD_KEYS;
        if (trouble != NULL || (!is_before && !is_after)) {
            wrong++;
            note(
                "round %u, operation %" PRIu64 " of kind %d: %s; keys %u and %u differ", round,
                first, (int)under_way.kind, trouble != NULL ? trouble : "not as it should be",
                world_differs(&world, table), world_differs(&next, table));
        }
        before += is_before;
        after += is_after && !is_before;
        table_close(table);
        if (!is_before) {
            world = next;
            shared->at = ++first;
        }
    }
    is_int(wrong, 0, "%" PRIu64 " operations, killed %u times", first, before + after);
    note("%u times as before, %u times as after", before, after);
    close(fd);
    return done_testing();
}
