/* SPDX-License-Identifier: Apache-2.0 */
/*
 * writer.c - the seeded writer of writer.h.
 *
 * Of 100 writes 97 go to the hot set (1 page in 32), 3 to any page that was not zero at the
 * start. 50 change 1 to 16 words (a counter goes up, a word is copied from another page, or new
 * bits), 35 change 1 to 8 lines of 64 bytes, 15 replace the page, all with a donor's bytes.
 */
#include "writer.h"

#include "harness.h"

#include <stdlib.h>
#include <string.h>

enum {
    HOT_PERCENT = 97,
    HOT_SHARE = 32,
    WORDS_PERCENT = 50,
    LINES_PERCENT = 35,
    WORDS_MAX = 16,
    LINES_MAX = 8,
    LINE_BYTES = 64,
    WORD_BYTES = 8
};

static size_t
below(struct writer *writer, size_t limit)
{
    return (size_t)base_random_below(&writer->random, limit);
}

static void
shuffle(struct writer *writer)
{
    for (size_t i = writer->page_count; i > 1; i--) {
        size_t j = below(writer, i);
        uint32_t page_index = writer->pages[i - 1];
        writer->pages[i - 1] = writer->pages[j];
        writer->pages[j] = page_index;
    }
}

void
writer_init(struct writer *writer, int image_fd, int donor_fd, uint64_t seed)
{
    *writer = (struct writer){.image_fd = image_fd, .donor_fd = donor_fd};
    base_random_init(&writer->random, seed);
    writer->pages = bench_full_pages(image_fd, &writer->page_count);
    writer->donor_pages = bench_full_pages(donor_fd, &writer->donor_page_count);
    writer->hot_count = writer->page_count / HOT_SHARE;
    if (!writer->hot_count || !writer->donor_page_count)
        bench_die("too few pages that are not zero");
    shuffle(writer);
}

void
writer_fini(struct writer *writer)
{
    free(writer->pages);
    free(writer->donor_pages);
}

static void
change_words(struct writer *writer, uint8_t *page, const uint8_t *donor)
{
    for (size_t left = 1 + below(writer, WORDS_MAX); left > 0; left--) {
        uint8_t *at = page + below(writer, BENCH_PAGE_BYTES / WORD_BYTES) * WORD_BYTES;
        uint64_t word;
        memcpy(&word, at, sizeof word);
        switch (below(writer, 3)) {
        case 0:
            word += 1 + below(writer, 4096);
            break;
        case 1:
            memcpy(
                &word, donor + below(writer, BENCH_PAGE_BYTES / WORD_BYTES) * WORD_BYTES,
                sizeof word);
            break;
        default:
            word = base_random_next(&writer->random);
        }
        memcpy(at, &word, sizeof word);
    }
}

static void
change_lines(struct writer *writer, uint8_t *page, const uint8_t *donor)
{
    enum { LINES = BENCH_PAGE_BYTES / LINE_BYTES };
    for (size_t left = 1 + below(writer, LINES_MAX); left > 0; left--) {
        size_t to = below(writer, LINES) * LINE_BYTES, from = below(writer, LINES) * LINE_BYTES;
        memcpy(page + to, donor + from, LINE_BYTES);
    }
}

void
writer_run(struct writer *writer, size_t page_count)
{
    uint8_t page[BENCH_PAGE_BYTES], donor[BENCH_PAGE_BYTES];
    for (size_t i = 0; i < page_count; i++) {
        bool hot = below(writer, 100) < HOT_PERCENT;
        size_t which = below(writer, hot ? writer->hot_count : writer->page_count);
        uint32_t page_index = writer->pages[which];
        bench_read_page(writer->image_fd, page_index, page);
        bench_read_page(
            writer->donor_fd, writer->donor_pages[below(writer, writer->donor_page_count)],
            donor);
        size_t kind = below(writer, 100);
        if (kind < WORDS_PERCENT) {
            change_words(writer, page, donor);
        } else if (kind < WORDS_PERCENT + LINES_PERCENT) {
            change_lines(writer, page, donor);
        } else {
            change_words(writer, donor, page);
            memcpy(page, donor, sizeof page);
        }
        bench_write_page(writer->image_fd, page_index, page);
    }
}
