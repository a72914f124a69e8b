/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shape.c - numbers are moved by tables of key and offset, the same for both directions.
 */
#include "node/shape.h"

#include "base/mem.h"
#include "base/size.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define NS_PER_S UINT64_C(1000000000)

struct number {
    const char *key;
    size_t offset;
};

#define NUMBER(type, field)                                                                    \
    {                                                                                          \
#field, offsetof(struct type, field)                                                   \
    }

static const struct number kind_numbers[] = {
    NUMBER(dor_kind_bytes, logical_bytes),
    NUMBER(dor_kind_bytes, zero_bytes),
    NUMBER(dor_kind_bytes, exact_bytes),
    NUMBER(dor_kind_bytes, patched_bytes),
    NUMBER(dor_kind_bytes, raw_bytes),
    NUMBER(dor_kind_bytes, reference_bytes),
    NUMBER(dor_kind_bytes, patched_stored_bytes),
    NUMBER(dor_kind_bytes, raw_stored_bytes),
};

static const struct number type_numbers[] = {
    NUMBER(dor_stat_type, raw_pages),     NUMBER(dor_stat_type, raw_bytes),
    NUMBER(dor_stat_type, patched_pages), NUMBER(dor_stat_type, patched_bytes),
    NUMBER(dor_stat_type, table_bytes),   NUMBER(dor_stat_type, segments),
    NUMBER(dor_stat_type, groups),
};

static const struct number stat_numbers[] = {
    NUMBER(dor_stat, snapshots),     NUMBER(dor_stat, domains),
    NUMBER(dor_stat, logical_bytes), NUMBER(dor_stat, stored_bytes),
    NUMBER(dor_stat, segment_bytes), NUMBER(dor_stat, table_bytes),
    NUMBER(dor_stat, recipe_bytes),  NUMBER(dor_stat, catalog_bytes),
    NUMBER(dor_stat, root_bytes),    NUMBER(dor_stat, working_set_bytes),
};

static const struct number explain_numbers[] = {
    NUMBER(dor_explain, recipe_bytes),
    NUMBER(dor_explain, exclusive_bytes),
    NUMBER(dor_explain, shared_bytes),
    NUMBER(dor_explain, freed_bytes),
};

static const struct number gc_numbers[] = {
    NUMBER(dor_gc_result, before_bytes),       NUMBER(dor_gc_result, after_bytes),
    NUMBER(dor_gc_result, dead_pages),         NUMBER(dor_gc_result, live_pages),
    NUMBER(dor_gc_result, rewritten_segments), NUMBER(dor_gc_result, clustered_pages),
};

static const struct number wake_server_numbers[] = {
    NUMBER(dor_wake_stat, cache_bytes), NUMBER(dor_wake_stat, cache_used_bytes),
    NUMBER(dor_wake_stat, hits),        NUMBER(dor_wake_stat, waits),
    NUMBER(dor_wake_stat, misses),      NUMBER(dor_wake_stat, zeros),
    NUMBER(dor_wake_stat, evictions),   NUMBER(dor_wake_stat, bypasses),
    NUMBER(dor_wake_stat, failures),    NUMBER(dor_wake_stat, snapshots),
};

static const struct number wake_numbers[] = {
    NUMBER(dor_wake_uffd_stat, clients),      NUMBER(dor_wake_uffd_stat, refused),
    NUMBER(dor_wake_uffd_stat, ended),        NUMBER(dor_wake_uffd_stat, faults),
    NUMBER(dor_wake_uffd_stat, copied_pages), NUMBER(dor_wake_uffd_stat, pushed_pages),
    NUMBER(dor_wake_uffd_stat, zero_pages),   NUMBER(dor_wake_uffd_stat, removals),
    NUMBER(dor_wake_uffd_stat, lost_pages),   NUMBER(dor_wake_uffd_stat, adopted),
};

static const struct number offload_numbers[] = {
    NUMBER(dor_offload_wake_stat, pages),           NUMBER(dor_offload_wake_stat, requests),
    NUMBER(dor_offload_wake_stat, asked_pages),     NUMBER(dor_offload_wake_stat, pushed_pages),
    NUMBER(dor_offload_wake_stat, filled_pages),    NUMBER(dor_offload_wake_stat, zero_pages),
    NUMBER(dor_offload_wake_stat, failed_requests),
};

static const struct number check_numbers[] = {
    NUMBER(dor_check_result, snapshots),
    NUMBER(dor_check_result, damaged_snapshots),
    NUMBER(dor_check_result, quarantined_snapshots),
    NUMBER(dor_check_result, groups),
    NUMBER(dor_check_result, pages),
    NUMBER(dor_check_result, bytes),
};

