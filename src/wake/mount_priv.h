/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mount_priv.h - what the files of a mount share: its snapshots, their files, open handles.
 *
 * Ownership:  a mount owns its snapshots and handles. A snapshot goes when the kernel has forgotten
 *             it and nobody uses it.
 * Threads:    see the fields.
 * Errors:     functions that answer the kernel return 0 or a positive errno, others ours.
 *
 * Inode numbers say everything: (snapshot's id + 1) << 13 | which of its files. Ids are never given
 * twice, so a number means the same file in every mount of the store, for good, and the
 * generation beside it is always 1.
 *
 * Locks, outermost first: snapshot->entering; mount->lock; the server's.
 */
#ifndef DOR_WAKE_MOUNT_PRIV_H
#define DOR_WAKE_MOUNT_PRIV_H

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include <stdatomic.h>

#include "base/thread.h"
#include "wake/pages_priv.h"

enum {
    MOUNT_NODE_BITS = 13,
    MOUNT_NODE_FOLDER = 0, /* of the snapshot */
    MOUNT_NODE_MEMORY = 1,
    MOUNT_NODE_SIDECARS = 2,
    MOUNT_NODE_IMAGE = 3,        /* a folder, or the only file of the frame */
    MOUNT_NODE_SIDECAR = 1 << 7, /* and those that follow */
    MOUNT_NODE_FILE = 1 << 8     /* of the frame, likewise */
};

/* At most so much is asked for at once: one window of pages. */
#define MOUNT_READ_BYTES_MAX (WAKE_WINDOW_PAGES * DOR_PAGE_BYTES)

/* ------------------------------------------------------------------ a snapshot's folder */

struct mount_piece {
    enum dor_frame_piece_kind kind;
    uint64_t offset; /* in its file */
    uint64_t size_bytes;
    uint64_t source; /* PAGES: first page; LITERAL: offset in the frame */
};

struct mount_file {
    char *name;
    unsigned mode;
    uint64_t size_bytes;
    struct mount_piece *pieces; /* in order, without gaps; none of a sidecar */
    size_t piece_count;
    bool is_memory; /* exactly the row of pages: another name of NAME/memory */
};

struct mount_files {
    struct mount_file *items;
    size_t count;
};

/* Does not change once it is made. */
struct mount_tree {
    bool framed, folder; /* NAME/image is there; it is a folder */
    size_t frame_bytes;
    struct mount_files sidecars;
    struct mount_files image;
};

void wake_mount_tree_free(struct mount_tree *tree);
DOR_MUST_CHECK int wake_mount_tree_new(struct wake_snapshot *snapshot, struct mount_tree **ret);

/* ------------------------------------------------------------------ snapshots and handles */

struct mount_snapshot {
    struct dor_snapshot_info info;
    struct base_mutex entering; /* of what follows */
    struct mount_tree *tree;    /* made once */
    struct wake_snapshot *wake;
    uint32_t wake_users;
    void *frame;
    uint32_t frame_users;

    struct mount_snapshot *next; /* from here on: under mount->lock */
    uint64_t lookups;            /* that the kernel has not forgotten */
    uint32_t users;
    uint32_t memory_opens; /* handles of the memory file */
    bool push_wanted, learn_wanted, drop_wanted;
    bool learning;      /* the thread uses the recorder */
    bool pushed;        /* in this wake */
    uint64_t pushed_ns; /* when that ended */

    /*
     * One wake, which begins with the first handle; see mount_push.c. The recorder is changed by
     * who opens that handle or closes the pages, and never while the thread is learning.
     */
    struct wake_recorder *recorder;
    _Atomic bool armed;     /* the next read of memory tells the pusher */
    _Atomic bool recording; /* reads of memory are noted */
    _Atomic uint64_t read_pages;
    _Atomic uint64_t last_read_ns;
    _Atomic uint64_t first_read_page;
};

struct mount_handle {
    struct mount_handle *next, **link; /* under mount->lock */
    struct mount_snapshot *snapshot;
    unsigned node;
    const struct mount_file *file; /* of the frame; NULL for others */
    void *sidecar;
    size_t sidecar_bytes;
    bool cached; /* opened for writing, and kept in the page cache all the same */
};

/* What readdir of the mount's own folder tells, as it was when it was opened. */
struct mount_listing {
    size_t count;
    struct mount_listing_row {
        uint64_t id;
        char name[DOR_NAME_BYTES_MAX + 1];
    } * rows;
};

struct mount_worker {
    struct dor_mount *mount;
    struct base_thread thread;
    struct wake_worker *pages;
    uint8_t *bounce; /* MOUNT_READ_BYTES_MAX */
    int epoll_fd;
    bool started;
};

struct mount_pusher {
    struct base_condition wake; /* with mount->lock */
    struct base_thread thread;
    struct wake_worker *pages;
    uint8_t *bounce;
    bool started, stop;
};

enum { MOUNT_CHAINS = 1024 };

struct dor_mount {
    struct dor_wake_server *server;
    struct dor_mount_options options;
    uint64_t mounted_ns;
    struct fuse_session *mounting; /* has mounted, and will unmount; NULL when it has */
    struct fuse_session *serving;  /* on a descriptor of its own */
    int ended_fd, stop_fd;
    _Atomic bool stopping; /* read by the workers without a lock: they end soon enough */
    _Atomic uint64_t answer_count; /* see mount.c */
    struct base_mutex lock;
    struct mount_snapshot *chains[MOUNT_CHAINS]; /* by id */
    struct mount_handle *handles;
    struct mount_worker *workers;
    size_t worker_count;
    struct mount_pusher push;
};

/* The worker that runs on this thread. */
extern _Thread_local struct mount_worker *wake_mount_worker;

extern const struct fuse_lowlevel_ops wake_mount_ops;

/* What to tell the kernel for an error of ours; the words go to the log when it is no usual one. */
int wake_mount_errno(int err, const char *what);

/*
 * The snapshot NAME as it is in the store now, held; a new one is added, with LOOKUPS more of the
 * kernel's.
 */
DOR_MUST_CHECK int wake_mount_find(
    struct dor_mount *mount, const char *name, unsigned lookups, struct mount_snapshot **ret);
/* The snapshot that an inode number is of, held; NULL when it is not known. */
struct mount_snapshot *wake_mount_hold(struct dor_mount *mount, uint64_t inode);
void wake_mount_release(struct dor_mount *mount, struct mount_snapshot *snapshot);
void
wake_mount_add_lookups(struct dor_mount *mount, struct mount_snapshot *snapshot, int64_t count);
/* What the snapshot's folder has, which is found out when first asked for. */
DOR_MUST_CHECK int wake_mount_enter(
    struct dor_mount *mount, struct mount_snapshot *snapshot, const struct mount_tree **ret);
/* Open for reading pages until _pages_close(). */
DOR_MUST_CHECK int
wake_mount_pages_open(struct dor_mount *mount, struct mount_snapshot *snapshot);
void wake_mount_pages_close(struct mount_snapshot *snapshot);
/* Literal bytes of the frame are there until _frame_close(). Its pages are open. */
DOR_MUST_CHECK int wake_mount_frame_open(struct mount_snapshot *snapshot);
void wake_mount_frame_close(struct mount_snapshot *snapshot);
DOR_MUST_CHECK int wake_mount_list(struct dor_mount *mount, struct mount_listing **ret);
void wake_mount_listing_free(struct mount_listing *listing);

/* All of a handle that open made. */
void wake_mount_handle_free(struct dor_mount *mount, struct mount_handle *handle);

/* Answer a read of pages, of a file of the frame, or of a sidecar. */
void wake_mount_read(
    struct dor_mount *mount, fuse_req_t request, struct mount_handle *handle, uint64_t offset,
    size_t size_bytes);

/* ------------------------------------------------------------------ the working set */

DOR_MUST_CHECK int wake_mount_push_start(struct dor_mount *mount);
void wake_mount_push_stop(struct dor_mount *mount);
/* A handle of the memory file is open, or goes: its pages are then closed, at once or later. */
void wake_mount_push_opened(struct dor_mount *mount, struct mount_snapshot *snapshot);
void wake_mount_push_closed(struct dor_mount *mount, struct mount_snapshot *snapshot);
/* Pages of memory were asked for. */
void wake_mount_push_read(
    struct dor_mount *mount, struct mount_snapshot *snapshot, uint64_t first_page,
    unsigned page_count);
/* Who copies the file does not tell what a guest needs. */
void wake_mount_push_forget(struct mount_snapshot *snapshot);
/* Somebody wrote to the page cache: have the file dropped from it. */
void wake_mount_push_drop(struct dor_mount *mount, struct mount_snapshot *snapshot);

#endif
