/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uffd.h - wakes all sandboxes that come to one socket from one snapshot, each through the
 * userfaultfd that it brings (Firecracker's protocol). A sandbox that makes no sense, falls silent
 * or dies is no concern of the others.
 *
 * Ownership:  the server, the listening socket, the parking place and the counters are borrowed
 *             and outlive it.
 * Threads:    any; opening and closing: one at a time.
 * Errors:     opening: DOR_E_NOT_FOUND, DOR_E_NO_MEMORY. Those of clients are logged and counted.
 */
#ifndef DOR_WAKE_UFFD_H
#define DOR_WAKE_UFFD_H

#include "wake/pages.h"
#include "wake/park.h"
#include "wake/uffd_counters.h"

struct wake_uffd;

struct wake_uffd_how {
    int listener;     /* a socket that listens and does not block; -1: nobody can come */
    const char *name; /* the snapshot's */
    const struct wake_park *park; /* NULL: clients die with this process */
    /* What an earlier process had parked: its descriptors are taken over, whatever comes of it. */
    struct wake_parked *parked;
    size_t parked_count;
    uint64_t first_id; /* of its clients in the parking place; 0 = 1 */
    struct wake_uffd_counters *counters;
    uint64_t handshake_ns; /* how long a client may take to say what it wants */
    unsigned clients_max;
    unsigned window_pages; /* as in struct wake_client_how, as is what follows */
    bool push, passing, fill, hold;
    int core;
};

/* HOW with its defaults filled in, but for name, listener, counters and parking; DOR_E_USAGE. */
DOR_MUST_CHECK int wake_uffd_how_of(const struct dor_wake_uffd *how, struct wake_uffd_how *ret);
void
wake_uffd_stat_of(const struct wake_uffd_counters *counters, struct dor_wake_uffd_stat *ret);

DOR_MUST_CHECK int wake_uffd_open(
    struct dor_wake_server *server, const struct wake_uffd_how *how, struct wake_uffd **ret);
/* Leaves clients where they are: parked, or without anybody who answers. NULL is fine. */
void wake_uffd_close(struct wake_uffd *uffd);

/* Take in nobody any more: the listening socket is shut down. */
void wake_uffd_refuse(struct wake_uffd *uffd);
/* The same, and give all clients all that they have not: then they need nobody. */
void wake_uffd_finish(struct wake_uffd *uffd);
/* Clients now, those that are still in their handshake included. */
unsigned wake_uffd_client_count(struct wake_uffd *uffd);

#endif
