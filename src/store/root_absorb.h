/* SPDX-License-Identifier: Apache-2.0 */
/*
 * root_absorb.h - blocks of root images turned into plain pages of a store: what root rm --absorb
 * and copy need where a reference cannot stay one.
 *
 * Ownership:  an absorption owns its maps; the writer is the caller's.
 * Threads:    as the store.
 * Errors:     any of reading and writing; the caller rolls back.
 */
#ifndef DOR_STORE_ROOT_ABSORB_H
#define DOR_STORE_ROOT_ABSORB_H

#include "store/recipe.h"
#include "store/writer.h"

/* References of one domain that become pages: from the place in SOURCE to that in TARGET. */
struct store_absorption {
    struct dor_store *source, *target;
    uint32_t target_domain;
    struct store_writer *writer;
    const uint64_t *first_new; /* of the target, per stream: serials before can be fetched */
    uint64_t *references;      /* ascending, each once, after _store() */
    uint64_t *places;          /* of each in the target */
    size_t count, cap;
};

void store_absorption_fini(struct store_absorption *absorption);
/* Note the references of RECIPE that WANTED picks. */
DOR_MUST_CHECK int store_absorption_note(
    struct store_absorption *absorption, const struct store_recipe *recipe,
    bool (*wanted)(const void *context, uint64_t place), const void *context);
/* Store every noted block once, or find it among the target's pages. */
DOR_MUST_CHECK int store_absorption_store(struct store_absorption *absorption);
/* The place of a noted reference, or 0. */
uint64_t store_absorption_place(const struct store_absorption *absorption, uint64_t reference);

/* root rm --absorb: all or nothing, with one catalog. Rolls back by itself. */
DOR_MUST_CHECK int store_root_absorb(struct dor_store *store, uint32_t id);

#endif
