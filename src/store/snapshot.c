/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot.c - an open snapshot: its recipe in memory, pages and the whole image on demand.
 *
 * A reader holds no lock. gc may move pages to other segments and remove the old files while a
 * reader works; places stay true, so a reader that misses a file reads the catalog again and
 * goes on. Only a snapshot that was removed (and collected) under the reader's feet is lost to
 * it, with an error that says so.
 */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"
#include "base/sort.h"
#include "chunk/digest.h"
#include "store/fetch.h"
#include "store/recipe.h"
#include "store/root.h"
#include "store/snapshot.h"
#include "store/store_priv.h"
#include "store/working_set.h"

#define BATCH_PAGES 65536 /* places fetched together by write_image */
#define OUT_PAGES   2048  /* at most, brought in order together */
#define ARENA_BYTES ((768u << 10) + STORE_GROUP_BYTES_MAX) /* what is used stays in the cache */

struct dor_snapshot {
    struct dor_store *store;
    int fd; /* of its file, so that sidecars outlive a removal */
    uint32_t domain;
    struct store_recipe recipe;
    struct dor_snapshot_info info;
};

static int
open_recipe(
    struct dor_store *store, const struct store_snapshot_entry *entry, int *ret_fd,
    struct store_recipe *ret)
{
    char name[STORE_FILE_NAME_BYTES];
    AUTO_CLOSE int fd = -1;
    store_snapshot_file_name(entry->info.id, name);
    int err = store_medium_open(store->medium, name, false, &fd);
    if (err == DOR_E_NOT_FOUND)
        err = dor_fail(DOR_E_CORRUPT, "%s is missing", name);
    if (err == 0)
        err = store_recipe_read(fd, name, store->catalog->uuid, ret);
    if (err != 0)
        return err;
    if (ret->page_count != entry->info.logical_bytes / DOR_PAGE_BYTES) {
        store_recipe_fini(ret);
        return dor_fail(DOR_E_CORRUPT, "%s and the catalog do not agree", name);
    }
    *ret_fd = base_take_fd(&fd);
    return 0;
}

int
store_snapshot_read_recipe(
    struct dor_store *store, const struct store_snapshot_entry *entry, struct store_recipe *ret)
{
    AUTO_CLOSE int fd = -1;
    return open_recipe(store, entry, &fd, ret);
}

int
store_snapshot_open(
    struct dor_store *store, const struct store_snapshot_entry *entry,
    struct dor_snapshot **ret)
{
    AUTO_FREE struct dor_snapshot *snapshot = base_zalloc(sizeof *snapshot);
    if (snapshot == NULL)
        return DOR_E_NO_MEMORY;
    snapshot->store = store;
    snapshot->domain = entry->domain;
    snapshot->info = entry->info;
    int err = open_recipe(store, entry, &snapshot->fd, &snapshot->recipe);
    if (err != 0) {
        (void)dor_fail_wrap("snapshot %s", entry->info.name);
        return err;
    }
    store_note_woken(store, &snapshot->info);
    *ret = TAKE(snapshot);
    return 0;
}

static int
open_named(struct dor_store *store, const char *name, struct dor_snapshot **ret)
{
    const struct store_snapshot_entry *entry = store_catalog_snapshot(store->catalog, name);
    return entry == NULL ? dor_fail(DOR_E_NOT_FOUND, "no snapshot %s", name)
                         : store_snapshot_open(store, entry, ret);
}

int
dor_snapshot_open(struct dor_store *store, const char *name, struct dor_snapshot **ret)
{
    int err = open_named(store, name, ret);
    if ((err == DOR_E_NOT_FOUND || err == DOR_E_CORRUPT) && !store->writable) {
        /* Perhaps it was put, replaced or removed after this handle was opened. */
        err = store_reload(store);
        if (err == 0)
            err = open_named(store, name, ret);
    }
    return err;
}

void
dor_snapshot_close(struct dor_snapshot *snapshot)
{
    if (snapshot == NULL)
        return;
    close(snapshot->fd);
    store_recipe_fini(&snapshot->recipe);
    base_free(snapshot);
}

const struct dor_snapshot_info *
dor_snapshot_info(const struct dor_snapshot *snapshot)
{
    return &snapshot->info;
}

