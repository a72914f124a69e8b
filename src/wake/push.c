/* SPDX-License-Identifier: Apache-2.0 */
/*
 * push.c - a short queue of windows with their bytes.
 */
#include "wake/push.h"

#include <stddef.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/size.h"

int
wake_push_queue_init(struct wake_push_queue *queue, int event)
{
    *queue = (struct wake_push_queue){.event = event};
    base_mutex_init(&queue->lock);
    base_condition_init(&queue->changed);
    queue->memory = base_alloc_pages((size_t)WAKE_PUSH_ITEMS * WAKE_PUSH_PAGES);
    if (queue->memory == NULL)
        return DOR_E_NO_MEMORY;
    for (size_t i = 0; i < WAKE_PUSH_ITEMS; i++)
        queue->items[i].bytes = queue->memory + i * WAKE_PUSH_PAGES * DOR_PAGE_BYTES;
    return 0;
}

void
wake_push_queue_fini(struct wake_push_queue *queue)
{
    base_free(queue->memory);
    base_mutex_fini(&queue->lock);
    base_condition_fini(&queue->changed);
}

/* Relaxed: who sees it a little late looks again soon, for the event or the lock tells him. */
static unsigned
count_of(const struct wake_push_queue *queue)
{
    return atomic_load_explicit(&queue->count, memory_order_relaxed);
}

static void
add_locked(struct wake_push_queue *queue, int difference)
{
    unsigned count = count_of(queue) + (unsigned)difference;
    atomic_store_explicit(&queue->count, count, memory_order_relaxed);
}

struct wake_push_item *
wake_push_begin(struct wake_push_queue *queue)
{
    base_mutex_lock(&queue->lock);
    while (count_of(queue) == WAKE_PUSH_ITEMS && !queue->closed)
        base_condition_wait(&queue->changed, &queue->lock);
    struct wake_push_item *item =
        queue->closed ? NULL
                      : &queue->items[(queue->first + count_of(queue)) % WAKE_PUSH_ITEMS];
    base_mutex_unlock(&queue->lock);
    return item;
}

void
wake_push_end(struct wake_push_queue *queue)
{
    base_mutex_lock(&queue->lock);
    bool was_empty = count_of(queue) == 0;
    add_locked(queue, 1);
    base_mutex_unlock(&queue->lock);
    /* A full eventfd wakes as well. */
    if (was_empty && write(queue->event, &(uint64_t){1}, sizeof(uint64_t)) < 0)
        return;
}

bool
wake_push_drain(struct wake_push_queue *queue)
{
    base_mutex_lock(&queue->lock);
    while (count_of(queue) > 0 && !queue->closed)
        base_condition_wait(&queue->changed, &queue->lock);
    bool open = !queue->closed;
    base_mutex_unlock(&queue->lock);
    return open;
}

struct wake_push_item *
wake_push_peek(struct wake_push_queue *queue)
{
    if (count_of(queue) == 0)
        return NULL;
    /* The lock makes visible what was filled in. */
    base_mutex_lock(&queue->lock);
    struct wake_push_item *item = &queue->items[queue->first];
    base_mutex_unlock(&queue->lock);
    return item;
}

void
wake_push_done(struct wake_push_queue *queue)
{
    base_mutex_lock(&queue->lock);
    queue->first = (queue->first + 1) % WAKE_PUSH_ITEMS;
    add_locked(queue, -1);
    base_mutex_unlock(&queue->lock);
    base_condition_wake_all(&queue->changed);
}

void
wake_push_close(struct wake_push_queue *queue)
{
    base_mutex_lock(&queue->lock);
    queue->closed = true;
    base_mutex_unlock(&queue->lock);
    base_condition_wake_all(&queue->changed);
}
