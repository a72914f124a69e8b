/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uffd_client.h - one sandbox that is woken through its userfaultfd: a handler thread that answers
 * its faults, and a companion that reads its working set ahead and learns which pages it needed.
 *
 * Ownership:  a client owns its descriptors, threads and state.
 * Threads:    any; starting and freeing: one at a time for each client.
 * Errors:     at the start: DOR_E_NO_MEMORY. Later ones concern this client alone and are logged.
 */
#ifndef DOR_WAKE_UFFD_CLIENT_H
#define DOR_WAKE_UFFD_CLIENT_H

#include "wake/pages.h"
#include "wake/park.h"
#include "wake/uffd_counters.h"
#include "wake/worker_pool.h"

struct wake_client;

/* What all clients of one socket have in common; stays until the last is freed. */
struct wake_client_how {
    struct wake_snapshot *snapshot;
    struct wake_pool *pool;
    struct wake_uffd_counters *counters;
    const uint8_t *zeros; /* 2 MiB of them */
    unsigned
        window_pages; /* around a fault, a power of two up to WAKE_WINDOW_PAGES; 1 = none */
    bool push;        /* give the working set ahead */
    bool passing; /* what is given ahead passes the restore cache by: nobody else needs it */
    bool fill;    /* give all the rest in the background */
    bool hold;    /* who needs a page that cannot be had waits for it */
    int core;     /* see placement.h */
    /* The client needs nothing any more: call wake_client_free(), from another thread. */
    void (*over)(void *context, struct wake_client *client);
    void *context;
};

/*
 * Serve the client of PARKED and STATE, which are the new client's if this succeeds. ADOPTED: an
 * earlier process has begun. When the snapshot is not the one that it was, the client's missing
 * pages are lost.
 */
DOR_MUST_CHECK int wake_client_start(
    const struct wake_client_how *how, const struct wake_parked *parked,
    struct wake_state *state, bool adopted, struct wake_client **ret);
/* Ends its threads and closes its descriptors. NULL is fine. */
void wake_client_free(struct wake_client *client);

uint64_t wake_client_id(const struct wake_client *client);
/* Give it all pages that it does not have; then it is over, for it needs nobody any more. */
void wake_client_finish(struct wake_client *client);

#endif
