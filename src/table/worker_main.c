/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker_main.c - a worker's process around table_worker: obeys the front, and tells it how things
 * are.
 *
 * The loop has a thread of its own, because the engine asks the C library where its thread's stack
 * ends, and that looks into a file if the thread is the process's first. The filter of system calls
 * comes when the loop is there, and before the first tenant; the engine starts behind it.
 *
 * Numbers go to the status page a few times a second while anything happens: a turn of the loop
 * winds a timer up, which stops when no turn came between two of its ticks.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "table/control.h"
#include "table/functions.h"
#include "table/limits.h"
#include "table/status.h"
#include "table/worker_kept.h"
#include "table/worker_priv.h"
#include "table/zygote.h"

enum {
    TELL_MS = 100,
    HAND_BACK_WAIT_MS = 1000,
    LEAVE_MS = 1000, /* for replies to go out to those who leave */
    STACK_BYTES = 8 << 20,
    SHARED_GARBAGE_BYTES = 96 << 20,
    NS_PER_MS = 1000000,
};

/* A tenant that is served, at its slot; NULL = none. */
struct served {
    struct table_tenant *tenant;
    uint64_t told_commands; /* when its row was last written */
    uint64_t leaves_ns;     /* when it goes at the latest; 0 = it stays */
};

struct life {
    int control, timer_fd;
    unsigned rows;
    struct table_status *status;
    struct table_worker *worker;
    struct worker_kept *kept;
    struct served *served;
    unsigned leaving; /* how many tenants leave */
    struct base_buf extra;
    struct table_engine *engine;
    bool timer_runs;
    bool turned; /* since the last tick */
    bool ticked; /* in this turn */
    int exit_code;
};

/* ------------------------------------------------------------------ telling */

static void
wind_up(struct life *life, bool running)
{
    const struct itimerspec when = {
        .it_value.tv_nsec = running ? TELL_MS * NS_PER_MS : 0,
        .it_interval.tv_nsec = running ? TELL_MS * NS_PER_MS : 0,
    };
    timerfd_settime(life->timer_fd, 0, &when, NULL);
    life->timer_runs = running;
}

static void leave(struct life *life);

static void
turned(void *context)
{
    struct life *life = context;
    if (life->leaving != 0)
        leave(life);
    /* The turn that a tick made is no reason for another. */
    if (life->ticked) {
        life->ticked = false;
        return;
    }
    life->turned = true;
    if (!life->timer_runs)
        wind_up(life, true);
}

/* Looks at tables only where something happened. */
static void
tell_tenant(struct life *life, unsigned slot)
{
    struct table_status_row *row = table_status_row(life->status, slot);
    struct served *served = &life->served[slot];
    struct table_stat stat;
    if (served->tenant == NULL)
        return;
    table_status_put(&row->connections, served->tenant->client_count);
    if (served->told_commands == served->tenant->commands)
        return;
    served->told_commands = served->tenant->commands;
    table_stat(served->tenant->table, &stat);
    table_status_put(&row->keys, stat.keys);
    table_status_put(&row->used_bytes, stat.used_bytes);
    table_status_put(&row->arena_bytes, stat.arena_bytes);
    table_status_put(&row->commands, served->tenant->commands);
    const struct table_functions *functions = table_functions_have(served->tenant);
    table_status_put(&row->calls, functions == NULL ? 0 : functions->calls);
    table_status_put(&row->failed_calls, functions == NULL ? 0 : functions->stopped);
}

static void
tell(struct life *life)
{
    struct table_worker_stat stat;
    table_worker_stat(life->worker, &stat);
    table_status_put(&life->status->connections, stat.clients);
    for (unsigned slot = 0; slot < life->rows; slot++)
        tell_tenant(life, slot);
    worker_kept_look(life->kept);
}

static bool
ticked(void *context, int fd)
{
    struct life *life = context;
    uint64_t times = 0;
    ssize_t got = read(fd, &times, sizeof times);
    (void)got; /* it only says that it is time */
    tell(life);
    if (!life->turned && life->leaving == 0)
        wind_up(life, false);
    life->turned = false;
    life->ticked = true;
    return true;
}

