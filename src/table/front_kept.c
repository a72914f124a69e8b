/* SPDX-License-Identifier: Apache-2.0 */
/*
 * front_kept.c - the front's part in keeping tables: what a new worker gets, and snapshots while it
 * works. A snapshot is asked for, marked by the worker, put by a thread, and looked after a few
 * times a second.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "table/fill.h"
#include "table/front_priv.h"

static int
fill(struct front_tenant *tenant, bool *ret_is_new)
{
    bool lazily = table_fill_open_device(&tenant->fill_device) == 0;
    int rc = table_kept_fill(
        tenant->kept, tenant->arena_fd, lazily, ret_is_new, &tenant->fill_socket);
    if (rc != 0 || tenant->fill_socket < 0)
        base_close_fd(&tenant->fill_device);
    return rc;
}

int
front_kept_open(struct table_front *front, struct front_tenant *tenant)
{
    if (front->directory == NULL || tenant->config.options.log == TABLE_LOG_OFF)
        return 0;
    const struct table_kept_options options = {
        .directory = front->directory,
        .tenant = tenant->config.name,
        .domain = tenant->config.domain,
        .keeper = front->keeper,
        .repair = front->repair,
    };
    int rc = table_kept_open(&options, &tenant->kept);
    bool is_new = false;
    if (rc == 0)
        rc = fill(tenant, &is_new);
    if (rc != 0) {
        dor_log(
            ERROR, "table", "tenant_not_opened", "tenant=%s error=\"%s\"", tenant->config.name,
            dor_err_message());
        front_kept_close(tenant);
        return rc;
    }
    tenant->is_new = is_new;
    tenant->recover = false;
    return 0;
}

void
front_kept_close(struct front_tenant *tenant)
{
    table_kept_close(tenant->kept);
    tenant->kept = NULL;
    base_close_fd(&tenant->fill_socket);
    base_close_fd(&tenant->fill_device);
}

void
front_kept_worker_died(struct front_tenant *tenant)
{
    if (tenant->kept == NULL || table_kept_worker_died(tenant->kept))
        return;
    dor_log(INFO, "table", "tenant_reread", "tenant=%s", tenant->config.name);
    front_kept_close(tenant);
    base_close_fd(&tenant->arena_fd);
    tenant->is_new = true;
    tenant->recover = false;
}

/* ------------------------------------------------------------------ snapshots */

static void
say_saved(struct front_tenant *tenant, const struct table_kept_snapshot *snapshot, int rc)
{
    const struct table_message message = {
        .word = TABLE_WORD_SAVED,
        .id = tenant->id,
        .snapshot = {.saved_ms = snapshot->ns / 1000000, .failed = rc != 0},
    };
    if (tenant->worker != NULL && tenant->sent &&
        front_worker_say(tenant->worker, &message, NULL, NULL, 0) != 0)
        dor_log(WARN, "table", "not_told", "tenant=%s", tenant->config.name);
}

/* With the words of the present error. */
static void
say_failed(struct front_tenant *tenant, int rc)
{
    const struct table_kept_snapshot none = {0};
    dor_log(
        ERROR, "table", "snapshot_failed", "tenant=%s error=\"%s\"", tenant->config.name,
        dor_err_message());
    say_saved(tenant, &none, rc);
}

static void
begin_snapshot(struct front_tenant *tenant)
{
    int fds[2];
    struct table_message message = {.word = TABLE_WORD_MARK, .id = tenant->id};
    int rc =
        table_kept_snapshot_begin(tenant->kept, &fds[0], &message.snapshot.log_number, &fds[1]);
    if (rc == 0 && (rc = front_worker_say(tenant->worker, &message, NULL, fds, 2)) != 0)
        table_kept_snapshot_refused(tenant->kept);
    if (rc != 0)
        say_failed(tenant, rc);
}

static void
hear_marked(
    struct front_tenant *tenant, const struct table_message *message,
    const struct base_buf *extra)
{
    if (message->snapshot.failed != 0) {
        dor_log(
            ERROR, "table", "snapshot_failed", "tenant=%s error=\"%.*s\"", tenant->config.name,
            (int)extra->size_bytes, (const char *)extra->data);
        table_kept_snapshot_refused(tenant->kept);
        return;
    }
    int rc = table_kept_snapshot_marked(tenant->kept, tenant->arena_fd);
    if (rc != 0)
        say_failed(tenant, rc);
}

static void
hear_save(struct front_tenant *tenant)
{
    int rc = table_kept_want_snapshot(tenant->kept);
    if (rc != 0)
        say_failed(tenant, rc);
}

void
front_kept_hear(
    struct front_tenant *tenant, const struct table_message *message,
    const struct base_buf *extra)
{
    if (tenant->kept == NULL)
        return;
    if (message->word == TABLE_WORD_SERVED)
        table_kept_worker_ready(tenant->kept);
    else if (message->word == TABLE_WORD_FILLED)
        table_kept_worker_filled(tenant->kept);
    else if (message->word == TABLE_WORD_SAVE)
        hear_save(tenant);
    else if (message->word == TABLE_WORD_MARKED)
        hear_marked(tenant, message, extra);
}

void
front_kept_round(struct table_front *front)
{
    for (size_t i = 0; i < front->tenant_count; i++) {
        struct front_tenant *tenant = front->by_name[i];
        struct table_kept_snapshot snapshot = {0};
        if (tenant->kept == NULL)
            continue;
        int rc = table_kept_snapshot_end(tenant->kept, &snapshot);
        if (rc != DOR_E_BUSY)
            say_saved(tenant, &snapshot, rc);
        if (tenant->sent && !front->draining && table_kept_wants_snapshot(tenant->kept))
            begin_snapshot(tenant);
    }
}
