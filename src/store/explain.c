/* SPDX-License-Identifier: Apache-2.0 */
/*
 * explain.c - what a snapshot is made of and with whom it shares it; what a store holds.
 *
 * A snapshot uses the pages its recipe names and the bases of the patched ones. A page's bytes
 * are its group's stored bytes divided evenly over the group's pages.
 */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"
#include "store/root.h"
#include "store/snapshot.h"
#include "store/usage.h"
#include "store/working_set.h"

struct explainer {
    struct dor_store *store;
    uint32_t domain;
    uint64_t id;
    struct store_usage mine;
    struct store_usage others;
    struct store_usage earlier; /* of snapshots put before */
    struct store_usage seen;    /* of the snapshot being looked at */
    struct dor_explain *result;
};

static int
page_bytes(struct explainer *explainer, unsigned stream, uint64_t serial, uint64_t *ret)
{
    struct store_page_at at;
    int err = store_locate(explainer->store, explainer->domain, stream, serial, &at);
    if (err == 0)
        *ret = at.group->stored_bytes / at.group->page_count;
    return err;
}

/*
 * Mark PLACE and, for a patch, its base in USAGE; calls VISIT for each that was not marked
 * before.
 */
typedef int
visit_fn(struct explainer *explainer, void *context, unsigned stream, uint64_t serial);

static int
use_page(
    struct explainer *explainer, struct store_usage *usage, unsigned stream, uint64_t serial,
    visit_fn *visit, void *context)
{
    if (store_usage_has(usage, stream, serial))
        return 0;
    store_usage_mark(usage, stream, serial);
    return visit(explainer, context, stream, serial);
}

static int
use_place(
    struct explainer *explainer, struct store_usage *usage, uint64_t place, visit_fn *visit,
    void *context)
{
    unsigned stream = store_place_stream(place);
    uint64_t serial = store_place_serial(place);
    if (store_usage_has(usage, stream, serial))
        return 0;
    if (store_place_kind(place) == DOR_PAGE_PATCHED) {
        struct store_page_at at;
        int err = store_locate(explainer->store, explainer->domain, stream, serial, &at);
        if (err == 0)
            err = use_page(
                explainer, usage, stream - STORE_STREAM_PATCH + STORE_STREAM_RAW,
                at.segment->table->bases[at.row], visit, context);
        if (err != 0)
            return err;
    }
    return use_page(explainer, usage, stream, serial, visit, context);
}

static int
visit_nothing(struct explainer *explainer, void *context, unsigned stream, uint64_t serial)
{
    (void)explainer;
    (void)context;
    (void)stream;
    (void)serial;
    return 0;
}

struct sharing {
    uint64_t shared_bytes;
    bool earlier;
};

static int
visit_other(struct explainer *explainer, void *context, unsigned stream, uint64_t serial)
{
    struct sharing *sharing = context;
    store_usage_mark(&explainer->others, stream, serial);
    if (sharing->earlier)
        store_usage_mark(&explainer->earlier, stream, serial);
    if (!store_usage_has(&explainer->mine, stream, serial))
        return 0;
    uint64_t bytes;
    int err = page_bytes(explainer, stream, serial, &bytes);
    if (err == 0)
        sharing->shared_bytes += bytes;
    return err;
}

static int
add_sharer(struct dor_explain *result, const char *name, uint64_t bytes)
{
    struct dor_explain_sharer *sharers =
        base_realloc_array(result->sharers, result->sharer_count + 1, sizeof *sharers);
    if (sharers == NULL)
        return DOR_E_NO_MEMORY;
    result->sharers = sharers;
    struct dor_explain_sharer *sharer = &sharers[result->sharer_count++];
    memcpy(sharer->name, name, sizeof sharer->name);
    sharer->shared_bytes = bytes;
    return 0;
}

