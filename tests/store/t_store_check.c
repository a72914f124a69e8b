/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_check.c - check finds each kind of damage and says where and whose; repair saves all
 * that is not damaged, throws nothing away and leaves a store that opens.
 */
#include "chunk/digest.h"
#include "store/images.h"
#include "store/segment.h"
#include "store/store_priv.h"
#include "store/tree.h"

static struct base_random rng;
static struct image images[3]; /* two generations in one domain, a stranger in another */
static struct tree sound;

#define RECIPE_A "snap.0000000000000001"
#define RECIPE_B "snap.0000000000000002"
#define RECIPE_C "snap.0000000000000003"

/* ------------------------------------------------------------------ what check says */

struct told {
    unsigned count;
    char files[64][80];
    char snapshots[64][DOR_NAME_BYTES_MAX + 1];
};

static void
hear(void *context, const struct dor_finding *finding)
{
    struct told *told = context;
    note(
        "%s: %s (%s)", finding->file, finding->detail,
        finding->snapshot != NULL ? finding->snapshot : "-");
    if (told->count == ARRAY_LEN(told->files))
        return;
    snprintf(told->files[told->count], sizeof told->files[0], "%s", finding->file);
    snprintf(
        told->snapshots[told->count++], sizeof told->snapshots[0], "%s",
        finding->snapshot != NULL ? finding->snapshot : "");
}

static bool
told_file(const struct told *told, const char *file)
{
    for (unsigned i = 0; i < told->count; i++)
        if (strcmp(told->files[i], file) == 0)
            return true;
    return false;
}

static bool
told_snapshot(const struct told *told, const char *name)
{
    for (unsigned i = 0; i < told->count; i++)
        if (strcmp(told->snapshots[i], name) == 0)
            return true;
    return false;
}

static int
look(const char *path, bool repair, struct told *told, struct dor_check_result *result)
{
    struct dor_check check = {.repair = repair, .report = hear, .report_context = told};
    *told = (struct told){0};
    *result = (struct dor_check_result){0};
    return dor_store_check_directory(path, &check, result);
}

/* ------------------------------------------------------------------ the store */

/* Segments 1 and 2 hold plain pages and patches of "a" and "b", 3 and 4 those of "c". */
static void
make_store(void)
{
    const char *path = test_path("sound");
    struct dor_store *store = new_store("sound", NULL);
    struct dor_put put = {.domain = "other"};
    must_put(store, "a", &images[0]);
    must_put(store, "b", &images[1]);
    if (put_image(store, "c", &images[2], &put, NULL) != 0)
        bail("%s", dor_err_message());
    dor_store_close(store);
    tree_read(&sound, path);
    tree_remove(&sound, "lock");
    tree_print(&sound);
}

static void
test_sound(void)
{
    const char *path = test_path("sound");
    struct told told;
    struct dor_check_result result;
    struct tree after;
    is_ok(look(path, false, &told, &result), "a sound store is checked");
    is_int(result.findings + told.count + result.damaged_snapshots, 0, "nothing is found");
    is_int(result.snapshots, 3, "three snapshots were looked at");
    ok(result.groups > 3 && result.pages > result.groups && result.bytes > 10000,
       "%d groups, %d pages, %d bytes", (int)result.groups, (int)result.pages,
       (int)result.bytes);
    is_ok(look(path, true, &told, &result), "and repaired");
    is_int(result.findings + result.quarantined_snapshots, 0, "nothing is done");
    tree_read(&after, path);
    tree_remove(&after, "lock");
    ok(tree_same(&sound, &after), "no file changes");
    tree_fini(&after);
}

/* ------------------------------------------------------------------ damage */

enum survives { GONE, STAYS, MAY_GO };

struct damage {
    const char *name;
    void (*make)(struct tree *tree);
    const char *file; /* must be named by a finding */
    enum survives snapshots[3];
    bool lost_options;
};

static void
check_snapshot(
    struct dor_store *store, const char *name, const struct image *image,
    enum survives survives)
{
    int got = compare_image(store, name, image);
    if (survives == STAYS)
        is_int(got, 1, "%s stays", name);
    else if (survives == GONE)
        is_int(got, DOR_E_NOT_FOUND, "%s is gone", name);
    else
        ok(got == 1 || got == DOR_E_NOT_FOUND, "%s is right or gone", name);
}

