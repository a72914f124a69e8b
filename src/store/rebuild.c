/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rebuild.c - a catalog from what files say of themselves. Segment headers name store, stream
 * and a digest of the domain; frames are found by their magic and proved by their checksum;
 * snapshot files hold what the catalog held of them. Pages of a put that was never committed
 * may come back, unused, for gc to take.
 */
#include "store/rebuild.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/le.h"
#include "base/mem.h"
#include "base/size.h"
#include "chunk/digest.h"
#include "store/recipe.h"
#include "store/root.h"
#include "store/segment.h"
#include "store/store_priv.h"

#define SCAN_BYTES (4u << 20)

struct rebuild {
    struct store_medium *medium;
    struct store_catalog *catalog;
    struct chunk_coder *coder;
    bool have_uuid;
    uint64_t *snapshot_ids;
    size_t snapshot_count;
    uint32_t *segment_ids;
    size_t segment_count;
    uint32_t *root_ids;
    size_t root_count;
};

/* The hexadecimal number after PREFIX, when that is all of NAME. */
static bool
file_id(const char *name, const char *prefix, uint64_t *ret)
{
    char *end;
    size_t length = strlen(prefix);
    if (strncmp(name, prefix, length) != 0 || strspn(name + length, "0123456789abcdef") == 0)
        return false;
    errno = 0;
    *ret = strtoull(name + length, &end, 16);
    return errno == 0 && *end == 0;
}

/* No id that a file has, in use or aside, may be given again: bad.NAME would be written over. */
static void
raise_ids(struct store_catalog *catalog, const char *name)
{
    uint64_t id;
    bool is_snapshot = file_id(name, "snap.", &id) || file_id(name, "bad.snap.", &id) ||
                       file_id(name, "wset.", &id) || file_id(name, "bad.wset.", &id);
    if (is_snapshot && id < UINT64_MAX)
        catalog->next_snapshot_id = base_max_u64(catalog->next_snapshot_id, id + 1);
    bool is_segment = file_id(name, "seg.", &id) || file_id(name, "bad.seg.", &id);
    if (is_segment && id < UINT32_MAX && id >= catalog->next_segment_id)
        catalog->next_segment_id = (uint32_t)id + 1;
    bool is_root = file_id(name, "root.", &id) || file_id(name, "bad.root.", &id);
    if (is_root && id <= STORE_ROOT_ID_MAX && id >= catalog->next_root_id)
        catalog->next_root_id = (uint32_t)id + 1;
}

static int
note_file(const char *name, void *context)
{
    struct rebuild *rebuild = context;
    uint64_t id;
    raise_ids(rebuild->catalog, name);
    if (file_id(name, "snap.", &id)) {
        uint64_t *ids =
            base_realloc_array(rebuild->snapshot_ids, rebuild->snapshot_count + 1, sizeof *ids);
        if (ids == NULL)
            return DOR_E_NO_MEMORY;
        rebuild->snapshot_ids = ids;
        ids[rebuild->snapshot_count++] = id;
    } else if (file_id(name, "seg.", &id) && id <= UINT32_MAX) {
        uint32_t *ids =
            base_realloc_array(rebuild->segment_ids, rebuild->segment_count + 1, sizeof *ids);
        if (ids == NULL)
            return DOR_E_NO_MEMORY;
        rebuild->segment_ids = ids;
        ids[rebuild->segment_count++] = (uint32_t)id;
    } else if (file_id(name, "root.", &id) && id <= STORE_ROOT_ID_MAX) {
        uint32_t *ids =
            base_realloc_array(rebuild->root_ids, rebuild->root_count + 1, sizeof *ids);
        if (ids == NULL)
            return DOR_E_NO_MEMORY;
        rebuild->root_ids = ids;
        ids[rebuild->root_count++] = (uint32_t)id;
    }
    return 0;
}

static int
by_id64(const void *left, const void *right)
{
    uint64_t l = *(const uint64_t *)left;
    uint64_t r = *(const uint64_t *)right;
    return (l > r) - (l < r);
}

static int
by_id32(const void *left, const void *right)
{
    uint32_t l = *(const uint32_t *)left;
    uint32_t r = *(const uint32_t *)right;
    return (l > r) - (l < r);
}

/* ------------------------------------------------------------------ snapshots */

