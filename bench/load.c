/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load.c - one client for servers of RESP and of memcached, so that all are loaded alike.
 *
 *   load PROTOCOL ADDRESS [NAME=VALUE ...] -- WORD ...
 *
 * PROTOCOL is resp, text or meta (memcached's two); ADDRESS a port of 127.0.0.1 or the path of a
 * Unix socket. WORD ... is the command: for RESP the words of one request, in which KEY stands for
 * a key, NUMBER for the number of a key, and VALUE for a value; for memcached `get` or `set`. Each
 * connection writes PIPELINE requests at once and the next ones when all are answered (closed
 * loop), or, with RATE, when their time has come; then a latency counts from that time, so that a
 * server that stands still is charged for what it delayed (no coordinated omission, as HdrHistogram
 * calls it).
 *
 * Prints one JSON object. A reply that is an error ends the program, unless ERRORS allows them.
 */
#include "base/clock.h"
#include "base/random.h"
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
    READ_BYTES = 256 << 10,
    LINE_BYTES = 256, /* of a reply's line, what is more is not kept */
    KEY_BYTES = 64,
    EVENTS = 256,
    SLOTS_LOG2 = 6, /* values of a histogram are right to 1 part in 64 */
    SLOTS = 1 << SLOTS_LOG2,
    POWERS = 64 - SLOTS_LOG2,
};

enum protocol { RESP, TEXT, META };

static struct {
    enum protocol protocol;
    const char *address;
    uint64_t connections, pipeline, requests, seconds, keys, value_bytes, rate, seed;
    bool sequential; /* keys in order, each once */
    bool long_keys;  /* of 20 to 40 bytes */
    bool errors;     /* are counted and do not end the program */
    const char *user, *password;
    int word_count;
    char **words;
} plan = {
    .connections = 50,
    .pipeline = 1,
    .requests = 100000,
    .keys = 100000,
    .value_bytes = 200,
    .seed = 1};

struct flow {
    int fd;
    bool waits_to_write;
    uint8_t *out;
    size_t out_length, out_at, out_room;
    uint64_t begin_ns; /* of the batch under way */
    uint64_t due_ns;   /* of the next one, with a rate */
    uint64_t awaited;  /* replies */
    /* where in a reply it is */
    uint64_t skip;  /* bytes of a body that are still to come */
    uint64_t items; /* of a RESP reply, still to come */
    bool found;     /* a value, in memcached's text */
    size_t line_length;
    char line[LINE_BYTES];
};

static struct {
    uint64_t asked, answered, missing, errors, key_bytes, sent_bytes, received_bytes;
    uint64_t latency_max_ns;
    uint64_t slots[POWERS][SLOTS];
} seen;

static struct base_random dice;
static uint8_t *value;
static uint64_t next_key;
static uint64_t end_ns = UINT64_MAX;
static int events_fd;

/* ---------------------------------------------------------------- histogram */

static void
note_latency(uint64_t latency_ns)
{
    unsigned power = 0;
    uint64_t slot = latency_ns;
    if (latency_ns >= SLOTS) {
        power = 63u - (unsigned)__builtin_clzll(latency_ns) - SLOTS_LOG2 + 1;
        slot = latency_ns >> power;
    }
    seen.slots[power][slot]++;
    if (latency_ns > seen.latency_max_ns)
        seen.latency_max_ns = latency_ns;
}

/* The least latency that FRACTION of all replies did not exceed. */
static uint64_t
latency_at(double fraction)
{
    uint64_t wanted = (uint64_t)((double)seen.answered * fraction), count = 0;
    for (unsigned power = 0; power < POWERS; power++)
        for (uint64_t slot = 0; slot < SLOTS; slot++) {
            count += seen.slots[power][slot];
            if (count > wanted)
                return slot << power;
        }
    return seen.latency_max_ns;
}

/* ---------------------------------------------------------------- requests */

