/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client.h - the daemon that a verb asks, if there is one. Verbs that would need the writer's lock
 * go through it, since it holds the lock.
 *
 * Ownership:  caller's memory; ended by cli_client_fini().
 * Threads:    one.
 * Errors:     DOR_E_NOT_FOUND when a socket was named and nobody listens there.
 */
#ifndef DOR_CLI_CLIENT_H
#define DOR_CLI_CLIENT_H

#include "cli/cli.h"

#include <dormouse/node.h>

struct cli_client {
    struct dor_client *daemon; /* NULL: there is none, the verb does it itself */
    struct dor_client_setting settings[CLI_LIST_MAX];
    char *names; /* of the settings */
};

#define AUTO_CLIENT __attribute__((cleanup(cli_client_fini)))

/*
 * The daemon at --socket, of the store that --store names, at $DORMOUSE_SOCKET, or of the store in
 * $DORMOUSE_STORE, in this order; none with --no-daemon.
 */
DOR_MUST_CHECK int cli_client_find(const struct cli *cli, struct cli_client *ret);

/* The same for the store in DIRECTORY, whatever the options say. */
DOR_MUST_CHECK int
cli_client_find_store(const struct cli *cli, const char *directory, struct cli_client *ret);

void cli_client_fini(struct cli_client *client);

#endif
