/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options.h - settings declared once, in a table that makes the struct, the parser, --help and
 * the man page. Rows of a room's options.def:
 *
 *     OPTION(cache_bytes, BYTES, 4096, 1 << 30, 64 << 20, "bytes", "Memory for groups.")
 *
 * The room includes that file twice:
 *
 *     struct store_options {
 *     #define OPTION BASE_OPTION_FIELD
 *     #include "store/options.def"
 *     #undef OPTION
 *     };
 *
 *     #define BASE_OPTION_STRUCT struct store_options
 *     static const struct base_option rows[] = {
 *     #define OPTION BASE_OPTION_ROW
 *     #include "store/options.def"
 *     #undef OPTION
 *     };
 *     #undef BASE_OPTION_STRUCT
 *
 * The field `cache_bytes` is `--cache-bytes 64M` on a command line.
 *
 *     type    field         min, max          default   unit
 *     U64     uint64_t      range             number    words for the number
 *     BYTES   uint64_t      range in bytes    number    "bytes"; takes K M G T, KiB MiB GiB TiB
 *     ENUM    uint64_t      0, last index     index     the names, "none|lz4|zstd"
 *     BOOL    bool          0, 1              0 or 1    ""; --name, --no-name or --name=yes|no
 *     STRING  const char *  length in bytes   string    word for the value
 *
 * Ownership:  tables are static; STRING values are borrowed from the argument or the table.
 * Threads:    any; a struct of values belongs to its owner.
 * Errors:     DOR_E_USAGE for an unknown name, a bad value or one out of range.
 */
#ifndef DOR_BASE_OPTIONS_H
#define DOR_BASE_OPTIONS_H

#include <dormouse/err.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum base_option_type {
    BASE_OPTION_U64,
    BASE_OPTION_BYTES,
    BASE_OPTION_ENUM,
    BASE_OPTION_BOOL,
    BASE_OPTION_STRING
};

struct base_option {
    const char *name; /* as in C: with underscores */
    enum base_option_type type;
    size_t offset; /* of the field in the room's struct */
    uint64_t min, max;
    uint64_t default_number;  /* of all types but STRING */
    const char *default_text; /* of STRING */
    const char *unit;
    const char *text; /* one sentence */
};

#define BASE_OPTION_FIELD(name, type, min, max, def, unit, text) BASE_OPTION_TYPE_##type name;
#define BASE_OPTION_TYPE_U64                                     uint64_t
#define BASE_OPTION_TYPE_BYTES                                   uint64_t
#define BASE_OPTION_TYPE_ENUM                                    uint64_t
#define BASE_OPTION_TYPE_BOOL                                    bool
#define BASE_OPTION_TYPE_STRING                                  const char *

#define BASE_OPTION_ROW(name, type, min, max, def, unit, text)                                 \
    {#name,                                                                                    \
     BASE_OPTION_##type,                                                                       \
     offsetof(BASE_OPTION_STRUCT, name),                                                       \
     (min),                                                                                    \
     (max),                                                                                    \
     BASE_OPTION_DEFAULT_##type(def),                                                          \
     unit,                                                                                     \
     text},
#define BASE_OPTION_DEFAULT_U64(def)    (def), NULL
#define BASE_OPTION_DEFAULT_BYTES(def)  (def), NULL
#define BASE_OPTION_DEFAULT_ENUM(def)   (def), NULL
#define BASE_OPTION_DEFAULT_BOOL(def)   (def), NULL
#define BASE_OPTION_DEFAULT_STRING(def) 0, (def)

/* A number of bytes such as "4096", "64M", "4KiB", "1.5G" is not; K, M, G, T count in 1024s. */
DOR_MUST_CHECK int base_bytes_parse(const char *text, uint64_t *ret);

/* Set every field of VALUES to its default. */
void base_options_default(const struct base_option *rows, size_t row_count, void *values);

/* Set the option NAME (dashes or underscores) from TEXT; NULL text is "yes" for a BOOL. */
DOR_MUST_CHECK int base_options_set(
    const struct base_option *rows, size_t row_count, void *values, const char *name,
    const char *text);

/*
 * Take the options out of ARGV[0 ... ARGC - 1]: --name value, --name=value, --flag, --no-flag;
 * "--" ends them. What is left moves to the front, in order; *RET_COUNT says how many.
 */
DOR_MUST_CHECK int base_options_parse(
    const struct base_option *rows, size_t row_count, void *values, int argc, char **argv,
    int *ret_count);

/* Lines for --help, at most 80 columns wide. */
void base_options_print_help(const struct base_option *rows, size_t row_count, FILE *out);

/* The same as an mdoc list for a man page. */
void base_options_print_man(const struct base_option *rows, size_t row_count, FILE *out);

#endif
