/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_source_faults.c - puts from a source, with classes, a frame and dropped pages, puts of
 * diffs, and copies of such snapshots, that fail or are killed at any call: the store is as
 * before, or they are done. Nor does a source that fails change a byte.
 */
#include "store/faults.h"
#include "store/sources.h"

enum { PAGES = 48, FRAME_BYTES = 500 };

static struct base_random rng;
static struct image images[2];
static uint8_t holes[PAGES], dropped[PAGES], classes[PAGES], types[PAGES], frame[FRAME_BYTES];
/* What comes of images[1] with its holes: put alone, put as a diff, both with dropped pages. */
static struct image alone, applied;
static const struct dor_sidecar sidecar = {"vmstate", "0123456789", 10};
static struct dor_store *source;

static struct dor_put
all_of_it(void)
{
    return (struct dor_put){
        .region_types = types,
        .page_classes = classes,
        .dropped = dropped,
        .frame = frame,
        .frame_bytes = FRAME_BYTES,
        .sidecars = &sidecar,
        .sidecar_count = 1};
}

static struct row
the_row(void)
{
    return (struct row){.image = &images[1], .data = holes};
}

/* Whether NAME is WANT with its classes and frame: 1, 0 = it is not there, -1 = it is wrong. */
static int
has_all(struct dor_store *store, const char *name, const struct image *want)
{
    struct dor_snapshot *snapshot;
    int got = compare_image(store, name, want);
    if (got == DOR_E_NOT_FOUND)
        return 0;
    if (got != 1 || dor_snapshot_open(store, name, &snapshot) != 0)
        return -1;
    bool same = compare_classes(snapshot, classes) == 1 &&
                compare_frame(snapshot, frame, FRAME_BYTES) == 1;
    dor_snapshot_close(snapshot);
    return same ? 1 : -1;
}

static void
prepare_parent(struct dor_store *store)
{
    must_put(store, "a", &images[0]);
}

/* "b" is there as WANT or not at all, and "a" is as it was. */
static int
state_of(struct dor_store *store, const struct image *want)
{
    int b = has_all(store, "b", want);
    if (compare_image(store, "a", &images[0]) != 1 || b < 0)
        return STATE_WRONG;
    return b == 1 ? STATE_DONE : STATE_BEFORE;
}

/* ------------------------------------------------------------------ put from a source */

static int
run_put(struct dor_store *store)
{
    struct dor_put put = all_of_it();
    struct row row = the_row();
    return put_row(store, "b", &row, &put, NULL);
}

static int
state_put(struct dor_store *store)
{
    return state_of(store, &alone);
}

/* ------------------------------------------------------------------ put of a diff */

static int
run_diff(struct dor_store *store)
{
    struct dor_put put = all_of_it();
    struct row row = the_row();
    put.diff = true;
    put.parent = "a";
    return put_row(store, "b", &row, &put, NULL);
}

static int
state_diff(struct dor_store *store)
{
    return state_of(store, &applied);
}

/* ------------------------------------------------------------------ in the parent's place */

static int
run_replace(struct dor_store *store)
{
    struct dor_put put = all_of_it();
    struct row row = the_row();
    put.diff = true;
    put.parent = "a";
    put.replace = true;
    return put_row(store, "a", &row, &put, NULL);
}

static int
state_replace(struct dor_store *store)
{
    if (has_all(store, "a", &applied) == 1)
        return STATE_DONE;
    return compare_image(store, "a", &images[0]) == 1 ? STATE_BEFORE : STATE_WRONG;
}

/* ------------------------------------------------------------------ copy */

static int
run_copy(struct dor_store *store)
{
    struct dor_put_result result;
    return dor_store_copy(source, "b", store, "b", &result);
}

/* ------------------------------------------------------------------ the source fails */

/* Every call of the source fails once; the files stay as they are. */
static void
test_failing_source(bool diff)
{
    const char *path = test_path(diff ? "failing diff" : "failing source");
    struct dor_store *store = new_store(diff ? "failing diff" : "failing source", NULL);
    struct dor_put put = all_of_it();
    struct tree before;
    uint64_t nth = 0;
    unsigned wrong = 0;
    put.diff = diff;
    put.parent = diff ? "a" : NULL;
    prepare_parent(store);
    tree_read(&before, path);
    for (int err = -1; err != 0 && nth < FAULT_POINTS_MAX;) {
        struct row row = the_row();
        struct tree after;
        row.fail_call = ++nth;
        row.fail_error = DOR_E_DENIED;
        err = put_row(store, "b", &row, &put, NULL);
        if (err == 0)
            break;
        tree_read(&after, path);
        wrong += err != DOR_E_DENIED || !tree_same(&before, &after);
        tree_fini(&after);
    }
    ok(nth > 3, "%s: it fails at each of %d calls", diff ? "diff" : "source", (int)nth - 1);
    is_int(wrong, 0, "that is the error, and no byte is left behind");
    is_int(
        has_all(store, "b", diff ? &applied : &alone), 1,
        "the handle works on when it does not");
    ok(is_sound(store), "check is clean");
    tree_fini(&before);
    dor_store_close(store);
}

static void
make_images(void)
{
    image_make(&rng, &images[0], PAGES);
    image_copy(&images[1], &images[0]);
    image_evolve(&rng, &images[1]);
    make_holes(&rng, holes, PAGES);
    holes[0] = 0;
    holes[1] = 1;
    make_classes(&rng, classes, PAGES);
    for (size_t page = 0; page < PAGES; page++) {
        types[page] = (uint8_t)base_random_below(&rng, DOR_REGION_TYPES);
        dropped[page] = base_random_below(&rng, 6) == 0;
    }
    for (size_t i = 0; i < FRAME_BYTES; i++)
        frame[i] = (uint8_t)i;
    struct row row = the_row();
    row_apply(&row, NULL, &alone);
    row_apply(&row, &images[0], &applied);
    for (size_t page = 0; page < PAGES; page++)
        if (dropped[page] != 0) {
            memset(image_page(&alone, page), 0, DOR_PAGE_BYTES);
            memset(image_page(&applied, page), 0, DOR_PAGE_BYTES);
        }
}

int
main(void)
{
    const struct operation operations[] = {
        {.name = "put from a source",
         .prepare = prepare_parent,
         .run = run_put,
         .state = state_put},
        {.name = "put of a diff",
         .prepare = prepare_parent,
         .run = run_diff,
         .state = state_diff},
        {.name = "diff in its parent's place",
         .prepare = prepare_parent,
         .run = run_replace,
         .state = state_replace},
        {.name = "copy with classes and frame",
         .prepare = prepare_parent,
         .run = run_copy,
         .state = state_diff},
    };
    work_in_memory();
    base_random_init(&rng, tap_seed());
    make_images();
    source = new_store("source", NULL);
    prepare_parent(source);
    if (run_diff(source) != 0)
        bail("%s", dor_err_message());
    for (size_t i = 0; i < ARRAY_LEN(operations); i++)
        test_operation(&operations[i]);
    test_failing_source(false);
    test_failing_source(true);
    dor_store_close(source);
    image_fini(&alone);
    image_fini(&applied);
    for (size_t i = 0; i < ARRAY_LEN(images); i++)
        image_fini(&images[i]);
    return done_testing();
}
