/* SPDX-License-Identifier: Apache-2.0 */
/*
 * usage.h - which stored pages are used: one bit per serial number and stream of a domain.
 * What gc marks, what explain compares and where check notes damage.
 *
 * Ownership:  a usage owns its bitmaps, one bit for every serial number ever given in the domain.
 * Threads:    plain values.
 * Errors:     DOR_E_NO_MEMORY; marking passes on what reading recipes and tables says.
 */
#ifndef DOR_STORE_USAGE_H
#define DOR_STORE_USAGE_H

#include "store/recipe.h"
#include "store/store_priv.h"

struct store_usage {
    uint64_t bit_count[STORE_STREAMS];
    uint64_t *bits[STORE_STREAMS];
};

DOR_MUST_CHECK int
store_usage_init(struct store_usage *usage, const struct dor_store *store, uint32_t domain);
void store_usage_fini(struct store_usage *usage);

static inline bool
store_usage_has(const struct store_usage *usage, unsigned stream, uint64_t serial)
{
    return serial < usage->bit_count[stream] &&
           (usage->bits[stream][serial / 64] >> serial % 64 & 1) != 0;
}

static inline void
store_usage_mark(struct store_usage *usage, unsigned stream, uint64_t serial)
{
    if (serial < usage->bit_count[stream])
        usage->bits[stream][serial / 64] |= UINT64_C(1) << serial % 64;
}

/* Mark the stored places of a recipe, not the bases of its patches. */
void store_usage_mark_recipe(struct store_usage *usage, const struct store_recipe *recipe);
/*
 * Mark the plain pages that patches of TYPE need: those of all patches still in segments, or
 * (MARKED_ONLY) of the marked ones. An unreadable segment's bases stay unmarked only if
 * LENIENT, else it is an error.
 */
DOR_MUST_CHECK int store_usage_mark_bases(
    struct store_usage *usage, struct dor_store *store, uint32_t domain, unsigned type,
    bool marked_only, bool lenient);

#endif
