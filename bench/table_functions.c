/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_functions.c - what access to values costs inside a function: k-hop over friend lists, and
 * sums over them, in JavaScript by kv, against a native call that copies each value (kv.text()),
 * and against plain C.
 *
 *     table_functions [NODES [SECONDS]]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/random.h"
#include "table/commands.h"
#include "table/functions.h"
#include "table/hash.h"
#include "table/worker_priv.h"

enum { DEGREE_MIN = 25, DEGREE_MAX = 75, STARTS = 40, DEPTH = 3, ROUNDS = 5 };

static const char source[] =
    "#!js name=bench\n"
    "function khop(k, d) { const h = kv.open(k); if (h === 0) return 0;"
    " const n = kv.len(h) >>> 2; if (d === 1) return n; let s = n;"
    " for (let i = 0; i < n; i++) s += khop(kv.u32(h, i), d - 1); return s; }\n"
    "function sum(k, d) { const h = kv.open(k); if (h === 0) return 0;"
    " const n = kv.len(h) >>> 2; let s = 0;"
    " if (d === 1) { for (let i = 0; i < n; i++) s = (s + kv.u32(h, i)) | 0; return s >>> 0; }"
    " for (let i = 0; i < n; i++) s += sum(kv.u32(h, i), d - 1); return s; }\n"
    "function names(k, d) { const h = kv.open('user:' + k); if (h === 0) return 0;"
    " const n = kv.len(h) >>> 2; if (d === 1) return n; let s = n;"
    " for (let i = 0; i < n; i++) s += names(kv.u32(h, i), d - 1); return s; }\n"
    "function copied(k, d) { const h = kv.open(k); if (h === 0) return 0;"
    " const t = kv.text(h); const n = t.length >>> 2; if (d === 1) return n; let s = n;"
    " for (let i = 0; i < n; i++) s += copied(kv.u32(h, i), d - 1); return s; }\n"
    "for (const f of [khop, sum, names, copied])"
    " redis.registerFunction(f.name, (keys, args) => { let s = 0;"
    " for (let q = 0; q < 40; q++) s += f((q * 7919) % args[0], 3); return s; });\n";

static struct table_worker *worker;
static struct table_chunk_pool pool;
static struct table *table;
static uint64_t gets;

_Noreturn static void
die(void)
{
    fprintf(stderr, "table_functions: %s\n", dor_err_message());
    exit(1);
}

static void
fill(unsigned nodes)
{
    struct base_random rng;
    base_random_init(&rng, 1);
    for (unsigned i = 0; i < nodes; i++) {
        uint32_t friends[DEGREE_MAX];
        size_t count =
            DEGREE_MIN + (size_t)base_random_below(&rng, DEGREE_MAX - DEGREE_MIN + 1);
        for (size_t k = 0; k < count; k++)
            friends[k] = (uint32_t)base_random_below(&rng, nodes);
        for (int named = 0; named < 2; named++) {
            char text[32];
            struct table_key key;
            int n = snprintf(text, sizeof text, named ? "user:%u" : "%u", i);
            if (!table_key(table, text, (size_t)n, &key) ||
                table_set(table, &key, friends, count * sizeof *friends, 0) != 0)
                die();
        }
    }
}

/* As a program does that has numbers for keys. */
static bool
look_up_number(uint32_t number, struct table_value *ret)
{
    struct table_key key = {
        .number = number,
        .is_number = true,
        .hash = table_hash_number(table_arena(table)->header->seed, number)};
    gets++;
    return table_find(table, &key, false, ret);
}

static uint64_t
khop(uint32_t node, unsigned depth, bool add)
{
    struct table_value value;
    if (!look_up_number(node, &value))
        return 0;
    const uint32_t *friends = (const uint32_t *)(const void *)value.bytes;
    uint32_t count = value.length / 4, sum = 0;
    if (depth == 1 && !add)
        return count;
    uint64_t total = add ? 0 : count;
    for (uint32_t i = 0; i < count; i++)
        if (depth == 1)
            sum += friends[i];
        else
            total += khop(friends[i], depth - 1, add);
    return depth == 1 ? sum : total;
}

static uint64_t
in_c(unsigned nodes, bool add)
{
    uint64_t total = 0;
    for (uint32_t q = 0; q < STARTS; q++)
        total += khop(q * 7919 % nodes, DEPTH, add);
    return total;
}

