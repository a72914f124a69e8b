/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gc.c - gives back what no recipe uses, and packs tighter what nobody wakes.
 *
 * Mark: one bit per page from all recipes of a domain. Sweep: segment by segment, patches
 * first; a segment with enough dead bytes is written anew (repack.c) and committed by itself,
 * so the work can stop after any of them. Plain pages live when a recipe uses them or a patch
 * that is still stored does, even a dead one: what is in segments is always complete.
 *
 * Readers go on meanwhile: serial numbers stay, a reader that misses a file reads the catalog
 * again.
 */
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/size.h"
#include "store/cluster.h"
#include "store/repack.h"
#include "store/snapshot.h"

struct collector {
    struct dor_store *store;
    const struct dor_gc *gc;
    struct dor_gc_result *result;
    struct store_repack sweep;
    struct store_repack squeeze;
    struct store_usage live, hot;
    uint32_t domain;
    uint64_t done_bytes, total_bytes, rewritten_bytes;
};

/* How a segment's bytes are used. */
struct segment_use {
    uint64_t live_pages, dead_pages;
    uint64_t dead_bytes;  /* dead pages' share of their groups, and replaced frames */
    uint64_t loose_bytes; /* groups that squeezing would pack tighter */
    uint64_t loose_groups;
};

static uint64_t
store_bytes(const struct store_catalog *catalog)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < catalog->segment_count; i++)
        bytes += catalog->segments[i].size_bytes;
    for (size_t i = 0; i < catalog->snapshot_count; i++)
        bytes += catalog->snapshots[i].info.recipe_bytes;
    return bytes;
}

/* ------------------------------------------------------------------ marking */

static bool
is_recent(const struct collector *collector, const struct store_snapshot_entry *entry)
{
    struct dor_snapshot_info info = entry->info;
    store_note_woken(collector->store, &info);
    uint64_t last = base_max_u64(info.woken_ns, info.created_ns);
    uint64_t now = base_clock_realtime_ns();
    return now < last || now - last < collector->gc->squeeze_age_ns;
}

static int
mark_snapshots(struct collector *collector)
{
    const struct store_catalog *catalog = collector->store->catalog;
    for (size_t i = 0; i < catalog->snapshot_count; i++) {
        const struct store_snapshot_entry *entry = &catalog->snapshots[i];
        if (entry->domain != collector->domain)
            continue;
        struct store_recipe recipe = {0};
        int err = store_snapshot_read_recipe(collector->store, entry, &recipe);
        if (err != 0)
            return dor_fail_wrap("gc needs every recipe; snapshot %s", entry->info.name);
        store_usage_mark_recipe(&collector->live, &recipe);
        if (collector->gc->squeeze && is_recent(collector, entry))
            store_usage_mark_recipe(&collector->hot, &recipe);
        store_recipe_fini(&recipe);
    }
    return 0;
}

/* ------------------------------------------------------------------ sweeping */

static bool
is_loose(
    const struct collector *collector, const struct store_table *table,
    const struct store_group *group)
{
    const struct store_packing *packing = &collector->squeeze.packing;
    if (table->patches)
        return group->plain_bytes * UINT64_C(2) <= packing->patch_group_bytes;
    return group->page_count * UINT64_C(2) <= packing->group_pages[0];
}

static struct segment_use
measure_segment(const struct collector *collector, const struct store_segment_entry *entry)
{
    const struct store_table *table = entry->loaded->table;
    struct segment_use use = {0};
    uint64_t used_bytes = 0;
    for (uint64_t g = 0; g < table->group_count; g++) {
        const struct store_group *group = &table->groups[g];
        unsigned live = 0;
        unsigned hot = 0;
        for (uint64_t i = group->first_page;
             i < group->first_page + (uint64_t)group->page_count; i++) {
            live += store_usage_has(&collector->live, entry->stream, table->serials[i]);
            hot += store_usage_has(&collector->hot, entry->stream, table->serials[i]);
        }
        use.live_pages += live;
        use.dead_pages += group->page_count - live;
        use.dead_bytes +=
            (uint64_t)group->stored_bytes * (group->page_count - live) / group->page_count;
        used_bytes += group->stored_bytes;
        if (hot == 0 && is_loose(collector, table, group)) {
            use.loose_bytes += group->stored_bytes;
            use.loose_groups++;
        }
    }
    for (size_t i = 0; i < entry->frame_count; i++)
        used_bytes += entry->frames[i].size_bytes;
    use.dead_bytes += base_max_u64(entry->size_bytes, used_bytes) - used_bytes;
    return use;
}

/* The end of a segment that nothing fills up: worth a squeeze only if it is a good part of it. */
#define LOOSE_PERCENT 20
/* Of a segment that was squeezed before: fewer loose groups are what could not be merged then. */
#define LOOSE_GROUPS_AGAIN 8

