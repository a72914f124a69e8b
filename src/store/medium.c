/* SPDX-License-Identifier: Apache-2.0 */
/*
 * medium.c - files of a store in a directory or in memory.
 * The memory kind is a table of names and memfds; handing out a duplicate descriptor keeps a file
 * readable after its name is gone, exactly as in a directory.
 */
#include "store/medium.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"

#define LOCK_NAME "lock"

struct memory_file {
    char name[64];
    int fd;
};

struct store_medium {
    int dirfd; /* -1 for memory */
    int lock_fd;
    char *path;
    struct memory_file *files;
    size_t file_count;
};

static int
medium_new(const char *path, struct store_medium **ret)
{
    struct store_medium *medium = base_zalloc(sizeof *medium);
    if (medium == NULL)
        return DOR_E_NO_MEMORY;
    medium->dirfd = -1;
    medium->lock_fd = -1;
    size_t path_bytes = strlen(path) + 1;
    medium->path = base_alloc(path_bytes);
    if (medium->path == NULL) {
        store_medium_close(medium);
        return DOR_E_NO_MEMORY;
    }
    memcpy(medium->path, path, path_bytes);
    *ret = medium;
    return 0;
}

int
store_medium_open_directory(const char *path, bool create, struct store_medium **ret)
{
    struct store_medium *medium;
    int err = medium_new(path, &medium);
    if (err != 0)
        return err;
    if (create) {
        err = base_dir_make(AT_FDCWD, path, 0755);
        if (err == DOR_E_EXISTS)
            err = 0;
    }
    if (err == 0)
        err = base_file_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0, &medium->dirfd);
    if (err != 0) {
        store_medium_close(medium);
        return err;
    }
    *ret = medium;
    return 0;
}

int
store_medium_open_memory(struct store_medium **ret)
{
    return medium_new("memory", ret);
}

void
store_medium_close(struct store_medium *medium)
{
    if (medium == NULL)
        return;
    for (size_t i = 0; i < medium->file_count; i++)
        close(medium->files[i].fd);
    if (medium->lock_fd >= 0)
        close(medium->lock_fd);
    if (medium->dirfd >= 0)
        close(medium->dirfd);
    base_free(medium->files);
    base_free(medium->path);
    base_free(medium);
}

const char *
store_medium_name(const struct store_medium *medium)
{
    return medium->path;
}

int
store_medium_lock(struct store_medium *medium)
{
    if (medium->dirfd < 0)
        return 0;
    int err =
        base_file_open(medium->dirfd, LOCK_NAME, O_RDWR | O_CREAT, 0644, &medium->lock_fd);
    if (err == 0)
        err = base_file_lock_exclusive(medium->lock_fd, LOCK_NAME);
    if (err == DOR_E_BUSY)
        return dor_fail(
            DOR_E_BUSY, "store %s: another process is writing to it; try again later",
            medium->path);
    return err;
}

/* ------------------------------------------------------------------ memory files */

static struct memory_file *
memory_find(const struct store_medium *medium, const char *name)
{
    for (size_t i = 0; i < medium->file_count; i++)
        if (strcmp(medium->files[i].name, name) == 0)
            return &medium->files[i];
    return NULL;
}

