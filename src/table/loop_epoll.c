/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop_epoll.c - the loop by epoll, level-triggered: one wait a turn, one read a stream that has
 * something, and a write when the worker says so. Bytes are read into one buffer for all streams.
 *
 * The pointer of an event has its kind in the lowest bits.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "table/loop.h"

enum { EVENTS = 256, READ_BYTES = 64 << 10, PIECES = 64, ACCEPTS = 64 };
enum { KIND_STREAM, KIND_SOURCE, KIND_MASK = 7 };

struct epoll_loop {
    struct table_loop loop;
    int fd;
    int spare; /* given up for a moment to turn somebody away when there are no more descriptors */
    struct table_source *sources;
    uint8_t *buffer;
    struct epoll_event events[EVENTS];
    int event_count, event_next; /* of this turn; those before next are done */
};

static void
free_loop(struct epoll_loop *loop)
{
    table_sources_close(&loop->sources);
    if (loop->fd >= 0)
        close(loop->fd);
    if (loop->spare >= 0)
        close(loop->spare);
    base_free(loop->buffer);
    base_free(loop);
}

static int
open_loop(const struct table_loop_handler *handler, struct table_loop **ret)
{
    struct epoll_loop *loop = base_zalloc(sizeof *loop);
    if (loop == NULL)
        return DOR_E_NO_MEMORY;
    loop->loop = (struct table_loop){.ops = &table_loop_epoll, .handler = *handler};
    loop->buffer = base_alloc(READ_BYTES);
    loop->fd = epoll_create1(EPOLL_CLOEXEC);
    loop->spare = loop->fd >= 0 ? dup(loop->fd) : -1;
    int rc = 0;
    if (loop->buffer == NULL)
        rc = DOR_E_NO_MEMORY;
    else if (loop->fd < 0 || loop->spare < 0)
        rc = dor_fail_errno(errno, "epoll cannot be used");
    if (rc != 0) {
        free_loop(loop);
        return rc;
    }
    struct epoll_loop *kept = base_keep(loop);
    *ret = &kept->loop;
    return 0;
}

static void
close_loop(struct table_loop *base)
{
    free_loop((struct epoll_loop *)base);
}

static int
control(struct epoll_loop *loop, int op, int fd, uint32_t events, void *of)
{
    struct epoll_event event = {.events = events, .data.ptr = of};
    if (epoll_ctl(loop->fd, op, fd, &event) != 0)
        return dor_fail_errno(errno, "a descriptor cannot be waited for");
    return 0;
}

/* Wait for what the stream wants now. */
static void
update(struct epoll_loop *loop, struct table_stream *stream)
{
    uint32_t events =
        (stream->reading ? (uint32_t)EPOLLIN : 0) | (stream->sending ? (uint32_t)EPOLLOUT : 0);
    if (control(loop, EPOLL_CTL_MOD, stream->fd, events, stream) != 0)
        loop->loop.handler.ended(loop->loop.handler.context, stream);
}

static int
add(struct table_loop *base, struct table_stream *stream)
{
    int flags = fcntl(stream->fd, F_GETFL);
    if (flags < 0 ||
        ((flags & O_NONBLOCK) == 0 && fcntl(stream->fd, F_SETFL, flags | O_NONBLOCK) != 0))
        return dor_fail_errno(errno, "a connection cannot be served");
    stream->reading = true;
    return control((struct epoll_loop *)base, EPOLL_CTL_ADD, stream->fd, EPOLLIN, stream);
}

static void
pause_stream(struct table_loop *base, struct table_stream *stream)
{
    if (!stream->reading)
        return;
    stream->reading = false;
    update((struct epoll_loop *)base, stream);
}

static void
resume(struct table_loop *base, struct table_stream *stream)
{
    if (stream->reading)
        return;
    stream->reading = true;
    update((struct epoll_loop *)base, stream);
}

/* ARMED is whether room is waited for, as the kernel knows it. */
static void
wait_for_room(struct epoll_loop *loop, struct table_stream *stream, bool wanted)
{
    stream->sending = wanted;
    if (stream->armed == wanted)
        return;
    stream->armed = wanted;
    update(loop, stream);
}

static void
send_stream(struct table_loop *base, struct table_stream *stream)
{
    struct epoll_loop *loop = (struct epoll_loop *)base;
    bool any = false;
    while (!stream->sending) {
        struct iovec pieces[PIECES];
        unsigned count = table_reply_pieces(&stream->out, pieces, PIECES);
        if (count == 0)
            break;
        struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
        ssize_t sent =
            count == 1 ? send(stream->fd, pieces[0].iov_base, pieces[0].iov_len, MSG_NOSIGNAL)
                       : sendmsg(stream->fd, &message, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno == EAGAIN)
            break;
        if (sent < 0) {
            wait_for_room(loop, stream, false);
            base->handler.ended(base->handler.context, stream);
            return;
        }
        table_reply_sent(&stream->out, (size_t)sent);
        any = true;
    }
    wait_for_room(loop, stream, stream->out.waiting_bytes != 0);
    if (stream->out.waiting_bytes == 0)
        table_reply_clear(&stream->out);
    if (any)
        base->handler.sent(base->handler.context, stream);
}

