/* SPDX-License-Identifier: Apache-2.0 */
/*
 * random_page.c - how long one page takes from an open store with nothing cached, against
 * decoding one 4 KiB zstd -1 frame of the same page.
 *
 *   random_page STORE SNAPSHOT IMAGE SEED [NAME=VALUE ...]
 *
 * Claim: at p50 at most 3 times as long for raw pages, 6 times for patched ones. Frames of all
 * pages lie in image order in memory, so that both sides reach for cold bytes at random; blocks
 * of ours and of the peer alternate, and the peer is measured twice, which shows how far two
 * equal measurements lie apart. Every page is compared with the image.
 */
#include "base/clock.h"
#include "base/random.h"
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

enum { SAMPLES_MAX = 20000, BLOCK = 64, LEVEL = 1 };

struct frames {
    uint8_t *data;
    size_t *offsets; /* of each page of the image; the next one is its end */
    ZSTD_DCtx *decoder;
};

struct times {
    uint64_t ours[SAMPLES_MAX], peer[SAMPLES_MAX], again[SAMPLES_MAX];
};

static struct times times;

static void
frames_init(struct frames *frames, int image_fd, uint64_t page_count)
{
    size_t bound = ZSTD_compressBound(BENCH_PAGE_BYTES), used = 0, room = 0;
    uint8_t page[BENCH_PAGE_BYTES];
    *frames = (struct frames){.decoder = ZSTD_createDCtx()};
    frames->offsets = calloc(page_count + 1, sizeof *frames->offsets);
    ZSTD_CCtx *encoder = ZSTD_createCCtx();
    if (!frames->decoder || !frames->offsets || !encoder)
        bench_die("no memory for frames");
    for (uint64_t i = 0; i < page_count; i++) {
        if (room - used < bound) {
            room = room * 2 + bound;
            frames->data = realloc(frames->data, room);
            if (!frames->data)
                bench_die("no memory for frames");
        }
        bench_read_page(image_fd, i, page);
        size_t size = ZSTD_compressCCtx(
            encoder, frames->data + used, room - used, page, sizeof page, LEVEL);
        if (ZSTD_isError(size))
            bench_die("zstd: %s", ZSTD_getErrorName(size));
        used += size;
        frames->offsets[i + 1] = used;
    }
    ZSTD_freeCCtx(encoder);
}

static void
frames_fini(struct frames *frames)
{
    ZSTD_freeDCtx(frames->decoder);
    free(frames->offsets);
    free(frames->data);
}

/* The pages of KIND in random order; *RET_COUNT of them, at most SAMPLES_MAX. */
static uint64_t *
pick(
    const struct dor_snapshot *snapshot, enum dor_page_kind kind, uint64_t seed,
    size_t *ret_count)
{
    uint64_t page_count = dor_snapshot_info(snapshot)->logical_bytes / BENCH_PAGE_BYTES;
    uint64_t *pages = calloc(page_count + 1, sizeof *pages);
    struct base_random random;
    size_t count = 0;
    if (!pages)
        bench_die("no memory for %llu pages", (unsigned long long)page_count);
    for (uint64_t i = 0; i < page_count; i++) {
        if (dor_snapshot_page_kind(snapshot, i) == kind)
            pages[count++] = i;
    }
    base_random_init(&random, seed);
    for (size_t i = count; i > 1; i--) {
        size_t j = (size_t)base_random_below(&random, i);
        uint64_t page_index = pages[i - 1];
        pages[i - 1] = pages[j];
        pages[j] = page_index;
    }
    *ret_count = count < SAMPLES_MAX ? count : SAMPLES_MAX;
    return pages;
}

static void
time_ours(
    struct dor_snapshot *snapshot, int image_fd, const uint64_t *pages, size_t count,
    uint64_t *ret)
{
    uint8_t page[BENCH_PAGE_BYTES], image_page[BENCH_PAGE_BYTES];
    for (size_t i = 0; i < count; i++) {
        uint64_t begin = base_clock_monotonic_ns();
        int code = dor_snapshot_read_page(snapshot, pages[i], page);
        ret[i] = base_clock_monotonic_ns() - begin;
        bench_must(code, "read page");
        bench_read_page(image_fd, pages[i], image_page);
        if (memcmp(page, image_page, sizeof page))
            bench_die("page %llu: wrong bytes", (unsigned long long)pages[i]);
    }
}

