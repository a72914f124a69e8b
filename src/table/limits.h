/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limits.h - what a worker may still do: it gives up every privilege, then all system calls but
 * those that serving takes. What runs in it afterwards, a tenant's function or whoever took it
 * over, opens no file, no socket and no process, and signals nobody else.
 *
 * Ownership:  nothing is allocated that outlives the call.
 * Threads:    the filter holds for all threads of the process, also those that are there.
 * Errors:     DOR_E_UNSUPPORTED when the kernel has no filters.
 */
#ifndef DOR_TABLE_LIMITS_H
#define DOR_TABLE_LIMITS_H

#include <dormouse/err.h>
#include <stdbool.h>

/* Give up user, groups and capabilities, dumps and debuggers. */
DOR_MUST_CHECK int table_limits_drop_privileges(void);

/* From here on only the calls that serving takes; others fail with EPERM. */
DOR_MUST_CHECK int table_limits_filter_calls(void);

/*
 * The running call takes long, or has ended: while it is long the thread only gets what others
 * leave of its core, so that quiet tenants there do not wait. Nothing where that could not be
 * undone. Threads that the engine starts meanwhile stay at the back until they end.
 */
void table_limits_call_is_long(bool is_long);

#endif
