/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client.c - from bytes of a connection to requests, in batches: several requests that have
 * come together are parsed first, the memory their keys need is asked for, and then they are
 * run in order.
 *
 *     bytes come --> nothing kept: requests are run where the loop has them, the rest is kept
 *                --> something kept: added to it, run from there
 *     a large argument: its bytes go to its draft, what follows is kept
 *
 * Invariants:
 * 1. What is kept begins with a request; `request` says how far it has been looked at.
 * 2. Keeping is bounded: a request by input_bytes_max, what is read while too much output waits by
 *    a part of it. It is read because many clients write all requests before they read an answer.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "table/worker_priv.h"

enum {
    BATCH = 32,
    INPUT_SLACK = 4096,
    AHEAD_PART = 4, /* of the most input: what is read of a stopped client */
};

struct item {
    const struct table_command *command;
    uint32_t first, count; /* its arguments */
    size_t begin;
    struct table_key key;
    bool has_key;
};

static char *
copy_text(const char *text)
{
    if (text == NULL || text[0] == '\0')
        return NULL;
    size_t bytes = strlen(text) + 1;
    char *copy = base_alloc(bytes);
    if (copy != NULL)
        memcpy(copy, text, bytes);
    return copy;
}

struct table_client *
table_client_new(
    struct table_worker *worker, struct table_tenant *tenant, int fd,
    const struct table_handover *handover)
{
    struct table_client *client = base_zalloc(sizeof *client);
    if (client == NULL) {
        close(fd);
        return NULL;
    }
    client->stream.fd = fd;
    client->stream.out.pool = &worker->pool;
    client->stream.out.protocol = handover != NULL && handover->protocol == 3 ? 3 : 2;
    client->worker = worker;
    client->tenant = tenant;
    client->id = handover != NULL && handover->client_id != 0 ? handover->client_id
                                                              : worker->next_client_id++;
    if (handover != NULL) {
        client->name = copy_text(handover->name);
        client->library = copy_text(handover->library);
        client->library_version = copy_text(handover->library_version);
        client->address = copy_text(handover->address);
    }
    client->created_ms = client->used_ms = client->progress_ms = worker->now_ms;
    client->next = tenant->clients;
    if (client->next != NULL)
        client->next->previous = client;
    tenant->clients = client;
    tenant->client_count++;
    tenant->connections++;
    worker->client_count++;
    worker->connections++;
    return client;
}

void
table_client_free(struct table_client *client)
{
    struct table_tenant *tenant = client->tenant;
    table_client_discard(client);
    table_client_unwatch(client);
    table_large_clear(client);
    table_reply_clear(&client->stream.out);
    if (client->previous != NULL)
        client->previous->next = client->next;
    else
        tenant->clients = client->next;
    if (client->next != NULL)
        client->next->previous = client->previous;
    tenant->client_count--;
    tenant->errors += client->stream.out.errors;
    client->worker->client_count--;
    if (client->stream.fd >= 0)
        close(client->stream.fd);
    base_free(client->name);
    base_free(client->library);
    base_free(client->library_version);
    base_free(client->address);
    base_free(client->in);
    base_free(client);
}

void
table_client_close(struct table_client *client)
{
    client->closed = true;
    table_worker_add_pending(client);
}

void
table_client_close_after_reply(struct table_client *client)
{
    client->closing = true;
    table_worker_add_pending(client);
}

static bool
may_run(const struct table_client *client)
{
    return !client->stopped && !client->held && !client->saving && !client->closing &&
           !client->closed && !client->handing_back && !client->worker->must_leave;
}

/* What a stopped function made wait goes on when the engine has been left. */
static void
wait_for_engine(struct table_client *client)
{
    if (client->worker->must_leave && client->in != NULL)
        table_worker_add_ready(client);
}

bool
table_client_wants_input(const struct table_client *client)
{
    size_t ahead = client->in_to - client->in_from;
    return !client->held && !client->saving && !client->closing && !client->handing_back &&
           !client->ready &&
           (!client->stopped || ahead < client->worker->options.input_bytes_max / AHEAD_PART);
}

