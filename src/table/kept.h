/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kept.h - a tenant's table on disk, as the front sees it: the folder with manifest and logs, and
 * the snapshots at the keeper. The format is in docs/formats/table-log.md; the worker writes the
 * log (log.h), the front everything else.
 *
 *     open --fill--> the worker replays the log --> running --begin--> marking --marked--> putting
 *                                                      ^                                      |
 *                                                      +----------------- end ----------------+
 *
 * Ownership:  a kept table owns its descriptors; the keeper outlives it.
 * Threads:    the front's; putting has a thread of its own.
 * Errors:     DOR_E_CORRUPT with the file and the place for what is damaged; DOR_E_BUSY when
 *             another process has the folder; those of keeper and disk.
 */
#ifndef DOR_TABLE_KEPT_H
#define DOR_TABLE_KEPT_H

#include "table/keeper.h"
#include "table/log.h"

struct table_kept;

struct table_kept_options {
    const char *directory; /* of all tables; made if missing */
    const char *tenant, *domain;
    struct dor_table_keeper *keeper; /* NULL: there is a log alone */
    /*
     * A snapshot is wanted when the log has so many bytes, and so many per cent of the table's.
     */
    uint64_t snapshot_bytes;   /* 0 = 64 MiB */
    unsigned snapshot_percent; /* 0 = 100 */
    bool repair;               /* what is damaged is cut off and kept aside */
};

/*
 * The table of a tenant. Afterwards one log holds all that the snapshot does not. What a crash
 * left unfinished is finished or cleared away.
 */
DOR_MUST_CHECK int
table_kept_open(const struct table_kept_options *options, struct table_kept **ret);
void table_kept_close(struct table_kept *kept); /* gives up a snapshot; NULL is fine */

/*
 * Put the snapshot's pages into the empty memory file FD. *RET_IS_NEW: there is none, the table
 * begins empty. LAZILY: where it can be done the file stays empty, and *RET_SOCKET, otherwise -1,
 * is where the worker's mapping gets its pages (fill.h). It is the caller's.
 */
DOR_MUST_CHECK int table_kept_fill(
    struct table_kept *kept, int fd, bool lazily, bool *ret_is_new, int *ret_socket);

/* The log for the worker to replay and go on with. Stays KEPT's. */
int table_kept_log_fd(const struct table_kept *kept);

/* The worker has replayed the log. */
void table_kept_worker_ready(struct table_kept *kept);
/* The page server hung up on the worker: all pages are there. */
void table_kept_worker_filled(struct table_kept *kept);

/*
 * The worker died. True: its arena is whole, and the next worker finds the log's end but does not
 * replay it; a snapshot is wanted, for the arena may have changes that nobody was told of and no
 * log has. False: throw the arena away, close KEPT, and begin again by opening it. A snapshot
 * that is being put is waited for.
 */
DOR_MUST_CHECK bool table_kept_worker_died(struct table_kept *kept);

/* ---- snapshots ---- */

/* Is it time for one? */
bool table_kept_wants_snapshot(struct table_kept *kept);
/* The worker asks for one; DOR_E_UNSUPPORTED: there is no store, so none will come. */
DOR_MUST_CHECK int table_kept_want_snapshot(struct table_kept *kept);

/*
 * Ask the worker to go on in the log *RET_LOG_FD, number *RET_NUMBER, with table_log_rotate() and
 * to begin a mark in *RET_MARK_FD; both descriptors stay KEPT's. DOR_E_BUSY: one is being taken,
 * or the table is still coming back.
 */
DOR_MUST_CHECK int table_kept_snapshot_begin(
    struct table_kept *kept, int *ret_log_fd, uint64_t *ret_number, int *ret_mark_fd);
/* It did. The pages of ARENA_FD at that moment are put by a thread. */
DOR_MUST_CHECK int table_kept_snapshot_marked(struct table_kept *kept, int arena_fd);
/* It could not. */
void table_kept_snapshot_refused(struct table_kept *kept);

/* Readable when a snapshot is done: then end it, and tell the worker to end its mark. */
int table_kept_event_fd(const struct table_kept *kept);

struct table_kept_snapshot {
    uint64_t ns;          /* when it was, since 1970 */
    uint64_t table_bytes; /* of its pages */
    uint64_t added_bytes; /* in the store */
};
/* What became of it. DOR_E_BUSY: it is not done. RET may be NULL. */
DOR_MUST_CHECK int
table_kept_snapshot_end(struct table_kept *kept, struct table_kept_snapshot *ret);

struct table_kept_stat {
    uint64_t snapshot_ns; /* of the last one; 0 = there is none */
    uint64_t log_bytes;
    bool snapshot_runs, filling;
    int snapshot_error; /* of the last try */
};
void table_kept_stat(struct table_kept *kept, struct table_kept_stat *ret);

#endif
