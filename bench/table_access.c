/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_access.c - what it costs a function to look a key up: inside the engine, as storage
 * functions do; by a native call that copies the value, as engines are usually bound to a store;
 * and in C.
 *
 *   table_access NODES ROUNDS [MODULE]
 *
 * Workloads: `khop` walks 3 hops from a node and reads the lengths of the last lists, `sum` reads
 * all numbers of them too, `text` looks up keys that are no numbers and reads one of the value.
 * Ways: `runtime` is the engine's plugin with the library that tenants have, one kv.open() after
 * the other; `many` the same with kv.follow(), kv.lengths() and kv.openAll(); `fresh` a native call
 * that returns a new array, `scratch` one that copies into an array of the caller's; `wasm` is
 * MODULE, table_access_wasm.c compiled, in the same plugin, one by one, `wasm_many` the same with
 * kv_find_many_u32() and kv_lengths_u32(); `c` is table_find(). All take turns in one thread, and
 * their results must be equal. Prints one JSON object: lookups by a second of the thread's
 * processor time, a number for each round.
 */
#include "base/le.h"
#include "base/random.h"
#include "harness.h"
#include "table/arena.h"
#include "table/engine.h"
#include "table/hash.h"
#include "table/table.h"

#include <JavaScriptCore/JavaScript.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    DEGREE = 50,
    DEPTH = 3,
    ROOTS = 4,        /* walks of a call, which takes about a millisecond */
    TEXT_KEYS = 2000, /* of a call */
    TEXT_STEP = 7919, /* between one node and the next, so that no cache line is met twice */
    NAME_BYTES = 16,
    ROUND_MS = 300,
    WARM_ROUNDS = 6, /* for the compilers of the engine, which are threads beside */
};

enum workload { KHOP, SUM, TEXT, WORKLOADS };
enum way { RUNTIME, MANY, FRESH, SCRATCH, IN_C, WASM, WASM_MANY, WAYS };

static const char *const workload_names[] = {"khop", "sum", "text"};
static const char *const way_names[] = {"runtime", "many", "fresh",    "scratch",
                                        "c",       "wasm", "wasm_many"};

static struct table *table;
static uint32_t seed; /* of the table's hashes */
static uint64_t nodes;
static char (*names)[NAME_BYTES];

/*
 * What both kinds of JavaScript share; N is the number of nodes. Names are made when they are
 * needed: the engine's heap is small before.
 */
static const char common_js[] =
    "const names = [];\n"
    "function firstName(turn) {\n"
    "  for (let i = names.length; i < N; i++)\n"
    "    names.push('user:' + String(i).padStart(8, '0'));\n"
    "  return (turn / 4 * 2000) % N * 7919 % N;\n"
    "}\n"
    "function roots(walk, turn) {\n"
    "  let sum = 0;\n"
    "  for (let i = 0; i < 4; i++)\n"
    "    sum = (sum + walk((Math.imul(turn + i, 7919) >>> 0) % N, 3)) | 0;\n"
    "  return sum;\n"
    "}\n";

