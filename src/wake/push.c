/* SPDX-License-Identifier: Apache-2.0 */
/*
 * push.c - a short ring of batches with their bytes.
 *
 * Items are filled, taken to be read, and handed over in the ring's order; only their reading may
 * end in another one.
 */
#include "wake/push.h"

#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/size.h"

#define MEMORY_BYTES ((size_t)WAKE_PUSH_ITEMS * WAKE_PUSH_PAGES * DOR_PAGE_BYTES)

int
wake_push_queue_init(struct wake_push_queue *queue, int event)
{
    *queue = (struct wake_push_queue){.event = event};
    base_mutex_init(&queue->lock);
    base_condition_init(&queue->changed);
    queue->memory = base_alloc_pages(MEMORY_BYTES / DOR_PAGE_BYTES);
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

static struct wake_push_item *
item_locked(struct wake_push_queue *queue, unsigned i)
{
    return &queue->items[(queue->first + i) % WAKE_PUSH_ITEMS];
}

/* Say whether the first item is ready: true when it is that only now. */
static bool
look_locked(struct wake_push_queue *queue)
{
    bool was = wake_push_is_ready(queue);
    bool is = queue->count > 0 && item_locked(queue, 0)->state == WAKE_PUSH_READY;
    atomic_store_explicit(&queue->ready, is, memory_order_relaxed);
    return is && !was;
}

/* ------------------------------------------------------------------ filling */

bool
wake_push_is_full(struct wake_push_queue *queue)
{
    base_mutex_lock(&queue->lock);
    bool full = queue->count == WAKE_PUSH_ITEMS;
    base_mutex_unlock(&queue->lock);
    return full;
}

struct wake_push_item *
wake_push_begin(struct wake_push_queue *queue)
{
    base_mutex_lock(&queue->lock);
    while (queue->count == WAKE_PUSH_ITEMS && !queue->closed)
        base_condition_wait(&queue->changed, &queue->lock);
    struct wake_push_item *item = queue->closed ? NULL : item_locked(queue, queue->count);
    if (item != NULL) {
        item->state = WAKE_PUSH_FILLING;
        queue->count++;
    }
    base_mutex_unlock(&queue->lock);
    return item;
}

void
wake_push_ask(struct wake_push_queue *queue, struct wake_push_item *item)
{
    base_mutex_lock(&queue->lock);
    item->state = WAKE_PUSH_UNREAD;
    base_mutex_unlock(&queue->lock);
    base_condition_wake_all(&queue->changed);
}

void
wake_push_end(struct wake_push_queue *queue, struct wake_push_item *item)
{
    base_mutex_lock(&queue->lock);
    item->state = WAKE_PUSH_READY;
    bool tell = look_locked(queue);
    base_mutex_unlock(&queue->lock);
    /* A full eventfd wakes as well. */
    if (tell && write(queue->event, &(uint64_t){1}, sizeof(uint64_t)) < 0)
        return;
}

bool
wake_push_drain(struct wake_push_queue *queue)
{
    base_mutex_lock(&queue->lock);
    while (queue->count > 0 && !queue->closed)
        base_condition_wait(&queue->changed, &queue->lock);
    bool open = !queue->closed;
    base_mutex_unlock(&queue->lock);
    return open;
}

void
wake_push_rest(struct wake_push_queue *queue)
{
    /* Only advice: otherwise it stays until the end. */
    if (wake_push_drain(queue))
        (void)madvise(queue->memory, MEMORY_BYTES, MADV_DONTNEED);
}

/* ------------------------------------------------------------------ reading */

static struct wake_push_item *
find_unread_locked(struct wake_push_queue *queue)
{
    for (unsigned i = 0; i < queue->count; i++)
        if (item_locked(queue, i)->state == WAKE_PUSH_UNREAD)
            return item_locked(queue, i);
    return NULL;
}

struct wake_push_item *
wake_push_take(struct wake_push_queue *queue, bool wait)
{
    base_mutex_lock(&queue->lock);
    struct wake_push_item *item = find_unread_locked(queue);
    while (item == NULL && wait && !queue->closed && !queue->dismissed) {
        base_condition_wait(&queue->changed, &queue->lock);
        item = find_unread_locked(queue);
    }
    if (queue->closed)
        item = NULL;
    if (item != NULL)
        item->state = WAKE_PUSH_READING;
    base_mutex_unlock(&queue->lock);
    return item;
}

void
wake_push_dismiss(struct wake_push_queue *queue)
{
    base_mutex_lock(&queue->lock);
    queue->dismissed = true;
    base_mutex_unlock(&queue->lock);
    base_condition_wake_all(&queue->changed);
}

/* ------------------------------------------------------------------ taking */

struct wake_push_item *
wake_push_peek(struct wake_push_queue *queue)
{
    if (!wake_push_is_ready(queue))
        return NULL;
    /* The lock makes visible what was filled in. */
    base_mutex_lock(&queue->lock);
    struct wake_push_item *item = item_locked(queue, 0);
    base_mutex_unlock(&queue->lock);
    return item;
}

void
wake_push_done(struct wake_push_queue *queue)
{
    base_mutex_lock(&queue->lock);
    queue->first = (queue->first + 1) % WAKE_PUSH_ITEMS;
    queue->count--;
    /* Who empties is here already: nobody need tell him. */
    (void)look_locked(queue);
    base_mutex_unlock(&queue->lock);
    base_condition_wake_all(&queue->changed);
}

static bool
find_page(const struct wake_push_item *item, uint64_t page, uint64_t *ret_at)
{
    for (uint64_t at = item->done; at < item->count; at++)
        if (item->pages[at] == page) {
            *ret_at = at;
            return true;
        }
    return false;
}

struct wake_push_item *
wake_push_find(struct wake_push_queue *queue, uint64_t page, uint64_t *ret_at, bool *ret_ready)
{
    struct wake_push_item *found = NULL;
    base_mutex_lock(&queue->lock);
    for (unsigned i = 0; i < queue->count && found == NULL; i++) {
        struct wake_push_item *item = item_locked(queue, i);
        if (item->state == WAKE_PUSH_FILLING || item->kind != WAKE_PUSH_DATA ||
            !find_page(item, page, ret_at))
            continue;
        found = item;
        *ret_ready = item->state == WAKE_PUSH_READY;
    }
    base_mutex_unlock(&queue->lock);
    return found;
}

void
wake_push_close(struct wake_push_queue *queue)
{
    base_mutex_lock(&queue->lock);
    queue->closed = true;
    base_mutex_unlock(&queue->lock);
    base_condition_wake_all(&queue->changed);
}
