/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.c - rows of groups and pages, and their frames on disk. docs/formats/segment.md has
 * worked bytes.
 *
 *   A frame:
 *     offset  size  field (little endian)
 *          0     4  magic "DFRM"
 *          4     1  version 1
 *          5     1  1 = patches, 0 = plain pages
 *          6     2  codec of the columns
 *          8     4  groups in the frame
 *         12     4  pages in the frame
 *         16     8  serial number before the first page's
 *         24     4  bytes of the columns as stored
 *         28     4  bytes of the columns decoded
 *         32     4  bytes of the numbers
 *         36     4  0
 *         40     8  XXH3-64 of bytes 0-39, XOR that of all bytes from 48 on
 *         48     -  columns, compressed: varints, column after column
 *          -     -  numbers, plain because they do not compress: u64 group digests, u32 page
 *          digests,
 *                   u32 fingerprints (raw) or slide tables (patches: u32 count, then u64 each)
 *
 *   Columns: per group: gap to the end of the group before, stored bytes, page count, codec and
 *   (patches) slide table; then per page: serial gap - 1; then, raw: chunk pages, and fingerprint
 *   count where a chunk begins; patches: patch bytes, and zigzag(base - base of the page
 *   before - 1).
 *
 * Invariants
 *  (1) serials ascend over the whole table; a group's pages are neighbours in it.
 *  (2) every group lies before the frame that describes it.
 *  (3) decoded group sizes and page counts are within STORE_GROUP_*_MAX.
 */
#include "store/table.h"

#include <string.h>

#include "base/err.h"
#include "base/le.h"
#include "base/size.h"
#include "chunk/digest.h"
#include "store/wire.h"

#define FRAME_MAGIC     "DFRM"
#define FRAME_VERSION   1
#define FRAME_LEVEL     6
#define FRAME_PLAIN_MAX (UINT32_C(1) << 30)

int
store_table_new(bool patches, struct store_table **ret)
{
    struct store_table *table = base_zalloc(sizeof *table);
    if (table == NULL)
        return DOR_E_NO_MEMORY;
    table->patches = patches;
    *ret = table;
    return 0;
}

void
store_table_free(struct store_table *table)
{
    if (table == NULL)
        return;
    base_free(table->serials);
    base_free(table->digests);
    base_free(table->offsets);
    base_free(table->bases);
    base_free(table->chunk_pages);
    base_free(table->fingerprint_counts);
    base_free(table->fingerprints);
    base_free(table->groups);
    base_free(table->slides);
    base_free(table);
}

/* Resize *ARRAY; on failure it is as before. */
static int
resize(void *array_pointer, uint64_t count, size_t element_bytes)
{
    void *old;
    memcpy(&old, array_pointer, sizeof old);
    void *grown = base_realloc_array(old, count, element_bytes);
    if (grown == NULL)
        return DOR_E_NO_MEMORY;
    memcpy(array_pointer, &grown, sizeof grown);
    return 0;
}

static uint64_t
grown_cap(uint64_t cap, uint64_t need)
{
    uint64_t grown = cap + cap / 2 + 64;
    return grown > need ? grown : need;
}

static int
reserve_pages(struct store_table *table, uint64_t need)
{
    if (need <= table->page_cap)
        return 0;
    uint64_t cap = grown_cap(table->page_cap, need);
    int err = resize(&table->serials, cap, sizeof *table->serials);
    if (err == 0)
        err = resize(&table->digests, cap, sizeof *table->digests);
    if (err == 0)
        err = resize(&table->offsets, cap, sizeof *table->offsets);
    if (err == 0 && table->patches)
        err = resize(&table->bases, cap, sizeof *table->bases);
    if (err == 0 && !table->patches)
        err = resize(&table->chunk_pages, cap, sizeof *table->chunk_pages);
    if (err == 0 && !table->patches)
        err = resize(&table->fingerprint_counts, cap, sizeof *table->fingerprint_counts);
    if (err == 0)
        table->page_cap = cap;
    return err;
}

