/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wake.h - the ways in which `dormouse wake` wakes a snapshot, one file each.
 *
 * Ownership:  nothing is kept.
 * Threads:    the program has one.
 * Errors:     as for verbs.
 */
#ifndef DOR_CLI_WAKE_H
#define DOR_CLI_WAKE_H

#include "cli/cli.h"

/* In all sandboxes that come to --uffd-socket. */
DOR_MUST_CHECK int cli_wake_uffd(const struct cli *cli);
/* In the monitor that listens at --offload. */
DOR_MUST_CHECK int cli_wake_offload(const struct cli *cli);

#endif
