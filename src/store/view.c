/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view.c - one snapshot made ready to be read from many threads: its recipe, and references to just
 * those segments and root images that its pages are in.
 *
 * Segments and root images are shared with the store's handle and with other views by counted
 * references; what a view shares never changes. A writer's tables grow, so a view of a handle that
 * writes loads its segments for itself.
 *
 * Invariant: every place of the recipe, and every base of its patches, is in a segment or root
 * image of the view, or opening fails.
 */
#include "store/view.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"
#include "store/fetch.h"
#include "store/recipe.h"
#include "store/root.h"
#include "store/snapshot.h"
#include "store/store_priv.h"

struct view_segment {
    uint64_t first_serial, end_serial;
    struct store_segment *segment;
};

struct view_root {
    uint32_t id;
    struct store_root *root;
    struct dor_root_info info;
};

struct store_view {
    struct dor_snapshot_info info;
    uint32_t domain;
    struct store_recipe recipe;
    struct {
        struct view_segment *list; /* by serial */
        size_t count;
    } streams[STORE_STREAMS];
    struct view_root *roots;
    size_t root_count;
};

struct store_view_reader {
    struct chunk_coder *coder;
    struct store_fetch_work *work;
    uint8_t *plain;
    struct store_fetch_item items[STORE_VIEW_BATCH_MAX];
};

/* ------------------------------------------------------------------ opening */

/* Which of the catalog's segments of one stream the view needs. */
struct needed {
    struct store_segment_entry *first;
    size_t count;
    bool *marks;
    size_t latest; /* what was marked last: neighbours are mostly in one segment */
};

static bool
entry_holds(const struct store_segment_entry *entry, uint64_t serial)
{
    return serial >= entry->first_serial && serial < entry->end_serial;
}

static int
mark(struct needed *needed, uint64_t serial, unsigned stream)
{
    if (needed->latest < needed->count && entry_holds(&needed->first[needed->latest], serial))
        return 0;
    size_t low = 0;
    size_t high = needed->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (needed->first[middle].end_serial <= serial)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == needed->count || !entry_holds(&needed->first[low], serial))
        return dor_fail(
            DOR_E_CORRUPT, "no segment holds page %llu of stream %u",
            (unsigned long long)serial, stream);
    needed->latest = low;
    needed->marks[low] = true;
    return 0;
}

/* ENTRY's segment with its table, for the view to keep. */
static int
take_segment(
    struct dor_store *store, struct store_segment_entry *entry, struct store_segment **ret)
{
    if (store->writable) {
        struct store_segment_entry own = *entry;
        own.loaded = NULL;
        int err = store_segment_load(store, &own);
        if (err == 0)
            *ret = own.loaded;
        return err;
    }
    int err = store_segment_load(store, entry);
    if (err == 0)
        *ret = store_segment_ref(entry->loaded);
    return err;
}

static int
take_segments(
    struct dor_store *store, struct store_view *view, const struct needed *needed,
    unsigned stream)
{
    size_t count = 0;
    for (size_t i = 0; i < needed->count; i++)
        count += needed->marks[i];
    view->streams[stream].list = base_array(count + 1, sizeof(struct view_segment));
    if (view->streams[stream].list == NULL)
        return DOR_E_NO_MEMORY;
    for (size_t i = 0; i < needed->count; i++) {
        struct view_segment *segment = &view->streams[stream].list[view->streams[stream].count];
        if (!needed->marks[i])
            continue;
        int err = take_segment(store, &needed->first[i], &segment->segment);
        if (err != 0)
            return err;
        segment->first_serial = needed->first[i].first_serial;
        segment->end_serial = needed->first[i].end_serial;
        view->streams[stream].count++;
    }
    return 0;
}

