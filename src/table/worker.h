/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker.h - one thread that serves the tables of one trust domain: a loop over its connections,
 * the parser, the commands, and the upkeep of its tables in small steps between turns.
 * Connections come authenticated from the front, with what was read of them and not used; a client
 * that wants to be somebody else is handed back.
 *
 * Ownership:  a worker owns its tenants, their tables, and its clients' descriptors.
 * Threads:    all calls from the thread of the worker; table_worker_stop() from any, also from a
 *             signal handler.
 * Errors:     what the system says; DOR_E_NOT_FOUND and DOR_E_EXISTS for tenants.
 */
#ifndef DOR_TABLE_WORKER_H
#define DOR_TABLE_WORKER_H

#include <dormouse/err.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "table/table.h"

struct table_worker;
struct table_client;
struct table_log;
struct table_syncer;
struct table_engine;

/* What is known of a connection that goes from one process to another. */
struct table_handover {
    unsigned protocol;   /* 2 or 3 */
    uint64_t client_id;  /* 0: the worker gives one */
    const char *name;    /* "" = none */
    const char *library; /* "lib-name" of CLIENT SETINFO, "" = none */
    const char *library_version;
    const char *address;    /* of the peer, host:port or the socket's path */
    const uint8_t *pending; /* read and not used; borrowed */
    size_t pending_bytes;
};

/* How it stands with a tenant's snapshots. */
struct table_saving {
    int64_t saved_ms; /* when the last one was, since 1970; 0 = there is none */
    bool runs;        /* one is being taken, or asked for */
    bool failed;      /* the last try */
};

enum table_loop_kind { TABLE_LOOP_AUTO, TABLE_LOOP_EPOLL, TABLE_LOOP_URING };

struct table_worker_options {
    enum table_loop_kind loop; /* AUTO: io_uring if the kernel has what is needed */
    uint32_t clients_max;      /* 0 = 100,000 */
    uint64_t
        input_bytes_max; /* of one request or transaction, large values not counted; 0 = 64 MiB */
    uint64_t output_bytes_stop; /* no more requests of who leaves so much unread; 0 = 256 KiB */
    uint64_t output_bytes_max;  /* who lets more wait is closed; 0 = 256 MiB */
    uint32_t
        stall_seconds; /* who takes nothing for so long while output waits is closed; 0 = 60 */

    /*
     * A client sent AUTH, or HELLO with AUTH, and all before it is answered. FD is the callee's
     * from now on; the pending bytes begin with that command. NULL: such commands get an error.
     */
    void (*hand_back)(void *context, int fd, uint64_t tenant_id, const struct table_handover *);
    void (*tick)(void *context); /* once a turn of the loop; may be NULL */
    /*
     * Ask for a snapshot of a tenant's table; DOR_E_BUSY: one is being taken. DOR_E_USAGE: none can
     * be. And how it stands with them. Both may be NULL.
     */
    int (*save)(void *context, uint64_t tenant_id);
    void (*saving)(void *context, uint64_t tenant_id, struct table_saving *ret);
    /*
     * A function of a tenant was stopped at a limit. True: it shall leave; all its clients are
     * handed back, then it can be removed. May be NULL.
     */
    bool (*overran)(void *context, uint64_t tenant_id);
    void *context;
    struct table_engine *engine; /* of storage functions; may be NULL. Borrowed */
    struct table_syncer *syncer; /* of the tenants' logs; may be NULL. Borrowed */
};

/* Limits of a tenant's storage functions. */
struct table_function_limits {
    uint32_t call_ms;
    uint32_t calls_max; /* at the same time, of one tenant */
    uint64_t heap_bytes;
    uint64_t reply_bytes;
};

enum { TABLE_SUSPECT_MS = 60000 };

struct table_tenant_setup {
    uint64_t id;
    const char *name;
    int memory_fd; /* taken over, also on error */
    bool create;   /* the memory is empty: make a table in it */
    bool recover;  /* a process died with it */
    bool suspect;  /* it was killed for a call of this tenant, TABLE_SUSPECT_MS ago at most */
    uint64_t limit_bytes;
    enum table_policy policy;
    struct table_function_limits functions;
    struct table_log *log;   /* NULL = none, or later; borrowed */
    table_mapped_fn *mapped; /* its pages are still to come; usually NULL */
    void *mapped_context;
};

DOR_MUST_CHECK int
table_worker_new(const struct table_worker_options *options, struct table_worker **ret);
void table_worker_free(struct table_worker *worker); /* NULL is fine */

DOR_MUST_CHECK int
table_worker_add_tenant(struct table_worker *worker, const struct table_tenant_setup *setup);

/* Its clients are closed. */
DOR_MUST_CHECK int table_worker_remove_tenant(struct table_worker *worker, uint64_t tenant_id);

/* The table of a tenant; NULL when there is none. */
struct table *table_worker_table(struct table_worker *worker, uint64_t tenant_id);

DOR_MUST_CHECK int table_worker_set_limits(
    struct table_worker *worker, uint64_t tenant_id, uint64_t limit_bytes,
    enum table_policy policy, const struct table_function_limits *functions);

/* Serve the connection FD, taken over also on error. */
DOR_MUST_CHECK int table_worker_adopt(
    struct table_worker *worker, uint64_t tenant_id, int fd,
    const struct table_handover *handover);

/* Accept connections for a tenant at FD, a listening socket that the worker takes over. */
DOR_MUST_CHECK int table_worker_listen(struct table_worker *worker, int fd, uint64_t tenant_id);

/* Call FN whenever FD can be read, until it returns false. FD stays the caller's. */
typedef bool table_watch_fn(void *context, int fd);
DOR_MUST_CHECK int
table_worker_watch(struct table_worker *worker, int fd, table_watch_fn *fn, void *context);

/* The snapshot of a tenant that was under way has ended: who waits for it is told. */
void table_worker_saved(struct table_worker *worker, uint64_t tenant_id, bool failed);

/* Serve until table_worker_stop(). */
DOR_MUST_CHECK int table_worker_run(struct table_worker *worker);
void table_worker_stop(struct table_worker *worker);

/* "epoll" or "io_uring". */
const char *table_worker_loop_name(const struct table_worker *worker);

struct table_worker_stat {
    uint64_t clients, commands, connections, turns;
};
void table_worker_stat(const struct table_worker *worker, struct table_worker_stat *ret);

#endif
