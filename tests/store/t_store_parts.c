/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_parts.c - page classes and the frame that an image was put with come back with it,
 * wherever it is copied, and are no sidecars; damaged ones are told, and cost nothing else.
 */
#include "store/roots.h"
#include "store/snapshot.h"
#include "store/sources.h"
#include "store/store_priv.h"
#include "store/tree.h"

enum { PAGES = 200, FRAME_BYTES = 70000 };

static struct base_random rng;
static struct image image;
static uint8_t classes[PAGES];
static uint8_t frame[FRAME_BYTES];
static uint64_t pages_by_class[DOR_CLASSES];

static void
put_parts(struct dor_store *store, const char *name, struct dor_put put)
{
    if (put_image(store, name, &image, &put, NULL) != 0)
        bail("put of %s: %s", name, dor_err_message());
}

static const struct dor_put both = {
    .page_classes = classes, .frame = frame, .frame_bytes = FRAME_BYTES};

/* WANT_CLASSES and WANT_FRAME: 1 = the right ones, DOR_E_NOT_FOUND = none. */
static void
check_parts(
    struct dor_store *store, const char *name, int want_classes, int want_frame,
    const char *what)
{
    struct dor_snapshot *snapshot = must_open(store, name);
    is_int(compare_classes(snapshot, classes), want_classes, "%s: page classes", what);
    is_int(compare_frame(snapshot, frame, FRAME_BYTES), want_frame, "%s: frame", what);
    ok(reads_back(store, name, &image), "%s: pages", what);
    dor_snapshot_close(snapshot);
}

/* ------------------------------------------------------------------ there and back */

static void
test_each(void)
{
    static const uint8_t nothing[1];
    struct dor_store *store = memory_store();
    put_parts(store, "none", (struct dor_put){0});
    put_parts(store, "classes", (struct dor_put){.page_classes = classes});
    put_parts(store, "frame", (struct dor_put){.frame = frame, .frame_bytes = FRAME_BYTES});
    put_parts(store, "both", both);
    put_parts(store, "empty", (struct dor_put){.frame = nothing, .frame_bytes = 0});
    check_parts(store, "none", DOR_E_NOT_FOUND, DOR_E_NOT_FOUND, "neither");
    check_parts(store, "classes", 1, DOR_E_NOT_FOUND, "classes alone");
    check_parts(store, "frame", DOR_E_NOT_FOUND, 1, "a frame alone");
    check_parts(store, "both", 1, 1, "both");
    check_parts(store, "empty", DOR_E_NOT_FOUND, DOR_E_NOT_FOUND, "an empty frame is none");
    dor_store_close(store);
}

/* What no file of a snapshot could tell the size of is not read at all. */
static void
test_large_frame(void)
{
    struct dor_store *store = memory_store();
    struct dor_put put = {.frame = frame, .frame_bytes = (UINT64_C(1) << 30) + 1};
    is_int(
        put_image(store, "a", &image, &put, NULL), DOR_E_USAGE,
        "a frame of more than 1 GiB is refused");
    ok(strstr(dor_err_message(), "frame") != NULL, "with words");
    dor_store_close(store);
}

static void
test_bad_class(void)
{
    struct dor_store *store = memory_store();
    struct dor_put put = {.page_classes = classes};
    uint8_t before = classes[123];
    classes[123] = DOR_CLASSES;
    is_int(
        put_image(store, "a", &image, &put, NULL), DOR_E_USAGE,
        "a class that does not exist is refused");
    ok(strstr(dor_err_message(), "page 123") != NULL, "and the page is named");
    classes[123] = before;
    dor_store_close(store);
}

