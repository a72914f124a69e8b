/* SPDX-License-Identifier: Apache-2.0 */
/*
 * input.h - reads the sidecars that `put` is given. Each way in which a file cannot be one gets
 * its own words, and nothing here waits: not for a writer of a pipe, not for a device.
 *
 * Ownership:  sidecars are freed by cli_sidecars_fini().
 * Threads:    any.
 * Errors:     DOR_E_USAGE for what is not a fit file, otherwise what the system says.
 */
#ifndef DOR_CLI_INPUT_H
#define DOR_CLI_INPUT_H

#include "cli/cli.h"

#define CLI_SIDECAR_BYTES_MAX ((size_t)256 << 20)

struct cli_sidecars {
    struct dor_sidecar rows[DOR_SIDECARS_MAX];
    size_t count;
};

#define AUTO_SIDECARS __attribute__((cleanup(cli_sidecars_fini)))

/* Read each file of PATHS whole; a sidecar's name is the last part of its path. */
DOR_MUST_CHECK int cli_sidecars_read(const struct cli_list *paths, struct cli_sidecars *ret);

void cli_sidecars_fini(struct cli_sidecars *sidecars);

#endif