/*
 * Every file of a store carries its uuid. A file counts only when its own checksum proves it,
 * so one damaged file cannot make strangers of all the others.
 */
static int
learn_uuid(struct rebuild *rebuild, const uint8_t uuid[16])
{
    if (!rebuild->have_uuid)
        memcpy(rebuild->catalog->uuid, uuid, 16);
    rebuild->have_uuid = true;
    return memcmp(rebuild->catalog->uuid, uuid, 16) == 0 ? 0 : DOR_E_CORRUPT;
}

/* Keep what cannot be used under a name that no writer cleans away. */
static int
put_aside(struct rebuild *rebuild, const char *name)
{
    char aside[STORE_FILE_NAME_BYTES + 4];
    snprintf(aside, sizeof aside, "bad.%s", name);
    return store_medium_rename(rebuild->medium, name, aside);
}

/* No serial number that anything names may be given again. */
static void
raise_serial(struct rebuild *rebuild, uint32_t domain, unsigned stream, uint64_t serial)
{
    uint64_t *next = &rebuild->catalog->domains[domain].next_serial[stream];
    *next = base_max_u64(*next, serial + 1);
}

static int
read_recipe(struct rebuild *rebuild, const char *name, struct store_recipe *recipe)
{
    uint8_t uuid[16];
    AUTO_CLOSE int fd = -1;
    int err = store_medium_open(rebuild->medium, name, false, &fd);
    if (err == 0)
        err = base_file_pread(fd, uuid, sizeof uuid, 8, name);
    if (err == 0)
        err = store_recipe_read(fd, name, uuid, recipe);
    if (err == 0)
        err = learn_uuid(rebuild, uuid);
    return err;
}

static int
take_snapshot(struct rebuild *rebuild, const struct store_recipe *recipe)
{
    struct store_catalog *catalog = rebuild->catalog;
    struct store_snapshot_entry entry = recipe->entry;
    int err = store_catalog_domain(catalog, entry.info.domain, true, &entry.domain);
    if (err != 0)
        return err;
    for (uint64_t i = 0; i < recipe->page_count; i++)
        if (store_place_is_stored(recipe->places[i]))
            raise_serial(
                rebuild, entry.domain, store_place_stream(recipe->places[i]),
                store_place_serial(recipe->places[i]));
        else if (store_place_is_reference(recipe->places[i]))
            catalog->next_root_id = (uint32_t)base_max_u64(
                catalog->next_root_id, store_place_root(recipe->places[i]) + UINT64_C(1));
    /*
     * Ids come in order: of two files with one name the later is the one that was committed
     * last.
     */
    store_catalog_snapshot_remove(catalog, entry.info.name);
    return store_catalog_snapshot_add(catalog, &entry);
}

static int
add_snapshot(struct rebuild *rebuild, uint64_t id)
{
    char name[STORE_FILE_NAME_BYTES];
    struct store_recipe recipe = {0};
    store_snapshot_file_name(id, name);
    int err = read_recipe(rebuild, name, &recipe);
    if (err == 0 && recipe.entry.info.id != id)
        err = dor_fail(DOR_E_CORRUPT, "%s names another snapshot id", name);
    if (err == 0)
        err = take_snapshot(rebuild, &recipe);
    else if (err == DOR_E_CORRUPT || err == DOR_E_UNSUPPORTED)
        err = put_aside(rebuild, name);
    store_recipe_fini(&recipe);
    return err;
}

/* ------------------------------------------------------------------ root images */

static int
read_root(struct rebuild *rebuild, const char *name, struct dor_root_info *info)
{
    uint8_t uuid[16];
    AUTO_CLOSE int fd = -1;
    AUTO_FREE uint64_t *digests = NULL;
    uint64_t size_bytes = 0;
    int err = store_medium_open(rebuild->medium, name, false, &fd);
    if (err == 0)
        err = base_file_size(fd, name, &size_bytes);
    if (err == 0)
        err = base_file_pread(fd, uuid, sizeof uuid, 8, name);
    if (err != 0)
        return err;
    AUTO_FREE uint8_t *file = base_alloc(size_bytes);
    if (file == NULL)
        return DOR_E_NO_MEMORY;
    err = base_file_pread(fd, file, size_bytes, 0, name);
    if (err == 0)
        err = store_root_decode(file, size_bytes, uuid, info, &digests);
    return err == 0 ? learn_uuid(rebuild, uuid) : err;
}

