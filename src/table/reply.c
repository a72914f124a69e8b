/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reply.c - replies into chunks.
 *
 * Chunks are sent in their order; the last one is written while earlier ones, or an earlier part of
 * itself, may be on their way to the socket. So what is written never moves. An array whose length
 * is not known begins a chunk with room for its head in front of it.
 */
#include "table/reply.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

#define CHUNK_ROOM     ((uint32_t)(TABLE_CHUNK_BYTES - sizeof(struct table_chunk)))
#define CHUNKS_KEPT    256
#define HEAD_BYTES_MAX 32 /* a type, 20 digits, a line end */
#define TEXT_BYTES_MAX 1024

static struct table_chunk *
new_chunk(struct table_reply *reply)
{
    struct table_chunk_pool *pool = reply->pool;
    struct table_chunk *chunk = pool->free;
    if (chunk != NULL) {
        pool->free = chunk->next;
        pool->free_count--;
    } else {
        chunk = base_alloc(TABLE_CHUNK_BYTES);
        if (chunk == NULL)
            return NULL;
    }
    chunk->next = NULL;
    chunk->begin = chunk->end = 0;
    chunk->cap = CHUNK_ROOM;
    chunk->ref = 0;
    chunk->table = NULL;
    chunk->bytes = chunk->data;
    return chunk;
}

static void
free_chunk(struct table_chunk_pool *pool, struct table_chunk *chunk)
{
    if (chunk->table != NULL)
        table_unpin(chunk->table, chunk->ref);
    if (chunk->cap == 0 || pool->free_count >= CHUNKS_KEPT) {
        base_free(chunk);
        return;
    }
    chunk->next = pool->free;
    pool->free = chunk;
    pool->free_count++;
}

void
table_chunk_pool_free(struct table_chunk_pool *pool)
{
    while (pool->free != NULL) {
        struct table_chunk *chunk = pool->free;
        pool->free = chunk->next;
        base_free(chunk);
    }
    pool->free_count = 0;
}

void
table_reply_clear(struct table_reply *reply)
{
    while (reply->head != NULL) {
        struct table_chunk *chunk = reply->head;
        reply->head = chunk->next;
        free_chunk(reply->pool, chunk);
    }
    reply->tail = NULL;
    reply->waiting_bytes = reply->copied_bytes = 0;
}

static void
append(struct table_reply *reply, struct table_chunk *chunk)
{
    if (reply->tail != NULL)
        reply->tail->next = chunk;
    else
        reply->head = chunk;
    reply->tail = chunk;
}

/* Make the last chunk an empty one; NULL, and the reply failed, without memory. */
static struct table_chunk *
add_chunk(struct table_reply *reply)
{
    struct table_chunk *chunk = reply->failed ? NULL : new_chunk(reply);
    if (chunk == NULL) {
        reply->failed = true;
        return NULL;
    }
    append(reply, chunk);
    return chunk;
}

/* Where COUNT bytes, less than a chunk holds, can be written; NULL without memory. */
static inline uint8_t *
room(struct table_reply *reply, size_t count)
{
    struct table_chunk *tail = reply->tail;
    if (__builtin_expect(tail == NULL || tail->cap < tail->end + count, 0)) {
        tail = add_chunk(reply);
        if (tail == NULL)
            return NULL;
    }
    return tail->data + tail->end;
}

/* COUNT bytes have been written there. */
static inline void
wrote(struct table_reply *reply, size_t count)
{
    reply->tail->end += (uint32_t)count;
    reply->waiting_bytes += count;
    reply->copied_bytes += count;
}

unsigned
table_reply_pieces(const struct table_reply *reply, struct iovec *pieces, unsigned count)
{
    unsigned n = 0;
    for (struct table_chunk *chunk = reply->head; chunk != NULL && n < count;
         chunk = chunk->next) {
        if (chunk->begin == chunk->end)
            continue;
        /* Nobody writes through an iovec that is sent. */
        uintptr_t at = (uintptr_t)(chunk->bytes + chunk->begin);
        pieces[n++] = (struct iovec){(void *)at, chunk->end - chunk->begin};
    }
    return n;
}

void
table_reply_sent(struct table_reply *reply, size_t sent)
{
    reply->waiting_bytes -= sent;
    while (reply->head != NULL) {
        struct table_chunk *chunk = reply->head;
        uint32_t here = chunk->end - chunk->begin;
        if (sent < here) {
            chunk->begin += (uint32_t)sent;
            if (chunk->cap != 0)
                reply->copied_bytes -= sent;
            return;
        }
        sent -= here;
        if (chunk->cap != 0)
            reply->copied_bytes -= here;
        reply->head = chunk->next;
        if (reply->head == NULL)
            reply->tail = NULL;
        free_chunk(reply->pool, chunk);
    }
}

