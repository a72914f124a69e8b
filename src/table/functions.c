/* SPDX-License-Identifier: Apache-2.0 */
/*
 * functions.c - registries of functions, and what the engine asks of a table.
 *
 *     libraries in the table --load--> registry (names, flags, numbers) + context in the engine
 *
 * A registry is thrown away as a whole: a library that goes, is replaced or fails to load takes its
 * context with it, so nothing of it stays behind. A new one is made from what the table holds.
 *
 * Invariants:
 * 1. A call's changes are one group: given up when the call fails, also inside EXEC, whose other
 *    changes stay.
 * 2. Names in a registry are unique over its libraries.
 */
#include "table/functions.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/le.h"
#include "base/mem.h"
#include "base/size.h"
#include "table/commands.h"
#include "table/hash.h"
#include "table/limits.h"
#include "table/log.h"
#include "table/status.h"
#include "table/worker_priv.h"

enum {
    FUNCTION_NAME_BYTES_MAX = 255,
    FUNCTIONS_MAX = 65536, /* of a tenant */
};

#define CALL_MS_DEFAULT     50
#define HEAP_BYTES_DEFAULT  (UINT64_C(32) << 20)
#define REPLY_BYTES_DEFAULT (UINT64_C(16) << 20)
#define LOAD_MS_LEAST       500 /* loading happens once and compiles */

struct table_engine_limits
table_functions_limits(const struct table_functions *functions)
{
    const struct table_function_limits *limits = &functions->tenant->function_limits;
    return (struct table_engine_limits){
        .call_ns =
            (uint64_t)(limits->call_ms != 0 ? limits->call_ms : CALL_MS_DEFAULT) * 1000000,
        .heap_bytes = limits->heap_bytes != 0 ? limits->heap_bytes : HEAP_BYTES_DEFAULT,
        .reply_bytes = base_min_u64(
            limits->reply_bytes != 0 ? limits->reply_bytes : REPLY_BYTES_DEFAULT, 1u << 30),
    };
}

/* ---- what the engine asks ---- */

/* Room in the log for a change of BYTES, and the group of this call's changes, at its first one. */
static int
begin_change(struct table_functions *functions, uint64_t bytes)
{
    struct table_log *log = functions->tenant->log;
    if (log != NULL && table_log_room(log, bytes) != 0) {
        /* Not the tenant's memory, for which the code stands here. */
        int rc = dor_fail_wrap("MISCONF Errors writing to the AOF file");
        return rc == DOR_E_NO_SPACE ? DOR_E_IO : rc;
    }
    if (functions->changing)
        return 0;
    int rc = table_group_begin(functions->tenant->table, log, &functions->group);
    if (rc == 0)
        functions->changing = true;
    return rc;
}

static int
host_key(
    const struct table_functions *functions, struct table_engine_bytes bytes,
    struct table_key *ret)
{
    if (table_key(functions->tenant->table, bytes.bytes, bytes.length, ret))
        return 0;
    return dor_fail(
        DOR_E_USAGE, "a key of %zu bytes: %u are possible", bytes.length, TABLE_KEY_LENGTH_MAX);
}

static int
host_put(
    void *tenant, struct table_engine_bytes key_bytes, struct table_engine_bytes value,
    int64_t ttl_ms)
{
    struct table_functions *functions = tenant;
    struct table *table = functions->tenant->table;
    struct table_key key;
    int rc = host_key(functions, key_bytes, &key);
    if (rc == 0)
        rc = begin_change(functions, (uint64_t)key.length + value.length);
    if (rc == 0)
        rc = table_set(
            table, &key, value.bytes, value.length,
            ttl_ms != 0 ? table_now(table) + ttl_ms : 0);
    if (rc == DOR_E_NO_SPACE)
        return dor_fail(rc, "OOM command not allowed when used memory > 'maxmemory'.");
    return rc;
}

static int
host_remove(void *tenant, struct table_engine_bytes key_bytes, bool *ret_removed)
{
    struct table_functions *functions = tenant;
    struct table_key key;
    int rc = host_key(functions, key_bytes, &key);
    if (rc == 0)
        rc = begin_change(functions, key.length);
    if (rc == 0)
        *ret_removed = table_remove(functions->tenant->table, &key);
    return rc;
}

static int
host_increase(void *tenant, struct table_engine_bytes key_bytes, int64_t by, int64_t *ret)
{
    struct table_functions *functions = tenant;
    struct table *table = functions->tenant->table;
    struct table_key key;
    int rc = host_key(functions, key_bytes, &key);
    struct table_value value = {0};
    int64_t number = 0;
    if (rc != 0)
        return rc;
    if (table_find(table, &key, true, &value) &&
        !resp_integer(value.bytes, value.length, &number))
        return dor_fail(DOR_E_USAGE, "value is not an integer or out of range");
    if (__builtin_add_overflow(number, by, &number))
        return dor_fail(DOR_E_USAGE, "increment or decrement would overflow");
    char text[24];
    int n = snprintf(text, sizeof text, "%" PRId64, number);
    rc = begin_change(functions, key.length + sizeof text);
    if (rc == 0)
        rc = table_set(table, &key, text, (size_t)n, value.expiry_ms);
    if (rc == 0)
        *ret = number;
    return rc;
}

