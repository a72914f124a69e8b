/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_jsc.c - storage functions in JavaScriptCore, by its C API. One context group for the
 * worker, one global context a tenant, in which kv.js runs before anything of the tenant.
 *
 *     reader mapping: the arena's file, mapped a second time and for reading only, at the begin of
 *     reserved addresses that read as zero behind it. The views of kv.js cover a power of two of
 * it,
 *     and are made anew when the file outgrows them, so they seldom are.
 *
 * Invariants:
 * 1. Nothing of the tenant runs but between begin() and end(), under the watch of on_tick().
 * 2. There are no promises, so nothing of a call is left to run after it: kv.js takes the word
 * away, and
 *    sources with `async` or `import` are refused.
 *
 * The watch: the engine asks on_tick() after so much processor time, which costs it compiled code,
 * so the time between two questions grows to STEP_MAX_NS. Nor may it begin short: the engine starts
 * a timer at a call when the last one's time is over, even if that has not gone off yet. Two that
 * go off at once while the first is answered end the process (VMTraps::requestThreadStopIfNeeded()
 * asserts that there is one), which with 1 ms on a crowded machine was once a minute.
 */
#include <alloca.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "table/engine_jsc.h"
#include "table/engine_wasm.h"

#define STEP_NS       10000000u
#define STEP_MAX_NS   16000000u
#define COLLECT_CALLS 4096             /* calls between two looks at the heap */
#define CONTEXT_BYTES UINT64_C(262144) /* about what one takes with a library */
/* A look walks all of the heap. So many times what it took goes by before the next one. */
#define REST_IN_CALL  4
#define REST_AFTER_GC 1
#define REST_BETWEEN  50
#define VIEW_MIN      UINT64_C(65536)
#define VIEW_MAX      (UINT64_C(1) << 32)
#define ARGS_MAX      16384

struct jsc *jsc_engine;

