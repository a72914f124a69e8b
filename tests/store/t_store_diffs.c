/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_diffs.c - a diff put after its parent makes a whole snapshot: holes are the parent's
 * pages, zeros are zeros. It needs the parent only while it is put, and says so when that is
 * missing, of another size or damaged.
 */
#include "store/roots.h"
#include "store/sources.h"
#include "store/tree.h"

enum { PAGES = 300, GENERATIONS = 24 };

static struct base_random rng;
static struct image first, changed;
static uint8_t holes[PAGES];

static int
put_diff(
    struct dor_store *store, const char *name, const char *parent, struct row *row,
    struct dor_put_result *ret)
{
    struct dor_put put = {.diff = true, .parent = parent};
    return put_row(store, name, row, &put, ret);
}

static void
must_gc(struct dor_store *store)
{
    struct dor_gc gc = {0};
    struct dor_gc_result result;
    if (dor_store_gc(store, &gc, &result) != 0)
        bail("gc: %s", dor_err_message());
}

static void
must_remove(struct dor_store *store, const char *name)
{
    if (dor_store_remove(store, name) != 0)
        bail("rm %s: %s", name, dor_err_message());
}

static bool
is_clean(struct dor_store *store)
{
    struct dor_check check = {0};
    struct dor_check_result result = {0};
    return dor_store_check(store, &check, &result) == 0 && result.findings == 0;
}

/* ------------------------------------------------------------------ one diff */

static void
test_one(void)
{
    struct dor_store *store = memory_store();
    struct row row = {.image = &changed, .data = holes};
    struct dor_put_result result = {0};
    struct image want;
    uint64_t hole_count = 0;
    unsigned wrong = 0;
    must_put(store, "a", &first);
    row_apply(&row, &first, &want);
    is_ok(put_diff(store, "b", "a", &row, &result), "put of a diff");
    is_int(row.hole_reads, 0, "what is no data is not read");
    is_int(result.total.logical_bytes, PAGES * DOR_PAGE_BYTES, "it counts all pages");
    ok(reads_back(store, "b", &want), "holes are the parent's pages");
    struct dor_snapshot *a = must_open(store, "a");
    struct dor_snapshot *b = must_open(store, "b");
    is_str(dor_snapshot_info(b)->parent, "a", "the parent is noted");
    for (uint64_t page = 0; page < PAGES; page++) {
        hole_count += holes[page] == 0;
        wrong += holes[page] == 0 && !dor_snapshot_same_page(a, b, page);
        wrong += dor_snapshot_same_page(a, b, page) &&
                 memcmp(image_page(&first, page), image_page(&want, page), DOR_PAGE_BYTES) != 0;
    }
    is_int(wrong, 0, "%d holes are stored as the same pages", (int)hole_count);
    dor_snapshot_close(a);
    dor_snapshot_close(b);
    ok(is_clean(store), "check is clean");
    image_fini(&want);
    dor_store_close(store);
}

static void
test_nothing_changed(void)
{
    static const uint8_t no_data[PAGES];
    struct dor_store *store = memory_store();
    struct row row = {.image = &changed, .data = no_data};
    struct dor_put_result result = {0};
    must_put(store, "a", &first);
    is_ok(put_diff(store, "b", "a", &row, &result), "a diff without data");
    is_int(row.hole_reads, 0, "is not read");
    is_int(result.total.raw_bytes + result.total.patched_bytes, 0, "adds no page");
    ok(reads_back(store, "b", &first), "and is the parent again");
    dor_store_close(store);
}

/* Data that is zero is no hole. */
static void
test_zeros(void)
{
    struct dor_store *store = memory_store();
    struct row row = {.image = &changed};
    struct image zeros;
    struct dor_put_result result = {0};
    image_init(&zeros, PAGES);
    row.image = &zeros;
    must_put(store, "a", &first);
    is_ok(put_diff(store, "b", "a", &row, &result), "a diff that is zeros all over");
    is_int(result.total.zero_bytes, PAGES * DOR_PAGE_BYTES, "is zeros");
    ok(reads_back(store, "b", &zeros), "and not the parent");
    image_fini(&zeros);
    dor_store_close(store);
}