enum dor_page_kind
dor_snapshot_page_kind(const struct dor_snapshot *snapshot, uint64_t page_index)
{
    dor_assert(page_index < snapshot->recipe.page_count);
    return (enum dor_page_kind)store_place_kind(snapshot->recipe.places[page_index]);
}

enum dor_region_type
dor_snapshot_page_region_type(const struct dor_snapshot *snapshot, uint64_t page_index)
{
    dor_assert(page_index < snapshot->recipe.page_count);
    return (enum dor_region_type)store_recipe_page_type(&snapshot->recipe, page_index);
}

/*
 * The change time of its file says when a snapshot was last woken; failing to set it harms
 * nothing.
 */
static void
set_woken(const struct dor_snapshot *snapshot)
{
    (void)!futimens(snapshot->fd, NULL);
}

/* A reader's second chance: the catalog as it is now, if the snapshot is still in it. */
static bool
catch_up(struct dor_snapshot *snapshot)
{
    struct dor_store *store = snapshot->store;
    uint64_t generation = store->catalog->generation;
    if (store->writable || store_reload(store) != 0 || store->catalog->generation == generation)
        return false;
    const struct store_snapshot_entry *entry =
        store_catalog_snapshot(store->catalog, snapshot->info.name);
    return entry != NULL && entry->info.id == snapshot->info.id;
}

static int
fetch_place(struct dor_snapshot *snapshot, uint64_t place, uint8_t *page)
{
    return store_place_is_reference(place)
               ? store_root_fetch_page(snapshot->store, place, page)
               : store_fetch_page(snapshot->store, snapshot->domain, place, page);
}

int
dor_snapshot_read_page(struct dor_snapshot *snapshot, uint64_t page_index, void *page)
{
    if (page_index >= snapshot->recipe.page_count)
        return dor_fail(
            DOR_E_USAGE, "snapshot %s has %llu pages", snapshot->info.name,
            (unsigned long long)snapshot->recipe.page_count);
    uint64_t place = snapshot->recipe.places[page_index];
    if (store_place_kind(place) == DOR_PAGE_ZERO) {
        memset(page, 0, DOR_PAGE_BYTES);
        return 0;
    }
    int err = fetch_place(snapshot, place, page);
    if (err == DOR_E_CORRUPT && catch_up(snapshot))
        err = fetch_place(snapshot, place, page);
    if (err != 0)
        return dor_fail_wrap(
            "snapshot %s: page %llu", snapshot->info.name, (unsigned long long)page_index);
    return 0;
}

/* Pages on their way to the caller's memory. */
struct page_reader {
    uint8_t *pages;
    uint64_t first_page, failed_page;
};

static int
visit_read(void *context, uint64_t tag, uint64_t place, const uint8_t *page)
{
    struct page_reader *reader = context;
    (void)place;
    if (page == NULL) {
        reader->failed_page = tag;
        return base_err_record()->code;
    }
    memcpy(reader->pages + (tag - reader->first_page) * DOR_PAGE_BYTES, page, DOR_PAGE_BYTES);
    return 0;
}

/*
 * The pages FIRST ... END - 1 that SINK wants, or all, as items: those stored from the beginning
 * on, *RET_STORED of them, and references from *RET_REFERENCES up to the end. Zero pages are none.
 */
static void
sort_items(
    const struct store_recipe *recipe, uint64_t first, uint64_t end,
    const struct dor_page_sink *sink, struct store_fetch_item *items, size_t *ret_stored,
    size_t *ret_references)
{
    bool choosy = sink != NULL && sink->wants != NULL;
    size_t stored = 0;
    size_t references = end - first;
    for (uint64_t i = first; i < end; i++) {
        uint64_t place = recipe->places[i];
        if (store_place_kind(place) == DOR_PAGE_ZERO ||
            (choosy && !sink->wants(sink->context, i)))
            continue;
        if (store_place_is_reference(place))
            items[--references] = (struct store_fetch_item){place, i};
        else
            items[stored++] = (struct store_fetch_item){place, i};
    }
    *ret_stored = stored;
    *ret_references = references;
}

