/* SPDX-License-Identifier: Apache-2.0 */
/*
 * routes.c - the rows of routes.def as a table, and the routes that are answered at once.
 */
#include "base/clock.h"
#include "base/cpu.h"
#include "base/mem.h"
#include "base/size.h"
#include "base/version.h"
#include "node/node.h"
#include "node/openapi.h"
#include "node/shape.h"

#include <stdlib.h>
#include <string.h>

#define ROUTE(method, path, name, where, body)                                                 \
    {#method, path, #body, NODE_##where, node_##name##_run},
const struct node_route node_routes[] = {
#include "node/routes.def"
};
#undef ROUTE
const size_t node_route_count = ARRAY_LEN(node_routes);

int
node_version_run(struct node_call *call)
{
    return node_call_json(
        call, json_pack(
                  "{s:s, s:s, s:s, s:o, s:o}", "version", DORMOUSE_VERSION, "cpu",
                  base_cpu_level_name(base_cpu_level()), "compiler", __VERSION__, "store",
                  node_shape_text(call->node->directory), "started",
                  node_shape_time(call->node->started_ns)));
}

int
node_openapi_run(struct node_call *call)
{
    call->text = malloc(node_openapi_bytes);
    if (call->text == NULL)
        return dor_fail(DOR_E_NO_MEMORY, "no memory for the document");
    memcpy(call->text, node_openapi, node_openapi_bytes);
    call->text_bytes = node_openapi_bytes;
    return 0;
}

int
node_jobs_run(struct node_call *call)
{
    return node_call_json(call, json_pack("{s:o}", "jobs", node_jobs_list(&call->node->jobs)));
}

int
node_job_run(struct node_call *call)
{
    struct node_call *job = node_jobs_find(&call->node->jobs, call->parameters[0]);
    if (job == NULL)
        return DOR_E_NOT_FOUND;
    int rc = node_call_json(call, node_jobs_describe(&call->node->jobs, job, true));
    node_call_unref(job);
    return rc;
}

int
node_cancel_run(struct node_call *call)
{
    struct node_call *job = node_jobs_find(&call->node->jobs, call->parameters[0]);
    if (job == NULL)
        return DOR_E_NOT_FOUND;
    node_jobs_cancel(&call->node->jobs, job);
    int rc = node_call_json(call, node_jobs_describe(&call->node->jobs, job, false));
    node_call_unref(job);
    return rc;
}
