/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenants.c - tables hosted by the daemon: the front in a thread of its own, and what clients of
 * the daemon ask of tenants. They change the same file as the command line does, and the front
 * rereads it.
 */
#include "node/tenants.h"

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "node/node.h"
#include "node/shape.h"
#include "table/front.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { SETTINGS_MAX = 64 };

/* ------------------------------------------------------------------ the front */

static void
run_front(void *context)
{
    struct table_front *front = context;
    if (table_front_run(front) != 0)
        dor_log(ERROR, "node", "front_failed", "error=\"%s\"", dor_err_message());
}

int
node_tenants_start(struct node *node, const struct dor_daemon *daemon)
{
    struct node_tenants *tenants = &node->tenants;
    char directory[PATH_MAX];
    struct dor_table table = {
        .listen_count = daemon->resp_count,
        .directory = directory,
    };
    if (daemon->resp_count == 0)
        return 0;
    if (daemon->resp_count > DOR_TABLE_LISTEN_MAX)
        return dor_fail(DOR_E_USAGE, "more than %d places to listen at", DOR_TABLE_LISTEN_MAX);
    memcpy(table.listen, daemon->resp, daemon->resp_count * sizeof daemon->resp[0]);
    int bytes = daemon->tenants_path != NULL
                    ? snprintf(tenants->path, sizeof tenants->path, "%s", daemon->tenants_path)
                    : snprintf(
                          tenants->path, sizeof tenants->path, "%s/%s", node->directory,
                          NODE_TENANTS_NAME);
    if (bytes >= (int)sizeof tenants->path)
        return dor_fail(DOR_E_USAGE, "the path of the tenants is too long");
    table.tenants_path = tenants->path;
    if (snprintf(directory, sizeof directory, "%s/tables", node->directory) >=
        (int)sizeof directory)
        return dor_fail(DOR_E_USAGE, "the path of the tables is too long");
    int rc = dor_table_keeper_open(directory, &tenants->keeper);
    table.keeper = tenants->keeper;
    if (rc == 0)
        rc = table_front_open(&table, &tenants->front);
    if (rc != 0) {
        dor_table_keeper_close(TAKE(tenants->keeper));
        return rc;
    }
    rc = base_thread_start(&tenants->thread, "table-front", run_front, tenants->front);
    if (rc != 0) {
        table_front_close(TAKE(tenants->front));
        dor_table_keeper_close(TAKE(tenants->keeper));
    }
    return rc;
}

void
node_tenants_reload(struct node *node)
{
    if (node->tenants.front != NULL)
        table_front_reload(node->tenants.front);
}

void
node_tenants_stop(struct node *node)
{
    if (node->tenants.front == NULL)
        return;
    table_front_stop(node->tenants.front);
    base_thread_join(&node->tenants.thread);
    table_front_close(TAKE(node->tenants.front));
    dor_table_keeper_close(TAKE(node->tenants.keeper));
}

void
node_tenants_print_metrics(struct node *node, FILE *out)
{
    if (node->tenants.front != NULL)
        table_front_print_metrics(node->tenants.front, out);
}

/* ------------------------------------------------------------------ routes */

static int
need_front(const struct node *node)
{
    return node->tenants.front != NULL
               ? 0
               : dor_fail(DOR_E_UNSUPPORTED, "this daemon has no tables; start it with --resp");
}

static void
add_row(void *context, const struct table_front_tenant_info *tenant)
{
    json_t *row = json_pack(
        "{s:o, s:o, s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "name",
        node_shape_text(tenant->name), "domain", node_shape_text(tenant->domain), "isolation",
        tenant->is_shared ? "shared" : "process", "has_password", tenant->has_password,
        "limit_bytes", node_shape_u64(tenant->limit_bytes), "worker",
        node_shape_u64((uint64_t)tenant->worker), "keys", node_shape_u64(tenant->keys),
        "used_bytes", node_shape_u64(tenant->used_bytes), "connections",
        node_shape_u64(tenant->connections), "commands", node_shape_u64(tenant->commands),
        "calls", node_shape_u64(tenant->calls), "failed_calls",
        node_shape_u64(tenant->failed_calls));
    json_array_append_new(context, row);
}

int
node_tenants_run(struct node_call *call)
{
    int rc = need_front(call->node);
    if (rc != 0)
        return rc;
    json_t *list = json_array();
    table_front_tenants_each(call->node->tenants.front, add_row, list);
    return node_call_json(call, json_pack("{s:o}", "tenants", list));
}

int
node_tenant_add_run(struct node_call *call)
{
    struct dor_tenant_setting settings[SETTINGS_MAX];
    size_t count = 0;
    const char *key = NULL;
    json_t *value = NULL;
    int rc = need_front(call->node);
    json_object_foreach(call->values.settings, key, value)
    {
        if (count < SETTINGS_MAX)
            settings[count++] = (struct dor_tenant_setting){key, json_string_value(value)};
    }
    if (rc == 0)
        rc = dor_tenant_add(
            call->node->tenants.path, call->parameters[0], call->values.password, settings,
            count);
    if (rc != 0)
        return rc;
    node_tenants_reload(call->node);
    return node_call_json(
        call, json_pack("{s:o}", "name", node_shape_text(call->parameters[0])));
}

int
node_tenant_remove_run(struct node_call *call)
{
    int rc = need_front(call->node);
    if (rc == 0)
        rc = dor_tenant_remove(call->node->tenants.path, call->parameters[0]);
    if (rc != 0)
        return rc;
    node_tenants_reload(call->node);
    return node_call_json(
        call, json_pack("{s:o}", "removed", node_shape_text(call->parameters[0])));
}
