/* SPDX-License-Identifier: Apache-2.0 */
/*
 * placement.c - asks /proc on which core the faulting thread runs, seldom enough to cost nothing.
 *
 * Where the userfaultfd does not name the thread, it is found by what it waits for: a thread that
 * has a fault sleeps in handle_userfault(). Looking costs some 10 us for each thread, so it is done
 * every 2 ms at most while the answer changes, and every 64 ms when it does not.
 */
#include "wake/placement.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/size.h"

#define PAUSE_LEAST_NS (UINT64_C(2) * 1000 * 1000)
#define PAUSE_MOST_NS  (UINT64_C(64) * 1000 * 1000)
#define THREADS_MAX    64

static void
go_to(struct wake_placement *placement, int core)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((unsigned)core, &set);
    if (sched_setaffinity(0, sizeof set, &set) == 0)
        placement->core = core;
}

void
wake_placement_init(struct wake_placement *placement, pid_t pid, int core)
{
    *placement = (struct wake_placement){.pid = pid, .core = -1, .pause_ns = PAUSE_LEAST_NS};
    bool known = sched_getaffinity(0, sizeof placement->permitted, &placement->permitted) == 0;
    placement->follows =
        core == WAKE_CORE_FOLLOW && pid > 0 && known && CPU_COUNT(&placement->permitted) > 1;
    if (core >= 0 && core < CPU_SETSIZE)
        go_to(placement, core);
}

/* The file "/proc/PID/task/TID/NAME" as text; false when there is none. */
static bool
read_file(pid_t pid, pid_t tid, const char *name, char *text, size_t text_bytes)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/%s", (int)pid, (int)tid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t got = read(fd, text, text_bytes - 1);
    close(fd);
    text[got > 0 ? got : 0] = '\0';
    return got > 0;
}

/* The 39th field of stat is the core. The second, a name in brackets, may hold anything. */
static int
core_of(pid_t pid, pid_t tid)
{
    char text[512];
    if (!read_file(pid, tid, "stat", text, sizeof text))
        return -1;
    const char *at = strrchr(text, ')');
    for (unsigned field = 2; at != NULL && field < 39; field++) {
        at = strchr(at, ' ');
        at = at == NULL ? NULL : at + 1;
    }
    return at == NULL ? -1 : (int)strtol(at, NULL, 10);
}

static bool
has_fault(pid_t pid, pid_t tid)
{
    char text[64];
    return read_file(pid, tid, "wchan", text, sizeof text) &&
           strcmp(text, "handle_userfault") == 0;
}

/* The core of one thread that has a fault; -1 when none is found. */
static int
find_core(pid_t pid)
{
    char path[32];
    char entries[4096] __attribute__((aligned(8)));
    int core = -1;
    unsigned seen = 0;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    long got = syscall(SYS_getdents64, fd, entries, sizeof entries);
    for (long at = 0; at < got && core < 0 && seen < THREADS_MAX; seen++) {
        const struct dirent64 *entry = (const struct dirent64 *)(entries + at);
        pid_t tid = (pid_t)strtol(entry->d_name, NULL, 10); /* 0: "." and ".." */
        if (tid > 0 && has_fault(pid, tid))
            core = core_of(pid, tid);
        at += entry->d_reclen;
    }
    close(fd);
    return core;
}

void
wake_placement_follow(struct wake_placement *placement, pid_t tid, uint64_t now_ns)
{
    if (!placement->follows || now_ns < placement->next_ns)
        return;
    int core = tid > 0 ? core_of(placement->pid, tid) : -1;
    if (core < 0)
        core = find_core(placement->pid);
    bool moves = core >= 0 && core < CPU_SETSIZE && core != placement->core &&
                 CPU_ISSET((unsigned)core, &placement->permitted);
    if (moves)
        go_to(placement, core);
    placement->pause_ns =
        moves ? PAUSE_LEAST_NS : base_min_u64(placement->pause_ns * 2, PAUSE_MOST_NS);
    placement->next_ns = now_ns + placement->pause_ns;
}
