/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_chunk_codec.c - each codec gives back what it was given, says when it gained nothing, and
 * refuses what is damaged, of another size or of a newer version.
 */
#include "base/fault.h"
#include "base/mem.h"
#include "chunk/codec.h"
#include "chunk/pages.h"
#include "tap.h"

enum { BYTES_MAX = 256 << 10 };

static struct base_random rng;
static struct chunk_coder *coder;
static uint8_t plain[BYTES_MAX];
static uint8_t made[BYTES_MAX];
static uint8_t *stored;

static void
fill(size_t size_bytes, enum page_kind kind)
{
    for (size_t at = 0; at < size_bytes; at += DOR_PAGE_BYTES)
        page_fill(&rng, kind, plain + at);
}

/* True when SIZE_BYTES of plain come back through CODEC. */
static bool
round_trip(enum chunk_codec codec, int level, size_t size_bytes, enum chunk_codec *ret_used)
{
    size_t stored_bytes;
    enum chunk_codec used = codec;
    memset(made, 0xee, size_bytes);
    if (chunk_compress(coder, &used, level, plain, size_bytes, stored, &stored_bytes) != 0 ||
        stored_bytes > size_bytes || (used != codec && used != CHUNK_NONE))
        return false;
    AUTO_FREE uint8_t *exact = exact_copy(stored, stored_bytes);
    *ret_used = used;
    return chunk_decompress(coder, used, exact, stored_bytes, made, size_bytes) == 0 &&
           memcmp(made, plain, size_bytes) == 0;
}

static void
test_round_trips(enum chunk_codec codec)
{
    static const size_t sizes[] = {1, 2, 15, 16, 17, 100, 4095, 4096, 4097, 16384, BYTES_MAX};
    const char *name = chunk_codec_name(codec);
    unsigned wrong = 0;
    enum chunk_codec used = codec;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        for (unsigned kind = 0; kind < PAGE_KINDS; kind++) {
            fill(sizes[i], (enum page_kind)kind);
            wrong += !round_trip(codec, 1 + (int)(i * 5 + kind) % 12, sizes[i], &used);
        }
    is_int(wrong, 0, "%s: all kinds of bytes come back", name);

    fill(16384, PAGE_TEXT);
    ok(round_trip(codec, 1, 16384, &used) && used == codec, "%s: text is made smaller", name);
    fill(16384, PAGE_RANDOM);
    ok(round_trip(codec, 1, 16384, &used) && used == CHUNK_NONE,
       "%s: what cannot be compressed is kept as it is", name);
    ok(round_trip(codec, 1, 0, &used), "%s: nothing at all comes back", name);
}

static void
test_wrong_size(enum chunk_codec codec)
{
    const char *name = chunk_codec_name(codec);
    size_t stored_bytes;
    enum chunk_codec used = codec;
    fill(8192, PAGE_TEXT);
    is_ok(
        chunk_compress(coder, &used, 1, plain, 8192, stored, &stored_bytes), "%s: text", name);
    is_int(
        chunk_decompress(coder, used, stored, stored_bytes, made, 8191), DOR_E_CORRUPT,
        "%s: a byte less is an error", name);
    is_int(
        chunk_decompress(coder, used, stored, stored_bytes, made, 8193), DOR_E_CORRUPT,
        "%s: a byte more is an error", name);
    is_int(
        chunk_decompress(coder, used, stored, stored_bytes, made, 0), DOR_E_CORRUPT,
        "%s: room for nothing is an error", name);
    unsigned accepted = 0;
    for (size_t cut = 0; cut < stored_bytes; cut++) {
        AUTO_FREE uint8_t *exact = exact_copy(stored, cut);
        accepted += chunk_decompress(coder, used, exact, cut, made, 8192) != DOR_E_CORRUPT;
    }
    is_int(accepted, 0, "%s: cut anywhere it is an error", name);
    is_ok(
        chunk_decompress(coder, used, stored, stored_bytes, made, 8192),
        "%s: the coder still works after that", name);
}

