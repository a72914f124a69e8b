/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mount_ops.c - what the kernel asks of a mount, and the answers, but for reads (mount_read.c).
 *
 *     inode 1                 the mount's folder: one folder a snapshot
 *       NAME/                 MOUNT_NODE_FOLDER
 *         memory              MOUNT_NODE_MEMORY
 *         sidecars/           MOUNT_NODE_SIDECARS
 *           ...               MOUNT_NODE_SIDECAR + index
 *         image, image/       MOUNT_NODE_IMAGE
 *           ...               MOUNT_NODE_FILE + index; or MOUNT_NODE_MEMORY for a file that is it
 *
 * Which snapshots there are is asked for anew each time a path goes through the first folder; what
 * a snapshot's folder has never changes and may be kept by the kernel for good.
 */
#include "wake/mount_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/size.h"

#define FOR_GOOD_S   31536000.0
#define ROOT_S       1.0 /* so that the folder of a mount that ended is seen to be none */
#define NS_PER_S     UINT64_C(1000000000)
#define SECTOR_BYTES 512u

enum { DIRENT_BYTES = 4096, OWNER = 0700, LOOKS = 0500 };

_Thread_local struct mount_worker *wake_mount_worker;

static struct dor_mount *
mount_of(fuse_req_t request)
{
    return fuse_req_userdata(request);
}

static fuse_ino_t
inode_of(uint64_t snapshot_id, unsigned node)
{
    return (snapshot_id + 1) << MOUNT_NODE_BITS | node;
}

static unsigned
node_of(fuse_ino_t inode)
{
    return (unsigned)(inode & ((1u << MOUNT_NODE_BITS) - 1));
}

/* ------------------------------------------------------------------ attributes */

static mode_t
mode_of(const struct dor_mount *mount, mode_t kind, unsigned mode)
{
    mode_t others = mount->options.allow_other ? (mode & LOOKS) >> 3 | (mode & LOOKS) >> 6 : 0;
    return kind | (mode & OWNER) | others;
}

static void
set_time(struct stat *status, uint64_t ns)
{
    struct timespec time = {(time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S)};
    status->st_atim = status->st_mtim = status->st_ctim = time;
}

static void
fill_folder(const struct dor_mount *mount, uint64_t inode, uint64_t ns, struct stat *ret)
{
    enum { MODE = 0500 };
    *ret = (struct stat){
        .st_ino = inode,
        .st_mode = mode_of(mount, S_IFDIR, MODE),
        .st_nlink = 2,
        .st_uid = getuid(),
        .st_gid = getgid(),
        .st_blksize = MOUNT_READ_BYTES_MAX};
    set_time(ret, ns);
}

static void
fill_file(
    const struct dor_mount *mount, const struct mount_snapshot *snapshot, unsigned node,
    unsigned mode, uint64_t size_bytes, uint64_t zero_bytes, struct stat *ret)
{
    fill_folder(mount, inode_of(snapshot->info.id, node), snapshot->info.created_ns, ret);
    ret->st_mode = mode_of(mount, S_IFREG, mode);
    ret->st_nlink = 1;
    ret->st_size = (off_t)size_bytes;
    ret->st_blocks = (blkcnt_t)DIV_ROUND_UP(size_bytes - zero_bytes, SECTOR_BYTES);
}

/* Writable, for QEMU before 8.2 opens its memory so even when it will not write to it. */
static void
fill_memory(
    const struct dor_mount *mount, const struct mount_snapshot *snapshot, struct stat *ret)
{
    enum { MODE = 0600 };
    const struct dor_snapshot_info *info = &snapshot->info;
    uint64_t zero_bytes = base_min_u64(info->put.total.zero_bytes, info->logical_bytes);
    fill_file(mount, snapshot, MOUNT_NODE_MEMORY, MODE, info->logical_bytes, zero_bytes, ret);
}

