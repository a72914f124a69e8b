/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.h - the snapshot store: images of sandbox memory, kept in a few per cent of their size.
 *
 * A store keeps snapshots under names, in a directory or in memory files. Pages that are zero,
 * equal to a stored page or similar to one cost nothing, a reference or a patch; the rest is
 * compressed in small groups so that any single page can still be had on its own.
 *
 * Ownership:  dor_store_open() and friends give a handle that the caller closes; a snapshot
 *             handle must be closed before its store. Strings in results belong to the result.
 * Threads:    one handle, one thread at a time; different handles, any threads and processes.
 *             One writer per store at a time (a second gets DOR_E_BUSY), any number of readers.
 * Errors:     0 or a negative enum dor_errno; dor_err_message() has the words.
 */
#ifndef DORMOUSE_STORE_H
#define DORMOUSE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dormouse/err.h>
#include <dormouse/image.h>
#include <dormouse/inspect.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DOR_NAME_BYTES_MAX 200
#define DOR_SIDECARS_MAX   64
#define DOR_PATH_BYTES_MAX 4095

/* SnapStore's region types: not mapped by the runtime, mapped read/execute, mapped writable. */
enum dor_region_type { DOR_NRT = 0, DOR_RX_MAP = 1, DOR_W_MAP = 2, DOR_REGION_TYPES = 3 };

/* How a page of a snapshot is kept. DOR_PAGE_REFERENCE: as a block of a root image. */
enum dor_page_kind {
    DOR_PAGE_ZERO = 0,
    DOR_PAGE_RAW = 1,
    DOR_PAGE_PATCHED = 2,
    DOR_PAGE_REFERENCE = 3,
    DOR_PAGE_KINDS = 4
};

struct dor_store;
struct dor_snapshot;

/* ------------------------------------------------------------------ options, opening */

/*
 * Options are name/value pairs as in options.def ("codec=lz4", "rx_map.chunk_bytes=64KiB").
 * dor_store_options_help() prints the table. Values given at creation are kept in the store as its
 * defaults; values given at open hold for that handle.
 */
struct dor_options;
DOR_PUBLIC DOR_MUST_CHECK int dor_options_new(struct dor_options **ret);
DOR_PUBLIC void dor_options_free(struct dor_options *options);
/*
 * DOR_E_USAGE for an unknown name or a value out of range; the message says which values are
 * fine.
 */
DOR_PUBLIC DOR_MUST_CHECK int
dor_options_set(struct dor_options *options, const char *name, const char *value);
/* Calls VISIT for each option: name, default, unit and one line of text. */
DOR_PUBLIC void dor_options_each(
    void (*visit)(
        void *context, const char *name, const char *preset, const char *unit,
        const char *text),
    void *context);

enum dor_open_mode { DOR_OPEN_READ, DOR_OPEN_WRITE };

/* Make an empty store in DIRECTORY (made if missing). DOR_E_EXISTS when a store is there. */
DOR_PUBLIC DOR_MUST_CHECK int
dor_store_create(const char *directory, const struct dor_options *options);
/*
 * Open the store in DIRECTORY. DOR_OPEN_WRITE takes the writer's lock (DOR_E_BUSY when another
 * process has it) and clears what a killed writer left. DOR_E_NOT_FOUND: no store there;
 * DOR_E_UNSUPPORTED: a store of another format version; DOR_E_CORRUPT: damaged catalog.
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_store_open(
    const char *directory, enum dor_open_mode mode, const struct dor_options *options,
    struct dor_store **ret);
/* A store whose files are memory files (memfd): same interface, gone when closed. */
DOR_PUBLIC DOR_MUST_CHECK int
dor_store_open_memory(const struct dor_options *options, struct dor_store **ret);
DOR_PUBLIC void dor_store_close(struct dor_store *store);
/*
 * Look whether a writer has changed the store since this handle, opened for reading, read its
 * catalog, and if so read it again. Snapshots that are open stay as they are.
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_store_refresh(struct dor_store *store);

/* ------------------------------------------------------------------ put */

/* Called now and then with bytes done; a return other than 0 stops the work with DOR_E_BUSY. */
typedef int dor_progress_fn(void *context, uint64_t done_bytes, uint64_t total_bytes);

