/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wasm_reader.h - what the files that read modules share: places in the input, numbers out of them,
 * and bytes that are written. After an error reading goes on with zeros and empty places, so only
 * loops need to look at it.
 *
 * Ownership:  wasm_module_read() gives everything back.
 * Threads:    pure functions.
 * Errors:     kept in the reader, the first one.
 */
#ifndef DOR_TABLE_WASM_READER_H
#define DOR_TABLE_WASM_READER_H

#include <stdbool.h>

#include "table/wasm_module.h"

enum {
    WASM_CUSTOM,
    WASM_TYPE,
    WASM_IMPORT,
    WASM_FUNCTION,
    WASM_TABLE,
    WASM_MEMORY,
    WASM_GLOBAL,
    WASM_EXPORT,
    WASM_START,
    WASM_ELEMENT,
    WASM_CODE,
    WASM_DATA,
    WASM_DATA_COUNT,
    WASM_SECTIONS,
};

enum { WASM_PAGE_BYTES = 65536, WASM_ADDED_FUNCTIONS = 3 /* POLL, FILL, COPY */ };

struct span {
    const uint8_t *at, *end;
};

struct out {
    uint8_t *bytes;
    size_t length, room;
    bool failed; /* no memory */
};

/* What is known of a type of functions. */
struct function_type {
    uint8_t shape;
    uint16_t parameters;
};

struct reader {
    char *error;
    int rc; /* the first error */
    struct span sections[WASM_SECTIONS];
    struct out names; /* of the custom sections `kv` */
    struct function_type *types;
    uint32_t type_count;
    struct function_type *functions; /* all of the module, imported ones first */
    uint32_t import_count, function_count;
    uint32_t global_count, table_count;
    bool has_memory;
    struct out out;
    struct wasm_module *module;
};

__attribute__((format(printf, 2, 3))) void
wasm_refuse(struct reader *reader, const char *fmt, ...);
void wasm_no_memory(struct reader *reader);

uint8_t wasm_get_byte(struct reader *reader, struct span *in);

/* LEB128 of at most BITS bits; signed numbers are returned as they lie in 64 bits. */
uint64_t wasm_get_leb(struct reader *reader, struct span *in, unsigned bits, bool is_signed);
uint32_t wasm_get_u32(struct reader *reader, struct span *in);

/* How many things follow, each of one byte at least. */
uint32_t wasm_get_count(struct reader *reader, struct span *in);
struct span wasm_get_bytes(struct reader *reader, struct span *in, uint64_t count);
struct span wasm_get_name(struct reader *reader, struct span *in); /* its length before it */
bool wasm_is(struct span span, const char *text);

/* A type of values as a letter, i l f d v r; 0 for what is none. */
char wasm_letter_of(uint8_t type);
char wasm_get_type(struct reader *reader, struct span *in);

/* Whether the instruction CODE is a constant of its own; then what belongs to it is read. */
bool wasm_get_constant(struct reader *reader, struct span *in, uint8_t code);

/* The number of a function in the new module. */
uint32_t wasm_moved(struct reader *reader, uint32_t function);

void wasm_put_bytes(struct out *out, const void *bytes, size_t length);
void wasm_put_byte(struct out *out, uint8_t byte);
void wasm_put_u32(struct out *out, uint32_t value);
void wasm_put_i32(struct out *out, int32_t value);
void wasm_put_text(struct out *out, const char *text);

/* What was read from BEGIN on. */
void wasm_put_read(struct out *out, const uint8_t *begin, const struct span *in);

/* BODY as a section of the new module; it is freed. */
void wasm_put_section(struct reader *reader, uint8_t id, struct out *body);
void wasm_end_section(struct reader *reader, const struct span *in);

/* The code, with its checks. */
void wasm_do_code(struct reader *reader);

#endif
