/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop_uring.c - the loop by io_uring: receives that stay armed and take a buffer when bytes come,
 * and one system call a turn that hands over all sends and brings all that has happened.
 *
 *     user data: the pointer of a stream or source, and in its lowest bits what was asked for
 *
 * Bytes for a target are received there directly: the armed receive is cancelled first, and what it
 * still brought is copied. The ring is restricted to what is used here before the first request.
 *
 * Invariant: a stream is removed when it has neither a receive nor a send in flight.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"
#include "table/loop.h"

enum {
    ENTRIES = 512,
    CQ_ENTRIES = 4096,
    BUFFERS = 128,
    BUFFER_BYTES = 16 << 10,
    BUFFER_GROUP = 1,
    PIECES = 64,
    DIRECT_BYTES = 32 << 10, /* with less to come a copy is cheaper */
};

enum { ASKED_RECEIVE = 1, ASKED_DIRECT, ASKED_SEND, ASKED_ACCEPT, ASKED_POLL, ASKED_MASK = 7 };

/* What the kernel reads while a send of several pieces is in flight. */
struct send_block {
    struct msghdr message;
    struct iovec pieces[PIECES];
};

struct uring_loop {
    struct table_loop loop;
    struct io_uring ring;
    bool ring_is_open;
    int spare; /* given up for a moment when there are no more descriptors */
    struct io_uring_buf_ring *buffer_ring;
    uint8_t *buffers;
    struct table_source *sources;
};

static struct io_uring_sqe *
new_request(struct uring_loop *loop)
{
    struct io_uring_sqe *sqe;
    while ((sqe = io_uring_get_sqe(&loop->ring)) == NULL)
        io_uring_submit(&loop->ring);
    return sqe;
}

/* After a request is prepared, which clears it. */
static void
mark_request(struct io_uring_sqe *sqe, void *of, unsigned asked)
{
    io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)of | asked);
}

/* ---- opening ---- */

/* liburing 2.3 declares its own calls for these and does not export them. */
static int
register_with(struct io_uring *ring, unsigned what, void *argument, unsigned count)
{
    long rc = syscall(__NR_io_uring_register, ring->ring_fd, what, argument, count);
    return rc < 0 ? -errno : 0;
}

