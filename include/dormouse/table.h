/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.h - tables of keys in memory for many tenants, over Redis's protocol. A front process
 * listens and authenticates; each trust domain's tables are served by worker processes of their
 * own. The tenants are in a file that the functions below change and a running front rereads.
 *
 * Ownership:  strings are borrowed for the call.
 * Threads:    dor_table_serve() catches signals, so one a process; the others anywhere.
 * Errors:     0 or a negative enum dor_errno.
 */
#ifndef DORMOUSE_TABLE_H
#define DORMOUSE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dormouse/err.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------ the front */

enum { DOR_TABLE_LISTEN_MAX = 16 };

/* The argument by which a program is the helper that workers are forked from. */
#define DOR_TABLE_ZYGOTE_WORD "--table-zygote"

struct dor_table_keeper; /* see below */

/* Zero and NULL: the defaults. */
struct dor_table {
    /*
     * Each a TCP port of this machine alone, ADDRESS:PORT, or the path of a Unix socket with a "/".
     */
    const char *listen[DOR_TABLE_LISTEN_MAX];
    size_t listen_count;
    const char *tenants_path;        /* NULL = no tenant but "default", who needs no password */
    const char *directory;           /* for logs; NULL = no table is kept */
    struct dor_table_keeper *keeper; /* of snapshots; NULL = there are none */
    bool repair; /* of a damaged log what is before the damage counts, the rest is kept aside */
    const char *program;      /* calls dor_table_zygote_main(); NULL = this one */
    unsigned socket_mode;     /* permissions of Unix sockets; 0 = 0600 */
    unsigned connections_max; /* at a time, of all tenants; 0 = 16384 */
    /* Called once it listens; may be NULL. */
    void (*ready)(void *context, const char *const *addresses, size_t count);
    void *ready_context;
};

/*
 * Serve until SIGTERM or SIGINT, and then until replies are out. SIGHUP rereads the tenants.
 * DOR_E_BUSY: another process listens there.
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_table_serve(const struct dor_table *table);

/*
 * What a program does first whose only argument is DOR_TABLE_ZYGOTE_WORD: it ends when the front
 * that started it does. Returns an exit code.
 */
DOR_PUBLIC int dor_table_zygote_main(void);

/* ------------------------------------------------------------------ keeping */

/*
 * Where tables are between two fronts: a snapshot store, `store` in DIRECTORY, which is made if it
 * is missing. To be closed after the front has ended; NULL is fine.
 */
DOR_PUBLIC DOR_MUST_CHECK int
dor_table_keeper_open(const char *directory, struct dor_table_keeper **ret);
DOR_PUBLIC void dor_table_keeper_close(struct dor_table_keeper *keeper);

/* ------------------------------------------------------------------ tenants */

struct dor_tenant_setting {
    const char *name, *value;
};

struct dor_tenant_info {
    const char *name;
    bool has_password;
    const char *domain;
    const char *isolation, *policy, *log;
    uint64_t limit_bytes, heap_bytes;
    uint64_t call_ms, calls;
};

/*
 * Add a tenant to the file PATH, which is made if it is missing. PASSWORD may be NULL for "default"
 * alone. DOR_E_EXISTS: there is one of that name; DOR_E_USAGE: the name or a setting makes no
 * sense.
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_tenant_add(
    const char *path, const char *name, const char *password,
    const struct dor_tenant_setting *settings, size_t setting_count);

/* DOR_E_NOT_FOUND: there is none of that name. */
DOR_PUBLIC DOR_MUST_CHECK int dor_tenant_remove(const char *path, const char *name);
DOR_PUBLIC DOR_MUST_CHECK int
dor_tenant_set_password(const char *path, const char *name, const char *password);

/* Calls VISIT for each by name, until it returns other than 0, which is returned. */
DOR_PUBLIC DOR_MUST_CHECK int dor_tenant_each(
    const char *path, int (*visit)(void *context, const struct dor_tenant_info *tenant),
    void *context);

/* Calls VISIT for each setting: name, default, unit, text. */
DOR_PUBLIC void dor_tenant_options_each(
    void (*visit)(
        void *context, const char *name, const char *preset, const char *unit,
        const char *text),
    void *context);

#ifdef __cplusplus
}
#endif
#endif
