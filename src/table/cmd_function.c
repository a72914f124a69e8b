/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_function.c - FUNCTION and TFUNCTION: libraries loaded, told, dumped and taken away.
 */
#include <inttypes.h>
#include <string.h>

#include "base/err.h"
#include "table/commands.h"
#include "table/functions.h"

/* ---- loading and removing ---- */

static int
load(struct table_call *call, const struct table_arg *source, bool replace)
{
    struct table_functions *functions;
    struct table_engine_bytes name;
    int rc = table_functions_of(call, &functions);
    if (rc == 0)
        rc = table_functions_add(functions, source->bytes, source->length, replace, &name);
    if (rc == DOR_E_NO_SPACE || rc == DOR_E_NO_MEMORY)
        return rc;
    if (rc != 0)
        table_reply_error(call->reply, "ERR %s", dor_err_message());
    else if (call->command->name[0] == 't')
        table_reply_ok(call->reply);
    else
        table_reply_bulk(call->reply, name.bytes, name.length);
    return 0;
}

int
table_cmd_function_load(struct table_call *call)
{
    bool replace = false;
    for (uint32_t i = 2; i + 1 < call->arg_count; i++) {
        if (!table_arg_is(&call->args[i], "replace")) {
            table_reply_error(
                call->reply, "ERR Unknown option given: %.*s",
                (int)(call->args[i].length < 128 ? call->args[i].length : 128),
                (const char *)call->args[i].bytes);
            return 0;
        }
        replace = true;
    }
    return load(call, &call->args[call->arg_count - 1], replace);
}

int
table_cmd_tfunction_load(struct table_call *call)
{
    bool replace = false;
    for (uint32_t i = 2; i + 1 < call->arg_count; i++) {
        if (table_arg_is(&call->args[i], "replace"))
            replace = true;
        else if (table_arg_is(&call->args[i], "config") && i + 2 < call->arg_count)
            i++; /* libraries have no settings of their own */
        else
            return table_call_syntax_error(call);
    }
    return load(call, &call->args[call->arg_count - 1], replace);
}

int
table_cmd_function_delete(struct table_call *call)
{
    const struct table_arg *name = &call->args[2];
    struct table_key key;
    if (!table_library_key(call->table, name->bytes, name->length, &key) ||
        !table_remove(call->table, &key)) {
        table_reply_error(call->reply, "ERR Library not found");
        return 0;
    }
    table_functions_forget(call->tenant);
    return table_call_ok(call);
}

int
table_cmd_tfunction_delete(struct table_call *call)
{
    return table_cmd_function_delete(call);
}

static bool
remove_library(void *context, const struct table_key *key, const struct table_value *value)
{
    (void)value;
    return table_remove(context, key);
}

static int
remove_all(struct table_call *call)
{
    int rc = table_each_library(call->table, remove_library, call->table);
    table_functions_forget(call->tenant);
    return rc;
}

int
table_cmd_function_flush(struct table_call *call)
{
    if (call->arg_count > 3 || (call->arg_count == 3 && !table_arg_is(&call->args[2], "sync") &&
                                !table_arg_is(&call->args[2], "async"))) {
        table_reply_error(call->reply, "ERR FUNCTION FLUSH only supports SYNC|ASYNC option");
        return 0;
    }
    int rc = remove_all(call);
    return rc != 0 ? rc : table_call_ok(call);
}

/* ---- telling ---- */

static void
reply_function(struct table_reply *reply, const struct table_function *function)
{
    static const char *const flags[] = {TABLE_FUNCTION_FLAG_NAMES};
    table_reply_map(reply, 3);
    table_reply_text(reply, "name");
    table_reply_text(reply, function->name);
    table_reply_text(reply, "description");
    if (function->description[0] != '\0')
        table_reply_text(reply, function->description);
    else
        table_reply_null(reply);
    table_reply_text(reply, "flags");
    table_reply_set(reply, (uint64_t)__builtin_popcount(function->flags));
    for (unsigned i = 0; i < sizeof flags / sizeof flags[0]; i++)
        if ((function->flags & 1u << i) != 0)
            table_reply_text(reply, flags[i]);
}

static void
reply_library(
    struct table_call *call, const struct table_function_library *library, bool with_code)
{
    struct table_reply *reply = call->reply;
    table_reply_map(reply, with_code ? 4 : 3);
    table_reply_text(reply, "library_name");
    table_reply_text(reply, library->name);
    table_reply_text(reply, "engine");
    table_reply_text(reply, strcmp(library->engine, "js") == 0 ? "JS" : "WASM");
    table_reply_text(reply, "functions");
    table_reply_array(reply, library->function_count);
    for (const struct table_function *f = library->functions; f != NULL; f = f->next)
        reply_function(reply, f);
    if (!with_code)
        return;
    struct table_key key;
    struct table_value value;
    table_reply_text(reply, "library_code");
    if (table_library_key(call->table, library->name, strlen(library->name), &key) &&
        table_find(call->table, &key, false, &value))
        table_reply_bulk(reply, value.bytes, value.length);
    else
        table_reply_null(reply);
}

static bool
matches(const struct table_function_library *library, const struct table_arg *pattern)
{
    return pattern == NULL || table_glob_match(
                                  pattern->bytes, pattern->length,
                                  (const uint8_t *)library->name, strlen(library->name), true);
}

