/* SPDX-License-Identifier: Apache-2.0 */
/*
 * status.h - what a worker tells about itself while it works, in a memory file that the front maps
 * too: how the front sees that a call hangs, and where the numbers of /metrics come from.
 * Nothing in it is believed beyond that. The file is sealed, so no worker can take it away.
 *
 *     offset  size  field
 *          0  4096  struct table_status
 *       4096  64*n  struct table_status_row, one a tenant, at the slot the front gave it
 *
 * Ownership:  both sides unmap what they mapped.
 * Threads:    one writer, in the worker; but `kill` is the front's. All fields are relaxed atomics:
 *             each is whole, two of them are not one moment.
 * Errors:     none.
 */
#ifndef DOR_TABLE_STATUS_H
#define DOR_TABLE_STATUS_H

#include <dormouse/err.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"

enum { TABLE_STATUS_HEAD_BYTES = 4096, TABLE_STATUS_ROWS_MAX = 4096 };

struct table_status_row {
    _Atomic uint64_t keys, used_bytes, arena_bytes;
    _Atomic uint64_t connections;
    _Atomic uint64_t commands, calls; /* since the worker started */
    _Atomic uint64_t heap_bytes;      /* of its storage functions */
    _Atomic uint64_t failed_calls;    /* stopped at a limit */
};

struct table_status {
    _Atomic uint64_t ready;         /* 1 once tenants are served */
    _Atomic uint64_t call_since_ns; /* monotonic, when the running call began; 0 = none runs */
    _Atomic uint64_t call_limit_ns; /* how long it may take */
    _Atomic uint64_t call_tenant;   /* whose it is, by the front's number */
    _Atomic uint64_t kill;          /* the front wants the running call stopped */
    _Atomic uint64_t connections;
    _Atomic uint64_t sandboxed; /* 1 = behind the filter of system calls */
};

/* The whole file for ROWS tenants. */
static inline size_t
table_status_bytes(unsigned rows)
{
    return TABLE_STATUS_HEAD_BYTES + rows * sizeof(struct table_status_row);
}

/* A sealed memory file for ROWS tenants, mapped at *RET. */
DOR_MUST_CHECK int table_status_create(unsigned rows, int *ret_fd, struct table_status **ret);

/* Map the file FD for ROWS tenants. */
DOR_MUST_CHECK int table_status_map(int fd, unsigned rows, struct table_status **ret);
void table_status_unmap(struct table_status *status, unsigned rows); /* NULL is fine */

static inline struct table_status_row *
table_status_row(struct table_status *status, unsigned slot)
{
    return (struct table_status_row *)((char *)status + TABLE_STATUS_HEAD_BYTES) + slot;
}

static inline void
table_status_put(_Atomic uint64_t *field, uint64_t value)
{
    atomic_store_explicit(field, value, memory_order_relaxed);
}

static inline uint64_t
table_status_get(const _Atomic uint64_t *field)
{
    return atomic_load_explicit(field, memory_order_relaxed);
}

/* This worker's own page; NULL in a process that has none. */
extern struct table_status *table_status_own;

/* A storage function of a tenant begins, which may take LIMIT_NS. */
static inline void
table_status_call_begin(uint64_t tenant_id, uint64_t limit_ns)
{
    if (table_status_own == NULL)
        return;
    table_status_put(&table_status_own->call_limit_ns, limit_ns);
    table_status_put(&table_status_own->call_tenant, tenant_id);
    table_status_put(&table_status_own->kill, 0);
    table_status_put(&table_status_own->call_since_ns, base_clock_monotonic_ns());
}

static inline void
table_status_call_end(void)
{
    if (table_status_own != NULL)
        table_status_put(&table_status_own->call_since_ns, 0);
}

/* Whether the front wants the running call stopped. */
static inline bool
table_status_call_is_killed(void)
{
    return table_status_own != NULL && table_status_get(&table_status_own->kill) != 0;
}

#endif
