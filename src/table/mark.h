/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mark.h - the arena as it was at one moment, for a reader in another process while the table
 * goes on. While the mark stands, each page is copied to the mark's memory file before it
 * changes; the reader takes a page from the arena, and the copy instead if there is one by then.
 *
 * Ownership:  a mark belongs to its arena from begin to end; the reader has descriptors of both
 *             files and maps neither, so nothing the writer does to them can stop it.
 * Threads:    begin and end are for the arena's thread, table_mark_read() is for any.
 * Errors:     DOR_E_BUSY while another mark stands, DOR_E_CORRUPT for a file that is no mark,
 *             what the system says.
 */
#ifndef DOR_TABLE_MARK_H
#define DOR_TABLE_MARK_H

#include "table/arena.h"

/*
 * The moment is now. MARK_FD is a memory file of the mark alone; it is taken over also on
 * error.
 */
DOR_MUST_CHECK int table_mark_begin(struct table_arena *arena, int mark_fd);
void table_mark_end(struct table_arena *arena); /* without a mark nothing happens */

/* Bytes of the arena, in whole pages, that the mark in MARK_FD covers. */
DOR_MUST_CHECK int table_mark_arena_bytes(int mark_fd, uint64_t *ret);

/*
 * SIZE_BYTES at OFFSET of the arena as they were at the moment of the mark, both in whole pages
 * and inside ARENA_BYTES, which is what table_mark_arena_bytes() said. The mark must stand
 * meanwhile: who holds it ends it when the reader is done, and a reader whose writer died is
 * done too.
 */
DOR_MUST_CHECK int table_mark_read(
    int arena_fd, int mark_fd, uint64_t arena_bytes, uint64_t offset, size_t size_bytes,
    void *ret);

#endif
