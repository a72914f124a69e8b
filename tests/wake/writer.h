/* SPDX-License-Identifier: Apache-2.0 */
/*
 * writer.h - a process whose threads write to all of their memory all the time, so that any other
 * moment than one shows.
 *
 * Each thread goes over its pages in order, again and again; in round g it writes g to every word
 * of page after page. So at any moment its pages are g up to some place and g - 1 from there on, to
 * the word. A page that is read too late or too early breaks this order.
 *
 * Ownership:  the writer's memory is shared with its parent where it is named `shared`.
 * Threads:    the test's functions are for its main thread.
 * Errors:     bail() when the test cannot be set up.
 */
#ifndef TESTS_WAKE_WRITER_H
#define TESTS_WAKE_WRITER_H

#include <dormouse/live.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "tap.h"

enum { WRITER_THREADS = 2, WRITER_PAGE_WORDS = 512, WRITER_PAGE_BYTES = 4096 };

enum writer_memory { WRITER_ANON, WRITER_HUGE, WRITER_SHARED, WRITER_MEMORIES };

struct writer_shared {
    _Atomic uint64_t rounds[WRITER_THREADS];
    _Atomic uint64_t signals;
    atomic_bool stop, park, ask_own;
    atomic_int parked, own_result; /* 1: its memory is as it wrote it, 2: it is not */
};

struct writer {
    pid_t pid; /* 0: threads of this process */
    struct writer_shared *shared;
    struct dor_live_range ranges[WRITER_THREADS];
    size_t pages_each;
    pthread_t threads[WRITER_THREADS];
};

struct writer_task {
    struct writer *writer;
    unsigned number;
};

static inline volatile uint64_t *
writer_words(const struct writer *writer, unsigned number)
{
    return (volatile uint64_t *)(uintptr_t)writer->ranges[number].address;
}

static inline void
writer_park(struct writer_shared *shared)
{
    atomic_fetch_add(&shared->parked, 1);
    while (atomic_load(&shared->park))
        usleep(50);
    atomic_fetch_sub(&shared->parked, 1);
}

static inline void *
writer_main(void *context)
{
    struct writer_task *task = context;
    struct writer_shared *shared = task->writer->shared;
    volatile uint64_t *words = writer_words(task->writer, task->number);
    size_t count = task->writer->pages_each * WRITER_PAGE_WORDS;
    for (uint64_t round = 1; !atomic_load(&shared->stop); round++) {
        for (size_t i = 0; i < count; i++) {
            if (i % WRITER_PAGE_WORDS == 7 && atomic_load(&shared->park))
                writer_park(shared);
            words[i] = round;
        }
        atomic_store(&shared->rounds[task->number], round);
    }
    free(task);
    return NULL;
}

static inline void
writer_start_threads(struct writer *writer)
{
    for (unsigned i = 0; i < WRITER_THREADS; i++) {
        struct writer_task *task = malloc(sizeof *task);
        if (task == NULL)
            bail("no memory");
        *task = (struct writer_task){writer, i};
        if (pthread_create(&writer->threads[i], NULL, writer_main, task) != 0)
            bail("no thread");
    }
}

static inline void
writer_note_signal(int number)
{
    (void)number;
    extern struct writer_shared *writer_signal_shared;
    atomic_fetch_add(&writer_signal_shared->signals, 1);
}

/* Whether pages are in order: *RET_AT words of the newer round. */
static inline bool
writer_in_order(const uint64_t *words, size_t count)
{
    size_t at = 0;
    while (at < count && words[at] == words[0])
        at++;
    uint64_t rest = at < count ? words[at] : 0;
    bool good = at == count || rest == words[0] - 1;
    for (; good && at < count; at++)
        good = words[at] == rest;
    return good;
}

static inline void
writer_check_own(struct writer *writer)
{
    bool good = true;
    for (unsigned i = 0; i < WRITER_THREADS; i++)
        good = good && writer_in_order(
                           (const uint64_t *)(uintptr_t)writer->ranges[i].address,
                           writer->pages_each * WRITER_PAGE_WORDS);
    atomic_store(&writer->shared->own_result, good ? 1 : 2);
}

_Noreturn static inline void
writer_child(struct writer *writer)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct sigaction action = {.sa_handler = writer_note_signal, .sa_flags = (int)SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    writer_start_threads(writer);
    while (!atomic_load(&writer->shared->stop)) {
        usleep(1000);
        if (atomic_exchange(&writer->shared->ask_own, false)) {
            atomic_store(&writer->shared->park, true);
            while (atomic_load(&writer->shared->parked) < WRITER_THREADS)
                usleep(100);
            writer_check_own(writer);
            atomic_store(&writer->shared->park, false);
        }
    }
    _exit(0);
}

struct writer_shared *writer_signal_shared;

/* Map the memory: two ranges of PAGES_EACH pages with a hole between them. */
static inline void
writer_map(struct writer *writer, enum writer_memory memory, size_t pages_each)
{
    size_t size_bytes = pages_each * WRITER_PAGE_BYTES;
    *writer = (struct writer){.pages_each = pages_each};
    writer->shared = mmap(
        NULL, sizeof *writer->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
        0);
    writer_signal_shared = writer->shared;
    for (unsigned i = 0; i < WRITER_THREADS; i++) {
        int flags = memory == WRITER_SHARED ? MAP_SHARED : MAP_PRIVATE;
        void *map =
            mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
        if (map == MAP_FAILED || writer->shared == MAP_FAILED)
            bail("no memory");
        madvise(map, size_bytes, memory == WRITER_HUGE ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
        writer->ranges[i] = (struct dor_live_range){(uintptr_t)map, size_bytes};
    }
}

static inline void
writer_wait_round(const struct writer *writer, uint64_t more)
{
    uint64_t from[WRITER_THREADS];
    for (unsigned i = 0; i < WRITER_THREADS; i++)
        from[i] = atomic_load(&writer->shared->rounds[i]);
    for (unsigned i = 0; i < WRITER_THREADS; i++)
        for (unsigned tries = 0;
             tries < 60000 && atomic_load(&writer->shared->rounds[i]) < from[i] + more; tries++)
            usleep(1000);
}

/* As a process of its own, or as threads of this one. */
static inline void
writer_start(struct writer *writer, bool process)
{
    if (process) {
        fflush(stdout);
        writer->pid = fork();
        if (writer->pid < 0)
            bail("no process");
        if (writer->pid == 0)
            writer_child(writer);
    } else {
        writer_start_threads(writer);
    }
    writer_wait_round(writer, 2);
}

static inline void
writer_stop(struct writer *writer)
{
    int status;
    atomic_store(&writer->shared->stop, true);
    if (writer->pid != 0) {
        kill(writer->pid, SIGKILL);
        waitpid(writer->pid, &status, 0);
    } else {
        for (unsigned i = 0; i < WRITER_THREADS; i++)
            pthread_join(writer->threads[i], NULL);
    }
    for (unsigned i = 0; i < WRITER_THREADS; i++)
        munmap((void *)(uintptr_t)writer->ranges[i].address, writer->ranges[i].size_bytes);
    munmap(writer->shared, sizeof *writer->shared);
}

#endif
