/* SPDX-License-Identifier: Apache-2.0 */
/*
 * btf.h - the part of a profile that a kernel's own type information (BTF) tells.
 *
 * Ownership:  the bytes are the caller's and are copied.
 * Threads:    any.
 * Errors:     DOR_E_CORRUPT for bytes that are no BTF or lie about their sizes, DOR_E_NO_MEMORY.
 */
#ifndef DOR_GUEST_BTF_H
#define DOR_GUEST_BTF_H

#include "guest/kernel.h"
#include "guest/profile.h"

/* Fill in the numbers of PROFILE that DATA knows. */
DOR_MUST_CHECK int
guest_btf_read(const void *data, size_t size_bytes, struct guest_profile *profile);

/*
 * The BTF in a kernel's memory: between the symbols __start_BTF and __stop_BTF at START and STOP, or
 * where those are 0, what looks like it in the read-only data of the kernel's image. NULL when there
 * is none. Elsewhere in memory are old copies, which the decompressor left; they are not looked at.
 */
const uint8_t *
guest_btf_find(struct guest_kernel *kernel, uint64_t start, uint64_t stop, size_t *ret_bytes);

#endif
