/* SPDX-License-Identifier: Apache-2.0 */
/*
 * text.h - numbers and words as people read them: sizes in binary units, local times, paragraphs
 * of 80 columns, and strings from outside made safe for a terminal.
 *
 * Ownership:  results are written to the caller's buffers, which are returned for convenience.
 * Threads:    any.
 * Errors:     none; what does not fit is cut.
 */
#ifndef DOR_CLI_TEXT_H
#define DOR_CLI_TEXT_H

#include <dormouse/store.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { CLI_COLUMNS = 80, CLI_NUMBER_BYTES = 24, CLI_TIME_BYTES = 32 };

/* "17 B", "4.0 KiB", "1.5 GiB": three or four digits. */
const char *cli_text_size(uint64_t bytes, char buf[CLI_NUMBER_BYTES]);

/* PART of WHOLE as "12.3 %"; "-" when WHOLE is 0. */
const char *cli_text_percent(uint64_t part, uint64_t whole, char buf[CLI_NUMBER_BYTES]);

/* Nanoseconds as "0.41 s" or "3 min 20 s". */
const char *cli_text_duration(uint64_t duration_ns, char buf[CLI_NUMBER_BYTES]);

/* Nanoseconds since 1970 as local time; "never" for 0. */
const char *cli_text_time(uint64_t realtime_ns, char buf[CLI_TIME_BYTES]);

/* The same in UTC as ISO 8601 has it, for programs; empty for 0. */
const char *cli_text_time_utc(uint64_t realtime_ns, char buf[CLI_TIME_BYTES]);

/* "nrt", "rx_map" or "w_map". */
const char *cli_text_region_type(enum dor_region_type type);

/*
 * TEXT as valid UTF-8 without control characters: a byte that is neither becomes \xNN. Names of
 * files and words of errors may hold anything, and a terminal would obey it.
 */
const char *cli_text_clean(const char *text, char *buf, size_t buf_bytes);

/* Columns that TEXT takes, one per character. */
int cli_text_columns(const char *text);

/*
 * Print words from column COLUMN on, lines broken before column 80, later lines indented by
 * INDENT; ends the line.
 */
void cli_text_wrap(FILE *out, int column, int indent, const char *text);

#endif