/* The store after repair: sound, right, and good for more. */
static void
check_repaired(const char *path, const struct damage *damage)
{
    static const char *const names[] = {"a", "b", "c"};
    struct told told;
    struct dor_check_result result;
    struct dor_store *store = NULL;
    is_ok(look(path, false, &told, &result), "it is checked again");
    is_int(result.findings, 0, "now nothing is found");
    is_ok(dor_store_open(path, DOR_OPEN_WRITE, NULL, &store), "it opens");
    if (store == NULL)
        return;
    for (size_t i = 0; i < 3; i++)
        check_snapshot(store, names[i], &images[i], damage->snapshots[i]);
    is_ok(put_image(store, "new", &images[1], NULL, NULL), "it can be put to");
    ok(reads_back(store, "new", &images[1]), "what was put is right");
    for (size_t i = 0; i < 3; i++)
        check_snapshot(store, names[i], &images[i], damage->snapshots[i]);
    dor_store_close(store);
}

/* Bytes that a sound store had are still somewhere: in use or aside. */
static void
check_kept(const char *path)
{
    struct tree after;
    unsigned lost = 0;
    tree_read(&after, path);
    for (size_t i = 0; i < sound.count; i++) {
        char aside[160];
        snprintf(aside, sizeof aside, "bad.%s", sound.files[i].name);
        bool snapshot = strncmp(sound.files[i].name, "snap.", 5) == 0;
        lost += snapshot && tree_find(&after, sound.files[i].name) == NULL &&
                tree_find(&after, aside) == NULL;
    }
    ok(lost == 0, "no snapshot's file was thrown away");
    tree_fini(&after);
}

static void
test_damage(const struct damage *damage)
{
    const char *path = test_path("damaged");
    struct tree tree;
    struct told told;
    struct dor_check_result result;
    note("--- %s", damage->name);
    tree_copy(&tree, &sound);
    damage->make(&tree);
    tree_write(&tree, path);
    bool missing = strstr(damage->name, "snapshot file is missing") != NULL;
    is_ok(look(path, false, &told, &result), "%s: it is checked", damage->name);
    ok(result.findings > 0 && result.findings >= told.count, "it is found");
    ok(told_file(&told, damage->file), "%s is named", damage->file);
    is_ok(look(path, true, &told, &result), "it is repaired");
    ok(result.findings > 0, "repair finds it too");
    for (size_t i = 0; i < 3; i++)
        if (damage->snapshots[i] == GONE && strcmp(damage->file, "catalog") != 0)
            ok(told_snapshot(&told, (const char *const[]){"a", "b", "c"}[i]),
               "the snapshot is named");
    if (!missing)
        check_kept(path);
    check_repaired(path, damage);
    tree_fini(&tree);
}

static void
flip(struct tree *tree, const char *name, size_t at)
{
    struct tree_file *file = tree_get(tree, name);
    file->bytes[at % file->size_bytes] ^= 0x10;
}

static void
cut(struct tree *tree, const char *name, size_t size_bytes)
{
    tree_get(tree, name)->size_bytes = size_bytes;
}

static void
flip_first_group(struct tree *tree)
{
    flip(tree, "seg.00000001", 60);
}

static void
flip_first_frame(struct tree *tree)
{
    struct tree_file *file = tree_get(tree, "seg.00000003");
    flip(tree, file->name, file->size_bytes - 3);
}

static void
flip_segment_header(struct tree *tree)
{
    flip(tree, "seg.00000003", 20);
}

static void
cut_segment(struct tree *tree)
{
    cut(tree, "seg.00000003", tree_get(tree, "seg.00000003")->size_bytes / 2);
}

static void
cut_segment_to_nothing(struct tree *tree)
{
    cut(tree, "seg.00000003", 0);
}

static void
lose_segment(struct tree *tree)
{
    tree_remove(tree, "seg.00000003");
}

static void
flip_recipe(struct tree *tree)
{
    flip(tree, RECIPE_A, 80);
}

