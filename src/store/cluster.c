/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cluster.c - moves the pages of working sets next to each other.
 *
 * A page's serial number is its order in its stream, so to move means to store again under a new
 * number and to change who names the old one: patches that have it as base, and recipes. Each of
 * the steps is committed by itself, and between any two of them all that anything names is there:
 *
 *   1. hot pages, then hot patches against the new pages, are written to new segments, and the
 *      catalog is saved: they are there, and nobody names them yet;
 *   2. segments of patches with a base that moved are written anew, naming the new one;
 *   3. snapshots with pages that moved get a new file, one by one.
 *
 * Killed in between, what nobody names is garbage for the next gc. Old copies become garbage as
 * recipes let go of them. The next run finds that what a snapshot still has in an old place is
 * already in a new one, by its bytes, and does not store it a third time.
 *
 * Hot is what the working set of any snapshot of the domain needs, bases included, in the order in
 * which the snapshots were woken last, then of need. A hot page stays when its group is good
 * already: packed for quick decoding, and mostly hot. So clustering again moves what became hot
 * since, and two snapshots that share pages do not take them from each other.
 *
 * Blocks of root images stay where they are.
 */
#include "store/cluster.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/size.h"
#include "base/sort.h"
#include "chunk/digest.h"
#include "chunk/fingerprint.h"
#include "store/fetch.h"
#include "store/repack.h"
#include "store/snapshot.h"
#include "store/working_set.h"

#define BATCH_PAGES 4096
/* A group is good when so much of it is hot. */
#define HOT_PERCENT 75
/* Below this share of the hot pages a move is not worth writing recipes anew. */
#define MOVE_PERCENT 10

struct hot_page {
    uint64_t place;
    uint64_t moved_to; /* 0 = stays */
    uint64_t base;     /* of a patch: the place of its base */
};

/* A page or patch that was read. */
struct taken {
    size_t index;        /* in the list of pages */
    uint32_t size_bytes; /* 0 = could not be read: it stays */
    uint32_t digest;
    const struct chunk_slides *slides;
};

/* A hot plain page that stays where it is. */
struct settled {
    uint64_t key; /* region type, then digest of the page */
    uint64_t place;
};

struct clusterer {
    struct dor_store *store;
    const struct dor_gc *gc;
    uint32_t domain;
    struct store_usage hot;
    struct hot_page *pages; /* in the order of need; by place once they are moved */
    size_t count, cap;
    struct settled *settled; /* by key */
    size_t settled_count;
    struct store_writer *writer;
    uint64_t moved;
    bool stopped;
    bool begun[STORE_STREAMS]; /* streams that go on in a new segment */
    struct taken *batch;
    size_t batch_count;
    uint8_t *bytes; /* of the batch, a page for each */
};

static bool
must_stop(struct clusterer *work)
{
    const struct dor_gc *gc = work->gc;
    if (!work->stopped)
        work->stopped = gc->progress != NULL && gc->progress(gc->progress_context, 0, 1) != 0;
    return work->stopped;
}

/* ------------------------------------------------------------------ what is hot */

static int
add_hot(struct clusterer *work, uint64_t place, uint64_t base)
{
    if (store_usage_has(&work->hot, store_place_stream(place), store_place_serial(place)))
        return 0;
    if (work->count == work->cap) {
        size_t cap = work->cap * 2 + 1024;
        struct hot_page *grown = base_realloc_array(work->pages, cap, sizeof *grown);
        if (grown == NULL)
            return DOR_E_NO_MEMORY;
        work->pages = grown;
        work->cap = cap;
    }
    work->pages[work->count++] = (struct hot_page){.place = place, .base = base};
    store_usage_mark(&work->hot, store_place_stream(place), store_place_serial(place));
    return 0;
}

