/* SPDX-License-Identifier: Apache-2.0 */
/*
 * working_set.c - recording which pages a wake needs, and learning from it.
 *
 * A recorder is a bit for each page of the image and a list of pages. Who sets a page's bit first
 * takes the next place in the list, so any number of threads note pages without a lock.
 *
 * A page that was pushed is not asked for, so a wake says nothing of it. Therefore each wake
 * from the second on leaves some windows out of the list that it gives to be pushed, others each
 * time (store_working_set_runs()): what is asked for of them is confirmed, and a window of which
 * nothing is fades. In the same way a page that came because one beside it was needed is a
 * candidate: the next wake gives it when it is asked for, and not before.
 */
#include "wake/working_set.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/size.h"
#include "base/sort.h"
#include "wake/pages_priv.h"

#define HISTORY_FULL (1u << STORE_SET_WAKES_MAX)

/* In place of when a page was needed, of one that was not asked for. */
#define ROW_GIVEN  UINT64_MAX
#define ROW_AROUND (UINT64_MAX - 1)

/* ------------------------------------------------------------------ learning */

/* What a wake saw of a window. */
struct seen_window {
    uint64_t window;
    uint16_t needed, given, around; /* pages, as masks */
    uint8_t rank;
};

static uint8_t
observe(uint8_t history, bool needed)
{
    unsigned next = (unsigned)history << 1 | needed;
    return (
        uint8_t)(history < HISTORY_FULL ? next : HISTORY_FULL | (next & (HISTORY_FULL - 1)));
}

/* Of a page that WAKES wakes did not need. */
static uint8_t
fresh_history(uint64_t wakes)
{
    return (uint8_t)(STORE_SET_HISTORY_NONE << base_min_u64(wakes, STORE_SET_WAKES_MAX));
}

static void
note_unasked(const struct wake_lesson *lesson, struct base_sort_row *rows, size_t *count)
{
    for (size_t i = 0; i < lesson->given_count; i++)
        for (uint64_t p = 0; p < lesson->given[i].page_count; p++)
            rows[(*count)++] =
                (struct base_sort_row){lesson->given[i].first_page + p, ROW_GIVEN};
    for (size_t i = 0; i < lesson->around_count; i++)
        rows[(*count)++] = (struct base_sort_row){lesson->around[i], ROW_AROUND};
}

static uint16_t
without_zeros(const struct wake_lesson *lesson, uint64_t window, unsigned mask)
{
    for (unsigned i = 0; i < STORE_SET_WINDOW_PAGES; i++) {
        uint64_t page = window * STORE_SET_WINDOW_PAGES + i;
        if (page >= lesson->image_pages || lesson->is_zero(lesson->context, page))
            mask &= ~(1u << i);
    }
    return (uint16_t)mask;
}

/* Rows are pages with when they were needed, or why they came unasked. */
static size_t
collect_windows(
    const struct wake_lesson *lesson, const struct base_sort_row *rows, size_t row_count,
    struct seen_window *windows)
{
    size_t count = 0;
    for (size_t i = 0; i < row_count;) {
        struct seen_window *seen = &windows[count];
        uint64_t first = UINT64_MAX;
        *seen = (struct seen_window){.window = rows[i].key / STORE_SET_WINDOW_PAGES};
        for (; i < row_count && rows[i].key / STORE_SET_WINDOW_PAGES == seen->window; i++) {
            uint16_t bit = (uint16_t)(1u << rows[i].key % STORE_SET_WINDOW_PAGES);
            if (rows[i].index == ROW_GIVEN)
                seen->given |= bit;
            else if (rows[i].index == ROW_AROUND)
                seen->around |= bit;
            else
                seen->needed |= bit;
            first = base_min_u64(first, rows[i].index);
        }
        if (seen->needed != 0 && !lesson->exact)
            seen->needed = UINT16_MAX;
        seen->needed = without_zeros(lesson, seen->window, seen->needed);
        seen->around = without_zeros(lesson, seen->window, seen->around);
        seen->rank =
            first < ROW_AROUND ? (uint8_t)(first * 256 / lesson->needed_count) : UINT8_MAX;
        count += (seen->needed | seen->given | seen->around) != 0;
    }
    return count;
}

