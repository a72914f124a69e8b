/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resp.h - requests of the Redis protocol out of bytes: arrays of bulk strings, and inline
 * commands. Nothing is copied: arguments lie where they arrived.
 *
 * A bulk longer than RESP_LARGE_BYTES does not pass through the buffer of its request: the parser
 * stops at its head, the caller takes its bytes out of the stream, puts the place into a list and
 * parses on. A request that is not complete leaves where the look for its end goes on, so a long
 * one that comes in small pieces is looked at once, and then parsed.
 *
 * Ownership:  arguments borrow the caller's bytes.
 * Threads:    pure functions of their arguments.
 * Errors:     RESP_BROKEN, with the text that Redis sends for it.
 */
#ifndef DOR_TABLE_RESP_H
#define DOR_TABLE_RESP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    RESP_LARGE_BYTES = 64 << 10,
    RESP_INLINE_BYTES_MAX = 64 << 10, /* of an inline command, and of the line before a bulk */
    RESP_ARGS_MAX = 1 << 20,
    RESP_ERROR_BYTES = 64,
};

#define RESP_BULK_BYTES_MAX (512u << 20)

struct table_arg {
    const uint8_t *bytes;
    uint32_t length;
    int32_t large; /* index in the list of large ones, -1 = came with its request */
};

/* An argument whose bytes are not in the buffer, with the line end behind it taken out as well. */
struct resp_large {
    uint32_t index; /* of the argument */
    uint32_t length;
    const uint8_t *bytes;
};

/* How far into a request that is not complete all is known; zero at the begin of each request. */
struct resp_state {
    size_t offset;
    uint32_t left;    /* arguments whose head is not complete yet */
    uint32_t total;   /* 0 = the first line is not complete */
    size_t line_seen; /* bytes in which no line end was found */
};

/* Arguments of one request or of several in a row. */
struct resp_args {
    struct table_arg *args;
    uint32_t count, cap;
    uint8_t *line; /* of the last inline command, without quotes */
    size_t line_cap;
};

enum resp_result {
    RESP_COMPLETE, /* a request of USED bytes; one without arguments is to be passed over */
    RESP_PARTIAL,  /* more bytes are needed */
    RESP_LARGE, /* the bytes at USED are those of the bulk FOUND; a new request's args are there */
    RESP_BROKEN, /* error holds why */
    RESP_NO_MEMORY,
};

struct resp_request {
    const struct resp_large *large;
    uint32_t large_count;
    struct resp_state state;
    struct resp_large found; /* with RESP_LARGE: index and length */
    size_t used;
    char error[RESP_ERROR_BYTES];
};

/*
 * Look at LENGTH bytes that begin a request. REQUEST is zero for a new one and kept for one that
 * goes on. Arguments of a complete one are added to ARGS; those of an inline command stay until
 * the next one.
 */
enum resp_result resp_parse(
    struct resp_request *request, const uint8_t *bytes, size_t length, struct resp_args *args);

void resp_args_free(struct resp_args *args);

/* False unless BYTES are a decimal as Redis takes one: no spaces, no plus, no zeros in front. */
bool resp_integer(const uint8_t *bytes, size_t length, int64_t *ret);

#endif
