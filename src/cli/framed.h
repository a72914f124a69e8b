/* SPDX-License-Identifier: Apache-2.0 */
/*
 * framed.h - what `get` writes that is not one file of all pages: images of other formats, and
 * diffs. Pages go straight to their places in the files.
 *
 * Ownership:  everything is the caller's.
 * Threads:    one.
 * Errors:     of reading the store and of dor_frame_writer_open(); nothing is left under the name.
 */
#ifndef DOR_CLI_FRAMED_H
#define DOR_CLI_FRAMED_H

#include "cli/cli.h"

/* Write SNAPSHOT to -o as FRAME says, or as one raw file; with --diff-from only what differs. */
DOR_MUST_CHECK int cli_framed_write(
    const struct cli *cli, struct dor_snapshot *snapshot, const void *frame,
    size_t frame_bytes);

#endif