/* What is known of one window after the wake; no pages when nothing is. */
static struct store_set_window
learn_window(const struct store_set_window *old, const struct seen_window *seen, uint64_t wakes)
{
    struct store_set_window next = *old;
    for (unsigned i = 0; i < STORE_SET_WINDOW_PAGES; i++) {
        bool needed = (seen->needed >> i & 1) != 0;
        bool given = (seen->given >> i & 1) != 0;
        bool around = (seen->around >> i & 1) != 0;
        bool known = (old->pages >> i & 1) != 0;
        if (!known && !needed && !around)
            continue;
        uint8_t history = known ? old->histories[i] : fresh_history(wakes);
        if (needed || (!given && !around))
            history = observe(history, needed);
        bool kept = around || store_set_history_needed(history) > 0;
        next.histories[i] = kept ? history : 0;
        next.pages = (uint16_t)(kept ? next.pages | 1u << i : next.pages & ~(1u << i));
    }
    if (seen->needed != 0 || (next.rank_count == 0 && next.pages != 0)) {
        memmove(next.ranks + 1, next.ranks, STORE_SET_RANKS_MAX - 1);
        next.ranks[0] = seen->rank;
        next.rank_count = (uint8_t)base_min_u64(next.rank_count + 1u, STORE_SET_RANKS_MAX);
    }
    return next;
}

/* Keep the windows that are needed first. */
static void
cut_windows(struct store_working_set *set)
{
    if (set->window_count <= STORE_SET_WINDOWS_MAX)
        return;
    size_t counts[256] = {0};
    size_t left = STORE_SET_WINDOWS_MAX;
    for (size_t i = 0; i < set->window_count; i++)
        counts[store_set_window_rank(&set->windows[i])]++;
    for (size_t rank = 0; rank < ARRAY_LEN(counts); rank++) {
        counts[rank] = base_min_u64(counts[rank], left);
        left -= counts[rank];
    }
    size_t kept = 0;
    for (size_t i = 0; i < set->window_count; i++) {
        size_t *count = &counts[store_set_window_rank(&set->windows[i])];
        if (*count == 0)
            continue;
        (*count)--;
        set->windows[kept++] = set->windows[i];
    }
    set->window_count = kept;
}

static void
merge_windows(
    const struct store_working_set *old, const struct seen_window *seen, size_t seen_count,
    struct store_working_set *set)
{
    size_t o = 0;
    for (size_t s = 0; o < old->window_count || s < seen_count;) {
        uint64_t window = base_min_u64(
            o < old->window_count ? old->windows[o].window : UINT64_MAX,
            s < seen_count ? seen[s].window : UINT64_MAX);
        struct store_set_window before = {.window = window};
        struct seen_window nothing = {.window = window};
        const struct seen_window *now = &nothing;
        if (o < old->window_count && old->windows[o].window == window)
            before = old->windows[o++];
        if (s < seen_count && seen[s].window == window)
            now = &seen[s++];
        struct store_set_window next = learn_window(&before, now, old->wakes);
        if (next.pages != 0)
            set->windows[set->window_count++] = next;
    }
}

int
wake_working_set_learn(
    const struct store_working_set *old, const struct wake_lesson *lesson,
    struct store_working_set *ret)
{
    size_t count = 0;
    size_t row_count = lesson->needed_count + lesson->around_count;
    for (size_t i = 0; i < lesson->given_count; i++)
        row_count += lesson->given[i].page_count;
    AUTO_FREE struct base_sort_row *rows = base_array(row_count + 1, 2 * sizeof *rows);
    AUTO_FREE struct seen_window *seen = base_array(row_count + 1, sizeof *seen);
    struct store_working_set set = {.wakes = old->wakes + 1};
    if (rows == NULL || seen == NULL)
        return DOR_E_NO_MEMORY;
    for (; count < lesson->needed_count; count++)
        rows[count] = (struct base_sort_row){lesson->needed[count], count};
    note_unasked(lesson, rows, &count);
    const struct base_sort_row *sorted = base_sort_rows(rows, rows + row_count, row_count);
    size_t seen_count = collect_windows(lesson, sorted, row_count, seen);
    set.windows = base_array(old->window_count + seen_count + 1, sizeof *set.windows);
    if (set.windows == NULL)
        return DOR_E_NO_MEMORY;
    merge_windows(old, seen, seen_count, &set);
    cut_windows(&set);
    *ret = set;
    return 0;
}

/* ------------------------------------------------------------------ recording */

struct shared_word {
    _Atomic uint64_t value;
};

struct wake_recorder {
    uint64_t page_count;
    size_t cap;
    bool exact;
    const struct wake_run
        *given; /* the snapshot's, as long as it is open, as is what follows */
    size_t given_count;
    const uint64_t *on_trial;
    atomic_size_t count; /* places that were taken; more than CAP when pages were left out */
    struct shared_word *order;  /* page + 1, or 0 while who took the place has not filled it */
    struct shared_word *bits;   /* noted pages */
    struct shared_word *around; /* pages that came beside them */
};

