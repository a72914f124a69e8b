/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_domains.c - trust domains share nothing: the same content costs each the same, whatever
 * the others hold, so that no size tells one of another.
 */
#include "store/images.h"
#include "store/tree.h"

static struct base_random rng;

static struct dor_put_result
put_in(struct dor_store *store, const char *domain, const char *name, const struct image *image)
{
    struct dor_put put = {.domain = domain};
    struct dor_put_result result = {0};
    if (put_image(store, name, image, &put, &result) != 0)
        bail("%s", dor_err_message());
    return result;
}

/* Bytes in segment files. */
static uint64_t
segment_bytes(const char *path)
{
    uint64_t bytes = 0;
    struct tree tree;
    tree_read(&tree, path);
    for (size_t i = 0; i < tree.count; i++)
        if (strncmp(tree.files[i].name, "seg.", 4) == 0)
            bytes += tree.files[i].size_bytes;
    tree_fini(&tree);
    return bytes;
}

/* Recipes hold a time, which is compressed with the rest: a few bytes more or less mean nothing. */
static bool
is_near(uint64_t left, uint64_t right)
{
    return left <= right + 16 && right <= left + 16;
}

static void
test_same_content(const struct image *image)
{
    const char *path = test_path("together");
    struct dor_store *store = new_store("together", NULL);
    struct dor_put_result first = put_in(store, "one", "first-1", image);
    uint64_t first_bytes = segment_bytes(path);
    struct dor_put_result second = put_in(store, "two", "first-2", image);
    uint64_t second_bytes = segment_bytes(path) - first_bytes;
    is_int(
        second_bytes, first_bytes, "the second domain's segments are as large as the first's");
    ok(is_near(first.added_bytes, second.added_bytes), "added bytes too: %d and %d",
       (int)first.added_bytes, (int)second.added_bytes);
    is_mem(&first.total, &second.total, sizeof first.total, "and pages by kind");

    struct dor_put_result again = put_in(store, "two", "again", image);
    is_int(again.total.raw_bytes + again.total.patched_bytes, 0, "a domain shares with itself");
    is_int(segment_bytes(path), 2 * first_bytes, "for which it stores nothing");

    struct dor_store *alone = new_store("alone", NULL);
    struct dor_put_result lonely = put_in(alone, "two", "first-2", image);
    is_int(
        segment_bytes(test_path("alone")), first_bytes,
        "with no other domain there it is the same size");
    ok(is_near(lonely.added_bytes, second.added_bytes), "and the same added bytes");
    ok(reads_back(store, "first-1", image) && reads_back(store, "first-2", image) &&
           reads_back(alone, "first-2", image),
       "all read back");
    dor_store_close(store);
    dor_store_close(alone);
}

/* One domain's history does not show in the other's sizes: puts alternate, or come in turn. */
static void
test_interleaved(const struct image *images, size_t count)
{
    static const char *const domains[] = {"one", "two"};
    uint64_t added[2][8];
    unsigned wrong = 0;
    for (int alternate = 0; alternate <= 1; alternate++) {
        struct dor_store *store = new_store(alternate ? "alternate" : "in turn", NULL);
        for (size_t i = 0; i < 2 * count; i++) {
            size_t domain = alternate ? i % 2 : i / count;
            size_t image = alternate ? i / 2 : i % count;
            char name[32];
            snprintf(name, sizeof name, "%s-%zu", domains[domain], image);
            struct dor_put_result result = put_in(store, domains[domain], name, &images[image]);
            if (domain == 1)
                added[alternate][image] = result.added_bytes;
        }
        for (size_t i = 0; i < count; i++)
            wrong += !reads_back(store, i % 2 == 0 ? "one-1" : "two-1", &images[1]);
        dor_store_close(store);
    }
    for (size_t i = 0; i < count; i++)
        wrong += !is_near(added[0][i], added[1][i]);
    is_int(wrong, 0, "what another domain does at the same time does not show");
}

static void
test_remove(const struct image *image)
{
    struct dor_store *store = memory_store();
    put_in(store, "one", "a", image);
    put_in(store, "two", "b", image);
    is_ok(dor_store_remove(store, "a"), "one domain's snapshot is removed");
    ok(reads_back(store, "b", image), "the other's is unharmed");
    struct dor_put put = {.domain = "one", .replace = true};
    is_ok(put_image(store, "b", image, &put, NULL), "a snapshot is replaced from elsewhere");
    ok(reads_back(store, "b", image), "and reads back");
    dor_store_close(store);
}

static void
test_many(const struct image *image)
{
    enum { DOMAINS = 60 };
    struct dor_store *store = memory_store();
    unsigned wrong = 0;
    char name[32];
    for (int i = 0; i < DOMAINS; i++) {
        snprintf(name, sizeof name, "domain %d", i * 37 % DOMAINS);
        put_in(store, name, name, image);
    }
    for (int i = 0; i < DOMAINS; i++) {
        snprintf(name, sizeof name, "domain %d", i);
        wrong += compare_image(store, name, image) != 1;
    }
    is_int(wrong, 0, "%d domains side by side", DOMAINS);
    dor_store_close(store);
}

int
main(void)
{
    struct image images[4];
    work_in_memory();
    base_random_init(&rng, tap_seed());
    image_make(&rng, &images[0], 150);
    for (size_t i = 1; i < ARRAY_LEN(images); i++) {
        image_copy(&images[i], &images[i - 1]);
        image_evolve(&rng, &images[i]);
    }
    test_same_content(&images[0]);
    test_interleaved(images, ARRAY_LEN(images));
    test_remove(&images[0]);
    test_many(&images[0]);
    for (size_t i = 0; i < ARRAY_LEN(images); i++)
        image_fini(&images[i]);
    return done_testing();
}
