/* SPDX-License-Identifier: Apache-2.0 */
/*
 * faults.h - tries an operation on a store again and again, each time with another allocation or
 * file call failing, or the process killed at another write, and looks at the store afterwards.
 *
 * What must hold whatever happened: readers open the store and read right bytes; a writer opens
 * it; the operation is either done or the directory is, file for file, what it was before; no
 * space is lost; check finds nothing.
 *
 * Ownership:  an operation's functions are the test's.
 * Threads:    one at a time: faults are armed for the whole process.
 * Errors:     what is the test's own trouble ends it with bail().
 */
#ifndef TESTS_STORE_FAULTS_H
#define TESTS_STORE_FAULTS_H

#include <errno.h>
#include <sys/wait.h>

#include "base/fault.h"
#include "store/images.h"
#include "store/store_priv.h"
#include "store/tree.h"

/* What OPERATION.state() says of a store. */
enum { STATE_WRONG = -1, STATE_BEFORE = 0, STATE_DONE = 1 };

struct operation {
    const char *name;
    void (*prepare)(struct dor_store *store);
    int (*run)(struct dor_store *store);
    int (*state)(struct dor_store *store);
    bool gradual; /* may be done in part: gc */
    bool grows;   /* in part it may take more space than before */
    const struct dor_options *options;
};

enum { FAULT_POINTS_MAX = 20000 };

struct fault_run {
    const struct operation *operation;
    const char *path;
    struct tree before;
    const char *what; /* for notes */
    uint64_t nth;
    unsigned wrong;
};

static inline void
fault_wrong(struct fault_run *run, const char *why)
{
    if (run->wrong++ < 8)
        note(
            "%s, %s %d: %s: %s", run->operation->name, run->what, (int)run->nth, why,
            dor_err_message());
}

static inline void
print_finding(void *context, const struct dor_finding *finding)
{
    (void)context;
    note("check: %s: %s", finding->file, finding->detail);
}

/* Reads and verifies everything; false when there is a finding. */
static inline bool
is_sound(struct dor_store *store)
{
    struct dor_check check = {.report = print_finding};
    struct dor_check_result result = {0};
    int err = dor_store_check(store, &check, &result);
    if (err != 0)
        note("check: %s", dor_err_message());
    return err == 0 && result.findings == 0;
}

/* Every byte of the directory is accounted for. */
static inline bool
has_no_leftovers(struct dor_store *store, const char *path)
{
    struct dor_stat stat = {0};
    uint64_t bytes = directory_bytes(path);
    if (dor_store_stat(store, &stat) == 0 && stat.stored_bytes == bytes)
        return true;
    note("%d bytes in the directory, %d in the store", (int)bytes, (int)stat.stored_bytes);
    return false;
}

/* The directory after the fault, once a writer has opened it: as before, or done, or neither. */
static inline int
look_after(struct fault_run *run)
{
    struct dor_store *store;
    struct tree after;
    if (dor_store_open(run->path, DOR_OPEN_READ, NULL, &store) != 0) {
        fault_wrong(run, "a reader cannot open the store");
        return STATE_WRONG;
    }
    if (run->operation->state(store) == STATE_WRONG)
        fault_wrong(run, "a reader sees neither before nor after");
    dor_store_close(store);
    if (dor_store_open(run->path, DOR_OPEN_WRITE, NULL, &store) != 0) {
        fault_wrong(run, "a writer cannot open the store");
        return STATE_WRONG;
    }
    int state = run->operation->state(store);
    if (state == STATE_WRONG)
        fault_wrong(run, "a writer sees neither before nor after");
    if (!is_sound(store))
        fault_wrong(run, "check finds something");
    if (!has_no_leftovers(store, run->path))
        fault_wrong(run, "space is lost");
    dor_store_close(store);
    tree_read(&after, run->path);
    tree_remove(&after, "lock");
    if (state == STATE_BEFORE && !run->operation->gradual && !tree_same(&run->before, &after))
        fault_wrong(run, "the files are not as before");
    if (run->operation->gradual && !run->operation->grows &&
        tree_bytes(&after) > tree_bytes(&run->before) + 200)
        fault_wrong(run, "it takes more space than before");
    tree_fini(&after);
    return state;
}

/* A handle after an error: it works on, or says that it cannot. */
static inline void
look_at_handle(struct fault_run *run, struct dor_store *store, int err)
{
    if (store->broken) {
        if (err == 0 || dor_store_remove(store, "anything") != DOR_E_IO)
            fault_wrong(run, "a broken handle does not say so");
        return;
    }
    int state = run->operation->state(store);
    if (err == 0 && state != STATE_DONE)
        fault_wrong(run, "it says it is done, but the handle sees something else");
    if (err != 0 && state == STATE_WRONG)
        fault_wrong(run, "the handle sees neither before nor after");
}