static int
reserve_fingerprints(struct store_table *table, uint64_t need)
{
    if (need <= table->fingerprint_cap)
        return 0;
    uint64_t cap = grown_cap(table->fingerprint_cap, need);
    int err = resize(&table->fingerprints, cap, sizeof *table->fingerprints);
    if (err == 0)
        table->fingerprint_cap = cap;
    return err;
}

int
store_table_add_page(struct store_table *table, const struct store_page_row *row)
{
    dor_assert(table->page_count == 0 || table->serials[table->page_count - 1] < row->serial);
    int err = reserve_pages(table, table->page_count + 1);
    if (err == 0)
        err = reserve_fingerprints(table, table->fingerprint_count + row->fingerprint_count);
    if (err != 0)
        return err;
    uint64_t i = table->page_count++;
    table->serials[i] = row->serial;
    table->digests[i] = row->digest;
    table->offsets[i] = row->offset;
    if (table->patches) {
        table->bases[i] = row->base;
        return 0;
    }
    table->chunk_pages[i] = row->chunk_pages;
    table->fingerprint_counts[i] = row->fingerprint_count;
    if (row->fingerprint_count > 0)
        memcpy(
            table->fingerprints + table->fingerprint_count, row->fingerprints,
            row->fingerprint_count * sizeof *row->fingerprints);
    table->fingerprint_count += row->fingerprint_count;
    return 0;
}

int
store_table_add_group(struct store_table *table, const struct store_group *group)
{
    dor_assert((uint64_t)group->first_page + group->page_count == table->page_count);
    if (table->group_count == table->group_cap) {
        uint64_t cap = grown_cap(table->group_cap, table->group_count + 1);
        int err = resize(&table->groups, cap, sizeof *table->groups);
        if (err != 0)
            return err;
        table->group_cap = cap;
    }
    table->groups[table->group_count++] = *group;
    return 0;
}

int
store_table_add_slides(
    struct store_table *table, const struct chunk_slides *slides, uint16_t *ret)
{
    if (slides->count == 0) {
        *ret = 0;
        return 0;
    }
    for (size_t i = 0; i < table->slides_count; i++)
        if (table->slides[i].count == slides->count &&
            memcmp(
                table->slides[i].slide, slides->slide,
                slides->count * sizeof slides->slide[0]) == 0) {
            *ret = (uint16_t)(i + 1);
            return 0;
        }
    if (table->slides_count == STORE_SLIDE_TABLES_MAX)
        return dor_fail(
            DOR_E_NO_SPACE, "a segment holds at most %d slide tables", STORE_SLIDE_TABLES_MAX);
    int err = resize(&table->slides, table->slides_count + 1, sizeof *table->slides);
    if (err != 0)
        return err;
    table->slides[table->slides_count++] = *slides;
    *ret = (uint16_t)table->slides_count;
    return 0;
}

uint64_t
store_table_find(const struct store_table *table, uint64_t serial)
{
    if (table->page_count == 0 || serial < table->serials[0] ||
        serial > table->serials[table->page_count - 1])
        return UINT64_MAX;
    /* Mostly there are no gaps, then the row is the distance from the first. */
    uint64_t guess = serial - table->serials[0];
    if (guess < table->page_count && table->serials[guess] == serial)
        return guess;
    uint64_t low = 0;
    uint64_t high = base_min_u64(table->page_count, guess + 1);
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (table->serials[middle] < serial)
            low = middle + 1;
        else
            high = middle;
    }
    return low < table->page_count && table->serials[low] == serial ? low : UINT64_MAX;
}

const struct store_group *
store_table_group(const struct store_table *table, uint64_t row)
{
    uint64_t low = 0;
    uint64_t high = table->group_count;
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        if (table->groups[middle].first_page <= row)
            low = middle;
        else
            high = middle;
    }
    dor_assert(row - table->groups[low].first_page < table->groups[low].page_count);
    return &table->groups[low];
}

uint32_t
store_table_page_bytes(
    const struct store_table *table, const struct store_group *group, uint64_t row)
{
    bool last = row + 1 == (uint64_t)group->first_page + group->page_count;
    return (last ? group->plain_bytes : table->offsets[row + 1]) - table->offsets[row];
}

