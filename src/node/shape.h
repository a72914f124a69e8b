/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shape.h - results as JSON, in the shapes that --json of the command line has, and back.
 *
 * Ownership:  functions that return json_t give a new reference, NULL without memory.
 * Threads:    any.
 * Errors:     reading: DOR_E_CORRUPT for JSON of another shape.
 */
#ifndef DOR_NODE_SHAPE_H
#define DOR_NODE_SHAPE_H

#include "base/err.h"

#include <dormouse/offload.h>
#include <dormouse/store.h>
#include <dormouse/wake.h>
#include <jansson.h>

/* What there is to say of a wake. */
struct node_wake_info {
    const char *id, *snapshot, *state;
    const char *socket; /* NULL: there is none any more */
    uint64_t created_ns;
    unsigned connected;
    struct dor_wake_uffd_stat stat;
};

json_t *node_shape_u64(uint64_t number);
json_t *node_shape_text(const char *text);     /* null for NULL and "" */
json_t *node_shape_time(uint64_t realtime_ns); /* ISO 8601; null for 0 */
json_t *node_shape_error(const struct base_err *err);

json_t *node_shape_put(
    const char *name, const struct dor_put_result *result, uint64_t elapsed_ns,
    const char *warning);
/* WORKING_SET is taken. */
json_t *node_shape_row(const struct dor_snapshot_info *info, json_t *working_set);
json_t *node_shape_snapshot(
    const struct dor_snapshot_info *info, json_t *sidecars, json_t *working_set);
json_t *node_shape_working_set(
    const char *name, const struct dor_working_set *working_set, uint64_t image_pages);
json_t *node_shape_working_set_brief(const struct dor_working_set *working_set);
json_t *node_shape_explain(const char *name, const struct dor_explain *explain);
json_t *node_shape_stat(const struct dor_stat *stat);
json_t *node_shape_root(const struct dor_root_info *info, enum dor_root_state state);
json_t *node_shape_wake_server(const struct dor_wake_stat *stat);
json_t *node_shape_wake(const struct node_wake_info *info);
json_t *node_shape_offload(const char *name, const struct dor_offload_wake_stat *stat);
json_t *node_shape_gc(const struct dor_gc_result *result);
json_t *node_shape_check(const struct dor_check_result *result, json_t *findings);

DOR_MUST_CHECK int
node_read_wake(const json_t *json, struct dor_wake_uffd_stat *ret, uint64_t *ret_connected);
DOR_MUST_CHECK int node_read_offload(const json_t *json, struct dor_offload_wake_stat *ret);
DOR_MUST_CHECK int node_read_put(const json_t *json, struct dor_put_result *ret);
/* Of a copy: only the bytes of image and store. */
DOR_MUST_CHECK int node_read_copy(const json_t *json, struct dor_put_result *ret);
DOR_MUST_CHECK int node_read_root(const json_t *json, struct dor_root_info *ret);
DOR_MUST_CHECK int node_read_gc(const json_t *json, struct dor_gc_result *ret);
DOR_MUST_CHECK int node_read_check(const json_t *json, struct dor_check_result *ret);

#endif
