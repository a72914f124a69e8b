/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_table_kill_steps.c - a process is stepped through operations on a table, an instruction at a
 * time. Whenever the arena has changed, a copy of it is recovered, as if the process had been
 * killed there: it holds what was before or after the operation, and nothing is damaged. Some of
 * these copies are recovered under the same eye. Where not all is tried (tap_every()), a stretch
 * of the operations is stepped through, and no recovery.
 */
#include "worlds.h"

#include <sched.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

enum {
    LIMIT_BYTES = 256 << 10,
    COPY_BYTES = 64 << 10, /* the arena's file as it is made; nothing here needs more */
    STEPS_MAX = 30000000,
    RECOVERIES = 2, /* that are stepped through too */
};

/* Before them there are KEYS_BEFORE keys: with the first one there is a split. */
enum { KEYS_BEFORE = 72 };

static const struct operation operations[] = {
    {SET, 200, 0},   {SET, 3, 0},       {REMOVE, 4, 0},  {REMOVE, 5, 0},  {REMOVE, 6, 0},
    {REMOVE, 8, 0},  {SET, 201, 0},     {COMMIT, 10, 6}, {ABORT, 20, 6},  {DRAFT, 31, 0},
    {APPEND, 30, 0}, {APPEND, 30, 0},   {APPEND, 33, 0}, {APPEND, 33, 0}, {SET, 202, 0},
    {UPKEEP, 0, 0},  {REMOVE, 40, 0},   {REMOVE, 41, 0}, {REMOVE, 42, 0}, {REMOVE, 43, 0},
    {UPKEEP, 0, 0},  {COMMIT, 50, 9},   {SET, 203, 0},   {FLUSH, 0, 0},   {SET, 225, 0},
    {COMMIT, 1, 3},  {FLUSH_ALL, 0, 0}, {SET, 7, 0},
};

struct shared {
    _Atomic uint32_t at;
    _Atomic bool done;
};

static struct shared *shared;
static struct world worlds[ARRAY_LEN(operations) + 1]; /* before each, and after the last */
static uint8_t arena_before[COPY_BYTES];
static uint32_t stretch_at, stretch_end; /* the operations that are stepped through */
static unsigned states, wrong;

/* A memory file with what ARENA has, of COPY_BYTES. */
static int
copy_of(const uint8_t *arena)
{
    int fd = memory_file();
    if (pwrite(fd, arena, COPY_BYTES, 0) != COPY_BYTES)
        bail("a memory file takes no bytes");
    return fd;
}

static int
open_file(int fd, struct table **ret)
{
    const struct table_options options = {.limit_bytes = LIMIT_BYTES};
    int rc = table_open(fd, &options, true, ret);
    if (rc == 0)
        table_set_now(*ret, NOW_MS);
    return rc;
}

/* A copy of ARENA, recovered, against the worlds FIRST and FIRST + 1. */
static void
check_state(const uint8_t *arena, uint32_t first)
{
    struct table *table;
    states++;
    if (open_file(copy_of(arena), &table) != 0) {
        wrong++;
        note("operation %u: %s", first, dor_err_message());
        return;
    }
    const char *trouble = table_trouble(table);
    if (trouble != NULL || (world_differs(&worlds[first], table) != WORLD_KEYS &&
                            world_differs(&worlds[first + 1], table) != WORLD_KEYS)) {
        wrong++;
        note(
            "operation %u: %s, key %u", first, trouble != NULL ? trouble : "is half done",
            world_differs(&worlds[first], table));
    }
    table_close(table);
}

/* The child's part: WORK with the file FD, between two stops. */
_Noreturn static void
be_stepped(void (*work)(int fd), int fd)
{
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
        _exit(77);
    raise(SIGSTOP);
    work(fd);
    shared->done = true;
    raise(SIGSTOP);
    _exit(0);
}

