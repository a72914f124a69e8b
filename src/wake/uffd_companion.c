/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uffd_companion.c - the thread beside a client's handler: hands the working set over, which it
 * reads with the help of others that are there just for that, fills the client up when that is
 * wanted, and lets the snapshot learn which pages were needed, once the client has been quiet for a
 * while or is gone.
 */
#include <sched.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/size.h"
#include "wake/uffd_client_priv.h"

#define NS_PER_S   UINT64_C(1000000000)
#define LOOK_NS    (NS_PER_S / 2)
#define QUIET_NS   (2 * NS_PER_S)
#define SETTLED_NS (60 * NS_PER_S) /* who faults on for so long is no longer waking */
#define ZERO_PAGES (WAKE_HUGE_BYTES / DOR_PAGE_BYTES)

/* What the disk is asked for before the first batch, and before each one after that. */
#define AHEAD_BYTES_FIRST (UINT64_C(1) << 20)
#define AHEAD_BYTES       (UINT64_C(2) << 20)

#define READERS_MAX   2
#define READERS_PAGES ((uint64_t)2 * WAKE_PUSH_PAGES)

static bool
is_wanted(const struct wake_client *client, uint64_t page)
{
    /* What is removed only the handler knows for sure; it looks again. */
    return !wake_state_is_given(client->guest.state, page) &&
           !wake_state_is_removed(client->guest.state, page);
}

/* ------------------------------------------------------------------ reading */

static void
read_batch(struct wake_client *client, struct wake_push_item *item)
{
    struct wake_pooled *pooled = wake_pool_take(client->how->pool);
    wake_pages_copy(
        pooled->worker, client->snapshot, item->pages, (unsigned)item->count,
        client->how->passing, item->bytes, item->contents);
    wake_pool_put_back(client->how->pool, pooled);
    wake_push_end(&client->queue, item);
}

/* A batch that waits to be read, if there is one. */
static bool
read_one(struct wake_client *client)
{
    struct wake_push_item *item = wake_push_take(&client->queue, false);
    if (item != NULL)
        read_batch(client, item);
    return item != NULL;
}

/* The thread of a reader. */
static void
read_all(void *context)
{
    struct wake_client *client = context;
    struct wake_push_item *item = NULL;
    while ((item = wake_push_take(&client->queue, true)) != NULL)
        read_batch(client, item);
}

/* ------------------------------------------------------------------ handing over */

/*
 * The next item to fill. While there is no room this thread reads what it asked for before; it
 * holds no worker while it waits, for the handler, who makes room, may need one.
 */
static struct wake_push_item *
begin(struct wake_client *client)
{
    while (wake_push_is_full(&client->queue) && read_one(client))
        ;
    return wake_push_begin(&client->queue);
}

/* Wait until all was taken; false when nobody takes anything any more. */
static bool
drain(struct wake_client *client)
{
    while (read_one(client))
        ;
    return wake_push_drain(&client->queue);
}

static bool
hand_over(struct wake_client *client, enum wake_push_kind kind, uint64_t page, uint64_t count)
{
    struct wake_push_item *item = begin(client);
    if (item == NULL)
        return false;
    item->kind = kind;
    item->page = page;
    item->count = count;
    wake_push_end(&client->queue, item);
    return true;
}

/* Pages that will be read together. */
struct batch {
    struct wake_client *client;
    bool tell;    /* of those that cannot be read */
    bool ahead;   /* they are of the working set, to be read ahead */
    size_t place; /* as far as that was done */
    unsigned count;
    uint64_t pages[WAKE_PUSH_PAGES];
};

/* Ask for what is in the batch; false when nobody takes it any more. */
static bool
push_batch(struct batch *batch)
{
    struct wake_push_item *item = batch->count == 0 ? NULL : begin(batch->client);
    bool open = batch->count == 0 || item != NULL;
    if (item != NULL) {
        item->kind = WAKE_PUSH_DATA;
        item->tell = batch->tell;
        item->count = batch->count;
        item->done = 0;
        memcpy(item->pages, batch->pages, batch->count * sizeof batch->pages[0]);
        wake_push_ask(&batch->client->queue, item);
    }
    if (batch->ahead)
        wake_snapshot_read_ahead(batch->client->snapshot, AHEAD_BYTES, &batch->place);
    batch->count = 0;
    return open;
}

/* Pages [FIRST, END) of one mapping, without those that are there already. */
static bool
push_pages(
    struct batch *batch, const struct wake_mapping *mapping, uint64_t first, uint64_t end)
{
    struct wake_client *client = batch->client;
    bool open = true;
    for (uint64_t page = first; page < end && open; page++) {
        if (!is_wanted(client, page))
            continue;
        if (mapping->page_bytes == WAKE_HUGE_BYTES) {
            open = hand_over(client, WAKE_PUSH_HUGE, page, 1) && drain(client);
            continue;
        }
        batch->pages[batch->count++] = page;
        if (batch->count == WAKE_PUSH_PAGES)
            open = push_batch(batch);
    }
    return open;
}

/* ------------------------------------------------------------------ working set and rest */

static bool
push_run(struct batch *batch, const struct wake_run *run)
{
    const struct wake_mappings *mappings = &batch->client->guest.state->mappings;
    uint64_t end = run->first_page + run->page_count;
    bool open = true;
    for (size_t i = 0; i < mappings->count && open; i++) {
        const struct wake_mapping *mapping = &mappings->items[i];
        uint64_t low = mapping->offset / DOR_PAGE_BYTES;
        uint64_t high = low + mapping->size_bytes / DOR_PAGE_BYTES;
        low = base_max_u64(low, run->first_page);
        high = base_min_u64(high, end);
        if (low < high)
            open = push_pages(batch, mapping, low, high);
    }
    return open;
}

