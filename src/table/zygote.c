/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zygote.c - forks a worker for every SPAWN, reaps them, and says of what they died.
 * When the front is gone it gives the workers a moment to end by themselves, then ends what is
 * left.
 */
#include "table/zygote.h"

#include <dormouse/table.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/size.h"
#include "table/control.h"
#include "table/engine.h"

enum { END_STEP_MS = 20, END_STEPS = 100 };

struct child {
    uint32_t id;
    pid_t pid;
};

struct zygote {
    int control, signal_fd;
    struct table_engine *engine; /* NULL = there is none */
    struct child *children;
    size_t count, cap;
    struct base_buf extra;
};

/* ------------------------------------------------------------------ children */

static void
forget(struct zygote *zygote, pid_t pid, int status)
{
    for (size_t i = 0; i < zygote->count; i++) {
        if (zygote->children[i].pid != pid)
            continue;
        if (WIFSIGNALED(status))
            dor_log(
                WARN, "table", "worker_died", "worker=%u pid=%d signal=%d",
                zygote->children[i].id, (int)pid, WTERMSIG(status));
        else if (WEXITSTATUS(status) != 0)
            dor_log(
                WARN, "table", "worker_failed", "worker=%u pid=%d status=%d",
                zygote->children[i].id, (int)pid, WEXITSTATUS(status));
        zygote->children[i] = zygote->children[--zygote->count];
        return;
    }
}

static void
reap(struct zygote *zygote)
{
    struct signalfd_siginfo info;
    int status = 0;
    pid_t pid;
    while (read(zygote->signal_fd, &info, sizeof info) > 0)
        continue;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        forget(zygote, pid, status);
}

static int
remember(struct zygote *zygote, uint32_t id, pid_t pid)
{
    if (zygote->count == zygote->cap) {
        size_t cap = 2 * zygote->cap + 16;
        struct child *grown =
            base_realloc_array(zygote->children, cap, sizeof *zygote->children);
        if (grown == NULL)
            return DOR_E_NO_MEMORY;
        zygote->children = grown;
        zygote->cap = cap;
    }
    zygote->children[zygote->count++] = (struct child){id, pid};
    return 0;
}

_Noreturn static void
be_worker(struct zygote *zygote, int control, int status_fd, unsigned rows)
{
    sigset_t none;
    sigemptyset(&none);
    close(zygote->control);
    close(zygote->signal_fd);
    prctl(PR_SET_NAME, "table-worker", 0, 0, 0);
    sigprocmask(SIG_SETMASK, &none, NULL);
    _exit(table_worker_main(control, status_fd, rows, zygote->engine));
}

/* A packet that does not fit now waits: the front takes it soon. */
static void
answer(struct zygote *zygote, const struct table_message *message, int fd)
{
    for (;;) {
        int rc = table_control_send(zygote->control, message, NULL, &fd, fd >= 0 ? 1 : 0);
        if (rc != DOR_E_BUSY)
            return;
        struct pollfd room = {.fd = zygote->control, .events = POLLOUT};
        poll(&room, 1, END_STEP_MS);
    }
}

static void
spawn(struct zygote *zygote, const struct table_message *message, const int *fds)
{
    struct table_message reply = {.word = TABLE_WORD_SPAWNED, .id = message->id};
    unsigned rows = message->worker.rows;
    AUTO_CLOSE int pidfd = -1;
    bool whole = fds[0] >= 0 && fds[1] >= 0;
    /* Room for it first: a child that is not known would never be ended. */
    int rc = whole ? remember(zygote, message->id, 0) : DOR_E_CORRUPT;
    pid_t pid = rc == 0 ? fork() : -1;
    if (pid == 0)
        be_worker(zygote, fds[0], fds[1], rows);
    if (pid > 0) {
        zygote->children[zygote->count - 1].pid = pid;
        pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
        reply.worker.pid = pid;
    } else if (rc == 0) {
        zygote->count--;
    }
    answer(zygote, &reply, pidfd);
}

/* ------------------------------------------------------------------ its life */

/* False when the front is gone. */
static bool
hear(struct zygote *zygote)
{
    struct table_message message;
    int fds[TABLE_CONTROL_FDS];
    int rc = table_control_receive(zygote->control, &message, &zygote->extra, fds);
    if (rc == 0 && message.word == TABLE_WORD_SPAWN)
        spawn(zygote, &message, fds);
    for (unsigned i = 0; i < TABLE_CONTROL_FDS; i++)
        base_close_fd(&fds[i]);
    return rc == 0 || rc == DOR_E_BUSY || rc == DOR_E_CORRUPT || rc == DOR_E_NO_MEMORY;
}

static void
end_children(struct zygote *zygote)
{
    for (unsigned i = 0; i < END_STEPS && zygote->count > 0; i++) {
        struct pollfd fd = {.fd = zygote->signal_fd, .events = POLLIN};
        poll(&fd, 1, END_STEP_MS);
        reap(zygote);
    }
    for (size_t i = 0; i < zygote->count; i++)
        kill(zygote->children[i].pid, SIGKILL);
}

static int
prepare(struct zygote *zygote)
{
    sigset_t wanted;
    struct rlimit limit;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGCHLD);
    prctl(PR_SET_NAME, "table-zygote", 0, 0, 0);
    /* Where the engine would look for the time zone there is nothing to be opened. */
    setenv("TZ", "UTC", 1);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    signal(SIGPIPE, SIG_IGN);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    close_range(TABLE_ZYGOTE_CONTROL_FD + 1, ~0U, 0);
    sigprocmask(SIG_BLOCK, &wanted, NULL);
    zygote->signal_fd = signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
    if (zygote->signal_fd < 0)
        return dor_fail_errno(errno, "signals");
    return 0;
}

static bool
is_control(int fd)
{
    int type = 0;
    socklen_t bytes = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &bytes) == 0 && type == SOCK_SEQPACKET;
}

int
dor_table_zygote_main(void)
{
    struct zygote zygote = {.control = TABLE_ZYGOTE_CONTROL_FD, .signal_fd = -1};
    if (!is_control(zygote.control) || prepare(&zygote) != 0)
        return EXIT_FAILURE;
    /* Mapped and relocated once for all workers; it starts in those that need it. */
    if (table_engine_open(&zygote.engine) != 0)
        dor_log(WARN, "table", "no_engine", "error=\"%s\"", dor_err_message());
    for (bool going = true; going;) {
        struct pollfd fds[] = {
            {.fd = zygote.control, .events = POLLIN},
            {.fd = zygote.signal_fd, .events = POLLIN},
        };
        poll(fds, ARRAY_LEN(fds), -1);
        if (fds[1].revents != 0)
            reap(&zygote);
        if (fds[0].revents != 0)
            going = hear(&zygote);
    }
    end_children(&zygote);
    table_engine_close(zygote.engine);
    base_free(zygote.children);
    base_buf_free(&zygote.extra);
    return EXIT_SUCCESS;
}
