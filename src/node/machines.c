/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machines.c - machines that monitors hand over, and that are given back to them. Both run apart,
 * since a monitor may take as long as it likes to come; a machine that is taken comes to the writer
 * only when it is here as a whole. The monitor hears that all is well when all is on disk.
 */
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "node/node.h"
#include "node/shape.h"

#include <dormouse/offload.h>
#include <stdio.h>

struct taking {
    struct node_call *call;
    bool connected;
};

static bool
is_cancelled(const struct node_call *call)
{
    return atomic_load_explicit(&call->cancelled, memory_order_relaxed);
}

/* A daemon that ends waits for a monitor that has begun, but not for one that has not come. */
static int
is_over(void *context)
{
    const struct taking *taking = context;
    return is_cancelled(taking->call) ||
           (!taking->connected && node_jobs_closed(&taking->call->node->jobs));
}

/* ------------------------------------------------------------------ taking */

static int
make_options(const struct node_values *values, struct dor_intake_options *ret)
{
    static const char *const machine[] = {"the machine"};
    *ret = (struct dor_intake_options){
        .images = machine,
        .image_count = 1,
        .sidecars = values->sidecars.items,
        .sidecar_count = values->sidecars.count,
        .parent = values->parent,
        .domain = values->domain,
        .replace = values->replace,
        .drop_free = values->drop_free,
        .no_inspect = values->no_inspect,
        .process = values->process,
        .profile_directory = values->profiles,
        .vmlinux = values->vmlinux,
    };
    if (values->image != NULL || values->images.count > 0)
        return dor_fail(
            DOR_E_USAGE, "body: one of image, images and offload must say what is put");
    if (values->diff || values->format != NULL)
        return dor_fail(DOR_E_USAGE, "body: a machine is taken whole, without diff and format");
    return dor_intake_check(ret);
}

static int
put_in_turn(struct node_call *call, struct dor_intake *intake, struct dor_put_result *ret)
{
    int rc = node_jobs_enter(&call->node->jobs, call);
    if (rc != 0)
        return rc;
    rc = node_writer_put(call, intake, ret);
    node_jobs_leave(&call->node->jobs, call);
    return rc;
}

/* *RET_WARNING is borrowed from INTAKE or static. */
static int
store(
    struct node_call *call, struct dor_offload *offload, struct dor_intake *intake,
    struct dor_put_result *ret, const char **ret_warning)
{
    int rc = put_in_turn(call, intake, ret);
    if (rc != 0)
        return rc;
    *ret_warning = dor_intake_warning(intake);
    if (dor_offload_answer(offload, true) != 0) {
        dor_log(WARN, "node", "machine_unanswered", "error=\"%s\"", dor_err_message());
        *ret_warning = "is stored, but the monitor was not there to be told";
    }
    return 0;
}

/* The monitor waits for an answer from the end of dor_offload_receive() on. */
static int
take(
    struct node_call *call, struct dor_offload *offload,
    const struct dor_intake_options *options)
{
    uint64_t start_ns = base_clock_monotonic_ns();
    struct dor_image *image = NULL;
    struct dor_intake *intake = NULL;
    struct dor_put_result result = {0};
    const char *warning = "";
    int rc = dor_offload_receive(offload, &image);
    if (rc != 0)
        return rc;
    rc = dor_intake_open_image(options, image, &intake);
    if (rc == 0)
        rc = store(call, offload, intake, &result, &warning);
    if (rc != 0) {
        struct base_err err = *base_err_record();
        if (dor_offload_answer(offload, false) != 0)
            dor_log(INFO, "node", "machine_unanswered", "error=\"%s\"", dor_err_message());
        base_err_load(&err);
    } else {
        uint64_t elapsed_ns = base_clock_monotonic_ns() - start_ns;
        rc = node_call_json(
            call, node_shape_put(call->parameters[0], &result, elapsed_ns, warning));
    }
    dor_intake_close(intake);
    return rc;
}

int
node_machine_put(struct node_call *call)
{
    struct taking taking = {.call = call};
    struct dor_intake_options options;
    struct dor_offload *offload = NULL;
    const struct dor_offload_options how = {
        .silence_ns = call->values.timeout_ns, .stop = is_over, .stop_context = &taking};
    int rc = dor_name_check(call->parameters[0]);
    if (rc == 0)
        rc = make_options(&call->values, &options);
    if (rc == 0)
        rc = dor_offload_accept(call->values.offload, &how, &offload);
    if (rc != 0)
        return rc;
    taking.connected = true;
    rc = take(call, offload, &options);
    dor_offload_close(offload);
    return rc;
}

/* ------------------------------------------------------------------ giving */

static int
is_call_cancelled(void *context)
{
    return is_cancelled(context);
}

int
node_offload_run(struct node_call *call)
{
    const struct node_values *values = &call->values;
    const char *name = call->parameters[0];
    struct dor_offload_wake_stat stat = {0};
    const struct dor_offload_wake how = {
        .options =
            {
                .silence_ns = values->timeout_ns,
                .stop = is_call_cancelled,
                .stop_context = call,
            },
        .resume = values->resume,
        .postcopy = values->postcopy,
        .no_fill = values->no_fill,
    };
    if (values->path == NULL)
        return dor_fail(DOR_E_USAGE, "body: socket must say where the monitor waits");
    if (how.no_fill && !how.postcopy)
        return dor_fail(
            DOR_E_USAGE, "body: no_fill needs postcopy, or the machine would lack its memory");
    int rc = dor_name_check(name);
    if (rc == 0)
        rc = dor_offload_wake(call->node->wake_server, name, values->path, &how, &stat);
    return rc == 0 ? node_call_json(call, node_shape_offload(name, &stat)) : rc;
}
