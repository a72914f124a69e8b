/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.c - opening, closing and the small verbs; the life of what an open store caches.
 *
 * A handle caches open segments with their tables (reachable from the catalog's entries) and
 * indexes. Both are derived: store_reload() drops them and reads the catalog again, which is
 * also how a failed writer forgets what it had begun.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/size.h"
#include "chunk/fingerprint.h"
#include "store/recipe.h"
#include "store/root.h"
#include "store/store_priv.h"
#include "store/working_set.h"

/* ------------------------------------------------------------------ names */

/*
 * Length of the valid UTF-8 sequence at TEXT, 0 when it is none (overlong and surrogates are
 * none).
 */
static size_t
utf8_length(const unsigned char *text)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = text[0] < 0x80             ? 1
                    : (text[0] & 0xe0) == 0xc0 ? 2
                    : (text[0] & 0xf0) == 0xe0 ? 3
                    : (text[0] & 0xf8) == 0xf0 ? 4
                                               : 0;
    if (length <= 1)
        return length;
    uint32_t code = text[0] & (0xffu >> (length + 1));
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (text[i] & 0x3f);
    }
    bool surrogate = code >= 0xd800 && code < 0xe000;
    return code < least[length] || code > 0x10ffff || surrogate ? 0 : length;
}

int
dor_name_check(const char *name)
{
    size_t length = strnlen(name, DOR_NAME_BYTES_MAX + 1);
    if (length == 0)
        return dor_fail(DOR_E_USAGE, "a name must not be empty");
    if (length > DOR_NAME_BYTES_MAX)
        return dor_fail(DOR_E_USAGE, "a name has at most %d bytes", DOR_NAME_BYTES_MAX);
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return dor_fail(DOR_E_USAGE, "'%s' cannot be a name", name);
    for (size_t i = 0; i < length;) {
        unsigned char c = (unsigned char)name[i];
        if (c == '/')
            return dor_fail(DOR_E_USAGE, "a name must not contain '/'");
        if (c < 0x20 || c == 0x7f)
            return dor_fail(
                DOR_E_USAGE, "a name must not contain control characters (0x%02x)", c);
        size_t step = utf8_length((const unsigned char *)name + i);
        if (step == 0)
            return dor_fail(DOR_E_USAGE, "a name must be valid UTF-8");
        if (step == 2 && c == 0xc2 && (unsigned char)name[i + 1] < 0xa0)
            return dor_fail(DOR_E_USAGE, "a name must not contain control characters");
        i += step;
    }
    return 0;
}

/* ------------------------------------------------------------------ caches */

void
store_forget_segments(struct dor_store *store)
{
    for (size_t i = 0; store->catalog != NULL && i < store->catalog->segment_count; i++) {
        store_segment_close(store->catalog->segments[i].loaded);
        store->catalog->segments[i].loaded = NULL;
    }
}

void
store_forget_indexes(struct dor_store *store)
{
    for (size_t i = 0; i < store->index_count; i++)
        store_index_free(store->indexes[i].index);
    store->index_count = 0;
}

/* Measure or fill INDEX with every table of the type; an unreadable segment only costs space. */
static void
feed_index(
    struct dor_store *store, uint32_t domain, unsigned type, struct store_index *index,
    void (*feed)(struct store_index *, const struct store_table *))
{
    for (unsigned kind = 0; kind < STORE_STREAM_KINDS; kind++) {
        struct store_segment_entry *first;
        size_t count = store_catalog_stream(
            store->catalog, domain, type * STORE_STREAM_KINDS + kind, &first);
        for (size_t i = count; i-- > 0;) {
            if (store_segment_load(store, &first[i]) == 0)
                feed(index, first[i].loaded->table);
            else
                dor_log(
                    WARN, "store", "segment_unreadable", "segment=%08x error=\"%s\"",
                    first[i].id, dor_err_message());
        }
    }
}

/*
 * At most this many entries come from the tables of the type: a page has one, and its
 * fingerprints.
 */