/*
 * Threads to read beside this one: with two or more the handler's copying is what takes longest.
 * None where there is no core for it, or little to read.
 */
static unsigned
count_readers(const struct wake_run *runs, size_t count)
{
    cpu_set_t cores;
    uint64_t pages = 0;
    for (size_t i = 0; i < count && pages < READERS_PAGES; i++)
        pages += runs[i].page_count;
    if (pages < READERS_PAGES || sched_getaffinity(0, sizeof cores, &cores) != 0)
        return 0;
    return (unsigned)base_min_u64((unsigned)CPU_COUNT(&cores) - 1, READERS_MAX);
}

static void
push_working_set(struct wake_client *client)
{
    const struct wake_run *runs = NULL;
    struct base_thread readers[READERS_MAX];
    unsigned reader_count = 0;
    size_t count = 0;
    struct batch batch = {.client = client, .ahead = true};
    bool open = true;
    wake_snapshot_working_set(client->snapshot, &runs, &count);
    wake_snapshot_read_ahead(client->snapshot, AHEAD_BYTES_FIRST, &batch.place);
    unsigned wanted = count_readers(runs, count);
    /* Who cannot be started is not missed: this thread reads as well. */
    while (reader_count < wanted &&
           base_thread_start(&readers[reader_count], "wake-reader", read_all, client) == 0)
        reader_count++;
    for (size_t i = 0; i < count && open; i++)
        open = push_run(&batch, &runs[i]);
    if (open && push_batch(&batch))
        while (read_one(client))
            ;
    wake_push_dismiss(&client->queue);
    for (unsigned i = 0; i < reader_count; i++)
        base_thread_join(&readers[i]);
    wake_push_rest(&client->queue);
}

/* The next run from AT on that is zero, or is not: its end. */
static uint64_t
run_end(const struct wake_client *client, uint64_t at, uint64_t end, bool zero)
{
    uint64_t most = base_min_u64(end, zero ? at + ZERO_PAGES : end);
    while (at < most && wake_snapshot_page_is_zero(client->snapshot, at) == zero)
        at++;
    return at;
}

static bool
fill_mapping(struct batch *batch, const struct wake_mapping *mapping)
{
    struct wake_client *client = batch->client;
    uint64_t at = mapping->offset / DOR_PAGE_BYTES;
    uint64_t end = at + mapping->size_bytes / DOR_PAGE_BYTES;
    bool open = true;
    if (mapping->page_bytes == WAKE_HUGE_BYTES)
        return push_pages(batch, mapping, at, end);
    while (at < end && open) {
        bool zero = wake_snapshot_page_is_zero(client->snapshot, at);
        uint64_t next = run_end(client, at, end, zero);
        open = zero ? hand_over(client, WAKE_PUSH_ZERO, at, next - at)
                    : push_pages(batch, mapping, at, next);
        at = next;
    }
    return open;
}

/* Give the client all that it has not. */
static void
fill(struct wake_client *client)
{
    const struct wake_mappings *mappings = &client->guest.state->mappings;
    struct batch batch = {.client = client, .tell = true};
    bool open = client->snapshot != NULL;
    for (size_t i = 0; i < mappings->count && open; i++)
        open = fill_mapping(&batch, &mappings->items[i]);
    open = open && push_batch(&batch) && drain(client);
    base_mutex_lock(&client->lock);
    client->filled = open && !client->unfilled;
    bool failed = !client->filled && !client->is_over;
    base_mutex_unlock(&client->lock);
    if (failed)
        dor_log(
            WARN, "wake", "not_filled", "client=%llu", (unsigned long long)client->parked.id);
    wake_client_nudge(client);
}

/* ------------------------------------------------------------------ learning */

static void
learn(struct wake_client *client)
{
    if (client->recorder == NULL)
        return;
    wake_snapshot_learn(client->snapshot, client->recorder);
}

static bool
has_settled(const struct wake_client *client, uint64_t begin_ns)
{
    uint64_t now_ns = base_clock_monotonic_ns();
    uint64_t last_ns = atomic_load_explicit(&client->last_fault_ns, memory_order_relaxed);
    /* While faults are being answered LAST_NS is later than anything: nobody is quiet. */
    return (last_ns != 0 && now_ns - base_min_u64(last_ns, now_ns) > QUIET_NS) ||
           now_ns - begin_ns > SETTLED_NS;
}

void
wake_client_accompany(void *context)
{
    struct wake_client *client = context;
    uint64_t begin_ns = base_clock_monotonic_ns();
    bool learnt = false;
    bool filled = false;
    if (client->how->push && client->snapshot != NULL)
        push_working_set(client);
    base_mutex_lock(&client->lock);
    while (!client->is_over) {
        bool fills = !filled && (client->finishes || client->how->fill);
        bool learns = !learnt && has_settled(client, begin_ns);
        base_mutex_unlock(&client->lock);
        if (fills)
            fill(client);
        if (learns)
            learn(client);
        filled = filled || fills;
        learnt = learnt || learns;
        base_mutex_lock(&client->lock);
        if (client->is_over || fills || learns || (client->finishes && !filled))
            continue;
        if (learnt)
            base_condition_wait(&client->changed, &client->lock);
        else
            (void)base_condition_wait_until(
                &client->changed, &client->lock, base_clock_monotonic_ns() + LOOK_NS);
    }
    base_mutex_unlock(&client->lock);
    if (!learnt)
        learn(client);
    client->how->over(client->how->context, client);
}
