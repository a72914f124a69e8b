/* SPDX-License-Identifier: Apache-2.0 */
/*
 * front_worker.c - workers: which tenants each has, its process, and what is said to it.
 *
 * Nobody waits for a process to be there: what is to be said to it lies in a queue. Until the
 * zygote has told that it is started it is sent nothing, so a process that was forked by a zygote
 * that died before it could tell knows no table and no connection, and ends when its socket is
 * closed.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/size.h"
#include "table/front_priv.h"

/* ------------------------------------------------------------------ messages */

static void
free_packet(struct front_packet *packet)
{
    for (size_t i = 0; i < packet->fd_count; i++)
        base_close_fd(&packet->fds[i]);
    base_free(packet);
}

static void
drop_queue(struct front_worker *worker)
{
    while (worker->queue != NULL) {
        struct front_packet *packet = worker->queue;
        worker->queue = packet->next;
        free_packet(packet);
    }
    worker->queue_end = &worker->queue;
}

static int
enqueue(
    struct front_worker *worker, const struct table_message *message, const void *extra,
    const int *fds, size_t fd_count)
{
    struct front_packet *packet = base_alloc(sizeof *packet + message->extra_bytes);
    if (packet == NULL)
        return DOR_E_NO_MEMORY;
    *packet = (struct front_packet){.message = *message, .fd_count = fd_count};
    if (extra != NULL)
        memcpy(packet->extra, extra, message->extra_bytes);
    bool whole = true;
    for (size_t i = 0; i < fd_count; i++) {
        packet->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
        whole = whole && packet->fds[i] >= 0;
    }
    if (!whole) {
        int rc = dor_fail_errno(errno, "no descriptor for a message");
        free_packet(packet);
        return rc;
    }
    *worker->queue_end = base_keep(packet);
    worker->queue_end = &packet->next;
    return worker->pidfd < 0 ? 0
                             : front_rewatch(
                                   worker->front, worker->control, EPOLLIN | EPOLLOUT,
                                   &worker->control_source);
}

int
front_worker_say(
    struct front_worker *worker, const struct table_message *message, const void *extra,
    const int *fds, size_t fd_count)
{
    if (!worker->running)
        return dor_fail(DOR_E_IO, "the worker has ended");
    if (worker->queue != NULL || worker->pidfd < 0)
        return enqueue(worker, message, extra, fds, fd_count);
    int rc = table_control_send(worker->control, message, extra, fds, fd_count);
    return rc == DOR_E_BUSY ? enqueue(worker, message, extra, fds, fd_count) : rc;
}

static void
send_queued(struct table_front *front, struct front_worker *worker)
{
    while (worker->queue != NULL) {
        struct front_packet *packet = worker->queue;
        int rc = table_control_send(
            worker->control, &packet->message, packet->extra, packet->fds, packet->fd_count);
        if (rc == DOR_E_BUSY)
            return;
        worker->queue = packet->next;
        free_packet(packet);
    }
    worker->queue_end = &worker->queue;
    if (front_rewatch(front, worker->control, EPOLLIN, &worker->control_source) != 0)
        dor_log(ERROR, "table", "not_watched", "error=\"%s\"", dor_err_message());
}

/* ------------------------------------------------------------------ processes */

/* Ask the zygote for the process of WORKER; without one this is done when there is a new one. */
static int
ask_for_process(struct table_front *front, struct front_worker *worker)
{
    const struct table_message message = {
        .word = TABLE_WORD_SPAWN,
        .id = worker->id,
        .worker.rows = worker->rows,
    };
    int pair[2];
    base_close_fd(&worker->control);
    int rc = table_control_pair(pair);
    if (rc != 0)
        return rc;
    worker->control = pair[0];
    const int fds[] = {pair[1], worker->status_fd};
    if (front->zygote >= 0 &&
        table_control_send(front->zygote, &message, NULL, fds, ARRAY_LEN(fds)) != 0)
        dor_log(WARN, "table", "zygote_busy", "worker=%u", worker->id);
    close(pair[1]);
    return 0;
}