/* A memory file says by its holes what is unchanged. */
static void
test_file(void)
{
    struct dor_store *store = memory_store();
    struct dor_put put = {.diff = true, .parent = "a"};
    struct dor_put_result result;
    struct image want;
    must_put(store, "a", &first);
    image_copy(&want, &first);
    put.image_fd = memory_file();
    if (ftruncate(put.image_fd, PAGES * (off_t)DOR_PAGE_BYTES) != 0)
        bail("no room for an image");
    for (uint64_t page = 7; page < PAGES; page += 20) {
        memcpy(image_page(&want, page), image_page(&changed, page), DOR_PAGE_BYTES);
        if (pwrite(
                put.image_fd, image_page(&want, page), DOR_PAGE_BYTES,
                (off_t)(page * DOR_PAGE_BYTES)) != (ssize_t)DOR_PAGE_BYTES)
            bail("no room for an image");
    }
    is_ok(dor_store_put(store, "b", &put, &result), "a diff from a file");
    ok(reads_back(store, "b", &want), "its holes are the parent's pages");
    close(put.image_fd);
    image_fini(&want);
    dor_store_close(store);
}

/* ------------------------------------------------------------------ region types, dropped pages */

/* Types in the parent, and others (or NULL) given with the diff. */
static void
test_types(bool split, bool given)
{
    struct dor_options *options = OPTIONS("split_types", split ? "yes" : "no");
    struct dor_store *store;
    static uint8_t before[PAGES];
    static uint8_t after[PAGES];
    struct row row = {.image = &changed, .data = holes};
    struct dor_put first_put = {.region_types = before};
    struct dor_put put = {.diff = true, .parent = "a", .region_types = given ? after : NULL};
    struct dor_put_result result = {0};
    uint64_t bytes[DOR_REGION_TYPES] = {0};
    unsigned wrong = 0;
    struct image want;
    if (dor_store_open_memory(options, &store) != 0)
        bail("%s", dor_err_message());
    for (uint64_t page = 0; page < PAGES; page++) {
        before[page] = (uint8_t)base_random_below(&rng, DOR_REGION_TYPES);
        after[page] = (uint8_t)base_random_below(&rng, DOR_REGION_TYPES);
    }
    row_apply(&row, &first, &want);
    is_ok(put_image(store, "a", &first, &first_put, NULL), "region types in the parent");
    is_ok(
        put_row(store, "b", &row, &put, &result), "%s in the diff, %s",
        given ? "others" : "none", split ? "split" : "all in one");
    ok(reads_back(store, "b", &want), "it reads back");
    struct dor_snapshot *snapshot = must_open(store, "b");
    for (uint64_t page = 0; page < PAGES; page++) {
        unsigned type = given ? after[page] : holes[page] != 0 ? DOR_NRT : before[page];
        type = split ? type : DOR_NRT;
        wrong += dor_snapshot_page_region_type(snapshot, page) != (enum dor_region_type)type;
        bytes[type] += DOR_PAGE_BYTES;
    }
    is_int(wrong, 0, "all pages have the types given, or else holes the parent's");
    for (unsigned type = 0; type < DOR_REGION_TYPES; type++)
        is_int(
            result.by_region_type[type].logical_bytes, bytes[type], "bytes of type %u", type);
    dor_snapshot_close(snapshot);
    image_fini(&want);
    dor_store_close(store);
    dor_options_free(options);
}

