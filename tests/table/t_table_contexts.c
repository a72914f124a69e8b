/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_table_contexts.c - what functions keep in variables is bounded: contexts that others have
 * pushed out come back empty, and so do those that keep too much; keys stay.
 */
#include "function_calls.h"

#include <inttypes.h>

static const char counter[] =
    "#!js name=lib\nlet n = 0;\n"
    "redis.registerFunction('f', () => { kv.incr('n'); return ++n; });";

static void
load(uint64_t id, const char *source)
{
    const char *text = ask_of(id, "FUNCTION", "LOAD", "REPLACE", source, (char *)NULL);
    if (strcmp(text, "$3|lib|") != 0)
        bail("%s", text);
}

static const char *
count(uint64_t id)
{
    return ask_of(id, "FCALL", "f", "0", (char *)NULL);
}

static void
test_many_tenants(void)
{
    enum { FIRST = 100, MANY = TABLE_CONTEXTS_KEPT + 20 };
    uint32_t most = 0;
    for (uint64_t id = FIRST; id < FIRST + MANY; id++) {
        add_tenant(id, 1 << 20, NULL);
        load(id, counter);
        if (strcmp(count(id), ":1|") != 0)
            break;
        most = worker->context_count > most ? worker->context_count : most;
    }
    is_int(worker->context_count, TABLE_CONTEXTS_KEPT, "so many contexts are kept");
    is_int(most, TABLE_CONTEXTS_KEPT, "and never more");
    is_str(count(FIRST + MANY - 1), ":2|", "the last one has its variables");
    is_str(count(FIRST), ":1|", "the first one's are new");
    is_str(ask_of(FIRST, "GET", "n", (char *)NULL), "$1|2|", "its keys are not");
    is_str(count(FIRST), ":2|", "and stay while it is called");
    /* Calls in turn: who was called last goes last. */
    for (uint64_t id = FIRST + 1; id < FIRST + TABLE_CONTEXTS_KEPT; id++)
        count(id);
    is_str(count(FIRST), ":3|", "as long as not too many others are");
    is_int(worker->newest->tenant->id, FIRST, "the newest is who was called last");
    is_str(
        ask_of(FIRST + MANY - 1, "FUNCTION", "DELETE", "lib", (char *)NULL), "+OK|",
        "a library goes whose context is gone");
    for (uint64_t id = FIRST; id < FIRST + MANY; id++)
        is_ok(table_worker_remove_tenant(worker, id), "tenant %" PRIu64 " goes", id);
    is_int(worker->context_count, 0, "no context is left");
    ok(worker->newest == NULL && worker->oldest == NULL, "and none is listed");
}

static long
kept_of(uint64_t id)
{
    const char *text = count(id);
    return text[0] == ':' ? strtol(text + 1, NULL, 10) : 0;
}

/* Each call is quick and keeps 1 MiB. */
static void
test_keeping(void)
{
    enum { HEAP_MIB = 8, CALLS = 1000, GARBAGE_MIB = 64, GARBAGES = 6 };
    static const char keeper[] =
        "#!js name=lib\nconst all = [];\nredis.registerFunction('f', () => "
        "{ all.push(new Uint8Array(1 << 20).fill(1)); return all.length; });";
    const struct table_function_limits limits = {.call_ms = 1000, .heap_bytes = HEAP_MIB << 20};
    long most = 0, times = 0, last = 0;
    add_tenant(2, 1 << 20, &limits);
    add_tenant(3, 1 << 20, NULL);
    load(2, keeper);
    load(3, counter);
    for (int i = 0; i < CALLS; i++) {
        long kept = kept_of(2);
        most = kept > most ? kept : most;
        times += kept < last;
        last = kept;
    }
    ok(times > 0, "what is kept in variables is thrown away: %ld times", times);
    ok(most >= HEAP_MIB / 2 && most <= HEAP_MIB + GARBAGES * GARBAGE_MIB,
       "when it is more than the limit: at most %ld MiB of %d", most, HEAP_MIB);
    is_str(count(3), ":1|", "another tenant is served meanwhile");
    is_ok(table_worker_remove_tenant(worker, 2), "it goes");
}

/* What fits the limit stays, whatever garbage there is. */
static void
test_garbage(void)
{
    enum { CALLS = 400 };
    static const char litter[] =
        "#!js name=lib\nlet n = 0;\nredis.registerFunction('f', () => "
        "{ let sum = 0; for (const one of [new Uint8Array(1 << 20).fill(1)]) sum += one.length;"
        " return ++n; });";
    const struct table_function_limits limits = {.call_ms = 1000, .heap_bytes = 8 << 20};
    add_tenant(4, 1 << 20, &limits);
    load(4, litter);
    long last = 0, resets = 0;
    for (int i = 0; i < CALLS; i++) {
        long now = kept_of(4);
        resets += now != last + 1;
        last = now;
    }
    is_int(resets, 0, "garbage of calls is no reason to throw variables away");
}

static long
private_mib(void)
{
    char text[4096] = "";
    FILE *file = fopen("/proc/self/status", "r");
    size_t got = file != NULL ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file != NULL)
        fclose(file);
    const char *line = got > 0 ? strstr(text, "RssAnon:") : NULL;
    return line != NULL ? strtol(line + sizeof "RssAnon:", NULL, 10) / 1024 : -1;
}

/* The engine takes the view of a table for heap, and would let as much garbage lie. */
static void
test_large_table(void)
{
    enum { CALLS = 800, VALUES = 5, TABLE_MIB = VALUES * 64, GARBAGE_MIB = 64 };
    static const char litter[] =
        "#!js name=lib\nredis.registerFunction('f', () => new Uint8Array(1 << 20).fill(1)[5]);";
    static const char *const keys[VALUES] = {"a", "b", "c", "d", "e"};
    add_tenant(5, UINT64_C(1) << 30, NULL);
    for (unsigned i = 0; i < VALUES; i++)
        ask_of(5, "SETRANGE", keys[i], "67108000", "x", (char *)NULL);
    load(5, litter);
    count(5);
    long before = private_mib(), most = before;
    for (int i = 0; i < CALLS; i++) {
        count(5);
        long now = private_mib();
        most = now > most ? now : most;
    }
    if (before < 0)
        skip("this system does not tell", "garbage of calls does not grow with the table");
    else
        ok(most - before < 3 * GARBAGE_MIB,
           "garbage of calls does not grow with the table: %ld MiB beside %d of keys",
           most - before, TABLE_MIB);
}

int
main(void)
{
    start_worker();
    add_tenant(1, 1 << 20, NULL);
    test_many_tenants();
    test_keeping();
    test_garbage();
    test_large_table();
    stop_worker();
    return done_testing();
}