static int
start_process(struct table_front *front, struct front_worker *worker)
{
    int rc = table_status_create(worker->rows, &worker->status_fd, &worker->status);
    if (rc == 0)
        rc = ask_for_process(front, worker);
    if (rc != 0)
        return rc;
    worker->running = true;
    worker->queue_end = &worker->queue;
    worker->started_ns = front->now_ns;
    worker->unread_since_ns = 0;
    base_counter_add(&front->counters.workers, 1);
    return 0;
}

/* Nothing is left of the process; its tables are to be looked at by the next. */
static void
end_process(struct table_front *front, struct front_worker *worker)
{
    drop_queue(worker);
    for (unsigned slot = 0; slot < worker->rows; slot++) {
        struct front_tenant *tenant = worker->tenants[slot];
        if (tenant == NULL || !tenant->sent)
            continue;
        tenant->sent = tenant->leaving = false;
        /* A table that was not made yet is begun anew. */
        bool made = !tenant->is_new ||
                    table_status_get(&table_status_row(worker->status, slot)->arena_bytes) > 0;
        tenant->is_new = !made && ftruncate(tenant->arena_fd, 0) == 0;
        tenant->recover = !tenant->is_new;
        front_kept_worker_died(tenant);
        if (worker->retired || front_tenant_shares(tenant) != worker->shared ||
            strcmp(tenant->config.domain, worker->domain) != 0)
            front_worker_forget(worker, tenant);
    }
    table_status_unmap(worker->status, worker->rows);
    worker->status = NULL;
    base_close_fd(&worker->control);
    base_close_fd(&worker->status_fd);
    base_close_fd(&worker->pidfd);
    worker->running = false;
    front_cgroup_remove(front, worker);
    worker->pid = 0;
}

/* Soon the first time, later each time it dies young. */
static void
set_back(struct table_front *front, struct front_worker *worker)
{
    if (front->now_ns - worker->started_ns >= FRONT_GOOD_LIFE_NS)
        worker->failures = 0;
    uint64_t wait_ns = FRONT_BACK_OFF_NS << worker->failures;
    worker->next_start_ns = worker->failures == 0 ? 0 : front->now_ns + wait_ns;
    if (worker->failures < FRONT_BACK_OFF_STEPS)
        worker->failures++;
}

void
front_worker_kill(struct front_worker *worker)
{
    if (worker->pidfd >= 0)
        (void)pidfd_send_signal(worker->pidfd, SIGKILL, NULL, 0);
}

static void
worker_is_dead(struct table_front *front, struct front_worker *worker)
{
    bool expected = front->draining || worker->used_rows == 0 || worker->retired;
    /* If it has only closed its socket it must not go on with the tables. */
    front_worker_kill(worker);
    end_process(front, worker);
    if (expected)
        return;
    base_counter_add(&front->counters.dead_workers, 1);
    set_back(front, worker);
    dor_log(
        WARN, "table", "worker_lost", "worker=%u domain=%s tenants=%u", worker->id,
        worker->domain, worker->used_rows);
}

/* ------------------------------------------------------------------ which worker a tenant has */

static struct front_worker *
new_worker(struct table_front *front, const struct front_tenant *tenant)
{
    struct front_worker *worker = base_zalloc(sizeof *worker);
    if (worker == NULL)
        return NULL;
    bool shared = front_tenant_shares(tenant);
    *worker = (struct front_worker){
        .control_source.kind = FRONT_CONTROL,
        .pid_source.kind = FRONT_PIDFD,
        .front = front,
        .id = ++front->next_worker_id,
        .shared = shared,
        .rows = shared ? FRONT_SHARED_ROWS : 1,
        .control = -1,
        .pidfd = -1,
        .status_fd = -1,
        .next = front->workers,
    };
    memcpy(worker->domain, tenant->config.domain, sizeof worker->domain);
    worker->queue_end = &worker->queue;
    worker->tenants = base_array(worker->rows, sizeof(struct front_tenant *));
    if (worker->tenants == NULL) {
        base_free(worker);
        return NULL;
    }
    front->workers = worker;
    return worker;
}

static struct front_worker *
shared_worker(const struct table_front *front, const struct front_tenant *tenant)
{
    if (!front_tenant_shares(tenant))
        return NULL;
    for (struct front_worker *worker = front->workers; worker != NULL; worker = worker->next)
        if (worker->shared && worker->used_rows < worker->rows && !worker->retired &&
            strcmp(worker->domain, tenant->config.domain) == 0)
            return worker;
    return NULL;
}

