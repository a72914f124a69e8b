/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_chunk_patch.c - a patch applied to its base gives the page it was made of, for changes of many
 * kinds; every processor makes the same patch; the bytes of the format stay what they are.
 */
#include "base/cpu.h"
#include "chunk/pages.h"
#include "chunk/patch.h"
#include "tap.h"

enum { ROUNDS = 150 };

static struct base_random rng;
static struct chunk_slides slides;
static const struct chunk_slides no_slides;

/* ------------------------------------------------------------------ kinds of change */

static void
change_nothing(uint8_t *page)
{
    (void)page;
}

static void
change_one_word(uint8_t *page)
{
    page_change_words(&rng, page, 1);
}

static void
change_some_words(uint8_t *page)
{
    page_change_words(&rng, page, 1 + base_random_below(&rng, 60));
}

/* Counters and lengths: only low or only high bits of a word. */
static void
change_parts_of_words(uint8_t *page)
{
    for (int i = 0; i < 40; i++) {
        size_t word = base_random_below(&rng, PAGE_WORDS);
        uint64_t keep = (const uint64_t[]){16, 32, 48}[base_random_below(&rng, 3)];
        uint64_t bits = base_random_next(&rng) & ((UINT64_C(1) << keep) - 1);
        bool high = base_random_below(&rng, 2) == 0;
        page_word_set(page, word, page_word(page, word) ^ (high ? bits << (64 - keep) : bits));
    }
}

static void
change_pointers(uint8_t *page)
{
    page_slide(page, HEAP_START, slides.slide[0]);
    page_slide(page, LIBRARY_START, slides.slide[1]);
    page_slide(page, KERNEL_START, slides.slide[2]);
}

/* Slides that the table does not know: the recent differences of the page must do. */
static void
change_pointers_strangely(uint8_t *page)
{
    page_slide(page, HEAP_START, 48);
    page_slide(page, LIBRARY_START, UINT64_C(0) - 80);
}

static void
change_shift(uint8_t *page)
{
    page_shift(&rng, page, 1 + base_random_below(&rng, 700));
}

static void
change_shift_to_front(uint8_t *page)
{
    size_t shift = 1 + base_random_below(&rng, 700);
    memmove(page, page + shift, DOR_PAGE_BYTES - shift);
}

static void
change_order(uint8_t *page)
{
    uint8_t copy[DOR_PAGE_BYTES];
    memcpy(copy, page, sizeof copy);
    for (size_t at = 0; at < DOR_PAGE_BYTES; at += 256)
        memcpy(page + at, copy + base_random_below(&rng, DOR_PAGE_BYTES - 256), 256);
}

static void
change_to_random(uint8_t *page)
{
    page_fill(&rng, PAGE_RANDOM, page);
}

static void
change_every_bit(uint8_t *page)
{
    for (size_t i = 0; i < DOR_PAGE_BYTES; i++)
        page[i] = (uint8_t)~page[i];
}

static void
change_to_zero(uint8_t *page)
{
    memset(page, 0, DOR_PAGE_BYTES);
}

static const struct change {
    const char *name;
    void (*make)(uint8_t *page);
    size_t bytes_max; /* a patch that is larger has lost its point; 0 = any size */
} changes[] = {
    {"nothing", change_nothing, 9},
    {"one word", change_one_word, 9 + 1 + 1 + 8},
    {"some words", change_some_words, 9 + 60 * 10},
    {"parts of words", change_parts_of_words, 9 + 40 * 10},
    {"known slides", change_pointers, 9 + 64 + 512},
    {"unknown slides", change_pointers_strangely, 0},
    {"a shift", change_shift, 0},
    {"a shift to the front", change_shift_to_front, 0},
    {"order", change_order, 0},
    {"random bytes", change_to_random, CHUNK_PATCH_BYTES_MAX},
    {"every bit", change_every_bit, CHUNK_PATCH_BYTES_MAX},
    {"zeros", change_to_zero, CHUNK_PATCH_BYTES_MAX},
};

/* ------------------------------------------------------------------ */

/* True when the patch is right in every respect. */
static bool
round_trip(
    const struct chunk_slides *table, const uint8_t *target, const uint8_t *base,
    enum chunk_patch_effort effort, size_t bytes_max)
{
    uint8_t first[CHUNK_PATCH_BYTES_MAX];
    size_t first_bytes = 0;
    for (int level = BASE_CPU_SCALAR; level <= BASE_CPU_AVX512; level++) {
        uint8_t patch[CHUNK_PATCH_BYTES_MAX];
        uint8_t made[DOR_PAGE_BYTES];
        base_cpu_level_set_for_test((enum base_cpu_level)level);
        size_t bytes = chunk_patch_encode(table, target, base, effort, patch);
        if (bytes == 0 || bytes > (bytes_max == 0 ? CHUNK_PATCH_BYTES_MAX : bytes_max))
            return false;
        AUTO_FREE uint8_t *exact = exact_copy(patch, bytes);
        if (chunk_patch_apply(table, exact, bytes, base, made) != 0 ||
            memcmp(made, target, sizeof made) != 0)
            return false;
        if (level == BASE_CPU_SCALAR) {
            memcpy(first, patch, bytes);
            first_bytes = bytes;
        } else if (bytes != first_bytes || memcmp(first, patch, bytes) != 0) {
            return false;
        }
    }
    return true;
}

