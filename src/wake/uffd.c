/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uffd.c - the thread at the socket: takes connections, hears their handshakes side by side, starts
 * clients and clears away those that are over.
 *
 *     connected --complete handshake--> parked, served ----gone, or needs nothing----> freed
 *         |                                                                             ^
 *         +-- makes no sense, too slow, hung up: told so, closed -----------------------+
 *
 * A client is parked before it is served, so whoever is served outlives this process. One that dies
 * with this process before that sees its connection end.
 */
#include "wake/uffd.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/size.h"
#include "base/thread.h"
#include "wake/handshake.h"
#include "wake/uffd_client.h"

/* So many threads read pages at a time: more than there are cores, for some wait for the disk. */
#define WORKERS_MAX    32
#define EVENTS_AT_ONCE 64
#define LOOK_MS        100
#define PAUSE_NS       (UINT64_C(100) * 1000 * 1000)

/* What an epoll event is about: these, or the index of a guest. */
#define ABOUT_LISTENER UINT64_MAX
#define ABOUT_EVENT    (UINT64_MAX - 1)

#define BASE_COUNTER_STRUCT struct wake_uffd_counters
const struct base_counter wake_uffd_counter_rows[] = {
#define COUNTER BASE_COUNTER_ROW
#include "wake/uffd_counters.def"
#undef COUNTER
};
#undef BASE_COUNTER_STRUCT
const size_t wake_uffd_counter_row_count =
    sizeof wake_uffd_counter_rows / sizeof *wake_uffd_counter_rows;

/* Who came to the socket: in its handshake, or served. */
struct guest {
    bool used;
    int socket; /* while in its handshake; then it is the client's */
    uint64_t deadline_ns;
    struct wake_handshake handshake;
    struct wake_client *client;
};

struct wake_uffd {
    struct wake_uffd_how how;
    struct wake_client_how client_how;
    struct dor_wake_server *server;
    struct wake_snapshot *snapshot;
    uint8_t *zeros;
    int epoll;
    int event;
    struct base_thread thread;
    bool thread_runs;
    struct guest *guests;
    uint64_t next_id;
    uint64_t paused_until_ns; /* no descriptor was left for a connection; 0: listening */

    struct base_mutex lock; /* of what follows */
    bool refuses, finishes, closes;
    bool has_finished; /* all clients were told */
    unsigned guest_count;
    struct wake_client **over; /* clients to be freed */
    size_t over_count;
};

static void
nudge(const struct wake_uffd *uffd)
{
    /* A full eventfd wakes as well. */
    if (write(uffd->event, &(uint64_t){1}, sizeof(uint64_t)) < 0)
        return;
}

/* ------------------------------------------------------------------ clients */

static void
client_over(void *context, struct wake_client *client)
{
    struct wake_uffd *uffd = context;
    base_mutex_lock(&uffd->lock);
    uffd->over[uffd->over_count++] = client;
    base_mutex_unlock(&uffd->lock);
    nudge(uffd);
}

static void
drop_guest(struct wake_uffd *uffd, struct guest *guest)
{
    wake_handshake_fini(&guest->handshake);
    if (guest->socket >= 0)
        close(guest->socket);
    *guest = (struct guest){.socket = -1};
    base_mutex_lock(&uffd->lock);
    uffd->guest_count--;
    base_mutex_unlock(&uffd->lock);
}

static struct guest *
new_guest(struct wake_uffd *uffd)
{
    for (unsigned i = 0; i < uffd->how.clients_max; i++)
        if (!uffd->guests[i].used) {
            uffd->guests[i] = (struct guest){.used = true, .socket = -1};
            wake_handshake_init(&uffd->guests[i].handshake);
            base_mutex_lock(&uffd->lock);
            uffd->guest_count++;
            base_mutex_unlock(&uffd->lock);
            return &uffd->guests[i];
        }
    return NULL;
}

