/* SPDX-License-Identifier: Apache-2.0 */
/*
 * push.h - pages on their way into a sandbox before they are asked for. One thread reads them in
 * batches and puts them here, in order; the client's handler, which alone touches the client's
 * memory, takes them window by window when no fault waits.
 *
 * Ownership:  the client's; the bytes of an item are the queue's.
 * Threads:    one that fills, one that empties.
 * Errors:     DOR_E_NO_MEMORY while it is made.
 */
#ifndef DOR_WAKE_PUSH_H
#define DOR_WAKE_PUSH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/thread.h"
#include "wake/pages.h"

#define WAKE_PUSH_ITEMS 4
#define WAKE_PUSH_PAGES WAKE_WINDOW_PAGES

enum wake_push_kind {
    WAKE_PUSH_DATA, /* a batch of single pages */
    WAKE_PUSH_ZERO, /* pages of zeros that follow each other */
    WAKE_PUSH_HUGE, /* the huge page that has this page: to be read by the handler */
    WAKE_PUSH_LOST  /* a page that cannot be had */
};

struct wake_push_item {
    enum wake_push_kind kind;
    uint64_t page; /* the first, unless it is a batch */
    uint64_t count;
    /* Of a batch: */
    uint64_t pages[WAKE_PUSH_PAGES];
    bool is_zero[WAKE_PUSH_PAGES]; /* such a page has no bytes */
    uint8_t *bytes;
    uint64_t done; /* so many were dealt with; the handler's */
};

struct wake_push_queue {
    struct base_mutex lock;
    struct base_condition changed;
    _Atomic unsigned count; /* changed under the lock, looked at without */
    unsigned first;
    bool closed;
    int event; /* an eventfd that is written to when the queue is no longer empty */
    uint8_t *memory;
    struct wake_push_item items[WAKE_PUSH_ITEMS];
};

/* To be ended by _fini() even when it fails. */
DOR_MUST_CHECK int wake_push_queue_init(struct wake_push_queue *queue, int event);
void wake_push_queue_fini(struct wake_push_queue *queue);

/*
 * The next item to fill, once there is room; NULL when the queue is closed. It may be left as it
 * is: then it is the next one again.
 */
struct wake_push_item *wake_push_begin(struct wake_push_queue *queue);
/* It is filled. */
void wake_push_end(struct wake_push_queue *queue);
/* Wait until all was taken; false when the queue is closed. */
bool wake_push_drain(struct wake_push_queue *queue);

/* The item whose turn it is, NULL when there is none; it stays until wake_push_done(). */
struct wake_push_item *wake_push_peek(struct wake_push_queue *queue);
void wake_push_done(struct wake_push_queue *queue);
/* Nobody takes anything any more. */
void wake_push_close(struct wake_push_queue *queue);

#endif
