/* SPDX-License-Identifier: Apache-2.0 */
/*
 * root_verbs.c - adding, listing and removing root images.
 *
 * Adding: the image is read once, the root file written and synced, then the catalog replaced.
 * Removing is the other way round: the catalog is replaced, then the root file removed. So at
 * every moment what the catalog names is there.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"
#include "store/root.h"
#include "store/root_absorb.h"
#include "store/snapshot.h"
#include "store/store_priv.h"

#define NAMES_SHOWN 3 /* snapshots that an error names */

/* ------------------------------------------------------------------ add */

static int
fill_info(const struct dor_root_add *add, struct dor_root_info *info)
{
    int err = base_path_resolve(add->path, info->path, sizeof info->path);
    if (err != 0)
        return dor_fail_wrap("root image");
    const char *name = add->name == NULL ? strrchr(info->path, '/') + 1 : add->name;
    err = dor_name_check(name);
    if (err == 0 && add->domain != NULL)
        err = dor_name_check(add->domain);
    if (err != 0)
        return err;
    memcpy(info->name, name, strlen(name));
    if (add->domain != NULL)
        memcpy(info->domain, add->domain, strlen(add->domain));
    info->added_ns = base_clock_realtime_ns();
    return 0;
}

/* Write the root file of INFO, whose size in bytes is noted. */
static int
write_root_file(struct dor_store *store, struct dor_root_info *info, const uint64_t *digests)
{
    AUTO_BUF struct base_buf file = {0};
    char name[STORE_FILE_NAME_BYTES];
    store_root_file_name(info->id, name);
    int err = store_root_encode(info, digests, store->catalog->uuid, &file);
    if (err != 0)
        return err;
    info->file_bytes = file.size_bytes;
    return store_write_file(store, name, &file);
}

static int
add_new(struct dor_store *store, struct dor_root_info *info, const uint64_t *digests)
{
    struct store_catalog *catalog = store->catalog;
    if (catalog->next_root_id > STORE_ROOT_ID_MAX)
        return dor_fail(
            DOR_E_NO_SPACE, "a store can have %u root images in its life; make another one",
            STORE_ROOT_ID_MAX);
    info->id = catalog->next_root_id;
    int err = write_root_file(store, info, digests);
    if (err == 0)
        err = store_catalog_root_add(catalog, info);
    if (err != 0)
        return err;
    catalog->next_root_id++;
    return store_catalog_save(store->medium, catalog);
}

/* The same content under the same name: where it is now and when it was changed. */
static int
add_again(struct dor_store *store, struct store_root_entry *entry, struct dor_root_info *info)
{
    struct dor_root_info *known = &entry->info;
    if (known->size_bytes != info->size_bytes || known->digest != info->digest)
        return dor_fail(
            DOR_E_EXISTS,
            "there is a root image %s of other content (%s); give this one another --name",
            info->name, known->path);
    if (strcmp(known->domain, info->domain) != 0)
        return dor_fail(
            DOR_E_EXISTS, "root image %s belongs to %s%s; remove it first", info->name,
            known->domain[0] == 0 ? "all domains" : "domain ", known->domain);
    memcpy(known->path, info->path, sizeof known->path);
    known->modified_ns = info->modified_ns;
    *info = *known;
    store_forget_roots(store);
    return store_catalog_save(store->medium, store->catalog);
}

int
dor_store_root_add(
    struct dor_store *store, const struct dor_root_add *add, struct dor_root_info *ret)
{
    struct dor_root_info info = {0};
    AUTO_CLOSE int fd = -1;
    AUTO_FREE uint64_t *digests = NULL;
    int err = store_require_writable(store);
    if (err == 0)
        err = fill_info(add, &info);
    if (err == 0)
        err = base_file_open(AT_FDCWD, info.path, O_RDONLY, 0, &fd);
    if (err == 0)
        err = store_root_scan(
            fd, info.path, add->progress, add->progress_context, &info, &digests);
    if (err != 0)
        return err;
    struct store_root_entry *known = store_catalog_root_named(store->catalog, info.name);
    err = known == NULL ? add_new(store, &info, digests) : add_again(store, known, &info);
    if (err != 0)
        return store_roll_back(store, err);
    *ret = info;
    return 0;
}

int
store_root_remake(struct dor_store *store, struct store_root_entry *entry)
{
    char file[STORE_FILE_NAME_BYTES];
    char aside[STORE_FILE_NAME_BYTES + 4];
    struct dor_root_info info = entry->info;
    AUTO_BUF struct base_buf buf = {0};
    AUTO_CLOSE int fd = -1;
    AUTO_FREE uint64_t *digests = NULL;
    int err = base_file_open(AT_FDCWD, info.path, O_RDONLY, 0, &fd);
    if (err == 0)
        err = store_root_scan(fd, info.path, NULL, NULL, &info, &digests);
    if (err == 0 &&
        (info.size_bytes != entry->info.size_bytes || info.digest != entry->info.digest))
        err = dor_fail(
            DOR_E_CORRUPT, "root image %s: %s is not what was added", info.name, info.path);
    if (err != 0)
        return err;
    store_root_file_name(info.id, file);
    snprintf(aside, sizeof aside, "bad.%s", file);
    /* The first damaged one is kept, whatever an earlier repair left when it was killed. */
    err = store_medium_link(store->medium, file, aside);
    if (err == 0 || err == DOR_E_NOT_FOUND || err == DOR_E_EXISTS)
        err = store_root_encode(&info, digests, store->catalog->uuid, &buf);
    if (err == 0)
        err = store_medium_replace(store->medium, file, buf.data, buf.size_bytes);
    if (err != 0)
        return err;
    info.file_bytes = buf.size_bytes;
    entry->info = info;
    return store_catalog_save(store->medium, store->catalog);
}

