/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper.c - messages between keeper and worker, the list of what is parked, and the keeper's life.
 */
#include "wake/keeper.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/size.h"

#define LOOK_MS 100
/* A worker that dies so soon is not replaced at once. */
#define SOON_NS        (UINT64_C(1000) * 1000 * 1000)
#define PAUSE_LEAST_MS 10
#define PAUSE_MOST_MS  2000

struct keeper {
    const struct wake_keeping *keeping;
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

int
wake_keeper_send(
    int control, const struct wake_message *message, const int *fds, size_t fd_count)
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

int
wake_keeper_receive(int control, struct wake_message *message, int fds[static WAKE_PARK_ROLES])
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

/* ------------------------------------------------------------------ parking with a keeper */

static int
park_store(void *context, const struct wake_parked *client)
{
    const int *control = context;
    struct wake_message message = {.word = WAKE_WORD_PARK, .id = client->id};
    int fds[WAKE_PARK_ROLES];
    size_t count = 0;
    for (unsigned role = 0; role < WAKE_PARK_ROLES; role++)
        if (client->fds[role] >= 0) {
            message.roles |= 1u << role;
            fds[count++] = client->fds[role];
        }
    return wake_keeper_send(*control, &message, fds, count);
}

static void
park_remove(void *context, uint64_t id)
{
    const int *control = context;
    struct wake_message message = {.word = WAKE_WORD_REMOVE, .id = id};
    /* A keeper that is gone keeps nothing. */
    if (wake_keeper_send(*control, &message, NULL, 0) != 0)
        base_err_clear();
}

struct wake_park
wake_keeper_park(int *control)
{
    return (struct wake_park){control, park_store, park_remove};
}

/* ------------------------------------------------------------------ what is kept */

static void
keep(struct wake_parked_list *list, uint64_t id, const int fds[WAKE_PARK_ROLES])
{
    if (list->count == list->cap) {
        size_t cap = list->cap * 2 + 64;
        struct wake_parked *grown = base_realloc_array(list->items, cap, sizeof *list->items);
        if (grown == NULL) {
            /* Better not to be replaced than to be cut off: the descriptors stay open. */
            dor_log(ERROR, "wake", "not_kept", "client=%llu", (unsigned long long)id);
            return;
        }
        list->items = grown;
        list->cap = cap;
    }
    struct wake_parked *parked = &list->items[list->count++];
    parked->id = id;
    memcpy(parked->fds, fds, sizeof parked->fds);
}

static void
forget(struct wake_parked_list *list, uint64_t id)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->items[i].id == id) {
            wake_parked_close(&list->items[i]);
            list->items[i] = list->items[--list->count];
            return;
        }
}

void
wake_parked_heed(
    struct wake_parked_list *list, const struct wake_message *message,
    const int fds[static WAKE_PARK_ROLES])
{
    if (message->word == WAKE_WORD_PARK)
        keep(list, message->id, fds);
    else if (message->word == WAKE_WORD_REMOVE)
        forget(list, message->id);
}

void
wake_parked_forget_gone(struct wake_parked_list *list)
{
    for (size_t i = list->count; i-- > 0;)
        if (wake_parked_is_gone(&list->items[i]))
            forget(list, list->items[i].id);
}

void
wake_parked_list_fini(struct wake_parked_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        wake_parked_close(&list->items[i]);
    base_free(list->items);
    *list = (struct wake_parked_list){0};
}

/* ------------------------------------------------------------------ the worker */

static int
say(const struct wake_worker_link *link, enum wake_word word, int code)
{
    struct wake_message message = {.word = word, .code = code};
    memcpy(message.text, base_err_record()->text, sizeof message.text);
    return wake_keeper_send(link->control, &message, NULL, 0);
}

int
wake_worker_ready(const struct wake_worker_link *link)
{
    return say(link, WAKE_WORD_READY, 0);
}

