/* SPDX-License-Identifier: Apache-2.0 */
/*
 * front.c - opening, the loop, and the end: the listeners are closed, the workers are told, and
 * those who have not ended after a while are killed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/size.h"
#include "table/front_priv.h"

#define BASE_COUNTER_STRUCT struct table_front_counters
const struct base_counter table_front_counter_rows[] = {
#define COUNTER BASE_COUNTER_ROW
#include "table/counters.def"
#undef COUNTER
};
#undef BASE_COUNTER_STRUCT
const size_t table_front_counter_count = ARRAY_LEN(table_front_counter_rows);

enum {
    EVENTS = 256,
    ROUND_MS = 100,
    IDLE_MS = 1000,
    BACKLOG = 4096,
    ACCEPTS = 64,
    SPARE_FDS = 64
};

#define NS_PER_MS UINT64_C(1000000)
#define DRAIN_NS  UINT64_C(10000000000)

/* ------------------------------------------------------------------ watching */

static int
control(struct table_front *front, int op, int fd, uint32_t events, struct front_source *source)
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    if (epoll_ctl(front->epoll_fd, op, fd, &event) != 0)
        return dor_fail_errno(errno, "cannot watch a descriptor");
    return 0;
}

int
front_watch(struct table_front *front, int fd, uint32_t events, struct front_source *source)
{
    return control(front, EPOLL_CTL_ADD, fd, events, source);
}

int
front_rewatch(struct table_front *front, int fd, uint32_t events, struct front_source *source)
{
    return control(front, EPOLL_CTL_MOD, fd, events, source);
}

void
front_unwatch(struct table_front *front, int fd)
{
    (void)epoll_ctl(front->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

/* ------------------------------------------------------------------ listening */

static int
bind_tcp(const struct addrinfo *address, int *ret)
{
    const int on = 1;
    AUTO_CLOSE int fd =
        socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd, address->ai_addr, address->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0)
        return errno == EADDRINUSE ? dor_fail(DOR_E_BUSY, "somebody listens there already")
                                   : dor_fail_errno(errno, "cannot listen");
    *ret = base_take_fd(&fd);
    return 0;
}

/* What ADDRESS:PORT, or PORT alone, stands for. */
static int
listen_tcp(const char *text, struct front_listener *listener)
{
    char host[sizeof listener->address] = "127.0.0.1";
    const struct addrinfo hints = {
        .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    const char *colon = strrchr(text, ':');
    const char *port = colon == NULL ? text : colon + 1;
    if (colon != NULL) {
        bool bracketed = text[0] == '[' && colon > text && colon[-1] == ']';
        size_t length = (size_t)(colon - text) - (bracketed ? 2 : 0);
        if (length >= sizeof host)
            return dor_fail(DOR_E_USAGE, "%.60s...: the address is too long", text);
        memcpy(host, text + (bracketed ? 1 : 0), length);
        host[length] = '\0';
    }
    if (getaddrinfo(host, port, &hints, &found) != 0 || port[0] == '\0')
        return dor_fail(
            DOR_E_USAGE, "%s: write a port, an address and a port, or a path with a \"/\"",
            text);
    int rc = bind_tcp(found, &listener->fd);
    freeaddrinfo(found);
    return rc == 0 ? 0 : dor_fail_wrap("%s", text);
}

static int
listen_at(struct table_front *front, const char *text, unsigned mode)
{
    struct front_listener *listener = &front->listeners[front->listener_count];
    *listener = (struct front_listener){
        .source.kind = FRONT_LISTENER,
        .unix_listener = BASE_LISTENER_NONE,
        .fd = -1,
    };
    if (strlen(text) >= sizeof listener->address)
        return dor_fail(DOR_E_USAGE, "%.60s...: the address is too long", text);
    memcpy(listener->address, text, strlen(text) + 1);
    int rc = 0;
    if (strchr(text, '/') != NULL) {
        rc = base_listener_open(text, mode, &listener->unix_listener);
        listener->fd = listener->unix_listener.fd;
        /* Thousands may connect at the same moment. */
        if (rc == 0 && listen(listener->fd, BACKLOG) != 0)
            rc = dor_fail_errno(errno, "%s: cannot listen", text);
    } else {
        rc = listen_tcp(text, listener);
    }
    if (rc != 0)
        return rc;
    front->listener_count++;
    return front_watch(front, listener->fd, EPOLLIN, &listener->source);
}

static void
accept_or_not(struct table_front *front, bool accepting)
{
    if (front->accepting == accepting)
        return;
    front->accepting = accepting;
    for (size_t i = 0; i < front->listener_count; i++)
        if (front_rewatch(
                front, front->listeners[i].fd, accepting ? EPOLLIN : 0U,
                &front->listeners[i].source) != 0)
            dor_log(ERROR, "table", "not_watched", "error=\"%s\"", dor_err_message());
}

void
front_pause_accepting(struct table_front *front)
{
    dor_log(WARN, "table", "descriptors_short", "connections=%u", front->client_count);
    accept_or_not(front, false);
}

static void
close_listeners(struct table_front *front)
{
    for (size_t i = 0; i < front->listener_count; i++) {
        struct front_listener *listener = &front->listeners[i];
        if (listener->unix_listener.fd >= 0)
            base_listener_close(&listener->unix_listener);
        else
            base_close_fd(&listener->fd);
    }
    front->listener_count = 0;
}

/* ------------------------------------------------------------------ opening and closing */

static void
raise_descriptors(struct table_front *front)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < front->connections_max + SPARE_FDS)
        dor_log(
            WARN, "table", "connections_bounded", "descriptors=%lu",
            (unsigned long)limit.rlim_cur);
}

