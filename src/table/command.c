/* SPDX-License-Identifier: Apache-2.0 */
/*
 * command.c - from the words of a request to the handler of its row, with the checks and errors
 * that all commands share, in the order in which Redis makes them.
 *
 *     known? -> arity -> queued or run -> a reply in any case
 *
 * Names are looked up by their first eight bytes in lower case, as one word, and their length.
 */
#include "table/command.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"
#include "table/commands.h"
#include "table/log.h"
#include "table/worker_priv.h"

enum { SLOTS = 512, ERROR_ARGS_BYTES = 128 };

#define LOWER_CASE UINT64_C(0x2020202020202020)

const struct table_command table_commands[] = {
#define COMMAND(handler, name, arity, flags, keys, group, since, summary)                      \
    {name, arity, flags, keys, TABLE_GROUP_##group, table_cmd_##handler, since, summary},
#define CONTAINER(name, arity, flags, group, since, summary)                                   \
    {name, arity, flags, 0, 0, 0, TABLE_GROUP_##group, NULL, since, summary},
#include "table/commands.def"
};
const uint32_t table_command_count = ARRAY_LEN(table_commands);

struct slot {
    uint64_t word; /* the first eight bytes */
    const struct table_command *command;
    uint16_t length;
    uint16_t subcommands; /* rows behind this one that belong to it */
};

static struct slot slots[SLOTS];
static pthread_once_t slots_made = PTHREAD_ONCE_INIT;

/* Up to eight bytes of NAME as a word in lower case. */
static inline uint64_t
first_word(const uint8_t *name, size_t length)
{
    uint64_t word = 0;
    if (length >= 8) {
        memcpy(&word, name, 8);
        return word | LOWER_CASE;
    }
    if (length >= 4) {
        uint32_t low, high;
        memcpy(&low, name, 4);
        memcpy(&high, name + length - 4, 4);
        word = low | (uint64_t)high << 8 * (length - 4);
    } else {
        for (size_t i = 0; i < length; i++)
            word |= (uint64_t)name[i] << 8 * i;
    }
    return word | LOWER_CASE;
}

static inline unsigned
slot_of(uint64_t word, size_t length)
{
    return (unsigned)(((word ^ length) * UINT64_C(0x9e3779b97f4a7c15)) >> 55);
}

static void
make_slots(void)
{
    for (uint32_t i = 0; i < table_command_count; i++) {
        const char *name = table_commands[i].name;
        size_t length = strlen(name);
        if (strchr(name, '|') != NULL)
            continue;
        uint64_t word = first_word((const uint8_t *)name, length);
        unsigned at = slot_of(word, length);
        while (slots[at].command != NULL)
            at = (at + 1) % SLOTS;
        uint16_t subcommands = 0;
        while (i + 1 + subcommands < table_command_count &&
               strchr(table_commands[i + 1 + subcommands].name, '|') != NULL)
            subcommands++;
        slots[at] = (struct slot){word, &table_commands[i], (uint16_t)length, subcommands};
    }
}

void
table_command_init(void)
{
    pthread_once(&slots_made, make_slots);
}

static inline const struct slot *
find_slot(const uint8_t *name, size_t length)
{
    uint64_t word = first_word(name, length);
    for (unsigned at = slot_of(word, length);; at = (at + 1) % SLOTS) {
        const struct slot *slot = &slots[at];
        if (slot->command == NULL)
            return NULL;
        if (slot->word == word && slot->length == length &&
            (length <= 8 || strncasecmp((const char *)name, slot->command->name, length) == 0))
            return slot;
    }
}

const struct table_command *
table_command_lookup(const uint8_t *name, size_t length)
{
    const struct slot *slot = find_slot(name, length);
    return slot != NULL ? slot->command : NULL;
}

static const struct table_command *
find_subcommand(const struct slot *slot, const struct table_arg *arg)
{
    size_t prefix = (size_t)slot->length + 1;
    for (unsigned i = 1; i <= slot->subcommands; i++) {
        const char *name = slot->command[i].name + prefix;
        if (strlen(name) == arg->length &&
            strncasecmp(name, (const char *)arg->bytes, arg->length) == 0)
            return slot->command + i;
    }
    return NULL;
}

const struct table_command *
table_command_of(const struct table_arg *args, uint32_t arg_count)
{
    const struct slot *slot = find_slot(args[0].bytes, args[0].length);
    if (slot == NULL)
        return NULL;
    if (slot->subcommands == 0 || arg_count < 2)
        return slot->command;
    return find_subcommand(slot, &args[1]);
}

bool
table_arg_is(const struct table_arg *arg, const char *word)
{
    return strlen(word) == arg->length &&
           strncasecmp((const char *)arg->bytes, word, arg->length) == 0;
}

/* At most MAX bytes of an argument for an error; what "%.*s" of C would print. */
static int
shown(const struct table_arg *arg, int max)
{
    size_t length = strnlen((const char *)arg->bytes, arg->length);
    return length < (size_t)max ? (int)length : max;
}

static void
reply_unknown(struct table_reply *reply, const struct table_arg *args, uint32_t arg_count)
{
    const struct slot *slot = find_slot(args[0].bytes, args[0].length);
    if (slot != NULL && arg_count > 1) {
        char container[32];
        snprintf(container, sizeof container, "%s", slot->command->name);
        for (char *c = container; *c != '\0'; c++)
            *c = (char)(*c - 'a' + 'A');
        table_reply_error(
            reply, "ERR unknown subcommand '%.*s'. Try %s HELP.", shown(&args[1], 128),
            (const char *)args[1].bytes, container);
        return;
    }
    char text[2 * ERROR_ARGS_BYTES + 8];
    int used = 0;
    text[0] = '\0';
    for (uint32_t i = 1; i < arg_count && used < ERROR_ARGS_BYTES; i++)
        used += snprintf(
            text + used, sizeof text - (size_t)used, "'%.*s' ",
            shown(&args[i], ERROR_ARGS_BYTES - used), (const char *)args[i].bytes);
    table_reply_error(
        reply, "ERR unknown command '%.*s', with args beginning with: %s", shown(&args[0], 128),
        (const char *)args[0].bytes, text);
}

static bool
arity_fits(const struct table_command *command, uint32_t arg_count)
{
    int arity = command->arity;
    return arity >= 0 ? arg_count == (uint32_t)arity : arg_count >= (uint32_t)-arity;
}

int
table_call_arity_error(struct table_call *call)
{
    table_reply_error(
        call->reply, "ERR wrong number of arguments for '%s' command", call->command->name);
    return 0;
}

int
table_call_syntax_error(struct table_call *call)
{
    table_reply_error(call->reply, "ERR syntax error");
    return 0;
}

bool
table_call_key(struct table_call *call, uint32_t index, struct table_key *ret)
{
    if (call->key_valid && index == (uint32_t)call->command->first_key) {
        *ret = call->key;
        return true;
    }
    const struct table_arg *arg = &call->args[index];
    if (table_key(call->table, arg->bytes, arg->length, ret))
        return true;
    table_reply_error(
        call->reply, "ERR a key of %" PRIu32 " bytes: %u are possible", arg->length,
        TABLE_KEY_LENGTH_MAX);
    return false;
}

bool
table_call_integer(struct table_call *call, uint32_t index, int64_t *ret)
{
    if (resp_integer(call->args[index].bytes, call->args[index].length, ret))
        return true;
    table_reply_error(call->reply, "ERR value is not an integer or out of range");
    return false;
}

/* Reply for a handler that says RC and has replied nothing. */
static void
reply_failure(struct table_reply *reply, int rc)
{
    if (rc == DOR_E_NO_SPACE || rc == DOR_E_NO_MEMORY)
        table_reply_error(reply, "OOM command not allowed when used memory > 'maxmemory'.");
    else
        table_reply_error(reply, "ERR %s", dor_err_message());
}

static bool
is_allowed(struct table_call *call)
{
    if (__builtin_expect(arity_fits(call->command, call->arg_count), 1))
        return true;
    (void)table_call_arity_error(call);
    return false;
}

bool
table_call_log_room(struct table_call *call, uint64_t bytes)
{
    if (call->tenant->log == NULL || table_log_room(call->tenant->log, bytes) == 0)
        return true;
    table_reply_error(
        call->reply, "MISCONF Errors writing to the AOF file: %s", dor_err_message());
    return false;
}

/* For what its arguments may change. */
static bool
log_has_room(struct table_call *call)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < call->arg_count; i++)
        bytes += call->args[i].length;
    return table_call_log_room(call, bytes);
}

