/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reply.h - replies in either version of the protocol, written where the socket takes them from.
 * Output is a row of chunks from a pool; a large value is no bytes in a chunk but a pin of its
 * record, and is sent from the arena.
 *
 * Ownership:  table_reply_clear() gives chunks and pins back.
 * Threads:    one reply, one pool, one thread.
 * Errors:     without memory a reply is marked failed; its client is closed. So nothing here
 * returns
 *             an error.
 */
#ifndef DOR_TABLE_REPLY_H
#define DOR_TABLE_REPLY_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "table/table.h"

enum {
    TABLE_CHUNK_BYTES = 16 << 10, /* with its head */
    TABLE_PIN_BYTES = 32 << 10,   /* values from this length on are not copied */
    TABLE_BEFORE_BYTES_MAX = 64,
};

struct table_chunk {
    struct table_chunk *next;
    uint32_t begin, end;  /* of what is to be sent */
    uint32_t cap;         /* bytes in data; 0 for a pinned value */
    uint32_t ref;         /* of the pinned record */
    struct table *table;  /* whose record */
    const uint8_t *bytes; /* data or the value */
    uint8_t data[];
};

struct table_chunk_pool {
    struct table_chunk *free;
    uint32_t free_count;
};

struct table_reply {
    struct table_chunk_pool *pool;
    struct table_chunk *head, *tail;
    uint64_t waiting_bytes; /* written and not sent */
    uint64_t copied_bytes;  /* of these in chunks, not pinned */
    uint64_t errors;        /* error replies so far */
    uint8_t protocol;       /* 2 or 3 */
    bool failed;
};

void table_reply_clear(struct table_reply *reply);
void table_chunk_pool_free(struct table_chunk_pool *pool);

/* Up to COUNT pieces of what waits; how many. */
unsigned
table_reply_pieces(const struct table_reply *reply, struct iovec *pieces, unsigned count);

/* SENT bytes have gone. */
void table_reply_sent(struct table_reply *reply, size_t sent);

void table_reply_raw(struct table_reply *reply, const void *bytes, size_t length);
void table_reply_status(struct table_reply *reply, const char *text); /* "OK" */
void table_reply_ok(struct table_reply *reply);

/* "-" and the text: a word in capitals first. Line ends become spaces. */
void table_reply_error(struct table_reply *reply, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void table_reply_error_bytes(struct table_reply *reply, const void *bytes, size_t length);

void table_reply_integer(struct table_reply *reply, int64_t number);
void table_reply_double(struct table_reply *reply, double number);
void table_reply_bool(struct table_reply *reply, bool value); /* 1 or 0 in version 2 */
void table_reply_bulk(struct table_reply *reply, const void *bytes, size_t length);
void table_reply_text(struct table_reply *reply, const char *text);      /* a bulk */
void table_reply_format(struct table_reply *reply, const char *fmt, ...) /* a bulk */
    __attribute__((format(printf, 2, 3)));
void table_reply_verbatim(struct table_reply *reply, const void *bytes, size_t length);
void table_reply_null(struct table_reply *reply);
void table_reply_null_array(struct table_reply *reply);

/* A value that table_find() has just given, pinned when it is large. */
void table_reply_value(
    struct table_reply *reply, struct table *table, const struct table_value *value);

/* Heads of what follows; a map of COUNT pairs is an array of twice as many in version 2. */
void table_reply_array(struct table_reply *reply, uint64_t count);
void table_reply_map(struct table_reply *reply, uint64_t count);
void table_reply_set(struct table_reply *reply, uint64_t count);

/*
 * An array whose length is known when its elements are written; in front of it BEFORE, NULL =
 * nothing.
 */
struct table_chunk *table_reply_array_begin(struct table_reply *reply);
void table_reply_array_end(
    struct table_reply *reply, struct table_chunk *begun, const char *before, uint64_t count);

#endif