static int
add_root(struct rebuild *rebuild, uint32_t id)
{
    char name[STORE_FILE_NAME_BYTES];
    struct dor_root_info info;
    store_root_file_name(id, name);
    int err = read_root(rebuild, name, &info);
    if (err == 0 && info.id != id)
        err = dor_fail(DOR_E_CORRUPT, "%s names another root image", name);
    if (err == DOR_E_CORRUPT || err == DOR_E_UNSUPPORTED)
        return put_aside(rebuild, name);
    if (err != 0)
        return err;
    /* A file that a killed root add or root rm left may have a name that is in use. */
    if (store_catalog_root_named(rebuild->catalog, info.name) != NULL)
        snprintf(info.name, sizeof info.name, "lost-%s", name);
    return store_catalog_root_add(rebuild->catalog, &info);
}

/* ------------------------------------------------------------------ segments */

/*
 * True when the groups of FRAME follow each other from FIRST to OFFSET; between them may lie frames
 * that this one replaces.
 */
static bool
tiles(const struct store_table *frame, uint64_t first, uint64_t offset)
{
    uint64_t at = first;
    if (frame->groups[0].offset != first)
        return false;
    for (uint64_t g = 0; g < frame->group_count; g++) {
        if (frame->groups[g].offset < at)
            return false;
        at = frame->groups[g].offset + frame->groups[g].stored_bytes;
    }
    return at == offset;
}

/*
 * A frame that begins at or before what is known replaces the frames from there on (writer.c): the
 * group of TABLE that it begins with, or UINT64_MAX when FRAME, a table of it alone, does not
 * describe the same groups again.
 */
static uint64_t
replaced_from(const struct store_table *table, const struct store_table *frame, uint64_t end)
{
    const struct store_group *again = &frame->groups[0];
    uint64_t first = 0;
    while (first < table->group_count && table->groups[first].offset < again->offset)
        first++;
    if (first == table->group_count || frame->group_count <= table->group_count - first)
        return UINT64_MAX;
    for (uint64_t g = first; g < table->group_count; g++) {
        const struct store_group *known = &table->groups[g];
        const struct store_group *same = &frame->groups[g - first];
        if (known->offset != same->offset || known->stored_bytes != same->stored_bytes ||
            known->digest != same->digest || known->page_count != same->page_count ||
            table->serials[known->first_page] != frame->serials[same->first_page])
            return UINT64_MAX;
    }
    return tiles(frame, again->offset, end) ? first : UINT64_MAX;
}

/*
 * Add the groups of the frame DATA, which lies at OFFSET, to TABLE; *RET_SOUND = false and TABLE as
 * it was when they make no sense, as bytes of a guest that look like a frame do not. *RET_START =
 * where the first group of the frame begins.
 */
static int
take_frame(
    struct rebuild *rebuild, const struct base_buf *data, uint64_t offset, uint64_t known_end,
    const char *name, struct store_table *table, uint64_t *ret_start, bool *ret_sound)
{
    struct store_table *alone = NULL;
    uint64_t first = table->group_count;
    *ret_sound = false;
    int err = store_table_new(table->patches, &alone);
    if (err != 0)
        return err;
    err = store_frame_decode(alone, data->data, data->size_bytes, offset, rebuild->coder, name);
    if (err != 0)
        goto out;
    *ret_start = alone->groups[0].offset;
    if (table->page_count > 0 && alone->serials[0] <= table->serials[table->page_count - 1])
        first = replaced_from(table, alone, offset);
    else if (!tiles(alone, known_end, offset))
        first = UINT64_MAX;
    if (first == UINT64_MAX)
        goto out;
    store_table_cut(table, first);
    err = store_frame_decode(table, data->data, data->size_bytes, offset, rebuild->coder, name);
    *ret_sound = err == 0;
out:
    store_table_free(alone);
    return err == DOR_E_NO_MEMORY ? err : 0;
}

/*
 * Read the frame at OFFSET and, when it is sound, add it to ENTRY; *RET_BYTES = 0 when it is
 * not.
 */