static const char *const type_names[DOR_REGION_TYPES] = {
    [DOR_NRT] = "nrt", [DOR_RX_MAP] = "rx_map", [DOR_W_MAP] = "w_map"};

static const char *const kind_names[DOR_PAGE_KINDS] = {
    [DOR_PAGE_ZERO] = "zero",
    [DOR_PAGE_RAW] = "raw",
    [DOR_PAGE_PATCHED] = "patched",
    [DOR_PAGE_REFERENCE] = "reference",
};

static const char *const root_states[] = {
    [DOR_ROOT_PRESENT] = "present",
    [DOR_ROOT_CHANGED] = "changed",
    [DOR_ROOT_MISSING] = "missing",
};

/* ------------------------------------------------------------------ pieces */

json_t *
node_shape_u64(uint64_t number)
{
    return json_integer((json_int_t)base_min_u64(number, INT64_MAX));
}

json_t *
node_shape_text(const char *text)
{
    if (text == NULL || text[0] == '\0')
        return json_null();
    json_t *json = json_string(text);
    if (json != NULL)
        return json;
    /* Not UTF-8, as paths may be. */
    size_t length = strlen(text);
    AUTO_FREE char *clean = base_alloc(length);
    if (clean == NULL)
        return NULL;
    for (size_t i = 0; i < length; i++)
        clean[i] = (unsigned char)text[i] < 0x80 ? text[i] : '?';
    return json_stringn(clean, length);
}

json_t *
node_shape_time(uint64_t realtime_ns)
{
    char text[32];
    struct tm tm;
    time_t seconds = (time_t)(realtime_ns / NS_PER_S);
    if (realtime_ns == 0 || gmtime_r(&seconds, &tm) == NULL)
        return json_null();
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    return json_string(text);
}

json_t *
node_shape_error(const struct base_err *err)
{
    return json_pack(
        "{s:s, s:i, s:o}", "error", dor_err_name(err->code), "code", -err->code, "message",
        node_shape_text(err->text));
}

static bool
set(json_t *object, const char *key, json_t *value)
{
    return json_object_set_new(object, key, value) == 0;
}

static bool
set_numbers(json_t *object, const struct number *rows, size_t count, const void *values)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t number = 0;
        memcpy(&number, (const char *)values + rows[i].offset, sizeof number);
        if (!set(object, rows[i].key, node_shape_u64(number)))
            return false;
    }
    return true;
}

/* OBJECT if all of it was MADE; takes the reference. */
static json_t *
made_or_null(json_t *object, bool made)
{
    if (made)
        return object;
    json_decref(object);
    return NULL;
}

static json_t *
numbers_json(const struct number *rows, size_t count, const void *values)
{
    json_t *object = json_object();
    return made_or_null(object, set_numbers(object, rows, count, values));
}

static json_t *
region_types_json(const struct dor_kind_bytes *kinds)
{
    json_t *types = json_object();
    bool made = true;
    for (unsigned i = 0; made && i < DOR_REGION_TYPES; i++)
        made =
            set(types, type_names[i],
                numbers_json(kind_numbers, ARRAY_LEN(kind_numbers), &kinds[i]));
    return made_or_null(types, made);
}

static json_t *
classes_json(const uint64_t *pages_by_class)
{
    json_t *classes = json_object();
    uint64_t sum = 0;
    bool made = true;
    for (unsigned i = 0; made && i < DOR_CLASSES; i++) {
        sum += pages_by_class[i];
        made =
            set(classes, dor_page_class_name((enum dor_page_class)i),
                node_shape_u64(pages_by_class[i]));
    }
    if (made && sum == 0) {
        json_decref(classes);
        return json_null();
    }
    return made_or_null(classes, made);
}

static json_t *
class_kinds_json(const struct dor_kind_bytes *kinds)
{
    json_t *classes = json_object();
    bool made = true;
    for (unsigned i = 0; made && i < DOR_CLASSES; i++)
        if (kinds[i].logical_bytes != 0)
            made =
                set(classes, dor_page_class_name((enum dor_page_class)i),
                    numbers_json(kind_numbers, ARRAY_LEN(kind_numbers), &kinds[i]));
    return made_or_null(classes, made);
}

/* ------------------------------------------------------------------ results */

