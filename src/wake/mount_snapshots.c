/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mount_snapshots.c - the snapshots that a mount knows: found by name in the store and by inode
 * number here, held while they are used, forgotten with the kernel. Their pages are open only while
 * a handle needs them, so that a snapshot that was only looked at keeps no removed file alive.
 */
#include "wake/mount_priv.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/size.h"

int
wake_mount_errno(int err, const char *what)
{
    if (err == 0)
        return 0;
    if (err == DOR_E_NOT_FOUND)
        return ENOENT;
    if (err == DOR_E_NO_MEMORY)
        return ENOMEM;
    dor_log(WARN, "wake", "mount_error", "what=%s words=\"%s\"", what, dor_err_message());
    return EIO;
}

/* ------------------------------------------------------------------ the table */

static struct mount_snapshot **
chain_of(struct dor_mount *mount, uint64_t id)
{
    return &mount->chains[id % MOUNT_CHAINS];
}

static struct mount_snapshot *
find_locked(struct dor_mount *mount, uint64_t id)
{
    struct mount_snapshot *at = *chain_of(mount, id);
    while (at != NULL && at->info.id != id)
        at = at->next;
    return at;
}

static void
snapshot_free(struct mount_snapshot *snapshot)
{
    dor_assert(snapshot->wake_users == 0 && snapshot->frame_users == 0);
    wake_mount_tree_free(snapshot->tree);
    base_mutex_fini(&snapshot->entering);
    base_free(snapshot);
}

/* Take it out of the table when nobody needs it; what is to be freed then. */
static struct mount_snapshot *
drop_locked(struct dor_mount *mount, struct mount_snapshot *snapshot)
{
    struct mount_snapshot **at = chain_of(mount, snapshot->info.id);
    if (snapshot->users > 0 || snapshot->lookups > 0)
        return NULL;
    while (*at != snapshot)
        at = &(*at)->next;
    *at = snapshot->next;
    return snapshot;
}

static struct mount_snapshot *
add_locked(struct dor_mount *mount, const struct dor_snapshot_info *info)
{
    struct mount_snapshot *added = base_zalloc(sizeof *added);
    if (added == NULL)
        return NULL;
    base_mutex_init(&added->entering);
    added->info = *info;
    added->next = *chain_of(mount, info->id);
    *chain_of(mount, info->id) = added;
    return added;
}

static int
find_info(struct dor_mount *mount, const char *name, struct dor_snapshot_info *ret)
{
    struct dor_wake_server *server = mount->server;
    base_mutex_lock(&server->lock);
    int err = dor_store_refresh(server->store);
    if (err == 0)
        err = dor_store_find_info(server->store, name, ret);
    base_mutex_unlock(&server->lock);
    return err;
}

int
wake_mount_find(
    struct dor_mount *mount, const char *name, unsigned lookups, struct mount_snapshot **ret)
{
    struct dor_snapshot_info info;
    int err = find_info(mount, name, &info);
    if (err != 0)
        return err;
    if (info.id >= UINT64_MAX >> MOUNT_NODE_BITS)
        return dor_fail(DOR_E_CORRUPT, "snapshot %s: its id is too large", name);
    base_mutex_lock(&mount->lock);
    struct mount_snapshot *found = find_locked(mount, info.id);
    if (found == NULL)
        found = add_locked(mount, &info);
    if (found != NULL) {
        found->users++;
        found->lookups += lookups;
    }
    base_mutex_unlock(&mount->lock);
    if (found == NULL)
        return DOR_E_NO_MEMORY;
    *ret = found;
    return 0;
}

struct mount_snapshot *
wake_mount_hold(struct dor_mount *mount, uint64_t inode)
{
    uint64_t number = inode >> MOUNT_NODE_BITS;
    if (number == 0)
        return NULL;
    base_mutex_lock(&mount->lock);
    struct mount_snapshot *found = find_locked(mount, number - 1);
    if (found != NULL)
        found->users++;
    base_mutex_unlock(&mount->lock);
    return found;
}

void
wake_mount_release(struct dor_mount *mount, struct mount_snapshot *snapshot)
{
    base_mutex_lock(&mount->lock);
    snapshot->users--;
    struct mount_snapshot *dead = drop_locked(mount, snapshot);
    base_mutex_unlock(&mount->lock);
    if (dead != NULL)
        snapshot_free(dead);
}

void
wake_mount_add_lookups(struct dor_mount *mount, struct mount_snapshot *snapshot, int64_t count)
{
    base_mutex_lock(&mount->lock);
    snapshot->lookups += (uint64_t)count;
    base_mutex_unlock(&mount->lock);
}

/* ------------------------------------------------------------------ pages, tree, frame */

/* Somebody may have put another snapshot under the name: only the same one will do. */
static int
open_wake(struct dor_mount *mount, struct mount_snapshot *snapshot)
{
    struct wake_snapshot *wake;
    int err = wake_snapshot_open(mount->server, snapshot->info.name, &wake);
    if (err != 0)
        return err;
    if (wake_snapshot_info(wake)->id != snapshot->info.id) {
        wake_snapshot_close(wake);
        return dor_fail(
            DOR_E_NOT_FOUND, "snapshot %s was replaced by another", snapshot->info.name);
    }
    snapshot->wake = wake;
    return 0;
}

