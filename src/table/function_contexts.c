/* SPDX-License-Identifier: Apache-2.0 */
/*
 * function_contexts.c - which tenants of a worker have a context in the engine: those that called
 * last, in a list from the newest to the oldest, so many and no more.
 */
#include "table/functions.h"
#include "table/worker_priv.h"

void
table_functions_unlist(struct table_functions *functions)
{
    struct table_worker *worker = functions->worker;
    if (!functions->listed)
        return;
    *(functions->newer != NULL ? &functions->newer->older : &worker->newest) = functions->older;
    *(functions->older != NULL ? &functions->older->newer : &worker->oldest) = functions->newer;
    functions->newer = functions->older = NULL;
    functions->listed = false;
    worker->context_count--;
}

void
table_functions_touch(struct table_functions *functions)
{
    struct table_worker *worker = functions->worker;
    if (worker->newest == functions || functions->registry->context == NULL)
        return;
    table_functions_unlist(functions);
    functions->older = worker->newest;
    *(worker->newest != NULL ? &worker->newest->newer : &worker->oldest) = functions;
    worker->newest = functions;
    functions->listed = true;
    worker->context_count++;
    while (worker->context_count > TABLE_CONTEXTS_KEPT)
        table_functions_forget(worker->oldest->tenant);
}

void
table_functions_drop_contexts(struct table_functions *functions)
{
    struct table_worker *worker = functions->worker;
    if (!functions->drop)
        return;
    functions->drop = false;
    table_functions_forget(functions->tenant);
    while (functions->drop_all && worker->oldest != NULL)
        table_functions_forget(worker->oldest->tenant);
    functions->drop_all = false;
}
