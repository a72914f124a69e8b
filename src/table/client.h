/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client.h - a connection: what has come and is not used, what waits to be sent, and the state that
 * commands give it. While it is idle it has no buffers.
 *
 * Ownership:  a client belongs to its worker; handlers of commands may mark it to be closed.
 * Threads:    those of the worker.
 * Errors:     none of its own: what goes wrong with a client ends it.
 */
#ifndef DOR_TABLE_CLIENT_H
#define DOR_TABLE_CLIENT_H

#include "table/command.h"
#include "table/loop.h"

/* A large argument on its way in, or complete: a record of the tenant's arena that no key has. */
struct table_large {
    struct table_draft draft;
    uint32_t index; /* of the argument in its request */
    bool for_key;   /* it is made for the key of its request: may become the record */
    bool refused;   /* there was no room: the bytes are dropped */
};

/* A request that waits for EXEC. */
struct table_queued {
    const struct table_command *command;
    struct table_arg *args; /* with their bytes in one block */
    uint32_t arg_count;
    struct table_large *large;
    uint32_t large_count;
};

struct table_multi {
    struct table_queued *queued;
    uint32_t count, cap;
    uint64_t bytes;
    bool broken; /* an error was replied while queueing */
};

struct table_watched; /* in watch.c */

struct table_client {
    struct table_stream stream;
    struct table_worker *worker;
    struct table_tenant *tenant;
    struct table_client *next, *previous; /* of the tenant */
    struct table_client *next_pending;    /* something is to be done at the end of the turn */
    struct table_client *next_ready;      /* input waits for the next turn */
    struct table_client *next_held;       /* waits for the log */
    uint64_t id;
    char *name, *library, *library_version, *address; /* NULL = none */
    int64_t created_ms, used_ms;
    int64_t progress_ms; /* when output last went, or began to wait */
    const struct table_command *last_command;

    uint8_t *in; /* NULL while nothing waits */
    size_t in_from, in_to, in_cap;
    struct resp_request request;
    struct table_large *large; /* of the request that is coming in */
    struct resp_large *large_args;
    uint32_t large_count, large_cap;
    uint32_t drop_left;    /* bytes of a large argument that is refused, still to come */
    uint8_t line_end_left; /* of the line end behind a large argument */

    struct table_multi *multi; /* NULL = not inside MULTI */
    struct table_watched *watched;
    bool watch_broken; /* a watched key has changed */

    bool pending, ready; /* is in the worker's list */
    bool large_coming;   /* the last large argument is not complete */
    bool stopped;        /* too much output waits: no more requests */
    bool held;           /* the output waits for the log to be on disk, up to: */
    uint64_t held_sequence;
    uint64_t call_turn;  /* of the worker, in which it last called a function; 0 = none */
    bool saving;         /* waits for a snapshot's end, and runs nothing meanwhile */
    bool save_is_silent; /* and is not told of it */
    bool closing;        /* after the output has gone */
    bool closed;         /* at once */
    bool handing_back;
    bool reply_off, reply_skip, reply_skip_next;
    bool no_evict, no_touch;
};

/* Close the client when what waits has been sent, or at once. */
void table_client_close_after_reply(struct table_client *client);
void table_client_close(struct table_client *client);

/* Host and port, or the socket's path, of both ends; "" for what cannot be known. */
enum { TABLE_ADDRESS_BYTES = 128 };
void table_client_addresses(
    const struct table_client *client, char peer[TABLE_ADDRESS_BYTES],
    char local[TABLE_ADDRESS_BYTES]);

/* Its line in CLIENT LIST, without the line end; BUF holds TABLE_CLIENT_LINE_BYTES. */
enum { TABLE_CLIENT_LINE_BYTES = 1024 };
int table_client_describe(const struct table_client *client, char *buf);

/* Give up MULTI and what is queued. */
void table_client_discard(struct table_client *client);

/* Forget the keys that are watched. */
void table_client_unwatch(struct table_client *client);

#endif
