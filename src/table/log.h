/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h - the log of a table: every change, so that a table outlives its processes. Changes are
 * gathered in memory and written once a turn of the worker's loop, before any reply to them goes
 * out. The format is in docs/formats/table-log.md.
 *
 *     change, change ... -> frames in memory --table_log_flush()--> file --sync--> disk
 *                                                                          |
 *         always: before the replies; everysec: by a thread, once a second-+
 *
 * Room in the file is reserved before a command changes anything, so that a full disk refuses
 * commands and loses none.
 *
 * Ownership:  a log owns its descriptor; a syncer outlives the logs that use it.
 * Threads:    a log: the worker's; the syncer's thread is its own.
 * Errors:     DOR_E_NO_SPACE, DOR_E_IO of the disk; DOR_E_CORRUPT for what is no log, or a
 *             damaged one.
 */
#ifndef DOR_TABLE_LOG_H
#define DOR_TABLE_LOG_H

#include <dormouse/err.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "table/table.h"

enum table_log_when {                     /* changes are on disk */
                      TABLE_LOG_OFF,      /* never: there is no log */
                      TABLE_LOG_EVERYSEC, /* within a second */
                      TABLE_LOG_ALWAYS,   /* before they are answered */
};

enum { TABLE_LOG_HEADER_BYTES = 64, TABLE_LOG_FRAME_BYTES = 24 };
#define TABLE_LOG_EFFECTS_MAX (UINT32_C(1) << 30) /* bytes in one frame */

struct table_log;

/* ---- syncer ---- */

/* A thread that waits for the disk, for all logs of a process; it starts with the first. */
struct table_syncer;
DOR_MUST_CHECK int table_syncer_new(struct table_syncer **ret);
void table_syncer_free(struct table_syncer *syncer); /* NULL is fine */
/* Readable after a log for which table_log_flush() said DOR_E_BUSY is on disk. The syncer's. */
int table_syncer_fd(const struct table_syncer *syncer);
void table_syncer_clear(struct table_syncer *syncer); /* have seen it */

/* ---- opening ---- */

struct table_log_options {
    const char *tenant;
    enum table_log_when when; /* not TABLE_LOG_OFF */
    /* Needed for TABLE_LOG_EVERYSEC. With TABLE_LOG_ALWAYS: nobody else waits for this log's disk;
     * NULL: table_log_flush() waits itself. */
    struct table_syncer *syncer;
};

/*
 * Make FD, an empty file, the log NUMBER of TENANT; what it holds already is not on disk after
 * it.
 */
DOR_MUST_CHECK int table_log_create(
    int fd, const char *tenant, uint64_t number, uint64_t first_sequence, bool after_snapshot);

/*
 * The log in FD, taken over also on error. Before anything is written table_log_replay() reads
 * it.
 */
DOR_MUST_CHECK int
table_log_open(int fd, const struct table_log_options *options, struct table_log **ret);
/* What is gathered is written, if that can be. NULL is fine. */
void table_log_close(struct table_log *log);

struct table_log_replayed {
    uint64_t frames, effects;
    uint64_t bytes;     /* of the log, up to its end */
    uint64_t cut_bytes; /* behind it, which make no frame */
};

/*
 * Do to TABLE, whose log it is from now on, what the log says, and cut the log at its end, where
 * it goes on. Without APPLY the table has all of it: only find the end. RET may be NULL.
 * DOR_E_CORRUPT: the log is damaged, and TABLE is as it was before the damage.
 */
DOR_MUST_CHECK int table_log_replay(
    struct table_log *log, struct table *table, bool apply, struct table_log_replayed *ret);

/* ---- writing ---- */

/* The table's hook: CONTEXT is the log. Outside of a group each change is a frame. */
void table_log_change(
    void *context, enum table_change change, const struct table_key *key,
    const struct table_value *value);

/*
 * Changes from here to the end are one frame, or none if they are dropped, as they must be when
 * the table's transaction is given up. May be nested.
 */
void table_log_begin(struct table_log *log);
void table_log_commit(struct table_log *log);
void table_log_drop(struct table_log *log); /* of all groups that are open */

/* What the open frame holds, 0 if there is none; and to drop what came since. */
size_t table_log_savepoint(const struct table_log *log);
void table_log_rollback(struct table_log *log, size_t savepoint);

/*
 * Before a command that may write BYTES (all its arguments): is there room for it on disk? If
 * not, it must be refused: DOR_E_NO_SPACE, DOR_E_IO with words. Asked again it may be there.
 */
DOR_MUST_CHECK int table_log_room_slow(struct table_log *log, uint64_t bytes);

/*
 * Once a turn, before replies: write what was gathered. 0: replies may go. DOR_E_BUSY: those of
 * this turn must wait until table_log_is_on_disk() holds of the present table_log_sequence(); the
 * syncer's descriptor says when to ask. Other errors, each said once: what this turn's replies
 * tell may not be safe, so close their connections. With TABLE_LOG_EVERYSEC what could not be
 * written waits for the next time and is no error, but new writes are refused.
 */
DOR_MUST_CHECK int table_log_flush_slow(struct table_log *log);

/* The number that the next frame gets; and whether all before it are on disk. */
uint64_t table_log_sequence(const struct table_log *log);
bool table_log_is_on_disk(const struct table_log *log, uint64_t sequence);

struct table_log_fill {      /* the part of a log that is looked at often */
    uint64_t reserved_bytes; /* up to where the file may be written */
    uint64_t end_bytes;      /* of the file, with what is gathered */
    bool pending;            /* something is to be written, or waits for the disk */
    bool failed;
};

/* Beyond the commands' bytes: for keys that expire or make room, and each effect's head. */
#define TABLE_LOG_SLACK_BYTES (64 << 10)

static inline int
table_log_room(struct table_log *log, uint64_t bytes)
{
    const struct table_log_fill *fill = (const struct table_log_fill *)log;
    if (__builtin_expect(
            !fill->failed &&
                fill->end_bytes + bytes + TABLE_LOG_SLACK_BYTES <= fill->reserved_bytes,
            1))
        return 0;
    return table_log_room_slow(log, bytes);
}

static inline int
table_log_flush_before_reply(struct table_log *log)
{
    const struct table_log_fill *fill = (const struct table_log_fill *)log;
    return fill->pending ? table_log_flush_slow(log) : 0;
}

/* ---- snapshots ---- */

/*
 * All changes so far are in the present log and on disk; those from now on go to FD, an empty
 * file that is taken over also on error, which becomes the log NUMBER. On an error all is as
 * before.
 */
DOR_MUST_CHECK int table_log_rotate(struct table_log *log, int fd, uint64_t number);
/* The snapshot from the moment of the last rotation is safe: what was wrong before it is over. */
void table_log_snapshot_done(struct table_log *log);

struct table_log_stat {
    uint64_t number;
    uint64_t bytes; /* of the present log */
    uint64_t next_sequence;
    uint64_t synced_sequence; /* the first that is perhaps not on disk */
    uint64_t frames, syncs;   /* since it was opened */
    int error;                /* of the last write or sync; 0 */
    bool needs_snapshot;      /* only a snapshot makes it safe again */
};
void table_log_stat(const struct table_log *log, struct table_log_stat *ret);

#endif
