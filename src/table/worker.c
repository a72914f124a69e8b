/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker.c - the turns of a worker: wait, take what came and run it, then let logs reach what was
 * promised before any reply goes out, send, close, and give upkeep a little time.
 *
 *     loop's turn --> clients that waited --> logs --> replies, closing --> upkeep --> tick
 *
 * Invariants:
 * 1. A reply is sent only after its tenant's log has been flushed as its setting says.
 * 2. Clients are freed at the end of a turn, or when their tenant is removed: never by a command.
 */
#include "table/worker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "table/commands.h"
#include "table/functions.h"
#include "table/log.h"
#include "table/watch.h"
#include "table/worker_priv.h"

#define CLIENTS_MAX       100000
#define INPUT_BYTES_MAX   (UINT64_C(64) << 20)
#define OUTPUT_BYTES_STOP (UINT64_C(256) << 10)
#define OUTPUT_BYTES_MAX  (UINT64_C(256) << 20)
#define STALL_SECONDS     60
#define UPKEEP_MS         100
#define UPKEEP_STEPS      256
#define FUNCTION_TURNS    64 /* without a call, then the engine is left alone */

/* ---- clients ---- */

void
table_worker_add_pending(struct table_client *client)
{
    if (client->pending)
        return;
    client->pending = true;
    client->next_pending = client->worker->pending;
    client->worker->pending = client;
}

void
table_worker_add_ready(struct table_client *client)
{
    if (client->ready)
        return;
    client->ready = true;
    client->next_ready = client->worker->ready;
    client->worker->ready = client;
}

void
table_worker_set_clock(struct table_worker *worker, struct table_tenant *tenant)
{
    if (!worker->clock_is_set) {
        worker->now_ms = (int64_t)(base_clock_realtime_ns() / 1000000);
        worker->clock_is_set = true;
    }
    if (tenant->turn == worker->turn)
        return;
    tenant->turn = worker->turn;
    table_set_now(tenant->table, worker->now_ms);
    tenant->wants_upkeep = true;
    worker->upkeep_goes_on = true;
}

/* The client that STREAM, its first member, belongs to. */
static struct table_client *
client_of(struct table_stream *stream)
{
    return (struct table_client *)stream;
}

static void
on_received(void *context, struct table_stream *stream, const uint8_t *bytes, size_t length)
{
    (void)context;
    table_client_take(client_of(stream), bytes, length);
}

static void
on_filled(void *context, struct table_stream *stream)
{
    (void)context;
    table_client_filled(client_of(stream));
}

static void
on_sent(void *context, struct table_stream *stream)
{
    struct table_worker *worker = context;
    struct table_client *client = client_of(stream);
    client->progress_ms = worker->now_ms;
    if (stream->out.waiting_bytes != 0 && !stream->sending)
        table_worker_add_pending(client);
    if (client->stopped && stream->out.waiting_bytes <= worker->options.output_bytes_stop / 2) {
        client->stopped = false;
        table_worker_add_ready(client);
    }
    if (stream->out.waiting_bytes == 0 && (client->closing || client->handing_back))
        table_worker_add_pending(client);
}

static void
on_ended(void *context, struct table_stream *stream)
{
    (void)context;
    table_client_close(client_of(stream));
}

static void
unlink_ready(struct table_client *client)
{
    struct table_client **at = &client->worker->ready;
    while (client->ready && *at != NULL && *at != client)
        at = &(*at)->next_ready;
    if (*at == client)
        *at = client->next_ready;
}

static void
hand_back(struct table_client *client)
{
    struct table_worker *worker = client->worker;
    const struct table_handover handover = {
        .protocol = client->stream.out.protocol,
        .client_id = client->id,
        .name = client->name != NULL ? client->name : "",
        .library = client->library != NULL ? client->library : "",
        .library_version = client->library_version != NULL ? client->library_version : "",
        .address = client->address != NULL ? client->address : "",
        .pending = client->in != NULL ? client->in + client->in_from : NULL,
        .pending_bytes = client->in_to - client->in_from,
    };
    worker->options.hand_back(
        worker->options.context, base_take_fd(&client->stream.fd), client->tenant->id,
        &handover);
}