static void
cut_recipe(struct tree *tree)
{
    cut(tree, RECIPE_B, 70);
}

static void
lose_recipe(struct tree *tree)
{
    tree_remove(tree, RECIPE_C);
}

static void
flip_catalog(struct tree *tree)
{
    flip(tree, "catalog", 50);
}

static void
cut_catalog(struct tree *tree)
{
    cut(tree, "catalog", 30);
}

static void
empty_catalog(struct tree *tree)
{
    cut(tree, "catalog", 0);
}

static void
lose_catalog(struct tree *tree)
{
    tree_remove(tree, "catalog");
}

static void
flip_catalog_and_uuid(struct tree *tree)
{
    flip_catalog(tree);
    flip(tree, RECIPE_A, 12);
}

static void
flip_catalog_and_segment_uuid(struct tree *tree)
{
    flip_catalog(tree);
    flip(tree, "seg.00000003", 20);
}

static void
flip_catalog_and_group(struct tree *tree)
{
    flip_catalog(tree);
    flip(tree, "seg.00000003", 60);
}

static void
test_damages(void)
{
    static const struct damage damages[] = {
        {"a flipped bit in a group", flip_first_group, "seg.00000001", {MAY_GO, MAY_GO, STAYS}},
        {"a flipped bit in a frame", flip_first_frame, "seg.00000003", {STAYS, STAYS, GONE}},
        {"a flipped bit in a segment's header",
         flip_segment_header,
         "seg.00000003",
         {STAYS, STAYS, GONE}},
        {"a segment cut short", cut_segment, "seg.00000003", {STAYS, STAYS, GONE}},
        {"an empty segment", cut_segment_to_nothing, "seg.00000003", {STAYS, STAYS, GONE}},
        {"a segment is missing", lose_segment, "seg.00000003", {STAYS, STAYS, GONE}},
        {"a flipped bit in a recipe", flip_recipe, RECIPE_A, {GONE, STAYS, STAYS}},
        {"a recipe cut short", cut_recipe, RECIPE_B, {STAYS, GONE, STAYS}},
        {"a snapshot file is missing", lose_recipe, RECIPE_C, {STAYS, STAYS, GONE}},
        {"a flipped bit in the catalog", flip_catalog, "catalog", {STAYS, STAYS, STAYS}},
        {"a catalog cut short", cut_catalog, "catalog", {STAYS, STAYS, STAYS}},
        {"an empty catalog", empty_catalog, "catalog", {STAYS, STAYS, STAYS}},
        {"the catalog and a recipe's uuid",
         flip_catalog_and_uuid,
         "catalog",
         {GONE, STAYS, STAYS}},
        {"the catalog and a segment's uuid",
         flip_catalog_and_segment_uuid,
         "catalog",
         {STAYS, STAYS, GONE}},
        {"the catalog and a group", flip_catalog_and_group, "catalog", {STAYS, STAYS, MAY_GO}},
    };
    for (size_t i = 0; i < ARRAY_LEN(damages); i++)
        test_damage(&damages[i]);
}

/* Without a catalog a directory is a store only for who repairs it. */
static void
test_no_catalog(void)
{
    const char *path = test_path("none");
    struct tree tree;
    struct told told;
    struct dor_check_result result;
    tree_copy(&tree, &sound);
    lose_catalog(&tree);
    tree_write(&tree, path);
    is_int(look(path, false, &told, &result), DOR_E_NOT_FOUND, "no catalog: no store");
    is_ok(look(path, true, &told, &result), "repair makes one");
    is_int(result.quarantined_snapshots, 0, "nothing is lost");
    struct damage all = {.snapshots = {STAYS, STAYS, STAYS}};
    check_repaired(path, &all);
    tree_fini(&tree);
    const char *empty = test_path("empty");
    mkdir(empty, 0755);
    is_int(
        look(empty, true, &told, &result), DOR_E_NOT_FOUND, "there is nothing to repair here");
    is_int(look(test_path("nowhere"), true, &told, &result), DOR_E_NOT_FOUND, "nor nowhere");
}

