/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mend.h - what the targets for files of a store share. A checksum stops nearly every input of a
 * fuzzer at the door, so the targets write the fields that must agree (magic, sizes, checksum)
 * into a copy of the input, and the fuzzer works on what lies behind.
 *
 * Ownership:  the caller's buffers.
 * Threads:    plain values.
 * Errors:     none.
 */
#ifndef TESTS_FUZZ_MEND_H
#define TESTS_FUZZ_MEND_H

#include <string.h>

#include "base/err.h"
#include "base/le.h"
#include "base/mem.h"
#include "base/size.h"
#include "chunk/codec.h"
#include "chunk/digest.h"

/* More than this after decoding is no small input any more: what memory costs is not the matter. */
enum { MEND_PLAIN_BYTES_MAX = 1 << 20, MEND_PAGES_MAX = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

/* A copy of exactly its size; NULL when memory ran out. */
static inline uint8_t *
mend_copy(const uint8_t *data, size_t size_bytes)
{
    uint8_t *copy = base_alloc(size_bytes);
    if (copy != NULL && size_bytes > 0)
        memcpy(copy, data, size_bytes);
    return copy;
}

/* The checksum at AT, over what is before it and DATA from AFTER on. */
static inline void
mend_digest(uint8_t *file, size_t at, size_t after, size_t end)
{
    base_le64_put(file + at, chunk_digest(file, at) ^ chunk_digest(file + after, end - after));
}

#endif