/* The page at PLACE and, before it, its base; what is missing is for check to find. */
static int
add_place(struct clusterer *work, uint64_t place)
{
    struct store_page_at at;
    if (!store_place_is_stored(place))
        return 0;
    int err = store_locate(
        work->store, work->domain, store_place_stream(place), store_place_serial(place), &at);
    if (err == DOR_E_CORRUPT)
        return 0;
    if (err != 0 || store_place_kind(place) != DOR_PAGE_PATCHED)
        return err != 0 ? err : add_hot(work, place, 0);
    uint64_t base =
        store_place(DOR_PAGE_RAW, store_place_type(place), at.segment->table->bases[at.row]);
    err = add_hot(work, base, 0);
    return err == 0 ? add_hot(work, place, base) : err;
}

static int
add_snapshot(struct clusterer *work, const struct store_snapshot_entry *entry)
{
    struct store_working_set set = {0};
    struct store_recipe recipe = {0};
    AUTO_FREE struct dor_working_set_run *runs = NULL;
    size_t count = 0;
    struct store_set_key key = store_working_set_key(
        work->store, entry->info.id, entry->info.logical_bytes / DOR_PAGE_BYTES);
    int err = store_working_set_read(&key, &set);
    if (err == DOR_E_NOT_FOUND || err == DOR_E_CORRUPT || err == DOR_E_UNSUPPORTED)
        return 0;
    if (err == 0)
        err = store_working_set_runs(&set, STORE_SET_NO_TURN, &runs, &count);
    if (err == 0)
        err = store_snapshot_read_recipe(work->store, entry, &recipe);
    for (size_t i = 0; i < count && err == 0; i++)
        for (uint64_t p = 0; p < runs[i].page_count && err == 0; p++)
            err = add_place(work, recipe.places[runs[i].first_page + p]);
    store_recipe_fini(&recipe);
    store_working_set_fini(&set);
    return err;
}

/* Snapshots of the domain, those woken last first. */
static int
add_snapshots(struct clusterer *work)
{
    const struct store_catalog *catalog = work->store->catalog;
    size_t count = 0;
    AUTO_FREE struct base_sort_row *rows =
        base_array(catalog->snapshot_count + 1, 2 * sizeof *rows);
    if (rows == NULL)
        return DOR_E_NO_MEMORY;
    for (size_t i = 0; i < catalog->snapshot_count; i++) {
        struct dor_snapshot_info info = catalog->snapshots[i].info;
        if (catalog->snapshots[i].domain != work->domain)
            continue;
        store_note_woken(work->store, &info);
        rows[count++] = (struct base_sort_row){UINT64_MAX - info.woken_ns, i};
    }
    const struct base_sort_row *order = base_sort_rows(rows, rows + count, count);
    int err = 0;
    for (size_t i = 0; i < count && err == 0; i++)
        err = add_snapshot(work, &catalog->snapshots[order[i].index]);
    return err;
}

/* ------------------------------------------------------------------ what moves */

static bool
is_good(const struct clusterer *work, unsigned stream, const struct store_page_at *at)
{
    const struct store_group *group = at->group;
    unsigned hot = 0;
    if (group->codec != CHUNK_NONE && group->codec != work->store->options.cluster_codec_id)
        return false;
    for (uint32_t i = 0; i < group->page_count; i++)
        hot += store_usage_has(
            &work->hot, stream, at->segment->table->serials[group->first_page + (uint64_t)i]);
    return hot * 100 >= HOT_PERCENT * group->page_count;
}

static uint64_t
settled_key(uint64_t place, uint32_t digest)
{
    return (uint64_t)store_place_type(place) << 32 | digest;
}

static int
by_key(const void *left, const void *right)
{
    uint64_t l = ((const struct settled *)left)->key;
    uint64_t r = ((const struct settled *)right)->key;
    return (l > r) - (l < r);
}

