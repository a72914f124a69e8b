/* SPDX-License-Identifier: Apache-2.0 */
/*
 * framed.h - what an export writes that is not one file of all pages: images of other formats, and
 * diffs. Pages go straight to their places in the files.
 *
 * Ownership:  everything is the caller's.
 * Threads:    one.
 * Errors:     of reading the store and of dor_frame_writer_open(); nothing is left under the name.
 */
#ifndef DOR_NODE_FRAMED_H
#define DOR_NODE_FRAMED_H

#include <dormouse/transfer.h>

/* Write SNAPSHOT as FRAME says, or as one raw file; with `diff_from` only what differs. */
DOR_MUST_CHECK int node_framed_write(
    const struct dor_export *how, struct dor_snapshot *snapshot, const void *frame,
    size_t frame_bytes);

/* DOR_E_BUSY when whoever waits for the export wants it to end. */
DOR_MUST_CHECK int node_export_ask(const struct dor_export *how);

#endif
