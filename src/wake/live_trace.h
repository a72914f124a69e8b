/* SPDX-License-Identifier: Apache-2.0 */
/*
 * live_trace.h - another process brought to a stand and let go again, and a userfaultfd made inside
 * it. It is held as a debugger does it: its parent sees nothing, and when we die it goes on.
 *
 * Ownership:  a trace is ended by live_trace_close(), whatever state it is in.
 * Threads:    all calls on one trace from one thread.
 * Errors:     DOR_E_DENIED, DOR_E_NOT_FOUND: it may not be traced or is gone; DOR_E_UNSUPPORTED: no
 *             userfaultfd can be made inside it.
 */
#ifndef DOR_WAKE_LIVE_TRACE_H
#define DOR_WAKE_LIVE_TRACE_H

#include <dormouse/err.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct live_thread {
    pid_t id; /* 0: has ended */
    bool stopped;
    int signal; /* that it was about to get when it was stopped; 0: none */
};

struct live_trace {
    pid_t pid;
    struct live_thread *threads; /* the main thread first */
    size_t thread_count, thread_room;
};

/* Attach to the main thread of PID, without stopping anything. */
DOR_MUST_CHECK int live_trace_open(pid_t pid, struct live_trace *ret);
void live_trace_close(struct live_trace *trace);

/*
 * Make a userfaultfd inside process PID, which nobody traces, and take it: its own copy is closed.
 * Its main thread stands still for a moment.
 */
DOR_MUST_CHECK int live_trace_userfaultfd(pid_t pid, int *ret);

/* Stop all threads; on return none runs. */
DOR_MUST_CHECK int live_trace_stop(struct live_trace *trace);
/* Let all go on. */
void live_trace_resume(struct live_trace *trace);

#endif
