/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connection.c - accepts, refuses in words, and watches.
 *
 * Invariants:
 *   1. A connection has a deadline unless its request is whole or its body is an image: who is
 *      slow cannot hold one. Silence in images and answers is libmicrohttpd's timeout.
 *   2. A descriptor in the list is open: libmicrohttpd tells of the end before it closes.
 */
#include "node/connection.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "node/shape.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define NS_PER_S UINT64_C(1000000000)
#define ADOPT_NS (10 * NS_PER_S) /* libmicrohttpd takes a connection over at once, or never */

enum { ACCEPTS_MAX = 64, GONE_MAX = 64, REFUSAL_BYTES = 512 };

struct node_connection {
    struct node_connection *next, **link;
    int fd;
    bool adopted;           /* by libmicrohttpd */
    uint64_t deadline_ns;   /* 0 = none */
    struct node_call *call; /* that it waits for, or NULL; a reference */
};

static void
remove_locked(struct node_http *http, struct node_connection *connection)
{
    *connection->link = connection->next;
    if (connection->next != NULL)
        connection->next->link = connection->link;
    http->connection_count--;
}

static struct node_connection *
add_connection(struct node *node, int fd)
{
    struct node_http *http = &node->http;
    struct node_connection *connection = base_zalloc(sizeof *connection);
    if (connection == NULL)
        return NULL;
    connection->fd = fd;
    connection->deadline_ns = base_clock_monotonic_ns() + ADOPT_NS;
    base_mutex_lock(&http->mutex);
    bool fits = http->connection_count < node->config.options.connections_max;
    if (fits) {
        connection->next = http->connections;
        connection->link = &http->connections;
        if (connection->next != NULL)
            connection->next->link = &connection->next;
        http->connections = connection;
        http->connection_count++;
    }
    base_mutex_unlock(&http->mutex);
    if (fits)
        return connection;
    base_free(connection);
    dor_fail(
        DOR_E_BUSY, "%" PRIu64 " connections are open, which is all that there may be",
        node->config.options.connections_max);
    return NULL;
}

static void
drop_connection(struct node_http *http, struct node_connection *connection)
{
    base_mutex_lock(&http->mutex);
    remove_locked(http, connection);
    struct node_call *call = connection->call;
    base_mutex_unlock(&http->mutex);
    node_call_unref(call);
    base_free(connection);
}

void
node_connection_set_deadline(struct node *node, struct node_connection *connection, bool wanted)
{
    if (connection == NULL)
        return;
    base_mutex_lock(&node->http.mutex);
    connection->deadline_ns =
        wanted ? base_clock_monotonic_ns() + node->config.options.request_seconds * NS_PER_S
               : 0;
    base_mutex_unlock(&node->http.mutex);
}

void
node_connection_set_call(
    struct node *node, struct node_connection *connection, struct node_call *call)
{
    if (connection == NULL)
        return;
    base_mutex_lock(&node->http.mutex);
    struct node_call *before = connection->call;
    connection->call = call == NULL ? NULL : node_call_ref(call);
    base_mutex_unlock(&node->http.mutex);
    node_call_unref(before);
}

/* Answer FD with this thread's last error and close it; what cannot be sent at once is lost. */
static void
refuse_connection(struct node *node, int fd)
{
    char answer[REFUSAL_BYTES + DOR_ERR_TEXT_BYTES];
    const struct base_err *err = base_err_record();
    json_t *json = node_shape_error(err);
    char *body = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
    int bytes = snprintf(
        answer, sizeof answer,
        "HTTP/1.1 %u %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
        "Connection: close\r\n\r\n%s",
        node_http_status(err->code), err->code == DOR_E_DENIED ? "Forbidden" : "Unavailable",
        body == NULL ? 0 : strlen(body), body == NULL ? "" : body);
    if (bytes > 0 && (size_t)bytes < sizeof answer)
        send(fd, answer, (size_t)bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    close(fd);
    free(body);
    json_decref(json);
    base_counter_add(&node->counters.refused_connections, 1);
}

static int
check_peer(const struct node *node, int fd)
{
    struct ucred peer;
    socklen_t bytes = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0)
        return dor_fail_errno(errno, "connection: its user is not known");
    if (node_config_allows(&node->config, peer.uid, peer.gid))
        return 0;
    return dor_fail(
        DOR_E_DENIED,
        "user %u may not connect; allow_uids of the daemon's configuration says who", peer.uid);
}