static int
look_at_other(struct explainer *explainer, const struct store_snapshot_entry *entry)
{
    struct store_recipe recipe = {0};
    struct sharing sharing = {.earlier = entry->info.id < explainer->id};
    for (unsigned i = 0; i < STORE_STREAMS; i++)
        memset(explainer->seen.bits[i], 0, (explainer->seen.bit_count[i] / 64 + 1) * 8);
    int err = store_snapshot_read_recipe(explainer->store, entry, &recipe);
    for (uint64_t i = 0; i < recipe.page_count && err == 0; i++)
        if (store_place_is_stored(recipe.places[i]))
            err =
                use_place(explainer, &explainer->seen, recipe.places[i], visit_other, &sharing);
    store_recipe_fini(&recipe);
    if (err == 0 && sharing.shared_bytes > 0)
        err = add_sharer(explainer->result, entry->info.name, sharing.shared_bytes);
    return err;
}

/* Which of BYTES counts a page at PLACE; repeated and earlier-stored pages are exact. */
static uint64_t *
kind_of(const struct explainer *explainer, uint64_t place, struct dor_kind_bytes *bytes)
{
    switch (store_place_kind(place)) {
    case DOR_PAGE_ZERO:
        return &bytes->zero_bytes;
    case DOR_PAGE_REFERENCE:
        return &bytes->reference_bytes;
    default:
        break;
    }
    unsigned stream = store_place_stream(place);
    uint64_t serial = store_place_serial(place);
    if (store_usage_has(&explainer->seen, stream, serial) ||
        store_usage_has(&explainer->earlier, stream, serial))
        return &bytes->exact_bytes;
    return store_place_kind(place) == DOR_PAGE_PATCHED ? &bytes->patched_bytes
                                                       : &bytes->raw_bytes;
}

/* The share of its group that the page at PLACE takes goes to the class of its first user. */
static int
count_class_stored(struct explainer *explainer, uint64_t place, struct dor_kind_bytes *bytes)
{
    unsigned stream = store_place_stream(place);
    uint64_t share;
    if (store_usage_has(&explainer->seen, stream, store_place_serial(place)))
        return 0;
    int err = page_bytes(explainer, stream, store_place_serial(place), &share);
    if (err != 0)
        return err;
    *(store_place_kind(place) == DOR_PAGE_PATCHED ? &bytes->patched_stored_bytes
                                                  : &bytes->raw_stored_bytes) += share;
    return 0;
}

/* Count each page of the recipe under what it is, by region type and by class. */
static int
count_kinds(
    struct explainer *explainer, const struct store_recipe *recipe, const uint8_t *classes)
{
    for (unsigned i = 0; i < STORE_STREAMS; i++)
        memset(explainer->seen.bits[i], 0, (explainer->seen.bit_count[i] / 64 + 1) * 8);
    for (uint64_t i = 0; i < recipe->page_count; i++) {
        uint64_t place = recipe->places[i];
        struct dor_kind_bytes *type =
            &explainer->result->by_region_type[store_recipe_page_type(recipe, i)];
        struct dor_kind_bytes *class =
            &explainer->result->by_class[classes == NULL ? DOR_CLASS_UNKNOWN : classes[i]];
        *kind_of(explainer, place, type) += DOR_PAGE_BYTES;
        *kind_of(explainer, place, class) += DOR_PAGE_BYTES;
        type->logical_bytes += DOR_PAGE_BYTES;
        class->logical_bytes += DOR_PAGE_BYTES;
        if (!store_place_is_stored(place))
            continue;
        int err = count_class_stored(explainer, place, class);
        if (err != 0)
            return err;
        store_usage_mark(
            &explainer->seen, store_place_stream(place), store_place_serial(place));
    }
    return 0;
}

/* Stored bytes of my pages: exclusive or shared, and those in groups that nobody else uses. */
static void
count_group(
    struct explainer *explainer, const struct store_table *table,
    const struct store_group *group, unsigned stream)
{
    struct dor_explain *result = explainer->result;
    struct dor_kind_bytes *kind = &result->by_region_type[stream / STORE_STREAM_KINDS];
    unsigned mine = 0;
    unsigned shared = 0;
    unsigned others = 0;
    for (uint64_t i = group->first_page; i < group->first_page + (uint64_t)group->page_count;
         i++) {
        bool is_mine = store_usage_has(&explainer->mine, stream, table->serials[i]);
        bool is_others = store_usage_has(&explainer->others, stream, table->serials[i]);
        mine += is_mine;
        shared += is_mine && is_others;
        others += is_others;
    }
    uint64_t each = group->stored_bytes / group->page_count;
    result->shared_bytes += each * shared;
    result->exclusive_bytes += each * (mine - shared);
    if (mine > 0 && others == 0)
        result->freed_bytes += group->stored_bytes;
    if (table->patches)
        kind->patched_stored_bytes += each * mine;
    else
        kind->raw_stored_bytes += each * mine;
}

