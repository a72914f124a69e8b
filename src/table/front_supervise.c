/* SPDX-License-Identifier: Apache-2.0 */
/*
 * front_supervise.c - what a worker cannot be trusted to do itself: to end. The engine stops calls
 * at their limits; this ends the process when that did not help: a call that goes on long after its
 * time, messages that are not taken, memory beyond what its tenants may use together.
 *
 * The times are long on purpose: a kill costs all of the worker's connections. An engine under
 * load was seen to stop a call 0.8 s after its time, and to double its heap before it looked. Where
 * several tenants wait for one call it is shorter, in time of the processor, and whose call it was
 * is put apart.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "table/front_priv.h"
#include "table/worker.h"

#define GRACE_NS      UINT64_C(3000000000)
#define SHARED_NS     UINT64_C(1500000000) /* of the processor, while others wait */
#define NS_PER_MS     UINT64_C(1000000)
#define NS_PER_S      UINT64_C(1000000000)
#define UNREAD_NS     UINT64_C(30000000000)
#define BASE_MEMORY   (UINT64_C(512) << 20)
#define HEAP_FACTOR   4
#define LOOKS_A_ROUND 16

uint64_t
front_worker_memory_max(const struct front_worker *worker)
{
    uint64_t bytes = BASE_MEMORY;
    for (unsigned slot = 0; slot < worker->rows; slot++)
        if (worker->tenants[slot] != NULL)
            bytes += HEAP_FACTOR * worker->tenants[slot]->config.options.heap;
    return bytes;
}

/* Its memory that is no table's; 0 when that cannot be known. */
static uint64_t
memory_of(const struct front_worker *worker)
{
    enum { PATH_BYTES = 32, TEXT_BYTES = 128, DECIMAL = 10 };
    char path[PATH_BYTES];
    char text[TEXT_BYTES] = "";
    char *rest = text;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)worker->pid);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, sizeof text - 1) <= 0)
        return 0;
    /* Pages: of addresses, in memory, of these shared with others or a file. */
    (void)strtoull(rest, &rest, DECIMAL);
    uint64_t resident = strtoull(rest, &rest, DECIMAL);
    uint64_t shared = strtoull(rest, &rest, DECIMAL);
    return resident < shared ? 0 : (resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* How long the running call goes on beyond its time; 0 = it does not, or none runs. */
static uint64_t
overrun_of(const struct table_front *front, const struct front_worker *worker)
{
    uint64_t since_ns = table_status_get(&worker->status->call_since_ns);
    uint64_t limit_ns = table_status_get(&worker->status->call_limit_ns);
    uint64_t most_ns = 0;
    /* A worker's word for its limit counts only as far as a tenant of it has such a one. */
    for (unsigned slot = 0; slot < worker->rows; slot++)
        if (worker->tenants[slot] != NULL &&
            worker->tenants[slot]->config.options.call_ms * UINT64_C(1000000) > most_ns)
            most_ns = worker->tenants[slot]->config.options.call_ms * UINT64_C(1000000);
    if (since_ns == 0 || since_ns > front->now_ns)
        return 0;
    if (limit_ns > most_ns)
        limit_ns = most_ns;
    uint64_t taken_ns = front->now_ns - since_ns;
    return taken_ns > limit_ns ? taken_ns - limit_ns : 0;
}

/*
 * A long call has put itself behind all others; on a busy machine it may not even come to its end.
 */
static void
hurry(const struct front_worker *worker)
{
    enum { PATH_BYTES = 32, DECIMAL = 10 };
    const struct sched_param parameter = {0};
    char path[PATH_BYTES];
    struct dirent *entry = NULL;
    snprintf(path, sizeof path, "/proc/%d/task", (int)worker->pid);
    DIR *threads = opendir(path);
    while (threads != NULL && (entry = readdir(threads)) != NULL) {
        pid_t thread = (pid_t)strtol(entry->d_name, NULL, DECIMAL);
        if (thread > 0)
            (void)sched_setscheduler(thread, SCHED_OTHER, &parameter);
    }
    if (threads != NULL)
        closedir(threads);
}

/* Processor time that its process has taken; 0 when that cannot be known. */
static uint64_t
processor_ns(const struct front_worker *worker)
{
    clockid_t clock;
    struct timespec taken;
    if (clock_getcpuclockid(worker->pid, &clock) != 0 || clock_gettime(clock, &taken) != 0)
        return 0;
    return (uint64_t)taken.tv_sec * NS_PER_S + (uint64_t)taken.tv_nsec;
}

/* Whether a call that is OVERRUN_NS late has had the processor for most of it. */
static bool
holds_up_others(struct front_worker *worker, uint64_t overrun_ns)
{
    uint64_t taken_ns = processor_ns(worker);
    if (overrun_ns == 0)
        worker->late_from_ns = 0;
    else if (worker->late_from_ns == 0)
        worker->late_from_ns = taken_ns;
    return overrun_ns > SHARED_NS && taken_ns - worker->late_from_ns > SHARED_NS;
}

static bool
call_is_stuck(const struct table_front *front, struct front_worker *worker)
{
    uint64_t overrun_ns = overrun_of(front, worker);
    if (worker->shared && holds_up_others(worker, overrun_ns))
        return true;
    if (overrun_ns <= GRACE_NS) {
        worker->hurried = false;
        return false;
    }
    if (!worker->hurried)
        hurry(worker);
    worker->hurried = true;
    return overrun_ns > 2 * GRACE_NS;
}

/* Whether it has long left unread what it was sent. */
static bool
is_deaf(const struct table_front *front, struct front_worker *worker)
{
    int unread = 0;
    if (ioctl(worker->control, SIOCOUTQ, &unread) != 0 || unread == 0) {
        worker->unread_since_ns = 0;
        return false;
    }
    if (worker->unread_since_ns == 0)
        worker->unread_since_ns = front->now_ns;
    return front->now_ns - worker->unread_since_ns > UNREAD_NS;
}

static bool
is_fat(const struct front_worker *worker)
{
    return memory_of(worker) > front_worker_memory_max(worker);
}

static void
look_at(struct table_front *front, struct front_worker *worker, bool memory_too)
{
    bool in_call = table_status_get(&worker->status->call_since_ns) != 0;
    bool stuck = call_is_stuck(front, worker) || is_deaf(front, worker);
    bool fat = !stuck && (in_call || memory_too) && is_fat(worker);
    if (!stuck && !fat)
        return;
    base_counter_add(stuck ? &front->counters.stuck_workers : &front->counters.fat_workers, 1);
    dor_log(
        WARN, "table", stuck ? "worker_stuck" : "worker_fat", "worker=%u pid=%d domain=%s",
        worker->id, (int)worker->pid, worker->domain);
    /* If it was a call of one tenant, the others of the worker are spared the next one. */
    struct front_tenant *caller =
        in_call ? front_tenant_by_id(
                      front, (uint32_t)table_status_get(&worker->status->call_tenant))
                : NULL;
    if (caller != NULL && caller->worker == worker) {
        caller->suspect_until_ns = front->now_ns + TABLE_SUSPECT_MS * NS_PER_MS;
        front_tenant_put_apart(front, caller);
    }
    front_worker_kill(worker);
}

void
front_supervise(struct table_front *front)
{
    unsigned number = 0;
    unsigned from = front->looks;
    for (struct front_worker *worker = front->workers; worker != NULL; worker = worker->next) {
        if (worker->pidfd < 0)
            continue;
        look_at(front, worker, number >= from && number < from + LOOKS_A_ROUND);
        number++;
    }
    front->looks = from + LOOKS_A_ROUND < number ? from + LOOKS_A_ROUND : 0;
}
