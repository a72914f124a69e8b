/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check.c - reads and verifies everything a store holds, and repairs what can be.
 *
 * Per domain: every segment's header, frames and groups; every plain page against its digest;
 * every patch applied to its base and checked; then every snapshot: recipe, sidecars, and that
 * each page it names is there and good. Bad pages are bits in a usage map, so what a damaged
 * group means for snapshots is known by name.
 *
 * Repair moves damaged snapshot files aside ("bad.<file>") and drops them from the catalog,
 * writes segments anew without their bad pages, and moves segments aside that cannot be read
 * at all. It never changes a good page, and keeps the old file of whatever it writes anew.
 *
 * Root images: what is wrong with them is told, but repair takes no snapshot away for it, since an
 * image may come back. A root file that is damaged is made anew from an image that is as it was.
 *
 * A file is moved aside before the catalog forgets it: the other way round a repair that is
 * killed in between leaves a file without an owner, which the next writer removes.
 */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"
#include "chunk/digest.h"
#include "store/fetch.h"
#include "store/rebuild.h"
#include "store/repack.h"
#include "store/root.h"
#include "store/snapshot.h"
#include "store/working_set.h"

#define BATCH_PAGES 65536

/* What is known of a root image's blocks. */
enum { BLOCK_UNKNOWN = 0, BLOCK_GOOD, BLOCK_BAD };
struct root_check {
    uint32_t id;
    uint64_t block_count;
    uint8_t *blocks; /* NULL when the image cannot be used */
};

struct checker {
    struct dor_store *store;
    const struct dor_check *check;
    struct dor_check_result *result;
    uint32_t domain;
    struct store_usage good;     /* pages that are there and verified */
    struct store_usage bad;      /* pages that are there and damaged */
    struct store_usage doubtful; /* pages of groups with a bad checksum, good or not */
    struct root_check *roots;
    size_t root_count;
    bool lacks_roots;   /* the snapshot looked at is damaged by root images only */
    bool roots_unknown; /* and some are not registered, so that nothing can bring them back */
    uint64_t done_bytes, total_bytes;
    bool stopped;
};

static void
report(struct checker *checker, const char *file, const char *detail, const char *snapshot)
{
    struct dor_finding finding = {.file = file, .detail = detail, .snapshot = snapshot};
    checker->result->findings++;
    if (checker->check->report != NULL)
        checker->check->report(checker->check->report_context, &finding);
}

static int
report_progress(struct checker *checker, uint64_t bytes)
{
    const struct dor_check *check = checker->check;
    checker->done_bytes += bytes;
    if (check->progress != NULL &&
        check->progress(check->progress_context, checker->done_bytes, checker->total_bytes) !=
            0)
        return dor_fail(DOR_E_BUSY, "check was stopped");
    return 0;
}

/*
 * Errors that are about the store's bytes become findings; the others end the check. An I/O
 * error may be a passing one, so repair changes nothing on the ground of it.
 */
static bool
is_finding(const struct checker *checker, int err)
{
    return err == DOR_E_CORRUPT || err == DOR_E_UNSUPPORTED || err == DOR_E_NOT_FOUND ||
           (err == DOR_E_IO && !checker->check->repair);
}

/* ------------------------------------------------------------------ segments */

static void
mark_group(
    unsigned stream, const struct store_table *table, const struct store_group *group,
    struct store_usage *usage)
{
    for (uint64_t i = group->first_page; i < group->first_page + (uint64_t)group->page_count;
         i++)
        store_usage_mark(usage, stream, table->serials[i]);
}

/* A plain group: its digest, then each page's. */
static void
check_raw_pages(
    struct checker *checker, const struct store_segment_entry *entry,
    const struct store_group *group)
{
    const struct store_table *table = entry->loaded->table;
    for (uint64_t i = group->first_page; i < group->first_page + (uint64_t)group->page_count;
         i++) {
        uint64_t digest =
            chunk_digest(checker->store->plain + table->offsets[i], DOR_PAGE_BYTES);
        bool good = chunk_page_digest(digest) == table->digests[i];
        store_usage_mark(
            good ? &checker->good : &checker->bad, entry->stream, table->serials[i]);
        if (!good)
            report(checker, entry->loaded->name, "a page does not match its digest", NULL);
    }
}

