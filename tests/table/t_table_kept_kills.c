/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_table_kept_kills.c - a process is killed at each write of log, manifest, folder and store, also
 * while it puts in order what an earlier one left. No change that was told as done is lost, and no
 * other is there but the one that was being made.
 */
#include "kept_model.h"

#include <sys/wait.h>

#include "base/fault.h"
#include "base/log.h"

enum { CHANGES = 30, ROUNDS_MAX = 2000 };

/* Shared with the child. */
struct told {
    _Atomic uint64_t done; /* changes that were told as done */
    _Atomic bool ended;
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

/* From the table in FOLDER on, two snapshots and changes between. */
static _Noreturn void
live_and_die(const char *folder, enum base_fault_kind kind, uint64_t nth)
{
    struct kept_live live;
    base_fault_arm(kind, nth, 0);
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
    atomic_store(&told->ended, true);
    _exit(0);
}

/* True when the child was killed. */
static bool
kill_one(const char *folder, enum base_fault_kind kind, uint64_t nth)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        live_and_die(folder, kind, nth);
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
        bail("a child did not end by itself");
    if (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != FAULT_EXIT_CODE)
        bail("a child failed with %d", WEXITSTATUS(status));
    return WEXITSTATUS(status) == FAULT_EXIT_CODE;
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
    uint64_t nth = 1;
    for (bool more = true; more && nth < ROUNDS_MAX; nth++) {
        char folder[64];
        kept_folder(folder);
        atomic_store(&told->done, 0);
        more = kill_one(folder, kind, nth);
        killed += more;
        /* Who comes next is killed too, in its first writes or later ones. */
        if (more)
            (void)kill_one(folder, kind, 1 + nth * 7 % 23);
        if (!is_as_told(folder)) {
            note("killed at write %" PRIu64 ": the table is not what was told", nth);
            wrong++;
        }
        kept_folder_remove(folder);
    }
    ok(killed > 100, "%s: killed at each of %u writes", name, killed);
    is_int(wrong, 0, "%s: nothing that was told is lost", name);
}

int
main(void)
{
    base_log_level_set(LOG_LEVEL_ERROR);
    told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (told == MAP_FAILED)
        bail("no memory");
    test_kills(FAULT_WRITE_KILL, "in the midst");
    test_kills(FAULT_WRITE_SKIP_KILL, "before");
    return done_testing();
}