static int
find_worker(struct table_front *front, struct front_tenant *tenant)
{
    if (tenant->worker != NULL)
        return 0;
    struct front_worker *worker = shared_worker(front, tenant);
    if (worker == NULL)
        worker = new_worker(front, tenant);
    if (worker == NULL)
        return DOR_E_NO_MEMORY;
    unsigned slot = 0;
    while (worker->tenants[slot] != NULL)
        slot++;
    worker->tenants[slot] = tenant;
    worker->used_rows++;
    tenant->worker = worker;
    tenant->slot = slot;
    return 0;
}

void
front_worker_forget(struct front_worker *worker, struct front_tenant *tenant)
{
    worker->tenants[tenant->slot] = NULL;
    worker->used_rows--;
    tenant->worker = NULL;
    tenant->sent = tenant->leaving = false;
}

void
front_worker_retire(struct front_worker *worker)
{
    const struct table_message message = {.word = TABLE_WORD_BYE};
    worker->retired = true;
    if (worker->running && front_worker_say(worker, &message, NULL, NULL, 0) != 0)
        front_worker_kill(worker);
}

static int
make_arena(struct table_front *front, struct front_tenant *tenant)
{
    if (tenant->arena_fd >= 0)
        return 0;
    tenant->arena_fd = memfd_create("dormouse-table", MFD_CLOEXEC);
    if (tenant->arena_fd < 0)
        return dor_fail_errno(errno, "cannot make a memory file");
    int rc = front_kept_open(front, tenant);
    if (rc != 0)
        base_close_fd(&tenant->arena_fd);
    return rc;
}

static int
send_tenant(struct front_tenant *tenant)
{
    struct table_message message;
    if (tenant->sent)
        return 0;
    front_tenant_message(tenant, &message);
    message.word = TABLE_WORD_TENANT;
    message.tenant.suspect = tenant->worker->front->now_ns < tenant->suspect_until_ns;
    int fds[TABLE_CONTROL_FDS] = {tenant->arena_fd};
    size_t fd_count = 1;
    if (message.tenant.log != TABLE_LOG_OFF)
        fds[fd_count++] = table_kept_log_fd(tenant->kept);
    if (message.tenant.fills) {
        fds[fd_count++] = tenant->fill_socket;
        fds[fd_count++] = tenant->fill_device;
    }
    int rc = front_worker_say(tenant->worker, &message, NULL, fds, fd_count);
    tenant->sent = rc == 0;
    if (rc == 0) {
        base_close_fd(&tenant->fill_socket);
        base_close_fd(&tenant->fill_device);
    }
    return rc;
}

/* A process that has ended takes what it is sent with it. */
static bool
has_ended(const struct front_worker *worker)
{
    struct pollfd fd = {.fd = worker->pidfd, .events = POLLIN};
    return poll(&fd, 1, 0) > 0;
}

int
front_worker_serve(struct table_front *front, struct front_tenant *tenant)
{
    int rc = make_arena(front, tenant);
    if (rc == 0)
        rc = find_worker(front, tenant);
    if (rc != 0)
        return rc;
    struct front_worker *worker = tenant->worker;
    if (worker->pidfd >= 0 && has_ended(worker))
        worker_is_dead(front, worker);
    rc = find_worker(front, tenant); /* its settings may lead to another one now */
    worker = tenant->worker;
    if (rc != 0)
        return rc;
    if (tenant->leaving || (worker->retired && worker->running))
        return dor_fail(DOR_E_BUSY, "tenant %s goes to another worker", tenant->config.name);
    if (!worker->running && front->now_ns < worker->next_start_ns)
        return dor_fail(
            DOR_E_BUSY, "the worker of tenant %s died too often; wait a moment",
            tenant->config.name);
    if (!worker->running)
        rc = start_process(front, worker);
    if (rc != 0) {
        end_process(front, worker);
        return rc;
    }
    return send_tenant(tenant);
}

/* ------------------------------------------------------------------ what is told to workers */

