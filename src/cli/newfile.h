/* SPDX-License-Identifier: Apache-2.0 */
/*
 * newfile.h - a file that appears under its name only when it is complete and on disk.
 * It is written as ".NAME.XXXXXX" beside its place, synced and renamed. Until then an older file
 * of that name stays as it is, and nothing is left of a file that is given up.
 *
 * Ownership:  caller's memory, ended by cli_newfile_fini(), which gives up what is not committed.
 * Threads:    one struct, one thread.
 * Errors:     DOR_E_USAGE when something else than a regular file is in the place; otherwise what
 *             the system says.
 */
#ifndef DOR_CLI_NEWFILE_H
#define DOR_CLI_NEWFILE_H

#include <dormouse/err.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

struct cli_newfile {
    const char *path; /* borrowed, for error texts */
    int dirfd;
    int fd; /* to be written through */
    char name[NAME_MAX + 1];
    char temp[NAME_MAX + 1]; /* empty when there is none any more */
    mode_t mode;
};

#define AUTO_NEWFILE __attribute__((cleanup(cli_newfile_fini)))

/* What fini accepts before open: `AUTO_NEWFILE struct cli_newfile file = CLI_NEWFILE_NONE;` */
#define CLI_NEWFILE_NONE ((struct cli_newfile){.dirfd = -1, .fd = -1})

/*
 * Make the temporary file for PATH. A new file is for its owner alone, for memory holds secrets;
 * one that replaces another gets its permissions.
 */
DOR_MUST_CHECK int cli_newfile_open(struct cli_newfile *file, const char *path);

/* Whether both are to have the same name in the same directory. */
bool cli_newfile_same(const struct cli_newfile *a, const struct cli_newfile *b);

/* A stream that writes to the file, to be ended by cli_newfile_stream_end(), which tells errors. */
DOR_MUST_CHECK int cli_newfile_stream(const struct cli_newfile *file, FILE **ret);
DOR_MUST_CHECK int cli_newfile_stream_end(const struct cli_newfile *file, FILE *stream);

/* Wait until all that was written is on disk. */
DOR_MUST_CHECK int cli_newfile_sync(struct cli_newfile *file);

/* Give the file its name, replacing an older one; on disk when this returns 0. */
DOR_MUST_CHECK int cli_newfile_commit(struct cli_newfile *file);

/* Keeps this thread's last error. */
void cli_newfile_fini(struct cli_newfile *file);

#endif
