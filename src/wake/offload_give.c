/* SPDX-License-Identifier: Apache-2.0 */
/*
 * offload_give.c - gives a machine to the monitor: the sender's side of the protocol.
 *
 *     all at once: connect, read all memory, Start, MemoryFd ..., Config, State, Complete
 *     postcopy:    connect, Start, MemoryFd ..., Config, second connection (role Fault), State,
 *                  Complete; meanwhile and afterwards:
 *                    serving thread: PageFault -> the page, Ok, then its neighbours
 *                    pushing thread: the working set in its order, then all the rest
 *                  until the monitor hangs up the second connection.
 *
 * The monitor puts its memory under userfaultfd and asks for what is missing in our memory files,
 * so a page is answered by putting it there; the answer carries no bytes. A zero page has to be put
 * in as well when it is asked for, and is left out otherwise: most are never asked for. A page that
 * cannot be read is answered with Error; the monitor never sees zeros in its place.
 *
 * The second connection is used only after the monitor has read from it: one that was called
 * without memory_mode=postcopy would run its machine on memory that is not there.
 */
#include <dormouse/offload.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/le.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/size.h"
#include "base/thread.h"
#include "wake/offload_pages.h"
#include "wake/offload_wire.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

enum { AROUND_PAGES = 16, REQUEST_BYTES = 16, GPA_AT = 0, LENGTH_AT = 8 };

struct giving {
    struct dor_wake_server *server;
    const struct dor_offload_wake *how;
    struct wake_snapshot *snapshot;
    struct wake_recorder *recorder;
    struct offload_pages pages;
    struct offload_peer main_peer, fault_peer;
    struct offload_giver server_giver, pusher;
    struct base_thread serving, pushing;
    bool has_serving, has_pushing;
    atomic_bool over;          /* set by either side, seen by both within a slice of a wait */
    int serve_code, push_code; /* written by the threads, read after they were joined */
    struct base_err serve_err, push_err;
    struct dor_offload_wake_stat stat; /* fields by the thread that they are about */
};

/* ------------------------------------------------------------------ serving */

/* Give what was asked for, in windows; what the machine is to wait for. */
static int
give_asked(struct giving *giving, struct offload_memory *memory, uint64_t page, uint64_t count)
{
    struct offload_giver *giver = &giving->server_giver;
    int rc = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t row =
            offload_page_at(&giving->pages, memory->slot.gpa + (page + i) * DOR_PAGE_BYTES);
        if (row != OFFLOAD_NO_PAGE && !offload_memory_was_given(memory, page + i))
            wake_recorder_note(giving->recorder, row);
    }
    for (uint64_t at = 0; rc == 0 && at < count; at += WAKE_WINDOW_PAGES)
        rc = offload_give(
            giver, memory, page + at, (unsigned)base_min_u64(count - at, WAKE_WINDOW_PAGES),
            true);
    return rc;
}

/* What lies around PAGE will mostly be needed next. What cannot be had shows when it is. */
static void
give_around(struct giving *giving, struct offload_memory *memory, uint64_t page)
{
    uint64_t from = base_round_down_u64(page, AROUND_PAGES);
    uint64_t count = base_min_u64(AROUND_PAGES, memory->page_count - from);
    if (offload_give(&giving->server_giver, memory, from, (unsigned)count, false) != 0)
        dor_log(INFO, "wake", "offload_around_failed", "why=%s", dor_err_message());
}

static int
check_asked(const struct offload_memory *memory, uint64_t address, uint64_t length)
{
    if (memory != NULL && length > 0 && (address | length) % DOR_PAGE_BYTES == 0 &&
        length <= memory->slot.size_bytes - (address - memory->slot.gpa))
        return 0;
    return dor_fail(
        DOR_E_CORRUPT,
        "offload: the monitor asks for %" PRIu64 " bytes at %#" PRIx64 ", which no slot has",
        length, address);
}

static int
serve_one(struct giving *giving, const struct offload_request *request)
{
    uint8_t bytes[REQUEST_BYTES];
    if (request->command != OFFLOAD_PAGE_FAULT || request->length != sizeof bytes)
        return dor_fail(
            DOR_E_CORRUPT, "offload: the monitor sent %s where it may only ask for pages",
            offload_command_name((unsigned)request->command));
    int rc = offload_receive(&giving->fault_peer, bytes, sizeof bytes, NULL);
    if (rc != 0)
        return rc;
    uint64_t address = base_le64_get(bytes + GPA_AT);
    uint64_t length = base_le64_get(bytes + LENGTH_AT);
    struct offload_memory *memory = offload_memory_at(&giving->pages, address);
    rc = check_asked(memory, address, length);
    if (rc != 0)
        return rc;
    uint64_t page = (address - memory->slot.gpa) / DOR_PAGE_BYTES;
    giving->stat.requests++;
    rc = give_asked(giving, memory, page, length / DOR_PAGE_BYTES);
    if (rc != 0) {
        giving->stat.failed_requests++;
        dor_log(
            ERROR, "wake", "offload_page_failed", "gpa=%#" PRIx64 " why=%s", address,
            dor_err_message());
    }
    bool good = rc == 0;
    rc = offload_send_answer(&giving->fault_peer, good);
    if (rc == 0 && good)
        give_around(giving, memory, page);
    return rc;
}

