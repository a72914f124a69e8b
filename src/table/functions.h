/* SPDX-License-Identifier: Apache-2.0 */
/*
 * functions.h - a tenant's storage functions: libraries kept in its table, run by the engine, each
 * call one transaction. The engine gets a context for the tenant at the first load or call, and
 * another one after a library went, too much was kept in variables, or TABLE_CONTEXTS_KEPT other
 * tenants of the worker were served since the last use; what functions keep in their own variables
 * is then gone.
 *
 * Ownership:  a tenant owns its functions, the worker's caller the engine.
 * Threads:    those of the worker.
 * Errors:     handlers reply as Redis does.
 */
#ifndef DOR_TABLE_FUNCTIONS_H
#define DOR_TABLE_FUNCTIONS_H

#include "table/command.h"
#include "table/engine.h"
#include "table/group.h"
#include "table/library.h"

struct table_function {
    char *name, *description;
    uint32_t flags, number;      /* the engine's */
    struct table_function *next; /* of the library */
    struct table_function *next_in_chain;
};

struct table_function_library {
    char *name;
    char engine[8];
    uint32_t flags;
    struct table_function *functions; /* the last registered first */
    uint32_t function_count;
    struct table_function_library *next; /* by name */
};

enum {
    TABLE_FUNCTION_CHAINS = 64,
    TABLE_CONTEXTS_KEPT = 128, /* in a worker; a context takes some 250 KiB and 1 ms */
};

/* What the engine was told of a set of libraries. */
struct table_registry {
    void *context;
    struct table_function_library *libraries;
    struct table_function *chains[TABLE_FUNCTION_CHAINS];
    uint32_t library_count, function_count;
};

struct table_functions {
    struct table_tenant *tenant;
    struct table_worker *worker;
    struct table_engine *engine;
    struct table_registry *registry; /* NULL = to be made from the table */
    struct table_registry *filling;  /* whose library is being loaded */
    struct table_function_library *loading;
    bool changing;            /* the running call changed something */
    struct table_group group; /* of its changes */
    bool is_long;
    bool drop, drop_all; /* this context, or all of the worker, when the call is over */
    bool listed;         /* between its neighbours of the worker's list */
    struct table_functions *newer, *older;
    uint64_t calls, stopped, failed;
};

/* The functions of CALL's tenant; their registry is there, its context may not be. */
DOR_MUST_CHECK int table_functions_of(struct table_call *call, struct table_functions **ret);

/* What a call of them may take. */
struct table_engine_limits table_functions_limits(const struct table_functions *functions);

/* Where others are served by the same thread it has to hurry instead: a call takes long. */
void table_functions_give_way(struct table_functions *functions);

/* A call took more than it may: the next ones give way before they have begun. */
void table_functions_overran(struct table_functions *functions);

/* Only what is there: NULL when nothing was loaded or called yet. */
struct table_functions *table_functions_have(struct table_tenant *tenant);

/* Have the registry made anew at the next use. */
void table_functions_forget(struct table_tenant *tenant);

/*
 * Check SOURCE, load it and put it into the table; DOR_E_EXISTS when it is there and REPLACE is not
 * given. *RET_NAME is in SOURCE.
 */
DOR_MUST_CHECK int table_functions_add(
    struct table_functions *functions, const uint8_t *source, size_t length, bool replace,
    struct table_engine_bytes *ret_name);

struct table_function *
table_function_find(const struct table_registry *registry, const uint8_t *name, size_t length);
struct table_function_library *table_function_library_find(
    const struct table_registry *registry, const uint8_t *name, size_t length);

/* Reply what a call came to. */
void table_function_reply(struct table_reply *reply, const struct table_engine_result *result);

/* ---- function_contexts.c ---- */

/* The context of FUNCTIONS is used now: it is the newest, and the oldest go if there are many. */
void table_functions_touch(struct table_functions *functions);

/* It is no longer one of those that have one. */
void table_functions_unlist(struct table_functions *functions);

/* Let go of contexts that keep too much, now that none of them runs. */
void table_functions_drop_contexts(struct table_functions *functions);

/* ---- functions.c ---- */

/* Run FN(CONTEXT), which may make calls, inside the engine if it runs. */
void
table_functions_enter(struct table_engine *engine, void (*fn)(void *context), void *context);

#endif