static const char runtime_js[] =
    "function khop(node, depth) {\n"
    "  const list = kv.open(node), count = kv.len(list) >>> 2;\n"
    "  if (depth === 1) return count;\n"
    "  let sum = count;\n"
    "  for (let i = 0; i < count; i++) sum = (sum + khop(kv.u32(list, i), depth - 1)) | 0;\n"
    "  return sum;\n"
    "}\n"
    "function total(node, depth) {\n"
    "  const list = kv.open(node), count = kv.len(list) >>> 2;\n"
    "  let sum = count;\n"
    "  if (depth === 1) for (let i = 0; i < count; i++) sum = (sum + kv.u32(list, i)) | 0;\n"
    "  else for (let i = 0; i < count; i++) sum = (sum + total(kv.u32(list, i), depth - 1)) | "
    "0;\n"
    "  return sum;\n"
    "}\n"
    "function text(turn) {\n"
    "  let sum = 0, at = firstName(turn);\n"
    "  for (let i = 0; i < 2000; i++) {\n"
    "    sum = (sum + kv.u32(kv.open(names[at]), 0)) | 0;\n"
    "    at += 7919;\n"
    "    if (at >= N) at %= N;\n"
    "  }\n"
    "  return sum;\n"
    "}\n"
    "const hops = [0, 1, 2, 3].map(() => new Int32Array(128));\n"
    "function khopMany(list, depth) {\n"
    "  const count = kv.len(list) >>> 2, found = hops[depth];\n"
    "  let sum = count;\n"
    "  if (depth === 1) return count;\n"
    "  if (depth === 2) {\n"
    "    kv.lengths(list, 0, count, found);\n"
    "    for (let i = 0; i < count; i++) sum = (sum + (found[i] >>> 2)) | 0;\n"
    "    return sum;\n"
    "  }\n"
    "  kv.follow(list, 0, count, found, 300);\n"
    "  for (let i = 0; i < count; i++) sum = (sum + khopMany(found[i], depth - 1)) | 0;\n"
    "  return sum;\n"
    "}\n"
    "function sumOf(list) {\n"
    "  const count = kv.len(list) >>> 2;\n"
    "  let sum = count;\n"
    "  for (let i = 0; i < count; i++) sum = (sum + kv.u32(list, i)) | 0;\n"
    "  return sum;\n"
    "}\n"
    "function totalMany(list, depth) {\n"
    "  const count = kv.len(list) >>> 2, found = hops[depth];\n"
    "  let sum = count;\n"
    "  kv.follow(list, 0, count, found, 300);\n"
    "  if (depth === 2) for (let i = 0; i < count; i++) sum = (sum + sumOf(found[i])) | 0;\n"
    "  else for (let i = 0; i < count; i++) sum = (sum + totalMany(found[i], depth - 1)) | 0;\n"
    "  return sum;\n"
    "}\n"
    "const some = new Array(50);\n"
    "function textMany(turn) {\n"
    "  let sum = 0, at = firstName(turn);\n"
    "  for (let i = 0; i < 2000; i += 50) {\n"
    "    for (let k = 0; k < 50; k++) {\n"
    "      some[k] = names[at];\n"
    "      at += 7919;\n"
    "      if (at >= N) at %= N;\n"
    "    }\n"
    "    kv.openAll(some, hops[0], 4);\n"
    "    for (let k = 0; k < 50; k++) sum = (sum + kv.u32(hops[0][k], 0)) | 0;\n"
    "  }\n"
    "  return sum;\n"
    "}\n"
    "const khopFrom = (node, depth) => khopMany(kv.open(node), depth);\n"
    "const totalFrom = (node, depth) => totalMany(kv.open(node), depth);\n"
    "const register = redis.registerFunction;\n"
    "register('khop_many', (keys, args) => roots(khopFrom, +args[0]), {flags: "
    "['no-writes']});\n"
    "register('sum_many', (keys, args) => roots(totalFrom, +args[0]), {flags: "
    "['no-writes']});\n"
    "register('text_many', (keys, args) => textMany(+args[0]), {flags: ['no-writes']});\n"
    "register('khop', (keys, args) => roots(khop, +args[0]), {flags: ['no-writes']});\n"
    "register('sum', (keys, args) => roots(total, +args[0]), {flags: ['no-writes']});\n"
    "register('text', (keys, args) => text(+args[0]), {flags: ['no-writes']});\n";

/* `take` gives the value as numbers, and the first COUNT of them are it. */
static const char native_js[] =
    "function khop(node, depth) {\n"
    "  const list = take(node), count = length(list);\n"
    "  if (depth === 1) return count;\n"
    "  const own = keep(list, count);\n"
    "  let sum = count;\n"
    "  for (let i = 0; i < count; i++) sum = (sum + khop(own[i], depth - 1)) | 0;\n"
    "  return sum;\n"
    "}\n"
    "function total(node, depth) {\n"
    "  const list = take(node), count = length(list);\n"
    "  let sum = count;\n"
    "  if (depth === 1) for (let i = 0; i < count; i++) sum = (sum + list[i]) | 0;\n"
    "  else {\n"
    "    const own = keep(list, count);\n"
    "    for (let i = 0; i < count; i++) sum = (sum + total(own[i], depth - 1)) | 0;\n"
    "  }\n"
    "  return sum;\n"
    "}\n"
    "function text(turn) {\n"
    "  let sum = 0, at = firstName(turn);\n"
    "  for (let i = 0; i < 2000; i++) {\n"
    "    sum = (sum + take(names[at])[0]) | 0;\n"
    "    at += 7919;\n"
    "    if (at >= N) at %= N;\n"
    "  }\n"
    "  return sum;\n"
    "}\n"
    "[turn => roots(khop, turn), turn => roots(total, turn), text]";