/* The file that NODE is, or NULL. */
static const struct mount_file *
file_of(const struct mount_tree *tree, unsigned node)
{
    if (node == MOUNT_NODE_IMAGE)
        return tree->framed && !tree->folder ? &tree->image.items[0] : NULL;
    if (node >= MOUNT_NODE_FILE)
        return tree->folder && node - MOUNT_NODE_FILE < tree->image.count
                   ? &tree->image.items[node - MOUNT_NODE_FILE]
                   : NULL;
    if (node >= MOUNT_NODE_SIDECAR && node - MOUNT_NODE_SIDECAR < tree->sidecars.count)
        return &tree->sidecars.items[node - MOUNT_NODE_SIDECAR];
    return NULL;
}

/* A positive errno. */
static int
fill(struct dor_mount *mount, struct mount_snapshot *snapshot, unsigned node, struct stat *ret)
{
    enum { READABLE = 0555 };
    const struct dor_snapshot_info *info = &snapshot->info;
    const struct mount_tree *tree;
    if (node == MOUNT_NODE_MEMORY) {
        fill_memory(mount, snapshot, ret);
        return 0;
    }
    if (node == MOUNT_NODE_FOLDER || node == MOUNT_NODE_SIDECARS) {
        fill_folder(mount, inode_of(info->id, node), info->created_ns, ret);
        return 0;
    }
    int err = wake_mount_enter(mount, snapshot, &tree);
    if (err != 0)
        return wake_mount_errno(err, info->name);
    const struct mount_file *file = file_of(tree, node);
    if (file != NULL)
        fill_file(mount, snapshot, node, file->mode & READABLE, file->size_bytes, 0, ret);
    else if (node == MOUNT_NODE_IMAGE && tree->folder)
        fill_folder(mount, inode_of(info->id, node), info->created_ns, ret);
    else
        return ENOENT;
    return 0;
}

static void
op_getattr(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *file)
{
    (void)file;
    struct dor_mount *mount = mount_of(request);
    struct stat status;
    if (inode == FUSE_ROOT_ID) {
        fill_folder(mount, inode, mount->mounted_ns, &status);
        fuse_reply_attr(request, &status, ROOT_S);
        return;
    }
    struct mount_snapshot *snapshot = wake_mount_hold(mount, inode);
    int error = snapshot == NULL ? ESTALE : fill(mount, snapshot, node_of(inode), &status);
    if (snapshot != NULL)
        wake_mount_release(mount, snapshot);
    if (error != 0)
        fuse_reply_err(request, error);
    else
        fuse_reply_attr(request, &status, FOR_GOOD_S);
}

/* ------------------------------------------------------------------ names */

static int
find_file(const struct mount_files *files, unsigned first_node, const char *name, unsigned *ret)
{
    for (size_t i = 0; i < files->count; i++)
        if (strcmp(files->items[i].name, name) == 0) {
            *ret = files->items[i].is_memory ? MOUNT_NODE_MEMORY : first_node + (unsigned)i;
            return 0;
        }
    return ENOENT;
}

static int
find_in_folder(
    struct dor_mount *mount, struct mount_snapshot *snapshot, const char *name, unsigned *ret)
{
    const struct mount_tree *tree;
    if (strcmp(name, "memory") == 0)
        *ret = MOUNT_NODE_MEMORY;
    else if (strcmp(name, "sidecars") == 0)
        *ret = MOUNT_NODE_SIDECARS;
    else if (strcmp(name, "image") == 0)
        *ret = MOUNT_NODE_IMAGE;
    else
        return ENOENT;
    if (*ret != MOUNT_NODE_IMAGE)
        return 0;
    int err = wake_mount_enter(mount, snapshot, &tree);
    if (err != 0)
        return wake_mount_errno(err, snapshot->info.name);
    return tree->framed ? 0 : ENOENT;
}

