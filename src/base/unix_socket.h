/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unix_socket.h - Unix sockets by path: listening at one, and connecting. Paths that are too long
 * for an address go through a descriptor of their directory; only the last name is bounded.
 *
 * Ownership:  a listener owns its descriptors and its name in the file system.
 * Threads:    any; one listener, one thread. Nothing of the process is changed meanwhile.
 * Errors:     DOR_E_USAGE for a name that no socket can have, and what each function says.
 */
#ifndef DOR_BASE_UNIX_SOCKET_H
#define DOR_BASE_UNIX_SOCKET_H

#include <sys/types.h>
#include <sys/un.h>

#include <dormouse/err.h>

struct base_listener {
    int fd;        /* -1: none */
    int directory; /* where its name is; -1: the name is not ours to take away */
    char name[sizeof(((struct sockaddr_un *)0)->sun_path)];
    dev_t device; /* which file the name was given to */
    ino_t inode;
};

#define BASE_LISTENER_NONE ((struct base_listener){.fd = -1, .directory = -1})

/*
 * Listen at PATH with the permissions MODE; the descriptor does not block. A socket at which nobody
 * listens any more, or a link to such a one or to nothing, is replaced. DOR_E_BUSY: somebody
 * listens there; DOR_E_EXISTS: something else is there, and stays.
 */
DOR_MUST_CHECK int base_listener_open(const char *path, mode_t mode, struct base_listener *ret);

/*
 * *FD, which another process opened at PATH, is taken, and -1 then. DOR_E_CORRUPT: it does not
 * listen.
 */
DOR_MUST_CHECK int base_listener_adopt(int *fd, const char *path, struct base_listener *ret);

/* Takes the name away if it is still this socket's; leaves BASE_LISTENER_NONE. */
void base_listener_close(struct base_listener *listener);

/*
 * Connect to PATH. DOR_E_NOT_FOUND: nobody listens there. With SOCK_NONBLOCK in FLAGS, which *RET
 * keeps, DOR_E_BUSY: too many wait to be accepted.
 */
DOR_MUST_CHECK int base_unix_connect(const char *path, int flags, int *ret);

#endif
