/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uffd_handler.c - the thread that answers a client's page faults. It alone touches the client's
 * memory, so the order of what it does is the order of what happens there.
 *
 *     wait -> read all events, mark what was removed -> answer each fault with its page
 *          -> the pages around each -> one window of the working set -> wait
 *
 * The page that was asked for goes first: the sandbox runs on while the others follow. A page that
 * was removed, or given and then lost again without a word, is zeros. A page that cannot be read is
 * tried three times more if that may help; then who touches it gets SIGBUS, or waits for ever where
 * the kernel cannot do that: never zeros.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/size.h"
#include "wake/uffd_client_priv.h"

#define NS_PER_MS      UINT64_C(1000000)
#define AGAIN_NS       (UINT64_C(50) * 1000)
#define FULL_NS        (10 * NS_PER_MS)
#define HOLD_NS        (1000 * NS_PER_MS)
#define PROBE_NS       (30000 * NS_PER_MS)
#define PROBE_SOON_NS  (1000 * NS_PER_MS)
#define HUGE_PAGES     (WAKE_HUGE_BYTES / DOR_PAGE_BYTES)
#define ZERO_RUN_PAGES HUGE_PAGES
#define LOSSES_LOGGED  10
#define PUSH_PAGES     16
#define LATE_NS        (2 * NS_PER_MS) /* who reads a batch needs less */

/* How long to wait before a page that could not be read is tried again. */
static const uint64_t retry_ns[] = {50 * NS_PER_MS, 200 * NS_PER_MS, 500 * NS_PER_MS};

/* ------------------------------------------------------------------ giving pages */

static bool
is_wanted(const struct wake_client *client, uint64_t page)
{
    return !wake_state_is_removed(client->guest.state, page) &&
           !wake_state_is_given(client->guest.state, page);
}

static bool
is_huge(struct wake_spot spot)
{
    return spot.mapping->page_bytes == WAKE_HUGE_BYTES;
}

/* COUNT pages of zeros, at most 2 MiB. Where there is no page of zeros to be mapped, a copy. */
static enum wake_given
give_zeros(const struct wake_client *client, struct wake_spot spot, uint64_t count)
{
    enum wake_given given =
        is_huge(spot) ? WAKE_NOT_POSSIBLE : wake_guest_zero(&client->guest, spot, count);
    if (given == WAKE_NOT_POSSIBLE)
        given = wake_guest_copy(&client->guest, spot, count, client->how->zeros);
    if (given == WAKE_GIVEN)
        base_counter_add(&client->how->counters->zeros, count);
    return given;
}

/* COUNT pages, none zero, one piece each, which the call may change. */
static enum wake_given
give_pieces(
    const struct wake_client *client, struct wake_spot spot, uint64_t count,
    struct iovec *pieces, uint8_t *together)
{
    if (client->guest.memory >= 0 && !is_huge(spot)) {
        enum wake_given given = wake_guest_write(&client->guest, spot, count, pieces);
        if (given != WAKE_NOT_POSSIBLE)
            return given;
    }
    if (count == 1)
        return wake_guest_copy(&client->guest, spot, 1, pieces[0].iov_base);
    for (uint64_t i = 0; i < count; i++)
        memcpy(together + i * DOR_PAGE_BYTES, pieces[i].iov_base, DOR_PAGE_BYTES);
    return wake_guest_copy(&client->guest, spot, count, together);
}

/* Whether PAGE comes because one beside it was needed. */
static bool
comes_along(const struct wake_client *client, uint64_t page)
{
    return is_wanted(client, page) && !wake_recorder_is_on_trial(client->recorder, page);
}

static void
note_around(const struct wake_client *client, uint64_t first_page, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        wake_recorder_note_around(client->recorder, first_page + i);
}

/*
 * What WINDOW, whose first page is SPOT's, has that the client still wants; AROUND: what comes
 * along.
 */