/* Leave only the pages that are to move. */
static int
choose_moves(struct clusterer *work)
{
    size_t kept = 0;
    work->settled = base_array(work->count + 1, sizeof *work->settled);
    if (work->settled == NULL)
        return DOR_E_NO_MEMORY;
    for (size_t i = 0; i < work->count; i++) {
        uint64_t place = work->pages[i].place;
        unsigned stream = store_place_stream(place);
        struct store_page_at at;
        int err =
            store_locate(work->store, work->domain, stream, store_place_serial(place), &at);
        if (err != 0 && err != DOR_E_CORRUPT)
            return err;
        if (err == 0 && !is_good(work, stream, &at))
            work->pages[kept++] = work->pages[i];
        else if (err == 0 && store_place_kind(place) != DOR_PAGE_PATCHED)
            work->settled[work->settled_count++] =
                (struct settled){settled_key(place, at.segment->table->digests[at.row]), place};
    }
    qsort(work->settled, work->settled_count, sizeof *work->settled, by_key);
    work->count = kept * 100 >= MOVE_PERCENT * work->count ? kept : 0;
    return 0;
}

static int
by_place(const void *left, const void *right)
{
    uint64_t l = ((const struct hot_page *)left)->place;
    uint64_t r = ((const struct hot_page *)right)->place;
    return (l > r) - (l < r);
}

/* Where PLACE has moved to, or PLACE; the pages are in the order of places. */
static uint64_t
moved_place(const struct clusterer *work, uint64_t place)
{
    struct hot_page key = {.place = place};
    const struct hot_page *page =
        work->count == 0 ? NULL : bsearch(&key, work->pages, work->count, sizeof key, by_place);
    return page == NULL || page->moved_to == 0 ? place : page->moved_to;
}

/* ------------------------------------------------------------------ reading */

static int
take_page(void *context, uint64_t tag, uint64_t place, const uint8_t *page)
{
    struct clusterer *work = context;
    (void)place;
    if (page == NULL)
        return base_err_record()->code == DOR_E_CORRUPT ? 0 : base_err_record()->code;
    work->batch[tag].size_bytes = DOR_PAGE_BYTES;
    memcpy(work->bytes + tag * DOR_PAGE_BYTES, page, DOR_PAGE_BYTES);
    return 0;
}

static int
read_pages(struct clusterer *work)
{
    AUTO_FREE struct store_fetch_item *items = base_array(work->batch_count, sizeof *items);
    if (items == NULL)
        return DOR_E_NO_MEMORY;
    for (size_t i = 0; i < work->batch_count; i++)
        items[i] = (struct store_fetch_item){work->pages[work->batch[i].index].place, i};
    return store_fetch(work->store, work->domain, items, work->batch_count, take_page, work);
}

/* The patch of the batch's row AT; *DECODED is the group whose bytes are at hand. */
static int
read_patch(struct clusterer *work, size_t at, const struct store_group **decoded)
{
    struct dor_store *store = work->store;
    struct taken *taken = &work->batch[at];
    const struct hot_page *page = &work->pages[taken->index];
    struct store_page_at found;
    int err = store_locate(
        store, work->domain, store_place_stream(page->place), store_place_serial(page->place),
        &found);
    if (err == 0 && *decoded != found.group) {
        *decoded = NULL;
        err = store_segment_read_group(
            store, found.segment, found.group, store->stored, store->plain);
        if (err == 0)
            err = store_group_verify(found.segment, found.group, store->stored);
        if (err == 0)
            *decoded = found.group;
    }
    if (err != 0)
        return err == DOR_E_CORRUPT ? 0 : err;
    const struct store_table *table = found.segment->table;
    uint32_t size_bytes = store_table_page_bytes(table, found.group, found.row);
    if (size_bytes > DOR_PAGE_BYTES)
        return 0;
    memcpy(
        work->bytes + at * DOR_PAGE_BYTES, store->plain + table->offsets[found.row],
        size_bytes);
    taken->size_bytes = size_bytes;
    taken->digest = table->digests[found.row];
    taken->slides = found.group->slides == 0 ? NULL : &table->slides[found.group->slides - 1];
    return 0;
}

