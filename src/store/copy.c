/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy.c - moves a snapshot to another store by copying whole groups as they are stored.
 *
 * Pages get new serial numbers in the target; a map from old to new serves the bases of
 * patches and the recipe. A group the target has already (same pages by digest, same stored
 * bytes, compared) is not copied but mapped. Plain groups go first, so the bases are there
 * when the patches come.
 *
 * References to a root image stay references where the target has an image of the same content
 * that the domain may refer to; elsewhere their blocks become plain pages.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"
#include "store/root.h"
#include "store/root_absorb.h"
#include "store/snapshot.h"
#include "store/usage.h"
#include "store/working_set.h"
#include "store/writer.h"

struct mapping {
    uint64_t old_serial, new_serial;
};

struct copier {
    struct dor_store *source, *target;
    uint32_t source_domain, target_domain;
    struct store_usage needed; /* pages of the source */
    struct store_writer *writer;
    struct mapping *maps[STORE_STREAMS]; /* ascending by old serial */
    size_t map_counts[STORE_STREAMS];
    struct store_page_row *rows; /* of one group */
    uint8_t *other;              /* stored bytes of a target group */
    const uint64_t *first_new;   /* of the target, per stream */
    struct store_absorption absorption;
    struct dor_put_result result;
};

static uint64_t
map_serial(const struct copier *copier, unsigned stream, uint64_t old_serial)
{
    size_t low = 0;
    size_t high = copier->map_counts[stream];
    const struct mapping *map = copier->maps[stream];
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (map[middle].old_serial < old_serial)
            low = middle + 1;
        else
            high = middle;
    }
    dor_assert(low < copier->map_counts[stream] && map[low].old_serial == old_serial);
    return map[low].new_serial;
}

static int
add_mappings(
    struct copier *copier, unsigned stream, const struct store_table *table,
    const struct store_group *group, uint64_t new_serial)
{
    size_t count = copier->map_counts[stream];
    struct mapping *map =
        base_realloc_array(copier->maps[stream], count + group->page_count, sizeof *map);
    if (map == NULL)
        return DOR_E_NO_MEMORY;
    copier->maps[stream] = map;
    for (uint32_t i = 0; i < group->page_count; i++)
        map[count + i] =
            (struct mapping){table->serials[group->first_page + (uint64_t)i], new_serial + i};
    copier->map_counts[stream] += group->page_count;
    return 0;
}

/* ------------------------------------------------------------------ groups the target has */

static bool
same_slides(const struct chunk_slides *left, const struct chunk_slides *right)
{
    if (left == NULL || right == NULL)
        return left == right;
    return left->count == right->count &&
           memcmp(left->slide, right->slide, left->count * sizeof left->slide[0]) == 0;
}

/* Whether the target's page at AT begins a group equal to GROUP, bytes compared. */
static bool
is_same_group(
    struct copier *copier, const struct store_page_at *at, const struct store_segment *from,
    const struct store_group *group)
{
    const struct store_group *have = at->group;
    const struct store_table *table = at->segment->table;
    if (have->first_page != at->row || have->page_count != group->page_count ||
        have->stored_bytes != group->stored_bytes || have->digest != group->digest ||
        have->codec != group->codec)
        return false;
    for (uint32_t i = 0; i < group->page_count; i++)
        if (table->serials[have->first_page + (uint64_t)i] != table->serials[at->row] + i ||
            table->digests[have->first_page + (uint64_t)i] != copier->rows[i].digest ||
            (table->patches &&
             table->bases[have->first_page + (uint64_t)i] != copier->rows[i].base))
            return false;
    if (table->patches) {
        const struct chunk_slides *left =
            have->slides == 0 ? NULL : &table->slides[have->slides - 1];
        const struct chunk_slides *right =
            group->slides == 0 ? NULL : &from->table->slides[group->slides - 1];
        if (!same_slides(left, right))
            return false;
    }
    return base_file_pread(
               at->segment->fd, copier->other, have->stored_bytes, have->offset,
               at->segment->name) == 0 &&
           memcmp(copier->other, copier->source->stored, have->stored_bytes) == 0;
}

