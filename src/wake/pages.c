/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pages.c - the page server: snapshots that are open for waking, and windows of their pages.
 *
 * A window is got in three steps: each page is looked for in the cache, which says hit, load or
 * wait; what is to be loaded is read together into the cache's slots; what others are loading is
 * waited for. Own loads are finished before anything is waited for, so threads that wait for each
 * other always come through.
 */
#include "wake/pages.h"

#include <assert.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/size.h"
#include "wake/pages_priv.h"

#define CACHE_BYTES_USUAL (UINT64_C(256) << 20)

struct wake_worker {
    struct dor_wake_server *server;
    struct store_view_reader *reader;
    bool lent;    /* `own` is in a window */
    uint8_t *own; /* WAKE_WINDOW_PAGES pages, for when the cache is full */
    struct store_view_item items[WAKE_COPY_PAGES];
};

/* ------------------------------------------------------------------ the server */

int
dor_wake_server_open(
    const char *directory, const struct dor_wake_options *options, struct dor_wake_server **ret)
{
    static const uint8_t usual_shares[DOR_REGION_TYPES] = {100, 100, 100};
    uint64_t cache_bytes = CACHE_BYTES_USUAL;
    uint8_t shares[DOR_REGION_TYPES];
    memcpy(shares, usual_shares, sizeof shares);
    if (options != NULL && options->cache_bytes != 0)
        cache_bytes = options->cache_bytes;
    for (unsigned type = 0; options != NULL && type < DOR_REGION_TYPES; type++)
        if (options->share_percent[type] > 100)
            return dor_fail(DOR_E_USAGE, "a share of the cache is at most 100 percent");
        else if (options->share_percent[type] != 0)
            shares[type] = options->share_percent[type];
    struct dor_wake_server *server = base_zalloc(sizeof *server);
    if (server == NULL)
        return DOR_E_NO_MEMORY;
    base_mutex_init(&server->lock);
    base_mutex_init(&server->learning);
    int err = dor_store_open(directory, DOR_OPEN_READ, NULL, &server->store);
    if (err == 0)
        err = wake_cache_new(cache_bytes, shares, &server->cache);
    if (err != 0) {
        dor_wake_server_close(server);
        return err;
    }
    *ret = server;
    return 0;
}

void
dor_wake_server_close(struct dor_wake_server *server)
{
    if (server == NULL)
        return;
    dor_assert(server->snapshots == NULL);
    wake_cache_free(server->cache);
    dor_store_close(server->store);
    base_mutex_fini(&server->lock);
    base_mutex_fini(&server->learning);
    base_free(server);
}

void
dor_wake_server_stat(struct dor_wake_server *server, struct dor_wake_stat *ret)
{
    const struct wake_counters *counters = &server->counters;
    *ret = (struct dor_wake_stat){
        .cache_bytes = wake_cache_bytes(server->cache),
        .cache_used_bytes = wake_cache_used_bytes(server->cache),
        .hits = counters->hits,
        .waits = counters->waits,
        .misses = counters->misses,
        .zeros = counters->zeros,
        .evictions = counters->evictions,
        .bypasses = counters->bypasses,
        .failures = counters->failures};
    base_mutex_lock(&server->lock);
    for (const struct wake_snapshot *at = server->snapshots; at != NULL; at = at->next)
        ret->snapshots++;
    base_mutex_unlock(&server->lock);
}

int
wake_server_cache_fd(const struct dor_wake_server *server)
{
    return wake_cache_fd(server->cache);
}

/* ------------------------------------------------------------------ snapshots */

static void
snapshot_free(struct wake_snapshot *snapshot)
{
    store_view_plan_fini(&snapshot->plan);
    store_view_close(snapshot->view);
    dor_snapshot_close(snapshot->snapshot);
    base_free(snapshot->working_set);
    base_free(snapshot->on_trial);
    base_free(snapshot);
}

static int
open_locked(struct dor_wake_server *server, const char *name, struct wake_snapshot **ret)
{
    struct wake_snapshot *opened = base_zalloc(sizeof *opened);
    if (opened == NULL)
        return DOR_E_NO_MEMORY;
    opened->server = server;
    opened->references = 1;
    int err = dor_snapshot_open(server->store, name, &opened->snapshot);
    if (err == 0)
        err = store_view_open(server->store, name, &opened->view);
    if (err != 0) {
        snapshot_free(opened);
        return err;
    }
    wake_working_set_load_locked(opened);
    opened->next = server->snapshots;
    server->snapshots = opened;
    *ret = opened;
    return 0;
}

