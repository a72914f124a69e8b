/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenants.h - tables hosted by the daemon, if it is told where tenants connect.
 *
 * Ownership:  the front is the daemon's from start to stop.
 * Threads:    the front has its own; start and stop by the main one.
 * Errors:     those of the front.
 */
#ifndef DOR_NODE_TENANTS_H
#define DOR_NODE_TENANTS_H

#include "base/thread.h"

#include <dormouse/node.h>
#include <limits.h>
#include <stdio.h>

/* In the store's folder, unless it is said to be elsewhere. */
#define NODE_TENANTS_NAME "tenants.json"

struct node;
struct table_front;

struct node_tenants {
    struct table_front *front;       /* NULL = there are no tables */
    struct dor_table_keeper *keeper; /* of their snapshots */
    struct base_thread thread;
    char path[PATH_MAX];
};

DOR_MUST_CHECK int node_tenants_start(struct node *node, const struct dor_daemon *daemon);
void node_tenants_reload(struct node *node);
/* Returns when the workers have ended. */
void node_tenants_stop(struct node *node);
void node_tenants_print_metrics(struct node *node, FILE *out);

#endif