static const char fresh_js[] =
    "const take = fresh, length = list => list.length, keep = list => list;\n";
static const char scratch_js[] =
    "const room = new Uint32Array(1024);\n"
    "let count = 0;\n"
    "const take = key => { count = scratch(key, room); return room; };\n"
    "const length = () => count, keep = (list, count) => list.slice(0, count);\n";

static double
thread_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ---------------------------------------------------------------- C */

static uint64_t lookups; /* of walks in C, which are those of all */

static uint32_t
number_at(const struct table_value *value, uint32_t index)
{
    uint32_t number;
    memcpy(&number, value->bytes + index * sizeof number, sizeof number);
    return number;
}

static void
find(const char *name, size_t length, struct table_value *ret)
{
    struct table_key key;
    if (!table_key(table, name, length, &key) || !table_find(table, &key, false, ret))
        bench_die("%.*s is not there", (int)length, name);
    lookups++;
}

static void
find_node(uint32_t node, struct table_value *ret)
{
    const struct table_key key = {
        .is_number = true, .number = node, .hash = table_hash_number(seed, node)};
    if (!table_find(table, &key, false, ret))
        bench_die("node %" PRIu32 " is not there", node);
    lookups++;
}

static uint32_t
walk(uint32_t node, unsigned depth, bool sum_last)
{
    struct table_value list;
    find_node(node, &list);
    uint32_t count = list.length / (uint32_t)sizeof(uint32_t), sum = count;
    if (depth == 1 && !sum_last)
        return count;
    for (uint32_t i = 0; i < count; i++)
        sum +=
            depth == 1 ? number_at(&list, i) : walk(number_at(&list, i), depth - 1, sum_last);
    return sum;
}

static uint32_t
run_in_c(enum workload workload, uint32_t turn)
{
    uint32_t sum = 0;
    if (workload != TEXT) {
        for (uint32_t i = 0; i < ROOTS; i++)
            sum += walk((turn + i) * TEXT_STEP % (uint32_t)nodes, DEPTH, workload == SUM);
        return sum;
    }
    uint64_t at = turn / ROOTS * TEXT_KEYS % nodes * TEXT_STEP % nodes;
    for (uint64_t i = 0; i < TEXT_KEYS; i++, at = (at + TEXT_STEP) % nodes) {
        struct table_value value;
        find(names[at], strlen(names[at]), &value);
        sum += number_at(&value, 0);
    }
    return sum;
}

/* ---------------------------------------------------------------- native calls that copy */

static JSValueRef throw(JSContextRef context, const char *words, JSValueRef *ret)
{
    JSStringRef text = JSStringCreateWithUTF8CString(words);
    JSValueRef message = JSValueMakeString(context, text);
    JSStringRelease(text);
    *ret = JSObjectMakeError(context, 1, &message, NULL);
    return JSValueMakeUndefined(context);
}

/* The value of the key ARGUMENT, a node's number or a text. */
static void
find_argument(JSContextRef context, JSValueRef argument, struct table_value *ret)
{
    if (JSValueIsNumber(context, argument)) {
        find_node((uint32_t)JSValueToNumber(context, argument, NULL), ret);
        return;
    }
    char name[4 * NAME_BYTES];
    JSStringRef text = JSValueToStringCopy(context, argument, NULL);
    size_t length = JSStringGetUTF8CString(text, name, sizeof name);
    JSStringRelease(text);
    find(name, length - 1, ret);
}

static void
free_bytes(void *bytes, void *context)
{
    (void)context;
    free(bytes);
}

static JSValueRef
call_fresh(
    JSContextRef context, JSObjectRef function, JSObjectRef this, size_t count,
    const JSValueRef arguments[], JSValueRef *exception)
{
    (void)function, (void)this;
    struct table_value value;
    if (count != 1)
        return throw(context, "fresh(key)", exception);
    find_argument(context, arguments[0], &value);
    void *copy = malloc(value.length + 1);
    if (!copy)
        return throw(context, "no memory", exception);
    memcpy(copy, value.bytes, value.length);
    return JSObjectMakeTypedArrayWithBytesNoCopy(
        context, kJSTypedArrayTypeUint32Array, copy, value.length, free_bytes, NULL, exception);
}

