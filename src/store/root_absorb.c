/* SPDX-License-Identifier: Apache-2.0 */
/*
 * root_absorb.c - blocks of root images become plain pages.
 *
 * Blocks are stored once in each domain and region type that refers to them, in the image's order,
 * so that neighbours share groups. An equal page that the target has is taken instead. For a
 * removal every snapshot that refers to the image gets a new file with a new id: files are written
 * once. The one catalog that follows names all of the new files, and not the image; before it is
 * saved the store is as it was.
 */
#include "store/root_absorb.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"
#include "base/sort.h"
#include "chunk/digest.h"
#include "chunk/fingerprint.h"
#include "store/fetch.h"
#include "store/root.h"
#include "store/snapshot.h"
#include "store/store_priv.h"
#include "store/working_set.h"

void
store_absorption_fini(struct store_absorption *absorption)
{
    base_free(absorption->references);
    base_free(absorption->places);
    absorption->references = NULL;
    absorption->places = NULL;
    absorption->count = absorption->cap = 0;
}

int
store_absorption_note(
    struct store_absorption *absorption, const struct store_recipe *recipe,
    bool (*wanted)(const void *context, uint64_t place), const void *context)
{
    for (uint64_t i = 0; i < recipe->page_count; i++) {
        uint64_t place = recipe->places[i];
        if (!store_place_is_reference(place) || !wanted(context, place))
            continue;
        if (absorption->count == absorption->cap) {
            size_t cap = absorption->cap * 2 + 1024;
            uint64_t *grown = base_realloc_array(absorption->references, cap, sizeof *grown);
            if (grown == NULL)
                return DOR_E_NO_MEMORY;
            absorption->references = grown;
            absorption->cap = cap;
        }
        absorption->references[absorption->count++] = place;
    }
    return 0;
}

static int
by_place(const void *left, const void *right)
{
    uint64_t l = *(const uint64_t *)left;
    uint64_t r = *(const uint64_t *)right;
    return (l > r) - (l < r);
}

/* Whether REFERENCE is a page that can be fetched and has ROW's digest; RET is its place. */
static bool
may_be_equal(
    const struct store_absorption *absorption, unsigned type, uint32_t reference,
    const struct store_page_row *row, uint64_t *ret)
{
    struct store_page_at at;
    unsigned kind = (reference & STORE_INDEX_PATCH) != 0 ? DOR_PAGE_PATCHED : DOR_PAGE_RAW;
    uint64_t serial = reference & STORE_INDEX_SERIAL_MAX;
    *ret = store_place(kind, type, serial);
    unsigned stream = store_place_stream(*ret);
    return serial < absorption->first_new[stream] &&
           store_locate(absorption->target, absorption->target_domain, stream, serial, &at) ==
               0 &&
           at.segment->table->digests[at.row] == row->digest;
}

/* A stored page of the target equal to BYTES, by its digest and then all bytes; or 0. */
static int
find_equal(
    struct store_absorption *absorption, unsigned type, const uint8_t *bytes,
    const struct store_page_row *row, uint64_t *ret)
{
    uint32_t references[STORE_INDEX_REFS_MAX * (CHUNK_FINGERPRINTS_MAX + 1)];
    uint8_t page[DOR_PAGE_BYTES];
    struct store_index *index;
    *ret = 0;
    int err = store_index_of(absorption->target, absorption->target_domain, type, &index);
    if (err != 0)
        return err;
    unsigned count =
        store_index_find(index, store_index_exact_key(&row->digest, 1), references);
    for (unsigned i = 0; i < row->fingerprint_count; i++)
        count += store_index_find(index, row->fingerprints[i], references + count);
    for (unsigned i = 0; i < count; i++) {
        uint64_t place;
        if (!may_be_equal(absorption, type, references[i], row, &place))
            continue;
        err = store_fetch_page(absorption->target, absorption->target_domain, place, page);
        if (err == DOR_E_NO_MEMORY)
            return err;
        if (err == 0 && memcmp(page, bytes, DOR_PAGE_BYTES) == 0) {
            *ret = place;
            return 0;
        }
    }
    return 0;
}