/* The open snapshot that NAME means now: a name may have been given to another one. */
static struct wake_snapshot *
find_locked(const struct dor_wake_server *server, const char *name)
{
    uint64_t id;
    if (dor_store_find(server->store, name, &id) != 0)
        return NULL;
    struct wake_snapshot *at = server->snapshots;
    while (at != NULL && dor_snapshot_info(at->snapshot)->id != id)
        at = at->next;
    return at;
}

int
wake_snapshot_open(struct dor_wake_server *server, const char *name, struct wake_snapshot **ret)
{
    base_mutex_lock(&server->lock);
    int err = dor_store_refresh(server->store);
    struct wake_snapshot *found = err == 0 ? find_locked(server, name) : NULL;
    if (found != NULL) {
        found->references++;
        *ret = found;
    } else if (err == 0) {
        err = open_locked(server, name, ret);
    }
    base_mutex_unlock(&server->lock);
    return err;
}

void
wake_snapshot_close(struct wake_snapshot *snapshot)
{
    if (snapshot == NULL)
        return;
    struct dor_wake_server *server = snapshot->server;
    base_mutex_lock(&server->lock);
    bool last = --snapshot->references == 0;
    struct wake_snapshot **at = &server->snapshots;
    while (last && *at != snapshot)
        at = &(*at)->next;
    if (last)
        *at = snapshot->next;
    base_mutex_unlock(&server->lock);
    if (last)
        snapshot_free(snapshot);
}

unsigned
wake_snapshot_references(struct wake_snapshot *snapshot)
{
    base_mutex_lock(&snapshot->server->lock);
    unsigned references = snapshot->references;
    base_mutex_unlock(&snapshot->server->lock);
    return references;
}

const struct dor_snapshot_info *
wake_snapshot_info(const struct wake_snapshot *snapshot)
{
    return store_view_info(snapshot->view);
}

uint64_t
wake_snapshot_page_count(const struct wake_snapshot *snapshot)
{
    return store_view_page_count(snapshot->view);
}

bool
wake_snapshot_page_is_zero(const struct wake_snapshot *snapshot, uint64_t page_index)
{
    return store_view_key(snapshot->view, page_index).place == 0;
}

int
wake_snapshot_read_sidecar(
    struct wake_snapshot *snapshot, size_t index, char name[DOR_NAME_BYTES_MAX + 1],
    void **ret_data, size_t *ret_size_bytes)
{
    base_mutex_lock(&snapshot->server->lock);
    int err =
        dor_snapshot_read_sidecar(snapshot->snapshot, index, name, ret_data, ret_size_bytes);
    base_mutex_unlock(&snapshot->server->lock);
    return err;
}

int
wake_snapshot_read_frame(
    struct wake_snapshot *snapshot, void **ret_data, size_t *ret_size_bytes)
{
    base_mutex_lock(&snapshot->server->lock);
    int err = dor_snapshot_read_frame(snapshot->snapshot, ret_data, ret_size_bytes);
    base_mutex_unlock(&snapshot->server->lock);
    return err;
}

/* ------------------------------------------------------------------ windows */

int
wake_worker_new(struct dor_wake_server *server, struct wake_worker **ret)
{
    struct wake_worker *worker = base_zalloc(sizeof *worker);
    if (worker == NULL)
        return DOR_E_NO_MEMORY;
    worker->server = server;
    worker->own = base_alloc_pages(WAKE_WINDOW_PAGES);
    int err = worker->own == NULL ? DOR_E_NO_MEMORY : store_view_reader_new(&worker->reader);
    if (err != 0) {
        wake_worker_free(worker);
        return err;
    }
    *ret = worker;
    return 0;
}

void
wake_worker_free(struct wake_worker *worker)
{
    if (worker == NULL)
        return;
    store_view_reader_free(worker->reader);
    base_free(worker->own);
    base_free(worker);
}

/* A window that is being filled. */
struct filling {
    struct wake_worker *worker;
    const struct wake_snapshot *snapshot;
    const uint64_t *page_indexes;
    struct wake_window *window;
    unsigned item_count;                   /* pages to be read, in worker->items */
    uint8_t item_pages[WAKE_WINDOW_PAGES]; /* which of the window each is */
    uint64_t waits;                        /* bit i: others are reading page i */
};
static_assert(WAKE_WINDOW_PAGES <= 64, "a bit for each page of a window");
static_assert(WAKE_WINDOW_PAGES <= WAKE_COPY_PAGES, "items for both");
static_assert(WAKE_COPY_PAGES <= STORE_VIEW_BATCH_MAX, "one read for a copy");

