/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_wasm.c - modules of WebAssembly as storage functions. A worker has one memory of 4 GiB, of
 * which a call sees what is its own:
 *
 *     0          KV_ROOM_BYTES  the module's data, stack and heap: its image, private
 *     KV_CALL_AT                keys and arguments, for reading
 *     KV_TABLE_AT  4 GiB        the tenant's arena, for reading; behind its end zeros, for reading
 *
 * Modules of another tenant or library are put there by mapping other files to the same addresses.
 * So a thousand tenants take the addresses of one, and those are reserved when the first module is
 * loaded. All objects of the engine are in its root context: functions in JavaScript see nothing
 * of it.
 *
 * Invariants:
 * 1. Before code of a module runs, bind() and place() have put its tenant's arena and its own image
 *    there, as the module was loaded; nothing of the call before is left.
 * 2. Every page of the memory can be read, so the engine's own code may read anything in it. Only
 *    a module's compiled code writes to places that it chooses, and only that can be stopped by a
 *    page which cannot be written: wasm_module.c sees to it.
 * 3. A call that failed takes its instance with it, with globals and tables.
 */
#include "table/engine_wasm.h"

#include <dormouse/kv_wasm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/size.h"
#include "table/wasm_module.h"

#define MEMORY_BYTES (UINT64_C(1) << 32)
#define MODULES_MAX  64 /* of a tenant: each has a file */
#define ENTRIES_MAX  65536
#define AREA_KEEP    65536u
#define ROOM_PAGES   (KV_ROOM_BYTES / DOR_PAGE_BYTES)

enum {
    RUNS_MAX = 4, /* of pages that are kept from call to call */
    KEPT_PAGES = 16,
    LEARN_EACH = 64, /* calls */
};

struct wasm {
    JSObjectRef compile, start;
    uint8_t *base;
    int area_fd;
    uint8_t *area; /* the same pages as at KV_CALL_AT, for writing */
    uint32_t area_used;
    struct jsc_context *bound; /* whose arena is mapped, so much of it */
    uint64_t bound_bytes;
    struct wasm_library *placed;
    uint8_t resident[ROOM_PAGES]; /* for mincore() */
};

struct page_run {
    uint32_t first, end;
};

struct wasm_library {
    struct wasm_library *next;
    JSObjectRef module;
    int image_fd; /* -1: all zeros */
    uint64_t image_bytes;
    bool started;
    uint32_t first, count; /* in the entries of the context */
    uint32_t placed_count; /* since it was mapped */
    struct page_run runs[RUNS_MAX];
    uint32_t run_count;
};

struct wasm_entry {
    struct wasm_library *library;
    JSObjectRef function; /* NULL when there is no instance */
};

/* ---- the memory ---- */

static bool
map_over(uint64_t at, uint64_t bytes, int protection, int flags, int fd)
{
    uint8_t *place = jsc_engine->wasm->base + at;
    return bytes == 0 ||
           mmap(place, bytes, protection, flags | MAP_FIXED | MAP_NORESERVE, fd, 0) == place;
}

