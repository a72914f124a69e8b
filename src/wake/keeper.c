/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper.c - dor_wake_uffd_serve(): a small process that holds copies of what must not be closed,
 * and starts the one that does the work, again and again if need be.
 *
 *     keeper                                    worker
 *     listening socket, copies of all clients'  page server, threads, clients
 *         |  fork: it inherits all of these        |
 *         |<------------- READY, or FAILED --------|
 *         |<------- PARK (with descriptors) -------|  before a client is served
 *         |<-------------- REMOVE -----------------|  it is gone, or has all its pages
 *         |------------------ FINISH ------------->|
 *         |<--------------- DONE ------------------|  then it ends
 *
 * The keeper does so little that there is nothing in it to fail: it opens no store, starts no
 * thread and reads nothing that a client sent. When the worker dies, it takes what that had still
 * said out of the socket, then forks the next one, which wakes all faults that nobody answered.
 * A worker that cannot start is tried again for as long as a parked client lives, for to close its
 * descriptors would give it zeros. When the keeper dies, the worker serves those who are there
 * until they end.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <dormouse/wake.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/size.h"
#include "wake/placement.h"
#include "wake/socket.h"
#include "wake/uffd.h"

#define CLIENTS_USUAL   1024
#define CLIENTS_MOST    (1u << 20)
#define HANDSHAKE_USUAL (UINT64_C(10) * 1000 * 1000 * 1000)
#define WINDOW_USUAL    (UINT64_C(64) << 10)
#define MODE_USUAL      0600
#define LOOK_MS         100
/* A worker that dies so soon is not replaced at once. */
#define SOON_NS        (UINT64_C(1000) * 1000 * 1000)
#define PAUSE_LEAST_MS 10
#define PAUSE_MOST_MS  2000

enum word { WORD_READY, WORD_FAILED, WORD_PARK, WORD_REMOVE, WORD_DONE, WORD_FINISH };

struct message {
    enum word word;
    int code;       /* FAILED */
    uint64_t id;    /* PARK, REMOVE */
    uint32_t roles; /* PARK: a bit for each descriptor that comes along */
    char text[DOR_ERR_TEXT_BYTES];
};

struct keeper {
    const char *directory;
    const struct dor_wake_options *server_options;
    const char *name;
    const struct dor_wake_uffd *how;
    struct wake_uffd_how uffd_how;
    struct wake_listener listener;
    struct wake_uffd_counters *counters; /* in memory that all workers share */
    struct wake_parked *parked;
    size_t parked_count, parked_cap;
    int control;
    pid_t worker;
    uint64_t started_ns;
    unsigned pause_ms;
    bool ready, done, finishing;
    struct base_err failure; /* of a worker that could not start */
};

/* ------------------------------------------------------------------ messages */

union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(WAKE_PARK_ROLES * sizeof(int))];
};