void
table_reply_raw(struct table_reply *reply, const void *bytes, size_t length)
{
    const uint8_t *from = bytes;
    while (length > 0) {
        uint8_t *at = room(reply, 1);
        if (at == NULL)
            return;
        size_t here = reply->tail->cap - reply->tail->end;
        if (here > length)
            here = length;
        memcpy(at, from, here);
        wrote(reply, here);
        from += here;
        length -= here;
    }
}

/* The decimal of NUMBER at OUT; its length. */
static inline unsigned
put_number(uint8_t *out, uint64_t number)
{
    if (number < 10) {
        out[0] = (uint8_t)('0' + number);
        return 1;
    }
    uint8_t digits[20];
    unsigned n = 0;
    do
        digits[n++] = (uint8_t)('0' + number % 10);
    while ((number /= 10) != 0);
    for (unsigned i = 0; i < n; i++)
        out[i] = digits[n - 1 - i];
    return n;
}

/* TYPE, NUMBER and a line end at OUT. */
static inline unsigned
put_head(uint8_t *out, char type, uint64_t number)
{
    out[0] = (uint8_t)type;
    unsigned n = 1 + put_number(out + 1, number);
    out[n] = '\r';
    out[n + 1] = '\n';
    return n + 2;
}

static inline void
head(struct table_reply *reply, char type, uint64_t number)
{
    uint8_t *at = room(reply, HEAD_BYTES_MAX);
    if (at != NULL)
        wrote(reply, put_head(at, type, number));
}

static inline void
literal(struct table_reply *reply, const char *text, size_t length)
{
    uint8_t *at = room(reply, length);
    if (at == NULL)
        return;
    memcpy(at, text, length);
    wrote(reply, length);
}

void
table_reply_ok(struct table_reply *reply)
{
    literal(reply, "+OK\r\n", 5);
}

void
table_reply_status(struct table_reply *reply, const char *text)
{
    table_reply_raw(reply, "+", 1);
    table_reply_raw(reply, text, strlen(text));
    table_reply_raw(reply, "\r\n", 2);
}

void
table_reply_error_bytes(struct table_reply *reply, const void *bytes, size_t length)
{
    const uint8_t *text = bytes;
    reply->errors++;
    table_reply_raw(reply, "-", 1);
    for (size_t i = 0; i < length; i++)
        table_reply_raw(
            reply, text[i] == '\r' || text[i] == '\n' ? (const uint8_t *)" " : text + i, 1);
    table_reply_raw(reply, "\r\n", 2);
}

/* What is longer than TEXT is cut. */
__attribute__((format(printf, 2, 0))) static size_t
format(char text[static TEXT_BYTES_MAX], const char *fmt, va_list args)
{
    int length = vsnprintf(text, TEXT_BYTES_MAX, fmt, args);
    if (length < 0)
        return 0;
    return length < TEXT_BYTES_MAX ? (size_t)length : TEXT_BYTES_MAX - 1;
}

void
table_reply_error(struct table_reply *reply, const char *fmt, ...)
{
    char text[TEXT_BYTES_MAX];
    va_list args;
    va_start(args, fmt);
    size_t length = format(text, fmt, args);
    va_end(args);
    table_reply_error_bytes(reply, text, length);
}

void
table_reply_integer(struct table_reply *reply, int64_t number)
{
    uint8_t *at = room(reply, HEAD_BYTES_MAX);
    if (at == NULL)
        return;
    if (number >= 0) {
        wrote(reply, put_head(at, ':', (uint64_t)number));
        return;
    }
    /* The head of the magnitude, moved on by its sign. */
    unsigned n = put_head(at + 1, '-', 0 - (uint64_t)number);
    at[0] = ':';
    wrote(reply, n + 1);
}

/* The fewest digits that are read back as NUMBER: 0.1 and not 0.10000000000000001. */
static void
format_double(double number, char *text, size_t size)
{
    if (isinf(number) || isnan(number)) {
        snprintf(text, size, "%s", isnan(number) ? "nan" : number > 0 ? "inf" : "-inf");
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, size, "%.*g", digits, number);
        if (strtod(text, NULL) == number)
            return;
    }
}

void
table_reply_double(struct table_reply *reply, double number)
{
    char text[64];
    format_double(number, text, sizeof text);
    if (reply->protocol < 3) {
        table_reply_text(reply, text);
        return;
    }
    table_reply_raw(reply, ",", 1);
    table_reply_raw(reply, text, strlen(text));
    table_reply_raw(reply, "\r\n", 2);
}