static int
read_items(
    struct dor_snapshot *snapshot, size_t page_count, struct store_fetch_item *items,
    struct page_reader *reader)
{
    size_t stored;
    size_t references;
    sort_items(
        &snapshot->recipe, reader->first_page, reader->first_page + page_count, NULL, items,
        &stored, &references);
    reader->failed_page = UINT64_MAX;
    int err = store_fetch(snapshot->store, snapshot->domain, items, stored, visit_read, reader);
    if (err == 0)
        err = store_root_fetch(
            snapshot->store, items + references, page_count - references, visit_read, reader);
    return err;
}

static int
wrap_page(const struct dor_snapshot *snapshot, int err, uint64_t page)
{
    return err == 0 || page == UINT64_MAX
               ? err
               : dor_fail_wrap(
                     "snapshot %s: page %llu", snapshot->info.name, (unsigned long long)page);
}

int
dor_snapshot_read_pages(
    struct dor_snapshot *snapshot, uint64_t first_page, size_t page_count, void *pages)
{
    struct page_reader reader = {.pages = pages, .first_page = first_page};
    if (first_page > snapshot->recipe.page_count ||
        page_count > snapshot->recipe.page_count - first_page)
        return dor_fail(
            DOR_E_USAGE, "snapshot %s has %llu pages", snapshot->info.name,
            (unsigned long long)snapshot->recipe.page_count);
    AUTO_FREE struct store_fetch_item *items = base_array(page_count, sizeof *items);
    if (items == NULL)
        return DOR_E_NO_MEMORY;
    for (size_t i = 0; i < page_count; i++)
        if (store_place_kind(snapshot->recipe.places[first_page + i]) == DOR_PAGE_ZERO)
            memset(reader.pages + i * DOR_PAGE_BYTES, 0, DOR_PAGE_BYTES);
    int err = read_items(snapshot, page_count, items, &reader);
    if (err == DOR_E_CORRUPT && catch_up(snapshot))
        err = read_items(snapshot, page_count, items, &reader);
    return wrap_page(snapshot, err, reader.failed_page);
}

/* ------------------------------------------------------------------ the whole image */

/*
 * Pages come in the order of their storage, which is near the image's. Some of them, left in the
 * arena where they were decoded, are put in the image's order, so that neighbours are written by
 * one call.
 */
struct image_writer {
    struct dor_snapshot *snapshot;
    const struct dor_page_sink *sink;
    uint64_t failed_page;
    size_t page_count;          /* waiting in the arena */
    struct base_sort_row *rows; /* of each: page of the image, offset in the arena */
    struct store_fetch_arena arena;
};

static int
flush_pages(void *context)
{
    struct image_writer *writer = context;
    struct iovec pieces[DOR_SINK_PAGES_MAX];
    size_t count = writer->page_count;
    const struct base_sort_row *rows =
        base_sort_rows(writer->rows, writer->rows + OUT_PAGES, count);
    writer->page_count = 0;
    for (size_t i = 0; i < count;) {
        size_t run = 0;
        uint64_t first_page = rows[i].key;
        for (; run < DOR_SINK_PAGES_MAX && i < count && rows[i].key == first_page + run;
             run++, i++)
            pieces[run] = (struct iovec){writer->arena.bytes + rows[i].index, DOR_PAGE_BYTES};
        int err = writer->sink->write(writer->sink->context, first_page, pieces, run);
        if (err != 0)
            return err;
    }
    return 0;
}

static int
visit_page(void *context, uint64_t tag, uint64_t place, const uint8_t *page)
{
    struct image_writer *writer = context;
    (void)place;
    if (page == NULL) {
        writer->failed_page = tag;
        return base_err_record()->code;
    }
    writer->rows[writer->page_count++] =
        (struct base_sort_row){tag, (uint64_t)(page - writer->arena.bytes)};
    return writer->page_count < OUT_PAGES ? 0 : flush_pages(writer);
}