static void
append(struct flow *flow, const void *bytes, size_t length)
{
    if (flow->out_length + length > flow->out_room) {
        flow->out_room = 2 * (flow->out_length + length);
        flow->out = realloc(flow->out, flow->out_room);
        if (!flow->out)
            bench_die("no memory for requests");
    }
    memcpy(flow->out + flow->out_length, bytes, length);
    flow->out_length += length;
}

static void
append_text(struct flow *flow, const char *text)
{
    append(flow, text, strlen(text));
}

static void
append_number(struct flow *flow, const char *before, uint64_t number)
{
    char text[KEY_BYTES];
    int length = snprintf(text, sizeof text, "%s%" PRIu64 "\r\n", before, number);
    append(flow, text, (size_t)length);
}

/* The text of key NUMBER; as long as redis-benchmark makes them, or 20 to 40 bytes. */
static size_t
key_text(uint64_t number, char text[KEY_BYTES])
{
    if (!plan.long_keys)
        return (size_t)snprintf(text, KEY_BYTES, "key:%012" PRIu64, number);
    uint64_t mixed = number;
    uint64_t one = base_random_splitmix(&mixed), two = base_random_splitmix(&mixed);
    size_t length = 20 + one % 21;
    snprintf(text, KEY_BYTES, "user:%07" PRIx64 ":%016" PRIx64 "%016" PRIx64, number, one, two);
    return length;
}

static uint64_t
pick_key(void)
{
    return plan.sequential ? next_key++ % plan.keys : base_random_below(&dice, plan.keys);
}

static void
append_resp(struct flow *flow)
{
    append_number(flow, "*", (uint64_t)plan.word_count);
    for (int i = 0; i < plan.word_count; i++) {
        const void *bytes = plan.words[i];
        size_t length = strlen(plan.words[i]);
        char key[KEY_BYTES];
        if (!strcmp(plan.words[i], "KEY")) {
            length = key_text(pick_key(), key);
            seen.key_bytes += length;
            bytes = key;
        } else if (!strcmp(plan.words[i], "NUMBER")) {
            length = (size_t)snprintf(key, sizeof key, "%" PRIu64, pick_key());
            bytes = key;
        } else if (!strcmp(plan.words[i], "VALUE")) {
            length = plan.value_bytes;
            bytes = value;
        }
        append_number(flow, "$", length);
        append(flow, bytes, length);
        append(flow, "\r\n", 2);
    }
}

static void
append_memcached(struct flow *flow)
{
    char key[KEY_BYTES];
    size_t key_length = key_text(pick_key(), key);
    seen.key_bytes += key_length;
    bool meta = plan.protocol == META, set = !strcmp(plan.words[0], "set");
    append_text(flow, meta ? (set ? "ms " : "mg ") : (set ? "set " : "get "));
    append(flow, key, key_length);
    if (set) {
        append_number(flow, meta ? " " : " 0 0 ", plan.value_bytes);
        append(flow, value, plan.value_bytes);
        append_text(flow, "\r\n");
    } else {
        append_text(flow, meta ? " v\r\n" : "\r\n");
    }
}

static void
watch_writes(struct flow *flow, bool wanted)
{
    if (flow->waits_to_write == wanted)
        return;
    flow->waits_to_write = wanted;
    struct epoll_event event = {
        .events = EPOLLIN | (wanted ? (uint32_t)EPOLLOUT : 0), .data.ptr = flow};
    if (epoll_ctl(events_fd, EPOLL_CTL_MOD, flow->fd, &event))
        bench_die("epoll: %s", strerror(errno));
}

static void
write_out(struct flow *flow)
{
    while (flow->out_at < flow->out_length) {
        ssize_t done = send(
            flow->fd, flow->out + flow->out_at, flow->out_length - flow->out_at, MSG_NOSIGNAL);
        if (done < 0 && errno == EAGAIN)
            break;
        if (done < 0)
            bench_die("the server closed a connection: %s", strerror(errno));
        flow->out_at += (size_t)done;
        seen.sent_bytes += (size_t)done;
    }
    watch_writes(flow, flow->out_at < flow->out_length);
}

