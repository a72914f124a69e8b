/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recipe.c - snapshot files. docs/formats/snapshot.md has worked bytes.
 *
 *     offset  size  field (little endian)
 *          0     8  magic "DORSNAP1"
 *          8    16  uuid of the store
 *         24     4  codec of the head
 *         28     4  0
 *         32     8  bytes of the head as stored, which follows at 64
 *         40     8  bytes of the head decoded
 *         48     8  pages
 *         56     8  XXH3-64 of bytes 0-55 XOR that of the stored head
 *         64     -  head: what the catalog says of the snapshot, the sidecars' rows, then the
 *         places
 *          -     -  sidecars, each compressed for itself, at the offsets in their rows
 *
 * Places are coded by cursors. A cursor is a place that was just used; the eight last are
 * kept, latest first. Most pages are the one after a cursor's: an image's own order, its
 * base's order, the order of new pages and of new patches run side by side. The list is runs,
 * in three columns:
 *   op     0 zero pages; 1-8: the pages after cursor op - 1; 9: a new cursor; 10 + t: zero
 *   pages of type t count  pages of the run
 *   jump   for op 9: (lane << 1 | sign) and distance from the latest place of that lane
 * After the columns, to the end of the head, comes what places do not tell: pages stored under
 * another region type than their own, as pairs of distance from the last such run, and
 * 3 * pages + type.
 *
 * A lane is a stream, or the references to root images of one region type: their serial numbers are
 * id << 32 | block.
 *
 * Invariant: decoding gives exactly page_count places, each zero or of a valid lane and
 * serial > 0; a reference has an id > 0 and its run stays in one image; a run of types is in order
 * and of stored pages only.
 */
#include "store/recipe.h"

#include <string.h>

#include "base/err.h"
#include "base/size.h"
#include "chunk/codec.h"
#include "chunk/digest.h"
#include "store/root.h"
#include "store/wire.h"

#define MAGIC          "DORSNAP1"
#define HEADER_BYTES   64
#define HEAD_BYTES_MAX (UINT64_C(1) << 34)
#define HEAD_LEVEL     12
#define SIDECAR_LEVEL  9
#define CURSORS        8
#define LANES          (STORE_STREAMS + DOR_REGION_TYPES)

enum { OP_ZERO = 0, OP_CURSOR = 1, OP_JUMP = OP_CURSOR + CURSORS, OP_ZERO_TYPE = OP_JUMP + 1 };

void
store_recipe_fini(struct store_recipe *recipe)
{
    base_free(recipe->places);
    base_free(recipe->type_runs);
    base_free(recipe->sidecars);
    memset(recipe, 0, sizeof *recipe);
}

/* ------------------------------------------------------------------ places */

struct cursors {
    uint64_t place[CURSORS]; /* latest first; 0 = unused */
    uint64_t latest[LANES];  /* serial of the latest place of each lane */
};

/* Whether PLACE has a serial number: it is not of a zero page. */
static bool
is_numbered(uint64_t place)
{
    return store_place_is_stored(place) || store_place_is_reference(place);
}

static unsigned
place_lane(uint64_t place)
{
    return store_place_is_reference(place) ? STORE_STREAMS + store_place_type(place)
                                           : store_place_stream(place);
}

static uint64_t
lane_place(unsigned lane, uint64_t serial)
{
    return lane < STORE_STREAMS ? store_stream_place(lane, serial)
                                : store_place(DOR_PAGE_REFERENCE, lane - STORE_STREAMS, serial);
}

/* The largest serial number a run through PLACE may reach. */
static uint64_t
last_serial(uint64_t place)
{
    return store_place_is_reference(place)
               ? (store_place_serial(place) & ~(uint64_t)UINT32_MAX) + STORE_ROOT_BLOCKS_MAX - 1
               : STORE_SERIAL_MAX;
}

static void
cursor_use(struct cursors *cursors, unsigned index, uint64_t place)
{
    for (unsigned i = index; i > 0; i--)
        cursors->place[i] = cursors->place[i - 1];
    cursors->place[0] = place;
    cursors->latest[place_lane(place)] = store_place_serial(place);
}

static unsigned
cursor_find(const struct cursors *cursors, uint64_t place)
{
    unsigned i = 0;
    while (i < CURSORS && cursors->place[i] + 1 != place)
        i++;
    return i;
}

