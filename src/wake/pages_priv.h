/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pages_priv.h - what a page server and its snapshots are, for the files of this room.
 *
 * Ownership:  a server owns its handle and its cache; a snapshot belongs to those who refer to it.
 * Threads:    see the fields.
 * Errors:     none of its own.
 *
 * Locks, outermost first: server->learning, held while a working set's file is read, changed and
 * written; server->lock; a shard of the cache.
 */
#ifndef DOR_WAKE_PAGES_PRIV_H
#define DOR_WAKE_PAGES_PRIV_H

#include "base/thread.h"
#include "store/view.h"
#include "wake/cache.h"
#include "wake/pages.h"

struct dor_wake_server {
    struct base_mutex learning;
    struct base_mutex lock;          /* of what follows up to the cache */
    struct dor_store *store;         /* opened for reading */
    struct wake_snapshot *snapshots; /* open now */
    struct wake_cache *cache;
    struct wake_counters counters;
};

struct wake_snapshot {
    struct dor_wake_server *server;
    struct wake_snapshot *next; /* under the server's lock, and so are references */
    uint32_t references;
    struct dor_snapshot *snapshot; /* for sidecars and the frame, under the server's lock */
    struct store_view *view;
    /* as it was when the snapshot was opened, or first learnt since; under the server's lock */
    struct wake_run *working_set;
    size_t working_set_count;
    uint64_t *on_trial;          /* a bit for each page; NULL when nothing is learnt yet */
    struct store_view_plan plan; /* of the working set */
};

/* Read what the store knows of SNAPSHOT's working set; without it, it has none. */
void wake_working_set_load_locked(struct wake_snapshot *snapshot);

#endif