static enum wake_given
give_window(
    const struct wake_client *client, struct wake_spot spot, const struct wake_window *window,
    bool around, uint8_t *together)
{
    bool (*is_next)(const struct wake_client *, uint64_t) = around ? comes_along : is_wanted;
    enum wake_given given = WAKE_GIVEN;
    for (unsigned i = 0; i < window->count && given == WAKE_GIVEN;) {
        struct iovec pieces[WAKE_WINDOW_PAGES];
        struct wake_spot at = {spot.mapping, spot.page + i};
        bool zero = window->pages[i] == NULL;
        unsigned run = 0;
        for (; i < window->count && (window->pages[i] == NULL) == zero &&
               is_next(client, spot.page + i);
             i++)
            /* Written from, never to. */
            pieces[run++] = (struct iovec){(void *)(uintptr_t)window->pages[i], DOR_PAGE_BYTES};
        if (run == 0)
            i++;
        else if (zero)
            given = give_zeros(client, at, run);
        else
            given = give_pieces(client, at, run, pieces, together);
        if (run == 0 || zero || given != WAKE_GIVEN)
            continue;
        base_counter_add(&client->how->counters->copied, run);
        if (around)
            note_around(client, at.page, run);
    }
    return given;
}

/* Read COUNT pages from SPOT on and give them, or those that come along. */
static int
read_and_give(
    const struct wake_client *client, struct wake_pooled *pooled, struct wake_spot spot,
    unsigned count, bool around, enum wake_given *ret)
{
    struct wake_window window;
    int err = wake_window_get(pooled->worker, client->snapshot, spot.page, count, &window);
    if (err != 0)
        return err;
    *ret = give_window(client, spot, &window, around, pooled->bytes);
    wake_window_release(pooled->worker, &window);
    return 0;
}

static struct wake_spot
huge_spot(struct wake_spot spot)
{
    uint64_t inside = spot.page * DOR_PAGE_BYTES - spot.mapping->offset;
    uint64_t start = base_round_down_u64(inside, WAKE_HUGE_BYTES);
    return (struct wake_spot){spot.mapping, (spot.mapping->offset + start) / DOR_PAGE_BYTES};
}

/* All pages of the huge page at SPOT, in POOLED's bytes. */
static int
read_huge(const struct wake_client *client, struct wake_pooled *pooled, struct wake_spot spot)
{
    for (unsigned done = 0; done < HUGE_PAGES; done += WAKE_WINDOW_PAGES) {
        struct wake_window window;
        int err = wake_window_get(
            pooled->worker, client->snapshot, spot.page + done, WAKE_WINDOW_PAGES, &window);
        if (err != 0)
            return err;
        for (unsigned i = 0; i < WAKE_WINDOW_PAGES; i++) {
            uint8_t *to = pooled->bytes + (size_t)(done + i) * DOR_PAGE_BYTES;
            if (window.pages[i] == NULL)
                memset(to, 0, DOR_PAGE_BYTES);
            else
                memcpy(to, window.pages[i], DOR_PAGE_BYTES);
        }
        wake_window_release(pooled->worker, &window);
    }
    return 0;
}

static int
read_and_give_huge(
    const struct wake_client *client, struct wake_pooled *pooled, struct wake_spot spot,
    _Atomic uint64_t *counter, enum wake_given *ret)
{
    struct wake_spot start = huge_spot(spot);
    int err = read_huge(client, pooled, start);
    if (err == 0) {
        *ret = wake_guest_copy(&client->guest, start, HUGE_PAGES, pooled->bytes);
        if (*ret == WAKE_GIVEN)
            base_counter_add(counter, HUGE_PAGES);
    }
    return err;
}

/* ------------------------------------------------------------------ pages that cannot be had */

static void
log_loss(struct wake_client *client, uint64_t page, const char *what)
{
    base_counter_add(&client->how->counters->lost, 1);
    if (client->losses_logged++ < LOSSES_LOGGED)
        dor_log(
            ERROR, "wake", "page_lost",
            "client=%" PRIu64 " page=%" PRIu64 " then=%s error=\"%s\"", client->parked.id, page,
            what, dor_err_message());
}

/* SIGBUS for who touches the page; false when the kernel cannot, or the client is to wait. */
static bool
poison(struct wake_client *client, struct wake_spot spot, enum wake_given *ret)
{
    struct wake_spot at = is_huge(spot) ? huge_spot(spot) : spot;
    uint64_t count = is_huge(spot) ? HUGE_PAGES : 1;
    if (client->how->hold || client->no_poison)
        return false;
    *ret = wake_guest_poison(&client->guest, at, count);
    client->no_poison = *ret == WAKE_NOT_POSSIBLE;
    return !client->no_poison;
}