static uint64_t
count_entries(struct dor_store *store, uint32_t domain, unsigned type)
{
    uint64_t entries = 0;
    for (unsigned kind = 0; kind < STORE_STREAM_KINDS; kind++) {
        struct store_segment_entry *first;
        size_t count = store_catalog_stream(
            store->catalog, domain, type * STORE_STREAM_KINDS + kind, &first);
        for (size_t i = 0; i < count; i++)
            if (store_segment_load(store, &first[i]) == 0)
                entries += first[i].loaded->table->page_count +
                           first[i].loaded->table->fingerprint_count;
    }
    return entries;
}

static int
build_index(struct dor_store *store, uint32_t domain, unsigned type, struct store_index **ret)
{
    struct store_index *index;
    int err = store_index_new(store->options.index_bytes_max, &index);
    if (err != 0)
        return err;
    err = store_index_begin(index, count_entries(store, domain, type));
    if (err == 0) {
        feed_index(store, domain, type, index, store_index_measure);
        err = store_index_settle(index);
    }
    if (err != 0) {
        store_index_free(index);
        return err;
    }
    feed_index(store, domain, type, index, store_index_fill);
    store_index_ready(index);
    *ret = index;
    return 0;
}

static struct store_index_slot *
find_slot(struct dor_store *store, uint32_t domain, unsigned type)
{
    for (size_t i = 0; i < store->index_count; i++)
        if (store->indexes[i].domain == domain && store->indexes[i].type == type)
            return &store->indexes[i];
    return NULL;
}

int
store_index_of(
    struct dor_store *store, uint32_t domain, unsigned type, struct store_index **ret)
{
    struct store_index_slot *slot = find_slot(store, domain, type);
    if (slot != NULL) {
        *ret = slot->index;
        return 0;
    }
    struct store_index_slot *slots =
        base_realloc_array(store->indexes, store->index_count + 1, sizeof *slots);
    if (slots == NULL)
        return DOR_E_NO_MEMORY;
    store->indexes = slots;
    struct store_index *index;
    int err = build_index(store, domain, type, &index);
    if (err != 0)
        return err;
    slots[store->index_count++] = (struct store_index_slot){domain, type, index};
    *ret = index;
    return 0;
}

int
store_index_rebuild(
    struct dor_store *store, uint32_t domain, unsigned type, struct store_index **ret)
{
    struct store_index_slot *slot = find_slot(store, domain, type);
    dor_assert(slot != NULL);
    struct store_index *index;
    int err = build_index(store, domain, type, &index);
    if (err != 0)
        return err;
    store_index_free(slot->index);
    slot->index = index;
    *ret = index;
    return 0;
}

/* ------------------------------------------------------------------ opening */

static void
store_free(struct dor_store *store)
{
    if (store == NULL)
        return;
    store_forget_segments(store);
    store_forget_roots(store);
    store_forget_indexes(store);
    store_catalog_free(store->catalog);
    store_medium_close(store->medium);
    dor_options_free(store->given);
    chunk_coder_free(store->coder);
    base_free(store->indexes);
    base_free(store->stored);
    base_free(store->plain);
    base_free(store->fingerprint_scratch);
    base_free(store);
}

static int
copy_options(const struct dor_options *from, struct dor_options *to)
{
    int err = 0;
    for (size_t i = 0; from != NULL && i < from->count && err == 0; i++)
        err = dor_options_set(to, from->names[i], from->values[i]);
    return err;
}

/* Defaults, the store's own options, this handle's options: later ones win. */
static int
apply_options(struct dor_store *store)
{
    store_options_default(&store->options);
    int err = store_options_apply(&store->options, store->catalog->options);
    return err != 0 ? err : store_options_apply(&store->options, store->given);
}

static int
store_new(const struct dor_options *options, bool writable, struct dor_store **ret)
{
    struct dor_store *store = base_zalloc(sizeof *store);
    if (store == NULL)
        return DOR_E_NO_MEMORY;
    store->writable = writable;
    store->stored = base_alloc(STORE_GROUP_BYTES_MAX);
    store->plain = base_alloc(STORE_GROUP_BYTES_MAX);
    store->fingerprint_scratch = base_alloc(sizeof *store->fingerprint_scratch);
    int err = chunk_coder_new(&store->coder);
    if (err == 0 &&
        (store->stored == NULL || store->plain == NULL || store->fingerprint_scratch == NULL))
        err = DOR_E_NO_MEMORY;
    if (err == 0)
        err = dor_options_new(&store->given);
    if (err == 0)
        err = copy_options(options, store->given);
    if (err != 0) {
        store_free(store);
        return err;
    }
    *ret = store;
    return 0;
}

