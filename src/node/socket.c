/* SPDX-License-Identifier: Apache-2.0 */
/*
 * socket.c - addresses, and what may be replaced.
 */
#include "node/socket.h"

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 1024 };

/* The address of PATH; *RET_DIRFD stays open as long as it is used. */
static int
make_address(const char *path, struct sockaddr_un *ret, int *ret_dirfd)
{
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (path[0] == '\0')
        return dor_fail(DOR_E_USAGE, "the path of the socket is empty");
    if (strlen(path) < sizeof ret->sun_path) {
        memcpy(ret->sun_path, path, strlen(path) + 1);
        return 0;
    }
    const char *slash = strrchr(path, '/');
    const char *name = slash == NULL ? path : slash + 1;
    char directory[PATH_MAX];
    size_t bytes = slash == NULL ? 0 : (size_t)(slash - path) + 1;
    if (bytes >= sizeof directory)
        return dor_fail(DOR_E_USAGE, "the path of the socket is too long");
    memcpy(directory, path, bytes);
    directory[bytes] = '\0';
    int rc = base_file_open(
        AT_FDCWD, bytes == 0 ? "." : directory, O_PATH | O_DIRECTORY, 0, ret_dirfd);
    if (rc != 0)
        return rc;
    int written =
        snprintf(ret->sun_path, sizeof ret->sun_path, "/proc/self/fd/%d/%s", *ret_dirfd, name);
    if (written < 0 || (size_t)written >= sizeof ret->sun_path)
        return dor_fail(DOR_E_USAGE, "socket %s: its name is too long", path);
    return 0;
}

static int
open_socket(int *ret)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return dor_fail_errno(errno, "socket");
    *ret = fd;
    return 0;
}

int
node_socket_connect(const char *path, int *ret)
{
    struct sockaddr_un address;
    AUTO_CLOSE int dirfd = -1;
    AUTO_CLOSE int fd = -1;
    int rc = make_address(path, &address, &dirfd);
    if (rc == 0)
        rc = open_socket(&fd);
    if (rc != 0)
        return rc;
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        if (errno == ECONNREFUSED || errno == ENOENT || errno == ENOTSOCK)
            return dor_fail(DOR_E_NOT_FOUND, "no daemon listens at %s", path);
        return dor_fail_errno(errno, "daemon at %s", path);
    }
    *ret = base_take_fd(&fd);
    return 0;
}

/* Make room at PATH: only a socket that nobody listens to goes. */
static int
clear_place(const char *path)
{
    struct stat status;
    AUTO_CLOSE int fd = -1;
    if (lstat(path, &status) != 0)
        return errno == ENOENT ? 0 : dor_fail_errno(errno, "socket %s", path);
    if (!S_ISSOCK(status.st_mode) && !S_ISLNK(status.st_mode))
        return dor_fail(
            DOR_E_EXISTS, "socket %s: something else is there; give another path", path);
    int rc = node_socket_connect(path, &fd);
    if (rc == 0)
        return dor_fail(DOR_E_BUSY, "socket %s: another program listens there", path);
    if (rc != DOR_E_NOT_FOUND)
        return rc;
    return base_file_unlink(AT_FDCWD, path);
}

int
node_socket_listen(const char *path, mode_t mode, int *ret)
{
    struct sockaddr_un address;
    AUTO_CLOSE int dirfd = -1;
    AUTO_CLOSE int fd = -1;
    int rc = make_address(path, &address, &dirfd);
    if (rc == 0)
        rc = clear_place(path);
    if (rc == 0)
        rc = open_socket(&fd);
    if (rc != 0)
        return rc;
    /* The mode is there from the first moment: nobody slips in between bind and chmod. */
    mode_t before = umask((mode_t)(0777 & ~mode));
    int bound = bind(fd, (const struct sockaddr *)&address, sizeof address);
    int errnum = errno;
    umask(before);
    if (bound != 0)
        return dor_fail_errno(errnum, "socket %s", path);
    if (listen(fd, BACKLOG) != 0)
        return dor_fail_errno(errno, "socket %s", path);
    *ret = base_take_fd(&fd);
    return 0;
}
