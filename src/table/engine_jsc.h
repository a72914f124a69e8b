/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_jsc.h - what the files of the plugin share: the engine, a tenant's context in it, and text
 * between the two worlds.
 *
 * Ownership:  as in engine.h.
 * Threads:    that of the engine.
 * Errors:     as in engine.h.
 */
#ifndef DOR_TABLE_ENGINE_JSC_H
#define DOR_TABLE_ENGINE_JSC_H

#include <JavaScriptCore/JavaScript.h>
#include <stdatomic.h>

#include "table/engine.h"

/* Exported for long, in no installed header. */
typedef bool should_stop_fn(JSContextRef context, void *arg);
__attribute__((weak)) void
JSContextGroupSetExecutionTimeLimit(JSContextGroupRef, double, should_stop_fn *, void *);
__attribute__((weak)) void JSGlobalContextSetEvalEnabled(JSGlobalContextRef, bool, JSStringRef);
__attribute__((weak)) JSObjectRef JSGetMemoryUsageStatistics(JSContextRef);
__attribute__((weak)) void JSSynchronousGarbageCollectForDebugging(JSContextRef);
typedef void heap_finalizer_fn(JSContextGroupRef group, void *arg);
__attribute__((weak)) void
JSContextGroupAddHeapFinalizer(JSContextGroupRef, heap_finalizer_fn *, void *);
typedef struct OpaqueJSScript *JSScriptRef;
__attribute__((weak)) JSScriptRef JSScriptCreateReferencingImmortalASCIIText(
    JSContextGroupRef, JSStringRef url, int line, const char *, size_t, JSStringRef *, int *);
__attribute__((weak)) JSValueRef
JSScriptEvaluate(JSContextRef, JSScriptRef, JSValueRef self, JSValueRef *exception);
__attribute__((weak)) void JSScriptRelease(JSScriptRef);
__attribute__((weak)) void JSLock(JSContextRef);
__attribute__((weak)) void JSUnlock(JSContextRef);

enum stop { STOP_NONE, STOP_TIME, STOP_HEAP, STOP_HOST };

struct jsc_context;

struct jsc {
    const struct table_engine_host *host;
    JSContextGroupRef group;
    JSGlobalContextRef root; /* in which no tenant's code runs */
    JSObjectRef enter;
    JSScriptRef script; /* kv.js: one text for all contexts */
    JSStringRef heap_size, no_eval;
    struct jsc_context *current; /* whose call or load runs */
    struct table_engine_limits limits;
    uint64_t began_ns, cpu_ns, step_ns;
    /* Processor time at sampled_ns, which is 1 ms before a call begins at most. */
    uint64_t sampled_ns, sampled_cpu_ns;
    uint64_t left_bytes; /* views of contexts that went; a collection may leave them */
    uint64_t view_bytes; /* of all contexts; the engine counts them as heap */
    uint64_t
        settled_bytes; /* what there is between calls: the last look's, and contexts since */
    uint64_t looked_ns, look_ns; /* when the heap was last looked at, and what that took */
    uint32_t context_count, calls_since_look;
    enum stop stop;
    bool read_only, loading, ticked;
    bool was_over;         /* the last look found that too much is kept between calls */
    atomic_bool collected; /* relaxed: garbage went, by whichever thread, since the last look */
    void (*entered)(void *context);
    void *entered_context;
    uint8_t *scratch;
    size_t scratch_bytes;
    struct wasm *wasm; /* NULL before the first module */
};

struct jsc_context {
    struct jsc *engine;
    void *tenant;
    JSGlobalContextRef global;
    JSObjectRef bind, invoke;
    uint8_t *base;
    uint64_t reserved_bytes, mapped_bytes, view_bytes;
    struct wasm_library *libraries;
    struct wasm_entry *entries;
    uint32_t entry_count;
};

/* The callbacks of the engine are given no word of ours, and there is one engine in a process. */
extern struct jsc *jsc_engine;

/* The source of kv.js. */
extern const char jsc_kv_source[];
extern const size_t jsc_kv_source_bytes;

/* Write the words; returns CODE. */
int jsc_fail(char *error, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* SIZE_BYTES to work in until the next call of this; NULL without memory. */
uint8_t *jsc_scratch(struct jsc *engine, size_t size_bytes);

/* UTF-8 as a string or value; bytes that are none become U+FFFD. NULL without memory. */
JSStringRef jsc_string(struct jsc *engine, const uint8_t *bytes, size_t length);
JSValueRef jsc_text(JSContextRef context, const uint8_t *bytes, size_t length);

/* A Uint8Array with a copy of BYTES. */
JSValueRef jsc_bytes(JSContextRef context, const uint8_t *bytes, size_t length);

/* The UTF-8 of STRING into memory that is the caller's; NULL without memory. */
uint8_t *jsc_utf8(JSStringRef string, size_t *ret);

/* What the heap holds, without the views that the engine takes for heap. */
uint64_t jsc_heap_bytes(struct jsc *engine);

/* Have the views reach over all of the arena's file. */
bool jsc_follow_arena(struct jsc_context *context);

/* The property NAME of OBJECT; NULL when it cannot be had, or is no object where it must be. */
JSValueRef jsc_property(JSContextRef context, JSValueRef object, const char *name);
JSObjectRef jsc_object_at(JSContextRef context, JSValueRef object, const char *name);

#define JSC_WHOLE_MAX 9007199254740991.0 /* 2^53 - 1 */

/* Make *EXCEPTION an Error of TEXT; returns undefined. */
JSValueRef jsc_throw(JSContextRef context, const char *text, JSValueRef *exception);

/* The context whose call may change keys, if GIVEN is COUNT at least; NULL after an error. */
struct jsc_context *
jsc_writing(JSContextRef context, size_t given, size_t count, JSValueRef *exception);

/* What VALUE, that a function returned, is: good until the next call. */
int jsc_take_result(
    struct jsc_context *context, JSValueRef value, struct table_engine_result *ret,
    char *error);

/* The object of native calls that kv.js is given. */
JSObjectRef jsc_natives(JSGlobalContextRef global);

#endif
