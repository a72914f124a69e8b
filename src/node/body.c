/* SPDX-License-Identifier: Apache-2.0 */
/*
 * body.c - the rows of bodies.def as a table, and the readers of each kind.
 */
#include "node/body.h"

#include "base/err.h"
#include "base/size.h"

#include <ctype.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum kind {
    KIND_PATH,
    KIND_NAME,
    KIND_TEXT,
    KIND_FLAG,
    KIND_NUMBER,
    KIND_PATHS,
    KIND_SETTINGS
};

enum {
    DEPTH_MAX = 8, /* of JSON; what is read here has two levels */
    SETTINGS_MAX = 64,
    DECIMAL = 10,
    HEXADECIMAL = 16,
};

struct field {
    const char *body;
    const char *key;
    enum kind kind;
    size_t offset;
};

static const struct field fields[] = {
#define FIELD(body, key, kind, field)                                                          \
    {#body, key, KIND_##kind, offsetof(struct node_values, field)},
#include "node/bodies.def"
#undef FIELD
};

static const struct field *
find_field(const char *body, const char *key)
{
    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        if (strcmp(fields[i].body, body) == 0 && strcmp(fields[i].key, key) == 0)
            return &fields[i];
    return NULL;
}

static int
check_text(const char *text, enum kind kind)
{
    if (strlen(text) > DOR_PATH_BYTES_MAX)
        return dor_fail(DOR_E_USAGE, "is too long");
    if (kind == KIND_NAME)
        return dor_name_check(text);
    if (kind == KIND_PATH && text[0] != '/')
        return dor_fail(DOR_E_USAGE, "\"%.60s\" is no absolute path", text);
    return 0;
}

static int
take_text(const json_t *value, enum kind kind, const char **ret)
{
    const char *text = json_string_value(value);
    if (text == NULL)
        return dor_fail(DOR_E_USAGE, "must be a text");
    int rc = check_text(text, kind);
    if (rc == 0)
        *ret = text;
    return rc;
}

static int
take_paths(const json_t *value, struct node_list *list)
{
    size_t count = json_array_size(value);
    if (!json_is_array(value) || count > NODE_LIST_MAX)
        return dor_fail(DOR_E_USAGE, "must be a list of at most %d paths", NODE_LIST_MAX);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = take_text(json_array_get(value, i), KIND_PATH, &list->items[i]);
    list->count = rc == 0 ? count : 0;
    return rc;
}

static int
take_settings(json_t *value, json_t **ret)
{
    const char *key = NULL;
    json_t *item = NULL;
    if (!json_is_object(value) || json_object_size(value) > SETTINGS_MAX)
        return dor_fail(DOR_E_USAGE, "must be an object of at most %d texts", SETTINGS_MAX);
    json_object_foreach(value, key, item)
    {
        if (!json_is_string(item))
            return dor_fail(DOR_E_USAGE, "%.60s: must be a text", key);
    }
    *ret = value;
    return 0;
}

static int
take_json(const struct field *field, json_t *value, struct node_values *values)
{
    void *place = (char *)values + field->offset;
    switch (field->kind) {
    case KIND_PATH:
    case KIND_NAME:
    case KIND_TEXT:
        return take_text(value, field->kind, place);
    case KIND_FLAG:
        if (!json_is_boolean(value))
            return dor_fail(DOR_E_USAGE, "must be true or false");
        *(bool *)place = json_is_true(value);
        return 0;
    case KIND_NUMBER:
        if (!json_is_integer(value) || json_integer_value(value) < 0)
            return dor_fail(DOR_E_USAGE, "must be a whole number, not negative");
        *(uint64_t *)place = (uint64_t)json_integer_value(value);
        return 0;
    case KIND_PATHS:
        return take_paths(value, place);
    case KIND_SETTINGS:
        return take_settings(value, place);
    }
    dor_assert(false);
}

/* null is the same as leaving it out. */
static int
take_member(const char *body, const char *key, json_t *value, struct node_values *values)
{
    const struct field *field = find_field(body, key);
    if (field == NULL)
        return dor_fail(DOR_E_USAGE, "body: there is no \"%.60s\" here", key);
    int rc = json_is_null(value) ? 0 : take_json(field, value, values);
    return rc == 0 ? 0 : dor_fail_wrap("body: %s", key);
}

/* jansson's own bound is deeper than this thread's stack needs to be trusted with. */
static int
check_depth(const char *text, size_t size_bytes)
{
    int depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < size_bytes; i++) {
        char c = text[i];
        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && (c == '[' || c == '{') && ++depth > DEPTH_MAX)
            return dor_fail(DOR_E_USAGE, "body: the JSON is nested too deeply");
        else if (!quoted && (c == ']' || c == '}'))
            depth--;
    }
    return 0;
}

