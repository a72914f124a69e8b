/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_roots.c - pages that are blocks of a root image cost a reference, come back byte for
 * byte, and an image that is gone or changed is an error that names it, never wrong bytes.
 */
#include "store/roots.h"
#include "store/store_priv.h"

static struct base_random rng;

enum { ROOT_BLOCKS = 300, PAGES = 400 };

struct found {
    unsigned count;
    char words[4096];
};

static void
keep_finding(void *context, const struct dor_finding *finding)
{
    struct found *found = context;
    size_t length = strlen(found->words);
    found->count++;
    snprintf(
        found->words + length, sizeof found->words - length, "%s: %s (%s)\n", finding->file,
        finding->detail, finding->snapshot == NULL ? "" : finding->snapshot);
}

static struct dor_check_result
check_store(struct dor_store *store, bool repair, struct found *found)
{
    struct dor_check check = {
        .repair = repair, .report = keep_finding, .report_context = found};
    struct dor_check_result result = {0};
    memset(found, 0, sizeof *found);
    if (dor_store_check(store, &check, &result) != 0)
        bail("check: %s", dor_err_message());
    return result;
}

static bool
says(const char *words)
{
    bool said = strstr(dor_err_message(), words) != NULL;
    if (!said)
        note("no \"%s\" in: %s", words, dor_err_message());
    return said;
}

/* A store with a root image at PATH and a snapshot "a" of IMAGE that refers to it. */
struct world {
    struct image root, image;
    uint64_t blocks;
    const char *directory;
    char path[512];
    struct dor_store *store;
};

static void
world_init(struct world *world, const char *name)
{
    char file[64];
    root_make(&rng, &world->root, ROOT_BLOCKS);
    world->blocks = image_with_blocks(&rng, &world->image, &world->root, PAGES);
    snprintf(file, sizeof file, "%s.img", name);
    snprintf(world->path, sizeof world->path, "%s", test_path(file));
    write_root(world->path, &world->root, 0);
    touch_root(world->path, 1000000000);
    world->directory = test_path(name);
    world->store = new_store(name, NULL);
    must_add_root(world->store, world->path, "base");
    must_put(world->store, "a", &world->image);
}

static void
world_fini(struct world *world)
{
    dor_store_close(world->store);
    image_fini(&world->root);
    image_fini(&world->image);
}

/* ------------------------------------------------------------------ put and get */

static void
test_references(void)
{
    struct world world;
    struct dor_put_result result = {0};
    struct found found;
    struct dor_explain explain;
    struct dor_stat stat;
    struct dor_snapshot *snapshot;
    uint64_t references = 0;
    world_init(&world, "references");
    is_ok(put_image(world.store, "b", &world.image, NULL, &result), "put again");
    is_int(
        result.total.reference_bytes / DOR_PAGE_BYTES, world.blocks,
        "every page that is a block is a reference");
    ok(reads_back(world.store, "a", &world.image) && reads_back(world.store, "b", &world.image),
       "both read back");
    if (dor_snapshot_open(world.store, "a", &snapshot) != 0)
        bail("%s", dor_err_message());
    for (uint64_t i = 0; i < PAGES; i++)
        references += dor_snapshot_page_kind(snapshot, i) == DOR_PAGE_REFERENCE;
    is_int(references, world.blocks, "and their kind says so");
    ok(dor_snapshot_info(snapshot)->recipe_bytes < 2000, "a recipe of runs is small");
    dor_snapshot_close(snapshot);
    is_int(check_store(world.store, false, &found).findings, 0, "check finds nothing");
    is_ok(dor_store_explain(world.store, "b", &explain), "explain");
    is_int(explain.total.reference_bytes / DOR_PAGE_BYTES, world.blocks, "explain counts them");
    is_int(explain.total.logical_bytes, PAGES * DOR_PAGE_BYTES, "and all pages are something");
    dor_explain_fini(&explain);
    is_ok(dor_store_stat(world.store, &stat), "stat");
    ok(stat.roots == 1 && stat.root_bytes > 0 &&
           stat.pages_by_kind[DOR_PAGE_REFERENCE] == 2 * world.blocks,
       "stat counts images and references");
    world_fini(&world);
}