static int
locate(const void *context, unsigned stream, uint64_t serial, struct store_page_at *ret)
{
    const struct store_view *view = context;
    const struct view_segment *list = view->streams[stream].list;
    size_t low = 0;
    size_t high = view->streams[stream].count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (list[middle].end_serial <= serial)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == view->streams[stream].count || list[low].first_serial > serial)
        return dor_fail(
            DOR_E_CORRUPT, "no segment holds page %llu of stream %u",
            (unsigned long long)serial, stream);
    struct store_segment *segment = list[low].segment;
    uint64_t row = store_table_find(segment->table, serial);
    if (row == UINT64_MAX)
        return dor_fail(
            DOR_E_CORRUPT, "%s does not hold page %llu", segment->name,
            (unsigned long long)serial);
    *ret = (struct store_page_at){segment, store_table_group(segment->table, row), row};
    return 0;
}

/* Mark the segments of what the recipe names. */
static int
mark_places(const struct store_view *view, struct needed needed[STORE_STREAMS])
{
    for (uint64_t i = 0; i < view->recipe.page_count; i++) {
        uint64_t place = view->recipe.places[i];
        if (!store_place_is_stored(place))
            continue;
        unsigned stream = store_place_stream(place);
        int err = mark(&needed[stream], store_place_serial(place), stream);
        if (err != 0)
            return err;
    }
    return 0;
}

/* The streams of patches are there: mark the segments of their bases. */
static int
mark_bases(struct store_view *view, struct needed needed[STORE_STREAMS])
{
    struct store_page_at at = {.segment = NULL};
    uint64_t before = 0;
    for (uint64_t i = 0; i < view->recipe.page_count; i++) {
        uint64_t place = view->recipe.places[i];
        if (store_place_kind(place) != DOR_PAGE_PATCHED)
            continue;
        const struct store_table *table = at.segment == NULL ? NULL : at.segment->table;
        bool next = table != NULL && place == before + 1 && at.row + 1 < table->page_count &&
                    table->serials[at.row + 1] == store_place_serial(place);
        int err = 0;
        if (next)
            at.row++;
        else
            err = locate(view, store_place_stream(place), store_place_serial(place), &at);
        before = place;
        unsigned stream = store_place_stream(place) - STORE_STREAM_PATCH + STORE_STREAM_RAW;
        dor_assert(err != 0 || at.segment != NULL);
        if (err == 0)
            err = mark(&needed[stream], at.segment->table->bases[at.row], stream);
        if (err != 0)
            return err;
    }
    return 0;
}

static int
take_kind(
    struct dor_store *store, struct store_view *view, const struct needed *needed,
    unsigned kind)
{
    int err = 0;
    for (unsigned stream = kind; stream < STORE_STREAMS && err == 0;
         stream += STORE_STREAM_KINDS)
        err = take_segments(store, view, &needed[stream], stream);
    return err;
}

static int
hold_segments(struct dor_store *store, struct store_view *view)
{
    struct needed needed[STORE_STREAMS] = {{0}};
    int err = 0;
    for (unsigned i = 0; i < STORE_STREAMS && err == 0; i++) {
        needed[i].count =
            store_catalog_stream(store->catalog, view->domain, i, &needed[i].first);
        needed[i].latest = SIZE_MAX;
        needed[i].marks = base_array(needed[i].count + 1, sizeof(bool));
        err = needed[i].marks == NULL ? DOR_E_NO_MEMORY : 0;
    }
    if (err == 0)
        err = mark_places(view, needed);
    if (err == 0)
        err = take_kind(store, view, needed, STORE_STREAM_PATCH);
    if (err == 0)
        err = mark_bases(view, needed);
    if (err == 0)
        err = take_kind(store, view, needed, STORE_STREAM_RAW);
    for (unsigned i = 0; i < STORE_STREAMS; i++)
        base_free(needed[i].marks);
    return err;
}

static const struct view_root *
find_root(const struct store_view *view, uint32_t id)
{
    for (size_t i = 0; i < view->root_count; i++)
        if (view->roots[i].id == id)
            return &view->roots[i];
    return NULL;
}

