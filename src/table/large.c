/* SPDX-License-Identifier: Apache-2.0 */
/*
 * large.c - arguments longer than RESP_LARGE_BYTES. Their bytes go from the socket into a
 * draft, a record of the tenant's arena that no key has yet: so they count against the tenant's
 * limit and not as memory of the worker. That of a value which SET and the like are about to
 * store becomes the record of its key by one store; others are read by their command and
 * dropped.
 *
 *     head seen --begin--> coming --all bytes and the line end--> complete
 *         complete --command--> record or dropped
 */
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "table/worker_priv.h"

/* Which argument before number INDEX is the key of the value that comes there; 0 = no value. */
static uint32_t
key_of_value(const struct resp_args *prefix, uint32_t index)
{
    const struct table_arg *name = &prefix->args[0];
    bool one = table_arg_is(name, "set") || table_arg_is(name, "setnx") ||
               table_arg_is(name, "getset");
    bool many = table_arg_is(name, "mset") || table_arg_is(name, "msetnx");
    bool timed = table_arg_is(name, "setex") || table_arg_is(name, "psetex");
    if ((one && index == 2) || (timed && index == 3))
        return 1;
    return many && index >= 2 && index % 2 == 0 ? index - 1 : 0;
}

static struct table_large *
add_large(struct table_client *client)
{
    if (client->large_count == client->large_cap) {
        uint32_t cap = client->large_cap == 0 ? 1 : 2 * client->large_cap;
        struct table_large *large = base_realloc_array(client->large, cap, sizeof *large);
        if (large == NULL)
            return NULL;
        client->large = large;
        struct resp_large *args = base_realloc_array(client->large_args, cap, sizeof *args);
        if (args == NULL)
            return NULL;
        client->large_args = args;
        client->large_cap = cap;
    }
    client->large[client->large_count] = (struct table_large){0};
    return &client->large[client->large_count];
}

static int
make_draft(
    struct table_client *client, const struct resp_args *prefix, uint32_t length,
    struct table_large *large)
{
    struct table *table = client->tenant->table;
    struct table_key key;
    uint32_t key_index = prefix->count > 0 ? key_of_value(prefix, large->index) : 0;
    large->for_key =
        key_index != 0 && key_index < prefix->count && prefix->args[key_index].large < 0 &&
        table_key(table, prefix->args[key_index].bytes, prefix->args[key_index].length, &key);
    if (!large->for_key)
        (void)table_key(table, "", 0, &key);
    return table_draft(table, &key, length, TABLE_EXPIRY_OPEN, &large->draft);
}

void
table_large_begin(
    struct table_client *client, const struct resp_args *prefix, uint32_t index,
    uint32_t length)
{
    struct table_large *large = add_large(client);
    if (large == NULL) {
        table_client_close(client);
        return;
    }
    large->index = index;
    large->refused = make_draft(client, prefix, length, large) != 0;
    client->large_args[client->large_count] =
        (struct resp_large){index, length, large->draft.bytes};
    client->large_count++;
    client->line_end_left = 2;
    client->large_coming = true;
    if (large->refused) {
        client->drop_left = length;
    } else {
        client->stream.target = large->draft.bytes;
        client->stream.target_left = length;
    }
}

size_t
table_large_take(struct table_client *client, const uint8_t *bytes, size_t length)
{
    struct table_stream *stream = &client->stream;
    size_t taken = 0;
    if (stream->target_left != 0) {
        taken = length < stream->target_left ? length : stream->target_left;
        memcpy(stream->target, bytes, taken);
        stream->target += taken;
        stream->target_left -= taken;
    } else if (client->drop_left != 0) {
        taken = length < client->drop_left ? length : client->drop_left;
        client->drop_left -= (uint32_t)taken;
    }
    while (taken < length && stream->target_left == 0 && client->drop_left == 0 &&
           client->line_end_left > 0) {
        taken++;
        client->line_end_left--;
    }
    if (!table_large_is_coming(client))
        client->large_coming = false;
    return taken;
}

bool
table_large_is_coming(const struct table_client *client)
{
    return client->stream.target_left != 0 || client->drop_left != 0 ||
           client->line_end_left != 0;
}

void
table_large_drop(struct table_tenant *tenant, struct table_large *large, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (large[i].draft.units != 0)
            table_drop_draft(tenant->table, &large[i].draft);
}

void
table_large_clear(struct table_client *client)
{
    table_large_drop(client->tenant, client->large, client->large_count);
    base_free(client->large);
    base_free(client->large_args);
    client->large = NULL;
    client->large_args = NULL;
    client->large_count = client->large_cap = 0;
}
