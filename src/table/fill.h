/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fill.h - the worker's side of a table that comes back while it is served: each mapping of its
 * arena is handed to the page server, which puts every page there before anybody can see it
 * missing.
 *
 * Ownership:  descriptors are the caller's.
 * Threads:    that of the table, before anything reads the mapping.
 * Errors:     DOR_E_UNSUPPORTED: this system cannot do it; DOR_E_IO.
 */
#ifndef DOR_TABLE_FILL_H
#define DOR_TABLE_FILL_H

#include <dormouse/err.h>
#include <stdint.h>

/*
 * What makes userfaultfds that serve the kernel's own reads and writes too, for a process without
 * privileges; to be opened by one that has them. DOR_E_UNSUPPORTED.
 */
DOR_MUST_CHECK int table_fill_open_device(int *ret);

/*
 * The first SIZE_BYTES at BASE, a mapping of a memory file from its start, are filled by who is
 * at the other end of SOCKET. It hangs up when all is there.
 */
DOR_MUST_CHECK int table_fill_register(int device, int socket, void *base, uint64_t size_bytes);

#endif
