/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node.h - the daemon over one store: its settings, its threads, its sockets, and what all of them
 * share. It holds the store's writer's lock from beginning to end.
 *
 * Ownership:  one struct node in the frame of dor_daemon_serve().
 * Threads:    the main one accepts and watches connections; libmicrohttpd's speaks HTTP; those of
 *             jobs do the work. `writer` belongs to the writing job.
 * Errors:     0 or a negative enum dor_errno.
 */
#ifndef DOR_NODE_NODE_H
#define DOR_NODE_NODE_H

#include "base/counters.h"
#include "node/config.h"
#include "node/http.h"
#include "node/jobs.h"
#include "node/tenants.h"
#include "node/wakes.h"

#include <dormouse/store.h>
#include <dormouse/wake.h>

struct node_counters {
#define COUNTER BASE_COUNTER_FIELD
#include "node/counters.def"
#undef COUNTER
};

struct node {
    const char *directory; /* of the store, absolute */
    struct node_config config;
    struct node_counters counters;
    struct node_jobs jobs;
    struct node_http http;
    struct dor_store *writer; /* NULL after an error that asks for a new one */
    struct dor_wake_server *wake_server;
    struct node_wakes wakes;
    struct node_tenants tenants;
    uint64_t started_ns; /* realtime */
};

extern const struct base_counter node_counter_rows[];
extern const size_t node_counter_count;

/* The handle that writes, opened with the call's own options if it has any. */
DOR_MUST_CHECK int node_writer_get(struct node_call *call, struct dor_store **ret);
/* Store INTAKE under the call's name. Only where the call may write. */
DOR_MUST_CHECK int
node_writer_put(struct node_call *call, struct dor_intake *intake, struct dor_put_result *ret);
/* The job with it ended with RC; a handle that may be unwell is closed. */
void node_writer_done(struct node_call *call, int rc);

/* A put of the machine that a monitor hands over. */
DOR_MUST_CHECK int node_machine_put(struct node_call *call);

/* A handle of its own for who only reads. */
DOR_MUST_CHECK int node_reader_open(struct node_call *call, struct dor_store **ret);

/* A file without a name in the store's folder, for images on their way from or to clients. */
DOR_MUST_CHECK int node_spool_open(const struct node *node, int *ret);

#endif