static int
restrict_ring(struct io_uring *ring)
{
    static const uint8_t allowed[] = {
        IORING_OP_RECV,   IORING_OP_SEND,     IORING_OP_SENDMSG,
        IORING_OP_ACCEPT, IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL,
    };
    struct io_uring_restriction rules[ARRAY_LEN(allowed) + 1] = {0};
    for (unsigned i = 0; i < ARRAY_LEN(allowed); i++) {
        rules[i].opcode = IORING_RESTRICTION_SQE_OP;
        rules[i].sqe_op = allowed[i];
    }
    rules[ARRAY_LEN(allowed)].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
    rules[ARRAY_LEN(allowed)].sqe_flags = IOSQE_BUFFER_SELECT;
    int rc = register_with(ring, IORING_REGISTER_RESTRICTIONS, rules, ARRAY_LEN(rules));
    return rc != 0 ? rc : register_with(ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

static void *
map(size_t size_bytes)
{
    void *at =
        mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

static void
give_buffer(struct uring_loop *loop, unsigned id)
{
    io_uring_buf_ring_add(
        loop->buffer_ring, loop->buffers + (size_t)id * BUFFER_BYTES, BUFFER_BYTES,
        (unsigned short)id, io_uring_buf_ring_mask(BUFFERS), 0);
    io_uring_buf_ring_advance(loop->buffer_ring, 1);
}

static int
add_buffers(struct uring_loop *loop)
{
    loop->buffer_ring = map(BUFFERS * sizeof(struct io_uring_buf));
    loop->buffers = map((size_t)BUFFERS * BUFFER_BYTES);
    if (loop->buffer_ring == NULL || loop->buffers == NULL)
        return -ENOMEM;
    struct io_uring_buf_reg description = {
        .ring_addr = (uintptr_t)loop->buffer_ring,
        .ring_entries = BUFFERS,
        .bgid = BUFFER_GROUP,
    };
    int rc = io_uring_register_buf_ring(&loop->ring, &description, 0);
    if (rc != 0)
        return rc;
    io_uring_buf_ring_init(loop->buffer_ring);
    for (unsigned id = 0; id < BUFFERS; id++)
        give_buffer(loop, id);
    return 0;
}

static int
open_loop(const struct table_loop_handler *handler, struct table_loop **ret)
{
    struct uring_loop *loop = base_zalloc(sizeof *loop);
    if (loop == NULL)
        return DOR_E_NO_MEMORY;
    loop->loop = (struct table_loop){.ops = &table_loop_uring, .handler = *handler};
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                 IORING_SETUP_COOP_TASKRUN | IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED,
        .cq_entries = CQ_ENTRIES,
    };
    loop->spare = -1;
    int rc = io_uring_queue_init_params(ENTRIES, &loop->ring, &params);
    loop->ring_is_open = rc == 0;
    if (rc == 0)
        rc = add_buffers(loop);
    if (rc == 0)
        rc = restrict_ring(&loop->ring);
    if (rc == 0 && (loop->spare = dup(loop->ring.ring_fd)) < 0)
        rc = -errno;
    if (rc != 0) {
        table_loop_uring.close(&loop->loop);
        return dor_fail(DOR_E_UNSUPPORTED, "io_uring cannot be used: %s", strerror(-rc));
    }
    *ret = &loop->loop;
    return 0;
}

static void
close_loop(struct table_loop *base)
{
    struct uring_loop *loop = (struct uring_loop *)base;
    if (loop->ring_is_open)
        io_uring_queue_exit(&loop->ring);
    table_sources_close(&loop->sources);
    if (loop->spare >= 0)
        close(loop->spare);
    if (loop->buffer_ring != NULL)
        munmap(loop->buffer_ring, BUFFERS * sizeof(struct io_uring_buf));
    if (loop->buffers != NULL)
        munmap(loop->buffers, (size_t)BUFFERS * BUFFER_BYTES);
    base_free(loop);
}

/* ---- receiving ---- */

/* Have a receive in flight if one is wanted. */
static void
arm(struct uring_loop *loop, struct table_stream *stream)
{
    if (!stream->reading || stream->removing || stream->armed || stream->direct)
        return;
    if (stream->target_left >= DIRECT_BYTES) {
        struct io_uring_sqe *sqe = new_request(loop);
        io_uring_prep_recv(sqe, stream->fd, stream->target, stream->target_left, 0);
        mark_request(sqe, stream, ASKED_DIRECT);
        stream->direct = true;
        return;
    }
    struct io_uring_sqe *sqe = new_request(loop);
    io_uring_prep_recv_multishot(sqe, stream->fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUFFER_GROUP;
    mark_request(sqe, stream, ASKED_RECEIVE);
    stream->armed = true;
}

/* Have the receive in flight end. */
static void
disarm(struct uring_loop *loop, struct table_stream *stream)
{
    if (stream->cancelling || (!stream->armed && !stream->direct))
        return;
    struct io_uring_sqe *sqe = new_request(loop);
    uint64_t of = (uint64_t)(uintptr_t)stream | (stream->armed ? ASKED_RECEIVE : ASKED_DIRECT);
    io_uring_prep_cancel64(sqe, of, 0);
    mark_request(sqe, NULL, 0);
    stream->cancelling = true;
}

static int
add(struct table_loop *base, struct table_stream *stream)
{
    /* With O_NONBLOCK the kernel would not wait for room. */
    int flags = fcntl(stream->fd, F_GETFL);
    if (flags < 0 ||
        ((flags & O_NONBLOCK) != 0 && fcntl(stream->fd, F_SETFL, flags & ~O_NONBLOCK) != 0))
        return dor_fail_errno(errno, "a connection cannot be served");
    stream->reading = true;
    arm((struct uring_loop *)base, stream);
    return 0;
}

static void
pause_stream(struct table_loop *base, struct table_stream *stream)
{
    stream->reading = false;
    disarm((struct uring_loop *)base, stream);
}

static void
resume(struct table_loop *base, struct table_stream *stream)
{
    stream->reading = true;
    arm((struct uring_loop *)base, stream);
}

static void
finish_removing(struct uring_loop *loop, struct table_stream *stream)
{
    if (stream->removing && !stream->armed && !stream->direct && !stream->sending)
        loop->loop.handler.removed(loop->loop.handler.context, stream);
}

static void
remove_stream(struct table_loop *base, struct table_stream *stream)
{
    struct uring_loop *loop = (struct uring_loop *)base;
    stream->removing = true;
    disarm(loop, stream);
    if (stream->sending) {
        struct io_uring_sqe *sqe = new_request(loop);
        io_uring_prep_cancel64(sqe, (uint64_t)(uintptr_t)stream | ASKED_SEND, 0);
        mark_request(sqe, NULL, 0);
    }
    finish_removing(loop, stream);
}

static void
on_receive(struct uring_loop *loop, struct table_stream *stream, const struct io_uring_cqe *cqe)
{
    const struct table_loop_handler *handler = &loop->loop.handler;
    int got = cqe->res;
    bool more = (cqe->flags & IORING_CQE_F_MORE) != 0;
    if (!more)
        stream->armed = stream->cancelling = false;
    if ((cqe->flags & IORING_CQE_F_BUFFER) != 0) {
        unsigned id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
        if (got > 0 && !stream->removing)
            handler->received(
                handler->context, stream, loop->buffers + (size_t)id * BUFFER_BYTES,
                (size_t)got);
        give_buffer(loop, id);
    }
    if (stream->removing)
        finish_removing(loop, stream);
    else if (got == 0 || (got < 0 && got != -ENOBUFS && got != -ECANCELED && got != -EINTR))
        handler->ended(handler->context, stream);
    else if (!more)
        arm(loop, stream);
    else if (stream->target_left >= DIRECT_BYTES)
        disarm(loop, stream);
}

static void
on_direct(struct uring_loop *loop, struct table_stream *stream, int got)
{
    const struct table_loop_handler *handler = &loop->loop.handler;
    stream->direct = stream->cancelling = false;
    if (stream->removing) {
        finish_removing(loop, stream);
        return;
    }
    if (got == 0 || (got < 0 && got != -ECANCELED && got != -EINTR && got != -EAGAIN)) {
        handler->ended(handler->context, stream);
        return;
    }
    if (got > 0) {
        stream->target += got;
        stream->target_left -= (size_t)got;
        handler->filled(handler->context, stream);
    }
    arm(loop, stream);
}

/* ---- sending ---- */

static void
send_stream(struct table_loop *base, struct table_stream *stream)
{
    struct uring_loop *loop = (struct uring_loop *)base;
    if (stream->sending || stream->removing)
        return;
    struct iovec pieces[PIECES];
    unsigned count = table_reply_pieces(&stream->out, pieces, PIECES);
    if (count == 0)
        return;
    struct send_block *block = NULL;
    if (count > 1 && (block = base_alloc(sizeof *block)) != NULL) {
        memcpy(block->pieces, pieces, count * sizeof *pieces);
        block->message = (struct msghdr){.msg_iov = block->pieces, .msg_iovlen = count};
    }
    struct io_uring_sqe *sqe = new_request(loop);
    /* Without memory for the block the pieces go one by one. */
    if (block != NULL)
        io_uring_prep_sendmsg(sqe, stream->fd, &block->message, MSG_NOSIGNAL);
    else
        io_uring_prep_send(
            sqe, stream->fd, pieces[0].iov_base, pieces[0].iov_len, MSG_NOSIGNAL);
    mark_request(sqe, stream, ASKED_SEND);
    stream->sent_block = block;
    stream->sending = true;
}

static void
on_send(struct uring_loop *loop, struct table_stream *stream, int sent)
{
    const struct table_loop_handler *handler = &loop->loop.handler;
    stream->sending = false;
    base_free(stream->sent_block);
    stream->sent_block = NULL;
    if (stream->removing) {
        finish_removing(loop, stream);
        return;
    }
    if (sent < 0 && sent != -EINTR && sent != -EAGAIN) {
        handler->ended(handler->context, stream);
        return;
    }
    table_reply_sent(&stream->out, sent > 0 ? (size_t)sent : 0);
    handler->sent(handler->context, stream);
}

/* ---- other descriptors ---- */

static void
ask_source(struct uring_loop *loop, struct table_source *source)
{
    struct io_uring_sqe *sqe = new_request(loop);
    if (source->fn == NULL) {
        io_uring_prep_multishot_accept(sqe, source->fd, NULL, NULL, SOCK_CLOEXEC);
        mark_request(sqe, source, ASKED_ACCEPT);
    } else {
        io_uring_prep_poll_add(sqe, source->fd, POLLIN);
        mark_request(sqe, source, ASKED_POLL);
    }
}

static int
add_source(struct table_loop *base, int fd, table_loop_watch_fn *fn, void *context)
{
    struct uring_loop *loop = (struct uring_loop *)base;
    struct table_source *source = table_source_add(&loop->sources, fd, fn, context);
    if (source == NULL)
        return DOR_E_NO_MEMORY;
    ask_source(loop, source);
    return 0;
}

static int
listen_at(struct table_loop *base, int fd, void *listener)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) != 0)
        return dor_fail_errno(errno, "a listener cannot be served");
    return add_source(base, fd, NULL, listener);
}

