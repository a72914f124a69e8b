/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mount_tree.c - what a snapshot's folder in a mount has: its sidecars, and the files of its frame
 * with a map of each, from offsets to pages, literal bytes and zeros.
 */
#include "wake/mount_priv.h"

#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"

static void
files_free(struct mount_files *files)
{
    for (size_t i = 0; i < files->count; i++) {
        base_free(files->items[i].name);
        base_free(files->items[i].pieces);
    }
    base_free(files->items);
}

void
wake_mount_tree_free(struct mount_tree *tree)
{
    if (tree == NULL)
        return;
    files_free(&tree->sidecars);
    files_free(&tree->image);
    base_free(tree);
}

/* Append to an array that doubles. */
static void *
grow(void *items, size_t count, size_t item_bytes)
{
    if (count != 0 && (count & (count - 1)) != 0)
        return items;
    return base_realloc_array(items, count == 0 ? 1 : 2 * count, item_bytes);
}

static int
add_file(struct mount_files *files, const char *name, unsigned mode, uint64_t size_bytes)
{
    struct mount_file *items = grow(files->items, files->count, sizeof *items);
    if (items == NULL)
        return DOR_E_NO_MEMORY;
    files->items = items;
    size_t name_bytes = strlen(name) + 1;
    char *copy = base_alloc(name_bytes);
    if (copy == NULL)
        return DOR_E_NO_MEMORY;
    memcpy(copy, name, name_bytes);
    items[files->count++] =
        (struct mount_file){.name = base_keep(copy), .mode = mode, .size_bytes = size_bytes};
    return 0;
}

struct visit {
    struct mount_tree *tree;
    const uint8_t *frame;
};

static int
visit_file(void *context, const char *name, unsigned mode, uint64_t size_bytes)
{
    const struct visit *visit = context;
    visit->tree->folder = name[0] != '\0';
    return add_file(&visit->tree->image, name, mode, size_bytes);
}

static int
visit_piece(void *context, const struct dor_frame_piece *piece)
{
    const struct visit *visit = context;
    struct mount_files *files = &visit->tree->image;
    struct mount_file *file = &files->items[files->count - 1];
    struct mount_piece *pieces = grow(file->pieces, file->piece_count, sizeof *pieces);
    if (pieces == NULL)
        return DOR_E_NO_MEMORY;
    file->pieces = pieces;
    struct mount_piece *last = file->piece_count == 0 ? NULL : &pieces[file->piece_count - 1];
    pieces[file->piece_count++] = (struct mount_piece){
        .kind = piece->kind,
        .offset = last == NULL ? 0 : last->offset + last->size_bytes,
        .size_bytes = piece->size_bytes,
        .source = piece->kind == DOR_FRAME_LITERAL ? (uint64_t)(piece->bytes - visit->frame)
                                                   : piece->first_page};
    return 0;
}

static int
read_frame(struct wake_snapshot *snapshot, struct mount_tree *tree)
{
    AUTO_FREE void *frame = NULL;
    int err = wake_snapshot_read_frame(snapshot, &frame, &tree->frame_bytes);
    if (err == DOR_E_NOT_FOUND || (err == 0 && tree->frame_bytes == 0))
        return 0;
    if (err != 0)
        return err;
    struct visit visit = {tree, frame};
    const struct dor_frame_visitor visitor = {visit_file, visit_piece, &visit};
    uint64_t page_count = wake_snapshot_page_count(snapshot);
    err = dor_frame_visit(frame, tree->frame_bytes, page_count, &visitor);
    if (err != 0)
        return err;
    tree->framed = true;
    for (size_t i = 0; i < tree->image.count; i++) {
        struct mount_file *file = &tree->image.items[i];
        file->is_memory = file->piece_count == 1 && file->pieces[0].kind == DOR_FRAME_PAGES &&
                          file->pieces[0].source == 0 &&
                          file->size_bytes == page_count * DOR_PAGE_BYTES;
    }
    return 0;
}

static int
read_sidecars(struct wake_snapshot *snapshot, struct mount_tree *tree)
{
    enum { MODE = 0600 };
    uint64_t count = wake_snapshot_info(snapshot)->sidecar_count;
    int err = count > DOR_SIDECARS_MAX
                  ? dor_fail(DOR_E_CORRUPT, "%llu sidecars", (unsigned long long)count)
                  : 0;
    for (size_t i = 0; err == 0 && i < count; i++) {
        char name[DOR_NAME_BYTES_MAX + 1];
        AUTO_FREE void *data = NULL;
        size_t size_bytes = 0;
        err = wake_snapshot_read_sidecar(snapshot, i, name, &data, &size_bytes);
        if (err == 0)
            err = dor_name_check(name);
        if (err == 0)
            err = add_file(&tree->sidecars, name, MODE, size_bytes);
    }
    return err;
}

int
wake_mount_tree_new(struct wake_snapshot *snapshot, struct mount_tree **ret)
{
    struct mount_tree *tree = base_zalloc(sizeof *tree);
    if (tree == NULL)
        return DOR_E_NO_MEMORY;
    int err = read_sidecars(snapshot, tree);
    if (err == 0)
        err = read_frame(snapshot, tree);
    if (err != 0) {
        wake_mount_tree_free(tree);
        return err;
    }
    *ret = tree;
    return 0;
}
