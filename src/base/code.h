/* SPDX-License-Identifier: Apache-2.0 */
/*
 * code.h - the program's own instructions, before they are needed. Code that never ran is only on
 * the disk; a server that waits for its first client can fetch it meanwhile.
 *
 * Ownership:  nothing is allocated.
 * Threads:    any.
 * Errors:     none: it is only sooner or later.
 */
#ifndef DOR_BASE_CODE_H
#define DOR_BASE_CODE_H

/* Map all pages of the program's and its libraries' code and constants (Linux 5.14 and later). */
void base_code_populate(void);

#endif