/* Run nothing more of who does not take its replies. */
static void
check_output(struct table_client *client)
{
    const struct table_worker_options *options = &client->worker->options;
    const struct table_reply *out = &client->stream.out;
    if (out->failed || out->copied_bytes > options->output_bytes_max)
        table_client_close(client);
    else if (out->waiting_bytes > options->output_bytes_stop)
        client->stopped = true;
}

/* ---- running ---- */

static void
run_item(struct table_client *client, const struct item *item)
{
    const struct resp_args *args = &client->worker->args;
    if (item->count == 0)
        return;
    table_command_run(
        client, item->command, args->args + item->first, item->count,
        item->has_key ? &item->key : NULL);
    if (client->large_count != 0)
        table_large_clear(client);
    check_output(client);
}

/* The place of the first key in a request; 0 if it has none. */
static uint32_t
first_key(const struct table_command *command, const struct table_arg *args, uint32_t count)
{
    uint32_t first = (uint32_t)command->first_key;
    /* Of calls of functions: name, count of keys, keys. */
    if ((command->flags & CMD_MOVABLE) != 0)
        first = count > 3 && !(args[2].length == 1 && args[2].bytes[0] == '0') ? 3 : 0;
    return first < count ? first : 0;
}

/* Look up what a request needs, and ask for the memory of its key's bucket. */
static void
prepare_item(struct table_client *client, struct item *item)
{
    const struct table_arg *args = client->worker->args.args + item->first;
    item->has_key = false;
    item->command = NULL;
    if (item->count == 0)
        return;
    const struct table_command *command = table_command_of(args, item->count);
    item->command = command;
    uint32_t first = command != NULL ? first_key(command, args, item->count) : 0;
    if (first == 0)
        return;
    const struct table_arg *key = &args[first];
    if (key->large >= 0)
        return;
    item->has_key = table_key(client->tenant->table, key->bytes, key->length, &item->key);
    if (item->has_key)
        table_prefetch(client->tenant->table, &item->key);
}

static void
protocol_error(struct table_client *client)
{
    table_reply_error(&client->stream.out, "ERR %s", client->request.error);
    table_client_close_after_reply(client);
}

/* Parse at most a batch; *RET is the result of the parser that ended it. */
static unsigned
parse_batch(
    struct table_client *client, const uint8_t *bytes, size_t length, size_t *at,
    struct item items[BATCH], enum resp_result *ret)
{
    struct resp_args *args = &client->worker->args;
    unsigned count = 0;
    args->count = 0;
    *ret = RESP_COMPLETE;
    while (count < BATCH && *at < length) {
        /* There is room for the words of one inline command: it is run alone. */
        bool is_inline = bytes[*at] != '*';
        if (is_inline && count > 0)
            break;
        struct item *item = &items[count];
        item->first = args->count;
        item->begin = *at;
        client->request.large = client->large_args;
        client->request.large_count = client->large_count;
        *ret = resp_parse(&client->request, bytes + *at, length - *at, args);
        if (*ret != RESP_COMPLETE)
            break;
        item->count = args->count - item->first;
        *at += client->request.used;
        client->request.state = (struct resp_state){0};
        count++;
        prepare_item(client, item);
        /* A request with large arguments is run alone: they belong to the client. */
        if (is_inline || client->large_count != 0)
            break;
    }
    return count;
}

/* Run what is complete in BYTES; how many were used. */
static size_t
run_bytes(
    struct table_client *client, const uint8_t *bytes, size_t length, enum resp_result *ret)
{
    struct table_worker *worker = client->worker;
    size_t at = 0;
    *ret = RESP_COMPLETE;
    table_worker_set_clock(worker, client->tenant);
    client->used_ms = worker->now_ms;
    while (at < length && may_run(client)) {
        struct item items[BATCH];
        unsigned count = parse_batch(client, bytes, length, &at, items, ret);
        for (unsigned i = 0; count > 1 && i < count; i++)
            if (items[i].has_key)
                table_prefetch_record(client->tenant->table, &items[i].key);
        for (unsigned i = 0; i < count; i++) {
            if (!may_run(client)) {
                /* What was parsed ahead is parsed again when it may run. */
                client->request.state = (struct resp_state){0};
                *ret = RESP_COMPLETE;
                return items[i].begin;
            }
            run_item(client, &items[i]);
            if (__builtin_expect(client->handing_back, 0)) {
                /* This request is for the front to answer. */
                client->request.state = (struct resp_state){0};
                *ret = RESP_COMPLETE;
                return items[i].begin;
            }
        }
        if (count == 0 || (*ret != RESP_COMPLETE && *ret != RESP_PARTIAL))
            break;
        if (*ret == RESP_PARTIAL)
            return at;
    }
    if (may_run(client) && *ret == RESP_BROKEN)
        protocol_error(client);
    else if (*ret == RESP_NO_MEMORY)
        table_client_close(client);
    return at;
}

