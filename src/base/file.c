/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file.c - file calls with three things added: the fault hook, loops for EINTR and for short
 * reads and writes, and error texts that name the file.
 *
 * Every function follows one pattern: ask the hook; if it says fail, fail with its number; do
 * the call; if the hook said half, the process dies now. Half of a write is its first half;
 * half of a call that the kernel does in one step is the whole step, for the question is only
 * what a later process finds.
 *
 * What it does not do: buffering, O_DIRECT.
 */
#include "base/file.h"

#include "base/err.h"
#include "base/fault.h"
#include "base/size.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

enum { READ_STEP_BYTES = 16384 };

static_assert(sizeof(off_t) == 8, "offsets need 64 bits");

/*
 * Run CALL, an expression that is negative on failure, with the hook around it and again after
 * EINTR. Gives 0 or an errno value.
 */
#define HOOKED(mutates, call)                                                                  \
    __extension__({                                                                            \
        enum base_fault_action action_ = base_fault_file(mutates);                             \
        int errnum_ = 0;                                                                       \
        if (action_ == FAULT_DO_FAIL)                                                          \
            errnum_ = base_fault_errnum();                                                     \
        else                                                                                   \
            while ((call) < 0 && (errnum_ = errno) == EINTR)                                   \
                errnum_ = 0;                                                                   \
        if (action_ == FAULT_DO_HALF)                                                          \
            base_fault_die();                                                                  \
        errnum_;                                                                               \
    })

int
base_file_open(int dirfd, const char *path, int flags, unsigned mode, int *ret)
{
    int fd = -1;
    bool mutates = (flags & (O_CREAT | O_TRUNC)) != 0;
    int errnum = HOOKED(mutates, fd = openat(dirfd, path, flags | O_CLOEXEC, (mode_t)mode));
    if (errnum != 0)
        return dor_fail_errno(errnum, "cannot open %s", path);
    *ret = fd;
    return 0;
}

int
base_path_resolve(const char *path, char *ret, size_t size_bytes)
{
    char resolved[PATH_MAX];
    int errnum = HOOKED(false, realpath(path, resolved) == NULL ? -1 : 0);
    if (errnum == 0 && strlen(resolved) >= size_bytes)
        errnum = ENAMETOOLONG;
    if (errnum != 0)
        return dor_fail_errno(errnum, "cannot find %s", path);
    memcpy(ret, resolved, strlen(resolved) + 1);
    return 0;
}

int
base_file_pread_some(
    int fd, void *buf, size_t size_bytes, uint64_t offset, const char *name, size_t *ret)
{
    size_t done = 0;
    while (done < size_bytes) {
        ssize_t n = -1;
        int errnum = HOOKED(
            false,
            n = pread(fd, (char *)buf + done, size_bytes - done, (off_t)(offset + done)));
        if (errnum != 0)
            return dor_fail_errno(
                errnum, "%s: cannot read %zu bytes at %llu", name, size_bytes,
                (unsigned long long)offset);
        if (n == 0)
            break;
        done += (size_t)n;
    }
    *ret = done;
    return 0;
}

int
base_file_pread(int fd, void *buf, size_t size_bytes, uint64_t offset, const char *name)
{
    size_t done;
    int rc = base_file_pread_some(fd, buf, size_bytes, offset, name, &done);
    if (rc == 0 && done < size_bytes)
        return dor_fail(
            DOR_E_CORRUPT, "%s: ends early: has %zu of %zu bytes at %llu", name, done,
            size_bytes, (unsigned long long)offset);
    return rc;
}

void
base_file_read_ahead(int fd, uint64_t offset, uint64_t size_bytes)
{
    (void)posix_fadvise(fd, (off_t)offset, (off_t)size_bytes, POSIX_FADV_WILLNEED);
}

void
base_file_read_no_further(int fd)
{
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
}

/* Take SIZE_BYTES off the front of *PIECES, off the front of the last one if need be. */
static void
skip_written(struct iovec **pieces, size_t *count, size_t size_bytes)
{
    while (*count > 0 && size_bytes >= (*pieces)->iov_len) {
        size_bytes -= (*pieces)->iov_len;
        (*pieces)++;
        (*count)--;
    }
    if (*count > 0) {
        (*pieces)->iov_base = (char *)(*pieces)->iov_base + size_bytes;
        (*pieces)->iov_len -= size_bytes;
    }
}