static int
check_group(
    struct checker *checker, const struct store_segment_entry *entry,
    const struct store_group *group)
{
    struct dor_store *store = checker->store;
    const struct store_table *table = entry->loaded->table;
    int err =
        store_segment_read_group(store, entry->loaded, group, store->stored, store->plain);
    checker->result->groups++;
    checker->result->pages += group->page_count;
    checker->result->bytes += group->stored_bytes;
    if (err != 0 && !is_finding(checker, err))
        return err;
    if (err != 0) {
        report(checker, entry->loaded->name, dor_err_message(), NULL);
        mark_group(entry->stream, table, group, &checker->bad);
        return report_progress(checker, group->stored_bytes);
    }
    /* A group that decodes may hold good pages all the same: each is judged by its own digest. */
    if (store_group_verify(entry->loaded, group, store->stored) != 0) {
        report(checker, entry->loaded->name, dor_err_message(), NULL);
        mark_group(entry->stream, table, group, &checker->doubtful);
    }
    if (!table->patches)
        check_raw_pages(checker, entry, group);
    return report_progress(checker, group->stored_bytes);
}

/* A patched page that was made and matches its digest; NULL when it could not be. */
static int
visit_patched(void *context, uint64_t tag, uint64_t place, const uint8_t *page)
{
    struct checker *checker = context;
    (void)tag;
    unsigned stream = store_place_stream(place);
    uint64_t serial = store_place_serial(place);
    if (page != NULL) {
        store_usage_mark(&checker->good, stream, serial);
        return 0;
    }
    int err = base_err_record()->code;
    if (!is_finding(checker, err))
        return err;
    /* A bad group or base was reported already; one line for each of its pages helps nobody. */
    store_usage_mark(&checker->bad, stream, serial);
    return 0;
}

/*
 * Whether the base of patch ROW is damaged. The patch may happen to replace just what is damaged,
 * but a repair keeps no bases whose digests are wrong.
 */
static bool
has_bad_base(
    const struct checker *checker, const struct store_segment_entry *entry, uint64_t row)
{
    return store_usage_has(
        &checker->bad, entry->stream - STORE_STREAM_PATCH + STORE_STREAM_RAW,
        entry->loaded->table->bases[row]);
}

static int
check_patches(struct checker *checker, const struct store_segment_entry *entry)
{
    const struct store_table *table = entry->loaded->table;
    unsigned stream = entry->stream;
    AUTO_FREE struct store_fetch_item *items =
        base_array(base_min_u64(table->page_count, BATCH_PAGES) + 1, sizeof *items);
    if (items == NULL)
        return DOR_E_NO_MEMORY;
    for (uint64_t row = 0; row < table->page_count;) {
        size_t count = 0;
        for (; row < table->page_count && count < BATCH_PAGES; row++) {
            if (has_bad_base(checker, entry, row))
                store_usage_mark(&checker->bad, stream, table->serials[row]);
            if (!store_usage_has(&checker->bad, stream, table->serials[row]))
                items[count++] = (struct store_fetch_item){
                    store_stream_place(stream, table->serials[row]), row};
        }
        int err =
            store_fetch(checker->store, checker->domain, items, count, visit_patched, checker);
        if (err != 0)
            return err;
    }
    return 0;
}

static int
check_segment(struct checker *checker, struct store_segment_entry *entry)
{
    char name[STORE_FILE_NAME_BYTES];
    int err = store_segment_load(checker->store, entry);
    if (err != 0 && !is_finding(checker, err))
        return err;
    if (err != 0) {
        store_segment_file_name(entry->id, name);
        report(checker, name, dor_err_message(), NULL);
        return 0;
    }
    const struct store_table *table = entry->loaded->table;
    for (uint64_t g = 0; g < table->group_count; g++) {
        err = check_group(checker, entry, &table->groups[g]);
        if (err != 0)
            return err;
    }
    return table->patches ? check_patches(checker, entry) : 0;
}