/* Page I of the window is to be read by this thread: to its slot, or to memory of its own. */
static void
want_page(struct filling *filling, unsigned i)
{
    struct wake_worker *worker = filling->worker;
    uint32_t slot = filling->window->slots[i];
    uint8_t *bytes = slot == WAKE_NO_SLOT ? worker->own + (size_t)i * DOR_PAGE_BYTES
                                          : wake_cache_page(worker->server->cache, slot);
    if (slot == WAKE_NO_SLOT) {
        worker->lent = true;
        base_counter_add(&worker->server->counters.bypasses, 1);
    }
    filling->item_pages[filling->item_count] = (uint8_t)i;
    worker->items[filling->item_count++] =
        (struct store_view_item){filling->page_indexes[i], bytes, 0};
    filling->window->pages[i] = bytes;
}

static void
look_up(struct filling *filling, unsigned i)
{
    struct dor_wake_server *server = filling->worker->server;
    struct wake_counters *counters = &server->counters;
    const struct store_view *view = filling->snapshot->view;
    struct wake_window *window = filling->window;
    struct store_page_key key = store_view_key(view, filling->page_indexes[i]);
    window->pages[i] = NULL;
    window->slots[i] = WAKE_NO_SLOT;
    if (key.place == 0) {
        base_counter_add(&counters->zeros, 1);
        return;
    }
    struct wake_page_kind kind = {
        store_view_stored_type(view, filling->page_indexes[i]),
        store_view_kind(view, filling->page_indexes[i]) != DOR_PAGE_PATCHED};
    enum wake_cache_answer answer =
        wake_cache_get(server->cache, key, kind, counters, &window->slots[i]);
    if (answer == WAKE_CACHE_HIT || answer == WAKE_CACHE_WAIT) {
        window->pages[i] = wake_cache_page(server->cache, window->slots[i]);
        base_counter_add(answer == WAKE_CACHE_HIT ? &counters->hits : &counters->waits, 1);
        if (answer == WAKE_CACHE_WAIT)
            filling->waits |= UINT64_C(1) << i;
        return;
    }
    if (answer == WAKE_CACHE_FULL)
        window->slots[i] = WAKE_NO_SLOT;
    base_counter_add(&counters->misses, 1);
    want_page(filling, i);
}

/* Read what is to be read and tell who waits for it. */
static int
read_wanted(struct filling *filling)
{
    struct wake_worker *worker = filling->worker;
    if (filling->item_count == 0)
        return 0;
    int err = store_view_read(
        filling->snapshot->view, worker->reader, worker->items, filling->item_count);
    for (unsigned i = 0; i < filling->item_count; i++) {
        unsigned page = filling->item_pages[i];
        bool good = worker->items[i].err == 0;
        if (!good)
            base_counter_add(&worker->server->counters.failures, 1);
        if (filling->window->slots[page] != WAKE_NO_SLOT)
            wake_cache_loaded(worker->server->cache, filling->window->slots[page], good);
    }
    filling->item_count = 0;
    return err;
}

/* Who read the page could not; perhaps this thread can, or it learns why not. */
static int
read_in_vain(struct filling *filling, unsigned i)
{
    wake_cache_release(filling->worker->server->cache, filling->window->slots[i]);
    filling->window->slots[i] = WAKE_NO_SLOT;
    want_page(filling, i);
    return read_wanted(filling);
}

static int
wait_for_others(struct filling *filling)
{
    int err = 0;
    for (unsigned i = 0; i < filling->window->count && err == 0; i++)
        if ((filling->waits >> i & 1) != 0 &&
            !wake_cache_wait(filling->worker->server->cache, filling->window->slots[i]))
            err = read_in_vain(filling, i);
    return err;
}

int
wake_pages_get(
    struct wake_worker *worker, struct wake_snapshot *snapshot, const uint64_t *page_indexes,
    unsigned count, struct wake_window *ret)
{
    struct filling filling = {
        .worker = worker, .snapshot = snapshot, .page_indexes = page_indexes, .window = ret};
    dor_assert(count <= WAKE_WINDOW_PAGES && !worker->lent);
    ret->count = count;
    for (unsigned i = 0; i < count; i++)
        look_up(&filling, i);
    int err = read_wanted(&filling);
    if (err == 0)
        err = wait_for_others(&filling);
    if (err != 0)
        wake_window_release(worker, ret);
    return err;
}

int
wake_window_get(
    struct wake_worker *worker, struct wake_snapshot *snapshot, uint64_t first_page,
    unsigned count, struct wake_window *ret)
{
    uint64_t page_indexes[WAKE_WINDOW_PAGES];
    dor_assert(count <= WAKE_WINDOW_PAGES);
    for (unsigned i = 0; i < count; i++)
        page_indexes[i] = first_page + i;
    return wake_pages_get(worker, snapshot, page_indexes, count, ret);
}