struct dor_sidecar {
    const char *name; /* plain file name, as checked by dor_name_check() */
    const void *data;
    size_t size_bytes;
};

struct dor_put {
    int image_fd; /* a regular file, or a memfd; read with pread, holes are zeros */
    /* or, when not NULL, where the pages come from; next_data may be NULL: no holes */
    const struct dor_page_source *source;
    bool diff; /* pages outside the source's data are the parent's, which must be named */
    const char *domain; /* trust domain, NULL = "default": pages are shared only inside one */
    /*
     * Snapshot of the same domain to prefer as base, or NULL: then the newest is tried, and counts
     * as parent when most pages are where they are in it.
     */
    const char *parent;
    bool replace;                /* replace a snapshot of the same name, atomically */
    const uint8_t *region_types; /* one enum dor_region_type per page, or NULL = all NRT */
    const uint8_t *page_classes; /* one enum dor_page_class per page, or NULL = not known */
    const uint8_t *dropped;      /* not 0 for each page to be stored as zeros; or NULL = none */
    const void *frame; /* of the image (dor_image_info), kept for get, at most 1 GiB; or NULL */
    size_t frame_bytes;
    const struct dor_sidecar *sidecars;
    size_t sidecar_count;
    dor_progress_fn *progress;
    void *progress_context;
};

struct dor_kind_bytes {
    uint64_t logical_bytes;
    uint64_t zero_bytes;           /* logical bytes of zero pages */
    uint64_t exact_bytes;          /* logical bytes of pages equal to one stored before */
    uint64_t patched_bytes;        /* logical bytes of pages stored as patches */
    uint64_t raw_bytes;            /* logical bytes of pages stored plain */
    uint64_t reference_bytes;      /* logical bytes of pages found in root images */
    uint64_t patched_stored_bytes; /* what the new patches take in segments */
    uint64_t raw_stored_bytes;     /* what the new plain pages take in segments */
};

struct dor_put_result {
    struct dor_kind_bytes total;
    struct dor_kind_bytes by_region_type[DOR_REGION_TYPES];
    uint64_t pages_by_class[DOR_CLASSES]; /* all 0 when classes were not given */
    uint64_t dropped_bytes; /* logical bytes of pages that held data and were stored as zeros */
    /* growth of segments and snapshot files; the catalog's 20 to 200 bytes come on top */
    uint64_t added_bytes;
};

/*
 * 0, or DOR_E_USAGE with words: 1 to 200 bytes, no '/', no control characters, valid UTF-8, not
 * "." or "..".
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_name_check(const char *name);
/*
 * Store the image under NAME; on return it is on disk. DOR_E_EXISTS: the name is taken and replace
 * is not set; DOR_E_NOT_FOUND: no such parent; DOR_E_USAGE: an empty or unaligned image, a bad
 * name; DOR_E_NO_SPACE, DOR_E_IO: the store is as before.
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_store_put(
    struct dor_store *store, const char *name, const struct dor_put *put,
    struct dor_put_result *ret);

/* ------------------------------------------------------------------ reading */

struct dor_snapshot_info {
    char name[DOR_NAME_BYTES_MAX + 1];
    char domain[DOR_NAME_BYTES_MAX + 1];
    char parent[DOR_NAME_BYTES_MAX + 1]; /* as given to put; empty when none */
    uint64_t
        generation; /* 0, or one more than that of the snapshot it was put after; see put */
    uint64_t id;
    uint64_t created_ns; /* realtime */
    uint64_t woken_ns;   /* last get or open for reading that was recorded; 0 = never */
    uint64_t logical_bytes;
    uint64_t recipe_bytes; /* the snapshot's own file: recipe and sidecars */
    uint64_t sidecar_count;
    struct dor_put_result put; /* as it was when put */
};

/* Calls VISIT once per snapshot in name order; a non-zero return of VISIT ends the walk with it. */
DOR_PUBLIC DOR_MUST_CHECK int dor_store_list(
    struct dor_store *store, int (*visit)(void *context, const struct dor_snapshot_info *info),
    void *context);