/* Which node of SNAPSHOT the name in the folder NODE is. */
static int
find_node(
    struct dor_mount *mount, struct mount_snapshot *snapshot, unsigned node, const char *name,
    unsigned *ret)
{
    const struct mount_tree *tree;
    if (strcmp(name, ".") == 0) {
        *ret = node;
        return 0;
    }
    if (node == MOUNT_NODE_FOLDER)
        return find_in_folder(mount, snapshot, name, ret);
    if (strcmp(name, "..") == 0) {
        *ret = node >= MOUNT_NODE_FILE      ? MOUNT_NODE_IMAGE
               : node >= MOUNT_NODE_SIDECAR ? MOUNT_NODE_SIDECARS
                                            : MOUNT_NODE_FOLDER;
        return 0;
    }
    int err = wake_mount_enter(mount, snapshot, &tree);
    if (err != 0)
        return wake_mount_errno(err, snapshot->info.name);
    if (node == MOUNT_NODE_SIDECARS)
        return find_file(&tree->sidecars, MOUNT_NODE_SIDECAR, name, ret);
    return node == MOUNT_NODE_IMAGE && tree->folder
               ? find_file(&tree->image, MOUNT_NODE_FILE, name, ret)
               : ENOTDIR;
}

/* Answer with NODE of SNAPSHOT, of which the kernel has been counted one look-up. */
static void
reply_entry(
    fuse_req_t request, struct mount_snapshot *snapshot, unsigned node, double timeout_s)
{
    struct dor_mount *mount = mount_of(request);
    struct fuse_entry_param entry = {
        .ino = inode_of(snapshot->info.id, node),
        .generation = 1,
        .attr_timeout = FOR_GOOD_S,
        .entry_timeout = timeout_s};
    int error = fill(mount, snapshot, node, &entry.attr);
    if (error != 0)
        fuse_reply_err(request, error);
    /* Nobody asks any more: then the kernel has not counted either. */
    if (error != 0 || fuse_reply_entry(request, &entry) != 0)
        wake_mount_add_lookups(mount, snapshot, -1);
}

static void
reply_root(fuse_req_t request)
{
    struct dor_mount *mount = mount_of(request);
    struct fuse_entry_param entry = {
        .ino = FUSE_ROOT_ID, .generation = 1, .attr_timeout = ROOT_S};
    fill_folder(mount, FUSE_ROOT_ID, mount->mounted_ns, &entry.attr);
    fuse_reply_entry(request, &entry);
}

static void
lookup_snapshot(fuse_req_t request, const char *name)
{
    struct dor_mount *mount = mount_of(request);
    struct mount_snapshot *snapshot;
    int err = wake_mount_find(mount, name, 1, &snapshot);
    if (err != 0) {
        fuse_reply_err(request, wake_mount_errno(err, name));
        return;
    }
    reply_entry(request, snapshot, MOUNT_NODE_FOLDER, 0);
    wake_mount_release(mount, snapshot);
}

static void
op_lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    struct dor_mount *mount = mount_of(request);
    bool dots = strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
    bool up = strcmp(name, "..") == 0 && node_of(parent) == MOUNT_NODE_FOLDER;
    unsigned node = 0;
    if ((parent == FUSE_ROOT_ID && dots) || (parent != FUSE_ROOT_ID && up)) {
        reply_root(request);
        return;
    }
    if (parent == FUSE_ROOT_ID) {
        lookup_snapshot(request, name);
        return;
    }
    struct mount_snapshot *snapshot = wake_mount_hold(mount, parent);
    int error =
        snapshot == NULL ? ESTALE : find_node(mount, snapshot, node_of(parent), name, &node);
    if (error != 0) {
        fuse_reply_err(request, error);
    } else {
        wake_mount_add_lookups(mount, snapshot, 1);
        reply_entry(request, snapshot, node, FOR_GOOD_S);
    }
    if (snapshot != NULL)
        wake_mount_release(mount, snapshot);
}

static void
forget(struct dor_mount *mount, fuse_ino_t inode, uint64_t lookups)
{
    struct mount_snapshot *snapshot = wake_mount_hold(mount, inode);
    if (snapshot == NULL)
        return;
    wake_mount_add_lookups(mount, snapshot, -(int64_t)lookups);
    wake_mount_release(mount, snapshot);
}