static JSValueRef
call_scratch(
    JSContextRef context, JSObjectRef function, JSObjectRef this, size_t count,
    const JSValueRef arguments[], JSValueRef *exception)
{
    (void)function, (void)this;
    struct table_value value;
    if (count != 2)
        return throw(context, "scratch(key, array)", exception);
    find_argument(context, arguments[0], &value);
    JSObjectRef array = (JSObjectRef)(uintptr_t)arguments[1];
    if (JSObjectGetTypedArrayByteLength(context, array, NULL) < value.length)
        return throw(context, "the array is too short", exception);
    memcpy(JSObjectGetTypedArrayBytesPtr(context, array, NULL), value.bytes, value.length);
    return JSValueMakeNumber(context, value.length / (double)sizeof(uint32_t));
}

struct native {
    JSGlobalContextRef context;
    JSObjectRef functions[WORKLOADS];
};

static JSValueRef
evaluate(JSContextRef context, const char *code)
{
    JSValueRef exception = NULL;
    JSStringRef text = JSStringCreateWithUTF8CString(code);
    JSValueRef value = JSEvaluateScript(context, text, NULL, NULL, 1, &exception);
    JSStringRelease(text);
    if (!value) {
        char words[256] = "";
        text = JSValueToStringCopy(context, exception, NULL);
        JSStringGetUTF8CString(text, words, sizeof words);
        bench_die("JavaScript: %s", words);
    }
    return value;
}

static void
native_open(
    struct native *native, const char *name, JSObjectCallAsFunctionCallback call,
    const char *code)
{
    native->context = JSGlobalContextCreate(NULL);
    JSStringRef text = JSStringCreateWithUTF8CString(name);
    JSObjectRef function = JSObjectMakeFunctionWithCallback(native->context, text, call);
    JSObjectSetProperty(
        native->context, JSContextGetGlobalObject(native->context), text, function, 0, NULL);
    JSStringRelease(text);
    JSValueRef list = evaluate(native->context, code);
    for (unsigned i = 0; i < WORKLOADS; i++) {
        JSValueRef one =
            JSObjectGetPropertyAtIndex(native->context, (JSObjectRef)(uintptr_t)list, i, NULL);
        native->functions[i] = (JSObjectRef)(uintptr_t)one;
        JSValueProtect(native->context, one);
    }
}

static uint32_t
native_run(const struct native *native, enum workload workload, uint32_t turn)
{
    JSValueRef exception = NULL, argument = JSValueMakeNumber(native->context, turn);
    JSValueRef value = JSObjectCallAsFunction(
        native->context, native->functions[workload], NULL, 1, &argument, &exception);
    if (!value)
        bench_die("%s: a native call failed", workload_names[workload]);
    return (uint32_t)(int64_t)JSValueToNumber(native->context, value, NULL);
}

/* ---------------------------------------------------------------- the engine's plugin */

static struct table_engine *engine;
static void *engine_tenant;
/* One by one, many at once, and both of the module. */
static uint32_t function_numbers[4][WORKLOADS];
static int arena_fd;

static int
refuse_put(
    void *tenant, struct table_engine_bytes key, struct table_engine_bytes bytes,
    int64_t ttl_ms)
{
    (void)tenant, (void)key, (void)bytes, (void)ttl_ms;
    return DOR_E_DENIED;
}

static int
refuse_remove(void *tenant, struct table_engine_bytes key, bool *ret_removed)
{
    (void)tenant, (void)key, (void)ret_removed;
    return DOR_E_DENIED;
}

static int
refuse_increase(void *tenant, struct table_engine_bytes key, int64_t by, int64_t *ret)
{
    (void)tenant, (void)key, (void)by, (void)ret;
    return DOR_E_DENIED;
}

static int
refuse_scan(
    void *tenant, uint64_t cursor, uint32_t buckets,
    void (*fn)(void *context, struct table_engine_bytes key), void *context, uint64_t *ret)
{
    (void)tenant, (void)cursor, (void)buckets, (void)fn, (void)context, (void)ret;
    return DOR_E_DENIED;
}

