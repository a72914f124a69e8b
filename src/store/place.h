/* SPDX-License-Identifier: Apache-2.0 */
/*
 * place.h - where a page of a snapshot is: 8 bytes that a recipe holds per page.
 * Serial numbers are given once per stream (domain, region type, kind) and never again, so a place
 * stays true when gc moves the bytes.
 *
 * Ownership:  plain values.
 * Threads:    pure functions.
 * Errors:     none.
 */
#ifndef DOR_STORE_PLACE_H
#define DOR_STORE_PLACE_H

#include <stdbool.h>
#include <stdint.h>

#include <dormouse/store.h>

/*
 * A place: bits 0-47 serial, 48-55 region type, 56-63 kind (enum dor_page_kind).
 * Zero pages have serial 0; their type is the page's region type.
 */
#define STORE_SERIAL_BITS 48
#define STORE_SERIAL_MAX  ((UINT64_C(1) << STORE_SERIAL_BITS) - 1)

/* The two kinds of stored pages, each with segments of its own. */
enum { STORE_STREAM_RAW = 0, STORE_STREAM_PATCH = 1, STORE_STREAM_KINDS = 2 };
#define STORE_STREAMS (DOR_REGION_TYPES * STORE_STREAM_KINDS)

static inline uint64_t
store_place(unsigned kind, unsigned type, uint64_t serial)
{
    return (uint64_t)kind << 56 | (uint64_t)type << STORE_SERIAL_BITS | serial;
}

static inline uint64_t
store_place_serial(uint64_t place)
{
    return place & STORE_SERIAL_MAX;
}

static inline unsigned
store_place_type(uint64_t place)
{
    return (unsigned)(place >> STORE_SERIAL_BITS) & 0xff;
}

static inline unsigned
store_place_kind(uint64_t place)
{
    return (unsigned)(place >> 56);
}

/* A zero page or a reference, whose type is the page's, as one of TYPE. */
static inline uint64_t
store_place_retype(uint64_t place, unsigned type)
{
    return store_place((unsigned)(place >> 56), type, store_place_serial(place));
}

/* Index of the stream that holds a raw or patched PLACE. */
static inline unsigned
store_place_stream(uint64_t place)
{
    return store_place_type(place) * STORE_STREAM_KINDS + store_place_kind(place) -
           DOR_PAGE_RAW;
}

static inline uint64_t
store_stream_place(unsigned stream, uint64_t serial)
{
    return store_place(
        DOR_PAGE_RAW + stream % STORE_STREAM_KINDS, stream / STORE_STREAM_KINDS, serial);
}

static inline bool
store_place_is_stored(uint64_t place)
{
    return store_place_kind(place) == DOR_PAGE_RAW ||
           store_place_kind(place) == DOR_PAGE_PATCHED;
}

#endif
