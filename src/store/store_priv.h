/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_priv.h - what an open store is, for the files of this room.
 *
 * Ownership:  the store owns everything it points to; see the fields.
 * Threads:    one store handle, one thread.
 * Errors:     as said at each function.
 */
#ifndef DOR_STORE_STORE_PRIV_H
#define DOR_STORE_STORE_PRIV_H

#include <stdatomic.h>

#include "chunk/codec.h"
#include "store/catalog.h"
#include "store/index.h"
#include "store/medium.h"
#include "store/options.h"
#include "store/table.h"

struct store_index_slot {
    uint32_t domain;
    unsigned type;
    struct store_index *index;
};

struct dor_store {
    struct store_medium *medium;
    struct store_catalog *catalog;
    struct store_options options;
    struct dor_options *given; /* options of this handle, re-applied on reload */
    bool writable;
    bool broken; /* a roll-back failed: only closing helps */
    struct chunk_coder *coder;
    struct store_index_slot *indexes;
    size_t index_count;
    uint8_t *stored; /* scratch: a group as stored, and decoded; STORE_GROUP_BYTES_MAX each */
    uint8_t *plain;
    struct chunk_scratch *fingerprint_scratch;
};

/* A segment file that is open, with its table. */
struct store_segment {
    atomic_uint references; /* the catalog entry's, and those of views */
    uint32_t id;
    int fd;
    uint64_t size_bytes; /* groups and frames end before it; grows while it is written to */
    struct store_table *table;
    char name[STORE_FILE_NAME_BYTES];
};

/* Open ENTRY's file and read its table, once; ENTRY->loaded afterwards. */
DOR_MUST_CHECK int
store_segment_load(struct dor_store *store, struct store_segment_entry *entry);
/* One more owner of a segment whose table does not grow; each calls store_segment_close(). */
struct store_segment *store_segment_ref(struct store_segment *segment);
void store_segment_close(struct store_segment *segment);
/* Read the stored bytes of GROUP into STORED and decode them into PLAIN; the pages are
 * verified by who uses them, against their own digests. */
DOR_MUST_CHECK int store_segment_read_group(
    struct dor_store *store, const struct store_segment *segment,
    const struct store_group *group, uint8_t *stored, uint8_t *plain);
/* The checksum of a group's stored bytes: for who passes them on or looks for damage. */
DOR_MUST_CHECK int store_group_verify(
    const struct store_segment *segment, const struct store_group *group,
    const uint8_t *stored);
/* Decoding when the stored bytes are at hand. */
DOR_MUST_CHECK int store_group_decode(
    struct chunk_coder *coder, const struct store_segment *segment,
    const struct store_group *group, const uint8_t *stored, uint8_t *plain);

/* A page located: its segment, row and group. */
struct store_page_at {
    struct store_segment *segment;
    const struct store_group *group;
    uint64_t row;
};

/* DOR_E_CORRUPT when no segment of DOMAIN holds the page. */
DOR_MUST_CHECK int store_locate(
    struct dor_store *store, uint32_t domain, unsigned stream, uint64_t serial,
    struct store_page_at *ret);

/* Close all segments and forget indexes; the catalog stays. */
void store_forget_segments(struct dor_store *store);
void store_forget_indexes(struct dor_store *store);
/* Read the catalog again and forget everything derived from the old one. */
DOR_MUST_CHECK int store_reload(struct dor_store *store);
/*
 * The index of one region type, built when missing. DOR_E_CORRUPT segments are left out with a
 * log line.
 */
DOR_MUST_CHECK int store_index_of(
    struct dor_store *store, uint32_t domain, unsigned type, struct store_index **ret);
DOR_MUST_CHECK int store_index_rebuild(
    struct dor_store *store, uint32_t domain, unsigned type, struct store_index **ret);

/*
 * Remove files the catalog does not name and cut segments to their committed length. Writers
 * only.
 */
DOR_MUST_CHECK int store_clean(struct dor_store *store);
/* Undo what a failed writer did; returns ERR with its words, or marks the handle as broken. */
DOR_MUST_CHECK int store_roll_back(struct dor_store *store, int err);
struct base_buf;
/* Make NAME with the bytes FILE, durable on return; only the catalog makes it count. */
DOR_MUST_CHECK int
store_write_file(struct dor_store *store, const char *name, const struct base_buf *file);
/* Remove what the catalog no longer names; a failure is logged and left to store_clean(). */
void store_remove_file(struct dor_store *store, const char *name);
/* The same for the files of a snapshot that the catalog no longer names. */
void store_snapshot_remove_files(struct dor_store *store, uint64_t id);
/*
 * Write the snapshot file FILE of ENTRY, then save the catalog with ENTRY in it (and without
 * an older snapshot of that name, whose file is then removed).
 */
DOR_MUST_CHECK int store_snapshot_commit(
    struct dor_store *store, const struct store_snapshot_entry *entry,
    const struct base_buf *file);
/* Fill info->woken_ns from the snapshot file's change time, which waking sets. */
void store_note_woken(struct dor_store *store, struct dor_snapshot_info *info);
/* DOR_E_USAGE unless the store is open for writing. */
DOR_MUST_CHECK int store_require_writable(const struct dor_store *store);

#endif
