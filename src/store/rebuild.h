/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rebuild.h - makes a catalog anew from the segment and snapshot files when it is lost.
 *
 * Ownership:  nothing beyond the call.
 * Threads:    takes the writer's lock.
 * Errors:     DOR_E_NOT_FOUND when the directory holds no file of a store; DOR_E_BUSY.
 */
#ifndef DOR_STORE_REBUILD_H
#define DOR_STORE_REBUILD_H

#include <dormouse/err.h>

/* The damaged catalog is kept as "bad.catalog". Options given at creation are lost. */
DOR_MUST_CHECK int store_rebuild_catalog(const char *directory);

#endif
