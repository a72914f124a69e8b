/* SPDX-License-Identifier: Apache-2.0 */
/*
 * root.h - root images: files outside the store whose 4 KiB blocks a snapshot's pages may refer to.
 * The store keeps a digest of each block (root.c), so that blocks are found without reading the
 * image, and so that no block is handed out that is not what it was.
 *
 * Ownership:  what is loaded of a root image belongs to its catalog entry and is closed by
 *             store_forget_roots().
 * Threads:    as the store.
 * Errors:     DOR_E_NOT_FOUND and DOR_E_CORRUPT name the root image, its path and what to do; what
 *             the system says of a file that cannot be read.
 */
#ifndef DOR_STORE_ROOT_H
#define DOR_STORE_ROOT_H

#include "base/mem.h"
#include "store/catalog.h"
#include "store/fetch.h"

/* A reference's serial number: bits 0-31 block, 32-47 id of the root image, from 1 on. */
#define STORE_ROOT_ID_MAX     UINT32_C(0xffff)
#define STORE_ROOT_BLOCKS_MAX UINT64_C(0xffffffff)

static inline bool
store_place_is_reference(uint64_t place)
{
    return store_place_kind(place) == DOR_PAGE_REFERENCE;
}

static inline uint64_t
store_root_place(unsigned type, uint32_t id, uint64_t block)
{
    return store_place(DOR_PAGE_REFERENCE, type, (uint64_t)id << 32 | block);
}

static inline uint32_t
store_place_root(uint64_t place)
{
    return (uint32_t)(store_place_serial(place) >> 32);
}

static inline uint64_t
store_place_block(uint64_t place)
{
    return place & UINT32_MAX;
}

/* ------------------------------------------------------------------ in the catalog */

struct store_root;
struct store_reader;

struct store_root_entry {
    struct store_root *loaded; /* not on disk */
    struct dor_root_info info;
};

/* "root.0000002a" */
void store_root_file_name(uint32_t id, char name[STORE_FILE_NAME_BYTES]);
/* NULL when there is none. */
struct store_root_entry *store_catalog_root(const struct store_catalog *catalog, uint32_t id);
struct store_root_entry *
store_catalog_root_named(const struct store_catalog *catalog, const char *name);
/* INFO->id is larger than all others. */
DOR_MUST_CHECK int
store_catalog_root_add(struct store_catalog *catalog, const struct dor_root_info *info);
/* What is loaded of it is closed. */
void store_catalog_root_remove(struct store_catalog *catalog, uint32_t id);
/* The catalog's list of root images as varints. */
DOR_MUST_CHECK int
store_catalog_roots_encode(struct base_buf *buf, const struct store_catalog *catalog);
DOR_MUST_CHECK int
store_catalog_roots_decode(struct store_reader *reader, struct store_catalog *catalog);

/* ------------------------------------------------------------------ the root file */

/* What the digests of all blocks come to: the same for equal images, wherever they lie. */
uint64_t store_root_digest(const uint64_t *digests, uint64_t block_count);
DOR_MUST_CHECK int store_root_encode(
    const struct dor_root_info *info, const uint64_t *digests, const uint8_t uuid[16],
    struct base_buf *file);
/* RET_DIGESTS are the caller's: one for each whole block of ret_info->size_bytes. */
DOR_MUST_CHECK int store_root_decode(
    const uint8_t *file, size_t size_bytes, const uint8_t uuid[16],
    struct dor_root_info *ret_info, uint64_t **ret_digests);

/* ------------------------------------------------------------------ reading images */

struct dor_store;

void store_forget_roots(struct dor_store *store);
/*
 * Digests of all blocks of the file FD called PATH, its size and change time into INFO; DOR_E_BUSY
 * when the file changes meanwhile or PROGRESS says stop.
 */
DOR_MUST_CHECK int store_root_scan(
    int fd, const char *path, dor_progress_fn *progress, void *progress_context,
    struct dor_root_info *info, uint64_t **ret_digests);
/* Load ENTRY's root file. */
DOR_MUST_CHECK int store_root_load(struct dor_store *store, struct store_root_entry *entry);
/*
 * Make a root file that is damaged or missing anew from its image, if that still has the content
 * that the catalog says, keep the old file aside and save the catalog.
 */
DOR_MUST_CHECK int store_root_remake(struct dor_store *store, struct store_root_entry *entry);
/* Make ENTRY's image ready to be read: its root file loaded, its identity verified. */
DOR_MUST_CHECK int store_root_open(struct dor_store *store, struct store_root_entry *entry);
/*
 * One more owner of what is loaded of an entry that is open, who reads blocks of it, verified, from
 * any thread. The index is the store's alone.
 */
struct store_root *store_root_ref(const struct store_root_entry *entry);
void store_root_unref(struct store_root *root);
DOR_MUST_CHECK int store_root_read_block(
    const struct store_root *root, const struct dor_root_info *info, uint64_t block,
    uint8_t *page);
/* The file of the image that ROOT is, to read ahead. */
int store_root_fd(const struct store_root *root);
/* The digests of an entry that is open. */
const uint64_t *store_root_digests(const struct store_root_entry *entry);

/*
 * As store_fetch(), for items that are references: blocks are read in their order, neighbours
 * together, and verified.
 */
DOR_MUST_CHECK int store_root_fetch(
    struct dor_store *store, const struct store_fetch_item *items, size_t count,
    store_fetch_fn *visit, void *context);
/* The page that PLACE refers to into PAGE, verified. */
DOR_MUST_CHECK int
store_root_fetch_page(struct dor_store *store, uint64_t place, uint8_t *page);

/* ------------------------------------------------------------------ finding blocks */

/* Make blocks of an open ENTRY findable, in at most BYTES_MAX of memory beside the digests. */
DOR_MUST_CHECK int store_root_index(struct store_root_entry *entry, uint64_t bytes_max);
/* A block with DIGEST, HINT if that is one, or UINT64_MAX. */
uint64_t store_root_find(const struct store_root_entry *entry, uint64_t digest, uint64_t hint);

#endif
