/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog.h - the one file that says what is in a store: domains, segments, snapshots, options.
 * It is replaced as a whole and atomically: what it does not name does not exist, so a put or a gc
 * that dies before the replacement has changed nothing.
 *
 * Ownership:  a catalog owns its arrays; pointers into them last until the next add or remove.
 * Threads:    one catalog, one thread.
 * Errors:     DOR_E_CORRUPT (damaged), DOR_E_UNSUPPORTED (another version), DOR_E_NO_MEMORY.
 */
#ifndef DOR_STORE_CATALOG_H
#define DOR_STORE_CATALOG_H

#include "store/medium.h"
#include "store/place.h"
#include <dormouse/store.h>

#define STORE_CATALOG_NAME   "catalog"
#define STORE_FORMAT_VERSION 1
/* Above it a generation no longer counts up. */
#define STORE_GENERATION_MAX (UINT64_C(1) << 48)

/* A table of rows of groups and pages inside a segment file. */
struct store_frame {
    uint64_t offset;
    uint64_t size_bytes;
};

struct store_segment;

struct store_segment_entry {
    struct store_segment *loaded; /* not on disk: the open segment, owned by the store */
    uint32_t id;
    uint32_t domain;
    unsigned stream;
    bool squeezed;
    uint64_t first_serial, end_serial; /* every page of the segment lies in [first, end) */
    uint64_t size_bytes;               /* committed length of the file */
    uint64_t page_count;
    struct store_frame *frames;
    size_t frame_count;
};

struct store_domain_entry {
    char name[DOR_NAME_BYTES_MAX + 1];
    uint64_t next_serial[STORE_STREAMS];
};

struct store_snapshot_entry {
    uint32_t domain;
    struct dor_snapshot_info info;
};

struct store_root_entry; /* root.h */

struct store_catalog {
    uint8_t uuid[16];
    uint64_t generation;
    uint64_t checksum; /* of the file it was read from */
    uint64_t next_snapshot_id;
    uint32_t next_segment_id;
    struct dor_options *options; /* given at creation */
    struct store_domain_entry *domains;
    size_t domain_count;
    struct store_segment_entry *segments; /* by (domain, stream, first_serial) */
    size_t segment_count;
    struct store_snapshot_entry *snapshots; /* by name */
    size_t snapshot_count;
    uint32_t next_root_id;
    struct store_root_entry *roots; /* by id */
    size_t root_count;
};

DOR_MUST_CHECK int store_catalog_new(struct store_catalog **ret);
void store_catalog_free(struct store_catalog *catalog);
DOR_MUST_CHECK int
store_catalog_copy(const struct store_catalog *from, struct store_catalog **ret);

DOR_MUST_CHECK int store_catalog_load(struct store_medium *medium, struct store_catalog **ret);
/* Whether the file has changed since CATALOG was read from it. */
DOR_MUST_CHECK int store_catalog_is_old(
    struct store_medium *medium, const struct store_catalog *catalog, bool *ret);
/* Writes generation + 1 and makes it durable; on an error the old catalog is still in force. */
DOR_MUST_CHECK int
store_catalog_save(struct store_medium *medium, struct store_catalog *catalog);
/* From bytes, for load and for the fuzzer. */
DOR_MUST_CHECK int
store_catalog_decode(const void *data, size_t size_bytes, struct store_catalog **ret);

/* NULL when there is none. */
struct store_snapshot_entry *
store_catalog_snapshot(const struct store_catalog *catalog, const char *name);
DOR_MUST_CHECK int store_catalog_snapshot_add(
    struct store_catalog *catalog, const struct store_snapshot_entry *entry);
void store_catalog_snapshot_remove(struct store_catalog *catalog, const char *name);

/*
 * Index of the domain NAME, made when it is missing and CREATE is set; DOR_E_NOT_FOUND
 * otherwise.
 */
DOR_MUST_CHECK int store_catalog_domain(
    struct store_catalog *catalog, const char *name, bool create, uint32_t *ret);

/* The segments of one stream are neighbours: the first and how many. */
size_t store_catalog_stream(
    const struct store_catalog *catalog, uint32_t domain, unsigned stream,
    struct store_segment_entry **ret_first);
struct store_segment_entry *
store_catalog_segment(const struct store_catalog *catalog, uint32_t id);
/* Takes over ENTRY->frames. */
DOR_MUST_CHECK int store_catalog_segment_add(
    struct store_catalog *catalog, const struct store_segment_entry *entry);
void store_catalog_segment_remove(struct store_catalog *catalog, uint32_t id);
DOR_MUST_CHECK int store_segment_entry_add_frame(
    struct store_segment_entry *entry, uint64_t offset, uint64_t size_bytes);

/* The put result as varints, shared with snapshot files. */
struct base_buf;
struct store_reader;
DOR_MUST_CHECK int
store_put_result_encode(struct base_buf *buf, const struct dor_put_result *result);
void store_put_result_decode(struct store_reader *reader, struct dor_put_result *result);

void store_kind_bytes_add(struct dor_kind_bytes *sum, const struct dor_kind_bytes *more);

/* File names: "seg.0000002a", "snap.000000000000002a". */
#define STORE_FILE_NAME_BYTES 40
void store_segment_file_name(uint32_t id, char name[STORE_FILE_NAME_BYTES]);
void store_snapshot_file_name(uint64_t id, char name[STORE_FILE_NAME_BYTES]);

#endif