/* Tell the client why and hang up. */
static void
refuse(struct wake_uffd *uffd, int socket, int err)
{
    char words[DOR_ERR_TEXT_BYTES + 64];
    int size = snprintf(
        words, sizeof words, "dormouse: %s: %s\n", dor_err_name(err), dor_err_message());
    /* Firecracker does not read it, and who has hung up cannot. */
    if (send(socket, words, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        dor_log(DEBUG, "wake", "refused_deaf", "error=\"%s\"", strerror(errno));
    base_counter_add(&uffd->how.counters->refused, 1);
    dor_log(WARN, "wake", "refused", "error=\"%s\"", dor_err_message());
}

static void
park(struct wake_uffd *uffd, const struct wake_parked *parked)
{
    const struct wake_park *place = uffd->how.park;
    if (place != NULL && place->store(place->context, parked) != 0)
        dor_log(
            ERROR, "wake", "not_parked", "client=%llu error=\"%s\"",
            (unsigned long long)parked->id, dor_err_message());
}

static void
unpark(struct wake_uffd *uffd, uint64_t id)
{
    if (uffd->how.park != NULL)
        uffd->how.park->remove(uffd->how.park->context, id);
}

/* GUEST's handshake is complete: serve it. */
static int
start_client(struct wake_uffd *uffd, struct guest *guest, const struct wake_mappings *mappings)
{
    struct wake_state *state = NULL;
    struct wake_parked parked = {
        .id = uffd->next_id,
        .fds = {-1, guest->handshake.uffd, guest->socket, guest->handshake.memory}};
    int err = wake_state_new(
        wake_snapshot_info(uffd->snapshot), wake_snapshot_page_count(uffd->snapshot), mappings,
        &parked.fds[WAKE_PARK_STATE], &state);
    if (err != 0)
        return err;
    uffd->next_id++;
    park(uffd, &parked);
    err = wake_client_start(&uffd->client_how, &parked, state, false, &guest->client);
    if (err != 0) {
        unpark(uffd, parked.id);
        wake_state_unmap(state);
        close(parked.fds[WAKE_PARK_STATE]);
        return err;
    }
    /* They are the client's now. The handler hears the socket. */
    (void)epoll_ctl(uffd->epoll, EPOLL_CTL_DEL, guest->socket, NULL);
    guest->handshake.uffd = -1;
    guest->handshake.memory = -1;
    guest->socket = -1;
    wake_handshake_fini(&guest->handshake);
    return 0;
}

static void
hear(struct wake_uffd *uffd, struct guest *guest)
{
    struct wake_mappings mappings;
    if (!guest->used || guest->client != NULL)
        return;
    int err = wake_handshake_receive(
        &guest->handshake, guest->socket,
        wake_snapshot_page_count(uffd->snapshot) * DOR_PAGE_BYTES, &mappings);
    if (err == DOR_E_BUSY)
        return;
    if (err == 0)
        err = start_client(uffd, guest, &mappings);
    if (err != 0) {
        refuse(uffd, guest->socket, err);
        drop_guest(uffd, guest);
    }
}

/* ------------------------------------------------------------------ connections */

static void
turn_away(struct wake_uffd *uffd, int socket, int err)
{
    refuse(uffd, socket, err);
    close(socket);
}

static void
take_in(struct wake_uffd *uffd, int socket)
{
    if (uffd->snapshot == NULL) {
        turn_away(
            uffd, socket, dor_fail(DOR_E_NOT_FOUND, "snapshot %s is gone", uffd->how.name));
        return;
    }
    struct guest *guest = new_guest(uffd);
    if (guest == NULL) {
        turn_away(
            uffd, socket,
            dor_fail(DOR_E_BUSY, "%u clients are here already", uffd->how.clients_max));
        return;
    }
    struct epoll_event event = {
        .events = EPOLLIN | EPOLLRDHUP, .data.u64 = (uint64_t)(guest - uffd->guests)};
    guest->socket = socket;
    guest->deadline_ns = base_clock_monotonic_ns() + uffd->how.handshake_ns;
    if (epoll_ctl(uffd->epoll, EPOLL_CTL_ADD, socket, &event) != 0) {
        refuse(uffd, socket, dor_fail_errno(errno, "client"));
        drop_guest(uffd, guest);
    }
}

static void
listen_again(struct wake_uffd *uffd, bool listens)
{
    struct epoll_event event = {.events = listens ? EPOLLIN : 0, .data.u64 = ABOUT_LISTENER};
    (void)epoll_ctl(uffd->epoll, EPOLL_CTL_MOD, uffd->how.listener, &event);
    uffd->paused_until_ns = listens ? 0 : base_clock_monotonic_ns() + PAUSE_NS;
}

static void
accept_all(struct wake_uffd *uffd)
{
    for (;;) {
        int socket = accept4(uffd->how.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (socket >= 0) {
            take_in(uffd, socket);
            continue;
        }
        if (errno == EINTR || errno == ECONNABORTED)
            continue;
        if (errno != EAGAIN) {
            dor_log(ERROR, "wake", "cannot_accept", "error=\"%s\"", strerror(errno));
            listen_again(uffd, false);
        }
        return;
    }
}

/* From now on nobody can connect; those who wait to be taken in are told. */
static void
close_door(struct wake_uffd *uffd)
{
    int listener = uffd->how.listener;
    (void)epoll_ctl(uffd->epoll, EPOLL_CTL_DEL, listener, NULL);
    (void)shutdown(listener, SHUT_RDWR);
    for (;;) {
        int socket = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (socket >= 0)
            turn_away(uffd, socket, dor_fail(DOR_E_BUSY, "no more clients are taken in"));
        else if (errno != EINTR && errno != ECONNABORTED)
            return;
    }
}

static void
end_silent(struct wake_uffd *uffd, uint64_t now_ns)
{
    for (unsigned i = 0; i < uffd->how.clients_max; i++) {
        struct guest *guest = &uffd->guests[i];
        if (!guest->used || guest->client != NULL || now_ns < guest->deadline_ns)
            continue;
        refuse(
            uffd, guest->socket,
            dor_fail(
                DOR_E_TIMEOUT, "handshake: not complete after %llu ms",
                (unsigned long long)uffd->how.handshake_ns / 1000000));
        drop_guest(uffd, guest);
    }
}

/* ------------------------------------------------------------------ the thread */

static void
free_one(struct wake_uffd *uffd, struct wake_client *client)
{
    uint64_t id = wake_client_id(client);
    for (unsigned i = 0; i < uffd->how.clients_max; i++)
        if (uffd->guests[i].client == client) {
            wake_client_free(client);
            drop_guest(uffd, &uffd->guests[i]);
            unpark(uffd, id);
            base_counter_add(&uffd->how.counters->ended, 1);
            dor_log(INFO, "wake", "client_ended", "client=%llu", (unsigned long long)id);
            return;
        }
}

static void
free_over(struct wake_uffd *uffd)
{
    for (;;) {
        base_mutex_lock(&uffd->lock);
        struct wake_client *client =
            uffd->over_count > 0 ? uffd->over[--uffd->over_count] : NULL;
        base_mutex_unlock(&uffd->lock);
        if (client == NULL)
            return;
        free_one(uffd, client);
    }
}

/* What other threads asked for; false when it is to end. */
static bool
obey(struct wake_uffd *uffd)
{
    base_mutex_lock(&uffd->lock);
    bool refuses = uffd->refuses;
    bool finishes = uffd->finishes && !uffd->has_finished;
    bool closes = uffd->closes;
    uffd->has_finished = uffd->has_finished || finishes;
    uffd->refuses = false;
    base_mutex_unlock(&uffd->lock);
    if (refuses && uffd->how.listener >= 0)
        close_door(uffd);
    for (unsigned i = 0; finishes && i < uffd->how.clients_max; i++)
        if (uffd->guests[i].client != NULL)
            wake_client_finish(uffd->guests[i].client);
        else if (uffd->guests[i].used)
            drop_guest(uffd, &uffd->guests[i]);
    return !closes;
}

static void
dispatch(struct wake_uffd *uffd, const struct epoll_event *event)
{
    uint64_t told = 0;
    if (event->data.u64 == ABOUT_LISTENER)
        accept_all(uffd);
    else if (event->data.u64 != ABOUT_EVENT)
        hear(uffd, &uffd->guests[event->data.u64]);
    else if (read(uffd->event, &told, sizeof told) < 0)
        told = 0;
}

static void
attend(void *context)
{
    struct wake_uffd *uffd = context;
    struct epoll_event events[EVENTS_AT_ONCE];
    while (obey(uffd)) {
        int count = epoll_wait(uffd->epoll, events, EVENTS_AT_ONCE, LOOK_MS);
        for (int i = 0; i < count; i++)
            dispatch(uffd, &events[i]);
        free_over(uffd);
        uint64_t now_ns = base_clock_monotonic_ns();
        end_silent(uffd, now_ns);
        if (uffd->paused_until_ns != 0 && now_ns >= uffd->paused_until_ns)
            listen_again(uffd, true);
    }
}

/* ------------------------------------------------------------------ taking over */

static void
adopt_one(struct wake_uffd *uffd, struct wake_parked *parked)
{
    struct wake_state *state = NULL;
    struct guest *guest = NULL;
    uffd->next_id = parked->id >= uffd->next_id ? parked->id + 1 : uffd->next_id;
    if (wake_parked_is_gone(parked)) {
        unpark(uffd, parked->id);
        wake_parked_close(parked);
        base_counter_add(&uffd->how.counters->ended, 1);
        return;
    }
    int err = wake_state_map(parked->fds[WAKE_PARK_STATE], &state);
    if (err == 0 && (guest = new_guest(uffd)) == NULL)
        err = dor_fail(DOR_E_BUSY, "%u clients are here already", uffd->how.clients_max);
    if (err == 0)
        err = wake_client_start(&uffd->client_how, parked, state, true, &guest->client);
    if (err == 0)
        return;
    /* It stays parked: nobody answers it, but it reads no zeros. */
    dor_log(
        ERROR, "wake", "not_adopted", "client=%llu error=\"%s\"",
        (unsigned long long)parked->id, dor_err_message());
    wake_state_unmap(state);
    if (guest != NULL)
        drop_guest(uffd, guest);
    wake_parked_close(parked);
}

static void
adopt_all(struct wake_uffd *uffd)
{
    for (size_t i = 0; i < uffd->how.parked_count; i++)
        adopt_one(uffd, &uffd->how.parked[i]);
    uffd->how.parked = NULL;
    uffd->how.parked_count = 0;
}

/* ------------------------------------------------------------------ opening */

static int
watch(struct wake_uffd *uffd, int fd, uint64_t about)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = about};
    if (epoll_ctl(uffd->epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        return dor_fail_errno(errno, "epoll");
    return 0;
}

static int
open_descriptors(struct wake_uffd *uffd)
{
    uffd->epoll = epoll_create1(EPOLL_CLOEXEC);
    uffd->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (uffd->epoll < 0 || uffd->event < 0)
        return dor_fail_errno(errno, "epoll");
    int err = watch(uffd, uffd->event, ABOUT_EVENT);
    return err == 0 && uffd->how.listener >= 0 ? watch(uffd, uffd->how.listener, ABOUT_LISTENER)
                                               : err;
}

static int
make_tables(struct wake_uffd *uffd)
{
    uffd->guests = base_array(uffd->how.clients_max, sizeof *uffd->guests);
    uffd->over = base_array(uffd->how.clients_max, sizeof(struct wake_client *));
    if (uffd->guests == NULL || uffd->over == NULL)
        return DOR_E_NO_MEMORY;
    /* Reading it maps the one page of zeros that the system has. */
    void *zeros = mmap(NULL, WAKE_HUGE_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (zeros == MAP_FAILED)
        return dor_fail_errno(errno, "memory of zeros");
    uffd->zeros = zeros;
    return 0;
}

static void
set_client_how(struct wake_uffd *uffd)
{
    uffd->client_how.snapshot = uffd->snapshot;
    uffd->client_how.counters = uffd->how.counters;
    uffd->client_how.zeros = uffd->zeros;
    uffd->client_how.window_pages = uffd->how.window_pages;
    uffd->client_how.push = uffd->how.push;
    uffd->client_how.passing = uffd->how.passing;
    uffd->client_how.fill = uffd->how.fill;
    uffd->client_how.hold = uffd->how.hold;
    uffd->client_how.core = uffd->how.core;
    uffd->client_how.over = client_over;
    uffd->client_how.context = uffd;
}

/* A snapshot that is gone is an error only when there is nobody who needs the rest. */
static int
open_snapshot(struct wake_uffd *uffd)
{
    int err = wake_snapshot_open(uffd->server, uffd->how.name, &uffd->snapshot);
    if (err == 0 || uffd->how.parked_count == 0)
        return err;
    dor_log(ERROR, "wake", "snapshot_gone", "error=\"%s\"", dor_err_message());
    return 0;
}

int
wake_uffd_open(
    struct dor_wake_server *server, const struct wake_uffd_how *how, struct wake_uffd **ret)
{
    struct wake_uffd *uffd = base_zalloc(sizeof *uffd);
    if (uffd == NULL)
        return DOR_E_NO_MEMORY;
    *uffd = (struct wake_uffd){
        .how = *how,
        .server = server,
        .epoll = -1,
        .event = -1,
        .next_id = how->first_id == 0 ? 1 : how->first_id};
    base_mutex_init(&uffd->lock);
    int err = open_snapshot(uffd);
    if (err == 0)
        err = open_descriptors(uffd);
    if (err == 0)
        err = make_tables(uffd);
    if (err == 0)
        err = wake_pool_new(server, WORKERS_MAX, &uffd->client_how.pool);
    if (err == 0) {
        set_client_how(uffd);
        adopt_all(uffd);
        err = base_thread_start(&uffd->thread, "wake-uffd", attend, uffd);
        uffd->thread_runs = err == 0;
    }
    if (err != 0) {
        wake_uffd_close(uffd);
        return err;
    }
    *ret = uffd;
    return 0;
}

void
wake_uffd_close(struct wake_uffd *uffd)
{
    if (uffd == NULL)
        return;
    if (uffd->thread_runs) {
        base_mutex_lock(&uffd->lock);
        uffd->closes = true;
        base_mutex_unlock(&uffd->lock);
        nudge(uffd);
        base_thread_join(&uffd->thread);
    }
    for (unsigned i = 0; uffd->guests != NULL && i < uffd->how.clients_max; i++)
        if (uffd->guests[i].used) {
            wake_client_free(uffd->guests[i].client);
            drop_guest(uffd, &uffd->guests[i]);
        }
    wake_pool_free(uffd->client_how.pool);
    wake_snapshot_close(uffd->snapshot);
    base_auto_close(&uffd->epoll);
    base_auto_close(&uffd->event);
    if (uffd->zeros != NULL)
        munmap(uffd->zeros, WAKE_HUGE_BYTES);
    base_mutex_fini(&uffd->lock);
    base_free(uffd->guests);
    base_free(uffd->over);
    base_free(uffd);
}

void
wake_uffd_refuse(struct wake_uffd *uffd)
{
    base_mutex_lock(&uffd->lock);
    uffd->refuses = true;
    base_mutex_unlock(&uffd->lock);
    nudge(uffd);
}

void
wake_uffd_finish(struct wake_uffd *uffd)
{
    base_mutex_lock(&uffd->lock);
    uffd->refuses = true;
    uffd->finishes = true;
    base_mutex_unlock(&uffd->lock);
    nudge(uffd);
}

unsigned
wake_uffd_client_count(struct wake_uffd *uffd)
{
    base_mutex_lock(&uffd->lock);
    unsigned count = uffd->guest_count;
    base_mutex_unlock(&uffd->lock);
    return count;
}
