/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot.h - reading a snapshot's recipe, for the verbs that walk all snapshots.
 *
 * Ownership:  the caller calls store_recipe_fini().
 * Threads:    as the store.
 * Errors:     DOR_E_CORRUPT when the file is missing, damaged or not what the catalog says.
 */
#ifndef DOR_STORE_SNAPSHOT_H
#define DOR_STORE_SNAPSHOT_H

#include "store/recipe.h"

struct dor_store;

DOR_MUST_CHECK int store_snapshot_read_recipe(
    struct dor_store *store, const struct store_snapshot_entry *entry,
    struct store_recipe *ret);

/*
 * What ENTRY of the store's catalog names, as dor_snapshot_open() does it but without its second
 * chance: that reads the catalog again, and whoever holds an entry holds a part of the old one.
 */
DOR_MUST_CHECK int store_snapshot_open(
    struct dor_store *store, const struct store_snapshot_entry *entry,
    struct dor_snapshot **ret);

/* Sidecar or part INDEX of the recipe, verified, in memory that the caller frees. */
DOR_MUST_CHECK int store_snapshot_read_row(
    struct dor_snapshot *snapshot, size_t index, void **ret_data, size_t *ret_size_bytes);
/* As long as the snapshot is open. */
const struct store_recipe *store_snapshot_recipe(const struct dor_snapshot *snapshot);
/* All sidecars of a snapshot, decoded: for who writes its file anew. */
struct store_sidecars {
    struct dor_sidecar *list;
    char (*names)[DOR_NAME_BYTES_MAX + 1];
    size_t count;
};

/* store_sidecars_fini() is needed after an error as well. */
DOR_MUST_CHECK int store_sidecars_read(
    struct dor_store *store, const struct store_snapshot_entry *entry,
    struct store_sidecars *sidecars);
void store_sidecars_fini(struct store_sidecars *sidecars);

/*
 * Write the file of ENTRY, a copy of the catalog's, anew under a new id with the places of RECIPE,
 * and commit it. What was learnt of its wakes, and when it was woken, go along.
 */
DOR_MUST_CHECK int store_snapshot_rewrite(
    struct dor_store *store, struct store_snapshot_entry *entry,
    const struct store_recipe *recipe);

#endif
