/* SPDX-License-Identifier: Apache-2.0 */
/*
 * medium.h - where a store's files live: a directory, or memory files (memfd) under names.
 * Both give file descriptors, so everything above reads and writes the same way; only naming,
 * listing, locking and syncing differ.
 *
 * Ownership:  descriptors returned are the caller's to close; memory files live as long as the
 * medium.
 * Threads:    one medium, one thread.
 * Errors:     as base/file.h; DOR_E_NOT_FOUND and DOR_E_EXISTS for names.
 */
#ifndef DOR_STORE_MEDIUM_H
#define DOR_STORE_MEDIUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dormouse/err.h>

#include "base/file.h"

struct store_medium;

/* CREATE makes the directory when it is missing. */
DOR_MUST_CHECK int
store_medium_open_directory(const char *path, bool create, struct store_medium **ret);
DOR_MUST_CHECK int store_medium_open_memory(struct store_medium **ret);
void store_medium_close(struct store_medium *medium);
/* For messages: the directory's path or "memory". */
const char *store_medium_name(const struct store_medium *medium);

/* Take the writer's lock until the medium is closed; DOR_E_BUSY when another has it. */
DOR_MUST_CHECK int store_medium_lock(struct store_medium *medium);

DOR_MUST_CHECK int
store_medium_open(struct store_medium *medium, const char *name, bool write, int *ret);
DOR_MUST_CHECK int store_medium_create(struct store_medium *medium, const char *name, int *ret);
/* Atomic: readers see the old or the new contents; durable on return. */
DOR_MUST_CHECK int store_medium_replace(
    struct store_medium *medium, const char *name, const void *data, size_t size_bytes);
DOR_MUST_CHECK int
store_medium_rename(struct store_medium *medium, const char *from, const char *to);
/* A second name for a file; DOR_E_EXISTS when TO is there. */
DOR_MUST_CHECK int
store_medium_link(struct store_medium *medium, const char *from, const char *to);
DOR_MUST_CHECK int store_medium_unlink(struct store_medium *medium, const char *name);
/* Created, renamed and removed names are durable on return. */
DOR_MUST_CHECK int store_medium_sync(struct store_medium *medium);
DOR_MUST_CHECK int
store_medium_list(struct store_medium *medium, base_dir_fn *visit, void *context);

#endif