static int
try_frame(
    struct rebuild *rebuild, int fd, const char *name, uint64_t file_bytes, uint64_t offset,
    struct store_segment_entry *entry, struct store_table *table, uint64_t *ret_bytes)
{
    uint8_t header[STORE_FRAME_HEADER_BYTES];
    AUTO_BUF struct base_buf frame = {0};
    uint64_t frame_bytes;
    uint64_t start = 0;
    bool sound = false;
    *ret_bytes = 0;
    if (file_bytes - offset < sizeof header)
        return 0;
    int err = base_file_pread(fd, header, sizeof header, offset, name);
    if (err != 0 || !store_frame_probe(header, sizeof header, &frame_bytes) ||
        frame_bytes > file_bytes - offset)
        return err;
    err = base_buf_reserve(&frame, frame_bytes);
    if (err == 0)
        err = base_file_pread(fd, frame.data, frame_bytes, offset, name);
    if (err != 0)
        return err;
    frame.size_bytes = frame_bytes;
    err = take_frame(rebuild, &frame, offset, entry->size_bytes, name, table, &start, &sound);
    if (err != 0 || !sound)
        return err;
    while (entry->frame_count > 0 && entry->frames[entry->frame_count - 1].offset > start)
        entry->frame_count--;
    *ret_bytes = frame_bytes;
    entry->size_bytes = offset + frame_bytes;
    return store_segment_entry_add_frame(entry, offset, frame_bytes);
}

/* Look for frames from one end of the file to the other. */
static int
scan_frames(
    struct rebuild *rebuild, int fd, const char *name, struct store_segment_entry *entry,
    struct store_table *table)
{
    uint64_t file_bytes;
    AUTO_FREE uint8_t *buffer = base_alloc(SCAN_BYTES);
    int err = base_file_size(fd, name, &file_bytes);
    if (buffer == NULL)
        return DOR_E_NO_MEMORY;
    for (uint64_t offset = STORE_SEGMENT_HEADER_BYTES; err == 0 && offset < file_bytes;) {
        size_t got = 0;
        err = base_file_pread_some(fd, buffer, SCAN_BYTES, offset, name, &got);
        if (err != 0 || got < 4)
            return err;
        const uint8_t *hit = memmem(buffer, got, "DFRM", 4);
        if (hit == NULL) {
            offset += got - 3;
            if (got < SCAN_BYTES)
                break;
            continue;
        }
        offset += (uint64_t)(hit - buffer);
        uint64_t frame_bytes = 0;
        err = try_frame(rebuild, fd, name, file_bytes, offset, entry, table, &frame_bytes);
        offset += frame_bytes == 0 ? 1 : frame_bytes;
    }
    return err;
}

/* The domain whose name has DIGEST, or a new one with a name made of it. */
static int
find_domain(struct store_catalog *catalog, uint64_t digest, uint32_t *ret)
{
    char name[32];
    for (size_t i = 0; i < catalog->domain_count; i++) {
        const char *domain = catalog->domains[i].name;
        if (chunk_digest(domain, strlen(domain)) == digest) {
            *ret = (uint32_t)i;
            return 0;
        }
    }
    snprintf(name, sizeof name, "lost-%016llx", (unsigned long long)digest);
    return store_catalog_domain(catalog, name, true, ret);
}

static bool
overlaps(const struct store_catalog *catalog, const struct store_segment_entry *entry)
{
    struct store_segment_entry *first;
    size_t count = store_catalog_stream(catalog, entry->domain, entry->stream, &first);
    for (size_t i = 0; i < count; i++)
        if (first[i].first_serial < entry->end_serial &&
            entry->first_serial < first[i].end_serial)
            return true;
    return false;
}

static int
read_segment_header(
    struct rebuild *rebuild, int fd, const char *name, uint32_t id,
    struct store_segment_entry *entry)
{
    uint8_t header[STORE_SEGMENT_HEADER_BYTES];
    int err = base_file_pread(fd, header, sizeof header, 0, name);
    if (err != 0)
        return err;
    if (memcmp(header, "DORSEGM1", 8) != 0 || base_le32_get(header + 8) != id ||
        base_le32_get(header + 12) >= STORE_STREAMS ||
        chunk_digest(header, 40) != base_le64_get(header + 40))
        return dor_fail(DOR_E_CORRUPT, "%s: the header is damaged", name);
    if (learn_uuid(rebuild, header + 16) != 0)
        return dor_fail(DOR_E_CORRUPT, "%s belongs to another store", name);
    entry->id = id;
    entry->stream = base_le32_get(header + 12);
    return find_domain(rebuild->catalog, base_le64_get(header + 32), &entry->domain);
}

