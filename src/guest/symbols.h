/* SPDX-License-Identifier: Apache-2.0 */
/*
 * symbols.h - addresses by name out of the symbol table (kallsyms) that a kernel keeps in memory.
 *
 * Ownership:  the caller's arrays.
 * Threads:    any.
 * Errors:     none; a table that is not there, or does not agree with the note, is false.
 */
#ifndef DOR_GUEST_SYMBOLS_H
#define DOR_GUEST_SYMBOLS_H

#include "guest/kernel.h"

struct guest_wanted {
    const char *name;
    uint64_t address;
    bool found;
};

/* Find COUNT names in one pass. True when the table could be read, whatever was found. */
bool guest_symbols_find(
    const struct guest_kernel *kernel, struct guest_wanted *wanted, size_t count);

#endif