static int
count_stored(struct explainer *explainer)
{
    for (unsigned stream = 0; stream < STORE_STREAMS; stream++) {
        struct store_segment_entry *first;
        size_t count =
            store_catalog_stream(explainer->store->catalog, explainer->domain, stream, &first);
        for (size_t i = 0; i < count; i++) {
            int err = store_segment_load(explainer->store, &first[i]);
            if (err != 0)
                return err;
            const struct store_table *table = first[i].loaded->table;
            for (uint64_t g = 0; g < table->group_count; g++)
                count_group(explainer, table, &table->groups[g], stream);
        }
    }
    return 0;
}

static int
explain_recipe(
    struct explainer *explainer, const struct store_recipe *recipe, const uint8_t *classes)
{
    const struct store_catalog *catalog = explainer->store->catalog;
    int err = 0;
    for (uint64_t i = 0; i < recipe->page_count && err == 0; i++)
        if (store_place_is_stored(recipe->places[i]))
            err =
                use_place(explainer, &explainer->mine, recipe->places[i], visit_nothing, NULL);
    for (size_t i = 0; i < catalog->snapshot_count && err == 0; i++)
        if (catalog->snapshots[i].domain == explainer->domain &&
            catalog->snapshots[i].info.id != explainer->id)
            err = look_at_other(explainer, &catalog->snapshots[i]);
    if (err == 0)
        err = count_kinds(explainer, recipe, classes);
    return err != 0 ? err : count_stored(explainer);
}

static int
most_shared_first(const void *left, const void *right)
{
    const struct dor_explain_sharer *l = left;
    const struct dor_explain_sharer *r = right;
    if (l->shared_bytes != r->shared_bytes)
        return l->shared_bytes < r->shared_bytes ? 1 : -1;
    return strcmp(l->name, r->name);
}

static int
explainer_run(struct explainer *explainer, struct dor_snapshot *snapshot)
{
    struct store_usage *usages[] = {
        &explainer->mine, &explainer->others, &explainer->earlier, &explainer->seen};
    AUTO_FREE uint8_t *classes = NULL;
    int err = 0;
    for (size_t i = 0; i < ARRAY_LEN(usages) && err == 0; i++)
        err = store_usage_init(usages[i], explainer->store, explainer->domain);
    if (err == 0) {
        err = dor_snapshot_read_classes(snapshot, &classes);
        err = err == DOR_E_NOT_FOUND ? 0 : err;
    }
    if (err == 0)
        err = explain_recipe(explainer, store_snapshot_recipe(snapshot), classes);
    for (size_t i = 0; i < ARRAY_LEN(usages); i++)
        store_usage_fini(usages[i]);
    return err;
}

int
dor_store_explain(struct dor_store *store, const char *name, struct dor_explain *ret)
{
    struct dor_snapshot *snapshot;
    int err = dor_snapshot_open(store, name, &snapshot);
    if (err != 0)
        return err;
    const struct store_snapshot_entry *entry = store_catalog_snapshot(store->catalog, name);
    struct dor_explain result = {.recipe_bytes = entry->info.recipe_bytes};
    struct explainer explainer = {
        .store = store, .domain = entry->domain, .id = entry->info.id, .result = &result};
    err = explainer_run(&explainer, snapshot);
    dor_snapshot_close(snapshot);
    if (err != 0) {
        dor_explain_fini(&result);
        return err;
    }
    for (unsigned type = 0; type < DOR_REGION_TYPES; type++)
        store_kind_bytes_add(&result.total, &result.by_region_type[type]);
    result.exclusive_bytes += result.recipe_bytes;
    result.freed_bytes += result.recipe_bytes;
    if (result.sharer_count > 0)
        qsort(result.sharers, result.sharer_count, sizeof *result.sharers, most_shared_first);
    *ret = result;
    return 0;
}

