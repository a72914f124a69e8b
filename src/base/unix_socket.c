/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unix_socket.c - addresses, and what may be replaced.
 *
 *     lock the directory -> bind -> the name is taken? nobody listens: unlink, bind again
 *                        -> permissions -> listen -> unlock
 *
 * 1. Between bind() and listen() a socket looks abandoned, so who makes or replaces one holds the
 *    lock of its directory all along. Of two that start at once neither takes away what the other
 *    has just made.
 * 2. A new socket's file gets the permissions of the descriptor, less the umask, so nobody ever
 *    sees more of them than were asked for. What the umask took is given back before listen(),
 *    until when nobody can connect.
 * 3. The lock is not needed to take one's own name away: as long as the descriptor listens, nobody
 *    else replaces it.
 */
#include "base/unix_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"

enum {
    BACKLOG = 1024,
    LOCK_TRIES = 200, /* of 10 ms; the lock is held for as long as a few calls take */
    LOCK_STEP_NS = 10000000,
};

/* ------------------------------------------------------------------ addresses */

/* The last part of PATH to NAME, and its directory, opened with FLAGS. */
static int
open_directory(const char *path, int flags, char name[], int *ret)
{
    const char *slash = strrchr(path, '/');
    const char *last = slash == NULL ? path : slash + 1;
    size_t bytes = slash == NULL ? 0 : (size_t)(slash - path) + 1;
    size_t name_bytes = strlen(last);
    char directory[PATH_MAX];
    /* "/proc/self/fd/" and a number must fit before it when the path is long. */
    size_t most = sizeof((struct sockaddr_un *)0)->sun_path - 1;
    if (strlen(path) > most)
        most -= sizeof "/proc/self/fd/2147483647/" - 1;
    if (name_bytes == 0 || name_bytes > most)
        return dor_fail(DOR_E_USAGE, "socket %s: its name may have 1 to %zu bytes", path, most);
    if (bytes >= sizeof directory)
        return dor_fail(DOR_E_USAGE, "socket %.60s...: the path is too long", path);
    memcpy(directory, path, bytes);
    directory[bytes] = '\0';
    memcpy(name, last, name_bytes + 1);
    int rc =
        base_file_open(AT_FDCWD, bytes == 0 ? "." : directory, flags | O_DIRECTORY, 0, ret);
    return rc == 0 ? 0 : dor_fail_wrap("socket %s", path);
}

/* The address of PATH, which is NAME in DIRECTORY, for as long as that is open. */
static struct sockaddr_un
address_of(const char *path, int directory, const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) < sizeof address.sun_path) {
        memcpy(address.sun_path, path, strlen(path) + 1);
        return address;
    }
    int written = snprintf(
        address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", directory, name);
    dor_assert(written > 0 && (size_t)written < sizeof address.sun_path);
    return address;
}

static int
open_socket(const char *path, int flags, int *ret)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (fd < 0)
        return dor_fail_errno(errno, "socket %s", path);
    *ret = fd;
    return 0;
}

static int
try_connect(int fd, const struct sockaddr_un *address)
{
    int rc;
    do
        rc = connect(fd, (const struct sockaddr *)address, sizeof *address);
    while (rc != 0 && errno == EINTR);
    return rc == 0 ? 0 : errno;
}

int
base_unix_connect(const char *path, int flags, int *ret)
{
    char name[sizeof((struct sockaddr_un *)0)->sun_path];
    AUTO_CLOSE int directory = -1;
    AUTO_CLOSE int fd = -1;
    int rc = open_directory(path, O_PATH, name, &directory);
    if (rc == 0)
        rc = open_socket(path, flags, &fd);
    if (rc != 0)
        return rc;
    const struct sockaddr_un address = address_of(path, directory, name);
    int errnum = try_connect(fd, &address);
    if (errnum == ECONNREFUSED || errnum == ENOENT)
        return dor_fail(DOR_E_NOT_FOUND, "socket %s: nobody listens there", path);
    if (errnum == EAGAIN)
        return dor_fail(DOR_E_BUSY, "socket %s: too many wait to be accepted", path);
    if (errnum != 0)
        return dor_fail_errno(errnum, "socket %s: cannot be connected to", path);
    *ret = base_take_fd(&fd);
    return 0;
}

/* ------------------------------------------------------------------ making room */

static int
lock_directory(int directory, const char *path)
{
    const struct timespec step = {.tv_nsec = LOCK_STEP_NS};
    for (int tries = 0; flock(directory, LOCK_EX | LOCK_NB) != 0; tries++) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return dor_fail_errno(errno, "socket %s: its folder cannot be locked", path);
        if (tries == LOCK_TRIES)
            return dor_fail(
                DOR_E_BUSY, "socket %s: another program keeps its folder locked", path);
        nanosleep(&step, NULL);
    }
    return 0;
}

