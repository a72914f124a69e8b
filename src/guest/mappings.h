/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mappings.h - the mappings of a process (VMAs) out of the kernel's maple tree, or out of its list
 * up to Linux 6.0.
 *
 * Ownership:  adds rows to the look's mappings.
 * Threads:    one.
 * Errors:     DOR_E_NO_MEMORY; trees that make no sense are cut, and the result is partial.
 */
#ifndef DOR_GUEST_MAPPINGS_H
#define DOR_GUEST_MAPPINGS_H

#include "guest/look.h"

/* Of the kernel's vm_flags: writable; pages put there by a driver (VM_PFNMAP). */
#define GUEST_MAPPING_WRITE  UINT64_C(2)
#define GUEST_MAPPING_DEVICE UINT64_C(0x400)

/* Read all mappings of PROCESS, a row of the look, whose struct mm_struct is at MM. */
DOR_MUST_CHECK int guest_mappings_read(struct guest_look *look, size_t process, uint64_t mm);

#endif