static uint64_t
clock_ns(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Virtual machines that are moved have been seen to set their clock back. */
static uint64_t
since_by(clockid_t id, uint64_t began_ns)
{
    uint64_t now_ns = clock_ns(id);
    return now_ns > began_ns ? now_ns - began_ns : 0;
}

static uint64_t
since(uint64_t began_ns)
{
    return since_by(CLOCK_MONOTONIC, began_ns);
}

static uint64_t
min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* One line of what VALUE says of itself, and where in a library it was thrown. */
static void
describe(JSContextRef context, JSValueRef value, char *error)
{
    JSStringRef string = value != NULL ? JSValueToStringCopy(context, value, NULL) : NULL;
    if (string == NULL) {
        jsc_fail(error, 0, "an error that cannot be told");
        return;
    }
    char text[TABLE_ENGINE_ERROR_BYTES - 32];
    size_t n = JSStringGetUTF8CString(string, text, sizeof text);
    JSStringRelease(string);
    if (n == 0)
        text[0] = '\0';
    for (char *c = text; *c != '\0'; c++)
        if ((unsigned char)*c < ' ')
            *c = ' ';
    bool is_object = value != NULL && JSValueIsObject(context, value);
    JSValueRef line = is_object ? jsc_property(context, value, "line") : NULL;
    JSValueRef source = is_object ? jsc_property(context, value, "sourceURL") : NULL;
    if (line != NULL && source != NULL && JSValueIsNumber(context, line) &&
        JSValueIsString(context, source))
        jsc_fail(error, 0, "%s, on line %.0f", text, JSValueToNumber(context, line, NULL));
    else
        jsc_fail(error, 0, "%s", text);
}

/* ---- the watch ---- */

static bool
may_look(const struct jsc *engine, uint64_t rest)
{
    return since(engine->looked_ns) >= rest * engine->look_ns;
}

uint64_t
jsc_heap_bytes(struct jsc *engine)
{
    uint64_t began_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    JSObjectRef statistics = JSGetMemoryUsageStatistics(engine->root);
    JSValueRef value = JSObjectGetProperty(engine->root, statistics, engine->heap_size, NULL);
    double bytes = value != NULL ? JSValueToNumber(engine->root, value, NULL) : 0;
    engine->look_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - began_ns;
    engine->looked_ns = clock_ns(CLOCK_MONOTONIC);
    return bytes > (double)engine->view_bytes ? (uint64_t)bytes - engine->view_bytes : 0;
}

static bool on_tick(JSContextRef context, void *arg);

static void
arm(struct jsc *engine, uint64_t ns)
{
    engine->step_ns = ns;
    JSContextGroupSetExecutionTimeLimit(engine->group, (double)ns * 1e-9, on_tick, engine);
}

/* Whether the heap is over the limit of the call, also after all garbage has gone. */
static bool
heap_is_over(struct jsc *engine)
{
    uint64_t limit = engine->settled_bytes + engine->left_bytes + engine->limits.heap_bytes;
    if (jsc_heap_bytes(engine) <= limit)
        return false;
    /* Far more is a bomb, whose garbage would take long to find. */
    if (jsc_heap_bytes(engine) > limit + 8 * engine->limits.heap_bytes)
        return true;
    JSSynchronousGarbageCollectForDebugging(engine->root);
    return jsc_heap_bytes(engine) > limit - engine->limits.heap_bytes / 4;
}

static enum stop
judge(struct jsc *engine, uint64_t elapsed_ns)
{
    if (elapsed_ns >= engine->limits.call_ns)
        return STOP_TIME;
    if (may_look(engine, REST_IN_CALL) && heap_is_over(engine))
        return STOP_HEAP;
    return engine->host->tick(engine->current->tenant, elapsed_ns) ? STOP_HOST : STOP_NONE;
}

static bool
on_tick(JSContextRef context, void *arg)
{
    (void)context;
    struct jsc *engine = arg;
    if (engine->current == NULL) {
        arm(engine, STEP_NS);
        return false;
    }
    uint64_t wall_ns = since(engine->began_ns);
    uint64_t cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    if (!engine->ticked) {
        /* Of the first step all or only its end may have been this call's. */
        if (wall_ns < STEP_NS) {
            arm(engine, STEP_NS - wall_ns + 1000);
            return false;
        }
        engine->ticked = true;
        engine->cpu_ns = cpu_ns - min_u64(wall_ns, cpu_ns - engine->sampled_cpu_ns);
    }
    uint64_t elapsed_ns = cpu_ns - engine->cpu_ns;
    engine->stop = judge(engine, elapsed_ns);
    if (engine->stop != STOP_NONE)
        return true;
    uint64_t left_ns = engine->limits.call_ns - elapsed_ns;
    arm(engine,
        min_u64(
            min_u64(elapsed_ns < STEP_NS ? STEP_NS : elapsed_ns, STEP_MAX_NS), left_ns + 1000));
    return false;
}

static void
begin(struct jsc_context *context, const struct table_engine_limits *limits)
{
    struct jsc *engine = context->engine;
    engine->current = context;
    engine->limits = *limits;
    engine->stop = STOP_NONE;
    engine->ticked = false;
    engine->began_ns = clock_ns(CLOCK_MONOTONIC);
    /* To ask for it before each call would cost more than most calls. */
    if (engine->began_ns - engine->sampled_ns > STEP_NS) {
        engine->sampled_ns = engine->began_ns;
        engine->sampled_cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    }
}

/* Look at the heap; have garbage collected if more than BYTES are there. Whether it was. */
static bool
collect(struct jsc *engine, uint64_t bytes)
{
    engine->calls_since_look = 0;
    uint64_t now_bytes = jsc_heap_bytes(engine);
    bool wanted = now_bytes > bytes;
    if (wanted) {
        JSSynchronousGarbageCollectForDebugging(engine->root);
        engine->left_bytes = 0;
    }
    engine->settled_bytes =
        wanted ? jsc_heap_bytes(engine) : min_u64(engine->settled_bytes, now_bytes);
    atomic_store_explicit(&engine->collected, false, memory_order_relaxed);
    return wanted;
}

/*
 * What is left after a collection is kept in variables of libraries. The heap does not tell whose
 * they are: too much is first held against who called last, then against all.
 */
static void
bound_kept(struct jsc_context *context)
{
    struct jsc *engine = context->engine;
    uint64_t bare_bytes = (engine->context_count + 1) * CONTEXT_BYTES;
    bool over = engine->settled_bytes > bare_bytes + engine->limits.heap_bytes;
    if (over)
        engine->host->kept_too_much(context->tenant, engine->was_over);
    engine->was_over = over && !engine->was_over;
}

static void
end(struct jsc_context *context)
{
    struct jsc *engine = context->engine;
    engine->current = NULL;
    if (engine->ticked)
        arm(engine, STEP_NS);
    bool collected = atomic_load_explicit(&engine->collected, memory_order_relaxed);
    bool wanted = collected || engine->ticked || ++engine->calls_since_look >= COLLECT_CALLS;
    if (!engine->was_over &&
        !(wanted && may_look(engine, collected ? REST_AFTER_GC : REST_BETWEEN)))
        return;
    uint64_t bytes = engine->settled_bytes + engine->limits.heap_bytes;
    if (collect(engine, engine->was_over ? 0 : bytes))
        bound_kept(context);
}

/*
 * Some of what the engine does asks nobody: a regular expression may end long after its time. A
 * worker that was kept from its processor has done no wrong.
 */
static void
note_overrun(struct jsc *engine)
{
    uint64_t limit_ns = 2 * engine->limits.call_ns;
    /* The coarse clock is some milliseconds late, and costs each call a tenth as much. */
    if (!engine->ticked && engine->stop == STOP_NONE &&
        since_by(CLOCK_MONOTONIC_COARSE, engine->began_ns) > limit_ns &&
        clock_ns(CLOCK_THREAD_CPUTIME_ID) - engine->sampled_cpu_ns > limit_ns)
        engine->stop = STOP_TIME;
}

/* What a call or load that did not succeed came to. */
static int
failure(struct jsc_context *context, JSValueRef exception, char *error)
{
    const struct jsc *engine = context->engine;
    switch (engine->stop) {
    case STOP_TIME:
        return jsc_fail(
            error, DOR_E_TIMEOUT, "the function took longer than its limit of %llu ms",
            (unsigned long long)(engine->limits.call_ns / 1000000));
    case STOP_HEAP:
        return jsc_fail(
            error, DOR_E_NO_SPACE,
            "the function needed more memory than its limit of %llu bytes",
            (unsigned long long)engine->limits.heap_bytes);
    case STOP_HOST:
        return jsc_fail(error, DOR_E_BUSY, "the function was stopped by FUNCTION KILL");
    case STOP_NONE:
        break;
    }
    describe(context->global, exception, error);
    return DOR_E_CORRUPT;
}

/* ---- the arena ---- */

static void
keep(void *bytes, void *context)
{
    (void)bytes;
    (void)context;
}

static bool
map_more(struct jsc_context *context, int fd, uint64_t bytes, uint64_t bytes_max)
{
    if (context->base == NULL) {
        uint64_t reserve = min_u64(bytes_max, VIEW_MAX);
        void *base =
            mmap(NULL, reserve, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (base == MAP_FAILED)
            return false;
        context->base = base;
        context->reserved_bytes = reserve;
    }
    bytes = min_u64(bytes, context->reserved_bytes);
    if (bytes <= context->mapped_bytes)
        return true;
    void *at = mmap(
        context->base + context->mapped_bytes, bytes - context->mapped_bytes, PROT_READ,
        MAP_SHARED | MAP_FIXED, fd, (off_t)context->mapped_bytes);
    if (at == MAP_FAILED)
        return false;
    context->mapped_bytes = bytes;
    return true;
}

/* Have the views reach over all of the arena's file. */
bool
jsc_follow_arena(struct jsc_context *context)
{
    int fd;
    uint64_t bytes, bytes_max;
    context->engine->host->arena(context->tenant, &fd, &bytes, &bytes_max);
    if (bytes <= context->mapped_bytes)
        return true;
    if (!map_more(context, fd, bytes, bytes_max))
        return false;
    if (context->mapped_bytes <= context->view_bytes)
        return true;
    uint64_t view = VIEW_MIN;
    while (view < context->mapped_bytes)
        view *= 2;
    view = min_u64(view, context->reserved_bytes);
    JSValueRef exception = NULL;
    JSObjectRef buffer = JSObjectMakeArrayBufferWithBytesNoCopy(
        context->global, context->base, view, keep, NULL, &exception);
    if (buffer == NULL || exception != NULL)
        return false;
    JSValueRef args[] = {buffer, JSValueMakeNumber(context->global, (double)view)};
    JSObjectCallAsFunction(context->global, context->bind, NULL, 2, args, &exception);
    context->engine->view_bytes += view - context->view_bytes;
    context->view_bytes = view;
    return exception == NULL;
}

/* ---- contexts ---- */

/* Run kv.js in the new context. */
static bool
furnish(struct jsc_context *context, char *error)
{
    JSGlobalContextRef global = context->global;
    JSValueRef exception = NULL, made = NULL;
    JSValueRef function = JSScriptEvaluate(global, context->engine->script, NULL, &exception);
    if (function != NULL && JSValueIsObject(global, function)) {
        JSValueRef args[] = {jsc_natives(global)};
        made = JSObjectCallAsFunction(
            global, (JSObjectRef)(uintptr_t)function, NULL, 1, args, &exception);
    }
    if (made == NULL || exception != NULL || !JSValueIsObject(global, made)) {
        describe(global, exception, error);
        return false;
    }
    context->bind = jsc_object_at(global, made, "bind");
    context->invoke = jsc_object_at(global, made, "invoke");
    if (context->bind == NULL || context->invoke == NULL)
        return false;
    JSValueProtect(global, context->bind);
    JSValueProtect(global, context->invoke);
    JSGlobalContextSetEvalEnabled(global, false, context->engine->no_eval);
    return true;
}

static void
jsc_tenant_free(void *context_)
{
    struct jsc_context *context = context_;
    if (context == NULL)
        return;
    if (context->bind != NULL)
        JSValueUnprotect(context->global, context->bind);
    if (context->invoke != NULL)
        JSValueUnprotect(context->global, context->invoke);
    wasm_tenant_free(context);
    JSGlobalContextRelease(context->global);
    if (context->base != NULL)
        munmap(context->base, context->reserved_bytes);
    struct jsc *engine = context->engine;
    engine->view_bytes -= context->view_bytes;
    engine->left_bytes += context->view_bytes;
    engine->context_count--;
    engine->settled_bytes -= min_u64(engine->settled_bytes, CONTEXT_BYTES);
    free(context);
}

static int
jsc_tenant_new(void *state, void *tenant, void **ret, char *error)
{
    struct jsc *engine = state;
    struct jsc_context *context = calloc(1, sizeof *context);
    if (context == NULL)
        return jsc_fail(error, DOR_E_NO_MEMORY, "no memory for a tenant's functions");
    *context = (struct jsc_context){.engine = engine, .tenant = tenant};
    context->global = JSGlobalContextCreateInGroup(engine->group, NULL);
    engine->context_count++;
    /* What others have come to need may not be counted as a call's. */
    engine->settled_bytes += CONTEXT_BYTES;
    if (!furnish(context, error) || !jsc_follow_arena(context)) {
        jsc_tenant_free(context);
        if (error[0] == '\0')
            jsc_fail(error, 0, "the table cannot be mapped for functions");
        return DOR_E_NO_MEMORY;
    }
    *ret = context;
    return 0;
}

/* ---- libraries ---- */

static bool
is_word_part(uint8_t c)
{
    return c == '_' || c == '$' || c >= 0x80 || c == '\\' || (c >= '0' && c <= '9') ||
           (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* Whether WORD stands anywhere in CODE, also in comments and text. */
static bool
has_word(struct table_engine_bytes code, const char *word)
{
    size_t length = strlen(word);
    const uint8_t *at = code.bytes, *behind = code.bytes + code.length;
    while ((at = memmem(at, (size_t)(behind - at), word, length)) != NULL) {
        bool begins = at == code.bytes || !is_word_part(at[-1]);
        bool ends = at + length == behind || !is_word_part(at[length]);
        if (begins && ends)
            return true;
        at += length;
    }
    return false;
}

static int
check_js(
    struct jsc_context *context, const struct table_engine_source *source, JSStringRef name,
    char *error)
{
    static const char *const refused[] = {"async", "await", "import"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        if (has_word(source->code, refused[i]))
            return jsc_fail(
                error, DOR_E_USAGE,
                "the word '%s' may not be in a library: functions run from begin to end",
                refused[i]);
    JSStringRef code = jsc_string(context->engine, source->code.bytes, source->code.length);
    if (code == NULL)
        return jsc_fail(error, DOR_E_NO_MEMORY, "no memory for a library");
    JSValueRef exception = NULL;
    bool good = JSCheckScriptSyntax(context->global, code, name, 1, &exception);
    JSStringRelease(code);
    return good ? 0 : failure(context, exception, error);
}

/* Names at the top of a library are its own, so it becomes a function; lines keep their numbers. */
static JSStringRef
wrap(struct jsc *engine, struct table_engine_bytes code)
{
    static const char head[] = "(function () {", tail[] = "\n})();";
    size_t length = code.length + sizeof head + sizeof tail - 2;
    uint8_t *wrapped = malloc(length);
    if (wrapped == NULL)
        return NULL;
    memcpy(wrapped, head, sizeof head - 1);
    memcpy(wrapped + sizeof head - 1, code.bytes, code.length);
    memcpy(wrapped + sizeof head - 1 + code.length, tail, sizeof tail - 1);
    JSStringRef script = jsc_string(engine, wrapped, length);
    free(wrapped);
    return script;
}

static int
load_js(struct jsc_context *context, const struct table_engine_source *source, char *error)
{
    JSStringRef name = jsc_string(context->engine, source->name.bytes, source->name.length);
    if (name == NULL)
        return jsc_fail(error, DOR_E_NO_MEMORY, "no memory for a library");
    int rc = check_js(context, source, name, error);
    JSStringRef script = rc == 0 ? wrap(context->engine, source->code) : NULL;
    if (script != NULL) {
        JSValueRef exception = NULL;
        JSValueRef result =
            JSEvaluateScript(context->global, script, NULL, name, 1, &exception);
        JSStringRelease(script);
        if (result == NULL || exception != NULL)
            rc = failure(context, exception, error);
    } else if (rc == 0) {
        rc = jsc_fail(error, DOR_E_NO_MEMORY, "no memory for a library");
    }
    JSStringRelease(name);
    return rc;
}

static int
load_wasm(struct jsc_context *context, const struct table_engine_source *source, char *error)
{
    JSValueRef exception = NULL;
    int rc = wasm_load(context, source, &exception, error);
    return exception == NULL && context->engine->stop == STOP_NONE
               ? rc
               : failure(context, exception, error);
}

static int
jsc_load(void *context_, const struct table_engine_source *source, char *error)
{
    struct jsc_context *context = context_;
    bool is_wasm = strcmp(source->kind, "wasm") == 0;
    if (!is_wasm && strcmp(source->kind, "js") != 0)
        return jsc_fail(
            error, DOR_E_UNSUPPORTED, "libraries of '%s' are not known", source->kind);
    if (!jsc_follow_arena(context))
        return jsc_fail(error, DOR_E_NO_MEMORY, "the table cannot be mapped for functions");
    int rc = is_wasm ? wasm_start(context->engine, error) : 0;
    if (rc != 0)
        return rc;
    begin(context, &source->limits);
    context->engine->loading = true;
    rc = is_wasm ? load_wasm(context, source, error) : load_js(context, source, error);
    context->engine->loading = false;
    end(context);
    return rc;
}

/* ---- calls ---- */

static JSValueRef
value_of_argument(JSContextRef context, const struct table_engine_call *call, size_t index)
{
    const struct table_engine_bytes *bytes = &call->args[index];
    return call->raw ? jsc_bytes(context, bytes->bytes, bytes->length)
                     : jsc_text(context, bytes->bytes, bytes->length);
}

static int
call_wasm(
    struct jsc_context *context, const struct table_engine_call *call,
    struct table_engine_result *ret, char *error)
{
    struct jsc *engine = context->engine;
    JSValueRef exception = NULL;
    JSLock(engine->root);
    begin(context, &call->limits);
    engine->read_only = call->read_only;
    int rc = wasm_call(context, call, ret, &exception, error);
    if (exception != NULL || engine->stop != STOP_NONE)
        rc = failure(context, exception, error);
    end(context);
    JSUnlock(engine->root);
    return rc;
}

static int
jsc_call(
    void *context_, const struct table_engine_call *call, struct table_engine_result *ret,
    char *error)
{
    enum { FIXED = 3 };
    struct jsc_context *context = context_;
    JSGlobalContextRef global = context->global;
    if ((call->function & WASM_NUMBER) != 0)
        return call_wasm(context, call, ret, error);
    size_t count = (size_t)call->key_count + call->arg_count;
    if (count > ARGS_MAX)
        return jsc_fail(error, DOR_E_USAGE, "a function takes %d arguments at most", ARGS_MAX);
    if (!jsc_follow_arena(context))
        return jsc_fail(error, DOR_E_NO_MEMORY, "the table cannot be mapped for functions");
    JSLock(global);
    begin(context, &call->limits);
    context->engine->read_only = call->read_only;
    /* On the stack, where the collector finds them. */
    JSValueRef *values = alloca((count + FIXED) * sizeof(JSValueRef));
    values[0] = JSValueMakeNumber(global, call->function);
    values[1] = JSValueMakeNumber(global, (double)call->limits.reply_bytes);
    values[2] = JSValueMakeNumber(global, call->key_count);
    for (size_t i = 0; i < count; i++)
        values[FIXED + i] = call->handles != NULL && i < call->key_count
                                ? JSValueMakeNumber(global, call->handles[i])
                                : value_of_argument(global, call, i);
    JSValueRef exception = NULL;
    JSValueRef value = JSObjectCallAsFunction(
        global, context->invoke, NULL, count + FIXED, values, &exception);
    note_overrun(context->engine);
    int rc = value != NULL && exception == NULL && context->engine->stop == STOP_NONE
                 ? jsc_take_result(context, value, ret, error)
                 : failure(context, exception, error);
    end(context);
    JSUnlock(global);
    return rc;
}

/* ---- the engine ---- */

static JSValueRef
on_enter(
    JSContextRef context, JSObjectRef function, JSObjectRef self, size_t count,
    const JSValueRef values[], JSValueRef *exception)
{
    (void)function, (void)self, (void)count, (void)values, (void)exception;
    struct jsc *engine = jsc_engine;
    void (*fn)(void *) = engine->entered;
    engine->entered = NULL;
    /* Callbacks run without the engine's lock: held here, calls inside need not take it each. */
    JSLock(engine->root);
    if (fn != NULL)
        fn(engine->entered_context);
    JSUnlock(engine->root);
    return JSValueMakeUndefined(context);
}

static void
jsc_enter(void *state, void (*fn)(void *context), void *context)
{
    struct jsc *engine = state;
    engine->entered = fn;
    engine->entered_context = context;
    JSObjectCallAsFunction(engine->root, engine->enter, NULL, 0, NULL, NULL);
}

static uint64_t
jsc_collect(void *state, uint64_t bytes)
{
    struct jsc *engine = state;
    (void)collect(engine, bytes);
    return engine->settled_bytes;
}

static void
jsc_destroy(void *state)
{
    struct jsc *engine = state;
    wasm_destroy(engine);
    JSValueUnprotect(engine->root, engine->enter);
    JSScriptRelease(engine->script);
    JSGlobalContextRelease(engine->root);
    JSContextGroupRelease(engine->group);
    JSStringRelease(engine->heap_size);
    JSStringRelease(engine->no_eval);
    free(engine->scratch);
    free(engine);
    jsc_engine = NULL;
}

/*
 * The engine lets garbage grow as large as its heap is, and takes views of arenas for heap. With a
 * bound of its own it collects after so much was allocated, whatever there is. And a memory of
 * WebAssembly has guard pages, by which a store into the table is an error, or the process ends. It
 * reads its options from the environment at the first call of any kind.
 */
static void
set_options(uint64_t garbage_bytes)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, garbage_bytes);
    (void)setenv("JSC_gcMaxHeapSize", text, 0);
    (void)setenv("JSC_crashIfWasmCantFastMemory", "1", 0);
}

/* So much was allocated since the last time that what is kept may have grown. */
static void
on_collected(JSContextGroupRef group, void *arg)
{
    struct jsc *engine = arg;
    (void)group;
    atomic_store_explicit(&engine->collected, true, memory_order_relaxed);
}

static bool
has_all_calls(void)
{
    return JSContextGroupSetExecutionTimeLimit != NULL &&
           JSGlobalContextSetEvalEnabled != NULL && JSGetMemoryUsageStatistics != NULL &&
           JSContextGroupAddHeapFinalizer != NULL &&
           JSScriptCreateReferencingImmortalASCIIText != NULL && JSScriptEvaluate != NULL &&
           JSScriptRelease != NULL && JSLock != NULL && JSUnlock != NULL &&
           JSSynchronousGarbageCollectForDebugging != NULL;
}

static int
jsc_start(const struct table_engine_host *host, uint64_t garbage_bytes, void **ret, char *error)
{
    if (!has_all_calls())
        return jsc_fail(error, DOR_E_UNSUPPORTED, "JavaScriptCore without limits for scripts");
    if (jsc_engine != NULL)
        return jsc_fail(error, DOR_E_EXISTS, "there is one engine in a process");
    struct jsc *engine = calloc(1, sizeof *engine);
    if (engine == NULL)
        return jsc_fail(error, DOR_E_NO_MEMORY, "no memory for the engine");
    engine->host = host;
    set_options(garbage_bytes);
    engine->heap_size = JSStringCreateWithUTF8CString("heapSize");
    engine->no_eval = JSStringCreateWithUTF8CString("code from text is not allowed");
    engine->group = JSContextGroupCreate();
    engine->script = JSScriptCreateReferencingImmortalASCIIText(
        engine->group, NULL, 1, jsc_kv_source, jsc_kv_source_bytes, NULL, NULL);
    engine->root = JSGlobalContextCreateInGroup(engine->group, NULL);
    engine->enter = JSObjectMakeFunctionWithCallback(engine->root, NULL, on_enter);
    JSValueProtect(engine->root, engine->enter);
    JSContextGroupAddHeapFinalizer(engine->group, on_collected, engine);
    jsc_engine = engine;
    arm(engine, STEP_NS);
    *ret = engine;
    return 0;
}

__attribute__((visibility("default"))) const struct table_engine_class table_engine_class = {
    .version = TABLE_ENGINE_VERSION,
    .name = "js",
    .start = jsc_start,
    .destroy = jsc_destroy,
    .tenant_new = jsc_tenant_new,
    .tenant_free = jsc_tenant_free,
    .load = jsc_load,
    .call = jsc_call,
    .enter = jsc_enter,
    .collect = jsc_collect,
};