static int
hold_root(struct dor_store *store, struct store_view *view, uint32_t id)
{
    struct store_root_entry *entry = store_catalog_root(store->catalog, id);
    if (entry == NULL)
        return dor_fail(DOR_E_CORRUPT, "root image %u is not in the store (any more)", id);
    int err = store_root_open(store, entry);
    if (err != 0)
        return err;
    struct view_root *roots =
        base_realloc_array(view->roots, view->root_count + 1, sizeof *roots);
    if (roots == NULL)
        return DOR_E_NO_MEMORY;
    view->roots = roots;
    roots[view->root_count++] = (struct view_root){id, store_root_ref(entry), entry->info};
    return 0;
}

static int
hold_roots(struct dor_store *store, struct store_view *view)
{
    uint32_t latest = 0;
    for (uint64_t i = 0; i < view->recipe.page_count; i++) {
        uint64_t place = view->recipe.places[i];
        if (!store_place_is_reference(place) || store_place_root(place) == latest)
            continue;
        latest = store_place_root(place);
        int err = find_root(view, latest) != NULL ? 0 : hold_root(store, view, latest);
        if (err != 0)
            return err;
    }
    return 0;
}

static int
open_view(struct dor_store *store, const char *name, struct store_view **ret)
{
    const struct store_snapshot_entry *entry = store_catalog_snapshot(store->catalog, name);
    if (entry == NULL)
        return dor_fail(DOR_E_NOT_FOUND, "no snapshot %s", name);
    struct store_view *view = base_zalloc(sizeof *view);
    if (view == NULL)
        return DOR_E_NO_MEMORY;
    view->info = entry->info;
    view->domain = entry->domain;
    int err = store_snapshot_read_recipe(store, entry, &view->recipe);
    if (err == 0)
        err = hold_segments(store, view);
    if (err == 0)
        err = hold_roots(store, view);
    if (err != 0) {
        store_view_close(view);
        return dor_fail_wrap("snapshot %s", name);
    }
    store_note_woken(store, &view->info);
    *ret = view;
    return 0;
}

int
store_view_open(struct dor_store *store, const char *name, struct store_view **ret)
{
    int err = open_view(store, name, ret);
    if ((err != DOR_E_NOT_FOUND && err != DOR_E_CORRUPT) || store->writable)
        return err;
    /* Perhaps a writer changed the store after this handle had read its catalog. */
    err = store_reload(store);
    return err != 0 ? err : open_view(store, name, ret);
}

void
store_view_close(struct store_view *view)
{
    if (view == NULL)
        return;
    for (unsigned stream = 0; stream < STORE_STREAMS; stream++) {
        for (size_t i = 0; i < view->streams[stream].count; i++)
            store_segment_close(view->streams[stream].list[i].segment);
        base_free(view->streams[stream].list);
    }
    for (size_t i = 0; i < view->root_count; i++)
        store_root_unref(view->roots[i].root);
    base_free(view->roots);
    store_recipe_fini(&view->recipe);
    base_free(view);
}

/* ------------------------------------------------------------------ asking */

const struct dor_snapshot_info *
store_view_info(const struct store_view *view)
{
    return &view->info;
}

uint64_t
store_view_page_count(const struct store_view *view)
{
    return view->recipe.page_count;
}

struct store_page_key
store_view_key(const struct store_view *view, uint64_t page_index)
{
    dor_assert(page_index < view->recipe.page_count);
    uint64_t place = view->recipe.places[page_index];
    if (store_place_is_stored(place))
        return (struct store_page_key){place, view->domain};
    /* Root images are of no domain, and their blocks of no type. */
    if (store_place_is_reference(place))
        return (struct store_page_key){store_place_retype(place, DOR_NRT), UINT64_MAX};
    return (struct store_page_key){0};
}

enum dor_region_type
store_view_stored_type(const struct store_view *view, uint64_t page_index)
{
    dor_assert(page_index < view->recipe.page_count);
    return (enum dor_region_type)store_place_type(view->recipe.places[page_index]);
}

enum dor_page_kind
store_view_kind(const struct store_view *view, uint64_t page_index)
{
    dor_assert(page_index < view->recipe.page_count);
    return (enum dor_page_kind)store_place_kind(view->recipe.places[page_index]);
}

/* ------------------------------------------------------------------ reading */

