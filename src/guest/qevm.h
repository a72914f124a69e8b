/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qevm.h - the beginning of a QEMU migration stream: which machine, and which blocks of RAM it
 * has. What follows, the state of the devices, can only be read by the QEMU that wrote it.
 *
 * Ownership:  the stream's block list is freed by guest_qevm_fini(); names point into the file.
 * Threads:    plain values.
 * Errors:     DOR_E_CORRUPT for a stream that is cut or contradicts itself, DOR_E_UNSUPPORTED for
 *             what is not known.
 */
#ifndef DOR_GUEST_QEVM_H
#define DOR_GUEST_QEVM_H

#include "guest/image_priv.h"

struct guest_qevm_block {
    const char *name; /* name_bytes of them, not terminated */
    size_t name_bytes;
    uint64_t used_bytes;
    uint64_t address;    /* with x-ignore-shared; otherwise DOR_IMAGE_NO_ADDRESS */
    uint64_t header_end; /* offset in the file after the block's header */
    /* mapped-ram; both 0 for a block whose pages are not in the file. */
    uint64_t bitmap_offset;
    uint64_t pages_offset;
};

struct guest_qevm {
    const char *machine;
    size_t machine_bytes;
    bool mapped_ram;
    bool ignore_shared;
    struct guest_qevm_block *blocks;
    size_t block_count;
};

bool guest_qevm_matches(const struct guest_file *file);

/* A stream without a RAM section has no blocks; that is no error. */
DOR_MUST_CHECK int guest_qevm_read(const struct guest_file *file, struct guest_qevm *ret);
void guest_qevm_fini(struct guest_qevm *stream);

/* Where the hole below 4 GiB begins in this machine with RAM_BYTES of memory. */
uint64_t guest_qevm_low_bytes(const struct guest_qevm *stream, uint64_t ram_bytes);

#endif
