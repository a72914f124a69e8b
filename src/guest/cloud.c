/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cloud.c - finds its way in Cloud Hypervisor's JSON.
 *
 *     Config:      {"vm_config": V, "common_cpuid": [...], "memory_manager_data": M}
 *     config.json: V
 *     state.json:  {"snapshots": {"memory-manager": {"snapshot_data": {"state": "M as text"}}, ...},
 *                   "snapshot_data": {"state": "{..., \"common_cpuid\": [...]}"}}
 *     M:           {"memory_ranges": ..., "guest_ram_mappings": [{"slot": 0, "gpa": 0, "size": S,
 *                   "zone_id": "mem0", "virtio_mem": false, "file_offset": 0}, ...], ...}
 *
 * Every text is parsed by jansson first; the scanner here then only has to know where values end.
 */
#include "guest/cloud.h"

#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"

#include <inttypes.h>
#include <jansson.h>
#include <string.h>

/* As in images: integers of 64 bits do not fit jansson's, and addresses of pages are exact. */
#define PARSE_FLAGS (JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES)

static const char mappings_name[] = "guest_ram_mappings";

static void
auto_decref(json_t **json)
{
    json_decref(*json);
}

#define AUTO_JSON __attribute__((cleanup(auto_decref)))

static int
parse(struct guest_span span, const char *what, json_t **ret)
{
    json_error_t error;
    if (span.size_bytes == 0 || span.size_bytes > GUEST_CLOUD_JSON_BYTES_MAX)
        return dor_fail(
            DOR_E_CORRUPT, "%s: is missing, empty or has more than %zu bytes", what,
            GUEST_CLOUD_JSON_BYTES_MAX);
    json_t *json = json_loadb(span.text, span.size_bytes, PARSE_FLAGS, &error);
    if (json == NULL && json_error_code(&error) == json_error_out_of_memory)
        return dor_fail(DOR_E_NO_MEMORY, "%s: no memory to read it", what);
    if (json == NULL)
        return dor_fail(
            DOR_E_CORRUPT, "%s: line %d, column %d: %s", what, error.line, error.column,
            error.text);
    if (!json_is_object(json)) {
        json_decref(json);
        return dor_fail(DOR_E_CORRUPT, "%s: is no JSON object", what);
    }
    *ret = json;
    return 0;
}

int
guest_cloud_check(const char *text, size_t size_bytes, const char *what)
{
    AUTO_JSON json_t *json = NULL;
    return parse((struct guest_span){text, size_bytes}, what, &json);
}

/* ------------------------------------------------------------------ spans */

static bool
is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static const char *
skip_space(const char *at, const char *end)
{
    while (at < end && is_space(*at))
        at++;
    return at;
}

/* AT is the first quote; the byte after the last. */
static const char *
skip_string(const char *at, const char *end)
{
    for (at++; at < end && *at != '"'; at++)
        if (*at == '\\')
            at++;
    return at < end ? at + 1 : end;
}

static const char *
skip_value(const char *at, const char *end)
{
    size_t depth = 0;
    while (at < end) {
        if (*at == '"') {
            at = skip_string(at, end);
        } else if (*at == '{' || *at == '[') {
            depth++;
            at++;
        } else if (depth > 0 && (*at == '}' || *at == ']')) {
            depth--;
            at++;
        } else if (depth > 0) {
            at++;
            continue;
        } else {
            while (at < end && !is_space(*at) && *at != ',' && *at != '}' && *at != ']')
                at++;
        }
        if (depth == 0)
            break;
    }
    return at;
}

static bool
is_name(const char *from, const char *to, const char *name)
{
    size_t length = strlen(name);
    return (size_t)(to - from) == length + 2 && memcmp(from + 1, name, length) == 0;
}

struct guest_span
guest_cloud_member(struct guest_span object, const char *name)
{
    const char *end = object.text + object.size_bytes;
    const char *at = skip_space(object.text, end);
    for (at = at < end ? at + 1 : end; at < end; at++) {
        const char *from = skip_space(at, end);
        if (from == end || *from != '"')
            break;
        const char *to = skip_string(from, end);
        at = skip_space(to, end);
        const char *value = skip_space(at < end ? at + 1 : end, end);
        const char *value_end = skip_value(value, end);
        if (is_name(from, to, name))
            return (struct guest_span){value, (size_t)(value_end - value)};
        at = skip_space(value_end, end);
    }
    return (struct guest_span){0};
}

/* ------------------------------------------------------------------ slots */

static int
read_number(
    const json_t *row, const char *what, size_t i, const char *key, double max, uint64_t *ret)
{
    const json_t *value = json_object_get(row, key);
    double v = json_real_value(value);
    if (!json_is_real(value) || !(v >= 0 && v <= max) || (double)(uint64_t)v != v)
        return dor_fail(
            DOR_E_CORRUPT, "%s: %s: row %zu: its %s is missing or not possible", what,
            mappings_name, i, key);
    *ret = (uint64_t)v;
    return 0;
}

