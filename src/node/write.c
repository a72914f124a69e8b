/* SPDX-License-Identifier: Apache-2.0 */
/*
 * write.c - the routes that change the store. They run one after another in the writer's thread, or
 * while that waits, and share one handle, so that its index is built once.
 */
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "node/node.h"
#include "node/shape.h"

#include <dormouse/transfer.h>
#include <stdio.h>

#define NS_PER_DAY (UINT64_C(86400) * 1000000000)

enum { PROC_PATH_BYTES = 64 };

/* ------------------------------------------------------------------ the writer's handle */

static int
make_options(json_t *settings, struct dor_options **ret)
{
    const char *key = NULL;
    json_t *value = NULL;
    struct dor_options *options = NULL;
    int rc = dor_options_new(&options);
    if (rc != 0)
        return rc;
    json_object_foreach(settings, key, value)
    {
        if (rc == 0)
            rc = dor_options_set(options, key, json_string_value(value));
    }
    if (rc != 0) {
        dor_options_free(options);
        return rc;
    }
    *ret = options;
    return 0;
}

int
node_writer_get(struct node_call *call, struct dor_store **ret)
{
    struct node *node = call->node;
    struct dor_options *options = NULL;
    int rc = 0;
    if (call->values.settings != NULL) {
        rc = make_options(call->values.settings, &options);
        if (rc != 0)
            return rc;
        dor_store_close(TAKE(node->writer));
    }
    if (node->writer == NULL)
        rc = dor_store_open(node->directory, DOR_OPEN_WRITE, options, &node->writer);
    dor_options_free(options);
    if (rc == 0)
        *ret = node->writer;
    return rc;
}

/* Errors of the request leave the handle as it was; after others it is better opened anew. */
static bool
is_harmless(int rc)
{
    return rc == 0 || rc == DOR_E_USAGE || rc == DOR_E_NOT_FOUND || rc == DOR_E_EXISTS ||
           rc == DOR_E_BUSY || rc == DOR_E_DENIED || rc == DOR_E_UNSUPPORTED;
}

void
node_writer_done(struct node_call *call, int rc)
{
    struct node *node = call->node;
    if (is_harmless(rc) && call->values.settings == NULL)
        return;
    struct base_err err = *base_err_record();
    dor_store_close(TAKE(node->writer));
    /* The lock is not to be free for longer than it must. */
    if (dor_store_open(node->directory, DOR_OPEN_WRITE, NULL, &node->writer) != 0)
        dor_log(ERROR, "node", "writer_lost", "error=\"%s\"", dor_err_message());
    base_err_load(&err);
}

/* ------------------------------------------------------------------ put */

int
node_writer_put(struct node_call *call, struct dor_intake *intake, struct dor_put_result *ret)
{
    struct dor_store *store = NULL;
    int rc = node_writer_get(call, &store);
    if (rc != 0)
        return rc;
    rc = dor_intake_put(intake, store, call->parameters[0], node_call_progress, call, ret);
    node_writer_done(call, rc);
    if (rc == 0) {
        base_counter_add(&call->node->counters.put_bytes, ret->total.logical_bytes);
        base_counter_add(&call->node->counters.added_bytes, ret->added_bytes);
    }
    return rc;
}

static int
put_intake(struct node_call *call, const struct dor_intake_options *options)
{
    uint64_t start_ns = base_clock_monotonic_ns();
    const char *name = call->parameters[0];
    struct dor_intake *intake = NULL;
    struct dor_put_result result = {0};
    int rc = dor_name_check(name);
    if (rc == 0)
        rc = dor_intake_open(options, &intake);
    if (rc != 0)
        return rc;
    rc = node_writer_put(call, intake, &result);
    if (rc == 0)
        rc = node_call_json(
            call, node_shape_put(
                      name, &result, base_clock_monotonic_ns() - start_ns,
                      dor_intake_warning(intake)));
    dor_intake_close(intake);
    return rc;
}