/* Dropping is for all pages, whoever has their bytes. */
static void
test_dropped(void)
{
    static uint8_t dropped[PAGES];
    struct dor_store *store = memory_store();
    struct row row = {.image = &changed, .data = holes};
    struct dor_put put = {.diff = true, .parent = "a", .dropped = dropped};
    struct dor_put_result result = {0};
    uint64_t count = 0;
    struct image want;
    must_put(store, "a", &first);
    row_apply(&row, &first, &want);
    for (uint64_t page = 0; page < PAGES; page += 3) {
        dropped[page] = 1;
        count += !page_is_zero(image_page(&want, page));
        memset(image_page(&want, page), 0, DOR_PAGE_BYTES);
    }
    is_ok(put_row(store, "b", &row, &put, &result), "a diff with dropped pages");
    ok(reads_back(store, "b", &want), "those are zeros, holes or not");
    is_int(result.dropped_bytes, count * DOR_PAGE_BYTES, "and are counted");
    is_int(result.total.logical_bytes, PAGES * DOR_PAGE_BYTES, "as is everything");
    image_fini(&want);
    dor_store_close(store);
}

/* ------------------------------------------------------------------ chains */

static const char *
name_of(int generation)
{
    static char names[4][32];
    static unsigned turn;
    char *name = names[turn++ % ARRAY_LEN(names)];
    snprintf(name, sizeof names[0], "generation-%02d", generation);
    return name;
}

/* The parents are gone as soon as they were parents. */
static void
test_chain(bool removes)
{
    struct dor_store *store = memory_store();
    struct image states[GENERATIONS];
    unsigned wrong = 0;
    image_copy(&states[0], &first);
    must_put(store, name_of(0), &states[0]);
    for (int i = 1; i < GENERATIONS; i++) {
        struct image next;
        struct row row = {.image = &next, .data = holes};
        image_copy(&next, &states[i - 1]);
        image_evolve(&rng, &next);
        make_holes(&rng, holes, PAGES);
        row_apply(&row, &states[i - 1], &states[i]);
        if (put_diff(store, name_of(i), name_of(i - 1), &row, NULL) != 0)
            bail("%s", dor_err_message());
        if (removes)
            must_remove(store, name_of(i - 1));
        if (removes && i % 5 == 0)
            must_gc(store);
        image_fini(&next);
    }
    must_gc(store);
    for (int i = removes ? GENERATIONS - 1 : 0; i < GENERATIONS; i++)
        wrong += !reads_back(store, name_of(i), &states[i]);
    is_int(wrong, 0, "a chain of diffs %s", removes ? "without its parents" : "comes back");
    ok(is_clean(store), "check is clean");
    for (int i = 0; i < GENERATIONS; i++)
        image_fini(&states[i]);
    dor_store_close(store);
}

/* A sandbox that always has the same name: each diff takes the place of its own parent. */
static void
test_replaced_parent(void)
{
    struct dor_store *store = memory_store();
    struct dor_put put = {.diff = true, .parent = "a", .replace = true};
    struct image state;
    unsigned wrong = 0;
    image_copy(&state, &first);
    must_put(store, "a", &state);
    for (int i = 0; i < 6; i++) {
        struct row row = {.image = &changed, .data = holes};
        struct image next;
        make_holes(&rng, holes, PAGES);
        row_apply(&row, &state, &next);
        if (put_row(store, "a", &row, &put, NULL) != 0)
            bail("%s", dor_err_message());
        image_fini(&state);
        state = next;
        must_gc(store);
        wrong += !reads_back(store, "a", &state);
    }
    is_int(wrong, 0, "diffs that replace their parent");
    image_fini(&state);
    dor_store_close(store);
}

/* A reader of the diff does not notice that the parent goes. */
static void
test_reader(void)
{
    struct dor_store *writer = new_store("reader", NULL);
    struct row row = {.image = &changed, .data = holes};
    struct image want;
    AUTO_CLOSE int fd = memory_file();
    must_put(writer, "a", &first);
    row_apply(&row, &first, &want);
    if (put_diff(writer, "b", "a", &row, NULL) != 0)
        bail("%s", dor_err_message());
    struct dor_store *reader = open_store(test_path("reader"), DOR_OPEN_READ);
    struct dor_snapshot *snapshot = must_open(reader, "b");
    must_remove(writer, "a");
    must_gc(writer);
    is_ok(
        dor_snapshot_write_image(snapshot, fd, NULL, NULL), "the parent is removed meanwhile");
    ok(file_is_image(fd, &want), "a reader of the diff has it all");
    dor_snapshot_close(snapshot);
    dor_store_close(reader);
    image_fini(&want);
    dor_store_close(writer);
}

