/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_view.c - a view gives a snapshot's pages to many threads, allocates nothing for it, and
 * outlives whatever becomes of the store; a handle that follows the store finds what is new.
 */
#include <fcntl.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/thread.h"
#include "store/images.h"
#include "store/view.h"

enum { PAGES = 900, GENERATIONS = 4 };

static struct base_random rng;

/* Whether all pages of VIEW are IMAGE's, read COUNT together. */
static bool
view_is_image(const struct store_view *view, const struct image *image, size_t count)
{
    struct store_view_reader *reader;
    AUTO_FREE uint8_t *bytes = base_alloc_pages(count);
    struct store_view_item items[STORE_VIEW_BATCH_MAX];
    bool same = store_view_page_count(view) == image->page_count;
    if (bytes == NULL || store_view_reader_new(&reader) != 0)
        bail("%s", dor_err_message());
    for (uint64_t first = 0; first < image->page_count && same; first += count) {
        size_t now =
            (size_t)(first + count <= image->page_count ? count : image->page_count - first);
        /* Backwards: the order of items is nobody's business. */
        for (size_t i = 0; i < now; i++)
            items[i] = (struct store_view_item){
                first + now - 1 - i, bytes + (now - 1 - i) * DOR_PAGE_BYTES, 0};
        same = store_view_read(view, reader, items, now) == 0 &&
               memcmp(bytes, image_page(image, first), now * DOR_PAGE_BYTES) == 0;
    }
    store_view_reader_free(reader);
    return same;
}

/* Generations of one sandbox in a folder; IMAGES are the caller's. */
static struct dor_store *
store_of_generations(const char *name, struct image images[GENERATIONS])
{
    struct dor_store *store = new_store(name, NULL);
    char snapshot[16];
    image_make(&rng, &images[0], PAGES);
    for (int i = 0; i < GENERATIONS; i++) {
        if (i > 0) {
            image_copy(&images[i], &images[i - 1]);
            image_evolve(&rng, &images[i]);
        }
        snprintf(snapshot, sizeof snapshot, "%d", i);
        must_put(store, snapshot, &images[i]);
    }
    return store;
}

static void
test_reading(void)
{
    struct image images[GENERATIONS];
    struct dor_store *store = store_of_generations("reading", images);
    struct dor_store *reader = open_store(test_path("reading"), DOR_OPEN_READ);
    struct store_view *view;
    char name[16];
    for (int i = 0; i < GENERATIONS; i++) {
        snprintf(name, sizeof name, "%d", i);
        is_ok(store_view_open(i % 2 == 0 ? reader : store, name, &view), "a view of %s", name);
        ok(view_is_image(view, &images[i], 16), "pages by sixteen");
        ok(view_is_image(view, &images[i], STORE_VIEW_BATCH_MAX), "and by many");
        ok(view_is_image(view, &images[i], 1), "and one by one");
        store_view_close(view);
    }
    is_int(store_view_open(reader, "none", &view), DOR_E_NOT_FOUND, "no such snapshot");
    for (int i = 0; i < GENERATIONS; i++)
        image_fini(&images[i]);
    dor_store_close(reader);
    dor_store_close(store);
}

/* Turn over all bytes of the files of PLAN that are in none of its extents. */
static void
spoil_the_rest(const struct store_view_plan *plan)
{
    for (size_t i = 0; i < plan->count; i++) {
        char path[64];
        uint64_t size_bytes = 0;
        snprintf(path, sizeof path, "/proc/self/fd/%d", plan->extents[i].fd);
        AUTO_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0 || base_file_size(fd, path, &size_bytes) != 0)
            bail("%s", dor_err_message());
        AUTO_FREE uint8_t *bytes = base_alloc(size_bytes);
        bool first = true;
        for (size_t before = 0; before < i && first; before++)
            first = plan->extents[before].fd != plan->extents[i].fd;
        if (!first)
            continue;
        if (bytes == NULL || base_file_pread(fd, bytes, size_bytes, 0, path) != 0)
            bail("%s", dor_err_message());
        for (uint64_t at = 0; at < size_bytes; at++) {
            bool planned = false;
            for (size_t e = i; e < plan->count && !planned; e++)
                planned = plan->extents[e].fd == plan->extents[i].fd &&
                          at >= plan->extents[e].offset && at < plan->extents[e].end;
            bytes[at] ^= planned ? 0 : 0xff;
        }
        if (base_file_pwrite(fd, bytes, size_bytes, 0, path) != 0)
            bail("%s", dor_err_message());
    }
}