static int
send_message(int control, const struct message *message, const int *fds, size_t fd_count)
{
    union control rights = {0};
    struct iovec bytes = {(void *)(uintptr_t)message, sizeof *message};
    struct msghdr header = {.msg_iov = &bytes, .msg_iovlen = 1};
    if (fd_count > 0) {
        struct cmsghdr *at = &rights.align;
        header.msg_control = rights.bytes;
        header.msg_controllen = CMSG_SPACE(fd_count * sizeof *fds);
        at->cmsg_level = SOL_SOCKET;
        at->cmsg_type = SCM_RIGHTS;
        at->cmsg_len = CMSG_LEN(fd_count * sizeof *fds);
        memcpy(CMSG_DATA(at), fds, fd_count * sizeof *fds);
    }
    ssize_t sent = 0;
    do
        sent = sendmsg(control, &header, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? dor_fail_errno(errno, "keeper") : 0;
}

/* 1: a message and FDS by role; 0: none now; -1: nobody sends any more. */
static int
receive_message(int control, struct message *message, int fds[WAKE_PARK_ROLES])
{
    union control rights;
    struct iovec bytes = {message, sizeof *message};
    struct msghdr header = {
        .msg_iov = &bytes,
        .msg_iovlen = 1,
        .msg_control = rights.bytes,
        .msg_controllen = sizeof rights.bytes};
    ssize_t got = recvmsg(control, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    for (unsigned role = 0; role < WAKE_PARK_ROLES; role++)
        fds[role] = -1;
    if (got < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    if (got != sizeof *message)
        return -1;
    struct cmsghdr *at = CMSG_FIRSTHDR(&header);
    size_t next = 0;
    for (unsigned role = 0; at != NULL && role < WAKE_PARK_ROLES; role++)
        if ((message->roles >> role & 1) != 0 &&
            at->cmsg_len >= CMSG_LEN((next + 1) * sizeof(int)))
            memcpy(&fds[role], CMSG_DATA(at) + next++ * sizeof(int), sizeof(int));
    return 1;
}

/* ------------------------------------------------------------------ the worker */

struct worker {
    int control;
    struct wake_park park;
};

static int
store_with_keeper(void *context, const struct wake_parked *client)
{
    const struct worker *worker = context;
    struct message message = {.word = WORD_PARK, .id = client->id};
    int fds[WAKE_PARK_ROLES];
    size_t count = 0;
    for (unsigned role = 0; role < WAKE_PARK_ROLES; role++)
        if (client->fds[role] >= 0) {
            message.roles |= 1u << role;
            fds[count++] = client->fds[role];
        }
    return send_message(worker->control, &message, fds, count);
}

static void
remove_from_keeper(void *context, uint64_t id)
{
    const struct worker *worker = context;
    struct message message = {.word = WORD_REMOVE, .id = id};
    /* A keeper that is gone keeps nothing. */
    if (send_message(worker->control, &message, NULL, 0) != 0)
        base_err_clear();
}

static int
say(const struct worker *worker, enum word word, int code)
{
    struct message message = {.word = word, .code = code};
    memcpy(message.text, base_err_record()->text, sizeof message.text);
    return send_message(worker->control, &message, NULL, 0);
}

/* Whether the one sandbox that was waited for has come and gone. */
static bool
has_had_one(const struct keeper *keeper, struct wake_uffd *uffd)
{
    return keeper->how->once && wake_uffd_client_count(uffd) == 0 &&
           atomic_load_explicit(&keeper->counters->clients, memory_order_relaxed) > 0;
}

/* Until all is done, or the keeper is gone and with it everybody who was served. */
static void
watch_over(const struct keeper *keeper, const struct worker *worker, struct wake_uffd *uffd)
{
    bool finishing = false;
    bool alone = false;
    while (!((finishing || alone) && wake_uffd_client_count(uffd) == 0) &&
           !has_had_one(keeper, uffd)) {
        struct pollfd poll_control = {.fd = alone ? -1 : worker->control, .events = POLLIN};
        struct message message;
        int fds[WAKE_PARK_ROLES];
        int got = 0;
        if (poll(&poll_control, 1, LOOK_MS) > 0)
            got = receive_message(worker->control, &message, fds);
        if (got == 1 && message.word == WORD_FINISH) {
            wake_uffd_finish(uffd);
            finishing = true;
        } else if (got < 0) {
            wake_uffd_refuse(uffd);
            alone = true;
            dor_log(ERROR, "wake", "keeper_died", "clients=%u", wake_uffd_client_count(uffd));
        }
    }
}

static int
run_worker(struct keeper *keeper, struct worker *worker)
{
    struct dor_wake_server *server = NULL;
    struct wake_uffd *uffd = NULL;
    worker->park = (struct wake_park){worker, store_with_keeper, remove_from_keeper};
    keeper->uffd_how.park = &worker->park;
    keeper->uffd_how.parked = keeper->parked;
    keeper->uffd_how.parked_count = keeper->parked_count;
    int err = dor_wake_server_open(keeper->directory, keeper->server_options, &server);
    if (err == 0)
        err = wake_uffd_open(server, &keeper->uffd_how, &uffd);
    if (err != 0)
        return say(worker, WORD_FAILED, err);
    err = say(worker, WORD_READY, 0);
    if (err == 0)
        watch_over(keeper, worker, uffd);
    wake_uffd_close(uffd);
    dor_wake_server_close(server);
    return err == 0 ? say(worker, WORD_DONE, 0) : err;
}

/* The signals of a terminal are for the keeper, which ends this process in good order. */
static _Noreturn void
be_worker(struct keeper *keeper, int control)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    struct worker worker = {.control = control};
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        signal(numbers[i], SIG_IGN);
    prctl(PR_SET_NAME, "dormouse-worker");
    _exit(run_worker(keeper, &worker) == 0 ? 0 : 1);
}

/* ------------------------------------------------------------------ the keeper */

static void
tell_to_finish(const struct keeper *keeper)
{
    if (send_message(keeper->control, &(struct message){.word = WORD_FINISH}, NULL, 0) != 0)
        base_err_clear(); /* it has died: the next one is told */
}

static int
start_worker(struct keeper *keeper)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return dor_fail_errno(errno, "cannot start a worker");
    pid_t pid = fork();
    if (pid == 0) {
        close(pair[0]);
        be_worker(keeper, pair[1]);
    }
    int errnum = errno;
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return dor_fail_errno(errnum, "cannot start a worker");
    }
    keeper->control = pair[0];
    keeper->worker = pid;
    keeper->started_ns = base_clock_monotonic_ns();
    keeper->failure = (struct base_err){0};
    if (keeper->finishing)
        tell_to_finish(keeper);
    return 0;
}

