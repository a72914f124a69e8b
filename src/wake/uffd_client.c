/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uffd_client.c - the life of a client: its two threads start together, the handler ends when the
 * client is gone or needs nothing any more, then the companion has its last word.
 */
#include "wake/uffd_client.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "wake/uffd_client_priv.h"

/* Who connected, which is the client itself or at least lives no longer than it; 0: not known. */
static pid_t
peer_of(int socket)
{
    struct ucred peer = {0};
    socklen_t size_bytes = sizeof peer;
    if (socket < 0 || getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size_bytes) != 0)
        return 0;
    return peer.pid;
}

static void
open_client(struct wake_client *client)
{
    pid_t pid = peer_of(client->parked.fds[WAKE_PARK_SOCKET]);
    client->pidfd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    client->hears_process = client->pidfd >= 0;
    client->hears_socket = client->parked.fds[WAKE_PARK_SOCKET] >= 0;
    client->placement = (struct wake_placement){.pid = pid};
    if (!wake_guest_can_write(client->guest.memory))
        client->guest.memory = -1;
}

/* The snapshot that the state names, if it still is. */
static struct wake_snapshot *
snapshot_of(const struct wake_client_how *how, const struct wake_state *state)
{
    if (how->snapshot == NULL || wake_snapshot_info(how->snapshot)->id != state->snapshot_id ||
        wake_snapshot_page_count(how->snapshot) != state->page_count)
        return NULL;
    return how->snapshot;
}

static int
start_threads(struct wake_client *client)
{
    int err = base_thread_start(&client->handler, "wake-handler", wake_client_handle, client);
    if (err != 0)
        return err;
    client->handler_runs = true;
    err =
        base_thread_start(&client->companion, "wake-companion", wake_client_accompany, client);
    client->companion_runs = err == 0;
    return err;
}

static int
prepare(struct wake_client *client)
{
    client->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int err = client->event < 0 ? dor_fail_errno(errno, "client") : 0;
    if (err == 0)
        err = wake_push_queue_init(&client->queue, client->event);
    if (err == 0 && client->snapshot != NULL)
        err = wake_recorder_new(client->snapshot, &client->recorder);
    if (err == 0)
        err = wake_pool_grow(client->how->pool);
    if (err == 0 && client->recorder != NULL)
        wake_recorder_set_exact(client->recorder);
    return err;
}

/* Ends threads and frees all but what the caller of a failed start still owns. */
static void
dismantle(struct wake_client *client)
{
    atomic_store_explicit(&client->stops, true, memory_order_relaxed);
    if (client->handler_runs) {
        wake_client_nudge(client);
        base_thread_join(&client->handler);
    }
    if (client->companion_runs)
        base_thread_join(&client->companion);
    if (client->event >= 0) {
        wake_push_queue_fini(&client->queue);
        close(client->event);
    }
    if (client->pidfd >= 0)
        close(client->pidfd);
    wake_recorder_free(client->recorder);
    base_mutex_fini(&client->lock);
    base_condition_fini(&client->changed);
    base_free(client);
}

int
wake_client_start(
    const struct wake_client_how *how, const struct wake_parked *parked,
    struct wake_state *state, bool adopted, struct wake_client **ret)
{
    struct wake_client *client = base_zalloc(sizeof *client);
    if (client == NULL)
        return DOR_E_NO_MEMORY;
    *client = (struct wake_client){
        .how = how,
        .snapshot = snapshot_of(how, state),
        .parked = *parked,
        .guest = {parked->fds[WAKE_PARK_UFFD], parked->fds[WAKE_PARK_MEMORY], state},
        .pidfd = -1,
        .event = -1};
    base_mutex_init(&client->lock);
    base_condition_init(&client->changed);
    open_client(client);
    pid_t pid = client->placement.pid; /* the handler's from its start on */
    if (adopted)
        wake_guest_adopt(&client->guest);
    int err = prepare(client);
    if (err == 0)
        err = start_threads(client);
    if (err != 0) {
        dismantle(client);
        return err;
    }
    base_counter_add(adopted ? &how->counters->adopted : &how->counters->clients, 1);
    dor_log(
        INFO, "wake", adopted ? "client_adopted" : "client",
        "client=%llu pid=%d mappings=%zu snapshot=\"%s\"", (unsigned long long)parked->id,
        (int)pid, state->mappings.count, state->snapshot);
    if (client->snapshot == NULL)
        dor_log(
            ERROR, "wake", "snapshot_gone", "client=%llu snapshot=\"%s\"",
            (unsigned long long)parked->id, state->snapshot);
    *ret = client;
    return 0;
}

void
wake_client_free(struct wake_client *client)
{
    if (client == NULL)
        return;
    struct wake_parked parked = client->parked;
    struct wake_state *state = client->guest.state;
    dismantle(client);
    wake_state_unmap(state);
    wake_parked_close(&parked);
}

uint64_t
wake_client_id(const struct wake_client *client)
{
    return client->parked.id;
}

void
wake_client_nudge(const struct wake_client *client)
{
    /* A full eventfd wakes as well. */
    if (write(client->event, &(uint64_t){1}, sizeof(uint64_t)) < 0)
        return;
}

void
wake_client_finish(struct wake_client *client)
{
    base_mutex_lock(&client->lock);
    client->finishes = true;
    base_mutex_unlock(&client->lock);
    base_condition_wake_all(&client->changed);
    /* It may be filled already: then the handler has nothing else to hear. */
    wake_client_nudge(client);
}
