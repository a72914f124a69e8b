/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_sync.h - what a log and the thread that waits for its disk share.
 *
 * Ownership:  the log's; it is in the syncer's list from table_sync_add() to table_sync_remove().
 * Threads:    the worker's and the syncer's; fields as said at each.
 * Errors:     those of the disk, kept until they are taken.
 */
#ifndef DOR_TABLE_LOG_SYNC_H
#define DOR_TABLE_LOG_SYNC_H

#include <stdatomic.h>

#include "table/log.h"

struct table_sync {
    struct table_sync *next; /* of the syncer's list, as the fields to `busy` under its lock */
    int fd;
    bool wanted; /* at once, and be told */
    bool busy;   /* the thread waits for the disk */

    /* The worker writes `written` after its bytes, the thread reads it before it syncs: all that
     * `synced` tells is on disk. Acquire and release. */
    _Atomic uint64_t written; /* the first sequence number that is not in the file */
    _Atomic uint64_t synced;  /* the first that is perhaps not on disk */
    _Atomic uint64_t syncs;
    _Atomic int errnum; /* of the first sync that failed */
};

/* Wait for the disk here and now; DOR_E_IO. */
DOR_MUST_CHECK int table_sync_now(struct table_sync *sync);

/* The first one starts the thread, which may fail. */
DOR_MUST_CHECK int table_sync_add(struct table_syncer *syncer, struct table_sync *sync);
/* The thread does not look at it any more when this returns. */
void table_sync_remove(struct table_syncer *syncer, struct table_sync *sync);
void table_sync_want(struct table_syncer *syncer, struct table_sync *sync);

#endif