struct host_scan {
    void (*fn)(void *context, struct table_engine_bytes key);
    void *context;
};

static bool
scan_key(void *context, const struct table_key *key, const struct table_value *value)
{
    const struct host_scan *scan = context;
    (void)value;
    scan->fn(scan->context, (struct table_engine_bytes){key->bytes, key->length});
    return true;
}

static int
host_scan(
    void *tenant, uint64_t cursor, uint32_t buckets,
    void (*fn)(void *context, struct table_engine_bytes key), void *context, uint64_t *ret)
{
    const struct table_functions *functions = tenant;
    struct host_scan scan = {fn, context};
    *ret = table_scan(functions->tenant->table, cursor, buckets, scan_key, &scan);
    return 0;
}

static void
host_arena(void *tenant, int *ret_fd, uint64_t *ret_bytes, uint64_t *ret_bytes_max)
{
    const struct table_functions *functions = tenant;
    struct table_arena *arena = table_arena(functions->tenant->table);
    /* The engine's mapping is another one: where pages were to come it would find zeros. */
    table_arena_complete(arena);
    *ret_fd = arena->fd;
    *ret_bytes = arena->file_bytes;
    *ret_bytes_max = arena->mapped_bytes;
}

/* Where others are served by the same thread it has to hurry instead. */
void
table_functions_give_way(struct table_functions *functions)
{
    if (functions->is_long || functions->worker->tenants->next != NULL)
        return;
    functions->is_long = true;
    table_limits_call_is_long(true);
}

static bool
host_tick(void *tenant, uint64_t elapsed_ns)
{
    struct table_functions *functions = tenant;
    (void)elapsed_ns;
    table_functions_give_way(functions);
    return table_status_call_is_killed();
}

static void
host_kept_too_much(void *tenant, bool all)
{
    struct table_functions *functions = tenant;
    functions->drop = true;
    functions->drop_all = all;
}

static char *
copy_text(struct table_engine_bytes bytes)
{
    char *copy = base_alloc(bytes.length + 1);
    if (copy != NULL) {
        memcpy(copy, bytes.bytes, bytes.length);
        copy[bytes.length] = '\0';
    }
    return copy;
}

static uint32_t
chain_of(const uint8_t *name, size_t length)
{
    return table_hash_bytes(0, name, length) % TABLE_FUNCTION_CHAINS;
}

struct table_function *
table_function_find(const struct table_registry *registry, const uint8_t *name, size_t length)
{
    struct table_function *function = registry->chains[chain_of(name, length)];
    while (function != NULL &&
           (strlen(function->name) != length || memcmp(function->name, name, length) != 0))
        function = function->next_in_chain;
    return function;
}

static int
host_registered(
    void *tenant, struct table_engine_bytes name, struct table_engine_bytes description,
    uint32_t flags, uint32_t number)
{
    struct table_functions *functions = tenant;
    struct table_registry *registry = functions->filling;
    struct table_function_library *library = functions->loading;
    if (!table_library_name_is_good(name.bytes, name.length) ||
        name.length > FUNCTION_NAME_BYTES_MAX)
        return dor_fail(
            DOR_E_USAGE, "Function names can only contain letters, numbers, or "
                         "underscores(_) and must be at least one character long");
    if (table_function_find(registry, name.bytes, name.length) != NULL)
        return dor_fail(
            DOR_E_EXISTS, "Function %.*s already exists", (int)name.length,
            (const char *)name.bytes);
    if (registry->function_count >= FUNCTIONS_MAX)
        return dor_fail(DOR_E_USAGE, "there are %d functions already", FUNCTIONS_MAX);
    struct table_function *function = base_zalloc(sizeof *function);
    if (function == NULL || (function->name = copy_text(name)) == NULL ||
        (function->description = copy_text(description)) == NULL) {
        if (function != NULL)
            base_free(function->name);
        base_free(function);
        return DOR_E_NO_MEMORY;
    }
    function->flags = flags | library->flags;
    function->number = number;
    function->next = library->functions;
    library->functions = function;
    library->function_count++;
    uint32_t chain = chain_of(name.bytes, name.length);
    function->next_in_chain = registry->chains[chain];
    registry->chains[chain] = function;
    registry->function_count++;
    return 0;
}

