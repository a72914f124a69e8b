/* SPDX-License-Identifier: Apache-2.0 */
/*
 * call.h - one request from its parts to its answer. A call that reads or writes the store is a
 * job: it waits for a thread, has progress, can be cancelled and can be asked for by its id.
 *
 *     new --submit--> queued --thread--> running --> ended (done, failed, cancelled)
 *          \-- inline routes are run at once and never seen as jobs
 *
 * Ownership:  counted references: the connection, the queue and the history hold one each.
 * Threads:    a call's request is filled before it is submitted and read-only afterwards; its
 *             answer is written by the thread that runs it and read after it has ended. What both
 *             sides touch meanwhile is atomic or under the lock of jobs.
 * Errors:     0 or a negative enum dor_errno in `err`, whose words go to the client.
 */
#ifndef DOR_NODE_CALL_H
#define DOR_NODE_CALL_H

#include "base/err.h"
#include "node/body.h"

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct node;

enum { NODE_JOB_ID_BYTES = 65, NODE_PARAMETERS = 2 };

/*
 * Where a route is run: at once, by a reader, by the writer, or apart: in a thread for what waits
 * for others, however long that takes.
 */
enum node_where { NODE_INLINE, NODE_READ, NODE_WRITE, NODE_APART };

enum node_state { NODE_QUEUED, NODE_RUNNING, NODE_DONE, NODE_FAILED, NODE_CANCELLED };

struct node_call;

struct node_route {
    const char *method;
    const char *path; /* with {names} of parameters */
    const char *body; /* its rows in bodies.def; "none" takes none */
    enum node_where where;
    int (*run)(struct node_call *call);
};

extern const struct node_route node_routes[];
extern const size_t node_route_count;

struct node_call {
    struct node *node;
    const struct node_route *route;
    _Atomic unsigned references; /* acquire-release: the last one frees what others wrote */

    /* The request. */
    char parameters[NODE_PARAMETERS][DOR_PATH_BYTES_MAX + 1]; /* of the path, decoded */
    struct node_values values;
    json_t *body;
    char *query;  /* decoded, which values borrow from */
    int spool_fd; /* a streamed image, or -1 */

    /* The job; under the lock of jobs but for the atomics. */
    char id[NODE_JOB_ID_BYTES];
    enum node_state state;
    struct node_call *next_queued, *next_kept;
    bool wants_turn; /* in the write queue while its own thread waits: node_jobs_enter() */
    uint64_t created_ns, started_ns, ended_ns; /* realtime */
    /* Relaxed: they are only shown; a cancel that is seen late is still a cancel. */
    _Atomic uint64_t done_bytes, total_bytes;
    _Atomic bool cancelled;
    void (*resume)(void *context); /* called once when it has ended, or NULL */
    void *resume_context;

    /* The answer. */
    struct base_err err;
    char *text; /* of the answer, malloc'ed; or */
    size_t text_bytes;
    int file_fd; /* a file of file_bytes, or -1 */
    uint64_t file_bytes;
    const char *content_type;
};

struct node_call *node_call_new(struct node *node, const struct node_route *route);
struct node_call *node_call_ref(struct node_call *call);
void node_call_unref(struct node_call *call); /* NULL is fine */

/* A dor_progress_fn for the call that is CONTEXT. */
int node_call_progress(void *context, uint64_t done_bytes, uint64_t total_bytes);

/* Set the answer; VALUE, NULL when it could not be made, is taken. */
DOR_MUST_CHECK int node_call_json(struct node_call *call, json_t *value);

#define ROUTE(method, path, name, where, body)                                                 \
    DOR_MUST_CHECK int node_##name##_run(struct node_call *call);
#include "node/routes.def"
#undef ROUTE

#endif