/* What a plan tells the system to read is all that reading its pages takes. */
static void
test_plan(void)
{
    enum { SOME = 40 };
    struct image images[GENERATIONS];
    struct dor_store *store = store_of_generations("plan", images);
    struct dor_store *reader = open_store(test_path("plan"), DOR_OPEN_READ);
    struct store_view_reader *scratch;
    struct store_view *view;
    struct store_view_plan plan;
    struct store_view_plan nothing;
    struct store_view_item items[SOME];
    uint64_t pages[SOME];
    AUTO_FREE uint8_t *bytes = base_alloc_pages(SOME);
    char name[16];
    snprintf(name, sizeof name, "%d", GENERATIONS - 1);
    if (bytes == NULL || store_view_open(reader, name, &view) != 0 ||
        store_view_reader_new(&scratch) != 0)
        bail("%s", dor_err_message());
    for (size_t i = 0; i < SOME; i++) {
        pages[i] = base_random_below(&rng, PAGES);
        items[i] = (struct store_view_item){pages[i], bytes + i * DOR_PAGE_BYTES, 0};
    }
    is_ok(store_view_plan(view, pages, SOME, &plan), "a plan of some pages");
    is_ok(store_view_plan(view, pages, 0, &nothing), "and of none");
    is_int(nothing.count, 0, "that reads nothing");
    uint64_t planned_bytes = 0;
    for (size_t i = 0; i < plan.count; i++)
        planned_bytes += plan.extents[i].end - plan.extents[i].offset;
    ok(planned_bytes < (uint64_t)SOME * 64 * 1024, "of which each takes little");
    size_t place = 0;
    size_t steps = 0;
    for (; place < plan.count; steps++)
        place = store_view_plan_read(&plan, place, 1);
    is_int(steps, plan.count, "it is read in steps");
    is_int(store_view_plan_read(&plan, place, 1), plan.count, "up to its end");
    spoil_the_rest(&plan);
    unsigned wrong = store_view_read(view, scratch, items, SOME) != 0;
    for (size_t i = 0; i < SOME; i++)
        wrong += memcmp(
                     bytes + i * DOR_PAGE_BYTES, image_page(&images[GENERATIONS - 1], pages[i]),
                     DOR_PAGE_BYTES) != 0;
    is_int(wrong, 0, "nothing else need be there");
    ok(!view_is_image(view, &images[GENERATIONS - 1], 16), "for other pages there is");
    store_view_plan_fini(&plan);
    store_view_plan_fini(&nothing);
    store_view_reader_free(scratch);
    store_view_close(view);
    for (int i = 0; i < GENERATIONS; i++)
        image_fini(&images[i]);
    dor_store_close(reader);
    dor_store_close(store);
}

/* Equal pages of two snapshots have one key exactly when they are one stored page. */
static void
test_keys(void)
{
    struct image images[GENERATIONS];
    struct dor_store *store = store_of_generations("keys", images);
    struct store_view *left;
    struct store_view *right;
    unsigned wrong = 0;
    unsigned shared = 0;
    if (store_view_open(store, "1", &left) != 0 || store_view_open(store, "2", &right) != 0)
        bail("%s", dor_err_message());
    for (uint64_t i = 0; i < PAGES; i++) {
        struct store_page_key key = store_view_key(left, i);
        wrong += (key.place == 0) != page_is_zero(image_page(&images[1], i));
        for (uint64_t k = i; k < i + 3 && k < PAGES; k++) {
            struct store_page_key other = store_view_key(right, k);
            bool same = key.place == other.place && key.domain == other.domain;
            shared += same && key.place != 0;
            wrong +=
                same &&
                memcmp(image_page(&images[1], i), image_page(&images[2], k), DOR_PAGE_BYTES) !=
                    0;
        }
    }
    is_int(wrong, 0, "one key, one content; zero pages have place 0");
    ok(shared > PAGES / 4, "two generations share pages");
    store_view_close(left);
    store_view_close(right);
    for (int i = 0; i < GENERATIONS; i++)
        image_fini(&images[i]);
    dor_store_close(store);
}

static void
test_outlives_the_store(void)
{
    struct image images[GENERATIONS];
    struct dor_store *store = store_of_generations("outlives", images);
    struct dor_store *reader = open_store(test_path("outlives"), DOR_OPEN_READ);
    struct store_view *view;
    struct dor_gc gc = {.squeeze = true};
    struct dor_gc_result result;
    if (store_view_open(reader, "2", &view) != 0)
        bail("%s", dor_err_message());
    for (int i = 0; i < GENERATIONS; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        if (dor_store_remove(store, name) != 0)
            bail("%s", dor_err_message());
    }
    if (dor_store_gc(store, &gc, &result) != 0)
        bail("%s", dor_err_message());
    dor_store_close(store);
    dor_store_close(reader);
    ok(view_is_image(view, &images[2], 16), "removed, collected and closed: it still reads");
    store_view_close(view);
    for (int i = 0; i < GENERATIONS; i++)
        image_fini(&images[i]);
}

