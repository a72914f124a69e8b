/* SPDX-License-Identifier: Apache-2.0 */
/*
 * front_apart.c - tenants of shared workers that are put apart. One thread serves all of a shared
 * worker, so whoever overruns a limit makes the others wait; it does so once.
 *
 *     in the shared worker --APART--> leaving --LEFT--> apart, a worker of its own
 *              |                                           |  ten minutes without a call that
 *              +---- its worker was killed for it -------->|  was stopped, and nobody connected
 *              +<------------------------------------------+
 *
 * While it leaves, two workers could write into its table: until the first has let go, its
 * connections wait in the front.
 */
#include "base/log.h"
#include "table/front_priv.h"

bool
front_tenant_shares(const struct front_tenant *tenant)
{
    return tenant->config.options.isolation == TABLE_ISOLATION_SHARED && !tenant->apart;
}

void
front_tenant_put_apart(struct table_front *front, struct front_tenant *tenant)
{
    if (!front_tenant_shares(tenant))
        return;
    tenant->apart = true;
    tenant->apart_until_ns = front->now_ns + FRONT_APART_NS;
    tenant->apart_failures = 0;
    base_counter_add(&front->counters.apart_tenants, 1);
    dor_log(
        WARN, "table", "tenant_apart", "tenant=%s domain=%s", tenant->config.name,
        tenant->config.domain);
}

void
front_apart_hear(struct table_front *front, const struct front_worker *worker, uint32_t id)
{
    struct front_tenant *tenant = front_tenant_by_id(front, id);
    if (tenant == NULL || tenant->worker != worker || !worker->shared || !tenant->sent)
        return;
    front_tenant_put_apart(front, tenant);
    tenant->leaving = true;
}

void
front_left_hear(struct front_worker *worker, uint32_t id)
{
    struct front_tenant *tenant = front_tenant_by_id(worker->front, id);
    if (tenant == NULL || tenant->worker != worker || !tenant->leaving)
        return;
    tenant->is_new = false;
    tenant->recover = true;
    front_kept_worker_died(tenant);
    front_worker_forget(worker, tenant);
    if (worker->used_rows == 0)
        front_worker_retire(worker);
}

void
front_apart_round(struct table_front *front)
{
    for (struct front_worker *worker = front->workers; worker != NULL; worker = worker->next) {
        struct front_tenant *tenant = worker->shared ? NULL : worker->tenants[0];
        if (tenant == NULL || !tenant->apart || worker->status == NULL || worker->retired)
            continue;
        const struct table_status_row *row = table_status_row(worker->status, 0);
        uint64_t failures = table_status_get(&row->failed_calls);
        if (failures != tenant->apart_failures || table_status_get(&row->connections) != 0) {
            if (failures != tenant->apart_failures)
                tenant->apart_until_ns = front->now_ns + FRONT_APART_NS;
            tenant->apart_failures = failures;
        } else if (front->now_ns >= tenant->apart_until_ns) {
            tenant->apart = false;
            front_worker_retire(worker);
        }
    }
}
