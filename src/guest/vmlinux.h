/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmlinux.h - a profile from an operator's uncompressed kernel, the ELF file that Firecracker boots.
 *
 * Ownership:  nothing is kept.
 * Threads:    any.
 * Errors:     DOR_E_USAGE for what is no ELF file of x86-64 or has no symbols, DOR_E_CORRUPT for one
 *             that is damaged, otherwise what the system says.
 */
#ifndef DOR_GUEST_VMLINUX_H
#define DOR_GUEST_VMLINUX_H

#include "guest/profile.h"

/* Numbers from section .BTF, where there is one, symbols from .symtab, the build id from its note. */
DOR_MUST_CHECK int guest_vmlinux_read(const char *path, struct guest_profile *ret);

#endif