static bool
all_asked(uint64_t now_ns)
{
    return seen.asked >= plan.requests || now_ns >= end_ns;
}

static void
ask(struct flow *flow, uint64_t now_ns)
{
    if (all_asked(now_ns))
        return;
    flow->begin_ns = now_ns;
    if (plan.rate) {
        flow->begin_ns = flow->due_ns;
        flow->due_ns += plan.connections * plan.pipeline * 1000000000u / plan.rate;
    }
    flow->out_length = flow->out_at = 0;
    for (uint64_t i = 0; i < plan.pipeline && seen.asked < plan.requests; i++) {
        if (plan.protocol == RESP)
            append_resp(flow);
        else
            append_memcached(flow);
        seen.asked++;
        flow->awaited++;
    }
    flow->items = 1;
    write_out(flow);
}

/* ---------------------------------------------------------------- replies */

static void
end_reply(struct flow *flow, uint64_t now_ns)
{
    if (!flow->awaited)
        bench_die("an answer that nobody asked for");
    flow->awaited--;
    flow->items = 1;
    flow->found = false;
    seen.answered++;
    note_latency(now_ns - flow->begin_ns);
}

static void
end_item(struct flow *flow, uint64_t now_ns)
{
    if (--flow->items == 0)
        end_reply(flow, now_ns);
}

static void
note_error(const char *line)
{
    seen.errors++;
    if (!plan.errors)
        bench_die("the server answers: %s", line);
}

static void
take_resp_line(struct flow *flow, const char *line, uint64_t now_ns)
{
    long long number = line[0] ? strtoll(line + 1, NULL, 10) : 0;
    switch (line[0]) {
    case '-':
        note_error(line);
        break;
    case '$':
    case '=':
        if (number >= 0) {
            flow->skip = (uint64_t)number + 2;
            return;
        }
        seen.missing++;
        break;
    case '_':
        seen.missing++;
        break;
    case '*':
    case '~':
    case '%':
        if (number < 0)
            seen.missing++;
        else
            flow->items += (uint64_t)number * (line[0] == '%' ? 2 : 1);
        break;
    case '+':
    case ':':
    case ',':
    case '#':
        break;
    default:
        bench_die("no RESP: %s", line);
    }
    end_item(flow, now_ns);
}

static void
take_memcached_line(struct flow *flow, const char *line, uint64_t now_ns)
{
    unsigned long long length;
    if (sscanf(line, "VALUE %*s %*s %llu", &length) == 1 ||
        sscanf(line, "VA %llu", &length) == 1) {
        flow->skip = length + 2;
        flow->found = true;
        return;
    }
    if (!strcmp(line, "END") || !strcmp(line, "EN"))
        seen.missing += !flow->found;
    else if (strcmp(line, "STORED") && strcmp(line, "HD"))
        note_error(line);
    end_reply(flow, now_ns);
}

static void
end_body(struct flow *flow, uint64_t now_ns)
{
    if (plan.protocol == RESP)
        end_item(flow, now_ns);
    else if (plan.protocol == META)
        end_reply(flow, now_ns);
}

static void
take_line(struct flow *flow, uint64_t now_ns)
{
    size_t length = flow->line_length;
    flow->line_length = 0;
    flow->line[length - (length > 0 && flow->line[length - 1] == '\r')] = '\0';
    if (plan.protocol == RESP)
        take_resp_line(flow, flow->line, now_ns);
    else
        take_memcached_line(flow, flow->line, now_ns);
}

static void
take(struct flow *flow, const char *bytes, size_t length, uint64_t now_ns)
{
    for (const char *end = bytes + length; bytes < end;) {
        size_t left = (size_t)(end - bytes);
        if (flow->skip) {
            size_t part = flow->skip < left ? flow->skip : left;
            bytes += part;
            flow->skip -= part;
            if (!flow->skip)
                end_body(flow, now_ns);
            continue;
        }
        const char *newline = memchr(bytes, '\n', left);
        size_t part = newline ? (size_t)(newline - bytes) : left;
        size_t room = LINE_BYTES - 1 - flow->line_length;
        size_t kept = part < room ? part : room;
        memcpy(flow->line + flow->line_length, bytes, kept);
        flow->line_length += kept;
        bytes += part;
        if (newline) {
            bytes++;
            take_line(flow, now_ns);
        }
    }
}

