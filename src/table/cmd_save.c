/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_save.c - snapshots on request. They are taken beside the commands: SAVE is a BGSAVE whose
 * client waits for its end, alone; in Redis it stops all others too.
 */
#include "base/err.h"
#include "table/commands.h"
#include "table/worker_priv.h"

enum { MS_PER_S = 1000 };

void
table_cmd_saving(const struct table_call *call, struct table_saving *ret)
{
    const struct table_worker_options *options = &call->worker->options;
    *ret = (struct table_saving){0};
    if (options->saving != NULL)
        options->saving(options->context, call->tenant->id, ret);
}

/* Ask for a snapshot; false, and an error is replied, when none is begun. */
static bool
begin(struct table_call *call)
{
    const struct table_worker_options *options = &call->worker->options;
    int rc = options->save != NULL ? options->save(options->context, call->tenant->id)
                                   : dor_fail(DOR_E_USAGE, "this table is in memory alone");
    if (rc == DOR_E_BUSY)
        table_reply_error(call->reply, "ERR Background save already in progress");
    else if (rc != 0)
        table_reply_error(call->reply, "ERR %s", dor_err_message());
    return rc == 0;
}

int
table_cmd_bgsave(struct table_call *call)
{
    if (call->arg_count > 2 ||
        (call->arg_count == 2 && !table_arg_is(&call->args[1], "schedule")))
        return table_call_syntax_error(call);
    if (begin(call))
        table_reply_status(call->reply, "Background saving started");
    return 0;
}

int
table_cmd_save(struct table_call *call)
{
    if (begin(call)) {
        call->client->saving = true;
        call->client->save_is_silent = call->reply != &call->client->stream.out;
    }
    return 0;
}

void
table_worker_saved(struct table_worker *worker, uint64_t tenant_id, bool failed)
{
    const struct table_tenant *tenant = table_worker_tenant(worker, tenant_id);
    for (struct table_client *client = tenant != NULL ? tenant->clients : NULL; client != NULL;
         client = client->next) {
        if (!client->saving)
            continue;
        client->saving = false;
        if (!client->save_is_silent && failed)
            table_reply_error(&client->stream.out, "ERR");
        else if (!client->save_is_silent)
            table_reply_ok(&client->stream.out);
        table_worker_add_ready(client);
        table_worker_add_pending(client);
    }
}

int
table_cmd_lastsave(struct table_call *call)
{
    struct table_saving saving;
    table_cmd_saving(call, &saving);
    table_reply_integer(call->reply, saving.saved_ms / MS_PER_S);
    return 0;
}
