/* SPDX-License-Identifier: Apache-2.0 */
/*
 * counters.h - what a page server counts; see counters.def and base/counters.h.
 *
 * Ownership:  the server's.
 * Threads:    any.
 * Errors:     none.
 */
#ifndef DOR_WAKE_COUNTERS_H
#define DOR_WAKE_COUNTERS_H

#include "base/counters.h"

struct wake_counters {
#define COUNTER BASE_COUNTER_FIELD
#include "wake/counters.def"
#undef COUNTER
};

extern const struct base_counter wake_counter_rows[];
extern const size_t wake_counter_row_count;

#endif