/* As many sidecars as there may be, and the parts after them. */
static void
test_beside_sidecars(void)
{
    static char names[DOR_SIDECARS_MAX][16];
    struct dor_sidecar sidecars[DOR_SIDECARS_MAX];
    struct dor_store *store = memory_store();
    struct dor_put put = both;
    char name[DOR_NAME_BYTES_MAX + 1];
    void *data = NULL;
    size_t size_bytes = 0;
    for (size_t i = 0; i < DOR_SIDECARS_MAX; i++) {
        snprintf(names[i], sizeof names[i], "sidecar-%02zu", i);
        sidecars[i] = (struct dor_sidecar){names[i], names[i], i % 10};
    }
    put.sidecars = sidecars;
    put.sidecar_count = DOR_SIDECARS_MAX;
    put_parts(store, "a", put);
    check_parts(store, "a", 1, 1, "beside sidecars");
    struct dor_snapshot *snapshot = must_open(store, "a");
    is_int(dor_snapshot_info(snapshot)->sidecar_count, DOR_SIDECARS_MAX, "they count as none");
    is_ok(
        dor_snapshot_read_sidecar(snapshot, DOR_SIDECARS_MAX - 1, name, &data, &size_bytes),
        "the last sidecar");
    is_str(name, names[DOR_SIDECARS_MAX - 1], "is the user's");
    free(data);
    is_int(
        dor_snapshot_read_sidecar(snapshot, DOR_SIDECARS_MAX, name, &data, &size_bytes),
        DOR_E_USAGE, "and no part comes after it");
    dor_snapshot_close(snapshot);
    sidecars[0].name = STORE_PART_CLASSES;
    is_int(
        put_image(store, "b", &image, &put, NULL), DOR_E_USAGE,
        "no sidecar can have a part's name");
    dor_store_close(store);
}

/* ------------------------------------------------------------------ what is told of classes */

static int
find_info(void *context, const struct dor_snapshot_info *info)
{
    memcpy(context, info->put.pages_by_class, sizeof info->put.pages_by_class);
    return 0;
}

static void
test_numbers(void)
{
    struct dor_store *store = memory_store();
    struct dor_put_result result = {0};
    struct dor_stat stat = {0};
    struct dor_explain explain = {0};
    struct dor_kind_bytes sum = {0};
    uint64_t listed[DOR_CLASSES] = {0};
    unsigned wrong = 0;
    is_ok(put_image(store, "a", &image, &both, &result), "put with classes");
    is_mem(result.pages_by_class, pages_by_class, sizeof pages_by_class, "put counts them");
    is_ok(dor_store_list(store, find_info, listed), "list");
    is_mem(listed, pages_by_class, sizeof pages_by_class, "the snapshot knows");
    is_ok(dor_store_stat(store, &stat), "stat");
    is_mem(stat.pages_by_class, pages_by_class, sizeof pages_by_class, "the store knows");
    is_ok(dor_store_explain(store, "a", &explain), "explain");
    for (unsigned i = 0; i < DOR_CLASSES; i++) {
        wrong += explain.by_class[i].logical_bytes != pages_by_class[i] * DOR_PAGE_BYTES;
        store_kind_bytes_add(&sum, &explain.by_class[i]);
    }
    is_int(wrong, 0, "explain tells bytes of each class");
    is_int(sum.zero_bytes, explain.total.zero_bytes, "zeros add up");
    is_int(
        sum.raw_bytes + sum.patched_bytes + sum.exact_bytes,
        explain.total.raw_bytes + explain.total.patched_bytes + explain.total.exact_bytes,
        "so does what is stored");
    dor_explain_fini(&explain);
    must_put(store, "unknown", &image);
    is_ok(dor_store_explain(store, "unknown", &explain), "explain without classes");
    is_int(
        explain.by_class[DOR_CLASS_UNKNOWN].logical_bytes, PAGES * DOR_PAGE_BYTES,
        "all of it is unknown");
    dor_explain_fini(&explain);
    is_ok(dor_store_stat(store, &stat), "stat");
    is_mem(
        stat.pages_by_class, pages_by_class, sizeof pages_by_class,
        "the store counts what is known");
    dor_store_close(store);
}

/* ------------------------------------------------------------------ wherever the snapshot goes */

