/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_examples.c - what the libraries of examples/ do, by a client that fetches the values.
 *
 *   table_examples WORKLOAD HOW PORT CALLS SEED
 *
 * WORKLOAD is one of
 *   reach    people within 2 friendships of one          (examples/graph)
 *   suggest  the 10 who share most friends with one
 *   totals   orders that were paid or sent, by region    (examples/aggregate)
 *   digit    which digit an image shows                  (examples/network)
 *   digits   the same of 100 images
 * HOW is `gets`, a GET a value, one after the other; `mget`, MGETs of 100 keys, pipelined;
 * `part`, the bytes that are needed by GETRANGE, pipelined (totals); `kept`, by a client that has
 * the weights already (digit, digits); or `call`, by a function of the server. The client is
 * hiredis.
 *
 * Prints one JSON object; `sum` is of all numbers in all answers, and the same for all HOWs.
 */
#include "base/clock.h"
#include "base/random.h"
#include "harness.h"
#include "replies.h"

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PEOPLE = 4039,
    HOPS = 2,
    SUGGESTIONS = 10,
    ORDERS = 20000,
    REGIONS = 12,
    IMAGES = 200,
    IMAGES_AT_ONCE = 100,
    LAYERS = 3,
    KEYS_AT_ONCE = 100,   /* in an MGET */
    MGETS_WAITING = 16,   /* more would fill the buffers on the way */
    PARTS_WAITING = 1000, /* likewise */
    KEY_BYTES = 24,
};

enum how { GETS, MGET, PART, KEPT, CALL };
static const char *const hows[] = {"gets", "mget", "part", "kept", "call"};

static redisContext *server;

/* ---------------------------------------------------------------- fetching values */

typedef void take_fn(const char *bytes, size_t length);

static void
fetch_one_by_one(const char *prefix, const uint32_t *ids, size_t count, take_fn *take)
{
    for (size_t i = 0; i < count; i++) {
        redisAppendCommand(server, "GET %s%u", prefix, ids[i]);
        void *reply;
        if (redisGetReply(server, &reply) != REDIS_OK)
            bench_die("the server went away: %s", server->errstr);
        redisReply *answer = reply;
        if (answer->type == REDIS_REPLY_STRING)
            take(answer->str, answer->len);
        freeReplyObject(answer);
    }
}

static void
append_mget(const char *prefix, const uint32_t *ids, size_t count)
{
    static char keys[KEYS_AT_ONCE][KEY_BYTES];
    const char *words[KEYS_AT_ONCE + 1] = {"MGET"};
    size_t lengths[KEYS_AT_ONCE + 1] = {4};
    for (size_t i = 0; i < count; i++) {
        words[i + 1] = keys[i];
        lengths[i + 1] = (size_t)snprintf(keys[i], KEY_BYTES, "%s%u", prefix, ids[i]);
    }
    redisAppendCommandArgv(server, (int)count + 1, words, lengths);
}

static void
fetch_by_mget(const char *prefix, const uint32_t *ids, size_t count, take_fn *take)
{
    size_t asked = 0, waiting = 0;
    while (asked < count || waiting > 0) {
        for (; asked < count && waiting < MGETS_WAITING; waiting++) {
            size_t now = count - asked < KEYS_AT_ONCE ? count - asked : KEYS_AT_ONCE;
            append_mget(prefix, ids + asked, now);
            asked += now;
        }
        redisReply *reply = replies_next(server, REDIS_REPLY_ARRAY);
        for (size_t i = 0; i < reply->elements; i++)
            if (reply->element[i]->type == REDIS_REPLY_STRING)
                take(reply->element[i]->str, reply->element[i]->len);
        freeReplyObject(reply);
        waiting--;
    }
}

/* Values that are there come to TAKE in the order of IDS. */
static void
fetch(enum how how, const char *prefix, const uint32_t *ids, size_t count, take_fn *take)
{
    if (how == GETS)
        fetch_one_by_one(prefix, ids, count, take);
    else
        fetch_by_mget(prefix, ids, count, take);
}

/* ---------------------------------------------------------------- by a function */

static uint64_t
sum_of(const redisReply *reply)
{
    uint64_t sum = 0;
    if (reply->type == REDIS_REPLY_ERROR)
        bench_die("the server answers: %s", reply->str);
    if (reply->type == REDIS_REPLY_INTEGER)
        return (uint64_t)reply->integer;
    for (size_t i = 0; reply->type == REDIS_REPLY_ARRAY && i < reply->elements; i++)
        sum += sum_of(reply->element[i]);
    return sum;
}

static uint64_t
take_answer(void)
{
    redisReply *reply = replies_next(server, REDIS_REPLY_ARRAY);
    uint64_t sum = sum_of(reply);
    freeReplyObject(reply);
    return sum;
}

/* ---------------------------------------------------------------- a network of friends */

static uint32_t stamps[PEOPLE], shared[PEOPLE], stamp, ring[PEOPLE], ring_count;