static void
test_change(const struct change *change)
{
    unsigned wrong = 0;
    for (int round = 0; round < ROUNDS; round++) {
        uint8_t base[DOR_PAGE_BYTES];
        uint8_t target[DOR_PAGE_BYTES];
        page_fill(&rng, (enum page_kind)(round % PAGE_KINDS), base);
        memcpy(target, base, sizeof target);
        change->make(target);
        wrong += !round_trip(&slides, target, base, CHUNK_PATCH_FULL, change->bytes_max);
        wrong += !round_trip(&slides, target, base, CHUNK_PATCH_WORDS, change->bytes_max);
        wrong += !round_trip(&no_slides, target, base, CHUNK_PATCH_FULL, 0);
    }
    is_int(
        wrong, 0, "%s: %d patches and back, the same on each level", change->name, 3 * ROUNDS);
}

/* Shifted content must be found, or the second codec would be for nothing. */
static void
test_shift_is_small(void)
{
    size_t bytes = 0;
    for (int round = 0; round < ROUNDS; round++) {
        uint8_t base[DOR_PAGE_BYTES];
        uint8_t target[DOR_PAGE_BYTES];
        uint8_t patch[CHUNK_PATCH_BYTES_MAX];
        page_fill(&rng, PAGE_RANDOM, base);
        memcpy(target, base, sizeof target);
        page_shift(&rng, target, 1 + base_random_below(&rng, 99));
        bytes += chunk_patch_encode(&no_slides, target, base, CHUNK_PATCH_FULL, patch);
    }
    ok(bytes < ROUNDS * 150, "a shift by up to 99 bytes costs %zu bytes", bytes / ROUNDS);
}

/* ------------------------------------------------------------------ worked bytes */

static void
test_word_bytes(void)
{
    struct chunk_slides one = {0};
    uint8_t base[DOR_PAGE_BYTES];
    uint8_t target[DOR_PAGE_BYTES];
    uint8_t patch[CHUNK_PATCH_BYTES_MAX];
    chunk_slides_add(&one, 0x7000);
    memset(base, 0x11, sizeof base);
    memcpy(target, base, sizeof target);
    page_word_set(target, 1, page_word(base, 1) + 0x7000);    /* slide 0 */
    page_word_set(target, 3, page_word(base, 3) + 0x7000);    /* the latest */
    page_word_set(target, 8, UINT64_C(0x111111111111abcd));   /* low 2 bytes */
    page_word_set(target, 9, UINT64_C(0x11111111aabbccdd));   /* low 4 bytes */
    page_word_set(target, 10, UINT64_C(0xaabbccdd11111111));  /* high 4 bytes */
    page_word_set(target, 511, UINT64_C(0x0102030405060708)); /* all 8 */
    static const uint8_t want[] = {1,    3,    0,    0,    0,    0,    0,    0,    0x80,
                                   0x0a, 0x07, 0x80, 16,   0,    3,    4,    6,    5,
                                   0xcd, 0xab, 0xdd, 0xcc, 0xbb, 0xaa, 0xdd, 0xcc, 0xbb,
                                   0xaa, 8,    7,    6,    5,    4,    3,    2,    1};
    is_int(
        chunk_patch_encode(&one, target, base, CHUNK_PATCH_FULL, patch), sizeof want,
        "a patch of six words");
    is_mem(patch, want, sizeof want, "has these bytes");
}

static void
test_copy_bytes(void)
{
    /* 2: literal "abc", then 4093 bytes of the base from 3 before. */
    static const uint8_t patch[] = {2, 3, 'a', 'b', 'c', 0xfd, 0x1f, 5};
    uint8_t base[DOR_PAGE_BYTES];
    uint8_t target[DOR_PAGE_BYTES];
    uint8_t made[DOR_PAGE_BYTES];
    uint8_t encoded[CHUNK_PATCH_BYTES_MAX];
    page_fill(&rng, PAGE_RANDOM, base);
    memcpy(target, "abc", 3);
    memcpy(target + 3, base, DOR_PAGE_BYTES - 3);
    is_ok(
        chunk_patch_apply(&no_slides, patch, sizeof patch, base, made), "a copy patch applies");
    is_mem(made, target, sizeof target, "to what the format says");
    is_int(
        chunk_patch_encode(&no_slides, target, base, CHUNK_PATCH_FULL, encoded), sizeof patch,
        "the encoder finds the same");
    is_mem(encoded, patch, sizeof patch, "bytes");
}

int
main(void)
{
    base_random_init(&rng, tap_seed());
    chunk_slides_add(&slides, 0x1234000);
    chunk_slides_add(&slides, UINT64_C(0) - 0x7654000);
    chunk_slides_add(&slides, 0x1e00000);
    for (size_t i = 0; i < ARRAY_LEN(changes); i++)
        test_change(&changes[i]);
    test_shift_is_small();
    test_word_bytes();
    test_copy_bytes();
    return done_testing();
}