static unsigned
choose_op(const struct cursors *cursors, uint64_t place)
{
    if (!is_numbered(place)) {
        unsigned type = store_place_type(place);
        return type == DOR_NRT ? OP_ZERO : OP_ZERO_TYPE + type;
    }
    unsigned cursor = cursor_find(cursors, place);
    return cursor < CURSORS ? OP_CURSOR + cursor : OP_JUMP;
}

/* Pages from AT on that continue what PLACES[AT] begins. */
static uint64_t
run_length(const uint64_t *places, uint64_t at, uint64_t page_count)
{
    uint64_t step = is_numbered(places[at]) ? 1 : 0;
    uint64_t length = 1;
    while (at + length < page_count && places[at + length] == places[at] + length * step)
        length++;
    return length;
}

static int
put_jump(struct base_buf *jumps, const struct cursors *cursors, uint64_t place)
{
    unsigned lane = place_lane(place);
    uint64_t latest = cursors->latest[lane];
    uint64_t serial = store_place_serial(place);
    bool back = serial < latest;
    int err = store_put_varint(jumps, lane << 1 | back);
    return err != 0 ? err : store_put_varint(jumps, back ? latest - serial : serial - latest);
}

static int
encode_columns(const uint64_t *places, uint64_t page_count, struct base_buf columns[3])
{
    struct cursors cursors = {0};
    int err = 0;
    for (uint64_t at = 0; at < page_count && err == 0;) {
        unsigned op = choose_op(&cursors, places[at]);
        uint64_t length = run_length(places, at, page_count);
        err = store_put_varint(&columns[0], op);
        if (err == 0)
            err = store_put_varint(&columns[1], length);
        if (err == 0 && op == OP_JUMP)
            err = put_jump(&columns[2], &cursors, places[at]);
        at += length;
        if (op >= OP_CURSOR && op <= OP_JUMP)
            cursor_use(&cursors, op == OP_JUMP ? CURSORS - 1 : op - OP_CURSOR, places[at - 1]);
    }
    return err;
}

int
store_places_encode(const uint64_t *places, uint64_t page_count, struct base_buf *buf)
{
    struct base_buf columns[3] = {{0}};
    int err = encode_columns(places, page_count, columns);
    for (unsigned i = 0; i < 3 && err == 0; i++)
        err = store_put_varint(buf, columns[i].size_bytes);
    for (unsigned i = 0; i < 3 && err == 0; i++)
        err = base_buf_append(buf, columns[i].data, columns[i].size_bytes);
    for (unsigned i = 0; i < 3; i++)
        base_buf_free(&columns[i]);
    return err;
}

static int
damaged(const char *what)
{
    return dor_fail(DOR_E_CORRUPT, "recipe: %s", what);
}

/* Where a run that begins with OP starts; UINT64_MAX when that makes no sense. */
static uint64_t
run_start(struct cursors *cursors, uint64_t op, struct store_reader *jumps)
{
    if (op < OP_JUMP) {
        uint64_t before = cursors->place[op - OP_CURSOR];
        return before == 0 || store_place_serial(before) == last_serial(before) ? UINT64_MAX
                                                                                : before + 1;
    }
    uint64_t lane_and_sign = store_get_bounded(jumps, LANES * 2 - 1);
    uint64_t distance = store_get_bounded(jumps, STORE_SERIAL_MAX);
    unsigned lane = (unsigned)(lane_and_sign >> 1);
    uint64_t latest = cursors->latest[lane];
    bool back = (lane_and_sign & 1) != 0;
    if (jumps->bad || (back && distance >= latest))
        return UINT64_MAX;
    uint64_t serial = back ? latest - distance : latest + distance;
    if (serial == 0 || serial > STORE_SERIAL_MAX ||
        (lane >= STORE_STREAMS && serial <= UINT32_MAX))
        return UINT64_MAX;
    return lane_place(lane, serial);
}

static int
decode_run(
    struct cursors *cursors, uint64_t op, uint64_t length, struct store_reader *jumps,
    uint64_t *places)
{
    if (op == OP_ZERO || op > OP_JUMP) {
        unsigned type = op == OP_ZERO ? DOR_NRT : (unsigned)(op - OP_ZERO_TYPE);
        for (uint64_t i = 0; i < length; i++)
            places[i] = store_place(DOR_PAGE_ZERO, type, 0);
        return 0;
    }
    uint64_t start = run_start(cursors, op, jumps);
    if (start == UINT64_MAX || store_place_serial(start) + length - 1 > last_serial(start))
        return damaged("a place makes no sense");
    for (uint64_t i = 0; i < length; i++)
        places[i] = start + i;
    cursor_use(
        cursors, op == OP_JUMP ? CURSORS - 1 : (unsigned)(op - OP_CURSOR), start + length - 1);
    return 0;
}