static int
sweep_segment(struct collector *collector, uint32_t id)
{
    struct store_segment_entry *entry = store_catalog_segment(collector->store->catalog, id);
    int err = store_segment_load(collector->store, entry);
    if (err != 0)
        return dor_fail_wrap("gc");
    struct segment_use use = measure_segment(collector, entry);
    uint64_t size_bytes = entry->size_bytes;
    bool loose = collector->gc->squeeze &&
                 use.loose_bytes * 100 >= LOOSE_PERCENT * size_bytes &&
                 (!entry->squeezed || use.loose_groups >= LOOSE_GROUPS_AGAIN);
    bool wasteful = use.dead_pages > 0 &&
                    (use.live_pages == 0 ||
                     use.dead_bytes * 100 >= collector->sweep.waste_percent * size_bytes);
    collector->result->live_pages += use.live_pages;
    collector->result->dead_pages += use.dead_pages;
    collector->done_bytes += size_bytes;
    if (!loose && !wasteful)
        return 0;
    collector->result->rewritten_segments++;
    collector->rewritten_bytes += size_bytes;
    return store_repack_segment(
        collector->store, id, loose ? &collector->squeeze : &collector->sweep);
}

/* True when the caller's limits say stop. */
static bool
must_stop(const struct collector *collector)
{
    const struct dor_gc *gc = collector->gc;
    if (gc->work_bytes_max != 0 && collector->rewritten_bytes >= gc->work_bytes_max)
        return true;
    return gc->progress != NULL &&
           gc->progress(gc->progress_context, collector->done_bytes, collector->total_bytes) !=
               0;
}

static int
sweep_stream(struct collector *collector, unsigned stream)
{
    struct store_segment_entry *first;
    size_t count =
        store_catalog_stream(collector->store->catalog, collector->domain, stream, &first);
    AUTO_FREE uint32_t *ids = base_array(count + 1, sizeof *ids);
    if (ids == NULL)
        return DOR_E_NO_MEMORY;
    for (size_t i = 0; i < count; i++)
        ids[i] = first[i].id;
    for (size_t i = 0; i < count; i++) {
        if (must_stop(collector)) {
            collector->result->complete = false;
            return 0;
        }
        int err = sweep_segment(collector, ids[i]);
        if (err != 0)
            return err;
    }
    return 0;
}

static int
sweep_domain(struct collector *collector)
{
    int err = mark_snapshots(collector);
    for (unsigned type = 0; type < DOR_REGION_TYPES && err == 0; type++) {
        unsigned first = type * STORE_STREAM_KINDS;
        err = sweep_stream(collector, first + STORE_STREAM_PATCH);
        if (err == 0)
            err = store_usage_mark_bases(
                &collector->live, collector->store, collector->domain, type, false, false);
        if (err == 0)
            err = store_usage_mark_bases(
                &collector->hot, collector->store, collector->domain, type, true, false);
        if (err == 0 && collector->result->complete)
            err = sweep_stream(collector, first + STORE_STREAM_RAW);
    }
    return err;
}

static int
collect_domain(struct collector *collector, uint32_t domain)
{
    collector->domain = domain;
    int err = collector->gc->cluster
                  ? store_cluster(collector->store, domain, collector->gc, collector->result)
                  : 0;
    if (err != 0 || !collector->result->complete)
        return err;
    err = store_usage_init(&collector->live, collector->store, domain);
    if (err != 0)
        return err;
    err = store_usage_init(&collector->hot, collector->store, domain);
    if (err == 0)
        err = sweep_domain(collector);
    store_usage_fini(&collector->live);
    store_usage_fini(&collector->hot);
    return err;
}

static void
set_packings(struct collector *collector)
{
    const struct store_options *options = &collector->store->options;
    collector->sweep.keep = &collector->live;
    collector->sweep.waste_percent = options->gc_waste_percent;
    store_packing_from_options(options, &collector->sweep.packing);
    collector->squeeze = collector->sweep;
    collector->squeeze.squeeze = true;
    collector->squeeze.hot = &collector->hot;
    struct store_packing *packing = &collector->squeeze.packing;
    for (unsigned type = 0; type < DOR_REGION_TYPES; type++)
        packing->group_pages[type] = options->squeeze_group_pages;
    packing->patch_group_bytes = options->squeeze_patch_group_bytes;
    packing->raw_level = (int)options->squeeze_level;
    packing->patch_level = (int)options->squeeze_level;
}

int
dor_store_gc(struct dor_store *store, const struct dor_gc *gc, struct dor_gc_result *ret)
{
    struct dor_gc_result result = {.complete = true};
    int err = store_require_writable(store);
    if (err != 0)
        return err;
    struct collector collector = {.store = store, .gc = gc, .result = &result};
    result.before_bytes = store_bytes(store->catalog);
    collector.total_bytes = result.before_bytes;
    set_packings(&collector);
    store_forget_indexes(store);
    for (uint32_t i = 0; i < store->catalog->domain_count && err == 0 && result.complete; i++)
        err = collect_domain(&collector, i);
    if (err != 0)
        return store_roll_back(store, err);
    result.after_bytes = store_bytes(store->catalog);
    *ret = result;
    return 0;
}
