/* SPDX-License-Identifier: Apache-2.0 */
/*
 * read.c - the routes that only read the store, each with a handle of its own, so that they run
 * beside each other and beside the writer.
 */
#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/size.h"
#include "node/node.h"
#include "node/shape.h"

#include <dormouse/transfer.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define AUTO_STORE    __attribute__((cleanup(close_store)))
#define AUTO_SNAPSHOT __attribute__((cleanup(close_snapshot)))
#define AUTO_JSON     __attribute__((cleanup(release_json)))

static void
close_store(struct dor_store **store)
{
    dor_store_close(*store);
}

static void
close_snapshot(struct dor_snapshot **snapshot)
{
    dor_snapshot_close(*snapshot);
}

static void
release_json(json_t **json)
{
    json_decref(*json);
}

static int
no_memory(void)
{
    return dor_fail(DOR_E_NO_MEMORY, "no memory for the answer");
}

static int
open_snapshot(struct node_call *call, struct dor_store **ret_store, struct dor_snapshot **ret)
{
    int rc = dor_name_check(call->parameters[0]);
    if (rc == 0)
        rc = node_reader_open(call, ret_store);
    return rc == 0 ? dor_snapshot_open(*ret_store, call->parameters[0], ret) : rc;
}

/* ------------------------------------------------------------------ looking */

int
node_stat_run(struct node_call *call)
{
    AUTO_STORE struct dor_store *store = NULL;
    struct dor_stat stat = {0};
    int rc = node_reader_open(call, &store);
    if (rc == 0)
        rc = dor_store_stat(store, &stat);
    return rc == 0 ? node_call_json(call, node_shape_stat(&stat)) : rc;
}

/* In short; null when there is none that can be read. */
static json_t *
working_set_brief(struct dor_store *store, const char *name)
{
    struct dor_working_set working_set;
    if (dor_working_set_read(store, name, &working_set) != 0)
        return json_null();
    json_t *json = node_shape_working_set_brief(&working_set);
    dor_working_set_fini(&working_set);
    return json;
}

struct rows {
    struct dor_store *store;
    json_t *list;
};

static int
add_row(void *context, const struct dor_snapshot_info *info)
{
    const struct rows *rows = context;
    json_t *row = node_shape_row(info, working_set_brief(rows->store, info->name));
    return json_array_append_new(rows->list, row) == 0 ? 0 : no_memory();
}

int
node_list_run(struct node_call *call)
{
    AUTO_STORE struct dor_store *store = NULL;
    AUTO_JSON json_t *list = json_array();
    int rc = node_reader_open(call, &store);
    struct rows rows = {store, list};
    if (rc == 0)
        rc = dor_store_list(store, add_row, &rows);
    return rc == 0 ? node_call_json(call, json_pack("{s:O}", "snapshots", list)) : rc;
}

static int
list_sidecars(struct dor_snapshot *snapshot, json_t *rows)
{
    size_t count = (size_t)dor_snapshot_info(snapshot)->sidecar_count;
    for (size_t i = 0; i < count; i++) {
        char name[DOR_NAME_BYTES_MAX + 1];
        AUTO_FREE void *data = NULL;
        size_t size_bytes = 0;
        int rc = dor_snapshot_read_sidecar(snapshot, i, name, &data, &size_bytes);
        if (rc != 0)
            return rc;
        if (json_array_append_new(
                rows, json_pack(
                          "{s:o, s:o}", "name", node_shape_text(name), "size_bytes",
                          node_shape_u64(size_bytes))) != 0)
            return no_memory();
    }
    return 0;
}

int
node_show_run(struct node_call *call)
{
    AUTO_STORE struct dor_store *store = NULL;
    AUTO_SNAPSHOT struct dor_snapshot *snapshot = NULL;
    AUTO_JSON json_t *sidecars = json_array();
    int rc = open_snapshot(call, &store, &snapshot);
    if (rc == 0)
        rc = list_sidecars(snapshot, sidecars);
    if (rc != 0)
        return rc;
    const struct dor_snapshot_info *info = dor_snapshot_info(snapshot);
    return node_call_json(
        call, node_shape_snapshot(info, sidecars, working_set_brief(store, info->name)));
}

int
node_working_set_run(struct node_call *call)
{
    AUTO_STORE struct dor_store *store = NULL;
    AUTO_SNAPSHOT struct dor_snapshot *snapshot = NULL;
    struct dor_working_set working_set;
    const char *name = call->parameters[0];
    int rc = open_snapshot(call, &store, &snapshot);
    if (rc == 0)
        rc = dor_working_set_read(store, name, &working_set);
    if (rc != 0)
        return rc;
    uint64_t page_count = dor_snapshot_info(snapshot)->logical_bytes / DOR_PAGE_BYTES;
    rc = node_call_json(call, node_shape_working_set(name, &working_set, page_count));
    dor_working_set_fini(&working_set);
    return rc;
}