/* The columns at READER, which is left where they end. */
static int
decode_columns(struct store_reader *from, uint64_t *places, uint64_t page_count)
{
    struct store_reader reader = *from;
    struct store_reader columns[3];
    uint64_t sizes[3];
    for (unsigned i = 0; i < 3; i++)
        sizes[i] = store_get_bounded(&reader, (uint64_t)(from->end - from->at));
    for (unsigned i = 0; i < 3; i++) {
        if (reader.bad || sizes[i] > (size_t)(reader.end - reader.at))
            return damaged("its columns end early");
        columns[i] = (struct store_reader){.at = reader.at, .end = reader.at + sizes[i]};
        reader.at += sizes[i];
    }
    struct cursors cursors = {0};
    for (uint64_t at = 0; at < page_count;) {
        uint64_t op = store_get_bounded(&columns[0], OP_ZERO_TYPE + DOR_REGION_TYPES - 1);
        uint64_t length = store_get_bounded(&columns[1], page_count - at);
        if (columns[0].bad || columns[1].bad || length == 0)
            return damaged("a run makes no sense");
        int err = decode_run(&cursors, op, length, &columns[2], places + at);
        if (err != 0)
            return err;
        at += length;
    }
    if (columns[0].at != columns[0].end || columns[1].at != columns[1].end ||
        columns[2].at != columns[2].end)
        return damaged("bytes left over");
    *from = reader;
    return 0;
}

int
store_places_decode(const void *data, size_t size_bytes, uint64_t *places, uint64_t page_count)
{
    struct store_reader reader = {.at = data, .end = (const uint8_t *)data + size_bytes};
    int err = decode_columns(&reader, places, page_count);
    return err == 0 && reader.at != reader.end ? damaged("bytes left over") : err;
}

/* ------------------------------------------------------------------ region types */

unsigned
store_recipe_page_type(const struct store_recipe *recipe, uint64_t page_index)
{
    size_t low = 0;
    size_t high = recipe->type_run_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct store_type_run *run = &recipe->type_runs[middle];
        if (page_index < run->first_page)
            high = middle;
        else if (page_index - run->first_page >= run->page_count)
            low = middle + 1;
        else
            return run->type;
    }
    return store_place_type(recipe->places[page_index]);
}

/* Pages from AT on that are stored under another type than TYPES says, all with the same. */
static uint64_t
type_run_length(const struct store_recipe *recipe, const uint8_t *types, uint64_t at)
{
    uint64_t end = at;
    while (end < recipe->page_count && types[end] == types[at] &&
           store_place_is_stored(recipe->places[end]) &&
           store_place_type(recipe->places[end]) != types[end])
        end++;
    return end - at;
}

int
store_recipe_set_types(struct store_recipe *recipe, const uint8_t *types)
{
    size_t cap = 0;
    recipe->type_run_count = 0;
    for (uint64_t at = 0; at < recipe->page_count;) {
        uint64_t length = type_run_length(recipe, types, at);
        if (length == 0) {
            at++;
            continue;
        }
        if (recipe->type_run_count == cap) {
            cap = cap * 2 + 64;
            struct store_type_run *runs =
                base_realloc_array(recipe->type_runs, cap, sizeof *runs);
            if (runs == NULL)
                return DOR_E_NO_MEMORY;
            recipe->type_runs = runs;
        }
        recipe->type_runs[recipe->type_run_count++] =
            (struct store_type_run){at, length, types[at]};
        at += length;
    }
    return 0;
}

static int
encode_types(const struct store_recipe *recipe, struct base_buf *buf)
{
    uint64_t at = 0;
    int err = 0;
    for (size_t i = 0; i < recipe->type_run_count && err == 0; i++) {
        const struct store_type_run *run = &recipe->type_runs[i];
        err = store_put_varint(buf, run->first_page - at);
        if (err == 0)
            err = store_put_varint(buf, run->page_count * DOR_REGION_TYPES + run->type);
        at = run->first_page + run->page_count;
    }
    return err;
}

