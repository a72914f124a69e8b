/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_sidecars.c - files beside the memory come back as they were: none, many, empty and large
 * ones; bad lists of them are refused as a whole.
 */
#include "store/images.h"

static struct base_random rng;
static struct image image;

static int
put_sidecars(
    struct dor_store *store, const char *name, const struct dor_sidecar *sidecars, size_t count)
{
    struct dor_put put = {.sidecars = sidecars, .sidecar_count = count};
    return put_image(store, name, &image, &put, NULL);
}

static bool
sidecar_is(struct dor_snapshot *snapshot, size_t index, const struct dor_sidecar *want)
{
    char name[DOR_NAME_BYTES_MAX + 1];
    void *data = NULL;
    size_t size_bytes = 0;
    if (dor_snapshot_read_sidecar(snapshot, index, name, &data, &size_bytes) != 0) {
        note("%s", dor_err_message());
        return false;
    }
    bool same = strcmp(name, want->name) == 0 && size_bytes == want->size_bytes &&
                (size_bytes == 0 || memcmp(data, want->data, size_bytes) == 0);
    free(data);
    return same;
}

static void
check(
    struct dor_store *store, const struct dor_sidecar *sidecars, size_t count, const char *what)
{
    struct dor_snapshot *snapshot;
    bool same = true;
    char name[DOR_NAME_BYTES_MAX + 1];
    void *data = NULL;
    size_t size_bytes;
    is_ok(put_sidecars(store, what, sidecars, count), "put %s", what);
    if (dor_snapshot_open(store, what, &snapshot) != 0)
        bail("%s", dor_err_message());
    is_int(dor_snapshot_info(snapshot)->sidecar_count, count, "%s: their number", what);
    for (size_t i = 0; i < count; i++)
        same = same && sidecar_is(snapshot, i, &sidecars[i]);
    ok(same, "%s: come back in order", what);
    is_int(
        dor_snapshot_read_sidecar(snapshot, count, name, &data, &size_bytes), DOR_E_USAGE,
        "%s: there is none after the last", what);
    dor_snapshot_close(snapshot);
    ok(reads_back(store, what, &image), "%s: the image is unharmed", what);
}

static void
test_numbers(struct dor_store *store)
{
    struct dor_sidecar sidecars[DOR_SIDECARS_MAX + 1];
    char names[DOR_SIDECARS_MAX + 1][32];
    uint8_t data[DOR_PAGE_BYTES];
    page_fill_text(&rng, data);
    check(store, NULL, 0, "no sidecars");
    for (size_t i = 0; i < ARRAY_LEN(sidecars); i++) {
        snprintf(names[i], sizeof names[i], "file-%zu", i);
        sidecars[i] = (struct dor_sidecar){names[i], data, i * 40};
    }
    check(store, sidecars, 2, "two sidecars");
    check(store, sidecars, DOR_SIDECARS_MAX, "as many sidecars as may be");
    is_int(
        put_sidecars(store, "more", sidecars, DOR_SIDECARS_MAX + 1), DOR_E_USAGE,
        "one more is refused");
}

static void
test_sizes(struct dor_store *store)
{
    enum { LARGE_BYTES = 5 << 20 };
    AUTO_FREE uint8_t *random = base_alloc(LARGE_BYTES);
    AUTO_FREE uint8_t *text = base_alloc(LARGE_BYTES);
    if (random == NULL || text == NULL)
        bail("%s", dor_err_message());
    base_random_fill(&rng, random, LARGE_BYTES);
    for (size_t at = 0; at < LARGE_BYTES; at += DOR_PAGE_BYTES)
        page_fill_text(&rng, text + at);
    const struct dor_sidecar sidecars[] = {
        {"empty", "", 0},
        {"empty, no pointer", NULL, 0},
        {"one byte", "x", 1},
        {"random", random, LARGE_BYTES},
        {"text", text, LARGE_BYTES},
        {"last", "end", 3}};
    check(store, sidecars, ARRAY_LEN(sidecars), "sidecars of all sizes");
}

static void
test_refused(struct dor_store *store)
{
    char long_name[DOR_NAME_BYTES_MAX + 2];
    memset(long_name, 'n', sizeof long_name);
    long_name[sizeof long_name - 1] = 0;
    const struct dor_sidecar bad[] = {{"a/b", "x", 1},     {"", "x", 1},
                                      {"..", "x", 1},      {"\x01", "x", 1},
                                      {long_name, "x", 1}, {"huge", "x", SIZE_MAX}};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        is_int(put_sidecars(store, "refused", &bad[i], 1), DOR_E_USAGE, "refused: %zu", i);
    const struct dor_sidecar twice[] = {{"a", "1", 1}, {"b", "2", 1}, {"a", "3", 1}};
    is_int(
        put_sidecars(store, "refused", twice, 3), DOR_E_USAGE, "one name for two is refused");
    struct dor_snapshot *snapshot;
    is_int(
        dor_snapshot_open(store, "refused", &snapshot), DOR_E_NOT_FOUND,
        "nothing was put under that name");
}

int
main(void)
{
    work_in_memory();
    base_random_init(&rng, tap_seed());
    image_make(&rng, &image, 20);
    struct dor_store *stores[] = {memory_store(), new_store("store", NULL)};
    for (size_t i = 0; i < ARRAY_LEN(stores); i++) {
        test_numbers(stores[i]);
        test_sizes(stores[i]);
        test_refused(stores[i]);
        dor_store_close(stores[i]);
    }
    image_fini(&image);
    return done_testing();
}
