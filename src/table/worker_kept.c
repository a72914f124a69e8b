/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker_kept.c - tenants of a worker that are kept.
 *
 *     added --replay--> served --MARK--> marked --SAVED--> served
 *
 * The moment of a snapshot is between two turns of the worker's loop: no change is half made then.
 */
#include "table/worker_kept.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "table/fill.h"
#include "table/log.h"
#include "table/mark.h"

struct kept_tenant {
    struct kept_tenant *next;
    struct worker_kept *kept;
    uint64_t id;
    struct table_log *log;
    int socket, device; /* while pages are still to come; else -1 */
    bool watched;       /* the socket is the worker's too, until the server hangs up */
    bool removed;       /* it is freed then */
    struct table_saving saving;
};

struct worker_kept {
    int control;
    bool alone; /* nobody else waits while the tenant's log waits for the disk */
    struct table_worker *worker;
    struct table_syncer *syncer;
    struct kept_tenant *first;
};

int
worker_kept_open(int control, bool alone, struct worker_kept **ret)
{
    struct worker_kept *kept = base_zalloc(sizeof *kept);
    if (kept == NULL)
        return DOR_E_NO_MEMORY;
    kept->control = control;
    kept->alone = alone;
    int rc = table_syncer_new(&kept->syncer);
    if (rc != 0) {
        base_free(kept);
        return rc;
    }
    *ret = kept;
    return 0;
}

struct table_syncer *
worker_kept_syncer(const struct worker_kept *kept)
{
    return kept->syncer;
}

void
worker_kept_set_worker(struct worker_kept *kept, struct table_worker *worker)
{
    kept->worker = worker;
}

static void
free_tenant(struct kept_tenant *tenant)
{
    table_log_close(tenant->log);
    base_close_fd(&tenant->socket);
    base_close_fd(&tenant->device);
    base_free(tenant);
}

void
worker_kept_close(struct worker_kept *kept)
{
    if (kept == NULL)
        return;
    while (kept->first != NULL) {
        struct kept_tenant *tenant = kept->first;
        kept->first = tenant->next;
        free_tenant(tenant);
    }
    table_syncer_free(kept->syncer);
    base_free(kept);
}

static struct kept_tenant *
find(const struct worker_kept *kept, uint64_t id)
{
    struct kept_tenant *tenant = kept->first;
    while (tenant != NULL && tenant->id != id)
        tenant = tenant->next;
    return tenant;
}

/* What the front does not hear now it hears never, and it asks again in its own time. */
static void
tell(const struct worker_kept *kept, struct table_message *message, const char *why)
{
    message->extra_bytes = why != NULL ? (uint32_t)strlen(why) : 0;
    if (table_control_send(kept->control, message, why, NULL, 0) != 0)
        dor_log(WARN, "table", "front_not_told", "word=%u", message->word);
}

/* ------------------------------------------------------------------ pages */

static int
mapped(void *context, void *base, uint64_t file_bytes)
{
    const struct kept_tenant *tenant = context;
    return table_fill_register(tenant->device, tenant->socket, base, file_bytes);
}

/* The page server has nothing to say but that it hangs up. */
static bool
hung_up(void *context, int fd)
{
    struct kept_tenant *tenant = context;
    char byte;
    ssize_t got = recv(fd, &byte, sizeof byte, MSG_DONTWAIT);
    if (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR)))
        return true;
    tenant->watched = false;
    if (tenant->removed) {
        free_tenant(tenant);
        return false;
    }
    struct table *table = table_worker_table(tenant->kept->worker, tenant->id);
    if (table != NULL)
        table_arena(table)->lacking_bytes = 0;
    struct table_message message = {.word = TABLE_WORD_FILLED, .id = (uint32_t)tenant->id};
    tell(tenant->kept, &message, NULL);
    base_close_fd(&tenant->device);
    return false;
}

/* ------------------------------------------------------------------ adding */