/* Blocks of root images are not decoded into the arena: they are copied to it. */
static int
visit_root_page(void *context, uint64_t tag, uint64_t place, const uint8_t *page)
{
    struct image_writer *writer = context;
    uint8_t *slot = writer->arena.bytes + writer->page_count * DOR_PAGE_BYTES;
    if (page != NULL)
        memcpy(slot, page, DOR_PAGE_BYTES);
    int err = visit_page(writer, tag, place, page == NULL ? NULL : slot);
    bool is_full = (writer->page_count + 1) * DOR_PAGE_BYTES > writer->arena.size_bytes;
    return err != 0 || !is_full ? err : flush_pages(writer);
}

static int
write_batch(
    struct image_writer *writer, uint64_t first, uint64_t end, struct store_fetch_item *items)
{
    struct dor_store *store = writer->snapshot->store;
    size_t count;
    size_t references;
    sort_items(&writer->snapshot->recipe, first, end, writer->sink, items, &count, &references);
    writer->failed_page = UINT64_MAX;
    int err = store_fetch_into(
        store, writer->snapshot->domain, items, count, &writer->arena, visit_page, writer);
    if (err == 0)
        err = flush_pages(writer);
    if (err == 0)
        err = store_root_fetch(
            store, items + references, end - first - references, visit_root_page, writer);
    return err != 0 ? err : flush_pages(writer);
}

/* A batch, and once more after catching up with gc: rewriting the same pages does no harm. */
static int
write_batch_surely(
    struct image_writer *writer, uint64_t first, uint64_t end, struct store_fetch_item *items)
{
    int err = write_batch(writer, first, end, items);
    if (err == DOR_E_CORRUPT && catch_up(writer->snapshot)) {
        writer->page_count = 0;
        err = write_batch(writer, first, end, items);
    }
    return wrap_page(writer->snapshot, err, writer->failed_page);
}

static int
write_batches(
    struct image_writer *writer, struct store_fetch_item *items, dor_progress_fn *progress,
    void *progress_context)
{
    uint64_t pages = writer->snapshot->recipe.page_count;
    for (uint64_t first = 0; first < pages; first += BATCH_PAGES) {
        if (progress != NULL &&
            progress(progress_context, first * DOR_PAGE_BYTES, pages * DOR_PAGE_BYTES) != 0)
            return dor_fail(DOR_E_BUSY, "get was stopped");
        int err =
            write_batch_surely(writer, first, base_min_u64(pages, first + BATCH_PAGES), items);
        if (err != 0)
            return err;
    }
    return 0;
}

int
dor_snapshot_write_pages(
    struct dor_snapshot *snapshot, const struct dor_page_sink *sink, dor_progress_fn *progress,
    void *progress_context)
{
    AUTO_FREE uint8_t *arena = base_alloc(ARENA_BYTES);
    AUTO_FREE struct base_sort_row *rows = base_array(OUT_PAGES, 2 * sizeof *rows);
    AUTO_FREE struct store_fetch_item *items =
        base_array(base_min_u64(BATCH_PAGES, snapshot->recipe.page_count), sizeof *items);
    if (arena == NULL || rows == NULL || items == NULL)
        return DOR_E_NO_MEMORY;
    struct image_writer writer = {
        .snapshot = snapshot,
        .sink = sink,
        .rows = rows,
        .arena = {arena, ARENA_BYTES, flush_pages}};
    int err = write_batches(&writer, items, progress, progress_context);
    if (err == 0)
        set_woken(snapshot);
    return err;
}

static int
write_to_file(void *context, uint64_t first_page, const struct iovec *pages, size_t page_count)
{
    struct iovec pieces[DOR_SINK_PAGES_MAX];
    memcpy(pieces, pages, page_count * sizeof pieces[0]);
    return base_file_pwritev(
        *(const int *)context, pieces, page_count, first_page * DOR_PAGE_BYTES, "the image");
}

int
dor_snapshot_write_image(
    struct dor_snapshot *snapshot, int fd, dor_progress_fn *progress, void *progress_context)
{
    uint64_t size_bytes = 0;
    const struct dor_page_sink sink = {.write = write_to_file, .context = &fd};
    int err = base_file_size(fd, "the image", &size_bytes);
    if (err == 0 && size_bytes != 0)
        err = dor_fail(DOR_E_USAGE, "the image must be written to an empty file");
    if (err == 0)
        err = base_file_truncate(fd, snapshot->info.logical_bytes, "the image");
    return err == 0 ? dor_snapshot_write_pages(snapshot, &sink, progress, progress_context)
                    : err;
}

