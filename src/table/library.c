/* SPDX-License-Identifier: Apache-2.0 */
/*
 * library.c - the first line of a library, and dumps.
 *
 *     dump:  for each library u8 f5, its length, its text; then u16 version, u64 CRC-64 of all
 * before
 *     length: 00nnnnnn | 01nnnnnn n8 | 80 n32, the last two big-endian
 *
 * All as in Redis 7 (rdb.h, RDB_OPCODE_FUNCTION2), but texts are never compressed here.
 */
#include "table/library.h"

#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/le.h"

#define DUMP_LIBRARY  0xf5
#define DUMP_VERSION  10
#define DUMP_END      10                           /* bytes */
#define CRC64_REFLECT UINT64_C(0x95ac9329ac4bc9b5) /* Jones, as Redis has it */

bool
table_library_name_is_good(const uint8_t *name, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!((name[i] >= '0' && name[i] <= '9') || (name[i] >= 'A' && name[i] <= 'Z') ||
              (name[i] >= 'a' && name[i] <= 'z') || name[i] == '_'))
            return false;
    return length > 0;
}

/* The next word of the line up to END, without blanks before it; empty at the end. */
static struct table_engine_bytes
next_word(const uint8_t **at, const uint8_t *end)
{
    while (*at < end && (**at == ' ' || **at == '\t' || **at == '\r'))
        ++*at;
    const uint8_t *begin = *at;
    while (*at < end && **at != ' ' && **at != '\t' && **at != '\r')
        ++*at;
    return (struct table_engine_bytes){begin, (size_t)(*at - begin)};
}

static bool
is(struct table_engine_bytes word, const char *text)
{
    return word.length == strlen(text) &&
           strncasecmp((const char *)word.bytes, text, word.length) == 0;
}

static int
parse_flags(struct table_engine_bytes list, uint32_t *ret)
{
    static const char *const names[] = {TABLE_FUNCTION_FLAG_NAMES};
    const uint8_t *at = list.bytes, *end = list.bytes + list.length;
    while (at < end) {
        const uint8_t *comma = memchr(at, ',', (size_t)(end - at));
        const uint8_t *stop = comma != NULL ? comma : end;
        struct table_engine_bytes word = {at, (size_t)(stop - at)};
        unsigned i = 0;
        while (i < sizeof names / sizeof names[0] && !is(word, names[i]))
            i++;
        if (i == sizeof names / sizeof names[0])
            return dor_fail(DOR_E_USAGE, "unknown flag given");
        *ret |= 1u << i;
        at = comma != NULL ? comma + 1 : end;
    }
    return 0;
}

static int
parse_option(struct table_engine_bytes word, struct table_library_head *head)
{
    const uint8_t *equals = memchr(word.bytes, '=', word.length);
    size_t key_length = equals != NULL ? (size_t)(equals - word.bytes) : word.length;
    struct table_engine_bytes key = {word.bytes, key_length};
    struct table_engine_bytes value = {
        word.bytes + key_length + 1, equals != NULL ? word.length - key_length - 1 : 0};
    if (equals == NULL)
        value.bytes = word.bytes;
    if (is(key, "name") && equals != NULL) {
        if (head->name.bytes != NULL)
            return dor_fail(
                DOR_E_USAGE, "Invalid metadata value, name argument was given multiple times");
        head->name = value;
        return 0;
    }
    if (is(key, "flags") && equals != NULL)
        return parse_flags(value, &head->flags);
    if (is(key, "api_version") && (is(value, "1.0") || is(value, "1.1")))
        return 0;
    return dor_fail(
        DOR_E_USAGE, "Invalid metadata value given: %.*s",
        (int)(word.length < 128 ? word.length : 128), (const char *)word.bytes);
}

