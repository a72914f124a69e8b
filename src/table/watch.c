/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch.c - marks on watched keys, in chains by the key's hash. A key may be there or not, so marks
 * hold its bytes; nobody pays for them while nobody watches.
 */
#include "table/watch.h"

#include <string.h>

#include "base/mem.h"
#include "table/worker_priv.h"

enum { CHAINS = 256 };

struct table_watches {
    struct table_watch *chains[CHAINS];
};

struct table_watched {
    struct table_watched *next_of_client;
    struct table_watch *watch;
};

struct table_watch {
    struct table_watch *next, *previous; /* in the chain */
    struct table_client *client;
    uint32_t hash, length;
    bool exists;
    uint8_t bytes[];
};

static bool
is_of_key(const struct table_watch *watch, const struct table_key *key)
{
    return watch->hash == key->hash && watch->length == key->length &&
           memcmp(watch->bytes, key->bytes, key->length) == 0;
}

int
table_watch_add(struct table_client *client, const struct table_key *key, bool exists)
{
    struct table_tenant *tenant = client->tenant;
    struct table_watches *watches = tenant->watches;
    if (watches == NULL) {
        watches = base_zalloc(sizeof *watches);
        if (watches == NULL)
            return DOR_E_NO_MEMORY;
        tenant->watches = base_keep(watches);
    }
    struct table_watch **chain = &watches->chains[key->hash % CHAINS];
    for (struct table_watch *watch = *chain; watch != NULL; watch = watch->next)
        if (watch->client == client && is_of_key(watch, key))
            return 0;
    struct table_watched *watched = base_alloc(sizeof *watched);
    struct table_watch *watch = base_alloc(sizeof *watch + key->length);
    if (watched == NULL || watch == NULL) {
        base_free(watched);
        base_free(watch);
        return DOR_E_NO_MEMORY;
    }
    *watch = (struct table_watch){
        .next = *chain,
        .client = client,
        .hash = key->hash,
        .length = key->length,
        .exists = exists,
    };
    if (key->length != 0)
        memcpy(watch->bytes, key->bytes, key->length);
    if (*chain != NULL)
        (*chain)->previous = watch;
    *chain = watch;
    *watched = (struct table_watched){.next_of_client = client->watched, .watch = watch};
    client->watched = watched;
    tenant->watch_count++;
    return 0;
}

void
table_client_unwatch(struct table_client *client)
{
    struct table_tenant *tenant = client->tenant;
    while (client->watched != NULL) {
        struct table_watched *watched = client->watched;
        struct table_watch *watch = watched->watch;
        client->watched = watched->next_of_client;
        if (watch->previous != NULL)
            watch->previous->next = watch->next;
        else
            tenant->watches->chains[watch->hash % CHAINS] = watch->next;
        if (watch->next != NULL)
            watch->next->previous = watch->previous;
        tenant->watch_count--;
        base_free(watch);
        base_free(watched);
    }
    client->watch_broken = false;
}

void
table_watch_changed(struct table_tenant *tenant, const struct table_key *key)
{
    if (key != NULL) {
        for (struct table_watch *watch = tenant->watches->chains[key->hash % CHAINS];
             watch != NULL; watch = watch->next)
            if (is_of_key(watch, key))
                watch->client->watch_broken = true;
        return;
    }
    for (unsigned i = 0; i < CHAINS; i++)
        for (struct table_watch *watch = tenant->watches->chains[i]; watch != NULL;
             watch = watch->next)
            if (watch->exists)
                watch->client->watch_broken = true;
}

void
table_watch_expire(struct table_client *client)
{
    for (const struct table_watched *watched = client->watched; watched != NULL;
         watched = watched->next_of_client) {
        const struct table_watch *watch = watched->watch;
        struct table_key key;
        struct table_value value;
        if (table_key(client->tenant->table, watch->bytes, watch->length, &key))
            (void)table_find(client->tenant->table, &key, false, &value);
    }
}

void
table_watch_free(struct table_tenant *tenant)
{
    base_free(tenant->watches);
    tenant->watches = NULL;
}
