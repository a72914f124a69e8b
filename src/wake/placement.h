/* SPDX-License-Identifier: Apache-2.0 */
/*
 * placement.h - keeps the thread that answers page faults on the core of the thread that has them.
 * There a fault costs a switch between two threads; from another core it costs waking that core,
 * ten times as much.
 *
 * Ownership:  a placement is its thread's own memory.
 * Threads:    the thread that is to be placed.
 * Errors:     none: without an answer of the system the thread stays where it is.
 */
#ifndef DOR_WAKE_PLACEMENT_H
#define DOR_WAKE_PLACEMENT_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Other values are the number of the core to stay on. */
#define WAKE_CORE_FOLLOW (-1) /* go where the faults are */
#define WAKE_CORE_ANY    (-2) /* leave it to the system */

struct wake_placement {
    bool follows;
    pid_t pid;           /* of the client */
    int core;            /* that this thread was last sent to, -1 = none */
    uint64_t next_ns;    /* when to look again */
    uint64_t pause_ns;   /* between two looks */
    cpu_set_t permitted; /* cores of this process */
};

/* PID: the client's, 0 = not known. CORE: see above. */
void wake_placement_init(struct wake_placement *placement, pid_t pid, int core);
/* A fault of the thread TID (0 = not known) of the client is about to be answered. */
void wake_placement_follow(struct wake_placement *placement, pid_t tid, uint64_t now_ns);

#endif
