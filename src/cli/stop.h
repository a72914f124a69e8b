/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stop.h - lets SIGINT, SIGTERM and SIGHUP end long work at a clean place.
 * The first signal is only noted; work that looks here undoes what is unfinished and ends. A
 * second one of the same kind ends the program at once, which a store survives too.
 *
 * Ownership:  nothing is allocated.
 * Threads:    the program has one.
 * Errors:     DOR_E_BUSY from cli_stop_check() once a signal came.
 */
#ifndef DOR_CLI_STOP_H
#define DOR_CLI_STOP_H

#include <dormouse/err.h>

/* From now on note the signals instead of dying of them. */
void cli_stop_catch(void);

/* The signal that came, 0 when none did. */
int cli_stop_signal(void);

/* DOR_E_BUSY with words when a signal came. */
DOR_MUST_CHECK int cli_stop_check(void);

/* Whether a signal came, as a callback of long waits; CONTEXT is not looked at. */
int cli_stop_asked(void *context);

/* Die of SIGNAL_NUMBER, so that the caller's shell sees why the program ended. */
_Noreturn void cli_stop_die(int signal_number);

#endif
