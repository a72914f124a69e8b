/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_table_worker.c - connections that come from a front and go back to it, tenants that come
 * and go, descriptors that are watched, and calls of functions that wait for each other; in both
 * loops.
 */
#include "tap.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "table/engine.h"
#include "table/worker.h"

static struct table_engine *engine; /* NULL = there is none */
static struct table_worker *worker;
static int returned_fd = -1; /* by hand_back */
static struct table_handover returned;
static char returned_name[64], returned_bytes[256];
static unsigned ticks, overruns;

static void
hand_back(void *context, int fd, uint64_t tenant_id, const struct table_handover *handover)
{
    (void)context;
    returned_fd = fd;
    returned = *handover;
    is_int(tenant_id, 1, "it comes from its tenant");
    snprintf(returned_name, sizeof returned_name, "%s", handover->name);
    if (handover->pending_bytes < sizeof returned_bytes)
        memcpy(returned_bytes, handover->pending, handover->pending_bytes);
}

static void
tick(void *context)
{
    (void)context;
    ticks++;
}

static bool
overran(void *context, uint64_t tenant_id)
{
    (void)context;
    is_int(tenant_id, 1, "who overran is told");
    overruns++;
    return true;
}

static int
tenant(uint64_t id, const char *name)
{
    const struct table_tenant_setup setup = {
        .id = id,
        .name = name,
        .create = true,
        .memory_fd = memfd_create("table", MFD_CLOEXEC),
        .limit_bytes = 1 << 20,
    };
    return table_worker_add_tenant(worker, &setup);
}

static bool
stop_here(void *context, int fd)
{
    char byte;
    unsigned *seen = context;
    *seen += read(fd, &byte, 1) == 1;
    table_worker_stop(worker);
    return *seen < 2;
}

/* Let the worker serve what has been sent already, and what comes of it. */
static void
serve(void)
{
    unsigned seen = 1;
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        bail("no socket");
    for (unsigned turns = 0; turns < 20; turns++) {
        seen = 1;
        if (table_worker_watch(worker, ends[0], stop_here, &seen) != 0 ||
            write(ends[1], "x", 1) != 1 || table_worker_run(worker) != 0)
            bail("%s", dor_err_message());
    }
    close(ends[0]);
    close(ends[1]);
}

/* What can be read at FD without waiting. */
static const char *
said(int fd)
{
    static char text[4096];
    ssize_t got = recv(fd, text, sizeof text - 1, MSG_DONTWAIT);
    text[got > 0 ? got : 0] = '\0';
    return got == 0 ? "closed" : text;
}

static int
adopt(const char *pending, unsigned protocol)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        bail("no socket");
    const struct table_handover handover = {
        .protocol = protocol,
        .client_id = 77,
        .name = "somebody",
        .library = "lib",
        .library_version = "1",
        .address = "192.0.2.1:5",
        .pending = (const uint8_t *)pending,
        .pending_bytes = strlen(pending),
    };
    is_ok(table_worker_adopt(worker, 1, ends[0], &handover), "a connection is taken over");
    return ends[1];
}

static void
test_adopted(void)
{
    int fd = adopt("PING\r\nCLIENT ID\r\nCLIENT GETNAME\r\nGET no", 3);
    serve();
    is_str(
        said(fd), "+PONG\r\n:77\r\n$8\r\nsomebody\r\n",
        "what came with it is answered, in its name");
    ok(write(fd, "ne\r\nCLIENT INFO\r\n", 17) == 17, "the rest of a request comes");
    serve();
    const char *text = said(fd);
    is_mem(text, "_\r\n", 3, "and is answered in its protocol");
    ok(strstr(text, "addr=192.0.2.1:5 ") != NULL, "its address is what the front said");
    close(fd);
    serve();
    struct table_worker_stat stat;
    table_worker_stat(worker, &stat);
    is_int(stat.clients, 0, "gone, it is forgotten");
}

static void
test_handed_back(const char *request, const char *name)
{
    returned_fd = -1;
    int fd = adopt("", 2);
    char sent[256];
    int length = snprintf(sent, sizeof sent, "SET a b\r\n%sGET a\r\n", request);
    ok(write(fd, sent, (size_t)length) == length, "%s is sent between others", name);
    serve();
    is_str(said(fd), "+OK\r\n", "%s: what was before it is answered", name);
    ok(returned_fd >= 0, "%s: the connection goes back", name);
    is_int(returned.client_id, 77, "%s: with its number", name);
    is_str(returned_name, "somebody", "%s: and its name", name);
    size_t before = strlen("SET a b\r\n");
    is_int(
        returned.pending_bytes, (size_t)length - before, "%s: and all from that request on",
        name);
    is_mem(returned_bytes, sent + before, (size_t)length - before, "%s: as it came", name);
    close(returned_fd);
    is_str(said(fd), "closed", "%s: the worker holds it no more", name);
    close(fd);
}

static void
test_tenants(void)
{
    is_ok(tenant(2, "two"), "a second tenant");
    is_int(tenant(2, "two"), DOR_E_EXISTS, "whose number is taken then");
    ok(table_worker_table(worker, 2) != NULL, "it has a table");
    is_int(table_worker_remove_tenant(worker, 3), DOR_E_NOT_FOUND, "there is no third");
    const struct table_handover handover = {.protocol = 2, .pending = NULL};
    is_int(
        table_worker_adopt(worker, 3, dup(0), &handover), DOR_E_NOT_FOUND, "nor clients of it");
    int fd = adopt("MULTI\r\nSET a b\r\n", 2);
    serve();
    is_ok(table_worker_remove_tenant(worker, 1), "the first goes, with clients");
    is_str(said(fd), "+OK\r\n+QUEUED\r\n", "who had their answers");
    is_str(said(fd), "closed", "and are closed");
    close(fd);
    ok(table_worker_table(worker, 1) == NULL, "its table is gone");
    is_ok(tenant(1, "one"), "and may come again");
}