static int
check_segments(struct checker *checker)
{
    /* Plain pages come before the patches that need them: streams are ordered so. */
    for (unsigned stream = 0; stream < STORE_STREAMS; stream++) {
        struct store_segment_entry *first;
        size_t count =
            store_catalog_stream(checker->store->catalog, checker->domain, stream, &first);
        for (size_t i = 0; i < count; i++) {
            int err = check_segment(checker, &first[i]);
            if (err != 0)
                return err;
        }
    }
    return 0;
}

/* ------------------------------------------------------------------ root images */

/* 0 when the error that is recorded was told of ENTRY's root file. */
static int
tell_root(struct checker *checker, const struct store_root_entry *entry, int err)
{
    char name[STORE_FILE_NAME_BYTES];
    /* Also what the system says of an image: the store itself is fine then. */
    if (err == DOR_E_NO_MEMORY || (err == DOR_E_IO && checker->check->repair))
        return err;
    store_root_file_name(entry->info.id, name);
    report(checker, name, dor_err_message(), NULL);
    return 0;
}

static int
open_root(struct checker *checker, struct store_root_entry *entry, struct root_check *root)
{
    int err = store_root_load(checker->store, entry);
    if (err != 0) {
        err = tell_root(checker, entry, err);
        if (err == 0 && checker->check->repair)
            err = store_root_remake(checker->store, entry);
        if (err == DOR_E_NO_MEMORY || err == DOR_E_IO || err == DOR_E_NO_SPACE)
            return err;
        if (err != 0 || !checker->check->repair)
            return 0;
    }
    err = store_root_open(checker->store, entry);
    if (err != 0)
        return tell_root(checker, entry, err);
    root->block_count = entry->info.size_bytes / DOR_PAGE_BYTES;
    void *blocks = base_array(root->block_count, sizeof *root->blocks);
    if (blocks == NULL)
        return DOR_E_NO_MEMORY;
    root->blocks = base_keep(blocks);
    return 0;
}

static int
check_roots(struct checker *checker)
{
    const struct store_catalog *catalog = checker->store->catalog;
    checker->roots = base_array(catalog->root_count + 1, sizeof *checker->roots);
    if (checker->roots == NULL)
        return DOR_E_NO_MEMORY;
    for (size_t i = 0; i < catalog->root_count; i++) {
        struct root_check *root = &checker->roots[checker->root_count++];
        root->id = catalog->roots[i].info.id;
        int err = open_root(checker, &catalog->roots[i], root);
        if (err != 0)
            return err;
    }
    return 0;
}

/* What is known of the block that PLACE refers to; NULL when there is no such block. */
static uint8_t *
block_state(const struct checker *checker, uint64_t place)
{
    for (size_t i = 0; i < checker->root_count; i++) {
        const struct root_check *root = &checker->roots[i];
        if (root->id == store_place_root(place))
            return root->blocks == NULL || store_place_block(place) >= root->block_count
                       ? NULL
                       : &root->blocks[store_place_block(place)];
    }
    return NULL;
}

static int
visit_block(void *context, uint64_t tag, uint64_t place, const uint8_t *block)
{
    struct checker *checker = context;
    (void)tag;
    uint8_t *state = block_state(checker, place);
    int err = block == NULL ? base_err_record()->code : 0;
    if (err != 0 && !is_finding(checker, err))
        return err;
    dor_assert(state != NULL);
    *state = err == 0 ? BLOCK_GOOD : BLOCK_BAD;
    return 0;
}

