/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slide.h - the table of address slides between an image and what it is encoded against.
 * Address-space randomisation moves each mapping by one constant, so most pointers of two runs
 * differ by one of a few numbers: a patch names the number instead of writing the pointer.
 *
 * Ownership:  tables are plain values; a learner is allocated and freed by the caller.
 * Threads:    a finished table may be read by any thread; a learner belongs to one.
 * Errors:     DOR_E_NO_MEMORY from chunk_slide_learner_new(), DOR_E_CORRUPT from decoding.
 */
#ifndef DOR_CHUNK_SLIDE_H
#define DOR_CHUNK_SLIDE_H

#include <stdint.h>

#include <dormouse/err.h>

#define CHUNK_SLIDES_MAX 200

/* Zero is an empty table. */
struct chunk_slides {
    uint32_t count;
    uint64_t slide[CHUNK_SLIDES_MAX];
    uint8_t bucket[512]; /* 1 + index of a slide by its hash, 0 = free; linear probing */
};

/* The index of the slide DELTA, or -1. */
int chunk_slides_find(const struct chunk_slides *slides, uint64_t delta);

/* Append DELTA; the table must not be full and must not hold it. */
void chunk_slides_add(struct chunk_slides *slides, uint64_t delta);

struct chunk_slide_learner;
DOR_MUST_CHECK int chunk_slide_learner_new(struct chunk_slide_learner **ret);
void chunk_slide_learner_free(struct chunk_slide_learner *learner);

/* Count the pointer differences of one pair of similar pages. */
void
chunk_slide_learn(struct chunk_slide_learner *learner, const void *target, const void *base);

/* Fill SLIDES with the differences seen at least LEAST times, most frequent first; forgets all. */
void chunk_slide_finish(
    struct chunk_slide_learner *learner, uint32_t least, struct chunk_slides *slides);

#endif
