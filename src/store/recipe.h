/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recipe.h - the flat list of places of a snapshot's pages, and the snapshot file that holds it
 * together with the sidecars and what the catalog knows of the snapshot.
 *
 * Ownership:  a recipe owns its arrays.
 * Threads:    plain values.
 * Errors:     DOR_E_CORRUPT for damaged files, DOR_E_UNSUPPORTED for another version,
 * DOR_E_NO_MEMORY.
 */
#ifndef DOR_STORE_RECIPE_H
#define DOR_STORE_RECIPE_H

#include "base/mem.h"
#include "store/catalog.h"

struct store_sidecar_row {
    char name[DOR_NAME_BYTES_MAX + 1];
    uint64_t offset, stored_bytes, plain_bytes; /* in the snapshot file */
    uint64_t digest;
    unsigned codec;
};

/*
 * Parts of a snapshot that are not its user's: kept as sidecars are, after them, under names that
 * no sidecar can have.
 */
#define STORE_PART_CLASSES "/classes"
#define STORE_PART_FRAME   "/frame"
#define STORE_PARTS_MAX    2

/* Pages that are stored under another region type than their own, with their own. */
struct store_type_run {
    uint64_t first_page, page_count;
    unsigned type;
};

struct store_recipe {
    uint64_t page_count;
    uint64_t *places;
    struct store_type_run *type_runs; /* in order of pages */
    size_t type_run_count;
    struct store_sidecar_row *sidecars; /* entry.info.sidecar_count of them, then parts */
    size_t sidecar_count;               /* of both */
    struct store_snapshot_entry entry;  /* as written in the file, for rebuilding a catalog */
};

void store_recipe_fini(struct store_recipe *recipe);

/* The region type of page PAGE_INDEX itself. */
unsigned store_recipe_page_type(const struct store_recipe *recipe, uint64_t page_index);
/* Note which pages are stored under another type than TYPES, one a page, says. */
DOR_MUST_CHECK int store_recipe_set_types(struct store_recipe *recipe, const uint8_t *types);

/* The places as bytes: about a byte per run of neighbours. */
DOR_MUST_CHECK int
store_places_encode(const uint64_t *places, uint64_t page_count, struct base_buf *buf);
DOR_MUST_CHECK int
store_places_decode(const void *data, size_t size_bytes, uint64_t *places, uint64_t page_count);

/* The bytes of a snapshot file: ENTRY, the pages of RECIPE and the SIDECARS. */
DOR_MUST_CHECK int store_recipe_encode(
    const struct store_snapshot_entry *entry, const struct store_recipe *recipe,
    const struct dor_sidecar *sidecars, size_t sidecar_count, const uint8_t uuid[16],
    struct base_buf *buf);
/*
 * Read the snapshot file FD without the sidecars' bytes. UUID is the store's; NAME is for
 * messages.
 */
DOR_MUST_CHECK int
store_recipe_read(int fd, const char *name, const uint8_t uuid[16], struct store_recipe *ret);

#endif
