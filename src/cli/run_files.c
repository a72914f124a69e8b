/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run_files.c - finds what a QEMU guest is woken from in its snapshot's folder of a mount: memory,
 * the device state, which is the file that begins like a migration stream, and qemu.json.
 *
 * A mount of run's own is taken out of the folder tree once its files are open. So nothing is left
 * behind however run ends, and nobody else can look in.
 */
#include "cli/run.h"

#include "base/err.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DESCRIPTION_NAME "qemu.json"

enum { DESCRIPTION_BYTES_MAX = 1 << 20, MAGIC_BYTES = 4 };

void
cli_run_files_fini(struct cli_run_files *files)
{
    base_auto_close(&files->memory_fd);
    base_auto_close(&files->state_fd);
    base_buf_free(&files->description);
    dor_mount_close(files->mount);
    dor_wake_server_close(files->server);
}

/* ------------------------------------------------------------------ one folder of them */

struct search {
    struct cli_run_files *files;
    int dirfd;
};

static int
try_state(struct search *search, const char *name)
{
    AUTO_CLOSE int fd = -1;
    char magic[MAGIC_BYTES];
    size_t bytes = 0;
    struct cli_run_files *files = search->files;
    int rc = base_file_open(search->dirfd, name, O_RDONLY, 0, &fd);
    if (rc == 0)
        rc = base_file_pread_some(fd, magic, sizeof magic, 0, name, &bytes);
    if (rc != 0 || bytes < sizeof magic || memcmp(magic, "QEVM", sizeof magic) != 0)
        return rc;
    if (files->state_fd >= 0)
        return dor_fail(
            DOR_E_USAGE, "the snapshot has two device states, one is %s; it must have one",
            name);
    files->state_fd = base_take_fd(&fd);
    return 0;
}

static int
try_file(const char *name, void *arg)
{
    struct search *search = arg;
    struct stat status;
    int rc = base_file_stat(search->dirfd, name, 0, name, &status);
    if (rc != 0 || !S_ISREG(status.st_mode))
        return rc;
    if (strcmp(name, DESCRIPTION_NAME) == 0 && search->files->description.size_bytes == 0)
        return base_file_read_all(
            search->dirfd, name, DESCRIPTION_BYTES_MAX, &search->files->description);
    /* Memory looks like anything. */
    return (uint64_t)status.st_size == search->files->memory_bytes ? 0
                                                                   : try_state(search, name);
}

/* Look through the folder NAME, if there is one. */
static int
search_folder(struct cli_run_files *files, int snapshot_fd, const char *name)
{
    AUTO_CLOSE int dirfd = -1;
    struct stat status;
    int rc = base_file_stat(snapshot_fd, name, 0, name, &status);
    if (rc == DOR_E_NOT_FOUND || (rc == 0 && !S_ISDIR(status.st_mode)))
        return 0;
    if (rc == 0)
        rc = base_file_open(snapshot_fd, name, O_RDONLY | O_DIRECTORY, 0, &dirfd);
    struct search search = {files, dirfd};
    return rc == 0 ? base_dir_list(dirfd, try_file, &search) : rc;
}

/* ------------------------------------------------------------------ the snapshot */

static int
open_snapshot(const char *directory, const char *name, struct cli_run_files *files)
{
    AUTO_CLOSE int mount_fd = -1;
    AUTO_CLOSE int snapshot_fd = -1;
    int rc = dor_name_check(name);
    if (rc == 0)
        rc = base_file_open(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY, 0, &mount_fd);
    if (rc == 0)
        rc = base_file_open(mount_fd, name, O_RDONLY | O_DIRECTORY, 0, &snapshot_fd);
    if (rc == 0)
        rc = base_file_open(snapshot_fd, "memory", O_RDONLY, 0, &files->memory_fd);
    if (rc == 0)
        rc = base_file_size(files->memory_fd, "memory", &files->memory_bytes);
    if (rc == 0)
        rc = search_folder(files, snapshot_fd, "sidecars");
    if (rc == 0)
        rc = search_folder(files, snapshot_fd, "image");
    if (rc != 0)
        return dor_fail_wrap("snapshot %s", name);
    if (files->state_fd < 0)
        return dor_fail(
            DOR_E_USAGE,
            "snapshot %s has no device state of QEMU; put it with --sidecar or as a folder",
            name);
    if (files->description.size_bytes == 0)
        return dor_fail(
            DOR_E_USAGE,
            "snapshot %s has no " DESCRIPTION_NAME ", which says how QEMU was started; put it "
            "with --sidecar (see QEMU GUESTS in dormouse(1))",
            name);
    return 0;
}

/* A folder that only this user can look into. */
static int
make_folder(char path[PATH_MAX])
{
    const char *parent = getenv("XDG_RUNTIME_DIR");
    if (parent == NULL || parent[0] == '\0')
        parent = getenv("TMPDIR");
    if (parent == NULL || parent[0] == '\0')
        parent = "/tmp";
    if (snprintf(path, PATH_MAX, "%s/dormouse-run-XXXXXX", parent) >= PATH_MAX)
        return dor_fail(DOR_E_USAGE, "%s: the path is too long", parent);
    if (mkdtemp(path) == NULL)
        return dor_fail_errno(errno, "%s: cannot make a folder for a mount", path);
    return 0;
}

static int
open_own_mount(const struct cli *cli, const char *path, struct cli_run_files *files)
{
    const char *store = NULL;
    const struct dor_wake_options wake = {.cache_bytes = cli->values.cache_bytes};
    /* The only one to map its files is the QEMU that run starts next, privately. */
    const struct dor_mount_options options = {.trust_writers = true, .one_guest = true};
    int rc = cli_store_directory(cli, &store);
    if (rc == 0)
        rc = dor_wake_server_open(store, &wake, &files->server);
    if (rc == 0)
        rc = dor_mount_open(files->server, path, &options, &files->mount);
    if (rc == 0)
        rc = open_snapshot(path, cli->args[0], files);
    if (files->mount != NULL)
        dor_mount_detach(files->mount);
    return rc;
}

int
cli_run_files_open(const struct cli *cli, struct cli_run_files *files)
{
    char path[PATH_MAX];
    if (cli->values.mount != NULL)
        return open_snapshot(cli->values.mount, cli->args[0], files);
    int rc = make_folder(path);
    if (rc != 0)
        return rc;
    rc = open_own_mount(cli, path, files);
    rmdir(path);
    return rc;
}
