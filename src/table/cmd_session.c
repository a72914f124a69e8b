/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_session.c - commands on the connection itself: greetings, its protocol, and CLIENT.
 *
 * Who a client is was decided by the front. AUTH, and HELLO with AUTH, go back to it together
 * with the connection; a worker without a front has one user, `default`, without a password.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "table/commands.h"
#include "table/worker_priv.h"

enum { PRINTABLE_FROM = '!', PRINTABLE_TO = '~' };

int
table_cmd_ping(struct table_call *call)
{
    if (call->arg_count > 2)
        return table_call_arity_error(call);
    if (call->arg_count == 2)
        table_reply_bulk(call->reply, call->args[1].bytes, call->args[1].length);
    else
        table_reply_raw(call->reply, "+PONG\r\n", 7);
    return 0;
}

int
table_cmd_echo(struct table_call *call)
{
    table_reply_bulk(call->reply, call->args[1].bytes, call->args[1].length);
    return 0;
}

int
table_cmd_select(struct table_call *call)
{
    int64_t index;
    if (!table_call_integer(call, 1, &index))
        return 0;
    if (index < INT32_MIN || index > INT32_MAX) {
        table_reply_error(call->reply, "ERR value is out of range");
        return 0;
    }
    if (index == 0)
        return table_call_ok(call);
    table_reply_error(call->reply, "ERR DB index is out of range");
    return 0;
}

int
table_cmd_quit(struct table_call *call)
{
    table_client_close_after_reply(call->client);
    return table_call_ok(call);
}

int
table_cmd_reset(struct table_call *call)
{
    struct table_client *client = call->client;
    table_client_discard(client);
    table_client_unwatch(client);
    base_free(client->name);
    client->name = NULL;
    client->reply_off = client->reply_skip = client->reply_skip_next = false;
    client->no_evict = client->no_touch = false;
    client->stream.out.protocol = 2;
    /* Also to a client that had asked for no replies. */
    call->reply = &client->stream.out;
    table_reply_status(call->reply, "RESET");
    return 0;
}

bool
table_call_hands_back(const struct table_call *call)
{
    if (call->worker->options.hand_back == NULL)
        return false;
    if (table_arg_is(&call->args[0], "auth"))
        return true;
    bool found = false;
    for (uint32_t i = 2; table_arg_is(&call->args[0], "hello") && i + 2 < call->arg_count; i++)
        found |= table_arg_is(&call->args[i], "auth");
    return found;
}

/* Whether the connection goes back to the front, which will answer this command. */
static bool
hand_back(struct table_call *call)
{
    if (call->worker->options.hand_back == NULL)
        return false;
    call->client->handing_back = true;
    table_worker_add_pending(call->client);
    return true;
}

/* Without a front: only the user `default` is there, with any password. */
static bool
authenticate(struct table_call *call, const struct table_arg *user)
{
    if (user->length == 7 && memcmp(user->bytes, "default", 7) == 0)
        return true;
    table_reply_error(
        call->reply, "WRONGPASS invalid username-password pair or user is disabled.");
    return false;
}

int
table_cmd_auth(struct table_call *call)
{
    if (call->arg_count > 3)
        return table_call_syntax_error(call);
    if (hand_back(call))
        return 0;
    if (call->arg_count == 2) {
        table_reply_error(
            call->reply,
            "ERR AUTH <password> called without any password configured for the default user. "
            "Are you sure your configuration is correct?");
        return 0;
    }
    return authenticate(call, &call->args[1]) ? table_call_ok(call) : 0;
}

static bool
is_printable(const struct table_arg *arg)
{
    for (uint32_t i = 0; i < arg->length; i++)
        if (arg->bytes[i] < PRINTABLE_FROM || arg->bytes[i] > PRINTABLE_TO)
            return false;
    return true;
}