enum wake_heard
wake_worker_hear(struct wake_worker_link *link, int wait_ms)
{
    struct pollfd control = {.fd = link->control, .events = POLLIN};
    struct wake_message message;
    int fds[WAKE_PARK_ROLES];
    int got = 0;
    if (poll(&control, 1, wait_ms) > 0)
        got = wake_keeper_receive(link->control, &message, fds);
    if (got == 1 && message.word == WAKE_WORD_FINISH)
        return WAKE_HEARD_FINISH;
    if (got >= 0)
        return WAKE_HEARD_NOTHING;
    base_auto_close(&link->control);
    link->control = -1;
    return WAKE_HEARD_ALONE;
}

/* The signals of a terminal are for the keeper, which ends this process in good order. */
static _Noreturn void
be_worker(const struct keeper *keeper, int control)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    const struct wake_keeping *keeping = keeper->keeping;
    struct wake_worker_link link = {
        .control = control,
        .parked = keeping->parked->items,
        .parked_count = keeping->parked->count};
    link.park = wake_keeper_park(&link.control);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        signal(numbers[i], SIG_IGN);
    prctl(PR_SET_NAME, "dormouse-worker");
    int err = keeping->work(keeping->context, &link);
    int said = err == 0 ? say(&link, WAKE_WORD_DONE, 0) : say(&link, WAKE_WORD_FAILED, err);
    _exit(err == 0 && said == 0 ? 0 : 1);
}

/* ------------------------------------------------------------------ the keeper */

static void
tell_to_finish(const struct keeper *keeper)
{
    const struct wake_message message = {.word = WAKE_WORD_FINISH};
    if (wake_keeper_send(keeper->control, &message, NULL, 0) != 0)
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
heed(struct keeper *keeper, const struct wake_message *message, const int fds[WAKE_PARK_ROLES])
{
    const struct wake_keeping *keeping = keeper->keeping;
    switch (message->word) {
    case WAKE_WORD_READY:
        if (!keeper->ready && keeping->ready != NULL)
            keeping->ready(keeping->ready_context);
        keeper->ready = true;
        break;
    case WAKE_WORD_FAILED:
        dor_fail(message->code, "%.*s", DOR_ERR_TEXT_BYTES - 1, message->text);
        keeper->failure = *base_err_record();
        if (keeper->ready)
            dor_log(ERROR, "wake", "worker_failed", "error=\"%s\"", dor_err_message());
        break;
    case WAKE_WORD_DONE:
        keeper->done = true;
        break;
    case WAKE_WORD_PARK:
    case WAKE_WORD_REMOVE:
        wake_parked_heed(keeping->parked, message, fds);
        break;
    case WAKE_WORD_FINISH:
        break;
    }
}

/* False when the worker has ended, for it alone had the other end. */
static bool
hear_worker(struct keeper *keeper)
{
    struct wake_message message;
    int fds[WAKE_PARK_ROLES];
    int got = wake_keeper_receive(keeper->control, &message, fds);
    for (; got == 1; got = wake_keeper_receive(keeper->control, &message, fds))
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
            WIFEXITED(status) ? WEXITSTATUS(status) : 0, keeper->keeping->parked->count);
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
    return keeper->keeping->stop != NULL &&
           keeper->keeping->stop(keeper->keeping->stop_context) != 0;
}

/* Tell the worker to bring everything to an end. */
static void
finish(struct keeper *keeper)
{
    keeper->finishing = true;
    dor_log(INFO, "wake", "finishing", "clients=%zu", keeper->keeping->parked->count);
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

int
wake_keeper_run(const struct wake_keeping *keeping)
{
    struct keeper state = {
        .keeping = keeping,
        .control = -1,
        .finishing = keeping->finishing,
        /* Who begins with clients does not give up on them. */
        .ready = keeping->parked->count > 0};
    struct keeper *keeper = &state;
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
        wake_parked_forget_gone(keeper->keeping->parked);
        if (!keeper->finishing && is_asked_to_stop(keeper))
            finish(keeper);
        if (keeper->finishing && keeper->keeping->parked->count == 0)
            break;
        pause_before_next(keeper);
    }
    return 0;
}
