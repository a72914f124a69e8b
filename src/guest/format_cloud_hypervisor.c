/* SPDX-License-Identifier: Apache-2.0 */
/*
 * format_cloud_hypervisor.c - a folder that Cloud Hypervisor's `vm.snapshot` wrote: config.json,
 * state.json and memory-ranges.
 *
 *     memory-ranges: the guest's memory ranges one after another, in the order of their table
 *     state.json:    {"snapshots": {"memory-manager": {"snapshot_data": STATE, ...}, ...}, ...}
 *
 * STATE holds the memory manager's state, by version of the monitor as
 *     {"state": "TEXT"}                                      TEXT is JSON in a string
 *     {"memory-manager-section": {"snapshot": [123, 34 ...]}}  the bytes of that text as numbers
 * and TEXT is
 *     {"memory_ranges": {"data": [{"gpa": 0, "length": 134217728}, ...]}, ...}
 * Whatever the nesting, the table is the first "memory_ranges" below the memory manager. Ranges
 * that have a file of their own (persistent memory, shared zones) are not in the table.
 */
#include "base/err.h"
#include "base/size.h"
#include "guest/image_priv.h"

#include <inttypes.h>
#include <jansson.h>
#include <string.h>

enum { RANGES_MAX = 65536, DEPTH_MAX = 8 };
#define JSON_BYTES_MAX ((uint64_t)64 << 20)
/* States hold u64 numbers that jansson's integers cannot; addresses of pages are exact as reals. */
#define PARSE_FLAGS (JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL)

static const char memory_name[] = "memory-ranges";
static const char state_name[] = "state.json";
static const char manager_name[] = "memory-manager";

static void
auto_decref(json_t **json)
{
    json_decref(*json);
}

#define AUTO_JSON __attribute__((cleanup(auto_decref)))

static bool
matches(const struct dor_image *image)
{
    return guest_image_find(image, memory_name) < image->file_count &&
           guest_image_find(image, state_name) < image->file_count;
}

/* ------------------------------------------------------------------ finding the table */

static int
fail_parse(const struct guest_file *file, const json_error_t *error)
{
    if (json_error_code(error) == json_error_out_of_memory)
        return dor_fail(DOR_E_NO_MEMORY, "image %s: no memory to read it", file->label);
    return dor_fail(
        DOR_E_CORRUPT, "image %s: line %d, column %d: %s; the snapshot is damaged or cut",
        file->label, error->line, error->column, error->text);
}

static int
parse(const struct guest_file *file, const char *text, size_t size_bytes, json_t **ret)
{
    json_error_t error;
    json_t *json = json_loadb(text, size_bytes, PARSE_FLAGS, &error);
    if (json == NULL)
        return fail_parse(file, &error);
    *ret = json;
    return 0;
}

/* Text given as an array of its bytes; *RET stays NULL when it is something else. */
static int
join_bytes(const json_t *array, struct base_buf *ret)
{
    size_t count = json_array_size(array);
    size_t i;
    json_t *byte;
    int rc = base_buf_reserve(ret, count);
    if (rc != 0)
        return rc;
    json_array_foreach(array, i, byte)
    {
        double v = json_real_value(byte);
        if (!json_is_real(byte) || v < 0 || v > UINT8_MAX) {
            ret->size_bytes = 0;
            return 0;
        }
        ret->data[ret->size_bytes++] = (uint8_t)v;
    }
    return 0;
}

static int
find_table(const struct guest_file *file, json_t *json, unsigned depth, json_t **ret);

/* JSON inside a string or an array of bytes. Other strings are no error: they are not it. */
static int
find_in_text(
    const struct guest_file *file, const char *text, size_t size_bytes, unsigned depth,
    json_t **ret)
{
    AUTO_JSON json_t *json = NULL;
    if (memmem(text, size_bytes, "memory_ranges", strlen("memory_ranges")) == NULL)
        return 0;
    int rc = parse(file, text, size_bytes, &json);
    return rc == 0 ? find_table(file, json, depth, ret) : rc;
}

static int
find_in_object(const struct guest_file *file, json_t *object, unsigned depth, json_t **ret)
{
    const char *key;
    json_t *value;
    int rc = 0;
    json_t *table = json_object_get(object, "memory_ranges");
    json_t *data = json_is_object(table) ? json_object_get(table, "data") : table;
    if (json_is_array(data)) {
        *ret = json_incref(data);
        return 0;
    }
    json_object_foreach(object, key, value)
    {
        rc = find_table(file, value, depth, ret);
        if (rc != 0 || *ret != NULL)
            return rc;
    }
    return 0;
}

/* Set *RET to the table below JSON, if there is one. */
static int
find_table(const struct guest_file *file, json_t *json, unsigned depth, json_t **ret)
{
    if (depth == DEPTH_MAX)
        return 0;
    if (json_is_object(json))
        return find_in_object(file, json, depth + 1, ret);
    if (json_is_string(json))
        return find_in_text(
            file, json_string_value(json), json_string_length(json), depth + 1, ret);
    if (json_is_array(json)) {
        AUTO_BUF struct base_buf text = {0};
        int rc = join_bytes(json, &text);
        if (rc != 0 || text.size_bytes == 0)
            return rc;
        return find_in_text(file, (const char *)text.data, text.size_bytes, depth + 1, ret);
    }
    return 0;
}

