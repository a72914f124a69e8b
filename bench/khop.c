/* SPDX-License-Identifier: Apache-2.0 */
/*
 * khop.c - a graph in a server of keys, and a client that walks it.
 *
 *   khop fill PORT NODES DEGREE SEED
 *   khop gets|mget|strlen|call|one|module PORT NODES DEPTH CALLS SEED
 *
 * The key of a node is its number in decimal, the value its friends as numbers of 32 bits, little
 * endian; a node has DEGREE / 2 to DEGREE * 3 / 2 friends at random. A walk sums the lengths of the
 * lists within DEPTH hops of a random node, met again or not (count_friend_list of Shredder, SoCC
 * 2019). `gets` asks for one list after the other; `mget` for all of one hop at once, in MGETs of
 * 100 keys that are written without waiting; `strlen` is the same but asks only for the lengths of
 * the last hop; `call` has the server's function khop do it, `one` and `module` those of that
 * name. The client is hiredis. Prints one JSON object; the same seed must give the same sum.
 */
#include "base/clock.h"
#include "base/random.h"
#include "harness.h"
#include "replies.h"

#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEYS_AT_ONCE = 100, FILLS_AT_ONCE = 256, NUMBER_BYTES = 16 };

enum how { GETS, MGET, STRLEN, CALL, ONE, MODULE };

struct ids {
    uint32_t *ids;
    size_t count, room;
};

static redisContext *server;

static void
push(struct ids *list, const char *bytes, size_t length)
{
    size_t count = length / sizeof(uint32_t);
    if (list->count + count > list->room) {
        list->room = 2 * (list->count + count);
        list->ids = realloc(list->ids, list->room * sizeof *list->ids);
        if (!list->ids)
            bench_die("no memory for %zu nodes", list->room);
    }
    memcpy(list->ids + list->count, bytes, count * sizeof(uint32_t));
    list->count += count;
}

/* Take the list in REPLY: its friends into NEXT, if there is one. */
static uint64_t
take_list(const redisReply *reply, struct ids *next)
{
    if (reply->type != REDIS_REPLY_STRING)
        bench_die("a node is not there");
    if (next)
        push(next, reply->str, (size_t)reply->len);
    return (uint64_t)reply->len / sizeof(uint32_t);
}

static uint64_t
hop_by_gets(const struct ids *from, struct ids *next)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < from->count; i++) {
        redisAppendCommand(server, "GET %u", from->ids[i]);
        redisReply *reply = replies_next(server, REDIS_REPLY_STRING);
        sum += take_list(reply, next);
        freeReplyObject(reply);
    }
    return sum;
}

static void
append_mget(const uint32_t *ids, size_t count)
{
    static char numbers[KEYS_AT_ONCE][NUMBER_BYTES];
    const char *words[KEYS_AT_ONCE + 1] = {"MGET"};
    size_t lengths[KEYS_AT_ONCE + 1] = {4};
    for (size_t i = 0; i < count; i++) {
        words[i + 1] = numbers[i];
        lengths[i + 1] = (size_t)snprintf(numbers[i], NUMBER_BYTES, "%u", ids[i]);
    }
    redisAppendCommandArgv(server, (int)count + 1, words, lengths);
}

static uint64_t
hop_by_mget(const struct ids *from, struct ids *next)
{
    uint64_t sum = 0;
    size_t awaited = 0;
    for (size_t at = 0; at < from->count; at += KEYS_AT_ONCE, awaited++) {
        size_t left = from->count - at;
        append_mget(from->ids + at, left < KEYS_AT_ONCE ? left : KEYS_AT_ONCE);
    }
    for (; awaited > 0; awaited--) {
        redisReply *reply = replies_next(server, REDIS_REPLY_ARRAY);
        for (size_t i = 0; i < reply->elements; i++)
            sum += take_list(reply->element[i], next);
        freeReplyObject(reply);
    }
    return sum;
}

static uint64_t
hop_by_strlen(const struct ids *from)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < from->count; i++)
        redisAppendCommand(server, "STRLEN %u", from->ids[i]);
    for (size_t i = 0; i < from->count; i++) {
        redisReply *reply = replies_next(server, REDIS_REPLY_INTEGER);
        sum += (uint64_t)reply->integer / sizeof(uint32_t);
        freeReplyObject(reply);
    }
    return sum;
}