static void
test_no_allocation(void)
{
    struct image images[GENERATIONS];
    struct dor_store *store = store_of_generations("allocates", images);
    struct store_view *view;
    struct store_view_reader *reader;
    static uint8_t bytes[16][DOR_PAGE_BYTES];
    struct store_view_item items[16];
    if (store_view_open(store, "3", &view) != 0 || store_view_reader_new(&reader) != 0)
        bail("%s", dor_err_message());
    base_fault_arm(FAULT_ALLOC, 1, 0);
    unsigned wrong = 0;
    for (uint64_t first = 0; first + 16 <= PAGES; first += 16) {
        for (size_t i = 0; i < 16; i++)
            items[i] = (struct store_view_item){first + i, bytes[i], 0};
        wrong += store_view_read(view, reader, items, 16) != 0;
    }
    is_int(wrong, 0, "all pages are read");
    ok(!base_fault_fired(), "without an allocation");
    base_fault_arm(FAULT_NONE, 0, 0);
    store_view_reader_free(reader);
    store_view_close(view);
    for (int i = 0; i < GENERATIONS; i++)
        image_fini(&images[i]);
    dor_store_close(store);
}

static void
test_refresh(void)
{
    struct image images[GENERATIONS];
    struct dor_store *store = store_of_generations("refresh", images);
    struct dor_store *reader = open_store(test_path("refresh"), DOR_OPEN_READ);
    struct store_view *view;
    uint64_t before;
    uint64_t after;
    if (dor_store_find(reader, "0", &before) != 0)
        bail("%s", dor_err_message());
    struct dor_put put = {.replace = true};
    is_ok(put_image(store, "0", &images[3], &put, NULL), "a name is given to another image");
    must_put(store, "new", &images[1]);
    is_int(dor_store_find(reader, "new", &after), DOR_E_NOT_FOUND, "a reader knows of nothing");
    is_ok(dor_store_refresh(reader), "until it looks again");
    is_ok(dor_store_find(reader, "new", &after), "it finds what is new");
    is_ok(dor_store_find(reader, "0", &after), "and the name");
    ok(after != before, "that means another snapshot");
    is_ok(store_view_open(reader, "0", &view), "a view of it");
    ok(view_is_image(view, &images[3], 64), "has the new pages");
    is_ok(dor_store_refresh(reader), "looking again changes nothing");
    ok(view_is_image(view, &images[3], 64), "for the view");
    store_view_close(view);
    for (int i = 0; i < GENERATIONS; i++)
        image_fini(&images[i]);
    dor_store_close(reader);
    dor_store_close(store);
}

/* ------------------------------------------------------------------ threads */

struct hammer {
    const struct store_view *view;
    const struct image *image;
    bool good;
};

static void
hammer(void *context)
{
    struct hammer *job = context;
    job->good =
        view_is_image(job->view, job->image, 8) && view_is_image(job->view, job->image, 100);
}

static void
test_threads(void)
{
    enum { THREADS = 4 };
    struct image images[GENERATIONS];
    struct dor_store *store = store_of_generations("threads", images);
    struct store_view *views[2];
    struct base_thread threads[THREADS];
    struct hammer jobs[THREADS];
    if (store_view_open(store, "2", &views[0]) != 0 ||
        store_view_open(store, "3", &views[1]) != 0)
        bail("%s", dor_err_message());
    for (int i = 0; i < THREADS; i++) {
        jobs[i] = (struct hammer){views[i % 2], &images[2 + i % 2], false};
        if (base_thread_start(&threads[i], "hammer", hammer, &jobs[i]) != 0)
            bail("%s", dor_err_message());
    }
    for (int i = 0; i < THREADS; i++)
        base_thread_join(&threads[i]);
    ok(jobs[0].good && jobs[1].good && jobs[2].good && jobs[3].good,
       "four threads read two views at once");
    store_view_close(views[0]);
    store_view_close(views[1]);
    for (int i = 0; i < GENERATIONS; i++)
        image_fini(&images[i]);
    dor_store_close(store);
}

int
main(void)
{
    work_in_memory();
    base_random_init(&rng, tap_seed());
    test_reading();
    test_plan();
    test_keys();
    test_outlives_the_store();
    test_no_allocation();
    test_refresh();
    test_threads();
    return done_testing();
}