static void
keep(struct keeper *keeper, uint64_t id, const int fds[WAKE_PARK_ROLES])
{
    if (keeper->parked_count == keeper->parked_cap) {
        size_t cap = keeper->parked_cap * 2 + 64;
        struct wake_parked *grown =
            base_realloc_array(keeper->parked, cap, sizeof *keeper->parked);
        if (grown == NULL) {
            /* Better not to be replaced than to be cut off: the descriptors stay open. */
            dor_log(ERROR, "wake", "not_kept", "client=%llu", (unsigned long long)id);
            return;
        }
        keeper->parked = grown;
        keeper->parked_cap = cap;
    }
    struct wake_parked *parked = &keeper->parked[keeper->parked_count++];
    parked->id = id;
    memcpy(parked->fds, fds, sizeof parked->fds);
}

static void
forget(struct keeper *keeper, uint64_t id)
{
    for (size_t i = 0; i < keeper->parked_count; i++)
        if (keeper->parked[i].id == id) {
            wake_parked_close(&keeper->parked[i]);
            keeper->parked[i] = keeper->parked[--keeper->parked_count];
            return;
        }
}

static void
heed(struct keeper *keeper, const struct message *message, const int fds[WAKE_PARK_ROLES])
{
    switch (message->word) {
    case WORD_READY:
        if (!keeper->ready)
            dor_log(INFO, "wake", "listening", "socket=\"%s\"", keeper->how->socket_path);
        if (!keeper->ready && keeper->how->ready != NULL)
            keeper->how->ready(keeper->how->ready_context);
        keeper->ready = true;
        break;
    case WORD_FAILED:
        dor_fail(message->code, "%.*s", DOR_ERR_TEXT_BYTES - 1, message->text);
        keeper->failure = *base_err_record();
        if (keeper->ready)
            dor_log(ERROR, "wake", "worker_failed", "error=\"%s\"", dor_err_message());
        break;
    case WORD_PARK:
        keep(keeper, message->id, fds);
        break;
    case WORD_REMOVE:
        forget(keeper, message->id);
        break;
    case WORD_DONE:
        keeper->done = true;
        break;
    case WORD_FINISH:
        break;
    }
}

/* False when the worker has ended, for it alone had the other end. */
static bool
hear_worker(struct keeper *keeper)
{
    struct message message;
    int fds[WAKE_PARK_ROLES];
    int got = receive_message(keeper->control, &message, fds);
    for (; got == 1; got = receive_message(keeper->control, &message, fds))
        heed(keeper, &message, fds);
    return got == 0;
}

/* The worker has ended, and all that it said was heard. */
static void
bury_worker(struct keeper *keeper)
{
    int status = 0;
    base_auto_close(&keeper->control);
    while (waitpid(keeper->worker, &status, 0) < 0 && errno == EINTR)
        ;
    if (!keeper->done && keeper->failure.code == 0)
        dor_log(
            ERROR, "wake", "worker_died", "pid=%d signal=%d code=%d clients=%zu",
            (int)keeper->worker, WIFSIGNALED(status) ? WTERMSIG(status) : 0,
            WIFEXITED(status) ? WEXITSTATUS(status) : 0, keeper->parked_count);
}

static void
forget_gone(struct keeper *keeper)
{
    for (size_t i = keeper->parked_count; i-- > 0;)
        if (wake_parked_is_gone(&keeper->parked[i]))
            forget(keeper, keeper->parked[i].id);
}

static void
pause_before_next(struct keeper *keeper)
{
    bool soon = base_clock_monotonic_ns() - keeper->started_ns < SOON_NS;
    if (soon && keeper->pause_ms > 0)
        (void)poll(NULL, 0, (int)keeper->pause_ms);
    keeper->pause_ms = soon ? keeper->pause_ms * 2 : 0;
    if (soon && keeper->pause_ms < PAUSE_LEAST_MS)
        keeper->pause_ms = PAUSE_LEAST_MS;
    if (keeper->pause_ms > PAUSE_MOST_MS)
        keeper->pause_ms = PAUSE_MOST_MS;
}

static bool
is_asked_to_stop(const struct keeper *keeper)
{
    return keeper->how->stop != NULL && keeper->how->stop(keeper->how->stop_context) != 0;
}

/* Tell the worker to bring everything to an end. */
static void
finish(struct keeper *keeper)
{
    keeper->finishing = true;
    dor_log(INFO, "wake", "finishing", "clients=%zu", keeper->parked_count);
    if (keeper->control >= 0)
        tell_to_finish(keeper);
}

/* Why a worker that never could start did not. */
static int
reason(const struct keeper *keeper)
{
    if (keeper->failure.code != 0)
        return base_err_load(&keeper->failure);
    return dor_fail(DOR_E_IO, "the worker process died before it was ready; see the log");
}