static int
add_segment(struct rebuild *rebuild, uint32_t id)
{
    struct store_catalog *catalog = rebuild->catalog;
    char name[STORE_FILE_NAME_BYTES];
    AUTO_CLOSE int fd = -1;
    struct store_segment_entry entry = {.size_bytes = STORE_SEGMENT_HEADER_BYTES};
    struct store_table *table = NULL;
    store_segment_file_name(id, name);
    int err = store_medium_open(rebuild->medium, name, true, &fd);
    if (err == 0)
        err = read_segment_header(rebuild, fd, name, id, &entry);
    if (err == 0)
        err = store_table_new(entry.stream % STORE_STREAM_KINDS != 0, &table);
    if (err == 0)
        err = scan_frames(rebuild, fd, name, &entry, table);
    if (err == 0 && table->page_count > 0) {
        entry.page_count = table->page_count;
        entry.first_serial = table->serials[0];
        entry.end_serial = table->serials[table->page_count - 1] + 1;
        raise_serial(rebuild, entry.domain, entry.stream, entry.end_serial - 1);
        for (uint64_t i = 0; table->patches && i < table->page_count; i++)
            raise_serial(
                rebuild, entry.domain, entry.stream - STORE_STREAM_PATCH + STORE_STREAM_RAW,
                table->bases[i]);
        /*
         * Of two segments with the same pages the later one was being written by gc: the first
         * is whole.
         */
        if (overlaps(catalog, &entry)) {
            err = put_aside(rebuild, name);
        } else {
            err = store_catalog_segment_add(catalog, &entry);
            if (err == 0)
                entry.frames = NULL;
        }
    } else if (err == 0 || err == DOR_E_CORRUPT) {
        err = put_aside(rebuild, name);
    }
    base_free(entry.frames);
    store_table_free(table);
    return err;
}

/* ------------------------------------------------------------------ all */

static int
gather(struct rebuild *rebuild)
{
    int err = store_medium_list(rebuild->medium, note_file, rebuild);
    if (err == 0 && rebuild->snapshot_count + rebuild->segment_count + rebuild->root_count == 0)
        err = dor_fail(
            DOR_E_NOT_FOUND, "no file of a store in %s", store_medium_name(rebuild->medium));
    if (err != 0)
        return err;
    if (rebuild->snapshot_count > 0)
        qsort(rebuild->snapshot_ids, rebuild->snapshot_count, sizeof(uint64_t), by_id64);
    if (rebuild->segment_count > 0)
        qsort(rebuild->segment_ids, rebuild->segment_count, sizeof(uint32_t), by_id32);
    if (rebuild->root_count > 0)
        qsort(rebuild->root_ids, rebuild->root_count, sizeof(uint32_t), by_id32);
    for (size_t i = 0; i < rebuild->snapshot_count && err == 0; i++)
        err = add_snapshot(rebuild, rebuild->snapshot_ids[i]);
    for (size_t i = 0; i < rebuild->segment_count && err == 0; i++)
        err = add_segment(rebuild, rebuild->segment_ids[i]);
    for (size_t i = 0; i < rebuild->root_count && err == 0; i++)
        err = add_root(rebuild, rebuild->root_ids[i]);
    return err;
}

int
store_rebuild_catalog(const char *directory)
{
    struct rebuild rebuild = {0};
    int err = store_medium_open_directory(directory, false, &rebuild.medium);
    if (err == 0)
        err = store_medium_lock(rebuild.medium);
    if (err == 0)
        err = store_catalog_new(&rebuild.catalog);
    if (err == 0)
        err = chunk_coder_new(&rebuild.coder);
    if (err == 0)
        err = gather(&rebuild);
    if (err == 0) {
        err = store_medium_rename(rebuild.medium, STORE_CATALOG_NAME, "bad.catalog");
        if (err == DOR_E_NOT_FOUND)
            err = 0;
    }
    if (err == 0)
        err = store_catalog_save(rebuild.medium, rebuild.catalog);
    base_free(rebuild.snapshot_ids);
    base_free(rebuild.segment_ids);
    base_free(rebuild.root_ids);
    chunk_coder_free(rebuild.coder);
    store_catalog_free(rebuild.catalog);
    store_medium_close(rebuild.medium);
    return err;
}