/* References of the recipe whose blocks are not there as they were; each block is read once. */
static int
count_lost_blocks(struct checker *checker, const struct store_recipe *recipe, uint64_t *ret)
{
    size_t count = 0;
    uint64_t lost = 0;
    for (uint64_t i = 0; i < recipe->page_count; i++)
        count += store_place_is_reference(recipe->places[i]);
    AUTO_FREE struct store_fetch_item *items = base_array(count + 1, sizeof *items);
    if (items == NULL)
        return DOR_E_NO_MEMORY;
    count = 0;
    for (uint64_t i = 0; i < recipe->page_count; i++) {
        uint64_t place = recipe->places[i];
        const uint8_t *state =
            store_place_is_reference(place) ? block_state(checker, place) : NULL;
        if (state != NULL && *state == BLOCK_UNKNOWN)
            items[count++] = (struct store_fetch_item){place, i};
    }
    int err = store_root_fetch(checker->store, items, count, visit_block, checker);
    for (uint64_t i = 0; i < recipe->page_count && err == 0; i++) {
        uint64_t place = recipe->places[i];
        if (!store_place_is_reference(place))
            continue;
        const uint8_t *state = block_state(checker, place);
        checker->roots_unknown |=
            store_catalog_root(checker->store->catalog, store_place_root(place)) == NULL;
        lost += state == NULL || *state != BLOCK_GOOD;
    }
    *ret = lost;
    return err;
}

/* ------------------------------------------------------------------ snapshots */

/* Pages the recipe names that are not there in good state. */
static uint64_t
count_lost(const struct checker *checker, const struct store_recipe *recipe)
{
    uint64_t lost = 0;
    for (uint64_t i = 0; i < recipe->page_count; i++) {
        uint64_t place = recipe->places[i];
        lost += store_place_is_stored(place) &&
                !store_usage_has(
                    &checker->good, store_place_stream(place), store_place_serial(place));
    }
    return lost;
}

static int
check_sidecars(struct checker *checker, const struct store_snapshot_entry *entry)
{
    struct dor_snapshot *snapshot;
    int err = store_snapshot_open(checker->store, entry, &snapshot);
    if (err != 0)
        return err;
    for (size_t i = 0; i < store_snapshot_recipe(snapshot)->sidecar_count && err == 0; i++) {
        void *data = NULL;
        size_t size_bytes;
        err = store_snapshot_read_row(snapshot, i, &data, &size_bytes);
        base_free(data);
    }
    dor_snapshot_close(snapshot);
    return err;
}

/*
 * The bytes of SNAPSHOT's file without the page classes, for ENTRY; an error when more is damaged.
 */
static int
encode_without_classes(
    struct checker *checker, struct dor_snapshot *snapshot,
    const struct store_snapshot_entry *entry, struct base_buf *file)
{
    const struct store_recipe *recipe = store_snapshot_recipe(snapshot);
    struct dor_sidecar rows[DOR_SIDECARS_MAX + STORE_PARTS_MAX];
    void *data[DOR_SIDECARS_MAX + STORE_PARTS_MAX];
    size_t count = 0;
    int err = 0;
    for (size_t i = 0; i < recipe->sidecar_count && err == 0; i++) {
        if (strcmp(recipe->sidecars[i].name, STORE_PART_CLASSES) == 0)
            continue;
        err = store_snapshot_read_row(snapshot, i, &data[count], &rows[count].size_bytes);
        if (err != 0)
            break;
        rows[count].name = recipe->sidecars[i].name;
        rows[count].data = data[count];
        count++;
    }
    if (err == 0)
        err = store_recipe_encode(
            entry, recipe, rows, count, checker->store->catalog->uuid, file);
    for (size_t i = 0; i < count; i++)
        base_free(data[i]);
    return err;
}

/*
 * Page classes are advice: when nothing else of a snapshot's file is damaged, write it anew without
 * them, and keep the old one aside.
 */