/* ------------------------------------------------------------------ parents that will not do */

static void
refuse(
    struct dor_store *store, int want, const char *words, struct dor_put put, const char *what)
{
    struct row row = {.image = &changed, .data = holes};
    struct dor_snapshot *snapshot;
    put.diff = true;
    is_int(put_row(store, "new", &row, &put, NULL), want, "%s", what);
    ok(strstr(dor_err_message(), words) != NULL, "and the words are: %s", dor_err_message());
    is_int(
        dor_snapshot_open(store, "new", &snapshot), DOR_E_NOT_FOUND,
        "there is no new snapshot");
}

static void
test_refused(void)
{
    struct dor_store *store = memory_store();
    struct image longer;
    struct image shorter = first;
    image_make(&rng, &longer, PAGES + 1);
    shorter.page_count = PAGES - 1;
    must_put(store, "a", &first);
    must_put(store, "longer", &longer);
    must_put(store, "shorter", &shorter);
    must_put(store, "gone", &first);
    must_remove(store, "gone");
    refuse(store, DOR_E_USAGE, "needs the name", (struct dor_put){0}, "no parent named");
    refuse(
        store, DOR_E_NOT_FOUND, "nobody", (struct dor_put){.parent = "nobody"},
        "a parent that never was");
    refuse(
        store, DOR_E_NOT_FOUND, "gone", (struct dor_put){.parent = "gone"},
        "a parent that was removed");
    refuse(
        store, DOR_E_NOT_FOUND, "domain", (struct dor_put){.parent = "a", .domain = "tenant"},
        "a parent of another domain");
    refuse(store, DOR_E_USAGE, "301", (struct dor_put){.parent = "longer"}, "a longer parent");
    refuse(
        store, DOR_E_USAGE, "299", (struct dor_put){.parent = "shorter"}, "a shorter parent");
    ok(reads_back(store, "a", &first), "what is there is unharmed");
    ok(is_clean(store), "check is clean");
    image_fini(&longer);
    dor_store_close(store);
}

/* A file NAME that is damaged or missing, of the store PATH in which "a" is the only snapshot. */
static void
test_damaged_parent(bool missing)
{
    const char *path = test_path(missing ? "missing" : "damaged");
    struct dor_store *store = new_store(missing ? "missing" : "damaged", NULL);
    struct row row = {.image = &changed, .data = holes};
    struct tree tree;
    struct tree after;
    must_put(store, "a", &first);
    dor_store_close(store);
    tree_read(&tree, path);
    if (missing)
        tree_remove(&tree, "snap.0000000000000001");
    else
        tree_get(&tree, "snap.0000000000000001")->bytes[100] ^= 1;
    tree_write(&tree, path);
    store = open_store(path, DOR_OPEN_WRITE);
    is_int(
        put_diff(store, "b", "a", &row, NULL), DOR_E_CORRUPT, "a parent whose file is %s",
        missing ? "missing" : "damaged");
    ok(strstr(dor_err_message(), "snap.0000000000000001") != NULL, "is named: %s",
       dor_err_message());
    dor_store_close(store);
    tree_read(&after, path);
    ok(tree_same(&tree, &after), "and the store is as before");
    tree_fini(&after);
    tree_fini(&tree);
}

/* ------------------------------------------------------------------ references */