/* Zeros from AT on that can be read. */
static bool
map_nothing(uint64_t at, uint64_t bytes)
{
    return map_over(at, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

static bool
map_area(struct wasm *wasm)
{
    wasm->area_fd = memfd_create("call", MFD_CLOEXEC);
    if (wasm->area_fd < 0 || ftruncate(wasm->area_fd, KV_CALL_BYTES) != 0)
        return false;
    void *area =
        mmap(NULL, KV_CALL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, wasm->area_fd, 0);
    if (area == MAP_FAILED)
        return false;
    wasm->area = area;
    return map_nothing(KV_ROOM_BYTES, MEMORY_BYTES - KV_ROOM_BYTES) &&
           map_over(KV_CALL_AT, KV_CALL_BYTES, PROT_READ, MAP_SHARED, wasm->area_fd);
}

/* Have the arena of CONTEXT's tenant there, all of its file. */
static int
bind(struct jsc_context *context, char *error)
{
    struct wasm *wasm = jsc_engine->wasm;
    int fd;
    uint64_t bytes, bytes_max;
    jsc_engine->host->arena(context->tenant, &fd, &bytes, &bytes_max);
    if (wasm->bound == context && bytes == wasm->bound_bytes)
        return 0;
    if (bytes > MEMORY_BYTES - KV_TABLE_AT)
        return jsc_fail(
            error, DOR_E_UNSUPPORTED,
            "the table is larger than the %llu bytes that modules see",
            (unsigned long long)(MEMORY_BYTES - KV_TABLE_AT));
    uint64_t more = wasm->bound_bytes > bytes ? wasm->bound_bytes - bytes : 0;
    wasm->bound = NULL;
    if (!map_nothing(KV_TABLE_AT + bytes, more) ||
        !map_over(KV_TABLE_AT, bytes, PROT_READ, MAP_SHARED, fd)) {
        (void)!map_nothing(KV_TABLE_AT, MEMORY_BYTES - KV_TABLE_AT);
        wasm->bound_bytes = 0;
        return jsc_fail(error, DOR_E_NO_MEMORY, "the table cannot be mapped for functions");
    }
    wasm->bound = context;
    wasm->bound_bytes = bytes;
    return 0;
}

/*
 * Which pages the calls of LIBRARY write, from those that are there. It is a guess: what is wrong
 * in it costs time.
 */
static void
learn_pages(struct wasm *wasm, struct wasm_library *library)
{
    uint32_t image_pages = (uint32_t)(library->image_bytes / DOR_PAGE_BYTES),
             kept = image_pages;
    library->run_count = image_pages != 0;
    library->runs[0] = (struct page_run){0, image_pages};
    bool known = mincore(wasm->base, KV_ROOM_BYTES, wasm->resident) == 0;
    for (uint32_t page = image_pages; known && page < ROOM_PAGES; page++) {
        if ((wasm->resident[page] & 1) == 0)
            continue;
        known = kept++ < KEPT_PAGES;
        uint32_t runs = library->run_count;
        if (runs != 0 && library->runs[runs - 1].end == page && page != image_pages)
            library->runs[runs - 1].end++;
        else if (runs < RUNS_MAX)
            library->runs[library->run_count++] = (struct page_run){page, page + 1};
        else
            known = false;
    }
    if (!known || image_pages > KEPT_PAGES)
        library->run_count = 0;
}

/* Give the pages from FIRST to before END back: the next look finds the file's or zeros. */
static bool
drop_pages(const struct wasm *wasm, uint32_t first, uint32_t end)
{
    return first == end || madvise(
                               wasm->base + (size_t)first * DOR_PAGE_BYTES,
                               (size_t)(end - first) * DOR_PAGE_BYTES, MADV_DONTNEED) == 0;
}

/*
 * Have what LIBRARY's last call left as it was at first. Pages that are written by call after call
 * are filled where they are, for that takes less than a page fault; all others go.
 */
static bool
renew(struct wasm *wasm, struct wasm_library *library)
{
    if (library->placed_count++ % LEARN_EACH == 1)
        learn_pages(wasm, library);
    uint32_t at = 0;
    for (uint32_t i = 0; i < library->run_count; i++) {
        const struct page_run *run = &library->runs[i];
        uint8_t *begin = wasm->base + (size_t)run->first * DOR_PAGE_BYTES;
        size_t bytes = (size_t)(run->end - run->first) * DOR_PAGE_BYTES;
        if (!drop_pages(wasm, at, run->first))
            return false;
        if (run->first * (uint64_t)DOR_PAGE_BYTES >= library->image_bytes)
            memset(begin, 0, bytes);
        else if (pread(library->image_fd, begin, bytes, 0) != (ssize_t)bytes)
            return false;
        at = run->end;
    }
    return drop_pages(wasm, at, ROOM_PAGES);
}

/* Have the memory of LIBRARY's module there as it was at first. */
static int
place(struct wasm_library *library, char *error)
{
    struct wasm *wasm = jsc_engine->wasm;
    if (wasm->placed == library && renew(wasm, library))
        return 0;
    wasm->placed = NULL;
    library->placed_count = library->run_count = 0;
    const int flags = MAP_PRIVATE, all = PROT_READ | PROT_WRITE;
    if (!map_over(
            library->image_bytes, KV_ROOM_BYTES - library->image_bytes, all,
            flags | MAP_ANONYMOUS, -1) ||
        !map_over(0, library->image_bytes, all, flags, library->image_fd))
        return jsc_fail(error, DOR_E_NO_MEMORY, "a module's memory cannot be mapped");
    wasm->placed = library;
    return 0;
}

/* ---- what modules call ---- */

/* The bytes that two numbers of a module tell. */
static bool
take_bytes(
    JSContextRef context, JSValueRef at_value, JSValueRef length_value,
    struct table_engine_bytes *ret)
{
    uint32_t at = (uint32_t)(int64_t)JSValueToNumber(context, at_value, NULL);
    uint32_t length = (uint32_t)(int64_t)JSValueToNumber(context, length_value, NULL);
    *ret = (struct table_engine_bytes){jsc_engine->wasm->base + at, length};
    return length <= MEMORY_BYTES - at;
}

static JSValueRef
changed(JSContextRef context, struct jsc_context *running, int rc, JSValueRef *exception)
{
    char error[TABLE_ENGINE_ERROR_BYTES];
    if (rc != 0)
        return jsc_throw(context, jsc_engine->host->last_error(), exception);
    if (bind(running, error) != 0)
        return jsc_throw(context, error, exception);
    return JSValueMakeUndefined(context);
}

static JSValueRef
native_put(
    JSContextRef context, JSObjectRef function, JSObjectRef self, size_t count,
    const JSValueRef values[], JSValueRef *exception)
{
    (void)function, (void)self;
    struct jsc_context *running = jsc_writing(context, count, 5, exception);
    struct table_engine_bytes key, value;
    if (running == NULL)
        return JSValueMakeUndefined(context);
    double ttl_ms = JSValueToNumber(context, values[4], NULL);
    if (!(ttl_ms >= 0 && ttl_ms <= JSC_WHOLE_MAX))
        return jsc_throw(context, "the time to live is no number of milliseconds", exception);
    if (!take_bytes(context, values[0], values[1], &key) ||
        !take_bytes(context, values[2], values[3], &value))
        return jsc_throw(context, "Out of bounds memory access", exception);
    int rc = jsc_engine->host->put(running->tenant, key, value, (int64_t)ttl_ms);
    return changed(context, running, rc, exception);
}

static JSValueRef
native_remove(
    JSContextRef context, JSObjectRef function, JSObjectRef self, size_t count,
    const JSValueRef values[], JSValueRef *exception)
{
    (void)function, (void)self;
    struct jsc_context *running = jsc_writing(context, count, 2, exception);
    struct table_engine_bytes key;
    if (running == NULL)
        return JSValueMakeUndefined(context);
    if (!take_bytes(context, values[0], values[1], &key))
        return jsc_throw(context, "Out of bounds memory access", exception);
    bool removed = false;
    int rc = jsc_engine->host->remove(running->tenant, key, &removed);
    JSValueRef result = changed(context, running, rc, exception);
    return *exception == NULL ? JSValueMakeNumber(context, removed) : result;
}

/* ---- the first module ---- */

static void
add_native(JSObjectRef natives, const char *name, JSObjectCallAsFunctionCallback call)
{
    JSGlobalContextRef root = jsc_engine->root;
    JSStringRef text = JSStringCreateWithUTF8CString(name);
    JSObjectSetProperty(
        root, natives, text, JSObjectMakeFunctionWithCallback(root, text, call), 0, NULL);
    JSStringRelease(text);
}

static void
keep_bytes(void *bytes, void *context)
{
    (void)bytes, (void)context;
}

static JSValueRef
run_source(JSValueRef *exception)
{
    JSGlobalContextRef root = jsc_engine->root;
    JSStringRef source =
        jsc_string(jsc_engine, (const uint8_t *)jsc_wasm_source, jsc_wasm_source_bytes);
    if (source == NULL)
        return NULL;
    JSValueRef function = JSEvaluateScript(root, source, NULL, NULL, 1, exception);
    JSStringRelease(source);
    if (function == NULL)
        return NULL;
    JSObjectRef natives = JSObjectMake(root, NULL, NULL);
    add_native(natives, "put", native_put);
    add_native(natives, "remove", native_remove);
    /* The engine copies the bytes of a module. */
    JSObjectRef lookup = JSObjectMakeArrayBufferWithBytesNoCopy(
        root, (void *)(uintptr_t)jsc_wasm_find, jsc_wasm_find_bytes, keep_bytes, NULL,
        exception);
    if (lookup == NULL)
        return NULL;
    JSValueRef args[] = {natives, lookup};
    return JSObjectCallAsFunction(
        root, (JSObjectRef)(uintptr_t)function, NULL, 2, args, exception);
}

int
wasm_start(struct jsc *engine, char *error)
{
    JSValueRef exception = NULL;
    if (engine->wasm != NULL)
        return 0;
    if (jsc_wasm_find_bytes == 0)
        return jsc_fail(
            error, DOR_E_UNSUPPORTED,
            "this build has no WebAssembly: clang and lld were not there when it was made");
    struct wasm *wasm = calloc(1, sizeof *wasm);
    if (wasm == NULL)
        return jsc_fail(error, DOR_E_NO_MEMORY, "no memory for WebAssembly");
    engine->wasm = wasm;
    wasm->area_fd = -1;
    uint64_t before_bytes = jsc_heap_bytes(engine);
    JSValueRef made = run_source(&exception);
    /* The engine takes the memory, and the view that tells its place, for heap, all of it. */
    uint64_t after_bytes = jsc_heap_bytes(engine) + MEMORY_BYTES / 2;
    if (after_bytes > before_bytes)
        engine->view_bytes += (after_bytes - before_bytes) / MEMORY_BYTES * MEMORY_BYTES;
    if (made != NULL) {
        wasm->compile = jsc_object_at(engine->root, made, "compile");
        wasm->start = jsc_object_at(engine->root, made, "start");
        JSObjectRef bytes = jsc_object_at(engine->root, made, "bytes");
        if (bytes != NULL)
            wasm->base = JSObjectGetTypedArrayBytesPtr(engine->root, bytes, NULL);
        JSValueProtect(engine->root, made);
    }
    if (wasm->base != NULL && wasm->compile != NULL && wasm->start != NULL && map_area(wasm)) {
        JSValueProtect(engine->root, wasm->compile);
        JSValueProtect(engine->root, wasm->start);
        return 0;
    }
    wasm_destroy(engine);
    return jsc_fail(error, DOR_E_NO_MEMORY, "no addresses for the memory of WebAssembly");
}

void
wasm_destroy(struct jsc *engine)
{
    struct wasm *wasm = engine->wasm;
    engine->wasm = NULL;
    if (wasm == NULL)
        return;
    if (wasm->area != NULL)
        munmap(wasm->area, KV_CALL_BYTES);
    if (wasm->area_fd >= 0)
        close(wasm->area_fd);
    free(wasm);
}

/* ---- modules ---- */

/* Let go of the instance, so that the next call makes another. */
static void
stop_library(struct jsc_context *context, struct wasm_library *library)
{
    if (!library->started)
        return;
    for (uint32_t i = 0; i < library->count; i++) {
        struct wasm_entry *entry = &context->entries[library->first + i];
        if (entry->function != NULL)
            JSValueUnprotect(jsc_engine->root, entry->function);
        entry->function = NULL;
    }
    library->started = false;
}

static int
start_library(
    struct jsc_context *context, struct wasm_library *library, JSValueRef *exception,
    char *error)
{
    JSGlobalContextRef root = jsc_engine->root;
    JSValueRef args[] = {library->module};
    JSValueRef exports =
        JSObjectCallAsFunction(root, jsc_engine->wasm->start, NULL, 1, args, exception);
    if (exports == NULL)
        return 0;
    library->started = true;
    for (uint32_t i = 0; i < library->count; i++) {
        char name[16];
        snprintf(name, sizeof name, "f%u", i);
        JSObjectRef function = jsc_object_at(root, exports, name);
        if (function == NULL)
            return jsc_fail(error, DOR_E_CORRUPT, "an export is not there");
        JSValueProtect(root, function);
        context->entries[library->first + i].function = function;
    }
    return 0;
}

void
wasm_tenant_free(struct jsc_context *context)
{
    struct wasm *wasm = jsc_engine->wasm;
    while (context->libraries != NULL) {
        struct wasm_library *library = context->libraries;
        context->libraries = library->next;
        stop_library(context, library);
        if (library->module != NULL)
            JSValueUnprotect(jsc_engine->root, library->module);
        if (library->image_fd >= 0)
            close(library->image_fd);
        if (wasm->placed == library)
            wasm->placed = NULL;
        free(library);
    }
    if (wasm != NULL && wasm->bound == context) {
        wasm->bound = NULL;
        (void)!map_nothing(KV_TABLE_AT, wasm->bound_bytes);
        wasm->bound_bytes = 0;
    }
    free(context->entries);
}

static bool
write_image(struct wasm_library *library, const struct wasm_module *module)
{
    library->image_bytes =
        base_round_down_u64(module->image_bytes + DOR_PAGE_BYTES - 1, DOR_PAGE_BYTES);
    if (module->image_bytes == 0)
        return true;
    library->image_fd = memfd_create("module", MFD_CLOEXEC);
    return library->image_fd >= 0 &&
           ftruncate(library->image_fd, (off_t)library->image_bytes) == 0 &&
           pwrite(library->image_fd, module->image, module->image_bytes, 0) ==
               (ssize_t)module->image_bytes;
}

static void
free_code(void *bytes, void *context)
{
    (void)context;
    free(bytes);
}

/* Takes the module's code over. */
static JSObjectRef
compile(struct wasm_module *module, JSValueRef *exception)
{
    JSGlobalContextRef root = jsc_engine->root;
    JSObjectRef code = JSObjectMakeArrayBufferWithBytesNoCopy(
        root, module->code, module->code_bytes, free_code, NULL, exception);
    module->code = NULL;
    if (code == NULL)
        return NULL;
    JSValueRef args[] = {code};
    return (JSObjectRef)(uintptr_t)JSObjectCallAsFunction(
        root, jsc_engine->wasm->compile, NULL, 1, args, exception);
}

static struct wasm_library *
add_library(struct jsc_context *context, uint32_t function_count, char *error)
{
    uint32_t libraries = 0;
    for (const struct wasm_library *l = context->libraries; l != NULL; l = l->next)
        libraries++;
    if (libraries >= MODULES_MAX || function_count > ENTRIES_MAX - context->entry_count) {
        jsc_fail(
            error, 0, "there are %d modules or %d functions already", MODULES_MAX, ENTRIES_MAX);
        return NULL;
    }
    struct wasm_library *library = calloc(1, sizeof *library);
    struct wasm_entry *entries = realloc(
        context->entries,
        ((size_t)context->entry_count + function_count + 1) * sizeof *entries);
    if (entries != NULL)
        context->entries = entries;
    if (library == NULL || entries == NULL) {
        free(library);
        jsc_fail(error, 0, "no memory for a module");
        return NULL;
    }
    *library = (struct wasm_library){
        .next = context->libraries,
        .image_fd = -1,
        .first = context->entry_count,
        .count = function_count,
    };
    context->libraries = library;
    for (uint32_t i = 0; i < function_count; i++)
        entries[context->entry_count++] = (struct wasm_entry){.library = library};
    return library;
}

static int
register_all(
    struct jsc_context *context, const struct wasm_library *library,
    const struct wasm_module *module, char *error)
{
    for (uint32_t i = 0; i < module->function_count; i++) {
        const struct wasm_function *function = &module->functions[i];
        const struct table_engine_bytes name = {
            (const uint8_t *)function->name, strlen(function->name)};
        const struct table_engine_bytes description = {
            (const uint8_t *)function->description, strlen(function->description)};
        int rc = jsc_engine->host->registered(
            context->tenant, name, description, function->flags,
            WASM_NUMBER | (library->first + i));
        if (rc != 0)
            return jsc_fail(error, rc, "%s", jsc_engine->host->last_error());
    }
    return 0;
}

static int
load_module(
    struct jsc_context *context, struct wasm_module *module, JSValueRef *exception, char *error)
{
    struct wasm_library *library = add_library(context, module->function_count, error);
    if (library == NULL)
        return DOR_E_USAGE;
    if (!write_image(library, module))
        return jsc_fail(error, DOR_E_NO_MEMORY, "no memory for a module");
    JSObjectRef compiled = compile(module, exception);
    if (compiled == NULL)
        return 0;
    JSValueProtect(jsc_engine->root, compiled);
    library->module = compiled;
    int rc = start_library(context, library, exception, error);
    if (rc != 0 || *exception != NULL)
        return rc;
    return register_all(context, library, module, error);
}

int
wasm_load(
    struct jsc_context *context, const struct table_engine_source *source,
    JSValueRef *exception, char *error)
{
    struct wasm_module module = {0};
    /* Behind the end of the first line. */
    size_t skip = source->code.length > 0 && source->code.bytes[0] == '\n';
    int rc =
        wasm_module_read(source->code.bytes + skip, source->code.length - skip, &module, error);
    if (rc != 0)
        return rc;
    rc = load_module(context, &module, exception, error);
    wasm_module_free(&module);
    return rc;
}

/* ---- calls ---- */

/* What a call wrote there is gone before another tenant's. */
static void
clear_area(struct wasm *wasm)
{
    if (wasm->area_used > AREA_KEEP)
        (void)madvise(wasm->area, KV_CALL_BYTES, MADV_REMOVE);
    memset(wasm->area, 0, wasm->area_used < AREA_KEEP ? wasm->area_used : AREA_KEEP);
    wasm->area_used = 0;
}

static bool
write_area(struct wasm *wasm, const struct table_engine_call *call)
{
    struct kv_call *head = (struct kv_call *)(void *)wasm->area;
    uint32_t count = call->key_count + call->arg_count;
    uint64_t at = sizeof *head + (uint64_t)count * sizeof head->rows[0];
    uint64_t bytes = at;
    for (uint32_t i = 0; i < count; i++)
        bytes += call->args[i].length + 8;
    if (bytes > KV_CALL_BYTES)
        return false;
    wasm->area_used = (uint32_t)bytes;
    head->key_count = call->key_count;
    head->count = count;
    for (uint32_t i = 0; i < count; i++) {
        at = (at + 7) & ~UINT64_C(7);
        head->rows[i].at = KV_CALL_AT + (uint32_t)at;
        head->rows[i].length = (uint32_t)call->args[i].length;
        if (call->args[i].length > 0)
            memcpy(wasm->area + at, call->args[i].bytes, call->args[i].length);
        at += call->args[i].length;
    }
    return true;
}

/* The reply lies where the number says, up to the end of the module's part at most. */
static int
take_reply(
    const struct table_engine_call *call, JSValueRef value, struct table_engine_result *ret,
    char *error)
{
    uint32_t at = (uint32_t)(int64_t)JSValueToNumber(jsc_engine->root, value, NULL);
    *ret = (struct table_engine_result){.kind = TABLE_RESULT_NULL};
    if (at == 0)
        return 0;
    if (at >= KV_ROOM_BYTES)
        return jsc_fail(error, DOR_E_CORRUPT, "the reply is not in the module's memory");
    uint64_t most = KV_ROOM_BYTES - at;
    ret->kind = TABLE_RESULT_TREE;
    ret->bytes.bytes = jsc_engine->wasm->base + at;
    ret->bytes.length = most < call->limits.reply_bytes ? most : call->limits.reply_bytes;
    return 0;
}

int
wasm_call(
    struct jsc_context *context, const struct table_engine_call *call,
    struct table_engine_result *ret, JSValueRef *exception, char *error)
{
    struct wasm *wasm = jsc_engine->wasm;
    uint32_t index = call->function & ~WASM_NUMBER;
    if (index >= context->entry_count)
        return jsc_fail(error, DOR_E_CORRUPT, "there is no such function");
    struct wasm_library *library = context->entries[index].library;
    int rc = bind(context, error);
    if (rc == 0)
        rc = place(library, error);
    if (rc == 0 && !library->started)
        rc = start_library(context, library, exception, error);
    if (rc != 0 || *exception != NULL)
        return rc;
    JSValueRef value = NULL;
    if (write_area(wasm, call))
        value = JSObjectCallAsFunction(
            jsc_engine->root, context->entries[index].function, NULL, 0, NULL, exception);
    else
        rc = jsc_fail(
            error, DOR_E_USAGE, "keys and arguments have more than %u bytes", KV_CALL_BYTES);
    clear_area(wasm);
    if (value == NULL) {
        stop_library(context, library);
        return rc;
    }
    return take_reply(call, value, ret, error);
}