static uint64_t
fingerprints_before(const struct store_table *table, uint64_t page)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < page; i++)
        count += table->fingerprint_counts[i];
    return count;
}

void
store_table_cut(struct store_table *table, uint64_t first_group)
{
    if (first_group >= table->group_count)
        return;
    uint64_t first = table->groups[first_group].first_page;
    if (!table->patches)
        table->fingerprint_count = fingerprints_before(table, first);
    table->page_count = first;
    table->group_count = first_group;
}

uint64_t
store_table_bytes(const struct store_table *table)
{
    uint64_t row = 8 + 4 + 4 + (table->patches ? 8u : 2u);
    return table->page_cap * row + table->fingerprint_cap * 4 +
           table->group_cap * sizeof *table->groups +
           table->slides_count * sizeof *table->slides;
}

/* ------------------------------------------------------------------ frames: encoding */

/* Number in the frame of each slide table its groups use, in order of first use. */
static void
number_slides(
    const struct store_table *table, uint64_t first_group,
    uint16_t map[STORE_SLIDE_TABLES_MAX + 1])
{
    uint16_t count = 0;
    memset(map, 0, (STORE_SLIDE_TABLES_MAX + 1) * sizeof *map);
    for (uint64_t i = first_group; i < table->group_count; i++) {
        uint16_t slides = table->groups[i].slides;
        if (slides != 0 && map[slides] == 0)
            map[slides] = ++count;
    }
}

static int
encode_group_columns(
    const struct store_table *table, uint64_t first_group,
    const uint16_t slides[STORE_SLIDE_TABLES_MAX + 1], struct base_buf *out)
{
    uint64_t end = 0;
    int err = 0;
    for (uint64_t i = first_group; i < table->group_count && err == 0; i++) {
        const struct store_group *group = &table->groups[i];
        err = store_put_varint(out, group->offset - end);
        end = group->offset + group->stored_bytes;
    }
    for (uint64_t i = first_group; i < table->group_count && err == 0; i++)
        err = store_put_varint(out, table->groups[i].stored_bytes);
    for (uint64_t i = first_group; i < table->group_count && err == 0; i++)
        err = store_put_varint(out, table->groups[i].page_count);
    for (uint64_t i = first_group; i < table->group_count && err == 0; i++)
        err = store_put_varint(out, table->groups[i].codec);
    for (uint64_t i = first_group; table->patches && i < table->group_count && err == 0; i++)
        err = store_put_varint(out, slides[table->groups[i].slides]);
    return err;
}

static int
encode_page_columns(
    const struct store_table *table, uint64_t first_group, uint64_t first, uint64_t before,
    struct base_buf *out)
{
    int err = 0;
    for (uint64_t i = first; i < table->page_count && err == 0; i++) {
        err = store_put_varint(out, table->serials[i] - before - 1);
        before = table->serials[i];
    }
    if (!table->patches) {
        for (uint64_t i = first; i < table->page_count && err == 0; i++)
            err = store_put_varint(out, table->chunk_pages[i]);
        for (uint64_t i = first; i < table->page_count && err == 0; i++)
            if (table->chunk_pages[i] != 0)
                err = store_put_varint(out, table->fingerprint_counts[i]);
        return err;
    }
    for (uint64_t g = first_group; g < table->group_count; g++) {
        const struct store_group *group = &table->groups[g];
        for (uint64_t i = group->first_page;
             i < group->first_page + group->page_count && err == 0; i++)
            err = store_put_varint(out, store_table_page_bytes(table, group, i));
    }
    uint64_t base = 0;
    for (uint64_t i = first; i < table->page_count && err == 0; i++) {
        err = store_put_varint(out, base_zigzag_encode((int64_t)(table->bases[i] - base - 1)));
        base = table->bases[i];
    }
    return err;
}

static int
put_u32(struct base_buf *buf, uint32_t value)
{
    uint8_t bytes[4];
    base_le32_put(bytes, value);
    return base_buf_append(buf, bytes, sizeof bytes);
}