static const struct table_engine_host host = {
    .put = host_put,
    .remove = host_remove,
    .increase = host_increase,
    .scan = host_scan,
    .registered = host_registered,
    .arena = host_arena,
    .tick = host_tick,
    .kept_too_much = host_kept_too_much,
    .last_error = dor_err_message,
};

/* ---- registries ---- */

static void
free_library(struct table_function_library *library)
{
    while (library->functions != NULL) {
        struct table_function *function = library->functions;
        library->functions = function->next;
        base_free(function->name);
        base_free(function->description);
        base_free(function);
    }
    base_free(library->name);
    base_free(library);
}

static void
free_registry(struct table_functions *functions, struct table_registry *registry)
{
    if (registry == NULL)
        return;
    if (registry->context != NULL)
        functions->engine->class->tenant_free(registry->context);
    while (registry->libraries != NULL) {
        struct table_function_library *library = registry->libraries;
        registry->libraries = library->next;
        free_library(library);
    }
    base_free(registry);
}

struct table_function_library *
table_function_library_find(
    const struct table_registry *registry, const uint8_t *name, size_t length)
{
    struct table_function_library *library = registry->libraries;
    while (library != NULL &&
           (strlen(library->name) != length || memcmp(library->name, name, length) != 0))
        library = library->next;
    return library;
}

static void
add_by_name(struct table_registry *registry, struct table_function_library *library)
{
    struct table_function_library **at = &registry->libraries;
    while (*at != NULL && strcmp((*at)->name, library->name) < 0)
        at = &(*at)->next;
    library->next = *at;
    *at = library;
    registry->library_count++;
}

static int
need_context(struct table_functions *functions, struct table_registry *registry)
{
    if (registry->context != NULL)
        return 0;
    if (functions->engine == NULL)
        return dor_fail(
            DOR_E_UNSUPPORTED, "there is no engine for storage functions on this server");
    int rc = table_engine_start(functions->engine, &host);
    char error[TABLE_ENGINE_ERROR_BYTES] = "";
    if (rc == 0 && (rc = functions->engine->class->tenant_new(
                        functions->engine->state, functions, &registry->context, error)) != 0)
        return dor_fail(rc, "%s", error);
    return rc;
}

/* Not all that takes long asks on its way, so the next calls give way before they have begun. */
void
table_functions_overran(struct table_functions *functions)
{
    functions->tenant->suspect_until_ms = functions->worker->now_ms + TABLE_SUSPECT_MS;
    table_worker_overran(functions->worker, functions->tenant);
}

/* Run the top of the library SOURCE. On an error REGISTRY is good for nothing any more. */
static int
load_library(
    struct table_functions *functions, struct table_registry *registry, const uint8_t *source,
    size_t length, const struct table_library_head *head)
{
    int rc = need_context(functions, registry);
    if (rc != 0)
        return rc;
    struct table_function_library *library = base_zalloc(sizeof *library);
    if (library == NULL || (library->name = copy_text(head->name)) == NULL) {
        base_free(library);
        return DOR_E_NO_MEMORY;
    }
    memcpy(library->engine, head->engine, sizeof library->engine);
    library->flags = head->flags;
    add_by_name(registry, library);
    struct table_engine_source code = {
        .kind = head->engine,
        .name = head->name,
        .code = {source + head->code_offset, length - head->code_offset},
        .flags = head->flags,
        .limits = table_functions_limits(functions),
    };
    code.limits.call_ns = base_max_u64(code.limits.call_ns, (uint64_t)LOAD_MS_LEAST * 1000000);
    functions->filling = registry;
    functions->loading = library;
    char error[TABLE_ENGINE_ERROR_BYTES] = "";
    table_status_call_begin(functions->tenant->id, code.limits.call_ns);
    rc = functions->engine->class->load(registry->context, &code, error);
    table_status_call_end();
    functions->loading = NULL;
    functions->filling = NULL;
    if (functions->is_long)
        table_limits_call_is_long(functions->is_long = false);
    if (rc == DOR_E_TIMEOUT || rc == DOR_E_NO_SPACE)
        table_functions_overran(functions);
    if (rc != 0)
        return dor_fail(rc, "Error registering functions: %s", error);
    if (library->function_count == 0)
        return dor_fail(DOR_E_USAGE, "No functions registered");
    return 0;
}

struct fill {
    struct table_functions *functions;
    struct table_registry *registry;
    struct table_engine_bytes without; /* the library that is not loaded */
    bool strict;                       /* one that fails is an error */
    int rc;
};

static bool
load_kept(void *context, const struct table_key *key, const struct table_value *value)
{
    struct fill *fill = context;
    struct table_library_head head;
    if (fill->without.bytes != NULL && key->length == fill->without.length &&
        memcmp(key->bytes, fill->without.bytes, key->length) == 0)
        return true;
    /* A damaged table may have it twice. */
    if (table_function_library_find(fill->registry, key->bytes, key->length) != NULL)
        return true;
    int rc = table_library_parse(value->bytes, value->length, &head);
    if (rc == 0)
        rc = load_library(fill->functions, fill->registry, value->bytes, value->length, &head);
    if (rc != 0)
        fill->rc = dor_fail_wrap("library %.*s", (int)key->length, (const char *)key->bytes);
    return rc == 0;
}