/* Patches in the order of their places, so that each group is decoded once. */
static int
read_patches(struct clusterer *work)
{
    const struct store_group *decoded = NULL;
    AUTO_FREE struct base_sort_row *rows = base_array(work->batch_count, 2 * sizeof *rows);
    if (rows == NULL)
        return DOR_E_NO_MEMORY;
    for (size_t i = 0; i < work->batch_count; i++)
        rows[i] = (struct base_sort_row){work->pages[work->batch[i].index].place, i};
    const struct base_sort_row *order =
        base_sort_rows(rows, rows + work->batch_count, work->batch_count);
    int err = 0;
    for (size_t i = 0; i < work->batch_count && err == 0; i++)
        err = read_patch(work, order[i].index, &decoded);
    return err;
}

/* ------------------------------------------------------------------ writing */

/* Whether the plain page at PLACE has BYTES; what cannot be read has not. */
static int
has_bytes(struct clusterer *work, uint64_t place, const uint8_t *bytes, bool *ret)
{
    struct dor_store *store = work->store;
    struct store_page_at at;
    int err = store_locate(
        store, work->domain, store_place_stream(place), store_place_serial(place), &at);
    if (err == 0)
        err =
            store_segment_read_group(store, at.segment, at.group, store->stored, store->plain);
    if (err == 0)
        err = store_group_verify(at.segment, at.group, store->stored);
    *ret =
        err == 0 &&
        memcmp(store->plain + at.segment->table->offsets[at.row], bytes, DOR_PAGE_BYTES) == 0;
    return err == DOR_E_CORRUPT ? 0 : err;
}

/*
 * Where the plain page of BYTES, so far at PLACE, is settled already: an earlier run that was
 * stopped has moved it for other snapshots. *RET is 0 when it is not.
 */
static int
find_settled(
    struct clusterer *work, uint64_t place, uint32_t digest, const uint8_t *bytes,
    uint64_t *ret)
{
    struct settled wanted = {.key = settled_key(place, digest)};
    const struct settled *end = work->settled + work->settled_count;
    const struct settled *at =
        work->settled_count == 0
            ? NULL
            : bsearch(&wanted, work->settled, work->settled_count, sizeof wanted, by_key);
    bool found = false;
    int err = 0;
    *ret = 0;
    while (at != NULL && at > work->settled && at[-1].key == wanted.key)
        at--;
    for (; at != NULL && at < end && at->key == wanted.key && !found && err == 0; at++) {
        err = has_bytes(work, at->place, bytes, &found);
        *ret = found ? at->place : 0;
    }
    return err;
}

static int
write_page(struct clusterer *work, struct store_page_row *row, unsigned stream, size_t at)
{
    const struct store_options *options = &work->store->options;
    const uint8_t *bytes = work->bytes + at * DOR_PAGE_BYTES;
    uint32_t fingerprints[CHUNK_FINGERPRINTS_MAX];
    row->chunk_pages = 1;
    row->fingerprints = fingerprints;
    if (options->similarity)
        row->fingerprint_count = (uint8_t)chunk_fingerprint(
            work->store->fingerprint_scratch, bytes, 1, options->normalise,
            (unsigned)options->fingerprints, fingerprints);
    return store_writer_add(work->writer, stream, row, bytes, DOR_PAGE_BYTES, NULL);
}

static int
write_taken(struct clusterer *work, size_t at, const struct hot_page *bases, size_t base_count)
{
    const struct taken *taken = &work->batch[at];
    struct hot_page *page = &work->pages[taken->index];
    unsigned stream = store_place_stream(page->place);
    int err = 0;
    uint32_t digest = taken->digest;
    if (taken->size_bytes == 0)
        return 0;
    if (store_place_kind(page->place) != DOR_PAGE_PATCHED) {
        const uint8_t *bytes = work->bytes + at * DOR_PAGE_BYTES;
        digest = chunk_page_digest(chunk_digest(bytes, DOR_PAGE_BYTES));
        err = find_settled(work, page->place, digest, bytes, &page->moved_to);
    }
    if (err != 0 || page->moved_to != 0)
        return err;
    /* A segment of its own: what was read from the old ones points into their tables. */
    if (!work->begun[stream])
        err = store_writer_next_segment(work->writer, stream);
    if (err != 0)
        return err;
    work->begun[stream] = true;
    struct store_page_row row = {
        .serial = store_writer_serial(work->writer, stream), .digest = digest};
    page->moved_to = store_stream_place(stream, row.serial);
    work->moved++;
    if (store_place_kind(page->place) != DOR_PAGE_PATCHED)
        return write_page(work, &row, stream, at);
    struct hot_page key = {.place = page->base};
    const struct hot_page *base =
        base_count == 0 ? NULL : bsearch(&key, bases, base_count, sizeof key, by_place);
    row.base =
        store_place_serial(base == NULL || base->moved_to == 0 ? page->base : base->moved_to);
    return store_writer_add(
        work->writer, stream, &row, work->bytes + at * DOR_PAGE_BYTES, taken->size_bytes,
        taken->slides);
}