void
table_command_invoke(struct table_call *call)
{
    if (call->tenant->log != NULL && (call->command->flags & CMD_WRITE) != 0 &&
        !log_has_room(call))
        return;
    int rc = call->command->handler(call);
    if (__builtin_expect(rc != 0, 0))
        reply_failure(call->reply, rc);
    call->tenant->commands++;
    call->worker->commands++;
}

void
table_command_call(struct table_call *call)
{
    call->command = table_command_of(call->args, call->arg_count);
    call->key_valid = false;
    if (call->command == NULL)
        reply_unknown(call->reply, call->args, call->arg_count);
    else if (is_allowed(call))
        table_command_invoke(call);
}

static bool
some_large_was_refused(const struct table_client *client)
{
    for (uint32_t i = 0; i < client->large_count; i++)
        if (client->large[i].refused)
            return true;
    return false;
}

/*
 * What Redis has not inside MULTI; and AUTH, which is for the front: what is queued behind it
 * would not be that user's.
 */
static bool
is_allowed_in_multi(struct table_call *call)
{
    if ((call->command->flags & CMD_NO_MULTI) == 0 && !table_call_hands_back(call))
        return true;
    table_reply_error(call->reply, "ERR Command not allowed inside a transaction");
    return false;
}

/* Run or queue what CALL holds. */
static void
run_call(struct table_call *call)
{
    struct table_client *client = call->client;
    bool ok = false;
    if (__builtin_expect(call->command == NULL, 0))
        reply_unknown(call->reply, call->args, call->arg_count);
    else if (__builtin_expect(client->large_count != 0, 0) && some_large_was_refused(client))
        reply_failure(call->reply, DOR_E_NO_SPACE);
    else
        ok = is_allowed(call) && (client->multi == NULL || is_allowed_in_multi(call));
    if (__builtin_expect(!ok, 0)) {
        if (client->multi != NULL)
            client->multi->broken = true;
        return;
    }
    if (__builtin_expect(client->multi != NULL, 0) &&
        (call->command->flags & CMD_NO_QUEUE) == 0)
        table_multi_queue(call);
    else
        table_command_invoke(call);
}

void
table_command_run(
    struct table_client *client, const struct table_command *command,
    const struct table_arg *args, uint32_t arg_count, const struct table_key *key)
{
    struct table_worker *worker = client->worker;
    struct table_reply *out = &client->stream.out;
    struct table_call call = {
        .worker = worker,
        .tenant = client->tenant,
        .table = client->tenant->table,
        .client = client,
        .reply = out,
        .command = command,
        .args = args,
        .arg_count = arg_count,
        .large = client->large,
    };
    if (key != NULL) {
        call.key = *key;
        call.key_valid = true;
    }
    if (command != NULL)
        client->last_command = command;
    if (__builtin_expect(!client->reply_off && !client->reply_skip, 1)) {
        run_call(&call);
        if (client->reply_skip_next) {
            client->reply_skip_next = false;
            client->reply_skip = true;
        }
        return;
    }
    call.reply = &worker->void_reply;
    worker->void_reply.protocol = out->protocol;
    client->reply_skip = false;
    run_call(&call);
    table_reply_clear(&worker->void_reply);
}
