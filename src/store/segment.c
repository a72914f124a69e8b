/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment.c - segment files: a header, then groups and the frames that describe them, appended.
 *
 *     offset  size  field (little endian)
 *          0     8  magic "DORSEGM1"
 *          8     4  segment id
 *         12     4  stream: 2 * region type + (1 = patches)
 *         16    16  uuid of the store
 *         32    16  XXH3-64 of the domain's name, then of bytes 0-39
 *         48     -  groups and frames; the catalog says where frames are and where the file ends
 *
 * Invariants
 *  (1) bytes before the committed length never change; a file is only appended to or replaced
 *  by a new
 *      segment with another id.
 *  (2) a page's serial number lies in exactly one segment of its stream.
 */
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/le.h"
#include "base/mem.h"
#include "base/size.h"
#include "chunk/digest.h"
#include "store/segment.h"
#include "store/store_priv.h"

#define MAGIC "DORSEGM1"

void
store_segment_header(
    const struct store_catalog *catalog, const struct store_segment_entry *entry,
    uint8_t header[STORE_SEGMENT_HEADER_BYTES])
{
    const char *domain = catalog->domains[entry->domain].name;
    memset(header, 0, STORE_SEGMENT_HEADER_BYTES);
    memcpy(header, MAGIC, 8);
    base_le32_put(header + 8, entry->id);
    base_le32_put(header + 12, entry->stream);
    memcpy(header + 16, catalog->uuid, 16);
    base_le64_put(header + 32, chunk_digest(domain, strlen(domain)));
    base_le64_put(header + 40, chunk_digest(header, 40));
}

struct store_segment *
store_segment_ref(struct store_segment *segment)
{
    /* Whoever refers has a reference already: nothing needs to be ordered. */
    atomic_fetch_add_explicit(&segment->references, 1, memory_order_relaxed);
    return segment;
}

void
store_segment_close(struct store_segment *segment)
{
    /* Pairs with itself: the last one sees all that the others did with the segment. */
    if (segment == NULL ||
        atomic_fetch_sub_explicit(&segment->references, 1, memory_order_acq_rel) > 1)
        return;
    if (segment->fd >= 0)
        close(segment->fd);
    store_table_free(segment->table);
    base_free(segment);
}

static int
check_header(
    struct dor_store *store, const struct store_segment *segment,
    struct store_segment_entry *entry)
{
    uint8_t have[STORE_SEGMENT_HEADER_BYTES];
    uint8_t want[STORE_SEGMENT_HEADER_BYTES];
    int err = base_file_pread(segment->fd, have, sizeof have, 0, segment->name);
    if (err != 0)
        return err;
    store_segment_header(store->catalog, entry, want);
    if (memcmp(have, want, sizeof want) == 0)
        return 0;
    if (memcmp(have, MAGIC, 7) == 0 && have[7] != MAGIC[7])
        return dor_fail(
            DOR_E_UNSUPPORTED, "%s: segment version '%c' is not known", segment->name, have[7]);
    return dor_fail(
        DOR_E_CORRUPT, "%s: the header is damaged or of another store", segment->name);
}

static int
read_frames(
    struct dor_store *store, struct store_segment *segment,
    const struct store_segment_entry *entry)
{
    AUTO_BUF struct base_buf buf = {0};
    for (size_t i = 0; i < entry->frame_count; i++) {
        const struct store_frame *frame = &entry->frames[i];
        buf.size_bytes = 0;
        int err = base_buf_reserve(&buf, frame->size_bytes);
        if (err == 0)
            err = base_file_pread(
                segment->fd, buf.data, frame->size_bytes, frame->offset, segment->name);
        if (err == 0)
            err = store_frame_decode(
                segment->table, buf.data, frame->size_bytes, frame->offset, store->coder,
                segment->name);
        if (err != 0)
            return err;
    }
    const struct store_table *table = segment->table;
    if (table->page_count != entry->page_count ||
        (table->page_count > 0 && (table->serials[0] < entry->first_serial ||
                                   table->serials[table->page_count - 1] >= entry->end_serial)))
        return dor_fail(
            DOR_E_CORRUPT, "%s: the table and the catalog do not agree", segment->name);
    return 0;
}

