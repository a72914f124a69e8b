/* SPDX-License-Identifier: Apache-2.0 */
/*
 * put_live.c - `dormouse put NAME --pid PID`, `--memfd PID:FD`. Memory is inspected in a copy of
 * it, or, with --no-inspect, read as the put goes on.
 */
#include "base/err.h"
#include "cli/put.h"
#include "cli/stop.h"

#include <stdio.h>
#include <unistd.h>

enum { PATH_BYTES = 64 };

/* Copy the memory to a file that has a path, also for other processes. */
static int
settle(struct cli_live *memory, char ret[PATH_BYTES])
{
    int fd = -1;
    int rc = dor_live_settle(memory->live, &fd);
    if (rc == 0)
        snprintf(ret, PATH_BYTES, "/proc/%d/fd/%d", (int)getpid(), fd);
    return rc;
}

static int
open_settled(
    const struct dor_intake_options *options, struct cli_live *memory, struct dor_intake **ret)
{
    char path[PATH_BYTES];
    struct dor_image *image = NULL;
    int rc = settle(memory, path);
    if (rc == 0)
        rc = dor_image_open(path, DOR_IMAGE_RAW, &image);
    return rc == 0 ? dor_intake_open_image(options, image, ret) : rc;
}

static int
put_alone(
    const struct cli *cli, const struct dor_intake_options *options, struct cli_live *memory,
    struct dor_put_result *ret)
{
    AUTO_STORE struct dor_store *store = NULL;
    AUTO_INTAKE struct dor_intake *intake = NULL;
    AUTO_PROGRESS struct cli_progress progress;
    cli_progress_init(&progress, cli, cli->args[0]);
    int rc = cli_store_open(cli, DOR_OPEN_WRITE, &store);
    if (rc == 0)
        rc = cli_live_open(cli, memory);
    if (rc == 0)
        rc = options->no_inspect
                 ? dor_intake_open_pages(options, dor_live_source(memory->live), &intake)
                 : open_settled(options, memory, &intake);
    return rc == 0 ? cli_put_intake(cli, options, intake, store, &progress, ret) : rc;
}

static int
put_by_daemon(
    const struct cli *cli, struct cli_client *client, const struct dor_intake_options *options,
    struct cli_live *memory, struct dor_put_result *ret)
{
    char path[PATH_BYTES] = "";
    const char *const images[] = {path};
    struct dor_intake_options settled = *options;
    settled.images = images;
    settled.format = "raw";
    int rc = cli_live_open(cli, memory);
    if (rc == 0)
        rc = settle(memory, path);
    return rc == 0 ? cli_put_by_daemon(cli, client, &settled, ret) : rc;
}

int
cli_put_live(
    const struct cli *cli, const struct dor_intake_options *options, struct cli_live *memory,
    struct dor_put_result *ret)
{
    AUTO_CLIENT struct cli_client client = {0};
    int rc = cli_client_find(cli, &client);
    if (rc != 0)
        return rc;
    cli_stop_catch();
    if (client.daemon != NULL)
        return put_by_daemon(cli, &client, options, memory, ret);
    return put_alone(cli, options, memory, ret);
}
