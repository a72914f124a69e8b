/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wakes.h - the wakes that the daemon hosts: each a socket at which sandboxes ask for the memory of
 * one snapshot. All share the page server and its cache.
 *
 *     added --> listening --asked to, or `once` is over--> ending --no client left--> gone
 *
 * A wake and its clients are parked (parking.h). The upper half of an id is the wake's number. With
 * 0 in the lower half it is the socket's, with what was asked for in a memory file; otherwise a
 * client's.
 *
 * Ownership:  struct node_wakes is the node's; a wake belongs to the list and to who looks at it.
 * Threads:    any; opening, sweeping and closing: the main one.
 * Errors:     DOR_E_EXISTS: the id is taken; DOR_E_NOT_FOUND; those of the socket.
 */
#ifndef DOR_NODE_WAKES_H
#define DOR_NODE_WAKES_H

#include "base/thread.h"
#include "node/parking.h"
#include "wake/uffd_counters.h"

struct node;
struct node_wake;

struct node_wakes {
    struct node *node;
    struct node_parking parking;
    struct wake_parked_list passed; /* by systemd, until it is restored */
    struct base_mutex mutex;        /* of what follows, and of the state of each wake */
    struct node_wake *first;
    uint32_t last_number;
    bool closed;                     /* nothing new is taken */
    struct wake_uffd_counters ended; /* sums over the wakes that are gone */
};

/* What systemd had kept goes on. What of it makes no sense is logged and left. */
void node_wakes_restore(struct node_wakes *wakes);

/* Clear away wakes that are over. */
void node_wakes_sweep(struct node_wakes *wakes);

/* Take in nobody any more and give all sandboxes all that they lack. */
void node_wakes_end_all(struct node_wakes *wakes);
bool node_wakes_idle(struct node_wakes *wakes);

/* What is still there stays parked. */
void node_wakes_close(struct node_wakes *wakes);

struct node_wakes_stat {
    unsigned wakes, clients;
    struct wake_uffd_counters counters; /* since the daemon began */
};
void node_wakes_stat(struct node_wakes *wakes, struct node_wakes_stat *ret);

#endif