int
store_segment_open_new(struct store_segment_entry *entry, int fd)
{
    struct store_segment *segment = base_zalloc(sizeof *segment);
    if (segment == NULL)
        return DOR_E_NO_MEMORY;
    segment->id = entry->id;
    atomic_init(&segment->references, 1);
    segment->size_bytes = entry->size_bytes;
    segment->fd = -1;
    store_segment_file_name(entry->id, segment->name);
    int err = store_table_new(
        entry->stream % STORE_STREAM_KINDS == STORE_STREAM_PATCH, &segment->table);
    if (err != 0) {
        base_free(segment);
        return err;
    }
    segment->fd = fd;
    entry->loaded = base_keep(segment);
    return 0;
}

int
store_segment_load(struct dor_store *store, struct store_segment_entry *entry)
{
    if (entry->loaded != NULL)
        return 0;
    AUTO_CLOSE int fd = -1;
    char name[STORE_FILE_NAME_BYTES];
    store_segment_file_name(entry->id, name);
    int err = store_medium_open(store->medium, name, store->writable, &fd);
    uint64_t file_bytes = 0;
    if (err == DOR_E_NOT_FOUND)
        err = dor_fail(DOR_E_CORRUPT, "%s is missing", name);
    if (err == 0)
        err = base_file_size(fd, name, &file_bytes);
    if (err == 0 && file_bytes < entry->size_bytes)
        err = dor_fail(
            DOR_E_CORRUPT, "%s is cut short: %llu of %llu bytes", name,
            (unsigned long long)file_bytes, (unsigned long long)entry->size_bytes);
    if (err == 0)
        err = store_segment_open_new(entry, fd);
    if (err != 0)
        return err;
    fd = -1;
    err = check_header(store, entry->loaded, entry);
    if (err == 0)
        err = read_frames(store, entry->loaded, entry);
    if (err != 0) {
        store_segment_close(entry->loaded);
        entry->loaded = NULL;
    }
    return err;
}

int
store_group_verify(
    const struct store_segment *segment, const struct store_group *group, const uint8_t *stored)
{
    if (chunk_digest(stored, group->stored_bytes) == group->digest)
        return 0;
    return dor_fail(
        DOR_E_CORRUPT, "%s: bad checksum of the group at %llu", segment->name,
        (unsigned long long)group->offset);
}

int
store_group_decode(
    struct chunk_coder *coder, const struct store_segment *segment,
    const struct store_group *group, const uint8_t *stored, uint8_t *plain)
{
    int err = chunk_decompress(
        coder, group->codec, stored, group->stored_bytes, plain, group->plain_bytes);
    return err == 0
               ? 0
               : dor_fail_wrap(
                     "%s: group at %llu", segment->name, (unsigned long long)group->offset);
}

int
store_segment_read_group(
    struct dor_store *store, const struct store_segment *segment,
    const struct store_group *group, uint8_t *stored, uint8_t *plain)
{
    int err =
        base_file_pread(segment->fd, stored, group->stored_bytes, group->offset, segment->name);
    return err != 0 ? err : store_group_decode(store->coder, segment, group, stored, plain);
}

int
store_locate(
    struct dor_store *store, uint32_t domain, unsigned stream, uint64_t serial,
    struct store_page_at *ret)
{
    struct store_segment_entry *first;
    size_t count = store_catalog_stream(store->catalog, domain, stream, &first);
    size_t low = 0;
    size_t high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (first[middle].end_serial <= serial)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == count || first[low].first_serial > serial)
        return dor_fail(
            DOR_E_CORRUPT, "no segment holds page %llu of stream %u",
            (unsigned long long)serial, stream);
    int err = store_segment_load(store, &first[low]);
    if (err != 0)
        return err;
    struct store_segment *segment = first[low].loaded;
    uint64_t row = store_table_find(segment->table, serial);
    if (row == UINT64_MAX)
        return dor_fail(
            DOR_E_CORRUPT, "%s does not hold page %llu", segment->name,
            (unsigned long long)serial);
    *ret = (struct store_page_at){segment, store_table_group(segment->table, row), row};
    return 0;
}
