/* SPDX-License-Identifier: Apache-2.0 */
/*
 * command.h - commands as rows of commands.def, and a call of one. A row makes the dispatch table
 * and what COMMAND tells; its handler is in one of the files cmd_*.c or functions*.c.
 *
 * Ownership:  a call borrows everything in it.
 * Threads:    those of the worker.
 * Errors:     a handler that has replied nothing may return a negative enum dor_errno; the caller
 *             then replies for it (out of memory or space: -OOM, anything else: -ERR and the words
 *             of dor_err_message()).
 */
#ifndef DOR_TABLE_COMMAND_H
#define DOR_TABLE_COMMAND_H

#include "table/reply.h"
#include "table/resp.h"
#include "table/table.h"
#include "table/worker.h"

/* Flags of a command, as COMMAND tells them. */
enum {
    CMD_WRITE = 1 << 0,
    CMD_READONLY = 1 << 1,
    CMD_DENYOOM = 1 << 2, /* fails at the limit, when nothing may be evicted */
    CMD_ADMIN = 1 << 3,
    CMD_NOSCRIPT = 1 << 4,
    CMD_LOADING = 1 << 5,
    CMD_STALE = 1 << 6,
    CMD_FAST = 1 << 7,
    CMD_NO_AUTH = 1 << 8,
    CMD_MOVABLE = 1 << 9,
    CMD_BUSY = 1 << 10,     /* allowed while a function runs too long */
    CMD_NO_QUEUE = 1 << 11, /* runs at once inside MULTI; not told */
    CMD_NO_MULTI = 1 << 12, /* refused inside MULTI */
};

struct table_call;
typedef int table_handler(struct table_call *call);

struct table_command {
    const char *name; /* "get", "client|id" */
    int16_t arity;    /* negative: at least so many */
    uint16_t flags;
    int8_t first_key, last_key, key_step;
    uint8_t group;          /* index in command.c's list of groups */
    table_handler *handler; /* NULL: only its subcommands can be called */
    const char *since, *summary;
};

/* A tenant as the worker has it. */
struct table_tenant {
    struct table_tenant *next;
    uint64_t id;
    char *name;
    struct table *table;
    struct table_log *log; /* NULL = none */
    struct table_function_limits function_limits;

    /* Storage functions: whatever their file keeps, and how to free it. */
    void *functions;
    void (*functions_free)(void *functions);

    struct table_client *clients;
    uint32_t client_count;
    struct table_watches *watches; /* NULL = nobody has watched a key */
    uint32_t watch_count;
    uint64_t turn;          /* of the worker, when the time was last set */
    uint64_t calls_turn;    /* of the worker, when a function was last called, */
    uint32_t calls_in_turn; /* and connections that have called one in it */
    uint64_t log_turn;      /* when the log was last asked to flush, with this result: */
    int log_result;
    uint64_t commands, hits, misses, errors, connections;
    uint64_t dirty; /* changes since the start */
    bool wants_upkeep;
    bool leaving;             /* its clients go back to the front */
    int64_t suspect_until_ms; /* its calls are taken for long ones from their begin */
};

struct table_call {
    struct table_worker *worker;
    struct table_tenant *tenant;
    struct table *table;
    struct table_client *client; /* NULL: nobody waits for the reply at a socket */
    struct table_reply *reply;
    const struct table_command *command;
    const struct table_arg *args; /* the name included */
    uint32_t arg_count;
    struct table_key key; /* that of args[command->first_key], if it is not 0 */
    bool key_valid;
    struct table_large *large; /* what args name as large; NULL = none */
};

/*
 * Run a call whose worker, tenant, client, reply and args are set: find the command, check it, run
 * its handler, reply in any case. Inside MULTI nothing is queued here.
 */
void table_command_call(struct table_call *call);

/* True when ARG is WORD in any case; WORD is in lower case. */
bool table_arg_is(const struct table_arg *arg, const char *word);

/* Make a key of args[INDEX]; false, and an error is replied, when it is too long. */
bool table_call_key(struct table_call *call, uint32_t index, struct table_key *ret);

/* args[INDEX] as an integer; false, and Redis's error is replied, when it is none. */
bool table_call_integer(struct table_call *call, uint32_t index, int64_t *ret);

/*
 * Whether the tenant's log has room for BYTES that the call will change; an error is replied when
 * not. For all arguments of a command that writes it was asked already.
 */
bool table_call_log_room(struct table_call *call, uint64_t bytes);

/* Whether CALL is one that the front answers, and takes the connection with it. */
bool table_call_hands_back(const struct table_call *call);

/* Replies of errors that many commands share. */
int table_call_syntax_error(struct table_call *call);
int table_call_arity_error(struct table_call *call);

struct table_engine *table_worker_engine(struct table_worker *worker);

#endif