static void
remove_stream(struct table_loop *base, struct table_stream *stream)
{
    struct epoll_loop *loop = (struct epoll_loop *)base;
    stream->removing = true;
    /* What is called in a turn may remove a stream that the turn has not come to. */
    for (int i = loop->event_next; i < loop->event_count; i++)
        if (loop->events[i].data.ptr == stream)
            loop->events[i].data.ptr = NULL;
    /* One that could not be added is not there. */
    epoll_ctl(loop->fd, EPOLL_CTL_DEL, stream->fd, NULL);
    base->handler.removed(base->handler.context, stream);
}

static int
add_source(struct table_loop *base, int fd, table_loop_watch_fn *fn, void *context)
{
    struct epoll_loop *loop = (struct epoll_loop *)base;
    struct table_source *source = table_source_add(&loop->sources, fd, fn, context);
    if (source == NULL)
        return DOR_E_NO_MEMORY;
    int rc = control(loop, EPOLL_CTL_ADD, fd, EPOLLIN, (uint8_t *)source + KIND_SOURCE);
    if (rc != 0)
        table_source_drop(&loop->sources, source);
    return rc;
}

static int
listen_at(struct table_loop *base, int fd, void *listener)
{
    return add_source(base, fd, NULL, listener);
}

static void
accept_some(struct epoll_loop *loop, const struct table_source *source)
{
    for (unsigned n = 0; n < ACCEPTS; n++) {
        int fd = accept4(source->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE)
                table_source_turn_away(source, &loop->spare, loop->fd);
            return;
        }
        loop->loop.handler.accepted(loop->loop.handler.context, source->context, fd);
    }
}

static void
receive(struct epoll_loop *loop, struct table_stream *stream)
{
    const struct table_loop_handler *handler = &loop->loop.handler;
    struct iovec pieces[2] = {
        {stream->target, stream->target_left}, {loop->buffer, READ_BYTES}};
    size_t wanted = stream->target_left;
    ssize_t got =
        wanted != 0 ? readv(stream->fd, pieces, 2) : read(stream->fd, loop->buffer, READ_BYTES);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        handler->ended(handler->context, stream);
        return;
    }
    size_t rest = (size_t)got;
    if (wanted != 0) {
        size_t here = rest < wanted ? rest : wanted;
        stream->target += here;
        stream->target_left -= here;
        rest -= here;
        handler->filled(handler->context, stream);
    }
    if (rest != 0)
        handler->received(handler->context, stream, loop->buffer, rest);
}

static void
stream_event(struct epoll_loop *loop, struct table_stream *stream, uint32_t events)
{
    if ((events & EPOLLOUT) != 0 && stream->sending) {
        stream->sending = false;
        loop->loop.handler.sent(loop->loop.handler.context, stream);
    }
    if ((events & EPOLLIN) != 0 && stream->reading)
        receive(loop, stream);
    else if ((events & (EPOLLERR | EPOLLHUP)) != 0)
        loop->loop.handler.ended(loop->loop.handler.context, stream);
}

static int
turn(struct table_loop *base, int timeout_ms)
{
    struct epoll_loop *loop = (struct epoll_loop *)base;
    int count = epoll_wait(loop->fd, loop->events, EVENTS, timeout_ms);
    if (count < 0 && errno != EINTR)
        return dor_fail_errno(errno, "waiting for connections failed");
    loop->event_count = count;
    for (loop->event_next = 0; loop->event_next < loop->event_count;) {
        const struct epoll_event *event = &loop->events[loop->event_next++];
        uint8_t *of = event->data.ptr;
        if (of == NULL)
            continue;
        if (((uintptr_t)of & KIND_MASK) == KIND_STREAM) {
            stream_event(loop, (struct table_stream *)(void *)of, event->events);
            continue;
        }
        struct table_source *source = (struct table_source *)(void *)(of - KIND_SOURCE);
        if (source->fn == NULL) {
            accept_some(loop, source);
        } else if (!source->fn(source->context, source->fd)) {
            epoll_ctl(loop->fd, EPOLL_CTL_DEL, source->fd, NULL);
            table_source_drop(&loop->sources, source);
        }
    }
    loop->event_count = 0;
    return 0;
}

const struct table_loop_kind_ops table_loop_epoll = {
    .name = "epoll",
    .open = open_loop,
    .close = close_loop,
    .add = add,
    .pause = pause_stream,
    .resume = resume,
    .send = send_stream,
    .remove = remove_stream,
    .listen = listen_at,
    .watch = add_source,
    .turn = turn,
};
