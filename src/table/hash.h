/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hash.h - the hashes of keys: 32 bits, and cheap where numbers have 32 bits, because storage
 * functions compute them too (src/table/kv.js has the twin). Strings take MurmurHash3 x86_32
 * (Appleby, public domain); numbers a mixer that loses nothing (Wellons, "hash prospector",
 * unlicensed), so that a number's hash is the number.
 *
 * The seed keeps tables from sharing their bad luck. It is no secret from the tenant: whoever
 * makes keys collide on purpose slows his own table down.
 *
 * Ownership:  nothing is allocated.
 * Threads:    pure functions.
 * Errors:     none.
 */
#ifndef DOR_TABLE_HASH_H
#define DOR_TABLE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "base/le.h"

static inline uint32_t
table_hash_finish(uint32_t h)
{
    h ^= h >> 16;
    h *= 0x85ebca6bu;
    h ^= h >> 13;
    h *= 0xc2b2ae35u;
    return h ^ h >> 16;
}

static inline uint32_t
table_hash_mix(uint32_t word)
{
    word *= 0xcc9e2d51u;
    word = word << 15 | word >> 17;
    return word * 0x1b873593u;
}

static inline uint32_t
table_hash_bytes(uint32_t seed, const uint8_t *bytes, size_t length)
{
    uint32_t h = seed;
    size_t i = 0;
    for (; i + 4 <= length; i += 4) {
        h ^= table_hash_mix(base_le32_get(bytes + i));
        h = (h << 13 | h >> 19) * 5 + 0xe6546b64u;
    }
    uint32_t rest = 0;
    for (size_t j = length; j-- > i;)
        rest = rest << 8 | bytes[j];
    return table_hash_finish(h ^ table_hash_mix(rest) ^ (uint32_t)length);
}

static inline uint32_t
table_hash_number(uint32_t seed, uint32_t number)
{
    uint32_t h = number ^ seed;
    h ^= h >> 16;
    h *= 0x7feb352du;
    h ^= h >> 15;
    h *= 0x846ca68bu;
    return h ^ h >> 16;
}

#endif
