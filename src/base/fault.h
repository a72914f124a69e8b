/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault.h - makes the Nth allocation or file call fail, or the process die there, so that tests
 * can visit every failure: arm with n = 1, 2, 3 ... until the operation ends with
 * base_fault_fired() false. Disarmed, a hook costs one branch that is never taken.
 *
 * Ownership:  nothing is allocated.
 * Threads:    process-wide; calls are counted atomically, arming is for one thread with no
 *             others busy.
 * Errors:     none of its own.
 */
#ifndef DOR_BASE_FAULT_H
#define DOR_BASE_FAULT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum base_fault_kind {
    FAULT_NONE,
    FAULT_ALLOC,          /* the Nth allocation fails */
    FAULT_IO_FAIL,        /* the Nth file call returns ERRNUM */
    FAULT_IO_FAIL_STICKY, /* the Nth and all later ones do */
    FAULT_WRITE_KILL,     /* the process dies in the midst of the Nth mutating file call */
    FAULT_WRITE_SKIP_KILL /* the process dies just before the Nth mutating file call */
};

/* A process killed by the hook ends like one hit by SIGKILL under a shell. */
enum { FAULT_EXIT_CODE = 137 };

/* Count from now on the calls KIND is about, and fail the NTH (from 1). FAULT_NONE disarms. */
void base_fault_arm(enum base_fault_kind kind, uint64_t nth, int errnum);

/* Calls of the armed kind since arming; stays readable after disarming. */
uint64_t base_fault_count(void);

/* Whether the fault happened since arming; stays readable after disarming. */
bool base_fault_fired(void);

/* ---- Hooks, for mem.c and file.c alone. ---- */

/* What a file call should do; the answers of base_fault_mutate() and base_fault_io(). */
enum base_fault_action {
    FAULT_DO_CALL,
    FAULT_DO_FAIL, /* return base_fault_errnum() instead of calling */
    FAULT_DO_HALF  /* do the first half, then base_fault_die() */
};

extern _Atomic int base_fault_armed; /* enum base_fault_kind, read by every hook */

bool base_fault_alloc_slow(void);
enum base_fault_action base_fault_file_slow(bool mutates);
int base_fault_errnum(void);
_Noreturn void base_fault_die(void);

/* Relaxed: a hook that misses an arming by another thread only counts one call less. */
static inline bool
base_fault_is_armed(void)
{
    return __builtin_expect(
        atomic_load_explicit(&base_fault_armed, memory_order_relaxed) != FAULT_NONE, 0);
}

/* True when this allocation must fail. */
static inline bool
base_fault_alloc(void)
{
    return base_fault_is_armed() && base_fault_alloc_slow();
}

/* Before each file call; MUTATES when it changes what a later process would find on disk. */
static inline enum base_fault_action
base_fault_file(bool mutates)
{
    return base_fault_is_armed() ? base_fault_file_slow(mutates) : FAULT_DO_CALL;
}

#endif