static void
on_removed(void *context, struct table_stream *stream)
{
    (void)context;
    struct table_client *client = client_of(stream);
    unlink_ready(client);
    if (client->handing_back && !client->closed)
        hand_back(client);
    table_client_free(client);
}

static int
add_client(
    struct table_worker *worker, struct table_tenant *tenant, int fd,
    const struct table_handover *handover)
{
    if (worker->client_count >= worker->options.clients_max) {
        static const char text[] = "-ERR max number of clients reached\r\n";
        if (send(fd, text, sizeof text - 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
            errno = 0; /* it is closed anyway */
        close(fd);
        worker->rejected++;
        return dor_fail(
            DOR_E_NO_SPACE, "%u clients are connected already", worker->options.clients_max);
    }
    int on = 1;
    /* Of no use to a Unix socket, which says so. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct table_client *client = table_client_new(worker, tenant, fd, handover);
    if (client == NULL)
        return DOR_E_NO_MEMORY;
    int rc = worker->loop->ops->add(worker->loop, &client->stream);
    if (rc != 0) {
        table_client_free(client);
        return rc;
    }
    return 0;
}

static void
on_accepted(void *context, void *listener, int fd)
{
    struct table_worker *worker = context;
    struct table_tenant *tenant = table_worker_tenant(worker, (uintptr_t)listener);
    if (tenant == NULL) {
        close(fd);
        return;
    }
    int rc = add_client(worker, tenant, fd, NULL);
    if (rc != 0)
        dor_log(WARN, "table", "connection_refused", "error=\"%s\"", dor_err_message());
}

/* ---- turns ---- */

static void
run_ready(struct table_worker *worker)
{
    struct table_client *client = worker->ready;
    worker->ready = NULL;
    while (client != NULL) {
        struct table_client *next = client->next_ready;
        client->ready = false;
        if (!client->closed && !client->stopped)
            table_client_run(client);
        client = next;
    }
}

/*
 * Whether replies to CLIENT may go: 0, DOR_E_BUSY for later, or another error when what they tell
 * may be lost.
 */
static int
settle_log(struct table_worker *worker, struct table_client *client)
{
    struct table_tenant *tenant = client->tenant;
    if (tenant->log == NULL)
        return 0;
    if (tenant->log_turn != worker->turn) {
        tenant->log_turn = worker->turn;
        tenant->log_result = table_log_flush_before_reply(tenant->log);
        if (tenant->log_result != 0 && tenant->log_result != DOR_E_BUSY)
            dor_log(
                ERROR, "table", "log_failed", "tenant=%s error=\"%s\"", tenant->name,
                dor_err_message());
    }
    return tenant->log_result;
}

/* Hold back what CLIENT is to be told until it is on disk. */
static void
hold(struct table_client *client)
{
    client->held_sequence = table_log_sequence(client->tenant->log);
    if (client->held)
        return;
    client->held = true;
    client->next_held = client->worker->held;
    client->worker->held = client;
}

/* Let those go whose changes are on disk, or whose connections have ended. */
static void
release_held(struct table_worker *worker)
{
    struct table_client **at = &worker->held;
    while (*at != NULL) {
        struct table_client *client = *at;
        struct table_log *log = client->tenant->log;
        if (!client->closed && log != NULL &&
            !table_log_is_on_disk(log, client->held_sequence)) {
            at = &client->next_held;
            continue;
        }
        *at = client->next_held;
        client->held = false;
        table_worker_add_ready(client);
        table_worker_add_pending(client);
    }
}

static bool
on_synced(void *context, int fd)
{
    struct table_worker *worker = context;
    (void)fd;
    table_syncer_clear(worker->options.syncer);
    release_held(worker);
    return true;
}

/* Send what waits, if the log lets it. */
static void
send_output(struct table_client *client)
{
    struct table_worker *worker = client->worker;
    int rc = client->held ? DOR_E_BUSY : settle_log(worker, client);
    if (rc == DOR_E_BUSY) {
        hold(client);
        return;
    }
    if (rc != 0) {
        client->closed = true;
        return;
    }
    if (!client->stream.sending)
        client->progress_ms = worker->now_ms;
    worker->loop->ops->send(worker->loop, &client->stream);
}

/*
 * What is to be done for CLIENT at the end of a turn. It counts as pending meanwhile, and for good
 * when it is removed, so that nothing puts it into the list again.
 */
static void
see_to(struct table_client *client)
{
    struct table_loop *loop = client->worker->loop;
    struct table_stream *stream = &client->stream;
    if (!client->closed && stream->out.waiting_bytes != 0)
        send_output(client);
    bool sent = stream->out.waiting_bytes == 0;
    bool ends = client->closed || ((client->closing || client->handing_back) && sent);
    if (ends) {
        if (client->held)
            release_held(client->worker);
        if (!stream->removing)
            loop->ops->remove(loop, stream);
        return;
    }
    client->pending = false;
    bool wants = table_client_wants_input(client);
    if (!wants && stream->reading)
        loop->ops->pause(loop, stream);
    else if (wants && !stream->reading)
        loop->ops->resume(loop, stream);
    client->worker->has_stalled |= !sent && !client->held;
}

static void
see_to_pending(struct table_worker *worker)
{
    while (worker->pending != NULL) {
        struct table_client *client = worker->pending;
        worker->pending = client->next_pending;
        see_to(client);
    }
}

/* Close who has taken nothing of what waits for too long. */
static void
close_stalled(struct table_worker *worker)
{
    if (!worker->has_stalled)
        return;
    int64_t limit_ms = (int64_t)worker->options.stall_seconds * 1000;
    worker->has_stalled = false;
    for (struct table_tenant *tenant = worker->tenants; tenant != NULL; tenant = tenant->next)
        for (struct table_client *client = tenant->clients; client != NULL;
             client = client->next) {
            if (client->stream.out.waiting_bytes == 0 || client->held)
                continue;
            worker->has_stalled = true;
            if (worker->now_ms - client->progress_ms > limit_ms)
                table_client_close(client);
        }
}

/* A step for each tenant that needs one; whether there is more to do at once. */
static bool
keep_tables(struct table_worker *worker)
{
    bool more = false, any = false;
    for (struct table_tenant *tenant = worker->tenants; tenant != NULL; tenant = tenant->next) {
        if (!tenant->wants_upkeep)
            continue;
        table_worker_set_clock(worker, tenant);
        bool goes_on = table_maintain(tenant->table, UPKEEP_STEPS);
        struct table_stat stat;
        table_stat(tenant->table, &stat);
        tenant->wants_upkeep = goes_on || stat.expiring > 0;
        more |= goes_on;
        any |= tenant->wants_upkeep;
    }
    worker->upkeep_goes_on = any;
    return more;
}

static void
upkeep(struct table_worker *worker)
{
    if ((!worker->upkeep_goes_on && !worker->has_stalled) ||
        worker->now_ms - worker->upkeep_ms < UPKEEP_MS)
        return;
    close_stalled(worker);
    /* With more to do it goes on in the next turn. */
    if (!keep_tables(worker))
        worker->upkeep_ms = worker->now_ms;
}

static int
wait_ms(const struct table_worker *worker)
{
    if (worker->ready != NULL || worker->pending != NULL)
        return 0;
    if (!worker->upkeep_goes_on && !worker->has_stalled)
        return -1;
    int64_t since_ms = worker->now_ms - worker->upkeep_ms;
    return since_ms < 0 || since_ms >= UPKEEP_MS ? 0 : (int)(UPKEEP_MS - since_ms);
}

struct loop_turn {
    struct table_worker *worker;
    int timeout_ms, rc;
};

static void
turn_loop(void *context)
{
    struct loop_turn *turn = context;
    turn->rc = turn->worker->loop->ops->turn(turn->worker->loop, turn->timeout_ms);
}

static int
turn(struct table_worker *worker)
{
    struct loop_turn loop = {worker, wait_ms(worker), 0};
    worker->clock_is_set = false;
    worker->turn++;
    /* Where functions are called many are: the engine is entered once for all of a turn. */
    if (worker->turn - worker->function_turn < FUNCTION_TURNS) {
        worker->in_engine = true;
        table_functions_enter(worker->options.engine, turn_loop, &loop);
        worker->in_engine = false;
    } else {
        turn_loop(&loop);
    }
    table_worker_send_away(worker);
    int rc = loop.rc;
    if (rc != 0)
        return rc;
    if (!worker->clock_is_set) {
        worker->now_ms = (int64_t)(base_clock_realtime_ns() / 1000000);
        worker->clock_is_set = true;
    }
    run_ready(worker);
    table_worker_send_away(worker);
    see_to_pending(worker);
    upkeep(worker);
    if (worker->options.tick != NULL)
        worker->options.tick(worker->options.context);
    return 0;
}

int
table_worker_run(struct table_worker *worker)
{
    int rc = 0;
    while (rc == 0 && !atomic_load_explicit(&worker->stop, memory_order_relaxed))
        rc = turn(worker);
    atomic_store_explicit(&worker->stop, false, memory_order_relaxed);
    return rc;
}

void
table_worker_stop(struct table_worker *worker)
{
    /* Pairs with the load in table_worker_run(); the eventfd orders nothing, it only wakes. */
    atomic_store_explicit(&worker->stop, true, memory_order_relaxed);
    uint64_t one = 1;
    ssize_t rc = write(worker->stop_fd, &one, sizeof one);
    (void)rc; /* full only when it is written already */
}

static bool
on_stop(void *context, int fd)
{
    (void)context;
    uint64_t count;
    ssize_t rc = read(fd, &count, sizeof count);
    (void)rc;
    return true;
}

/* ---- life ---- */

static int
open_loop(struct table_worker *worker)
{
    const struct table_loop_handler handler = {
        .received = on_received,
        .filled = on_filled,
        .sent = on_sent,
        .ended = on_ended,
        .removed = on_removed,
        .accepted = on_accepted,
        .context = worker,
    };
    if (worker->options.loop == TABLE_LOOP_EPOLL)
        return table_loop_epoll.open(&handler, &worker->loop);
    int rc = table_loop_uring.open(&handler, &worker->loop);
    if (rc == 0 || worker->options.loop == TABLE_LOOP_URING)
        return rc;
    return table_loop_epoll.open(&handler, &worker->loop);
}

static void
default_u64(uint64_t *option, uint64_t value)
{
    if (*option == 0)
        *option = value;
}

int
table_worker_new(const struct table_worker_options *options, struct table_worker **ret)
{
    struct table_worker *worker = base_zalloc(sizeof *worker);
    if (worker == NULL)
        return DOR_E_NO_MEMORY;
    worker->options = *options;
    default_u64(&worker->options.input_bytes_max, INPUT_BYTES_MAX);
    default_u64(&worker->options.output_bytes_stop, OUTPUT_BYTES_STOP);
    default_u64(&worker->options.output_bytes_max, OUTPUT_BYTES_MAX);
    if (worker->options.clients_max == 0)
        worker->options.clients_max = CLIENTS_MAX;
    if (worker->options.stall_seconds == 0)
        worker->options.stall_seconds = STALL_SECONDS;
    worker->next_client_id = 1;
    worker->function_turn = -(uint64_t)FUNCTION_TURNS;
    table_command_init();
    worker->void_reply = (struct table_reply){.pool = &worker->pool, .protocol = 2};
    worker->now_ms = worker->started_ms = (int64_t)(base_clock_realtime_ns() / 1000000);
    worker->stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int rc = worker->stop_fd < 0 ? dor_fail_errno(errno, "an event cannot be made") : 0;
    if (rc == 0)
        rc = base_random_seed_os(&worker->random_state, sizeof worker->random_state);
    if (rc == 0)
        rc = open_loop(worker);
    if (rc == 0)
        rc = worker->loop->ops->watch(worker->loop, worker->stop_fd, on_stop, worker);
    if (rc == 0 && options->syncer != NULL)
        rc = worker->loop->ops->watch(
            worker->loop, table_syncer_fd(options->syncer), on_synced, worker);
    if (rc != 0) {
        table_worker_free(worker);
        return rc;
    }
    *ret = worker;
    return 0;
}

static void
free_tenant(struct table_tenant *tenant)
{
    if (tenant->functions_free != NULL)
        tenant->functions_free(tenant->functions);
    table_watch_free(tenant);
    table_close(tenant->table);
    base_free(tenant->name);
    base_free(tenant);
}

void
table_worker_free(struct table_worker *worker)
{
    if (worker == NULL)
        return;
    while (worker->tenants != NULL)
        if (table_worker_remove_tenant(worker, worker->tenants->id) != 0)
            break;
    if (worker->loop != NULL)
        worker->loop->ops->close(worker->loop);
    table_reply_clear(&worker->void_reply);
    table_chunk_pool_free(&worker->pool);
    resp_args_free(&worker->args);
    if (worker->stop_fd >= 0)
        close(worker->stop_fd);
    base_free(worker);
}

struct table_tenant *
table_worker_tenant(struct table_worker *worker, uint64_t tenant_id)
{
    struct table_tenant *tenant = worker->tenants;
    while (tenant != NULL && tenant->id != tenant_id)
        tenant = tenant->next;
    return tenant;
}

static struct table_tenant *
find_tenant(struct table_worker *worker, uint64_t tenant_id)
{
    struct table_tenant *tenant = table_worker_tenant(worker, tenant_id);
    if (tenant == NULL)
        (void)dor_fail(DOR_E_NOT_FOUND, "this worker has no tenant %" PRIu64, tenant_id);
    return tenant;
}

static void
on_changed(
    void *context, enum table_change change, const struct table_key *key,
    const struct table_value *value)
{
    struct table_tenant *tenant = context;
    if (tenant->log != NULL)
        table_log_change(tenant->log, change, key, value);
    if (key != NULL && key->is_library)
        return;
    tenant->dirty++;
    if (tenant->watch_count != 0)
        table_watch_changed(tenant, change == TABLE_CHANGE_FLUSH ? NULL : key);
}

int
table_worker_add_tenant(struct table_worker *worker, const struct table_tenant_setup *setup)
{
    AUTO_CLOSE int memory_fd = setup->memory_fd;
    if (table_worker_tenant(worker, setup->id) != NULL)
        return dor_fail(DOR_E_EXISTS, "this worker has a tenant %" PRIu64, setup->id);
    struct table_tenant *tenant = base_zalloc(sizeof *tenant);
    size_t name_bytes = strlen(setup->name) + 1;
    if (tenant == NULL || (tenant->name = base_alloc(name_bytes)) == NULL) {
        base_free(tenant);
        return DOR_E_NO_MEMORY;
    }
    memcpy(tenant->name, setup->name, name_bytes);
    tenant->id = setup->id;
    tenant->log = setup->log;
    tenant->function_limits = setup->functions;
    tenant->suspect_until_ms = setup->suspect ? worker->now_ms + TABLE_SUSPECT_MS : 0;
    const struct table_options options = {
        .limit_bytes = setup->limit_bytes,
        .policy = setup->policy,
        .changed = on_changed,
        .context = tenant,
        .mapped = setup->mapped,
        .mapped_context = setup->mapped_context,
    };
    int fd = base_take_fd(&memory_fd);
    int rc = setup->create ? table_create(fd, &options, &tenant->table)
                           : table_open(fd, &options, setup->recover, &tenant->table);
    if (rc != 0) {
        free_tenant(tenant);
        return rc;
    }
    table_set_now(tenant->table, worker->now_ms);
    tenant->wants_upkeep = true;
    worker->upkeep_goes_on = true;
    tenant->next = worker->tenants;
    worker->tenants = tenant;
    return 0;
}

int
table_worker_remove_tenant(struct table_worker *worker, uint64_t tenant_id)
{
    struct table_tenant *tenant = find_tenant(worker, tenant_id);
    if (tenant == NULL)
        return DOR_E_NOT_FOUND;
    int rc = 0;
    for (struct table_client *client = tenant->clients; client != NULL; client = client->next)
        table_client_close(client);
    see_to_pending(worker);
    /* What the kernel still has of them comes back in turns of the loop. */
    while (tenant->clients != NULL && rc == 0)
        rc = worker->loop->ops->turn(worker->loop, -1);
    if (rc != 0)
        return rc;
    struct table_tenant **at = &worker->tenants;
    while (*at != tenant)
        at = &(*at)->next;
    *at = tenant->next;
    free_tenant(tenant);
    return 0;
}

struct table *
table_worker_table(struct table_worker *worker, uint64_t tenant_id)
{
    struct table_tenant *tenant = table_worker_tenant(worker, tenant_id);
    return tenant != NULL ? tenant->table : NULL;
}

int
table_worker_set_limits(
    struct table_worker *worker, uint64_t tenant_id, uint64_t limit_bytes,
    enum table_policy policy, const struct table_function_limits *functions)
{
    struct table_tenant *tenant = find_tenant(worker, tenant_id);
    if (tenant == NULL)
        return DOR_E_NOT_FOUND;
    table_set_limit(tenant->table, limit_bytes, policy);
    tenant->function_limits = *functions;
    return 0;
}

int
table_worker_adopt(
    struct table_worker *worker, uint64_t tenant_id, int fd,
    const struct table_handover *handover)
{
    struct table_tenant *tenant = find_tenant(worker, tenant_id);
    if (tenant == NULL) {
        close(fd);
        return DOR_E_NOT_FOUND;
    }
    int rc = add_client(worker, tenant, fd, handover);
    if (rc != 0)
        return rc;
    struct table_client *client = tenant->clients;
    if (handover->pending_bytes != 0) {
        if (!table_client_keep(client, handover->pending, handover->pending_bytes))
            table_client_close(client);
        table_worker_add_ready(client);
    }
    worker->any_leaving |= tenant->leaving;
    return 0;
}

int
table_worker_listen(struct table_worker *worker, int fd, uint64_t tenant_id)
{
    if (find_tenant(worker, tenant_id) == NULL)
        return DOR_E_NOT_FOUND;
    /* By its number: it may be gone when somebody connects. */
    return worker->loop->ops->listen(worker->loop, fd, (void *)(uintptr_t)tenant_id);
}

int
table_worker_watch(struct table_worker *worker, int fd, table_watch_fn *fn, void *context)
{
    return worker->loop->ops->watch(worker->loop, fd, fn, context);
}

const char *
table_worker_loop_name(const struct table_worker *worker)
{
    return worker->loop->ops->name;
}

void
table_worker_stat(const struct table_worker *worker, struct table_worker_stat *ret)
{
    *ret = (struct table_worker_stat){
        .clients = worker->client_count,
        .commands = worker->commands,
        .connections = worker->connections,
        .turns = worker->turn,
    };
}

uint64_t
table_worker_random(struct table_worker *worker)
{
    return base_random_splitmix(&worker->random_state);
}

struct table_engine *
table_worker_engine(struct table_worker *worker)
{
    return worker->options.engine;
}
