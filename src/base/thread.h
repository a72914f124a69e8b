/* SPDX-License-Identifier: Apache-2.0 */
/*
 * thread.h - threads and the locks between them: POSIX's, with errors in our convention and names
 * that show in ps and in traces.
 *
 * Ownership:  a started thread is joined once; locks and conditions lie in their users' structs.
 * Threads:    any.
 * Errors:     DOR_E_NO_MEMORY when the system starts no further thread. Locks cannot fail: misuse
 *             is wrong code and ends the program.
 */
#ifndef DOR_BASE_THREAD_H
#define DOR_BASE_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <dormouse/err.h>

struct base_thread {
    pthread_t id;
};

/* Run MAIN(CONTEXT) in a thread called NAME (at most 15 bytes), with all signals blocked. */
DOR_MUST_CHECK int base_thread_start(
    struct base_thread *thread, const char *name, void (*main)(void *context), void *context);
void base_thread_join(struct base_thread *thread);

struct base_mutex {
    pthread_mutex_t mutex;
};

void base_mutex_init(struct base_mutex *mutex);
void base_mutex_fini(struct base_mutex *mutex);
void base_mutex_lock(struct base_mutex *mutex);
void base_mutex_unlock(struct base_mutex *mutex);

struct base_condition {
    pthread_cond_t condition;
};

void base_condition_init(struct base_condition *condition);
void base_condition_fini(struct base_condition *condition);
/* Unlock MUTEX, wait to be woken, lock it again. May return for no reason: look again. */
void base_condition_wait(struct base_condition *condition, struct base_mutex *mutex);
/* The same until base_clock_monotonic_ns() is DEADLINE_NS; false when that came first. */
bool base_condition_wait_until(
    struct base_condition *condition, struct base_mutex *mutex, uint64_t deadline_ns);
void base_condition_wake_all(struct base_condition *condition);

#endif
