/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_server.c - commands that ask about the server: COMMAND, CONFIG, MEMORY, TIME. INFO is in
 * cmd_info.c.
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/size.h"
#include "table/commands.h"
#include "table/worker_priv.h"

int
table_cmd_time(struct table_call *call)
{
    uint64_t now_us = base_clock_realtime_ns() / 1000;
    table_reply_array(call->reply, 2);
    table_reply_format(call->reply, "%" PRIu64, now_us / 1000000);
    table_reply_format(call->reply, "%" PRIu64, now_us % 1000000);
    return 0;
}

/* ---- COMMAND ---- */

static const char *const group_names[] = {
    [TABLE_GROUP_STRING] = "string",         [TABLE_GROUP_GENERIC] = "generic",
    [TABLE_GROUP_CONNECTION] = "connection", [TABLE_GROUP_TRANSACTIONS] = "transactions",
    [TABLE_GROUP_SERVER] = "server",         [TABLE_GROUP_SCRIPTING] = "scripting",
};

static const struct {
    uint16_t flag;
    const char *name;
} flag_names[] = {
    {CMD_WRITE, "write"},         {CMD_READONLY, "readonly"}, {CMD_DENYOOM, "denyoom"},
    {CMD_ADMIN, "admin"},         {CMD_NOSCRIPT, "noscript"}, {CMD_LOADING, "loading"},
    {CMD_STALE, "stale"},         {CMD_FAST, "fast"},         {CMD_NO_AUTH, "no_auth"},
    {CMD_MOVABLE, "movablekeys"}, {CMD_BUSY, "allow_busy"},   {CMD_NO_MULTI, "no_multi"},
};

static bool
is_subcommand(const struct table_command *command)
{
    return strchr(command->name, '|') != NULL;
}

/* How many rows behind COMMAND are its subcommands. */
static uint32_t
subcommand_count(const struct table_command *command)
{
    uint32_t count = 0;
    const struct table_command *end = table_commands + table_command_count;
    if (!is_subcommand(command))
        while (command + 1 + count < end && is_subcommand(command + 1 + count))
            count++;
    return count;
}

static uint32_t
top_level_count(void)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < table_command_count; i++)
        count += !is_subcommand(&table_commands[i]);
    return count;
}

static void
reply_flags(struct table_reply *reply, const struct table_command *command)
{
    unsigned count = 0;
    for (unsigned i = 0; i < ARRAY_LEN(flag_names); i++)
        count += (command->flags & flag_names[i].flag) != 0;
    table_reply_set(reply, count);
    for (unsigned i = 0; i < ARRAY_LEN(flag_names); i++)
        if ((command->flags & flag_names[i].flag) != 0)
            table_reply_status(reply, flag_names[i].name);
}

static void
reply_categories(struct table_reply *reply, const struct table_command *command)
{
    const char *names[4];
    unsigned count = 0;
    if ((command->flags & CMD_WRITE) != 0)
        names[count++] = "@write";
    if ((command->flags & CMD_READONLY) != 0)
        names[count++] = "@read";
    names[count++] = (command->flags & CMD_FAST) != 0 ? "@fast" : "@slow";
    table_reply_set(reply, count);
    for (unsigned i = 0; i < count; i++)
        table_reply_status(reply, names[i]);
}

static void
reply_pair(struct table_reply *reply, const char *name, int64_t number)
{
    table_reply_text(reply, name);
    table_reply_integer(reply, number);
}

/* Where keys are, as Redis 7 describes it. */
static void
reply_key_specs(struct table_reply *reply, const struct table_command *command)
{
    if (command->first_key == 0) {
        table_reply_set(reply, 0);
        return;
    }
    table_reply_set(reply, 1);
    table_reply_map(reply, 3);
    table_reply_text(reply, "flags");
    table_reply_set(reply, 1);
    table_reply_status(reply, (command->flags & CMD_WRITE) != 0 ? "RW" : "RO");
    table_reply_text(reply, "begin_search");
    table_reply_map(reply, 2);
    table_reply_text(reply, "type");
    table_reply_text(reply, "index");
    table_reply_text(reply, "spec");
    table_reply_map(reply, 1);
    reply_pair(reply, "index", command->first_key);
    table_reply_text(reply, "find_keys");
    table_reply_map(reply, 2);
    table_reply_text(reply, "type");
    table_reply_text(reply, "range");
    table_reply_text(reply, "spec");
    table_reply_map(reply, 3);
    reply_pair(
        reply, "lastkey",
        command->last_key < 0 ? command->last_key : command->last_key - command->first_key);
    reply_pair(reply, "keystep", command->key_step);
    reply_pair(reply, "limit", 0);
}

static void
reply_command(struct table_reply *reply, const struct table_command *command)
{
    uint32_t subcommands = subcommand_count(command);
    table_reply_array(reply, 10);
    table_reply_text(reply, command->name);
    table_reply_integer(reply, command->arity);
    reply_flags(reply, command);
    table_reply_integer(reply, command->first_key);
    table_reply_integer(reply, command->last_key);
    table_reply_integer(reply, command->key_step);
    reply_categories(reply, command);
    table_reply_set(reply, 0);
    reply_key_specs(reply, command);
    table_reply_set(reply, subcommands);
    for (uint32_t i = 1; i <= subcommands; i++)
        reply_command(reply, command + i);
}

