/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog.c - the catalog file and its model in memory. docs/formats/store.md has worked bytes.
 *
 *     offset  size  field (little endian)
 *          0     8  magic "DORMOUSE"
 *          8     4  format version
 *         12     4  codec of the body (chunk/codec.h)
 *         16     8  bytes of the body as stored, which follow the header
 *         24     8  bytes of the body decoded
 *         32     8  XXH3-64 of bytes 0-31 and the stored body, in that order
 *         40     -  body: varints and strings, see encode_body()
 *
 * Invariants
 *  (1) segments are sorted by (domain, stream, first serial) and do not overlap in serials.
 *  (2) snapshots are sorted by name; names are unique.
 *  (3) next_* numbers are larger than every number in use; they never go back.
 */
#include "store/catalog.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/size.h"
#include "chunk/codec.h"
#include "chunk/digest.h"
#include "store/options.h"
#include "store/root.h"
#include "store/wire.h"

#define MAGIC            "DORMOUSE"
#define HEADER_BYTES     40
#define BODY_BYTES_MAX   (UINT64_C(1) << 30)
#define CATALOG_LEVEL    3
#define OPTION_BYTES_MAX 256

void
store_segment_file_name(uint32_t id, char name[STORE_FILE_NAME_BYTES])
{
    snprintf(name, STORE_FILE_NAME_BYTES, "seg.%08x", id);
}

void
store_snapshot_file_name(uint64_t id, char name[STORE_FILE_NAME_BYTES])
{
    snprintf(name, STORE_FILE_NAME_BYTES, "snap.%016llx", (unsigned long long)id);
}

int
store_catalog_new(struct store_catalog **ret)
{
    struct store_catalog *catalog = base_zalloc(sizeof *catalog);
    if (catalog == NULL)
        return DOR_E_NO_MEMORY;
    catalog->next_snapshot_id = 1;
    catalog->next_segment_id = 1;
    catalog->next_root_id = 1;
    int err = dor_options_new(&catalog->options);
    if (err == 0)
        err = base_random_seed_os(catalog->uuid, sizeof catalog->uuid);
    if (err != 0) {
        store_catalog_free(catalog);
        return err;
    }
    *ret = catalog;
    return 0;
}

void
store_catalog_free(struct store_catalog *catalog)
{
    if (catalog == NULL)
        return;
    for (size_t i = 0; i < catalog->segment_count; i++)
        base_free(catalog->segments[i].frames);
    dor_options_free(catalog->options);
    base_free(catalog->segments);
    base_free(catalog->domains);
    base_free(catalog->snapshots);
    base_free(catalog->roots);
    base_free(catalog);
}

/* ------------------------------------------------------------------ snapshots */

