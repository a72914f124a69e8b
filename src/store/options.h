/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options.h - the store's options as a struct, and the list of what was set by name.
 *
 * Ownership:  struct dor_options owns its strings; struct store_options borrows them.
 * Threads:    plain values.
 * Errors:     DOR_E_USAGE for an unknown name or a bad value.
 */
#ifndef DOR_STORE_OPTIONS_H
#define DOR_STORE_OPTIONS_H

#include "base/options.h"
#include "chunk/codec.h"
#include <dormouse/store.h>

struct store_options {
#define OPTION BASE_OPTION_FIELD
#include "store/options.def"
#undef OPTION
    enum chunk_codec codec_ids[DOR_REGION_TYPES]; /* parsed from codec and the types' own */
    enum chunk_codec chain_codec_id, cluster_codec_id;
};

struct dor_options {
    char **names;
    char **values;
    size_t count;
};

/* Defaults, then what SET names (may be NULL), into OPTIONS. */
DOR_MUST_CHECK int
store_options_apply(struct store_options *options, const struct dor_options *set);
void store_options_default(struct store_options *options);

uint64_t store_options_chunk_pages(const struct store_options *options, unsigned type);
uint64_t store_options_group_pages(const struct store_options *options, unsigned type);

#endif
