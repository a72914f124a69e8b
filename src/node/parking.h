/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parking.h - where the daemon parks what must outlive it: with systemd, which gives it to the next
 * daemon, or with an heir (wake/heir.h), which finishes what was left.
 *
 * Ownership:  what was taken over is the caller's.
 * Threads:    opening: where no other runs. The place itself: any.
 * Errors:     DOR_E_USAGE: there is no such place; DOR_E_NO_MEMORY.
 */
#ifndef DOR_NODE_PARKING_H
#define DOR_NODE_PARKING_H

#include "wake/heir.h"
#include "wake/keeper.h"

struct node_parking {
    struct wake_heir heir;
    struct wake_park systemd;
    const struct wake_park *place; /* NULL: what dies with the daemon is lost */
};

/* KIND: "auto", "systemd", "heir" or "none". DIRECTORY and OPTIONS are the heir's. */
DOR_MUST_CHECK int node_parking_open(
    const char *kind, const char *directory, const struct dor_wake_options *options,
    struct node_parking *ret);
void node_parking_close(struct node_parking *parking);

/*
 * The descriptors that systemd passed: one listening socket or none (-1), and what earlier daemons
 * had parked.
 */
DOR_MUST_CHECK int node_parking_passed(int *ret_socket, struct wake_parked_list *ret_parked);

#endif
