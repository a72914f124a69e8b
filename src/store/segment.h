/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment.h - making segment files; reading them is in store_priv.h.
 *
 * Ownership:  an opened segment belongs to its catalog entry's `loaded`.
 * Threads:    as the store.
 * Errors:     DOR_E_NO_MEMORY.
 */
#ifndef DOR_STORE_SEGMENT_H
#define DOR_STORE_SEGMENT_H

#include "store/catalog.h"

#define STORE_SEGMENT_HEADER_BYTES 48

void store_segment_header(
    const struct store_catalog *catalog, const struct store_segment_entry *entry,
    uint8_t header[STORE_SEGMENT_HEADER_BYTES]);
/* Give ENTRY an empty table over FD, which it takes over on success. */
DOR_MUST_CHECK int store_segment_open_new(struct store_segment_entry *entry, int fd);

#endif
