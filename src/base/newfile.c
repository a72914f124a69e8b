/* SPDX-License-Identifier: Apache-2.0 */
/*
 * newfile.c - write beside, sync, rename, sync the directory.
 */
#include "base/newfile.h"

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/random.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SUFFIX_LETTERS = 6, TRIES_MAX = 100 };

/* Split PATH into the directory, which is opened, and the name in it. */
static int
open_directory(struct base_newfile *file)
{
    const char *slash = strrchr(file->path, '/');
    const char *name = slash == NULL ? file->path : slash + 1;
    char directory[PATH_MAX];
    int bytes = 0;
    if (slash == NULL)
        bytes = snprintf(directory, sizeof directory, ".");
    else
        bytes = snprintf(
            directory, sizeof directory, "%.*s", (int)(slash - file->path + 1), file->path);
    if ((size_t)bytes >= sizeof directory || strlen(name) > NAME_MAX)
        return dor_fail(DOR_E_USAGE, "the path is too long: %.60s...", file->path);
    if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return dor_fail(DOR_E_USAGE, "%s: is no name of a file", file->path);
    memcpy(file->name, name, strlen(name) + 1);
    return base_file_open(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY, 0, &file->dirfd);
}

/* A regular file may be replaced; a link, a directory or a device was hardly meant. */
static int
check_place(struct base_newfile *file)
{
    struct stat status;
    file->mode = S_IRUSR | S_IWUSR;
    if (fstatat(file->dirfd, file->name, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : dor_fail_errno(errno, "%s", file->path);
    if (S_ISREG(status.st_mode)) {
        file->mode = status.st_mode & (S_IRWXU | S_IRWXG | S_IRWXO);
        return 0;
    }
    return dor_fail(
        DOR_E_USAGE, "%s: is %s; only a regular file is replaced, give another path",
        file->path,
        S_ISDIR(status.st_mode)   ? "a directory"
        : S_ISLNK(status.st_mode) ? "a symbolic link"
                                  : "a device, pipe or socket");
}

static int
write_temp_name(struct base_newfile *file)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz012345";
    uint8_t random[SUFFIX_LETTERS];
    char suffix[SUFFIX_LETTERS + 1] = "";
    int rc = base_random_seed_os(random, sizeof random);
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < SUFFIX_LETTERS; i++)
        suffix[i] = letters[random[i] % (sizeof letters - 1)];
    /* A long name is cut, so that dots and letters still fit. */
    snprintf(
        file->temp, sizeof file->temp, ".%.*s.%s", NAME_MAX - SUFFIX_LETTERS - 2, file->name,
        suffix);
    return 0;
}

static int
make_temp(struct base_newfile *file)
{
    int rc = DOR_E_EXISTS;
    for (int i = 0; rc == DOR_E_EXISTS && i < TRIES_MAX; i++) {
        rc = write_temp_name(file);
        if (rc == 0)
            rc = base_file_open(
                file->dirfd, file->temp, O_RDWR | O_CREAT | O_EXCL, S_IRUSR | S_IWUSR,
                &file->fd);
    }
    if (rc != 0)
        file->temp[0] = '\0';
    return rc;
}

int
base_newfile_open(struct base_newfile *file, const char *path)
{
    *file = BASE_NEWFILE_NONE;
    file->path = path;
    if (path[0] == '\0')
        return dor_fail(DOR_E_USAGE, "the path of the file to write is empty");
    int rc = open_directory(file);
    if (rc == 0)
        rc = check_place(file);
    if (rc == 0) {
        rc = make_temp(file);
        if (rc != 0)
            dor_fail_wrap("%s", path);
    }
    return rc;
}

bool
base_newfile_same(const struct base_newfile *a, const struct base_newfile *b)
{
    struct stat in_a;
    struct stat in_b;
    return strcmp(a->name, b->name) == 0 && fstat(a->dirfd, &in_a) == 0 &&
           fstat(b->dirfd, &in_b) == 0 && in_a.st_dev == in_b.st_dev &&
           in_a.st_ino == in_b.st_ino;
}

int
base_newfile_stream(const struct base_newfile *file, FILE **ret)
{
    int fd = dup(file->fd);
    FILE *stream = fd < 0 ? NULL : fdopen(fd, "w");
    if (stream == NULL) {
        int rc = dor_fail_errno(errno, "%s", file->path);
        base_auto_close(&fd);
        return rc;
    }
    *ret = stream;
    return 0;
}

int
base_newfile_stream_end(const struct base_newfile *file, FILE *stream)
{
    bool failed = ferror(stream) != 0;
    if (fclose(stream) != 0)
        return dor_fail_errno(errno, "%s", file->path);
    return failed ? dor_fail(DOR_E_IO, "%s: could not be written", file->path) : 0;
}

int
base_newfile_sync(struct base_newfile *file)
{
    if (fchmod(file->fd, file->mode) != 0)
        return dor_fail_errno(errno, "%s: cannot set its permissions", file->path);
    return base_file_sync(file->fd, file->path);
}

int
base_newfile_commit(struct base_newfile *file)
{
    int rc = base_file_rename(file->dirfd, file->temp, file->name);
    if (rc != 0)
        return rc;
    file->temp[0] = '\0';
    return base_dir_sync(file->dirfd, file->path);
}

void
base_newfile_fini(struct base_newfile *file)
{
    struct base_err err = *base_err_record();
    if (file->temp[0] != '\0' && base_file_unlink(file->dirfd, file->temp) != 0)
        base_err_load(&err);
    base_auto_close(&file->fd);
    base_auto_close(&file->dirfd);
    *file = BASE_NEWFILE_NONE;
}