int
wake_recorder_new(const struct wake_snapshot *snapshot, struct wake_recorder **ret)
{
    struct wake_recorder *recorder = base_zalloc(sizeof *recorder);
    if (recorder == NULL)
        return DOR_E_NO_MEMORY;
    recorder->page_count = wake_snapshot_page_count(snapshot);
    recorder->cap = base_min_u64(recorder->page_count, WAKE_NOTED_PAGES_MAX);
    recorder->order = base_array(recorder->cap + 1, sizeof *recorder->order);
    recorder->bits = base_array(recorder->page_count / 64 + 1, sizeof *recorder->bits);
    recorder->around = base_array(recorder->page_count / 64 + 1, sizeof *recorder->around);
    base_mutex_lock(&snapshot->server->lock);
    recorder->given = snapshot->working_set;
    recorder->given_count = snapshot->working_set_count;
    recorder->on_trial = snapshot->on_trial;
    base_mutex_unlock(&snapshot->server->lock);
    if (recorder->order == NULL || recorder->bits == NULL || recorder->around == NULL) {
        wake_recorder_free(recorder);
        return DOR_E_NO_MEMORY;
    }
    *ret = recorder;
    return 0;
}

void
wake_recorder_free(struct wake_recorder *recorder)
{
    if (recorder == NULL)
        return;
    base_free(recorder->order);
    base_free(recorder->bits);
    base_free(recorder->around);
    base_free(recorder);
}

void
wake_recorder_set_exact(struct wake_recorder *recorder)
{
    recorder->exact = true;
}

void
wake_recorder_note(struct wake_recorder *recorder, uint64_t page_index)
{
    uint64_t bit = UINT64_C(1) << page_index % 64;
    dor_assert(page_index < recorder->page_count);
    /* Relaxed: bits and places decide only who of the noting threads is first. */
    _Atomic uint64_t *word = &recorder->bits[page_index / 64].value;
    if ((atomic_load_explicit(word, memory_order_relaxed) & bit) != 0 ||
        (atomic_fetch_or_explicit(word, bit, memory_order_relaxed) & bit) != 0)
        return;
    /* A full list is not counted on: the count must not come round. */
    if (atomic_load_explicit(&recorder->count, memory_order_relaxed) >= recorder->cap)
        return;
    size_t place = atomic_fetch_add_explicit(&recorder->count, 1, memory_order_relaxed);
    /* Pairs with the load in take_order(), which takes a 0 for a page not there yet. */
    if (place < recorder->cap)
        atomic_store_explicit(
            &recorder->order[place].value, page_index + 1, memory_order_relaxed);
}

void
wake_recorder_note_around(struct wake_recorder *recorder, uint64_t page_index)
{
    dor_assert(page_index < recorder->page_count);
    /* Relaxed: it is read once who notes is done, or says less than it could. */
    atomic_fetch_or_explicit(
        &recorder->around[page_index / 64].value, UINT64_C(1) << page_index % 64,
        memory_order_relaxed);
}

bool
wake_recorder_is_on_trial(const struct wake_recorder *recorder, uint64_t page_index)
{
    dor_assert(page_index < recorder->page_count);
    return recorder->on_trial != NULL &&
           (recorder->on_trial[page_index / 64] >> page_index % 64 & 1) != 0;
}

/* The pages that came beside others and were not needed later, in memory that the caller frees. */
static int
take_around(const struct wake_recorder *recorder, uint64_t **ret, size_t *ret_count)
{
    size_t words = recorder->page_count / 64 + 1;
    size_t taken = 0;
    size_t count = 0;
    AUTO_FREE uint64_t *bits = base_array(words, sizeof *bits);
    if (bits == NULL)
        return DOR_E_NO_MEMORY;
    for (size_t i = 0; i < words; i++) {
        bits[i] = atomic_load_explicit(&recorder->around[i].value, memory_order_relaxed) &
                  ~atomic_load_explicit(&recorder->bits[i].value, memory_order_relaxed);
        taken += (size_t)__builtin_popcountll(bits[i]);
    }
    uint64_t *pages = base_array(taken + 1, sizeof *pages);
    if (pages == NULL)
        return DOR_E_NO_MEMORY;
    for (size_t i = 0; i < words; i++)
        for (uint64_t left = bits[i]; left != 0; left &= left - 1)
            pages[count++] = i * 64 + (unsigned)__builtin_ctzll(left);
    *ret = pages;
    *ret_count = count;
    return 0;
}