/* Write all of PIECES; gives 0 or an errno value. */
static int
write_all(int fd, struct iovec *pieces, size_t count, uint64_t offset)
{
    while (count > 0) {
        ssize_t n = pwritev(fd, pieces, (int)base_min_size(count, IOV_MAX), (off_t)offset);
        if (n < 0 && errno != EINTR)
            return errno;
        size_t written = n < 0 ? 0 : (size_t)n;
        skip_written(&pieces, &count, written);
        offset += written;
    }
    return 0;
}

/* Only the first half of PIECES is to be written. */
static void
halve(struct iovec *pieces, size_t *count, size_t size_bytes)
{
    size_t left = size_bytes / 2;
    for (size_t i = 0; i < *count; i++) {
        pieces[i].iov_len = base_min_size(pieces[i].iov_len, left);
        left -= pieces[i].iov_len;
    }
}

int
base_file_pwritev(int fd, struct iovec *pieces, size_t count, uint64_t offset, const char *name)
{
    enum base_fault_action action = base_fault_file(true);
    size_t size_bytes = 0;
    int errnum;
    for (size_t i = 0; i < count; i++)
        size_bytes += pieces[i].iov_len;
    if (action == FAULT_DO_HALF)
        halve(pieces, &count, size_bytes);
    errnum =
        action == FAULT_DO_FAIL ? base_fault_errnum() : write_all(fd, pieces, count, offset);
    if (action == FAULT_DO_HALF)
        base_fault_die();
    if (errnum != 0)
        return dor_fail_errno(
            errnum, "%s: cannot write %zu bytes at %llu", name, size_bytes,
            (unsigned long long)offset);
    return 0;
}

int
base_file_pwrite(int fd, const void *buf, size_t size_bytes, uint64_t offset, const char *name)
{
    struct iovec piece = {.iov_len = size_bytes};
    /* pwritev() only reads it. */
    memcpy(&piece.iov_base, &buf, sizeof buf);
    return base_file_pwritev(fd, &piece, 1, offset, name);
}

int
base_file_sync(int fd, const char *name)
{
    int errnum = HOOKED(false, fdatasync(fd));
    return errnum == 0 ? 0 : dor_fail_errno(errnum, "%s: cannot sync", name);
}

int
base_dir_sync(int dirfd, const char *name)
{
    int errnum = HOOKED(false, fsync(dirfd));
    return errnum == 0 ? 0 : dor_fail_errno(errnum, "%s: cannot sync the directory", name);
}

/* Block devices have a size too, which fstat does not tell; seeking to the end works for both.
 */
int
base_file_size(int fd, const char *name, uint64_t *ret)
{
    off_t end = -1;
    int errnum = HOOKED(false, end = lseek(fd, 0, SEEK_END));
    if (errnum != 0)
        return dor_fail_errno(errnum, "%s: cannot find its size", name);
    *ret = (uint64_t)end;
    return 0;
}

int
base_file_stat(int dirfd, const char *path, int flags, const char *name, struct stat *ret)
{
    struct stat status = {0};
    int errnum = HOOKED(false, fstatat(dirfd, path, &status, flags));
    if (errnum != 0)
        return dor_fail_errno(errnum, "%s: cannot look at it", name);
    *ret = status;
    return 0;
}

int
base_file_map(int fd, uint64_t size_bytes, const char *name, uint8_t **ret)
{
    void *map = MAP_FAILED;
    dor_assert(size_bytes > 0);
    int errnum = HOOKED(
        false, (map = mmap(NULL, size_bytes, PROT_READ, MAP_PRIVATE | MAP_NORESERVE, fd, 0)) ==
                       MAP_FAILED
                   ? -1
                   : 0);
    if (errnum != 0)
        return dor_fail_errno(
            errnum, "%s: cannot map its %llu bytes", name, (unsigned long long)size_bytes);
    *ret = map;
    return 0;
}