json_t *
node_shape_put(
    const char *name, const struct dor_put_result *result, uint64_t elapsed_ns,
    const char *warning)
{
    json_t *object = json_object();
    return made_or_null(
        object,
        set(object, "name", node_shape_text(name)) &&
            set_numbers(object, kind_numbers, ARRAY_LEN(kind_numbers), &result->total) &&
            set(object, "added_bytes", node_shape_u64(result->added_bytes)) &&
            set(object, "pages_by_class", classes_json(result->pages_by_class)) &&
            set(object, "dropped_bytes", node_shape_u64(result->dropped_bytes)) &&
            set(object, "by_region_type", region_types_json(result->by_region_type)) &&
            set(object, "elapsed_ns", node_shape_u64(elapsed_ns)) &&
            set(object, "warning", node_shape_text(warning)));
}

json_t *
node_shape_row(const struct dor_snapshot_info *info, json_t *working_set)
{
    json_t *object = json_object();
    return made_or_null(
        object,
        set(object, "name", node_shape_text(info->name)) &&
            set(object, "domain", node_shape_text(info->domain)) &&
            set(object, "parent", node_shape_text(info->parent)) &&
            set(object, "logical_bytes", node_shape_u64(info->logical_bytes)) &&
            set(object, "added_bytes", node_shape_u64(info->put.added_bytes)) &&
            set(object, "sidecars", node_shape_u64(info->sidecar_count)) &&
            set(object, "created", node_shape_time(info->created_ns)) &&
            set(object, "woken", node_shape_time(info->woken_ns)) &&
            set(object, "pages_by_class", classes_json(info->put.pages_by_class)) &&
            set(object, "by_region_type", region_types_json(info->put.by_region_type)) &&
            set(object, "working_set", working_set));
}

json_t *
node_shape_snapshot(const struct dor_snapshot_info *info, json_t *sidecars, json_t *working_set)
{
    const struct dor_put_result *put = &info->put;
    json_t *object = json_object();
    return made_or_null(
        object, set(object, "name", node_shape_text(info->name)) &&
                    set(object, "id", node_shape_u64(info->id)) &&
                    set(object, "domain", node_shape_text(info->domain)) &&
                    set(object, "parent", node_shape_text(info->parent)) &&
                    set(object, "created", node_shape_time(info->created_ns)) &&
                    set(object, "woken", node_shape_time(info->woken_ns)) &&
                    set(object, "recipe_bytes", node_shape_u64(info->recipe_bytes)) &&
                    set(object, "added_bytes", node_shape_u64(put->added_bytes)) &&
                    set_numbers(object, kind_numbers, ARRAY_LEN(kind_numbers), &put->total) &&
                    set(object, "pages_by_class", classes_json(put->pages_by_class)) &&
                    set(object, "dropped_bytes", node_shape_u64(put->dropped_bytes)) &&
                    set(object, "generation", node_shape_u64(info->generation)) &&
                    set(object, "logical_bytes", node_shape_u64(info->logical_bytes)) &&
                    set(object, "by_region_type", region_types_json(put->by_region_type)) &&
                    set(object, "sidecars", json_incref(sidecars)) &&
                    set(object, "working_set", working_set));
}

json_t *
node_shape_working_set(
    const char *name, const struct dor_working_set *working_set, uint64_t image_pages)
{
    json_t *runs = json_array();
    bool made = true;
    for (size_t i = 0; made && i < working_set->run_count; i++)
        made = json_array_append_new(
                   runs, json_pack(
                             "[o, o]", node_shape_u64(working_set->runs[i].first_page),
                             node_shape_u64(working_set->runs[i].page_count))) == 0;
    runs = made_or_null(runs, made);
    const uint64_t *shares = working_set->pages_by_share;
    return json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:{s:o, s:o, s:o}, s:o}", "name",
        node_shape_text(name), "wakes", node_shape_u64(working_set->wakes), "pages",
        node_shape_u64(working_set->page_count), "bytes",
        node_shape_u64(working_set->page_count * DOR_PAGE_BYTES), "image_pages",
        node_shape_u64(image_pages), "candidate_pages",
        node_shape_u64(working_set->candidate_pages), "file_bytes",
        node_shape_u64(working_set->file_bytes), "pages_by_share", "third",
        node_shape_u64(shares[0]), "two_thirds", node_shape_u64(shares[1]), "all",
        node_shape_u64(shares[2]), "runs", runs);
}

json_t *
node_shape_working_set_brief(const struct dor_working_set *working_set)
{
    return json_pack(
        "{s:o, s:o}", "wakes", node_shape_u64(working_set->wakes), "pages",
        node_shape_u64(working_set->page_count));
}

static json_t *
sharers_json(const struct dor_explain *explain)
{
    json_t *sharers = json_array();
    bool made = true;
    for (size_t i = 0; made && i < explain->sharer_count; i++)
        made = json_array_append_new(
                   sharers,
                   json_pack(
                       "{s:o, s:o}", "name", node_shape_text(explain->sharers[i].name),
                       "shared_bytes", node_shape_u64(explain->sharers[i].shared_bytes))) == 0;
    return made_or_null(sharers, made);
}

