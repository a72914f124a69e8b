/* SPDX-License-Identifier: Apache-2.0 */
/*
 * patch.h - the delta of a page against a base page. Two codecs, the first byte says which: changed
 * words (most are a base word plus a known slide), or byte runs copied from anywhere in the base.
 *
 * Ownership:  buffers are the caller's.
 * Threads:    pure functions over read-only tables.
 * Errors:     DOR_E_CORRUPT from applying a malformed patch; nothing is read or written out of
 * bounds.
 */
#ifndef DOR_CHUNK_PATCH_H
#define DOR_CHUNK_PATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dormouse/err.h>

#include "chunk/slide.h"

/* Room that any encoding of a page may need, whatever is then decided about it. */
#define CHUNK_PATCH_BYTES_MAX 8192

/*
 * WORDS looks at changed words only; FULL also for content that moved, at several times the
 * cost.
 */
enum chunk_patch_effort { CHUNK_PATCH_WORDS, CHUNK_PATCH_FULL };

/* Encode TARGET against BASE (pages) into OUT; returns the patch's size in bytes (> 0). */
size_t chunk_patch_encode(
    const struct chunk_slides *slides, const void *target, const void *base,
    enum chunk_patch_effort effort, uint8_t out[CHUNK_PATCH_BYTES_MAX]);

/* Whether applying PATCH needs the slides it was encoded with; false for one that is malformed. */
bool chunk_patch_uses_slides(const uint8_t *patch, size_t size_bytes);

/* Make TARGET from BASE and the PATCH of SIZE_BYTES. TARGET is undefined after an error. */
DOR_MUST_CHECK int chunk_patch_apply(
    const struct chunk_slides *slides, const uint8_t *patch, size_t size_bytes,
    const void *base, void *target);

#endif