static uint32_t
friend_at(const char *list, size_t index)
{
    uint32_t id;
    memcpy(&id, list + index * sizeof id, sizeof id);
    if (id >= PEOPLE)
        bench_die("person %u", id);
    return id;
}

static void
take_ring(const char *list, size_t length)
{
    for (size_t i = 0; i < length / sizeof(uint32_t); i++) {
        uint32_t id = friend_at(list, i);
        if (stamps[id] != stamp) {
            stamps[id] = stamp;
            shared[id] = 0;
            ring[ring_count++] = id;
        }
    }
}

static void
take_shared(const char *list, size_t length)
{
    take_ring(list, length);
    for (size_t i = 0; i < length / sizeof(uint32_t); i++)
        shared[friend_at(list, i)]++;
}

static uint64_t
reach(enum how how, uint32_t number)
{
    uint32_t begin = 0, who = number % PEOPLE;
    if (how == CALL) {
        redisAppendCommand(server, "FCALL reach 1 %u %d", who, HOPS);
        return take_answer();
    }
    stamps[who] = ++stamp;
    ring[0] = who;
    ring_count = 1;
    for (int hop = 0; hop < HOPS; hop++) {
        uint32_t end = ring_count;
        fetch(how, "", ring + begin, end - begin, take_ring);
        begin = end;
    }
    return ring_count - 1;
}

static int
compare_ranks(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a < b) - (a > b);
}

static uint64_t
suggest(enum how how, uint32_t number)
{
    static uint64_t ranks[PEOPLE];
    uint32_t who = number % PEOPLE;
    if (how == CALL) {
        redisAppendCommand(server, "FCALL suggest 1 %u %d", who, SUGGESTIONS);
        return take_answer();
    }
    stamps[who] = ++stamp;
    ring_count = 0;
    fetch(how, "", &who, 1, take_ring);
    uint32_t friends = ring_count;
    fetch(how, "", ring, friends, take_shared);
    uint64_t sum = 0;
    size_t count = 0;
    for (uint32_t i = friends; i < ring_count; i++)
        ranks[count++] = (uint64_t)shared[ring[i]] << 32 | (UINT32_MAX - ring[i]);
    qsort(ranks, count, sizeof *ranks, compare_ranks);
    for (size_t i = 0; i < count && i < SUGGESTIONS; i++)
        sum += (ranks[i] >> 32) + (UINT32_MAX - (uint32_t)ranks[i]);
    return sum;
}

/* ---------------------------------------------------------------- orders */

static struct {
    uint64_t count, sum, min, max;
} regions[REGIONS];

/* What is wanted of an order: amount, region, state. */
static void
take_part(const char *bytes, size_t length)
{
    double amount;
    uint32_t region, state;
    if (length < 16)
        return;
    memcpy(&amount, bytes, sizeof amount);
    memcpy(&region, bytes + 8, sizeof region);
    memcpy(&state, bytes + 12, sizeof state);
    if (region >= REGIONS)
        bench_die("region %u", region);
    if (state < 1 || state > 2)
        return;
    uint64_t cents = (uint64_t)amount;
    bool first = regions[region].count++ == 0;
    regions[region].sum += cents;
    if (first || cents < regions[region].min)
        regions[region].min = cents;
    if (first || cents > regions[region].max)
        regions[region].max = cents;
}

static void
take_order(const char *bytes, size_t length)
{
    if (length >= 32)
        take_part(bytes + 16, 16);
}

static void
fetch_parts(const uint32_t *ids, size_t count)
{
    for (size_t asked = 0, answered = 0; answered < count; answered++) {
        for (; asked < count && asked - answered < PARTS_WAITING; asked++)
            redisAppendCommand(server, "GETRANGE %u 16 31", ids[asked]);
        redisReply *reply = replies_next(server, REDIS_REPLY_STRING);
        take_part(reply->str, reply->len);
        freeReplyObject(reply);
    }
}

static uint64_t
totals(enum how how, uint32_t number)
{
    static uint32_t ids[ORDERS];
    uint32_t first = 1 + number % 100;
    if (how == CALL) {
        redisAppendCommand(
            server, "FCALL totals 0 %u %d region amount state 1 2", first, ORDERS);
        return take_answer();
    }
    uint32_t count = ORDERS + 1 - first;
    for (uint32_t i = 0; i < count; i++)
        ids[i] = first + i;
    memset(regions, 0, sizeof regions);
    if (how == PART)
        fetch_parts(ids, count);
    else
        fetch(how, "", ids, count, take_order);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < REGIONS; i++)
        if (regions[i].count > 0)
            sum += i + regions[i].count + regions[i].sum + regions[i].min + regions[i].max;
    return sum;
}

/* ---------------------------------------------------------------- digits */

enum { WIDTH_MAX = 64, LAYER_BYTES_MAX = 4 * WIDTH_MAX * (WIDTH_MAX + 1) };

