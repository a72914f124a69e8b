/* SPDX-License-Identifier: Apache-2.0 */
/*
 * newfile.h - a file that appears under its name only when it is complete and on disk.
 * It is written as ".NAME.XXXXXX" beside its place, synced and renamed. Until then an older file
 * of that name stays as it is, and nothing is left of a file that is given up.
 *
 * Ownership:  caller's memory, ended by base_newfile_fini(), which gives up what is not committed.
 * Threads:    one struct, one thread.
 * Errors:     DOR_E_USAGE when something else than a regular file is in the place; otherwise what
 *             the system says.
 */
#ifndef DOR_BASE_NEWFILE_H
#define DOR_BASE_NEWFILE_H

#include <dormouse/err.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

struct base_newfile {
    const char *path; /* borrowed, for error texts */
    int dirfd;
    int fd; /* to be written through */
    char name[NAME_MAX + 1];
    char temp[NAME_MAX + 1]; /* empty when there is none any more */
    mode_t mode;
};

#define AUTO_NEWFILE __attribute__((cleanup(base_newfile_fini)))

/* What fini accepts before open: `AUTO_NEWFILE struct base_newfile file = BASE_NEWFILE_NONE;` */
#define BASE_NEWFILE_NONE ((struct base_newfile){.dirfd = -1, .fd = -1})

/*
 * Make the temporary file for PATH. A new file is for its owner alone, for memory holds secrets;
 * one that replaces another gets its permissions.
 */
DOR_MUST_CHECK int base_newfile_open(struct base_newfile *file, const char *path);

/* Whether both are to have the same name in the same directory. */
bool base_newfile_same(const struct base_newfile *a, const struct base_newfile *b);

/* A stream that writes to the file; base_newfile_stream_end() ends it and tells errors. */
DOR_MUST_CHECK int base_newfile_stream(const struct base_newfile *file, FILE **ret);
DOR_MUST_CHECK int base_newfile_stream_end(const struct base_newfile *file, FILE *stream);

/* Wait until all that was written is on disk. */
DOR_MUST_CHECK int base_newfile_sync(struct base_newfile *file);

/* Give the file its name, replacing an older one; on disk when this returns 0. */
DOR_MUST_CHECK int base_newfile_commit(struct base_newfile *file);

/* Keeps this thread's last error. */
void base_newfile_fini(struct base_newfile *file);

#endif