/* FAULT's page could not be read: what becomes of it. */
static enum wake_given
answer_failed(struct wake_client *client, struct wake_fault *fault, int err, uint64_t now_ns)
{
    enum wake_given given = WAKE_GIVEN;
    bool may_help = err == DOR_E_IO || err == DOR_E_NO_MEMORY || err == DOR_E_BUSY;
    if (may_help && fault->tries < ARRAY_LEN(retry_ns)) {
        fault->not_before_ns = now_ns + retry_ns[fault->tries++];
        return WAKE_FULL;
    }
    bool first = fault->tries <= ARRAY_LEN(retry_ns);
    if (poison(client, fault->spot, &given)) {
        if (given == WAKE_GIVEN)
            log_loss(client, fault->spot.page, "sigbus");
        return given;
    }
    if (first)
        log_loss(client, fault->spot.page, "hold");
    fault->tries = ARRAY_LEN(retry_ns) + 1;
    fault->not_before_ns = now_ns + HOLD_NS;
    return WAKE_FULL;
}

/* ------------------------------------------------------------------ pages of a batch */

/* COUNT pages, none zero, whose bytes follow each other. */
static enum wake_given
give_bytes(
    const struct wake_client *client, struct wake_spot spot, uint64_t count, uint8_t *bytes)
{
    struct iovec pieces[WAKE_PUSH_PAGES];
    enum wake_given given = WAKE_NOT_POSSIBLE;
    for (uint64_t i = 0; i < count; i++)
        pieces[i] = (struct iovec){bytes + i * DOR_PAGE_BYTES, DOR_PAGE_BYTES};
    if (client->guest.memory >= 0)
        given = wake_guest_write(&client->guest, spot, count, pieces);
    if (given == WAKE_NOT_POSSIBLE)
        given = wake_guest_copy(&client->guest, spot, count, bytes);
    if (given == WAKE_GIVEN)
        base_counter_add(&client->how->counters->pushed, count);
    return given;
}

/* PAGE could not be read. */
static enum wake_given
push_lost(struct wake_client *client, struct wake_spot spot)
{
    enum wake_given given = WAKE_GIVEN;
    if (!poison(client, spot, &given))
        return WAKE_NOT_POSSIBLE;
    if (given == WAKE_GIVEN)
        log_loss(client, spot.page, "sigbus");
    return given;
}

/* How many pages of a batch from AT on follow each other, are alike and wanted: at most MOST. */
static uint64_t
run_of(
    const struct wake_client *client, const struct wake_push_item *item, struct wake_spot spot,
    uint64_t at, uint64_t most)
{
    uint64_t mapping_end = (spot.mapping->offset + spot.mapping->size_bytes) / DOR_PAGE_BYTES;
    uint64_t run = 0;
    while (run < most && at + run < item->count && item->pages[at + run] == spot.page + run &&
           spot.page + run < mapping_end && item->contents[at + run] == item->contents[at] &&
           is_wanted(client, spot.page + run))
        run++;
    return run;
}

static enum wake_given
push_run(
    struct wake_client *client, struct wake_spot spot, const struct wake_push_item *item,
    uint64_t at, uint64_t run)
{
    switch (item->contents[at]) {
    case WAKE_CONTENT_BYTES:
        return give_bytes(client, spot, run, item->bytes + at * DOR_PAGE_BYTES);
    case WAKE_CONTENT_ZERO:
        return give_zeros(client, spot, run);
    case WAKE_CONTENT_LOST:
    default:
        return item->tell ? push_lost(client, spot) : WAKE_GIVEN;
    }
}

/* ------------------------------------------------------------------ faults */

/*
 * FAULT's page may be on its way already. If it is here it is given; if somebody is reading it,
 * that is waited for, but once only: two that decode the same groups are slower than one. False:
 * it is to be read.
 */
