/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_chunk_fingerprint.c - fingerprints are the same on every processor, do not see what address-
 * space randomisation does, and survive changes and shifts of content elsewhere.
 */
#include "base/cpu.h"
#include "chunk/fingerprint.h"
#include "chunk/pages.h"
#include "tap.h"

enum { ROUNDS = 200 };

static struct base_random rng;
static struct chunk_scratch scratch;
static uint8_t pages[CHUNK_PAGES_MAX * DOR_PAGE_BYTES];
static uint8_t others[CHUNK_PAGES_MAX * DOR_PAGE_BYTES];

static void
fill_pages(uint8_t *to, unsigned count, enum page_kind kind)
{
    for (unsigned i = 0; i < count; i++)
        page_fill(&rng, kind, to + i * DOR_PAGE_BYTES);
}

/* How many of 4 samples the two have in common. */
static unsigned
common(const uint8_t *left, const uint8_t *right, bool normalise)
{
    uint32_t l[CHUNK_FINGERPRINTS_MAX];
    uint32_t r[CHUNK_FINGERPRINTS_MAX];
    unsigned left_count = chunk_fingerprint(&scratch, left, 1, normalise, 4, l);
    unsigned right_count = chunk_fingerprint(&scratch, right, 1, normalise, 4, r);
    unsigned found = 0;
    for (unsigned i = 0; i < left_count; i++)
        for (unsigned j = 0; j < right_count; j++)
            if (l[i] == r[j]) {
                found++;
                break;
            }
    return found;
}

static void
test_levels(void)
{
    unsigned wrong = 0;
    for (int round = 0; round < ROUNDS; round++) {
        unsigned count = 1 + (unsigned)base_random_below(&rng, CHUNK_PAGES_MAX);
        unsigned samples = 1 + (unsigned)base_random_below(&rng, CHUNK_FINGERPRINTS_MAX);
        bool normalise = base_random_below(&rng, 2) == 0;
        fill_pages(pages, count, (enum page_kind)base_random_below(&rng, PAGE_KINDS));
        uint32_t want[CHUNK_FINGERPRINTS_MAX] = {0};
        base_cpu_level_set_for_test(BASE_CPU_SCALAR);
        unsigned want_count =
            chunk_fingerprint(&scratch, pages, count, normalise, samples, want);
        wrong += want_count > samples;
        for (int level = BASE_CPU_AVX2; level <= BASE_CPU_AVX512; level++) {
            uint32_t got[CHUNK_FINGERPRINTS_MAX] = {0};
            base_cpu_level_set_for_test((enum base_cpu_level)level);
            unsigned got_count =
                chunk_fingerprint(&scratch, pages, count, normalise, samples, got);
            wrong += got_count != want_count || memcmp(got, want, sizeof got) != 0;
        }
    }
    is_int(wrong, 0, "%d chunks have the same fingerprints on every level", ROUNDS);
}

static void
test_zero(void)
{
    uint32_t got[CHUNK_FINGERPRINTS_MAX];
    memset(pages, 0, sizeof pages);
    is_int(
        chunk_fingerprint(&scratch, pages, CHUNK_PAGES_MAX, true, 8, got), 0,
        "zeros have no fingerprint");
    page_word_set(pages, 100, 7);
    is_int(chunk_fingerprint(&scratch, pages, 1, true, 4, got), 1, "one word gives one");
    is_int(
        chunk_fingerprint(&scratch, pages, 1, true, 0, got), 0, "no samples, no fingerprints");
}

/* Mappings move by pages, the kernel by 2 MiB, its direct map by 1 GiB. */
static void
test_slides(void)
{
    unsigned blind = 0;
    unsigned seen = 0;
    for (int round = 0; round < ROUNDS; round++) {
        page_fill(&rng, PAGE_POINTERS, pages);
        memcpy(others, pages, DOR_PAGE_BYTES);
        page_slide(others, HEAP_START, base_random_below(&rng, 1u << 20) * 4096);
        page_slide(others, LIBRARY_START, base_random_below(&rng, 1u << 20) * 4096);
        page_slide(others, KERNEL_START, base_random_below(&rng, 256) << 21);
        page_slide(others, DIRECT_MAP_START, base_random_below(&rng, 1024) << 30);
        blind += common(pages, others, true) == 4;
        seen += common(pages, others, false) <= 1;
    }
    is_int(blind, ROUNDS, "slid pointers do not change normalised fingerprints");
    ok(seen > ROUNDS * 9 / 10, "they change plain ones (%u of %d pages)", seen, ROUNDS);
}

static void
test_local_change(void)
{
    unsigned kept = 0;
    for (int round = 0; round < ROUNDS; round++) {
        page_fill(&rng, round % 2 == 0 ? PAGE_RANDOM : PAGE_POINTERS, pages);
        memcpy(others, pages, DOR_PAGE_BYTES);
        base_random_fill(&rng, others, 1000); /* within the first of four segments */
        kept += common(pages, others, true) >= 3;
    }
    is_int(kept, ROUNDS, "a change in one segment leaves the other three fingerprints");
}

static void
test_shift(void)
{
    unsigned found = 0;
    unsigned strangers = 0;
    for (int round = 0; round < ROUNDS; round++) {
        page_fill(&rng, round % 2 == 0 ? PAGE_RANDOM : PAGE_POINTERS, pages);
        memcpy(others, pages, DOR_PAGE_BYTES);
        page_shift(&rng, others, 8 * (1 + base_random_below(&rng, 8)));
        found += common(pages, others, true);
        page_fill(&rng, PAGE_RANDOM, others);
        strangers += common(pages, others, true);
    }
    /* A shift by a few words moves the smallest word out of its segment now and then. */
    ok(found > ROUNDS * 4 * 3 / 4, "shifted pages share most fingerprints (%u of %d)", found,
       ROUNDS * 4);
    is_int(strangers, 0, "pages that have nothing in common share none");
}

int
main(void)
{
    base_random_init(&rng, tap_seed());
    test_levels();
    test_zero();
    test_slides();
    test_local_change();
    test_shift();
    return done_testing();
}
