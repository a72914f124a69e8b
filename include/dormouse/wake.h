/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wake.h - waking snapshots: giving a sandbox its pages back when it asks for them, so that it runs
 * before its memory is there. A page server reads the store; the ways in (userfaultfd, mount,
 * offload) stand on it.
 *
 * Ownership:  the caller closes what it opened, the ways in before their server.
 * Threads:    a server: any. Others as said at each.
 * Errors:     0 or a negative enum dor_errno; dor_err_message() has the words.
 */
#ifndef DORMOUSE_WAKE_H
#define DORMOUSE_WAKE_H

#include <stdbool.h>
#include <stdint.h>

#include <dormouse/err.h>
#include <dormouse/store.h>

#ifdef __cplusplus
extern "C" {
#endif

struct dor_wake_server;

/* All zero: the defaults. */
struct dor_wake_options {
    uint64_t cache_bytes; /* of decoded pages in memory, at least 1 MiB; 0 = 256 MiB */
    /* Of the cache, how much pages of each region type may fill, 1 to 100; 0 = 100. */
    uint8_t share_percent[DOR_REGION_TYPES];
};

struct dor_wake_stat {
    uint64_t cache_bytes, cache_used_bytes;
    uint64_t hits;      /* pages found in the cache */
    uint64_t waits;     /* pages that another thread was reading */
    uint64_t misses;    /* pages read from the store */
    uint64_t zeros;     /* zero pages handed out */
    uint64_t evictions; /* pages that made room for others */
    uint64_t bypasses;  /* pages read around a cache whose pages are all held */
    uint64_t failures;  /* pages that could not be read */
    uint64_t snapshots; /* open now */
};

/*
 * A page server over the store in DIRECTORY. It follows the store: snapshots that are put later can
 * be woken too. OPTIONS may be NULL.
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_wake_server_open(
    const char *directory, const struct dor_wake_options *options,
    struct dor_wake_server **ret);
DOR_PUBLIC void dor_wake_server_close(struct dor_wake_server *server);
DOR_PUBLIC void dor_wake_server_stat(struct dor_wake_server *server, struct dor_wake_stat *ret);

/* ------------------------------------------------------------------ userfaultfd */

/* Where the thread is that answers a sandbox's faults; other values are 1 + a core's number. */
#define DOR_WAKE_CORE_FOLLOW 0    /* on the core of who has the fault */
#define DOR_WAKE_CORE_ANY    (-1) /* where the system puts it */

/* All zero but the path: the defaults. */
struct dor_wake_uffd {
    const char *socket_path; /* to listen at; an abandoned socket is replaced */
    uint32_t socket_mode;    /* its permissions; 0 = 0600 */
    uint32_t clients_max;    /* sandboxes at a time; 0 = 1024 */
    uint64_t window_bytes;   /* given around a fault: 4 KiB (nothing) to 256 KiB; 0 = 64 KiB */
    uint64_t handshake_ns;   /* a sandbox's time to say what it wants; 0 = 10 s */
    bool no_working_set;     /* give nothing before it is asked for */
    bool fill;               /* give what nobody asked for too, in the background */
    bool hold;               /* who needs a page that cannot be had waits; otherwise SIGBUS */
    bool once;               /* end with the last sandbox; one alone is expected */
    int core;                /* DOR_WAKE_CORE_... */
    /* Called a few times a second: not 0 = give all sandboxes all their pages, then end. */
    int (*stop)(void *context);
    void *stop_context;
    /* The socket can be connected to. May be NULL. */
    void (*ready)(void *context);
    void *ready_context;
};

struct dor_wake_uffd_stat {
    uint64_t clients; /* sandboxes that were taken in */
    uint64_t refused; /* and those that made no sense */
    uint64_t ended;
    uint64_t faults;       /* that were answered */
    uint64_t copied_pages; /* given for a fault, those around included */
    uint64_t pushed_pages; /* given ahead */
    uint64_t zero_pages;   /* given as zeros */
    uint64_t removals;     /* ranges that sandboxes let go */
    uint64_t lost_pages;   /* that could not be had */
    uint64_t adopted;      /* sandboxes taken over from a process that died */
};

/*
 * Wake snapshot NAME of the store in DIRECTORY in all sandboxes that connect to a socket and hand
 * over their userfaultfd, as Firecracker does. The calling process, which must have one thread
 * alone, becomes the keeper of the sandboxes' descriptors and forks the process that serves them;
 * should that die, it is replaced and no sandbox notices but by the delay. OPTIONS and RET may be
 * NULL. DOR_E_BUSY, DOR_E_EXISTS: the socket's path is taken.
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_wake_uffd_serve(
    const char *directory, const struct dor_wake_options *options, const char *name,
    const struct dor_wake_uffd *how, struct dor_wake_uffd_stat *ret);

/* ------------------------------------------------------------------ mounting */

/*
 * A mount: every snapshot of the server's store as a folder of read-only files, for whatever maps
 * or reads files.
 *
 *     NAME/memory      the row of pages
 *     NAME/sidecars/   the sidecars
 *     NAME/image       the image as it was put, a file or a folder; a raw image is its memory
 *
 * The folder follows the store. What is open stays readable when its snapshot is removed. A page
 * that cannot be had is EIO, and SIGBUS for who mapped it; after the mount's end everything is
 * ENOTCONN.
 */
struct dor_mount;

struct dor_mount_options {
    bool allow_other; /* other users may look; otherwise only who mounts may */
    /*
     * Of files opened for writing, which QEMU before 8.2 does, only private mappings can be made,
     * and each empties the page cache of the file. Set, neither holds: then who maps such a file
     * shared and writes to it changes what others see, until the kernel tries to write it back.
     */
    bool trust_writers;
    /*
     * Who opens a memory file is a guest that begins now, with nothing of it in the page cache: its
     * working set is given at once, and the kernel reads no page that was not asked for. Copying
     * files is slow then.
     */
    bool one_guest;
    unsigned thread_count; /* that serve; 0 = chosen by the machine */
};

/* Mounts on DIRECTORY and serves, by threads of its own. OPTIONS may be NULL. */
DOR_PUBLIC DOR_MUST_CHECK int dor_mount_open(
    struct dor_wake_server *server, const char *directory,
    const struct dor_mount_options *options, struct dor_mount **ret);
/* Readable once somebody else has unmounted it; owned by MOUNT. */
DOR_PUBLIC int dor_mount_ended_fd(const struct dor_mount *mount);
/* Take it out of the folder tree; what is open is served on. */
DOR_PUBLIC void dor_mount_detach(struct dor_mount *mount);
/* Unmounts and ends: what is still open gives errors from then on. NULL is fine. */
DOR_PUBLIC void dor_mount_close(struct dor_mount *mount);

#ifdef __cplusplus
}
#endif
#endif