/* The id of the snapshot NAME: it is given once and never again. DOR_E_NOT_FOUND. */
DOR_PUBLIC DOR_MUST_CHECK int
dor_store_find(struct dor_store *store, const char *name, uint64_t *ret_id);
/* What the catalog knows of the snapshot NAME; woken_ns is not looked up. DOR_E_NOT_FOUND. */
DOR_PUBLIC DOR_MUST_CHECK int
dor_store_find_info(struct dor_store *store, const char *name, struct dor_snapshot_info *ret);
DOR_PUBLIC DOR_MUST_CHECK int
dor_snapshot_open(struct dor_store *store, const char *name, struct dor_snapshot **ret);
DOR_PUBLIC void dor_snapshot_close(struct dor_snapshot *snapshot);
DOR_PUBLIC const struct dor_snapshot_info *
dor_snapshot_info(const struct dor_snapshot *snapshot);
/*
 * Kind and region type of page PAGE_INDEX (< logical_bytes / 4096). A page may be stored with those
 * of another type, where one of them held the same or nearly: the type told here is its own.
 */
DOR_PUBLIC enum dor_page_kind
dor_snapshot_page_kind(const struct dor_snapshot *snapshot, uint64_t page_index);
DOR_PUBLIC enum dor_region_type
dor_snapshot_page_region_type(const struct dor_snapshot *snapshot, uint64_t page_index);
/* One page, verified, into PAGE (4096 bytes). */
DOR_PUBLIC DOR_MUST_CHECK int
dor_snapshot_read_page(struct dor_snapshot *snapshot, uint64_t page_index, void *page);
/* The same for PAGE_COUNT pages that follow each other; neighbours are decoded together. */
DOR_PUBLIC DOR_MUST_CHECK int dor_snapshot_read_pages(
    struct dor_snapshot *snapshot, uint64_t first_page, size_t page_count, void *pages);
/*
 * The class of every page, one enum dor_page_class each, in malloc'ed memory that the caller frees;
 * DOR_E_NOT_FOUND: they were not known when it was put.
 */
DOR_PUBLIC DOR_MUST_CHECK int
dor_snapshot_read_classes(struct dor_snapshot *snapshot, uint8_t **ret);
/* The frame the image was put with (see dor_frame_write()), likewise; DOR_E_NOT_FOUND: none. */
DOR_PUBLIC DOR_MUST_CHECK int
dor_snapshot_read_frame(struct dor_snapshot *snapshot, void **ret_data, size_t *ret_size_bytes);
/* Whether page PAGE_INDEX is stored as the same page in both, of one store and domain. */
DOR_PUBLIC bool dor_snapshot_same_page(
    const struct dor_snapshot *left, const struct dor_snapshot *right, uint64_t page_index);
/*
 * The pages that are not zero, verified, to SINK, in the order of their storage, some neighbours
 * together. After a gc has moved files meanwhile, pages may be written again. SINK must not use
 * this snapshot's store.
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_snapshot_write_pages(
    struct dor_snapshot *snapshot, const struct dor_page_sink *sink, dor_progress_fn *progress,
    void *progress_context);
/*
 * The whole image, verified, to the empty file FD: zero pages become holes. Not synced.
 * On an error the file holds no wrong bytes, only missing ones.
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_snapshot_write_image(
    struct dor_snapshot *snapshot, int fd, dor_progress_fn *progress, void *progress_context);
/* Sidecar INDEX (< sidecar_count): verified copy in malloc'ed memory, the caller frees. */
DOR_PUBLIC DOR_MUST_CHECK int dor_snapshot_read_sidecar(
    struct dor_snapshot *snapshot, size_t index, char name[DOR_NAME_BYTES_MAX + 1],
    void **ret_data, size_t *ret_size_bytes);

/* ------------------------------------------------------------------ working sets */

/* Pages that a wake needs, one after another in the image. */
struct dor_working_set_run {
    uint64_t first_page;
    uint32_t page_count;
};

/* What wakes taught: a list of pages beside the snapshot; pages of zeros are not in it. */
struct dor_working_set {
    uint64_t wakes; /* that it has learnt from */
    uint64_t page_count;
    struct dor_working_set_run *runs; /* in the order of need */
    size_t run_count;
    /* Pages by how many of the last wakes needed them: a third on, two thirds on, all. */
    uint64_t pages_by_share[3];
    uint64_t candidate_pages; /* needed too seldom to be in it, or not known to be */
    uint64_t file_bytes;      /* what the list takes in the store */
};

