/* SPDX-License-Identifier: Apache-2.0 */
/*
 * front.h - the process, or the thread of the daemon, that tenants connect to. It authenticates,
 * has workers started, and hands each connection over to the worker of its tenant, with all that
 * was read of it; from then on it only hears of it when a client wants to be another tenant. It
 * holds the memory of all tables, so that a worker's death costs connections and nothing else.
 *
 *     connection:  greeting --AUTH--> checking --right--> handed over --AUTH--> checking ...
 *                     ^                   |
 *                     +-------wrong-------+
 *
 *     worker:      none --first connection--> running --dies, or is killed--> none (waits a while)
 *
 * Ownership:  the front owns listeners, memory files, and connections that are not handed over.
 * Threads:    open, run and close in one; the other calls from any.
 * Errors:     DOR_E_BUSY when somebody listens there; otherwise what the system says.
 */
#ifndef DOR_TABLE_FRONT_H
#define DOR_TABLE_FRONT_H

#include <dormouse/err.h>
#include <dormouse/table.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/counters.h"

struct table_front;

struct table_front_counters {
#define COUNTER BASE_COUNTER_FIELD
#include "table/counters.def"
#undef COUNTER
};

extern const struct base_counter table_front_counter_rows[];
extern const size_t table_front_counter_count;

DOR_MUST_CHECK int table_front_open(const struct dor_table *how, struct table_front **ret);
void table_front_close(struct table_front *front); /* NULL is fine */

/* Serve until table_front_stop(), and then until the workers have ended. */
DOR_MUST_CHECK int table_front_run(struct table_front *front);

/* Also from a signal handler. A second stop does not wait for the workers. */
void table_front_stop(struct table_front *front);
/* Read the file of tenants again; what is wrong with it is logged, and the old list stays. */
void table_front_reload(struct table_front *front);

/* Where it listens. */
size_t table_front_addresses(
    const struct table_front *front, const char *ret[static DOR_TABLE_LISTEN_MAX]);

/* What is known of a tenant that runs; numbers are 0 while it does not. */
struct table_front_tenant_info {
    const char *name;
    const char *domain;
    bool is_shared, has_password;
    pid_t worker; /* 0 = none runs */
    uint64_t limit_bytes;
    uint64_t keys, used_bytes, connections, commands, calls, failed_calls;
};
void table_front_tenants_each(
    struct table_front *front,
    void (*visit)(void *context, const struct table_front_tenant_info *tenant), void *context);

/* Prometheus text. */
void table_front_print_metrics(struct table_front *front, FILE *out);

#endif