/* Make *TEXT a copy of ARG, or NULL if it is empty. */
static int
set_text(char **text, const struct table_arg *arg)
{
    char *copy = NULL;
    if (arg->length != 0) {
        copy = base_alloc((size_t)arg->length + 1);
        if (copy == NULL)
            return DOR_E_NO_MEMORY;
        memcpy(copy, arg->bytes, arg->length);
        copy[arg->length] = '\0';
    }
    base_free(*text);
    *text = base_keep(copy);
    return 0;
}

static bool
check_name(struct table_call *call, const struct table_arg *arg)
{
    if (is_printable(arg))
        return true;
    table_reply_error(
        call->reply, "ERR Client names cannot contain spaces, newlines or special characters.");
    return false;
}

static void
reply_hello(struct table_call *call)
{
    struct table_reply *reply = call->reply;
    table_reply_map(reply, 7);
    table_reply_text(reply, "server");
    table_reply_text(reply, "redis");
    table_reply_text(reply, "version");
    table_reply_text(reply, TABLE_REDIS_VERSION);
    table_reply_text(reply, "proto");
    table_reply_integer(reply, reply->protocol);
    table_reply_text(reply, "id");
    table_reply_integer(reply, (int64_t)call->client->id);
    table_reply_text(reply, "mode");
    table_reply_text(reply, "standalone");
    table_reply_text(reply, "role");
    table_reply_text(reply, "master");
    table_reply_text(reply, "modules");
    table_reply_array(reply, 0);
}

int
table_cmd_hello(struct table_call *call)
{
    int64_t version = call->client->stream.out.protocol;
    const struct table_arg *name = NULL, *user = NULL;
    if (call->arg_count > 1 &&
        !resp_integer(call->args[1].bytes, call->args[1].length, &version)) {
        table_reply_error(
            call->reply, "ERR Protocol version is not an integer or out of range");
        return 0;
    }
    if (version < 2 || version > 3) {
        table_reply_error(call->reply, "NOPROTO unsupported protocol version");
        return 0;
    }
    for (uint32_t i = 2; i < call->arg_count; i++) {
        const struct table_arg *arg = &call->args[i];
        uint32_t more = call->arg_count - 1 - i;
        if (table_arg_is(arg, "auth") && more >= 2) {
            user = arg + 1;
            i += 2;
        } else if (table_arg_is(arg, "setname") && more >= 1) {
            name = arg + 1;
            if (!check_name(call, name))
                return 0;
            i++;
        } else {
            table_reply_error(
                call->reply, "ERR Syntax error in HELLO option '%.*s'", (int)arg->length,
                (const char *)arg->bytes);
            return 0;
        }
    }
    if (user != NULL && (hand_back(call) || !authenticate(call, user)))
        return 0;
    int rc = name != NULL ? set_text(&call->client->name, name) : 0;
    if (rc != 0)
        return rc;
    call->client->stream.out.protocol = call->reply->protocol = (uint8_t)version;
    reply_hello(call);
    return 0;
}

int
table_cmd_acl_whoami(struct table_call *call)
{
    table_reply_text(call->reply, call->tenant->name);
    return 0;
}

/* ---- CLIENT ---- */

int
table_cmd_client_id(struct table_call *call)
{
    table_reply_integer(call->reply, (int64_t)call->client->id);
    return 0;
}

int
table_cmd_client_getname(struct table_call *call)
{
    if (call->client->name != NULL)
        table_reply_text(call->reply, call->client->name);
    else
        table_reply_null(call->reply);
    return 0;
}

int
table_cmd_client_setname(struct table_call *call)
{
    if (!check_name(call, &call->args[2]))
        return 0;
    int rc = set_text(&call->client->name, &call->args[2]);
    return rc != 0 ? rc : table_call_ok(call);
}

