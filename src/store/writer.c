/* SPDX-License-Identifier: Apache-2.0 */
/*
 * writer.c - the appending side of segments.
 *
 * Order of a commit: groups and frames are written past the committed length of the segment
 * files, the files are synced, then the caller saves the catalog, which moves the committed
 * length. What a killed writer leaves past it is cut off by the next writer (store_clean()).
 *
 * Invariants
 *  (1) rows of a group are added to the table when the group is written, never before.
 *  (2) a segment's catalog entry is published (size, serials, page count) at every flush.
 */
#include "store/writer.h"

#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"
#include "chunk/digest.h"
#include "chunk/patch.h"
#include "store/segment.h"

#define OUT_BYTES (1u << 20)
/*
 * Frames of a segment are kept in tiers by size, as runs in a log-structured merge tree: the last
 * FRAMES_TIER of one tier or less become one frame. So a segment of many small puts has some dozens
 * of frames, and each row is written again about once per factor of FRAMES_TIER.
 */
#define FRAMES_TIER       8
#define FRAMES_TIER_STEP  8
#define FRAMES_TIER_BYTES 4096

struct stream_writer {
    uint32_t segment_id; /* 0 = none yet */
    struct store_segment *segment;
    uint64_t first_new_group;
    uint64_t written_bytes;
    /* the open group */
    struct base_buf plain;
    struct store_page_row *rows;
    size_t row_count, row_cap;
    uint32_t *fingerprints; /* CHUNK_FINGERPRINTS_MAX per row */
    const struct chunk_slides *slides;
    /* written groups on their way to the file */
    struct base_buf out;
    bool touched;
};

struct store_writer {
    struct dor_store *store;
    uint32_t domain;
    struct store_packing packing;
    struct stream_writer streams[STORE_STREAMS];
    struct base_buf compressed;
    bool fresh; /* one new segment per stream, however large */
};

void
store_packing_from_options(const struct store_options *options, struct store_packing *packing)
{
    for (unsigned type = 0; type < DOR_REGION_TYPES; type++)
        packing->group_pages[type] = store_options_group_pages(options, type);
    packing->patch_group_bytes = options->patch_group_bytes;
    packing->raw_level = (int)options->raw_level;
    packing->patch_level = (int)options->patch_level;
    memcpy(packing->codecs, options->codec_ids, sizeof packing->codecs);
}

int
store_writer_new(
    struct dor_store *store, uint32_t domain, const struct store_packing *packing,
    struct store_writer **ret)
{
    struct store_writer *writer = base_zalloc(sizeof *writer);
    if (writer == NULL)
        return DOR_E_NO_MEMORY;
    writer->store = store;
    writer->domain = domain;
    writer->packing = *packing;
    *ret = writer;
    return 0;
}

void
store_writer_free(struct store_writer *writer)
{
    if (writer == NULL)
        return;
    for (unsigned i = 0; i < STORE_STREAMS; i++) {
        base_buf_free(&writer->streams[i].plain);
        base_buf_free(&writer->streams[i].out);
        base_free(writer->streams[i].rows);
        base_free(writer->streams[i].fingerprints);
    }
    base_buf_free(&writer->compressed);
    base_free(writer);
}

void
store_writer_pack_base(struct store_writer *writer)
{
    const struct store_options *options = &writer->store->options;
    if (options->base_fast_level == 0)
        return;
    writer->packing.raw_level = -(int)options->base_fast_level;
    for (unsigned type = 0; type < DOR_REGION_TYPES; type++)
        writer->packing.group_pages[type] = options->base_group_pages;
}

void
store_writer_pack_chain(struct store_writer *writer)
{
    const struct store_options *options = &writer->store->options;
    writer->packing.raw_level = writer->packing.patch_level = (int)options->chain_level;
    for (unsigned type = 0; type < DOR_REGION_TYPES; type++) {
        writer->packing.codecs[type] = options->chain_codec_id;
        writer->packing.group_pages[type] = options->base_group_pages;
    }
}

uint64_t
store_writer_serial(struct store_writer *writer, unsigned stream)
{
    return writer->store->catalog->domains[writer->domain].next_serial[stream]++;
}

uint64_t
store_writer_bytes(const struct store_writer *writer, unsigned stream)
{
    return writer->streams[stream].written_bytes;
}

/* ------------------------------------------------------------------ segments */

static struct store_segment_entry *
entry_of(const struct store_writer *writer, const struct stream_writer *stream)
{
    struct store_segment_entry *entry =
        store_catalog_segment(writer->store->catalog, stream->segment_id);
    dor_assert(entry != NULL);
    return entry;
}