static int
note_function(
    void *tenant, struct table_engine_bytes name, struct table_engine_bytes description,
    uint32_t flags, uint32_t number)
{
    (void)tenant, (void)description, (void)flags;
    bool is_module = name.length > 5 && !memcmp(name.bytes, "wasm_", 5);
    if (is_module) {
        name.bytes += 5;
        name.length -= 5;
    }
    for (size_t i = 0; i < WORKLOADS; i++) {
        size_t length = strlen(workload_names[i]);
        if (name.length >= length && !memcmp(workload_names[i], name.bytes, length))
            function_numbers[2 * is_module + (name.length > length)][i] = number;
    }
    return 0;
}

static void
tell_arena(void *tenant, int *ret_fd, uint64_t *ret_bytes, uint64_t *ret_bytes_max)
{
    (void)tenant;
    struct table_stat stat;
    table_stat(table, &stat);
    *ret_fd = arena_fd;
    *ret_bytes = bench_size_bytes(arena_fd);
    *ret_bytes_max = stat.limit_bytes;
}

static bool
never_stop(void *tenant, uint64_t elapsed_ns)
{
    (void)tenant, (void)elapsed_ns;
    return false;
}

static const char *
no_words(void)
{
    return "not in this benchmark";
}

static const struct table_engine_host host = {
    .put = refuse_put,
    .remove = refuse_remove,
    .increase = refuse_increase,
    .scan = refuse_scan,
    .registered = note_function,
    .arena = tell_arena,
    .tick = never_stop,
    .last_error = no_words,
};

static const struct table_engine_limits limits = {
    .call_ns = 60000000000u, .heap_bytes = 1u << 30, .reply_bytes = 1 << 20};

static void
engine_open(const char *code)
{
    char error[TABLE_ENGINE_ERROR_BYTES];
    bench_must(table_engine_open(&engine), "engine");
    bench_must(table_engine_start(engine, &host), "engine");
    struct table_engine_source source = {
        .kind = "js",
        .name = {(const uint8_t *)"bench", 5},
        .code = {(const uint8_t *)code, strlen(code)},
        .limits = limits,
    };
    if (engine->class->tenant_new(engine->state, table, &engine_tenant, error) ||
        engine->class->load(engine_tenant, &source, error))
        bench_die("engine: %s", error);
}

/* The file PATH as a library. */
static void
module_open(const char *path)
{
    char error[TABLE_ENGINE_ERROR_BYTES];
    FILE *file = fopen(path, "rb");
    static uint8_t code[1 << 16];
    size_t length = file != NULL ? fread(code, 1, sizeof code, file) : 0;
    if (file != NULL)
        fclose(file);
    struct table_engine_source source = {
        .kind = "wasm",
        .name = {(const uint8_t *)"module", 6},
        .code = {code, length},
        .limits = limits,
    };
    if (engine->class->load(engine_tenant, &source, error))
        bench_die("%s: %s", path, error);
}

static uint32_t
engine_run(unsigned set, enum workload workload, uint32_t turn)
{
    char text[16], error[TABLE_ENGINE_ERROR_BYTES];
    int length = snprintf(text, sizeof text, "%" PRIu32, turn);
    struct table_engine_bytes argument = {(const uint8_t *)text, (size_t)length};
    struct table_engine_call call = {
        .function = function_numbers[set][workload],
        .read_only = true,
        .args = &argument,
        .arg_count = 1,
        .limits = limits,
    };
    struct table_engine_result result;
    if (engine->class->call(engine_tenant, &call, &result, error))
        bench_die("%s: %s", workload_names[workload], error);
    if (result.kind == TABLE_RESULT_TREE && result.bytes.bytes[0] == 'i')
        return base_le32_get(result.bytes.bytes + 1);
    if (result.kind != TABLE_RESULT_NUMBER)
        bench_die("%s: no number", workload_names[workload]);
    return (uint32_t)(int64_t)result.number;
}

/* ---------------------------------------------------------------- the run */

static struct native natives[WAYS];

static uint32_t
run_one(enum way way, enum workload workload, uint32_t turn)
{
    switch (way) {
    case RUNTIME:
        return engine_run(0, workload, turn);
    case MANY:
        return engine_run(1, workload, turn);
    case WASM:
        return engine_run(2, workload, turn);
    case WASM_MANY:
        return engine_run(3, workload, turn);
    case IN_C:
        return run_in_c(workload, turn);
    case FRESH:
    case SCRATCH:
    case WAYS:
    default:
        return native_run(&natives[way], workload, turn);
    }
}

