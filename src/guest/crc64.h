/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crc64.h - the CRC that ends a Firecracker vmstate: 64 bits, polynomial of D. Jones
 * (0xad93d23594c935a9), bits reflected, begins at 0 and is not inverted at the end. Bytes followed
 * by their CRC, lowest byte first, have a CRC of 0.
 *
 * Ownership:  nothing is allocated.
 * Threads:    any.
 * Errors:     none.
 */
#ifndef DOR_GUEST_CRC64_H
#define DOR_GUEST_CRC64_H

#include <stddef.h>
#include <stdint.h>

/* The CRC of DATA after bytes that have CRC; begin with 0. */
uint64_t guest_crc64(uint64_t crc, const void *data, size_t size_bytes);

#endif
