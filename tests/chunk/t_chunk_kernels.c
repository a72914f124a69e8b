/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_chunk_kernels.c - each instruction set gives what plain loops give, on pages of every kind and
 * at any alignment.
 */
#include "base/cpu.h"
#include "chunk/kernels.h"
#include "chunk/pages.h"
#include "tap.h"

#include <stdalign.h>

enum { ROUNDS = 60, PAD = 64, MIXES_MAX = 16 * CHUNK_PAGE_WORDS };

static struct base_random rng;
static alignas(64) uint8_t left_bytes[DOR_PAGE_BYTES + PAD];
static alignas(64) uint8_t right_bytes[DOR_PAGE_BYTES + PAD];

/* ------------------------------------------------------------------ plain twins */

static uint64_t
plain_normalise(uint64_t word)
{
    if (word >= UINT64_C(1) << 32 && word < UINT64_C(1) << 47)
        return word & 0xfff;
    if (word >= UINT64_C(0xffff800000000000) && word < UINT64_C(0) - 4096)
        return word & 0x1fffff;
    return word;
}

static uint32_t
plain_mix(uint64_t word)
{
    uint32_t mix = (uint32_t)word * 0x9e3779b1u ^ (uint32_t)(word >> 32) * 0x85ebca77u;
    return word == 0 ? UINT32_MAX : mix ^ mix >> 15;
}

static unsigned
plain_min_index(const uint32_t *mixes, unsigned count)
{
    unsigned best = 0;
    for (unsigned i = 1; i < count; i++)
        if (mixes[i] < mixes[best])
            best = i;
    return best;
}

/* ------------------------------------------------------------------ one pair of pages */

static bool
check_words(const struct chunk_kernels *kernels, const uint8_t *page)
{
    uint64_t words[CHUNK_PAGE_WORDS];
    uint32_t mixes[CHUNK_PAGE_WORDS];
    bool same = true;
    kernels->normalise(page, words);
    kernels->mix(words, mixes);
    for (size_t i = 0; i < CHUNK_PAGE_WORDS; i++)
        same &=
            words[i] == plain_normalise(page_word(page, i)) && mixes[i] == plain_mix(words[i]);
    return same;
}

static bool
check_diff(const struct chunk_kernels *kernels, const uint8_t *left, const uint8_t *right)
{
    uint8_t masks[CHUNK_PAGE_LINES];
    uint64_t left_words[CHUNK_PAGE_WORDS];
    uint64_t right_words[CHUNK_PAGE_WORDS];
    unsigned equal = 0;
    bool same = true;
    kernels->diff(left, right, masks);
    for (size_t i = 0; i < CHUNK_PAGE_WORDS; i++) {
        left_words[i] = page_word(left, i);
        right_words[i] = page_word(right, i);
        bool differs = left_words[i] != right_words[i];
        same &= (masks[i / 8] >> i % 8 & 1) == differs;
        equal += !differs;
    }
    return same && kernels->equal_words(left_words, right_words) == equal;
}

static void
change(uint8_t *page)
{
    switch (base_random_below(&rng, 4)) {
    case 0:
        page_change_words(&rng, page, base_random_below(&rng, 8));
        break;
    case 1:
        page[base_random_below(&rng, DOR_PAGE_BYTES)] ^= 1;
        break;
    case 2:
        page_shift(&rng, page, 1 + base_random_below(&rng, 100));
        break;
    default:
        page_slide(page, HEAP_START, 4096);
        break;
    }
}

static void
test_pages(const struct chunk_kernels *kernels, enum page_kind kind)
{
    bool words = true;
    bool diffs = true;
    for (int round = 0; round < ROUNDS; round++) {
        uint8_t *left = left_bytes + base_random_below(&rng, PAD);
        uint8_t *right = right_bytes + base_random_below(&rng, PAD);
        page_fill(&rng, kind, left);
        memcpy(right, left, DOR_PAGE_BYTES);
        change(right);
        words = words && check_words(kernels, left) && check_words(kernels, right);
        diffs = diffs && check_diff(kernels, left, right) && check_diff(kernels, left, left);
    }
    ok(words, "%s: normalise and mix of %s pages", kernels->name, page_kind_name(kind));
    ok(diffs, "%s: diff and equal_words of %s pages", kernels->name, page_kind_name(kind));
}

/* ------------------------------------------------------------------ the other functions */

static void
test_zero(const struct chunk_kernels *kernels)
{
    uint8_t *page = left_bytes + 1;
    bool seen = true;
    memset(left_bytes, 0xff, sizeof left_bytes);
    memset(page, 0, DOR_PAGE_BYTES);
    ok(kernels->page_is_zero(page), "%s: a zero page is zero, whatever is around",
       kernels->name);
    for (size_t bit = 0; bit < DOR_PAGE_BYTES * 8; bit++) {
        page[bit / 8] = (uint8_t)(1u << bit % 8);
        seen &= !kernels->page_is_zero(page);
        page[bit / 8] = 0;
    }
    ok(seen, "%s: each single bit makes it another page", kernels->name);
}

static void
test_min_index(const struct chunk_kernels *kernels)
{
    static uint32_t mixes[MIXES_MAX];
    bool same = true;
    for (int round = 0; round < 400; round++) {
        unsigned count = 1 + (unsigned)base_random_below(&rng, round % 2 == 0 ? 70 : MIXES_MAX);
        uint32_t range = round % 3 == 0 ? 4 : UINT32_MAX; /* ties, or hardly any */
        for (unsigned i = 0; i < count; i++)
            mixes[i] = UINT32_MAX - (uint32_t)base_random_below(&rng, range);
        same &= kernels->min_index(mixes, count) == plain_min_index(mixes, count);
    }
    ok(same, "%s: min_index gives the first of the smallest", kernels->name);
}

static void
test_digest(const struct chunk_kernels *kernels)
{
    static uint8_t bytes[70000];
    bool same = true;
    base_random_fill(&rng, bytes, sizeof bytes);
    for (size_t size = 0; size < 600; size++)
        same &= kernels->digest(bytes, size) == chunk_kernels_scalar.digest(bytes, size);
    for (int round = 0; round < 50; round++) {
        size_t size = base_random_below(&rng, sizeof bytes - 63);
        const uint8_t *from = bytes + base_random_below(&rng, 63);
        same &= kernels->digest(from, size) == chunk_kernels_scalar.digest(from, size);
    }
    ok(same, "%s: digests are those of scalar", kernels->name);
    ok(kernels->digest(bytes, 0) == UINT64_C(0x2d06800538d394c2), "%s: XXH3-64 of nothing",
       kernels->name);
}

static void
test_level(enum base_cpu_level level, const struct chunk_kernels *kernels)
{
    if (base_cpu_level_set_for_test(level) != level) {
        skip("this processor has not got it", base_cpu_level_name(level));
        return;
    }
    ok(chunk_kernels() == kernels, "%s is used at its level", kernels->name);
    is_str(kernels->name, base_cpu_level_name(level), "and has its name");
    for (unsigned kind = 0; kind < PAGE_KINDS; kind++)
        test_pages(kernels, (enum page_kind)kind);
    test_zero(kernels);
    test_min_index(kernels);
    test_digest(kernels);
}

int
main(void)
{
    base_random_init(&rng, tap_seed());
    test_level(BASE_CPU_SCALAR, &chunk_kernels_scalar);
    test_level(BASE_CPU_AVX2, &chunk_kernels_avx2);
    test_level(BASE_CPU_AVX512, &chunk_kernels_avx512);
    return done_testing();
}
