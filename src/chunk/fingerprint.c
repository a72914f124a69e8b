/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fingerprint.c - picks the pieces of a chunk that are hashed: in each of SAMPLE_COUNT equal
 * segments the 64 bytes that end in the word with the smallest mix. Two chunks that share a
 * segment's content pick the same piece, whatever lies around it.
 *
 * It deliberately does not vote or look up: that is the store's index.
 */
#include "chunk/fingerprint.h"

#include <string.h>

#include "base/err.h"
#include "base/size.h"
#include "chunk/digest.h"

#define SAMPLE_WORDS (CHUNK_SAMPLE_BYTES / 8)

unsigned
chunk_fingerprint(
    struct chunk_scratch *scratch, const void *pages, unsigned page_count, bool normalise,
    unsigned sample_count, uint32_t ret[CHUNK_FINGERPRINTS_MAX])
{
    dor_assert(page_count > 0 && page_count <= CHUNK_PAGES_MAX);
    dor_assert(sample_count <= CHUNK_FINGERPRINTS_MAX);
    const struct chunk_kernels *kernels = chunk_kernels();
    for (unsigned i = 0; i < page_count; i++) {
        const uint8_t *page = (const uint8_t *)pages + i * DOR_PAGE_BYTES;
        uint64_t *words = scratch->words + (size_t)i * CHUNK_PAGE_WORDS;
        if (normalise)
            kernels->normalise(page, words);
        else
            memcpy(words, page, DOR_PAGE_BYTES);
        kernels->mix(words, scratch->mixes + (size_t)i * CHUNK_PAGE_WORDS);
    }
    unsigned starts = page_count * CHUNK_PAGE_WORDS - (SAMPLE_WORDS - 1);
    unsigned found = 0;
    for (unsigned i = 0; i < sample_count; i++) {
        unsigned first = i * starts / sample_count;
        unsigned end = (i + 1) * starts / sample_count;
        const uint32_t *mixes = scratch->mixes + first + (SAMPLE_WORDS - 1);
        unsigned at = kernels->min_index(mixes, end - first);
        if (mixes[at] == UINT32_MAX)
            continue;
        uint64_t hash = chunk_digest(scratch->words + first + at, CHUNK_SAMPLE_BYTES);
        ret[found++] = chunk_page_digest(hash);
    }
    return found;
}