int
node_body_parse(
    const char *body, const char *text, size_t size_bytes, struct node_values *values,
    json_t **ret_json)
{
    json_error_t error;
    const char *key = NULL;
    json_t *value = NULL;
    int rc = check_depth(text, size_bytes);
    if (rc != 0)
        return rc;
    json_t *json = json_loadb(text, size_bytes, JSON_REJECT_DUPLICATES, &error);
    if (json == NULL)
        return dor_fail(DOR_E_USAGE, "body: no JSON: line %d: %s", error.line, error.text);
    if (!json_is_object(json))
        rc = dor_fail(DOR_E_USAGE, "body: must be a JSON object");
    json_object_foreach(json, key, value)
    {
        if (rc == 0)
            rc = take_member(body, key, value, values);
    }
    if (rc != 0) {
        json_decref(json);
        return rc;
    }
    *ret_json = json;
    return 0;
}

/* ------------------------------------------------------------------ queries */

static int
take_word(const struct field *field, const char *text, struct node_values *values)
{
    void *place = (char *)values + field->offset;
    char *end = NULL;
    switch (field->kind) {
    case KIND_PATH:
    case KIND_NAME:
    case KIND_TEXT:
        *(const char **)place = text;
        return check_text(text, field->kind);
    case KIND_FLAG:
        *(bool *)place = strcmp(text, "true") == 0;
        if (!*(bool *)place && strcmp(text, "false") != 0)
            return dor_fail(DOR_E_USAGE, "must be true or false");
        return 0;
    case KIND_NUMBER:
        *(uint64_t *)place = strtoull(text, &end, DECIMAL);
        if (!isdigit((unsigned char)text[0]) || *end != '\0' || strlen(text) > 18)
            return dor_fail(DOR_E_USAGE, "must be a whole number, not negative");
        return 0;
    case KIND_PATHS:
    case KIND_SETTINGS:
        return dor_fail(DOR_E_USAGE, "cannot be in a query");
    }
    dor_assert(false);
}

int
node_body_set(const char *body, const char *key, const char *value, struct node_values *values)
{
    const struct field *field = find_field("any", key);
    if (field == NULL)
        field = find_field(body, key);
    if (field == NULL)
        return dor_fail(DOR_E_USAGE, "query: there is no \"%.60s\" here", key);
    int rc = take_word(field, value, values);
    return rc == 0 ? 0 : dor_fail_wrap("query: %s", key);
}

static int
hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + DECIMAL : -1;
}

int
node_percent_decode(const char *text, size_t length, bool plus, char *ret, size_t size_bytes)
{
    size_t used = 0;
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        if (c == '%') {
            int high = length - i > 2 ? hex_value(text[i + 1]) : -1;
            int low = high < 0 ? -1 : hex_value(text[i + 2]);
            if (low < 0)
                return dor_fail(DOR_E_USAGE, "address: a bare %%");
            c = (char)(high * HEXADECIMAL + low);
            i += 2;
        } else if (plus && c == '+') {
            c = ' ';
        }
        if (c == '\0')
            return dor_fail(DOR_E_USAGE, "address: a zero byte");
        if (used + 1 >= size_bytes)
            return dor_fail(DOR_E_USAGE, "address: a part of it is too long");
        ret[used++] = c;
    }
    ret[used] = '\0';
    json_t *text_json = json_stringn(ret, used);
    if (text_json == NULL)
        return dor_fail(DOR_E_USAGE, "address: is not UTF-8");
    json_decref(text_json);
    return 0;
}