static int
store_page(struct store_absorption *absorption, size_t at, const uint8_t *bytes)
{
    const struct store_options *options = &absorption->target->options;
    unsigned type = store_place_type(absorption->references[at]);
    unsigned stream = type * STORE_STREAM_KINDS + STORE_STREAM_RAW;
    uint32_t fingerprints[CHUNK_FINGERPRINTS_MAX];
    struct store_page_row row = {
        .digest = chunk_page_digest(chunk_digest(bytes, DOR_PAGE_BYTES)),
        .chunk_pages = 1,
        .fingerprints = fingerprints};
    if (options->similarity)
        row.fingerprint_count = (uint8_t)chunk_fingerprint(
            absorption->target->fingerprint_scratch, bytes, 1, options->normalise,
            (unsigned)options->fingerprints, fingerprints);
    int err = find_equal(absorption, type, bytes, &row, &absorption->places[at]);
    if (err != 0 || absorption->places[at] != 0)
        return err;
    row.serial = store_writer_serial(absorption->writer, stream);
    absorption->places[at] = store_stream_place(stream, row.serial);
    return store_writer_add(absorption->writer, stream, &row, bytes, DOR_PAGE_BYTES, NULL);
}

static int
visit_block(void *context, uint64_t tag, uint64_t place, const uint8_t *block)
{
    (void)place;
    return block == NULL ? base_err_record()->code : store_page(context, tag, block);
}

int
store_absorption_store(struct store_absorption *absorption)
{
    size_t unique = 0;
    if (absorption->count == 0)
        return 0;
    qsort(absorption->references, absorption->count, sizeof *absorption->references, by_place);
    for (size_t i = 0; i < absorption->count; i++)
        if (i == 0 || absorption->references[i] != absorption->references[i - 1])
            absorption->references[unique++] = absorption->references[i];
    absorption->count = unique;
    absorption->places = base_array(unique, sizeof *absorption->places);
    AUTO_FREE struct store_fetch_item *items = base_array(unique, sizeof *items);
    if (absorption->places == NULL || items == NULL)
        return DOR_E_NO_MEMORY;
    for (size_t i = 0; i < unique; i++)
        items[i] = (struct store_fetch_item){absorption->references[i], i};
    return store_root_fetch(absorption->source, items, unique, visit_block, absorption);
}

uint64_t
store_absorption_place(const struct store_absorption *absorption, uint64_t reference)
{
    const uint64_t *found = absorption->count == 0
                                ? NULL
                                : bsearch(
                                      &reference, absorption->references, absorption->count,
                                      sizeof reference, by_place);
    return found == NULL ? 0 : absorption->places[found - absorption->references];
}

/* ------------------------------------------------------------------ removal */

/* A file that the catalog will no longer name. */
struct removal {
    struct dor_store *store;
    uint32_t id;
    uint64_t *old_ids; /* of snapshots' files */
    size_t old_count;
};

static bool
is_of_root(const void *context, uint64_t place)
{
    return store_place_root(place) == *(const uint32_t *)context;
}

/* Whether any place of RECIPE was changed; counts move from references to plain pages. */
static bool
change_places(
    const struct store_absorption *absorption, struct store_recipe *recipe,
    struct dor_put_result *result)
{
    bool changed = false;
    for (uint64_t i = 0; i < recipe->page_count; i++) {
        uint64_t place = recipe->places[i];
        uint64_t moved =
            store_place_is_reference(place) ? store_absorption_place(absorption, place) : 0;
        if (moved == 0)
            continue;
        struct dor_kind_bytes *bytes = &result->by_region_type[store_place_type(place)];
        recipe->places[i] = moved;
        bytes->reference_bytes -= base_min_u64(bytes->reference_bytes, DOR_PAGE_BYTES);
        bytes->raw_bytes += DOR_PAGE_BYTES;
        changed = true;
    }
    memset(&result->total, 0, sizeof result->total);
    for (unsigned type = 0; type < DOR_REGION_TYPES; type++)
        store_kind_bytes_add(&result->total, &result->by_region_type[type]);
    return changed;
}

