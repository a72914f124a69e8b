/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_chunk_patch_damage.c - a patch that is cut short, changed or made up gives an error or a page,
 * and nothing is touched outside the buffers (which a sanitizer watches).
 */
#include "chunk/pages.h"
#include "chunk/patch.h"
#include "tap.h"

enum { PATCHES = 40, MUTATIONS = 400, GUARD = 64 };

static struct base_random rng;
static struct chunk_slides slides;
static uint8_t base[DOR_PAGE_BYTES];

/* Apply with the patch in memory of exactly its size; false when something is wrong. */
static bool
apply_exactly(const uint8_t *patch, size_t size_bytes, int *ret)
{
    uint8_t target[GUARD + DOR_PAGE_BYTES + GUARD];
    AUTO_FREE uint8_t *exact = exact_copy(patch, size_bytes);
    memset(target, 0xa5, sizeof target);
    *ret = chunk_patch_apply(&slides, exact, size_bytes, base, target + GUARD);
    for (size_t i = 0; i < GUARD; i++)
        if (target[i] != 0xa5 || target[GUARD + DOR_PAGE_BYTES + i] != 0xa5)
            return false;
    return *ret == 0 || *ret == DOR_E_CORRUPT;
}

static size_t
make_patch(uint8_t patch[CHUNK_PATCH_BYTES_MAX], int kind)
{
    uint8_t target[DOR_PAGE_BYTES];
    page_fill(&rng, kind % 2 == 0 ? PAGE_POINTERS : PAGE_RANDOM, base);
    memcpy(target, base, sizeof target);
    if (kind % 3 == 0)
        page_shift(&rng, target, 1 + base_random_below(&rng, 500));
    page_slide(target, HEAP_START, slides.slide[0]);
    page_change_words(&rng, target, base_random_below(&rng, 50));
    return chunk_patch_encode(&slides, target, base, CHUNK_PATCH_FULL, patch);
}

static void
test_cut_short(void)
{
    unsigned accepted = 0;
    unsigned bad = 0;
    for (int i = 0; i < PATCHES; i++) {
        uint8_t patch[CHUNK_PATCH_BYTES_MAX];
        size_t size_bytes = make_patch(patch, i);
        for (size_t cut = 0; cut < size_bytes; cut++) {
            int err = 0;
            bad += !apply_exactly(patch, cut, &err);
            accepted += err == 0;
        }
    }
    is_int(bad, 0, "a patch cut at any byte does no harm");
    is_int(accepted, 0, "and is never taken for a whole one");
}

static void
test_mutated(void)
{
    unsigned bad = 0;
    for (int i = 0; i < PATCHES * MUTATIONS; i++) {
        static uint8_t patch[CHUNK_PATCH_BYTES_MAX];
        static size_t size_bytes;
        uint8_t mutant[CHUNK_PATCH_BYTES_MAX];
        int err;
        if (i % MUTATIONS == 0)
            size_bytes = make_patch(patch, i / MUTATIONS);
        memcpy(mutant, patch, size_bytes);
        for (uint64_t n = 1 + base_random_below(&rng, 4); n > 0; n--)
            mutant[base_random_below(&rng, size_bytes)] = (uint8_t)base_random_next(&rng);
        bad += !apply_exactly(mutant, size_bytes, &err);
    }
    is_int(bad, 0, "%d changed patches do no harm", PATCHES * MUTATIONS);
}

static void
test_made_up(void)
{
    unsigned bad = 0;
    for (int i = 0; i < PATCHES * MUTATIONS; i++) {
        uint8_t patch[200];
        int err;
        base_random_fill(&rng, patch, sizeof patch);
        patch[0] = (uint8_t)(1 + i % 2);
        if (i % 4 < 2) /* few lines, so that the ops are reached */
            for (size_t b = 1; b < 9; b++)
                patch[b] &= (uint8_t)base_random_next(&rng) & (uint8_t)base_random_next(&rng);
        bad += !apply_exactly(patch, base_random_below(&rng, sizeof patch), &err);
    }
    is_int(bad, 0, "%d made-up patches do no harm", PATCHES * MUTATIONS);
}

struct named_patch {
    const char *name;
    uint8_t bytes[24];
    size_t size_bytes;
};

static void
test_named(void)
{
    static const struct named_patch bad[] = {
        {"empty", {0}, 0},
        {"an unknown codec", {3, 0, 0, 0, 0, 0, 0, 0, 0}, 9},
        {"codec 0", {0, 0, 0, 0, 0, 0, 0, 0, 0}, 9},
        {"bytes left over", {1, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 10},
        {"an op that does not exist", {1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 7}, 11},
        {"a slide that does not exist", {1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 17}, 11},
        {"the last slide number", {1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 255}, 11},
        {"a copy of nothing", {2, 0, 0, 0, 0}, 5},
        {"a copy that is too long", {2, 0, 0x81, 0x20, 0}, 5},
        {"a copy from before the base", {2, 0, 0x80, 0x20, 1}, 5},
        {"a copy from after the base", {2, 0, 0x80, 0x20, 2}, 5},
        {"a copy from very far",
         {2, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
         13},
        {"a literal that is too long", {2, 0x81, 0x20, 1, 1}, 5},
        {"copies only", {2, 0, 0x80, 0x20, 0, 0}, 6},
    };
    static const struct named_patch good[] = {
        {"no changes", {1, 0, 0, 0, 0, 0, 0, 0, 0}, 9},
        {"a line without changed words", {1, 1, 0, 0, 0, 0, 0, 0, 0, 0}, 10},
        {"the first slide", {1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 16}, 11},
        {"one copy", {2, 0, 0x80, 0x20, 0}, 5},
    };
    int err = 0;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ok(apply_exactly(bad[i].bytes, bad[i].size_bytes, &err) && err == DOR_E_CORRUPT,
           "refused: %s", bad[i].name);
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        ok(apply_exactly(good[i].bytes, good[i].size_bytes, &err) && err == 0, "fine: %s",
           good[i].name);
}

int
main(void)
{
    base_random_init(&rng, tap_seed());
    chunk_slides_add(&slides, 0x1234000);
    page_fill(&rng, PAGE_POINTERS, base);
    test_named();
    test_cut_short();
    test_mutated();
    test_made_up();
    return done_testing();
}