/* Index of the first snapshot whose name is not less than NAME. */
static size_t
snapshot_position(const struct store_catalog *catalog, const char *name)
{
    size_t low = 0;
    size_t high = catalog->snapshot_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(catalog->snapshots[middle].info.name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct store_snapshot_entry *
store_catalog_snapshot(const struct store_catalog *catalog, const char *name)
{
    size_t at = snapshot_position(catalog, name);
    if (at == catalog->snapshot_count || strcmp(catalog->snapshots[at].info.name, name) != 0)
        return NULL;
    return &catalog->snapshots[at];
}

/* Make room for one more of ELEMENT bytes at AT in an array of COUNT. */
static void *
array_open(void *array, size_t count, size_t at, size_t element_bytes)
{
    uint8_t *grown = base_realloc_array(array, count + 1, element_bytes);
    if (grown != NULL)
        memmove(
            grown + (at + 1) * element_bytes, grown + at * element_bytes,
            (count - at) * element_bytes);
    return grown;
}

int
store_catalog_snapshot_add(
    struct store_catalog *catalog, const struct store_snapshot_entry *entry)
{
    size_t at = snapshot_position(catalog, entry->info.name);
    if (at < catalog->snapshot_count &&
        strcmp(catalog->snapshots[at].info.name, entry->info.name) == 0)
        return dor_fail(DOR_E_EXISTS, "snapshot %s exists", entry->info.name);
    struct store_snapshot_entry *snapshots =
        array_open(catalog->snapshots, catalog->snapshot_count, at, sizeof *snapshots);
    if (snapshots == NULL)
        return DOR_E_NO_MEMORY;
    catalog->snapshots = snapshots;
    snapshots[at] = *entry;
    catalog->snapshot_count++;
    return 0;
}

void
store_catalog_snapshot_remove(struct store_catalog *catalog, const char *name)
{
    struct store_snapshot_entry *entry = store_catalog_snapshot(catalog, name);
    if (entry == NULL)
        return;
    size_t at = (size_t)(entry - catalog->snapshots);
    memmove(entry, entry + 1, (catalog->snapshot_count - at - 1) * sizeof *entry);
    catalog->snapshot_count--;
}

/* ------------------------------------------------------------------ domains */

int
store_catalog_domain(
    struct store_catalog *catalog, const char *name, bool create, uint32_t *ret)
{
    for (size_t i = 0; i < catalog->domain_count; i++)
        if (strcmp(catalog->domains[i].name, name) == 0) {
            *ret = (uint32_t)i;
            return 0;
        }
    if (!create)
        return dor_fail(DOR_E_NOT_FOUND, "no domain %s", name);
    struct store_domain_entry *domains = array_open(
        catalog->domains, catalog->domain_count, catalog->domain_count, sizeof *domains);
    if (domains == NULL)
        return DOR_E_NO_MEMORY;
    catalog->domains = domains;
    struct store_domain_entry *domain = &domains[catalog->domain_count];
    memset(domain, 0, sizeof *domain);
    snprintf(domain->name, sizeof domain->name, "%s", name);
    for (unsigned s = 0; s < STORE_STREAMS; s++)
        domain->next_serial[s] = 1; /* so that "the serial before" is never negative */
    *ret = (uint32_t)catalog->domain_count++;
    return 0;
}

/* ------------------------------------------------------------------ segments */

static int
compare_segments(
    const struct store_segment_entry *left, uint32_t domain, unsigned stream,
    uint64_t first_serial)
{
    if (left->domain != domain)
        return left->domain < domain ? -1 : 1;
    if (left->stream != stream)
        return left->stream < stream ? -1 : 1;
    return (left->first_serial > first_serial) - (left->first_serial < first_serial);
}

static size_t
segment_position(
    const struct store_catalog *catalog, uint32_t domain, unsigned stream,
    uint64_t first_serial)
{
    size_t low = 0;
    size_t high = catalog->segment_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_segments(&catalog->segments[middle], domain, stream, first_serial) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

size_t
store_catalog_stream(
    const struct store_catalog *catalog, uint32_t domain, unsigned stream,
    struct store_segment_entry **ret_first)
{
    size_t first = segment_position(catalog, domain, stream, 0);
    size_t end = segment_position(catalog, domain, stream, UINT64_MAX);
    *ret_first = catalog->segment_count == 0 ? NULL : catalog->segments + first;
    return end - first;
}

struct store_segment_entry *
store_catalog_segment(const struct store_catalog *catalog, uint32_t id)
{
    for (size_t i = 0; i < catalog->segment_count; i++)
        if (catalog->segments[i].id == id)
            return &catalog->segments[i];
    return NULL;
}

int
store_catalog_segment_add(
    struct store_catalog *catalog, const struct store_segment_entry *entry)
{
    size_t at = segment_position(catalog, entry->domain, entry->stream, entry->first_serial);
    struct store_segment_entry *segments =
        array_open(catalog->segments, catalog->segment_count, at, sizeof *segments);
    if (segments == NULL)
        return DOR_E_NO_MEMORY;
    catalog->segments = segments;
    segments[at] = *entry;
    catalog->segment_count++;
    return 0;
}

void
store_catalog_segment_remove(struct store_catalog *catalog, uint32_t id)
{
    struct store_segment_entry *entry = store_catalog_segment(catalog, id);
    if (entry == NULL)
        return;
    base_free(entry->frames);
    size_t at = (size_t)(entry - catalog->segments);
    memmove(entry, entry + 1, (catalog->segment_count - at - 1) * sizeof *entry);
    catalog->segment_count--;
}

int
store_segment_entry_add_frame(
    struct store_segment_entry *entry, uint64_t offset, uint64_t size_bytes)
{
    struct store_frame *frames =
        base_realloc_array(entry->frames, entry->frame_count + 1, sizeof *frames);
    if (frames == NULL)
        return DOR_E_NO_MEMORY;
    entry->frames = frames;
    frames[entry->frame_count++] = (struct store_frame){offset, size_bytes};
    return 0;
}

/* ------------------------------------------------------------------ encoding */

static int
encode_kind_bytes(struct base_buf *buf, const struct dor_kind_bytes *bytes)
{
    const uint64_t values[] = {
        bytes->logical_bytes,        bytes->zero_bytes,      bytes->exact_bytes,
        bytes->patched_bytes,        bytes->raw_bytes,       bytes->reference_bytes,
        bytes->patched_stored_bytes, bytes->raw_stored_bytes};
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        int err = store_put_varint(buf, values[i]);
        if (err != 0)
            return err;
    }
    return 0;
}

static void
decode_kind_bytes(struct store_reader *reader, struct dor_kind_bytes *bytes)
{
    uint64_t *values[] = {
        &bytes->logical_bytes,        &bytes->zero_bytes,      &bytes->exact_bytes,
        &bytes->patched_bytes,        &bytes->raw_bytes,       &bytes->reference_bytes,
        &bytes->patched_stored_bytes, &bytes->raw_stored_bytes};
    for (size_t i = 0; i < ARRAY_LEN(values); i++)
        *values[i] = store_get_varint(reader);
}

/* Pages by class, likewise, with one bit more for dropped pages. */
static int
encode_classes(struct base_buf *buf, const struct dor_put_result *result)
{
    unsigned mask = result->dropped_bytes != 0 ? 1u << DOR_CLASSES : 0;
    for (unsigned i = 0; i < DOR_CLASSES; i++)
        mask |= result->pages_by_class[i] != 0 ? 1u << i : 0;
    int err = store_put_varint(buf, mask);
    for (unsigned i = 0; i < DOR_CLASSES && err == 0; i++)
        if ((mask & 1u << i) != 0)
            err = store_put_varint(buf, result->pages_by_class[i]);
    if (err == 0 && result->dropped_bytes != 0)
        err = store_put_varint(buf, result->dropped_bytes);
    return err;
}

static void
decode_classes(struct store_reader *reader, struct dor_put_result *result)
{
    uint64_t mask = store_get_bounded(reader, (UINT64_C(2) << DOR_CLASSES) - 1);
    for (unsigned i = 0; i < DOR_CLASSES; i++)
        if ((mask & UINT64_C(1) << i) != 0)
            result->pages_by_class[i] = store_get_varint(reader);
    if ((mask & UINT64_C(1) << DOR_CLASSES) != 0)
        result->dropped_bytes = store_get_varint(reader);
}

/*
 * The total is the sum of the types, so only types that have bytes are written: a mask, then
 * those.
 */
int
store_put_result_encode(struct base_buf *buf, const struct dor_put_result *result)
{
    unsigned mask = 0;
    for (unsigned type = 0; type < DOR_REGION_TYPES; type++)
        if (result->by_region_type[type].logical_bytes != 0)
            mask |= 1u << type;
    int err = store_put_varint(buf, result->added_bytes);
    if (err == 0)
        err = store_put_varint(buf, mask);
    for (unsigned type = 0; type < DOR_REGION_TYPES && err == 0; type++)
        if ((mask & 1u << type) != 0)
            err = encode_kind_bytes(buf, &result->by_region_type[type]);
    return err != 0 ? err : encode_classes(buf, result);
}

void
store_kind_bytes_add(struct dor_kind_bytes *sum, const struct dor_kind_bytes *more)
{
    sum->logical_bytes += more->logical_bytes;
    sum->zero_bytes += more->zero_bytes;
    sum->exact_bytes += more->exact_bytes;
    sum->patched_bytes += more->patched_bytes;
    sum->raw_bytes += more->raw_bytes;
    sum->reference_bytes += more->reference_bytes;
    sum->patched_stored_bytes += more->patched_stored_bytes;
    sum->raw_stored_bytes += more->raw_stored_bytes;
}

void
store_put_result_decode(struct store_reader *reader, struct dor_put_result *result)
{
    memset(result, 0, sizeof *result);
    result->added_bytes = store_get_varint(reader);
    uint64_t mask = store_get_bounded(reader, (1u << DOR_REGION_TYPES) - 1);
    for (unsigned type = 0; type < DOR_REGION_TYPES; type++)
        if ((mask & UINT64_C(1) << type) != 0) {
            decode_kind_bytes(reader, &result->by_region_type[type]);
            store_kind_bytes_add(&result->total, &result->by_region_type[type]);
        }
    decode_classes(reader, result);
}

/* Chains writes and keeps the first error. */
struct body_writer {
    struct base_buf *buf;
    int err;
};

static void
write_varint(struct body_writer *writer, uint64_t value)
{
    if (writer->err == 0)
        writer->err = store_put_varint(writer->buf, value);
}

static void
write_string(struct body_writer *writer, const char *text)
{
    if (writer->err == 0)
        writer->err = store_put_string(writer->buf, text);
}

static void
encode_segment(struct body_writer *writer, const struct store_segment_entry *segment)
{
    write_varint(writer, segment->id);
    write_varint(writer, segment->domain);
    write_varint(writer, segment->stream);
    write_varint(writer, segment->squeezed);
    write_varint(writer, segment->first_serial);
    write_varint(writer, segment->end_serial - segment->first_serial);
    write_varint(writer, segment->size_bytes);
    write_varint(writer, segment->page_count);
    write_varint(writer, segment->frame_count);
    for (size_t i = 0; i < segment->frame_count; i++) {
        write_varint(writer, segment->frames[i].offset);
        write_varint(writer, segment->frames[i].size_bytes);
    }
}

static void
encode_snapshot(struct body_writer *writer, const struct store_snapshot_entry *snapshot)
{
    const struct dor_snapshot_info *info = &snapshot->info;
    write_string(writer, info->name);
    write_varint(writer, snapshot->domain);
    write_string(writer, info->parent);
    write_varint(writer, info->generation);
    write_varint(writer, info->id);
    write_varint(writer, info->created_ns);
    write_varint(writer, info->logical_bytes);
    write_varint(writer, info->recipe_bytes);
    write_varint(writer, info->sidecar_count);
    if (writer->err == 0)
        writer->err = store_put_result_encode(writer->buf, &info->put);
}

static int
encode_body(const struct store_catalog *catalog, struct base_buf *buf)
{
    struct body_writer writer = {.buf = buf};
    writer.err = base_buf_append(buf, catalog->uuid, sizeof catalog->uuid);
    write_varint(&writer, catalog->generation);
    write_varint(&writer, catalog->next_snapshot_id);
    write_varint(&writer, catalog->next_segment_id);
    write_varint(&writer, catalog->options->count);
    for (size_t i = 0; i < catalog->options->count; i++) {
        write_string(&writer, catalog->options->names[i]);
        write_string(&writer, catalog->options->values[i]);
    }
    write_varint(&writer, catalog->domain_count);
    for (size_t i = 0; i < catalog->domain_count; i++) {
        write_string(&writer, catalog->domains[i].name);
        for (unsigned s = 0; s < STORE_STREAMS; s++)
            write_varint(&writer, catalog->domains[i].next_serial[s]);
    }
    write_varint(&writer, catalog->segment_count);
    for (size_t i = 0; i < catalog->segment_count; i++)
        encode_segment(&writer, &catalog->segments[i]);
    write_varint(&writer, catalog->snapshot_count);
    for (size_t i = 0; i < catalog->snapshot_count; i++)
        encode_snapshot(&writer, &catalog->snapshots[i]);
    /* A store that never had a root image has no list of them. */
    if (writer.err == 0 && catalog->next_root_id > 1)
        writer.err = store_catalog_roots_encode(buf, catalog);
    return writer.err;
}

static int
encode_file(const struct store_catalog *catalog, struct base_buf *file)
{
    AUTO_BUF struct base_buf body = {0};
    int err = encode_body(catalog, &body);
    if (err == 0)
        err = base_buf_reserve(file, HEADER_BYTES + chunk_compress_bound(body.size_bytes));
    struct chunk_coder *coder = NULL;
    if (err == 0)
        err = chunk_coder_new(&coder);
    enum chunk_codec codec = CHUNK_ZSTD;
    size_t stored_bytes = 0;
    if (err == 0)
        err = chunk_compress(
            coder, &codec, CATALOG_LEVEL, body.data, body.size_bytes, file->data + HEADER_BYTES,
            &stored_bytes);
    chunk_coder_free(coder);
    if (err != 0)
        return err;
    memcpy(file->data, MAGIC, 8);
    base_le32_put(file->data + 8, STORE_FORMAT_VERSION);
    base_le32_put(file->data + 12, codec);
    base_le64_put(file->data + 16, stored_bytes);
    base_le64_put(file->data + 24, body.size_bytes);
    base_le64_put(
        file->data + 32,
        chunk_digest(file->data, 32) ^ chunk_digest(file->data + HEADER_BYTES, stored_bytes));
    file->size_bytes = HEADER_BYTES + stored_bytes;
    return 0;
}

int
store_catalog_save(struct store_medium *medium, struct store_catalog *catalog)
{
    AUTO_BUF struct base_buf file = {0};
    catalog->generation++;
    int err = encode_file(catalog, &file);
    if (err == 0)
        err = store_medium_replace(medium, STORE_CATALOG_NAME, file.data, file.size_bytes);
    if (err != 0)
        catalog->generation--;
    return err;
}

/* ------------------------------------------------------------------ decoding */

static int
damaged(const char *what)
{
    return dor_fail(DOR_E_CORRUPT, "catalog: %s; run check --repair", what);
}

static int
decode_options(struct store_reader *reader, struct dor_options *options)
{
    uint64_t count = store_get_bounded(reader, 1000);
    for (uint64_t i = 0; i < count && !reader->bad; i++) {
        char name[OPTION_BYTES_MAX];
        char value[OPTION_BYTES_MAX];
        store_get_string(reader, name, sizeof name);
        store_get_string(reader, value, sizeof value);
        if (reader->bad)
            break;
        int err = dor_options_set(options, name, value);
        if (err != 0)
            return err == DOR_E_USAGE ? DOR_E_CORRUPT : err;
    }
    return 0;
}

static int
decode_domains(struct store_reader *reader, struct store_catalog *catalog)
{
    uint64_t count = store_get_bounded(reader, UINT32_MAX);
    for (uint64_t i = 0; i < count && !reader->bad; i++) {
        char name[DOR_NAME_BYTES_MAX + 1];
        uint32_t index;
        store_get_string(reader, name, sizeof name);
        if (reader->bad || dor_name_check(name) != 0)
            return damaged("a domain's name makes no sense");
        int err = store_catalog_domain(catalog, name, true, &index);
        if (err != 0)
            return err;
        if (index != i)
            return damaged("a domain is named twice");
        for (unsigned s = 0; s < STORE_STREAMS; s++)
            catalog->domains[i].next_serial[s] = store_get_bounded(reader, STORE_SERIAL_MAX);
    }
    return 0;
}

static int
decode_frames(struct store_reader *reader, struct store_segment_entry *segment)
{
    uint64_t count = store_get_bounded(reader, (uint64_t)(reader->end - reader->at));
    for (uint64_t i = 0; i < count && !reader->bad; i++) {
        uint64_t offset = store_get_bounded(reader, segment->size_bytes);
        uint64_t size_bytes = store_get_bounded(reader, segment->size_bytes - offset);
        int err = store_segment_entry_add_frame(segment, offset, size_bytes);
        if (err != 0)
            return err;
    }
    return 0;
}

static int
decode_segment(struct store_reader *reader, struct store_catalog *catalog)
{
    struct store_segment_entry segment = {0};
    segment.id = (uint32_t)store_get_bounded(reader, UINT32_MAX);
    segment.domain = (uint32_t)store_get_bounded(reader, UINT32_MAX);
    segment.stream = (unsigned)store_get_bounded(reader, STORE_STREAMS - 1);
    segment.squeezed = store_get_bounded(reader, 1) != 0;
    segment.first_serial = store_get_bounded(reader, STORE_SERIAL_MAX);
    segment.end_serial = segment.first_serial +
                         store_get_bounded(reader, STORE_SERIAL_MAX - segment.first_serial);
    segment.size_bytes = store_get_bounded(reader, INT64_MAX);
    segment.page_count = store_get_bounded(reader, segment.end_serial - segment.first_serial);
    int err = decode_frames(reader, &segment);
    if (err == 0 && (reader->bad || segment.domain >= catalog->domain_count ||
                     segment.id >= catalog->next_segment_id))
        err = damaged("a segment entry makes no sense");
    if (err == 0)
        err = store_catalog_segment_add(catalog, &segment);
    if (err != 0)
        base_free(segment.frames);
    return err;
}

static int
decode_snapshot(struct store_reader *reader, struct store_catalog *catalog)
{
    struct store_snapshot_entry snapshot = {0};
    struct dor_snapshot_info *info = &snapshot.info;
    store_get_string(reader, info->name, sizeof info->name);
    snapshot.domain = (uint32_t)store_get_bounded(reader, UINT32_MAX);
    store_get_string(reader, info->parent, sizeof info->parent);
    info->generation = store_get_bounded(reader, STORE_GENERATION_MAX);
    info->id = store_get_varint(reader);
    info->created_ns = store_get_varint(reader);
    info->logical_bytes = store_get_bounded(reader, UINT64_C(1) << 60);
    info->recipe_bytes = store_get_bounded(reader, INT64_MAX);
    info->sidecar_count = store_get_bounded(reader, DOR_SIDECARS_MAX);
    store_put_result_decode(reader, &info->put);
    if (reader->bad || snapshot.domain >= catalog->domain_count ||
        info->id >= catalog->next_snapshot_id || dor_name_check(info->name) != 0)
        return damaged("a snapshot entry makes no sense");
    memcpy(info->domain, catalog->domains[snapshot.domain].name, sizeof info->domain);
    int err = store_catalog_snapshot_add(catalog, &snapshot);
    return err == DOR_E_EXISTS ? damaged("a snapshot is named twice") : err;
}

static int
check_segments(const struct store_catalog *catalog)
{
    for (size_t i = 1; i < catalog->segment_count; i++) {
        const struct store_segment_entry *left = &catalog->segments[i - 1];
        const struct store_segment_entry *right = &catalog->segments[i];
        if (left->domain == right->domain && left->stream == right->stream &&
            left->end_serial > right->first_serial)
            return damaged("two segments hold the same serial numbers");
    }
    return 0;
}

static int
decode_body(struct store_reader *reader, struct store_catalog *catalog)
{
    if (reader->end - reader->at < (ptrdiff_t)sizeof catalog->uuid)
        return damaged("the body ends early");
    memcpy(catalog->uuid, reader->at, sizeof catalog->uuid);
    reader->at += sizeof catalog->uuid;
    catalog->generation = store_get_varint(reader);
    catalog->next_snapshot_id = store_get_varint(reader);
    catalog->next_segment_id = (uint32_t)store_get_bounded(reader, UINT32_MAX);
    int err = decode_options(reader, catalog->options);
    if (err == 0)
        err = decode_domains(reader, catalog);
    uint64_t count = store_get_bounded(reader, UINT32_MAX);
    for (uint64_t i = 0; i < count && err == 0; i++)
        err = decode_segment(reader, catalog);
    if (err == 0)
        count = store_get_bounded(reader, UINT32_MAX);
    for (uint64_t i = 0; i < count && err == 0; i++)
        err = decode_snapshot(reader, catalog);
    if (err == 0 && !reader->bad && reader->at != reader->end)
        err = store_catalog_roots_decode(reader, catalog);
    if (err == 0 && (reader->bad || reader->at != reader->end))
        err = damaged("the body is not well formed");
    return err != 0 ? err : check_segments(catalog);
}

static int
check_header(const uint8_t *file, size_t size_bytes)
{
    if (size_bytes < HEADER_BYTES || memcmp(file, MAGIC, 8) != 0)
        return damaged("this is not a dormouse catalog");
    uint32_t version = base_le32_get(file + 8);
    if (version != STORE_FORMAT_VERSION)
        return dor_fail(
            DOR_E_UNSUPPORTED, "the store has format version %u, this program knows version %u",
            version, STORE_FORMAT_VERSION);
    if (base_le64_get(file + 16) != size_bytes - HEADER_BYTES)
        return damaged("the file is cut short or too long");
    uint64_t digest =
        chunk_digest(file, 32) ^ chunk_digest(file + HEADER_BYTES, size_bytes - HEADER_BYTES);
    if (base_le64_get(file + 32) != digest)
        return damaged("bad checksum");
    if (base_le64_get(file + 24) > BODY_BYTES_MAX)
        return damaged("the body claims to be too large");
    return 0;
}

int
store_catalog_decode(const void *data, size_t size_bytes, struct store_catalog **ret)
{
    const uint8_t *file = data;
    int err = check_header(file, size_bytes);
    if (err != 0)
        return err;
    size_t body_bytes = base_le64_get(file + 24);
    AUTO_FREE uint8_t *body = base_alloc(body_bytes);
    struct store_catalog *catalog = NULL;
    struct chunk_coder *coder = NULL;
    err = body == NULL ? DOR_E_NO_MEMORY : chunk_coder_new(&coder);
    if (err == 0)
        err = chunk_decompress(
            coder, base_le32_get(file + 12), file + HEADER_BYTES, size_bytes - HEADER_BYTES,
            body, body_bytes);
    if (err == 0)
        err = store_catalog_new(&catalog);
    if (err == 0) {
        struct store_reader reader = {.at = body, .end = body + body_bytes};
        err = decode_body(&reader, catalog);
    }
    chunk_coder_free(coder);
    if (err != 0) {
        store_catalog_free(catalog);
        return err;
    }
    catalog->checksum = base_le64_get(file + 32);
    *ret = catalog;
    return 0;
}

int
store_catalog_is_old(
    struct store_medium *medium, const struct store_catalog *catalog, bool *ret)
{
    AUTO_CLOSE int fd = -1;
    uint8_t header[HEADER_BYTES];
    int err = store_medium_open(medium, STORE_CATALOG_NAME, false, &fd);
    if (err == 0)
        err = base_file_pread(fd, header, sizeof header, 0, STORE_CATALOG_NAME);
    if (err == 0)
        *ret = base_le64_get(header + 32) != catalog->checksum;
    return err;
}

int
store_catalog_load(struct store_medium *medium, struct store_catalog **ret)
{
    AUTO_CLOSE int fd = -1;
    uint64_t size_bytes = 0;
    int err = store_medium_open(medium, STORE_CATALOG_NAME, false, &fd);
    if (err == DOR_E_NOT_FOUND)
        return dor_fail(
            DOR_E_NOT_FOUND, "no store in %s; make one with init", store_medium_name(medium));
    if (err == 0)
        err = base_file_size(fd, STORE_CATALOG_NAME, &size_bytes);
    if (err == 0 && size_bytes > HEADER_BYTES + 2 * BODY_BYTES_MAX)
        err = damaged("the file is too large");
    if (err != 0)
        return err;
    AUTO_FREE uint8_t *data = base_alloc(size_bytes);
    if (data == NULL)
        return DOR_E_NO_MEMORY;
    err = base_file_pread(fd, data, size_bytes, 0, STORE_CATALOG_NAME);
    return err != 0 ? err : store_catalog_decode(data, size_bytes, ret);
}

int
store_catalog_copy(const struct store_catalog *from, struct store_catalog **ret)
{
    AUTO_BUF struct base_buf file = {0};
    int err = encode_file(from, &file);
    return err != 0 ? err : store_catalog_decode(file.data, file.size_bytes, ret);
}