static void
op_forget(fuse_req_t request, fuse_ino_t inode, uint64_t lookups)
{
    forget(mount_of(request), inode, lookups);
    fuse_reply_none(request);
}

static void
op_forget_multi(fuse_req_t request, size_t count, struct fuse_forget_data *forgets)
{
    for (size_t i = 0; i < count; i++)
        forget(mount_of(request), forgets[i].ino, forgets[i].nlookup);
    fuse_reply_none(request);
}

/* ------------------------------------------------------------------ folders */

static void
op_opendir(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *info)
{
    struct mount_listing *listing = NULL;
    if (inode == FUSE_ROOT_ID) {
        int err = wake_mount_list(mount_of(request), &listing);
        if (err != 0) {
            fuse_reply_err(request, wake_mount_errno(err, "/"));
            return;
        }
    }
    info->fh = (uint64_t)(uintptr_t)listing;
    if (fuse_reply_open(request, info) != 0)
        wake_mount_listing_free(listing);
}

static void
op_releasedir(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *info)
{
    (void)inode;
    wake_mount_listing_free((struct mount_listing *)(uintptr_t)info->fh);
    fuse_reply_err(request, 0);
}

struct entry {
    const char *name;
    fuse_ino_t inode;
    mode_t kind;
};

static bool
entry_of_files(
    const struct mount_snapshot *snapshot, const struct mount_files *files, unsigned first_node,
    size_t index, struct entry *ret)
{
    if (index >= files->count)
        return false;
    const struct mount_file *file = &files->items[index];
    unsigned node = file->is_memory ? MOUNT_NODE_MEMORY : first_node + (unsigned)index;
    *ret = (struct entry){file->name, inode_of(snapshot->info.id, node), S_IFREG};
    return true;
}

/* Entry INDEX of the folder NODE, after the dots. */
static bool
entry_at(
    const struct mount_snapshot *snapshot, const struct mount_tree *tree, unsigned node,
    size_t index, struct entry *ret)
{
    const struct entry own[] = {
        {"memory", inode_of(snapshot->info.id, MOUNT_NODE_MEMORY), S_IFREG},
        {"sidecars", inode_of(snapshot->info.id, MOUNT_NODE_SIDECARS), S_IFDIR},
        {"image", inode_of(snapshot->info.id, MOUNT_NODE_IMAGE),
         tree->folder ? S_IFDIR : S_IFREG}};
    if (node == MOUNT_NODE_SIDECARS)
        return entry_of_files(snapshot, &tree->sidecars, MOUNT_NODE_SIDECAR, index, ret);
    if (node == MOUNT_NODE_IMAGE)
        return tree->folder &&
               entry_of_files(snapshot, &tree->image, MOUNT_NODE_FILE, index, ret);
    if (index >= ARRAY_LEN(own) - (tree->framed ? 0 : 1))
        return false;
    *ret = own[index];
    return true;
}

static bool
entry_of_root(const struct mount_listing *listing, size_t index, struct entry *ret)
{
    if (index >= listing->count)
        return false;
    const struct mount_listing_row *row = &listing->rows[index];
    *ret = (struct entry){row->name, inode_of(row->id, MOUNT_NODE_FOLDER), S_IFDIR};
    return true;
}

static void
reply_entries(
    fuse_req_t request, fuse_ino_t inode, const struct mount_snapshot *snapshot,
    const struct mount_tree *tree, const struct mount_listing *listing, size_t size_bytes,
    off_t offset)
{
    char bytes[DIRENT_BYTES];
    size_t used = 0;
    size_bytes = base_min_size(size_bytes, sizeof bytes);
    for (;; offset++) {
        struct entry entry = {offset == 0 ? "." : "..", inode, S_IFDIR};
        if (offset >= 2) {
            size_t index = (size_t)offset - 2;
            if (tree == NULL ? !entry_of_root(listing, index, &entry)
                             : !entry_at(snapshot, tree, node_of(inode), index, &entry))
                break;
        }
        struct stat status = {.st_ino = entry.inode, .st_mode = entry.kind};
        size_t more = fuse_add_direntry(
            request, bytes + used, size_bytes - used, entry.name, &status, offset + 1);
        if (more > size_bytes - used)
            break;
        used += more;
    }
    fuse_reply_buf(request, bytes, used);
}