/* An image's own pages that only begin as a block does are not references. */
static void
test_near_misses(void)
{
    struct world world;
    struct dor_put_result result = {0};
    world_init(&world, "near");
    for (uint64_t page = 0; page < PAGES; page++)
        image_page(&world.image, page)[4095] ^= 1;
    is_ok(put_image(world.store, "b", &world.image, NULL, &result), "put of changed pages");
    is_int(result.total.reference_bytes, 0, "a page that differs in a bit is no reference");
    ok(reads_back(world.store, "b", &world.image), "and reads back");
    world_fini(&world);
}

static void
test_region_types(void)
{
    struct world world;
    uint8_t types[PAGES];
    struct dor_put put = {.region_types = types};
    struct dor_put_result result = {0};
    struct dor_snapshot *snapshot;
    unsigned wrong = 0;
    world_init(&world, "types");
    for (size_t i = 0; i < PAGES; i++)
        types[i] = (uint8_t)(i / 7 % DOR_REGION_TYPES);
    is_ok(put_image(world.store, "b", &world.image, &put, &result), "put with region types");
    is_int(result.total.reference_bytes / DOR_PAGE_BYTES, world.blocks, "all blocks are found");
    if (dor_snapshot_open(world.store, "b", &snapshot) != 0)
        bail("%s", dor_err_message());
    for (uint64_t i = 0; i < PAGES; i++)
        wrong += (uint8_t)dor_snapshot_page_region_type(snapshot, i) != types[i];
    dor_snapshot_close(snapshot);
    is_int(wrong, 0, "references keep the page's region type");
    ok(reads_back(world.store, "b", &world.image), "and read back");
    world_fini(&world);
}

static void
test_domains(void)
{
    struct world world;
    struct dor_root_info info;
    struct dor_put_result result = {0};
    world_init(&world, "domains");
    struct dor_store *store = new_store("limited", NULL);
    struct dor_root_add add = {.path = world.path, .domain = "tenant"};
    is_ok(dor_store_root_add(store, &add, &info), "an image for one domain");
    ok(strcmp(info.name, "domains.img") == 0 && strcmp(info.domain, "tenant") == 0,
       "is called as its file");
    is_ok(put_image(store, "other", &world.image, NULL, &result), "put into another domain");
    is_int(result.total.reference_bytes, 0, "refers to nothing");
    struct dor_put put = {.domain = "tenant"};
    is_ok(put_image(store, "own", &world.image, &put, &result), "put into the domain");
    is_int(result.total.reference_bytes / DOR_PAGE_BYTES, world.blocks, "does");
    dor_store_close(store);
    world_fini(&world);
}

static void
test_two_images(void)
{
    struct world world;
    struct image second;
    struct image both;
    struct dor_put_result result = {0};
    char path[512];
    world_init(&world, "two");
    root_make(&rng, &second, 100);
    for (uint64_t i = 0; i < second.page_count; i++)
        if (!page_is_zero(image_page(&second, i)))
            image_page(&second, i)[3000] ^= 0xff;
    snprintf(path, sizeof path, "%s", test_path("second.img"));
    write_root(path, &second, 123);
    is_ok(
        add_root(world.store, path, NULL), "a second image, with a part of a block at its end");
    image_init(&both, 200);
    for (uint64_t i = 0; i < 200; i++)
        memcpy(
            image_page(&both, i), image_page(i % 2 == 0 ? &world.root : &second, i / 2),
            DOR_PAGE_BYTES);
    is_ok(put_image(world.store, "both", &both, NULL, &result), "pages of both in turn");
    is_int(
        result.total.reference_bytes + result.total.zero_bytes, 200 * DOR_PAGE_BYTES,
        "are found in both");
    ok(reads_back(world.store, "both", &both), "and read back");
    image_fini(&both);
    image_fini(&second);
    world_fini(&world);
}

/* --------------------------------------------------------------- images that are not as before */

static void
reopen(struct world *world)
{
    dor_store_close(world->store);
    world->store = open_store(world->directory, DOR_OPEN_WRITE);
}

