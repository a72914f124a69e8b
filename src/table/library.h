/* SPDX-License-Identifier: Apache-2.0 */
/*
 * library.h - libraries of storage functions as text: the first line says what they are, and a dump
 * of several is what Redis makes of its own, so that its tools can carry it.
 *
 *     #!js name=lib [api_version=1.0] [flags=no-writes,...]
 *
 * Ownership:  what is parsed borrows the caller's bytes.
 * Threads:    pure functions.
 * Errors:     DOR_E_USAGE with the words that Redis has for it; DOR_E_CORRUPT for a dump.
 */
#ifndef DOR_TABLE_LIBRARY_H
#define DOR_TABLE_LIBRARY_H

#include <dormouse/err.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "table/engine.h"

enum { TABLE_LIBRARY_NAME_BYTES_MAX = 255 };

#define TABLE_LIBRARY_BYTES_MAX (16u << 20)

/* "js", "wasm". */
struct table_library_head {
    char engine[8];
    struct table_engine_bytes name;
    uint32_t flags;     /* of all its functions */
    size_t code_offset; /* of what follows the first line, its line end included */
};

/* Letters, digits and underscores, at least one. */
bool table_library_name_is_good(const uint8_t *name, size_t length);

DOR_MUST_CHECK int
table_library_parse(const uint8_t *source, size_t length, struct table_library_head *ret);

/* Add a library to the dump in BUF, and end it. */
DOR_MUST_CHECK int table_dump_add(struct base_buf *buf, const uint8_t *source, size_t length);
DOR_MUST_CHECK int table_dump_end(struct base_buf *buf);

/* Check the end of a dump; *RET is how many bytes come before it. */
DOR_MUST_CHECK int table_dump_check(const uint8_t *dump, size_t length, size_t *ret);

/* The library at *AT of a dump whose end is LENGTH, and *AT behind it. */
DOR_MUST_CHECK int
table_dump_next(const uint8_t *dump, size_t length, size_t *at, struct table_engine_bytes *ret);

#endif
