/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file.h - the only place that calls the operating system's file functions.
 * Here live the loops for interrupted and short calls, the fault hook that lets tests fail or
 * kill each call, and error texts that name the file. NAME arguments are for those texts.
 *
 * Ownership:  descriptors are the caller's (see AUTO_CLOSE in mem.h).
 * Threads:    any; offsets are explicit, so descriptors may be shared.
 * Errors:     what the system says, mapped by dor_fail_errno(); DOR_E_CORRUPT for a file that
 *             ends early.
 */
#ifndef DOR_BASE_FILE_H
#define DOR_BASE_FILE_H

#include "base/mem.h"

#include <dormouse/err.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/uio.h>

/* Open PATH relative to DIRFD (or AT_FDCWD); O_CLOEXEC is added to FLAGS. MODE counts with
 * O_CREAT. */
DOR_MUST_CHECK int
base_file_open(int dirfd, const char *path, int flags, unsigned mode, int *ret);

/* PATH made absolute, without "..", and symbolic links, into RET of SIZE_BYTES. */
DOR_MUST_CHECK int base_path_resolve(const char *path, char *ret, size_t size_bytes);

/* Read exactly SIZE_BYTES at OFFSET; DOR_E_CORRUPT when the file ends before. */
DOR_MUST_CHECK int
base_file_pread(int fd, void *buf, size_t size_bytes, uint64_t offset, const char *name);

/* Read up to SIZE_BYTES at OFFSET; *RET is smaller only at the end of the file. */
DOR_MUST_CHECK int base_file_pread_some(
    int fd, void *buf, size_t size_bytes, uint64_t offset, const char *name, size_t *ret);

/* Advice, without an answer: SIZE_BYTES at OFFSET will be read soon; the system may begin now. */
void base_file_read_ahead(int fd, uint64_t offset, uint64_t size_bytes);
/* From now on what is read through FD says nothing of what will be. */
void base_file_read_no_further(int fd);

/* Write exactly SIZE_BYTES at OFFSET. After an error any part of them may have been written. */
DOR_MUST_CHECK int
base_file_pwrite(int fd, const void *buf, size_t size_bytes, uint64_t offset, const char *name);

/* The same for COUNT pieces that follow each other in the file; PIECES is changed. */
DOR_MUST_CHECK int base_file_pwritev(
    int fd, struct iovec *pieces, size_t count, uint64_t offset, const char *name);

/* Wait until the file's bytes and size are on the disk (fdatasync). */
DOR_MUST_CHECK int base_file_sync(int fd, const char *name);

/* Wait until the names in the directory DIRFD are on the disk. */
DOR_MUST_CHECK int base_dir_sync(int dirfd, const char *name);

DOR_MUST_CHECK int base_file_size(int fd, const char *name, uint64_t *ret);

/*
 * What PATH relative to DIRFD is. FLAGS are those of fstatat(): AT_SYMLINK_NOFOLLOW, or
 * AT_EMPTY_PATH with "" for DIRFD itself. NAME is for the error text.
 */
DOR_MUST_CHECK int
base_file_stat(int dirfd, const char *path, int flags, const char *name, struct stat *ret);

/*
 * Map the first SIZE_BYTES (more than 0) of the file, to be read only; *RET is page-aligned. The
 * mapping is private: base_map_writable() lets it be changed, the file stays as it is. Reading
 * where the file has been cut since kills the process.
 */
DOR_MUST_CHECK int base_file_map(int fd, uint64_t size_bytes, const char *name, uint8_t **ret);
DOR_MUST_CHECK int base_map_writable(uint8_t *map, uint64_t size_bytes, const char *name);
DOR_MUST_CHECK int base_map_read_only(uint8_t *map, uint64_t size_bytes, const char *name);
void base_file_unmap(uint8_t *map, uint64_t size_bytes); /* NULL is fine */

DOR_MUST_CHECK int base_file_truncate(int fd, uint64_t size_bytes, const char *name);

/* Rename FROM to TO inside DIRFD, replacing TO. Durable after base_dir_sync(). */
DOR_MUST_CHECK int base_file_rename(int dirfd, const char *from, const char *to);
/* A second name for the file FROM; DOR_E_EXISTS when TO is there. */
DOR_MUST_CHECK int base_file_link(int dirfd, const char *from, const char *to);

DOR_MUST_CHECK int base_file_unlink(int dirfd, const char *name);

/* Make the directory NAME with MODE; DOR_E_EXISTS when there is one. */
DOR_MUST_CHECK int base_dir_make(int dirfd, const char *name, unsigned mode);

/* Remove the directory NAME, which must be empty. */
DOR_MUST_CHECK int base_dir_remove(int dirfd, const char *name);

/*
 * Call FN with each name in the directory DIRFD, without "." and "..", in no order. FN may
 * remove the name it is given. A result other than 0 ends the walk and is returned.
 */
typedef int base_dir_fn(const char *name, void *arg);
DOR_MUST_CHECK int base_dir_list(int dirfd, base_dir_fn *fn, void *arg);

/* Take the file's advisory lock until FD is closed; DOR_E_BUSY at once when another has it. */
DOR_MUST_CHECK int base_file_lock_exclusive(int fd, const char *name);

/*
 * The next range of [OFFSET, SIZE_BYTES) that is not a hole: *RET_START and *RET_END, both
 * SIZE_BYTES when only a hole is left. File systems that cannot tell call everything data.
 * DOR_E_IO when the file ends before SIZE_BYTES and its end is come to: what was cut off is no
 * hole.
 */
DOR_MUST_CHECK int base_file_next_data(
    int fd, uint64_t offset, uint64_t size_bytes, uint64_t *ret_start, uint64_t *ret_end);

/* Append the whole of NAME to BUF; DOR_E_CORRUPT when it is longer than MAX_BYTES. */
DOR_MUST_CHECK int
base_file_read_all(int dirfd, const char *name, size_t max_bytes, struct base_buf *buf);

/*
 * Make DATA the contents of NAME in one step that a crash cannot split: NAME.tmp, fdatasync,
 * rename, directory sync. After an error the old or the new contents are there, whole, and perhaps
 * a NAME.tmp, which the next call overwrites. DIRFD must be a real descriptor.
 */
DOR_MUST_CHECK int
base_file_replace(int dirfd, const char *name, const void *data, size_t size_bytes);

#endif