void
table_reply_bool(struct table_reply *reply, bool value)
{
    if (reply->protocol < 3)
        table_reply_integer(reply, value);
    else
        literal(reply, value ? "#t\r\n" : "#f\r\n", 4);
}

void
table_reply_bulk(struct table_reply *reply, const void *bytes, size_t length)
{
    if (__builtin_expect(length + HEAD_BYTES_MAX + 2 <= CHUNK_ROOM, 1)) {
        uint8_t *at = room(reply, length + HEAD_BYTES_MAX + 2);
        if (at == NULL)
            return;
        unsigned n = put_head(at, '$', length);
        if (length != 0)
            memcpy(at + n, bytes, length);
        memcpy(at + n + length, "\r\n", 2);
        wrote(reply, n + length + 2);
        return;
    }
    head(reply, '$', length);
    table_reply_raw(reply, bytes, length);
    literal(reply, "\r\n", 2);
}

void
table_reply_text(struct table_reply *reply, const char *text)
{
    table_reply_bulk(reply, text, strlen(text));
}

void
table_reply_format(struct table_reply *reply, const char *fmt, ...)
{
    char text[TEXT_BYTES_MAX];
    va_list args;
    va_start(args, fmt);
    size_t length = format(text, fmt, args);
    va_end(args);
    table_reply_bulk(reply, text, length);
}

void
table_reply_verbatim(struct table_reply *reply, const void *bytes, size_t length)
{
    if (reply->protocol < 3) {
        table_reply_bulk(reply, bytes, length);
        return;
    }
    head(reply, '=', length + 4);
    literal(reply, "txt:", 4);
    table_reply_raw(reply, bytes, length);
    literal(reply, "\r\n", 2);
}

void
table_reply_null(struct table_reply *reply)
{
    if (reply->protocol < 3)
        literal(reply, "$-1\r\n", 5);
    else
        literal(reply, "_\r\n", 3);
}

void
table_reply_null_array(struct table_reply *reply)
{
    if (reply->protocol < 3)
        literal(reply, "*-1\r\n", 5);
    else
        literal(reply, "_\r\n", 3);
}

/* A chunk that is the record's own memory; false when it cannot be pinned. */
static bool
add_pinned(struct table_reply *reply, struct table *table, const struct table_value *value)
{
    struct table_chunk *chunk = base_alloc(sizeof *chunk);
    if (chunk == NULL || table_pin(table, value->ref) != 0) {
        base_free(chunk);
        return false;
    }
    *chunk = (struct table_chunk){
        .end = value->length, .ref = value->ref, .table = table, .bytes = value->bytes};
    append(reply, chunk);
    reply->waiting_bytes += value->length;
    return true;
}

void
table_reply_value(
    struct table_reply *reply, struct table *table, const struct table_value *value)
{
    if (__builtin_expect(value->length < TABLE_PIN_BYTES, 1)) {
        table_reply_bulk(reply, value->bytes, value->length);
        return;
    }
    head(reply, '$', value->length);
    if (reply->failed || !add_pinned(reply, table, value)) {
        reply->failed = true;
        return;
    }
    literal(reply, "\r\n", 2);
}

void
table_reply_array(struct table_reply *reply, uint64_t count)
{
    head(reply, '*', count);
}

void
table_reply_map(struct table_reply *reply, uint64_t count)
{
    if (reply->protocol < 3)
        head(reply, '*', count * 2);
    else
        head(reply, '%', count);
}

void
table_reply_set(struct table_reply *reply, uint64_t count)
{
    head(reply, reply->protocol < 3 ? '*' : '~', count);
}

struct table_chunk *
table_reply_array_begin(struct table_reply *reply)
{
    struct table_chunk *chunk = add_chunk(reply);
    if (chunk != NULL)
        chunk->begin = chunk->end = HEAD_BYTES_MAX + TABLE_BEFORE_BYTES_MAX;
    return chunk;
}

static void
put_before(
    struct table_reply *reply, struct table_chunk *begun, const void *bytes, size_t length)
{
    begun->begin -= (uint32_t)length;
    memcpy(begun->data + begun->begin, bytes, length);
    reply->waiting_bytes += length;
    reply->copied_bytes += length;
}

void
table_reply_array_end(
    struct table_reply *reply, struct table_chunk *begun, const char *before, uint64_t count)
{
    if (begun == NULL)
        return;
    uint8_t text[HEAD_BYTES_MAX];
    put_before(reply, begun, text, put_head(text, '*', count));
    if (before != NULL) {
        dor_assert(strlen(before) <= TABLE_BEFORE_BYTES_MAX);
        put_before(reply, begun, before, strlen(before));
    }
}