/* The target's serial number of the first page of an equal group, 0 when there is none. */
static int
find_group(
    struct copier *copier, unsigned stream, const struct store_segment *from,
    const struct store_group *group, uint64_t *ret)
{
    struct store_index *index;
    uint32_t references[STORE_INDEX_REFS_MAX * (CHUNK_FINGERPRINTS_MAX + 1)];
    const struct store_page_row *first = &copier->rows[0];
    bool patches = stream % STORE_STREAM_KINDS == STORE_STREAM_PATCH;
    *ret = 0;
    int err = store_index_of(
        copier->target, copier->target_domain, stream / STORE_STREAM_KINDS, &index);
    if (err != 0)
        return err;
    uint32_t digests[CHUNK_PAGES_MAX];
    unsigned pages = patches ? 1 : first->chunk_pages;
    for (unsigned i = 0; i < pages && i < group->page_count; i++)
        digests[i] = copier->rows[i].digest;
    unsigned count =
        pages == 0 || pages > group->page_count
            ? 0
            : store_index_find(index, store_index_exact_key(digests, pages), references);
    for (unsigned f = 0; f < first->fingerprint_count; f++)
        count += store_index_find(index, first->fingerprints[f], references + count);
    for (unsigned i = 0; i < count; i++) {
        struct store_page_at at;
        uint64_t serial = references[i] & STORE_INDEX_SERIAL_MAX;
        if (((references[i] & STORE_INDEX_PATCH) != 0) != patches ||
            store_locate(copier->target, copier->target_domain, stream, serial, &at) != 0 ||
            !is_same_group(copier, &at, from, group))
            continue;
        *ret = serial;
        return 0;
    }
    return 0;
}

/* ------------------------------------------------------------------ copying */

static void
take_rows(
    struct copier *copier, unsigned stream, const struct store_table *table,
    const struct store_group *group, const uint32_t *fingerprints)
{
    for (uint32_t i = 0; i < group->page_count; i++) {
        uint64_t row = group->first_page + (uint64_t)i;
        struct store_page_row *taken = &copier->rows[i];
        *taken = (struct store_page_row){
            .digest = table->digests[row], .offset = table->offsets[row]};
        if (table->patches) {
            taken->base = map_serial(
                copier, stream - STORE_STREAM_PATCH + STORE_STREAM_RAW, table->bases[row]);
            continue;
        }
        taken->chunk_pages = table->chunk_pages[row];
        taken->fingerprint_count = table->fingerprint_counts[row];
        taken->fingerprints = fingerprints;
        fingerprints += taken->fingerprint_count;
    }
}

static int
copy_group(
    struct copier *copier, unsigned stream, const struct store_segment *from,
    const struct store_group *group)
{
    uint64_t serial = 0;
    const struct store_table *table = from->table;
    int err = base_file_pread(
        from->fd, copier->source->stored, group->stored_bytes, group->offset, from->name);
    /* Verified on the way: a copy must not carry damage into a good store. */
    if (err == 0)
        err = store_group_verify(from, group, copier->source->stored);
    if (err == 0)
        err = find_group(copier, stream, from, group, &serial);
    if (err == 0 && serial == 0) {
        for (uint32_t i = 0; i < group->page_count; i++) {
            copier->rows[i].serial = store_writer_serial(copier->writer, stream);
            serial = i == 0 ? copier->rows[i].serial : serial;
        }
        err = store_writer_add_group(
            copier->writer, stream, group, copier->rows, copier->source->stored,
            group->slides == 0 ? NULL : &table->slides[group->slides - 1]);
    }
    return err != 0 ? err : add_mappings(copier, stream, table, group, serial);
}

static bool
group_is_needed(
    const struct copier *copier, unsigned stream, const struct store_table *table,
    const struct store_group *group)
{
    for (uint64_t i = group->first_page; i < group->first_page + (uint64_t)group->page_count;
         i++)
        if (store_usage_has(&copier->needed, stream, table->serials[i]))
            return true;
    return false;
}

typedef int group_fn(
    struct copier *copier, unsigned stream, const struct store_segment *from,
    const struct store_group *group);

/* Call VISIT with each needed group of STREAM, its rows taken when TAKE. */
static int
each_needed_group(struct copier *copier, unsigned stream, bool take, group_fn *visit)
{
    struct store_segment_entry *first;
    size_t count =
        store_catalog_stream(copier->source->catalog, copier->source_domain, stream, &first);
    for (size_t i = 0; i < count; i++) {
        int err = store_segment_load(copier->source, &first[i]);
        if (err != 0)
            return err;
        const struct store_segment *segment = first[i].loaded;
        const struct store_table *table = segment->table;
        const uint32_t *fingerprints = table->fingerprints;
        for (uint64_t g = 0; g < table->group_count && err == 0; g++) {
            const struct store_group *group = &table->groups[g];
            if (group_is_needed(copier, stream, table, group)) {
                if (take)
                    take_rows(copier, stream, table, group, fingerprints);
                err = visit(copier, stream, segment, group);
            }
            for (uint32_t p = 0; !table->patches && p < group->page_count; p++)
                fingerprints += table->fingerprint_counts[group->first_page + (uint64_t)p];
        }
        if (err != 0)
            return err;
    }
    return 0;
}