/* A new file for ENTRY with PLACES; the entry names it from now on. */
static int
write_snapshot(
    struct removal *removal, struct store_snapshot_entry *entry,
    const struct store_recipe *recipe)
{
    struct dor_store *store = removal->store;
    struct store_sidecars sidecars = {0};
    AUTO_BUF struct base_buf file = {0};
    char name[STORE_FILE_NAME_BYTES];
    uint64_t old_id = entry->info.id;
    uint64_t *old_ids =
        base_realloc_array(removal->old_ids, removal->old_count + 1, sizeof *old_ids);
    if (old_ids == NULL)
        return DOR_E_NO_MEMORY;
    removal->old_ids = old_ids;
    int err = store_sidecars_read(store, entry, &sidecars);
    if (err == 0) {
        old_ids[removal->old_count++] = old_id;
        entry->info.id = store->catalog->next_snapshot_id++;
        /* In a file, what the put added is without the file itself. */
        uint64_t *added_bytes = &entry->info.put.added_bytes;
        *added_bytes -= base_min_u64(*added_bytes, entry->info.recipe_bytes);
        err = store_recipe_encode(
            entry, recipe, sidecars.list, sidecars.count, store->catalog->uuid, &file);
    }
    store_sidecars_fini(&sidecars);
    if (err != 0)
        return err;
    entry->info.recipe_bytes = file.size_bytes;
    entry->info.put.added_bytes += file.size_bytes;
    store_snapshot_file_name(entry->info.id, name);
    struct store_set_key old = store_working_set_key(store, old_id, recipe->page_count);
    struct store_set_key new = store_working_set_key(store, entry->info.id, recipe->page_count);
    store_working_set_carry(&old, &new);
    return store_write_file(store, name, &file);
}

static int
rewrite_snapshots(
    struct removal *removal, uint32_t domain, const struct store_absorption *absorption)
{
    struct store_catalog *catalog = removal->store->catalog;
    for (size_t i = 0; i < catalog->snapshot_count; i++) {
        struct store_snapshot_entry *entry = &catalog->snapshots[i];
        struct store_recipe recipe = {0};
        if (entry->domain != domain)
            continue;
        int err = store_snapshot_read_recipe(removal->store, entry, &recipe);
        if (err == 0 && change_places(absorption, &recipe, &entry->info.put))
            err = write_snapshot(removal, entry, &recipe);
        store_recipe_fini(&recipe);
        if (err != 0)
            return err;
    }
    return 0;
}

static int
note_domain(struct removal *removal, uint32_t domain, struct store_absorption *absorption)
{
    const struct store_catalog *catalog = removal->store->catalog;
    for (size_t i = 0; i < catalog->snapshot_count; i++) {
        const struct store_snapshot_entry *entry = &catalog->snapshots[i];
        struct store_recipe recipe = {0};
        if (entry->domain != domain)
            continue;
        int err = store_snapshot_read_recipe(removal->store, entry, &recipe);
        if (err == 0)
            err = store_absorption_note(absorption, &recipe, is_of_root, &removal->id);
        store_recipe_fini(&recipe);
        if (err != 0)
            return dor_fail_wrap("root rm needs every recipe; snapshot %s", entry->info.name);
    }
    return 0;
}

static int
absorb_domain(struct removal *removal, uint32_t domain)
{
    struct dor_store *store = removal->store;
    struct store_packing packing;
    uint64_t first_new[STORE_STREAMS];
    struct store_absorption absorption = {
        .source = store, .target = store, .target_domain = domain, .first_new = first_new};
    memcpy(first_new, store->catalog->domains[domain].next_serial, sizeof first_new);
    store_packing_from_options(&store->options, &packing);
    int err = note_domain(removal, domain, &absorption);
    if (err == 0 && absorption.count > 0) {
        err = store_writer_new(store, domain, &packing, &absorption.writer);
        if (err == 0)
            err = store_absorption_store(&absorption);
        if (err == 0)
            err = store_writer_finish(absorption.writer);
        if (err == 0)
            err = rewrite_snapshots(removal, domain, &absorption);
    }
    store_writer_free(absorption.writer);
    store_absorption_fini(&absorption);
    return err;
}

int
store_root_absorb(struct dor_store *store, uint32_t id)
{
    struct removal removal = {.store = store, .id = id};
    char name[STORE_FILE_NAME_BYTES];
    int err = 0;
    for (uint32_t i = 0; i < store->catalog->domain_count && err == 0; i++)
        err = absorb_domain(&removal, i);
    if (err == 0) {
        store_catalog_root_remove(store->catalog, id);
        err = store_catalog_save(store->medium, store->catalog);
    }
    for (size_t i = 0; i < removal.old_count && err == 0; i++)
        store_snapshot_remove_files(store, removal.old_ids[i]);
    if (err == 0) {
        store_root_file_name(id, name);
        store_remove_file(store, name);
    }
    base_free(removal.old_ids);
    /* What was added is in no index yet. */
    store_forget_indexes(store);
    return err == 0 ? 0 : store_roll_back(store, err);
}
