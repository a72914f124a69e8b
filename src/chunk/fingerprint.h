/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fingerprint.h - value-sampled fingerprints of a chunk, after Medes (EuroSys'22), changed in
 * two ways: words that look like pointers are first stripped of what address-space
 * randomisation changes, and the samples are spread over the chunk, one per segment, instead
 * of taken from its beginning.
 *
 * Ownership:  the caller owns the scratch space, about 6 KiB a page.
 * Threads:    one scratch, one thread.
 * Errors:     none.
 */
#ifndef DOR_CHUNK_FINGERPRINT_H
#define DOR_CHUNK_FINGERPRINT_H

#include <stdbool.h>
#include <stdint.h>

#include "chunk/kernels.h"

#define CHUNK_PAGES_MAX        16 /* a chunk is 1 to 16 pages */
#define CHUNK_FINGERPRINTS_MAX 8  /* samples per chunk */
#define CHUNK_SAMPLE_BYTES     64 /* Medes' RSC: the 64-byte chunk that is hashed */

struct chunk_scratch {
    uint64_t words[CHUNK_PAGES_MAX * CHUNK_PAGE_WORDS]; /* normalised words of the last chunk */
    uint32_t mixes[CHUNK_PAGES_MAX * CHUNK_PAGE_WORDS];
};

/*
 * Up to SAMPLE_COUNT 32-bit hashes of 64-byte pieces of the PAGE_COUNT pages at PAGES, into RET;
 * returns how many: a segment of zero words gives none. Leaves the (normalised, unless NORMALISE is
 * false) words in SCRATCH.
 */
unsigned chunk_fingerprint(
    struct chunk_scratch *scratch, const void *pages, unsigned page_count, bool normalise,
    unsigned sample_count, uint32_t ret[CHUNK_FINGERPRINTS_MAX]);

#endif
