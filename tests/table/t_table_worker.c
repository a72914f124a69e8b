/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_table_worker.c - connections that come from a front and go back to it, tenants that come
 * and go, and descriptors that are watched; in both loops.
 */
#include "tap.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "table/worker.h"

static struct table_worker *worker;
static int returned_fd = -1; /* by hand_back */
static struct table_handover returned;
static char returned_name[64], returned_bytes[256];
static unsigned ticks;

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
test_loop(enum table_loop_kind loop, const char *name)
{
    const struct table_worker_options options = {
        .loop = loop, .hand_back = hand_back, .tick = tick};
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
    ok(ticks > 0, "it ticks");
    table_worker_free(worker);
}

int
main(void)
{
    test_loop(TABLE_LOOP_EPOLL, "epoll");
    test_loop(TABLE_LOOP_URING, "io_uring");
    return done_testing();
}