/* ------------------------------------------------------------------ obeying */

static void
refuse(struct life *life, uint32_t tenant_id)
{
    struct table_message message = {.word = TABLE_WORD_REFUSED, .id = tenant_id};
    const char *why = dor_err_message();
    message.extra_bytes = (uint32_t)strlen(why);
    int rc = table_control_send(life->control, &message, why, NULL, 0);
    if (rc != 0)
        dor_log(ERROR, "table", "tenant_refused", "tenant=%u", tenant_id);
}

static struct table_function_limits
limits_of(const struct table_control_tenant *tenant)
{
    return (struct table_function_limits){
        .call_ms = (uint32_t)tenant->call_ms,
        .calls_max = tenant->calls_max,
        .heap_bytes = tenant->heap_bytes,
    };
}

static void
take_tenant(
    struct life *life, const struct table_message *message, int fds[static TABLE_CONTROL_FDS])
{
    const struct table_control_tenant *tenant = &message->tenant;
    struct table_tenant_setup setup = {
        .id = message->id,
        .name = tenant->name,
        .memory_fd = base_take_fd(&fds[0]),
        .create = tenant->is_new != 0,
        .recover = tenant->recover != 0,
        .suspect = tenant->suspect != 0,
        .limit_bytes = tenant->limit_bytes,
        .policy = (enum table_policy)tenant->policy,
        .functions = limits_of(tenant),
    };
    int rc = tenant->slot < life->rows
                 ? worker_kept_add(life->kept, message, &setup, fds)
                 : dor_fail(DOR_E_CORRUPT, "there is no slot %u", tenant->slot);
    if (rc != 0) {
        refuse(life, message->id);
        return;
    }
    life->served[tenant->slot] = (struct served){
        .tenant = table_worker_tenant(life->worker, message->id),
        .told_commands = UINT64_MAX,
    };
}

static void
change_tenant(struct life *life, const struct table_message *message)
{
    const struct table_control_tenant *tenant = &message->tenant;
    const struct table_function_limits limits = limits_of(tenant);
    if (table_worker_set_limits(
            life->worker, message->id, tenant->limit_bytes, (enum table_policy)tenant->policy,
            &limits) != 0)
        dor_log(WARN, "table", "limits_stay", "tenant=%s", tenant->name);
}

static void
forget(struct life *life, unsigned slot)
{
    life->leaving -= life->served[slot].leaves_ns != 0;
    life->served[slot] = (struct served){0};
    memset(table_status_row(life->status, slot), 0, sizeof(struct table_status_row));
}

static void
remove_tenant(struct life *life, uint32_t id)
{
    for (unsigned slot = 0; slot < life->rows; slot++)
        if (life->served[slot].tenant != NULL && life->served[slot].tenant->id == id)
            forget(life, slot);
    if (table_worker_remove_tenant(life->worker, id) != 0)
        dor_log(WARN, "table", "not_removed", "tenant=%u error=\"%s\"", id, dor_err_message());
    worker_kept_remove(life->kept, id);
}

/* The front has to hear it: until then it serves the tenant nowhere. */
static void
tell_left(struct life *life, const struct table_message *message)
{
    int rc = table_control_send(life->control, message, NULL, NULL, 0);
    if (rc == DOR_E_BUSY) {
        struct pollfd room = {.fd = life->control, .events = POLLOUT};
        poll(&room, 1, HAND_BACK_WAIT_MS);
        rc = table_control_send(life->control, message, NULL, NULL, 0);
    }
    /* A front that takes nothing gets a new worker. */
    if (rc != 0)
        table_worker_stop(life->worker);
}

/* A tenant of a shared worker that took more than it may goes to one of its own. */
static bool
overran(void *context, uint64_t tenant_id)
{
    struct life *life = context;
    struct table_message message = {.word = TABLE_WORD_APART, .id = (uint32_t)tenant_id};
    unsigned slot = 0;
    while (slot < life->rows &&
           (life->served[slot].tenant == NULL || life->served[slot].tenant->id != tenant_id))
        slot++;
    if (life->rows == 1 || slot == life->rows ||
        table_control_send(life->control, &message, NULL, NULL, 0) != 0)
        return false;
    life->served[slot].leaves_ns = base_clock_monotonic_ns() + (uint64_t)LEAVE_MS * NS_PER_MS;
    life->leaving++;
    return true;
}