static int
create_segment(struct store_writer *writer, unsigned index, uint64_t serial)
{
    struct stream_writer *stream = &writer->streams[index];
    struct store_catalog *catalog = writer->store->catalog;
    struct store_segment_entry entry = {
        .id = catalog->next_segment_id,
        .domain = writer->domain,
        .stream = index,
        .first_serial = serial,
        .end_serial = serial,
        .size_bytes = STORE_SEGMENT_HEADER_BYTES};
    char name[STORE_FILE_NAME_BYTES];
    uint8_t header[STORE_SEGMENT_HEADER_BYTES];
    AUTO_CLOSE int fd = -1;
    store_segment_file_name(entry.id, name);
    store_segment_header(catalog, &entry, header);
    int err = store_medium_create(writer->store->medium, name, &fd);
    if (err == 0)
        err = base_file_pwrite(fd, header, sizeof header, 0, name);
    if (err == 0)
        err = store_segment_open_new(&entry, fd);
    if (err != 0)
        return err;
    fd = -1;
    catalog->next_segment_id++;
    stream->segment_id = entry.id;
    stream->segment = entry.loaded;
    stream->first_new_group = 0;
    stream->touched = true;
    err = store_catalog_segment_add(catalog, &entry);
    if (err != 0)
        store_segment_close(entry.loaded);
    return err;
}

static uint64_t
next_serial(const struct store_writer *writer, unsigned index)
{
    return writer->store->catalog->domains[writer->domain].next_serial[index];
}

/* The last segment of the stream if there is room in it, else a new one. */
static int
choose_segment(struct store_writer *writer, unsigned index)
{
    struct stream_writer *stream = &writer->streams[index];
    struct dor_store *store = writer->store;
    struct store_segment_entry *first;
    size_t count = store_catalog_stream(store->catalog, writer->domain, index, &first);
    if (count > 0) {
        struct store_segment_entry *last = &first[count - 1];
        if (!last->squeezed && last->size_bytes < store->options.segment_bytes_max &&
            store_segment_load(store, last) == 0 &&
            last->loaded->table->slides_count < STORE_SLIDE_TABLES_MAX) {
            stream->segment_id = last->id;
            stream->segment = last->loaded;
            stream->first_new_group = last->loaded->table->group_count;
            return 0;
        }
    }
    return create_segment(writer, index, next_serial(writer, index));
}

static int
write_out(struct stream_writer *stream)
{
    if (stream->out.size_bytes == 0)
        return 0;
    struct store_segment *segment = stream->segment;
    int err = base_file_pwrite(
        segment->fd, stream->out.data, stream->out.size_bytes,
        segment->size_bytes - stream->out.size_bytes, segment->name);
    if (err == 0)
        stream->out.size_bytes = 0;
    return err;
}

/* Append BYTES to the segment, through the buffer. */
static int
append(struct stream_writer *stream, const void *bytes, size_t size_bytes)
{
    int err = base_buf_append(&stream->out, bytes, size_bytes);
    if (err != 0)
        return err;
    stream->segment->size_bytes += size_bytes;
    stream->touched = true;
    return stream->out.size_bytes >= OUT_BYTES ? write_out(stream) : 0;
}

/* The catalog entry says what is in the file now. */
static void
publish(struct store_writer *writer, struct stream_writer *stream)
{
    struct store_segment_entry *entry = entry_of(writer, stream);
    const struct store_table *table = stream->segment->table;
    entry->size_bytes = stream->segment->size_bytes;
    entry->page_count = table->page_count;
    if (table->page_count > 0) {
        entry->first_serial = table->serials[0];
        entry->end_serial = table->serials[table->page_count - 1] + 1;
    }
}

/*
 * How many of ENTRY's frames stay when another frame is added: all, or those before the run of
 * equals that the new one replaces.
 */
static size_t
frames_to_keep(const struct store_segment_entry *entry)
{
    size_t keep = entry->frame_count;
    size_t first = keep;
    for (uint64_t tier_bytes = FRAMES_TIER_BYTES; tier_bytes < UINT32_MAX;
         tier_bytes *= FRAMES_TIER_STEP) {
        size_t tier_first = first;
        while (first > 0 && entry->frames[first - 1].size_bytes <= tier_bytes)
            first--;
        if (tier_first - first >= FRAMES_TIER)
            keep = first;
    }
    return keep;
}

/* The first group that lies after the first KEEP frames: those before it they describe. */
static uint64_t
first_group_after(
    const struct store_segment_entry *entry, size_t keep, const struct store_table *table)
{
    uint64_t group = table->group_count;
    if (keep == 0)
        return 0;
    while (group > 0 && table->groups[group - 1].offset > entry->frames[keep - 1].offset)
        group--;
    return group;
}

