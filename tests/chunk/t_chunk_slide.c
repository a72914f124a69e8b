/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_chunk_slide.c - the learner finds the slides that were planted, most frequent first, and the
 * table finds what was added to it and nothing else.
 */
#include "base/fault.h"
#include "chunk/pages.h"
#include "chunk/slide.h"
#include "tap.h"

static struct base_random rng;

static struct chunk_slide_learner *
new_learner(void)
{
    struct chunk_slide_learner *learner;
    if (chunk_slide_learner_new(&learner) != 0)
        bail("%s", dor_err_message());
    return learner;
}

static void
test_table(void)
{
    struct chunk_slides slides = {0};
    uint64_t added[CHUNK_SLIDES_MAX];
    unsigned wrong = 0;
    is_int(chunk_slides_find(&slides, 0), -1, "an empty table finds nothing, not even 0");
    for (int i = 0; i < CHUNK_SLIDES_MAX; i++) {
        /* Slides have zeros at the end, which a bad hash would not survive. */
        added[i] = (base_random_next(&rng) << 12) + (uint64_t)i * 4096;
        while (chunk_slides_find(&slides, added[i]) >= 0)
            added[i] += UINT64_C(1) << 40;
        chunk_slides_add(&slides, added[i]);
    }
    for (int i = 0; i < CHUNK_SLIDES_MAX; i++)
        wrong += chunk_slides_find(&slides, added[i]) != i;
    is_int(wrong, 0, "a full table finds each of its %d slides", CHUNK_SLIDES_MAX);
    for (int i = 0; i < 1000; i++)
        wrong += chunk_slides_find(&slides, base_random_next(&rng) | 1) != -1;
    is_int(wrong, 0, "and no other");
}

static void
learn_pages(struct chunk_slide_learner *learner, int count, const uint64_t slides[3])
{
    uint8_t base[DOR_PAGE_BYTES];
    uint8_t target[DOR_PAGE_BYTES];
    for (int i = 0; i < count; i++) {
        page_fill(&rng, PAGE_POINTERS, base);
        memcpy(target, base, sizeof target);
        page_slide(target, HEAP_START, slides[0]);
        if (i % 2 == 0)
            page_slide(target, LIBRARY_START, slides[1]);
        if (i % 8 == 0)
            page_slide(target, KERNEL_START, slides[2]);
        page_change_words(&rng, target, 5);
        chunk_slide_learn(learner, target, base);
    }
}

static void
test_planted(void)
{
    struct chunk_slide_learner *learner = new_learner();
    const uint64_t planted[3] = {
        (1 + base_random_below(&rng, 100000)) * 4096,
        UINT64_C(0) - (1 + base_random_below(&rng, 100000)) * 4096,
        (1 + base_random_below(&rng, 200)) << 21};
    struct chunk_slides slides;
    learn_pages(learner, 64, planted);
    chunk_slide_finish(learner, 4, &slides);
    is_int(slides.count, 3, "three slides were planted");
    for (unsigned i = 0; i < 3; i++)
        is_int(slides.slide[i], planted[i], "slide %u is the %u. in frequency", i, i + 1);
    for (unsigned i = 0; i < 3; i++)
        is_int(chunk_slides_find(&slides, planted[i]), i, "and is found in the table");
    chunk_slide_finish(learner, 1, &slides);
    is_int(slides.count, 0, "finishing forgets what was learnt");
    chunk_slide_learner_free(learner);
}

/* PAIRS words of the page differ by DELTA from the base's. */
static void
learn_delta(struct chunk_slide_learner *learner, uint64_t word, uint64_t delta, unsigned pairs)
{
    uint8_t base[DOR_PAGE_BYTES] = {0};
    uint8_t target[DOR_PAGE_BYTES] = {0};
    for (unsigned i = 0; i < pairs; i++) {
        page_word_set(base, i, word + i * 64);
        page_word_set(target, i, word + i * 64 + delta);
    }
    chunk_slide_learn(learner, target, base);
}

static void
test_what_counts(void)
{
    struct chunk_slide_learner *learner = new_learner();
    struct chunk_slides slides;
    learn_delta(learner, HEAP_START, 4096, 9);
    learn_delta(learner, HEAP_START, 8192, 10);
    chunk_slide_finish(learner, 10, &slides);
    is_int(slides.count, 1, "a slide seen less often than asked for is left out");
    is_int(slides.slide[0], 8192, "one seen as often is not");

    learn_delta(learner, 1000, 4096, 10);
    learn_delta(learner, HEAP_START, 8, 10);
    learn_delta(learner, HEAP_START, 0, 10);
    learn_delta(learner, HEAP_START, KERNEL_START - HEAP_START, 10);
    chunk_slide_finish(learner, 1, &slides);
    is_int(
        slides.count, 0,
        "small numbers, unaligned steps, equal words and other halves are no slides");
    chunk_slide_learner_free(learner);
}

static void
test_too_many(void)
{
    struct chunk_slide_learner *learner = new_learner();
    struct chunk_slides slides;
    for (unsigned i = 1; i <= 3 * CHUNK_SLIDES_MAX; i++)
        learn_delta(learner, HEAP_START, (uint64_t)i << 12, 1 + i % 7);
    chunk_slide_finish(learner, 1, &slides);
    is_int(slides.count, CHUNK_SLIDES_MAX, "a table is never overfilled");
    unsigned most = 0;
    for (unsigned i = 0; i < slides.count; i++)
        most += (slides.slide[i] >> 12) % 7 == 6;
    is_int(most, 3 * CHUNK_SLIDES_MAX / 7, "and holds the most frequent");
    chunk_slide_learner_free(learner);
    chunk_slide_learner_free(NULL);
}

static void
test_no_memory(void)
{
    struct chunk_slide_learner *learner = NULL;
    base_fault_arm(FAULT_ALLOC, 1, 0);
    is_int(chunk_slide_learner_new(&learner), DOR_E_NO_MEMORY, "no memory for a learner");
    base_fault_arm(FAULT_NONE, 0, 0);
    ok(learner == NULL, "and none is given");
}

int
main(void)
{
    base_random_init(&rng, tap_seed());
    test_table();
    test_planted();
    test_what_counts();
    test_too_many();
    test_no_memory();
    return done_testing();
}