int
node_put_run(struct node_call *call)
{
    const struct node_values *values = &call->values;
    if (values->offload != NULL)
        return node_machine_put(call);
    if ((values->image != NULL) == (values->images.count > 0))
        return dor_fail(
            DOR_E_USAGE, "body: one of image, images and offload must say what is put");
    if (values->timeout_ns != 0)
        return dor_fail(DOR_E_USAGE, "body: timeout_ns is for offload");
    const struct dor_intake_options options = {
        .images = values->image != NULL ? &values->image : values->images.items,
        .image_count = values->image != NULL ? 1 : values->images.count,
        .sidecars = values->sidecars.items,
        .sidecar_count = values->sidecars.count,
        .format = values->format,
        .parent = values->parent,
        .domain = values->domain,
        .replace = values->replace,
        .diff = values->diff,
        .drop_free = values->drop_free,
        .no_inspect = values->no_inspect,
        .process = values->process,
        .profile_directory = values->profiles,
        .vmlinux = values->vmlinux,
    };
    return put_intake(call, &options);
}

int
node_upload_run(struct node_call *call)
{
    const struct node_values *values = &call->values;
    char path[PROC_PATH_BYTES];
    const char *paths = path;
    snprintf(path, sizeof path, "/proc/self/fd/%d", call->spool_fd);
    const struct dor_intake_options options = {
        .images = &paths,
        .image_count = 1,
        .format = values->format,
        .parent = values->parent,
        .domain = values->domain,
        .replace = values->replace,
        .drop_free = values->drop_free,
        .no_inspect = values->no_inspect,
        .process = values->process,
    };
    int rc = put_intake(call, &options);
    base_auto_close(&call->spool_fd);
    call->spool_fd = -1;
    return rc;
}

/* ------------------------------------------------------------------ the others */

int
node_remove_run(struct node_call *call)
{
    struct dor_store *store = NULL;
    const char *name = call->parameters[0];
    int rc = dor_name_check(name);
    if (rc == 0)
        rc = node_writer_get(call, &store);
    if (rc != 0)
        return rc;
    rc = dor_store_remove(store, name);
    node_writer_done(call, rc);
    if (rc != 0)
        return rc;
    return node_call_json(call, json_pack("{s:o}", "removed", node_shape_text(name)));
}

int
node_gc_run(struct node_call *call)
{
    struct dor_store *store = NULL;
    struct dor_gc_result result = {0};
    const struct node_values *values = &call->values;
    bool age_given = json_object_get(call->body, "squeeze_age_ns") != NULL;
    const struct dor_gc gc = {
        .squeeze = values->squeeze,
        .cluster = values->cluster,
        .squeeze_age_ns = age_given ? values->squeeze_age_ns : NS_PER_DAY,
        .work_bytes_max = values->work_bytes_max,
        .progress = node_call_progress,
        .progress_context = call,
    };
    if (age_given && !values->squeeze)
        return dor_fail(
            DOR_E_USAGE, "body: squeeze_age_ns is for squeeze; give both or neither");
    int rc = node_writer_get(call, &store);
    if (rc != 0)
        return rc;
    rc = dor_store_gc(store, &gc, &result);
    node_writer_done(call, rc);
    return rc == 0 ? node_call_json(call, node_shape_gc(&result)) : rc;
}

int
node_root_add_run(struct node_call *call)
{
    struct dor_store *store = NULL;
    struct dor_root_info info = {0};
    const struct dor_root_add add = {
        .path = call->values.path,
        .name = call->values.name,
        .domain = call->values.domain,
        .progress = node_call_progress,
        .progress_context = call,
    };
    if (add.path == NULL)
        return dor_fail(DOR_E_USAGE, "body: path must say where the root image is");
    int rc = node_writer_get(call, &store);
    if (rc != 0)
        return rc;
    rc = dor_store_root_add(store, &add, &info);
    node_writer_done(call, rc);
    return rc == 0 ? node_call_json(call, node_shape_root(&info, DOR_ROOT_PRESENT)) : rc;
}

int
node_root_remove_run(struct node_call *call)
{
    struct dor_store *store = NULL;
    const char *name = call->parameters[0];
    int rc = node_writer_get(call, &store);
    if (rc != 0)
        return rc;
    rc = dor_store_root_remove(store, name, call->values.absorb);
    node_writer_done(call, rc);
    if (rc != 0)
        return rc;
    return node_call_json(call, json_pack("{s:o}", "name", node_shape_text(name)));
}
