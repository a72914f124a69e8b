/* SPDX-License-Identifier: Apache-2.0 */
/*
 * writer.h - a seeded writer that changes an image of real memory as a running guest would.
 * Most writes go to a hot set of pages that recurs, the others to a cold tail of all pages; a
 * write changes some words, some cache lines, or a whole page, with bytes of a donor image.
 *
 * Ownership:  the writer holds two descriptors that stay the caller's, and lists until
 *             writer_fini().
 * Threads:    one.
 * Errors:     ends the process, as everything in harness.h.
 */
#ifndef DOR_BENCH_WRITER_H
#define DOR_BENCH_WRITER_H

#include "base/random.h"

#include <stddef.h>
#include <stdint.h>

struct writer {
    struct base_random random;
    int image_fd, donor_fd;
    uint32_t *pages, *donor_pages; /* that are not zero */
    size_t page_count, donor_page_count;
    size_t hot_count; /* the first pages of the shuffled list */
};

/* IMAGE_FD will be changed; DONOR_FD gives the bytes. The same seed gives the same writes. */
void writer_init(struct writer *writer, int image_fd, int donor_fd, uint64_t seed);
void writer_fini(struct writer *writer);

/* Change PAGE_COUNT times some page; the same page may be met again. */
void writer_run(struct writer *writer, size_t page_count);

#endif