static struct {
    float weights[LAYER_BYTES_MAX / 4];
    size_t bytes;
} layers[LAYERS];
static unsigned layer_count;
static uint64_t read_sum;

static void
take_layer(const char *bytes, size_t length)
{
    if (length > LAYER_BYTES_MAX || layer_count == LAYERS)
        bench_die("a layer of %zu bytes", length);
    memcpy(layers[layer_count].weights, bytes, length);
    layers[layer_count++].bytes = length;
}

static void
take_image(const char *bytes, size_t length)
{
    double space[2][WIDTH_MAX], *from = space[0], *to = space[1];
    size_t inputs = length;
    for (size_t i = 0; i < length && i < WIDTH_MAX; i++)
        from[i] = (unsigned char)bytes[i] / 255.0;
    for (unsigned number = 0; number < layer_count; number++) {
        const float *weight = layers[number].weights;
        size_t outputs = layers[number].bytes / 4 / (inputs + 1);
        if (inputs > WIDTH_MAX || outputs > WIDTH_MAX)
            bench_die("%zu inputs, %zu outputs", inputs, outputs);
        for (size_t output = 0; output < outputs; output++) {
            double sum = *weight++;
            for (size_t input = 0; input < inputs; input++)
                sum += *weight++ * from[input];
            to[output] = number + 1 == layer_count || sum > 0 ? sum : 0;
        }
        double *turn = from;
        from = to;
        to = turn;
        inputs = outputs;
    }
    size_t best = 0;
    for (size_t i = 1; i < inputs; i++)
        if (from[i] > from[best])
            best = i;
    read_sum += best;
}

static void
append_classify(const uint32_t *images, size_t count)
{
    static char names[IMAGES_AT_ONCE][KEY_BYTES];
    const char *words[IMAGES_AT_ONCE + 6] = {"FCALL",    "classify_stored", "3",
                                             "digits:0", "digits:1",        "digits:2"};
    for (size_t i = 0; i < count; i++) {
        snprintf(names[i], KEY_BYTES, "digit:%u", images[i]);
        words[6 + i] = names[i];
    }
    redisAppendCommandArgv(server, (int)count + 6, words, NULL);
}

static uint64_t
read_digits(enum how how, uint32_t number, size_t count)
{
    static const uint32_t numbers[LAYERS] = {0, 1, 2};
    uint32_t images[IMAGES_AT_ONCE];
    for (uint32_t i = 0; i < count; i++)
        images[i] = (number + i) % IMAGES;
    if (how == CALL) {
        append_classify(images, count);
        return take_answer();
    }
    if (how != KEPT || layer_count == 0) {
        layer_count = 0;
        fetch(how, "digits:", numbers, LAYERS, take_layer);
    }
    read_sum = 0;
    fetch(how, "digit:", images, count, take_image);
    return read_sum;
}

static uint64_t
digit(enum how how, uint32_t number)
{
    return read_digits(how, number, 1);
}

static uint64_t
digits(enum how how, uint32_t number)
{
    return read_digits(how, number, IMAGES_AT_ONCE);
}

/* ---------------------------------------------------------------- the run */

static const struct {
    const char *name;
    uint64_t (*ask)(enum how how, uint32_t number);
} workloads[] = {
    {"reach", reach},
    {"suggest", suggest},
    {"totals", totals},
    {"digit", digit},
    {"digits", digits}};

static int
index_of(const char *word, const char *const *names, size_t stride, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!strcmp(word, *(const char *const *)((const char *)names + i * stride)))
            return (int)i;
    bench_die("neither workload nor how: %s", word);
}

int
main(int count, char **words)
{
    if (count != 6)
        bench_die("usage: table_examples WORKLOAD HOW PORT CALLS SEED");
    int work = index_of(
        words[1], &workloads[0].name, sizeof workloads[0],
        sizeof workloads / sizeof *workloads);
    enum how how =
        (enum how)index_of(words[2], hows, sizeof hows[0], sizeof hows / sizeof *hows);
    server = redisConnect("127.0.0.1", (int)bench_number(words[3]));
    if (!server || server->err)
        bench_die("port %s: %s", words[3], server ? server->errstr : "no memory");
    size_t calls = bench_number(words[4]);
    struct base_random dice;
    base_random_init(&dice, bench_number(words[5]));
    uint64_t *times = calloc(calls, sizeof *times), sum = 0;
    if (!times)
        bench_die("no memory for %zu calls", calls);
    uint64_t begin_ns = base_clock_monotonic_ns();
    for (size_t i = 0; i < calls; i++) {
        uint64_t call_ns = base_clock_monotonic_ns();
        sum += workloads[work].ask(how, (uint32_t)base_random_below(&dice, 1 << 30));
        times[i] = base_clock_monotonic_ns() - call_ns;
    }
    bench_print_calls(times, calls, (double)(base_clock_monotonic_ns() - begin_ns) / 1e9, sum);
    free(times);
    redisFree(server);
    return 0;
}