/* From one worker's start to its end. */
static void
keep_one(struct keeper *keeper)
{
    bool lives = true;
    while (lives) {
        struct pollfd control = {.fd = keeper->control, .events = POLLIN};
        if (poll(&control, 1, LOOK_MS) > 0)
            lives = hear_worker(keeper);
        if (!keeper->finishing && is_asked_to_stop(keeper))
            finish(keeper);
    }
    bury_worker(keeper);
}

static int
keep_going(struct keeper *keeper)
{
    while (!keeper->done) {
        int err = start_worker(keeper);
        if (err == 0)
            keep_one(keeper);
        else
            dor_log(ERROR, "wake", "no_worker", "error=\"%s\"", dor_err_message());
        if (keeper->done)
            break;
        if (!keeper->ready)
            return err == 0 ? reason(keeper) : err;
        forget_gone(keeper);
        if (!keeper->finishing && is_asked_to_stop(keeper))
            finish(keeper);
        if (keeper->finishing && keeper->parked_count == 0)
            break;
        pause_before_next(keeper);
    }
    return 0;
}

/* ------------------------------------------------------------------ the call */

static int
check_how(const struct dor_wake_uffd *how, struct keeper *keeper)
{
    uint64_t window_bytes = how->window_bytes == 0 ? WINDOW_USUAL : how->window_bytes;
    uint64_t pages = window_bytes / DOR_PAGE_BYTES;
    if (window_bytes % DOR_PAGE_BYTES != 0 || pages > WAKE_WINDOW_PAGES ||
        (pages & (pages - 1)) != 0)
        return dor_fail(
            DOR_E_USAGE, "a window is 4 KiB to %d KiB and a power of two",
            WAKE_WINDOW_PAGES * 4);
    if (how->clients_max > CLIENTS_MOST || how->core < DOR_WAKE_CORE_ANY ||
        how->core > CPU_SETSIZE || (how->socket_mode & ~0777u) != 0)
        return dor_fail(DOR_E_USAGE, "wake: an option is out of its range");
    keeper->uffd_how = (struct wake_uffd_how){
        .name = keeper->name,
        .handshake_ns = how->handshake_ns == 0 ? HANDSHAKE_USUAL : how->handshake_ns,
        .clients_max = how->clients_max == 0 ? CLIENTS_USUAL : how->clients_max,
        .window_pages = (unsigned)pages,
        .push = !how->no_working_set,
        .passing = how->once,
        .fill = how->fill,
        .hold = how->hold,
        .core = how->core == DOR_WAKE_CORE_FOLLOW
                    ? WAKE_CORE_FOLLOW
                    : (how->core == DOR_WAKE_CORE_ANY ? WAKE_CORE_ANY : how->core - 1)};
    return 0;
}

/* Every client takes some descriptors in both processes. */
static void
raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

static int
share_counters(struct keeper *keeper)
{
    void *memory = mmap(
        NULL, sizeof *keeper->counters, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
        0);
    if (memory == MAP_FAILED)
        return dor_fail_errno(errno, "counters");
    keeper->counters = memory;
    return 0;
}

static struct dor_wake_uffd_stat
stat_of(const struct wake_uffd_counters *counters)
{
    return (struct dor_wake_uffd_stat){
        .clients = counters->clients,
        .refused = counters->refused,
        .ended = counters->ended,
        .faults = counters->faults,
        .copied_pages = counters->copied,
        .pushed_pages = counters->pushed,
        .zero_pages = counters->zeros,
        .removals = counters->removed,
        .lost_pages = counters->lost,
        .adopted = counters->adopted};
}

int
dor_wake_uffd_serve(
    const char *directory, const struct dor_wake_options *options, const char *name,
    const struct dor_wake_uffd *how, struct dor_wake_uffd_stat *ret)
{
    struct keeper keeper = {
        .directory = directory,
        .server_options = options,
        .name = name,
        .how = how,
        .listener.fd = -1,
        .control = -1};
    int err = check_how(how, &keeper);
    if (err == 0)
        err = share_counters(&keeper);
    if (err != 0)
        return err;
    raise_descriptor_limit();
    err = wake_listener_open(
        how->socket_path, how->socket_mode == 0 ? MODE_USUAL : how->socket_mode,
        &keeper.listener);
    if (err == 0) {
        keeper.uffd_how.listener = keeper.listener.fd;
        keeper.uffd_how.counters = keeper.counters;
        err = keep_going(&keeper);
        wake_listener_close(&keeper.listener);
    }
    for (size_t i = 0; i < keeper.parked_count; i++)
        wake_parked_close(&keeper.parked[i]);
    base_free(keeper.parked);
    if (err == 0 && ret != NULL)
        *ret = stat_of(keeper.counters);
    munmap(keeper.counters, sizeof *keeper.counters);
    return err;
}