static void
on_accept(struct uring_loop *loop, struct table_source *source, const struct io_uring_cqe *cqe)
{
    if (cqe->res >= 0)
        loop->loop.handler.accepted(loop->loop.handler.context, source->context, cqe->res);
    else if (cqe->res == -EMFILE || cqe->res == -ENFILE)
        table_source_turn_away(source, &loop->spare, loop->ring.ring_fd);
    if ((cqe->flags & IORING_CQE_F_MORE) == 0)
        ask_source(loop, source);
}

static void
on_poll(struct uring_loop *loop, struct table_source *source)
{
    if (source->fn(source->context, source->fd)) {
        ask_source(loop, source);
        return;
    }
    table_source_drop(&loop->sources, source);
}

/* ---- turns ---- */

static void
on_event(struct uring_loop *loop, const struct io_uring_cqe *cqe)
{
    void *of = (void *)(uintptr_t)(cqe->user_data & ~(uint64_t)ASKED_MASK);
    switch (cqe->user_data & ASKED_MASK) {
    case ASKED_RECEIVE:
        on_receive(loop, of, cqe);
        break;
    case ASKED_DIRECT:
        on_direct(loop, of, cqe->res);
        break;
    case ASKED_SEND:
        on_send(loop, of, cqe->res);
        break;
    case ASKED_ACCEPT:
        on_accept(loop, of, cqe);
        break;
    case ASKED_POLL:
        on_poll(loop, of);
        break;
    default: /* the answer to a cancel: what it cancelled has its own */
        break;
    }
}

