/* SPDX-License-Identifier: Apache-2.0 */
/*
 * input.h - opens the files that `put` is given. Each way in which a file cannot be an image gets
 * its own words, and nothing here waits: not for a writer of a pipe, not for a device.
 *
 * Ownership:  the descriptor is the caller's; sidecars are freed by cli_sidecars_fini().
 * Threads:    any.
 * Errors:     DOR_E_USAGE for what is not a fit file, otherwise what the system says.
 */
#ifndef DOR_CLI_INPUT_H
#define DOR_CLI_INPUT_H

#include "cli/cli.h"

/* 16 TiB, as much as a guest of 2^44 bytes can have. */
#define CLI_IMAGE_BYTES_MAX   (UINT64_C(1) << 44)
#define CLI_SIDECAR_BYTES_MAX ((size_t)256 << 20)

/* Open PATH, a regular file of at least one and only whole pages. */
DOR_MUST_CHECK int cli_image_open(const char *path, int *ret_fd, uint64_t *ret_size_bytes);

struct cli_sidecars {
    struct dor_sidecar rows[DOR_SIDECARS_MAX];
    size_t count;
};

#define AUTO_SIDECARS __attribute__((cleanup(cli_sidecars_fini)))

/* Read each file of PATHS whole; a sidecar's name is the last part of its path. */
DOR_MUST_CHECK int cli_sidecars_read(const struct cli_list *paths, struct cli_sidecars *ret);

void cli_sidecars_fini(struct cli_sidecars *sidecars);

#endif
