/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wakes_priv.h - a wake from the inside: wakes.c has its life, wakes_routes.c what clients ask.
 *
 * Ownership:  counted references: the list has one, everybody who waits for its end another.
 * Threads:    the mutex of struct node_wakes, where nothing else is said.
 * Errors:     0 or a negative enum dor_errno.
 */
#ifndef DOR_NODE_WAKES_PRIV_H
#define DOR_NODE_WAKES_PRIV_H

#include "base/unix_socket.h"
#include "node/call.h"
#include "node/wakes.h"
#include "wake/uffd.h"

enum { NODE_WAKE_ID_BYTES = 65 };

struct node_wake {
    unsigned references;
    struct node_wake *next;
    /* Set before it is in the list. */
    uint32_t number;
    char id[NODE_WAKE_ID_BYTES];
    char snapshot[DOR_NAME_BYTES_MAX + 1];
    char socket_path[DOR_PATH_BYTES_MAX + 1];
    bool once;
    uint64_t created_ns; /* realtime */
    /* Set by who starts it, before `started`; taken by the main thread when it is over. */
    struct base_listener listener; /* fd -1: none */
    struct wake_uffd *uffd;
    struct wake_uffd_counters counters; /* atomic, by themselves */
    bool started, ending, gone;
    bool is_parked; /* the socket and what was asked for */
};

/* A wake as VALUES ask for, not in the list yet. */
DOR_MUST_CHECK int node_wake_new(
    const char *id, const struct node_values *values, struct node_wake **ret,
    struct wake_uffd_how *ret_how);

/* Put it into the list, which takes it. DOR_E_EXISTS, DOR_E_BUSY. */
DOR_MUST_CHECK int node_wakes_insert(struct node_wakes *wakes, struct node_wake *wake);

/* Its socket listens from now on; BODY is kept with it. After an error it is out of the list. */
DOR_MUST_CHECK int node_wake_start(
    struct node_wakes *wakes, struct node_wake *wake, const char *socket_path, mode_t mode,
    const json_t *body, const struct wake_uffd_how *how);

/* With a reference; NULL and the error recorded when there is none. */
struct node_wake *node_wakes_find(struct node_wakes *wakes, const char *id);
void node_wake_unref(struct node_wakes *wakes, struct node_wake *wake);

/* It ends from now on. */
void node_wake_end(struct node_wakes *wakes, struct node_wake *wake);

#endif
