/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_save.c - snapshots on request. They are taken beside the commands, so there is no SAVE, which
 * stops all others in Redis.
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

int
table_cmd_bgsave(struct table_call *call)
{
    const struct table_worker_options *options = &call->worker->options;
    if (call->arg_count > 2 ||
        (call->arg_count == 2 && !table_arg_is(&call->args[1], "schedule")))
        return table_call_syntax_error(call);
    int rc = options->save != NULL ? options->save(options->context, call->tenant->id)
                                   : dor_fail(DOR_E_USAGE, "this table is in memory alone");
    if (rc == 0)
        table_reply_status(call->reply, "Background saving started");
    else if (rc == DOR_E_BUSY)
        table_reply_error(call->reply, "ERR Background save already in progress");
    else
        table_reply_error(call->reply, "ERR %s", dor_err_message());
    return 0;
}

int
table_cmd_save(struct table_call *call)
{
    table_reply_error(
        call->reply,
        "ERR SAVE would stop everybody else: take BGSAVE, and LASTSAVE tells its end");
    return 0;
}

int
table_cmd_lastsave(struct table_call *call)
{
    struct table_saving saving;
    table_cmd_saving(call, &saving);
    table_reply_integer(call->reply, saving.saved_ms / MS_PER_S);
    return 0;
}