static void
test_replaced(void)
{
    struct dor_store *store = memory_store();
    struct dor_gc gc = {.squeeze = true};
    struct dor_gc_result collected;
    put_parts(store, "a", both);
    put_parts(store, "a", (struct dor_put){.replace = true});
    check_parts(store, "a", DOR_E_NOT_FOUND, DOR_E_NOT_FOUND, "replaced by one without");
    struct dor_put put = both;
    put.replace = true;
    put_parts(store, "a", put);
    is_ok(dor_store_gc(store, &gc, &collected), "squeeze");
    check_parts(store, "a", 1, 1, "replaced by one with, and squeezed");
    dor_store_close(store);
}

static void
test_copied(void)
{
    struct dor_store *store = memory_store();
    struct dor_store *target = memory_store();
    struct dor_put_result result;
    struct dor_stat stat = {0};
    put_parts(store, "a", both);
    is_ok(dor_store_copy(store, "a", target, "b", &result), "copy");
    is_mem(result.pages_by_class, pages_by_class, sizeof pages_by_class, "counts its classes");
    check_parts(target, "b", 1, 1, "copied");
    is_ok(dor_store_stat(target, &stat), "stat of the copy");
    is_mem(stat.pages_by_class, pages_by_class, sizeof pages_by_class, "knows its classes");
    dor_store_close(store);
    dor_store_close(target);
}

/* Absorbing writes the snapshot's file anew. */
static void
test_absorbed(void)
{
    struct dor_store *store = new_store("absorbed", NULL);
    struct dor_stat stat = {0};
    const char *path = test_path("root.img");
    write_root(path, &image, 0);
    must_add_root(store, path, "root");
    put_parts(store, "a", both);
    is_ok(dor_store_root_remove(store, "root", true), "a root image is absorbed");
    unlink(path);
    check_parts(store, "a", 1, 1, "after absorbing");
    is_ok(dor_store_stat(store, &stat), "stat");
    is_mem(stat.pages_by_class, pages_by_class, sizeof pages_by_class, "knows its classes");
    dor_store_close(store);
}

/* ------------------------------------------------------------------ damage */

static uint64_t
check_directory(const char *path, bool repair)
{
    struct dor_check check = {.repair = repair};
    struct dor_check_result result = {0};
    if (dor_store_check_directory(path, &check, &result) != 0)
        bail("check: %s", dor_err_message());
    return result.findings;
}

static void
test_rebuilt(void)
{
    const char *path = test_path("rebuilt");
    struct dor_store *store = new_store("rebuilt", NULL);
    struct dor_stat stat = {0};
    struct tree tree;
    put_parts(store, "a", both);
    dor_store_close(store);
    tree_read(&tree, path);
    tree_remove(&tree, "catalog");
    tree_write(&tree, path);
    tree_fini(&tree);
    ok(check_directory(path, true) > 0, "a lost catalog is repaired");
    store = open_store(path, DOR_OPEN_WRITE);
    check_parts(store, "a", 1, 1, "after that");
    is_ok(dor_store_stat(store, &stat), "stat");
    is_mem(stat.pages_by_class, pages_by_class, sizeof pages_by_class, "knows its classes");
    dor_store_close(store);
}

/* The bytes of a part in the file of snapshot "a", the only one in TREE's store. */
static uint8_t *
part_bytes(struct tree *tree, const char *path, const char *part)
{
    struct tree_file *file = tree_get(tree, "snap.0000000000000001");
    struct dor_store *store = open_store(path, DOR_OPEN_READ);
    struct dor_snapshot *snapshot = must_open(store, "a");
    const struct store_recipe *recipe = store_snapshot_recipe(snapshot);
    uint8_t *bytes = NULL;
    for (size_t i = 0; i < recipe->sidecar_count; i++)
        if (strcmp(recipe->sidecars[i].name, part) == 0)
            bytes = file->bytes + recipe->sidecars[i].offset;
    if (bytes == NULL)
        bail("no %s", part);
    dor_snapshot_close(snapshot);
    dor_store_close(store);
    return bytes;
}

