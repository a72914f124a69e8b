/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http.h - HTTP/1.1 on a Unix socket. libmicrohttpd parses and sends, in one thread of its own;
 * connections are accepted here, so that who may not or cannot be served hears why.
 *
 * Ownership:  struct node_http lies in struct node.
 * Threads:    accepting and watching: the main one. Requests: libmicrohttpd's. The list of
 *             connections is under its lock, which is never held while a lock of jobs is taken.
 * Errors:     0 or a negative enum dor_errno; those of requests go to their clients.
 */
#ifndef DOR_NODE_HTTP_H
#define DOR_NODE_HTTP_H

#include "base/thread.h"

#include <dormouse/err.h>
#include <stdbool.h>
#include <stdint.h>

struct node;
struct node_connection;
struct MHD_Daemon;

struct node_http {
    struct MHD_Daemon *daemon;
    struct base_mutex mutex;
    struct node_connection *connections;
    unsigned connection_count;
    unsigned request_count; /* begun and not yet answered in full */
};

DOR_MUST_CHECK int node_http_start(struct node *node);
/* All jobs have ended before. */
void node_http_stop(struct node *node);

/* Accept what waits at LISTEN_FD. */
void node_http_accept(struct node *node, int listen_fd);
/* Look after connections, a few times a second: slow ones are closed, jobs of gone ones end. */
void node_http_sweep(struct node *node);
/* Whether answers are still on their way. */
bool node_http_busy(struct node *node);
unsigned node_http_connections(struct node *node);

/* The status of an answer for an enum dor_errno. */
unsigned node_http_status(int code);

#endif
