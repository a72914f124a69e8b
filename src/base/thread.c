/* SPDX-License-Identifier: Apache-2.0 */
/*
 * thread.c - POSIX threads in our error convention.
 */
#include "base/thread.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/fault.h"
#include "base/mem.h"

struct start {
    void (*main)(void *context);
    void *context;
};

static void *
run(void *argument)
{
    struct start start = *(struct start *)argument;
    base_free(argument);
    start.main(start.context);
    return NULL;
}

/* Signals are for the thread that was there first: it alone knows what to do about them. */
static int
create(pthread_t *id, struct start *start)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(id, NULL, run, start);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

int
base_thread_start(
    struct base_thread *thread, const char *name, void (*main)(void *context), void *context)
{
    struct start *start = base_alloc(sizeof *start);
    if (start == NULL)
        return DOR_E_NO_MEMORY;
    *start = (struct start){main, context};
    int rc = create(&thread->id, start);
    if (rc != 0) {
        base_free(start);
        return dor_fail(DOR_E_NO_MEMORY, "cannot start thread %s: %s", name, strerror(rc));
    }
    (void)pthread_setname_np(thread->id, name);
    return 0;
}

void
base_thread_join(struct base_thread *thread)
{
    int rc = pthread_join(thread->id, NULL);
    dor_assert(rc == 0);
}

void
base_mutex_init(struct base_mutex *mutex)
{
    int rc = pthread_mutex_init(&mutex->mutex, NULL);
    dor_assert(rc == 0);
}

void
base_mutex_fini(struct base_mutex *mutex)
{
    int rc = pthread_mutex_destroy(&mutex->mutex);
    dor_assert(rc == 0);
}

void
base_mutex_lock(struct base_mutex *mutex)
{
    int rc = pthread_mutex_lock(&mutex->mutex);
    dor_assert(rc == 0);
}

void
base_mutex_unlock(struct base_mutex *mutex)
{
    int rc = pthread_mutex_unlock(&mutex->mutex);
    dor_assert(rc == 0);
}

/* Deadlines are of the monotonic clock, which nobody sets. */
void
base_condition_init(struct base_condition *condition)
{
    pthread_condattr_t attributes;
    int rc = pthread_condattr_init(&attributes);
    if (rc == 0)
        rc = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    if (rc == 0)
        rc = pthread_cond_init(&condition->condition, &attributes);
    dor_assert(rc == 0);
    pthread_condattr_destroy(&attributes);
}

void
base_condition_fini(struct base_condition *condition)
{
    int rc = pthread_cond_destroy(&condition->condition);
    dor_assert(rc == 0);
}

void
base_condition_wait(struct base_condition *condition, struct base_mutex *mutex)
{
    int rc = pthread_cond_wait(&condition->condition, &mutex->mutex);
    dor_assert(rc == 0);
}

bool
base_condition_wait_until(
    struct base_condition *condition, struct base_mutex *mutex, uint64_t deadline_ns)
{
    struct timespec deadline = {
        .tv_sec = (time_t)(deadline_ns / 1000000000),
        .tv_nsec = (long)(deadline_ns % 1000000000)};
    int rc = pthread_cond_timedwait(&condition->condition, &mutex->mutex, &deadline);
    dor_assert(rc == 0 || rc == ETIMEDOUT);
    return rc == 0;
}

void
base_condition_wake_all(struct base_condition *condition)
{
    int rc = pthread_cond_broadcast(&condition->condition);
    dor_assert(rc == 0);
}
