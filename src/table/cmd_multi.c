/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_multi.c - MULTI, EXEC, DISCARD, WATCH. What EXEC runs is one transaction of the table: a
 * process that is killed in between leaves nothing of it. As in Redis, an error of one command
 * undoes nothing.
 *
 *     none --MULTI--> queueing --EXEC--> run; or refused: a watched key changed (null), or a
 *                        |               request was wrong while queueing (EXECABORT)
 *                        +--DISCARD, RESET, the end of the connection--> forgotten
 */
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "table/commands.h"
#include "table/log.h"
#include "table/watch.h"
#include "table/worker_priv.h"

static void
free_queued(struct table_client *client, struct table_queued *queued)
{
    table_large_drop(client->tenant, queued->large, queued->large_count);
    base_free(queued->large);
    base_free(queued->args);
}

static void
free_multi(struct table_client *client, struct table_multi *multi)
{
    for (uint32_t i = 0; i < multi->count; i++)
        free_queued(client, &multi->queued[i]);
    base_free(multi->queued);
    base_free(multi);
}

void
table_client_discard(struct table_client *client)
{
    if (client->multi == NULL)
        return;
    free_multi(client, client->multi);
    client->multi = NULL;
}

/* The arguments of CALL with their bytes, in one block. */
static struct table_arg *
copy_args(const struct table_call *call, uint64_t *ret_bytes)
{
    uint64_t bytes = (uint64_t)call->arg_count * sizeof *call->args;
    for (uint32_t i = 0; i < call->arg_count; i++)
        bytes += call->args[i].large < 0 ? call->args[i].length : 0;
    struct table_arg *args = base_alloc(bytes);
    if (args == NULL)
        return NULL;
    uint8_t *at = (uint8_t *)(args + call->arg_count);
    for (uint32_t i = 0; i < call->arg_count; i++) {
        args[i] = call->args[i];
        if (args[i].large >= 0)
            continue;
        memcpy(at, args[i].bytes, args[i].length);
        args[i].bytes = at;
        at += args[i].length;
    }
    *ret_bytes = bytes;
    return args;
}

static int
grow(struct table_multi *multi)
{
    if (multi->count < multi->cap)
        return 0;
    uint32_t cap = multi->cap == 0 ? 8 : 2 * multi->cap;
    struct table_queued *grown = base_realloc_array(multi->queued, cap, sizeof *grown);
    if (grown == NULL)
        return DOR_E_NO_MEMORY;
    multi->queued = grown;
    multi->cap = cap;
    return 0;
}

void
table_multi_queue(struct table_call *call)
{
    struct table_client *client = call->client;
    struct table_multi *multi = client->multi;
    uint64_t bytes = 0;
    struct table_arg *args = NULL;
    if (grow(multi) == 0)
        args = copy_args(call, &bytes);
    if (args == NULL || multi->bytes + bytes > call->worker->options.input_bytes_max) {
        base_free(args);
        multi->broken = true;
        table_reply_error(
            call->reply, "OOM command not allowed when used memory > 'maxmemory'.");
        return;
    }
    multi->bytes += bytes + sizeof *multi->queued;
    multi->queued[multi->count++] = (struct table_queued){
        .command = call->command,
        .args = base_keep(args),
        .arg_count = call->arg_count,
        .large = client->large,
        .large_count = client->large_count,
    };
    /* They are the queue's now. */
    client->large = NULL;
    client->large_count = client->large_cap = 0;
    base_free(client->large_args);
    client->large_args = NULL;
    table_reply_status(call->reply, "QUEUED");
}

int
table_cmd_multi(struct table_call *call)
{
    if (call->client->multi != NULL) {
        table_reply_error(call->reply, "ERR MULTI calls can not be nested");
        return 0;
    }
    struct table_multi *multi = base_zalloc(sizeof *multi);
    if (multi == NULL)
        return DOR_E_NO_MEMORY;
    call->client->multi = base_keep(multi);
    return table_call_ok(call);
}

int
table_cmd_discard(struct table_call *call)
{
    if (call->client->multi == NULL) {
        table_reply_error(call->reply, "ERR DISCARD without MULTI");
        return 0;
    }
    table_client_discard(call->client);
    table_client_unwatch(call->client);
    return table_call_ok(call);
}

static int
run_queued(struct table_call *call, struct table_multi *multi)
{
    struct table_log *log = call->tenant->log;
    int rc = table_begin(call->table);
    if (rc != 0)
        return rc;
    if (log != NULL)
        table_log_begin(log);
    table_reply_array(call->reply, multi->count);
    for (uint32_t i = 0; i < multi->count; i++) {
        struct table_queued *queued = &multi->queued[i];
        struct table_call one = *call;
        one.command = queued->command;
        one.args = queued->args;
        one.arg_count = queued->arg_count;
        one.large = queued->large;
        one.key_valid = false;
        /* Commands of the session change which version they answer in, and who answers. */
        table_command_invoke(&one);
    }
    if (table_in_transaction(call->table))
        table_commit(call->table);
    if (log != NULL)
        table_log_commit(log);
    return 0;
}

int
table_cmd_exec(struct table_call *call)
{
    struct table_client *client = call->client;
    struct table_multi *multi = client->multi;
    if (multi == NULL) {
        table_reply_error(call->reply, "ERR EXEC without MULTI");
        return 0;
    }
    table_watch_expire(client);
    bool broken = client->watch_broken;
    table_client_unwatch(client);
    int rc = 0;
    /* Not the client's any more: what runs now is not inside MULTI. */
    client->multi = NULL;
    if (multi->broken)
        table_reply_error(
            call->reply, "EXECABORT Transaction discarded because of previous errors.");
    else if (broken)
        table_reply_null_array(call->reply);
    else
        rc = run_queued(call, multi);
    free_multi(client, multi);
    return rc;
}

int
table_cmd_watch(struct table_call *call)
{
    if (call->client->multi != NULL) {
        table_reply_error(call->reply, "ERR WATCH inside MULTI is not allowed");
        return 0;
    }
    for (uint32_t i = 1; i < call->arg_count; i++) {
        struct table_key key;
        struct table_value value;
        if (!table_call_key(call, i, &key))
            return 0;
        int rc =
            table_watch_add(call->client, &key, table_find(call->table, &key, false, &value));
        if (rc != 0)
            return rc;
    }
    return table_call_ok(call);
}

int
table_cmd_unwatch(struct table_call *call)
{
    table_client_unwatch(call->client);
    return table_call_ok(call);
}
