/* SPDX-License-Identifier: Apache-2.0 */
/*
 * socket.h - a Unix socket to listen at.
 *
 * Ownership:  a listener owns its descriptor and its name in the file system.
 * Threads:    one listener, one thread.
 * Errors:     DOR_E_BUSY: somebody listens there; DOR_E_EXISTS: something else is there.
 */
#ifndef DOR_WAKE_SOCKET_H
#define DOR_WAKE_SOCKET_H

#include <sys/types.h>
#include <sys/un.h>

#include <dormouse/err.h>

struct wake_listener {
    int fd;
    struct sockaddr_un address;
    dev_t device; /* which file the name was given to */
    ino_t inode;
};

/*
 * Listen at PATH with the permissions MODE. A socket at which nobody listens any more is replaced,
 * anything else is left alone.
 */
DOR_MUST_CHECK int wake_listener_open(const char *path, mode_t mode, struct wake_listener *ret);
/* *FD, which listens at a name, was opened by another process. It is taken, and -1 then. */
DOR_MUST_CHECK int wake_listener_adopt(int *fd, struct wake_listener *ret);
/* Takes the name away if it is still this socket's. */
void wake_listener_close(struct wake_listener *listener);

#endif
