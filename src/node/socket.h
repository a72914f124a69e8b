/* SPDX-License-Identifier: Apache-2.0 */
/*
 * socket.h - Unix sockets by path, for the daemon that listens and the client that connects. Paths
 * that are too long for an address go through a descriptor of their directory.
 *
 * Ownership:  descriptors are the caller's.
 * Threads:    any, but node_socket_listen() changes the process's umask meanwhile.
 * Errors:     DOR_E_NOT_FOUND: nobody listens there; DOR_E_DENIED; DOR_E_BUSY: somebody does.
 */
#ifndef DOR_NODE_SOCKET_H
#define DOR_NODE_SOCKET_H

#include <dormouse/err.h>
#include <sys/types.h>

/* In the store's folder: the daemon's socket, or a symbolic link to it. */
#define NODE_SOCKET_NAME "daemon.sock"

DOR_MUST_CHECK int node_socket_connect(const char *path, int *ret);

/* Listen at PATH with permissions MODE. A socket there that nobody listens to is replaced. */
DOR_MUST_CHECK int node_socket_listen(const char *path, mode_t mode, int *ret);

#endif
