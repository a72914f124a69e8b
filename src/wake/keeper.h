/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper.h - a small process that holds copies of descriptors which must not be closed, and starts
 * the one that does the work, again and again if need be.
 *
 *     keeper                                    worker
 *     copies of all clients' descriptors        page server, threads, clients
 *         |  fork: it inherits all of these        |
 *         |<------------- READY, or FAILED --------|
 *         |<------- PARK (with descriptors) -------|  before a client is served
 *         |<-------------- REMOVE -----------------|  it is gone, or has all its pages
 *         |------------------ FINISH ------------->|
 *         |<--------------- DONE ------------------|  then it ends
 *
 * The keeper does so little that there is nothing in it to fail: it opens no store, starts no
 * thread and reads nothing that a client sent. When the worker dies, it takes what that had still
 * said out of the socket, then forks the next one, which wakes all faults that nobody answered.
 * A worker that cannot start is tried again for as long as a parked client lives, for to close its
 * descriptors would give it zeros. When the keeper dies, the worker serves those who are there
 * until they end.
 *
 * Ownership:  a list of parked clients owns their descriptors.
 * Threads:    a keeper has one thread alone; a worker's connection: sending any, hearing one.
 * Errors:     DOR_E_IO: the other end is gone.
 */
#ifndef DOR_WAKE_KEEPER_H
#define DOR_WAKE_KEEPER_H

#include "base/err.h"
#include "wake/park.h"

/* ------------------------------------------------------------------ what is said */

enum wake_word {
    WAKE_WORD_READY,
    WAKE_WORD_FAILED,
    WAKE_WORD_PARK,
    WAKE_WORD_REMOVE,
    WAKE_WORD_DONE,
    WAKE_WORD_FINISH
};

struct wake_message {
    enum wake_word word;
    int code;       /* FAILED */
    uint64_t id;    /* PARK, REMOVE */
    uint32_t roles; /* PARK: a bit for each descriptor that comes along */
    char text[DOR_ERR_TEXT_BYTES];
};

DOR_MUST_CHECK int wake_keeper_send(
    int control, const struct wake_message *message, const int *fds, size_t fd_count);
/* 1: a message and FDS by role; 0: none now; -1: nobody sends any more. */
int
wake_keeper_receive(int control, struct wake_message *message, int fds[static WAKE_PARK_ROLES]);

/* A parking place at the other end of *CONTROL, which is borrowed. */
struct wake_park wake_keeper_park(int *control);

/* ------------------------------------------------------------------ what is kept */

struct wake_parked_list {
    struct wake_parked *items;
    size_t count, cap;
};

/* Take what a PARK or REMOVE asks for; other words are none of its business. */
void wake_parked_heed(
    struct wake_parked_list *list, const struct wake_message *message,
    const int fds[static WAKE_PARK_ROLES]);
/* Close what belongs to clients that live no more. */
void wake_parked_forget_gone(struct wake_parked_list *list);
void wake_parked_list_fini(struct wake_parked_list *list);

/* ------------------------------------------------------------------ keeping */

/* In the worker's process. */
struct wake_worker_link {
    int control;
    struct wake_park park;
    struct wake_parked *parked; /* what earlier workers had parked: to be taken over */
    size_t parked_count;
};

enum wake_heard { WAKE_HEARD_NOTHING, WAKE_HEARD_FINISH, WAKE_HEARD_ALONE };

/* All is well: clients may come. */
DOR_MUST_CHECK int wake_worker_ready(const struct wake_worker_link *link);
/* Wait up to WAIT_MS for the keeper; ALONE is heard when it is gone, which ends all hearing. */
enum wake_heard wake_worker_hear(struct wake_worker_link *link, int wait_ms);

struct wake_keeping {
    /* The worker's life; an error counts as such only before it is ready. */
    int (*work)(void *context, struct wake_worker_link *link);
    void *context;
    struct wake_parked_list *parked;
    bool finishing;      /* workers are told to bring everything to an end, from the first */
    int (*stop)(void *); /* called a few times a second: not 0 = the same from now on */
    void *stop_context;
    void (*ready)(void *); /* the first worker is */
    void *ready_context;
};

/* Until a worker has done its work. An error is that of the first worker, which never was ready. */
DOR_MUST_CHECK int wake_keeper_run(const struct wake_keeping *keeping);

#endif