int
table_library_parse(const uint8_t *source, size_t length, struct table_library_head *ret)
{
    struct table_library_head head = {0};
    if (length > TABLE_LIBRARY_BYTES_MAX)
        return dor_fail(DOR_E_USAGE, "the library is longer than 16 MiB");
    if (length < 2 || source[0] != '#' || source[1] != '!')
        return dor_fail(DOR_E_USAGE, "Missing library metadata");
    const uint8_t *end = memchr(source, '\n', length);
    if (end == NULL)
        return dor_fail(DOR_E_USAGE, "Invalid library metadata");
    const uint8_t *at = source + 2;
    struct table_engine_bytes engine = next_word(&at, end);
    if (is(engine, "js"))
        memcpy(head.engine, "js", 3);
    else if (is(engine, "wasm"))
        memcpy(head.engine, "wasm", 5);
    else
        return dor_fail(
            DOR_E_USAGE, "Engine '%.*s' not found",
            (int)(engine.length < 128 ? engine.length : 128), (const char *)engine.bytes);
    for (;;) {
        struct table_engine_bytes word = next_word(&at, end);
        if (word.length == 0)
            break;
        int rc = parse_option(word, &head);
        if (rc != 0)
            return rc;
    }
    if (head.name.bytes == NULL)
        return dor_fail(DOR_E_USAGE, "Library name was not given");
    if (!table_library_name_is_good(head.name.bytes, head.name.length))
        return dor_fail(
            DOR_E_USAGE, "Library names can only contain letters, numbers, or underscores(_) "
                         "and must be at least one character long");
    if (head.name.length > TABLE_LIBRARY_NAME_BYTES_MAX)
        return dor_fail(DOR_E_USAGE, "Library names have at most 255 characters");
    head.code_offset = (size_t)(end - source);
    *ret = head;
    return 0;
}

/* ---- dumps ---- */

static uint64_t
crc64(const uint8_t *bytes, size_t length)
{
    uint64_t crc = 0;
    for (size_t i = 0; i < length; i++) {
        crc ^= bytes[i];
        for (unsigned bit = 0; bit < 8; bit++)
            crc = (crc & 1) != 0 ? crc >> 1 ^ CRC64_REFLECT : crc >> 1;
    }
    return crc;
}

int
table_dump_add(struct base_buf *buf, const uint8_t *source, size_t length)
{
    uint8_t head[6] = {DUMP_LIBRARY};
    size_t head_bytes;
    if (length < 64) {
        head[1] = (uint8_t)length;
        head_bytes = 2;
    } else if (length < 16384) {
        head[1] = (uint8_t)(0x40 | length >> 8);
        head[2] = (uint8_t)length;
        head_bytes = 3;
    } else {
        head[1] = 0x80;
        for (unsigned i = 0; i < 4; i++)
            head[2 + i] = (uint8_t)(length >> (24 - 8 * i));
        head_bytes = 6;
    }
    int rc = base_buf_append(buf, head, head_bytes);
    return rc != 0 ? rc : base_buf_append(buf, source, length);
}

int
table_dump_end(struct base_buf *buf)
{
    uint8_t version[2], check[8];
    base_le16_put(version, DUMP_VERSION);
    int rc = base_buf_append(buf, version, sizeof version);
    if (rc != 0)
        return rc;
    base_le64_put(check, crc64(buf->data, buf->size_bytes));
    return base_buf_append(buf, check, sizeof check);
}

static int
bad_dump(void)
{
    return dor_fail(DOR_E_CORRUPT, "DUMP payload version or checksum are wrong");
}

int
table_dump_check(const uint8_t *dump, size_t length, size_t *ret)
{
    if (length < DUMP_END || base_le16_get(dump + length - DUMP_END) > DUMP_VERSION ||
        base_le64_get(dump + length - 8) != crc64(dump, length - 8))
        return bad_dump();
    *ret = length - DUMP_END;
    return 0;
}

int
table_dump_next(const uint8_t *dump, size_t length, size_t *at, struct table_engine_bytes *ret)
{
    const uint8_t *p = dump + *at;
    size_t left = length - *at, head, bytes;
    if (left < 2 || p[0] != DUMP_LIBRARY)
        return dor_fail(DOR_E_CORRUPT, "given type is not a function");
    if (p[1] < 0x40) {
        head = 2;
        bytes = p[1];
    } else if (p[1] < 0x80 && left >= 3) {
        head = 3;
        bytes = (size_t)(p[1] & 0x3f) << 8 | p[2];
    } else if (p[1] == 0x80 && left >= 6) {
        head = 6;
        bytes = (size_t)p[2] << 24 | (size_t)p[3] << 16 | (size_t)p[4] << 8 | p[5];
    } else {
        return dor_fail(DOR_E_CORRUPT, "the dump holds a library in a way that is not known");
    }
    if (bytes > left - head)
        return dor_fail(DOR_E_CORRUPT, "the dump ends inside a library");
    *ret = (struct table_engine_bytes){p + head, bytes};
    *at += head + bytes;
    return 0;
}