/* Whether RUN tells of its pages what their places do not. */
static bool
is_type_run(const struct store_recipe *recipe, const struct store_type_run *run)
{
    for (uint64_t i = run->first_page; i < run->first_page + run->page_count; i++)
        if (!store_place_is_stored(recipe->places[i]) ||
            store_place_type(recipe->places[i]) == run->type)
            return false;
    return run->page_count > 0;
}

/* All that is left at READER; the places are known. */
static int
decode_types(struct store_reader *reader, struct store_recipe *recipe)
{
    size_t cap = (size_t)(reader->end - reader->at) / 2;
    uint64_t at = 0;
    if (cap == 0)
        return reader->at == reader->end ? 0 : damaged("bytes left over");
    recipe->type_runs = base_array(cap, sizeof *recipe->type_runs);
    if (recipe->type_runs == NULL)
        return DOR_E_NO_MEMORY;
    while (reader->at < reader->end) {
        at += store_get_bounded(reader, recipe->page_count - at);
        uint64_t left = recipe->page_count - at;
        uint64_t value = store_get_bounded(reader, (left + 1) * DOR_REGION_TYPES - 1);
        struct store_type_run run = {
            at, value / DOR_REGION_TYPES, (unsigned)(value % DOR_REGION_TYPES)};
        if (reader->bad || recipe->type_run_count == cap || !is_type_run(recipe, &run))
            return damaged("its region types make no sense");
        recipe->type_runs[recipe->type_run_count++] = run;
        at += run.page_count;
    }
    return 0;
}

/* ------------------------------------------------------------------ the file */

static int
encode_head(
    const struct store_snapshot_entry *entry, const struct store_sidecar_row *sidecars,
    size_t sidecar_count, const struct store_recipe *recipe, struct base_buf *head)
{
    const struct dor_snapshot_info *info = &entry->info;
    int err = store_put_string(head, info->name);
    if (err == 0)
        err = store_put_string(head, info->domain);
    if (err == 0)
        err = store_put_string(head, info->parent);
    if (err == 0)
        err = store_put_varint(head, info->generation);
    if (err == 0)
        err = store_put_varint(head, info->id);
    if (err == 0)
        err = store_put_varint(head, info->created_ns);
    if (err == 0)
        err = store_put_varint(head, info->logical_bytes);
    if (err == 0)
        err = store_put_result_encode(head, &info->put);
    if (err == 0)
        err = store_put_varint(head, sidecar_count);
    for (size_t i = 0; i < sidecar_count && err == 0; i++) {
        const struct store_sidecar_row *row = &sidecars[i];
        err = store_put_string(head, row->name);
        if (err == 0)
            err = store_put_varint(head, row->plain_bytes);
        if (err == 0)
            err = store_put_varint(head, row->stored_bytes);
        if (err == 0)
            err = store_put_varint(head, row->codec);
        if (err == 0)
            err = store_put_u64(head, row->digest);
    }
    if (err == 0)
        err = store_places_encode(recipe->places, recipe->page_count, head);
    return err != 0 ? err : encode_types(recipe, head);
}

/* Compress the sidecars one after another into BUF, noting their rows. */
static int
encode_sidecars(
    struct chunk_coder *coder, const struct dor_sidecar *sidecars, size_t count,
    struct store_sidecar_row *rows, struct base_buf *buf)
{
    for (size_t i = 0; i < count; i++) {
        enum chunk_codec codec = CHUNK_ZSTD;
        size_t stored_bytes = 0;
        int err = base_buf_reserve(buf, chunk_compress_bound(sidecars[i].size_bytes));
        if (err == 0)
            err = chunk_compress(
                coder, &codec, SIDECAR_LEVEL, sidecars[i].data, sidecars[i].size_bytes,
                buf->data + buf->size_bytes, &stored_bytes);
        if (err != 0)
            return err;
        memset(&rows[i], 0, sizeof rows[i]);
        memcpy(rows[i].name, sidecars[i].name, strlen(sidecars[i].name));
        rows[i].plain_bytes = sidecars[i].size_bytes;
        rows[i].stored_bytes = stored_bytes;
        rows[i].codec = codec;
        rows[i].digest = chunk_digest(buf->data + buf->size_bytes, stored_bytes);
        buf->size_bytes += stored_bytes;
    }
    return 0;
}