/* Step through WORK on FD and call FN whenever the arena has changed. False = it cannot be done. */
static bool
step_through(
    void (*work)(int fd), int fd, void (*fn)(const uint8_t *arena, uint32_t at), uint64_t *ret)
{
    fflush(stdout);
    shared->done = false;
    pid_t child = fork();
    if (child == 0)
        be_stepped(work, fd);
    uint8_t *arena = mmap(NULL, COPY_BYTES, PROT_READ, MAP_SHARED, fd, 0);
    if (arena == MAP_FAILED)
        bail("cannot map an arena");
    memcpy(arena_before, arena, COPY_BYTES);
    int status;
    uint64_t steps = 0;
    if (waitpid(child, &status, 0) != child)
        bail("the child is lost");
    bool stopped = WIFSTOPPED(status);
    while (stopped && !shared->done && steps < STEPS_MAX) {
        if (ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) != 0 ||
            waitpid(child, &status, 0) != child || !WIFSTOPPED(status))
            break;
        steps++;
        uint32_t at = shared->at;
        if (memcmp(arena_before, arena, COPY_BYTES) != 0) {
            memcpy(arena_before, arena, COPY_BYTES);
            fn(arena, at);
        }
    }
    bool done = shared->done;
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    munmap(arena, COPY_BYTES);
    *ret = steps;
    return done;
}

static void
do_operations(int fd)
{
    struct table *table;
    struct world world = worlds[stretch_at];
    const struct table_options options = {.limit_bytes = LIMIT_BYTES};
    if (table_open(fd, &options, false, &table) != 0)
        _exit(1);
    table_set_now(table, NOW_MS);
    for (uint32_t i = stretch_at; i < stretch_end; i++) {
        shared->at = i;
        if (world_do(&world, table, &operations[i]) != 0)
            _exit(1);
    }
    shared->done = true;
}

/* Some states on the way, to step through their recovery. */
static struct {
    uint8_t arena[COPY_BYTES];
    uint32_t at;
} kept[RECOVERIES];
static unsigned kept_count;
static uint32_t recovered;

static void
look(const uint8_t *arena, uint32_t at)
{
    static unsigned candidates;
    check_state(arena, at);
    /* From the midst of transactions and of a flush. */
    bool open = ((const struct table_header *)(const void *)arena)->journal_count > 4;
    if (tap_every() > 1 || (!open && operations[at].kind != FLUSH))
        return;
    if (kept_count < RECOVERIES && ++candidates % 37 == 0) {
        memcpy(kept[kept_count].arena, arena, COPY_BYTES);
        kept[kept_count++].at = at;
    }
}

static void
recover(int fd)
{
    struct table *table;
    if (open_file(fd, &table) != 0)
        _exit(1);
    shared->done = true;
}

static void
look_again(const uint8_t *arena, uint32_t at)
{
    (void)at;
    check_state(arena, recovered);
}

int
main(void)
{
#if defined(__SANITIZE_THREAD__)
    skip_all("there is one thread, and the sanitizer's steps are many");
#endif
    /* On one processor a step is a switch and no more. */
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    if (sched_setaffinity(0, sizeof one, &one) != 0)
        note("steps are slow: %m");
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        bail("no memory");
    /* The seed of the hash is given, so that chains are as long in each run. */
    struct table_arena arena;
    int fd = memory_file();
    if (table_arena_create(dup(fd), LIMIT_BYTES, 7, &arena) != 0)
        bail("%s", dor_err_message());
    table_arena_close(&arena);
    struct table *table;
    if (open_file(dup(fd), &table) != 0)
        bail("%s", dor_err_message());
    for (unsigned i = 0; i < KEYS_BEFORE; i++)
        if (world_set(&worlds[0], table, i, false) != 0)
            bail("%s", dor_err_message());
    uint32_t stretch = ARRAY_LEN(operations) / tap_every();
    stretch_at = ((uint32_t)tap_first() - 1) * stretch;
    stretch_end = stretch_at + stretch;
    for (unsigned i = 0; i < ARRAY_LEN(operations); i++) {
        worlds[i + 1] = worlds[i];
        if (world_do(&worlds[i + 1], i < stretch_at ? table : NULL, &operations[i]) != 0)
            bail("%s", dor_err_message());
    }
    table_close(table);
    uint64_t steps;
    if (!step_through(do_operations, fd, look, &steps)) {
        if (steps == 0)
            skip_all("a process cannot be traced here");
        bail("the operations did not end in %" PRIu64 " steps", steps);
    }
    is_int(wrong, 0, "%u states in %" PRIu64 " steps are whole after recovery", states, steps);
    ok(kept_count == RECOVERIES || tap_every() > 1, "some of them are kept");
    for (unsigned i = 0; i < kept_count; i++) {
        int copy = copy_of(kept[i].arena);
        recovered = kept[i].at;
        states = wrong = 0;
        ok(step_through(recover, copy, look_again, &steps), "recovery %u is stepped", i);
        is_int(wrong, 0, "%u states in %" PRIu64 " steps of it are whole", states, steps);
        close(copy);
    }
    close(fd);
    return done_testing();
}