/* Whole groups are copied, so all bases of a needed group's patches are needed. */
static int
need_bases(
    struct copier *copier, unsigned stream, const struct store_segment *from,
    const struct store_group *group)
{
    for (uint64_t i = group->first_page; i < group->first_page + (uint64_t)group->page_count;
         i++)
        store_usage_mark(
            &copier->needed, stream - STORE_STREAM_PATCH + STORE_STREAM_RAW,
            from->table->bases[i]);
    return 0;
}

/* ------------------------------------------------------------------ references */

/* The id of the target's root image with the content of that of PLACE, 0 when it has none. */
static uint32_t
target_root(const struct copier *copier, uint64_t place)
{
    const struct store_catalog *target = copier->target->catalog;
    const struct store_root_entry *from =
        store_catalog_root(copier->source->catalog, store_place_root(place));
    for (size_t i = 0; i < target->root_count && from != NULL; i++) {
        const struct dor_root_info *info = &target->roots[i].info;
        if (info->digest == from->info.digest && info->size_bytes == from->info.size_bytes &&
            (info->domain[0] == 0 ||
             strcmp(info->domain, target->domains[copier->target_domain].name) == 0))
            return info->id;
    }
    return 0;
}

static bool
must_absorb(const void *context, uint64_t place)
{
    return target_root(context, place) == 0;
}

static int
absorb_blocks(struct copier *copier, const struct store_recipe *recipe)
{
    copier->absorption = (struct store_absorption){
        .source = copier->source,
        .target = copier->target,
        .target_domain = copier->target_domain,
        .writer = copier->writer,
        .first_new = copier->first_new};
    int err = store_absorption_note(&copier->absorption, recipe, must_absorb, copier);
    return err == 0 ? store_absorption_store(&copier->absorption) : err;
}

/* Where a page of a root image is in the target. */
static uint64_t
map_reference(const struct copier *copier, uint64_t place)
{
    uint64_t absorbed = store_absorption_place(&copier->absorption, place);
    return absorbed != 0 ? absorbed
                         : store_root_place(
                               store_place_type(place), target_root(copier, place),
                               store_place_block(place));
}

/* ------------------------------------------------------------------ all streams */

static int
copy_streams(struct copier *copier, const struct store_recipe *recipe)
{
    for (unsigned stream = 0; stream < STORE_STREAMS; stream += STORE_STREAM_KINDS) {
        int err = each_needed_group(copier, stream + STORE_STREAM_PATCH, false, need_bases);
        if (err == 0)
            err = each_needed_group(copier, stream + STORE_STREAM_RAW, true, copy_group);
        if (err == 0)
            err = each_needed_group(copier, stream + STORE_STREAM_PATCH, true, copy_group);
        if (err != 0)
            return err;
    }
    int err = absorb_blocks(copier, recipe);
    return err == 0 ? store_writer_finish(copier->writer) : err;
}

/* ------------------------------------------------------------------ the snapshot */

/*
 * New places for all pages; the put result counts mapped pages as exact where the target had
 * them.
 */
static int
map_recipe(struct copier *copier, struct store_recipe *recipe, const uint64_t *first_new)
{
    for (uint64_t i = 0; i < recipe->page_count; i++) {
        uint64_t place = recipe->places[i];
        struct dor_kind_bytes *bytes =
            &copier->result.by_region_type[store_recipe_page_type(recipe, i)];
        bytes->logical_bytes += DOR_PAGE_BYTES;
        if (store_place_kind(place) == DOR_PAGE_ZERO) {
            bytes->zero_bytes += DOR_PAGE_BYTES;
            continue;
        }
        place =
            store_place_is_reference(place)
                ? map_reference(copier, place)
                : store_stream_place(
                      store_place_stream(place),
                      map_serial(copier, store_place_stream(place), store_place_serial(place)));
        recipe->places[i] = place;
        if (store_place_is_reference(place))
            bytes->reference_bytes += DOR_PAGE_BYTES;
        else if (store_place_serial(place) < first_new[store_place_stream(place)])
            bytes->exact_bytes += DOR_PAGE_BYTES;
        else if (store_place_kind(place) == DOR_PAGE_PATCHED)
            bytes->patched_bytes += DOR_PAGE_BYTES;
        else
            bytes->raw_bytes += DOR_PAGE_BYTES;
    }
    for (unsigned type = 0; type < DOR_REGION_TYPES; type++) {
        struct dor_kind_bytes *bytes = &copier->result.by_region_type[type];
        unsigned stream = type * STORE_STREAM_KINDS;
        bytes->raw_stored_bytes = store_writer_bytes(copier->writer, stream + STORE_STREAM_RAW);
        bytes->patched_stored_bytes =
            store_writer_bytes(copier->writer, stream + STORE_STREAM_PATCH);
        copier->result.added_bytes += bytes->raw_stored_bytes + bytes->patched_stored_bytes;
        store_kind_bytes_add(&copier->result.total, bytes);
    }
    return 0;
}

