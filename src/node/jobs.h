/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs.h - the threads that run calls: one that writes, in the order of arrival, some that read,
 * and some for machines, which wait for monitors. Ended jobs are kept for a while, so that their
 * result can be asked for.
 *
 * Ownership:  jobs hold references to the calls they were given.
 * Threads:    any may submit, cancel and ask; starting and ending are the owner's.
 * Errors:     DOR_E_BUSY when nothing more is taken; DOR_E_EXISTS for an id in use.
 */
#ifndef DOR_NODE_JOBS_H
#define DOR_NODE_JOBS_H

#include "base/thread.h"
#include "node/call.h"

struct node_queue {
    struct node_call *first, **last;
    unsigned length;
};

struct node_jobs {
    struct base_mutex mutex;
    struct base_condition changed;
    struct node_queue write_queue, read_queue, apart_queue;
    struct node_call *turn; /* whose thread writes while the writing thread waits */
    struct node_call *kept; /* all that are not forgotten, newest first */
    unsigned running, answering, ended;
    unsigned apart; /* begun or queued, and not ended */
    unsigned queue_max, kept_max, apart_max;
    uint64_t last_id;
    bool closed; /* nothing new is taken */
    bool over;   /* the threads end */
    struct base_thread *threads;
    unsigned thread_count;
};

struct node_jobs_limits {
    unsigned readers;   /* threads that read */
    unsigned apart_max; /* threads for machines; one more is refused */
    unsigned queue_max, kept_max;
};

DOR_MUST_CHECK int
node_jobs_start(struct node_jobs *jobs, const struct node_jobs_limits *limits);
/* The threads end when what they run has ended; all else has been cancelled before. */
void node_jobs_stop(struct node_jobs *jobs);

/* Queue CALL; it gets an id unless it asks for one. After an error its `resume` is not called. */
DOR_MUST_CHECK int node_jobs_submit(struct node_jobs *jobs, struct node_call *call);

/* End CALL soon: at once when it is still queued. False when it had ended already. */
bool node_jobs_cancel(struct node_jobs *jobs, struct node_call *call);

/*
 * CALL, which runs apart, takes its turn among those that write: between the two calls it is the
 * only one that does, and node_writer_get() is its. DOR_E_BUSY: it was cancelled while it waited;
 * then there is nothing to leave.
 */
DOR_MUST_CHECK int node_jobs_enter(struct node_jobs *jobs, struct node_call *call);
void node_jobs_leave(struct node_jobs *jobs, struct node_call *call);

/* From now on take nothing new, and cancel what has not begun. */
void node_jobs_close(struct node_jobs *jobs);
/* Whether that was done: what waits for somebody who has not come yet should end. */
bool node_jobs_closed(struct node_jobs *jobs);
void node_jobs_cancel_all(struct node_jobs *jobs);
bool node_jobs_idle(struct node_jobs *jobs);

/* A reference to the job ID; NULL with words when there is none. */
struct node_call *node_jobs_find(struct node_jobs *jobs, const char *id);

/* What can be said of CALL, its result too if WHOLE; NULL without memory. */
json_t *node_jobs_describe(struct node_jobs *jobs, struct node_call *call, bool whole);
/* The same of all, newest first, in a list. */
json_t *node_jobs_list(struct node_jobs *jobs);

struct node_jobs_stat {
    unsigned queued_writes, queued_reads, running;
};
void node_jobs_stat(struct node_jobs *jobs, struct node_jobs_stat *ret);

#endif
