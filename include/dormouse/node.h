/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node.h - the daemon over one store, and its clients: HTTP and JSON over a Unix socket. A daemon
 * holds the writer's lock; whoever wants to write meanwhile asks it.
 *
 * Ownership:  a client is closed by who opened it.
 * Threads:    one client, one thread at a time. dor_daemon_serve() starts threads of its own, and
 *             must be called where no other is running.
 * Errors:     0 or a negative enum dor_errno; those of the daemon come back as they were there.
 */
#ifndef DORMOUSE_NODE_H
#define DORMOUSE_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dormouse/err.h>
#include <dormouse/offload.h>
#include <dormouse/store.h>
#include <dormouse/transfer.h>
#include <dormouse/wake.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------ the daemon */

/* All NULL: the defaults. */
struct dor_daemon {
    const char *socket_path; /* NULL = daemon.sock in the store's folder */
    const char *config_path; /* lines "name = value", see dormouse-serve(8) */
    const char *socket_mode; /* octal, before the configuration's */
    /* Where tenants connect to tables, as in struct dor_table; none: there are no tables. */
    const char *const *resp;
    size_t resp_count;
    const char *tenants_path; /* NULL = tenants.json in the store's folder */
    /* Called once the socket listens; may be NULL. */
    void (*ready)(void *context, const char *socket_path);
    void *ready_context;
};

/*
 * Serve the store in DIRECTORY until SIGTERM or SIGINT, and then until running work has ended; a
 * second signal ends it sooner. A socket that systemd passed is used instead of one by path.
 * DOR_E_BUSY: another process writes to the store, or listens there.
 */
DOR_PUBLIC DOR_MUST_CHECK int
dor_daemon_serve(const char *directory, const struct dor_daemon *daemon);

/* Calls VISIT for each line that the configuration may have: name, default, unit, text. */
DOR_PUBLIC void dor_daemon_options_each(
    void (*visit)(
        void *context, const char *name, const char *preset, const char *unit,
        const char *text),
    void *context);

/* ------------------------------------------------------------------ clients */

#define DOR_WARNING_BYTES 512

struct dor_client;

/* The daemon at SOCKET_PATH. DOR_E_NOT_FOUND: nobody listens there. */
DOR_PUBLIC DOR_MUST_CHECK int dor_client_open(const char *socket_path, struct dor_client **ret);
/* The daemon that serves the store in DIRECTORY. DOR_E_NOT_FOUND: none does. */
DOR_PUBLIC DOR_MUST_CHECK int dor_client_find(const char *directory, struct dor_client **ret);
DOR_PUBLIC void dor_client_close(struct dor_client *client);

/* Options of the store for the next calls, NULL for none; borrowed. */
struct dor_client_setting {
    const char *name, *value;
};
DOR_PUBLIC void dor_client_set_options(
    struct dor_client *client, const struct dor_client_setting *settings, size_t count);

/*
 * As the functions of store.h and transfer.h with the same words. Relative paths are made absolute.
 * PROGRESS is called a few times a second; a return other than 0 cancels the work.
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_client_put(
    struct dor_client *client, const char *name, const struct dor_intake_options *options,
    dor_progress_fn *progress, void *progress_context, struct dor_put_result *ret,
    char ret_warning[DOR_WARNING_BYTES]);
/*
 * The same for the machine that a monitor hands over at SOCKET_PATH, where the daemon listens; see
 * dor_offload_accept(). TIMEOUT_NS: how long a message may take, 0 = the default. OPTIONS name no
 * images.
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_client_put_offload(
    struct dor_client *client, const char *name, const char *socket_path, uint64_t timeout_ns,
    const struct dor_intake_options *options, dor_progress_fn *progress, void *progress_context,
    struct dor_put_result *ret, char ret_warning[DOR_WARNING_BYTES]);
DOR_PUBLIC DOR_MUST_CHECK int dor_client_remove(struct dor_client *client, const char *name);
DOR_PUBLIC DOR_MUST_CHECK int
dor_client_gc(struct dor_client *client, const struct dor_gc *gc, struct dor_gc_result *ret);
DOR_PUBLIC DOR_MUST_CHECK int dor_client_check(
    struct dor_client *client, const struct dor_check *check, struct dor_check_result *ret);
/* Copy NAME of the store in DIRECTORY into the daemon's, as NEW_NAME. */
DOR_PUBLIC DOR_MUST_CHECK int dor_client_copy(
    struct dor_client *client, const char *directory, const char *name, const char *new_name,
    struct dor_put_result *ret);
DOR_PUBLIC DOR_MUST_CHECK int dor_client_root_add(
    struct dor_client *client, const struct dor_root_add *add, struct dor_root_info *ret);
DOR_PUBLIC DOR_MUST_CHECK int
dor_client_root_remove(struct dor_client *client, const char *name, bool absorb);

/*
 * As dor_wake_uffd_serve(), with the daemon's page server. When this process dies, the wake goes on
 * in the daemon until somebody deletes it.
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_client_wake_uffd(
    struct dor_client *client, const char *name, const struct dor_wake_uffd *how,
    struct dor_wake_uffd_stat *ret);

/* As dor_offload_wake(), with the daemon's page server. It ends with this process. */
DOR_PUBLIC DOR_MUST_CHECK int dor_client_wake_offload(
    struct dor_client *client, const char *name, const char *socket_path,
    const struct dor_offload_wake *how, struct dor_offload_wake_stat *ret);

#ifdef __cplusplus
}
#endif
#endif
