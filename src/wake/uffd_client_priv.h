/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uffd_client_priv.h - what a client is, for its two threads.
 *
 * Ownership:  see the fields.
 * Threads:    see the fields.
 * Errors:     none of its own.
 *
 * Locks, outermost first: client->lock; the queue's; the page server's.
 */
#ifndef DOR_WAKE_UFFD_CLIENT_PRIV_H
#define DOR_WAKE_UFFD_CLIENT_PRIV_H

#include <stdatomic.h>

#include "base/thread.h"
#include "wake/guest_memory.h"
#include "wake/placement.h"
#include "wake/push.h"
#include "wake/uffd_client.h"

/* Faults that wait for an answer. Those that find no room are asked for again. */
#define WAKE_FAULTS_MAX 256

enum wake_fault_kind {
    WAKE_FAULT_MISSING,
    WAKE_FAULT_MINOR,    /* the page is in the client's memory file */
    WAKE_FAULT_PROTECTED /* a write to a page that the client protected */
};

struct wake_fault {
    struct wake_spot spot;
    enum wake_fault_kind kind;
    unsigned tries;         /* to read the page, in vain */
    bool late;              /* it was waited for, for it was on its way */
    bool pushed;            /* it was given ahead, and so will be what is around it */
    uint64_t not_before_ns; /* when the next one is due */
};

struct wake_client {
    const struct wake_client_how *how;
    struct wake_snapshot *snapshot; /* NULL: it is not what it was, and its pages are lost */
    struct wake_parked parked;
    struct wake_guest guest;
    int pidfd; /* -1: not known */
    int event; /* wakes the handler */
    struct wake_recorder *recorder;
    struct wake_push_queue queue;
    struct base_thread handler, companion;
    bool handler_runs, companion_runs;

    /* The handler's. */
    struct wake_placement placement;
    struct wake_fault faults[WAKE_FAULTS_MAX];
    size_t fault_count;
    bool overflow;       /* some found no room */
    uint64_t put_off_ns; /* what the kernel put off is tried again after this; 0: nothing is */
    bool no_poison;
    bool hears_socket, hears_process;
    unsigned losses_logged;
    uint64_t next_probe_ns;

    /* Of both: relaxed, they only tell that there is something to look at. */
    _Atomic uint64_t last_fault_ns; /* 0: none yet; UINT64_MAX: some are being answered */
    _Atomic bool stops;             /* the handler is to end */

    struct base_mutex lock; /* of what follows */
    struct base_condition changed;
    bool finishes; /* asked to fill up and be over */
    bool filled;   /* all pages are given */
    bool unfilled; /* some cannot be */
    bool is_over;  /* the handler has ended */
};

void wake_client_handle(void *client);    /* the handler's thread */
void wake_client_accompany(void *client); /* the companion's */

/* Tell the handler that something changed. */
void wake_client_nudge(const struct wake_client *client);

#endif