static bool
answer_pushed(
    struct wake_client *client, struct wake_fault *fault, uint64_t now_ns, enum wake_given *ret)
{
    uint64_t at = 0;
    bool ready = false;
    if (is_huge(fault->spot) || fault->pushed || !is_wanted(client, fault->spot.page))
        return false;
    const struct wake_push_item *item =
        wake_push_find(&client->queue, fault->spot.page, &at, &ready);
    if (item == NULL || (!ready && fault->late))
        return false;
    if (!ready) {
        fault->late = true;
        fault->not_before_ns = now_ns + LATE_NS;
        *ret = WAKE_FULL;
        return true;
    }
    fault->pushed = true;
    if (item->contents[at] == WAKE_CONTENT_LOST)
        return false;
    *ret = push_run(
        client, fault->spot, item, at, run_of(client, item, fault->spot, at, PUSH_PAGES));
    return true;
}

static enum wake_given
answer_missing(
    struct wake_client *client, struct wake_pooled *pooled, struct wake_fault *fault,
    uint64_t now_ns)
{
    struct wake_spot spot = fault->spot;
    enum wake_given given = WAKE_GIVEN;
    int err = 0;
    if (answer_pushed(client, fault, now_ns, &given))
        return given;
    if (!is_wanted(client, spot.page))
        return is_huge(spot) ? give_zeros(client, huge_spot(spot), HUGE_PAGES)
                             : give_zeros(client, spot, 1);
    if (client->snapshot == NULL)
        err = dor_fail(DOR_E_CORRUPT, "the snapshot is gone");
    else if (is_huge(spot))
        err = read_and_give_huge(client, pooled, spot, &client->how->counters->copied, &given);
    else
        err = read_and_give(client, pooled, spot, 1, false, &given);
    if (err != 0)
        return answer_failed(client, fault, err, now_ns);
    if (given == WAKE_GIVEN)
        wake_recorder_note(client->recorder, spot.page);
    return given;
}

static enum wake_given
answer(
    struct wake_client *client, struct wake_pooled *pooled, struct wake_fault *fault,
    uint64_t now_ns)
{
    enum wake_given given = WAKE_GIVEN;
    switch (fault->kind) {
    case WAKE_FAULT_MISSING:
        given = answer_missing(client, pooled, fault, now_ns);
        break;
    case WAKE_FAULT_MINOR:
        given = wake_guest_continue(
            &client->guest, is_huge(fault->spot) ? huge_spot(fault->spot) : fault->spot,
            is_huge(fault->spot) ? HUGE_PAGES : 1);
        break;
    case WAKE_FAULT_PROTECTED:
        given = wake_guest_unprotect(&client->guest, fault->spot);
        break;
    }
    return given;
}

/* The pages around SPOT in pieces of PAGES, inside its mapping. */
static void
bounds_around(struct wake_spot spot, uint64_t pages, uint64_t *ret_first, uint64_t *ret_end)
{
    uint64_t first = base_round_down_u64(spot.page, pages);
    uint64_t lowest = spot.mapping->offset / DOR_PAGE_BYTES;
    uint64_t highest = lowest + spot.mapping->size_bytes / DOR_PAGE_BYTES;
    *ret_first = base_max_u64(first, lowest);
    *ret_end = base_min_u64(first + pages, highest);
}

/* A run of zeros is mapped in one go: it costs next to nothing where memory is private. */
static void
give_zeros_around(struct wake_client *client, struct wake_spot spot)
{
    uint64_t low = 0;
    uint64_t high = 0;
    uint64_t first = spot.page;
    uint64_t end = spot.page + 1;
    bool is_private = client->parked.fds[WAKE_PARK_MEMORY] < 0;
    bounds_around(spot, is_private ? ZERO_RUN_PAGES : client->how->window_pages, &low, &high);
    while (first > low && wake_snapshot_page_is_zero(client->snapshot, first - 1) &&
           is_wanted(client, first - 1))
        first--;
    while (end < high && wake_snapshot_page_is_zero(client->snapshot, end) &&
           is_wanted(client, end))
        end++;
    struct wake_spot before = {spot.mapping, first};
    struct wake_spot after = {spot.mapping, spot.page + 1};
    /* What comes late or not at all is asked for. */
    if (first < spot.page)
        (void)give_zeros(client, before, spot.page - first);
    if (after.page < end)
        (void)give_zeros(client, after, end - after.page);
}