static void
read_in(struct flow *flow)
{
    static char buffer[READ_BYTES];
    ssize_t got = recv(flow->fd, buffer, sizeof buffer, 0);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0)
        bench_die("the server closed a connection");
    seen.received_bytes += (size_t)got;
    uint64_t now_ns = base_clock_monotonic_ns();
    take(flow, buffer, (size_t)got, now_ns);
    if (!flow->awaited && !plan.rate)
        ask(flow, now_ns);
}

/* ---------------------------------------------------------------- connections */

static int
connect_unix(const char *path)
{
    struct sockaddr_un place = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof place.sun_path)
        bench_die("%s: too long for a socket's path", path);
    memcpy(place.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&place, sizeof place))
        bench_die("%s: %s", path, strerror(errno));
    return fd;
}

static int
connect_tcp(const char *port)
{
    struct sockaddr_in place = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)bench_number(port)),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&place, sizeof place))
        bench_die("port %s: %s", port, strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static void
log_in(int fd)
{
    char text[512], reply[64];
    int length = snprintf(
        text, sizeof text, "*3\r\n$4\r\nAUTH\r\n$%zu\r\n%s\r\n$%zu\r\n%s\r\n",
        strlen(plan.user), plan.user, strlen(plan.password), plan.password);
    if (length >= (int)sizeof text || send(fd, text, (size_t)length, 0) != length)
        bench_die("AUTH cannot be sent");
    ssize_t got = recv(fd, reply, sizeof reply, 0);
    if (got != 5 || memcmp(reply, "+OK\r\n", 5))
        bench_die("AUTH is refused");
}

static void
open_flow(struct flow *flow)
{
    flow->fd = plan.address[0] == '/' ? connect_unix(plan.address) : connect_tcp(plan.address);
    if (plan.user)
        log_in(flow->fd);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = flow};
    if (fcntl(flow->fd, F_SETFL, O_NONBLOCK) ||
        epoll_ctl(events_fd, EPOLL_CTL_ADD, flow->fd, &event))
        bench_die("connection: %s", strerror(errno));
}

/* ---------------------------------------------------------------- the run */

/* Ask where the time has come; how long the next one is away. */
static uint64_t
ask_what_is_due(struct flow *flows)
{
    uint64_t now_ns = base_clock_monotonic_ns(), next_ns = now_ns + 1000000000u;
    for (uint64_t i = 0; i < plan.connections; i++) {
        if (flows[i].awaited)
            continue;
        if (flows[i].due_ns <= now_ns)
            ask(&flows[i], now_ns);
        else if (flows[i].due_ns < next_ns)
            next_ns = flows[i].due_ns;
    }
    return next_ns - now_ns;
}

static bool
any_awaited(const struct flow *flows)
{
    for (uint64_t i = 0; i < plan.connections; i++)
        if (flows[i].awaited)
            return true;
    return false;
}

static void
report(double wall_s)
{
    static const struct {
        const char *name;
        double fraction;
    } points[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}};
    printf(
        "{\"requests\": %" PRIu64 ", \"wall_s\": %.6f, \"missing\": %" PRIu64
        ", \"errors\": %" PRIu64 ", \"key_bytes\": %" PRIu64 ", \"sent_bytes\": %" PRIu64
        ", \"received_bytes\": %" PRIu64 ", \"latency_us\": {",
        seen.answered, wall_s, seen.missing, seen.errors, seen.key_bytes, seen.sent_bytes,
        seen.received_bytes);
    for (size_t i = 0; i < sizeof points / sizeof *points; i++)
        printf("\"%s\": %.1f, ", points[i].name, (double)latency_at(points[i].fraction) / 1e3);
    printf("\"max\": %.1f}}\n", (double)seen.latency_max_ns / 1e3);
}

