/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker_leave.c - a tenant whose functions overrun their limits leaves the worker that it shares,
 * so that the others there wait for it once and not again.
 *
 *     overran --turn's end--> clients go back to the front, replies first --> nobody is left
 *
 * Who is in the middle of something that no other worker can go on with is cut off.
 */
#include "table/worker_priv.h"

#include "base/err.h"

void
table_worker_overran(struct table_worker *worker, struct table_tenant *tenant)
{
    if (tenant->leaving || worker->options.overran == NULL ||
        !worker->options.overran(worker->options.context, tenant->id))
        return;
    tenant->leaving = true;
    worker->any_leaving = true;
    /* None of its other requests is run in this turn. */
    worker->must_leave = true;
}

static bool
can_go_on_elsewhere(const struct table_client *client)
{
    return client->multi == NULL && client->watched == NULL && !client->large_coming &&
           client->large_count == 0 && client->drop_left == 0 && client->line_end_left == 0 &&
           !client->reply_off && !client->reply_skip && !client->reply_skip_next;
}

void
table_worker_send_away(struct table_worker *worker)
{
    worker->must_leave = false;
    if (!worker->any_leaving)
        return;
    worker->any_leaving = false;
    for (struct table_tenant *tenant = worker->tenants; tenant != NULL; tenant = tenant->next)
        for (struct table_client *client = tenant->leaving ? tenant->clients : NULL;
             client != NULL; client = client->next) {
            if (client->closed || client->closing || client->handing_back)
                continue;
            if (can_go_on_elsewhere(client))
                client->handing_back = true;
            else
                client->closing = true;
            table_worker_add_pending(client);
        }
}