/* Neither get nor a page that is a block reads; check tells it; a put works, without references. */
static void
look_at_trouble(struct world *world, int want, const char *words)
{
    struct found found;
    struct dor_put_result result = {0};
    reopen(world);
    is_int(compare_image(world->store, "a", &world->image), want, "%s: get fails", words);
    ok(says("root image base") && says(world->path), "%s: and names image and path", words);
    ok(compare_pages(world->store, "a", &world->image, 1) == want, "%s: so does a page", words);
    struct dor_check_result checked = check_store(world->store, false, &found);
    ok(checked.damaged_snapshots == 1 && strstr(found.words, "root.00000001") != NULL &&
           strstr(found.words, "(a)") != NULL,
       "%s: check tells the image and the snapshot", words);
    checked = check_store(world->store, true, &found);
    ok(checked.quarantined_snapshots == 0, "%s: repair takes nothing away", words);
    is_ok(
        put_image(world->store, "new", &world->image, NULL, &result), "%s: a put works", words);
    is_int(result.total.reference_bytes, 0, "%s: without references", words);
    ok(reads_back(world->store, "new", &world->image), "%s: and reads back", words);
    ok(dor_store_remove(world->store, "new") == 0, "%s: it can be removed", words);
}

static void
test_missing(void)
{
    struct world world;
    char aside[600];
    world_init(&world, "missing");
    snprintf(aside, sizeof aside, "%s.aside", world.path);
    if (rename(world.path, aside) != 0)
        bail("rename");
    look_at_trouble(&world, DOR_E_NOT_FOUND, "missing");
    is_ok(add_root(world.store, aside, "base"), "added again from where it is now");
    ok(reads_back(world.store, "a", &world.image), "the snapshot reads back");
    world_fini(&world);
}

static void
test_touched(void)
{
    struct world world;
    world_init(&world, "touched");
    touch_root(world.path, 1000000001);
    look_at_trouble(&world, DOR_E_CORRUPT, "touched");
    is_ok(add_root(world.store, world.path, "base"), "added again with the same content");
    ok(reads_back(world.store, "a", &world.image), "the snapshot reads back");
    struct dor_store *reader = open_store(world.directory, DOR_OPEN_READ);
    touch_root(world.path, 1000000002);
    is_ok(add_root(world.store, world.path, "base"), "added again while a reader is there");
    ok(reads_back(reader, "a", &world.image), "which finds out");
    dor_store_close(reader);
    world_fini(&world);
}

static void
test_shortened(void)
{
    struct world world;
    world_init(&world, "shortened");
    if (truncate(world.path, 10 * DOR_PAGE_BYTES) != 0)
        bail("truncate");
    touch_root(world.path, 1000000000);
    look_at_trouble(&world, DOR_E_CORRUPT, "shortened");
    is_int(
        add_root(world.store, world.path, "base"), DOR_E_EXISTS,
        "it cannot be added again under its name");
    ok(says("other content"), "the error says why");
    write_root(world.path, &world.root, 0);
    touch_root(world.path, 1000000000);
    ok(reads_back(world.store, "a", &world.image), "put back, the snapshot reads back");
    world_fini(&world);
}

/* The first block that a page of the image refers to. */
static uint64_t
used_block(const struct world *world)
{
    for (uint64_t page = 0; page < PAGES; page++)
        for (uint64_t block = 0; block < ROOT_BLOCKS; block++)
            if (!page_is_zero(image_page(&world->image, page)) &&
                memcmp(
                    image_page(&world->image, page), image_page(&world->root, block),
                    DOR_PAGE_BYTES) == 0)
                return block;
    bail("no block is used");
}

