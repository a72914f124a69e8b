/* SPDX-License-Identifier: Apache-2.0 */
/*
 * digest.h - checksums of pages and of stored bytes (XXH3-64 of libxxhash). They find damage and
 * candidates; they are never the reason to call two pages equal: that is a byte compare.
 *
 * Ownership:  nothing is allocated.
 * Threads:    pure functions.
 * Errors:     none.
 */
#ifndef DOR_CHUNK_DIGEST_H
#define DOR_CHUNK_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#include "chunk/kernels.h"

/* 64 bits over any bytes: frames, groups, catalog. */
static inline uint64_t
chunk_digest(const void *data, size_t size_bytes)
{
    return chunk_kernels()->digest(data, size_bytes);
}

/* The 32 bits of a page's digest that its table row keeps. */
static inline uint32_t
chunk_page_digest(uint64_t digest)
{
    return (uint32_t)(digest ^ digest >> 32);
}

#endif
