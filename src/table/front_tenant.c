/* SPDX-License-Identifier: Apache-2.0 */
/*
 * front_tenant.c - the list of tenants as the front has it, sorted by name, and what happens to it
 * when the file is read again: new ones come, those that are missing go with their tables, and
 * others take their new settings at once. A password that changes counts from the next AUTH on,
 * another domain or isolation when the worker that has the table has ended.
 */
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "table/front_priv.h"

/* Index in by_name where NAME is or would be. */
static const char *
name_at(const void *list, size_t i)
{
    return ((const struct table_front *)list)->by_name[i]->config.name;
}

static size_t
place_of(const struct table_front *front, const char *name, bool *ret_found)
{
    return table_name_place(name_at, front, front->tenant_count, name, ret_found);
}

struct front_tenant *
front_tenant_find(const struct table_front *front, const char *name)
{
    bool found = false;
    size_t at = place_of(front, name, &found);
    return found ? front->by_name[at] : NULL;
}

struct front_tenant *
front_tenant_by_id(const struct table_front *front, uint32_t id)
{
    for (size_t i = 0; i < front->tenant_count; i++)
        if (front->by_name[i]->id == id)
            return front->by_name[i];
    return NULL;
}

void
front_tenant_message(const struct front_tenant *tenant, struct table_message *ret)
{
    const struct table_tenant_options *options = &tenant->config.options;
    *ret = (struct table_message){.id = tenant->id};
    memcpy(ret->tenant.name, tenant->config.name, sizeof tenant->config.name);
    ret->tenant.is_new = tenant->is_new;
    ret->tenant.recover = tenant->recover;
    ret->tenant.policy = (uint8_t)options->policy;
    ret->tenant.log = (uint8_t)(tenant->kept != NULL ? options->log : TABLE_LOG_OFF);
    ret->tenant.fills = tenant->fill_socket >= 0;
    struct table_kept_stat stat = {0};
    if (tenant->kept != NULL)
        table_kept_stat(tenant->kept, &stat);
    ret->tenant.saved_ms = stat.snapshot_ns / 1000000;
    ret->tenant.slot = tenant->slot;
    ret->tenant.calls_max = (uint32_t)options->calls;
    ret->tenant.limit_bytes = options->limit;
    ret->tenant.heap_bytes = options->heap;
    ret->tenant.call_ms = options->call_ms;
}

/* ------------------------------------------------------------------ changes */

static int
add(struct table_front *front, size_t at, const struct table_tenant_config *config)
{
    struct front_tenant **grown = base_realloc_array(
        front->by_name, front->tenant_count + 1, sizeof(struct front_tenant *));
    if (grown == NULL)
        return DOR_E_NO_MEMORY;
    front->by_name = grown;
    struct front_tenant *tenant = base_zalloc(sizeof *tenant);
    if (tenant == NULL)
        return DOR_E_NO_MEMORY;
    *tenant = (struct front_tenant){
        .config = *config,
        .id = ++front->next_tenant_id,
        .arena_fd = -1,
        .fill_socket = -1,
        .fill_device = -1,
        .is_new = true,
        .listed = true,
    };
    memmove(
        &grown[at + 1], &grown[at], (front->tenant_count - at) * sizeof(struct front_tenant *));
    grown[at] = tenant;
    front->tenant_count++;
    return 0;
}

static int
take(struct table_front *front, const struct table_tenant_config *config)
{
    bool found = false;
    size_t at = place_of(front, config->name, &found);
    if (!found)
        return add(front, at, config);
    struct front_tenant *tenant = front->by_name[at];
    tenant->listed = true;
    tenant->config = *config;
    front_worker_tell_change(tenant);
    return 0;
}

static void
free_tenant(struct table_front *front, struct front_tenant *tenant)
{
    front_worker_tell_remove(tenant);
    for (struct front_client *client = front->clients; client != NULL; client = client->next)
        if (client->tenant == tenant)
            front_client_close(front, client);
    front_kept_close(tenant);
    base_close_fd(&tenant->arena_fd);
    explicit_bzero(tenant, sizeof *tenant);
    base_free(tenant);
}

static void
drop_unlisted(struct table_front *front)
{
    size_t kept = 0;
    for (size_t i = 0; i < front->tenant_count; i++) {
        struct front_tenant *tenant = front->by_name[i];
        if (tenant->listed)
            front->by_name[kept++] = tenant;
        else
            free_tenant(front, tenant);
    }
    front->tenant_count = kept;
}

int
front_tenants_load(struct table_front *front)
{
    struct table_tenants list = {0};
    int rc = 0;
    if (front->tenants_path != NULL) {
        rc = table_tenants_load(front->tenants_path, &list);
    } else {
        struct table_tenant_config config;
        rc = table_tenant_config_init(TABLE_DEFAULT_TENANT, &config);
        if (rc == 0)
            rc = table_tenants_add(&list, &config);
    }
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < front->tenant_count; i++)
        front->by_name[i]->listed = false;
    for (size_t i = 0; rc == 0 && i < list.count; i++)
        rc = take(front, &list.items[i]);
    /* Without memory for the new ones, nobody goes. */
    if (rc == 0)
        drop_unlisted(front);
    table_tenants_fini(&list);
    return rc;
}

void
front_tenants_free(struct table_front *front)
{
    for (size_t i = 0; i < front->tenant_count; i++) {
        front_kept_close(front->by_name[i]);
        base_close_fd(&front->by_name[i]->arena_fd);
        explicit_bzero(front->by_name[i], sizeof *front->by_name[i]);
        base_free(front->by_name[i]);
    }
    base_free(front->by_name);
    front->by_name = NULL;
    front->tenant_count = 0;
}