static void
ask(const char *const *words, uint32_t count, char *ret, size_t cap)
{
    struct table_arg args[8];
    for (uint32_t i = 0; i < count; i++)
        args[i] = (struct table_arg){(const uint8_t *)words[i], (uint32_t)strlen(words[i]), -1};
    struct table_reply reply = {.pool = &pool, .protocol = 2};
    struct table_call call = {
        .worker = worker,
        .tenant = table_worker_tenant(worker, 1),
        .table = table,
        .reply = &reply,
        .args = args,
        .arg_count = count,
    };
    call.command = table_command_of(args, count);
    if (call.command == NULL)
        abort();
    table_command_invoke(&call);
    struct iovec piece = {.iov_base = NULL};
    size_t n = table_reply_pieces(&reply, &piece, 1) == 1 ? piece.iov_len : 0;
    n = n < cap - 1 ? n : cap - 1;
    memcpy(ret, piece.iov_base, n);
    ret[n] = '\0';
    table_reply_clear(&reply);
}

/* Millions of gets a second of processor time, the best of all rounds. */
static double
measure_js(const char *function, unsigned nodes, double seconds, char *answer, size_t cap)
{
    char text[16];
    snprintf(text, sizeof text, "%u", nodes);
    const char *const words[] = {"FCALL", function, "0", text};
    double best = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t began_ns = base_clock_cpu_ns(), calls = 0, took_ns;
        do {
            ask(words, 4, answer, cap);
            calls++;
            took_ns = base_clock_cpu_ns() - began_ns;
        } while ((double)took_ns < seconds * 1e9);
        double rate = (double)(gets * calls) / (double)took_ns * 1e3;
        best = rate > best ? rate : best;
    }
    return best;
}

static double
measure_c(unsigned nodes, double seconds, bool add, char *answer, size_t cap)
{
    double best = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t began_ns = base_clock_cpu_ns(), took_ns;
        gets = 0;
        uint64_t calls = 0, total;
        do {
            total = in_c(nodes, add);
            calls++;
            took_ns = base_clock_cpu_ns() - began_ns;
        } while ((double)took_ns < seconds * 1e9);
        snprintf(answer, cap, ":%llu\r\n", (unsigned long long)total);
        double rate = (double)gets / (double)took_ns * 1e3;
        gets /= calls;
        best = rate > best ? rate : best;
    }
    return best;
}

int
main(int argc, char **argv)
{
    unsigned nodes = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 100000;
    double seconds = argc > 2 ? strtod(argv[2], NULL) : 0.3;
    struct table_engine *engine;
    if (table_engine_open(&engine) != 0)
        die();
    const struct table_worker_options options = {.engine = engine};
    const struct table_tenant_setup setup = {
        .id = 1,
        .name = "bench",
        .memory_fd = memfd_create("table", MFD_CLOEXEC),
        .create = true,
        .limit_bytes = UINT64_C(1) << 30,
        .functions = {.call_ms = 60000, .heap_bytes = 256 << 20},
    };
    if (table_worker_new(&options, &worker) != 0 ||
        table_worker_add_tenant(worker, &setup) != 0)
        die();
    table = table_worker_table(worker, 1);
    fill(nodes);
    char loaded[512], c[512], js[512];
    const char *const words[] = {"FUNCTION", "LOAD", source};
    ask(words, 3, loaded, sizeof loaded);
    printf("nodes %u, loaded %s", nodes, loaded);
    double c_khop = measure_c(nodes, seconds, false, c, sizeof c);
    double b_khop = measure_js("khop", nodes, seconds, js, sizeof js);
    bool same = strcmp(c, js) == 0;
    double names = measure_js("names", nodes, seconds, js, sizeof js);
    same = same && strcmp(c, js) == 0;
    double copied = measure_js("copied", nodes, seconds, js, sizeof js);
    double c_sum = measure_c(nodes, seconds, true, c, sizeof c);
    double b_sum = measure_js("sum", nodes, seconds, js, sizeof js);
    same = same && strcmp(c, js) == 0;
    printf(
        "khop C %.1f js %.1f (%.2f of C) string keys %.1f\n", c_khop, b_khop, b_khop / c_khop,
        names);
    printf("copying call %.2f: in-runtime is %.1f times that\n", copied, b_khop / copied);
    printf(
        "sum C %.2f js %.2f (%.2f of C); answers %s\n", c_sum, b_sum, b_sum / c_sum,
        same ? "agree" : "DIFFER");
    table_worker_free(worker);
    table_engine_close(engine);
    return same ? 0 : 1;
}
