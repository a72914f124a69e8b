/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker_pool.h - page server workers for more threads than there need be workers: a thread takes
 * one for as long as it reads pages. Their scratch is megabytes, clients may be a thousand.
 *
 * Ownership:  the pool's; what was taken is put back.
 * Threads:    any.
 * Errors:     DOR_E_NO_MEMORY while it grows. Taking allocates nothing.
 */
#ifndef DOR_WAKE_WORKER_POOL_H
#define DOR_WAKE_WORKER_POOL_H

#include "wake/pages.h"

struct wake_pooled {
    struct wake_pooled *next;
    struct wake_worker *worker;
    uint8_t *bytes; /* 2 MiB, to bring pages together in */
};

struct wake_pool;

DOR_MUST_CHECK int
wake_pool_new(struct dor_wake_server *server, unsigned workers_max, struct wake_pool **ret);
/* All that was taken is back. */
void wake_pool_free(struct wake_pool *pool);
/* Room for one more thread, unless there is enough for all. */
DOR_MUST_CHECK int wake_pool_grow(struct wake_pool *pool);
/* Waits while others have all. */
struct wake_pooled *wake_pool_take(struct wake_pool *pool);
void wake_pool_put_back(struct wake_pool *pool, struct wake_pooled *pooled);

#endif