/* The pages noted so far, in memory that the caller frees; others may go on noting. */
static int
take_order(const struct wake_recorder *recorder, uint64_t **ret, size_t *ret_count)
{
    size_t taken = base_min_u64(
        atomic_load_explicit(&recorder->count, memory_order_relaxed), recorder->cap);
    uint64_t *pages = base_array(taken + 1, sizeof *pages);
    size_t count = 0;
    if (pages == NULL)
        return DOR_E_NO_MEMORY;
    for (size_t i = 0; i < taken; i++) {
        uint64_t page = atomic_load_explicit(&recorder->order[i].value, memory_order_relaxed);
        if (page != 0)
            pages[count++] = page - 1;
    }
    *ret = pages;
    *ret_count = count;
    return 0;
}

/* ------------------------------------------------------------------ snapshots */

static struct store_set_key
key_locked(const struct wake_snapshot *snapshot)
{
    return store_working_set_key(
        snapshot->server->store, wake_snapshot_info(snapshot)->id,
        wake_snapshot_page_count(snapshot));
}

/*
 * The first lesson is tried as it is. Afterwards windows take turns to be put to the test: each
 * wake others.
 */
static uint64_t
turn_of(const struct store_working_set *set)
{
    return set->wakes < 2 ? STORE_SET_NO_TURN : set->wakes;
}

static void
log_useless(const struct wake_snapshot *snapshot, const char *event)
{
    dor_log(
        WARN, "wake", event, "snapshot=\"%s\" error=\"%s\"", wake_snapshot_info(snapshot)->name,
        dor_err_message());
}

/* What a snapshot has of a working set. */
struct made {
    struct wake_run *runs; /* to push: NULL when that is nothing */
    size_t run_count;
    uint64_t *on_trial; /* a bit for each page: known, and not in the set */
    struct store_view_plan plan;
};

static void
made_free(struct made *made)
{
    base_free(made->runs);
    base_free(made->on_trial);
    store_view_plan_fini(&made->plan);
}

/* Without memory for it nothing is read ahead. */
static void
make_plan(const struct store_view *view, struct made *made)
{
    size_t count = 0;
    for (size_t i = 0; i < made->run_count; i++)
        count += made->runs[i].page_count;
    AUTO_FREE uint64_t *pages = base_array(count + 1, sizeof *pages);
    size_t at = 0;
    for (size_t i = 0; i < made->run_count && pages != NULL; i++)
        for (uint64_t p = 0; p < made->runs[i].page_count; p++)
            pages[at++] = made->runs[i].first_page + p;
    if (pages == NULL || store_view_plan(view, pages, count, &made->plan) != 0)
        base_err_clear();
}

static void
mark_trial(const struct store_working_set *set, uint64_t *bits)
{
    for (size_t i = 0; i < set->window_count; i++) {
        const struct store_set_window *window = &set->windows[i];
        uint64_t pages = window->pages & ~(unsigned)store_set_window_pages(window);
        bits[window->window / 4] |= pages << window->window % 4 * STORE_SET_WINDOW_PAGES;
    }
}
static_assert(STORE_SET_WINDOW_PAGES == 16, "four windows to a word of 64 pages");

static int
make(
    const struct wake_snapshot *snapshot, const struct store_working_set *set, struct made *ret)
{
    uint64_t page_count = wake_snapshot_page_count(snapshot);
    AUTO_FREE struct dor_working_set_run *runs = NULL;
    struct made made = {.on_trial = base_array(page_count / 64 + 1, sizeof(uint64_t))};
    int err = made.on_trial == NULL
                  ? DOR_E_NO_MEMORY
                  : store_working_set_runs(set, turn_of(set), &runs, &made.run_count);
    if (err == 0 && made.run_count > 0) {
        made.runs = base_array(made.run_count, sizeof *made.runs);
        err = made.runs == NULL ? DOR_E_NO_MEMORY : 0;
    }
    if (err != 0) {
        made_free(&made);
        return err;
    }
    for (size_t i = 0; i < made.run_count; i++)
        made.runs[i] = (struct wake_run){runs[i].first_page, runs[i].page_count};
    mark_trial(set, made.on_trial);
    make_plan(snapshot->view, &made);
    *ret = made;
    return 0;
}

static void
install_locked(struct wake_snapshot *snapshot, struct made *made)
{
    snapshot->working_set = TAKE(made->runs);
    snapshot->working_set_count = made->run_count;
    snapshot->on_trial = TAKE(made->on_trial);
    snapshot->plan = made->plan;
    made->plan = (struct store_view_plan){0};
}

