/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_wake_working_set.c - what is learnt from wakes: the order of need, confirmed, added to and
 * faded; recorders that many threads note into; and that what one server learnt, another knows.
 */
#include <errno.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/thread.h"
#include "store/images.h"
#include "wake/pages.h"
#include "wake/working_set.h"

enum { PAGES = 4096, THREADS = 4 };

static struct base_random rng;

/* ------------------------------------------------------------------ policy */

static bool
no_zeros(const void *context, uint64_t page_index)
{
    (void)context;
    (void)page_index;
    return false;
}

static bool
odd_are_zero(const void *context, uint64_t page_index)
{
    (void)context;
    return page_index % 2 == 1;
}

/* SET learns from one wake that needed PAGES. */
static void
learn(
    struct store_working_set *set, const uint64_t *pages, size_t count,
    struct wake_lesson lesson)
{
    struct store_working_set next = {0};
    lesson.needed = pages;
    lesson.needed_count = count;
    lesson.image_pages = lesson.image_pages == 0 ? PAGES : lesson.image_pages;
    lesson.is_zero = lesson.is_zero == NULL ? no_zeros : lesson.is_zero;
    if (wake_working_set_learn(set, &lesson, &next) != 0)
        bail("%s", dor_err_message());
    store_working_set_fini(set);
    *set = next;
}

#define LEARN(set, exactly, ...)                                                               \
    learn(                                                                                     \
        (set), (const uint64_t[]){__VA_ARGS__}, ARRAY_LEN(((const uint64_t[]){__VA_ARGS__})),  \
        (struct wake_lesson){.exact = (exactly)})

/* "first-last ..." of the whole set, in order. */
static const char *
words_of(const struct store_working_set *set)
{
    static char words[512];
    struct dor_working_set_run *runs = NULL;
    size_t count = 0;
    size_t used = 0;
    if (store_working_set_runs(set, STORE_SET_NO_TURN, &runs, &count) != 0)
        bail("%s", dor_err_message());
    words[0] = 0;
    for (size_t i = 0; i < count; i++)
        used += (size_t)snprintf(
            words + used, sizeof words - used, "%s%d-%d", i == 0 ? "" : " ",
            (int)runs[i].first_page, (int)(runs[i].first_page + runs[i].page_count - 1));
    base_free(runs);
    return words;
}

static void
test_first(void)
{
    struct store_working_set set = {0};
    LEARN(&set, true, 700, 701, 20, 300, 23);
    is_str(words_of(&set), "700-701 20-20 23-23 300-300", "the first wake teaches its order");
    is_int(set.wakes, 1, "it was one");
    store_working_set_fini(&set);
    LEARN(&set, false, 700, 20);
    is_str(words_of(&set), "688-703 16-31", "what comes by windows is learnt by windows");
    store_working_set_fini(&set);
    learn(
        &set, (const uint64_t[]){20, 98}, 2,
        (struct wake_lesson){.is_zero = odd_are_zero, .image_pages = 99});
    is_str(
        words_of(&set), "16-16 18-18 20-20 22-22 24-24 26-26 28-28 30-30 96-96 98-98",
        "without zero pages and what is past the end");
    store_working_set_fini(&set);
}

static void
test_fading(void)
{
    struct store_working_set set = {0};
    LEARN(&set, true, 5, 100, 200);
    LEARN(&set, true, 5, 100);
    LEARN(&set, true, 5, 100, 300);
    is_str(words_of(&set), "5-5 100-100 200-200 300-300", "one of three is enough to stay");
    LEARN(&set, true, 5, 100);
    is_str(words_of(&set), "5-5 100-100", "one of four is not");
    LEARN(&set, true, 5, 100, 300);
    is_str(words_of(&set), "5-5 100-100 300-300", "who is needed again comes back at once");
    for (unsigned i = 0; i < STORE_SET_WAKES_MAX; i++)
        LEARN(&set, true, 5, 100);
    is_int(set.window_count, 2, "what no remembered wake needed is forgotten");
    LEARN(&set, true, 900, 5, 100);
    is_str(words_of(&set), "5-5 100-100", "a late page must be needed twice");
    LEARN(&set, true, 900, 5, 100);
    LEARN(&set, true, 900, 5, 100);
    is_str(words_of(&set), "900-900 5-5 100-100", "and then has its rank");
    store_working_set_fini(&set);
}

