/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_sync.c - the thread that waits for the disk. Each second it syncs every log that was
 * written to; in between those that want it at once.
 */
#include "table/log_sync.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/thread.h"

#define SECOND_NS UINT64_C(1000000000)

struct table_syncer {
    struct base_thread thread; /* from the first log on */
    int event;
    struct base_mutex lock; /* of what follows */
    struct base_condition changed;
    struct table_sync *first;
    bool runs, stops;
};

int
table_sync_now(struct table_sync *sync)
{
    uint64_t written = atomic_load_explicit(&sync->written, memory_order_acquire);
    int rc = base_file_sync(sync->fd, "a table's log");
    atomic_fetch_add_explicit(&sync->syncs, 1, memory_order_relaxed);
    if (rc != 0) {
        /* What the system could not write it may have forgotten: trying again proves nothing. */
        atomic_store_explicit(&sync->errnum, rc, memory_order_release);
        return rc;
    }
    atomic_store_explicit(&sync->synced, written, memory_order_release);
    return 0;
}

static bool
is_behind(const struct table_sync *sync)
{
    return atomic_load_explicit(&sync->errnum, memory_order_relaxed) == 0 &&
           atomic_load_explicit(&sync->written, memory_order_relaxed) !=
               atomic_load_explicit(&sync->synced, memory_order_relaxed);
}

/* The next log to be synced, or NULL. */
static struct table_sync *
pick_locked(struct table_syncer *syncer, bool all)
{
    for (struct table_sync *sync = syncer->first; sync != NULL; sync = sync->next)
        if (sync->wanted || (all && is_behind(sync)))
            return sync;
    return NULL;
}

/* Sync what wants it, or ALL that was written to; true when somebody waits to be told. */
static bool
sync_locked(struct table_syncer *syncer, bool all)
{
    bool tell = false;
    uint64_t begun_ns = base_clock_monotonic_ns();
    struct table_sync *sync;
    while (!syncer->stops && (sync = pick_locked(syncer, all)) != NULL) {
        tell |= sync->wanted;
        sync->wanted = false;
        sync->busy = true;
        base_mutex_unlock(&syncer->lock);
        (void)!table_sync_now(sync); /* kept in the log, and said there */
        base_mutex_lock(&syncer->lock);
        sync->busy = false;
        base_condition_wake_all(&syncer->changed);
        /* Who writes all the time is behind again at once: not for ever. */
        if (all && base_clock_monotonic_ns() - begun_ns > SECOND_NS)
            break;
    }
    return tell;
}

static void
run(void *context)
{
    struct table_syncer *syncer = context;
    base_mutex_lock(&syncer->lock);
    uint64_t due_ns = base_clock_monotonic_ns() + SECOND_NS;
    while (!syncer->stops) {
        bool all = base_clock_monotonic_ns() >= due_ns;
        if (!all && pick_locked(syncer, false) == NULL) {
            base_condition_wait_until(&syncer->changed, &syncer->lock, due_ns);
            continue;
        }
        if (all)
            due_ns = base_clock_monotonic_ns() + SECOND_NS;
        if (sync_locked(syncer, all))
            (void)!write(syncer->event, &(uint64_t){1}, sizeof(uint64_t)); /* full wakes too */
    }
    base_mutex_unlock(&syncer->lock);
}

int
table_syncer_new(struct table_syncer **ret)
{
    struct table_syncer *syncer = base_zalloc(sizeof *syncer);
    if (syncer == NULL)
        return DOR_E_NO_MEMORY;
    syncer->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (syncer->event < 0) {
        base_free(syncer);
        return dor_fail_errno(errno, "the thread that syncs logs");
    }
    base_mutex_init(&syncer->lock);
    base_condition_init(&syncer->changed);
    *ret = syncer;
    return 0;
}

void
table_syncer_free(struct table_syncer *syncer)
{
    if (syncer == NULL)
        return;
    base_mutex_lock(&syncer->lock);
    syncer->stops = true;
    base_mutex_unlock(&syncer->lock);
    base_condition_wake_all(&syncer->changed);
    if (syncer->runs)
        base_thread_join(&syncer->thread);
    base_mutex_fini(&syncer->lock);
    base_condition_fini(&syncer->changed);
    close(syncer->event);
    base_free(syncer);
}

int
table_syncer_fd(const struct table_syncer *syncer)
{
    return syncer->event;
}

void
table_syncer_clear(struct table_syncer *syncer)
{
    uint64_t count;
    (void)!read(syncer->event, &count, sizeof count); /* nothing there is fine */
}

int
table_sync_add(struct table_syncer *syncer, struct table_sync *sync)
{
    if (!syncer->runs) {
        int rc = base_thread_start(&syncer->thread, "table-syncer", run, syncer);
        if (rc != 0)
            return rc;
        syncer->runs = true;
    }
    base_mutex_lock(&syncer->lock);
    sync->next = syncer->first;
    syncer->first = sync;
    base_mutex_unlock(&syncer->lock);
    return 0;
}

void
table_sync_remove(struct table_syncer *syncer, struct table_sync *sync)
{
    base_mutex_lock(&syncer->lock);
    while (sync->busy)
        base_condition_wait(&syncer->changed, &syncer->lock);
    struct table_sync **at = &syncer->first;
    while (*at != NULL && *at != sync)
        at = &(*at)->next;
    if (*at != NULL)
        *at = sync->next;
    sync->wanted = false;
    base_mutex_unlock(&syncer->lock);
}

void
table_sync_want(struct table_syncer *syncer, struct table_sync *sync)
{
    base_mutex_lock(&syncer->lock);
    sync->wanted = true;
    base_mutex_unlock(&syncer->lock);
    base_condition_wake_all(&syncer->changed);
}