/* The pages around one that was answered. */
static void
give_around(
    struct wake_client *client, struct wake_pooled *pooled, const struct wake_fault *fault)
{
    uint64_t first = 0;
    uint64_t end = 0;
    enum wake_given given = WAKE_GIVEN;
    if (client->how->window_pages == 1 || client->snapshot == NULL || fault->pushed ||
        fault->late || fault->kind != WAKE_FAULT_MISSING || is_huge(fault->spot) ||
        wake_state_is_removed(client->guest.state, fault->spot.page))
        return;
    if (wake_snapshot_page_is_zero(client->snapshot, fault->spot.page)) {
        give_zeros_around(client, fault->spot);
        return;
    }
    bounds_around(fault->spot, client->how->window_pages, &first, &end);
    while (first < end && !comes_along(client, first))
        first++;
    while (first < end && !comes_along(client, end - 1))
        end--;
    /* A page that cannot be read is told of when it is asked for. */
    if (first < end && read_and_give(
                           client, pooled, (struct wake_spot){fault->spot.mapping, first},
                           (unsigned)(end - first), true, &given) != 0)
        base_err_clear();
}

/* Answer what is due; true when the client is gone. */
static bool
answer_all(struct wake_client *client, struct wake_pooled *pooled, uint64_t now_ns)
{
    struct wake_fault answered[WAKE_EVENTS_MAX];
    size_t answered_count = 0;
    size_t kept = 0;
    bool gone = false;
    for (size_t i = 0; i < client->fault_count; i++) {
        struct wake_fault fault = client->faults[i];
        enum wake_given given = WAKE_AGAIN;
        uint64_t due_ns = fault.not_before_ns;
        if (client->put_off_ns == 0 && !gone && due_ns <= now_ns)
            given = answer(client, pooled, &fault, now_ns);
        if (given == WAKE_GIVEN || given == WAKE_NOT_POSSIBLE) {
            base_counter_add(&client->how->counters->faults, 1);
            if (answered_count < ARRAY_LEN(answered))
                answered[answered_count++] = fault;
            continue;
        }
        if (given == WAKE_AGAIN && due_ns <= now_ns) {
            client->put_off_ns = AGAIN_NS;
            base_counter_add(&client->how->counters->again, 1);
        }
        gone = gone || given == WAKE_GONE;
        if (given == WAKE_FULL && fault.not_before_ns <= now_ns)
            fault.not_before_ns = now_ns + FULL_NS;
        client->faults[kept++] = fault;
    }
    client->fault_count = kept;
    for (size_t i = 0; i < answered_count && !gone && client->put_off_ns == 0; i++)
        give_around(client, pooled, &answered[i]);
    return gone;
}

static bool
answer_due(struct wake_client *client, uint64_t now_ns)
{
    struct wake_pooled *pooled = wake_pool_take(client->how->pool);
    bool gone = answer_all(client, pooled, now_ns);
    wake_pool_put_back(client->how->pool, pooled);
    return gone;
}

static void
add_fault(struct wake_client *client, const struct uffd_msg *event)
{
    struct wake_fault fault = {0};
    uint64_t flags = event->arg.pagefault.flags;
    if (!wake_guest_find(&client->guest, event->arg.pagefault.address, &fault.spot))
        return;
    if ((flags & UFFD_PAGEFAULT_FLAG_MINOR) != 0)
        fault.kind = WAKE_FAULT_MINOR;
    else if ((flags & UFFD_PAGEFAULT_FLAG_WP) != 0)
        fault.kind = WAKE_FAULT_PROTECTED;
    for (size_t i = 0; i < client->fault_count; i++)
        if (client->faults[i].spot.page == fault.spot.page &&
            client->faults[i].kind == fault.kind)
            return;
    if (client->fault_count == WAKE_FAULTS_MAX)
        client->overflow = true;
    else
        client->faults[client->fault_count++] = fault;
}

/* Read all events there are; those of removals are marked before any fault is answered. */
static void
read_events(struct wake_client *client)
{
    pid_t tid = 0;
    bool faulted = false;
    size_t count = 0;
    do {
        const struct uffd_msg *events = client->guest.state->events;
        count = wake_guest_read_events(&client->guest);
        for (size_t i = 0; i < count; i++) {
            if (events[i].event == UFFD_EVENT_PAGEFAULT) {
                add_fault(client, &events[i]);
                tid = (pid_t)events[i].arg.pagefault.feat.ptid;
                faulted = true;
            } else {
                base_counter_add(&client->how->counters->removed, 1);
            }
        }
        wake_guest_clear_events(&client->guest, count);
    } while (count == WAKE_EVENTS_MAX);
    if (faulted) {
        /* Relaxed: see the field. */
        atomic_store_explicit(&client->last_fault_ns, UINT64_MAX, memory_order_relaxed);
        wake_placement_follow(&client->placement, tid, base_clock_monotonic_ns());
    }
}

