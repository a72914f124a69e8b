/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sidecars.c - looks at a path before it opens it, since to open a device or a pipe may already do
 * something, and again at what was opened, since the path may mean another file by then.
 */
#include "node/sidecars.h"

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/size.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

/* 0 for a regular file, otherwise words about what stands there instead. */
static int
check_regular(const char *path, mode_t mode)
{
    if (S_ISREG(mode))
        return 0;
    const char *kind = S_ISDIR(mode)                    ? "a directory"
                       : S_ISFIFO(mode)                 ? "a pipe"
                       : S_ISSOCK(mode)                 ? "a socket"
                       : S_ISCHR(mode) || S_ISBLK(mode) ? "a device"
                                                        : "a special file";
    return dor_fail(
        DOR_E_USAGE,
        "sidecar %s: is %s; only a regular file can be stored, copy it into one first", path,
        kind);
}

static int
open_regular(const char *path, int *ret_fd, uint64_t *ret_size_bytes)
{
    struct stat status;
    AUTO_CLOSE int fd = -1;
    if (path[0] == '\0')
        return dor_fail(DOR_E_USAGE, "sidecar: the path is empty");
    if (stat(path, &status) != 0)
        return dor_fail_errno(errno, "sidecar %s", path);
    int rc = check_regular(path, status.st_mode);
    if (rc == 0)
        rc = base_file_open(AT_FDCWD, path, O_RDONLY | O_NONBLOCK, 0, &fd);
    if (rc != 0)
        return rc;
    if (fstat(fd, &status) != 0)
        return dor_fail_errno(errno, "sidecar %s", path);
    rc = check_regular(path, status.st_mode);
    if (rc != 0)
        return rc;
    *ret_fd = base_take_fd(&fd);
    *ret_size_bytes = (uint64_t)status.st_size;
    return 0;
}

/* Two of one name could not be told apart, nor be written into one directory. */
static int
check_name(const struct node_sidecars *sidecars, const char *path, const char *name)
{
    for (size_t i = 0; i < sidecars->count; i++)
        if (strcmp(sidecars->rows[i].name, name) == 0)
            return dor_fail(
                DOR_E_USAGE, "sidecar %s: there is another one named %s; rename one of them",
                path, name);
    int rc = dor_name_check(name);
    return rc == 0 ? 0 : dor_fail_wrap("sidecar %s", path);
}

static int
read_data(int fd, const char *path, uint64_t size_bytes, void **ret)
{
    if (size_bytes > DOR_SIDECAR_BYTES_MAX)
        return dor_fail(
            DOR_E_USAGE, "sidecar %s: is too large: %" PRIu64 " bytes of at most %zu", path,
            size_bytes, DOR_SIDECAR_BYTES_MAX);
    AUTO_FREE void *data = base_alloc((size_t)size_bytes);
    if (data == NULL)
        return dor_fail_wrap("sidecar %s", path);
    int rc = base_file_pread(fd, data, (size_t)size_bytes, 0, path);
    if (rc != 0)
        return dor_fail_wrap("sidecar");
    *ret = TAKE(data);
    return 0;
}

static int
add_sidecar(struct node_sidecars *sidecars, const char *path)
{
    AUTO_CLOSE int fd = -1;
    uint64_t size_bytes = 0;
    void *data = NULL;
    const char *slash = strrchr(path, '/');
    const char *name = slash == NULL ? path : slash + 1;
    int rc = open_regular(path, &fd, &size_bytes);
    if (rc == 0)
        rc = check_name(sidecars, path, name);
    if (rc == 0)
        rc = read_data(fd, path, size_bytes, &data);
    if (rc != 0)
        return rc;
    sidecars->rows[sidecars->count++] =
        (struct dor_sidecar){.name = name, .data = data, .size_bytes = (size_t)size_bytes};
    return 0;
}

int
node_sidecars_read(const char *const *paths, size_t count, struct node_sidecars *ret)
{
    int rc = 0;
    ret->count = 0;
    if (count > DOR_SIDECARS_MAX)
        return dor_fail(DOR_E_USAGE, "at most %d sidecars", DOR_SIDECARS_MAX);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = add_sidecar(ret, paths[i]);
    return rc;
}

void
node_sidecars_fini(struct node_sidecars *sidecars)
{
    for (size_t i = 0; i < sidecars->count; i++) {
        void *data = NULL;
        /* The row is const for the library; here it is our own memory. */
        memcpy(&data, &sidecars->rows[i].data, sizeof data);
        base_free(data);
    }
    sidecars->count = 0;
}
