/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uffd_companion.c - the thread beside a client's handler: reads the working set and hands it over
 * in windows, fills the client up when that is wanted, and lets the snapshot learn which pages were
 * needed, once the client has been quiet for a while or is gone.
 */
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

static bool
is_wanted(const struct wake_client *client, uint64_t page)
{
    /* What is removed only the handler knows for sure; it looks again. */
    return !wake_state_is_given(client->guest.state, page) &&
           !wake_state_is_removed(client->guest.state, page);
}

/* ------------------------------------------------------------------ handing over */

static bool
hand_over(struct wake_client *client, enum wake_push_kind kind, uint64_t page, uint64_t count)
{
    struct wake_push_item *item = wake_push_begin(&client->queue);
    if (item == NULL)
        return false;
    item->kind = kind;
    item->page = page;
    item->count = count;
    wake_push_end(&client->queue);
    return true;
}

/* Pages that will be read together. */
struct batch {
    struct wake_client *client;
    bool tell; /* of those that cannot be read */
    unsigned count;
    uint64_t pages[WAKE_PUSH_PAGES];
};

/*
 * Read COUNT pages and hand them over: 0, or why one could not be read. There is room for them
 * before they are read, for who waits for room must not hold a worker: the handler, who makes
 * room, needs one.
 */
static int
read_pages(struct wake_client *client, const uint64_t *pages, unsigned count, bool *ret_open)
{
    struct wake_window window;
    struct wake_push_item *item = wake_push_begin(&client->queue);
    *ret_open = item != NULL;
    if (item == NULL)
        return 0;
    struct wake_pooled *pooled = wake_pool_take(client->how->pool);
    wake_worker_set_passing(pooled->worker, client->how->passing);
    int err = wake_pages_get(pooled->worker, client->snapshot, pages, count, &window);
    for (unsigned i = 0; err == 0 && i < count; i++) {
        item->pages[i] = pages[i];
        item->is_zero[i] = window.pages[i] == NULL;
        if (window.pages[i] != NULL)
            memcpy(item->bytes + (size_t)i * DOR_PAGE_BYTES, window.pages[i], DOR_PAGE_BYTES);
    }
    if (err == 0)
        wake_window_release(pooled->worker, &window);
    wake_worker_set_passing(pooled->worker, false);
    wake_pool_put_back(client->how->pool, pooled);
    if (err == 0) {
        item->kind = WAKE_PUSH_DATA;
        item->count = count;
        item->done = 0;
        wake_push_end(&client->queue);
    }
    return err;
}

/* What is in the batch, after an error page by page; false when nobody takes them any more. */
static bool
push_batch(struct batch *batch)
{
    struct wake_client *client = batch->client;
    bool open = true;
    int err = batch->count == 0 ? 0 : read_pages(client, batch->pages, batch->count, &open);
    for (unsigned i = 0; err != 0 && i < batch->count && open; i++)
        if (read_pages(client, &batch->pages[i], 1, &open) != 0 && batch->tell)
            open = hand_over(client, WAKE_PUSH_LOST, batch->pages[i], 1);
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
            open =
                hand_over(client, WAKE_PUSH_HUGE, page, 1) && wake_push_drain(&client->queue);
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

static void
push_working_set(struct wake_client *client)
{
    const struct wake_run *runs = NULL;
    size_t count = 0;
    struct batch batch = {.client = client};
    bool open = true;
    wake_snapshot_working_set(client->snapshot, &runs, &count);
    for (size_t i = 0; i < count && open; i++)
        open = push_run(&batch, &runs[i]);
    if (open)
        (void)push_batch(&batch);
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
    open = open && push_batch(&batch) && wake_push_drain(&client->queue);
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
