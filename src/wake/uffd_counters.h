/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uffd_counters.h - what waking through userfaultfd counts; see uffd_counters.def.
 *
 * Ownership:  the server's of the socket; perhaps in memory that several processes share.
 * Threads:    any.
 * Errors:     none.
 */
#ifndef DOR_WAKE_UFFD_COUNTERS_H
#define DOR_WAKE_UFFD_COUNTERS_H

#include "base/counters.h"

struct wake_uffd_counters {
#define COUNTER BASE_COUNTER_FIELD
#include "wake/uffd_counters.def"
#undef COUNTER
};

extern const struct base_counter wake_uffd_counter_rows[];
extern const size_t wake_uffd_counter_row_count;

#endif