static int
drop_classes(struct checker *checker, const struct store_snapshot_entry *old)
{
    struct dor_store *store = checker->store;
    struct store_snapshot_entry entry = *old;
    struct dor_snapshot *snapshot = NULL;
    char name[STORE_FILE_NAME_BYTES];
    char aside[STORE_FILE_NAME_BYTES + 4];
    AUTO_BUF struct base_buf file = {0};
    uint64_t *added_bytes = &entry.info.put.added_bytes;
    *added_bytes -= base_min_u64(*added_bytes, entry.info.recipe_bytes);
    memset(entry.info.put.pages_by_class, 0, sizeof entry.info.put.pages_by_class);
    entry.info.id = store->catalog->next_snapshot_id;
    int err = store_snapshot_open(store, old, &snapshot);
    if (err == 0)
        err = encode_without_classes(checker, snapshot, &entry, &file);
    dor_snapshot_close(snapshot);
    if (err != 0)
        return err;
    store_snapshot_file_name(old->info.id, name);
    snprintf(aside, sizeof aside, "bad.%s", name);
    err = store_medium_link(store->medium, name, aside);
    if (err != 0 && err != DOR_E_EXISTS)
        return err;
    entry.info.recipe_bytes = file.size_bytes;
    *added_bytes += file.size_bytes;
    store->catalog->next_snapshot_id++;
    uint64_t page_count = entry.info.logical_bytes / DOR_PAGE_BYTES;
    struct store_set_key from = store_working_set_key(store, old->info.id, page_count);
    struct store_set_key to = store_working_set_key(store, entry.info.id, page_count);
    store_working_set_carry(&from, &to);
    return store_snapshot_commit(store, &entry, &file);
}

/* 0 with *RET_BAD, or an error that ends the check. */
static int
check_snapshot(struct checker *checker, const struct store_snapshot_entry *entry, bool *ret_bad)
{
    char file[STORE_FILE_NAME_BYTES];
    char detail[160];
    struct store_recipe recipe = {0};
    store_snapshot_file_name(entry->info.id, file);
    checker->result->snapshots++;
    *ret_bad = true;
    checker->lacks_roots = false;
    checker->roots_unknown = false;
    int err = store_snapshot_read_recipe(checker->store, entry, &recipe);
    if (err == 0) {
        uint64_t lost_blocks = 0;
        uint64_t lost = count_lost(checker, &recipe);
        err = count_lost_blocks(checker, &recipe, &lost_blocks);
        store_recipe_fini(&recipe);
        if (err != 0)
            return err;
        if (lost_blocks > 0) {
            snprintf(
                detail, sizeof detail,
                "%llu of its pages are in root images that are missing or changed",
                (unsigned long long)lost_blocks);
            report(checker, file, detail, entry->info.name);
            checker->lacks_roots = lost == 0 && !checker->roots_unknown;
        }
        if (lost > 0) {
            snprintf(
                detail, sizeof detail, "%llu of its pages are damaged or missing",
                (unsigned long long)lost);
            report(checker, file, detail, entry->info.name);
            return 0;
        }
        err = check_sidecars(checker, entry);
        if (err == DOR_E_CORRUPT && checker->check->repair) {
            report(checker, file, dor_err_message(), entry->info.name);
            err = drop_classes(checker, entry);
            *ret_bad = err == DOR_E_CORRUPT;
            return err == DOR_E_CORRUPT ? 0 : err;
        }
        checker->lacks_roots &= err == 0;
        if (err == 0 && lost_blocks > 0)
            return 0;
    }
    if (err != 0 && !is_finding(checker, err))
        return err;
    if (err != 0)
        report(checker, file, dor_err_message(), entry->info.name);
    else
        *ret_bad = false;
    return report_progress(checker, entry->info.recipe_bytes);
}

