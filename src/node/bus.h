/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bus.h - lets a thread read mapped files that others may cut short. The lost page is replaced by
 * one of zeros, the thread goes on, and whoever reads has to ask afterwards whether it was true.
 *
 * Ownership:  nothing is allocated; the handler of SIGBUS is the process's.
 * Threads:    guarding is each thread's own affair.
 * Errors:     DOR_E_IO from node_bus_check().
 */
#ifndef DOR_NODE_BUS_H
#define DOR_NODE_BUS_H

#include <dormouse/err.h>

/* Handle SIGBUS from now on; outside of guarded stretches it ends the process as before. */
void node_bus_install(void);

/* This thread reads mapped files between these two. */
void node_bus_begin(void);
void node_bus_end(void);

/* DOR_E_IO with words when what this thread read since node_bus_begin() was lost. */
DOR_MUST_CHECK int node_bus_check(void);

#endif
