/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve.c - a daemon from beginning to end:
 *
 *     lock -> threads -> socket -> ready -- SIGTERM --> draining -- idle or late --> ended
 *
 * The writer's lock is taken first: it proves that a socket in the store's folder is a dead one's,
 * and it is let go last. While it drains, the socket is gone, nothing new is taken, what runs may
 * end; after drain_seconds, or a second signal, it is stopped, which no store minds.
 */
#include "base/clock.h"
#include "base/code.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/size.h"
#include "base/unix_socket.h"
#include "node/node.h"

#include <dormouse/node.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#define NS_PER_S  UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)

enum { SWEEP_MS = 200, DRAIN_STEP_MS = 20, ANSWER_SECONDS = 2, DESCRIPTORS_SPARE = 64 };

struct server {
    struct node node;
    struct base_listener listener; /* its name is ours only when systemd did not make it */
    int signal_fd;
    char socket_path[PATH_MAX]; /* absolute */
    char link_path[PATH_MAX];   /* in the store's folder; "" when the socket itself is there */
    bool jobs_started, http_started;
    sigset_t old_mask;
    bool masked;
};

/* ------------------------------------------------------------------ handles for calls */

int
node_reader_open(struct node_call *call, struct dor_store **ret)
{
    return dor_store_open(call->node->directory, DOR_OPEN_READ, NULL, ret);
}

int
node_spool_open(const struct node *node, int *ret)
{
    return base_file_open(
        AT_FDCWD, node->directory, O_TMPFILE | O_RDWR, S_IRUSR | S_IWUSR, ret);
}

/* ------------------------------------------------------------------ beginning */

static int
make_absolute(const char *path, char ret[PATH_MAX])
{
    char here[PATH_MAX] = "";
    if (path[0] != '/' && getcwd(here, sizeof here) == NULL)
        return dor_fail_errno(errno, "the working directory");
    int bytes = snprintf(ret, PATH_MAX, "%s%s%s", here, path[0] == '/' ? "" : "/", path);
    if (bytes < 0 || bytes >= PATH_MAX)
        return dor_fail(DOR_E_USAGE, "%.60s...: the path is too long", path);
    return 0;
}

/* Many connections need many descriptors. */
static void
raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void
bound_connections(struct node_config *config)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return;
    uint64_t most = limit.rlim_cur > 2UL * DESCRIPTORS_SPARE
                        ? limit.rlim_cur - DESCRIPTORS_SPARE
                        : DESCRIPTORS_SPARE;
    if (config->options.connections_max > most) {
        dor_log(WARN, "node", "connections_bounded", "max=%lu", (unsigned long)most);
        config->options.connections_max = most;
    }
}

static int
catch_signals(struct server *server)
{
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGTERM);
    sigaddset(&wanted, SIGINT);
    sigaddset(&wanted, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &wanted, &server->old_mask);
    server->masked = true;
    signal(SIGPIPE, SIG_IGN);
    server->signal_fd = signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
    if (server->signal_fd < 0)
        return dor_fail_errno(errno, "signals");
    return 0;
}

/* Where the socket is that systemd passed, if it did. */
static int
name_passed_socket(struct server *server)
{
    struct sockaddr_un address = {0};
    socklen_t bytes = sizeof address;
    if (server->listener.fd < 0)
        return 0;
    if (getsockname(server->listener.fd, (struct sockaddr *)&address, &bytes) != 0)
        return dor_fail_errno(errno, "the socket that systemd passed");
    snprintf(
        server->socket_path, sizeof server->socket_path, "%.*s", (int)sizeof address.sun_path,
        address.sun_path);
    return 0;
}

/* Who knows the store finds the daemon: its folder names the socket. */
static int
record_socket(struct server *server)
{
    char *link = server->link_path;
    if (snprintf(link, PATH_MAX, "%s/%s", server->node.directory, NODE_SOCKET_NAME) >= PATH_MAX)
        return dor_fail(DOR_E_USAGE, "the path of the store is too long");
    if (strcmp(link, server->socket_path) == 0) {
        link[0] = '\0';
        return 0;
    }
    struct stat status;
    if (lstat(link, &status) == 0 && (S_ISSOCK(status.st_mode) || S_ISLNK(status.st_mode))) {
        int rc = base_file_unlink(AT_FDCWD, link);
        if (rc != 0)
            return rc;
    }
    if (symlink(server->socket_path, link) != 0) {
        int rc = dor_fail_errno(errno, "%s", link);
        link[0] = '\0';
        return rc;
    }
    return 0;
}