/* ------------------------------------------------------------------ sidecars */

static int
read_stored_sidecar(
    struct dor_snapshot *snapshot, const struct store_sidecar_row *row, uint8_t *stored)
{
    char name[STORE_FILE_NAME_BYTES];
    store_snapshot_file_name(snapshot->info.id, name);
    int err = base_file_pread(snapshot->fd, stored, row->stored_bytes, row->offset, name);
    if (err == 0 && chunk_digest(stored, row->stored_bytes) != row->digest)
        err = dor_fail(
            DOR_E_CORRUPT, "snapshot %s: sidecar %s: bad checksum in %s", snapshot->info.name,
            row->name, name);
    return err;
}

int
store_snapshot_read_row(
    struct dor_snapshot *snapshot, size_t index, void **ret_data, size_t *ret_size_bytes)
{
    const struct store_sidecar_row *row = &snapshot->recipe.sidecars[index];
    AUTO_FREE uint8_t *stored = base_alloc(row->stored_bytes);
    AUTO_FREE uint8_t *plain = base_alloc(row->plain_bytes);
    if (stored == NULL || plain == NULL)
        return DOR_E_NO_MEMORY;
    int err = read_stored_sidecar(snapshot, row, stored);
    if (err == 0)
        err = chunk_decompress(
            snapshot->store->coder, row->codec, stored, row->stored_bytes, plain,
            row->plain_bytes);
    if (err != 0)
        return err;
    *ret_size_bytes = row->plain_bytes;
    *ret_data = TAKE(plain);
    return 0;
}

const struct store_recipe *
store_snapshot_recipe(const struct dor_snapshot *snapshot)
{
    return &snapshot->recipe;
}

int
dor_snapshot_read_sidecar(
    struct dor_snapshot *snapshot, size_t index, char name[DOR_NAME_BYTES_MAX + 1],
    void **ret_data, size_t *ret_size_bytes)
{
    if (index >= snapshot->info.sidecar_count)
        return dor_fail(
            DOR_E_USAGE, "snapshot %s has %llu sidecars", snapshot->info.name,
            (unsigned long long)snapshot->info.sidecar_count);
    int err = store_snapshot_read_row(snapshot, index, ret_data, ret_size_bytes);
    if (err == 0)
        memcpy(
            name, snapshot->recipe.sidecars[index].name,
            sizeof snapshot->recipe.sidecars->name);
    return err;
}

/* ------------------------------------------------------------------ parts */

static int
read_part(
    struct dor_snapshot *snapshot, const char *name, void **ret_data, size_t *ret_size_bytes)
{
    const struct store_recipe *recipe = &snapshot->recipe;
    for (size_t i = recipe->entry.info.sidecar_count; i < recipe->sidecar_count; i++)
        if (strcmp(recipe->sidecars[i].name, name) == 0)
            return store_snapshot_read_row(snapshot, i, ret_data, ret_size_bytes);
    return dor_fail(DOR_E_NOT_FOUND, "snapshot %s has no %s", snapshot->info.name, name + 1);
}

int
dor_snapshot_read_classes(struct dor_snapshot *snapshot, uint8_t **ret)
{
    AUTO_FREE void *data = NULL;
    size_t size_bytes = 0;
    int err = read_part(snapshot, STORE_PART_CLASSES, &data, &size_bytes);
    if (err != 0)
        return err;
    const uint8_t *classes = data;
    bool bad = size_bytes != snapshot->recipe.page_count;
    for (size_t i = 0; i < size_bytes && !bad; i++)
        bad = classes[i] >= DOR_CLASSES;
    if (bad)
        return dor_fail(
            DOR_E_CORRUPT, "snapshot %s: its page classes make no sense", snapshot->info.name);
    *ret = TAKE(data);
    return 0;
}

int
dor_snapshot_read_frame(struct dor_snapshot *snapshot, void **ret_data, size_t *ret_size_bytes)
{
    return read_part(snapshot, STORE_PART_FRAME, ret_data, ret_size_bytes);
}