static int
move_batch(
    struct clusterer *work, enum dor_page_kind kind, const struct hot_page *bases,
    size_t base_count)
{
    int err = kind == DOR_PAGE_PATCHED ? read_patches(work) : read_pages(work);
    for (size_t i = 0; i < work->batch_count && err == 0; i++)
        err = write_taken(work, i, bases, base_count);
    work->batch_count = 0;
    return err;
}

/* All pages of KIND, in the order of need; BASES are where plain pages went, by place. */
static int
move_kind(
    struct clusterer *work, enum dor_page_kind kind, const struct hot_page *bases,
    size_t base_count)
{
    int err = 0;
    for (size_t i = 0; i < work->count && err == 0; i++) {
        if (store_place_kind(work->pages[i].place) != kind)
            continue;
        work->batch[work->batch_count++] = (struct taken){.index = i};
        if (work->batch_count == BATCH_PAGES)
            err = move_batch(work, kind, bases, base_count);
    }
    return err != 0 || work->batch_count == 0 ? err : move_batch(work, kind, bases, base_count);
}

/* Step 1. */
static int
move_pages(struct clusterer *work)
{
    const struct store_options *options = &work->store->options;
    struct store_packing packing;
    store_packing_from_options(options, &packing);
    packing.raw_level = packing.patch_level = (int)options->cluster_level;
    for (unsigned type = 0; type < DOR_REGION_TYPES; type++) {
        packing.codecs[type] = options->cluster_codec_id;
        packing.group_pages[type] = options->cluster_group_pages;
    }
    AUTO_FREE struct hot_page *bases = base_array(work->count, sizeof *bases);
    work->batch = base_array(BATCH_PAGES, sizeof *work->batch);
    work->bytes = base_alloc_pages(BATCH_PAGES);
    if (bases == NULL || work->batch == NULL || work->bytes == NULL)
        return DOR_E_NO_MEMORY;
    int err = store_writer_new(work->store, work->domain, &packing, &work->writer);
    if (err == 0)
        err = move_kind(work, DOR_PAGE_RAW, NULL, 0);
    if (err != 0)
        return err;
    memcpy(bases, work->pages, work->count * sizeof *bases);
    qsort(bases, work->count, sizeof *bases, by_place);
    err = move_kind(work, DOR_PAGE_PATCHED, bases, work->count);
    if (err == 0)
        err = store_writer_finish(work->writer);
    if (err == 0)
        err = store_medium_sync(work->store->medium);
    if (err == 0)
        err = store_catalog_save(work->store->medium, work->store->catalog);
    qsort(work->pages, work->count, sizeof *work->pages, by_place);
    return err;
}

/* ------------------------------------------------------------------ bases of other patches */

static uint64_t
moved_base(const void *context, unsigned stream, uint64_t serial)
{
    uint64_t place = store_place(DOR_PAGE_RAW, stream / STORE_STREAM_KINDS, serial);
    return store_place_serial(moved_place(context, place));
}

static bool
names_moved(const struct clusterer *work, unsigned stream, const struct store_table *table)
{
    for (uint64_t row = 0; row < table->page_count; row++)
        if (moved_base(work, stream, table->bases[row]) != table->bases[row])
            return true;
    return false;
}