static uint64_t
walk_here(enum how how, uint32_t root, uint64_t depth)
{
    static struct ids lists[2];
    struct ids *from = &lists[0], *next = &lists[1];
    uint64_t sum = 0;
    from->count = 0;
    push(from, (const char *)&root, sizeof root);
    for (; depth > 0; depth--) {
        bool last = depth == 1;
        next->count = 0;
        if (how == GETS)
            sum += hop_by_gets(from, last ? NULL : next);
        else if (how == STRLEN && last)
            sum += hop_by_strlen(from);
        else
            sum += hop_by_mget(from, last ? NULL : next);
        struct ids *walked = from;
        from = next;
        next = walked;
    }
    return sum;
}

static uint64_t
walk_there(const char *function, uint32_t root, uint64_t depth)
{
    redisAppendCommand(server, "FCALL %s 0 %u %u", function, root, (unsigned)depth);
    redisReply *reply = replies_next(server, REDIS_REPLY_INTEGER);
    uint64_t sum = (uint64_t)reply->integer;
    freeReplyObject(reply);
    return sum;
}

static void
walk(enum how how, char **words)
{
    uint64_t nodes = bench_number(words[0]), depth = bench_number(words[1]);
    uint64_t calls = bench_number(words[2]), sum = 0;
    struct base_random dice;
    base_random_init(&dice, bench_number(words[3]));
    uint64_t *times = calloc(calls, sizeof *times);
    if (!times)
        bench_die("no memory for %" PRIu64 " calls", calls);
    uint64_t begin_ns = base_clock_monotonic_ns();
    for (uint64_t i = 0; i < calls; i++) {
        uint32_t root = (uint32_t)base_random_below(&dice, nodes);
        uint64_t call_ns = base_clock_monotonic_ns();
        sum += how == CALL     ? walk_there("khop", root, depth)
               : how == ONE    ? walk_there("one", root, depth)
               : how == MODULE ? walk_there("module", root, depth)
                               : walk_here(how, root, depth);
        times[i] = base_clock_monotonic_ns() - call_ns;
    }
    double wall_s = (double)(base_clock_monotonic_ns() - begin_ns) / 1e9;
    bench_print_calls(times, calls, wall_s, sum);
    free(times);
}

static void
fill(char **words)
{
    uint64_t nodes = bench_number(words[0]), degree = bench_number(words[1]);
    struct base_random dice;
    base_random_init(&dice, bench_number(words[2]));
    uint32_t *list = calloc(2 * degree + 1, sizeof *list);
    if (!list)
        bench_die("no memory for a list");
    uint64_t sum = 0;
    for (uint64_t node = 0, awaited = 0; node < nodes; node++) {
        size_t count = degree / 2 + base_random_below(&dice, degree + 1);
        for (size_t i = 0; i < count; i++)
            list[i] = (uint32_t)base_random_below(&dice, nodes);
        redisAppendCommand(
            server, "SET %u %b", (unsigned)node, (void *)list, count * sizeof *list);
        sum += count;
        awaited++;
        while (awaited > (node + 1 < nodes ? FILLS_AT_ONCE : 0)) {
            freeReplyObject(replies_next(server, REDIS_REPLY_STATUS));
            awaited--;
        }
    }
    printf("{\"nodes\": %" PRIu64 ", \"edges\": %" PRIu64 "}\n", nodes, sum);
    free(list);
}

int
main(int count, char **words)
{
    static const char *const hows[] = {"gets", "mget", "strlen", "call", "one", "module"};
    if (count < 6)
        bench_die("usage: khop fill PORT NODES DEGREE SEED\n"
                  "       khop gets|mget|strlen|call|one|module PORT NODES DEPTH CALLS SEED");
    server = redisConnect("127.0.0.1", (int)bench_number(words[2]));
    if (!server || server->err)
        bench_die("port %s: %s", words[2], server ? server->errstr : "no memory");
    if (!strcmp(words[1], "fill"))
        fill(words + 3);
    for (size_t i = 0; i < sizeof hows / sizeof *hows; i++)
        if (!strcmp(words[1], hows[i]) && count == 7)
            walk((enum how)i, words + 3);
    redisFree(server);
    return 0;
}
