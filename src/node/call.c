/* SPDX-License-Identifier: Apache-2.0 */
/*
 * call.c - calls and their references.
 */
#include "node/call.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

struct node_call *
node_call_new(struct node *node, const struct node_route *route)
{
    struct node_call *call = base_zalloc(sizeof *call);
    if (call == NULL)
        return NULL;
    call->node = node;
    call->route = route;
    call->spool_fd = call->file_fd = -1;
    call->content_type = "application/json";
    call->created_ns = base_clock_realtime_ns();
    atomic_init(&call->references, 1);
    return call;
}

struct node_call *
node_call_ref(struct node_call *call)
{
    atomic_fetch_add_explicit(&call->references, 1, memory_order_relaxed);
    return call;
}

void
node_call_unref(struct node_call *call)
{
    if (call == NULL ||
        atomic_fetch_sub_explicit(&call->references, 1, memory_order_acq_rel) > 1)
        return;
    json_decref(call->body);
    base_free(call->query);
    free(call->text);
    base_auto_close(&call->spool_fd);
    base_auto_close(&call->file_fd);
    base_free(call);
}

int
node_call_progress(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    struct node_call *call = context;
    if (total_bytes > 0) {
        atomic_store_explicit(&call->done_bytes, done_bytes, memory_order_relaxed);
        atomic_store_explicit(&call->total_bytes, total_bytes, memory_order_relaxed);
    }
    return atomic_load_explicit(&call->cancelled, memory_order_relaxed);
}

int
node_call_json(struct node_call *call, json_t *value)
{
    char *text = value == NULL ? NULL : json_dumps(value, JSON_COMPACT);
    json_decref(value);
    if (text == NULL)
        return dor_fail(DOR_E_NO_MEMORY, "no memory for the JSON of the answer");
    call->text = text;
    call->text_bytes = strlen(text);
    return 0;
}
