/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker_kept.h - a worker's part in keeping tables: logs replayed and written, pages that come
 * when they are needed, marks for snapshots.
 *
 * Ownership:  its logs are freed after the worker, which uses them.
 * Threads:    the worker's.
 * Errors:     those of log and arena; what concerns a snapshot is told to the front.
 */
#ifndef DOR_TABLE_WORKER_KEPT_H
#define DOR_TABLE_WORKER_KEPT_H

#include "table/control.h"
#include "table/worker.h"

struct worker_kept;

/* For a worker that hears of the front at CONTROL. ALONE: it will have one tenant. */
DOR_MUST_CHECK int worker_kept_open(int control, bool alone, struct worker_kept **ret);
/* What its logs are synced by, for the worker's options. */
struct table_syncer *worker_kept_syncer(const struct worker_kept *kept);
void worker_kept_close(struct worker_kept *kept); /* NULL is fine */
void worker_kept_set_worker(struct worker_kept *kept, struct table_worker *worker);

/*
 * Add the tenant of MESSAGE, which came with FDS (those that are used are taken), set up as SETUP
 * says, and bring its table to where its log ends.
 */
DOR_MUST_CHECK int worker_kept_add(
    struct worker_kept *kept, const struct table_message *message,
    struct table_tenant_setup *setup, int fds[static TABLE_CONTROL_FDS]);
/* The tenant is no longer the worker's. */
void worker_kept_remove(struct worker_kept *kept, uint64_t tenant_id);

/* MARK and SAVED. */
void worker_kept_mark(
    struct worker_kept *kept, const struct table_message *message,
    int fds[static TABLE_CONTROL_FDS]);
void worker_kept_saved(struct worker_kept *kept, const struct table_message *message);

/* Ask the front for a snapshot. DOR_E_BUSY: one is being taken. DOR_E_USAGE: it is not kept. */
DOR_MUST_CHECK int worker_kept_save(struct worker_kept *kept, uint64_t tenant_id);
void worker_kept_saving(
    const struct worker_kept *kept, uint64_t tenant_id, struct table_saving *ret);
/* A few times a second: logs are written, also for who wants no reply; the unwell get help. */
void worker_kept_look(struct worker_kept *kept);

#endif