static void
run(struct flow *flows)
{
    struct epoll_event events[EVENTS];
    uint64_t begin_ns = base_clock_monotonic_ns();
    if (plan.seconds)
        end_ns = begin_ns + plan.seconds * 1000000000u;
    for (uint64_t i = 0; i < plan.connections; i++) {
        flows[i].due_ns =
            begin_ns + (plan.rate ? i * plan.pipeline * 1000000000u / plan.rate : 0);
        if (!plan.rate)
            ask(&flows[i], begin_ns);
    }
    while (!all_asked(base_clock_monotonic_ns()) || any_awaited(flows)) {
        uint64_t wait_ns = plan.rate ? ask_what_is_due(flows) : 1000000000u;
        struct timespec wait = {
            .tv_nsec = (long)(wait_ns % 1000000000u),
            .tv_sec = (time_t)(wait_ns / 1000000000u)};
        int count = epoll_pwait2(events_fd, events, EVENTS, &wait, NULL);
        for (int i = 0; i < count; i++) {
            struct flow *flow = events[i].data.ptr;
            if (events[i].events & EPOLLOUT)
                write_out(flow);
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                read_in(flow);
        }
    }
    report((double)(base_clock_monotonic_ns() - begin_ns) / 1e9);
}

static void
set_number(const char *name, const char *text)
{
    const struct {
        const char *name;
        uint64_t *place;
    } numbers[] = {
        {"connections", &plan.connections},
        {"pipeline", &plan.pipeline},
        {"requests", &plan.requests},
        {"seconds", &plan.seconds},
        {"keys", &plan.keys},
        {"value", &plan.value_bytes},
        {"rate", &plan.rate},
        {"seed", &plan.seed},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!strcmp(name, numbers[i].name)) {
            *numbers[i].place = bench_number(text);
            return;
        }
    bench_die("no such setting: %s", name);
}

static void
set(char *word)
{
    char *text = strchr(word, '=');
    if (!text)
        bench_die("not NAME=VALUE: %s", word);
    *text++ = '\0';
    if (!strcmp(word, "user"))
        plan.user = text;
    else if (!strcmp(word, "password"))
        plan.password = text;
    else if (!strcmp(word, "order"))
        plan.sequential = !strcmp(text, "sequential");
    else if (!strcmp(word, "shape"))
        plan.long_keys = !strcmp(text, "long");
    else if (!strcmp(word, "errors"))
        plan.errors = !strcmp(text, "count");
    else
        set_number(word, text);
}

int
main(int count, char **words)
{
    if (count < 5)
        bench_die("usage: load resp|text|meta PORT|PATH [NAME=VALUE ...] -- WORD ...");
    const char *name = words[1];
    plan.protocol = !strcmp(name, "resp") ? RESP : !strcmp(name, "text") ? TEXT : META;
    plan.address = words[2];
    int at = 3;
    while (at < count && strcmp(words[at], "--"))
        set(words[at++]);
    plan.words = words + at + 1;
    plan.word_count = count - at - 1;
    if (plan.word_count < 1 || !plan.connections || !plan.pipeline || !plan.keys)
        bench_die("no command, or nothing to do");
    if (plan.user && !plan.password)
        bench_die("a user without a password");
    if (plan.seconds)
        plan.requests = UINT64_MAX;

    base_random_init(&dice, plan.seed);
    value = malloc(plan.value_bytes + 1);
    struct flow *flows = calloc(plan.connections, sizeof *flows);
    events_fd = epoll_create1(EPOLL_CLOEXEC);
    if (!value || !flows || events_fd < 0)
        bench_die("no memory");
    base_random_fill(&dice, value, plan.value_bytes);
    for (uint64_t i = 0; i < plan.connections; i++)
        open_flow(&flows[i]);
    run(flows);
    return 0;
}
