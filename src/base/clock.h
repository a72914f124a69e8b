/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock.h - the only place that asks for the time, always in nanoseconds.
 * Decisions take the time as an argument, so that tests can invent it.
 *
 * Ownership:  nothing is allocated.
 * Threads:    any.
 * Errors:     none; these clocks exist on every Linux.
 */
#ifndef DOR_BASE_CLOCK_H
#define DOR_BASE_CLOCK_H

#include <stdint.h>

uint64_t base_clock_monotonic_ns(void); /* since some fixed moment; never goes back */
uint64_t
base_clock_realtime_ns(void);     /* since 1970-01-01 UTC; may jump when the clock is set */
uint64_t base_clock_cpu_ns(void); /* processor time of all threads of this process */

#endif