/* An empty store's catalog, saved to the medium. */
static int
create_catalog(struct store_medium *medium, const struct dor_options *options)
{
    struct store_catalog *catalog;
    int err = store_catalog_new(&catalog);
    if (err != 0)
        return err;
    err = copy_options(options, catalog->options);
    if (err == 0)
        err = store_catalog_save(medium, catalog);
    store_catalog_free(catalog);
    return err;
}

int
dor_store_create(const char *directory, const struct dor_options *options)
{
    struct store_medium *medium;
    AUTO_CLOSE int fd = -1;
    int err = store_medium_open_directory(directory, true, &medium);
    if (err != 0)
        return err;
    err = store_medium_lock(medium);
    if (err == 0) {
        err = store_medium_open(medium, STORE_CATALOG_NAME, false, &fd);
        if (err == 0)
            err = dor_fail(DOR_E_EXISTS, "there is a store in %s already", directory);
        else if (err == DOR_E_NOT_FOUND)
            err = create_catalog(medium, options);
    }
    store_medium_close(medium);
    return err;
}

static int
load_catalog(struct dor_store *store)
{
    int err = store_catalog_load(store->medium, &store->catalog);
    return err != 0 ? err : apply_options(store);
}

int
dor_store_open(
    const char *directory, enum dor_open_mode mode, const struct dor_options *options,
    struct dor_store **ret)
{
    struct dor_store *store;
    int err = store_new(options, mode == DOR_OPEN_WRITE, &store);
    if (err != 0)
        return err;
    err = store_medium_open_directory(directory, false, &store->medium);
    if (err == DOR_E_NOT_FOUND)
        err = dor_fail(DOR_E_NOT_FOUND, "no store in %s; make one with init", directory);
    if (err == 0)
        err = load_catalog(store);
    /* The lock file is made on demand, so a folder that is no store is left without one. */
    if (err == 0 && store->writable)
        err = store_medium_lock(store->medium);
    if (err == 0 && store->writable)
        err = store_reload(store);
    if (err == 0 && store->writable)
        err = store_clean(store);
    if (err != 0) {
        store_free(store);
        return err;
    }
    *ret = store;
    return 0;
}

int
dor_store_open_memory(const struct dor_options *options, struct dor_store **ret)
{
    struct dor_store *store;
    int err = store_new(options, true, &store);
    if (err != 0)
        return err;
    err = store_medium_open_memory(&store->medium);
    if (err == 0)
        err = create_catalog(store->medium, NULL);
    if (err == 0)
        err = load_catalog(store);
    if (err != 0) {
        store_free(store);
        return err;
    }
    *ret = store;
    return 0;
}

void
dor_store_close(struct dor_store *store)
{
    store_free(store);
}

/*
 * What a reader has loaded of segments that are in CATALOG as they were stays loaded. (A writer
 * reloads to forget what it has added to its tables.)
 */
static void
keep_segments(struct dor_store *store, struct store_catalog *catalog)
{
    if (store->writable || store->catalog == NULL)
        return;
    for (size_t i = 0; i < store->catalog->segment_count; i++) {
        struct store_segment_entry *old = &store->catalog->segments[i];
        struct store_segment_entry *new =
            old->loaded == NULL ? NULL : store_catalog_segment(catalog, old->id);
        if (new == NULL || new->size_bytes != old->size_bytes ||
            new->page_count != old->page_count || new->frame_count != old->frame_count)
            continue;
        new->loaded = old->loaded;
        old->loaded = NULL;
    }
}

