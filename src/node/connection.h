/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connection.h - the connections that are open: who may have one, how long it may be slow, and
 * whether somebody is still there.
 *
 * Ownership:  the list in struct node_http; libmicrohttpd holds a pointer between its two
 *             notifications.
 * Threads:    the main one accepts and watches, libmicrohttpd's notifies; the list is under the
 *             lock of struct node_http.
 * Errors:     told to the client.
 */
#ifndef DOR_NODE_CONNECTION_H
#define DOR_NODE_CONNECTION_H

#include "node/node.h"

#include <microhttpd.h>

struct node_connection;

/* libmicrohttpd's notification; its socket context becomes a struct node_connection. */
void node_connection_notify(
    void *context, struct MHD_Connection *mhd, void **socket_context,
    enum MHD_ConnectionNotificationCode code);

/* CONNECTION, which may be NULL, has to say something in time, or has not. */
void node_connection_set_deadline(
    struct node *node, struct node_connection *connection, bool wanted);

/* Which call CONNECTION waits for; NULL when it waits no more. */
void node_connection_set_call(
    struct node *node, struct node_connection *connection, struct node_call *call);

#endif
