/* SPDX-License-Identifier: Apache-2.0 */
/*
 * function_calls.c - FCALL and its kin: which function is meant, whether it may run now, and what
 * goes into the engine and comes out.
 */
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "table/commands.h"
#include "table/functions.h"
#include "table/limits.h"
#include "table/status.h"
#include "table/worker_priv.h"

enum {
    ARGS_LOCAL = 16,
    AHEAD = 32, /* keys that are looked up together */
    CALLS_DEFAULT = 1024,
};

static void
end_changes(struct table_functions *functions, bool good)
{
    if (!functions->changing)
        return;
    table_group_end(&functions->group, good);
    functions->changing = false;
}

static void
reply_failure(
    struct table_functions *functions, struct table_reply *reply, int rc, const char *error,
    const struct table_function *function)
{
    if (rc == DOR_E_TIMEOUT || rc == DOR_E_BUSY || rc == DOR_E_NO_SPACE) {
        functions->stopped++;
        table_reply_error(
            reply, "%s %s and was stopped script: %s",
            rc == DOR_E_NO_SPACE ? "OOM"
            : rc == DOR_E_BUSY   ? "ERR"
                                 : "BUSY",
            error, function->name);
        return;
    }
    functions->failed++;
    table_reply_error(reply, "ERR %s script: %s", error, function->name);
}

static uint32_t
calls_limit(const struct table_tenant *tenant)
{
    uint32_t limit = tenant->function_limits.calls_max;
    return limit != 0 ? limit : CALLS_DEFAULT;
}

static int
refuse(
    struct table_functions *functions, struct table_reply *reply,
    const struct table_function *function)
{
    functions->failed++;
    table_reply_error(
        reply,
        "BUSY the tenant has its limit of %u calls waiting and this was not run script: %s",
        calls_limit(functions->tenant), function->name);
    return 0;
}

/* Some keys: all buckets are asked for, then all records. */
static void
open_some(
    struct table *table, const struct table_engine_bytes *bytes, uint32_t count, uint32_t *ret)
{
    struct table_key keys[AHEAD];
    for (uint32_t i = 0; i < count; i++) {
        if (!table_key(table, bytes[i].bytes, bytes[i].length, &keys[i]))
            keys[i].bytes = NULL; /* too long to be there */
        else
            table_prefetch(table, &keys[i]);
    }
    for (uint32_t i = 0; count > 1 && i < count; i++)
        if (keys[i].bytes != NULL)
            table_prefetch_record(table, &keys[i]);
    for (uint32_t i = 0; i < count; i++) {
        struct table_value value;
        bool found = keys[i].bytes != NULL && table_find(table, &keys[i], true, &value);
        ret[i] = found ? table_value_handle(&value) : 0;
    }
}

/* Where the records of the keys are, as functions see them: kv.openAll() in C. */
static void
open_keys(
    struct table *table, const struct table_engine_bytes *keys, uint32_t count, uint32_t *ret)
{
    for (uint32_t at = 0; at < count; at += AHEAD)
        open_some(table, keys + at, count - at < AHEAD ? count - at : AHEAD, ret + at);
}

static int
run(struct table_functions *functions, struct table_call *call,
    const struct table_function *function, uint32_t key_count, bool read_only)
{
    uint32_t count = call->arg_count - 3;
    struct table_engine_bytes local[ARGS_LOCAL];
    AUTO_FREE struct table_engine_bytes *many = NULL;
    struct table_engine_bytes *args = local;
    uint32_t local_handles[ARGS_LOCAL];
    AUTO_FREE uint32_t *many_handles = NULL;
    uint32_t *handles =
        (function->flags & TABLE_FUNCTION_OPEN_KEYS) != 0 ? local_handles : NULL;
    if (count > ARGS_LOCAL) {
        many = base_array(count, sizeof *many);
        if (many == NULL)
            return DOR_E_NO_MEMORY;
        args = many;
    }
    if (count > ARGS_LOCAL && handles != NULL) {
        many_handles = base_array(count, sizeof *many_handles);
        if (many_handles == NULL)
            return DOR_E_NO_MEMORY;
        handles = many_handles;
    }
    for (uint32_t i = 0; i < count; i++)
        args[i] =
            (struct table_engine_bytes){call->args[3 + i].bytes, call->args[3 + i].length};
    if (handles != NULL)
        open_keys(functions->tenant->table, args, key_count, handles);
    struct table_engine_call engine_call = {
        .function = function->number,
        .handles = handles,
        .read_only = read_only || (function->flags & TABLE_FUNCTION_NO_WRITES) != 0,
        .raw = (function->flags & TABLE_FUNCTION_RAW_ARGUMENTS) != 0,
        .args = args,
        .key_count = key_count,
        .arg_count = count - key_count,
        .limits = table_functions_limits(functions),
    };
    struct table_engine_result result;
    char error[TABLE_ENGINE_ERROR_BYTES];
    error[0] = '\0';
    functions->calls++;
    call->worker->function_turn = call->worker->turn;
    if (__builtin_expect(call->tenant->suspect_until_ms > call->worker->now_ms, 0))
        table_functions_give_way(functions);
    table_status_call_begin(call->tenant->id, engine_call.limits.call_ns);
    int rc = functions->engine->class->call(
        functions->registry->context, &engine_call, &result, error);
    table_status_call_end();
    if (functions->is_long)
        table_limits_call_is_long(functions->is_long = false);
    end_changes(functions, rc == 0);
    if (rc == DOR_E_TIMEOUT || rc == DOR_E_BUSY || rc == DOR_E_NO_SPACE)
        call->worker->must_leave = call->worker->in_engine;
    if (rc == DOR_E_TIMEOUT || rc == DOR_E_NO_SPACE)
        table_functions_overran(functions);
    if (rc == 0)
        table_function_reply(call->reply, &result);
    else
        reply_failure(functions, call->reply, rc, error, function);
    table_functions_drop_contexts(functions);
    return 0;
}

