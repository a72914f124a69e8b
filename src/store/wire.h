/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire.h - writing and reading runs of varints, strings and fixed numbers.
 * A reader that meets the end or a bad number goes bad and stays so, giving zeros: callers
 * check once at the end instead of at every field.
 *
 * Ownership:  a reader borrows its bytes; strings are copied out.
 * Threads:    plain values.
 * Errors:     writers return DOR_E_NO_MEMORY through store_put_*; readers have the flag `bad`.
 */
#ifndef DOR_STORE_WIRE_H
#define DOR_STORE_WIRE_H

#include <stdbool.h>
#include <string.h>

#include "base/le.h"
#include "base/mem.h"

struct store_reader {
    const uint8_t *at, *end;
    bool bad;
};

DOR_MUST_CHECK static inline int
store_put_varint(struct base_buf *buf, uint64_t value)
{
    int err = base_buf_reserve(buf, 10);
    if (err == 0)
        buf->size_bytes =
            (size_t)(base_varint_put(buf->data + buf->size_bytes, value) - buf->data);
    return err;
}

DOR_MUST_CHECK static inline int
store_put_u64(struct base_buf *buf, uint64_t value)
{
    uint8_t bytes[8];
    base_le64_put(bytes, value);
    return base_buf_append(buf, bytes, sizeof bytes);
}

DOR_MUST_CHECK static inline int
store_put_string(struct base_buf *buf, const char *text)
{
    size_t size_bytes = strlen(text);
    int err = store_put_varint(buf, size_bytes);
    return err != 0 ? err : base_buf_append(buf, text, size_bytes);
}

static inline uint64_t
store_get_varint(struct store_reader *reader)
{
    uint64_t value = 0;
    const uint8_t *next = reader->bad ? NULL : base_varint_get(reader->at, reader->end, &value);
    if (next == NULL) {
        reader->bad = true;
        return 0;
    }
    reader->at = next;
    return value;
}

/* A varint that must be at most MAX. */
static inline uint64_t
store_get_bounded(struct store_reader *reader, uint64_t max)
{
    uint64_t value = store_get_varint(reader);
    if (value > max) {
        reader->bad = true;
        return 0;
    }
    return value;
}

static inline uint64_t
store_get_u64(struct store_reader *reader)
{
    if (reader->bad || reader->end - reader->at < 8) {
        reader->bad = true;
        return 0;
    }
    uint64_t value = base_le64_get(reader->at);
    reader->at += 8;
    return value;
}

/* Into TEXT of SIZE_BYTES, always terminated; bytes of 0 inside make the reader bad. */
static inline void
store_get_string(struct store_reader *reader, char *text, size_t size_bytes)
{
    uint64_t length = store_get_bounded(reader, size_bytes - 1);
    if (length > (size_t)(reader->end - reader->at) || memchr(reader->at, 0, length) != NULL) {
        reader->bad = true;
        length = 0;
    }
    memcpy(text, reader->at, length);
    text[length] = 0;
    reader->at += length;
}

#endif