static void
serve(void *context)
{
    struct giving *giving = context;
    bool end = false;
    int rc = 0;
    while (rc == 0 && !end) {
        struct offload_request request;
        rc = offload_receive_request(&giving->fault_peer, true, &request, &end);
        if (rc == 0 && !end)
            rc = serve_one(giving, &request);
    }
    giving->serve_code = rc;
    giving->serve_err = *base_err_record();
    /* Pairs with the loads in is_over() and push_all(). */
    atomic_store(&giving->over, true);
    /* A monitor that waits for a page learns that none will come. */
    offload_peer_close(&giving->fault_peer);
}

/* ------------------------------------------------------------------ pushing */

static int
push_working_set(struct giving *giving)
{
    const struct wake_run *runs = NULL;
    size_t count = 0;
    int rc = 0;
    wake_snapshot_working_set(giving->snapshot, &runs, &count);
    for (size_t i = 0; rc == 0 && i < count && !atomic_load(&giving->over); i++)
        rc = offload_give_row(&giving->pusher, runs[i].first_page, runs[i].page_count);
    giving->stat.pushed_pages = giving->pusher.given_pages;
    return rc;
}

static int
push_rest(struct giving *giving)
{
    uint64_t end = wake_snapshot_page_count(giving->snapshot);
    int rc = 0;
    for (uint64_t page = 0; rc == 0 && page < end && !atomic_load(&giving->over);
         page += WAKE_WINDOW_PAGES)
        rc = offload_give_row(
            &giving->pusher, page, base_min_u64(WAKE_WINDOW_PAGES, end - page));
    giving->stat.filled_pages = giving->pusher.given_pages - giving->stat.pushed_pages;
    return rc;
}

static void
push(void *context)
{
    struct giving *giving = context;
    int rc = push_working_set(giving);
    if (rc == 0 && !giving->how->no_fill)
        rc = push_rest(giving);
    giving->push_code = rc;
    giving->push_err = *base_err_record();
    if (rc != 0)
        dor_log(ERROR, "wake", "offload_push_failed", "why=%s", dor_err_message());
}

/* ------------------------------------------------------------------ the exchange */

static int
ask(struct giving *giving, enum offload_command command, const void *data, size_t size_bytes)
{
    struct offload_peer *peer = &giving->main_peer;
    int rc = offload_send_request(peer, command, size_bytes);
    if (rc == 0 && size_bytes > 0)
        rc = offload_send(peer, data, size_bytes, -1);
    return rc == 0 ? offload_receive_answer(peer, command) : rc;
}

static int
send_memories(struct giving *giving)
{
    struct offload_peer *peer = &giving->main_peer;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < giving->pages.memory_count; i++) {
        const struct dor_offload_slot *slot = &giving->pages.memories[i].slot;
        uint8_t number[sizeof(uint32_t)];
        base_le32_put(number, slot->slot);
        rc = offload_send_request(peer, OFFLOAD_MEMORY_FD, sizeof number);
        if (rc == 0)
            rc = offload_send(peer, number, sizeof number, slot->fd);
        if (rc == 0)
            rc = offload_receive_answer(peer, OFFLOAD_MEMORY_FD);
    }
    return rc;
}

static int
start_serving(struct giving *giving, const char *socket_path)
{
    int rc = offload_connect(socket_path, &giving->fault_peer);
    if (rc == 0)
        rc = offload_send_role(&giving->fault_peer, OFFLOAD_ROLE_FAULT);
    if (rc == 0)
        rc = base_thread_start(&giving->serving, "offload-serve", serve, giving);
    giving->has_serving = rc == 0;
    if (rc == 0)
        rc = base_thread_start(&giving->pushing, "offload-push", push, giving);
    giving->has_pushing = giving->has_serving && rc == 0;
    return rc;
}

