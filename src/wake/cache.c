/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache.c - pages in a memory file, found by hashing, evicted by a clock with lives.
 *
 * The slots are dealt out to shards by the key's hash; a shard has a lock, a table of chains, and a
 * clock's hand of its own.
 *
 *              get: LOAD           loaded(good)
 *     FREE ----------------> LOADING ----------> READY ----+ get: HIT
 *      ^                        | loaded(bad)      |  ^----+
 *      |   last release         v                  |
 *      +--------------------- FAILED               |
 *      +-------------------------------------------+ the hand finds it without holds or lives
 *
 * Invariants
 *  (1) a slot that is held is not evicted, and its bytes do not change once it is READY.
 *  (2) LOADING, READY: the slot is in its shard's table under its key, and no other slot is.
 *  (3) holds > 0 while LOADING: the loader's.
 *
 * Locks: one shard's at a time, nothing is called under it.
 */
#include "wake/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"
#include "base/thread.h"

#define SHARDS_MAX        64
#define SHARD_SLOTS_LEAST 1024 /* so that shards fill evenly */

enum slot_state { SLOT_FREE, SLOT_LOADING, SLOT_READY, SLOT_FAILED };

struct slot {
    struct store_page_key key;
    uint32_t next; /* in its chain */
    uint16_t holds;
    uint8_t state;
    uint8_t lives; /* left */
    uint8_t lives_most;
    uint8_t type;
};

struct shard {
    struct base_mutex lock;
    struct base_condition loaded;
    uint32_t first_slot, slot_count;
    uint32_t hand;                     /* from first_slot on */
    uint32_t used_count;               /* not FREE */
    uint32_t counts[DOR_REGION_TYPES]; /* of those */
    uint32_t limits[DOR_REGION_TYPES];
    uint32_t *chains; /* first slot of each, WAKE_NO_SLOT = none */
    uint32_t chain_mask;
};

struct wake_cache {
    int fd;
    uint8_t *memory;
    uint64_t slot_count;
    struct slot *slots;
    unsigned shard_count; /* a power of two */
    struct shard shards[SHARDS_MAX];
};

#define BASE_COUNTER_STRUCT struct wake_counters
const struct base_counter wake_counter_rows[] = {
#define COUNTER BASE_COUNTER_ROW
#include "wake/counters.def"
#undef COUNTER
};
#undef BASE_COUNTER_STRUCT
const size_t wake_counter_row_count = sizeof wake_counter_rows / sizeof *wake_counter_rows;

/* ------------------------------------------------------------------ making */

