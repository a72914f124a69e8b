/* SPDX-License-Identifier: Apache-2.0 */
/*
 * export.c - writes a snapshot to files: image and sidecars are all written and synced under
 * temporary names before the first of them gets its own, so an error leaves nothing behind.
 */
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/newfile.h"
#include "node/framed.h"

#include <dormouse/transfer.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Everything that one get writes. */
struct output {
    struct base_newfile image; /* a row of pages and nothing else */
    bool framed;               /* or files that are in place already */
    struct base_newfile *sidecars;
    size_t sidecar_count;
    char **sidecar_paths;
    const char *directory;
    bool directory_made; /* by us, to be removed again after an error */
};

static void
output_fini(struct output *output)
{
    base_newfile_fini(&output->image);
    for (size_t i = 0; i < output->sidecar_count; i++)
        base_newfile_fini(&output->sidecars[i]);
    for (size_t i = 0; output->sidecar_paths != NULL && i < output->sidecar_count; i++)
        base_free(output->sidecar_paths[i]);
    base_free(output->sidecar_paths);
    base_free(output->sidecars);
    if (output->directory_made)
        rmdir(output->directory);
}

#define AUTO_OUTPUT __attribute__((cleanup(output_fini)))

/* Between steps that are not counted, whoever waits may want it to end. */
int
node_export_ask(const struct dor_export *how)
{
    if (how->progress == NULL || how->progress(how->progress_context, 0, 0) == 0)
        return 0;
    return dor_fail(DOR_E_BUSY, "stopped; nothing was written");
}

static int
write_image(const struct dor_export *how, struct dor_snapshot *snapshot, struct output *output)
{
    int rc = base_newfile_open(&output->image, how->path);
    if (rc != 0)
        return rc;
    rc = dor_snapshot_write_image(
        snapshot, output->image.fd, how->progress, how->progress_context);
    if (rc == 0)
        rc = base_newfile_sync(&output->image);
    /* The library knows the file by its descriptor only. */
    return rc == 0 ? 0
                   : dor_fail_wrap("%s to %s", dor_snapshot_info(snapshot)->name, how->path);
}

/* The image in the format it was put in. */
static int
write_output(const struct dor_export *how, struct dor_snapshot *snapshot, struct output *output)
{
    AUTO_FREE void *frame = NULL;
    size_t frame_bytes = 0;
    int rc = dor_snapshot_read_frame(snapshot, &frame, &frame_bytes);
    if (rc != 0 && rc != DOR_E_NOT_FOUND)
        return rc;
    output->framed = frame != NULL || how->diff_from != NULL;
    return output->framed ? node_framed_write(how, snapshot, frame, frame_bytes)
                          : write_image(how, snapshot, output);
}

/* ------------------------------------------------------------------ sidecars */

static int
make_directory(struct output *output, const char *path)
{
    struct stat status;
    if (path[0] == '\0')
        return dor_fail(DOR_E_USAGE, "--sidecars: the path is empty");
    output->directory = path;
    int rc = base_dir_make(AT_FDCWD, path, S_IRWXU);
    if (rc == 0)
        output->directory_made = true;
    if (rc != DOR_E_EXISTS)
        return rc;
    if (stat(path, &status) != 0)
        return dor_fail_errno(errno, "--sidecars %s", path);
    if (!S_ISDIR(status.st_mode))
        return dor_fail(DOR_E_USAGE, "--sidecars %s: is not a directory", path);
    return 0;
}

/* Write sidecar INDEX under its temporary name. */
static int
write_sidecar(struct dor_snapshot *snapshot, size_t index, struct output *output)
{
    char name[DOR_NAME_BYTES_MAX + 1];
    AUTO_FREE void *data = NULL;
    size_t size_bytes = 0;
    int rc = dor_snapshot_read_sidecar(snapshot, index, name, &data, &size_bytes);
    /* The name becomes part of a path, and a store may come from somebody else. */
    if (rc == 0)
        rc = dor_name_check(name);
    if (rc != 0)
        return rc;
    char *path = base_zalloc(PATH_MAX);
    if (path == NULL)
        return DOR_E_NO_MEMORY;
    output->sidecar_paths[index] = path;
    if (snprintf(path, PATH_MAX, "%s/%s", output->directory, name) >= PATH_MAX)
        return dor_fail(DOR_E_USAGE, "--sidecars %s: the path is too long", output->directory);
    struct base_newfile *file = &output->sidecars[index];
    rc = base_newfile_open(file, path);
    if (rc == 0 && !output->framed && base_newfile_same(file, &output->image))
        rc = dor_fail(
            DOR_E_USAGE, "%s: image and sidecar would be the same file; give another directory",
            path);
    if (rc == 0)
        rc = base_file_pwrite(file->fd, data, size_bytes, 0, path);
    return rc == 0 ? base_newfile_sync(file) : rc;
}

static int
write_sidecars(
    const struct dor_export *how, struct dor_snapshot *snapshot, struct output *output)
{
    size_t count = (size_t)dor_snapshot_info(snapshot)->sidecar_count;
    int rc = make_directory(output, how->sidecars_directory);
    if (rc != 0)
        return rc;
    output->sidecars = base_array(count, sizeof *output->sidecars);
    output->sidecar_paths = base_array(count, sizeof *output->sidecar_paths);
    if (output->sidecars == NULL || output->sidecar_paths == NULL)
        return base_err_record()->code;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        output->sidecars[i] = BASE_NEWFILE_NONE;
        output->sidecar_count++;
        rc = write_sidecar(snapshot, i, output);
        if (rc == 0)
            rc = node_export_ask(how);
    }
    return rc;
}

static int
commit(struct output *output)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < output->sidecar_count; i++) {
        rc = base_newfile_commit(&output->sidecars[i]);
        output->directory_made = false;
    }
    if (rc == 0 && !output->framed)
        rc = base_newfile_commit(&output->image);
    if (rc == 0)
        output->directory_made = false;
    return rc;
}

static int
write_all(const struct dor_export *how, struct dor_snapshot *snapshot, struct output *output)
{
    int rc = write_output(how, snapshot, output);
    if (rc == 0 && how->sidecars_directory != NULL)
        rc = write_sidecars(how, snapshot, output);
    if (rc == 0)
        rc = node_export_ask(how);
    return rc == 0 ? commit(output) : rc;
}

int
dor_store_export(
    struct dor_store *store, const char *name, const struct dor_export *how,
    struct dor_export_result *ret)
{
    AUTO_OUTPUT struct output output = {.image = BASE_NEWFILE_NONE};
    struct dor_snapshot *snapshot = NULL;
    int rc = dor_snapshot_open(store, name, &snapshot);
    if (rc != 0)
        return rc;
    rc = write_all(how, snapshot, &output);
    if (rc == 0)
        *ret = (struct dor_export_result){
            .logical_bytes = dor_snapshot_info(snapshot)->logical_bytes,
            .sidecar_paths = TAKE(output.sidecar_paths),
            .sidecar_count = output.sidecar_count,
        };
    dor_snapshot_close(snapshot);
    return rc;
}

void
dor_export_result_fini(struct dor_export_result *result)
{
    for (size_t i = 0; i < result->sidecar_count; i++)
        base_free(result->sidecar_paths[i]);
    base_free(result->sidecar_paths);
    *result = (struct dor_export_result){0};
}