/* Keep the file under another name and drop the snapshot; the catalog is saved by the caller. */
static int
quarantine_snapshot(struct checker *checker, size_t index)
{
    struct store_catalog *catalog = checker->store->catalog;
    char file[STORE_FILE_NAME_BYTES];
    char aside[STORE_FILE_NAME_BYTES + 4];
    char name[DOR_NAME_BYTES_MAX + 1];
    uint64_t id = catalog->snapshots[index].info.id;
    store_snapshot_file_name(id, file);
    memcpy(name, catalog->snapshots[index].info.name, sizeof name);
    snprintf(aside, sizeof aside, "bad.%s", file);
    int err = store_medium_rename(checker->store->medium, file, aside);
    if (err != 0 && err != DOR_E_NOT_FOUND)
        return err;
    store_catalog_snapshot_remove(catalog, name);
    err = store_catalog_save(checker->store->medium, catalog);
    if (err != 0)
        return err;
    checker->result->quarantined_snapshots++;
    store_working_set_drop(checker->store, id);
    return 0;
}

/* A working set is advice: a damaged one is told, and put aside by a repair, but harms nothing. */
static int
check_working_set(struct checker *checker, const struct store_snapshot_entry *entry)
{
    char file[STORE_FILE_NAME_BYTES];
    char aside[STORE_FILE_NAME_BYTES + 4];
    struct store_working_set set = {0};
    struct store_set_key key = store_working_set_key(
        checker->store, entry->info.id, entry->info.logical_bytes / DOR_PAGE_BYTES);
    int err = store_working_set_read(&key, &set);
    store_working_set_fini(&set);
    if (err == 0 || err == DOR_E_NOT_FOUND)
        return 0;
    if (!is_finding(checker, err))
        return err;
    store_working_set_file_name(entry->info.id, file, sizeof file);
    report(checker, file, dor_err_message(), entry->info.name);
    snprintf(aside, sizeof aside, "bad.%s", file);
    if (!checker->check->repair)
        return 0;
    err = store_medium_rename(checker->store->medium, file, aside);
    return err == DOR_E_NOT_FOUND ? 0 : err;
}

static int
check_snapshots(struct checker *checker)
{
    struct store_catalog *catalog = checker->store->catalog;
    for (size_t i = 0; i < catalog->snapshot_count;) {
        bool bad = false;
        bool is_here = catalog->snapshots[i].domain == checker->domain;
        int err = is_here ? check_working_set(checker, &catalog->snapshots[i]) : 0;
        if (err == 0 && is_here)
            err = check_snapshot(checker, &catalog->snapshots[i], &bad);
        checker->result->damaged_snapshots += bad;
        if (err == 0 && bad && checker->check->repair && !checker->lacks_roots)
            err = quarantine_snapshot(checker, i);
        else
            i++;
        if (err != 0)
            return err;
    }
    return 0;
}

/* ------------------------------------------------------------------ repair of segments */

static bool
has_bad_pages(const struct checker *checker, const struct store_segment_entry *entry)
{
    const struct store_table *table = entry->loaded->table;
    for (uint64_t i = 0; i < table->page_count; i++)
        if (store_usage_has(&checker->bad, entry->stream, table->serials[i]) ||
            store_usage_has(&checker->doubtful, entry->stream, table->serials[i]))
            return true;
    return false;
}

static int
put_segment_aside(struct checker *checker, uint32_t id)
{
    struct dor_store *store = checker->store;
    char file[STORE_FILE_NAME_BYTES];
    char aside[STORE_FILE_NAME_BYTES + 4];
    store_segment_file_name(id, file);
    snprintf(aside, sizeof aside, "bad.%s", file);
    int err = store_medium_rename(store->medium, file, aside);
    if (err != 0 && err != DOR_E_NOT_FOUND)
        return err;
    store_catalog_segment_remove(store->catalog, id);
    return store_catalog_save(store->medium, store->catalog);
}