/*
 * Calls of as many connections as came to one turn of the loop wait for each other; those behind
 * one of their own connection only for that.
 */
static bool
may_wait(struct table_call *call)
{
    struct table_tenant *tenant = call->tenant;
    struct table_client *client = call->client;
    uint64_t turn = call->worker->turn;
    uint32_t limit = calls_limit(tenant);
    if (client == NULL || client->call_turn == turn)
        return true;
    if (tenant->calls_turn != turn) {
        tenant->calls_turn = turn;
        tenant->calls_in_turn = 0;
    }
    if (tenant->calls_in_turn >= limit)
        return false;
    tenant->calls_in_turn++;
    client->call_turn = turn;
    return true;
}

/* FUNCTION is one of FUNCTIONS, or NULL if there is none of the name that CALL gives. */
static int
call_function(
    struct table_call *call, struct table_functions *functions,
    const struct table_function *function, bool read_only)
{
    int64_t key_count;
    if (function == NULL)
        table_reply_error(call->reply, "ERR Function not found");
    else if (!resp_integer(call->args[2].bytes, call->args[2].length, &key_count))
        table_reply_error(call->reply, "ERR Bad number of keys provided");
    else if (key_count > (int64_t)call->arg_count - 3)
        table_reply_error(
            call->reply, "ERR Number of keys can't be greater than number of args");
    else if (key_count < 0)
        table_reply_error(call->reply, "ERR Number of keys can't be negative");
    else if (read_only && (function->flags & TABLE_FUNCTION_NO_WRITES) == 0)
        table_reply_error(
            call->reply, "ERR Can not execute a script with write flag using *_ro command.");
    else if (!may_wait(call))
        return refuse(functions, call->reply, function);
    else
        return run(functions, call, function, (uint32_t)key_count, read_only);
    return 0;
}

static int
call_named(struct table_call *call, bool read_only)
{
    const struct table_arg *name = &call->args[1];
    struct table_functions *functions;
    int rc = table_functions_of(call, &functions);
    if (rc != 0)
        return rc;
    const struct table_function *function =
        table_function_find(functions->registry, name->bytes, name->length);
    return call_function(call, functions, function, read_only);
}

int
table_cmd_fcall(struct table_call *call)
{
    return call_named(call, false);
}

int
table_cmd_fcall_ro(struct table_call *call)
{
    return call_named(call, true);
}

int
table_cmd_tfcall(struct table_call *call)
{
    /* lib.function: the name alone tells the function, the library must be its own. */
    const struct table_arg *arg = &call->args[1];
    const uint8_t *dot = memchr(arg->bytes, '.', arg->length);
    if (dot == NULL) {
        table_reply_error(call->reply, "ERR Bad function name, must be <library>.<function>");
        return 0;
    }
    struct table_functions *functions;
    int rc = table_functions_of(call, &functions);
    if (rc != 0)
        return rc;
    size_t library_bytes = (size_t)(dot - arg->bytes);
    const uint8_t *name = dot + 1;
    size_t name_bytes = arg->length - library_bytes - 1;
    const struct table_function_library *library =
        table_function_library_find(functions->registry, arg->bytes, library_bytes);
    const struct table_function *function =
        table_function_find(functions->registry, name, name_bytes);
    const struct table_function *own = library != NULL ? library->functions : NULL;
    while (own != NULL && own != function)
        own = own->next;
    if (own == NULL) {
        table_reply_error(call->reply, "ERR Unknown library or function");
        return 0;
    }
    return call_function(call, functions, function, false);
}