int
store_view_reader_new(struct store_view_reader **ret)
{
    struct store_view_reader *reader = base_zalloc(sizeof *reader);
    if (reader == NULL)
        return DOR_E_NO_MEMORY;
    reader->plain = base_alloc(STORE_GROUP_BYTES_MAX);
    int err = reader->plain == NULL ? DOR_E_NO_MEMORY : chunk_coder_new(&reader->coder);
    if (err == 0)
        err = store_fetch_work_new(
            STORE_VIEW_BATCH_MAX, (size_t)STORE_VIEW_BATCH_MAX * DOR_PAGE_BYTES, &reader->work);
    if (err != 0) {
        store_view_reader_free(reader);
        return err;
    }
    *ret = reader;
    return 0;
}

void
store_view_reader_free(struct store_view_reader *reader)
{
    if (reader == NULL)
        return;
    store_fetch_work_free(reader->work);
    chunk_coder_free(reader->coder);
    base_free(reader->plain);
    base_free(reader);
}

static int
visit_page(void *context, uint64_t tag, uint64_t place, const uint8_t *page)
{
    struct store_view_item *item = (struct store_view_item *)context + tag;
    (void)place;
    if (page == NULL)
        item->err = base_err_record()->code;
    else
        memcpy(item->bytes, page, DOR_PAGE_BYTES);
    return 0;
}

static int
read_block(const struct store_view *view, uint64_t place, uint8_t *bytes)
{
    const struct view_root *root = find_root(view, store_place_root(place));
    dor_assert(root != NULL);
    return store_root_read_block(root->root, &root->info, store_place_block(place), bytes);
}

int
store_view_read(
    const struct store_view *view, struct store_view_reader *reader,
    struct store_view_item *items, size_t count)
{
    struct store_fetch_source source = {locate, view, reader->coder, reader->plain};
    size_t stored_count = 0;
    dor_assert(count <= STORE_VIEW_BATCH_MAX);
    for (size_t i = 0; i < count; i++) {
        dor_assert(items[i].page_index < view->recipe.page_count);
        uint64_t place = view->recipe.places[items[i].page_index];
        items[i].err = 0;
        if (store_place_is_stored(place))
            reader->items[stored_count++] = (struct store_fetch_item){place, i};
        else if (store_place_is_reference(place))
            items[i].err = read_block(view, place, items[i].bytes);
        else
            memset(items[i].bytes, 0, DOR_PAGE_BYTES);
    }
    if (stored_count > 0) {
        int err = store_fetch_from(
            &source, reader->work, reader->items, stored_count, NULL, visit_page, items);
        /* It ended early: which pages came before that is not known. */
        for (size_t i = 0; err != 0 && i < stored_count; i++)
            items[reader->items[i].tag].err = err;
    }
    /* The words that are recorded are the last failure's, and so is the number. */
    for (size_t i = 0; i < count; i++)
        if (items[i].err != 0)
            return base_err_record()->code;
    return 0;
}

/* ------------------------------------------------------------------ reading ahead */

/* Between two extents that are read in one go; a seek costs more than so many bytes. */
#define PLAN_GAP_BYTES (32u << 10)
/* Pages whose extents are ordered by their place: few at first, for they are waited for. */
#define PLAN_PAGES_FIRST 128
#define PLAN_PAGES_MAX   4096

static void
plan_add(struct store_view_plan *plan, struct store_view_extent extent)
{
    const struct store_view_extent *last =
        plan->count == 0 ? NULL : &plan->extents[plan->count - 1];
    if (last == NULL || last->fd != extent.fd || last->offset != extent.offset)
        plan->extents[plan->count++] = extent;
}

static int
plan_stored(
    const struct store_view *view, unsigned stream, uint64_t serial,
    struct store_view_plan *plan, struct store_page_at *ret)
{
    int err = locate(view, stream, serial, ret);
    dor_assert(err != 0 || ret->segment != NULL);
    if (err == 0)
        plan_add(
            plan, (struct store_view_extent){
                      ret->segment->fd, ret->group->offset,
                      ret->group->offset + ret->group->stored_bytes});
    return err;
}