static void
op_readdir(
    fuse_req_t request, fuse_ino_t inode, size_t size_bytes, off_t offset,
    struct fuse_file_info *info)
{
    struct dor_mount *mount = mount_of(request);
    const struct mount_listing *listing = (const struct mount_listing *)(uintptr_t)info->fh;
    const struct mount_tree *tree = NULL;
    if (offset < 0) {
        fuse_reply_err(request, EINVAL);
        return;
    }
    if (listing != NULL) {
        reply_entries(request, inode, NULL, NULL, listing, size_bytes, offset);
        return;
    }
    struct mount_snapshot *snapshot = wake_mount_hold(mount, inode);
    int err = snapshot == NULL ? 0 : wake_mount_enter(mount, snapshot, &tree);
    if (tree != NULL)
        reply_entries(request, inode, snapshot, tree, NULL, size_bytes, offset);
    else
        fuse_reply_err(
            request, snapshot == NULL ? ESTALE : wake_mount_errno(err, snapshot->info.name));
    if (snapshot != NULL)
        wake_mount_release(mount, snapshot);
}

/* ------------------------------------------------------------------ files */

static int
read_sidecar(struct mount_snapshot *snapshot, unsigned index, struct mount_handle *handle)
{
    char name[DOR_NAME_BYTES_MAX + 1];
    return wake_snapshot_read_sidecar(
        snapshot->wake, index, name, &handle->sidecar, &handle->sidecar_bytes);
}

/* Open what HANDLE needs; pages are open afterwards unless it is a sidecar. */
static int
open_node(struct dor_mount *mount, struct mount_snapshot *snapshot, struct mount_handle *handle)
{
    const struct mount_tree *tree = NULL;
    unsigned node = handle->node;
    int err = node == MOUNT_NODE_MEMORY ? 0 : wake_mount_enter(mount, snapshot, &tree);
    const struct mount_file *file = tree == NULL ? NULL : file_of(tree, node);
    if (err == 0 && node != MOUNT_NODE_MEMORY && file == NULL)
        return dor_fail(DOR_E_NOT_FOUND, "no such file");
    if (err == 0)
        err = wake_mount_pages_open(mount, snapshot);
    if (err != 0 || node == MOUNT_NODE_MEMORY)
        return err;
    bool sidecar = node >= MOUNT_NODE_SIDECAR && node < MOUNT_NODE_FILE;
    err = sidecar ? read_sidecar(snapshot, node - MOUNT_NODE_SIDECAR, handle)
                  : wake_mount_frame_open(snapshot);
    if (sidecar || err != 0)
        wake_mount_pages_close(snapshot);
    if (err == 0 && !sidecar)
        handle->file = file;
    return err;
}

static void
add_handle(struct dor_mount *mount, struct mount_handle *handle)
{
    base_mutex_lock(&mount->lock);
    handle->next = mount->handles;
    handle->link = &mount->handles;
    if (handle->next != NULL)
        handle->next->link = &handle->next;
    mount->handles = handle;
    base_mutex_unlock(&mount->lock);
}

/* A handle to NODE of SNAPSHOT, which it holds from then on; a positive errno. */
static int
new_handle(
    struct dor_mount *mount, struct mount_snapshot *snapshot, unsigned node,
    struct mount_handle **ret)
{
    struct mount_handle *handle = base_zalloc(sizeof *handle);
    if (handle == NULL)
        return ENOMEM;
    handle->snapshot = snapshot;
    handle->node = node;
    int err = open_node(mount, snapshot, handle);
    if (err != 0) {
        base_free(handle);
        return wake_mount_errno(err, snapshot->info.name);
    }
    add_handle(mount, handle);
    if (node == MOUNT_NODE_MEMORY)
        wake_mount_push_opened(mount, snapshot);
    *ret = handle;
    return 0;
}