/* What the parent has in a root image the diff has there too. */
static void
test_references(void)
{
    struct dor_store *store = new_store("references", NULL);
    const char *path = test_path("root.img");
    static uint8_t types[PAGES];
    struct row row = {.image = &changed, .data = holes};
    struct dor_put put = {.diff = true, .parent = "a", .region_types = types};
    struct dor_put_result result = {0};
    struct image root;
    struct image blocks;
    struct image want;
    root_make(&rng, &root, 100);
    write_root(path, &root, 0);
    must_add_root(store, path, "root");
    image_with_blocks(&rng, &blocks, &root, PAGES);
    row_apply(&row, &blocks, &want);
    must_put(store, "a", &blocks);
    memset(types, DOR_RX_MAP, sizeof types);
    is_ok(put_row(store, "b", &row, &put, &result), "a diff of a snapshot with references");
    ok(result.total.reference_bytes > 0, "has %d of them",
       (int)(result.total.reference_bytes / DOR_PAGE_BYTES));
    is_int(
        result.by_region_type[DOR_RX_MAP].reference_bytes, result.total.reference_bytes,
        "all of its own type");
    ok(reads_back(store, "b", &want), "it reads back");
    must_remove(store, "a");
    is_int(
        dor_store_root_remove(store, "root", false), DOR_E_BUSY,
        "without the parent, the root image is needed by the diff");
    is_ok(dor_store_root_remove(store, "root", true), "it is absorbed");
    unlink(path);
    ok(reads_back(store, "b", &want), "and the diff reads back without it");
    image_fini(&want);
    image_fini(&blocks);
    image_fini(&root);
    dor_store_close(store);
}

/* ------------------------------------------------------------------ which pages differ */

/* As get --diff-from does it: pages that are not the same make one snapshot out of the other. */
static void
test_same_page(void)
{
    struct dor_store *store = memory_store();
    struct dor_store *other = memory_store();
    struct dor_put elsewhere = {.domain = "tenant"};
    struct image made;
    uint8_t page[DOR_PAGE_BYTES];
    unsigned wrong = 0;
    must_put(store, "a", &first);
    must_put(store, "b", &changed);
    must_put(other, "a", &first);
    if (put_image(store, "c", &first, &elsewhere, NULL) != 0)
        bail("%s", dor_err_message());
    struct dor_snapshot *a = must_open(store, "a");
    struct dor_snapshot *b = must_open(store, "b");
    struct dor_snapshot *c = must_open(store, "c");
    struct dor_snapshot *stranger = must_open(other, "a");
    image_copy(&made, &first);
    for (uint64_t i = 0; i < PAGES; i++) {
        wrong += dor_snapshot_same_page(a, b, i) != dor_snapshot_same_page(b, a, i);
        if (dor_snapshot_same_page(a, b, i))
            continue;
        if (dor_snapshot_read_page(b, i, page) != 0)
            bail("%s", dor_err_message());
        memcpy(image_page(&made, i), page, DOR_PAGE_BYTES);
    }
    is_int(wrong, 0, "same_page does not depend on the order");
    is_mem(
        made.bytes, changed.bytes, PAGES * DOR_PAGE_BYTES,
        "pages that are not the same make the other snapshot");
    ok(dor_snapshot_same_page(a, a, PAGES - 1), "a page is the same as itself");
    ok(!dor_snapshot_same_page(a, a, PAGES), "there is none behind the last");
    ok(!dor_snapshot_same_page(a, c, 0), "nothing is the same across domains");
    ok(!dor_snapshot_same_page(a, stranger, 0), "nor across stores");
    dor_snapshot_close(a);
    dor_snapshot_close(b);
    dor_snapshot_close(c);
    dor_snapshot_close(stranger);
    image_fini(&made);
    dor_store_close(store);
    dor_store_close(other);
}

int
main(void)
{
    work_in_memory();
    base_random_init(&rng, tap_seed());
    image_make(&rng, &first, PAGES);
    image_copy(&changed, &first);
    image_evolve(&rng, &changed);
    make_holes(&rng, holes, PAGES);
    test_one();
    test_nothing_changed();
    test_zeros();
    test_file();
    test_types(true, true);
    test_types(true, false);
    test_types(false, true);
    test_types(false, false);
    test_dropped();
    test_chain(false);
    test_chain(true);
    test_replaced_parent();
    test_reader();
    test_refused();
    test_damaged_parent(false);
    test_damaged_parent(true);
    test_references();
    test_same_page();
    image_fini(&first);
    image_fini(&changed);
    return done_testing();
}
