/* SPDX-License-Identifier: Apache-2.0 */
/*
 * progress.h - one line on the terminal that shows how far long work is: percent, bytes, rate and
 * the time it will still take. It appears after a second, is redrawn at most ten times a second
 * and is gone at the end. Without a terminal, and with --json or --quiet, nothing is drawn.
 *
 * Ownership:  caller's memory; WHAT is borrowed until cli_progress_fini().
 * Threads:    one.
 * Errors:     none.
 */
#ifndef DOR_CLI_PROGRESS_H
#define DOR_CLI_PROGRESS_H

#include "cli/cli.h"

struct cli_progress {
    const char *what;
    bool wanted;
    bool drawn;
    uint64_t start_ns;
    uint64_t next_ns; /* not drawn again before this */
};

#define AUTO_PROGRESS __attribute__((cleanup(cli_progress_fini)))

void cli_progress_init(struct cli_progress *progress, const struct cli *cli, const char *what);

/* A dor_progress_fn; CONTEXT is the progress. Not 0 once a signal asked to stop. */
int cli_progress_update(void *context, uint64_t done_bytes, uint64_t total_bytes);

/* Take the line away, so that something else can be printed. */
void cli_progress_clear(struct cli_progress *progress);

/* The same for good. */
void cli_progress_fini(struct cli_progress *progress);

#endif
