/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_options.c - a store works with each option at its least, its greatest and in between;
 * what is given at creation is kept; bad values are refused with words.
 */
#include "base/options.h"
#include "store/images.h"
#include "store/options.h"
#include "store/store_priv.h"

static struct base_random rng;
static struct image images[3];

#define BASE_OPTION_STRUCT struct store_options
static const struct base_option rows[] = {
#define OPTION BASE_OPTION_ROW
#include "store/options.def"
#undef OPTION
};

/* Puts the images and reads them back. */
static bool
works_with(const struct dor_options *options)
{
    static const char *const names[] = {"a", "b", "c"};
    struct dor_store *store;
    bool fine = true;
    if (dor_store_open_memory(options, &store) != 0)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(images) && fine; i++)
        fine = put_image(store, names[i], &images[i], NULL, NULL) == 0;
    for (size_t i = 0; i < ARRAY_LEN(images) && fine; i++)
        fine = reads_back(store, names[i], &images[i]);
    dor_store_close(store);
    return fine;
}

static void
test_value(const char *name, const char *value)
{
    struct dor_options *options = OPTIONS(name, value);
    ok(works_with(options), "%s=%s", name, value);
    dor_options_free(options);
}

static void
test_refused(const char *name, const char *value)
{
    struct dor_options *options;
    if (dor_options_new(&options) != 0)
        bail("%s", dor_err_message());
    is_int(dor_options_set(options, name, value), DOR_E_USAGE, "refused: %s=%s", name, value);
    dor_options_free(options);
}

static void
test_row(const struct base_option *row)
{
    char text[32];
    if (row->type == BASE_OPTION_BOOL) {
        test_value(row->name, "yes");
        test_value(row->name, "no");
        test_refused(row->name, "maybe");
        return;
    }
    if (row->type == BASE_OPTION_STRING)
        return;
    const uint64_t good[] = {row->min, row->max, row->min + (row->max - row->min) / 3};
    size_t count = strstr(row->name, "chunk_bytes") != NULL ? 2 : 3;
    for (size_t i = 0; i < count; i++) {
        snprintf(text, sizeof text, "%" PRIu64, good[i]);
        test_value(row->name, text);
    }
    snprintf(text, sizeof text, "%" PRIu64, row->max + 1);
    test_refused(row->name, text);
    if (row->min > 0) {
        snprintf(text, sizeof text, "%" PRIu64, row->min - 1);
        test_refused(row->name, text);
    }
    test_refused(row->name, "-1");
    test_refused(row->name, "");
    test_refused(row->name, "much");
}

static void
test_codecs(void)
{
    test_value("codec", "zstd");
    test_value("codec", "lz4");
    test_value("codec", "none");
    test_refused("codec", "gzip");
    test_refused("codec", "");
    test_value("rx_map_codec", "lz4");
    test_value("w_map_codec", "same");
    test_refused("nrt_codec", "gzip");
    test_value("chain_codec", "zstd");
    test_refused("chain_codec", "same");
    test_value("cluster_codec", "zstd");
    test_refused("cluster_codec", "same");
    test_refused("nrt_chunk_bytes", "12288");
    test_refused("no_such_option", "1");
    test_refused("", "1");
}

/* Options together, drawn at random: pairs that do not go together would show. */
static void
test_together(void)
{
    static const char *const codecs[] = {"zstd", "lz4", "none"};
    static const char *const sizes[] = {"4KiB", "8KiB", "16KiB", "32KiB", "64KiB"};
    for (int round = 0; round < 12; round++) {
        char patch_group[16], group[16], most[16], samples[16], tried[16];
        snprintf(patch_group, sizeof patch_group, "%d", (int)base_random_below(&rng, 30000));
        snprintf(group, sizeof group, "%d", 1 + (int)base_random_below(&rng, 64));
        snprintf(most, sizeof most, "%d", 64 + (int)base_random_below(&rng, 4033));
        snprintf(samples, sizeof samples, "%d", 1 + (int)base_random_below(&rng, 8));
        snprintf(tried, sizeof tried, "%d", 1 + (int)base_random_below(&rng, 4));
        const char *chunk = sizes[base_random_below(&rng, ARRAY_LEN(sizes))];
        const char *codec = codecs[base_random_below(&rng, ARRAY_LEN(codecs))];
        struct dor_options *options = OPTIONS(
            "codec", codec, "patch_group_bytes", patch_group, "nrt_group_pages", group,
            "patch_bytes_max", most, "fingerprints", samples, "candidates", tried,
            "nrt_chunk_bytes", chunk, "segment_bytes_max", "65536", "window_bytes", "1M");
        ok(works_with(options),
           "codec %s, patch group %s, group %s, patch %s, samples %s, tried %s, chunk %s",
           codec, patch_group, group, most, samples, tried, chunk);
        dor_options_free(options);
    }
}

static void
test_kept(void)
{
    struct dor_options *creation = OPTIONS("codec", "lz4", "patch_level", "7");
    struct dor_options *handle = OPTIONS("codec", "none");
    struct dor_store *store = new_store("kept", creation);
    is_int(store->options.codec_ids[DOR_NRT], CHUNK_LZ4, "an option of the creation holds");
    is_int(store->options.patch_level, 7, "another");
    must_put(store, "lz4", &images[0]);
    dor_store_close(store);
    if (dor_store_open(test_path("kept"), DOR_OPEN_WRITE, handle, &store) != 0)
        bail("%s", dor_err_message());
    is_int(store->options.codec_ids[DOR_NRT], CHUNK_NONE, "one given at opening wins");
    is_int(store->options.patch_level, 7, "the others stay");
    must_put(store, "none", &images[1]);
    is_int(store->options.codec_ids[DOR_NRT], CHUNK_NONE, "also after a put");
    is_int(dor_store_remove(store, "nobody"), DOR_E_NOT_FOUND, "and an error");
    dor_store_close(store);
    store = open_store(test_path("kept"), DOR_OPEN_WRITE);
    is_int(store->options.codec_ids[DOR_NRT], CHUNK_LZ4, "and only for that handle");
    ok(reads_back(store, "lz4", &images[0]) && reads_back(store, "none", &images[1]),
       "what was stored with either reads back");
    dor_store_close(store);
    dor_options_free(creation);
    dor_options_free(handle);
}

struct table_seen {
    size_t count;
    unsigned wrong;
};

static void
see_option(
    void *context, const char *name, const char *preset, const char *unit, const char *text)
{
    struct table_seen *seen = context;
    struct dor_options *options;
    if (dor_options_new(&options) != 0)
        bail("%s", dor_err_message());
    seen->wrong +=
        dor_options_set(options, name, preset) != 0 || strlen(text) == 0 || unit == NULL;
    seen->count++;
    dor_options_free(options);
}

static void
test_table(void)
{
    struct table_seen seen = {0};
    dor_options_each(see_option, &seen);
    is_int(seen.count, ARRAY_LEN(rows), "the table can be walked");
    is_int(seen.wrong, 0, "each default can be set by its name");
    dor_options_free(NULL);
}

int
main(void)
{
    work_in_memory();
    base_random_init(&rng, tap_seed());
    image_make(&rng, &images[0], 90);
    for (size_t i = 1; i < ARRAY_LEN(images); i++) {
        image_copy(&images[i], &images[i - 1]);
        image_evolve(&rng, &images[i]);
    }
    test_table();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        test_row(&rows[i]);
    test_codecs();
    test_together();
    test_kept();
    for (size_t i = 0; i < ARRAY_LEN(images); i++)
        image_fini(&images[i]);
    return done_testing();
}