/* Describe the groups written since the last frame, together with those of small frames. */
static int
write_frame(struct store_writer *writer, struct stream_writer *stream)
{
    const struct store_table *table = stream->segment->table;
    if (stream->first_new_group == table->group_count)
        return 0;
    struct store_segment_entry *entry = entry_of(writer, stream);
    AUTO_BUF struct base_buf frame = {0};
    size_t keep = frames_to_keep(entry);
    int err = store_frame_encode(
        table, first_group_after(entry, keep, table), writer->store->coder, &frame);
    if (err == 0)
        entry->frame_count = keep;
    if (err == 0)
        err =
            store_segment_entry_add_frame(entry, stream->segment->size_bytes, frame.size_bytes);
    if (err == 0)
        err = append(stream, frame.data, frame.size_bytes);
    if (err == 0)
        stream->first_new_group = table->group_count;
    return err;
}

/* ------------------------------------------------------------------ groups */

/* Write a group's bytes and add its rows to the table. */
static int
add_group(
    struct stream_writer *stream, struct store_group group, const struct store_page_row *rows,
    const void *stored, const struct chunk_slides *slides)
{
    struct store_table *table = stream->segment->table;
    group.offset = stream->segment->size_bytes;
    group.first_page = (uint32_t)table->page_count;
    group.slides = 0;
    int err = slides == NULL ? 0 : store_table_add_slides(table, slides, &group.slides);
    for (uint32_t i = 0; i < group.page_count && err == 0; i++)
        err = store_table_add_page(table, &rows[i]);
    if (err == 0)
        err = store_table_add_group(table, &group);
    if (err == 0)
        err = append(stream, stored, group.stored_bytes);
    stream->written_bytes += group.stored_bytes;
    return err;
}

static int
close_group(struct store_writer *writer, unsigned index)
{
    struct stream_writer *stream = &writer->streams[index];
    if (stream->row_count == 0)
        return 0;
    bool patches = index % STORE_STREAM_KINDS == STORE_STREAM_PATCH;
    enum chunk_codec codec = writer->packing.codecs[index / STORE_STREAM_KINDS];
    int level = patches ? writer->packing.patch_level : writer->packing.raw_level;
    if (patches && writer->packing.patch_group_bytes == 0)
        codec = CHUNK_NONE;
    size_t stored_bytes = 0;
    writer->compressed.size_bytes = 0;
    int err =
        base_buf_reserve(&writer->compressed, chunk_compress_bound(stream->plain.size_bytes));
    if (err == 0)
        err = chunk_compress(
            writer->store->coder, &codec, level, stream->plain.data, stream->plain.size_bytes,
            writer->compressed.data, &stored_bytes);
    if (err != 0)
        return err;
    struct store_group group = {
        .stored_bytes = (uint32_t)stored_bytes,
        .plain_bytes = (uint32_t)stream->plain.size_bytes,
        .page_count = (uint16_t)stream->row_count,
        .codec = (uint8_t)codec,
        .digest = chunk_digest(writer->compressed.data, stored_bytes)};
    err = add_group(stream, group, stream->rows, writer->compressed.data, stream->slides);
    stream->row_count = 0;
    stream->plain.size_bytes = 0;
    stream->slides = NULL;
    return err;
}

/* Whether the open group must be closed before SIZE_BYTES more go in. */
static bool
group_is_full(
    const struct store_writer *writer, unsigned index, size_t size_bytes,
    const struct chunk_slides *slides)
{
    const struct stream_writer *stream = &writer->streams[index];
    if (stream->row_count == 0)
        return false;
    if (index % STORE_STREAM_KINDS == STORE_STREAM_RAW)
        return stream->row_count >= writer->packing.group_pages[index / STORE_STREAM_KINDS];
    bool other_slides = slides != NULL && stream->slides != NULL && slides != stream->slides;
    return other_slides || stream->row_count >= STORE_GROUP_PAGES_MAX ||
           stream->plain.size_bytes + size_bytes > writer->packing.patch_group_bytes;
}

static int
reserve_row(struct stream_writer *stream)
{
    if (stream->row_count < stream->row_cap)
        return 0;
    size_t cap = stream->row_cap * 2 + 16;
    struct store_page_row *rows = base_realloc_array(stream->rows, cap, sizeof *rows);
    if (rows == NULL)
        return DOR_E_NO_MEMORY;
    stream->rows = rows;
    uint32_t *fingerprints = base_realloc_array(
        stream->fingerprints, cap, CHUNK_FINGERPRINTS_MAX * sizeof *fingerprints);
    if (fingerprints == NULL)
        return DOR_E_NO_MEMORY;
    stream->fingerprints = fingerprints;
    for (size_t i = 0; i < stream->row_count; i++)
        rows[i].fingerprints = fingerprints + i * CHUNK_FINGERPRINTS_MAX;
    stream->row_cap = cap;
    return 0;
}