/*
 * Who opens for writing can map shared and so change what all others see in the page cache. The
 * kernel keeps that from happening only for handles that go past the page cache.
 */
static void
set_caching(
    const struct dor_mount *mount, struct mount_handle *handle, struct fuse_file_info *info)
{
    bool writes = (info->flags & O_ACCMODE) != O_RDONLY;
    handle->cached = !writes || mount->options.trust_writers;
    info->keep_cache = 1;
    info->direct_io = !handle->cached;
    info->noflush = 1;
}

static void
op_open(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *info)
{
    struct dor_mount *mount = mount_of(request);
    struct mount_handle *handle = NULL;
    bool writes = (info->flags & O_ACCMODE) != O_RDONLY;
    if ((writes && node_of(inode) != MOUNT_NODE_MEMORY) || (info->flags & O_TRUNC) != 0) {
        fuse_reply_err(request, EROFS);
        return;
    }
    struct mount_snapshot *snapshot = wake_mount_hold(mount, inode);
    int error =
        snapshot == NULL ? ESTALE : new_handle(mount, snapshot, node_of(inode), &handle);
    if (handle == NULL) {
        if (snapshot != NULL)
            wake_mount_release(mount, snapshot);
        /* The name may mean another snapshot by now: the kernel is to look again. */
        fuse_reply_err(request, error == ENOENT ? ESTALE : error);
        return;
    }
    info->fh = (uint64_t)(uintptr_t)handle;
    set_caching(mount, handle, info);
    if (fuse_reply_open(request, info) != 0)
        wake_mount_handle_free(mount, handle);
}

static void
op_release(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *info)
{
    (void)inode;
    wake_mount_handle_free(mount_of(request), (struct mount_handle *)(uintptr_t)info->fh);
    fuse_reply_err(request, 0);
}

static void
op_read(
    fuse_req_t request, fuse_ino_t inode, size_t size_bytes, off_t offset,
    struct fuse_file_info *info)
{
    (void)inode;
    struct mount_handle *handle = (struct mount_handle *)(uintptr_t)info->fh;
    if (offset < 0)
        fuse_reply_err(request, EINVAL);
    else
        wake_mount_read(mount_of(request), request, handle, (uint64_t)offset, size_bytes);
}

/* Where data or the next hole begins in a file of SIZE_BYTES, at or after OFFSET. */
static uint64_t
seek_memory(struct wake_snapshot *wake, uint64_t offset, uint64_t size_bytes, bool hole)
{
    uint64_t page = offset / DOR_PAGE_BYTES;
    uint64_t page_count = size_bytes / DOR_PAGE_BYTES;
    uint64_t first = page;
    while (page < page_count && wake_snapshot_page_is_zero(wake, page) != hole)
        page++;
    return page == first ? offset : page * DOR_PAGE_BYTES;
}

static void
op_lseek(
    fuse_req_t request, fuse_ino_t inode, off_t offset, int whence, struct fuse_file_info *info)
{
    (void)inode;
    struct mount_handle *handle = (struct mount_handle *)(uintptr_t)info->fh;
    struct mount_snapshot *snapshot = handle->snapshot;
    bool memory = handle->node == MOUNT_NODE_MEMORY;
    uint64_t size_bytes = memory                 ? snapshot->info.logical_bytes
                          : handle->file != NULL ? handle->file->size_bytes
                                                 : handle->sidecar_bytes;
    if (whence != SEEK_DATA && whence != SEEK_HOLE) {
        fuse_reply_err(request, EINVAL);
        return;
    }
    if (offset < 0 || (uint64_t)offset >= size_bytes) {
        fuse_reply_err(request, ENXIO);
        return;
    }
    uint64_t at = whence == SEEK_HOLE ? size_bytes : (uint64_t)offset;
    if (memory) {
        wake_mount_push_forget(snapshot);
        at = seek_memory(snapshot->wake, (uint64_t)offset, size_bytes, whence == SEEK_HOLE);
    }
    if (whence == SEEK_DATA && at >= size_bytes)
        fuse_reply_err(request, ENXIO);
    else
        fuse_reply_lseek(request, (off_t)at);
}