static int
read_slot(const json_t *row, const char *what, size_t i, struct dor_offload_slot *slot)
{
    const double bytes_max = 0x1p52; /* more than any guest has, and exact */
    uint64_t number = 0;
    int rc = read_number(row, what, i, "slot", UINT32_MAX, &number);
    slot->slot = (uint32_t)number;
    slot->fd = -1;
    slot->virtio_mem = json_is_true(json_object_get(row, "virtio_mem"));
    if (rc == 0)
        rc = read_number(row, what, i, "gpa", bytes_max, &slot->gpa);
    if (rc == 0)
        rc = read_number(row, what, i, "size", bytes_max, &slot->size_bytes);
    if (rc == 0)
        rc = read_number(row, what, i, "file_offset", bytes_max, &slot->offset);
    if (rc != 0)
        return rc;
    if ((slot->gpa | slot->size_bytes | slot->offset) % DOR_PAGE_BYTES != 0 ||
        slot->size_bytes == 0)
        return dor_fail(
            DOR_E_CORRUPT, "%s: slot %" PRIu32 ": is empty or not of whole pages", what,
            slot->slot);
    return 0;
}

static int
check_apart(
    const struct dor_offload_slot *a, const struct dor_offload_slot *b, const char *what)
{
    if (a->slot == b->slot)
        return dor_fail(DOR_E_CORRUPT, "%s: slot %" PRIu32 " is there twice", what, a->slot);
    if (a->gpa < b->gpa + b->size_bytes && b->gpa < a->gpa + a->size_bytes)
        return dor_fail(
            DOR_E_CORRUPT, "%s: slots %" PRIu32 " and %" PRIu32 " overlap", what, a->slot,
            b->slot);
    return 0;
}

static int
read_slots(const json_t *rows, const char *what, struct dor_offload_slot *slots, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int rc = read_slot(json_array_get(rows, i), what, i, &slots[i]);
        for (size_t k = 0; rc == 0 && k < i; k++)
            rc = check_apart(&slots[k], &slots[i], what);
        if (rc != 0)
            return rc;
    }
    return 0;
}

int
guest_cloud_slots(
    struct guest_span memory_manager, const char *what, struct dor_offload_slot **ret,
    size_t *ret_count)
{
    AUTO_JSON json_t *json = NULL;
    int rc = parse(memory_manager, what, &json);
    if (rc != 0)
        return rc;
    const json_t *rows = json_object_get(json, mappings_name);
    size_t count = json_array_size(rows);
    if (count == 0 || count > GUEST_CLOUD_SLOTS_MAX)
        return dor_fail(
            DOR_E_CORRUPT, "%s: %s: has %zu rows, 1 to %d are possible", what, mappings_name,
            count, GUEST_CLOUD_SLOTS_MAX);
    AUTO_FREE struct dor_offload_slot *slots = base_array(count, sizeof *slots);
    if (slots == NULL)
        return DOR_E_NO_MEMORY;
    rc = read_slots(rows, what, slots, count);
    if (rc != 0)
        return rc;
    *ret = TAKE(slots);
    *ret_count = count;
    return 0;
}

/* ------------------------------------------------------------------ Config made of files */

/* The text in snapshot_data, state of a node; NULL when versions before kept it otherwise. */
static const json_t *
state_text(const json_t *node)
{
    const json_t *text = json_object_get(json_object_get(node, "snapshot_data"), "state");
    return json_is_string(text) ? text : NULL;
}

static struct guest_span
span_of(const json_t *string)
{
    return (struct guest_span){json_string_value(string), json_string_length(string)};
}

static int
add(struct base_buf *buf, const char *before, struct guest_span span)
{
    int rc = base_buf_append(buf, before, strlen(before));
    return rc == 0 ? base_buf_append(buf, span.text, span.size_bytes) : rc;
}

int
guest_cloud_make_config(
    struct guest_span config, struct guest_span state, char **ret, size_t *ret_bytes)
{
    AUTO_JSON json_t *root = NULL;
    AUTO_BUF struct base_buf buf = {0};
    struct guest_span cpuid = {0};
    int rc = parse(state, "state.json", &root);
    if (rc != 0)
        return rc;
    const json_t *manager =
        state_text(json_object_get(json_object_get(root, "snapshots"), "memory-manager"));
    const json_t *vm = state_text(root);
    if (manager == NULL)
        return dor_fail(
            DOR_E_UNSUPPORTED,
            "state.json: is of a version of Cloud Hypervisor that cannot be woken by offload");
    if (vm != NULL) {
        rc = guest_cloud_check(span_of(vm).text, span_of(vm).size_bytes, "state.json: state");
        cpuid = guest_cloud_member(span_of(vm), "common_cpuid");
    }
    if (rc == 0)
        rc = add(&buf, "{\"vm_config\":", config);
    if (rc == 0 && cpuid.size_bytes > 0)
        rc = add(&buf, ",\"common_cpuid\":", cpuid);
    if (rc == 0)
        rc = add(&buf, ",\"memory_manager_data\":", span_of(manager));
    if (rc == 0)
        rc = base_buf_append(&buf, "}", 1);
    if (rc == 0)
        rc = guest_cloud_check((const char *)buf.data, buf.size_bytes, "config.json");
    if (rc != 0)
        return rc;
    *ret = (char *)buf.data;
    *ret_bytes = buf.size_bytes;
    buf = (struct base_buf){0};
    return 0;
}