json_t *
node_shape_explain(const char *name, const struct dor_explain *explain)
{
    json_t *object = json_object();
    return made_or_null(
        object,
        set(object, "name", node_shape_text(name)) &&
            set_numbers(object, kind_numbers, ARRAY_LEN(kind_numbers), &explain->total) &&
            set_numbers(object, explain_numbers, ARRAY_LEN(explain_numbers), explain) &&
            set(object, "by_region_type", region_types_json(explain->by_region_type)) &&
            set(object, "by_class", class_kinds_json(explain->by_class)) &&
            set(object, "shared_with", sharers_json(explain)));
}

static json_t *
kinds_json(const struct dor_stat *stat)
{
    json_t *pages = json_object();
    bool made = true;
    for (size_t i = 0; made && i < DOR_PAGE_KINDS; i++)
        made = set(pages, kind_names[i], node_shape_u64(stat->pages_by_kind[i]));
    return made_or_null(pages, made && set(pages, "exact", node_shape_u64(stat->exact_pages)));
}

json_t *
node_shape_stat(const struct dor_stat *stat)
{
    json_t *types = json_object();
    bool made = true;
    for (unsigned i = 0; made && i < DOR_REGION_TYPES; i++)
        made =
            set(types, type_names[i],
                numbers_json(type_numbers, ARRAY_LEN(type_numbers), &stat->by_region_type[i]));
    json_t *object = json_object();
    made = made && set_numbers(object, stat_numbers, ARRAY_LEN(stat_numbers), stat) &&
           set(object, "pages_by_kind", kinds_json(stat)) &&
           set(object, "pages_by_class", classes_json(stat->pages_by_class)) &&
           set(object, "by_region_type", json_incref(types));
    json_decref(types);
    return made_or_null(object, made);
}

json_t *
node_shape_root(const struct dor_root_info *info, enum dor_root_state state)
{
    return json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s}", "name", node_shape_text(info->name), "path",
        node_shape_text(info->path), "domain", node_shape_text(info->domain), "size_bytes",
        node_shape_u64(info->size_bytes), "stored_bytes", node_shape_u64(info->file_bytes),
        "modified", node_shape_time(info->modified_ns), "added",
        node_shape_time(info->added_ns), "state", root_states[state]);
}

json_t *
node_shape_gc(const struct dor_gc_result *result)
{
    uint64_t freed =
        result->before_bytes - base_min_u64(result->before_bytes, result->after_bytes);
    json_t *object = json_object();
    return made_or_null(
        object, set_numbers(object, gc_numbers, ARRAY_LEN(gc_numbers), result) &&
                    set(object, "freed_bytes", node_shape_u64(freed)) &&
                    set(object, "complete", json_boolean(result->complete)));
}

json_t *
node_shape_check(const struct dor_check_result *result, json_t *findings)
{
    json_t *object = json_object();
    return made_or_null(
        object, set_numbers(object, check_numbers, ARRAY_LEN(check_numbers), result) &&
                    set(object, "finding_count", node_shape_u64(result->findings)) &&
                    set(object, "findings", json_incref(findings)));
}

json_t *
node_shape_wake_server(const struct dor_wake_stat *stat)
{
    return numbers_json(wake_server_numbers, ARRAY_LEN(wake_server_numbers), stat);
}

json_t *
node_shape_wake(const struct node_wake_info *info)
{
    json_t *object = json_object();
    return made_or_null(
        object, set_numbers(object, wake_numbers, ARRAY_LEN(wake_numbers), &info->stat) &&
                    set(object, "id", node_shape_text(info->id)) &&
                    set(object, "snapshot", node_shape_text(info->snapshot)) &&
                    set(object, "uffd_socket", node_shape_text(info->socket)) &&
                    set(object, "state", node_shape_text(info->state)) &&
                    set(object, "created", node_shape_time(info->created_ns)) &&
                    set(object, "connected", node_shape_u64(info->connected)));
}

json_t *
node_shape_offload(const char *name, const struct dor_offload_wake_stat *stat)
{
    json_t *object = json_object();
    return made_or_null(
        object, set_numbers(object, offload_numbers, ARRAY_LEN(offload_numbers), stat) &&
                    set(object, "name", node_shape_text(name)) &&
                    set(object, "handed_over_ns", node_shape_u64(stat->first_ns)));
}

/* ------------------------------------------------------------------ reading */