/* A command by its full name, "get" or "client|id"; NULL for none. */
static const struct table_command *
command_named(const struct table_arg *arg)
{
    for (uint32_t i = 0; i < table_command_count; i++)
        if (table_arg_is(arg, table_commands[i].name))
            return &table_commands[i];
    return NULL;
}

int
table_cmd_command(struct table_call *call)
{
    table_reply_array(call->reply, top_level_count());
    for (uint32_t i = 0; i < table_command_count; i++)
        if (!is_subcommand(&table_commands[i]))
            reply_command(call->reply, &table_commands[i]);
    return 0;
}

int
table_cmd_command_count(struct table_call *call)
{
    table_reply_integer(call->reply, top_level_count());
    return 0;
}

int
table_cmd_command_info(struct table_call *call)
{
    if (call->arg_count == 2)
        return table_cmd_command(call);
    table_reply_array(call->reply, call->arg_count - 2);
    for (uint32_t i = 2; i < call->arg_count; i++) {
        const struct table_command *command = command_named(&call->args[i]);
        if (command != NULL)
            reply_command(call->reply, command);
        else
            table_reply_null(call->reply);
    }
    return 0;
}

static void
reply_docs(struct table_reply *reply, const struct table_command *command)
{
    uint32_t subcommands = subcommand_count(command);
    table_reply_text(reply, command->name);
    table_reply_map(reply, 3 + (subcommands != 0));
    table_reply_text(reply, "summary");
    table_reply_text(reply, command->summary);
    table_reply_text(reply, "since");
    table_reply_text(reply, command->since);
    table_reply_text(reply, "group");
    table_reply_text(reply, group_names[command->group]);
    if (subcommands == 0)
        return;
    table_reply_text(reply, "subcommands");
    table_reply_map(reply, subcommands);
    for (uint32_t i = 1; i <= subcommands; i++)
        reply_docs(reply, command + i);
}

int
table_cmd_command_docs(struct table_call *call)
{
    if (call->arg_count == 2) {
        table_reply_map(call->reply, top_level_count());
        for (uint32_t i = 0; i < table_command_count; i++)
            if (!is_subcommand(&table_commands[i]))
                reply_docs(call->reply, &table_commands[i]);
        return 0;
    }
    uint64_t count = 0;
    for (uint32_t i = 2; i < call->arg_count; i++)
        count += command_named(&call->args[i]) != NULL;
    table_reply_map(call->reply, count);
    for (uint32_t i = 2; i < call->arg_count; i++) {
        const struct table_command *command = command_named(&call->args[i]);
        if (command != NULL)
            reply_docs(call->reply, command);
    }
    return 0;
}

int
table_cmd_command_list(struct table_call *call)
{
    if (call->arg_count != 2)
        return table_call_syntax_error(call);
    table_reply_array(call->reply, top_level_count());
    for (uint32_t i = 0; i < table_command_count; i++)
        if (!is_subcommand(&table_commands[i]))
            table_reply_text(call->reply, table_commands[i].name);
    return 0;
}

/* ---- help ---- */

int
table_call_help(struct table_call *call)
{
    const struct table_command *container =
        table_command_lookup(call->args[0].bytes, call->args[0].length);
    uint32_t count = subcommand_count(container);
    char name[32];
    snprintf(name, sizeof name, "%s", container->name);
    for (char *c = name; *c != '\0'; c++)
        *c = (char)toupper((unsigned char)*c);
    table_reply_array(call->reply, 1 + 2 * (uint64_t)count);
    char line[256];
    snprintf(
        line, sizeof line, "%s <subcommand> [<arg> [value] [opt] ...]. Subcommands are:", name);
    table_reply_status(call->reply, line);
    for (uint32_t i = 1; i <= count; i++) {
        const char *word = container[i].name + strlen(container->name) + 1;
        size_t n = 0;
        for (; word[n] != '\0' && n + 1 < sizeof name; n++)
            name[n] = (char)toupper((unsigned char)word[n]);
        name[n] = '\0';
        table_reply_status(call->reply, name);
        snprintf(line, sizeof line, "    %s", container[i].summary);
        table_reply_status(call->reply, line);
    }
    return 0;
}

int
table_cmd_command_help(struct table_call *call)
{
    return table_call_help(call);
}

int
table_cmd_object_help(struct table_call *call)
{
    return table_call_help(call);
}

int
table_cmd_config_help(struct table_call *call)
{
    return table_call_help(call);
}

int
table_cmd_memory_help(struct table_call *call)
{
    return table_call_help(call);
}

/* ---- CONFIG ---- */

enum { SETTING_BYTES = 64 };

static void
show_maxmemory(const struct table_call *call, char value[SETTING_BYTES])
{
    struct table_stat stat;
    table_stat(call->table, &stat);
    snprintf(value, SETTING_BYTES, "%" PRIu64, stat.limit_bytes);
}