static int
commit(
    struct copier *copier, const char *target_name, const struct dor_snapshot_info *info,
    const struct store_recipe *recipe, const struct store_sidecars *sidecars)
{
    struct store_catalog *catalog = copier->target->catalog;
    struct store_snapshot_entry entry = {.domain = copier->target_domain, .info = *info};
    AUTO_BUF struct base_buf file = {0};
    memset(entry.info.name, 0, sizeof entry.info.name);
    memcpy(entry.info.name, target_name, strlen(target_name));
    memset(entry.info.parent, 0, sizeof entry.info.parent);
    entry.info.id = catalog->next_snapshot_id++;
    entry.info.created_ns = base_clock_realtime_ns();
    memcpy(
        copier->result.pages_by_class, info->put.pages_by_class,
        sizeof copier->result.pages_by_class);
    copier->result.dropped_bytes = info->put.dropped_bytes;
    entry.info.put = copier->result;
    int err = store_recipe_encode(
        &entry, recipe, sidecars->list, sidecars->count, catalog->uuid, &file);
    if (err != 0)
        return err;
    copier->result.added_bytes += file.size_bytes;
    entry.info.put.added_bytes = copier->result.added_bytes;
    entry.info.recipe_bytes = file.size_bytes;
    struct store_set_key old =
        store_working_set_key(copier->source, info->id, recipe->page_count);
    struct store_set_key new =
        store_working_set_key(copier->target, entry.info.id, recipe->page_count);
    store_working_set_carry(&old, &new);
    return store_snapshot_commit(copier->target, &entry, &file);
}

static int
copier_run(
    struct copier *copier, const struct store_snapshot_entry *from, const char *target_name)
{
    struct store_recipe recipe = {0};
    struct store_sidecars sidecars = {0};
    struct store_packing packing;
    uint64_t first_new[STORE_STREAMS];
    store_packing_from_options(&copier->target->options, &packing);
    copier->rows = base_array(STORE_GROUP_PAGES_MAX, sizeof *copier->rows);
    copier->other = base_alloc(STORE_GROUP_BYTES_MAX);
    int err = copier->rows == NULL || copier->other == NULL ? DOR_E_NO_MEMORY : 0;
    if (err == 0)
        err = store_catalog_domain(
            copier->target->catalog, from->info.domain, true, &copier->target_domain);
    if (err == 0)
        err =
            store_writer_new(copier->target, copier->target_domain, &packing, &copier->writer);
    if (err == 0)
        err = store_usage_init(&copier->needed, copier->source, copier->source_domain);
    if (err == 0)
        err = store_sidecars_read(copier->source, from, &sidecars);
    if (err == 0)
        err = store_snapshot_read_recipe(copier->source, from, &recipe);
    if (err == 0) {
        memcpy(
            first_new, copier->target->catalog->domains[copier->target_domain].next_serial,
            sizeof first_new);
        copier->first_new = first_new;
        store_usage_mark_recipe(&copier->needed, &recipe);
        err = copy_streams(copier, &recipe);
    }
    if (err == 0)
        err = map_recipe(copier, &recipe, first_new);
    if (err == 0)
        err = commit(copier, target_name, &from->info, &recipe, &sidecars);
    store_sidecars_fini(&sidecars);
    store_recipe_fini(&recipe);
    return err;
}

int
dor_store_copy(
    struct dor_store *source, const char *name, struct dor_store *target,
    const char *target_name, struct dor_put_result *ret)
{
    int err = store_require_writable(target);
    if (err == 0)
        err = dor_name_check(target_name);
    if (err != 0)
        return err;
    const struct store_snapshot_entry *from = store_catalog_snapshot(source->catalog, name);
    if (from == NULL)
        return dor_fail(DOR_E_NOT_FOUND, "no snapshot %s", name);
    if (memcmp(source->catalog->uuid, target->catalog->uuid, 16) == 0)
        return dor_fail(DOR_E_USAGE, "source and target are the same store");
    if (store_catalog_snapshot(target->catalog, target_name) != NULL)
        return dor_fail(DOR_E_EXISTS, "snapshot %s exists in the target", target_name);
    struct copier copier = {.source = source, .target = target, .source_domain = from->domain};
    err = copier_run(&copier, from, target_name);
    if (err == 0)
        *ret = copier.result;
    store_writer_free(copier.writer);
    store_usage_fini(&copier.needed);
    store_absorption_fini(&copier.absorption);
    for (unsigned i = 0; i < STORE_STREAMS; i++)
        base_free(copier.maps[i]);
    base_free(copier.rows);
    base_free(copier.other);
    /* What was added is in no index of the target's yet. */
    store_forget_indexes(target);
    return err == 0 ? 0 : store_roll_back(target, err);
}