static int
make_memory(struct wake_cache *cache)
{
    size_t size_bytes = cache->slot_count * DOR_PAGE_BYTES;
    cache->fd = memfd_create("dormouse-cache", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (cache->fd < 0)
        return dor_fail_errno(errno, "restore cache: cannot make a memory file");
    if (ftruncate(cache->fd, (off_t)size_bytes) != 0 ||
        fcntl(cache->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0)
        return dor_fail_errno(errno, "restore cache: %zu bytes", size_bytes);
    void *memory = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, cache->fd, 0);
    if (memory == MAP_FAILED)
        return dor_fail_errno(errno, "restore cache: cannot map %zu bytes", size_bytes);
    cache->memory = memory;
    return 0;
}

static int
shard_init(
    struct shard *shard, uint32_t first_slot, uint32_t slot_count,
    const uint8_t shares[DOR_REGION_TYPES])
{
    uint32_t chain_count = 16;
    while (chain_count < slot_count)
        chain_count *= 2;
    base_mutex_init(&shard->lock);
    base_condition_init(&shard->loaded);
    shard->first_slot = first_slot;
    shard->slot_count = slot_count;
    shard->chain_mask = chain_count - 1;
    for (unsigned type = 0; type < DOR_REGION_TYPES; type++) {
        shard->limits[type] = (uint32_t)((uint64_t)slot_count * shares[type] / 100);
        if (shard->limits[type] == 0)
            shard->limits[type] = 1;
    }
    shard->chains = base_alloc(chain_count * sizeof *shard->chains);
    if (shard->chains == NULL)
        return DOR_E_NO_MEMORY;
    memset(shard->chains, 0xff, chain_count * sizeof *shard->chains);
    return 0;
}

int
wake_cache_new(
    uint64_t cache_bytes, const uint8_t shares[DOR_REGION_TYPES], struct wake_cache **ret)
{
    struct wake_cache *cache = base_zalloc(sizeof *cache);
    if (cache == NULL)
        return DOR_E_NO_MEMORY;
    cache->fd = -1;
    cache->slot_count = cache_bytes / DOR_PAGE_BYTES;
    if (cache->slot_count < 256 || cache->slot_count >= WAKE_NO_SLOT) {
        wake_cache_free(cache);
        return dor_fail(
            DOR_E_USAGE, "restore cache: %llu bytes; 1 MiB to 16 TiB are possible",
            (unsigned long long)cache_bytes);
    }
    uint64_t wanted = 1;
    while (wanted < SHARDS_MAX && cache->slot_count / (wanted * 2) >= SHARD_SLOTS_LEAST)
        wanted *= 2;
    int err = make_memory(cache);
    cache->slots = err == 0 ? base_array(cache->slot_count, sizeof *cache->slots) : NULL;
    if (err == 0 && cache->slots == NULL)
        err = DOR_E_NO_MEMORY;
    uint64_t each = cache->slot_count / wanted;
    for (uint64_t i = 0; i < wanted && err == 0; i++) {
        uint64_t count = i + 1 < wanted ? each : cache->slot_count - each * i;
        cache->shard_count++;
        err = shard_init(&cache->shards[i], (uint32_t)(each * i), (uint32_t)count, shares);
    }
    if (err != 0) {
        wake_cache_free(cache);
        return err;
    }
    *ret = cache;
    return 0;
}

void
wake_cache_free(struct wake_cache *cache)
{
    if (cache == NULL)
        return;
    for (unsigned i = 0; i < cache->shard_count; i++) {
        base_mutex_fini(&cache->shards[i].lock);
        base_condition_fini(&cache->shards[i].loaded);
        base_free(cache->shards[i].chains);
    }
    if (cache->memory != NULL)
        munmap(cache->memory, cache->slot_count * DOR_PAGE_BYTES);
    if (cache->fd >= 0)
        close(cache->fd);
    base_free(cache->slots);
    base_free(cache);
}

int
wake_cache_fd(const struct wake_cache *cache)
{
    return cache->fd;
}

uint8_t *
wake_cache_page(const struct wake_cache *cache, uint32_t slot)
{
    return cache->memory + (size_t)slot * DOR_PAGE_BYTES;
}

uint64_t
wake_cache_bytes(const struct wake_cache *cache)
{
    return cache->slot_count * DOR_PAGE_BYTES;
}

uint64_t
wake_cache_used_bytes(const struct wake_cache *cache)
{
    uint64_t used = 0;
    for (unsigned i = 0; i < cache->shard_count; i++) {
        /* A number to look at: the lock is not worth it, a torn count is not possible. */
        used += __atomic_load_n(&cache->shards[i].used_count, __ATOMIC_RELAXED);
    }
    return used * DOR_PAGE_BYTES;
}

/* ------------------------------------------------------------------ finding */

/* Mixes all bits of both halves into all bits (the finaliser of SplitMix64). */
static uint64_t
hash_key(struct store_page_key key)
{
    uint64_t mix = key.place ^ key.domain * UINT64_C(0x9e3779b97f4a7c15);
    mix = (mix ^ mix >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    mix = (mix ^ mix >> 27) * UINT64_C(0x94d049bb133111eb);
    return mix ^ mix >> 31;
}

static struct shard *
shard_of_slot(struct wake_cache *cache, uint32_t slot)
{
    uint64_t each = cache->slot_count / cache->shard_count;
    return &cache->shards[base_min_u64(slot / each, cache->shard_count - 1)];
}

static uint32_t *
chain_of(struct shard *shard, uint64_t hash)
{
    return &shard->chains[(hash >> 8) & shard->chain_mask];
}

static uint32_t
find_locked(const struct wake_cache *cache, const uint32_t *chain, struct store_page_key key)
{
    uint32_t at = *chain;
    while (at != WAKE_NO_SLOT && (cache->slots[at].key.place != key.place ||
                                  cache->slots[at].key.domain != key.domain))
        at = cache->slots[at].next;
    return at;
}

static void
unchain_locked(struct wake_cache *cache, struct shard *shard, uint32_t slot)
{
    uint32_t *at = chain_of(shard, hash_key(cache->slots[slot].key));
    while (*at != slot)
        at = &cache->slots[*at].next;
    /* With wake_cache_find()'s look at a chain: it is the only one without the lock. */
    __atomic_store_n(at, cache->slots[slot].next, __ATOMIC_RELAXED);
}

static void
free_locked(struct shard *shard, struct slot *slot)
{
    slot->state = SLOT_FREE;
    shard->counts[slot->type]--;
    __atomic_store_n(&shard->used_count, shard->used_count - 1, __ATOMIC_RELAXED);
}

/* A slot for a page of TYPE: free, or freed; WAKE_NO_SLOT when all that may go are held. */
static uint32_t
make_room_locked(
    struct wake_cache *cache, struct shard *shard, unsigned type,
    struct wake_counters *counters)
{
    bool own_only = shard->counts[type] >= shard->limits[type];
    /* Every round takes a life of each page that is passed, so few rounds find one. */
    for (uint64_t steps = 0; steps < (uint64_t)shard->slot_count * 8; steps++) {
        uint32_t at = shard->first_slot + shard->hand;
        struct slot *slot = &cache->slots[at];
        shard->hand = shard->hand + 1 == shard->slot_count ? 0 : shard->hand + 1;
        if (slot->state == SLOT_FREE && !own_only)
            return at;
        if (slot->state != SLOT_READY || slot->holds > 0 || (own_only && slot->type != type))
            continue;
        if (slot->lives > 0) {
            slot->lives--;
            continue;
        }
        unchain_locked(cache, shard, at);
        free_locked(shard, slot);
        base_counter_add(&counters->evictions, 1);
        return at;
    }
    return WAKE_NO_SLOT;
}

/* See cache.h: text and bases stay longest. */
static uint8_t
lives_of(struct wake_page_kind kind)
{
    unsigned lives = kind.type == DOR_RX_MAP ? 4 : 1;
    return (uint8_t)(lives + (kind.plain ? 1 : 0));
}

/* Hold SLOT, in which the page is or will be. */
static enum wake_cache_answer
hold_locked(struct wake_cache *cache, uint32_t at, uint32_t *ret_slot)
{
    struct slot *slot = &cache->slots[at];
    if (slot->holds == UINT16_MAX)
        return WAKE_CACHE_FULL;
    slot->holds++;
    slot->lives = slot->lives_most;
    *ret_slot = at;
    return slot->state == SLOT_READY ? WAKE_CACHE_HIT : WAKE_CACHE_WAIT;
}

static enum wake_cache_answer
get_locked(
    struct wake_cache *cache, struct shard *shard, struct store_page_key key,
    struct wake_page_kind kind, struct wake_counters *counters, uint32_t *ret_slot)
{
    uint32_t *chain = chain_of(shard, hash_key(key));
    uint32_t at = find_locked(cache, chain, key);
    if (at != WAKE_NO_SLOT)
        return hold_locked(cache, at, ret_slot);
    at = make_room_locked(cache, shard, kind.type, counters);
    if (at == WAKE_NO_SLOT)
        return WAKE_CACHE_FULL;
    uint8_t lives = lives_of(kind);
    /* New pages start with one life: only those wanted again get all of theirs. */
    cache->slots[at] = (struct slot){
        .key = key,
        .next = *chain,
        .holds = 1,
        .state = SLOT_LOADING,
        .lives = 1,
        .lives_most = lives,
        .type = (uint8_t)kind.type};
    /* As in unchain_locked(). */
    __atomic_store_n(chain, at, __ATOMIC_RELAXED);
    shard->counts[kind.type]++;
    __atomic_store_n(&shard->used_count, shard->used_count + 1, __ATOMIC_RELAXED);
    *ret_slot = at;
    return WAKE_CACHE_LOAD;
}

enum wake_cache_answer
wake_cache_get(
    struct wake_cache *cache, struct store_page_key key, struct wake_page_kind kind,
    struct wake_counters *counters, uint32_t *ret_slot)
{
    struct shard *shard = &cache->shards[hash_key(key) & (cache->shard_count - 1)];
    base_mutex_lock(&shard->lock);
    enum wake_cache_answer answer = get_locked(cache, shard, key, kind, counters, ret_slot);
    base_mutex_unlock(&shard->lock);
    return answer;
}

enum wake_cache_answer
wake_cache_find(struct wake_cache *cache, struct store_page_key key, uint32_t *ret_slot)
{
    struct shard *shard = &cache->shards[hash_key(key) & (cache->shard_count - 1)];
    uint32_t *chain = chain_of(shard, hash_key(key));
    if (__atomic_load_n(chain, __ATOMIC_RELAXED) == WAKE_NO_SLOT)
        return WAKE_CACHE_FULL;
    base_mutex_lock(&shard->lock);
    uint32_t at = find_locked(cache, chain, key);
    enum wake_cache_answer answer =
        at == WAKE_NO_SLOT ? WAKE_CACHE_FULL : hold_locked(cache, at, ret_slot);
    base_mutex_unlock(&shard->lock);
    return answer;
}

void
wake_cache_loaded(struct wake_cache *cache, uint32_t slot, bool good)
{
    struct shard *shard = shard_of_slot(cache, slot);
    base_mutex_lock(&shard->lock);
    dor_assert(cache->slots[slot].state == SLOT_LOADING);
    if (good) {
        cache->slots[slot].state = SLOT_READY;
    } else {
        unchain_locked(cache, shard, slot);
        cache->slots[slot].state = SLOT_FAILED;
    }
    base_mutex_unlock(&shard->lock);
    base_condition_wake_all(&shard->loaded);
}

bool
wake_cache_wait(struct wake_cache *cache, uint32_t slot)
{
    struct shard *shard = shard_of_slot(cache, slot);
    base_mutex_lock(&shard->lock);
    while (cache->slots[slot].state == SLOT_LOADING)
        base_condition_wait(&shard->loaded, &shard->lock);
    bool good = cache->slots[slot].state == SLOT_READY;
    base_mutex_unlock(&shard->lock);
    return good;
}

void
wake_cache_release(struct wake_cache *cache, uint32_t slot)
{
    struct shard *shard = shard_of_slot(cache, slot);
    base_mutex_lock(&shard->lock);
    struct slot *held = &cache->slots[slot];
    dor_assert(held->holds > 0);
    held->holds--;
    if (held->holds == 0 && held->state == SLOT_FAILED)
        free_locked(shard, held);
    base_mutex_unlock(&shard->lock);
}
