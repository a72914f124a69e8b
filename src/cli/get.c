/* SPDX-License-Identifier: Apache-2.0 */
/*
 * get.c - `dormouse get`. Image and sidecars are all written and synced under temporary names
 * before the first of them gets its own, so an error leaves nothing behind.
 */
#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/framed.h"
#include "cli/json.h"
#include "cli/newfile.h"
#include "cli/progress.h"
#include "cli/stop.h"
#include "cli/text.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Everything that one get writes. */
struct output {
    struct cli_newfile image; /* a row of pages and nothing else */
    bool framed;              /* or files that are in place already */
    struct cli_newfile *sidecars;
    size_t sidecar_count;
    char (*sidecar_paths)[PATH_MAX];
    const char *directory;
    bool directory_made; /* by us, to be removed again after an error */
};

static void
output_fini(struct output *output)
{
    cli_newfile_fini(&output->image);
    for (size_t i = 0; i < output->sidecar_count; i++)
        cli_newfile_fini(&output->sidecars[i]);
    base_free(output->sidecars);
    base_free(output->sidecar_paths);
    if (output->directory_made)
        rmdir(output->directory);
}

#define AUTO_OUTPUT __attribute__((cleanup(output_fini)))

static int
check_arguments(const struct cli *cli)
{
    if (cli->values.output == NULL)
        return dor_fail(DOR_E_USAGE, "get needs -o FILE, the file to write the image to");
    if (strcmp(cli->values.output, "-") == 0)
        return dor_fail(
            DOR_E_USAGE, "get cannot write to standard output: the image is written sparse and "
                         "put in place as a whole, which needs a file; give -o FILE");
    return 0;
}

static int
write_image(const struct cli *cli, struct dor_snapshot *snapshot, struct output *output)
{
    AUTO_PROGRESS struct cli_progress progress;
    cli_progress_init(&progress, cli, dor_snapshot_info(snapshot)->name);
    int rc = cli_newfile_open(&output->image, cli->values.output);
    if (rc != 0)
        return rc;
    rc = dor_snapshot_write_image(snapshot, output->image.fd, cli_progress_update, &progress);
    if (rc == 0)
        rc = cli_newfile_sync(&output->image);
    /* The library knows the file by its descriptor only. */
    return rc == 0 ? 0 : dor_fail_wrap("%s to %s", cli->args[0], cli->values.output);
}

/* The image in the format it was put in. */
static int
write_output(const struct cli *cli, struct dor_snapshot *snapshot, struct output *output)
{
    AUTO_FREE void *frame = NULL;
    size_t frame_bytes = 0;
    int rc = dor_snapshot_read_frame(snapshot, &frame, &frame_bytes);
    if (rc == DOR_E_NOT_FOUND)
        rc = 0;
    if (rc != 0)
        return rc;
    output->framed = frame != NULL || cli->values.diff_from != NULL;
    return output->framed ? cli_framed_write(cli, snapshot, frame, frame_bytes)
                          : write_image(cli, snapshot, output);
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
    char *path = output->sidecar_paths[index];
    if (snprintf(path, PATH_MAX, "%s/%s", output->directory, name) >= PATH_MAX)
        return dor_fail(DOR_E_USAGE, "--sidecars %s: the path is too long", output->directory);
    struct cli_newfile *file = &output->sidecars[index];
    rc = cli_newfile_open(file, path);
    if (rc == 0 && !output->framed && cli_newfile_same(file, &output->image))
        rc = dor_fail(
            DOR_E_USAGE, "%s: image and sidecar would be the same file; give another directory",
            path);
    if (rc == 0)
        rc = base_file_pwrite(file->fd, data, size_bytes, 0, path);
    return rc == 0 ? cli_newfile_sync(file) : rc;
}

static int
write_sidecars(struct dor_snapshot *snapshot, const char *directory, struct output *output)
{
    size_t count = (size_t)dor_snapshot_info(snapshot)->sidecar_count;
    int rc = make_directory(output, directory);
    if (rc != 0)
        return rc;
    output->sidecars = base_array(count, sizeof *output->sidecars);
    output->sidecar_paths = base_array(count, sizeof *output->sidecar_paths);
    if (output->sidecars == NULL || output->sidecar_paths == NULL)
        return base_err_record()->code;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        output->sidecars[i] = CLI_NEWFILE_NONE;
        output->sidecar_count++;
        rc = write_sidecar(snapshot, i, output);
        if (rc == 0)
            rc = cli_stop_check();
    }
    return rc;
}

static int
commit(struct output *output)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < output->sidecar_count; i++) {
        rc = cli_newfile_commit(&output->sidecars[i]);
        output->directory_made = false;
    }
    if (rc == 0 && !output->framed)
        rc = cli_newfile_commit(&output->image);
    if (rc == 0)
        output->directory_made = false;
    return rc;
}

static int
print_json(
    const struct cli *cli, const struct dor_snapshot_info *info, const struct output *output,
    uint64_t elapsed_ns)
{
    AUTO_JSON json_t *paths = json_array();
    for (size_t i = 0; i < output->sidecar_count; i++)
        if (json_array_append_new(paths, cli_json_text(output->sidecar_paths[i])) != 0)
            return cli_json_print(NULL);
    return cli_json_print(json_pack(
        "{s:o, s:o, s:o, s:O, s:o}", "name", cli_json_text(info->name), "file",
        cli_json_text(cli->values.output), "logical_bytes", cli_json_u64(info->logical_bytes),
        "sidecars", paths, "elapsed_ns", cli_json_u64(elapsed_ns)));
}

static void
print_text(
    const struct cli *cli, const struct dor_snapshot_info *info, const struct output *output,
    uint64_t elapsed_ns)
{
    char size[CLI_NUMBER_BYTES];
    char elapsed[CLI_NUMBER_BYTES];
    printf(
        "wrote %s: %s to %s in %s\n", info->name, cli_text_size(info->logical_bytes, size),
        cli->values.output, cli_text_duration(elapsed_ns, elapsed));
    for (size_t i = 0; i < output->sidecar_count; i++)
        printf("wrote %s\n", output->sidecar_paths[i]);
}

int
cli_get_run(const struct cli *cli)
{
    uint64_t start_ns = base_clock_monotonic_ns();
    AUTO_STORE struct dor_store *store = NULL;
    AUTO_SNAPSHOT struct dor_snapshot *snapshot = NULL;
    AUTO_OUTPUT struct output output = {.image = CLI_NEWFILE_NONE};
    int rc = check_arguments(cli);
    if (rc == 0)
        rc = cli_store_open(cli, DOR_OPEN_READ, &store);
    if (rc == 0)
        rc = dor_snapshot_open(store, cli->args[0], &snapshot);
    if (rc != 0)
        return rc;
    cli_stop_catch();
    rc = write_output(cli, snapshot, &output);
    if (rc == 0 && cli->values.sidecars_directory != NULL)
        rc = write_sidecars(snapshot, cli->values.sidecars_directory, &output);
    if (rc == 0)
        rc = cli_stop_check();
    if (rc == 0)
        rc = commit(&output);
    if (rc != 0)
        return rc;
    uint64_t elapsed_ns = base_clock_monotonic_ns() - start_ns;
    const struct dor_snapshot_info *info = dor_snapshot_info(snapshot);
    if (cli->values.json)
        return print_json(cli, info, &output, elapsed_ns);
    if (!cli->values.quiet)
        print_text(cli, info, &output, elapsed_ns);
    return 0;
}