static int
copy_settings(struct table_front *front, const struct dor_table *how)
{
    front->connections_max =
        how->connections_max == 0 ? FRONT_CONNECTIONS : how->connections_max;
    front->program = strdup(how->program == NULL ? "/proc/self/exe" : how->program);
    if (how->tenants_path != NULL)
        front->tenants_path = strdup(how->tenants_path);
    if (how->directory != NULL && asprintf(&front->directory, "%s/tables", how->directory) < 0)
        front->directory = NULL;
    front->keeper = how->keeper;
    front->repair = how->repair;
    if (front->program == NULL || (how->tenants_path != NULL && front->tenants_path == NULL) ||
        (how->directory != NULL && front->directory == NULL))
        return dor_fail(DOR_E_NO_MEMORY, "no memory for the front");
    if (how->listen_count == 0 || how->listen_count > DOR_TABLE_LISTEN_MAX)
        return dor_fail(
            DOR_E_USAGE, "one to %d places to listen at are wanted", DOR_TABLE_LISTEN_MAX);
    return 0;
}

static int
open_descriptors(struct table_front *front)
{
    front->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    front->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (front->epoll_fd < 0 || front->event_fd < 0)
        return dor_fail_errno(errno, "cannot open the front");
    return front_watch(front, front->event_fd, EPOLLIN, &front->event_source);
}

static int
start(struct table_front *front, const struct dor_table *how)
{
    int rc = copy_settings(front, how);
    if (rc == 0)
        rc = open_descriptors(front);
    if (rc == 0)
        rc = front_tenants_load(front);
    if (rc == 0)
        rc = table_auth_open(&front->auth);
    if (rc == 0)
        rc = front_watch(front, table_auth_fd(front->auth), EPOLLIN, &front->auth_source);
    for (size_t i = 0; rc == 0 && i < how->listen_count; i++)
        rc = listen_at(front, how->listen[i], how->socket_mode == 0 ? 0600 : how->socket_mode);
    if (rc == 0)
        rc = front_zygote_start(front);
    if (rc == 0)
        front_cgroup_open(front);
    return rc;
}

int
table_front_open(const struct dor_table *how, struct table_front **ret)
{
    struct table_front *front = base_zalloc(sizeof *front);
    if (front == NULL)
        return DOR_E_NO_MEMORY;
    *front = (struct table_front){
        .epoll_fd = -1,
        .event_fd = -1,
        .zygote = -1,
        .accepting = true,
        .auth_source.kind = FRONT_AUTH,
        .event_source.kind = FRONT_EVENT,
        .zygote_source.kind = FRONT_ZYGOTE,
    };
    base_mutex_init(&front->mutex);
    front->now_ns = base_clock_monotonic_ns();
    int rc = start(front, how);
    if (rc == 0) {
        raise_descriptors(front);
        *ret = front;
        return 0;
    }
    table_front_close(front);
    return rc;
}

void
table_front_close(struct table_front *front)
{
    if (front == NULL)
        return;
    struct base_err err = *base_err_record();
    close_listeners(front);
    table_auth_close(front->auth);
    front_clients_free(front);
    front_workers_free(front);
    front_tenants_free(front);
    front_zygote_end(front);
    front_cgroup_close(front);
    resp_args_free(&front->args);
    base_buf_free(&front->extra);
    base_close_fd(&front->epoll_fd);
    base_close_fd(&front->event_fd);
    free(front->tenants_path);
    free(front->directory);
    free(front->program);
    base_mutex_fini(&front->mutex);
    base_free(front);
    base_err_load(&err);
}

