/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_files.c - opens and maps the files of an image. A path is looked at before it is opened,
 * since to open a device or a pipe may already do something, and again afterwards, since the name
 * may mean another file by then.
 *
 * In a folder only regular files are images: links and folders in it could not be written back
 * as what they were.
 */
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/size.h"
#include "guest/image_priv.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { PERMISSIONS = 0777 };

static const char *
kind_of(mode_t mode)
{
    return S_ISDIR(mode)                    ? "a folder"
           : S_ISLNK(mode)                  ? "a symbolic link"
           : S_ISFIFO(mode)                 ? "a pipe"
           : S_ISSOCK(mode)                 ? "a socket"
           : S_ISCHR(mode) || S_ISBLK(mode) ? "a device"
                                            : "a special file";
}

static int
check_regular(const struct dor_image *image, const struct guest_file *file, mode_t mode)
{
    if (S_ISREG(mode))
        return 0;
    return dor_fail(
        DOR_E_USAGE,
        image->folder
            ? "image %s: is %s; a snapshot's folder may hold regular files only, move it away"
            : "image %s: is %s; only a regular file or a folder of them can be stored, copy it "
              "into one first",
        file->label, kind_of(mode));
}

static int
check_size(struct guest_file *file, const struct stat *status)
{
    file->size_bytes = (uint64_t)status->st_size;
    file->mode = (unsigned)status->st_mode & PERMISSIONS;
    if (file->size_bytes > GUEST_FRAME_FILE_BYTES_MAX)
        return dor_fail(
            DOR_E_USAGE, "image %s: is too large: %" PRIu64 " bytes of at most %" PRIu64,
            file->label, file->size_bytes, GUEST_FRAME_FILE_BYTES_MAX);
    return 0;
}

/* Note what of FILE is a hole, before anybody looks. */
static int
find_holes(struct guest_file *file)
{
    uint64_t end = 0;
    int rc = base_file_next_data(file->fd, 0, file->size_bytes, &file->hole_bytes, &end);
    if (rc != 0)
        return rc;
    file->sparse = file->hole_bytes > 0 || end < file->size_bytes;
    return 0;
}

/* Open PATH relative to DIRFD as FILE, whose label is set. */
static int
open_file(const struct dor_image *image, int dirfd, const char *path, struct guest_file *file)
{
    struct stat status;
    int nofollow = image->folder ? AT_SYMLINK_NOFOLLOW : 0;
    int rc = base_file_stat(dirfd, path, nofollow, file->label, &status);
    if (rc == 0)
        rc = check_regular(image, file, status.st_mode);
    if (rc == 0)
        rc = base_file_open(
            dirfd, path, O_RDONLY | O_NONBLOCK | (image->folder ? O_NOFOLLOW : 0), 0,
            &file->fd);
    if (rc == 0)
        rc = base_file_stat(file->fd, "", AT_EMPTY_PATH, file->label, &status);
    if (rc == 0)
        rc = check_regular(image, file, status.st_mode);
    if (rc == 0)
        rc = check_size(file, &status);
    if (rc == 0 && file->size_bytes > 0)
        rc = base_file_map(file->fd, file->size_bytes, file->label, &file->data);
    /* A folder may have hundreds of small files; only those that can be memory are asked again. */
    if (rc == 0 && image->folder && !guest_file_is_whole_pages(file)) {
        base_auto_close(&file->fd);
        file->fd = -1;
    }
    if (rc == 0 && file->fd >= 0)
        rc = find_holes(file);
    return rc;
}

/* A new file at the end of the list, with its label: "FOLDER/NAME", or the path itself. */
static int
add_file(struct dor_image *image, const char *name)
{
    size_t path_bytes = strlen(image->path);
    size_t name_bytes = strlen(name);
    if (image->file_count == image->file_room) {
        size_t room = image->file_room == 0 ? 8 : image->file_room * 2;
        void *files = base_realloc_array(image->files, room, sizeof *image->files);
        if (files == NULL)
            return DOR_E_NO_MEMORY;
        image->files = files;
        image->file_room = room;
    }
    AUTO_FREE char *label = base_alloc(path_bytes + name_bytes + 2);
    if (label == NULL)
        return DOR_E_NO_MEMORY;
    memcpy(label, image->path, path_bytes + 1);
    if (image->folder) {
        label[path_bytes] = '/';
        memcpy(label + path_bytes + 1, name, name_bytes + 1);
    }
    struct guest_file *file = &image->files[image->file_count++];
    *file = (struct guest_file){
        .name = image->folder ? label + path_bytes + 1 : label + path_bytes,
        .fd = -1,
    };
    file->label = TAKE(label);
    return 0;
}

static int
add_entry(const char *name, void *arg)
{
    struct dor_image *image = arg;
    if (image->file_count == GUEST_FRAME_FILES_MAX)
        return dor_fail(
            DOR_E_USAGE, "image %s: is a folder of more than %d files; no snapshot has so many",
            image->path, GUEST_FRAME_FILES_MAX);
    return add_file(image, name);
}

static int
by_name(const void *a, const void *b)
{
    return strcmp(((const struct guest_file *)a)->name, ((const struct guest_file *)b)->name);
}

static int
open_folder(struct dor_image *image)
{
    AUTO_CLOSE int dir = -1;
    int rc = base_file_open(AT_FDCWD, image->path, O_RDONLY | O_DIRECTORY, 0, &dir);
    if (rc == 0)
        rc = base_dir_list(dir, add_entry, image);
    if (rc == 0 && image->file_count == 0)
        rc = dor_fail(DOR_E_USAGE, "image %s: is an empty folder", image->path);
    if (rc != 0)
        return rc;
    qsort(image->files, image->file_count, sizeof *image->files, by_name);
    for (size_t i = 0; rc == 0 && i < image->file_count; i++)
        rc = open_file(image, dir, image->files[i].name, &image->files[i]);
    return rc;
}

int
guest_image_open_files(struct dor_image *image)
{
    struct stat status;
    if (image->path[0] == '\0')
        return dor_fail(DOR_E_USAGE, "image: the path is empty");
    int rc = base_file_stat(AT_FDCWD, image->path, 0, image->path, &status);
    if (rc != 0)
        return dor_fail_wrap("image");
    image->folder = S_ISDIR(status.st_mode);
    if (image->folder)
        return open_folder(image);
    rc = add_file(image, "");
    if (rc == 0)
        rc = open_file(image, AT_FDCWD, image->path, &image->files[0]);
    if (rc == 0 && image->files[0].size_bytes == 0)
        rc = dor_fail(DOR_E_USAGE, "image %s: is empty", image->path);
    return rc;
}

void
guest_image_close_files(struct dor_image *image)
{
    for (size_t i = 0; i < image->file_count; i++) {
        struct guest_file *file = &image->files[i];
        base_file_unmap(file->data, file->size_bytes);
        base_auto_close(&file->fd);
        base_free(file->label);
    }
    base_free(image->files);
    image->files = NULL;
    image->file_count = 0;
}

size_t
guest_image_find(const struct dor_image *image, const char *name)
{
    size_t i = 0;
    while (i < image->file_count && strcmp(image->files[i].name, name) != 0)
        i++;
    return i;
}

bool
guest_file_begins(const struct guest_file *file, const void *bytes, size_t size_bytes)
{
    return file->size_bytes >= size_bytes && file->hole_bytes == 0 &&
           memcmp(file->data, bytes, size_bytes) == 0;
}
