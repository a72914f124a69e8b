/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_base_thread.c - threads run and are joined, locks lock, conditions wake and time out, and
 * signals stay with the thread that was there first.
 */
#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/thread.h"
#include "tap.h"

enum { THREADS = 4, ROUNDS = 20000 };

struct shared {
    struct base_mutex mutex;
    struct base_condition condition;
    unsigned count;
    bool go;
    bool blocked;
    char name[16];
};

static void
count_up(void *context)
{
    struct shared *shared = context;
    for (unsigned i = 0; i < ROUNDS; i++) {
        base_mutex_lock(&shared->mutex);
        shared->count++;
        base_mutex_unlock(&shared->mutex);
    }
}

static void
test_locks(struct shared *shared)
{
    struct base_thread threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++)
        is_ok(base_thread_start(&threads[i], "counter", count_up, shared), "a thread starts");
    for (unsigned i = 0; i < THREADS; i++)
        base_thread_join(&threads[i]);
    is_int(shared->count, THREADS * ROUNDS, "a lock keeps count");
}

static void
wait_for_go(void *context)
{
    struct shared *shared = context;
    sigset_t mask;
    base_mutex_lock(&shared->mutex);
    while (!shared->go)
        base_condition_wait(&shared->condition, &shared->mutex);
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    shared->blocked = sigismember(&mask, SIGTERM) == 1 && sigismember(&mask, SIGINT) == 1;
    base_mutex_unlock(&shared->mutex);
}

static void
test_conditions(struct shared *shared)
{
    struct base_thread thread;
    sigset_t mask;
    if (base_thread_start(&thread, "waiter", wait_for_go, shared) != 0)
        bail("%s", dor_err_message());
    ok(pthread_getname_np(thread.id, shared->name, sizeof shared->name) == 0 &&
           strcmp(shared->name, "waiter") == 0,
       "it has its name");
    base_mutex_lock(&shared->mutex);
    shared->go = true;
    base_mutex_unlock(&shared->mutex);
    base_condition_wake_all(&shared->condition);
    base_thread_join(&thread);
    ok(shared->blocked, "it was woken, and has all signals blocked");
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    is_int(sigismember(&mask, SIGTERM), 0, "the first thread has not");
    base_mutex_lock(&shared->mutex);
    uint64_t before = base_clock_monotonic_ns();
    ok(!base_condition_wait_until(&shared->condition, &shared->mutex, before + 20000000),
       "nobody wakes: the deadline comes");
    ok(base_clock_monotonic_ns() >= before + 20000000, "and not before its time");
    base_mutex_unlock(&shared->mutex);
}

static void
test_no_memory(struct shared *shared)
{
    struct base_thread thread;
    base_fault_arm(FAULT_ALLOC, 1, 0);
    is_int(
        base_thread_start(&thread, "none", count_up, shared), DOR_E_NO_MEMORY,
        "no memory, no thread");
    base_fault_arm(FAULT_NONE, 0, 0);
}

int
main(void)
{
    struct shared shared = {.count = 0};
    base_mutex_init(&shared.mutex);
    base_condition_init(&shared.condition);
    test_locks(&shared);
    test_conditions(&shared);
    test_no_memory(&shared);
    base_condition_fini(&shared.condition);
    base_mutex_fini(&shared.mutex);
    return done_testing();
}