static void
test_given(void)
{
    struct store_working_set set = {0};
    const struct wake_run given[] = {{5, 1}, {100, 2}};
    LEARN(&set, true, 5, 100, 101);
    for (unsigned i = 0; i < 20; i++)
        learn(
            &set, (const uint64_t[]){2000}, 1,
            (struct wake_lesson){.exact = true, .given = given, .given_count = 2});
    is_str(
        words_of(&set), "5-5 2000-2000 100-101",
        "what is given ahead is neither seen nor lost");
    for (unsigned i = 0; i < 3; i++)
        learn(
            &set, (const uint64_t[]){2000, 101}, 2,
            (struct wake_lesson){.exact = true, .given = given, .given_count = 1});
    is_str(words_of(&set), "5-5 2000-2000 101-101", "what is put to the test fades or stays");
    store_working_set_fini(&set);
}

/* A first wake that needed page 20, with the pages from 16 on beside it. */
static struct store_working_set
with_candidates(void)
{
    struct store_working_set set = {0};
    static const uint64_t around[] = {16, 17, 18, 19, 21, 22, 23};
    learn(
        &set, (const uint64_t[]){20}, 1,
        (struct wake_lesson){
            .exact = true, .around = around, .around_count = ARRAY_LEN(around)});
    return set;
}

static void
test_candidates(void)
{
    struct store_working_set set = with_candidates();
    is_str(words_of(&set), "20-20", "what only came beside is not pushed");
    is_int(set.windows[0].pages, 0xff, "but known");
    LEARN(&set, true, 20, 18);
    is_str(words_of(&set), "18-18 20-20", "the next wake tells which of it is needed");
    is_int(set.windows[0].pages, 0x14, "and what is not is forgotten");
    const uint64_t again[] = {18, 19};
    learn(
        &set, (const uint64_t[]){20}, 1,
        (struct wake_lesson){.exact = true, .around = again, .around_count = 2});
    is_int(
        set.windows[0].histories[2], 3,
        "of a page that is known, that it came beside another says nothing");
    is_int(set.windows[0].histories[3], 4, "a new one was not needed by the wakes before");
    store_working_set_fini(&set);

    set = with_candidates();
    const uint64_t odd[] = {21, 33};
    learn(
        &set, (const uint64_t[]){20}, 1,
        (struct wake_lesson){
            .exact = true, .around = odd, .around_count = 2, .is_zero = odd_are_zero});
    is_int(set.windows[0].pages, 0x10, "a page of zeros becomes no candidate");
    is_int(set.window_count, 1, "nor a window of them");
    const uint64_t far[] = {34};
    learn(
        &set, (const uint64_t[]){20}, 1,
        (struct wake_lesson){.exact = true, .around = far, .around_count = 1});
    ok(set.window_count == 2 && set.windows[1].rank_count == 1 &&
           set.windows[1].ranks[0] == UINT8_MAX,
       "a window of candidates alone is the last");
    store_working_set_fini(&set);
}

static void
test_median(void)
{
    struct store_working_set set = {0};
    LEARN(&set, true, 1, 100, 200, 300);
    LEARN(&set, true, 1, 100, 200, 300);
    LEARN(&set, true, 300, 1, 100, 200);
    is_str(words_of(&set), "1-1 100-100 200-200 300-300", "one odd wake does not change it");
    LEARN(&set, true, 300, 1, 100, 200);
    LEARN(&set, true, 300, 1, 100, 200);
    is_str(words_of(&set), "300-300 1-1 100-100 200-200", "most wakes decide the order");
    store_working_set_fini(&set);
}

/* Random wakes: what comes out is always a sound set, equal to a plain count of the last wakes. */
static void
test_against_count(void)
{
    enum { WAKES = 30, SMALL = 64 };
    static uint8_t seen[WAKES][SMALL];
    struct store_working_set set = {0};
    unsigned wrong = 0;
    for (unsigned wake = 0; wake < WAKES; wake++) {
        uint64_t pages[SMALL];
        size_t count = 0;
        for (uint64_t page = 0; page < SMALL; page++)
            if (base_random_below(&rng, 64) < page || count == 0) {
                seen[wake][page] = 1;
                pages[count++] = page;
            }
        learn(&set, pages, count, (struct wake_lesson){.exact = true, .image_pages = SMALL});
        for (uint64_t page = 0; page < SMALL; page++) {
            unsigned last = (unsigned)base_min_u64(wake + 1, STORE_SET_WAKES_MAX);
            unsigned needed = 0;
            unsigned in = 0;
            for (unsigned back = 0; back < last; back++)
                needed += seen[wake - back][page];
            for (size_t i = 0; i < set.window_count; i++)
                if (set.windows[i].window == page / 16)
                    in = store_set_window_pages(&set.windows[i]) >> page % 16 & 1;
            wrong += in != (needed > 0 && needed * 3 >= last);
        }
    }
    is_int(wrong, 0, "the set is what a third of the last wakes needed");
    store_working_set_fini(&set);
}

