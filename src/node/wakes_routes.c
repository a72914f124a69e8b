/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wakes_routes.c - what clients of the daemon ask of wakes.
 */
#include "node/node.h"
#include "node/shape.h"
#include "node/wakes_priv.h"

#include <poll.h>

#include "base/err.h"

enum { MODE_USUAL = 0600, LOOK_MS = 20 };

static const char *
state_name(const struct node_wake *wake)
{
    if (wake->gone)
        return "ended";
    if (wake->ending)
        return "ending";
    return wake->started ? "listening" : "starting";
}

static json_t *
describe(struct node_wakes *wakes, struct node_wake *wake)
{
    base_mutex_lock(&wakes->mutex);
    struct node_wake_info info = {
        .id = wake->id,
        .snapshot = wake->snapshot,
        .state = state_name(wake),
        .socket = wake->socket_path,
        .created_ns = wake->created_ns,
        .connected = wake->started ? wake_uffd_client_count(wake->uffd) : 0};
    wake_uffd_stat_of(&wake->counters, &info.stat);
    base_mutex_unlock(&wakes->mutex);
    return node_shape_wake(&info);
}

/* The one after WAKE, whose reference is given back; the first for NULL. */
static struct node_wake *
next_of(struct node_wakes *wakes, struct node_wake *wake)
{
    base_mutex_lock(&wakes->mutex);
    struct node_wake *next = wake == NULL ? wakes->first : wake->next;
    if (next != NULL)
        next->references++;
    base_mutex_unlock(&wakes->mutex);
    if (wake != NULL)
        node_wake_unref(wakes, wake);
    return next;
}

int
node_wakes_run(struct node_call *call)
{
    struct node_wakes *wakes = &call->node->wakes;
    struct dor_wake_stat stat;
    dor_wake_server_stat(call->node->wake_server, &stat);
    json_t *list = json_array();
    for (struct node_wake *wake = next_of(wakes, NULL); wake != NULL;
         wake = next_of(wakes, wake))
        json_array_append_new(list, describe(wakes, wake));
    return node_call_json(
        call, json_pack("{s:o, s:o}", "server", node_shape_wake_server(&stat), "wakes", list));
}

int
node_wake_run(struct node_call *call)
{
    struct node_wakes *wakes = &call->node->wakes;
    struct node_wake *wake = node_wakes_find(wakes, call->parameters[0]);
    if (wake == NULL)
        return DOR_E_NOT_FOUND;
    int rc = node_call_json(call, describe(wakes, wake));
    node_wake_unref(wakes, wake);
    return rc;
}

int
node_wake_add_run(struct node_call *call)
{
    struct node_wakes *wakes = &call->node->wakes;
    const struct node_values *values = &call->values;
    struct node_wake *wake = NULL;
    struct wake_uffd_how how;
    mode_t mode = MODE_USUAL;
    int rc =
        values->socket_mode == NULL ? 0 : node_config_read_mode(values->socket_mode, &mode);
    if (rc == 0)
        rc = node_wake_new(call->parameters[0], values, &wake, &how);
    if (rc == 0)
        rc = node_wakes_insert(wakes, wake);
    if (rc == 0)
        rc = node_wake_start(wakes, wake, values->path, mode, call->body, &how);
    if (rc != 0)
        return rc;
    return node_wake_run(call);
}

/* The answer has the numbers of the whole wake. */
int
node_wake_end_run(struct node_call *call)
{
    struct node_wakes *wakes = &call->node->wakes;
    struct node_wake *wake = node_wakes_find(wakes, call->parameters[0]);
    if (wake == NULL)
        return DOR_E_NOT_FOUND;
    node_wake_end(wakes, wake);
    bool gone = false;
    while (!gone && !atomic_load_explicit(&call->cancelled, memory_order_relaxed)) {
        base_mutex_lock(&wakes->mutex);
        gone = wake->gone;
        base_mutex_unlock(&wakes->mutex);
        if (!gone)
            poll(NULL, 0, LOOK_MS);
    }
    int rc = gone ? node_call_json(call, describe(wakes, wake))
                  : dor_fail(DOR_E_BUSY, "wake %s: it still has clients", wake->id);
    node_wake_unref(wakes, wake);
    return rc;
}
