/* SPDX-License-Identifier: Apache-2.0 */
/*
 * live.h - memory of another process as what `put` stores: --pid, --range, --memfd, --copy.
 *
 * Ownership:  caller's memory, ended by cli_live_fini().
 * Threads:    one.
 * Errors:     DOR_E_USAGE for what is no number or range, and those of opening.
 */
#ifndef DOR_CLI_LIVE_H
#define DOR_CLI_LIVE_H

#include "cli/cli.h"

#include <dormouse/live.h>
#include <jansson.h>

struct cli_live {
    int pid, fd;
    struct dor_live_range ranges[CLI_LIST_MAX];
    size_t range_count;
    struct dor_live *live; /* NULL until it is opened */
};

#define AUTO_LIVE __attribute__((cleanup(cli_live_fini)))

/* Read the options. */
DOR_MUST_CHECK int cli_live_parse(const struct cli *cli, struct cli_live *ret);
/* Mark or copy the memory. */
DOR_MUST_CHECK int cli_live_open(const struct cli *cli, struct cli_live *live);
void cli_live_fini(struct cli_live *live);

/* How long the process stood still, if there was one; false when memory ran out. */
void cli_live_print(const struct cli_live *live);
bool cli_live_json(const struct cli_live *live, json_t *object);

#endif