int
table_cmd_client_setinfo(struct table_call *call)
{
    const struct table_arg *what = &call->args[2];
    bool version = table_arg_is(what, "lib-ver");
    if (!version && !table_arg_is(what, "lib-name")) {
        table_reply_error(
            call->reply, "ERR Unrecognized option '%.*s'", (int)what->length,
            (const char *)what->bytes);
        return 0;
    }
    if (!is_printable(&call->args[3])) {
        table_reply_error(
            call->reply, "ERR %s cannot contain spaces, newlines or special characters.",
            version ? "lib-ver" : "lib-name");
        return 0;
    }
    int rc = set_text(
        version ? &call->client->library_version : &call->client->library, &call->args[3]);
    return rc != 0 ? rc : table_call_ok(call);
}

int
table_cmd_client_getredir(struct table_call *call)
{
    table_reply_integer(call->reply, -1);
    return 0;
}

int
table_cmd_client_reply(struct table_call *call)
{
    struct table_client *client = call->client;
    const struct table_arg *mode = &call->args[2];
    if (table_arg_is(mode, "on")) {
        client->reply_off = client->reply_skip = client->reply_skip_next = false;
        call->reply = &client->stream.out;
        return table_call_ok(call);
    }
    if (table_arg_is(mode, "off"))
        client->reply_off = true;
    else if (table_arg_is(mode, "skip"))
        client->reply_skip_next = !client->reply_off;
    else
        return table_call_syntax_error(call);
    return 0;
}

static int
set_flag(struct table_call *call, bool *flag)
{
    bool on = table_arg_is(&call->args[2], "on");
    if (!on && !table_arg_is(&call->args[2], "off"))
        return table_call_syntax_error(call);
    *flag = on;
    return table_call_ok(call);
}

int
table_cmd_client_no_evict(struct table_call *call)
{
    return set_flag(call, &call->client->no_evict);
}

int
table_cmd_client_no_touch(struct table_call *call)
{
    return set_flag(call, &call->client->no_touch);
}

/* Whether ARG is a type of clients; -1 for none, 1 for that of all who are here. */
static int
client_type(const struct table_arg *arg)
{
    if (table_arg_is(arg, "normal"))
        return 1;
    return table_arg_is(arg, "master") || table_arg_is(arg, "replica") ||
                   table_arg_is(arg, "slave") || table_arg_is(arg, "pubsub")
               ? 0
               : -1;
}

static int
reply_unknown_type(struct table_call *call, const struct table_arg *arg)
{
    table_reply_error(
        call->reply, "ERR Unknown client type '%.*s'", (int)arg->length,
        (const char *)arg->bytes);
    return 0;
}

static struct table_client *
find_client(const struct table_call *call, int64_t id)
{
    struct table_client *client = call->tenant->clients;
    while (client != NULL && (int64_t)client->id != id)
        client = client->next;
    return client;
}

static int
add_line(struct base_buf *text, const struct table_client *client)
{
    char line[TABLE_CLIENT_LINE_BYTES];
    int length = table_client_describe(client, line);
    int rc = base_buf_append(text, line, (size_t)length);
    return rc != 0 ? rc : base_buf_append(text, "\n", 1);
}

int
table_cmd_client_info(struct table_call *call)
{
    AUTO_BUF struct base_buf text = {0};
    int rc = add_line(&text, call->client);
    if (rc == 0)
        table_reply_verbatim(call->reply, text.data, text.size_bytes);
    return rc;
}

int
table_cmd_client_list(struct table_call *call)
{
    AUTO_BUF struct base_buf text = {0};
    bool all = true;
    int rc = 0;
    if (call->arg_count == 4 && table_arg_is(&call->args[2], "type")) {
        int type = client_type(&call->args[3]);
        if (type < 0)
            return reply_unknown_type(call, &call->args[3]);
        all = type == 1;
    } else if (call->arg_count > 3 && table_arg_is(&call->args[2], "id")) {
        all = false;
        for (uint32_t i = 3; rc == 0 && i < call->arg_count; i++) {
            int64_t id;
            if (!resp_integer(call->args[i].bytes, call->args[i].length, &id)) {
                table_reply_error(call->reply, "ERR Invalid client ID");
                return 0;
            }
            const struct table_client *client = find_client(call, id);
            rc = client != NULL ? add_line(&text, client) : 0;
        }
    } else if (call->arg_count != 2) {
        return table_call_syntax_error(call);
    }
    for (const struct table_client *client = call->tenant->clients;
         all && rc == 0 && client != NULL; client = client->next)
        rc = add_line(&text, client);
    if (rc == 0)
        table_reply_verbatim(call->reply, text.data, text.size_bytes);
    return rc;
}