void
dor_explain_fini(struct dor_explain *explain)
{
    base_free(explain->sharers);
    memset(explain, 0, sizeof *explain);
}

/* ------------------------------------------------------------------ the whole store */

static int
stat_segment(struct dor_store *store, struct store_segment_entry *entry, struct dor_stat *stat)
{
    struct dor_stat_type *type = &stat->by_region_type[entry->stream / STORE_STREAM_KINDS];
    int err = store_segment_load(store, entry);
    if (err != 0)
        return err;
    const struct store_table *table = entry->loaded->table;
    uint64_t group_bytes = 0;
    for (uint64_t g = 0; g < table->group_count; g++)
        group_bytes += table->groups[g].stored_bytes;
    type->segments++;
    type->groups += table->group_count;
    type->table_bytes += entry->size_bytes - group_bytes;
    stat->segment_bytes += group_bytes;
    stat->table_bytes += entry->size_bytes - group_bytes;
    if (table->patches) {
        type->patched_pages += table->page_count;
        type->patched_bytes += group_bytes;
    } else {
        type->raw_pages += table->page_count;
        type->raw_bytes += group_bytes;
    }
    return 0;
}

static int
catalog_bytes(struct dor_store *store, uint64_t *ret)
{
    AUTO_CLOSE int fd = -1;
    int err = store_medium_open(store->medium, STORE_CATALOG_NAME, false, &fd);
    return err != 0 ? err : base_file_size(fd, STORE_CATALOG_NAME, ret);
}

int
dor_store_stat(struct dor_store *store, struct dor_stat *ret)
{
    struct dor_stat stat = {0};
    const struct store_catalog *catalog = store->catalog;
    stat.snapshots = catalog->snapshot_count;
    stat.domains = catalog->domain_count;
    int err = catalog_bytes(store, &stat.catalog_bytes);
    for (size_t i = 0; i < catalog->segment_count && err == 0; i++)
        err = stat_segment(store, &catalog->segments[i], &stat);
    if (err != 0)
        return err;
    for (size_t i = 0; i < catalog->snapshot_count; i++) {
        const struct dor_snapshot_info *info = &catalog->snapshots[i].info;
        const struct dor_kind_bytes *put = &info->put.total;
        stat.logical_bytes += info->logical_bytes;
        stat.recipe_bytes += info->recipe_bytes;
        stat.pages_by_kind[DOR_PAGE_ZERO] += put->zero_bytes / DOR_PAGE_BYTES;
        stat.pages_by_kind[DOR_PAGE_RAW] += put->raw_bytes / DOR_PAGE_BYTES;
        stat.pages_by_kind[DOR_PAGE_PATCHED] += put->patched_bytes / DOR_PAGE_BYTES;
        stat.pages_by_kind[DOR_PAGE_REFERENCE] += put->reference_bytes / DOR_PAGE_BYTES;
        stat.exact_pages += put->exact_bytes / DOR_PAGE_BYTES;
        for (unsigned c = 0; c < DOR_CLASSES; c++)
            stat.pages_by_class[c] += info->put.pages_by_class[c];
        struct store_set_key key = store_working_set_key(store, info->id, 0);
        uint64_t set_bytes = 0;
        stat.working_sets += store_working_set_bytes(&key, &set_bytes);
        stat.working_set_bytes += set_bytes;
    }
    stat.roots = catalog->root_count;
    for (size_t i = 0; i < catalog->root_count; i++)
        stat.root_bytes += catalog->roots[i].info.file_bytes;
    for (size_t i = 0; i < store->index_count; i++)
        stat.index_bytes += store_index_bytes(store->indexes[i].index);
    stat.stored_bytes = stat.segment_bytes + stat.table_bytes + stat.recipe_bytes +
                        stat.catalog_bytes + stat.root_bytes + stat.working_set_bytes;
    *ret = stat;
    return 0;
}
