/* SPDX-License-Identifier: Apache-2.0 */
/*
 * put_offload.c - `dormouse put NAME --offload PATH`. The monitor is answered only when all is on
 * disk, or has failed.
 */
#include "base/err.h"
#include "cli/put.h"
#include "cli/stop.h"

#include <dormouse/offload.h>
#include <stdio.h>

static void
tell_ready(void *context)
{
    const struct cli *cli = context;
    if (cli->values.quiet || cli->values.json)
        return;
    fprintf(stderr, "dormouse: waiting for a machine at %s\n", cli->values.offload);
}

static int
put_machine(
    const struct cli *cli, const struct dor_intake_options *options,
    struct dor_offload *offload, struct dor_put_result *ret)
{
    AUTO_STORE struct dor_store *store = NULL;
    AUTO_INTAKE struct dor_intake *intake = NULL;
    AUTO_PROGRESS struct cli_progress progress;
    struct dor_image *image = NULL;
    cli_progress_init(&progress, cli, cli->args[0]);
    /* The lock is taken before the machine is paused, but not held while nobody has connected. */
    int rc = cli_store_open(cli, DOR_OPEN_WRITE, &store);
    if (rc == 0)
        rc = dor_offload_receive(offload, &image);
    if (rc != 0)
        return rc;
    rc = dor_intake_open_image(options, image, &intake);
    if (rc == 0)
        rc = cli_put_intake(cli, options, intake, store, &progress, ret);
    struct base_err err = *base_err_record();
    int answered = dor_offload_answer(offload, rc == 0);
    if (rc != 0)
        return base_err_load(&err);
    if (answered != 0)
        fprintf(
            stderr, "dormouse: %s is stored, but the monitor was not there to be told: %s\n",
            cli->args[0], dor_err_message());
    return 0;
}

static uint64_t
timeout_of(const struct cli *cli)
{
    return cli->values.timeout_ns == CLI_NOT_GIVEN ? 0 : cli->values.timeout_ns;
}

/* The daemon listens; it may be a moment before it does. */
static int
put_by_daemon(
    const struct cli *cli, struct cli_client *client, const struct dor_intake_options *options,
    struct dor_put_result *ret)
{
    AUTO_PROGRESS struct cli_progress progress;
    char warning[DOR_WARNING_BYTES] = "";
    cli_progress_init(&progress, cli, cli->args[0]);
    tell_ready((void *)(uintptr_t)cli);
    int rc = dor_client_put_offload(
        client->daemon, cli->args[0], cli->values.offload, timeout_of(cli), options,
        cli_progress_update, &progress, ret, warning);
    cli_progress_clear(&progress);
    cli_put_warn(options, warning);
    return rc;
}

int
cli_put_offload(
    const struct cli *cli, const struct dor_intake_options *options, struct dor_put_result *ret)
{
    AUTO_CLIENT struct cli_client client = {0};
    struct dor_offload *offload = NULL;
    const struct dor_offload_options how = {
        .silence_ns = timeout_of(cli),
        .stop = cli_stop_asked,
        .ready = tell_ready,
        .ready_context = (void *)(uintptr_t)cli,
    };
    int rc = cli_client_find(cli, &client);
    if (rc != 0)
        return rc;
    cli_stop_catch();
    if (client.daemon != NULL)
        return put_by_daemon(cli, &client, options, ret);
    rc = dor_offload_accept(cli->values.offload, &how, &offload);
    if (rc == 0)
        rc = put_machine(cli, options, offload, ret);
    dor_offload_close(offload);
    return rc;
}