static int
exchange(struct giving *giving, const char *socket_path)
{
    const struct dor_offload_machine *machine = &giving->pages.machine;
    uint64_t start_ns = base_clock_monotonic_ns();
    int rc = 0;
    if (!giving->how->postcopy) {
        rc = offload_give_row(&giving->pusher, 0, wake_snapshot_page_count(giving->snapshot));
        giving->stat.filled_pages = giving->pusher.given_pages;
    }
    if (rc == 0)
        rc = ask(giving, OFFLOAD_START, NULL, 0);
    if (rc == 0)
        rc = send_memories(giving);
    if (rc == 0)
        rc = ask(giving, OFFLOAD_CONFIG, machine->config, machine->config_bytes);
    if (rc == 0 && giving->how->postcopy)
        rc = start_serving(giving, socket_path);
    if (rc == 0)
        rc = ask(giving, OFFLOAD_STATE, machine->state, machine->state_bytes);
    if (rc == 0)
        rc = ask(
            giving, giving->how->resume ? OFFLOAD_COMPLETE : OFFLOAD_COMPLETE_PAUSED, NULL, 0);
    giving->stat.first_ns = base_clock_monotonic_ns() - start_ns;
    return rc;
}

/* ------------------------------------------------------------------ the whole */

/* Every wait of the two threads and of this one looks here. */
static int
is_over(void *context)
{
    struct giving *giving = context;
    const struct dor_offload_options *options = &giving->how->options;
    if (atomic_load(&giving->over))
        return 1;
    return options->stop == NULL ? 0 : options->stop(options->stop_context);
}

static void
end_threads(struct giving *giving, bool now)
{
    if (now)
        atomic_store(&giving->over, true);
    if (giving->has_serving)
        base_thread_join(&giving->serving);
    if (giving->has_pushing)
        base_thread_join(&giving->pushing);
}

/* The error that explains the others. */
static int
choose_error(const struct giving *giving, int rc, const struct base_err *err)
{
    if (giving->has_serving && giving->serve_code != 0 &&
        (rc == 0 || giving->serve_code != DOR_E_BUSY))
        return base_err_load(&giving->serve_err);
    if (giving->has_serving && giving->serve_code == 0 && rc == DOR_E_BUSY)
        return dor_fail(
            DOR_E_IO, "offload: the monitor stopped asking for pages before it had its state");
    return rc == 0 ? 0 : base_err_load(err);
}

static int
give(struct giving *giving, const char *socket_path)
{
    int rc = offload_connect(socket_path, &giving->main_peer);
    if (rc == 0)
        rc = exchange(giving, socket_path);
    struct base_err err = *base_err_record();
    end_threads(giving, rc != 0);
    rc = choose_error(giving, rc, &err);
    giving->stat.pages = wake_snapshot_page_count(giving->snapshot);
    giving->stat.asked_pages = giving->server_giver.given_pages;
    giving->stat.zero_pages = giving->server_giver.zero_pages + giving->pusher.zero_pages;
    return rc;
}

static int
prepare(struct giving *giving)
{
    int rc = offload_pages_init(&giving->pages, giving->snapshot, giving->how->postcopy);
    if (rc == 0)
        rc = offload_giver_init(&giving->server_giver, &giving->pages, giving->server);
    if (rc == 0)
        rc = offload_giver_init(&giving->pusher, &giving->pages, giving->server);
    if (rc == 0)
        rc = wake_recorder_new(giving->snapshot, &giving->recorder);
    return rc;
}

int
dor_offload_wake(
    struct dor_wake_server *server, const char *name, const char *socket_path,
    const struct dor_offload_wake *how, struct dor_offload_wake_stat *ret)
{
    struct giving giving = {.server = server, .how = how, .pages.uffd = -1};
    struct offload_peer peer = {
        .fd = -1, .options = {how->options.silence_ns, is_over, &giving, NULL, NULL}};
    giving.main_peer = giving.fault_peer = peer;
    int rc = wake_snapshot_open(server, name, &giving.snapshot);
    if (rc != 0)
        return rc;
    rc = prepare(&giving);
    if (rc == 0) {
        rc = give(&giving, socket_path);
        struct base_err err = *base_err_record();
        if (giving.stat.requests > 0)
            wake_snapshot_learn(giving.snapshot, giving.recorder);
        if (rc != 0)
            base_err_load(&err);
    }
    offload_peer_close(&giving.main_peer);
    offload_peer_close(&giving.fault_peer);
    offload_giver_fini(&giving.server_giver);
    offload_giver_fini(&giving.pusher);
    wake_recorder_free(giving.recorder);
    offload_pages_fini(&giving.pages);
    wake_snapshot_close(giving.snapshot);
    if (rc == 0)
        *ret = giving.stat;
    return rc;
}