static int
read_state(const struct guest_file *file, json_t **ret)
{
    AUTO_JSON json_t *root = NULL;
    if (file->size_bytes == 0 || file->size_bytes > JSON_BYTES_MAX)
        return dor_fail(
            DOR_E_CORRUPT, "image %s: %" PRIu64 " bytes are not possible", file->label,
            file->size_bytes);
    json_t *found = NULL;
    int rc = parse(file, (const char *)file->data, (size_t)file->size_bytes, &root);
    if (rc != 0)
        return rc;
    json_t *manager = json_object_get(json_object_get(root, "snapshots"), manager_name);
    if (manager != NULL)
        rc = find_table(file, manager, 0, &found);
    if (rc == 0 && found == NULL)
        rc = dor_fail(
            DOR_E_UNSUPPORTED,
            "image %s: no table of memory_ranges below snapshots, %s; is it of another version "
            "of "
            "Cloud Hypervisor?",
            file->label, manager_name);
    if (rc == 0)
        *ret = found;
    return rc;
}

static int
read_table(const struct dor_image *image, json_t **ret)
{
    size_t index = guest_image_find(image, state_name);
    if (index == image->file_count)
        return dor_fail(
            DOR_E_USAGE, "image %s: has no %s; it is no Cloud Hypervisor snapshot", image->path,
            state_name);
    return read_state(&image->files[index], ret);
}

/* ------------------------------------------------------------------ memory */

static int
read_number(const char *path, const json_t *row, size_t i, const char *key, uint64_t *ret)
{
    const double number_max = 0x1p56; /* more than any address, and exact */
    const json_t *value = json_object_get(row, key);
    double v = json_real_value(value);
    if (!json_is_real(value) || v < 0 || v > number_max || (uint64_t)v % DOR_PAGE_BYTES != 0)
        return dor_fail(
            DOR_E_CORRUPT,
            "image %s: %s: memory range %zu: its %s is missing or no multiple of %zu", path,
            state_name, i, key, DOR_PAGE_BYTES);
    *ret = (uint64_t)v;
    return 0;
}

static int
add_ranges(struct dor_image *image, size_t file_index, const json_t *table)
{
    const struct guest_file *file = &image->files[file_index];
    uint64_t at = 0;
    int rc = guest_image_begin_file(image, file_index);
    for (size_t i = 0; rc == 0 && i < json_array_size(table); i++) {
        const json_t *row = json_array_get(table, i);
        uint64_t gpa = 0;
        uint64_t length = 0;
        rc = read_number(image->path, row, i, "gpa", &gpa);
        if (rc == 0)
            rc = read_number(image->path, row, i, "length", &length);
        if (rc != 0)
            return rc;
        if (length > file->size_bytes - at)
            return dor_fail(
                DOR_E_CORRUPT,
                "image %s: memory range %zu needs %" PRIu64 " bytes at %" PRIu64
                " and the file has only %" PRIu64 "; it is cut",
                file->label, i, length, at, file->size_bytes);
        rc = guest_image_add_pages(image, file_index, at, length / DOR_PAGE_BYTES, gpa, 0);
        at += length;
    }
    if (rc == 0 && at != file->size_bytes)
        rc = dor_fail(
            DOR_E_CORRUPT,
            "image %s: has %" PRIu64 " bytes, but the ranges of %s are %" PRIu64
            "; the files are not of one snapshot",
            file->label, file->size_bytes, state_name, at);
    return rc;
}

static int
read_cloud_hypervisor(struct dor_image *image)
{
    AUTO_JSON json_t *table = NULL;
    size_t memory = guest_image_find(image, memory_name);
    int rc = read_table(image, &table);
    if (rc == 0 && memory == image->file_count)
        rc = dor_fail(
            DOR_E_USAGE, "image %s: has no %s; the memory is missing", image->path,
            memory_name);
    if (rc == 0 && json_array_size(table) > RANGES_MAX)
        rc = dor_fail(
            DOR_E_CORRUPT, "image %s: %s: %zu memory ranges are not possible", image->path,
            state_name, json_array_size(table));
    for (size_t i = 0; rc == 0 && i < image->file_count; i++)
        rc = i == memory ? add_ranges(image, i, table) : guest_image_add_other(image, i);
    return rc;
}

int
guest_cloud_hypervisor_table(
    const char *state, size_t size_bytes, struct dor_image_range **ret, size_t *ret_count)
{
    AUTO_JSON json_t *table = NULL;
    char label[] = "state.json";
    const struct guest_file file = {
        .label = label, .size_bytes = size_bytes, .data = (uint8_t *)(uintptr_t)state};
    int rc = read_state(&file, &table);
    if (rc != 0)
        return rc;
    size_t count = json_array_size(table);
    if (count == 0 || count > RANGES_MAX)
        return dor_fail(
            DOR_E_CORRUPT, "image %s: %zu memory ranges are not possible", label, count);
    AUTO_FREE struct dor_image_range *ranges = base_array(count, sizeof *ranges);
    if (ranges == NULL)
        return DOR_E_NO_MEMORY;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        const json_t *row = json_array_get(table, i);
        uint64_t length = 0;
        rc = read_number("offload", row, i, "gpa", &ranges[i].address);
        if (rc == 0)
            rc = read_number("offload", row, i, "length", &length);
        ranges[i].page_count = length / DOR_PAGE_BYTES;
    }
    if (rc != 0)
        return rc;
    *ret = TAKE(ranges);
    *ret_count = count;
    return 0;
}

const struct guest_format guest_format_cloud_hypervisor = {
    .name = "cloud-hypervisor",
    .folder = true,
    .matches = matches,
    .read = read_cloud_hypervisor,
};