static int
open_socket(struct server *server, const struct dor_daemon *daemon)
{
    char path[PATH_MAX];
    int rc = name_passed_socket(server);
    if (rc != 0)
        return rc;
    if (server->listener.fd < 0) {
        if (daemon->socket_path == NULL &&
            snprintf(path, sizeof path, "%s/%s", server->node.directory, NODE_SOCKET_NAME) >=
                PATH_MAX)
            return dor_fail(DOR_E_USAGE, "the path of the store is too long");
        rc = make_absolute(
            daemon->socket_path == NULL ? path : daemon->socket_path, server->socket_path);
        if (rc == 0)
            rc = base_listener_open(
                server->socket_path, server->node.config.socket_mode, &server->listener);
        if (rc != 0)
            return rc;
    }
    if (fcntl(server->listener.fd, F_SETFL, O_NONBLOCK) != 0)
        return dor_fail_errno(errno, "the socket");
    return record_socket(server);
}

static int
load_config(struct node *node, const struct dor_daemon *daemon)
{
    int rc = node_config_load(daemon->config_path, &node->config);
    if (rc == 0 && daemon->socket_mode != NULL)
        rc = node_config_set_mode(&node->config, daemon->socket_mode);
    if (rc == 0)
        bound_connections(&node->config);
    return rc;
}

static int
start_jobs(struct node *node)
{
    const struct node_options *options = &node->config.options;
    const struct node_jobs_limits limits = {
        .readers = (unsigned)options->readers,
        .apart_max = (unsigned)options->machines_max,
        .queue_max = (unsigned)options->queue_max,
        .kept_max = (unsigned)options->jobs_kept,
    };
    return node_jobs_start(&node->jobs, &limits);
}

static int
start(struct server *server, const struct dor_daemon *daemon)
{
    struct node *node = &server->node;
    raise_descriptors();
    int rc = load_config(node, daemon);
    const struct dor_wake_options wake = {.cache_bytes = node->config.options.cache_bytes};
    if (rc == 0)
        rc = node_parking_passed(&server->listener.fd, &node->wakes.passed);
    /* Before there are threads, or anything open that another process should not hold. */
    if (rc == 0)
        rc = node_parking_open(
            node->config.options.park, node->directory, &wake, &node->wakes.parking);
    if (rc == 0)
        rc = dor_store_open(node->directory, DOR_OPEN_WRITE, NULL, &node->writer);
    if (rc == 0)
        rc = dor_wake_server_open(node->directory, &wake, &node->wake_server);
    if (rc == 0)
        rc = catch_signals(server);
    if (rc == 0)
        rc = open_socket(server, daemon);
    if (rc == 0) {
        server->jobs_started = true;
        rc = start_jobs(node);
    }
    if (rc == 0)
        node_wakes_restore(&node->wakes);
    if (rc == 0)
        rc = node_tenants_start(node, daemon);
    if (rc == 0) {
        rc = node_http_start(node);
        server->http_started = rc == 0;
    }
    return rc;
}

/* ------------------------------------------------------------------ serving */

/* The signal that came, 0 when none did. */
static int
read_signal(const struct server *server)
{
    struct signalfd_siginfo info;
    ssize_t bytes = read(server->signal_fd, &info, sizeof info);
    return bytes == (ssize_t)sizeof info ? (int)info.ssi_signo : 0;
}

static void
serve(struct server *server)
{
    struct node *node = &server->node;
    uint64_t next_sweep_ns = 0;
    for (;;) {
        struct pollfd fds[] = {
            {.fd = server->signal_fd, .events = POLLIN},
            {.fd = server->listener.fd, .events = POLLIN},
        };
        poll(fds, ARRAY_LEN(fds), SWEEP_MS);
        /* A terminal that goes away does not concern a daemon; its tenants may have changed. */
        int number = fds[0].revents != 0 ? read_signal(server) : 0;
        if (number == SIGHUP)
            node_tenants_reload(node);
        else if (number != 0)
            return;
        if (fds[1].revents != 0)
            node_http_accept(node, server->listener.fd);
        uint64_t now_ns = base_clock_monotonic_ns();
        if (now_ns >= next_sweep_ns) {
            node_http_sweep(node);
            node_wakes_sweep(&node->wakes);
            next_sweep_ns = now_ns + SWEEP_MS * NS_PER_MS;
        }
    }
}

