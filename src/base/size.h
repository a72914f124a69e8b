/* SPDX-License-Identifier: Apache-2.0 */
/*
 * size.h - arithmetic on sizes that cannot wrap unseen, and types for the numbers most easily
 * confused. Whatever comes from a file or a guest is added and multiplied through these before
 * it is believed.
 *
 * Ownership:  nothing is allocated.
 * Threads:    pure functions.
 * Errors:     the checked operations return false and leave the result alone when it would
 *             not fit.
 */
#ifndef DOR_BASE_SIZE_H
#define DOR_BASE_SIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Guest pages are 4096 bytes everywhere in dormouse; size_t so that masks made of it are full
 * width. */
#define DOR_PAGE_SHIFT 12
#define DOR_PAGE_BYTES ((size_t)1 << DOR_PAGE_SHIFT)

#define ARRAY_LEN(a)       (sizeof(a) / sizeof((a)[0]))
#define DIV_ROUND_UP(n, d) (((n) / (d)) + ((n) % (d) != 0))

/* clang-format off */
typedef struct { uint64_t v; } dor_pfn;        /* guest page number: physical address / 4096 */
typedef struct { uint64_t v; } dor_chunk_id;   /* index of a chunk in one store */
typedef struct { uint32_t v; } dor_segment_id; /* number of a segment file in one store */
/* clang-format on */

static inline bool
base_add_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
    uint64_t sum;
    if (__builtin_add_overflow(a, b, &sum))
        return false;
    *ret = sum;
    return true;
}

static inline bool
base_mul_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
    uint64_t product;
    if (__builtin_mul_overflow(a, b, &product))
        return false;
    *ret = product;
    return true;
}

static inline bool
base_add_size(size_t a, size_t b, size_t *ret)
{
    size_t sum;
    if (__builtin_add_overflow(a, b, &sum))
        return false;
    *ret = sum;
    return true;
}

static inline bool
base_mul_size(size_t a, size_t b, size_t *ret)
{
    size_t product;
    if (__builtin_mul_overflow(a, b, &product))
        return false;
    *ret = product;
    return true;
}

/* The largest multiple of UNIT (not 0) that is at most N. */
static inline uint64_t
base_round_down_u64(uint64_t n, uint64_t unit)
{
    return n - n % unit;
}

/* The smallest multiple of UNIT (not 0) that is at least N; false when it exceeds 64 bits. */
static inline bool
base_round_up_u64(uint64_t n, uint64_t unit, uint64_t *ret)
{
    uint64_t rest = n % unit;
    return base_add_u64(n, rest == 0 ? 0 : unit - rest, ret);
}

static inline uint64_t
base_min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t
base_max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static inline size_t
base_min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t
base_max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

#endif