/* What follows is done without its log, which would have thousands of lines, until log_on(). */
static inline int
log_off(void)
{
    static int nowhere = -1;
    if (nowhere < 0)
        nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    int before = dup(STDERR_FILENO);
    dup2(nowhere, STDERR_FILENO);
    return before;
}

static inline void
log_on(int before)
{
    dup2(before, STDERR_FILENO);
    close(before);
}

/* One try in this process; true while there are more calls to fail. */
static inline bool
try_failure(struct fault_run *run, enum base_fault_kind kind, int errnum, int want)
{
    struct dor_store *store;
    tree_write(&run->before, run->path);
    if (dor_store_open(run->path, DOR_OPEN_WRITE, run->operation->options, &store) != 0)
        bail("%s", dor_err_message());
    base_fault_arm(kind, run->nth, errnum);
    int before = log_off();
    int err = run->operation->run(store);
    log_on(before);
    base_fault_arm(FAULT_NONE, 0, 0);
    bool fired = base_fault_fired();
    if (err != 0 && (!fired || err != want)) {
        note("it gives %d, not %d", err, want);
        fault_wrong(run, "another error than expected");
    }
    look_at_handle(run, store, err);
    dor_store_close(store);
    int state = look_after(run);
    if (err == 0 && state != STATE_DONE)
        fault_wrong(run, "it says it is done and is not");
    return fired && run->nth < FAULT_POINTS_MAX;
}

/* One try in a child that is killed; true while there are more writes to die at. */
static inline bool
try_kill(struct fault_run *run, enum base_fault_kind kind)
{
    tree_write(&run->before, run->path);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct dor_store *store;
        if (dor_store_open(run->path, DOR_OPEN_WRITE, run->operation->options, &store) != 0)
            _exit(2);
        base_fault_arm(kind, run->nth, 0);
        _exit(run->operation->run(store) == 0 ? 0 : 1);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
        bail("the child is lost");
    int code = WEXITSTATUS(status);
    if (code != 0 && code != FAULT_EXIT_CODE)
        fault_wrong(run, "it fails where it should be killed");
    int state = look_after(run);
    if (code == 0 && state != STATE_DONE)
        fault_wrong(run, "it says it is done and is not");
    return code == FAULT_EXIT_CODE && run->nth < FAULT_POINTS_MAX;
}

static inline void
report_run(struct fault_run *run)
{
    is_int(
        run->wrong, 0, "%s: %s at one in %u of %d calls", run->operation->name, run->what,
        tap_every(), (int)run->nth - 1);
    run->wrong = 0;
}

static inline void
try_failures(
    struct fault_run *run, enum base_fault_kind kind, int errnum, int want, const char *what)
{
    run->what = what;
    run->nth = tap_first();
    while (try_failure(run, kind, errnum, want))
        run->nth += tap_every();
    report_run(run);
}

static inline void
try_kills(struct fault_run *run, enum base_fault_kind kind, const char *what)
{
    run->what = what;
    run->nth = tap_first();
    while (try_kill(run, kind))
        run->nth += tap_every();
    report_run(run);
}

/* Make the directory PATH as the operation needs it and keep it in RUN. */
static inline void
prepare_operation(struct fault_run *run)
{
    struct dor_store *store;
    if (dor_store_create(run->path, NULL) != 0 ||
        dor_store_open(run->path, DOR_OPEN_WRITE, run->operation->options, &store) != 0)
        bail("%s", dor_err_message());
    run->operation->prepare(store);
    if (run->operation->state(store) != STATE_BEFORE)
        bail("%s: the store is not ready: %s", run->operation->name, dor_err_message());
    dor_store_close(store);
    tree_read(&run->before, run->path);
    tree_remove(&run->before, "lock");
}

static inline void
try_all(struct fault_run *run)
{
    try_failures(run, FAULT_ALLOC, 0, DOR_E_NO_MEMORY, "no memory");
    try_failures(run, FAULT_IO_FAIL, EIO, DOR_E_IO, "an I/O error");
    try_failures(run, FAULT_IO_FAIL, ENOSPC, DOR_E_NO_SPACE, "no space");
    try_failures(run, FAULT_IO_FAIL_STICKY, EIO, DOR_E_IO, "I/O errors from then on");
    try_failures(run, FAULT_IO_FAIL_STICKY, ENOSPC, DOR_E_NO_SPACE, "no space from then on");
    try_kills(run, FAULT_WRITE_KILL, "killed half-way");
    try_kills(run, FAULT_WRITE_SKIP_KILL, "killed before");
}

static inline void
test_operation(const struct operation *operation)
{
    struct fault_run run = {.operation = operation, .path = test_path(operation->name)};
    prepare_operation(&run);
    try_all(&run);
    tree_fini(&run.before);
}

#endif