/*
 * The working set of snapshot NAME; DOR_E_NOT_FOUND: no such snapshot, or nothing learnt yet;
 * DOR_E_CORRUPT: its file is damaged, which costs only the lesson.
 */
DOR_PUBLIC DOR_MUST_CHECK int
dor_working_set_read(struct dor_store *store, const char *name, struct dor_working_set *ret);
DOR_PUBLIC void dor_working_set_fini(struct dor_working_set *set);
/*
 * Forget it: the next wake teaches anew. A handle opened for reading is enough, as wakes learn with
 * one. DOR_E_NOT_FOUND as above.
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_working_set_forget(struct dor_store *store, const char *name);

/* ------------------------------------------------------------------ explain, stat */

struct dor_explain_sharer {
    char name[DOR_NAME_BYTES_MAX + 1];
    uint64_t shared_bytes; /* stored bytes used by both */
};

struct dor_explain {
    struct dor_kind_bytes total;
    struct dor_kind_bytes by_region_type[DOR_REGION_TYPES];
    struct dor_kind_bytes by_class[DOR_CLASSES]; /* all unknown when classes were not given */
    uint64_t recipe_bytes;
    uint64_t exclusive_bytes; /* stored bytes that only this snapshot uses, recipe included */
    uint64_t shared_bytes;    /* stored bytes that others use too */
    uint64_t freed_bytes; /* what rm and gc would give back: exclusive bytes in whole groups */
    struct dor_explain_sharer *sharers; /* most shared first */
    size_t sharer_count;
};

/*
 * What NAME is made of now. Kinds count the snapshot's pages: exact = a page whose stored page is
 * used by an earlier page or snapshot; stored bytes of a group are split evenly over its pages.
 */
DOR_PUBLIC DOR_MUST_CHECK int
dor_store_explain(struct dor_store *store, const char *name, struct dor_explain *ret);
DOR_PUBLIC void dor_explain_fini(struct dor_explain *explain);

struct dor_stat_type {
    uint64_t raw_pages, patched_pages; /* stored pages */
    uint64_t raw_bytes, patched_bytes; /* what they take in segments */
    uint64_t table_bytes;
    uint64_t segments, groups;
};

struct dor_stat {
    uint64_t snapshots, domains;
    uint64_t logical_bytes;
    uint64_t stored_bytes; /* all files of the store */
    uint64_t segment_bytes, table_bytes, recipe_bytes, catalog_bytes;
    uint64_t roots, root_bytes; /* root images, and what the store keeps of them */
    uint64_t working_sets, working_set_bytes;
    uint64_t
        index_bytes; /* RAM of the indexes this handle has built, not part of stored_bytes */
    uint64_t pages_by_kind[DOR_PAGE_KINDS]; /* over all snapshots' recipes as they were put */
    uint64_t exact_pages;
    uint64_t pages_by_class[DOR_CLASSES]; /* over the snapshots whose classes are known */
    struct dor_stat_type by_region_type[DOR_REGION_TYPES];
};

DOR_PUBLIC DOR_MUST_CHECK int dor_store_stat(struct dor_store *store, struct dor_stat *ret);

/* ------------------------------------------------------------------ upkeep */

DOR_PUBLIC DOR_MUST_CHECK int dor_store_remove(struct dor_store *store, const char *name);

struct dor_gc {
    bool squeeze;            /* re-pack what was not woken lately at a higher level */
    bool cluster;            /* store the pages of working sets together first */
    uint64_t squeeze_age_ns; /* lately: woken or put less than this ago */
    uint64_t work_bytes_max; /* stop after rewriting about this much; 0 = no limit */
    dor_progress_fn *progress;
    void *progress_context;
};

struct dor_gc_result {
    uint64_t before_bytes, after_bytes;
    uint64_t dead_pages, live_pages;
    uint64_t rewritten_segments;
    uint64_t clustered_pages; /* stored pages and patches that were moved together */
    bool complete;            /* false: work_bytes_max or progress ended it early; call again */
};

/* Give back what no recipe uses. Readers go on; a kill at any point loses nothing. */
DOR_PUBLIC DOR_MUST_CHECK int
dor_store_gc(struct dor_store *store, const struct dor_gc *gc, struct dor_gc_result *ret);