static void
test_damage(enum chunk_codec codec)
{
    size_t stored_bytes;
    enum chunk_codec used = codec;
    unsigned other = 0;
    fill(8192, PAGE_POINTERS);
    if (chunk_compress(coder, &used, 3, plain, 8192, stored, &stored_bytes) != 0)
        bail("%s", dor_err_message());
    AUTO_FREE uint8_t *mutant = exact_copy(stored, stored_bytes);
    for (int i = 0; i < 3000; i++) {
        memcpy(mutant, stored, stored_bytes);
        for (uint64_t n = 1 + base_random_below(&rng, 3); n > 0; n--)
            mutant[base_random_below(&rng, stored_bytes)] = (uint8_t)base_random_next(&rng);
        int err = chunk_decompress(coder, used, mutant, stored_bytes, made, 8192);
        other += err != 0 && err != DOR_E_CORRUPT;
    }
    is_int(other, 0, "%s: damage gives bytes or DOR_E_CORRUPT", chunk_codec_name(codec));
}

static void
test_names(void)
{
    enum chunk_codec codec = CHUNK_NONE;
    ok(chunk_codec_parse("zstd", &codec) == 0 && codec == CHUNK_ZSTD, "zstd is known");
    ok(chunk_codec_parse("lz4", &codec) == 0 && codec == CHUNK_LZ4, "lz4 is known");
    ok(chunk_codec_parse("none", &codec) == 0 && codec == CHUNK_NONE, "none is known");
    is_int(chunk_codec_parse("brotli", &codec), DOR_E_USAGE, "brotli is not");
    is_int(chunk_codec_parse("", &codec), DOR_E_USAGE, "nor an empty word");
    is_str(chunk_codec_name(99), "unknown", "a number without a name");
    for (unsigned unknown = CHUNK_LZ4 + 1; unknown < 300; unknown += 37)
        is_int(
            chunk_decompress(coder, unknown, stored, 10, made, 10), DOR_E_UNSUPPORTED,
            "codec %u is of a newer version", unknown);
}

/* zstd's settings at one level must not leak into the next call. */
static void
test_levels_do_not_mix(void)
{
    uint8_t first[16384];
    size_t first_bytes = 0;
    size_t again_bytes = 0;
    enum chunk_codec codec = CHUNK_ZSTD;
    fill(16384, PAGE_TEXT);
    int err = chunk_compress(coder, &codec, 1, plain, 16384, stored, &first_bytes);
    memcpy(first, stored, first_bytes);
    if (err == 0)
        err = chunk_compress(coder, &codec, 19, plain, 16384, stored, &again_bytes);
    if (err == 0)
        err = chunk_compress(coder, &codec, 1, plain, 16384, stored, &again_bytes);
    is_ok(err, "level 1, 19 and 1 again");
    is_int(again_bytes, first_bytes, "the last gives as many bytes as the first");
    is_mem(stored, first, first_bytes, "the same ones");
}

static void
test_no_memory(void)
{
    struct chunk_coder *none = NULL;
    base_fault_arm(FAULT_ALLOC, 1, 0);
    is_int(chunk_coder_new(&none), DOR_E_NO_MEMORY, "no memory for a coder");
    base_fault_arm(FAULT_NONE, 0, 0);
    ok(none == NULL, "and none is given");
    chunk_coder_free(NULL);
}

int
main(void)
{
    base_random_init(&rng, tap_seed());
    stored = base_alloc(chunk_compress_bound(BYTES_MAX));
    if (stored == NULL || chunk_coder_new(&coder) != 0)
        bail("%s", dor_err_message());
    for (unsigned codec = CHUNK_NONE; codec <= CHUNK_LZ4; codec++) {
        if (codec != CHUNK_NONE) {
            test_round_trips((enum chunk_codec)codec);
            test_damage((enum chunk_codec)codec);
        }
        test_wrong_size((enum chunk_codec)codec);
    }
    test_names();
    test_levels_do_not_mix();
    test_no_memory();
    chunk_coder_free(coder);
    base_free(stored);
    return done_testing();
}