static void
test_too_many(void)
{
    struct store_working_set set = {0};
    uint64_t image_pages = UINT64_C(16) * (STORE_SET_WINDOWS_MAX + 1000);
    size_t count = STORE_SET_WINDOWS_MAX + 1000;
    AUTO_FREE uint64_t *pages = base_array(count, sizeof *pages);
    if (pages == NULL)
        bail("%s", dor_err_message());
    for (size_t i = 0; i < count; i++)
        pages[i] = (count - 1 - i) * 16;
    learn(&set, pages, count, (struct wake_lesson){.exact = true, .image_pages = image_pages});
    is_int(set.window_count, STORE_SET_WINDOWS_MAX, "too many windows are cut");
    ok(set.windows[set.window_count - 1].window == count - 1 && set.windows[0].window > 0,
       "from those needed last");
    store_working_set_fini(&set);
}

static void
test_no_memory(void)
{
    struct store_working_set set = {0};
    struct store_working_set next = {0};
    const uint64_t pages[] = {3, 4, 99};
    struct wake_lesson lesson = {
        .image_pages = PAGES, .needed = pages, .needed_count = 3, .is_zero = no_zeros};
    int err;
    unsigned tries = 0;
    do {
        base_fault_arm(FAULT_ALLOC, ++tries, 0);
        err = wake_working_set_learn(&set, &lesson, &next);
        base_fault_arm(FAULT_NONE, 0, 0);
    } while (err == DOR_E_NO_MEMORY && tries < 100);
    ok(err == 0 && tries > 3, "without memory nothing is learnt, and it says so");
    store_working_set_fini(&next);
}

/* ------------------------------------------------------------------ servers */

static struct image image;

static struct dor_wake_server *
open_server(void)
{
    struct dor_wake_server *server;
    if (dor_wake_server_open(test_path("store"), NULL, &server) != 0)
        bail("%s", dor_err_message());
    return server;
}

static struct wake_snapshot *
open_snapshot(struct dor_wake_server *server)
{
    struct wake_snapshot *snapshot;
    if (wake_snapshot_open(server, "a", &snapshot) != 0)
        bail("%s", dor_err_message());
    return snapshot;
}

static struct wake_recorder *
new_recorder(const struct wake_snapshot *snapshot)
{
    struct wake_recorder *recorder;
    if (wake_recorder_new(snapshot, &recorder) != 0)
        bail("%s", dor_err_message());
    return recorder;
}

static uint64_t
given_pages(const struct wake_snapshot *snapshot)
{
    const struct wake_run *runs;
    size_t count;
    uint64_t pages = 0;
    wake_snapshot_working_set(snapshot, &runs, &count);
    for (size_t i = 0; i < count; i++)
        for (uint64_t p = 0; p < runs[i].page_count; p++, pages++)
            if (wake_snapshot_page_is_zero(snapshot, runs[i].first_page + p))
                return 0;
    return pages;
}

/* One wake that needs every STEP-th page, one by one. */
static void
wake_once(struct dor_wake_server *server, uint64_t step)
{
    struct wake_snapshot *snapshot = open_snapshot(server);
    struct wake_recorder *recorder = new_recorder(snapshot);
    wake_recorder_set_exact(recorder);
    for (uint64_t page = 0; page < image.page_count; page += step)
        wake_recorder_note(recorder, page);
    wake_snapshot_learn(snapshot, recorder);
    wake_recorder_free(recorder);
    wake_snapshot_close(snapshot);
}

static void
test_servers(void)
{
    struct dor_wake_server *server = open_server();
    struct wake_snapshot *held = open_snapshot(server);
    uint64_t want = 0;
    for (uint64_t page = 0; page < image.page_count; page += 3)
        want += !page_is_zero(image_page(&image, page));
    is_int(given_pages(held), 0, "at first nothing is known");
    wake_once(server, 3);
    is_int(given_pages(held), want, "what one wake taught, those that go on know");
    wake_snapshot_close(held);
    struct dor_wake_server *other = open_server();
    held = open_snapshot(other);
    is_int(given_pages(held), want, "and other servers, without its zero pages");
    wake_snapshot_close(held);
    wake_once(other, 3);
    held = open_snapshot(other);
    uint64_t pages = given_pages(held);
    ok(pages < want && pages > want * 9 / 10,
       "later a few are left out, to be put to the test");
    wake_snapshot_close(held);
    dor_wake_server_close(other);
    dor_wake_server_close(server);
}

