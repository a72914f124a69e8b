/* SPDX-License-Identifier: Apache-2.0 */
/*
 * socket.c - listening at a name. Who replaces an abandoned socket holds the lock of its directory,
 * so that of two that start at once neither takes away what the other has just made.
 */
#include "wake/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"

#define BACKLOG 1024

static int
make_address(const char *path, struct sockaddr_un *ret)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (path[0] == '\0' || strlen(path) >= sizeof address.sun_path)
        return dor_fail(
            DOR_E_USAGE, "socket %s: a path of 1 to %zu bytes is possible", path,
            sizeof address.sun_path - 1);
    memcpy(address.sun_path, path, strlen(path) + 1);
    *ret = address;
    return 0;
}

static int
try_bind(int fd, const struct sockaddr_un *address)
{
    return bind(fd, (const struct sockaddr *)address, sizeof *address) == 0 ? 0 : errno;
}

/* Something has the name: take it away if it is a socket that nobody listens at. */
static int
clear_name(const struct sockaddr_un *address)
{
    const char *path = address->sun_path;
    struct stat info;
    if (lstat(path, &info) != 0)
        return errno == ENOENT ? 0 : dor_fail_errno(errno, "socket %s", path);
    if (!S_ISSOCK(info.st_mode))
        return dor_fail(DOR_E_EXISTS, "%s is there and no socket", path);
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return dor_fail_errno(errno, "socket %s", path);
    /* A full queue (EAGAIN) is somebody's, too. */
    if (connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 ||
        errno != ECONNREFUSED)
        return dor_fail(DOR_E_BUSY, "socket %s: somebody listens there already", path);
    if (unlink(path) != 0 && errno != ENOENT)
        return dor_fail_errno(errno, "socket %s: cannot replace it", path);
    return 0;
}

static int
lock_directory(const struct sockaddr_un *address, int *ret)
{
    char path[sizeof address->sun_path];
    memcpy(path, address->sun_path, sizeof path);
    AUTO_CLOSE int fd = open(dirname(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || flock(fd, LOCK_EX) != 0)
        return dor_fail_errno(errno, "socket %s: its directory", address->sun_path);
    *ret = base_take_fd(&fd);
    return 0;
}

static int
bind_name(int fd, const struct sockaddr_un *address)
{
    AUTO_CLOSE int directory = -1;
    int err = lock_directory(address, &directory);
    if (err != 0)
        return err;
    int errnum = try_bind(fd, address);
    if (errnum == EADDRINUSE) {
        err = clear_name(address);
        errnum = err == 0 ? try_bind(fd, address) : 0;
    }
    if (errnum != 0)
        return dor_fail_errno(errnum, "socket %s", address->sun_path);
    return err;
}

int
wake_listener_open(const char *path, mode_t mode, struct wake_listener *ret)
{
    struct wake_listener listener;
    struct stat info;
    AUTO_CLOSE int fd = -1;
    int err = make_address(path, &listener.address);
    if (err != 0)
        return err;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return dor_fail_errno(errno, "socket %s", path);
    err = bind_name(fd, &listener.address);
    if (err != 0)
        return err;
    /* Nobody can connect before listen(), whatever the permissions are until then. */
    if (chmod(path, mode) != 0 || lstat(path, &info) != 0 || listen(fd, BACKLOG) != 0) {
        err = dor_fail_errno(errno, "socket %s", path);
        unlink(path);
        return err;
    }
    listener.device = info.st_dev;
    listener.inode = info.st_ino;
    listener.fd = base_take_fd(&fd);
    *ret = listener;
    return 0;
}

int
wake_listener_adopt(int *fd, struct wake_listener *ret)
{
    struct wake_listener listener = {.fd = -1};
    socklen_t bytes = sizeof listener.address;
    struct stat info = {0};
    if (getsockname(*fd, (struct sockaddr *)&listener.address, &bytes) != 0)
        return dor_fail_errno(errno, "the socket of a wake");
    listener.address.sun_path[sizeof listener.address.sun_path - 1] = '\0';
    /* Whether the name is still there does not matter to those who are connected. */
    if (lstat(listener.address.sun_path, &info) == 0 && S_ISSOCK(info.st_mode)) {
        listener.device = info.st_dev;
        listener.inode = info.st_ino;
    }
    listener.fd = *fd;
    *fd = -1;
    *ret = listener;
    return 0;
}

void
wake_listener_close(struct wake_listener *listener)
{
    struct stat info;
    if (listener->fd < 0)
        return;
    if (lstat(listener->address.sun_path, &info) == 0 && info.st_dev == listener->device &&
        info.st_ino == listener->inode)
        unlink(listener->address.sun_path);
    close(listener->fd);
    listener->fd = -1;
}