/* Those whose clients have gone go too; the front may then serve them elsewhere. */
static void
leave(struct life *life)
{
    for (unsigned slot = 0; slot < life->rows; slot++) {
        const struct served *served = &life->served[slot];
        if (served->leaves_ns == 0 ||
            (served->tenant->clients != NULL && base_clock_monotonic_ns() < served->leaves_ns))
            continue;
        struct table_message message = {
            .word = TABLE_WORD_LEFT, .id = (uint32_t)served->tenant->id};
        remove_tenant(life, message.id);
        tell_left(life, &message);
    }
}

static void
adopt(struct life *life, const struct table_message *message, int fds[static TABLE_CONTROL_FDS])
{
    int rc = table_control_take_input(message, fds[1], &life->extra);
    if (rc == 0) {
        const struct table_handover handover = {
            .protocol = message->client.protocol,
            .client_id = message->client.client_id,
            .name = message->client.name,
            .library = message->client.library,
            .library_version = message->client.library_version,
            .address = message->client.address,
            .pending = life->extra.data,
            .pending_bytes = life->extra.size_bytes,
        };
        rc = table_worker_adopt(life->worker, message->id, base_take_fd(&fds[0]), &handover);
    }
    if (rc != 0)
        dor_log(WARN, "table", "not_adopted", "error=\"%s\"", dor_err_message());
    /* Of a large input that came in a file nothing is kept. */
    if (message->client.input_in_file != 0)
        base_buf_free(&life->extra);
}

static void
obey(struct life *life, const struct table_message *message, int fds[static TABLE_CONTROL_FDS])
{
    switch (message->word) {
    case TABLE_WORD_TENANT:
        take_tenant(life, message, fds);
        break;
    case TABLE_WORD_CHANGE:
        change_tenant(life, message);
        break;
    case TABLE_WORD_REMOVE:
        remove_tenant(life, message->id);
        break;
    case TABLE_WORD_ADOPT:
        adopt(life, message, fds);
        break;
    case TABLE_WORD_MARK:
        worker_kept_mark(life->kept, message, fds);
        break;
    case TABLE_WORD_SAVED:
        worker_kept_saved(life->kept, message);
        break;
    default:
        table_worker_stop(life->worker);
    }
    tell(life);
}

static bool
hear(void *context, int control)
{
    struct life *life = context;
    struct table_message message;
    int fds[TABLE_CONTROL_FDS];
    for (;;) {
        int rc = table_control_receive(control, &message, &life->extra, fds);
        if (rc == DOR_E_BUSY)
            return true;
        if (rc != 0) {
            /* Nobody is left to serve for. */
            table_worker_stop(life->worker);
            return false;
        }
        obey(life, &message, fds);
        for (unsigned i = 0; i < TABLE_CONTROL_FDS; i++)
            base_close_fd(&fds[i]);
    }
}

/* ------------------------------------------------------------------ giving back */

static void
copy_text(char ret[TABLE_CONTROL_NAME_BYTES], const char *text)
{
    snprintf(ret, TABLE_CONTROL_NAME_BYTES, "%s", text == NULL ? "" : text);
}

static void
hand_back(void *context, int fd, uint64_t tenant_id, const struct table_handover *handover)
{
    struct life *life = context;
    AUTO_CLOSE int client = fd;
    struct table_message message = {.word = TABLE_WORD_HAND_BACK, .id = (uint32_t)tenant_id};
    message.client.client_id = handover->client_id;
    message.client.protocol = (uint8_t)handover->protocol;
    copy_text(message.client.name, handover->name);
    copy_text(message.client.address, handover->address);
    copy_text(message.client.library, handover->library);
    copy_text(message.client.library_version, handover->library_version);
    int rc = table_control_send_client(
        life->control, &message, client, handover->pending, handover->pending_bytes);
    if (rc == DOR_E_BUSY) {
        struct pollfd room = {.fd = life->control, .events = POLLOUT};
        poll(&room, 1, HAND_BACK_WAIT_MS);
        rc = table_control_send_client(
            life->control, &message, client, handover->pending, handover->pending_bytes);
    }
    if (rc != 0)
        dor_log(WARN, "table", "not_handed_back", "error=\"%s\"", dor_err_message());
}