static int
open_tenant(
    struct worker_kept *kept, const struct table_message *message,
    int fds[static TABLE_CONTROL_FDS], struct kept_tenant **ret)
{
    const struct table_control_tenant *tenant = &message->tenant;
    const struct table_log_options options = {
        .tenant = tenant->name,
        .when = (enum table_log_when)tenant->log,
        .syncer = kept->alone && tenant->log == TABLE_LOG_ALWAYS ? NULL : kept->syncer,
    };
    struct kept_tenant *mine = base_zalloc(sizeof *mine);
    if (mine == NULL)
        return DOR_E_NO_MEMORY;
    *mine = (struct kept_tenant){
        .kept = kept,
        .id = message->id,
        .socket = -1,
        .device = -1,
        .saving.saved_ms = (int64_t)tenant->saved_ms,
    };
    int rc = table_log_open(base_take_fd(&fds[1]), &options, &mine->log);
    if (rc != 0) {
        free_tenant(mine);
        return rc;
    }
    if (tenant->fills) {
        mine->socket = base_take_fd(&fds[2]);
        mine->device = base_take_fd(&fds[3]);
    }
    *ret = mine;
    return 0;
}

static int
begin_to_serve(
    struct worker_kept *kept, struct kept_tenant *tenant,
    const struct table_tenant_setup *setup)
{
    int rc = table_worker_add_tenant(kept->worker, setup);
    if (rc != 0)
        return rc;
    struct table *table = table_worker_table(kept->worker, tenant->id);
    rc = table_log_replay(tenant->log, table, !setup->recover, NULL);
    if (rc == 0 && tenant->socket >= 0) {
        rc = table_worker_watch(kept->worker, tenant->socket, hung_up, tenant);
        tenant->watched = rc == 0;
    }
    if (rc != 0) {
        struct base_err err = *base_err_record();
        if (table_worker_remove_tenant(kept->worker, tenant->id) != 0)
            dor_log(ERROR, "table", "not_removed", "tenant=%s", setup->name);
        base_err_load(&err);
    }
    return rc;
}

int
worker_kept_add(
    struct worker_kept *kept, const struct table_message *message,
    struct table_tenant_setup *setup, int fds[static TABLE_CONTROL_FDS])
{
    if (message->tenant.log == TABLE_LOG_OFF)
        return table_worker_add_tenant(kept->worker, setup);
    struct kept_tenant *tenant = NULL;
    int rc = message->tenant.log > TABLE_LOG_ALWAYS
                 ? dor_fail(DOR_E_USAGE, "there is no such setting of a log")
                 : open_tenant(kept, message, fds, &tenant);
    if (tenant == NULL) {
        base_close_fd(&setup->memory_fd);
        return rc;
    }
    setup->log = tenant->log;
    if (tenant->socket >= 0) {
        setup->mapped = mapped;
        setup->mapped_context = tenant;
    }
    rc = begin_to_serve(kept, tenant, setup);
    if (rc != 0) {
        free_tenant(tenant);
        return rc;
    }
    tenant->next = kept->first;
    kept->first = tenant;
    struct table_message served = {.word = TABLE_WORD_SERVED, .id = message->id};
    tell(kept, &served, NULL);
    return 0;
}

void
worker_kept_remove(struct worker_kept *kept, uint64_t tenant_id)
{
    struct kept_tenant **at = &kept->first;
    struct kept_tenant *tenant = NULL;
    while ((tenant = *at) != NULL && tenant->id != tenant_id)
        at = &tenant->next;
    if (tenant == NULL)
        return;
    *at = tenant->next;
    if (!tenant->watched) {
        free_tenant(tenant);
        return;
    }
    tenant->removed = true;
    (void)shutdown(tenant->socket, SHUT_RDWR); /* what is shut already hangs up as well */
}

/* ------------------------------------------------------------------ snapshots */