struct kill_filter {
    int64_t id; /* 0 = any */
    const struct table_arg *address, *local_address;
    bool nobody; /* a type or a user that nobody here has */
    bool skip_me;
};

static bool
parse_kill(struct table_call *call, struct kill_filter *filter)
{
    for (uint32_t i = 2; i < call->arg_count; i += 2) {
        const struct table_arg *arg = &call->args[i], *value = arg + 1;
        if (i + 1 >= call->arg_count) {
            (void)table_call_syntax_error(call);
            return false;
        }
        if (table_arg_is(arg, "id")) {
            if (!resp_integer(value->bytes, value->length, &filter->id) || filter->id < 1) {
                table_reply_error(call->reply, "ERR client-id should be greater than 0");
                return false;
            }
        } else if (table_arg_is(arg, "type")) {
            int type = client_type(value);
            if (type < 0) {
                (void)reply_unknown_type(call, value);
                return false;
            }
            filter->nobody |= type == 0;
        } else if (table_arg_is(arg, "addr")) {
            filter->address = value;
        } else if (table_arg_is(arg, "laddr")) {
            filter->local_address = value;
        } else if (table_arg_is(arg, "user")) {
            if (strlen(call->tenant->name) != value->length ||
                memcmp(call->tenant->name, value->bytes, value->length) != 0) {
                table_reply_error(
                    call->reply, "ERR No such user '%.*s'", (int)value->length,
                    (const char *)value->bytes);
                return false;
            }
        } else if (table_arg_is(arg, "skipme") && table_arg_is(value, "yes")) {
            filter->skip_me = true;
        } else if (table_arg_is(arg, "skipme") && table_arg_is(value, "no")) {
            filter->skip_me = false;
        } else {
            (void)table_call_syntax_error(call);
            return false;
        }
    }
    return true;
}

static bool
is_text(const struct table_arg *arg, const char *text)
{
    return strlen(text) == arg->length && memcmp(text, arg->bytes, arg->length) == 0;
}

static bool
filter_takes(const struct table_client *client, const struct kill_filter *filter)
{
    char address[TABLE_ADDRESS_BYTES], local_address[TABLE_ADDRESS_BYTES];
    table_client_addresses(client, address, local_address);
    return !filter->nobody && !client->closed &&
           (filter->id == 0 || (int64_t)client->id == filter->id) &&
           (filter->address == NULL || is_text(filter->address, address)) &&
           (filter->local_address == NULL || is_text(filter->local_address, local_address));
}

int
table_cmd_client_kill(struct table_call *call)
{
    struct kill_filter filter = {.skip_me = true};
    bool old_form = call->arg_count == 3;
    if (old_form) {
        filter.address = &call->args[2];
        filter.skip_me = false;
    } else if (!parse_kill(call, &filter)) {
        return 0;
    }
    int64_t count = 0;
    for (struct table_client *client = call->tenant->clients; client != NULL;
         client = client->next) {
        if ((client == call->client && filter.skip_me) || !filter_takes(client, &filter))
            continue;
        count++;
        if (client == call->client)
            table_client_close_after_reply(client);
        else
            table_client_close(client);
    }
    if (!old_form)
        table_reply_integer(call->reply, count);
    else if (count > 0)
        table_reply_ok(call->reply);
    else
        table_reply_error(call->reply, "ERR No such client");
    return 0;
}

int
table_cmd_client_help(struct table_call *call)
{
    return table_call_help(call);
}
