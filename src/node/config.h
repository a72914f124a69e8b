/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.h - the daemon's settings: options.def, and a file of lines "name = value" in which "#"
 * begins a comment.
 *
 * Ownership:  strings are borrowed from the file's text, which node_config_fini() frees.
 * Threads:    read-only once it is loaded.
 * Errors:     DOR_E_USAGE with file and line for what makes no sense.
 */
#ifndef DOR_NODE_CONFIG_H
#define DOR_NODE_CONFIG_H

#include "base/mem.h"
#include "base/options.h"

#include <dormouse/err.h>
#include <sys/types.h>

/* In the store's folder: the daemon's socket, or a symbolic link to it. */
#define NODE_SOCKET_NAME "daemon.sock"

enum { NODE_CONFIG_BYTES_MAX = 1 << 16, NODE_IDS_MAX = 64 };

struct node_options {
#define OPTION BASE_OPTION_FIELD
#include "node/options.def"
#undef OPTION
};

struct node_config {
    struct node_options options;
    mode_t socket_mode;
    uint32_t uids[NODE_IDS_MAX], gids[NODE_IDS_MAX];
    size_t uid_count, gid_count;
    struct base_buf text; /* of the file */
};

extern const struct base_option node_option_rows[];
extern const size_t node_option_count;

/* Read the file PATH, or take the defaults when it is NULL. */
DOR_MUST_CHECK int node_config_load(const char *path, struct node_config *ret);

/* The same for TEXT, which ends in a zero byte and is changed; NAME is for error texts. */
DOR_MUST_CHECK int node_config_parse(char *text, const char *name, struct node_config *config);

/* The permissions that TEXT, octal, stands for. */
DOR_MUST_CHECK int node_config_read_mode(const char *text, mode_t *ret);

/* Take MODE, octal, instead of socket_mode. */
DOR_MUST_CHECK int node_config_set_mode(struct node_config *config, const char *mode);

/* Whether a process with these ids may connect. */
bool node_config_allows(const struct node_config *config, uid_t uid, gid_t gid);

void node_config_fini(struct node_config *config);

#endif