static void
load_library(void)
{
    static const char library[] =
        "#!js name=lib\nredis.registerFunction('f', () => 1, {flags: ['no-writes']});\n"
        "redis.registerFunction('loop', () => { for (;;); });\n";
    char request[512];
    snprintf(
        request, sizeof request,
        "*4\r\n$8\r\nFUNCTION\r\n$4\r\nLOAD\r\n$7\r\nREPLACE\r\n$%zu\r\n%s\r\n",
        strlen(library), library);
    int fd = adopt(request, 2);
    serve();
    is_str(said(fd), "$3\r\nlib\r\n", "a library is loaded");
    close(fd);
    serve();
}

/* Calls of more connections than the limit at a time: who comes last is refused. */
static void
test_calls_at_a_time(void)
{
    enum { LIMIT = 2, CLIENTS = 5, ROUNDS = 2 };
    static const char refusal[] = "-BUSY the tenant has its limit of 2 calls waiting";
    const struct table_function_limits limits = {.calls_max = LIMIT};
    is_ok(table_worker_set_limits(worker, 1, 1 << 20, TABLE_NO_EVICTION, &limits), "a limit");
    load_library();
    for (int round = 0; round < ROUNDS; round++) {
        int fds[CLIENTS], good = 0, refused = 0;
        for (int i = 0; i < CLIENTS; i++)
            fds[i] = adopt("FCALL f 0\r\nFCALL f 0\r\n", 2);
        serve();
        for (int i = 0; i < CLIENTS; i++) {
            const char *text = said(fds[i]);
            good += strcmp(text, ":1\r\n:1\r\n") == 0;
            refused += strncmp(text, refusal, sizeof refusal - 1) == 0;
        }
        is_int(good, LIMIT, "calls of so many connections are run, and those behind them");
        is_int(refused, CLIENTS - LIMIT, "those of others are refused");
        ok(write(fds[CLIENTS - 1], "FCALL f 0\r\n", 11) == 11, "one of them tries again");
        serve();
        is_str(said(fds[CLIENTS - 1]), ":1\r\n", "and has its turn");
        for (int i = 0; i < CLIENTS; i++)
            close(fds[i]);
        serve();
    }
}

/* A tenant that overruns its limit leaves: its clients go back, what they sent is not lost. */
static void
test_leaving(void)
{
    static const char behind[] = "PING\r\nFCALL f 0\r\n";
    const struct table_function_limits limits = {.call_ms = 5};
    char sent[128];
    is_ok(table_worker_set_limits(worker, 1, 1 << 20, TABLE_NO_EVICTION, &limits), "a limit");
    load_library();
    int in_multi = adopt("MULTI\r\n", 2);
    serve();
    is_str(said(in_multi), "+OK\r\n", "one is inside MULTI");
    returned_fd = -1;
    snprintf(sent, sizeof sent, "FCALL loop 0\r\n%s", behind);
    int fd = adopt(sent, 2);
    serve();
    is_int(overruns, 1, "a call that loops is an overrun");
    is_mem(said(fd), "-BUSY the function took longer", 30, "its caller has an error");
    ok(returned_fd >= 0, "and goes back");
    is_int(returned.pending_bytes, strlen(behind), "with all that was not run");
    is_mem(returned_bytes, behind, strlen(behind), "as it came");
    is_str(said(in_multi), "closed", "who is inside MULTI is closed");
    close(returned_fd);
    close(fd);
    close(in_multi);
    returned_fd = -1;
    fd = adopt("FCALL f 0\r\n", 2);
    serve();
    ok(returned_fd >= 0 && strcmp(said(fd), "") == 0, "who comes late goes back at once");
    is_int(returned.pending_bytes, 11, "with what it brought");
    close(returned_fd);
    close(fd);
    overruns = 0;
}

static void
test_loop(enum table_loop_kind loop, const char *name)
{
    const struct table_worker_options options = {
        .loop = loop,
        .hand_back = hand_back,
        .tick = tick,
        .overran = overran,
        .engine = engine};
    if (table_worker_new(&options, &worker) != 0) {
        skip(dor_err_message(), name);
        return;
    }
    is_str(table_worker_loop_name(worker), name, "the loop");
    is_ok(tenant(1, "one"), "a tenant");
    test_adopted();
    test_handed_back("AUTH one secret\r\n", "AUTH");
    test_handed_back("AUTH 'one' \"se\\x63ret\"\r\n", "a quoted AUTH");
    test_handed_back(
        "*5\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$1\r\na\r\n$1\r\nb\r\n", "HELLO");
    test_tenants();
    if (engine != NULL) {
        test_calls_at_a_time();
        test_leaving();
    } else {
        skip("there is no engine in this build", "calls that wait for each other");
    }
    ok(ticks > 0, "it ticks");
    table_worker_free(worker);
}

int
main(void)
{
    int rc = table_engine_open(&engine);
    if (rc != 0 && rc != DOR_E_UNSUPPORTED)
        bail("%s", dor_err_message());
    test_loop(TABLE_LOOP_EPOLL, "epoll");
    test_loop(TABLE_LOOP_URING, "io_uring");
    table_engine_close(engine);
    return done_testing();
}