static int
list(struct table_call *call, const struct table_arg *pattern, bool with_code)
{
    struct table_functions *functions;
    int rc = table_functions_of(call, &functions);
    if (rc != 0)
        return rc;
    uint64_t count = 0;
    for (const struct table_function_library *l = functions->registry->libraries; l != NULL;
         l = l->next)
        count += matches(l, pattern);
    table_reply_array(call->reply, count);
    for (const struct table_function_library *l = functions->registry->libraries; l != NULL;
         l = l->next)
        if (matches(l, pattern))
            reply_library(call, l, with_code);
    return 0;
}

int
table_cmd_function_list(struct table_call *call)
{
    const struct table_arg *pattern = NULL;
    bool with_code = false;
    dor_assert(call->args != NULL);
    for (uint32_t i = 2; i < call->arg_count; i++) {
        if (!with_code && table_arg_is(&call->args[i], "withcode")) {
            with_code = true;
        } else if (pattern == NULL && table_arg_is(&call->args[i], "libraryname")) {
            if (i + 1 == call->arg_count) {
                table_reply_error(call->reply, "ERR library name argument was not given");
                return 0;
            }
            pattern = &call->args[++i];
        } else {
            table_reply_error(
                call->reply, "ERR Unknown argument %.*s",
                (int)(call->args[i].length < 128 ? call->args[i].length : 128),
                (const char *)call->args[i].bytes);
            return 0;
        }
    }
    return list(call, pattern, with_code);
}

int
table_cmd_tfunction_list(struct table_call *call)
{
    const struct table_arg *pattern = NULL;
    bool with_code = false;
    dor_assert(call->args != NULL);
    for (uint32_t i = 2; i < call->arg_count; i++) {
        if (table_arg_is(&call->args[i], "withcode"))
            with_code = true;
        else if (table_arg_is(&call->args[i], "library") && i + 1 < call->arg_count)
            pattern = &call->args[++i];
        else if (call->args[i].length != strspn((const char *)call->args[i].bytes, "v"))
            return table_call_syntax_error(call);
    }
    return list(call, pattern, with_code);
}

int
table_cmd_function_stats(struct table_call *call)
{
    struct table_functions *functions;
    int rc = table_functions_of(call, &functions);
    if (rc != 0)
        return rc;
    table_reply_map(call->reply, 2);
    table_reply_text(call->reply, "running_script");
    table_reply_null(call->reply); /* this one waits until a running one has ended */
    table_reply_text(call->reply, "engines");
    table_reply_map(call->reply, 1);
    table_reply_text(call->reply, "JS");
    table_reply_map(call->reply, 2);
    table_reply_text(call->reply, "libraries_count");
    table_reply_integer(call->reply, functions->registry->library_count);
    table_reply_text(call->reply, "functions_count");
    table_reply_integer(call->reply, functions->registry->function_count);
    return 0;
}

int
table_cmd_function_kill(struct table_call *call)
{
    table_reply_error(call->reply, "NOTBUSY No scripts in execution right now.");
    return 0;
}

int
table_cmd_function_help(struct table_call *call)
{
    return table_call_help(call);
}

/* ---- dumps ---- */

static bool
dump_library(void *context, const struct table_key *key, const struct table_value *value)
{
    (void)key;
    return table_dump_add(context, value->bytes, value->length) == 0;
}

int
table_cmd_function_dump(struct table_call *call)
{
    AUTO_BUF struct base_buf buf = {0};
    int rc = table_each_library(call->table, dump_library, &buf);
    if (rc == 0)
        rc = table_dump_end(&buf);
    if (rc == 0)
        table_reply_bulk(call->reply, buf.data, buf.size_bytes);
    return rc;
}

enum policy { POLICY_APPEND, POLICY_REPLACE, POLICY_FLUSH };

static int
restore_all(struct table_call *call, const uint8_t *dump, size_t length, enum policy policy)
{
    struct table_functions *functions = NULL;
    size_t at = 0;
    int rc = policy == POLICY_FLUSH ? remove_all(call) : 0;
    while (rc == 0 && at < length) {
        struct table_engine_bytes source, name;
        rc = table_dump_next(dump, length, &at, &source);
        if (rc == 0)
            rc = table_functions_of(call, &functions);
        if (rc == 0)
            rc = table_functions_add(
                functions, source.bytes, source.length, policy == POLICY_REPLACE, &name);
    }
    return rc;
}

int
table_cmd_function_restore(struct table_call *call)
{
    enum policy policy = POLICY_APPEND;
    if (call->arg_count > 4)
        return table_call_arity_error(call);
    if (call->arg_count == 4) {
        if (table_arg_is(&call->args[3], "replace")) {
            policy = POLICY_REPLACE;
        } else if (table_arg_is(&call->args[3], "flush")) {
            policy = POLICY_FLUSH;
        } else if (!table_arg_is(&call->args[3], "append")) {
            table_reply_error(
                call->reply,
                "ERR Wrong restore policy given, value should be either FLUSH, APPEND or "
                "REPLACE.");
            return 0;
        }
    }
    size_t length;
    int rc = table_dump_check(call->args[2].bytes, call->args[2].length, &length);
    struct table_group group;
    if (rc == 0)
        rc = table_group_begin(call->table, call->tenant->log, &group);
    if (rc == 0) {
        rc = restore_all(call, call->args[2].bytes, length, policy);
        table_group_end(&group, rc == 0);
    }
    if (rc == 0)
        return table_call_ok(call);
    table_functions_forget(call->tenant);
    table_reply_error(call->reply, "ERR %s", dor_err_message());
    return 0;
}