static void
forget_socket(struct server *server)
{
    struct base_err err = *base_err_record();
    if (server->link_path[0] != '\0' && base_file_unlink(AT_FDCWD, server->link_path) != 0)
        dor_log(WARN, "node", "link_left", "error=\"%s\"", dor_err_message());
    server->link_path[0] = '\0';
    base_listener_close(&server->listener);
    base_err_load(&err);
}

/* Wait until work has ended and its answers are on their way. */
static void
drain(struct server *server)
{
    struct node *node = &server->node;
    uint64_t now_ns = base_clock_monotonic_ns();
    uint64_t stop_ns = now_ns + node->config.options.drain_seconds * NS_PER_S;
    uint64_t answers_ns = 0;
    sd_notify(0, "STOPPING=1");
    forget_socket(server);
    node_jobs_close(&node->jobs);
    node_wakes_end_all(&node->wakes);
    for (;;) {
        now_ns = base_clock_monotonic_ns();
        /* When it is late, sandboxes that lack memory are left to who has their descriptors. */
        bool late = now_ns >= stop_ns;
        bool idle = node_jobs_idle(&node->jobs) && (late || node_wakes_idle(&node->wakes));
        if (idle && answers_ns == 0)
            answers_ns = now_ns + ANSWER_SECONDS * NS_PER_S;
        if (idle && (!node_http_busy(node) || now_ns >= answers_ns))
            return;
        struct pollfd fd = {.fd = server->signal_fd, .events = POLLIN};
        poll(&fd, 1, DRAIN_STEP_MS);
        bool again = fd.revents != 0 && read_signal(server) != 0;
        if (again)
            stop_ns = now_ns;
        if (again || late)
            node_jobs_cancel_all(&node->jobs);
        node_http_sweep(node);
        node_wakes_sweep(&node->wakes);
    }
}

static void
end(struct server *server)
{
    struct node *node = &server->node;
    struct base_err err = *base_err_record();
    forget_socket(server);
    if (server->jobs_started) {
        node_jobs_close(&node->jobs);
        node_jobs_cancel_all(&node->jobs);
    }
    if (server->http_started)
        node_http_stop(node);
    if (server->jobs_started)
        node_jobs_stop(&node->jobs);
    node_tenants_stop(node);
    node_wakes_close(&node->wakes);
    dor_wake_server_close(node->wake_server);
    dor_store_close(node->writer);
    node_config_fini(&node->config);
    /* One signal too many is not to kill a daemon that has ended as it was asked to. */
    while (server->signal_fd >= 0 && read_signal(server) != 0)
        continue;
    base_auto_close(&server->signal_fd);
    if (server->masked)
        pthread_sigmask(SIG_SETMASK, &server->old_mask, NULL);
    base_err_load(&err);
}

int
dor_daemon_serve(const char *directory, const struct dor_daemon *daemon)
{
    char path[PATH_MAX];
    struct server *server = base_zalloc(sizeof *server);
    if (server == NULL)
        return DOR_E_NO_MEMORY;
    server->listener = BASE_LISTENER_NONE;
    server->signal_fd = -1;
    server->node.started_ns = base_clock_realtime_ns();
    server->node.wakes = (struct node_wakes){.node = &server->node, .parking.heir.control = -1};
    base_mutex_init(&server->node.wakes.mutex);
    server->node.directory = path;
    int rc = base_path_resolve(directory, path, sizeof path);
    dor_intake_guard();
    if (rc == 0)
        rc = start(server, daemon);
    if (rc == 0) {
        base_code_populate();
        sd_notify(0, "READY=1");
        dor_log(INFO, "node", "ready", "store=%s socket=%s", path, server->socket_path);
        if (daemon->ready != NULL)
            daemon->ready(daemon->ready_context, server->socket_path);
        serve(server);
        drain(server);
    }
    end(server);
    base_mutex_fini(&server->node.wakes.mutex);
    base_free(server);
    return rc;
}