/* Lookups by a second, of calls for at least ROUND_MS. */
static double
run_round(enum way way, enum workload workload)
{
    double spent_s = 0;
    uint64_t done = 0;
    for (uint32_t turn = 0; spent_s < ROUND_MS / 1e3; turn += ROOTS) {
        lookups = 0;
        uint32_t wanted = run_in_c(workload, turn);
        done += lookups;
        double begin_s = thread_s();
        uint32_t got = run_one(way, workload, turn);
        spent_s += thread_s() - begin_s;
        if (got != wanted)
            bench_die(
                "%s by %s: %" PRIu32 ", not %" PRIu32, workload_names[workload], way_names[way],
                got, wanted);
    }
    return (double)done / spent_s;
}

static void
fill(void)
{
    struct base_random dice;
    base_random_init(&dice, 7);
    uint32_t list[2 * DEGREE];
    names = calloc(nodes, sizeof *names);
    if (!names)
        bench_die("no memory for names");
    for (uint64_t node = 0; node < nodes; node++) {
        size_t count = DEGREE / 2 + base_random_below(&dice, DEGREE + 1);
        for (size_t i = 0; i < count; i++)
            list[i] = (uint32_t)base_random_below(&dice, nodes);
        struct table_key key;
        char number[NAME_BYTES];
        int length = snprintf(number, sizeof number, "%" PRIu64, node);
        if (!table_key(table, number, (size_t)length, &key))
            bench_die("key");
        bench_must(table_set(table, &key, list, count * sizeof *list, 0), "set");
        length = snprintf(names[node], NAME_BYTES, "user:%08u", (unsigned)node % 100000000u);
        if (!table_key(table, names[node], (size_t)length, &key))
            bench_die("key");
        bench_must(table_set(table, &key, list, 2 * sizeof *list, 0), "set");
    }
    struct table_key key;
    if (!table_key(table, "names", 5, &key))
        bench_die("key");
    bench_must(table_set(table, &key, names, nodes * sizeof *names, 0), "set");
}

static char *
script(const char *one, const char *two)
{
    char *code;
    if (asprintf(&code, "const N = %" PRIu64 ";\n%s%s%s", nodes, common_js, one, two) < 0)
        bench_die("no memory for a script");
    return code;
}

int
main(int count, char **words)
{
    if (count != 3 && count != 4)
        bench_die("usage: table_access NODES ROUNDS [MODULE]");
    nodes = bench_number(words[1]);
    uint64_t rounds = bench_number(words[2]);
    const struct table_options options = {.limit_bytes = 1u << 30};
    arena_fd = bench_memory_file("arena");
    bench_must(table_create(dup(arena_fd), &options, &table), "table");
    seed = table_arena(table)->header->seed;
    fill();
    engine_open(script(runtime_js, ""));
    if (count == 4)
        module_open(words[3]);
    const unsigned ways = count == 4 ? WAYS : WASM;
    native_open(&natives[FRESH], "fresh", call_fresh, script(fresh_js, native_js));
    native_open(&natives[SCRATCH], "scratch", call_scratch, script(scratch_js, native_js));

    printf("{");
    for (unsigned workload = 0; workload < WORKLOADS; workload++) {
        double rates[WAYS][64];
        for (uint64_t round = 0; round < rounds + WARM_ROUNDS; round++)
            for (unsigned way = 0; way < ways; way++) {
                double rate = run_round((enum way)way, (enum workload)workload);
                if (round >= WARM_ROUNDS && round < WARM_ROUNDS + 64)
                    rates[way][round - WARM_ROUNDS] = rate;
            }
        printf("%s\"%s\": {", workload ? ", " : "", workload_names[workload]);
        for (unsigned way = 0; way < ways; way++) {
            printf("%s\"%s\": [", way ? ", " : "", way_names[way]);
            for (uint64_t round = 0; round < rounds && round < 64; round++)
                printf("%s%.0f", round ? ", " : "", rates[way][round]);
            printf("]");
        }
        printf("}");
    }
    printf("}\n");
    return 0;
}
