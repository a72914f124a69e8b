/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index.h - which stored chunks may equal or resemble a chunk: 32-bit keys to references, for
 * one region type of one domain. It lives in RAM only, is rebuilt from the segments' tables
 * and is never the truth: a reference is a suggestion, the caller compares bytes.
 *
 * Ownership:  an index owns its memory; at most 5.3 bytes a reference in the settled part.
 * Threads:    one index, one thread.
 * Errors:     DOR_E_NO_MEMORY. Entries beyond the byte limit are left out, which costs space,
 * not truth.
 */
#ifndef DOR_STORE_INDEX_H
#define DOR_STORE_INDEX_H

#include <stdbool.h>
#include <stdint.h>

#include <dormouse/err.h>

#include "store/table.h"

/* References of one key that are kept and looked at: beyond it a key says nothing. */
#define STORE_INDEX_REFS_MAX 4

/* A reference: bit 31 = a patch, bits 0-30 serial. Pages with larger serials are not indexed. */
#define STORE_INDEX_PATCH      (UINT32_C(1) << 31)
#define STORE_INDEX_SERIAL_MAX (STORE_INDEX_PATCH - 1)

struct store_index;

DOR_MUST_CHECK int store_index_new(uint64_t bytes_max, struct store_index **ret);
void store_index_free(struct store_index *index);

/*
 * Building: _begin() with an upper bound of the entries, _measure() every table, _settle(),
 * _fill() every table in the same order, newest first, _ready(). Where a key has too many
 * references the first stay.
 */
DOR_MUST_CHECK int store_index_begin(struct store_index *index, uint64_t entry_count);
void store_index_measure(struct store_index *index, const struct store_table *table);
DOR_MUST_CHECK int store_index_settle(struct store_index *index);
void store_index_fill(struct store_index *index, const struct store_table *table);
void store_index_ready(struct store_index *index);

/* Add a chunk just written; found from now on. FINGERPRINTS may be none (patches). */
DOR_MUST_CHECK int store_index_add(
    struct store_index *index, uint32_t reference, uint32_t exact_key,
    const uint32_t *fingerprints, unsigned fingerprint_count);

/* Up to STORE_INDEX_REFS_MAX references of KEY; returns how many. */
unsigned store_index_find(
    const struct store_index *index, uint32_t key, uint32_t ret[STORE_INDEX_REFS_MAX]);
/* Bring the memory of KEY near, ahead of a find. */
void store_index_prefetch(const struct store_index *index, uint32_t key);

/* The key of an exact look-up for a chunk of pages with these digests. */
uint32_t store_index_exact_key(const uint32_t *digests, unsigned page_count);

uint64_t store_index_bytes(const struct store_index *index);
/* True when so much was added since building that it should be built anew. */
bool store_index_wants_rebuild(const struct store_index *index);

#endif
