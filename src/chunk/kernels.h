/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernels.h - the loops over whole pages, in one source compiled for three instruction sets.
 * chunk_kernels() picks the set for this processor; all sets give the same bytes.
 *
 * Ownership:  the table is static; page pointers are borrowed for the call, any alignment.
 * Threads:    any; the choice is made once and is idempotent.
 * Errors:     none.
 */
#ifndef DOR_CHUNK_KERNELS_H
#define DOR_CHUNK_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHUNK_PAGE_WORDS 512
#define CHUNK_PAGE_LINES 64

struct chunk_kernels {
    const char *name;
    /* True when all 4096 bytes are zero. */
    bool (*page_is_zero)(const void *page);
    /*
     * Words that look like pointers keep only the bits that address-space randomisation leaves
     * alone: 12 in user space (pages move), 21 in the kernel (2 MiB steps).
     */
    void (*normalise)(const void *page, uint64_t words[CHUNK_PAGE_WORDS]);
    /* A 32-bit mix of each normalised word; UINT32_MAX for a zero word. */
    void (*mix)(const uint64_t words[CHUNK_PAGE_WORDS], uint32_t mixes[CHUNK_PAGE_WORDS]);
    /* Index of the first smallest of COUNT mixes (> 0). */
    unsigned (*min_index)(const uint32_t *mixes, unsigned count);
    /* How many of the 512 words are equal. */
    unsigned (*equal_words)(const uint64_t *left, const uint64_t *right);
    /* XXH3-64: the value does not depend on the instruction set, the speed does. */
    uint64_t (*digest)(const void *data, size_t size_bytes);
    /* Bit w of masks[l] is set when word 8*l+w of the two pages differs. */
    void (*diff)(const void *target, const void *base, uint8_t masks[CHUNK_PAGE_LINES]);
};

const struct chunk_kernels *chunk_kernels(void);

extern const struct chunk_kernels chunk_kernels_scalar;
extern const struct chunk_kernels chunk_kernels_avx2;
extern const struct chunk_kernels chunk_kernels_avx512;

#endif