/* ------------------------------------------------------------------ from other threads */

static void
wake(struct table_front *front)
{
    const uint64_t one = 1;
    int saved = errno;
    ssize_t written = write(front->event_fd, &one, sizeof one);
    (void)written; /* a full counter wakes as well */
    errno = saved;
}

void
table_front_stop(struct table_front *front)
{
    atomic_fetch_add_explicit(&front->stops, 1, memory_order_relaxed);
    wake(front);
}

void
table_front_reload(struct table_front *front)
{
    atomic_store_explicit(&front->reload, true, memory_order_relaxed);
    wake(front);
}

size_t
table_front_addresses(
    const struct table_front *front, const char *ret[static DOR_TABLE_LISTEN_MAX])
{
    for (size_t i = 0; i < front->listener_count; i++)
        ret[i] = front->listeners[i].address;
    return front->listener_count;
}

/* ------------------------------------------------------------------ the loop */

static void
take_answers(struct table_front *front)
{
    struct table_auth_answer answer;
    while (table_auth_answer(front->auth, &answer))
        front_client_answer(front, &answer);
}

static void
take_event(struct table_front *front)
{
    uint64_t count = 0;
    ssize_t got = read(front->event_fd, &count, sizeof count);
    (void)got; /* the flags say what it is about */
    if (!atomic_exchange_explicit(&front->reload, false, memory_order_relaxed))
        return;
    if (front_tenants_load(front) != 0)
        dor_log(ERROR, "table", "tenants_stay", "error=\"%s\"", dor_err_message());
    else
        dor_log(INFO, "table", "tenants_read", "tenants=%zu", front->tenant_count);
}

static void
on_event(struct table_front *front, const struct epoll_event *event)
{
    struct front_source *source = event->data.ptr;
    switch (source->kind) {
    case FRONT_LISTENER:
        for (unsigned i = 0; i < ACCEPTS; i++)
            if (!front_client_accept(front, (struct front_listener *)source))
                break;
        break;
    case FRONT_CLIENT:
        front_client_event(front, (struct front_client *)source, event->events);
        break;
    case FRONT_ZYGOTE:
        front_zygote_event(front);
        break;
    case FRONT_CONTROL:
        front_worker_control_event(front, (struct front_worker *)source, event->events);
        break;
    case FRONT_PIDFD:
        front_worker_pid_event(
            front, (struct front_worker
                        *)((char *)source - offsetof(struct front_worker, pid_source)));
        break;
    case FRONT_AUTH:
        take_answers(front);
        break;
    case FRONT_EVENT:
        take_event(front);
        break;
    }
}

static void
look_around(struct table_front *front)
{
    front_supervise(front);
    front_kept_round(front);
    front_apart_round(front);
    front_client_sweep(front);
    front_zygote_keep(front);
    accept_or_not(front, true);
    front->next_round_ns = front->now_ns + ROUND_MS * NS_PER_MS;
}

/* Wait for something and deal with it. */
static void
turn(struct table_front *front)
{
    struct epoll_event events[EVENTS];
    bool quiet = front->workers == NULL && front->clients == NULL && front->accepting &&
                 front->zygote >= 0;
    int count = epoll_wait(front->epoll_fd, events, EVENTS, quiet ? IDLE_MS : ROUND_MS);
    base_mutex_lock(&front->mutex);
    front->now_ns = base_clock_monotonic_ns();
    for (int i = 0; i < count; i++)
        on_event(front, &events[i]);
    if (front->now_ns >= front->next_round_ns)
        look_around(front);
    front_client_free_ended(front);
    front_workers_sweep(front);
    base_mutex_unlock(&front->mutex);
}

static void
drain(struct table_front *front)
{
    base_mutex_lock(&front->mutex);
    front->draining = true;
    close_listeners(front);
    while (front->clients != NULL)
        front_client_close(front, front->clients);
    front_workers_say_bye(front);
    base_mutex_unlock(&front->mutex);
    uint64_t end_ns = front->now_ns + DRAIN_NS;
    while (front_workers_run(front)) {
        bool hurry = atomic_load_explicit(&front->stops, memory_order_relaxed) > 1;
        if (hurry || front->now_ns >= end_ns)
            front_workers_kill(front);
        turn(front);
    }
}

int
table_front_run(struct table_front *front)
{
    while (atomic_load_explicit(&front->stops, memory_order_relaxed) == 0)
        turn(front);
    drain(front);
    return 0;
}