/* ------------------------------------------------------------------ what is pushed */

/*
 * The next wanted pages of a batch, at most 64 KiB: a fault that comes meanwhile does not wait for
 * more. What was removed since they were read is not wanted.
 */
static enum wake_given
push_data(struct wake_client *client, struct wake_push_item *item)
{
    enum wake_given given = WAKE_GIVEN;
    uint64_t most = PUSH_PAGES;
    bool possible = true;
    while (most > 0 && item->done < item->count) {
        struct wake_spot spot = {0};
        uint64_t at = item->done;
        if (!is_wanted(client, item->pages[at]) ||
            !wake_guest_find_page(&client->guest, item->pages[at], &spot)) {
            item->done++;
            continue;
        }
        uint64_t run =
            run_of(client, item, spot, at, item->contents[at] == WAKE_CONTENT_LOST ? 1 : most);
        given = push_run(client, spot, item, at, run);
        if (given != WAKE_GIVEN && given != WAKE_NOT_POSSIBLE)
            return given;
        possible = possible && given == WAKE_GIVEN;
        item->done += run;
        most -= run;
    }
    return possible ? WAKE_GIVEN : WAKE_NOT_POSSIBLE;
}

static enum wake_given
push_zeros(const struct wake_client *client, const struct wake_push_item *item)
{
    struct wake_spot spot;
    enum wake_given given = WAKE_GIVEN;
    if (!wake_guest_find_page(&client->guest, item->page, &spot))
        return WAKE_GIVEN;
    for (uint64_t i = 0; i < item->count && given == WAKE_GIVEN;) {
        struct wake_spot at = {spot.mapping, spot.page + i};
        uint64_t run = 0;
        while (i + run < item->count && is_wanted(client, at.page + run))
            run++;
        if (run > 0)
            given = give_zeros(client, at, run);
        i += run > 0 ? run : 1;
    }
    return given;
}

static enum wake_given
push_huge(struct wake_client *client, const struct wake_push_item *item)
{
    struct wake_spot spot;
    enum wake_given given = WAKE_GIVEN;
    if (!wake_guest_find_page(&client->guest, item->page, &spot) ||
        !is_wanted(client, item->page))
        return WAKE_GIVEN;
    struct wake_pooled *pooled = wake_pool_take(client->how->pool);
    int err = read_and_give_huge(client, pooled, spot, &client->how->counters->pushed, &given);
    wake_pool_put_back(client->how->pool, pooled);
    return err != 0 && !poison(client, spot, &given) ? WAKE_NOT_POSSIBLE : given;
}

/* Some of the queue's next item, if there is one; true when the client is gone. */
static bool
push_next(struct wake_client *client)
{
    struct wake_push_item *item = wake_push_peek(&client->queue);
    enum wake_given given = WAKE_GIVEN;
    if (item == NULL)
        return false;
    switch (item->kind) {
    case WAKE_PUSH_DATA:
        given = push_data(client, item);
        break;
    case WAKE_PUSH_ZERO:
        given = push_zeros(client, item);
        break;
    case WAKE_PUSH_HUGE:
        given = push_huge(client, item);
        break;
    }
    if (given == WAKE_AGAIN || given == WAKE_FULL) {
        client->put_off_ns = given == WAKE_AGAIN ? AGAIN_NS : FULL_NS;
        return false;
    }
    if (given == WAKE_NOT_POSSIBLE) {
        base_mutex_lock(&client->lock);
        client->unfilled = true;
        base_mutex_unlock(&client->lock);
    }
    if (item->kind != WAKE_PUSH_DATA || item->done == item->count)
        wake_push_done(&client->queue);
    return given == WAKE_GONE;
}

/* ------------------------------------------------------------------ waiting */

