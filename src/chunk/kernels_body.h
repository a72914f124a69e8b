/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernels_body.h - the one source of the page loops, included by a file per instruction set.
 * Plain loops over fixed counts: the compiler turns them into vectors of whatever the including
 * file's flags allow, so the three sets cannot disagree. diff() is the exception: compilers do not
 * find the mask instructions, so each set has its own, checked against the others by a test.
 *
 * Ownership:  defines one static table; the including file exports it.
 * Threads:    any.
 * Errors:     none.
 */
#include <string.h>

#include "base/size.h"
#include "chunk/kernels.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif

#define XXH_INLINE_ALL
#include <xxhash.h>

#define USER_FIRST   (UINT64_C(1) << 32)
#define USER_COUNT   ((UINT64_C(1) << 47) - USER_FIRST)
#define KERNEL_FIRST UINT64_C(0xffff800000000000)
#define KERNEL_COUNT (UINT64_C(0) - 4096 - KERNEL_FIRST) /* the top page holds error values */
#define USER_KEEP    UINT64_C(0xfff)
#define KERNEL_KEEP  UINT64_C(0x1fffff)

static bool
body_page_is_zero(const void *page)
{
    const uint8_t *bytes = page;
    for (unsigned line = 0; line < CHUNK_PAGE_LINES; line++) {
        uint64_t words[8];
        uint64_t any = 0;
        memcpy(words, bytes + line * sizeof words, sizeof words);
        for (unsigned i = 0; i < 8; i++)
            any |= words[i];
        if (any != 0)
            return false;
    }
    return true;
}

static void
body_normalise(const void *page, uint64_t words[CHUNK_PAGE_WORDS])
{
    memcpy(words, page, DOR_PAGE_BYTES);
    for (unsigned i = 0; i < CHUNK_PAGE_WORDS; i++) {
        uint64_t word = words[i];
        uint64_t user = word - USER_FIRST < USER_COUNT ? USER_KEEP : UINT64_MAX;
        uint64_t kernel = word - KERNEL_FIRST < KERNEL_COUNT ? KERNEL_KEEP : UINT64_MAX;
        words[i] = word & user & kernel;
    }
}

static void
body_mix(const uint64_t words[CHUNK_PAGE_WORDS], uint32_t mixes[CHUNK_PAGE_WORDS])
{
    for (unsigned i = 0; i < CHUNK_PAGE_WORDS; i++) {
        uint32_t mix =
            (uint32_t)words[i] * 0x9e3779b1u ^ (uint32_t)(words[i] >> 32) * 0x85ebca77u;
        mix ^= mix >> 15;
        mixes[i] = words[i] == 0 ? UINT32_MAX : mix;
    }
}

static unsigned
body_min_index(const uint32_t *mixes, unsigned count)
{
    uint32_t least = UINT32_MAX;
    for (unsigned i = 0; i < count; i++)
        least = mixes[i] < least ? mixes[i] : least;
    for (unsigned i = 0; i < count; i++)
        if (mixes[i] == least)
            return i;
    return 0;
}

static unsigned
body_equal_words(const uint64_t *left, const uint64_t *right)
{
    uint64_t equal = 0;
    for (unsigned i = 0; i < CHUNK_PAGE_WORDS; i++)
        equal += left[i] == right[i];
    return (unsigned)equal;
}

static uint64_t
body_digest(const void *data, size_t size_bytes)
{
    return XXH3_64bits(data, size_bytes);
}

static void
body_diff(const void *target, const void *base, uint8_t masks[CHUNK_PAGE_LINES])
{
    const uint8_t *t = target;
    const uint8_t *b = base;
    for (unsigned line = 0; line < CHUNK_PAGE_LINES; line++, t += 64, b += 64) {
#if defined __AVX512F__
        masks[line] = _mm512_cmpneq_epi64_mask(_mm512_loadu_si512(t), _mm512_loadu_si512(b));
#elif defined __AVX2__
        __m256i low = _mm256_cmpeq_epi64(
            _mm256_loadu_si256((const __m256i *)(const void *)t),
            _mm256_loadu_si256((const __m256i *)(const void *)b));
        __m256i high = _mm256_cmpeq_epi64(
            _mm256_loadu_si256((const __m256i *)(const void *)(t + 32)),
            _mm256_loadu_si256((const __m256i *)(const void *)(b + 32)));
        unsigned equal = (unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(low)) |
                         (unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(high)) << 4;
        masks[line] = (uint8_t)~equal;
#else
        uint64_t tw[8];
        uint64_t bw[8];
        unsigned mask = 0;
        memcpy(tw, t, sizeof tw);
        memcpy(bw, b, sizeof bw);
        for (unsigned i = 0; i < 8; i++)
            mask |= (unsigned)(tw[i] != bw[i]) << i;
        masks[line] = (uint8_t)mask;
#endif
    }
}