bool
dor_snapshot_same_page(
    const struct dor_snapshot *left, const struct dor_snapshot *right, uint64_t page_index)
{
    return memcmp(
               left->store->catalog->uuid, right->store->catalog->uuid,
               sizeof left->store->catalog->uuid) == 0 &&
           left->domain == right->domain && page_index < left->recipe.page_count &&
           page_index < right->recipe.page_count &&
           left->recipe.places[page_index] == right->recipe.places[page_index];
}

/* ------------------------------------------------------------------ all of both */

void
store_sidecars_fini(struct store_sidecars *sidecars)
{
    for (size_t i = 0; sidecars->list != NULL && i < sidecars->count; i++) {
        void *data;
        memcpy(&data, &sidecars->list[i].data, sizeof data);
        base_free(data);
    }
    base_free(sidecars->list);
    base_free(sidecars->names);
}

static int
read_sidecars(struct dor_snapshot *snapshot, struct store_sidecars *sidecars)
{
    const struct store_recipe *recipe = &snapshot->recipe;
    sidecars->count = recipe->sidecar_count;
    sidecars->list = base_array(sidecars->count + 1, sizeof *sidecars->list);
    sidecars->names = base_array(sidecars->count + 1, sizeof *sidecars->names);
    if (sidecars->list == NULL || sidecars->names == NULL)
        return DOR_E_NO_MEMORY;
    for (size_t i = 0; i < sidecars->count; i++) {
        void *data;
        int err = store_snapshot_read_row(snapshot, i, &data, &sidecars->list[i].size_bytes);
        if (err != 0)
            return err;
        memcpy(sidecars->names[i], recipe->sidecars[i].name, sizeof *sidecars->names);
        sidecars->list[i].data = data;
        sidecars->list[i].name = sidecars->names[i];
    }
    return 0;
}

int
store_sidecars_read(
    struct dor_store *store, const struct store_snapshot_entry *entry,
    struct store_sidecars *sidecars)
{
    struct dor_snapshot *snapshot;
    int err = store_snapshot_open(store, entry, &snapshot);
    if (err != 0)
        return err;
    err = read_sidecars(snapshot, sidecars);
    dor_snapshot_close(snapshot);
    return err;
}

/* ------------------------------------------------------------------ writing anew */

static void
restore_woken(struct dor_store *store, uint64_t id, uint64_t woken_ns)
{
    char name[STORE_FILE_NAME_BYTES];
    AUTO_CLOSE int fd = -1;
    struct timespec times[2] = {
        {.tv_nsec = UTIME_OMIT},
        {.tv_sec = (time_t)(woken_ns / 1000000000), .tv_nsec = (long)(woken_ns % 1000000000)}};
    store_snapshot_file_name(id, name);
    if (store_medium_open(store->medium, name, true, &fd) == 0)
        (void)!futimens(fd, times);
}

int
store_snapshot_rewrite(
    struct dor_store *store, struct store_snapshot_entry *entry,
    const struct store_recipe *recipe)
{
    struct store_sidecars sidecars = {0};
    AUTO_BUF struct base_buf file = {0};
    struct dor_snapshot_info old = entry->info;
    store_note_woken(store, &old);
    int err = store_sidecars_read(store, entry, &sidecars);
    if (err == 0) {
        entry->info.id = store->catalog->next_snapshot_id++;
        /* In a file, what the put added is without the file itself. */
        uint64_t *added_bytes = &entry->info.put.added_bytes;
        *added_bytes -= base_min_u64(*added_bytes, old.recipe_bytes);
        err = store_recipe_encode(
            entry, recipe, sidecars.list, sidecars.count, store->catalog->uuid, &file);
    }
    store_sidecars_fini(&sidecars);
    if (err != 0)
        return err;
    entry->info.recipe_bytes = file.size_bytes;
    entry->info.put.added_bytes += file.size_bytes;
    struct store_set_key from = store_working_set_key(store, old.id, recipe->page_count);
    struct store_set_key to = store_working_set_key(store, entry->info.id, recipe->page_count);
    store_working_set_carry(&from, &to);
    err = store_snapshot_commit(store, entry, &file);
    if (err == 0)
        restore_woken(store, entry->info.id, old.woken_ns);
    return err;
}
