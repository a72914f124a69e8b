/* SPDX-License-Identifier: Apache-2.0 */
/*
 * push.h - pages on their way into a sandbox before they are asked for. One thread says which, in
 * batches and in order; readers, of which it is one, read them, each another batch; the client's
 * handler, which alone touches the client's memory, takes them in order, window by window, when no
 * fault waits.
 *
 *     begin          ask            take             end             done
 *     -----> FILLING -----> UNREAD -----> READING ---------> READY ------> free
 *                  +----------------- end --------------------^
 *
 * Ownership:  the client's; the bytes of an item are the queue's.
 * Threads:    one that fills, any that read, one that empties.
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
#define WAKE_PUSH_PAGES WAKE_COPY_PAGES

enum wake_push_kind {
    WAKE_PUSH_DATA, /* a batch of single pages */
    WAKE_PUSH_ZERO, /* pages of zeros that follow each other */
    WAKE_PUSH_HUGE  /* the huge page that has this page: to be read by the handler */
};

enum wake_push_state {
    WAKE_PUSH_FILLING,
    WAKE_PUSH_UNREAD,
    WAKE_PUSH_READING,
    WAKE_PUSH_READY
};

struct wake_push_item {
    enum wake_push_kind kind;
    enum wake_push_state state; /* the queue's */
    uint64_t page;              /* the first, unless it is a batch */
    uint64_t count;
    /* Of a batch: */
    bool tell; /* of those that are lost */
    uint64_t pages[WAKE_PUSH_PAGES];
    enum wake_content contents[WAKE_PUSH_PAGES];
    uint8_t *bytes;
    uint64_t done; /* so many were dealt with; the handler's */
};

struct wake_push_queue {
    struct base_mutex lock; /* of what follows */
    struct base_condition changed;
    unsigned first, count;
    bool closed, dismissed;
    _Atomic bool ready; /* the first item is; changed under the lock, looked at without */
    int event;          /* an eventfd that is written to when that becomes true */
    uint8_t *memory;
    struct wake_push_item items[WAKE_PUSH_ITEMS];
};

/* To be ended by _fini() even when it fails. */
DOR_MUST_CHECK int wake_push_queue_init(struct wake_push_queue *queue, int event);
void wake_push_queue_fini(struct wake_push_queue *queue);

/* Who fills it. */

bool wake_push_is_full(struct wake_push_queue *queue);
/* The next item to fill, once there is room; NULL when the queue is closed. */
struct wake_push_item *wake_push_begin(struct wake_push_queue *queue);
/* It is filled: a batch that a reader is to read, or something that nobody need read. */
void wake_push_ask(struct wake_push_queue *queue, struct wake_push_item *item);
void wake_push_end(struct wake_push_queue *queue, struct wake_push_item *item);
/* Wait until all was taken; false when the queue is closed. */
bool wake_push_drain(struct wake_push_queue *queue);
/* The same, and give the memory of the batches back until the next one. */
void wake_push_rest(struct wake_push_queue *queue);

/*
 * Who reads: the oldest batch that is to be read, NULL when there is none. WAIT: not before nobody
 * will ask any more. Ended by wake_push_end().
 */
struct wake_push_item *wake_push_take(struct wake_push_queue *queue, bool wait);
/* Who waits to read is not needed any more; the next wake_push_begin() is of others. */
void wake_push_dismiss(struct wake_push_queue *queue);

/* The item whose turn it is, NULL when there is none; it stays until wake_push_done(). */
struct wake_push_item *wake_push_peek(struct wake_push_queue *queue);
void wake_push_done(struct wake_push_queue *queue);
/*
 * The batch that has PAGE, NULL when none has: *RET_AT is its place in it, *RET_READY whether it is
 * read.
 */
struct wake_push_item *
wake_push_find(struct wake_push_queue *queue, uint64_t page, uint64_t *ret_at, bool *ret_ready);
/* Nobody takes anything any more. */
void wake_push_close(struct wake_push_queue *queue);

static inline bool
wake_push_is_ready(const struct wake_push_queue *queue)
{
    /* Relaxed: who sees it a little late looks again soon, for the event or the lock tells him. */
    return atomic_load_explicit(&queue->ready, memory_order_relaxed);
}

#endif