static void
test_secretly_changed(void)
{
    struct world world;
    struct found found;
    world_init(&world, "secret");
    spoil_root(world.path, used_block(&world), true);
    reopen(&world);
    is_int(
        compare_image(world.store, "a", &world.image), DOR_E_CORRUPT,
        "a block that changed under the same time is found at get");
    ok(says("root image base") && says("block"), "and named");
    struct dor_check_result checked = check_store(world.store, true, &found);
    ok(checked.damaged_snapshots == 1 && checked.quarantined_snapshots == 0 &&
           strstr(found.words, "of its pages are in root images") != NULL,
       "check counts the pages");
    struct dor_put_result result = {0};
    is_ok(put_image(world.store, "b", &world.image, NULL, &result), "put works");
    ok(result.total.reference_bytes < world.blocks * DOR_PAGE_BYTES &&
           reads_back(world.store, "b", &world.image),
       "stores that page and reads back");
    is_int(
        dor_store_root_remove(world.store, "base", true), DOR_E_CORRUPT, "absorb is refused");
    world_fini(&world);
}

/* ------------------------------------------------------------------ removal */

struct listed {
    unsigned count;
    struct dor_root_info info;
    enum dor_root_state state;
};

static int
note_root(void *context, const struct dor_root_info *info, enum dor_root_state state)
{
    struct listed *listed = context;
    listed->count++;
    listed->info = *info;
    listed->state = state;
    return 0;
}

static void
test_remove(void)
{
    struct world world;
    struct listed listed = {0};
    world_init(&world, "remove");
    is_ok(dor_store_root_list(world.store, note_root, &listed), "list");
    ok(listed.count == 1 && strcmp(listed.info.name, "base") == 0 &&
           listed.state == DOR_ROOT_PRESENT &&
           listed.info.size_bytes == ROOT_BLOCKS * DOR_PAGE_BYTES,
       "has the image");
    is_int(dor_store_root_remove(world.store, "base", false), DOR_E_BUSY, "rm is refused");
    ok(says("1 snapshot: a;"), "the error names the snapshot");
    is_int(dor_store_root_remove(world.store, "none", false), DOR_E_NOT_FOUND, "no such image");
    if (dor_store_remove(world.store, "a") != 0)
        bail("%s", dor_err_message());
    is_ok(dor_store_root_remove(world.store, world.path, false), "rm by path, unused");
    ok(access(test_path("remove/root.00000001"), F_OK) != 0, "its file is gone");
    reopen(&world);
    listed.count = 0;
    is_ok(dor_store_root_list(world.store, note_root, &listed), "list again");
    is_int(listed.count, 0, "is empty");
    must_add_root(world.store, world.path, "base");
    is_ok(dor_store_root_list(world.store, note_root, &listed), "added again");
    is_int(listed.info.id, 2, "it has a new id");
    world_fini(&world);
}

static void
test_absorb(void)
{
    struct world world;
    struct image other;
    struct found found;
    struct dor_explain explain;
    const struct dor_sidecar sidecar = {"vmstate", "0123456789", 10};
    struct dor_put put = {.domain = "tenant", .sidecars = &sidecar, .sidecar_count = 1};
    world_init(&world, "absorb");
    image_with_blocks(&rng, &other, &world.root, PAGES);
    is_ok(put_image(world.store, "b", &other, &put, NULL), "a second domain");
    must_put(world.store, "c", &world.image);
    is_ok(dor_store_root_remove(world.store, "base", true), "absorb");
    if (unlink(world.path) != 0)
        bail("unlink");
    reopen(&world);
    ok(reads_back(world.store, "a", &world.image) && reads_back(world.store, "b", &other) &&
           reads_back(world.store, "c", &world.image),
       "everything reads back without the image");
    is_int(check_store(world.store, false, &found).findings, 0, "check finds nothing");
    is_ok(dor_store_explain(world.store, "c", &explain), "explain");
    is_int(explain.total.reference_bytes, 0, "no references are left");
    dor_explain_fini(&explain);
    struct dor_gc gc = {0};
    struct dor_gc_result collected;
    is_ok(dor_store_gc(world.store, &gc, &collected), "gc");
    is_int(
        collected.dead_pages, 0, "finds nothing dead: equal blocks are stored once a domain");
    struct dor_put_result result;
    is_ok(put_image(world.store, "d", &world.image, NULL, &result), "put again");
    is_int(
        result.total.exact_bytes + result.total.zero_bytes, result.total.logical_bytes,
        "finds the absorbed pages");
    image_fini(&other);
    world_fini(&world);
}

