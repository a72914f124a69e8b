/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker_priv.h - what the files of a worker share: its struct, and the calls between the loop's
 * events, the input of clients, and commands.
 *
 * Ownership:  all of it is the worker's.
 * Threads:    those of the worker.
 * Errors:     as in worker.h.
 */
#ifndef DOR_TABLE_WORKER_PRIV_H
#define DOR_TABLE_WORKER_PRIV_H

#include <stdatomic.h>

#include "table/client.h"

struct table_worker {
    struct table_worker_options options;
    struct table_loop *loop;
    struct table_tenant *tenants;
    struct table_chunk_pool pool;
    struct resp_args args;         /* of the requests that are being run */
    struct table_reply void_reply; /* for who wants no replies */
    struct table_client *pending, *ready, *held;
    struct table_functions *newest, *oldest; /* those with a context, by their last use */
    uint32_t context_count;
    int64_t now_ms;         /* of this turn, since 1970 */
    uint64_t turn;          /* its number */
    uint64_t function_turn; /* in which a function was last called */
    bool in_engine;         /* this turn's calls are made inside one entry of the engine */
    bool must_leave;        /* a call was stopped: no more requests before the engine is left */
    bool any_leaving;       /* tenants whose clients are still to be sent away */
    bool clock_is_set;      /* now_ms is of this turn */
    uint64_t next_client_id;
    uint64_t client_count, connections, commands;
    uint64_t rejected;
    int64_t started_ms, upkeep_ms; /* when upkeep was last done */
    bool upkeep_goes_on, has_stalled;
    uint64_t random_state;
    int stop_fd;
    atomic_bool stop;
};

struct table_tenant *table_worker_tenant(struct table_worker *worker, uint64_t tenant_id);

/* A random number; anybody may guess it. */
uint64_t table_worker_random(struct table_worker *worker);

/* Ask for the time if this turn has not, and let the tenant's table know. */
void table_worker_set_clock(struct table_worker *worker, struct table_tenant *tenant);

/* See to the client at the end of this turn; run its input in the next one. */
void table_worker_add_pending(struct table_client *client);
void table_worker_add_ready(struct table_client *client);

/* ---- worker_leave.c ---- */

/* A function of TENANT was stopped at a limit. */
void table_worker_overran(struct table_worker *worker, struct table_tenant *tenant);

/* The engine has been left: requests may be run again, but of those that leave. */
void table_worker_send_away(struct table_worker *worker);

/* ---- client.c ---- */

/* A client of TENANT at FD, which is taken over, not yet known to the loop; NULL without memory. */
struct table_client *table_client_new(
    struct table_worker *worker, struct table_tenant *tenant, int fd,
    const struct table_handover *handover);

/* Everything of it, the descriptor too. */
void table_client_free(struct table_client *client);

/* Bytes of the client have come: run what is complete, keep the rest. */
void table_client_take(struct table_client *client, const uint8_t *bytes, size_t length);

/* Whether more is to be read of it. */
bool table_client_wants_input(const struct table_client *client);

/* Bytes of its large argument have come to their place. */
void table_client_filled(struct table_client *client);

/* Keep bytes for later; false when there are too many or there is no memory. */
bool table_client_keep(struct table_client *client, const uint8_t *bytes, size_t length);

/* Go on with what is kept. */
void table_client_run(struct table_client *client);

/* ---- command.c ---- */

/* The row of a command by its name alone, NULL for none; and by all arguments, its subcommand. */
const struct table_command *table_command_lookup(const uint8_t *name, size_t length);
const struct table_command *table_command_of(const struct table_arg *args, uint32_t arg_count);

/* Run or queue a request of CLIENT; COMMAND and KEY (or NULL) as looked up before. */
void table_command_run(
    struct table_client *client, const struct table_command *command,
    const struct table_arg *args, uint32_t arg_count, const struct table_key *key);

/* ---- large.c ---- */

/*
 * A large argument of the request that is coming in begins; PREFIX holds the arguments before it.
 */
void table_large_begin(
    struct table_client *client, const struct resp_args *prefix, uint32_t index,
    uint32_t length);

/* Take what is its own out of LENGTH bytes that have come; how many. */
size_t table_large_take(struct table_client *client, const uint8_t *bytes, size_t length);

/* Whether bytes of one are still to come. */
bool table_large_is_coming(const struct table_client *client);

/* Give the drafts of COUNT large arguments back, if they have not become records. */
void table_large_drop(struct table_tenant *tenant, struct table_large *large, uint32_t count);

/* The same for the request of CLIENT that has been run. */
void table_large_clear(struct table_client *client);

#endif