static int
turn(struct table_loop *base, int timeout_ms)
{
    struct uring_loop *loop = (struct uring_loop *)base;
    struct io_uring_cqe *cqe;
    int rc;
    if (timeout_ms < 0) {
        rc = io_uring_submit_and_wait(&loop->ring, 1);
    } else if (timeout_ms == 0) {
        rc = io_uring_submit_and_get_events(&loop->ring);
    } else {
        struct __kernel_timespec time = {
            .tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1000000L};
        rc = io_uring_submit_and_wait_timeout(&loop->ring, &cqe, 1, &time, NULL);
    }
    if (rc < 0 && rc != -ETIME && rc != -EINTR && rc != -EAGAIN && rc != -EBUSY)
        return dor_fail_errno(-rc, "waiting for connections failed");
    /* Taken one by one: what is called may have a turn of its own. */
    for (unsigned n = io_uring_cq_ready(&loop->ring); n > 0; n--) {
        if (io_uring_cq_ready(&loop->ring) == 0)
            break;
        struct io_uring_cq *cq = &loop->ring.cq;
        const struct io_uring_cqe event = cq->cqes[*cq->khead & *cq->kring_mask];
        io_uring_cq_advance(&loop->ring, 1);
        on_event(loop, &event);
    }
    return 0;
}

const struct table_loop_kind_ops table_loop_uring = {
    .name = "io_uring",
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