/* A registry of the libraries that the table holds, but for WITHOUT. */
static int
make_registry(
    struct table_functions *functions, struct table_engine_bytes without,
    struct table_registry **ret)
{
    struct table_registry *registry = base_zalloc(sizeof *registry);
    if (registry == NULL)
        return DOR_E_NO_MEMORY;
    struct fill fill = {.functions = functions, .registry = registry, .without = without};
    int rc = table_each_library(functions->tenant->table, load_kept, &fill);
    if (rc == 0)
        rc = fill.rc;
    if (rc != 0) {
        free_registry(functions, registry);
        return rc;
    }
    *ret = registry;
    return 0;
}

static void
free_functions(void *arg)
{
    struct table_functions *functions = arg;
    table_functions_unlist(functions);
    free_registry(functions, functions->registry);
    base_free(functions);
}

struct table_functions *
table_functions_have(struct table_tenant *tenant)
{
    return tenant->functions;
}

void
table_functions_forget(struct table_tenant *tenant)
{
    struct table_functions *functions = tenant->functions;
    if (functions == NULL)
        return;
    table_functions_unlist(functions);
    free_registry(functions, functions->registry);
    functions->registry = NULL;
}

/* What the tenant of CALL has of functions; it goes with the tenant. */
static struct table_functions *
new_functions(struct table_call *call)
{
    struct table_tenant *tenant = call->tenant;
    struct table_functions *functions = base_zalloc(sizeof *functions);
    if (functions == NULL)
        return NULL;
    functions->tenant = tenant;
    functions->worker = call->worker;
    functions->engine = table_worker_engine(call->worker);
    tenant->functions = base_keep(functions);
    tenant->functions_free = free_functions;
    return functions;
}

int
table_functions_of(struct table_call *call, struct table_functions **ret)
{
    struct table_functions *functions = call->tenant->functions;
    if (functions == NULL)
        functions = new_functions(call);
    if (functions == NULL)
        return DOR_E_NO_MEMORY;
    int rc = 0;
    if (functions->registry == NULL)
        rc = make_registry(
            functions, (struct table_engine_bytes){NULL, 0}, &functions->registry);
    if (rc == 0) {
        table_functions_touch(functions);
        *ret = functions;
    }
    return rc;
}

/* Load SOURCE into a registry that may go on with it; *RET is NULL when it is the present one. */
static int
load_beside(
    struct table_functions *functions, const uint8_t *source, size_t length,
    const struct table_library_head *head, bool exists, struct table_registry **ret)
{
    struct table_registry *registry = functions->registry;
    if (exists) {
        int rc = make_registry(functions, head->name, &registry);
        if (rc != 0)
            return rc;
    }
    int rc = load_library(functions, registry, source, length, head);
    if (rc != 0) {
        if (exists)
            free_registry(functions, registry);
        else
            table_functions_forget(functions->tenant);
        return rc;
    }
    *ret = exists ? registry : NULL;
    return 0;
}

int
table_functions_add(
    struct table_functions *functions, const uint8_t *source, size_t length, bool replace,
    struct table_engine_bytes *ret_name)
{
    struct table_library_head head;
    struct table_key key;
    int rc = table_library_parse(source, length, &head);
    if (rc != 0)
        return rc;
    bool exists = table_function_library_find(
                      functions->registry, head.name.bytes, head.name.length) != NULL;
    if (exists && !replace)
        return dor_fail(
            DOR_E_EXISTS, "Library '%.*s' already exists", (int)head.name.length,
            (const char *)head.name.bytes);
    if (!table_library_key(functions->tenant->table, head.name.bytes, head.name.length, &key))
        return dor_fail(DOR_E_USAGE, "the library's name is too long");
    struct table_registry *made = NULL;
    rc = load_beside(functions, source, length, &head, exists, &made);
    if (rc != 0)
        return rc;
    rc = table_set(functions->tenant->table, &key, source, length, 0);
    if (rc != 0) {
        free_registry(functions, made);
        table_functions_forget(functions->tenant);
        return rc;
    }
    if (made != NULL) {
        free_registry(functions, functions->registry);
        functions->registry = made;
    }
    table_functions_touch(functions);
    *ret_name = head.name;
    return 0;
}

void
table_functions_enter(struct table_engine *engine, void (*fn)(void *context), void *context)
{
    if (engine != NULL && engine->state != NULL)
        engine->class->enter(engine->state, fn, context);
    else
        fn(context);
}