/* The slide tables in use, in the order of their numbers in the frame. */
static int
encode_slides(
    const struct store_table *table, uint64_t first_group,
    const uint16_t numbers[STORE_SLIDE_TABLES_MAX + 1], struct base_buf *out)
{
    int err = 0;
    uint16_t written = 0;
    for (uint64_t g = first_group; g < table->group_count && err == 0; g++) {
        uint16_t slides = table->groups[g].slides;
        if (numbers[slides] != written + 1)
            continue;
        written++;
        const struct chunk_slides *used = &table->slides[slides - 1];
        err = put_u32(out, used->count);
        for (uint32_t i = 0; i < used->count && err == 0; i++)
            err = store_put_u64(out, used->slide[i]);
    }
    return err;
}

static int
encode_numbers(
    const struct store_table *table, uint64_t first_group, uint64_t first,
    const uint16_t slides[STORE_SLIDE_TABLES_MAX + 1], struct base_buf *out)
{
    int err = 0;
    for (uint64_t i = first_group; i < table->group_count && err == 0; i++)
        err = store_put_u64(out, table->groups[i].digest);
    for (uint64_t i = first; i < table->page_count && err == 0; i++)
        err = put_u32(out, table->digests[i]);
    if (!table->patches) {
        for (uint64_t i = fingerprints_before(table, first);
             i < table->fingerprint_count && err == 0; i++)
            err = put_u32(out, table->fingerprints[i]);
        return err;
    }
    return err != 0 ? err : encode_slides(table, first_group, slides, out);
}

/* Slide tables are numbered per frame and only those in use are written: a frame needs no other. */
int
store_frame_encode(
    const struct store_table *table, uint64_t first_group, struct chunk_coder *coder,
    struct base_buf *buf)
{
    dor_assert(first_group < table->group_count);
    uint64_t first = table->groups[first_group].first_page;
    uint64_t before = table->serials[first] - 1;
    AUTO_BUF struct base_buf columns = {0};
    AUTO_BUF struct base_buf numbers = {0};
    uint16_t slides[STORE_SLIDE_TABLES_MAX + 1];
    number_slides(table, first_group, slides);
    int err = encode_group_columns(table, first_group, slides, &columns);
    if (err == 0)
        err = encode_page_columns(table, first_group, first, before, &columns);
    if (err == 0)
        err = encode_numbers(table, first_group, first, slides, &numbers);
    if (err == 0)
        err = base_buf_reserve(
            buf, STORE_FRAME_HEADER_BYTES + chunk_compress_bound(columns.size_bytes) +
                     numbers.size_bytes);
    if (err != 0)
        return err;
    uint8_t *frame = buf->data + buf->size_bytes;
    enum chunk_codec codec = CHUNK_ZSTD;
    size_t stored_bytes = 0;
    err = chunk_compress(
        coder, &codec, FRAME_LEVEL, columns.data, columns.size_bytes,
        frame + STORE_FRAME_HEADER_BYTES, &stored_bytes);
    if (err != 0)
        return err;
    if (numbers.size_bytes > 0)
        memcpy(
            frame + STORE_FRAME_HEADER_BYTES + stored_bytes, numbers.data, numbers.size_bytes);
    memset(frame, 0, STORE_FRAME_HEADER_BYTES);
    memcpy(frame, FRAME_MAGIC, 4);
    frame[4] = FRAME_VERSION;
    frame[5] = table->patches;
    base_le16_put(frame + 6, (uint16_t)codec);
    base_le32_put(frame + 8, (uint32_t)(table->group_count - first_group));
    base_le32_put(frame + 12, (uint32_t)(table->page_count - first));
    base_le64_put(frame + 16, before);
    base_le32_put(frame + 24, (uint32_t)stored_bytes);
    base_le32_put(frame + 28, (uint32_t)columns.size_bytes);
    base_le32_put(frame + 32, (uint32_t)numbers.size_bytes);
    size_t rest = stored_bytes + numbers.size_bytes;
    base_le64_put(
        frame + 40,
        chunk_digest(frame, 40) ^ chunk_digest(frame + STORE_FRAME_HEADER_BYTES, rest));
    buf->size_bytes += STORE_FRAME_HEADER_BYTES + rest;
    return 0;
}

