/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pages.h - made-up pages of the kinds that memory has, from a seed, and the changes that time and
 * address-space randomisation make to them. Tests of chunk and store share it.
 *
 * Ownership:  pages are the caller's memory; so is an exact copy, to be given to base_free().
 * Threads:    one random state, one thread.
 * Errors:     none.
 */
#ifndef TESTS_CHUNK_PAGES_H
#define TESTS_CHUNK_PAGES_H

#include <string.h>

#include "base/err.h"
#include "base/le.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/size.h"

#define PAGE_WORDS (DOR_PAGE_BYTES / 8)

/* A heap, a library and the kernel: where the pointers of made-up pages point. */
#define HEAP_START       UINT64_C(0x00005555a0000000)
#define LIBRARY_START    UINT64_C(0x00007f1230000000)
#define KERNEL_START     UINT64_C(0xffffffff81000000)
#define DIRECT_MAP_START UINT64_C(0xffff888000000000)

enum page_kind {
    PAGE_ZERO,
    PAGE_RANDOM,   /* compressed or encrypted data */
    PAGE_SPARSE,   /* a few small numbers among zeros */
    PAGE_POINTERS, /* structures: pointers, small numbers, zeros */
    PAGE_TEXT,     /* words that repeat */
    PAGE_EDGES,    /* numbers at the borders of what counts as a pointer */
    PAGE_KINDS
};

static inline const char *
page_kind_name(enum page_kind kind)
{
    static const char *const names[] = {"zero",     "random", "sparse",
                                        "pointers", "text",   "edges"};
    return names[kind];
}

static inline uint64_t
page_word(const uint8_t *page, size_t word)
{
    return base_le64_get(page + word * 8);
}

static inline void
page_word_set(uint8_t *page, size_t word, uint64_t value)
{
    base_le64_put(page + word * 8, value);
}

static inline uint64_t
random_pointer(struct base_random *random)
{
    static const uint64_t starts[] = {
        HEAP_START, LIBRARY_START, KERNEL_START, DIRECT_MAP_START};
    uint64_t start = starts[base_random_below(random, ARRAY_LEN(starts))];
    return start + base_random_below(random, UINT64_C(1) << 20) * 16;
}

static inline uint64_t
random_edge(struct base_random *random)
{
    static const uint64_t edges[] = {
        0,
        UINT64_C(1) << 32,
        UINT64_C(1) << 47,
        UINT64_C(0xffff800000000000),
        UINT64_C(0) - 4096,
        UINT64_C(1) << 63,
        UINT64_C(0xfff),
        UINT64_C(0x1fffff)};
    return edges[base_random_below(random, ARRAY_LEN(edges))] + base_random_below(random, 5) -
           2;
}

static inline void
page_fill_text(struct base_random *random, uint8_t *page)
{
    static const char *const words[] = {
        "GET / HTTP/1.1\r\n",
        "content-type: ",
        "application/json",
        "{\"id\": ",
        "null, ",
        "true",
        "sandbox",
        "snapshot ",
        "\0\0\0\0",
        "import numpy\n",
        "return ",
        "0123456789"};
    size_t at = 0;
    while (at < DOR_PAGE_BYTES) {
        const char *word = words[base_random_below(random, ARRAY_LEN(words))];
        size_t length = base_min_size(strlen(word) + 1, DOR_PAGE_BYTES - at);
        memcpy(page + at, word, length);
        at += length;
    }
}

static inline void
page_fill(struct base_random *random, enum page_kind kind, uint8_t *page)
{
    memset(page, 0, DOR_PAGE_BYTES);
    if (kind == PAGE_RANDOM)
        base_random_fill(random, page, DOR_PAGE_BYTES);
    else if (kind == PAGE_TEXT)
        page_fill_text(random, page);
    for (size_t word = 0; word < PAGE_WORDS; word++) {
        uint64_t choice = base_random_below(random, 16);
        if (kind == PAGE_SPARSE && choice == 0)
            page_word_set(page, word, base_random_below(random, 1000));
        else if (kind == PAGE_POINTERS && choice < 6)
            page_word_set(page, word, random_pointer(random));
        else if (kind == PAGE_POINTERS && choice < 10)
            page_word_set(page, word, base_random_below(random, UINT32_MAX));
        else if (kind == PAGE_EDGES)
            page_word_set(page, word, random_edge(random));
    }
    /* A page of another kind than zero is never zero by chance. */
    if (kind != PAGE_ZERO)
        page_word_set(page, base_random_below(random, PAGE_WORDS), 1 + (random->state[0] >> 8));
}

/* A copy in memory of exactly its size, so that a sanitizer sees the first byte read too far. */
static inline uint8_t *
exact_copy(const void *bytes, size_t size_bytes)
{
    uint8_t *copy = base_alloc(size_bytes);
    dor_assert(copy != NULL);
    if (size_bytes > 0)
        memcpy(copy, bytes, size_bytes);
    return copy;
}

/* ------------------------------------------------------------------ changes */

static inline void
page_change_words(struct base_random *random, uint8_t *page, size_t count)
{
    for (size_t i = 0; i < count; i++)
        page_word_set(page, base_random_below(random, PAGE_WORDS), base_random_next(random));
}

/* Add SLIDE to the pointers of the mapping that begins at START and is 16 MiB long. */
static inline void
page_slide(uint8_t *page, uint64_t start, uint64_t slide)
{
    for (size_t word = 0; word < PAGE_WORDS; word++)
        if (page_word(page, word) - start < (UINT64_C(1) << 24))
            page_word_set(page, word, page_word(page, word) + slide);
}

/* Move the content by SHIFT_BYTES (> 0) to the end; what is free at the beginning is random. */
static inline void
page_shift(struct base_random *random, uint8_t *page, size_t shift_bytes)
{
    memmove(page + shift_bytes, page, DOR_PAGE_BYTES - shift_bytes);
    base_random_fill(random, page, shift_bytes);
}

#endif
