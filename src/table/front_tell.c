/* SPDX-License-Identifier: Apache-2.0 */
/*
 * front_tell.c - what the front can be asked: its tenants, and numbers for Prometheus. What workers
 * wrote into their status pages is shown as they wrote it.
 */
#include <inttypes.h>

#include "base/size.h"
#include "table/front_priv.h"

static struct table_front_tenant_info
describe(const struct front_tenant *tenant)
{
    const struct front_worker *worker = tenant->worker;
    struct table_front_tenant_info info = {
        .name = tenant->config.name,
        .domain = tenant->config.domain,
        .is_shared = tenant->config.options.isolation == TABLE_ISOLATION_SHARED,
        .has_password = tenant->config.password[0] != '\0',
        .limit_bytes = tenant->config.options.limit,
    };
    if (worker == NULL || worker->status == NULL || !tenant->sent)
        return info;
    const struct table_status_row *row = table_status_row(worker->status, tenant->slot);
    info.worker = worker->pid;
    info.keys = table_status_get(&row->keys);
    info.used_bytes = table_status_get(&row->used_bytes);
    info.connections = table_status_get(&row->connections);
    info.commands = table_status_get(&row->commands);
    info.calls = table_status_get(&row->calls);
    info.failed_calls = table_status_get(&row->failed_calls);
    return info;
}

void
table_front_tenants_each(
    struct table_front *front,
    void (*visit)(void *context, const struct table_front_tenant_info *tenant), void *context)
{
    base_mutex_lock(&front->mutex);
    for (size_t i = 0; i < front->tenant_count; i++) {
        const struct table_front_tenant_info info = describe(front->by_name[i]);
        visit(context, &info);
    }
    base_mutex_unlock(&front->mutex);
}

void
table_front_print_metrics(struct table_front *front, FILE *out)
{
    uint64_t workers = 0;
    uint64_t served = 0;
    uint64_t keys = 0;
    uint64_t used_bytes = 0;
    base_mutex_lock(&front->mutex);
    for (const struct front_worker *worker = front->workers; worker != NULL;
         worker = worker->next)
        workers += worker->pidfd >= 0;
    for (size_t i = 0; i < front->tenant_count; i++) {
        const struct table_front_tenant_info info = describe(front->by_name[i]);
        served += info.worker != 0;
        keys += info.keys;
        used_bytes += info.used_bytes;
    }
    const struct {
        const char *name, *help;
        uint64_t value;
    } gauges[] = {
        {"tenants", "Tenants that are known.", front->tenant_count},
        {"tenants_served", "Tenants whose tables a worker has open.", served},
        {"workers_running", "Worker processes.", workers},
        {"connections_open", "Connections, authenticated or not.",
         front->client_count + front_workers_connections(front)},
        {"connections_greeting", "Connections that have not authenticated.",
         front->client_count},
        {"keys", "Keys in all tables that are open.", keys},
        {"used_bytes", "Bytes that these take.", used_bytes},
    };
    base_mutex_unlock(&front->mutex);
    for (size_t i = 0; i < ARRAY_LEN(gauges); i++)
        fprintf(
            out,
            "# HELP dormouse_table_%s %s\n# TYPE dormouse_table_%s gauge\n"
            "dormouse_table_%s %" PRIu64 "\n",
            gauges[i].name, gauges[i].help, gauges[i].name, gauges[i].name, gauges[i].value);
    base_counters_print_prometheus(
        table_front_counter_rows, table_front_counter_count, &front->counters, "table", out);
}
