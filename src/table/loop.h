/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.h - waits for connections, in one of two ways behind one table of functions: epoll, or
 * io_uring with receives that stay armed and buffers that the kernel picks. A stream is one
 * connection; what happens to it comes as calls of the handler.
 *
 *     reading --pause--> paused --resume--> reading
 *        |                  |
 *        +-----remove-------+--> nothing in flight any more --> handler's removed()
 *
 * Ownership:  streams belong to who adds them, until removed() at the least; their descriptors too.
 * Threads:    one loop, one thread; wake() from any.
 * Errors:     what the system says. DOR_E_UNSUPPORTED: the kernel has no io_uring that does.
 */
#ifndef DOR_TABLE_LOOP_H
#define DOR_TABLE_LOOP_H

#include <dormouse/err.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "table/reply.h"

struct table_stream {
    int fd;
    bool reading;  /* wanted */
    bool removing; /* no more events */
    /* Where the next bytes are to go, past any buffer; left 0: nowhere in particular. */
    uint8_t *target;
    size_t target_left;
    struct table_reply out;

    /* The loop's own. */
    bool armed;       /* a receive is in flight, or the descriptor is waited for */
    bool cancelling;  /* and is asked to end */
    bool direct;      /* it is one into the target */
    bool sending;     /* a send is in flight, or room for one is waited for */
    void *sent_block; /* what the kernel reads while a send of several pieces is in flight */
};

/* What a loop tells. Whatever is called may remove streams, and have a turn when it waits
 * for that; removed() may free its own. */
struct table_loop_handler {
    /* LENGTH bytes have come, not counting those in the target; the callee takes all. */
    void (*received)(
        void *context, struct table_stream *stream, const uint8_t *bytes, size_t length);
    /* The target was moved on by COUNT bytes that are there now. */
    void (*filled)(void *context, struct table_stream *stream);
    /*
     * Output has gone, all or a part, or there is room for it again: send() goes on, if it is
     * called.
     */
    void (*sent)(void *context, struct table_stream *stream);
    /* The peer has gone or the connection is broken. */
    void (*ended)(void *context, struct table_stream *stream);
    /* The loop knows the stream no more. */
    void (*removed)(void *context, struct table_stream *stream);
    /* FD is a new connection at the listener that was added with LISTENER. */
    void (*accepted)(void *context, void *listener, int fd);
    void *context;
};

typedef bool table_loop_watch_fn(void *context, int fd);

struct table_loop;

struct table_loop_kind_ops {
    const char *name;
    int (*open)(const struct table_loop_handler *handler, struct table_loop **ret);
    void (*close)(struct table_loop *loop);
    int (*add)(struct table_loop *loop, struct table_stream *stream);
    void (*pause)(struct table_loop *loop, struct table_stream *stream);
    void (*resume)(struct table_loop *loop, struct table_stream *stream);
    void (*send)(struct table_loop *loop, struct table_stream *stream);
    void (*remove)(struct table_loop *loop, struct table_stream *stream);
    int (*listen)(struct table_loop *loop, int fd, void *listener);
    int (*watch)(struct table_loop *loop, int fd, table_loop_watch_fn *fn, void *context);
    /* Wait for at most TIMEOUT_MS (-1: forever) and tell of what has happened. */
    int (*turn)(struct table_loop *loop, int timeout_ms);
};

/* The begin of every loop. */
struct table_loop {
    const struct table_loop_kind_ops *ops;
    struct table_loop_handler handler;
};

/* ---- for loops ---- */

/* A listener (fn is NULL) or a watched descriptor. */
struct table_source {
    struct table_source *next;
    int fd;
    table_loop_watch_fn *fn;
    void *context;
};

/* Into LIST; NULL without memory. Out of it and freed. All of it, listeners closed. */
struct table_source *
table_source_add(struct table_source **list, int fd, table_loop_watch_fn *fn, void *context);
void table_source_drop(struct table_source **list, struct table_source *source);
void table_sources_close(struct table_source **list);

/* There are no more descriptors: give up *SPARE, a copy of ORIGINAL, to close a connection. */
void table_source_turn_away(const struct table_source *listener, int *spare, int original);

extern const struct table_loop_kind_ops table_loop_epoll;
extern const struct table_loop_kind_ops table_loop_uring;

#endif