/* ------------------------------------------------------------------ list */

static enum dor_root_state
root_state(const struct dor_root_info *info)
{
    struct stat st;
    if (base_file_stat(AT_FDCWD, info->path, 0, info->path, &st) != 0)
        return DOR_ROOT_MISSING;
    uint64_t modified_ns =
        (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec;
    return S_ISREG(st.st_mode) && (uint64_t)st.st_size == info->size_bytes &&
                   modified_ns == info->modified_ns
               ? DOR_ROOT_PRESENT
               : DOR_ROOT_CHANGED;
}

int
dor_store_root_list(
    struct dor_store *store,
    int (*visit)(void *context, const struct dor_root_info *info, enum dor_root_state state),
    void *context)
{
    for (size_t i = 0; i < store->catalog->root_count; i++) {
        const struct dor_root_info *info = &store->catalog->roots[i].info;
        int err = visit(context, info, root_state(info));
        if (err != 0)
            return err;
    }
    return 0;
}

/* ------------------------------------------------------------------ remove */

static const struct store_root_entry *
find_root(const struct dor_store *store, const char *name)
{
    char path[DOR_PATH_BYTES_MAX + 1];
    const struct store_root_entry *entry = store_catalog_root_named(store->catalog, name);
    /* A missing image has no path that could be resolved: then it must be given as listed. */
    bool resolved = entry == NULL && base_path_resolve(name, path, sizeof path) == 0;
    for (size_t i = 0; i < store->catalog->root_count && entry == NULL; i++)
        if (strcmp(store->catalog->roots[i].info.path, resolved ? path : name) == 0)
            entry = &store->catalog->roots[i];
    return entry;
}

static bool
refers_to(const struct store_recipe *recipe, uint32_t id)
{
    for (uint64_t i = 0; i < recipe->page_count; i++)
        if (store_place_is_reference(recipe->places[i]) &&
            store_place_root(recipe->places[i]) == id)
            return true;
    return false;
}

/* DOR_E_BUSY when snapshots refer to the root image. */
static int
check_unused(struct dor_store *store, const struct dor_root_info *info)
{
    char names[NAMES_SHOWN * (DOR_NAME_BYTES_MAX + 2) + 8] = "";
    size_t length = 0;
    size_t count = 0;
    for (size_t i = 0; i < store->catalog->snapshot_count; i++) {
        const struct store_snapshot_entry *entry = &store->catalog->snapshots[i];
        struct store_recipe recipe = {0};
        int err = store_snapshot_read_recipe(store, entry, &recipe);
        if (err != 0)
            return dor_fail_wrap("root rm needs every recipe; snapshot %s", entry->info.name);
        bool used = refers_to(&recipe, info->id);
        store_recipe_fini(&recipe);
        if (!used)
            continue;
        if (count++ < NAMES_SHOWN)
            length += (size_t)snprintf(
                names + length, sizeof names - length, "%s%s", count == 1 ? "" : ", ",
                entry->info.name);
    }
    if (count == 0)
        return 0;
    return dor_fail(
        DOR_E_BUSY,
        "root image %s is needed by %zu snapshot%s: %s%s; remove %s or give --absorb",
        info->name, count, count == 1 ? "" : "s", names, count > NAMES_SHOWN ? " ..." : "",
        count == 1 ? "it" : "them");
}

static int
forget(struct dor_store *store, uint32_t id)
{
    char file[STORE_FILE_NAME_BYTES];
    store_catalog_root_remove(store->catalog, id);
    int err = store_catalog_save(store->medium, store->catalog);
    if (err != 0)
        return err;
    store_root_file_name(id, file);
    store_remove_file(store, file);
    return 0;
}

int
dor_store_root_remove(struct dor_store *store, const char *name, bool absorb)
{
    int err = store_require_writable(store);
    if (err != 0)
        return err;
    const struct store_root_entry *entry = find_root(store, name);
    if (entry == NULL)
        return dor_fail(DOR_E_NOT_FOUND, "no root image %s; see root ls", name);
    uint32_t id = entry->info.id;
    if (absorb)
        return store_root_absorb(store, id);
    err = check_unused(store, &entry->info);
    if (err != 0)
        return err;
    err = forget(store, id);
    return err == 0 ? 0 : store_roll_back(store, err);
}