/* ---- keeping ---- */

static void
forget_input(struct table_client *client)
{
    base_free(client->in);
    client->in = NULL;
    client->in_from = client->in_to = client->in_cap = 0;
}

bool
table_client_keep(struct table_client *client, const uint8_t *bytes, size_t length)
{
    if (length == 0)
        return true;
    size_t kept = client->in_to - client->in_from;
    if (kept + length > client->worker->options.input_bytes_max)
        return false;
    /* Moved only where more has been used than is moved. */
    if (client->in != NULL && client->in_from > client->in_cap / 2) {
        memmove(client->in, client->in + client->in_from, kept);
        client->in_from = 0;
        client->in_to = kept;
    }
    if (client->in == NULL || client->in_to + length > client->in_cap) {
        size_t cap = client->in_to + length + kept / 2 + INPUT_SLACK;
        uint8_t *grown = base_realloc_array(client->in, cap, 1);
        if (grown == NULL)
            return false;
        client->in = grown;
        client->in_cap = cap;
    }
    memcpy(client->in + client->in_to, bytes, length);
    client->in_to += length;
    return true;
}

static void
keep(struct table_client *client, const uint8_t *bytes, size_t length)
{
    if (!table_client_keep(client, bytes, length))
        table_client_close(client);
}

/* A large argument begins in what is kept: move the part of it that is there to its draft. */
static void
begin_large(struct table_client *client)
{
    struct table_worker *worker = client->worker;
    uint8_t *begin = client->in + client->in_from;
    size_t length = client->in_to - client->in_from;
    size_t used = client->request.used;
    struct resp_large found = client->request.found;
    /* Parsed anew for the arguments before it. */
    struct resp_request again = {
        .large = client->large_args, .large_count = client->large_count};
    worker->args.count = 0;
    enum resp_result result = resp_parse(&again, begin, length, &worker->args);
    dor_assert(result == RESP_LARGE && again.used == used);
    table_large_begin(client, &worker->args, found.index, found.length);
    size_t taken = table_large_take(client, begin + used, length - used);
    memmove(begin + used, begin + used + taken, length - used - taken);
    client->in_to -= taken;
}

void
table_client_run(struct table_client *client)
{
    while (may_run(client) && !client->large_coming && client->in_from < client->in_to) {
        enum resp_result result;
        client->in_from += run_bytes(
            client, client->in + client->in_from, client->in_to - client->in_from, &result);
        if (result == RESP_LARGE && may_run(client))
            begin_large(client);
        else if (result != RESP_COMPLETE)
            break;
    }
    if (client->in_from == client->in_to && client->in != NULL)
        forget_input(client);
    wait_for_engine(client);
    table_worker_add_pending(client);
}

void
table_client_take(struct table_client *client, const uint8_t *bytes, size_t length)
{
    if (client->closed || client->closing)
        return;
    if (client->large_coming) {
        size_t taken = table_large_take(client, bytes, length);
        bytes += taken;
        length -= taken;
    }
    if (client->in != NULL || !may_run(client)) {
        keep(client, bytes, length);
        if (may_run(client))
            table_client_run(client);
        wait_for_engine(client);
        table_worker_add_pending(client);
        return;
    }
    enum resp_result result;
    size_t used = run_bytes(client, bytes, length, &result);
    if (client->closing || client->closed) {
        table_worker_add_pending(client);
        return;
    }
    keep(client, bytes + used, length - used);
    if (result == RESP_LARGE && may_run(client))
        table_client_run(client);
    wait_for_engine(client);
    table_worker_add_pending(client);
}

void
table_client_filled(struct table_client *client)
{
    client->used_ms = client->worker->now_ms;
    if (!table_large_is_coming(client))
        client->large_coming = false;
}