static void
show_policy(const struct table_call *call, char value[SETTING_BYTES])
{
    snprintf(value, SETTING_BYTES, "%s", table_policy_name(table_get_policy(call->table)));
}

static void
show_clients(const struct table_call *call, char value[SETTING_BYTES])
{
    snprintf(value, SETTING_BYTES, "%u", call->worker->options.clients_max);
}

static void
show_appendonly(const struct table_call *call, char value[SETTING_BYTES])
{
    snprintf(value, SETTING_BYTES, "%s", call->tenant->log != NULL ? "yes" : "no");
}

/* What clients ask for. A text, or what shows the present value. */
static const struct {
    const char *name, *text;
    void (*show)(const struct table_call *call, char value[SETTING_BYTES]);
} settings[] = {
    {"maxmemory", NULL, show_maxmemory},
    {"maxmemory-policy", NULL, show_policy},
    {"maxmemory-samples", "8", NULL},
    {"maxclients", NULL, show_clients},
    {"appendonly", NULL, show_appendonly},
    {"save", "", NULL},
    {"databases", "1", NULL},
    {"timeout", "0", NULL},
    {"io-threads", "1", NULL},
    {"proto-max-bulk-len", "536870912", NULL},
    {"cluster-enabled", "no", NULL},
    {"notify-keyspace-events", "", NULL},
    {"tcp-keepalive", "300", NULL},
    {"lfu-log-factor", "10", NULL},
    {"lua-time-limit", "5000", NULL},
    {"busy-reply-threshold", "5000", NULL},
    {"slowlog-log-slower-than", "10000", NULL},
    {"slowlog-max-len", "128", NULL},
    {"latency-monitor-threshold", "0", NULL},
    {"lazyfree-lazy-user-flush", "no", NULL},
};

static const char *
show_setting(const struct table_call *call, unsigned index, char value[SETTING_BYTES])
{
    if (settings[index].text != NULL)
        return settings[index].text;
    settings[index].show(call, value);
    return value;
}

static bool
is_asked_for(const struct table_call *call, const char *name)
{
    for (uint32_t i = 2; i < call->arg_count; i++)
        if (table_glob_match(
                call->args[i].bytes, call->args[i].length, (const uint8_t *)name, strlen(name),
                true))
            return true;
    return false;
}

int
table_cmd_config_get(struct table_call *call)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < ARRAY_LEN(settings); i++)
        count += is_asked_for(call, settings[i].name);
    table_reply_map(call->reply, count);
    for (unsigned i = 0; i < ARRAY_LEN(settings); i++) {
        char value[SETTING_BYTES];
        if (!is_asked_for(call, settings[i].name))
            continue;
        table_reply_text(call->reply, settings[i].name);
        table_reply_text(call->reply, show_setting(call, i, value));
    }
    return 0;
}

static bool
has_value(const struct table_call *call, unsigned index, const struct table_arg *wanted)
{
    char value[SETTING_BYTES];
    const char *now = show_setting(call, index, value);
    return strlen(now) == wanted->length && memcmp(now, wanted->bytes, wanted->length) == 0;
}

/* Settings are the operator's: a client may set what is so already. */
int
table_cmd_config_set(struct table_call *call)
{
    if (call->arg_count % 2 != 0)
        return table_call_arity_error(call);
    for (uint32_t i = 2; i < call->arg_count; i += 2) {
        const struct table_arg *arg = &call->args[i];
        unsigned index = 0;
        while (index < ARRAY_LEN(settings) && !table_arg_is(arg, settings[index].name))
            index++;
        if (index == ARRAY_LEN(settings)) {
            table_reply_error(
                call->reply,
                "ERR Unknown option or number of arguments for CONFIG SET - '%.*s'",
                (int)arg->length, (const char *)arg->bytes);
            return 0;
        }
        if (!has_value(call, index, arg + 1)) {
            table_reply_error(
                call->reply,
                "ERR CONFIG SET failed (possibly related to argument '%s') - can't set "
                "immutable config",
                settings[index].name);
            return 0;
        }
    }
    return table_call_ok(call);
}

int
table_cmd_config_resetstat(struct table_call *call)
{
    struct table_tenant *tenant = call->tenant;
    tenant->hits = tenant->misses = tenant->commands = tenant->connections = 0;
    return table_call_ok(call);
}

/* ---- MEMORY ---- */

int
table_cmd_memory_usage(struct table_call *call)
{
    struct table_key key;
    struct table_value value;
    for (uint32_t i = 3; i < call->arg_count; i += 2) {
        int64_t samples;
        if (!table_arg_is(&call->args[i], "samples") || i + 1 >= call->arg_count)
            return table_call_syntax_error(call);
        if (!table_call_integer(call, i + 1, &samples))
            return 0;
        if (samples < 0)
            return table_call_syntax_error(call);
    }
    if (!table_call_key(call, 2, &key))
        return 0;
    if (table_find(call->table, &key, false, &value))
        table_reply_integer(call->reply, (int64_t)table_record_bytes(call->table, value.ref));
    else
        table_reply_null(call->reply);
    return 0;
}