int
store_reload(struct dor_store *store)
{
    struct store_catalog *catalog;
    int err = store_catalog_load(store->medium, &catalog);
    if (err != 0)
        return err;
    keep_segments(store, catalog);
    store_forget_segments(store);
    store_forget_roots(store);
    store_forget_indexes(store);
    store_catalog_free(store->catalog);
    store->catalog = catalog;
    return apply_options(store);
}

int
dor_store_refresh(struct dor_store *store)
{
    bool is_old = false;
    if (store->writable)
        return 0;
    int err = store_catalog_is_old(store->medium, store->catalog, &is_old);
    return err != 0 || !is_old ? err : store_reload(store);
}

int
dor_store_find(struct dor_store *store, const char *name, uint64_t *ret_id)
{
    const struct store_snapshot_entry *entry = store_catalog_snapshot(store->catalog, name);
    if (entry == NULL)
        return dor_fail(DOR_E_NOT_FOUND, "no snapshot %s", name);
    *ret_id = entry->info.id;
    return 0;
}

int
dor_store_find_info(struct dor_store *store, const char *name, struct dor_snapshot_info *ret)
{
    const struct store_snapshot_entry *entry = store_catalog_snapshot(store->catalog, name);
    if (entry == NULL)
        return dor_fail(DOR_E_NOT_FOUND, "no snapshot %s", name);
    *ret = entry->info;
    return 0;
}

int
store_require_writable(const struct dor_store *store)
{
    if (store->broken)
        return dor_fail(DOR_E_IO, "an earlier error could not be undone; open the store again");
    return store->writable ? 0 : dor_fail(DOR_E_USAGE, "the store is open for reading only");
}

/* ------------------------------------------------------------------ cleaning */

/* Whether the catalog names the file, as a segment, a snapshot or a root file. */
static bool
is_named(const struct store_catalog *catalog, const char *file)
{
    char name[STORE_FILE_NAME_BYTES];
    for (size_t i = 0; i < catalog->segment_count; i++) {
        store_segment_file_name(catalog->segments[i].id, name);
        if (strcmp(name, file) == 0)
            return true;
    }
    for (size_t i = 0; i < catalog->snapshot_count; i++) {
        store_snapshot_file_name(catalog->snapshots[i].info.id, name);
        if (strcmp(name, file) == 0)
            return true;
    }
    for (size_t i = 0; i < catalog->root_count; i++) {
        store_root_file_name(catalog->roots[i].info.id, name);
        if (strcmp(name, file) == 0)
            return true;
    }
    return false;
}

/*
 * What a killed writer can leave: files of ours that no catalog names. Strange files are not
 * touched.
 */
static bool
is_leftover(const struct dor_store *store, const char *file)
{
    bool ours = strncmp(file, "seg.", 4) == 0 || strncmp(file, "snap.", 5) == 0 ||
                strncmp(file, "root.", 5) == 0 || strcmp(file, STORE_CATALOG_NAME ".tmp") == 0;
    return (ours && !is_named(store->catalog, file)) ||
           store_working_set_is_leftover(store->catalog, file);
}

static int
clean_file(const char *file, void *context)
{
    struct dor_store *store = context;
    return is_leftover(store, file) ? store_medium_unlink(store->medium, file) : 0;
}

static int
cut_segment(struct dor_store *store, const struct store_segment_entry *entry)
{
    char name[STORE_FILE_NAME_BYTES];
    AUTO_CLOSE int fd = -1;
    uint64_t size_bytes = 0;
    store_segment_file_name(entry->id, name);
    int err = store_medium_open(store->medium, name, true, &fd);
    if (err == DOR_E_NOT_FOUND)
        return 0; /* check's business, not ours */
    if (err == 0)
        err = base_file_size(fd, name, &size_bytes);
    if (err == 0 && size_bytes > entry->size_bytes)
        err = base_file_truncate(fd, entry->size_bytes, name);
    return err;
}

int
store_clean(struct dor_store *store)
{
    int err = store_medium_list(store->medium, clean_file, store);
    /* Only a stream's last segment is appended to. */
    for (size_t i = 0; i < store->catalog->segment_count && err == 0; i++) {
        const struct store_segment_entry *entry = &store->catalog->segments[i];
        const struct store_segment_entry *next = entry + 1;
        bool last = i + 1 == store->catalog->segment_count || next->domain != entry->domain ||
                    next->stream != entry->stream;
        if (last)
            err = cut_segment(store, entry);
    }
    return err;
}

