/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repack.c - rewriting a segment. Groups that are mostly wanted are copied as they are; others
 * are decoded and their wanted pages packed into new groups.
 *
 * Order: the new file is written and synced, the catalog saved with it in the old one's stead,
 * then the old file removed. Killed before the save: the new file is a leftover; after: the
 * old one is. A damaged file that is to be kept has its second name from the start, so that it
 * is never just a leftover.
 */
#include "store/repack.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/size.h"

struct repacker {
    struct dor_store *store;
    const struct store_repack *repack;
    struct store_segment *old;
    unsigned stream;
    struct store_writer *writer;
    struct store_page_row *rows; /* of one group */
    uint64_t fingerprint; /* index of the next row's first fingerprint in the old table */
};

/* Rows of GROUP as they are in the old table. */
static void
take_rows(struct repacker *repacker, const struct store_group *group)
{
    const struct store_table *table = repacker->old->table;
    for (uint32_t i = 0; i < group->page_count; i++) {
        uint64_t row = group->first_page + (uint64_t)i;
        struct store_page_row *taken = &repacker->rows[i];
        *taken = (struct store_page_row){
            .serial = table->serials[row],
            .digest = table->digests[row],
            .offset = table->offsets[row]};
        if (table->patches) {
            const struct store_repack *repack = repacker->repack;
            taken->base = table->bases[row];
            if (repack->move_base != NULL)
                taken->base =
                    repack->move_base(repack->move_context, repacker->stream, taken->base);
            continue;
        }
        taken->chunk_pages = table->chunk_pages[row];
        taken->fingerprint_count = table->fingerprint_counts[row];
        taken->fingerprints = table->fingerprints + repacker->fingerprint;
        repacker->fingerprint += taken->fingerprint_count;
    }
}

static unsigned
count_marked(
    const struct repacker *repacker, const struct store_group *group,
    const struct store_usage *usage)
{
    unsigned count = 0;
    for (uint32_t i = 0; i < group->page_count; i++)
        count += store_usage_has(
            usage, repacker->stream,
            repacker->old->table->serials[group->first_page + (uint64_t)i]);
    return count;
}

static const struct chunk_slides *
slides_of(const struct repacker *repacker, const struct store_group *group)
{
    return group->slides == 0 ? NULL : &repacker->old->table->slides[group->slides - 1];
}

static int
copy_group(struct repacker *repacker, const struct store_group *group)
{
    uint8_t *stored = repacker->store->stored;
    int err = base_file_pread(
        repacker->old->fd, stored, group->stored_bytes, group->offset, repacker->old->name);
    if (err == 0)
        err = store_group_verify(repacker->old, group, stored);
    return err != 0 ? err
                    : store_writer_add_group(
                          repacker->writer, repacker->stream, group, repacker->rows, stored,
                          slides_of(repacker, group));
}

static int
pack_group(struct repacker *repacker, const struct store_group *group)
{
    struct dor_store *store = repacker->store;
    const struct store_table *table = repacker->old->table;
    int err =
        store_segment_read_group(store, repacker->old, group, store->stored, store->plain);
    bool whole = err == 0 && store_group_verify(repacker->old, group, store->stored) == 0;
    if (err == 0 && !whole && repacker->repack->pack == NULL)
        return dor_fail_wrap(
            "repack"); /* only repair, which has looked at each page, goes on */
    for (uint32_t i = 0; i < group->page_count && err == 0; i++) {
        const struct store_page_row *row = &repacker->rows[i];
        uint64_t index = group->first_page + (uint64_t)i;
        if (store_usage_has(repacker->repack->keep, repacker->stream, row->serial))
            err = store_writer_add(
                repacker->writer, repacker->stream, row, store->plain + table->offsets[index],
                store_table_page_bytes(table, group, index), slides_of(repacker, group));
    }
    return err;
}

static int
repack_groups(struct repacker *repacker)
{
    const struct store_repack *repack = repacker->repack;
    const struct store_table *table = repacker->old->table;
    for (uint64_t g = 0; g < table->group_count; g++) {
        const struct store_group *group = &table->groups[g];
        unsigned kept = count_marked(repacker, group, repack->keep);
        take_rows(repacker, group);
        if (kept == 0)
            continue;
        bool hot = repack->hot != NULL && count_marked(repacker, group, repack->hot) > 0;
        unsigned dead = group->page_count - kept;
        bool pack = repack->pack != NULL && count_marked(repacker, group, repack->pack) > 0;
        bool wasteful =
            dead > 0 && dead * UINT64_C(100) >= repack->waste_percent * group->page_count;
        int err = pack || wasteful || (repack->squeeze && !hot) ? pack_group(repacker, group)
                                                                : copy_group(repacker, group);
        if (err != 0)
            return err;
    }
    return store_writer_finish(repacker->writer);
}

static bool
keeps_any(const struct repacker *repacker)
{
    const struct store_table *table = repacker->old->table;
    for (uint64_t i = 0; i < table->page_count; i++)
        if (store_usage_has(repacker->repack->keep, repacker->stream, table->serials[i]))
            return true;
    return false;
}

/* The catalog's entry goes, the open segment stays with us. */
static int
replace_entry(struct repacker *repacker, uint32_t id)
{
    struct dor_store *store = repacker->store;
    struct store_segment_entry *entry = store_catalog_segment(store->catalog, id);
    uint64_t first_serial = entry->first_serial;
    uint32_t domain = entry->domain;
    entry->loaded = NULL;
    store_catalog_segment_remove(store->catalog, id);
    if (!keeps_any(repacker))
        return 0;
    int err = store_writer_new(store, domain, &repacker->repack->packing, &repacker->writer);
    if (err == 0)
        err = store_writer_fresh(repacker->writer, repacker->stream, first_serial);
    if (err == 0)
        err = repack_groups(repacker);
    if (err == 0 && repacker->repack->squeeze)
        store_catalog_segment(
            store->catalog, store_writer_segment_id(repacker->writer, repacker->stream))
            ->squeezed = true;
    return err != 0 ? err : store_medium_sync(store->medium);
}

/* The file's second name; a repair that was killed may have given it already. */
static int
keep_old(const struct repacker *repacker)
{
    char aside[STORE_FILE_NAME_BYTES + 4];
    snprintf(aside, sizeof aside, "bad.%s", repacker->old->name);
    int err = store_medium_link(repacker->store->medium, repacker->old->name, aside);
    return err == DOR_E_EXISTS ? 0 : err;
}

int
store_repack_segment(struct dor_store *store, uint32_t id, const struct store_repack *repack)
{
    struct store_segment_entry *entry = store_catalog_segment(store->catalog, id);
    dor_assert(entry != NULL);
    int err = store_segment_load(store, entry);
    if (err != 0)
        return err;
    struct repacker repacker = {
        .store = store, .repack = repack, .old = entry->loaded, .stream = entry->stream};
    err = repack->keep_old ? keep_old(&repacker) : 0;
    if (err != 0)
        return err;
    repacker.rows = base_array(STORE_GROUP_PAGES_MAX, sizeof *repacker.rows);
    if (repacker.rows == NULL)
        return DOR_E_NO_MEMORY;
    err = replace_entry(&repacker, id);
    if (err == 0)
        err = store_catalog_save(store->medium, store->catalog);
    if (err == 0 && store_medium_unlink(store->medium, repacker.old->name) != 0)
        dor_log(
            WARN, "store", "leftover", "file=%s error=\"%s\"", repacker.old->name,
            dor_err_message());
    store_writer_free(repacker.writer);
    store_segment_close(repacker.old);
    base_free(repacker.rows);
    return err;
}