/* How long nothing is due, for poll(). */
static uint64_t
pause_ns(const struct wake_client *client, uint64_t now_ns)
{
    uint64_t until_ns = client->next_probe_ns;
    /* Relaxed: a queue that is filled from now on writes to the event. */
    if (client->put_off_ns > 0)
        return client->put_off_ns;
    if (wake_push_is_ready(&client->queue))
        return 0;
    for (size_t i = 0; i < client->fault_count; i++)
        until_ns = base_min_u64(until_ns, client->faults[i].not_before_ns);
    return until_ns > now_ns ? until_ns - now_ns : 0;
}

static bool
probe(struct wake_client *client, uint64_t now_ns)
{
    bool hears = client->hears_socket || client->hears_process;
    client->next_probe_ns = now_ns + (hears ? PROBE_NS : PROBE_SOON_NS);
    return wake_guest_is_gone(&client->guest);
}

/* Wait until there is something to do; true when the client is gone. */
static bool
wait(struct wake_client *client, uint64_t now_ns)
{
    uint64_t pause = pause_ns(client, now_ns);
    /* Events are read either way; that somebody hung up is heard when nothing is left to push. */
    if (pause == 0 && wake_push_is_ready(&client->queue))
        return false;
    struct timespec timeout = {
        .tv_sec = (time_t)(pause / 1000000000), .tv_nsec = (long)(pause % 1000000000)};
    struct pollfd polls[] = {
        {.fd = client->guest.uffd, .events = POLLIN},
        {.fd = client->event, .events = POLLIN},
        {.fd = client->hears_socket ? client->parked.fds[WAKE_PARK_SOCKET] : -1,
         .events = POLLRDHUP},
        {.fd = client->hears_process ? client->pidfd : -1, .events = POLLIN}};
    uint64_t told = 0;
    int count = ppoll(polls, ARRAY_LEN(polls), &timeout, NULL);
    if (count == 0)
        return now_ns + pause >= client->next_probe_ns && probe(client, now_ns + pause);
    if (count > 0 && polls[1].revents != 0 && read(client->event, &told, sizeof told) < 0)
        told = 0;
    if (count < 0 || (polls[2].revents == 0 && polls[3].revents == 0))
        return false;
    /* Who hung up may be there still: old monitors close the socket at once. */
    client->hears_socket = client->hears_socket && polls[2].revents == 0;
    client->hears_process = client->hears_process && polls[3].revents == 0;
    return probe(client, base_clock_monotonic_ns());
}

static bool
is_filled(struct wake_client *client)
{
    base_mutex_lock(&client->lock);
    bool filled = client->filled && client->finishes;
    base_mutex_unlock(&client->lock);
    return filled;
}

static bool
stops(struct wake_client *client)
{
    /* Relaxed: see the field. */
    return atomic_load_explicit(&client->stops, memory_order_relaxed) || is_filled(client);
}

/* The client is quiet from now on, not since it asked: to answer it may have taken long. */
static void
note_answered(struct wake_client *client)
{
    /* Relaxed: see the field. */
    if (atomic_load_explicit(&client->last_fault_ns, memory_order_relaxed) == UINT64_MAX)
        atomic_store_explicit(
            &client->last_fault_ns, base_clock_monotonic_ns(), memory_order_relaxed);
}

/* One round of work; true when the client is gone. */
static bool
work(struct wake_client *client, uint64_t now_ns)
{
    client->put_off_ns = 0;
    read_events(client);
    bool gone = client->fault_count > 0 && answer_due(client, now_ns);
    note_answered(client);
    if (!gone && client->put_off_ns == 0)
        gone = push_next(client);
    if (client->overflow && client->fault_count == 0) {
        client->overflow = false;
        wake_guest_wake_all(&client->guest);
    }
    return gone;
}

void
wake_client_handle(void *context)
{
    struct wake_client *client = context;
    bool gone = false;
    wake_placement_init(&client->placement, client->placement.pid, client->how->core);
    client->next_probe_ns = base_clock_monotonic_ns() + PROBE_NS;
    while (!gone && !stops(client)) {
        gone = wait(client, base_clock_monotonic_ns());
        if (!gone)
            gone = work(client, base_clock_monotonic_ns());
    }
    base_mutex_lock(&client->lock);
    client->is_over = true;
    base_mutex_unlock(&client->lock);
    wake_push_close(&client->queue);
    base_condition_wake_all(&client->changed);
}
