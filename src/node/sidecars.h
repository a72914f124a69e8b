/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sidecars.h - reads the sidecars that `put` is given. Each way in which a file cannot be one gets
 * its own words, and nothing here waits: not for a writer of a pipe, not for a device.
 *
 * Ownership:  sidecars are freed by node_sidecars_fini().
 * Threads:    any.
 * Errors:     DOR_E_USAGE for what is not a fit file, otherwise what the system says.
 */
#ifndef DOR_NODE_SIDECARS_H
#define DOR_NODE_SIDECARS_H

#include <dormouse/transfer.h>

struct node_sidecars {
    struct dor_sidecar rows[DOR_SIDECARS_MAX];
    size_t count;
};

/* Read each of the COUNT files of PATHS whole; a sidecar's name is the last part of its path. */
DOR_MUST_CHECK int
node_sidecars_read(const char *const *paths, size_t count, struct node_sidecars *ret);

void node_sidecars_fini(struct node_sidecars *sidecars);

#endif
