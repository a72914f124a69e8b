/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cloud.h - the JSON that Cloud Hypervisor keeps its machines in: where each part of it is, as
 * text. Parts are cut out and put together as they stand, for a number of 64 bits would not survive
 * being read and written again.
 *
 * Ownership:  spans point into the text they were found in.
 * Threads:    plain values.
 * Errors:     DOR_E_CORRUPT for what is no JSON or lacks a part, DOR_E_NO_MEMORY. WHAT names the
 *             text in words.
 */
#ifndef DOR_GUEST_CLOUD_H
#define DOR_GUEST_CLOUD_H

#include <stddef.h>
#include <stdint.h>

#include <dormouse/offload.h>

/* Larger texts are refused. */
#define GUEST_CLOUD_JSON_BYTES_MAX ((size_t)64 << 20)
enum { GUEST_CLOUD_SLOTS_MAX = 4096 };

struct guest_span {
    const char *text;
    size_t size_bytes;
};

/* Check that TEXT is one JSON object without doubtful parts (names given twice). */
DOR_MUST_CHECK int guest_cloud_check(const char *text, size_t size_bytes, const char *what);

/* The value of member NAME of the object TEXT, which was checked; empty when it has none. */
struct guest_span guest_cloud_member(struct guest_span object, const char *name);

/*
 * The slots in guest_ram_mappings of a memory manager's data, for free(): checked to be aligned, in
 * the address space, without overlap and each number once.
 */
DOR_MUST_CHECK int guest_cloud_slots(
    struct guest_span memory_manager, const char *what, struct dor_offload_slot **ret,
    size_t *ret_count);

/*
 * The text that the monitor would have sent as Config, of the files config.json and state.json of a
 * folder; for free().
 */
DOR_MUST_CHECK int guest_cloud_make_config(
    struct guest_span config, struct guest_span state, char **ret, size_t *ret_bytes);

#endif
