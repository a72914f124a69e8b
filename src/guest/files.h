/* SPDX-License-Identifier: Apache-2.0 */
/*
 * files.h - which file a page of the page cache, or a mapping, belongs to.
 *
 * Ownership:  adds rows to the look's files.
 * Threads:    one.
 * Errors:     DOR_E_NO_MEMORY; what is no file is row UINT32_MAX.
 */
#ifndef DOR_GUEST_FILES_H
#define DOR_GUEST_FILES_H

#include "guest/look.h"

/* The file of the struct file at ADDRESS, which may be 0. */
DOR_MUST_CHECK int
guest_files_of_file(struct guest_look *look, uint64_t address, uint32_t *ret);

/* Find the file and the place in it of every page of the page cache. */
DOR_MUST_CHECK int guest_files_read(struct guest_look *look);

#endif