static int
protect(uint8_t *map, uint64_t size_bytes, int protection, const char *name)
{
    int errnum = HOOKED(false, mprotect(map, size_bytes, protection));
    return errnum == 0 ? 0 : dor_fail_errno(errnum, "%s: cannot change its mapping", name);
}

int
base_map_writable(uint8_t *map, uint64_t size_bytes, const char *name)
{
    return protect(map, size_bytes, PROT_READ | PROT_WRITE, name);
}

int
base_map_read_only(uint8_t *map, uint64_t size_bytes, const char *name)
{
    return protect(map, size_bytes, PROT_READ, name);
}

void
base_file_unmap(uint8_t *map, uint64_t size_bytes)
{
    if (map != NULL)
        munmap(map, size_bytes);
}

int
base_file_truncate(int fd, uint64_t size_bytes, const char *name)
{
    int errnum = HOOKED(true, ftruncate(fd, (off_t)size_bytes));
    if (errnum != 0)
        return dor_fail_errno(
            errnum, "%s: cannot set its size to %llu bytes", name,
            (unsigned long long)size_bytes);
    return 0;
}

int
base_file_rename(int dirfd, const char *from, const char *to)
{
    int errnum = HOOKED(true, renameat(dirfd, from, dirfd, to));
    return errnum == 0 ? 0 : dor_fail_errno(errnum, "cannot rename %s to %s", from, to);
}

int
base_file_link(int dirfd, const char *from, const char *to)
{
    int errnum = HOOKED(true, linkat(dirfd, from, dirfd, to, 0));
    return errnum == 0 ? 0 : dor_fail_errno(errnum, "cannot link %s to %s", from, to);
}

int
base_file_unlink(int dirfd, const char *name)
{
    int errnum = HOOKED(true, unlinkat(dirfd, name, 0));
    return errnum == 0 ? 0 : dor_fail_errno(errnum, "cannot remove %s", name);
}

int
base_dir_make(int dirfd, const char *name, unsigned mode)
{
    int errnum = HOOKED(true, mkdirat(dirfd, name, (mode_t)mode));
    return errnum == 0 ? 0 : dor_fail_errno(errnum, "cannot make the directory %s", name);
}

int
base_dir_remove(int dirfd, const char *name)
{
    int errnum = HOOKED(true, unlinkat(dirfd, name, AT_REMOVEDIR));
    return errnum == 0 ? 0 : dor_fail_errno(errnum, "cannot remove the directory %s", name);
}

/* Read one name; *RET is NULL after the last. readdir() tells failure from the end by errno
 * alone. */
static int
next_name(DIR *dir, const char **ret)
{
    struct dirent *entry = NULL;
    int errnum =
        HOOKED(false, (errno = 0, (entry = readdir(dir)) == NULL && errno != 0 ? -1 : 0));
    if (errnum != 0)
        return dor_fail_errno(errnum, "cannot read the directory");
    *ret = entry == NULL ? NULL : entry->d_name;
    return 0;
}

static int
walk_names(DIR *dir, base_dir_fn *fn, void *arg)
{
    for (;;) {
        const char *name = NULL;
        int rc = next_name(dir, &name);
        if (rc != 0 || name == NULL)
            return rc;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            continue;
        rc = fn(name, arg);
        if (rc != 0)
            return rc;
    }
}

/* A descriptor of its own, for closedir() closes it and the read position is shared between
 * copies. */
int
base_dir_list(int dirfd, base_dir_fn *fn, void *arg)
{
    AUTO_CLOSE int fd = -1;
    int rc = base_file_open(dirfd, ".", O_RDONLY | O_DIRECTORY, 0, &fd);
    if (rc != 0)
        return rc;
    DIR *dir = fdopendir(fd);
    if (dir == NULL)
        return dor_fail_errno(errno, "cannot read the directory");
    base_take_fd(&fd);
    rc = walk_names(dir, fn, arg);
    closedir(dir);
    return rc;
}