static int
plan_page(const struct store_view *view, uint64_t page_index, struct store_view_plan *plan)
{
    dor_assert(page_index < view->recipe.page_count);
    uint64_t place = view->recipe.places[page_index];
    struct store_page_at at = {.segment = NULL};
    if (store_place_is_reference(place)) {
        const struct view_root *root = find_root(view, store_place_root(place));
        uint64_t offset = (uint64_t)store_place_block(place) * DOR_PAGE_BYTES;
        dor_assert(root != NULL);
        plan_add(
            plan, (struct store_view_extent){
                      store_root_fd(root->root), offset, offset + DOR_PAGE_BYTES});
        return 0;
    }
    if (!store_place_is_stored(place))
        return 0;
    unsigned stream = store_place_stream(place);
    int err = plan_stored(view, stream, store_place_serial(place), plan, &at);
    if (err != 0 || store_place_kind(place) != DOR_PAGE_PATCHED)
        return err;
    return plan_stored(
        view, stream - STORE_STREAM_PATCH + STORE_STREAM_RAW, at.segment->table->bases[at.row],
        plan, &at);
}

static int
compare_extents(const void *a, const void *b)
{
    const struct store_view_extent *one = a;
    const struct store_view_extent *other = b;
    if (one->fd != other->fd)
        return one->fd < other->fd ? -1 : 1;
    return one->offset < other->offset ? -1 : one->offset > other->offset;
}

/* Order the extents from FIRST on by their place and put neighbours together. */
static void
plan_settle(struct store_view_plan *plan, size_t first)
{
    struct store_view_extent *extents = plan->extents;
    size_t kept = first;
    qsort(extents + first, plan->count - first, sizeof *extents, compare_extents);
    for (size_t i = first; i < plan->count; i++) {
        struct store_view_extent *last = kept == first ? NULL : &extents[kept - 1];
        if (last != NULL && last->fd == extents[i].fd &&
            extents[i].offset <= last->end + PLAN_GAP_BYTES)
            last->end = base_max_u64(last->end, extents[i].end);
        else
            extents[kept++] = extents[i];
    }
    plan->count = kept;
}

int
store_view_plan(
    const struct store_view *view, const uint64_t *page_indexes, size_t count,
    struct store_view_plan *ret)
{
    /* A page has at most two extents. */
    struct store_view_plan plan = {base_array(count + 1, 2 * sizeof *plan.extents), 0};
    size_t step = PLAN_PAGES_FIRST;
    int err = plan.extents == NULL ? DOR_E_NO_MEMORY : 0;
    for (size_t at = 0; at < count && err == 0; step = base_min_u64(2 * step, PLAN_PAGES_MAX)) {
        size_t end = base_min_u64(at + step, count);
        size_t first = plan.count;
        for (; at < end && err == 0; at++)
            err = plan_page(view, page_indexes[at], &plan);
        plan_settle(&plan, first);
    }
    if (err != 0) {
        store_view_plan_fini(&plan);
        return err;
    }
    struct store_view_extent *fitting =
        base_realloc_array(plan.extents, plan.count + 1, sizeof *fitting);
    plan.extents = fitting == NULL ? plan.extents : fitting;
    *ret = plan;
    return 0;
}

void
store_view_plan_fini(struct store_view_plan *plan)
{
    base_free(plan->extents);
    *plan = (struct store_view_plan){0};
}

size_t
store_view_plan_read(const struct store_view_plan *plan, size_t from, uint64_t size_bytes)
{
    uint64_t told_bytes = 0;
    for (; from < plan->count && told_bytes < size_bytes; from++) {
        const struct store_view_extent *extent = &plan->extents[from];
        uint64_t extent_bytes = extent->end - extent->offset;
        if (from == 0 || extent[-1].fd != extent->fd)
            base_file_read_no_further(extent->fd);
        base_file_read_ahead(extent->fd, extent->offset, extent_bytes);
        told_bytes += extent_bytes;
    }
    return from;
}
