/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker_pool.c - a list of free workers. The one that was put back last is taken first: its
 * scratch is warm.
 */
#include "wake/worker_pool.h"

#include "base/mem.h"
#include "base/size.h"
#include "base/thread.h"
#include "wake/handshake.h"

struct wake_pool {
    struct dor_wake_server *server;
    unsigned workers_max;
    struct base_mutex lock; /* of what follows */
    struct base_condition put_back;
    unsigned worker_count;
    struct wake_pooled *free;
};

int
wake_pool_new(struct dor_wake_server *server, unsigned workers_max, struct wake_pool **ret)
{
    struct wake_pool *pool = base_zalloc(sizeof *pool);
    if (pool == NULL)
        return DOR_E_NO_MEMORY;
    pool->server = server;
    pool->workers_max = workers_max;
    base_mutex_init(&pool->lock);
    base_condition_init(&pool->put_back);
    int err = wake_pool_grow(pool);
    if (err != 0) {
        wake_pool_free(pool);
        return err;
    }
    *ret = pool;
    return 0;
}

static void
pooled_free(struct wake_pooled *pooled)
{
    wake_worker_free(pooled->worker);
    base_free(pooled->bytes);
    base_free(pooled);
}

void
wake_pool_free(struct wake_pool *pool)
{
    if (pool == NULL)
        return;
    while (pool->free != NULL) {
        struct wake_pooled *pooled = pool->free;
        pool->free = pooled->next;
        pooled_free(pooled);
    }
    base_mutex_fini(&pool->lock);
    base_condition_fini(&pool->put_back);
    base_free(pool);
}

int
wake_pool_grow(struct wake_pool *pool)
{
    base_mutex_lock(&pool->lock);
    bool is_enough = pool->worker_count >= pool->workers_max;
    base_mutex_unlock(&pool->lock);
    if (is_enough)
        return 0;
    struct wake_pooled *pooled = base_zalloc(sizeof *pooled);
    if (pooled == NULL)
        return DOR_E_NO_MEMORY;
    pooled->bytes = base_alloc_pages(WAKE_HUGE_BYTES / DOR_PAGE_BYTES);
    int err = pooled->bytes == NULL ? DOR_E_NO_MEMORY
                                    : wake_worker_new(pool->server, &pooled->worker);
    if (err != 0) {
        pooled_free(pooled);
        return err;
    }
    base_mutex_lock(&pool->lock);
    pool->worker_count++;
    base_mutex_unlock(&pool->lock);
    wake_pool_put_back(pool, pooled);
    return 0;
}

struct wake_pooled *
wake_pool_take(struct wake_pool *pool)
{
    base_mutex_lock(&pool->lock);
    while (pool->free == NULL)
        base_condition_wait(&pool->put_back, &pool->lock);
    struct wake_pooled *pooled = pool->free;
    pool->free = pooled->next;
    base_mutex_unlock(&pool->lock);
    return pooled;
}

void
wake_pool_put_back(struct wake_pool *pool, struct wake_pooled *pooled)
{
    base_mutex_lock(&pool->lock);
    pooled->next = pool->free;
    pool->free = pooled;
    base_mutex_unlock(&pool->lock);
    base_condition_wake_all(&pool->put_back);
}
