/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve_plain.c - a worker alone, without front and passwords, for tests and benches: one tenant,
 * `default`, at a TCP port or a Unix socket.
 *
 *     serve_plain PORT|PATH|probe [--loop epoll|uring|auto] [--limit MIB]
 *                 [--policy noeviction|lru|random] [--input-max BYTES] [--output-max BYTES]
 *                 [--stall SECONDS]
 *
 * It prints one line when it listens, and ends at SIGTERM. With `probe` instead of a port it only
 * says whether it could: the exit code is 0.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "table/engine.h"
#include "table/worker.h"

static struct table_worker *worker;

_Noreturn static void
die(const char *what)
{
    fprintf(stderr, "serve_plain: %s: %s\n", what, dor_err_message());
    exit(1);
}

static void
on_signal(int number)
{
    (void)number;
    table_worker_stop(worker);
}

static int
listen_at_path(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(fd, 1024) != 0)
        die(path);
    return fd;
}

/* At PORT of the loopback; 0 takes any, which *RET tells. */
static int
listen_at_port(unsigned port, unsigned *ret)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    socklen_t length = sizeof address;
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 1024) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) != 0)
        die("no port");
    *ret = ntohs(address.sin_port);
    return fd;
}

static void
parse_option(
    const char *name, const char *value, struct table_worker_options *options,
    struct table_tenant_setup *setup)
{
    if (strcmp(name, "--loop") == 0)
        options->loop = strcmp(value, "uring") == 0   ? TABLE_LOOP_URING
                        : strcmp(value, "epoll") == 0 ? TABLE_LOOP_EPOLL
                                                      : TABLE_LOOP_AUTO;
    else if (strcmp(name, "--limit") == 0)
        setup->limit_bytes = strtoull(value, NULL, 10) << 20;
    else if (strcmp(name, "--policy") == 0)
        setup->policy = strcmp(value, "lru") == 0      ? TABLE_EVICT_LRU
                        : strcmp(value, "random") == 0 ? TABLE_EVICT_RANDOM
                                                       : TABLE_NO_EVICTION;
    else if (strcmp(name, "--input-max") == 0)
        options->input_bytes_max = strtoull(value, NULL, 10);
    else if (strcmp(name, "--output-max") == 0)
        options->output_bytes_max = strtoull(value, NULL, 10);
    else if (strcmp(name, "--stall") == 0)
        options->stall_seconds = (uint32_t)strtoul(value, NULL, 10);
    else
        die(name);
}

int
main(int argc, char **argv)
{
    struct table_worker_options options = {0};
    struct table_tenant_setup setup = {
        .id = 1,
        .name = "default",
        .create = true,
        .limit_bytes = UINT64_C(4) << 30,
    };
    if (argc < 2 || argc % 2 != 0) {
        fprintf(stderr, "serve_plain PORT|PATH [--option value ...]\n");
        return 1;
    }
    for (int i = 2; i + 1 < argc; i += 2)
        parse_option(argv[i], argv[i + 1], &options, &setup);
    if (strcmp(argv[1], "probe") == 0) {
        if (table_worker_new(&options, &worker) != 0)
            die("cannot start");
        table_worker_free(worker);
        return 0;
    }
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    unsigned port = 0;
    bool at_path = strchr(argv[1], '/') != NULL;
    int fd = at_path ? listen_at_path(argv[1])
                     : listen_at_port((unsigned)strtoul(argv[1], NULL, 10), &port);
    setup.memory_fd = memfd_create("table", MFD_CLOEXEC);
    /* Without it there are no functions. */
    (void)!table_engine_open(&options.engine);
    if (table_worker_new(&options, &worker) != 0 ||
        table_worker_add_tenant(worker, &setup) != 0 || table_worker_listen(worker, fd, 1) != 0)
        die("cannot start");
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    printf("serving %u by %s\n", port, table_worker_loop_name(worker));
    fflush(stdout);
    if (table_worker_run(worker) != 0)
        die("serving failed");
    table_worker_free(worker);
    table_engine_close(options.engine);
    if (at_path)
        unlink(argv[1]);
    return 0;
}