static void
time_peer(
    const struct frames *frames, int image_fd, const uint64_t *pages, size_t count,
    uint64_t *ret)
{
    uint8_t page[BENCH_PAGE_BYTES], image_page[BENCH_PAGE_BYTES];
    for (size_t i = 0; i < count; i++) {
        const uint8_t *frame = frames->data + frames->offsets[pages[i]];
        size_t size = frames->offsets[pages[i] + 1] - frames->offsets[pages[i]];
        uint64_t begin = base_clock_monotonic_ns();
        size_t got = ZSTD_decompressDCtx(frames->decoder, page, sizeof page, frame, size);
        ret[i] = base_clock_monotonic_ns() - begin;
        bench_read_page(image_fd, pages[i], image_page);
        if (got != sizeof page || memcmp(page, image_page, sizeof page))
            bench_die("frame %llu: wrong bytes", (unsigned long long)pages[i]);
    }
}

static void
measure(
    struct dor_snapshot *snapshot, const struct frames *frames, int image_fd,
    enum dor_page_kind kind, const char *label, uint64_t seed)
{
    size_t count;
    uint64_t *pages = pick(snapshot, kind, seed, &count);
    /* Once unmeasured, so that the files of the store are in the page cache and mapped. */
    time_ours(snapshot, image_fd, pages, count, times.ours);
    for (size_t at = 0; at < count; at += BLOCK) {
        size_t now = count - at < BLOCK ? count - at : BLOCK;
        time_peer(frames, image_fd, pages + at, now, times.peer + at);
        time_ours(snapshot, image_fd, pages + at, now, times.ours + at);
        /* Again with pages from the other end, whose frames are not in the cache. */
        time_peer(frames, image_fd, pages + count - at - now, now, times.again + at);
    }
    printf("\"%s\": {\"pages\": %zu", label, count);
    struct {
        const char *name;
        uint64_t *times;
    } sides[] = {{"ours", times.ours}, {"peer", times.peer}, {"again", times.again}};
    for (size_t i = 0; i < sizeof sides / sizeof *sides; i++) {
        unsigned long long p50 = bench_percentile(sides[i].times, count, 0.50);
        unsigned long long p99 = bench_percentile(sides[i].times, count, 0.99);
        printf(
            ", \"%s_p50_ns\": %llu, \"%s_p99_ns\": %llu", sides[i].name, p50, sides[i].name,
            p99);
    }
    printf("}");
    free(pages);
}

int
main(int argc, char **argv)
{
    if (argc < 5)
        bench_die("usage: random_page STORE SNAPSHOT IMAGE SEED [NAME=VALUE ...]");
    struct dor_options *options = bench_options(argc - 5, argv + 5);
    uint64_t seed = bench_number(argv[4]);
    struct dor_store *store;
    struct dor_snapshot *snapshot;
    struct frames frames;
    int image_fd = bench_open(argv[3]);
    bench_must(dor_store_open(argv[1], DOR_OPEN_READ, options, &store), argv[1]);
    bench_must(dor_snapshot_open(store, argv[2], &snapshot), argv[2]);
    frames_init(&frames, image_fd, bench_size_bytes(image_fd) / BENCH_PAGE_BYTES);
    printf("{\"libzstd\": \"%s\", ", ZSTD_versionString());
    measure(snapshot, &frames, image_fd, DOR_PAGE_RAW, "raw", seed);
    printf(", ");
    measure(snapshot, &frames, image_fd, DOR_PAGE_PATCHED, "patched", seed + 1);
    printf("}\n");
    frames_fini(&frames);
    dor_snapshot_close(snapshot);
    dor_store_close(store);
    dor_options_free(options);
    return 0;
}