static int
send_client(
    struct table_front *front, struct front_tenant *tenant, const struct front_client *client)
{
    struct table_message message = {.word = TABLE_WORD_ADOPT, .id = tenant->id};
    AUTO_CLOSE int file = -1;
    int rc = front_worker_serve(front, tenant);
    if (rc != 0)
        return rc;
    message.client.client_id = client->id;
    message.client.protocol = (uint8_t)client->protocol;
    memcpy(message.client.name, client->name, sizeof client->name);
    memcpy(message.client.address, client->address, sizeof client->address);
    memcpy(message.client.library, client->library, sizeof client->library);
    memcpy(
        message.client.library_version, client->library_version,
        sizeof client->library_version);
    const uint8_t *input = client->in == NULL ? NULL : client->in + client->in_from;
    rc = table_control_input(&message, input, client->in_to - client->in_from, &file);
    if (rc != 0)
        return rc;
    const int fds[] = {client->fd, file};
    return front_worker_say(tenant->worker, &message, input, fds, file >= 0 ? 2 : 1);
}

int
front_worker_adopt(
    struct table_front *front, struct front_tenant *tenant, const struct front_client *client)
{
    int rc = send_client(front, tenant, client);
    /* It died and nobody has told yet: that is no reason to turn a client away. */
    if (rc == DOR_E_IO && tenant->worker != NULL && tenant->worker->running) {
        worker_is_dead(front, tenant->worker);
        rc = send_client(front, tenant, client);
    }
    if (rc == 0)
        base_counter_add(&front->counters.hand_overs, 1);
    return rc;
}

void
front_worker_tell_change(struct front_tenant *tenant)
{
    struct table_message message;
    if (tenant->worker == NULL || !tenant->sent)
        return;
    front_tenant_message(tenant, &message);
    message.word = TABLE_WORD_CHANGE;
    if (front_worker_say(tenant->worker, &message, NULL, NULL, 0) != 0)
        dor_log(WARN, "table", "not_changed", "tenant=%s", tenant->config.name);
}

void
front_worker_tell_remove(struct front_tenant *tenant)
{
    struct front_worker *worker = tenant->worker;
    if (worker == NULL)
        return;
    struct table_message message = {.word = TABLE_WORD_REMOVE, .id = tenant->id};
    if (tenant->sent && front_worker_say(worker, &message, NULL, NULL, 0) != 0)
        dor_log(WARN, "table", "not_removed", "tenant=%s", tenant->config.name);
    front_worker_forget(worker, tenant);
    if (worker->used_rows == 0)
        front_worker_retire(worker);
}

/*
 * ------------------------------------------------------------------ what workers and zygote tell
 */

static void
refused(struct table_front *front, const struct front_worker *worker, uint32_t id)
{
    const struct front_tenant *tenant = front_tenant_by_id(front, id);
    if (tenant != NULL && tenant->worker == worker)
        dor_log(
            ERROR, "table", "tenant_refused", "tenant=%s error=\"%.*s\"", tenant->config.name,
            (int)front->extra.size_bytes, (const char *)front->extra.data);
}

static void
hear_of_kept(
    struct table_front *front, const struct front_worker *worker,
    const struct table_message *message)
{
    struct front_tenant *tenant = front_tenant_by_id(front, message->id);
    if (tenant != NULL && tenant->worker == worker && tenant->sent)
        front_kept_hear(tenant, message, &front->extra);
}

/* False when nothing more can be heard. */
static bool
hear(struct table_front *front, struct front_worker *worker)
{
    struct table_message message;
    int fds[TABLE_CONTROL_FDS];
    int rc = table_control_receive(worker->control, &message, &front->extra, fds);
    if (rc == 0 && message.word == TABLE_WORD_HAND_BACK)
        front_client_take_back(front, worker, &message, fds);
    else if (rc == 0 && message.word == TABLE_WORD_REFUSED)
        refused(front, worker, message.id);
    else if (rc == 0 && message.word == TABLE_WORD_APART)
        front_apart_hear(front, worker, message.id);
    else if (rc == 0 && message.word == TABLE_WORD_LEFT)
        front_left_hear(worker, message.id);
    else if (rc == 0)
        hear_of_kept(front, worker, &message);
    for (unsigned i = 0; i < TABLE_CONTROL_FDS; i++)
        base_close_fd(&fds[i]);
    if (rc == DOR_E_IO)
        worker_is_dead(front, worker);
    return rc == 0 || rc == DOR_E_CORRUPT;
}