static int
open_locked(struct dor_mount *mount, struct mount_snapshot *snapshot)
{
    int err = snapshot->wake == NULL ? open_wake(mount, snapshot) : 0;
    if (err == 0)
        snapshot->wake_users++;
    return err;
}

static void
close_locked(struct mount_snapshot *snapshot)
{
    dor_assert(snapshot->wake_users > 0);
    if (--snapshot->wake_users > 0)
        return;
    /* It refers to the pages, and who notes in it has them open. */
    wake_recorder_free(TAKE(snapshot->recorder));
    wake_snapshot_close(snapshot->wake);
    snapshot->wake = NULL;
}

int
wake_mount_pages_open(struct dor_mount *mount, struct mount_snapshot *snapshot)
{
    base_mutex_lock(&snapshot->entering);
    int err = open_locked(mount, snapshot);
    base_mutex_unlock(&snapshot->entering);
    return err;
}

void
wake_mount_pages_close(struct mount_snapshot *snapshot)
{
    base_mutex_lock(&snapshot->entering);
    close_locked(snapshot);
    base_mutex_unlock(&snapshot->entering);
}

int
wake_mount_enter(
    struct dor_mount *mount, struct mount_snapshot *snapshot, const struct mount_tree **ret)
{
    base_mutex_lock(&snapshot->entering);
    int err = 0;
    if (snapshot->tree == NULL) {
        err = open_locked(mount, snapshot);
        if (err == 0) {
            err = wake_mount_tree_new(snapshot->wake, &snapshot->tree);
            close_locked(snapshot);
        }
    }
    if (err == 0)
        *ret = snapshot->tree;
    base_mutex_unlock(&snapshot->entering);
    return err;
}

int
wake_mount_frame_open(struct mount_snapshot *snapshot)
{
    size_t size_bytes = 0;
    int err = 0;
    base_mutex_lock(&snapshot->entering);
    if (snapshot->frame == NULL) {
        err = wake_snapshot_read_frame(snapshot->wake, &snapshot->frame, &size_bytes);
        if (err == 0 && size_bytes != snapshot->tree->frame_bytes) {
            base_free(TAKE(snapshot->frame));
            err =
                dor_fail(DOR_E_CORRUPT, "snapshot %s: its frame changed", snapshot->info.name);
        }
    }
    if (err == 0)
        snapshot->frame_users++;
    base_mutex_unlock(&snapshot->entering);
    return err;
}

void
wake_mount_frame_close(struct mount_snapshot *snapshot)
{
    base_mutex_lock(&snapshot->entering);
    if (--snapshot->frame_users == 0)
        base_free(TAKE(snapshot->frame));
    base_mutex_unlock(&snapshot->entering);
}

/* ------------------------------------------------------------------ the list of names */

struct filling {
    struct mount_listing *listing;
    size_t room;
};

static int
count_row(void *context, const struct dor_snapshot_info *info)
{
    (void)info;
    ((struct filling *)context)->room++;
    return 0;
}

static int
add_row(void *context, const struct dor_snapshot_info *info)
{
    struct filling *filling = context;
    dor_assert(filling->listing->count < filling->room);
    struct mount_listing_row *row = &filling->listing->rows[filling->listing->count++];
    row->id = info->id;
    memcpy(row->name, info->name, sizeof row->name);
    return 0;
}

static int
list_locked(struct dor_store *store, struct mount_listing *listing)
{
    struct filling filling = {.listing = listing};
    int err = dor_store_refresh(store);
    if (err == 0)
        err = dor_store_list(store, count_row, &filling);
    if (err != 0)
        return err;
    listing->rows = base_array(filling.room, sizeof *listing->rows);
    return listing->rows == NULL ? DOR_E_NO_MEMORY : dor_store_list(store, add_row, &filling);
}

int
wake_mount_list(struct dor_mount *mount, struct mount_listing **ret)
{
    struct mount_listing *listing = base_zalloc(sizeof *listing);
    if (listing == NULL)
        return DOR_E_NO_MEMORY;
    base_mutex_lock(&mount->server->lock);
    int err = list_locked(mount->server->store, listing);
    base_mutex_unlock(&mount->server->lock);
    if (err != 0) {
        wake_mount_listing_free(listing);
        return err;
    }
    *ret = listing;
    return 0;
}

void
wake_mount_listing_free(struct mount_listing *listing)
{
    if (listing == NULL)
        return;
    base_free(listing->rows);
    base_free(listing);
}

/* ------------------------------------------------------------------ handles */

void
wake_mount_handle_free(struct dor_mount *mount, struct mount_handle *handle)
{
    struct mount_snapshot *snapshot = handle->snapshot;
    base_mutex_lock(&mount->lock);
    *handle->link = handle->next;
    if (handle->next != NULL)
        handle->next->link = handle->link;
    base_mutex_unlock(&mount->lock);
    if (handle->file != NULL)
        wake_mount_frame_close(snapshot);
    if (handle->node == MOUNT_NODE_MEMORY)
        wake_mount_push_closed(mount, snapshot);
    else if (handle->file != NULL)
        wake_mount_pages_close(snapshot);
    base_free(handle->sidecar);
    base_free(handle);
    wake_mount_release(mount, snapshot);
}
