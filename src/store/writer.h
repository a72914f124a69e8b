/* SPDX-License-Identifier: Apache-2.0 */
/*
 * writer.h - appends pages to the streams of one domain: collects them into groups,
 * compresses, writes, and at the end describes them in frames. Used by put, by gc (into new
 * segments) and by copy.
 *
 * Ownership:  the writer owns its buffers; pages are copied in.
 * Threads:    as the store.
 * Errors:     after any error the caller abandons the writer and calls store_reload() and
 * store_clean().
 */
#ifndef DOR_STORE_WRITER_H
#define DOR_STORE_WRITER_H

#include "store/store_priv.h"

struct store_writer;

/* How pages are packed; see options.def. */
struct store_packing {
    uint64_t group_pages[DOR_REGION_TYPES];
    uint64_t patch_group_bytes;
    int raw_level, patch_level;
    enum chunk_codec codecs[DOR_REGION_TYPES];
};

DOR_MUST_CHECK int store_writer_new(
    struct dor_store *store, uint32_t domain, const struct store_packing *packing,
    struct store_writer **ret);
void store_writer_free(struct store_writer *writer);
void
store_packing_from_options(const struct store_options *options, struct store_packing *packing);

/*
 * From now on pack plain pages as those of a base, for fast decoding, if the options have a packing
 * for bases.
 */
void store_writer_pack_base(struct store_writer *writer);
/* From now on pack pages and patches for chains of generations. */
void store_writer_pack_chain(struct store_writer *writer);

/* The next serial number of STREAM, taken. */
uint64_t store_writer_serial(struct store_writer *writer, unsigned stream);

/*
 * Add a page with serial number row->serial, larger than the stream's last. BYTES are the page
 * (raw) or its patch; row->offset is set here. A patch names SLIDES.
 */
DOR_MUST_CHECK int store_writer_add(
    struct store_writer *writer, unsigned stream, const struct store_page_row *row,
    const void *bytes, size_t size_bytes, const struct chunk_slides *slides);

/* Append a whole group as it is stored, with the rows of its pages (serials are the rows'). */
DOR_MUST_CHECK int store_writer_add_group(
    struct store_writer *writer, unsigned stream, const struct store_group *group,
    const struct store_page_row *rows, const uint8_t *stored,
    const struct chunk_slides *slides);

/*
 * Write everything out but the open groups: store_fetch() then finds all pages before
 * store_writer_open_serial(). Closing the groups as well makes all pages found.
 */
DOR_MUST_CHECK int store_writer_flush(struct store_writer *writer);
DOR_MUST_CHECK int store_writer_close_groups(struct store_writer *writer);
uint64_t store_writer_open_serial(const struct store_writer *writer, unsigned stream);
/* Go on in a new segment. */
DOR_MUST_CHECK int store_writer_next_segment(struct store_writer *writer, unsigned stream);
/* Write all of STREAM to one new segment whose serials begin at FIRST_SERIAL or later (gc). */
DOR_MUST_CHECK int
store_writer_fresh(struct store_writer *writer, unsigned stream, uint64_t first_serial);
/* The segment STREAM is written to, 0 when none was needed. */
uint32_t store_writer_segment_id(const struct store_writer *writer, unsigned stream);
/*
 * Flush, write the frames and sync the files. The catalog is up to date in memory, not yet
 * saved.
 */
DOR_MUST_CHECK int store_writer_finish(struct store_writer *writer);

/* Stored bytes of groups written so far to STREAM. */
uint64_t store_writer_bytes(const struct store_writer *writer, unsigned stream);

#endif