void
wake_window_release(struct wake_worker *worker, struct wake_window *window)
{
    for (unsigned i = 0; i < window->count; i++)
        if (window->slots[i] != WAKE_NO_SLOT)
            wake_cache_release(worker->server->cache, window->slots[i]);
    window->count = 0;
    worker->lent = false;
}

/* ------------------------------------------------------------------ copies */

/* True when the cache had PAGE_INDEX, and BYTES has it now. */
static bool
copy_cached(struct dor_wake_server *server, struct store_page_key key, uint8_t *bytes)
{
    uint32_t slot = WAKE_NO_SLOT;
    enum wake_cache_answer answer = wake_cache_find(server->cache, key, &slot);
    if (answer == WAKE_CACHE_HIT)
        memcpy(bytes, wake_cache_page(server->cache, slot), DOR_PAGE_BYTES);
    if (answer == WAKE_CACHE_HIT || answer == WAKE_CACHE_WAIT)
        wake_cache_release(server->cache, slot);
    return answer == WAKE_CACHE_HIT;
}

static void
copy_passing(
    struct wake_worker *worker, const struct wake_snapshot *snapshot,
    const uint64_t *page_indexes, unsigned count, uint8_t *bytes, enum wake_content *ret)
{
    struct wake_counters *counters = &worker->server->counters;
    uint8_t item_pages[WAKE_COPY_PAGES];
    unsigned item_count = 0;
    unsigned zeros = 0;
    unsigned lost = 0;
    for (unsigned i = 0; i < count; i++) {
        struct store_page_key key = store_view_key(snapshot->view, page_indexes[i]);
        uint8_t *to = bytes + (size_t)i * DOR_PAGE_BYTES;
        ret[i] = key.place == 0 ? WAKE_CONTENT_ZERO : WAKE_CONTENT_BYTES;
        zeros += key.place == 0;
        if (key.place == 0 || copy_cached(worker->server, key, to))
            continue;
        item_pages[item_count] = (uint8_t)i;
        worker->items[item_count++] = (struct store_view_item){page_indexes[i], to, 0};
    }
    if (item_count > 0 &&
        store_view_read(snapshot->view, worker->reader, worker->items, item_count) != 0)
        for (unsigned i = 0; i < item_count; i++)
            if (worker->items[i].err != 0) {
                ret[item_pages[i]] = WAKE_CONTENT_LOST;
                lost++;
            }
    base_counter_add(&counters->zeros, zeros);
    base_counter_add(&counters->hits, count - zeros - item_count);
    base_counter_add(&counters->misses, item_count);
    base_counter_add(&counters->bypasses, item_count);
    base_counter_add(&counters->failures, lost);
}

/* By way of the cache, at most a window of pages. */
static int
copy_window(
    struct wake_worker *worker, struct wake_snapshot *snapshot, const uint64_t *page_indexes,
    unsigned count, uint8_t *bytes, enum wake_content *ret)
{
    struct wake_window window;
    int err = wake_pages_get(worker, snapshot, page_indexes, count, &window);
    if (err != 0)
        return err;
    for (unsigned i = 0; i < count; i++) {
        ret[i] = window.pages[i] == NULL ? WAKE_CONTENT_ZERO : WAKE_CONTENT_BYTES;
        if (window.pages[i] != NULL)
            memcpy(bytes + (size_t)i * DOR_PAGE_BYTES, window.pages[i], DOR_PAGE_BYTES);
    }
    wake_window_release(worker, &window);
    return 0;
}

void
wake_pages_copy(
    struct wake_worker *worker, struct wake_snapshot *snapshot, const uint64_t *page_indexes,
    unsigned count, bool passing, uint8_t *bytes, enum wake_content *ret)
{
    dor_assert(count <= WAKE_COPY_PAGES);
    if (passing) {
        copy_passing(worker, snapshot, page_indexes, count, bytes, ret);
        return;
    }
    for (unsigned at = 0; at < count; at += WAKE_WINDOW_PAGES) {
        unsigned some = (unsigned)base_min_u64(count - at, WAKE_WINDOW_PAGES);
        const uint64_t *pages = page_indexes + at;
        uint8_t *to = bytes + (size_t)at * DOR_PAGE_BYTES;
        if (copy_window(worker, snapshot, pages, some, to, ret + at) == 0)
            continue;
        /* One of them cannot be read: the others can. */
        for (unsigned i = 0; i < some; i++)
            if (copy_window(
                    worker, snapshot, pages + i, 1, to + (size_t)i * DOR_PAGE_BYTES,
                    ret + at + i) != 0)
                ret[at + i] = WAKE_CONTENT_LOST;
    }
}