int
base_file_lock_exclusive(int fd, const char *name)
{
    int errnum = HOOKED(false, flock(fd, LOCK_EX | LOCK_NB));
    if (errnum == EWOULDBLOCK)
        return dor_fail(
            DOR_E_BUSY, "%s: locked by another process; wait until it ends and try again",
            name);
    return errnum == 0 ? 0 : dor_fail_errno(errnum, "%s: cannot lock", name);
}

int
base_file_next_data(
    int fd, uint64_t offset, uint64_t size_bytes, uint64_t *ret_start, uint64_t *ret_end)
{
    off_t start = 0;
    off_t end = 0;
    if (offset >= size_bytes) {
        *ret_start = *ret_end = size_bytes;
        return 0;
    }
    int errnum = HOOKED(false, start = lseek(fd, (off_t)offset, SEEK_DATA));
    if (errnum == 0)
        errnum = HOOKED(false, end = lseek(fd, start, SEEK_HOLE));
    /* A file system that cannot tell refuses; a device may ignore the question and say 0. */
    if (errnum == 0 && start < (off_t)offset)
        errnum = EINVAL;
    if (errnum == 0) {
        *ret_start = base_min_u64((uint64_t)start, size_bytes);
        *ret_end = base_min_u64((uint64_t)end, size_bytes);
    } else if (errnum == ENXIO) {
        /* Only a hole is left, or the file ends before it: it was cut meanwhile. */
        uint64_t now_bytes = 0;
        int err = base_file_size(fd, "image", &now_bytes);
        if (err == 0 && now_bytes < size_bytes)
            err = dor_fail(
                DOR_E_IO, "descriptor %d: was cut from %llu to %llu bytes", fd,
                (unsigned long long)size_bytes, (unsigned long long)now_bytes);
        if (err != 0)
            return err;
        *ret_start = *ret_end = size_bytes;
    } else if (errnum == EINVAL || errnum == EOPNOTSUPP) {
        *ret_start = offset;
        *ret_end = size_bytes;
    } else {
        return dor_fail_errno(errnum, "descriptor %d: cannot find its holes", fd);
    }
    return 0;
}

int
base_file_read_all(int dirfd, const char *name, size_t max_bytes, struct base_buf *buf)
{
    AUTO_CLOSE int fd = -1;
    int rc = base_file_open(dirfd, name, O_RDONLY, 0, &fd);
    size_t total = 0;
    size_t got = 1;
    /* Up to the end rather than up to the size: files of /proc say that they are empty. */
    while (rc == 0 && got > 0) {
        rc = base_buf_reserve(buf, READ_STEP_BYTES);
        if (rc != 0)
            break;
        rc = base_file_pread_some(
            fd, buf->data + buf->size_bytes, READ_STEP_BYTES, total, name, &got);
        if (rc != 0)
            break;
        if (got > max_bytes - total)
            return dor_fail(DOR_E_CORRUPT, "%s: longer than %zu bytes", name, max_bytes);
        total += got;
        buf->size_bytes += got;
    }
    return rc;
}

/* Write DATA to a new file TEMP and wait until it is on the disk. */
static int
write_synced(int dirfd, const char *temp, const void *data, size_t size_bytes)
{
    AUTO_CLOSE int fd = -1;
    int rc = base_file_open(dirfd, temp, O_WRONLY | O_CREAT | O_TRUNC, 0644, &fd);
    if (rc == 0)
        rc = base_file_pwrite(fd, data, size_bytes, 0, temp);
    if (rc == 0)
        rc = base_file_sync(fd, temp);
    return rc;
}

int
base_file_replace(int dirfd, const char *name, const void *data, size_t size_bytes)
{
    dor_assert(dirfd >= 0);
    char temp[NAME_MAX + 1];
    int length = snprintf(temp, sizeof temp, "%s.tmp", name);
    if (length < 0 || (size_t)length >= sizeof temp)
        return dor_fail(DOR_E_USAGE, "the file name %.32s... is too long", name);
    int rc = write_synced(dirfd, temp, data, size_bytes);
    if (rc == 0)
        rc = base_file_rename(dirfd, temp, name);
    if (rc == 0)
        rc = base_dir_sync(dirfd, name);
    return rc;
}