/* A store that cannot be written to, or a damaged set, costs only the lesson. */
static void
test_trouble(void)
{
    struct dor_store *store = open_store(test_path("store"), DOR_OPEN_READ);
    struct dor_wake_server *server = open_server();
    struct dor_working_set set;
    (void)!dor_working_set_forget(store, "a");
    struct wake_snapshot *snapshot = open_snapshot(server);
    struct wake_recorder *recorder = new_recorder(snapshot);
    wake_snapshot_learn(snapshot, recorder);
    is_int(
        dor_working_set_read(store, "a", &set), DOR_E_NOT_FOUND,
        "a wake that needed nothing teaches nothing");
    wake_recorder_note(recorder, 0);
    wake_recorder_note(recorder, image.page_count - 1);
    bool fired = true;
    unsigned wrong = 0;
    for (uint64_t nth = 1; fired && nth < 100; nth++) {
        base_fault_arm(FAULT_IO_FAIL_STICKY, nth, EROFS);
        wake_snapshot_learn(snapshot, recorder);
        base_fault_arm(FAULT_NONE, 0, 0);
        fired = base_fault_fired();
        int err = dor_working_set_read(store, "a", &set);
        wrong += err != (fired ? DOR_E_NOT_FOUND : 0);
        if (err == 0)
            dor_working_set_fini(&set);
    }
    is_int(wrong, 0, "a lesson that cannot be written is lost, and nothing else");
    is_ok(dor_working_set_read(store, "a", &set), "the next one is not");
    dor_working_set_fini(&set);
    FILE *file = fopen(test_path("store/wset.0000000000000001"), "w");
    if (file == NULL || fputs("rubbish", file) == EOF || fclose(file) != 0)
        bail("no file");
    is_int(dor_working_set_read(store, "a", &set), DOR_E_CORRUPT, "a damaged one is refused");
    wake_snapshot_learn(snapshot, recorder);
    is_ok(dor_working_set_read(store, "a", &set), "and replaced by what the next wake teaches");
    dor_working_set_fini(&set);
    wake_recorder_free(recorder);
    wake_snapshot_close(snapshot);
    dor_wake_server_close(server);
    dor_store_close(store);
}

/* ------------------------------------------------------------------ threads */

struct noter {
    struct base_thread thread;
    struct wake_snapshot *snapshot;
    struct wake_recorder *recorder;
    uint64_t seed;
};

static void
note_all(void *context)
{
    struct noter *noter = context;
    struct base_random random;
    base_random_init(&random, noter->seed);
    uint64_t start = base_random_below(&random, image.page_count);
    for (uint64_t i = 0; i < image.page_count; i++)
        wake_recorder_note(noter->recorder, (start + i) % image.page_count);
}

static void
learn_often(void *context)
{
    struct noter *noter = context;
    for (unsigned i = 0; i < 20; i++)
        wake_snapshot_learn(noter->snapshot, noter->recorder);
}

static void
test_threads(void)
{
    struct dor_store *store = open_store(test_path("store"), DOR_OPEN_READ);
    struct dor_wake_server *server = open_server();
    struct noter noters[THREADS];
    struct dor_working_set set;
    uint64_t want = 0;
    if (dor_working_set_forget(store, "a") != 0)
        bail("%s", dor_err_message());
    for (uint64_t page = 0; page < image.page_count; page++)
        want += !page_is_zero(image_page(&image, page));
    struct wake_snapshot *snapshot = open_snapshot(server);
    struct wake_recorder *recorder = new_recorder(snapshot);
    for (size_t i = 0; i < THREADS; i++) {
        noters[i].snapshot = snapshot;
        noters[i].recorder = recorder;
        noters[i].seed = base_random_next(&rng);
        if (base_thread_start(
                &noters[i].thread, "noter", i == THREADS - 1 ? learn_often : note_all,
                &noters[i]) != 0)
            bail("%s", dor_err_message());
    }
    for (size_t i = 0; i < THREADS; i++)
        base_thread_join(&noters[i].thread);
    wake_snapshot_learn(snapshot, recorder);
    is_ok(dor_working_set_read(store, "a", &set), "many threads teach a set");
    is_int(set.page_count, want, "each page is noted once, whoever was first");
    dor_working_set_fini(&set);
    base_fault_arm(FAULT_ALLOC, UINT64_MAX, 0);
    for (uint64_t page = 0; page < image.page_count; page++)
        wake_recorder_note(recorder, page);
    is_int(base_fault_count(), 0, "noting allocates nothing");
    base_fault_arm(FAULT_NONE, 0, 0);
    wake_recorder_free(recorder);
    wake_snapshot_close(snapshot);
    dor_wake_server_close(server);
    dor_store_close(store);
}

int
main(void)
{
    work_in_memory();
    base_log_level_set(LOG_LEVEL_ERROR);
    base_random_init(&rng, tap_seed());
    test_first();
    test_fading();
    test_given();
    test_candidates();
    test_median();
    test_against_count();
    test_too_many();
    test_no_memory();
    image_make(&rng, &image, PAGES);
    struct dor_store *store = new_store("store", NULL);
    must_put(store, "a", &image);
    dor_store_close(store);
    test_servers();
    test_trouble();
    test_threads();
    image_fini(&image);
    return done_testing();
}