void
wake_working_set_load_locked(struct wake_snapshot *snapshot)
{
    struct store_working_set set = {0};
    struct made made = {0};
    struct store_set_key key = key_locked(snapshot);
    int err = store_working_set_read(&key, &set);
    if (err == 0)
        err = make(snapshot, &set, &made);
    if (err == 0)
        install_locked(snapshot, &made);
    if (err != 0 && err != DOR_E_NOT_FOUND)
        log_useless(snapshot, "working_set_unread");
    store_working_set_fini(&set);
}

void
wake_snapshot_working_set(
    const struct wake_snapshot *snapshot, const struct wake_run **ret, size_t *ret_count)
{
    base_mutex_lock(&snapshot->server->lock);
    *ret = snapshot->working_set;
    *ret_count = snapshot->working_set_count;
    base_mutex_unlock(&snapshot->server->lock);
}

void
wake_snapshot_read_ahead(
    const struct wake_snapshot *snapshot, uint64_t size_bytes, size_t *place)
{
    base_mutex_lock(&snapshot->server->lock);
    struct store_view_plan plan = snapshot->plan;
    base_mutex_unlock(&snapshot->server->lock);
    *place = store_view_plan_read(&plan, *place, size_bytes);
}

static bool
is_zero(const void *context, uint64_t page_index)
{
    return wake_snapshot_page_is_zero(context, page_index);
}

/* What a wake noted. */
struct noted {
    uint64_t *needed, *around;
    size_t needed_count, around_count;
};

/* Learn from NOTED what is then in the store, and in *RET. */
static int
learn_and_write(
    const struct wake_snapshot *snapshot, const struct wake_recorder *recorder,
    const struct store_set_key *key, const struct noted *noted, struct store_working_set *ret)
{
    struct store_working_set old = {0};
    struct store_working_set learnt = {0};
    const struct wake_lesson lesson = {
        .image_pages = recorder->page_count,
        .needed = noted->needed,
        .needed_count = noted->needed_count,
        .given = recorder->given,
        .given_count = recorder->given_count,
        .around = noted->around,
        .around_count = noted->around_count,
        .exact = recorder->exact,
        .is_zero = is_zero,
        .context = snapshot};
    int err = store_working_set_read(key, &old);
    /* What is damaged is replaced; what another version wrote, or cannot be read now, is not. */
    if (err == 0 || err == DOR_E_NOT_FOUND || err == DOR_E_CORRUPT)
        err = wake_working_set_learn(&old, &lesson, &learnt);
    if (err == 0)
        err = store_working_set_write(key, &learnt);
    store_working_set_fini(&old);
    if (err == 0)
        *ret = learnt;
    else
        store_working_set_fini(&learnt);
    return err;
}

/* A snapshot that had none yet has it from now on; another's list may be in use and stays. */
static int
install(struct wake_snapshot *snapshot, const struct store_working_set *set)
{
    struct made made = {0};
    int err = make(snapshot, set, &made);
    if (err != 0)
        return err;
    base_mutex_lock(&snapshot->server->lock);
    if (snapshot->on_trial == NULL)
        install_locked(snapshot, &made);
    base_mutex_unlock(&snapshot->server->lock);
    made_free(&made);
    return 0;
}

void
wake_snapshot_learn(struct wake_snapshot *snapshot, const struct wake_recorder *recorder)
{
    struct dor_wake_server *server = snapshot->server;
    struct store_working_set learnt = {0};
    struct noted noted = {0};
    int err = take_order(recorder, &noted.needed, &noted.needed_count);
    /* Nobody came, or all was given ahead and none put to the test: that teaches nothing. */
    if (err == 0 && noted.needed_count == 0) {
        base_free(noted.needed);
        return;
    }
    if (err == 0)
        err = take_around(recorder, &noted.around, &noted.around_count);
    base_mutex_lock(&server->lock);
    struct store_set_key key = key_locked(snapshot);
    base_mutex_unlock(&server->lock);
    if (err == 0) {
        base_mutex_lock(&server->learning);
        err = learn_and_write(snapshot, recorder, &key, &noted, &learnt);
        base_mutex_unlock(&server->learning);
    }
    if (err == 0)
        err = install(snapshot, &learnt);
    if (err != 0)
        log_useless(snapshot, "lesson_lost");
    store_working_set_fini(&learnt);
    base_free(noted.needed);
    base_free(noted.around);
}