/* ------------------------------------------------------------------ frames: decoding */

struct frame {
    uint32_t group_count, page_count;
    uint64_t before;
    uint32_t stored_bytes, plain_bytes, number_bytes;
    unsigned codec;
    struct store_reader columns, numbers;
};

bool
store_frame_probe(const void *data, size_t size_bytes, uint64_t *ret_bytes)
{
    const uint8_t *frame = data;
    if (size_bytes < STORE_FRAME_HEADER_BYTES || memcmp(frame, FRAME_MAGIC, 4) != 0 ||
        frame[4] != FRAME_VERSION)
        return false;
    *ret_bytes = STORE_FRAME_HEADER_BYTES + (uint64_t)base_le32_get(frame + 24) +
                 base_le32_get(frame + 32);
    return true;
}

static int
damaged(const char *name, const char *what)
{
    return dor_fail(DOR_E_CORRUPT, "%s: table: %s", name, what);
}

static int
parse_header(
    const struct store_table *table, const uint8_t *data, size_t size_bytes, const char *name,
    struct frame *frame)
{
    uint64_t frame_bytes;
    if (size_bytes < STORE_FRAME_HEADER_BYTES || memcmp(data, FRAME_MAGIC, 4) != 0)
        return damaged(name, "no frame where one should be");
    if (!store_frame_probe(data, size_bytes, &frame_bytes))
        return dor_fail(DOR_E_UNSUPPORTED, "%s: table version %u is not known", name, data[4]);
    if (frame_bytes != size_bytes)
        return damaged(name, "the frame is cut short");
    uint64_t digest =
        chunk_digest(data, 40) ^
        chunk_digest(data + STORE_FRAME_HEADER_BYTES, size_bytes - STORE_FRAME_HEADER_BYTES);
    if (digest != base_le64_get(data + 40))
        return damaged(name, "bad checksum");
    frame->codec = base_le16_get(data + 6);
    frame->group_count = base_le32_get(data + 8);
    frame->page_count = base_le32_get(data + 12);
    frame->before = base_le64_get(data + 16);
    frame->stored_bytes = base_le32_get(data + 24);
    frame->plain_bytes = base_le32_get(data + 28);
    frame->number_bytes = base_le32_get(data + 32);
    /*
     * A page takes at least two bytes of columns: the counts cannot ask for more memory than
     * the data.
     */
    if (data[5] != table->patches || frame->plain_bytes > FRAME_PLAIN_MAX ||
        frame->page_count > frame->plain_bytes / 2 || frame->group_count > frame->page_count ||
        frame->group_count == 0 || frame->before > STORE_SERIAL_MAX)
        return damaged(name, "the frame's counts make no sense");
    return 0;
}

static int
decode_groups(struct store_table *table, struct frame *frame, uint64_t limit, const char *name)
{
    uint64_t first = table->group_count;
    uint64_t need = first + frame->group_count;
    if (need > table->group_cap) {
        int err = resize(&table->groups, need, sizeof *table->groups);
        if (err != 0)
            return err;
        table->group_cap = need;
    }
    struct store_group *groups = table->groups + first;
    memset(groups, 0, frame->group_count * sizeof *groups);
    struct store_reader *columns = &frame->columns;
    for (uint32_t i = 0; i < frame->group_count; i++)
        groups[i].offset = store_get_bounded(columns, limit);
    for (uint32_t i = 0; i < frame->group_count; i++)
        groups[i].stored_bytes = (uint32_t)store_get_bounded(columns, STORE_GROUP_BYTES_MAX);
    for (uint32_t i = 0; i < frame->group_count; i++)
        groups[i].page_count = (uint16_t)store_get_bounded(columns, STORE_GROUP_PAGES_MAX);
    for (uint32_t i = 0; i < frame->group_count; i++)
        groups[i].codec = (uint8_t)store_get_bounded(columns, UINT8_MAX);
    for (uint32_t i = 0; table->patches && i < frame->group_count; i++)
        groups[i].slides = (uint16_t)store_get_bounded(columns, STORE_SLIDE_TABLES_MAX);
    uint64_t end = 0;
    uint64_t page = table->page_count;
    for (uint32_t i = 0; i < frame->group_count; i++) {
        groups[i].offset += end;
        end = groups[i].offset + groups[i].stored_bytes;
        groups[i].first_page = (uint32_t)page;
        page += groups[i].page_count;
        groups[i].digest = store_get_u64(&frame->numbers);
        if (end > limit || groups[i].page_count == 0)
            return damaged(name, "a group lies outside the segment");
    }
    if (columns->bad || page != table->page_count + frame->page_count || page > UINT32_MAX)
        return damaged(name, "the groups' columns make no sense");
    return 0;
}