int
store_roll_back(struct dor_store *store, int err)
{
    struct base_err first = *base_err_record();
    int second = store_reload(store);
    if (second == 0)
        second = store_clean(store);
    if (second != 0) {
        store->broken = true;
        dor_log(ERROR, "store", "roll_back_failed", "error=\"%s\"", dor_err_message());
    }
    if (first.code != err)
        return err;
    return base_err_load(&first);
}

/* ------------------------------------------------------------------ snapshots in the catalog */

int
store_write_file(struct dor_store *store, const char *name, const struct base_buf *file)
{
    AUTO_CLOSE int fd = -1;
    int err = store_medium_create(store->medium, name, &fd);
    if (err == 0)
        err = base_file_pwrite(fd, file->data, file->size_bytes, 0, name);
    if (err == 0)
        err = base_file_sync(fd, name);
    return err != 0 ? err : store_medium_sync(store->medium);
}

/* After the catalog is saved a file that cannot be removed is only a leftover for store_clean(). */
void
store_remove_file(struct dor_store *store, const char *name)
{
    if (store_medium_unlink(store->medium, name) != 0)
        dor_log(WARN, "store", "leftover", "file=%s error=\"%s\"", name, dor_err_message());
}

void
store_snapshot_remove_files(struct dor_store *store, uint64_t id)
{
    char name[STORE_FILE_NAME_BYTES];
    store_snapshot_file_name(id, name);
    store_remove_file(store, name);
    store_working_set_drop(store, id);
}

int
store_snapshot_commit(
    struct dor_store *store, const struct store_snapshot_entry *entry,
    const struct base_buf *file)
{
    char name[STORE_FILE_NAME_BYTES];
    store_snapshot_file_name(entry->info.id, name);
    int err = store_write_file(store, name, file);
    if (err != 0)
        return err;
    const struct store_snapshot_entry *old =
        store_catalog_snapshot(store->catalog, entry->info.name);
    uint64_t old_id = old == NULL ? 0 : old->info.id;
    store_catalog_snapshot_remove(store->catalog, entry->info.name);
    err = store_catalog_snapshot_add(store->catalog, entry);
    if (err == 0)
        err = store_catalog_save(store->medium, store->catalog);
    if (err == 0 && old_id != 0)
        store_snapshot_remove_files(store, old_id);
    return err;
}

int
dor_store_remove(struct dor_store *store, const char *name)
{
    int err = store_require_writable(store);
    if (err == 0)
        err = dor_name_check(name);
    if (err != 0)
        return err;
    const struct store_snapshot_entry *entry = store_catalog_snapshot(store->catalog, name);
    if (entry == NULL)
        return dor_fail(DOR_E_NOT_FOUND, "no snapshot %s", name);
    uint64_t id = entry->info.id;
    store_catalog_snapshot_remove(store->catalog, name);
    err = store_catalog_save(store->medium, store->catalog);
    if (err != 0)
        return store_roll_back(store, err);
    store_snapshot_remove_files(store, id);
    return 0;
}

void
store_note_woken(struct dor_store *store, struct dor_snapshot_info *info)
{
    char name[STORE_FILE_NAME_BYTES];
    AUTO_CLOSE int fd = -1;
    struct stat st;
    store_snapshot_file_name(info->id, name);
    info->woken_ns = 0;
    if (store_medium_open(store->medium, name, false, &fd) == 0 && fstat(fd, &st) == 0)
        info->woken_ns =
            (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec;
}

int
dor_store_list(
    struct dor_store *store, int (*visit)(void *context, const struct dor_snapshot_info *info),
    void *context)
{
    for (size_t i = 0; i < store->catalog->snapshot_count; i++) {
        struct dor_snapshot_info info = store->catalog->snapshots[i].info;
        store_note_woken(store, &info);
        int err = visit(context, &info);
        if (err != 0)
            return err;
    }
    return 0;
}
