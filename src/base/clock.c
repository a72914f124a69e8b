/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock.c - the three clocks of the operating system, as nanoseconds in 64 bits (enough until
 * 2554).
 */
#include "base/clock.h"

#include "base/err.h"

#include <time.h>

static uint64_t
read_ns(clockid_t clock)
{
    struct timespec now;
    int rc = clock_gettime(clock, &now);
    dor_assert(rc == 0);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t
base_clock_monotonic_ns(void)
{
    return read_ns(CLOCK_MONOTONIC);
}

uint64_t
base_clock_realtime_ns(void)
{
    return read_ns(CLOCK_REALTIME);
}

uint64_t
base_clock_cpu_ns(void)
{
    return read_ns(CLOCK_PROCESS_CPUTIME_ID);
}