static void
take_connection(struct node *node, int fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    base_counter_add(&node->counters.connections, 1);
    struct node_connection *connection =
        check_peer(node, fd) == 0 ? add_connection(node, fd) : NULL;
    if (connection == NULL) {
        refuse_connection(node, fd);
        return;
    }
    /* It closes the descriptor when it fails. */
    if (MHD_add_connection(
            node->http.daemon, fd, (const struct sockaddr *)&address, sizeof address) == MHD_NO)
        drop_connection(&node->http, connection);
}

void
node_http_accept(struct node *node, int listen_fd)
{
    for (int i = 0; i < ACCEPTS_MAX; i++) {
        int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        take_connection(node, fd);
    }
}

void
node_connection_notify(
    void *context, struct MHD_Connection *mhd, void **socket_context,
    enum MHD_ConnectionNotificationCode code)
{
    struct node *node = context;
    struct node_http *http = &node->http;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (*socket_context != NULL)
            drop_connection(http, *socket_context);
        return;
    }
    int fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    base_mutex_lock(&http->mutex);
    for (struct node_connection *c = http->connections; c != NULL; c = c->next) {
        if (c->fd == fd && !c->adopted) {
            c->adopted = true;
            c->deadline_ns =
                base_clock_monotonic_ns() + node->config.options.request_seconds * NS_PER_S;
            *socket_context = c;
            break;
        }
    }
    base_mutex_unlock(&http->mutex);
}

/* Under the lock: what CONNECTION asks for; *RET_GONE is the call of a client that is gone. */
static void
look_at_locked(
    struct node *node, struct node_connection *connection, uint64_t now_ns,
    struct node_call **ret_gone)
{
    struct pollfd poll_fd = {.fd = connection->fd};
    *ret_gone = NULL;
    if (connection->deadline_ns != 0 && connection->deadline_ns < now_ns) {
        if (connection->adopted) {
            shutdown(connection->fd, SHUT_RDWR);
            base_counter_add(&node->counters.slow_connections, 1);
            connection->deadline_ns = 0;
        }
        return;
    }
    if (connection->call != NULL && poll(&poll_fd, 1, 0) == 1 &&
        (poll_fd.revents & POLLHUP) != 0) {
        *ret_gone = connection->call;
        connection->call = NULL;
    }
}

void
node_http_sweep(struct node *node)
{
    struct node_http *http = &node->http;
    struct node_call *gone[GONE_MAX];
    struct node_connection *orphans = NULL;
    size_t gone_count = 0;
    uint64_t now_ns = base_clock_monotonic_ns();
    base_mutex_lock(&http->mutex);
    for (struct node_connection *c = http->connections, *next; c != NULL; c = next) {
        next = c->next;
        if (!c->adopted && c->deadline_ns < now_ns) {
            remove_locked(http, c);
            c->next = orphans;
            orphans = c;
        } else if (gone_count < GONE_MAX) {
            look_at_locked(node, c, now_ns, &gone[gone_count]);
            gone_count += gone[gone_count] != NULL;
        }
    }
    base_mutex_unlock(&http->mutex);
    while (orphans != NULL) {
        struct node_connection *next = orphans->next;
        base_free(orphans);
        orphans = next;
    }
    for (size_t i = 0; i < gone_count; i++) {
        node_jobs_cancel(&node->jobs, gone[i]);
        node_call_unref(gone[i]);
    }
}

bool
node_http_busy(struct node *node)
{
    base_mutex_lock(&node->http.mutex);
    bool busy = node->http.request_count > 0;
    base_mutex_unlock(&node->http.mutex);
    return busy;
}

unsigned
node_http_connections(struct node *node)
{
    base_mutex_lock(&node->http.mutex);
    unsigned count = node->http.connection_count;
    base_mutex_unlock(&node->http.mutex);
    return count;
}