static int
decode_serials(struct store_table *table, struct frame *frame, const char *name)
{
    uint64_t serial = frame->before;
    for (uint64_t i = 0; i < frame->page_count; i++) {
        uint64_t gap = store_get_bounded(&frame->columns, STORE_SERIAL_MAX);
        serial += gap + 1;
        if (serial > STORE_SERIAL_MAX)
            return damaged(name, "a serial number is too large");
        table->serials[table->page_count + i] = serial;
    }
    if (table->page_count > 0 &&
        table->serials[table->page_count] <= table->serials[table->page_count - 1])
        return damaged(name, "frames overlap in serial numbers");
    return 0;
}

static void
decode_raw_pages(struct store_table *table, struct frame *frame, uint64_t *ret_fingerprints)
{
    uint64_t first = table->page_count;
    uint64_t count = 0;
    for (uint64_t i = first; i < first + frame->page_count; i++)
        table->chunk_pages[i] = (uint8_t)store_get_bounded(&frame->columns, CHUNK_PAGES_MAX);
    for (uint64_t i = first; i < first + frame->page_count; i++) {
        table->fingerprint_counts[i] =
            table->chunk_pages[i] == 0
                ? 0
                : (uint8_t)store_get_bounded(&frame->columns, CHUNK_FINGERPRINTS_MAX);
        count += table->fingerprint_counts[i];
    }
    *ret_fingerprints = count;
}

/* Offsets of plain pages are multiples of the page size. */
static int
place_raw_pages(struct store_table *table, uint64_t first_group, const char *name)
{
    for (uint64_t g = first_group; g < table->group_count; g++) {
        struct store_group *group = &table->groups[g];
        if (group->page_count * DOR_PAGE_BYTES > STORE_GROUP_BYTES_MAX)
            return damaged(name, "a group is too large");
        group->plain_bytes = (uint32_t)(group->page_count * DOR_PAGE_BYTES);
        for (uint32_t i = 0; i < group->page_count; i++)
            table->offsets[group->first_page + i] = (uint32_t)(i * DOR_PAGE_BYTES);
    }
    return 0;
}

static int
place_patches(
    struct store_table *table, struct frame *frame, uint64_t first_group, const char *name)
{
    for (uint64_t g = first_group; g < table->group_count; g++) {
        struct store_group *group = &table->groups[g];
        uint64_t offset = 0;
        for (uint32_t i = 0; i < group->page_count; i++) {
            table->offsets[group->first_page + i] = (uint32_t)offset;
            offset += store_get_bounded(&frame->columns, DOR_PAGE_BYTES);
            if (offset > STORE_GROUP_BYTES_MAX)
                return damaged(name, "a group is too large");
        }
        group->plain_bytes = (uint32_t)offset;
    }
    uint64_t base = 0;
    for (uint64_t i = 0; i < frame->page_count; i++) {
        base += (uint64_t)base_zigzag_decode(store_get_varint(&frame->columns)) + 1;
        if (base > STORE_SERIAL_MAX)
            return damaged(name, "a base's serial number is too large");
        table->bases[table->page_count + i] = base;
    }
    return 0;
}

