/* SPDX-License-Identifier: Apache-2.0 */
/*
 * put.h - what the ways of `put` share: files, a machine from a monitor, memory in use.
 *
 * Ownership:  nothing is kept.
 * Threads:    the program has one.
 * Errors:     as for verbs.
 */
#ifndef DOR_CLI_PUT_H
#define DOR_CLI_PUT_H

#include "cli/client.h"
#include "cli/live.h"
#include "cli/progress.h"

#include <dormouse/transfer.h>

#define AUTO_INTAKE __attribute__((cleanup(cli_auto_close_intake)))

static inline void
cli_auto_close_intake(struct dor_intake **intake)
{
    dor_intake_close(*intake);
}

/* Store INTAKE, which was opened with OPTIONS, in STORE; PROGRESS and warnings are shown. */
DOR_MUST_CHECK int cli_put_intake(
    const struct cli *cli, const struct dor_intake_options *options, struct dor_intake *intake,
    struct dor_store *store, struct cli_progress *progress, struct dor_put_result *ret);
/* Tell WORDS of what OPTIONS name, if there are any. */
void cli_put_warn(const struct dor_intake_options *options, const char *words);
/* Have the daemon store what OPTIONS name. */
DOR_MUST_CHECK int cli_put_by_daemon(
    const struct cli *cli, struct cli_client *client, const struct dor_intake_options *options,
    struct dor_put_result *ret);

/* The machine that a monitor hands over at --offload. */
DOR_MUST_CHECK int cli_put_offload(
    const struct cli *cli, const struct dor_intake_options *options,
    struct dor_put_result *ret);
/* The memory that --pid or --memfd names, which MEMORY has; it stays open for what it tells. */
DOR_MUST_CHECK int cli_put_live(
    const struct cli *cli, const struct dor_intake_options *options, struct cli_live *memory,
    struct dor_put_result *ret);

#endif