static int
encode_file(
    struct chunk_coder *coder, const struct base_buf *head, uint64_t page_count,
    const uint8_t uuid[16], const struct base_buf *blobs, struct base_buf *buf)
{
    enum chunk_codec codec = CHUNK_ZSTD;
    size_t stored_bytes = 0;
    int err = base_buf_reserve(
        buf, HEADER_BYTES + chunk_compress_bound(head->size_bytes) + blobs->size_bytes);
    if (err == 0)
        err = chunk_compress(
            coder, &codec, HEAD_LEVEL, head->data, head->size_bytes, buf->data + HEADER_BYTES,
            &stored_bytes);
    if (err != 0)
        return err;
    uint8_t *file = buf->data;
    memset(file, 0, HEADER_BYTES);
    memcpy(file, MAGIC, 8);
    memcpy(file + 8, uuid, 16);
    base_le32_put(file + 24, codec);
    base_le64_put(file + 32, stored_bytes);
    base_le64_put(file + 40, head->size_bytes);
    base_le64_put(file + 48, page_count);
    base_le64_put(
        file + 56, chunk_digest(file, 56) ^ chunk_digest(file + HEADER_BYTES, stored_bytes));
    buf->size_bytes = HEADER_BYTES + stored_bytes;
    return blobs->size_bytes == 0 ? 0 : base_buf_append(buf, blobs->data, blobs->size_bytes);
}

int
store_recipe_encode(
    const struct store_snapshot_entry *entry, const struct store_recipe *recipe,
    const struct dor_sidecar *sidecars, size_t sidecar_count, const uint8_t uuid[16],
    struct base_buf *buf)
{
    AUTO_BUF struct base_buf head = {0};
    AUTO_BUF struct base_buf blobs = {0};
    AUTO_FREE struct store_sidecar_row *rows = base_array(sidecar_count + 1, sizeof *rows);
    struct chunk_coder *coder = NULL;
    dor_assert(entry->info.sidecar_count <= sidecar_count && buf->size_bytes == 0);
    dor_assert(recipe->page_count == entry->info.logical_bytes / DOR_PAGE_BYTES);
    int err = rows == NULL ? DOR_E_NO_MEMORY : chunk_coder_new(&coder);
    if (err == 0)
        err = encode_sidecars(coder, sidecars, sidecar_count, rows, &blobs);
    if (err == 0)
        err = encode_head(entry, rows, sidecar_count, recipe, &head);
    if (err == 0)
        err = encode_file(coder, &head, recipe->page_count, uuid, &blobs, buf);
    chunk_coder_free(coder);
    return err;
}

/* What a row may be called: sidecars by their rule, and parts only after them, each once. */
static bool
is_row_name(struct store_recipe *recipe, size_t index)
{
    const char *name = recipe->sidecars[index].name;
    bool is_part = strcmp(name, STORE_PART_CLASSES) == 0 || strcmp(name, STORE_PART_FRAME) == 0;
    if (!is_part) {
        recipe->entry.info.sidecar_count++;
        return recipe->entry.info.sidecar_count == index + 1 && dor_name_check(name) == 0;
    }
    return index == recipe->entry.info.sidecar_count ||
           strcmp(name, recipe->sidecars[index - 1].name) != 0;
}

static int
decode_sidecars(
    struct store_reader *reader, uint64_t offset, uint64_t file_bytes,
    struct store_recipe *recipe)
{
    recipe->sidecar_count = store_get_bounded(reader, DOR_SIDECARS_MAX + STORE_PARTS_MAX);
    recipe->entry.info.sidecar_count = 0;
    recipe->sidecars = base_array(recipe->sidecar_count + 1, sizeof *recipe->sidecars);
    if (recipe->sidecars == NULL)
        return DOR_E_NO_MEMORY;
    for (size_t i = 0; i < recipe->sidecar_count; i++) {
        struct store_sidecar_row *row = &recipe->sidecars[i];
        store_get_string(reader, row->name, sizeof row->name);
        row->plain_bytes = store_get_bounded(reader, UINT32_MAX);
        row->stored_bytes = store_get_bounded(reader, file_bytes - offset);
        row->codec = (unsigned)store_get_bounded(reader, UINT8_MAX);
        row->digest = store_get_u64(reader);
        row->offset = offset;
        offset += row->stored_bytes;
        if (!reader->bad && !is_row_name(recipe, i))
            reader->bad = true;
    }
    if (reader->bad || offset != file_bytes ||
        recipe->entry.info.sidecar_count > DOR_SIDECARS_MAX)
        return damaged("its sidecars make no sense");
    return 0;
}

