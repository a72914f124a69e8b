/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crc64.c - a byte at a time through one table, which the first call makes. A vmstate has at most
 * 10 MB, so nothing faster is needed.
 */
#include "guest/crc64.h"

#include <threads.h>

/* 0xad93d23594c935a9 with its bits in the other order. */
#define POLYNOMIAL UINT64_C(0x95ac9329ac4bc9b5)

static uint64_t table[256];
static once_flag table_made = ONCE_FLAG_INIT;

static void
make_table(void)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        uint64_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ ((crc & 1) != 0 ? POLYNOMIAL : 0);
        table[byte] = crc;
    }
}

uint64_t
guest_crc64(uint64_t crc, const void *data, size_t size_bytes)
{
    const uint8_t *bytes = data;
    call_once(&table_made, make_table);
    for (size_t i = 0; i < size_bytes; i++)
        crc = table[(crc ^ bytes[i]) & 0xff] ^ crc >> 8;
    return crc;
}
