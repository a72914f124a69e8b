/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_wake_push.c - batches on their way into a sandbox: handed over in order however their reading
 * ends, each read once, and nobody waits for ever when it is over.
 */
#include "wake/push.h"

#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/random.h"
#include "base/size.h"
#include "base/thread.h"
#include "tap.h"

enum { BATCHES = 3000, READERS = 3 };

static struct wake_push_queue queue;
static _Atomic unsigned reads;

static void
open_queue(void)
{
    int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (event < 0 || wake_push_queue_init(&queue, event) != 0)
        bail("no queue");
}

static void
close_queue(void)
{
    wake_push_queue_fini(&queue);
    close(queue.event);
}

/* Some take longer than others. */
static void
read_batch(struct wake_push_item *item)
{
    for (volatile uint64_t i = item->pages[0] * 7919 % 64 * 100; i > 0; i--)
        ;
    for (uint64_t i = 0; i < item->count; i++)
        memset(item->bytes + i * DOR_PAGE_BYTES, (int)(uint8_t)item->pages[i], DOR_PAGE_BYTES);
    atomic_fetch_add(&reads, 1);
    wake_push_end(&queue, item);
}

static void
read_all(void *context)
{
    struct wake_push_item *item;
    (void)context;
    while ((item = wake_push_take(&queue, true)) != NULL)
        read_batch(item);
}

/* What the client's handler does: *CONTEXT counts what came out of order or wrong. */
static void
take_all(void *context)
{
    unsigned *wrong = context;
    struct pollfd event = {.fd = queue.event, .events = POLLIN};
    uint64_t told;
    for (uint64_t next = 0; next < BATCHES;) {
        struct wake_push_item *item = wake_push_peek(&queue);
        if (item == NULL) {
            if (poll(&event, 1, 30000) != 1 || read(queue.event, &told, sizeof told) < 0)
                bail("nobody told of batch %llu", (unsigned long long)next);
            continue;
        }
        if (item->kind == WAKE_PUSH_DATA) {
            *wrong += item->pages[0] != next || item->pages[item->count - 1] != next;
            *wrong += item->bytes[0] != (uint8_t)next ||
                      item->bytes[item->count * DOR_PAGE_BYTES - 1] != (uint8_t)next;
        } else {
            *wrong += item->page != next;
        }
        next++;
        wake_push_done(&queue);
    }
}

static void
fill_all(struct base_random *random)
{
    for (uint64_t i = 0; i < BATCHES; i++) {
        struct wake_push_item *item = NULL;
        while (wake_push_is_full(&queue) && (item = wake_push_take(&queue, false)) != NULL)
            read_batch(item);
        item = wake_push_begin(&queue);
        if (item == NULL)
            bail("the queue is closed");
        item->kind = base_random_below(random, 4) == 0 ? WAKE_PUSH_ZERO : WAKE_PUSH_DATA;
        item->page = i;
        item->count = 1 + base_random_below(random, 3);
        for (uint64_t page = 0; page < item->count; page++)
            item->pages[page] = i;
        if (item->kind == WAKE_PUSH_ZERO)
            wake_push_end(&queue, item);
        else
            wake_push_ask(&queue, item);
    }
}

static void
test_order(unsigned reader_count)
{
    struct base_random random;
    struct base_thread readers[READERS];
    struct base_thread handler;
    struct wake_push_item *item;
    unsigned wrong = 0;
    base_random_init(&random, tap_seed());
    open_queue();
    for (unsigned i = 0; i < reader_count; i++)
        if (base_thread_start(&readers[i], "reader", read_all, NULL) != 0)
            bail("no thread");
    if (base_thread_start(&handler, "handler", take_all, &wrong) != 0)
        bail("no thread");
    fill_all(&random);
    while ((item = wake_push_take(&queue, false)) != NULL)
        read_batch(item);
    wake_push_dismiss(&queue);
    for (unsigned i = 0; i < reader_count; i++)
        base_thread_join(&readers[i]);
    ok(wake_push_drain(&queue), "all was taken");
    base_thread_join(&handler);
    is_int(wrong, 0, "in order and with the right bytes, with %u more readers", reader_count);
    wake_push_rest(&queue);
    is_int(queue.items[0].bytes[0], 0, "the memory is given back");
    close_queue();
}

/* Who waits for the client learns that it is gone. */
static void
test_close(void)
{
    struct base_thread reader;
    open_queue();
    if (base_thread_start(&reader, "reader", read_all, NULL) != 0)
        bail("no thread");
    struct wake_push_item *item = wake_push_begin(&queue);
    if (item == NULL)
        bail("no item");
    item->kind = WAKE_PUSH_HUGE;
    wake_push_end(&queue, item);
    ok(wake_push_is_ready(&queue), "an item that nobody need read is ready");
    wake_push_close(&queue);
    base_thread_join(&reader);
    ok(wake_push_begin(&queue) == NULL, "a closed queue takes nothing");
    ok(wake_push_take(&queue, true) == NULL, "and gives nobody work");
    ok(!wake_push_drain(&queue), "and is not waited for");
    close_queue();
}

static struct wake_push_item *
ask_for(uint64_t page)
{
    struct wake_push_item *item = wake_push_begin(&queue);
    if (item == NULL)
        bail("no item");
    item->kind = WAKE_PUSH_DATA;
    item->count = 2;
    item->done = 0;
    item->pages[0] = page;
    item->pages[1] = page + 1;
    return item;
}

/* Who needs a page learns whether it is on its way. */
static void
test_find(void)
{
    uint64_t at = 0;
    bool ready = true;
    open_queue();
    struct wake_push_item *first = ask_for(10);
    ok(wake_push_find(&queue, 10, &at, &ready) == NULL,
       "a batch that is being filled is not seen");
    wake_push_ask(&queue, first);
    struct wake_push_item *second = ask_for(20);
    wake_push_ask(&queue, second);
    ok(wake_push_find(&queue, 21, &at, &ready) == second && at == 1 && !ready,
       "one that is to be read is");
    ok(wake_push_find(&queue, 12, &at, &ready) == NULL, "not so a page of none");
    if (wake_push_take(&queue, false) != first || wake_push_take(&queue, false) != second)
        bail("batches are not taken in order");
    read_batch(second);
    ok(wake_push_find(&queue, 20, &at, &ready) == second && at == 0 && ready,
       "its pages are here though those before it are not");
    read_batch(first);
    first->done = 1;
    ok(wake_push_find(&queue, 10, &at, &ready) == NULL, "what was dealt with is gone");
    ok(wake_push_find(&queue, 11, &at, &ready) == first && ready, "the rest is here");
    wake_push_done(&queue);
    ok(wake_push_find(&queue, 11, &at, &ready) == NULL, "until all was");
    close_queue();
}

static void
test_no_memory(void)
{
    base_fault_arm(FAULT_ALLOC, 1, 0);
    is_int(wake_push_queue_init(&queue, -1), DOR_E_NO_MEMORY, "no memory for the batches");
    base_fault_arm(FAULT_NONE, 0, 0);
    wake_push_queue_fini(&queue);
}

int
main(void)
{
    test_order(0);
    test_order(1);
    test_order(READERS);
    test_close();
    test_find();
    test_no_memory();
    return done_testing();
}