static int
mark(
    struct worker_kept *kept, const struct kept_tenant *tenant,
    const struct table_message *message, int fds[static TABLE_CONTROL_FDS])
{
    struct table *table = table_worker_table(kept->worker, tenant->id);
    if (table == NULL)
        return dor_fail(DOR_E_NOT_FOUND, "there is no such table");
    struct table_arena *arena = table_arena(table);
    if (table_in_transaction(table))
        return dor_fail(DOR_E_BUSY, "a change is half made");
    /* First what may fail: a log that has begun is gone on with. */
    int rc = table_mark_begin(arena, base_take_fd(&fds[1]));
    if (rc != 0)
        return rc;
    rc = table_log_rotate(tenant->log, base_take_fd(&fds[0]), message->snapshot.log_number);
    if (rc != 0)
        table_mark_end(arena);
    return rc;
}

void
worker_kept_mark(
    struct worker_kept *kept, const struct table_message *message,
    int fds[static TABLE_CONTROL_FDS])
{
    struct kept_tenant *tenant = find(kept, message->id);
    struct table_message marked = {.word = TABLE_WORD_MARKED, .id = message->id};
    int rc = tenant == NULL ? dor_fail(DOR_E_NOT_FOUND, "the tenant is not kept")
                            : mark(kept, tenant, message, fds);
    marked.snapshot.failed = rc != 0;
    tell(kept, &marked, rc != 0 ? dor_err_message() : NULL);
    if (tenant != NULL)
        tenant->saving = (struct table_saving){
            .saved_ms = tenant->saving.saved_ms, .runs = rc == 0, .failed = rc != 0};
    if (rc != 0)
        table_worker_saved(kept->worker, message->id, true);
}

void
worker_kept_saved(struct worker_kept *kept, const struct table_message *message)
{
    struct kept_tenant *tenant = find(kept, message->id);
    struct table *table = table_worker_table(kept->worker, message->id);
    if (tenant == NULL || table == NULL)
        return;
    table_mark_end(table_arena(table));
    tenant->saving.runs = false;
    tenant->saving.failed = message->snapshot.failed != 0;
    table_worker_saved(kept->worker, message->id, tenant->saving.failed);
    if (message->snapshot.failed != 0)
        return;
    table_log_snapshot_done(tenant->log);
    tenant->saving.saved_ms = (int64_t)message->snapshot.saved_ms;
}

int
worker_kept_save(struct worker_kept *kept, uint64_t tenant_id)
{
    struct kept_tenant *tenant = find(kept, tenant_id);
    if (tenant == NULL)
        return dor_fail(DOR_E_USAGE, "this tenant's table is in memory alone");
    if (tenant->saving.runs)
        return dor_fail(DOR_E_BUSY, "a snapshot is being taken");
    struct table_message message = {.word = TABLE_WORD_SAVE, .id = (uint32_t)tenant_id};
    tell(kept, &message, NULL);
    tenant->saving.runs = true;
    return 0;
}

void
worker_kept_saving(const struct worker_kept *kept, uint64_t tenant_id, struct table_saving *ret)
{
    const struct kept_tenant *tenant = find(kept, tenant_id);
    if (tenant != NULL)
        *ret = tenant->saving;
}

void
worker_kept_look(struct worker_kept *kept)
{
    for (struct kept_tenant *tenant = kept->first; tenant != NULL; tenant = tenant->next) {
        struct table_log_stat stat;
        int rc = table_log_flush_before_reply(tenant->log);
        if (rc != 0 && rc != DOR_E_BUSY)
            dor_log(WARN, "table", "log_not_written", "error=\"%s\"", dor_err_message());
        table_log_stat(tenant->log, &stat);
        if (stat.needs_snapshot && !tenant->saving.runs &&
            worker_kept_save(kept, tenant->id) != 0)
            dor_log(WARN, "table", "not_saved", "error=\"%s\"", dor_err_message());
    }
}
