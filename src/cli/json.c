/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json.c - the thin layer between the verbs and jansson.
 */
#include "cli/json.h"

#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"
#include "cli/text.h"

#include <stdio.h>
#include <string.h>

void
cli_auto_json(json_t **value)
{
    json_decref(*value);
}

json_t *
cli_json_u64(uint64_t number)
{
    return json_integer((json_int_t)base_min_u64(number, INT64_MAX));
}

json_t *
cli_json_text(const char *text)
{
    if (text == NULL || text[0] == '\0')
        return json_null();
    /* The longest that cleaning can make of it: four characters for each byte. */
    size_t clean_bytes;
    if (!base_mul_size(strlen(text), 4, &clean_bytes) ||
        !base_add_size(clean_bytes, 1, &clean_bytes))
        return NULL;
    AUTO_FREE char *clean = base_alloc(clean_bytes);
    if (clean == NULL)
        return NULL;
    return json_string(cli_text_clean(text, clean, clean_bytes));
}

json_t *
cli_json_time(uint64_t realtime_ns)
{
    char text[CLI_TIME_BYTES];
    return cli_json_text(cli_text_time_utc(realtime_ns, text));
}

bool
cli_json_set(json_t *object, const char *key, json_t *value)
{
    return json_object_set_new(object, key, value) == 0;
}

bool
cli_json_set_kinds(json_t *object, const struct dor_kind_bytes *kinds)
{
    const struct {
        const char *key;
        uint64_t bytes;
    } rows[] = {
        {"logical_bytes", kinds->logical_bytes},
        {"zero_bytes", kinds->zero_bytes},
        {"exact_bytes", kinds->exact_bytes},
        {"patched_bytes", kinds->patched_bytes},
        {"raw_bytes", kinds->raw_bytes},
        {"reference_bytes", kinds->reference_bytes},
        {"patched_stored_bytes", kinds->patched_stored_bytes},
        {"raw_stored_bytes", kinds->raw_stored_bytes},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (!cli_json_set(object, rows[i].key, cli_json_u64(rows[i].bytes)))
            return false;
    return true;
}

json_t *
cli_json_region_types(const struct dor_kind_bytes *kinds)
{
    AUTO_JSON json_t *types = json_object();
    for (unsigned i = 0; i < DOR_REGION_TYPES; i++) {
        json_t *type = json_object();
        if (!cli_json_set(types, cli_text_region_type((enum dor_region_type)i), type) ||
            !cli_json_set_kinds(type, &kinds[i]))
            return NULL;
    }
    return json_incref(types);
}

json_t *
cli_json_classes(const uint64_t *pages_by_class)
{
    AUTO_JSON json_t *classes = json_object();
    uint64_t sum = 0;
    for (unsigned i = 0; i < DOR_CLASSES; i++) {
        const char *name = dor_page_class_name((enum dor_page_class)i);
        sum += pages_by_class[i];
        if (!cli_json_set(classes, name, cli_json_u64(pages_by_class[i])))
            return NULL;
    }
    return sum == 0 ? json_null() : json_incref(classes);
}

json_t *
cli_json_class_kinds(const struct dor_kind_bytes *kinds)
{
    AUTO_JSON json_t *classes = json_object();
    for (unsigned i = 0; i < DOR_CLASSES; i++) {
        if (kinds[i].logical_bytes == 0)
            continue;
        json_t *row = json_object();
        const char *name = dor_page_class_name((enum dor_page_class)i);
        if (!cli_json_set(classes, name, row) || !cli_json_set_kinds(row, &kinds[i]))
            return NULL;
    }
    return json_incref(classes);
}

json_t *
cli_json_working_set(struct dor_store *store, const char *name)
{
    struct dor_working_set set;
    if (dor_working_set_read(store, name, &set) != 0)
        return json_null();
    json_t *value = json_pack(
        "{s:o, s:o}", "wakes", cli_json_u64(set.wakes), "pages", cli_json_u64(set.page_count));
    dor_working_set_fini(&set);
    return value;
}

int
cli_json_print(json_t *value)
{
    AUTO_JSON json_t *owned = value;
    if (owned == NULL)
        return dor_fail(DOR_E_NO_MEMORY, "no memory for the JSON of the output");
    if (json_dumpf(owned, stdout, JSON_INDENT(2)) != 0)
        return dor_fail(DOR_E_IO, "cannot write JSON to standard output");
    putchar('\n');
    return 0;
}

void
cli_json_print_error(int code)
{
    AUTO_JSON json_t *error = json_pack(
        "{s:{s:i, s:s, s:o}}", "error", "code", -code, "name", dor_err_name(code), "message",
        cli_json_text(dor_err_message()));
    /* Without memory for words, the code is still told. */
    if (error == NULL || json_dumpf(error, stderr, JSON_COMPACT) != 0)
        fprintf(stderr, "{\"error\":{\"code\":%d}}", -code);
    fputc('\n', stderr);
}