static int
decode_slides(
    struct store_table *table, struct frame *frame, uint64_t first_group, const char *name)
{
    uint16_t map[STORE_SLIDE_TABLES_MAX + 1] = {0};
    unsigned count = 0;
    struct chunk_slides slides;
    while (frame->numbers.at < frame->numbers.end && count < STORE_SLIDE_TABLES_MAX) {
        memset(&slides, 0, sizeof slides);
        if (frame->numbers.end - frame->numbers.at < 4)
            return damaged(name, "slide tables end early");
        uint32_t n = base_le32_get(frame->numbers.at);
        frame->numbers.at += 4;
        if (n == 0 || n > CHUNK_SLIDES_MAX)
            return damaged(name, "a slide table has a bad size");
        for (uint32_t i = 0; i < n; i++)
            chunk_slides_add(&slides, store_get_u64(&frame->numbers));
        int err = frame->numbers.bad ? damaged(name, "slide tables end early")
                                     : store_table_add_slides(table, &slides, &map[++count]);
        if (err != 0)
            return err;
    }
    for (uint64_t g = first_group; g < table->group_count; g++) {
        if (table->groups[g].slides > count)
            return damaged(name, "a group names a slide table that is not there");
        table->groups[g].slides = map[table->groups[g].slides];
    }
    return 0;
}

static int
decode_u32s(struct store_reader *numbers, uint32_t *out, uint64_t count, const char *name)
{
    if (count == 0)
        return 0;
    if ((uint64_t)(numbers->end - numbers->at) / 4 < count)
        return damaged(name, "numbers end early");
    for (uint64_t i = 0; i < count; i++)
        out[i] = base_le32_get(numbers->at + i * 4);
    numbers->at += count * 4;
    return 0;
}

static int
decode_pages(
    struct store_table *table, struct frame *frame, uint64_t first_group, const char *name)
{
    int err = reserve_pages(table, table->page_count + frame->page_count);
    if (err == 0)
        err = decode_serials(table, frame, name);
    if (err != 0)
        return err;
    uint64_t fingerprints = 0;
    if (table->patches) {
        err = place_patches(table, frame, first_group, name);
    } else {
        decode_raw_pages(table, frame, &fingerprints);
        err = place_raw_pages(table, first_group, name);
    }
    if (err == 0 && (frame->columns.bad || frame->columns.at != frame->columns.end))
        err = damaged(name, "the pages' columns make no sense");
    if (err == 0)
        err = decode_u32s(
            &frame->numbers, table->digests + table->page_count, frame->page_count, name);
    if (err == 0)
        err = reserve_fingerprints(table, table->fingerprint_count + fingerprints);
    /* A table without fingerprints has no array of them to point into. */
    if (err == 0 && fingerprints > 0)
        err = decode_u32s(
            &frame->numbers, table->fingerprints + table->fingerprint_count, fingerprints,
            name);
    if (err == 0 && table->patches)
        err = decode_slides(table, frame, first_group, name);
    if (err == 0 && frame->numbers.at != frame->numbers.end)
        err = damaged(name, "bytes left over");
    if (err == 0) {
        table->page_count += frame->page_count;
        table->fingerprint_count += fingerprints;
    }
    return err;
}

int
store_frame_decode(
    struct store_table *table, const void *data, size_t size_bytes, uint64_t limit,
    struct chunk_coder *coder, const char *name)
{
    struct frame frame = {0};
    int err = parse_header(table, data, size_bytes, name, &frame);
    if (err != 0)
        return err;
    const uint8_t *stored = (const uint8_t *)data + STORE_FRAME_HEADER_BYTES;
    AUTO_FREE uint8_t *columns = base_alloc(frame.plain_bytes);
    if (columns == NULL)
        return DOR_E_NO_MEMORY;
    err = chunk_decompress(
        coder, frame.codec, stored, frame.stored_bytes, columns, frame.plain_bytes);
    if (err != 0)
        return dor_fail_wrap("%s: table", name);
    frame.columns = (struct store_reader){.at = columns, .end = columns + frame.plain_bytes};
    frame.numbers = (struct store_reader){
        .at = stored + frame.stored_bytes,
        .end = stored + frame.stored_bytes + frame.number_bytes};
    uint64_t first_group = table->group_count;
    err = decode_groups(table, &frame, limit, name);
    if (err != 0)
        return err;
    table->group_count += frame.group_count;
    err = decode_pages(table, &frame, first_group, name);
    if (err != 0)
        table->group_count = first_group;
    return err;
}
