/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cluster.h - stores the pages of a domain's working sets together, in the order of need and packed
 * for quick decoding, so that pushing a working set reads few groups, one after another.
 *
 * Ownership:  nothing beyond the call.
 * Threads:    as the store.
 * Errors:     any of reading and writing; the caller rolls the store back. What was committed
 *             before stays, and is sound.
 */
#ifndef DOR_STORE_CLUSTER_H
#define DOR_STORE_CLUSTER_H

#include "store/store_priv.h"

/*
 * Old copies are left to the collection that follows. GC is asked whether to stop; RESULT is told
 * how much was moved, and that it is not complete when it was stopped.
 */
DOR_MUST_CHECK int store_cluster(
    struct dor_store *store, uint32_t domain, const struct dor_gc *gc,
    struct dor_gc_result *result);

#endif
