/* SPDX-License-Identifier: Apache-2.0 */
/*
 * le.h - little-endian integers at unaligned addresses, and variable-length integers (LEB128).
 * Everything dormouse puts on disk or on a wire goes through these, never through a cast.
 *
 *     varint: 7 bits a byte, lowest first, bit 7 set on all bytes but the last: 300 is ac 02.
 *     zigzag: 0 -1 1 -2 2 become 0 1 2 3 4, so that small differences make short varints.
 *
 * Ownership:  the caller's buffers.
 * Threads:    pure functions.
 * Errors:     base_varint_get() returns NULL for what is not a varint; the others cannot
 *             fail.
 */
#ifndef DOR_BASE_LE_H
#define DOR_BASE_LE_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { BASE_VARINT_BYTES_MAX = 10 };

static inline uint16_t
base_le16_get(const void *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return le16toh(v);
}

static inline uint32_t
base_le32_get(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return le32toh(v);
}

static inline uint64_t
base_le64_get(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return le64toh(v);
}

static inline void
base_le16_put(void *p, uint16_t v)
{
    v = htole16(v);
    memcpy(p, &v, sizeof v);
}

static inline void
base_le32_put(void *p, uint32_t v)
{
    v = htole32(v);
    memcpy(p, &v, sizeof v);
}

static inline void
base_le64_put(void *p, uint64_t v)
{
    v = htole64(v);
    memcpy(p, &v, sizeof v);
}

/* Write V at P, where BASE_VARINT_BYTES_MAX bytes must be free; returns the byte after it. */
static inline uint8_t *
base_varint_put(uint8_t *p, uint64_t v)
{
    while (v >= 0x80) {
        *p++ = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    *p++ = (uint8_t)v;
    return p;
}

/*
 * Read the varint at P, which ends before END, into *RET; returns the byte after it. NULL when
 * the bytes run out, when it is longer than BASE_VARINT_BYTES_MAX bytes or when it exceeds 64
 * bits.
 */
static inline const uint8_t *
base_varint_get(const uint8_t *p, const uint8_t *end, uint64_t *ret)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64 && p < end; shift += 7) {
        uint64_t byte = *p++;
        if (shift == 63 && byte > 1)
            return NULL;
        v |= (byte & 0x7f) << shift;
        if (byte < 0x80) {
            *ret = v;
            return p;
        }
    }
    return NULL;
}

static inline uint64_t
base_zigzag_encode(int64_t v)
{
    return ((uint64_t)v << 1) ^ (v < 0 ? UINT64_MAX : 0);
}

static inline int64_t
base_zigzag_decode(uint64_t v)
{
    return (int64_t)((v >> 1) ^ ((v & 1) != 0 ? UINT64_MAX : 0));
}

#endif