/* A segment to write to: the open one unless it is full. */
static int
ready_segment(struct store_writer *writer, unsigned index)
{
    struct stream_writer *stream = &writer->streams[index];
    if (stream->segment == NULL)
        return choose_segment(writer, index);
    if (writer->fresh)
        return 0;
    if (stream->segment->size_bytes < writer->store->options.segment_bytes_max &&
        stream->segment->table->slides_count < STORE_SLIDE_TABLES_MAX)
        return 0;
    return store_writer_next_segment(writer, index);
}

int
store_writer_add(
    struct store_writer *writer, unsigned index, const struct store_page_row *row,
    const void *bytes, size_t size_bytes, const struct chunk_slides *slides)
{
    struct stream_writer *stream = &writer->streams[index];
    int err = 0;
    /* Patches of many puts can share a group as long as few of them need slides. */
    if (slides != NULL && !chunk_patch_uses_slides(bytes, size_bytes))
        slides = NULL;
    if (group_is_full(writer, index, size_bytes, slides))
        err = close_group(writer, index);
    if (err == 0 && stream->row_count == 0)
        err = ready_segment(writer, index);
    if (err == 0)
        err = reserve_row(stream);
    if (err != 0)
        return err;
    struct store_page_row *added = &stream->rows[stream->row_count];
    uint32_t *fingerprints = stream->fingerprints + stream->row_count * CHUNK_FINGERPRINTS_MAX;
    *added = *row;
    added->offset = (uint32_t)stream->plain.size_bytes;
    added->fingerprints = fingerprints;
    if (row->fingerprint_count > 0)
        memcpy(fingerprints, row->fingerprints, row->fingerprint_count * sizeof *fingerprints);
    if (slides != NULL)
        stream->slides = slides;
    err = base_buf_append(&stream->plain, bytes, size_bytes);
    if (err == 0)
        stream->row_count++;
    return err;
}

int
store_writer_add_group(
    struct store_writer *writer, unsigned index, const struct store_group *group,
    const struct store_page_row *rows, const uint8_t *stored, const struct chunk_slides *slides)
{
    int err = close_group(writer, index);
    if (err == 0)
        err = ready_segment(writer, index);
    return err != 0 ? err : add_group(&writer->streams[index], *group, rows, stored, slides);
}

int
store_writer_flush(struct store_writer *writer)
{
    for (unsigned i = 0; i < STORE_STREAMS; i++) {
        struct stream_writer *stream = &writer->streams[i];
        if (stream->segment == NULL)
            continue;
        int err = write_out(stream);
        if (err != 0)
            return err;
        publish(writer, stream);
    }
    return 0;
}

uint64_t
store_writer_open_serial(const struct store_writer *writer, unsigned index)
{
    const struct stream_writer *stream = &writer->streams[index];
    return stream->row_count > 0 ? stream->rows[0].serial : next_serial(writer, index);
}

int
store_writer_close_groups(struct store_writer *writer)
{
    for (unsigned i = 0; i < STORE_STREAMS; i++) {
        int err = close_group(writer, i);
        if (err != 0)
            return err;
    }
    return store_writer_flush(writer);
}

static int
finish_segment(struct store_writer *writer, unsigned index)
{
    struct stream_writer *stream = &writer->streams[index];
    int err = close_group(writer, index);
    if (err != 0 || stream->segment == NULL)
        return err;
    err = write_frame(writer, stream);
    if (err == 0)
        err = write_out(stream);
    if (err != 0)
        return err;
    publish(writer, stream);
    if (stream->touched)
        err = base_file_sync(stream->segment->fd, stream->segment->name);
    stream->touched = false;
    return err;
}

int
store_writer_next_segment(struct store_writer *writer, unsigned index)
{
    int err = finish_segment(writer, index);
    return err != 0 ? err : create_segment(writer, index, next_serial(writer, index));
}

int
store_writer_fresh(struct store_writer *writer, unsigned index, uint64_t first_serial)
{
    writer->fresh = true;
    return create_segment(writer, index, first_serial);
}

uint32_t
store_writer_segment_id(const struct store_writer *writer, unsigned index)
{
    return writer->streams[index].segment_id;
}

int
store_writer_finish(struct store_writer *writer)
{
    for (unsigned i = 0; i < STORE_STREAMS; i++) {
        int err = finish_segment(writer, i);
        if (err != 0)
            return err;
    }
    return 0;
}