/* ------------------------------------------------------------------ its life */

/* Sanitizers make calls of their own, which the filter would refuse. */
static int
filter_calls(struct life *life)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    dor_log(WARN, "table", "no_filter", "reason=sanitizer");
    (void)life;
    return 0;
#else
    int rc = table_limits_filter_calls();
    if (rc == 0)
        table_status_put(&life->status->sandboxed, 1);
    return rc;
#endif
}

static int
save(void *context, uint64_t tenant_id)
{
    struct life *life = context;
    return worker_kept_save(life->kept, tenant_id);
}

static void
saving(void *context, uint64_t tenant_id, struct table_saving *ret)
{
    const struct life *life = context;
    worker_kept_saving(life->kept, tenant_id, ret);
}

static int
serve(struct life *life)
{
    int rc = worker_kept_open(life->control, life->rows == 1, &life->kept);
    if (rc != 0)
        return rc;
    const struct table_worker_options options = {
        .hand_back = hand_back,
        .tick = turned,
        .save = save,
        .saving = saving,
        .overran = overran,
        .context = life,
        .engine = life->engine,
        .syncer = worker_kept_syncer(life->kept),
    };
    rc = table_worker_new(&options, &life->worker);
    if (rc == 0)
        rc = table_worker_watch(life->worker, life->control, hear, life);
    if (rc == 0)
        rc = table_worker_watch(life->worker, life->timer_fd, ticked, life);
    if (rc == 0)
        rc = filter_calls(life);
    if (rc != 0)
        return rc;
    worker_kept_set_worker(life->kept, life->worker);
    table_status_put(&life->status->ready, 1);
    rc = table_worker_run(life->worker);
    table_worker_free(life->worker);
    worker_kept_close(life->kept);
    return rc;
}

static void *
live(void *context)
{
    struct life *life = context;
    int rc = serve(life);
    if (rc != 0) {
        dor_log(ERROR, "table", "worker_failed", "error=\"%s\"", dor_err_message());
        life->exit_code = EXIT_FAILURE;
    }
    return NULL;
}

static int
run_thread(struct life *life)
{
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    int err = pthread_create(&thread, &attributes, live, life);
    pthread_attr_destroy(&attributes);
    if (err != 0)
        return dor_fail_errno(err, "cannot start the worker's thread");
    pthread_join(thread, NULL);
    return 0;
}

static int
begin(struct life *life, int status_fd)
{
    int rc = table_limits_drop_privileges();
    if (rc == 0)
        rc = table_status_map(status_fd, life->rows, &life->status);
    if (rc != 0)
        return rc;
    table_status_own = life->status;
    life->served = base_array(life->rows, sizeof *life->served);
    if (life->served == NULL)
        return DOR_E_NO_MEMORY;
    life->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    return life->timer_fd < 0 ? dor_fail_errno(errno, "cannot make a timer") : 0;
}

int
table_worker_main(int control, int status_fd, unsigned rows, struct table_engine *engine)
{
    /* Contexts of many tenants come and go: to collect them takes long, and is done seldom. */
    if (engine != NULL && rows > 1)
        engine->garbage_bytes = SHARED_GARBAGE_BYTES;
    struct life life = {.control = control, .timer_fd = -1, .rows = rows, .engine = engine};
    int rc = begin(&life, status_fd);
    close(status_fd);
    if (rc == 0)
        rc = run_thread(&life);
    if (rc != 0) {
        dor_log(ERROR, "table", "worker_failed", "error=\"%s\"", dor_err_message());
        return EXIT_FAILURE;
    }
    return life.exit_code;
}
