/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.h - what a segment holds: its groups, and for each page its serial number, digest and, in a
 * stream of patches, its base. In RAM these are arrays; on disk they are frames in the segment
 * file.
 *
 * Ownership:  a table owns its arrays.
 * Threads:    one table, one thread.
 * Errors:     DOR_E_CORRUPT for frames that make no sense, DOR_E_NO_MEMORY.
 */
#ifndef DOR_STORE_TABLE_H
#define DOR_STORE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "chunk/codec.h"
#include "chunk/fingerprint.h"
#include "chunk/slide.h"
#include "store/place.h"

#define STORE_GROUP_PAGES_MAX  4096
#define STORE_GROUP_BYTES_MAX  (1u << 20) /* decoded */
#define STORE_SLIDE_TABLES_MAX 4000       /* of a segment */

struct store_group {
    uint64_t offset; /* in the segment file */
    uint64_t digest; /* XXH3-64 of the stored bytes */
    uint32_t stored_bytes;
    uint32_t plain_bytes; /* decoded */
    uint32_t first_page;  /* row of its first page */
    uint16_t page_count;
    uint16_t slides; /* 1 + index in slide tables; 0 = none. Patches only. */
    uint8_t codec;
};

struct store_table {
    bool patches;
    uint64_t page_count, page_cap;
    uint64_t *serials; /* ascending */
    uint32_t *digests;
    uint32_t *offsets; /* of the page in its decoded group */
    uint64_t *bases;   /* patches: serial of the base in the raw stream of the same type */
    /*
     * raw: pages of the chunk that begins here, 0 inside one; and its fingerprints, one after
     * another
     */
    uint8_t *chunk_pages;
    uint8_t *fingerprint_counts;
    uint64_t fingerprint_count, fingerprint_cap;
    uint32_t *fingerprints;
    uint64_t group_count, group_cap;
    struct store_group *groups;
    size_t slides_count;
    struct chunk_slides *slides;
};

/* One page as it is added. */
struct store_page_row {
    uint64_t serial;
    uint32_t digest;
    uint32_t offset;
    uint64_t base;
    uint8_t chunk_pages;
    uint8_t fingerprint_count;
    const uint32_t *fingerprints;
};

DOR_MUST_CHECK int store_table_new(bool patches, struct store_table **ret);
void store_table_free(struct store_table *table);

/* Pages are added in serial order; then the group that holds the last PAGE_COUNT of them. */
DOR_MUST_CHECK int
store_table_add_page(struct store_table *table, const struct store_page_row *row);
DOR_MUST_CHECK int
store_table_add_group(struct store_table *table, const struct store_group *group);
/*
 * Index + 1 of an equal slide table, added when there is none; 0 for an empty one;
 * DOR_E_NO_SPACE when full.
 */
DOR_MUST_CHECK int store_table_add_slides(
    struct store_table *table, const struct chunk_slides *slides, uint16_t *ret);

/* Row of the page SERIAL, or UINT64_MAX. */
uint64_t store_table_find(const struct store_table *table, uint64_t serial);
/* The group of page ROW. */
const struct store_group *store_table_group(const struct store_table *table, uint64_t row);
/* Bytes of page ROW in its decoded group. */
uint32_t store_table_page_bytes(
    const struct store_table *table, const struct store_group *group, uint64_t row);
/* Forget the groups from FIRST_GROUP on and their pages. */
void store_table_cut(struct store_table *table, uint64_t first_group);
/* Bytes of RAM. */
uint64_t store_table_bytes(const struct store_table *table);

/*
 * Append to BUF a frame of the groups from FIRST_GROUP on (see table.c). Decoding appends the
 * rows of a frame to TABLE; LIMIT is the offset that groups must end before, NAME is for messages.
 */
DOR_MUST_CHECK int store_frame_encode(
    const struct store_table *table, uint64_t first_group, struct chunk_coder *coder,
    struct base_buf *buf);
DOR_MUST_CHECK int store_frame_decode(
    struct store_table *table, const void *data, size_t size_bytes, uint64_t limit,
    struct chunk_coder *coder, const char *name);

/*
 * A frame's header alone: true when DATA begins with one, with its whole size. For check
 * --repair.
 */
#define STORE_FRAME_HEADER_BYTES 48
bool store_frame_probe(const void *data, size_t size_bytes, uint64_t *ret_bytes);

#endif