/* Wakes learn without the writer's lock, and what they learnt is forgotten without it. */
int
node_working_set_forget_run(struct node_call *call)
{
    AUTO_STORE struct dor_store *store = NULL;
    const char *name = call->parameters[0];
    int rc = dor_name_check(name);
    if (rc == 0)
        rc = node_reader_open(call, &store);
    if (rc == 0)
        rc = dor_working_set_forget(store, name);
    return rc == 0 ? node_call_json(call, json_pack("{s:o}", "name", node_shape_text(name)))
                   : rc;
}

int
node_explain_run(struct node_call *call)
{
    AUTO_STORE struct dor_store *store = NULL;
    struct dor_explain explain = {0};
    int rc = dor_name_check(call->parameters[0]);
    if (rc == 0)
        rc = node_reader_open(call, &store);
    if (rc == 0)
        rc = dor_store_explain(store, call->parameters[0], &explain);
    if (rc == 0)
        rc = node_call_json(call, node_shape_explain(call->parameters[0], &explain));
    dor_explain_fini(&explain);
    return rc;
}

static int
add_root(void *context, const struct dor_root_info *info, enum dor_root_state state)
{
    return json_array_append_new(context, node_shape_root(info, state)) == 0 ? 0 : no_memory();
}

int
node_roots_run(struct node_call *call)
{
    AUTO_STORE struct dor_store *store = NULL;
    AUTO_JSON json_t *rows = json_array();
    int rc = node_reader_open(call, &store);
    if (rc == 0)
        rc = dor_store_root_list(store, add_root, rows);
    return rc == 0 ? node_call_json(call, json_pack("{s:O}", "roots", rows)) : rc;
}

/* ------------------------------------------------------------------ checking */

struct findings {
    json_t *list;
    uint64_t max;
    bool lost; /* one could not be added for want of memory */
};

static void
add_finding(void *context, const struct dor_finding *finding)
{
    struct findings *findings = context;
    if (json_array_size(findings->list) >= findings->max)
        return;
    json_t *row = json_pack(
        "{s:o, s:o, s:o}", "file", node_shape_text(finding->file), "detail",
        node_shape_text(finding->detail), "snapshot", node_shape_text(finding->snapshot));
    if (json_array_append_new(findings->list, row) != 0)
        findings->lost = true;
}

static int
check_store(struct node_call *call, struct dor_store *store, bool repair)
{
    AUTO_JSON json_t *list = json_array();
    struct findings findings = {
        .list = list, .max = call->node->config.options.findings_max, .lost = list == NULL};
    struct dor_check_result result = {0};
    const struct dor_check check = {
        .repair = repair,
        .report = add_finding,
        .report_context = &findings,
        .progress = node_call_progress,
        .progress_context = call,
    };
    int rc = dor_store_check(store, &check, &result);
    if (rc == 0 && findings.lost)
        rc = no_memory();
    return rc == 0 ? node_call_json(call, node_shape_check(&result, list)) : rc;
}

int
node_check_run(struct node_call *call)
{
    AUTO_STORE struct dor_store *store = NULL;
    int rc = node_reader_open(call, &store);
    return rc == 0 ? check_store(call, store, false) : rc;
}

int
node_repair_run(struct node_call *call)
{
    struct dor_store *store = NULL;
    int rc = node_writer_get(call, &store);
    if (rc == 0)
        rc = check_store(call, store, true);
    /* What was repaired is best read anew. */
    node_writer_done(call, rc == 0 ? DOR_E_CORRUPT : rc);
    return rc;
}

/* ------------------------------------------------------------------ images out */

int
node_image_run(struct node_call *call)
{
    AUTO_STORE struct dor_store *store = NULL;
    AUTO_SNAPSHOT struct dor_snapshot *snapshot = NULL;
    AUTO_CLOSE int fd = -1;
    int rc = open_snapshot(call, &store, &snapshot);
    if (rc == 0)
        rc = node_spool_open(call->node, &fd);
    if (rc == 0)
        rc = dor_snapshot_write_image(snapshot, fd, node_call_progress, call);
    if (rc == 0)
        rc = base_file_truncate(
            fd, dor_snapshot_info(snapshot)->logical_bytes, "the image for the answer");
    if (rc != 0)
        return rc;
    call->file_bytes = dor_snapshot_info(snapshot)->logical_bytes;
    call->file_fd = base_take_fd(&fd);
    call->content_type = "application/octet-stream";
    base_counter_add(&call->node->counters.get_bytes, call->file_bytes);
    return 0;
}