static int
rename_bases(struct clusterer *work, uint32_t id)
{
    struct store_segment_entry *entry = store_catalog_segment(work->store->catalog, id);
    struct store_usage all;
    int err = store_segment_load(work->store, entry);
    if (err != 0 || !names_moved(work, entry->stream, entry->loaded->table))
        return err;
    err = store_usage_init(&all, work->store, work->domain);
    if (err != 0)
        return err;
    const struct store_table *table = entry->loaded->table;
    for (uint64_t row = 0; row < table->page_count; row++)
        store_usage_mark(&all, entry->stream, table->serials[row]);
    struct store_repack repack = {
        .keep = &all, .waste_percent = 100, .move_base = moved_base, .move_context = work};
    store_packing_from_options(&work->store->options, &repack.packing);
    err = store_repack_segment(work->store, id, &repack);
    store_usage_fini(&all);
    return err;
}

/* Step 2. */
static int
rename_all_bases(struct clusterer *work)
{
    for (unsigned stream = STORE_STREAM_PATCH; stream < STORE_STREAMS;
         stream += STORE_STREAM_KINDS) {
        struct store_segment_entry *first;
        size_t count = store_catalog_stream(work->store->catalog, work->domain, stream, &first);
        AUTO_FREE uint32_t *ids = base_array(count + 1, sizeof *ids);
        if (ids == NULL)
            return DOR_E_NO_MEMORY;
        for (size_t i = 0; i < count; i++)
            ids[i] = first[i].id;
        for (size_t i = 0; i < count; i++) {
            int err = rename_bases(work, ids[i]);
            if (err != 0)
                return err;
        }
    }
    return 0;
}

/* ------------------------------------------------------------------ recipes */

static bool
change_places(const struct clusterer *work, struct store_recipe *recipe)
{
    bool changed = false;
    for (uint64_t i = 0; i < recipe->page_count; i++) {
        uint64_t place = recipe->places[i];
        if (store_place_is_stored(place))
            recipe->places[i] = moved_place(work, place);
        changed |= recipe->places[i] != place;
    }
    return changed;
}

static int
rewrite_snapshot(struct clusterer *work, struct store_snapshot_entry *entry)
{
    struct store_recipe recipe = {0};
    int err = store_snapshot_read_recipe(work->store, entry, &recipe);
    if (err == 0 && change_places(work, &recipe))
        err = store_snapshot_rewrite(work->store, entry, &recipe);
    store_recipe_fini(&recipe);
    return err == 0 ? 0 : dor_fail_wrap("snapshot %s", entry->info.name);
}

/* Step 3. A snapshot that is replaced keeps its name, and so its index in the catalog. */
static int
rewrite_snapshots(struct clusterer *work)
{
    const struct store_catalog *catalog = work->store->catalog;
    for (size_t i = 0; i < catalog->snapshot_count && !must_stop(work); i++) {
        struct store_snapshot_entry entry = catalog->snapshots[i];
        int err = entry.domain == work->domain ? rewrite_snapshot(work, &entry) : 0;
        if (err != 0)
            return err;
    }
    return 0;
}

int
store_cluster(
    struct dor_store *store, uint32_t domain, const struct dor_gc *gc,
    struct dor_gc_result *result)
{
    struct clusterer work = {.store = store, .domain = domain, .gc = gc};
    int err = store_usage_init(&work.hot, store, domain);
    if (err == 0)
        err = add_snapshots(&work);
    if (err == 0)
        err = choose_moves(&work);
    if (err == 0 && work.count > 0 && !must_stop(&work)) {
        err = move_pages(&work);
        if (err == 0)
            err = rename_all_bases(&work);
        if (err == 0)
            err = rewrite_snapshots(&work);
    }
    result->clustered_pages += work.moved;
    result->complete &= !work.stopped;
    store_writer_free(work.writer);
    store_usage_fini(&work.hot);
    base_free(work.pages);
    base_free(work.settled);
    base_free(work.batch);
    base_free(work.bytes);
    return err;
}