static int
decode_head(
    struct store_reader *reader, uint64_t page_count, uint64_t blobs_offset,
    uint64_t file_bytes, struct store_recipe *recipe)
{
    struct dor_snapshot_info *info = &recipe->entry.info;
    store_get_string(reader, info->name, sizeof info->name);
    store_get_string(reader, info->domain, sizeof info->domain);
    store_get_string(reader, info->parent, sizeof info->parent);
    info->generation = store_get_bounded(reader, STORE_GENERATION_MAX);
    info->id = store_get_varint(reader);
    info->created_ns = store_get_varint(reader);
    info->logical_bytes = store_get_varint(reader);
    store_put_result_decode(reader, &info->put);
    if (reader->bad || info->logical_bytes / DOR_PAGE_BYTES != page_count ||
        info->logical_bytes % DOR_PAGE_BYTES != 0 || dor_name_check(info->name) != 0)
        return damaged("its head makes no sense");
    int err = decode_sidecars(reader, blobs_offset, file_bytes, recipe);
    if (err != 0)
        return err;
    info->recipe_bytes = file_bytes;
    recipe->page_count = page_count;
    recipe->places = base_array(page_count, sizeof *recipe->places);
    if (recipe->places == NULL)
        return DOR_E_NO_MEMORY;
    err = decode_columns(reader, recipe->places, page_count);
    return err != 0 ? err : decode_types(reader, recipe);
}

static int
check_header(const uint8_t header[HEADER_BYTES], uint64_t file_bytes, const uint8_t uuid[16])
{
    if (memcmp(header, MAGIC, 7) != 0)
        return damaged("this is not a snapshot file");
    if (header[7] != MAGIC[7])
        return dor_fail(
            DOR_E_UNSUPPORTED, "recipe: snapshot version '%c' is not known", header[7]);
    if (memcmp(header + 8, uuid, 16) != 0)
        return damaged("it belongs to another store");
    if (base_le64_get(header + 32) > file_bytes - HEADER_BYTES)
        return damaged("the file is cut short");
    /* One run of zero pages may be any length, so pages are bounded by sense, not by bytes. */
    if (base_le64_get(header + 40) > HEAD_BYTES_MAX || base_le64_get(header + 48) > UINT64_C(1)
                                                                                        << 32)
        return damaged("its sizes make no sense");
    return 0;
}

int
store_recipe_read(int fd, const char *name, const uint8_t uuid[16], struct store_recipe *ret)
{
    uint8_t header[HEADER_BYTES];
    uint64_t file_bytes = 0;
    int err = base_file_size(fd, name, &file_bytes);
    if (err == 0)
        err = base_file_pread(fd, header, sizeof header, 0, name);
    if (err == 0)
        err = check_header(header, file_bytes, uuid);
    if (err != 0)
        return dor_fail_wrap("%s", name);
    uint64_t stored_bytes = base_le64_get(header + 32);
    AUTO_FREE uint8_t *stored = base_alloc(stored_bytes);
    if (stored == NULL)
        return DOR_E_NO_MEMORY;
    err = base_file_pread(fd, stored, stored_bytes, HEADER_BYTES, name);
    if (err != 0)
        return err;
    if ((chunk_digest(header, 56) ^ chunk_digest(stored, stored_bytes)) !=
        base_le64_get(header + 56)) {
        (void)damaged("bad checksum");
        return dor_fail_wrap("%s", name);
    }
    uint64_t head_bytes = base_le64_get(header + 40);
    AUTO_FREE uint8_t *head = base_alloc(head_bytes);
    struct chunk_coder *coder = NULL;
    struct store_recipe recipe = {0};
    err = head == NULL ? DOR_E_NO_MEMORY : chunk_coder_new(&coder);
    if (err == 0)
        err = chunk_decompress(
            coder, base_le32_get(header + 24), stored, stored_bytes, head, head_bytes);
    if (err == 0) {
        struct store_reader reader = {.at = head, .end = head + head_bytes};
        err = decode_head(
            &reader, base_le64_get(header + 48), HEADER_BYTES + stored_bytes, file_bytes,
            &recipe);
    }
    chunk_coder_free(coder);
    if (err != 0) {
        store_recipe_fini(&recipe);
        return dor_fail_wrap("%s", name);
    }
    *ret = recipe;
    return 0;
}