static int
repair_segments(struct checker *checker)
{
    struct store_repack repack = {
        .keep = &checker->good,
        .pack = &checker->doubtful,
        .keep_old = true,
        .waste_percent = 1};
    store_packing_from_options(&checker->store->options, &repack.packing);
    for (unsigned stream = 0; stream < STORE_STREAMS; stream++) {
        struct store_segment_entry *first;
        size_t count =
            store_catalog_stream(checker->store->catalog, checker->domain, stream, &first);
        AUTO_FREE uint32_t *ids = base_array(count + 1, sizeof *ids);
        if (ids == NULL)
            return DOR_E_NO_MEMORY;
        for (size_t i = 0; i < count; i++)
            ids[i] = first[i].id;
        for (size_t i = 0; i < count; i++) {
            struct store_segment_entry *entry =
                store_catalog_segment(checker->store->catalog, ids[i]);
            int err = 0;
            if (entry->loaded == NULL)
                err = put_segment_aside(checker, ids[i]);
            else if (has_bad_pages(checker, entry))
                err = store_repack_segment(checker->store, ids[i], &repack);
            if (err != 0)
                return err;
        }
    }
    return 0;
}

/* ------------------------------------------------------------------ all */

static int
check_domain(struct checker *checker, uint32_t domain)
{
    checker->domain = domain;
    int err = store_usage_init(&checker->good, checker->store, domain);
    if (err == 0)
        err = store_usage_init(&checker->bad, checker->store, domain);
    if (err == 0)
        err = store_usage_init(&checker->doubtful, checker->store, domain);
    if (err == 0)
        err = check_segments(checker);
    if (err == 0)
        err = check_snapshots(checker);
    if (err == 0 && checker->check->repair)
        err = repair_segments(checker);
    store_usage_fini(&checker->good);
    store_usage_fini(&checker->bad);
    store_usage_fini(&checker->doubtful);
    return err;
}

int
dor_store_check(
    struct dor_store *store, const struct dor_check *check, struct dor_check_result *ret)
{
    struct dor_check_result result = {0};
    struct checker checker = {.store = store, .check = check, .result = &result};
    int err = check->repair ? store_require_writable(store) : 0;
    if (err != 0)
        return err;
    for (size_t i = 0; i < store->catalog->segment_count; i++)
        checker.total_bytes += store->catalog->segments[i].size_bytes;
    for (size_t i = 0; i < store->catalog->snapshot_count; i++)
        checker.total_bytes += store->catalog->snapshots[i].info.recipe_bytes;
    /* What was read before may have been damaged since. */
    store_forget_segments(store);
    store_forget_roots(store);
    store_forget_indexes(store);
    err = check_roots(&checker);
    for (uint32_t i = 0; i < store->catalog->domain_count && err == 0; i++)
        err = check_domain(&checker, i);
    for (size_t i = 0; i < checker.root_count; i++)
        base_free(checker.roots[i].blocks);
    base_free(checker.roots);
    if (check->repair) {
        store_forget_segments(store);
        store_forget_indexes(store);
    }
    if (err != 0)
        return check->repair ? store_roll_back(store, err) : err;
    *ret = result;
    return 0;
}

int
dor_store_check_directory(
    const char *directory, const struct dor_check *check, struct dor_check_result *ret)
{
    struct dor_store *store;
    uint64_t found = 0;
    enum dor_open_mode mode = check->repair ? DOR_OPEN_WRITE : DOR_OPEN_READ;
    int err = dor_store_open(directory, mode, NULL, &store);
    if (err == DOR_E_CORRUPT || (err == DOR_E_NOT_FOUND && check->repair)) {
        struct dor_finding finding = {.file = STORE_CATALOG_NAME, .detail = dor_err_message()};
        if (check->report != NULL)
            check->report(check->report_context, &finding);
        found = 1;
        if (!check->repair) {
            *ret = (struct dor_check_result){.findings = 1};
            return 0;
        }
        err = store_rebuild_catalog(directory);
        if (err == 0)
            err = dor_store_open(directory, mode, NULL, &store);
    }
    if (err != 0)
        return err;
    err = dor_store_check(store, check, ret);
    if (err == 0)
        ret->findings += found;
    dor_store_close(store);
    return err;
}