/* ------------------------------------------------------------------ copy, repair */

static void
test_copy(void)
{
    struct world world;
    struct dor_put_result result;
    world_init(&world, "copied");
    struct dor_store *bare = new_store("bare", NULL);
    struct dor_store *rooted = new_store("rooted", NULL);
    char path[512];
    snprintf(path, sizeof path, "%s", test_path("elsewhere.img"));
    write_root(path, &world.root, 0);
    must_add_root(rooted, path, "other-name");
    is_ok(
        dor_store_copy(world.store, "a", rooted, "a", &result), "copy to a store that has it");
    is_int(result.total.reference_bytes / DOR_PAGE_BYTES, world.blocks, "references stay");
    is_ok(dor_store_copy(world.store, "a", bare, "a", &result), "copy to one that has not");
    is_int(result.total.reference_bytes, 0, "blocks become pages");
    is_int(result.total.logical_bytes, PAGES * DOR_PAGE_BYTES, "all are counted");
    is_ok(dor_store_copy(world.store, "a", bare, "b", &result), "and once more");
    is_int(
        result.total.exact_bytes + result.total.zero_bytes, PAGES * DOR_PAGE_BYTES,
        "finds them there");
    if (unlink(world.path) != 0)
        bail("unlink");
    ok(reads_back(bare, "a", &world.image) && reads_back(bare, "b", &world.image) &&
           reads_back(rooted, "a", &world.image),
       "the copies do not need the source's image");
    dor_store_close(bare);
    dor_store_close(rooted);
    world_fini(&world);
}

static void
spoil_file(const char *path)
{
    spoil_root(path, 0, false);
}

static void
test_repair(void)
{
    struct world world;
    struct found found;
    struct dor_check check = {.repair = true, .report = keep_finding, .report_context = &found};
    struct dor_check_result result;
    world_init(&world, "repair");
    dor_store_close(world.store);
    if (unlink(test_path("repair/catalog")) != 0)
        bail("unlink");
    memset(&found, 0, sizeof found);
    is_ok(dor_store_check_directory(world.directory, &check, &result), "a lost catalog");
    world.store = open_store(world.directory, DOR_OPEN_WRITE);
    ok(reads_back(world.store, "a", &world.image), "is made anew, root image and all");
    spoil_file(test_path("repair/root.00000001"));
    reopen(&world);
    is_int(compare_image(world.store, "a", &world.image), DOR_E_CORRUPT, "a damaged root file");
    ok(says("root.00000001"), "is an error that names it");
    result = check_store(world.store, true, &found);
    ok(found.count == 1 && result.quarantined_snapshots == 0, "repair tells it");
    ok(reads_back(world.store, "a", &world.image), "and makes it anew from the image");
    if (unlink(test_path("repair/root.00000001")) != 0)
        bail("unlink");
    reopen(&world);
    result = check_store(world.store, true, &found);
    ok(reads_back(world.store, "a", &world.image), "also one that is missing");
    world_fini(&world);
}

static void
test_bad_images(void)
{
    struct dor_store *store = memory_store();
    char path[512];
    struct image empty = {0};
    snprintf(path, sizeof path, "%s", test_path("bad.img"));
    is_int(add_root(store, path, "x"), DOR_E_NOT_FOUND, "no such file");
    write_root(path, &empty, 100);
    is_int(add_root(store, path, "x"), DOR_E_USAGE, "shorter than a block");
    is_int(add_root(store, tap_dir(), "x"), DOR_E_USAGE, "a directory");
    is_int(add_root(store, path, "a/b"), DOR_E_USAGE, "a bad name");
    dor_store_close(store);
}

int
main(void)
{
    work_in_memory();
    base_random_init(&rng, tap_seed());
    test_references();
    test_near_misses();
    test_region_types();
    test_domains();
    test_two_images();
    test_missing();
    test_touched();
    test_shortened();
    test_secretly_changed();
    test_remove();
    test_absorb();
    test_copy();
    test_repair();
    test_bad_images();
    return done_testing();
}