/* A changed byte in PART: told by who reads it and by check; the rest is as before. */
static void
test_damaged(const char *part, bool are_classes)
{
    const char *path = test_path(part + 1);
    struct dor_store *store = new_store(part + 1, NULL);
    struct dor_stat stat = {0};
    struct tree tree;
    put_parts(store, "a", both);
    dor_store_close(store);
    tree_read(&tree, path);
    part_bytes(&tree, path, part)[20] ^= 4;
    tree_write(&tree, path);
    tree_fini(&tree);
    store = open_store(path, DOR_OPEN_READ);
    check_parts(
        store, "a", are_classes ? DOR_E_CORRUPT : 1, are_classes ? 1 : DOR_E_CORRUPT, part);
    dor_store_close(store);
    is_int(check_directory(path, false), 1, "%s: check tells of one thing", part);
    if (!are_classes)
        return;
    is_int(check_directory(path, true), 1, "classes: repair does too");
    is_int(check_directory(path, false), 0, "classes: and then there is nothing to tell");
    store = open_store(path, DOR_OPEN_WRITE);
    check_parts(store, "a", DOR_E_NOT_FOUND, 1, "repaired");
    is_ok(dor_store_stat(store, &stat), "stat");
    is_int(stat.pages_by_class[DOR_CLASS_ANON], 0, "no classes are counted any more");
    dor_store_close(store);
}

/* A snapshot file that put does not write: right checksums, CLASSES_BYTES of classes. */
static void
forge_classes(struct dor_store *store, const uint8_t *bytes, size_t classes_bytes)
{
    const struct store_snapshot_entry *old = store_catalog_snapshot(store->catalog, "a");
    const struct dor_sidecar row = {STORE_PART_CLASSES, bytes, classes_bytes};
    struct store_snapshot_entry entry = *old;
    struct store_recipe recipe = {0};
    AUTO_BUF struct base_buf file = {0};
    entry.info.id = store->catalog->next_snapshot_id++;
    int err = store_snapshot_read_recipe(store, old, &recipe);
    if (err == 0)
        err = store_recipe_encode(&entry, &recipe, &row, 1, store->catalog->uuid, &file);
    entry.info.recipe_bytes = file.size_bytes;
    if (err == 0)
        err = store_snapshot_commit(store, &entry, &file);
    store_recipe_fini(&recipe);
    if (err != 0)
        bail("%s", dor_err_message());
}

static void
test_forged(void)
{
    static const uint8_t wild[PAGES] = {[PAGES - 1] = DOR_CLASSES};
    struct dor_store *store = memory_store();
    static const struct {
        const char *name;
        size_t classes_bytes;
    } forgeries[] = {{"too few", PAGES - 1}, {"none", 0}, {"one that is none", PAGES}};
    must_put(store, "a", &image);
    for (size_t i = 0; i < ARRAY_LEN(forgeries); i++) {
        struct dor_explain explain;
        const char *name = forgeries[i].name;
        forge_classes(store, wild, forgeries[i].classes_bytes);
        check_parts(store, "a", DOR_E_CORRUPT, DOR_E_NOT_FOUND, name);
        int err = dor_store_explain(store, "a", &explain);
        is_int(err, DOR_E_CORRUPT, "%s: explain tells it", name);
    }
    dor_store_close(store);
}

int
main(void)
{
    work_in_memory();
    base_random_init(&rng, tap_seed());
    image_make(&rng, &image, PAGES);
    make_classes(&rng, classes, PAGES);
    for (uint64_t page = 0; page < PAGES; page++)
        pages_by_class[classes[page]]++;
    for (size_t i = 0; i < FRAME_BYTES; i++)
        frame[i] = (uint8_t)base_random_below(&rng, i % 64 + 1);
    test_each();
    test_bad_class();
    test_large_frame();
    test_beside_sidecars();
    test_numbers();
    test_replaced();
    test_copied();
    test_absorbed();
    test_rebuilt();
    test_damaged(STORE_PART_CLASSES, true);
    test_damaged(STORE_PART_FRAME, false);
    test_forged();
    image_fini(&image);
    return done_testing();
}