/* Whether what is called NAME may go if nobody listens there. */
static int
check_replaceable(int directory, const char *name, const char *path)
{
    struct stat info;
    if (fstatat(directory, name, &info, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : dor_fail_errno(errno, "socket %s", path);
    if (S_ISLNK(info.st_mode) && fstatat(directory, name, &info, 0) != 0)
        return errno == ENOENT ? 0 : dor_fail_errno(errno, "socket %s", path);
    if (!S_ISSOCK(info.st_mode))
        return dor_fail(
            DOR_E_EXISTS, "socket %s: is there and is no socket; give another path", path);
    return 0;
}

/* Something has the name: take it away if it is a socket that nobody listens at. */
static int
clear_name(const struct base_listener *listener, const char *path)
{
    const struct sockaddr_un address = address_of(path, listener->directory, listener->name);
    AUTO_CLOSE int fd = -1;
    int rc = check_replaceable(listener->directory, listener->name, path);
    if (rc == 0)
        rc = open_socket(path, SOCK_NONBLOCK, &fd);
    if (rc != 0)
        return rc;
    int errnum = try_connect(fd, &address);
    /* A full queue is somebody's, too. */
    if (errnum == 0 || errnum == EAGAIN)
        return dor_fail(
            DOR_E_BUSY, "socket %s: somebody listens there already; give another path", path);
    if (errnum != ECONNREFUSED && errnum != ENOENT)
        return dor_fail_errno(
            errnum, "socket %s: cannot tell whether somebody listens there", path);
    if (unlinkat(listener->directory, listener->name, 0) != 0 && errno != ENOENT)
        return dor_fail_errno(errno, "socket %s: abandoned, but cannot be removed", path);
    return 0;
}

/* ------------------------------------------------------------------ listening */

static int
try_bind(const struct base_listener *listener, const char *path)
{
    const struct sockaddr_un address = address_of(path, listener->directory, listener->name);
    return bind(listener->fd, (const struct sockaddr *)&address, sizeof address) == 0 ? 0
                                                                                      : errno;
}

static int
bind_name(const struct base_listener *listener, mode_t mode, const char *path)
{
    if (fchmod(listener->fd, mode) != 0)
        return dor_fail_errno(errno, "socket %s", path);
    int errnum = try_bind(listener, path);
    if (errnum == EADDRINUSE) {
        int rc = clear_name(listener, path);
        if (rc != 0)
            return rc;
        errnum = try_bind(listener, path);
    }
    return errnum == 0 ? 0 : dor_fail_errno(errnum, "socket %s: cannot be made", path);
}

/* The name is ours from here on. */
static int
start_listening(struct base_listener *listener, mode_t mode, const char *path)
{
    struct stat info;
    if (fstatat(listener->directory, listener->name, &info, AT_SYMLINK_NOFOLLOW) != 0)
        return dor_fail_errno(errno, "socket %s", path);
    listener->device = info.st_dev;
    listener->inode = info.st_ino;
    if ((info.st_mode & ALLPERMS) != mode &&
        fchmodat(listener->directory, listener->name, mode, AT_SYMLINK_NOFOLLOW) != 0)
        return dor_fail_errno(errno, "socket %s: its permissions", path);
    if (listen(listener->fd, BACKLOG) != 0)
        return dor_fail_errno(errno, "socket %s: cannot be listened at", path);
    return 0;
}

static void
close_both(struct base_listener *listener)
{
    base_auto_close(&listener->fd);
    base_auto_close(&listener->directory);
    *listener = BASE_LISTENER_NONE;
}

int
base_listener_open(const char *path, mode_t mode, struct base_listener *ret)
{
    struct base_listener listener = BASE_LISTENER_NONE;
    int rc = open_directory(path, O_RDONLY, listener.name, &listener.directory);
    if (rc == 0)
        rc = open_socket(path, SOCK_NONBLOCK, &listener.fd);
    if (rc == 0)
        rc = lock_directory(listener.directory, path);
    if (rc == 0)
        rc = bind_name(&listener, mode, path);
    if (rc != 0) {
        close_both(&listener);
        return rc;
    }
    rc = start_listening(&listener, mode, path);
    if (rc != 0) {
        base_listener_close(&listener);
        return rc;
    }
    flock(listener.directory, LOCK_UN);
    *ret = listener;
    return 0;
}

int
base_listener_adopt(int *fd, const char *path, struct base_listener *ret)
{
    struct base_listener listener = BASE_LISTENER_NONE;
    struct stat info;
    int listens = 0;
    socklen_t bytes = sizeof listens;
    if (getsockopt(*fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &bytes) != 0 || listens == 0)
        return dor_fail(DOR_E_CORRUPT, "socket %s: what was handed over does not listen", path);
    /* Whether the name is still there does not matter to those who are connected. */
    if (open_directory(path, O_RDONLY, listener.name, &listener.directory) == 0) {
        if (fstatat(listener.directory, listener.name, &info, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISSOCK(info.st_mode)) {
            listener.device = info.st_dev;
            listener.inode = info.st_ino;
        } else {
            base_auto_close(&listener.directory);
            listener.directory = -1;
        }
    }
    listener.fd = base_take_fd(fd);
    *ret = listener;
    return 0;
}

void
base_listener_close(struct base_listener *listener)
{
    struct stat info;
    if (listener->directory >= 0 &&
        fstatat(listener->directory, listener->name, &info, AT_SYMLINK_NOFOLLOW) == 0 &&
        info.st_dev == listener->device && info.st_ino == listener->inode)
        unlinkat(listener->directory, listener->name, 0);
    close_both(listener);
}
