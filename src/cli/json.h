/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json.h - what the verbs print for programs: one JSON object on standard output.
 *
 * Ownership:  functions that return json_t give a new reference, to be packed with "o" or
 *             printed; cli_json_print() takes the reference it is given.
 * Threads:    one.
 * Errors:     NULL where memory ran out; cli_json_print() turns that into DOR_E_NO_MEMORY.
 */
#ifndef DOR_CLI_JSON_H
#define DOR_CLI_JSON_H

#include <dormouse/store.h>
#include <jansson.h>

#define AUTO_JSON __attribute__((cleanup(cli_auto_json)))

void cli_auto_json(json_t **value);

/* Sizes and counts; JSON numbers of jansson are signed, and nothing here exceeds 63 bits. */
json_t *cli_json_u64(uint64_t number);

/* TEXT made valid UTF-8; null for NULL and for the empty string. */
json_t *cli_json_text(const char *text);

/* Nanoseconds since 1970 as ISO 8601 text; null for 0. */
json_t *cli_json_time(uint64_t realtime_ns);

/* Set KEY of OBJECT to VALUE, taking the reference; false when there is no VALUE or no memory. */
bool cli_json_set(json_t *object, const char *key, json_t *value);

/* Set logical_bytes, zero_bytes ... of OBJECT. */
bool cli_json_set_kinds(json_t *object, const struct dor_kind_bytes *kinds);

/* {"nrt": {"logical_bytes": ...}, ...} of DOR_REGION_TYPES structs. */
json_t *cli_json_region_types(const struct dor_kind_bytes *kinds);

/* {"unknown": N, "zero": N ...} of DOR_CLASSES numbers; null when all are 0. */
json_t *cli_json_classes(const uint64_t *pages_by_class);

/* The same with DOR_CLASSES structs of bytes; classes without pages are left out. */
json_t *cli_json_class_kinds(const struct dor_kind_bytes *kinds);

/* {"wakes": N, "pages": N} of snapshot NAME; null when none was learnt or it is damaged. */
json_t *cli_json_working_set(struct dor_store *store, const char *name);

/* Print VALUE, NULL when it could not be made. */
DOR_MUST_CHECK int cli_json_print(json_t *value);

/* The thread's last error with CODE as one line on standard error. */
void cli_json_print_error(int code);

#endif