static void
test_another_version(void)
{
    const char *path = test_path("version");
    struct tree tree;
    struct tree after;
    struct told told;
    struct dor_check_result result;
    tree_copy(&tree, &sound);
    tree_get(&tree, "catalog")->bytes[8] = 77;
    tree_write(&tree, path);
    is_int(look(path, false, &told, &result), DOR_E_UNSUPPORTED, "a newer store is not judged");
    is_int(look(path, true, &told, &result), DOR_E_UNSUPPORTED, "nor repaired");
    tree_read(&after, path);
    tree_remove(&after, "lock");
    ok(tree_same(&tree, &after), "no file changes");
    tree_fini(&tree);
    tree_fini(&after);
}

static int
stop_at_once(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    (void)context;
    (void)done_bytes;
    (void)total_bytes;
    return 1;
}

static void
test_stopped_and_refused(void)
{
    const char *path = test_path("sound");
    struct dor_check check = {.progress = stop_at_once};
    struct dor_check_result result;
    struct dor_store *store = open_store(path, DOR_OPEN_READ);
    is_int(dor_store_check(store, &check, &result), DOR_E_BUSY, "a check can be stopped");
    check = (struct dor_check){.repair = true};
    is_int(dor_store_check(store, &check, &result), DOR_E_USAGE, "a reader cannot repair");
    dor_store_close(store);
    store = open_store(path, DOR_OPEN_WRITE);
    is_int(
        dor_store_check_directory(path, &check, &result), DOR_E_BUSY,
        "nor anyone while another writes");
    dor_store_close(store);
}

/*
 * Memory may hold what looks like a part of a store: here a page is a whole frame of another
 * segment, stored as it is. Rebuilding must not believe it.
 */
static void
test_frame_in_a_page(void)
{
    const char *path = test_path("frame in a page");
    struct dor_options *options = OPTIONS("codec", "none", "nrt_group_pages", "1");
    struct dor_store *store;
    struct image image;
    struct told told;
    struct dor_check_result result;
    struct dor_store *origin = open_store(test_path("sound"), DOR_OPEN_READ);
    struct store_segment_entry *entry = store_catalog_segment(origin->catalog, 3);
    const struct tree_file *raw = tree_get(&sound, "seg.00000003");
    struct store_frame frame = entry->frames[0];
    ok(frame.size_bytes <= DOR_PAGE_BYTES, "a frame of %d bytes fits into a page",
       (int)frame.size_bytes);
    image_init(&image, 12);
    for (uint64_t i = 0; i < 12; i++)
        page_fill(&rng, PAGE_RANDOM, image_page(&image, i));
    memcpy(
        image_page(&image, 6), raw->bytes + frame.offset,
        base_min_size(frame.size_bytes, DOR_PAGE_BYTES));
    dor_store_close(origin);
    store = new_store("frame in a page", options);
    must_put(store, "x", &image);
    page_fill(&rng, PAGE_RANDOM, image_page(&image, 0));
    must_put(store, "y", &image);
    dor_store_close(store);
    struct tree tree;
    tree_read(&tree, path);
    lose_catalog(&tree);
    tree_remove(&tree, "lock");
    tree_write(&tree, path);
    is_ok(look(path, true, &told, &result), "the catalog is made anew");
    is_int(result.quarantined_snapshots, 0, "no snapshot is lost");
    store = open_store(path, DOR_OPEN_WRITE);
    is_int(compare_image(store, "y", &image), 1, "what holds the page is right");
    dor_store_close(store);
    tree_fini(&tree);
    dor_options_free(options);
    image_fini(&image);
}

int
main(void)
{
    work_in_memory();
    base_random_init(&rng, tap_seed());
    image_make(&rng, &images[0], 70);
    image_copy(&images[1], &images[0]);
    image_evolve(&rng, &images[1]);
    image_make(&rng, &images[2], 70);
    make_store();
    test_sound();
    test_damages();
    test_no_catalog();
    test_another_version();
    test_stopped_and_refused();
    test_frame_in_a_page();
    tree_fini(&sound);
    for (size_t i = 0; i < ARRAY_LEN(images); i++)
        image_fini(&images[i]);
    return done_testing();
}