static void
op_write(
    fuse_req_t request, fuse_ino_t inode, const char *bytes, size_t size_bytes, off_t offset,
    struct fuse_file_info *info)
{
    (void)bytes;
    (void)size_bytes;
    (void)offset;
    struct dor_mount *mount = mount_of(request);
    struct mount_snapshot *snapshot = info->writepage ? wake_mount_hold(mount, inode) : NULL;
    if (snapshot != NULL) {
        dor_log(
            ERROR, "wake", "mount_written_to", "snapshot=%s words=\"%s\"", snapshot->info.name,
            "its memory was mapped shared and written to; the page cache is dropped");
        wake_mount_push_drop(mount, snapshot);
        wake_mount_release(mount, snapshot);
    }
    fuse_reply_err(request, EROFS);
}

/* ------------------------------------------------------------------ what is refused */

static void
op_setattr(
    fuse_req_t request, fuse_ino_t inode, struct stat *status, int which,
    struct fuse_file_info *info)
{
    (void)inode;
    (void)status;
    (void)which;
    (void)info;
    fuse_reply_err(request, EROFS);
}

static void
op_create(
    fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode,
    struct fuse_file_info *info)
{
    (void)parent;
    (void)name;
    (void)mode;
    (void)info;
    fuse_reply_err(request, EROFS);
}

static void
op_mknod(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode, dev_t device)
{
    (void)parent;
    (void)name;
    (void)mode;
    (void)device;
    fuse_reply_err(request, EROFS);
}

static void
op_mkdir(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode)
{
    (void)parent;
    (void)name;
    (void)mode;
    fuse_reply_err(request, EROFS);
}

static void
op_remove(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    (void)parent;
    (void)name;
    fuse_reply_err(request, EROFS);
}

static void
op_rename(
    fuse_req_t request, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
    const char *new_name, unsigned flags)
{
    (void)parent;
    (void)name;
    (void)new_parent;
    (void)new_name;
    (void)flags;
    fuse_reply_err(request, EROFS);
}

static void
op_link(fuse_req_t request, fuse_ino_t inode, fuse_ino_t new_parent, const char *new_name)
{
    (void)inode;
    (void)new_parent;
    (void)new_name;
    fuse_reply_err(request, EROFS);
}

static void
op_symlink(fuse_req_t request, const char *target, fuse_ino_t parent, const char *name)
{
    (void)target;
    (void)parent;
    (void)name;
    fuse_reply_err(request, EROFS);
}

/* ------------------------------------------------------------------ the beginning */

static void
op_init(void *userdata, struct fuse_conn_info *connection)
{
    const struct dor_mount *mount = userdata;
    /* Nothing changes, so nothing is to be looked at again; and there is no data to be spliced. */
    const unsigned unwanted = FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_READDIRPLUS |
                              FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
                              FUSE_CAP_SPLICE_MOVE | FUSE_CAP_ATOMIC_O_TRUNC;
    enum { REQUESTS_MAX = 64 };
    connection->want &= ~unwanted;
    connection->want |= connection->capable & FUSE_CAP_EXPORT_SUPPORT;
    connection->max_read = MOUNT_READ_BYTES_MAX;
    connection->max_write = MOUNT_READ_BYTES_MAX;
    connection->max_background = REQUESTS_MAX;
    if (mount->options.one_guest)
        connection->max_readahead = 0;
}

const struct fuse_lowlevel_ops wake_mount_ops = {
    .init = op_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .forget_multi = op_forget_multi,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .opendir = op_opendir,
    .readdir = op_readdir,
    .releasedir = op_releasedir,
    .open = op_open,
    .read = op_read,
    .lseek = op_lseek,
    .write = op_write,
    .release = op_release,
    .create = op_create,
    .mknod = op_mknod,
    .mkdir = op_mkdir,
    .unlink = op_remove,
    .rmdir = op_remove,
    .rename = op_rename,
    .link = op_link,
    .symlink = op_symlink,
};
