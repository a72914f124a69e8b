/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_node_body.c - the input is what a client sends: a line that names the kind of body, and a
 * JSON body, or a line and a query. What is taken is what the rows of bodies.def allow.
 */
#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"
#include "node/body.h"

#include <string.h>

static const char *const bodies[] = {"put",     "upload",   "get",         "copy_out",
                                     "copy_in", "root_add", "root_remove", "gc",
                                     "none",    "wake",     "offload"};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

static void
check_values(const struct node_values *values)
{
    dor_assert(values->images.count <= NODE_LIST_MAX);
    for (size_t i = 0; i < values->images.count; i++)
        dor_assert(values->images.items[i][0] == '/');
    dor_assert(values->image == NULL || values->image[0] == '/');
    dor_assert(values->offload == NULL || values->offload[0] == '/');
    dor_assert(values->parent == NULL || dor_name_check(values->parent) == 0);
}

static void
try_json(const char *body, const uint8_t *data, size_t size_bytes)
{
    struct node_values values = {0};
    json_t *json = NULL;
    int rc = node_body_parse(body, (const char *)data, size_bytes, &values, &json);
    dor_assert(rc == 0 || rc == DOR_E_USAGE);
    if (rc == 0)
        check_values(&values);
    json_decref(json);
}

/* key=value, both with %XX. */
static void
try_query(const char *body, const uint8_t *data, size_t size_bytes)
{
    enum { TEXT_BYTES = 5000 };
    struct node_values values = {0};
    const char *text = (const char *)data;
    const char *equals = memchr(text, '=', size_bytes);
    AUTO_FREE char *key = base_alloc(TEXT_BYTES);
    AUTO_FREE char *value = base_alloc(TEXT_BYTES);
    if (equals == NULL || key == NULL || value == NULL)
        return;
    size_t key_bytes = (size_t)(equals - text);
    int rc = node_percent_decode(text, key_bytes, true, key, TEXT_BYTES);
    if (rc == 0)
        rc = node_percent_decode(
            equals + 1, size_bytes - key_bytes - 1, true, value, TEXT_BYTES);
    if (rc == 0)
        rc = node_body_set(body, key, value, &values);
    dor_assert(rc == 0 || rc == DOR_E_USAGE);
    if (rc == 0)
        check_values(&values);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    if (size_bytes == 0)
        return 0;
    const char *body = bodies[data[0] % ARRAY_LEN(bodies)];
    try_json(body, data + 1, size_bytes - 1);
    try_query(body, data + 1, size_bytes - 1);
    return 0;
}