static int
memory_duplicate(const struct memory_file *file, int *ret)
{
    int fd = fcntl(file->fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return dor_fail_errno(errno, "%s", file->name);
    *ret = fd;
    return 0;
}

static int
memory_create(struct store_medium *medium, const char *name, int *ret)
{
    dor_assert(strlen(name) < sizeof medium->files[0].name);
    if (memory_find(medium, name) != NULL)
        return dor_fail(DOR_E_EXISTS, "%s exists", name);
    struct memory_file *files =
        base_realloc_array(medium->files, medium->file_count + 1, sizeof *files);
    if (files == NULL)
        return DOR_E_NO_MEMORY;
    medium->files = files;
    struct memory_file *file = &files[medium->file_count];
    snprintf(file->name, sizeof file->name, "%s", name);
    file->fd = memfd_create(name, MFD_CLOEXEC);
    if (file->fd < 0)
        return dor_fail_errno(errno, "memory file %s", name);
    int err = memory_duplicate(file, ret);
    if (err != 0)
        close(file->fd);
    else
        medium->file_count++;
    return err;
}

static int
memory_unlink(struct store_medium *medium, const char *name)
{
    struct memory_file *file = memory_find(medium, name);
    if (file == NULL)
        return dor_fail(DOR_E_NOT_FOUND, "%s does not exist", name);
    close(file->fd);
    *file = medium->files[--medium->file_count];
    return 0;
}

static int
memory_rename(struct store_medium *medium, const char *from, const char *to)
{
    if (memory_find(medium, from) == NULL)
        return dor_fail(DOR_E_NOT_FOUND, "%s does not exist", from);
    if (memory_find(medium, to) != NULL) {
        int err = memory_unlink(medium, to);
        if (err != 0)
            return err;
    }
    struct memory_file *file = memory_find(medium, from);
    snprintf(file->name, sizeof file->name, "%s", to);
    return 0;
}

/* Both names have a descriptor of their own for one file. */
static int
memory_link(struct store_medium *medium, const char *from, const char *to)
{
    AUTO_CLOSE int created = -1;
    AUTO_CLOSE int duplicate = -1;
    const struct memory_file *file = memory_find(medium, from);
    if (file == NULL)
        return dor_fail(DOR_E_NOT_FOUND, "%s does not exist", from);
    int err = memory_duplicate(file, &duplicate);
    if (err == 0)
        err = memory_create(medium, to, &created);
    if (err != 0)
        return err;
    struct memory_file *linked = &medium->files[medium->file_count - 1];
    close(linked->fd);
    linked->fd = base_take_fd(&duplicate);
    return 0;
}

static int
memory_replace(
    struct store_medium *medium, const char *name, const void *data, size_t size_bytes)
{
    AUTO_CLOSE int fd = -1;
    if (memory_find(medium, "replace.tmp") != NULL) {
        int err = memory_unlink(medium, "replace.tmp");
        if (err != 0)
            return err;
    }
    int err = memory_create(medium, "replace.tmp", &fd);
    if (err == 0)
        err = base_file_pwrite(fd, data, size_bytes, 0, name);
    return err != 0 ? err : memory_rename(medium, "replace.tmp", name);
}

/* ------------------------------------------------------------------ both kinds */

int
store_medium_open(struct store_medium *medium, const char *name, bool write, int *ret)
{
    if (medium->dirfd >= 0)
        return base_file_open(medium->dirfd, name, write ? O_RDWR : O_RDONLY, 0, ret);
    struct memory_file *file = memory_find(medium, name);
    if (file == NULL)
        return dor_fail(DOR_E_NOT_FOUND, "%s does not exist", name);
    return memory_duplicate(file, ret);
}

int
store_medium_create(struct store_medium *medium, const char *name, int *ret)
{
    if (medium->dirfd >= 0)
        return base_file_open(medium->dirfd, name, O_RDWR | O_CREAT | O_EXCL, 0644, ret);
    return memory_create(medium, name, ret);
}

int
store_medium_replace(
    struct store_medium *medium, const char *name, const void *data, size_t size_bytes)
{
    if (medium->dirfd >= 0)
        return base_file_replace(medium->dirfd, name, data, size_bytes);
    return memory_replace(medium, name, data, size_bytes);
}

int
store_medium_rename(struct store_medium *medium, const char *from, const char *to)
{
    if (medium->dirfd >= 0)
        return base_file_rename(medium->dirfd, from, to);
    return memory_rename(medium, from, to);
}

int
store_medium_link(struct store_medium *medium, const char *from, const char *to)
{
    if (medium->dirfd >= 0)
        return base_file_link(medium->dirfd, from, to);
    return memory_link(medium, from, to);
}

int
store_medium_unlink(struct store_medium *medium, const char *name)
{
    if (medium->dirfd >= 0)
        return base_file_unlink(medium->dirfd, name);
    return memory_unlink(medium, name);
}

int
store_medium_sync(struct store_medium *medium)
{
    return medium->dirfd >= 0 ? base_dir_sync(medium->dirfd, medium->path) : 0;
}

int
store_medium_list(struct store_medium *medium, base_dir_fn *visit, void *context)
{
    if (medium->dirfd >= 0)
        return base_dir_list(medium->dirfd, visit, context);
    for (size_t i = medium->file_count; i > 0; i--) {
        char name[sizeof medium->files[0].name];
        memcpy(name, medium->files[i - 1].name, sizeof name);
        int err = visit(name, context);
        if (err != 0)
            return err;
    }
    return 0;
}