void
front_worker_control_event(
    struct table_front *front, struct front_worker *worker, uint32_t events)
{
    if (worker->pidfd >= 0 && (events & EPOLLOUT) != 0)
        send_queued(front, worker);
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0)
        while (worker->pidfd >= 0 && hear(front, worker))
            continue;
}

void
front_worker_pid_event(struct table_front *front, struct front_worker *worker)
{
    /* It may have given clients back before it died. */
    while (worker->pidfd >= 0 && hear(front, worker))
        continue;
    if (worker->pidfd >= 0)
        worker_is_dead(front, worker);
}

void
front_worker_spawned(struct table_front *front, const struct table_message *message, int *pidfd)
{
    struct front_worker *worker = front->workers;
    while (worker != NULL && worker->id != message->id)
        worker = worker->next;
    if (worker == NULL || !worker->running || worker->pidfd >= 0)
        return;
    worker->pid = message->worker.pid;
    worker->pidfd = base_take_fd(pidfd);
    if (worker->pid <= 0 || worker->pidfd < 0 ||
        front_watch(front, worker->pidfd, EPOLLIN, &worker->pid_source) != 0 ||
        front_watch(front, worker->control, EPOLLIN, &worker->control_source) != 0) {
        dor_log(ERROR, "table", "worker_not_started", "worker=%u", worker->id);
        worker_is_dead(front, worker);
        return;
    }
    base_close_fd(&worker->status_fd);
    front_cgroup_add(front, worker);
    dor_log(
        INFO, "table", "worker_started", "worker=%u pid=%d domain=%s", worker->id,
        (int)worker->pid, worker->domain);
    send_queued(front, worker);
}

void
front_workers_ask_again(struct table_front *front)
{
    for (struct front_worker *worker = front->workers; worker != NULL; worker = worker->next)
        if (worker->running && worker->pidfd < 0 && ask_for_process(front, worker) != 0)
            worker_is_dead(front, worker);
}

/* ------------------------------------------------------------------ all of them */

void
front_workers_say_bye(struct table_front *front)
{
    const struct table_message message = {.word = TABLE_WORD_BYE};
    for (struct front_worker *worker = front->workers; worker != NULL; worker = worker->next)
        if (worker->running && front_worker_say(worker, &message, NULL, NULL, 0) != 0)
            front_worker_kill(worker);
}

void
front_workers_kill(struct table_front *front)
{
    for (struct front_worker *worker = front->workers; worker != NULL; worker = worker->next)
        if (worker->running)
            front_worker_kill(worker);
}

bool
front_workers_run(const struct table_front *front)
{
    for (const struct front_worker *worker = front->workers; worker != NULL;
         worker = worker->next)
        if (worker->running)
            return true;
    return false;
}

uint64_t
front_workers_connections(const struct table_front *front)
{
    uint64_t count = 0;
    for (struct front_worker *worker = front->workers; worker != NULL; worker = worker->next)
        if (worker->status != NULL) {
            uint64_t more = table_status_get(&worker->status->connections);
            count += more < front->connections_max ? more : front->connections_max;
        }
    return count;
}

static void
free_worker(struct table_front *front, struct front_worker *worker)
{
    end_process(front, worker);
    base_free(worker->tenants);
    base_free(worker);
}

/* Those that have nobody to serve and no process; called when no event can name them. */
void
front_workers_sweep(struct table_front *front)
{
    struct front_worker **link = &front->workers;
    while (*link != NULL) {
        struct front_worker *worker = *link;
        if (worker->used_rows == 0 && !worker->running) {
            *link = worker->next;
            free_worker(front, worker);
        } else {
            link = &worker->next;
        }
    }
}

void
front_workers_free(struct table_front *front)
{
    while (front->workers != NULL) {
        struct front_worker *worker = front->workers;
        front->workers = worker->next;
        free_worker(front, worker);
    }
}
