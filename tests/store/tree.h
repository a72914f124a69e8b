/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree.h - a store's directory held in memory: to put it back as it was before the next try, to
 * compare it, to measure it, to damage it.
 *
 * Ownership:  a tree owns its files: tree_fini().
 * Threads:    one tree, one thread.
 * Errors:     what is the test's own trouble ends it with bail().
 */
#ifndef TESTS_STORE_TREE_H
#define TESTS_STORE_TREE_H

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "tap.h"

struct tree_file {
    char name[128]; /* may have one folder before it */
    uint8_t *bytes;
    size_t size_bytes;
};

struct tree {
    struct tree_file *files; /* by name */
    size_t count;
};

static inline void
tree_fini(struct tree *tree)
{
    for (size_t i = 0; i < tree->count; i++)
        base_free(tree->files[i].bytes);
    base_free(tree->files);
    *tree = (struct tree){0};
}

static inline struct tree_file *
tree_find(const struct tree *tree, const char *name)
{
    for (size_t i = 0; i < tree->count; i++)
        if (strcmp(tree->files[i].name, name) == 0)
            return &tree->files[i];
    return NULL;
}

/* The file NAME, which must be there. */
static inline struct tree_file *
tree_get(const struct tree *tree, const char *name)
{
    struct tree_file *file = tree_find(tree, name);
    if (file == NULL)
        bail("no file %s", name);
    return file;
}

static inline void
tree_add(struct tree *tree, const char *name, const void *bytes, size_t size_bytes)
{
    struct tree_file *files =
        base_realloc_array(tree->files, tree->count + 1, sizeof *tree->files);
    uint8_t *copy = base_alloc(size_bytes);
    if (files == NULL || copy == NULL || strlen(name) >= sizeof files->name)
        bail("no room for %s", name);
    tree->files = files;
    if (size_bytes > 0)
        memcpy(copy, bytes, size_bytes);
    size_t at = tree->count++;
    for (; at > 0 && strcmp(files[at - 1].name, name) > 0; at--)
        files[at] = files[at - 1];
    files[at] = (struct tree_file){.bytes = copy, .size_bytes = size_bytes};
    memcpy(files[at].name, name, strlen(name) + 1);
}

static inline void
tree_remove(struct tree *tree, const char *name)
{
    struct tree_file *file = tree_find(tree, name);
    if (file == NULL)
        return;
    base_free(file->bytes);
    size_t at = (size_t)(file - tree->files);
    memmove(file, file + 1, (tree->count - at - 1) * sizeof *file);
    tree->count--;
}

static inline void
tree_copy(struct tree *to, const struct tree *from)
{
    *to = (struct tree){0};
    for (size_t i = 0; i < from->count; i++)
        tree_add(to, from->files[i].name, from->files[i].bytes, from->files[i].size_bytes);
}

/* ------------------------------------------------------------------ from and to a directory */

static inline void
tree_read_file(struct tree *tree, int dirfd, const char *name, const char *full_name)
{
    struct stat st;
    int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0)
        bail("cannot read %s", full_name);
    AUTO_FREE uint8_t *bytes = base_alloc((size_t)st.st_size);
    if (bytes == NULL || pread(fd, bytes, (size_t)st.st_size, 0) != st.st_size)
        bail("cannot read %s", full_name);
    close(fd);
    tree_add(tree, full_name, bytes, (size_t)st.st_size);
}

static inline void
tree_read_folder(struct tree *tree, int dirfd, const char *folder)
{
    DIR *dir = fdopendir(dirfd);
    if (dir == NULL)
        bail("cannot read a directory");
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char full_name[sizeof tree->files->name * 4];
        struct stat st;
        snprintf(full_name, sizeof full_name, "%s%s", folder, entry->d_name);
        if (entry->d_name[0] == '.' || fstatat(dirfd, entry->d_name, &st, 0) != 0)
            continue;
        if (!S_ISDIR(st.st_mode)) {
            tree_read_file(tree, dirfd, entry->d_name, full_name);
            continue;
        }
        strcat(full_name, "/");
        tree_read_folder(tree, openat(dirfd, entry->d_name, O_RDONLY | O_DIRECTORY), full_name);
    }
    closedir(dir);
}

static inline void
tree_read(struct tree *tree, const char *path)
{
    *tree = (struct tree){0};
    tree_read_folder(tree, open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), "");
}

static inline void
tree_empty_folder(int dirfd)
{
    DIR *dir = fdopendir(dirfd);
    if (dir == NULL)
        bail("cannot read a directory");
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] == '.' || unlinkat(dirfd, entry->d_name, 0) == 0)
            continue;
        tree_empty_folder(openat(dirfd, entry->d_name, O_RDONLY | O_DIRECTORY));
        unlinkat(dirfd, entry->d_name, AT_REMOVEDIR);
    }
    closedir(dir);
}

/* Make the directory PATH hold TREE and nothing else. */
static inline void
tree_write(const struct tree *tree, const char *path)
{
    if (mkdir(path, 0755) == 0 || access(path, W_OK) == 0)
        tree_empty_folder(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    for (size_t i = 0; i < tree->count; i++) {
        const struct tree_file *file = &tree->files[i];
        char full_path[1024];
        snprintf(full_path, sizeof full_path, "%s/%s", path, file->name);
        int fd = open(full_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (fd < 0 || write(fd, file->bytes, file->size_bytes) != (ssize_t)file->size_bytes)
            bail("cannot write %s", full_path);
        close(fd);
    }
}

/* ------------------------------------------------------------------ looking at it */

static inline uint64_t
tree_bytes(const struct tree *tree)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < tree->count; i++)
        bytes += tree->files[i].size_bytes;
    return bytes;
}

static inline bool
tree_same(const struct tree *left, const struct tree *right)
{
    if (left->count != right->count)
        return false;
    for (size_t i = 0; i < left->count; i++) {
        const struct tree_file *l = &left->files[i];
        const struct tree_file *r = &right->files[i];
        if (strcmp(l->name, r->name) != 0 || l->size_bytes != r->size_bytes ||
            memcmp(l->bytes, r->bytes, l->size_bytes) != 0)
            return false;
    }
    return true;
}

/* Bytes of all files of the directory PATH. */
static inline uint64_t
directory_bytes(const char *path)
{
    struct tree tree;
    tree_read(&tree, path);
    uint64_t bytes = tree_bytes(&tree);
    tree_fini(&tree);
    return bytes;
}

static inline void
tree_print(const struct tree *tree)
{
    for (size_t i = 0; i < tree->count; i++)
        note("%8zu %s", tree->files[i].size_bytes, tree->files[i].name);
}

#endif
