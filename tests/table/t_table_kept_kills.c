/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_table_kept_kills.c - a process is killed at each write of log, manifest, folder and store,
 * also while it puts in order what an earlier one left; file calls and allocations fail. No
 * change that was told as done is lost, and no other is there but the one that was being made.
 */
#include "kept_model.h"

#include <errno.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/log.h"

enum { CHANGES = 30, ROUNDS_MAX = 20000 };
enum { GIVEN_UP = 1 }; /* the exit code of a child that came to an error */

/* Shared with the child. */
struct told {
    _Atomic uint64_t done; /* changes that were told as done */
    _Atomic bool fired;    /* the fault happened, and the child lived on */
};

static struct told *told;

static void
change(struct kept_live *live, struct model *model, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        kept_live_change(live, model);
        atomic_store(&told->done, model->changes);
    }
}

static void
snapshot(struct kept_live *live, struct model *model)
{
    if (kept_live_mark(live) != 0)
        bail("%s", dor_err_message());
    change(live, model, CHANGES);
    if (!kept_live_is_done(live, 30000) || kept_live_unmark(live, NULL) != 0)
        bail("%s", dor_err_message());
}

/* The model after COUNT changes. */
static struct model
model_of(uint64_t count)
{
    struct model model = {0};
    while (model.changes < count)
        model_apply(&model);
    return model;
}

/* As a kill: that threads and memory stay as they are is no leak, and no sanitizer is asked. */
static void
give_up(void)
{
    (void)syscall(SYS_exit_group, GIVEN_UP);
}

/* From the table in FOLDER on, two snapshots and changes between. */
static _Noreturn void
live_and_die(const char *folder, enum base_fault_kind kind, uint64_t nth)
{
    struct kept_live live;
    if (atexit(give_up) != 0)
        _exit(0);
    base_fault_arm(kind, nth, EIO);
    if (kept_live_begin(folder, false, &live) != 0)
        bail("%s", dor_err_message());
    struct model model = model_of(atomic_load(&told->done));
    if (!model_is(&model, live.table))
        model_apply(&model);
    if (!model_is(&model, live.table))
        bail("the table is not as it was");
    for (unsigned i = 0; i < 2; i++) {
        change(&live, &model, CHANGES);
        snapshot(&live, &model);
    }
    change(&live, &model, CHANGES);
    kept_live_end(&live);
    atomic_store(&told->fired, base_fault_fired());
    _exit(0);
}

static bool
kills(enum base_fault_kind kind)
{
    return kind == FAULT_WRITE_KILL || kind == FAULT_WRITE_SKIP_KILL;
}

/* True when the fault came. A child that is not killed may give up at any error. */
static bool
kill_one(const char *folder, enum base_fault_kind kind, uint64_t nth)
{
    fflush(stdout);
    atomic_store(&told->fired, false);
    pid_t child = fork();
    if (child == 0) {
        if (!kills(kind) && freopen("/dev/null", "w", stdout) == NULL)
            _exit(0);
        live_and_die(folder, kind, nth);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
        bail("a child did not end by itself");
    int code = WEXITSTATUS(status);
    if (code != 0 && code != (kills(kind) ? FAULT_EXIT_CODE : GIVEN_UP))
        bail("a child failed with %d", code);
    return code != 0 || atomic_load(&told->fired);
}

static bool
is_as_told(const char *folder)
{
    struct kept_live live;
    if (kept_live_begin(folder, false, &live) != 0) {
        note("%s", dor_err_message());
        return false;
    }
    uint64_t done = atomic_load(&told->done);
    struct model model = model_of(done), next = model_of(done + 1);
    bool right = model_is(&model, live.table) || model_is(&next, live.table);
    kept_live_end(&live);
    return right;
}

static void
test_kills(enum base_fault_kind kind, const char *name)
{
    unsigned wrong = 0, killed = 0;
    uint64_t nth = tap_first();
    /* There are thousands of allocations, many in the same few places. */
    for (bool more = true; more && nth < ROUNDS_MAX;
         nth += tap_every() * (kind == FAULT_ALLOC ? 1 + nth / 40 : 1)) {
        char folder[64];
        kept_folder(folder);
        atomic_store(&told->done, 0);
        more = kill_one(folder, kind, nth);
        killed += more;
        /* Who comes next is killed too, in its first writes or later ones. */
        if (more && kills(kind))
            (void)kill_one(folder, kind, 1 + nth * 7 % 23);
        if (!is_as_told(folder)) {
            note("%s %" PRIu64 ": the table is not what was told", name, nth);
            wrong++;
        }
        kept_folder_remove(folder);
    }
    ok(killed > 100 / tap_every(), "%s: %u places", name, killed);
    is_int(wrong, 0, "%s: nothing that was told is lost", name);
}

int
main(void)
{
    base_log_level_set(LOG_LEVEL_ERROR);
    told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (told == MAP_FAILED)
        bail("no memory");
    test_kills(FAULT_WRITE_KILL, "killed in the midst of a write");
    test_kills(FAULT_WRITE_SKIP_KILL, "killed before a write");
    test_kills(FAULT_IO_FAIL, "a file call fails");
    test_kills(FAULT_ALLOC, "an allocation fails");
    return done_testing();
}
