/* SPDX-License-Identifier: Apache-2.0 */
/*
 * working_sets.h - made-up working sets for tests of the store.
 *
 * Ownership:  sets are the caller's: store_working_set_fini().
 * Threads:    one set, one thread.
 * Errors:     what is the test's own trouble ends it with bail().
 */
#ifndef TESTS_STORE_WORKING_SETS_H
#define TESTS_STORE_WORKING_SETS_H

#include "store/images.h"
#include "store/store_priv.h"
#include "store/working_set.h"

/* A set of some windows of an image of PAGE_COUNT pages, at random. */
static inline struct store_working_set
random_set(struct base_random *random, uint64_t page_count)
{
    uint64_t windows = DIV_ROUND_UP(page_count, STORE_SET_WINDOW_PAGES);
    struct store_working_set set = {.wakes = 1 + base_random_below(random, 40)};
    set.windows = base_array(windows + 1, sizeof *set.windows);
    if (set.windows == NULL)
        bail("%s", dor_err_message());
    for (uint64_t w = 0; w < windows; w++) {
        struct store_set_window window = {.window = w};
        for (unsigned p = 0; p < STORE_SET_WINDOW_PAGES; p++) {
            uint8_t history = (uint8_t)base_random_below(random, 256);
            if (w * STORE_SET_WINDOW_PAGES + p >= page_count ||
                base_random_below(random, 3) == 0 || store_set_history_needed(history) == 0)
                continue;
            window.pages = (uint16_t)(window.pages | 1u << p);
            window.histories[p] = history;
        }
        window.rank_count = (uint8_t)(1 + base_random_below(random, STORE_SET_RANKS_MAX));
        base_random_fill(random, window.ranks, window.rank_count);
        if (window.pages != 0 && base_random_below(random, 4) != 0)
            set.windows[set.window_count++] = window;
    }
    return set;
}

static inline bool
sets_are_same(const struct store_working_set *left, const struct store_working_set *right)
{
    return left->wakes == right->wakes && left->window_count == right->window_count &&
           memcmp(left->windows, right->windows, left->window_count * sizeof *left->windows) ==
               0;
}

static inline struct store_set_key
key_of(struct dor_store *store, const char *name)
{
    const struct store_snapshot_entry *entry = store_catalog_snapshot(store->catalog, name);
    if (entry == NULL)
        bail("no snapshot %s", name);
    return store_working_set_key(
        store, entry->info.id, entry->info.logical_bytes / DOR_PAGE_BYTES);
}

/* Teach NAME of STORE a random set. */
static inline void
must_teach(struct base_random *random, struct dor_store *store, const char *name)
{
    struct store_set_key key = key_of(store, name);
    struct store_working_set set = random_set(random, key.page_count);
    if (store_working_set_write(&key, &set) != 0)
        bail("%s", dor_err_message());
    store_working_set_fini(&set);
}

/* Whether NAME of STORE has exactly SET. */
static inline bool
has_set(struct dor_store *store, const char *name, const struct store_working_set *set)
{
    struct store_set_key key = key_of(store, name);
    struct store_working_set got = {0};
    bool same = store_working_set_read(&key, &got) == 0 && sets_are_same(&got, set);
    store_working_set_fini(&got);
    return same;
}

#endif
