/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault.c - counts the hooked calls and picks the one that fails.
 *
 *     kind                    counts               at the Nth
 *     FAULT_ALLOC             allocations          that one fails
 *     FAULT_IO_FAIL           file calls           that one fails
 *     FAULT_IO_FAIL_STICKY    file calls           that one and all later ones fail
 *     FAULT_WRITE_KILL        mutating file calls  half of it is done, then _exit(137)
 *     FAULT_WRITE_SKIP_KILL   mutating file calls  nothing of it is done, _exit(137)
 *
 * A sync is not a mutating call: a killed process, unlike a machine without power, loses
 * nothing that was written, so dying at a sync leaves what dying before the next write leaves.
 */
#include "base/fault.h"

#include "base/err.h"

#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

_Atomic int base_fault_armed = FAULT_NONE;

/* Written while nothing is armed, read by hooks afterwards; the store to base_fault_armed
 * publishes them. */
static uint64_t fault_nth;
static int fault_errnum;
static _Atomic uint64_t call_count;
static atomic_bool fired;

void
base_fault_arm(enum base_fault_kind kind, uint64_t nth, int errnum)
{
    dor_assert(kind == FAULT_NONE || nth > 0);
    if (kind != FAULT_NONE) {
        fault_nth = nth;
        fault_errnum = errnum;
        atomic_store(&call_count, 0);
        atomic_store(&fired, false);
    }
    atomic_store(&base_fault_armed, (int)kind);
}

uint64_t
base_fault_count(void)
{
    return atomic_load(&call_count);
}

bool
base_fault_fired(void)
{
    return atomic_load(&fired);
}

/* Count one call; true when it is the chosen one, or a later one of a sticky fault. */
static bool
count_call(bool sticky)
{
    uint64_t n = atomic_fetch_add(&call_count, 1) + 1;
    bool hit = n == fault_nth || (sticky && n > fault_nth);
    if (hit)
        atomic_store(&fired, true);
    return hit;
}

bool
base_fault_alloc_slow(void)
{
    return atomic_load(&base_fault_armed) == FAULT_ALLOC && count_call(false);
}

enum base_fault_action
base_fault_file_slow(bool mutates)
{
    switch ((enum base_fault_kind)atomic_load(&base_fault_armed)) {
    case FAULT_NONE:
    case FAULT_ALLOC:
        return FAULT_DO_CALL;
    case FAULT_IO_FAIL:
        return count_call(false) ? FAULT_DO_FAIL : FAULT_DO_CALL;
    case FAULT_IO_FAIL_STICKY:
        return count_call(true) ? FAULT_DO_FAIL : FAULT_DO_CALL;
    case FAULT_WRITE_KILL:
        return mutates && count_call(false) ? FAULT_DO_HALF : FAULT_DO_CALL;
    case FAULT_WRITE_SKIP_KILL:
        if (mutates && count_call(false))
            base_fault_die();
        return FAULT_DO_CALL;
    }
    return FAULT_DO_CALL;
}

int
base_fault_errnum(void)
{
    return fault_errnum;
}

void
base_fault_die(void)
{
    /* Like a kill: nobody has a last look, a sanitizer neither. */
    (void)syscall(SYS_exit_group, FAULT_EXIT_CODE);
    abort();
}
