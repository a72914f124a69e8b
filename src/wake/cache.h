/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache.h - the restore cache: decoded, verified pages in one memory file, under the key of the
 * stored page, so that snapshots that share a page share it here too. Who misses a page loads it
 * while others that want it wait: it is read once.
 *
 * Pages of each region type have a share of the cache that they may fill while others want room,
 * and lives: how often the clock's hand passes before they go. RX_MAP and plain pages, which are
 * what patches and other snapshots stand on, have more lives than W_MAP and patched ones (SnapStore
 * keeps the runtime's text longest).
 *
 * Ownership:  slots are held by those who got them until they release them; memory is the cache's.
 * Threads:    any.
 * Errors:     only making a cache fails. Nothing is allocated afterwards.
 */
#ifndef DOR_WAKE_CACHE_H
#define DOR_WAKE_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "store/view.h"
#include "wake/counters.h"

#define WAKE_NO_SLOT UINT32_MAX

struct wake_cache;

/* SHARES: percent of the cache for each region type, 1 to 100. */
DOR_MUST_CHECK int wake_cache_new(
    uint64_t cache_bytes, const uint8_t shares[DOR_REGION_TYPES], struct wake_cache **ret);
void wake_cache_free(struct wake_cache *cache);

/* The memory file; slot S is at 4096 * S. */
int wake_cache_fd(const struct wake_cache *cache);
uint8_t *wake_cache_page(const struct wake_cache *cache, uint32_t slot);
uint64_t wake_cache_bytes(const struct wake_cache *cache);
uint64_t wake_cache_used_bytes(const struct wake_cache *cache);

/* How the eviction treats a page. */
struct wake_page_kind {
    enum dor_region_type type;
    bool plain; /* stored plain: may be a base of others */
};

enum wake_cache_answer {
    WAKE_CACHE_HIT,  /* the page is there */
    WAKE_CACHE_LOAD, /* the caller loads it, then calls _loaded() */
    WAKE_CACHE_WAIT, /* somebody loads it: _wait() */
    WAKE_CACHE_FULL  /* all slots are held; nothing is held for the caller */
};

/* Look for KEY and hold its slot, whatever the answer but FULL. */
enum wake_cache_answer wake_cache_get(
    struct wake_cache *cache, struct store_page_key key, struct wake_page_kind kind,
    struct wake_counters *counters, uint32_t *ret_slot);
/* The same for a page that is not to be kept: FULL when it is not there. */
enum wake_cache_answer
wake_cache_find(struct wake_cache *cache, struct store_page_key key, uint32_t *ret_slot);
/* The page in SLOT is there, or could not be had: then who waits is told, and KEY is forgotten. */
void wake_cache_loaded(struct wake_cache *cache, uint32_t slot, bool good);
/* Wait until the page in SLOT is there; false when it could not be had. Still held either way. */
bool wake_cache_wait(struct wake_cache *cache, uint32_t slot);
void wake_cache_release(struct wake_cache *cache, uint32_t slot);

#endif