int
node_sidecar_run(struct node_call *call)
{
    AUTO_STORE struct dor_store *store = NULL;
    AUTO_SNAPSHOT struct dor_snapshot *snapshot = NULL;
    int rc = open_snapshot(call, &store, &snapshot);
    if (rc != 0)
        return rc;
    size_t count = (size_t)dor_snapshot_info(snapshot)->sidecar_count;
    for (size_t i = 0; i < count; i++) {
        char name[DOR_NAME_BYTES_MAX + 1];
        void *data = NULL;
        size_t size_bytes = 0;
        rc = dor_snapshot_read_sidecar(snapshot, i, name, &data, &size_bytes);
        if (rc != 0)
            return rc;
        if (strcmp(name, call->parameters[1]) == 0) {
            call->text = data;
            call->text_bytes = size_bytes;
            call->content_type = "application/octet-stream";
            return 0;
        }
        free(data);
    }
    return dor_fail(
        DOR_E_NOT_FOUND, "snapshot %s has no sidecar %s", call->parameters[0],
        call->parameters[1]);
}

static json_t *
paths_json(const struct dor_export_result *result)
{
    json_t *paths = json_array();
    for (size_t i = 0; i < result->sidecar_count; i++) {
        if (json_array_append_new(paths, node_shape_text(result->sidecar_paths[i])) != 0) {
            json_decref(paths);
            return NULL;
        }
    }
    return paths;
}

int
node_get_run(struct node_call *call)
{
    AUTO_STORE struct dor_store *store = NULL;
    AUTO_STORE struct dor_store *diff_store = NULL;
    uint64_t start_ns = base_clock_monotonic_ns();
    struct dor_export_result result = {0};
    const char *name = call->parameters[0];
    struct dor_export how = {
        .path = call->values.output,
        .diff_from = call->values.diff_from,
        .sidecars_directory = call->values.sidecars_directory,
        .progress = node_call_progress,
        .progress_context = call,
    };
    if (how.path == NULL)
        return dor_fail(DOR_E_USAGE, "body: output must say where the image goes");
    int rc = dor_name_check(name);
    if (rc == 0)
        rc = node_reader_open(call, &store);
    if (rc == 0 && how.diff_from != NULL)
        rc = node_reader_open(call, &diff_store);
    how.diff_store = diff_store;
    if (rc == 0)
        rc = dor_store_export(store, name, &how, &result);
    if (rc != 0)
        return rc;
    base_counter_add(&call->node->counters.get_bytes, result.logical_bytes);
    rc = node_call_json(
        call, json_pack(
                  "{s:o, s:o, s:o, s:o, s:o}", "name", node_shape_text(name), "file",
                  node_shape_text(how.path), "logical_bytes",
                  node_shape_u64(result.logical_bytes), "sidecars", paths_json(&result),
                  "elapsed_ns", node_shape_u64(base_clock_monotonic_ns() - start_ns)));
    dor_export_result_fini(&result);
    return rc;
}

/* ------------------------------------------------------------------ copies */

static int
answer_copy(
    struct node_call *call, const char *name, const char *to, const char *as,
    const struct dor_put_result *result)
{
    return node_call_json(
        call, json_pack(
                  "{s:o, s:o, s:o, s:o, s:o}", "name", node_shape_text(name), "to",
                  node_shape_text(to), "as", node_shape_text(as), "logical_bytes",
                  node_shape_u64(result->total.logical_bytes), "added_bytes",
                  node_shape_u64(result->added_bytes)));
}

int
node_copy_out_run(struct node_call *call)
{
    AUTO_STORE struct dor_store *source = NULL;
    AUTO_STORE struct dor_store *target = NULL;
    struct dor_put_result result = {0};
    const char *name = call->parameters[0];
    const char *to = call->values.store;
    const char *as = call->values.as == NULL ? name : call->values.as;
    if (to == NULL)
        return dor_fail(DOR_E_USAGE, "body: to must say which store it is copied to");
    int rc = dor_name_check(name);
    if (rc == 0)
        rc = node_reader_open(call, &source);
    if (rc == 0) {
        rc = dor_store_open(to, DOR_OPEN_WRITE, NULL, &target);
        if (rc != 0)
            dor_fail_wrap("to %s", to);
    }
    if (rc == 0)
        rc = dor_store_copy(source, name, target, as, &result);
    return rc == 0 ? answer_copy(call, name, to, as, &result) : rc;
}

int
node_copy_in_run(struct node_call *call)
{
    AUTO_STORE struct dor_store *source = NULL;
    struct dor_store *target = NULL;
    struct dor_put_result result = {0};
    const char *name = call->values.name;
    const char *as = call->values.as == NULL ? name : call->values.as;
    if (name == NULL || call->values.store == NULL)
        return dor_fail(DOR_E_USAGE, "body: store and name must say what is copied");
    int rc = dor_store_open(call->values.store, DOR_OPEN_READ, NULL, &source);
    if (rc == 0)
        rc = node_writer_get(call, &target);
    if (rc != 0)
        return rc;
    rc = dor_store_copy(source, name, target, as, &result);
    if (rc == 0)
        rc = answer_copy(call, name, call->node->directory, as, &result);
    node_writer_done(call, rc);
    return rc;
}