static bool
read_u64(const json_t *object, const char *key, void *ret)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    uint64_t number = (uint64_t)json_integer_value(value);
    memcpy(ret, &number, sizeof number);
    return true;
}

static bool
read_numbers(const json_t *object, const struct number *rows, size_t count, void *values)
{
    bool fine = true;
    for (size_t i = 0; fine && i < count; i++)
        fine = read_u64(object, rows[i].key, (char *)values + rows[i].offset);
    return fine;
}

static int
judge(bool fine)
{
    if (fine)
        return 0;
    return dor_fail(
        DOR_E_CORRUPT, "the daemon's answer has another shape; is it of another version?");
}

int
node_read_put(const json_t *json, struct dor_put_result *ret)
{
    const json_t *types = json_object_get(json, "by_region_type");
    const json_t *classes = json_object_get(json, "pages_by_class");
    *ret = (struct dor_put_result){0};
    bool fine = read_numbers(json, kind_numbers, ARRAY_LEN(kind_numbers), &ret->total) &&
                read_u64(json, "added_bytes", &ret->added_bytes) &&
                read_u64(json, "dropped_bytes", &ret->dropped_bytes);
    for (unsigned i = 0; fine && i < DOR_REGION_TYPES; i++)
        fine = read_numbers(
            json_object_get(types, type_names[i]), kind_numbers, ARRAY_LEN(kind_numbers),
            &ret->by_region_type[i]);
    for (unsigned i = 0; fine && json_is_object(classes) && i < DOR_CLASSES; i++)
        fine = read_u64(
            classes, dor_page_class_name((enum dor_page_class)i), &ret->pages_by_class[i]);
    return judge(fine);
}

int
node_read_copy(const json_t *json, struct dor_put_result *ret)
{
    *ret = (struct dor_put_result){0};
    return judge(
        read_u64(json, "logical_bytes", &ret->total.logical_bytes) &&
        read_u64(json, "added_bytes", &ret->added_bytes));
}

static bool
read_text(const json_t *object, const char *key, char *ret, size_t size_bytes)
{
    const json_t *value = json_object_get(object, key);
    const char *text = json_is_null(value) ? "" : json_string_value(value);
    if (text == NULL || strlen(text) >= size_bytes)
        return false;
    memcpy(ret, text, strlen(text) + 1);
    return true;
}

static bool
read_time(const json_t *object, const char *key, uint64_t *ret)
{
    const char *text = json_string_value(json_object_get(object, key));
    struct tm tm = {0};
    *ret = 0;
    if (text == NULL)
        return json_is_null(json_object_get(object, key));
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    if (end == NULL || *end != '\0')
        return false;
    *ret = (uint64_t)timegm(&tm) * NS_PER_S;
    return true;
}

int
node_read_root(const json_t *json, struct dor_root_info *ret)
{
    *ret = (struct dor_root_info){0};
    return judge(
        read_text(json, "name", ret->name, sizeof ret->name) &&
        read_text(json, "path", ret->path, sizeof ret->path) &&
        read_text(json, "domain", ret->domain, sizeof ret->domain) &&
        read_u64(json, "size_bytes", &ret->size_bytes) &&
        read_u64(json, "stored_bytes", &ret->file_bytes) &&
        read_time(json, "modified", &ret->modified_ns) &&
        read_time(json, "added", &ret->added_ns));
}

int
node_read_gc(const json_t *json, struct dor_gc_result *ret)
{
    *ret = (struct dor_gc_result){.complete = json_is_true(json_object_get(json, "complete"))};
    return judge(read_numbers(json, gc_numbers, ARRAY_LEN(gc_numbers), ret));
}

int
node_read_check(const json_t *json, struct dor_check_result *ret)
{
    *ret = (struct dor_check_result){0};
    return judge(
        read_numbers(json, check_numbers, ARRAY_LEN(check_numbers), ret) &&
        read_u64(json, "finding_count", &ret->findings));
}

int
node_read_wake(const json_t *json, struct dor_wake_uffd_stat *ret, uint64_t *ret_connected)
{
    *ret = (struct dor_wake_uffd_stat){0};
    return judge(
        read_numbers(json, wake_numbers, ARRAY_LEN(wake_numbers), ret) &&
        read_u64(json, "connected", ret_connected));
}

int
node_read_offload(const json_t *json, struct dor_offload_wake_stat *ret)
{
    *ret = (struct dor_offload_wake_stat){0};
    return judge(
        read_numbers(json, offload_numbers, ARRAY_LEN(offload_numbers), ret) &&
        read_u64(json, "handed_over_ns", &ret->first_ns));
}