/* One finding of check: FILE is the store's file, DETAIL says what and where. */
struct dor_finding {
    const char *file;
    const char *detail;
    const char *snapshot; /* affected snapshot, NULL when none or not known */
};

struct dor_check {
    bool repair; /* rebuild what can be, keep damaged files aside as bad.NAME */
    void (*report)(void *context, const struct dor_finding *finding);
    void *report_context;
    dor_progress_fn *progress;
    void *progress_context;
};

struct dor_check_result {
    uint64_t findings;
    uint64_t snapshots, damaged_snapshots, quarantined_snapshots;
    uint64_t groups, pages, bytes; /* verified */
};

/*
 * Reads and verifies everything. 0 even with findings (see ret->findings); an error when it
 * could not look. An I/O error is a finding, but ends a repair: it may be a passing one.
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_store_check(
    struct dor_store *store, const struct dor_check *check, struct dor_check_result *ret);
/*
 * The same for a store that dor_store_open() refuses (damaged catalog, leftovers): opens DIRECTORY,
 * checks, and with check->repair brings it back to a state that opens.
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_store_check_directory(
    const char *directory, const struct dor_check *check, struct dor_check_result *ret);

/*
 * Copy snapshot NAME of SOURCE into TARGET (opened for writing) as TARGET_NAME by moving whole
 * groups as they are: nothing is decoded and encoded again. Groups that TARGET has are not copied.
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_store_copy(
    struct dor_store *source, const char *name, struct dor_store *target,
    const char *target_name, struct dor_put_result *ret);

/* ------------------------------------------------------------------ root images */

/*
 * A root image is the file that sandboxes boot from: a disk image that nobody writes to any more.
 * Clean pages of a guest's page cache are 4 KiB blocks of it. Once it is added, put stores such
 * pages as references, which take next to nothing, and the file must stay where it is, as it is:
 * whoever reads a snapshot reads these pages from it. A file that is gone or changed is an error
 * that names it, never wrong bytes.
 */
enum dor_root_state {
    DOR_ROOT_PRESENT = 0, /* size and change time are those of its registration */
    DOR_ROOT_CHANGED = 1,
    DOR_ROOT_MISSING = 2
};

struct dor_root_info {
    char name[DOR_NAME_BYTES_MAX + 1];
    char path[DOR_PATH_BYTES_MAX + 1];   /* absolute, without symbolic links */
    char domain[DOR_NAME_BYTES_MAX + 1]; /* the only one that may refer to it; empty = all */
    uint32_t id;
    uint64_t size_bytes;
    uint64_t modified_ns; /* the file's change time (mtime), realtime */
    uint64_t added_ns;
    uint64_t digest;     /* XXH3-64 of the XXH3-64 of all its whole blocks */
    uint64_t file_bytes; /* what the store keeps of it: 8 bytes a block or less */
};

struct dor_root_add {
    const char *path;
    const char *name; /* NULL = the last part of the path */
    /*
     * Only snapshots of this domain may refer to it, NULL = any. Whoever sees what a put adds can
     * guess a page and learn whether it is in an image that the put may refer to: an image that
     * holds one tenant's secrets belongs in that tenant's domain.
     */
    const char *domain;
    dor_progress_fn *progress;
    void *progress_context;
};

/*
 * Read the image and register it. With the name of an image that is registered: when the content
 * is the same, its path and change time are noted anew. DOR_E_EXISTS: another image has the name;
 * DOR_E_BUSY: the file changed meanwhile; DOR_E_USAGE: no regular file, or shorter than a block.
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_store_root_add(
    struct dor_store *store, const struct dor_root_add *add, struct dor_root_info *ret);
/*
 * Forget the image NAME, a name or a path. DOR_E_BUSY while snapshots refer to it, with their
 * number and some names; with ABSORB the blocks they need are stored as pages first, all or
 * nothing, so that the file is needed no more.
 */
DOR_PUBLIC DOR_MUST_CHECK int
dor_store_root_remove(struct dor_store *store, const char *name, bool absorb);
/* Calls VISIT once per image in the order of registration; a non-zero return ends it. */
DOR_PUBLIC DOR_MUST_CHECK int dor_store_root_list(
    struct dor_store *store,
    int (*visit)(void *context, const struct dor_root_info *info, enum dor_root_state state),
    void *context);

#ifdef __cplusplus
}
#endif

#endif
