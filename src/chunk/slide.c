/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slide.c - counts differences of pointer-like words and keeps the frequent ones.
 * The learner is a fixed table that forgets nothing and simply ignores what no longer fits: a
 * slide that matters is frequent and so is met early.
 */
#include "chunk/slide.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"
#include "chunk/kernels.h"

#define LEARN_SLOTS  16384 /* power of two; 256 KiB */
#define LEARN_PROBES 8

struct learn_slot {
    uint64_t delta;
    uint32_t count;
};

struct chunk_slide_learner {
    struct learn_slot slots[LEARN_SLOTS];
};

static uint64_t
delta_hash(uint64_t delta)
{
    return delta * UINT64_C(0x9e3779b97f4a7c15);
}

int
chunk_slides_find(const struct chunk_slides *slides, uint64_t delta)
{
    for (uint64_t i = delta_hash(delta) >> 55;; i = (i + 1) % ARRAY_LEN(slides->bucket)) {
        unsigned entry = slides->bucket[i];
        if (entry == 0)
            return -1;
        if (slides->slide[entry - 1] == delta)
            return (int)entry - 1;
    }
}

void
chunk_slides_add(struct chunk_slides *slides, uint64_t delta)
{
    dor_assert(slides->count < CHUNK_SLIDES_MAX);
    uint64_t i = delta_hash(delta) >> 55;
    while (slides->bucket[i] != 0)
        i = (i + 1) % ARRAY_LEN(slides->bucket);
    slides->slide[slides->count++] = delta;
    slides->bucket[i] = (uint8_t)slides->count;
}

int
chunk_slide_learner_new(struct chunk_slide_learner **ret)
{
    struct chunk_slide_learner *learner = base_zalloc(sizeof *learner);
    if (learner == NULL)
        return DOR_E_NO_MEMORY;
    *ret = learner;
    return 0;
}

void
chunk_slide_learner_free(struct chunk_slide_learner *learner)
{
    base_free(learner);
}

static void
count_delta(struct chunk_slide_learner *learner, uint64_t delta)
{
    uint64_t i = delta_hash(delta) >> 50;
    for (unsigned probe = 0; probe < LEARN_PROBES; probe++) {
        struct learn_slot *slot = &learner->slots[(i + probe) % LEARN_SLOTS];
        if (slot->count == 0)
            slot->delta = delta;
        if (slot->delta == delta) {
            slot->count++;
            return;
        }
    }
}

void
chunk_slide_learn(struct chunk_slide_learner *learner, const void *target, const void *base)
{
    uint64_t t[CHUNK_PAGE_WORDS];
    uint64_t b[CHUNK_PAGE_WORDS];
    memcpy(t, target, sizeof t);
    memcpy(b, base, sizeof b);
    for (unsigned i = 0; i < CHUNK_PAGE_WORDS; i++) {
        uint64_t delta = t[i] - b[i];
        /* Both in the same half of the address space, both too large for a count, aligned apart. */
        if (delta != 0 && t[i] >> 47 == b[i] >> 47 && t[i] >> 32 != 0 && b[i] >> 32 != 0 &&
            delta % 16 == 0)
            count_delta(learner, delta);
    }
}

static int
more_frequent(const void *left, const void *right)
{
    const struct learn_slot *l = left;
    const struct learn_slot *r = right;
    if (l->count != r->count)
        return l->count < r->count ? 1 : -1;
    return (l->delta > r->delta) - (l->delta < r->delta);
}

void
chunk_slide_finish(
    struct chunk_slide_learner *learner, uint32_t least, struct chunk_slides *slides)
{
    memset(slides, 0, sizeof *slides);
    qsort(learner->slots, LEARN_SLOTS, sizeof learner->slots[0], more_frequent);
    for (unsigned i = 0; i < CHUNK_SLIDES_MAX && learner->slots[i].count >= least; i++)
        if (learner->slots[i].count > 0)
            chunk_slides_add(slides, learner->slots[i].delta);
    memset(learner->slots, 0, sizeof learner->slots);
}
