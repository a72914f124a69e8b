/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve.c - `dormouse serve`.
 */
#include "cli/cli.h"
#include "cli/json.h"
#include "cli/text.h"

#include <dormouse/node.h>
#include <stdio.h>

/* Whoever started the program may connect from this line on. */
static void
tell_ready(void *context, const char *socket_path)
{
    const struct cli *cli = context;
    if (cli->values.quiet)
        return;
    if (cli->values.json) {
        int rc = cli_json_print(json_pack("{s:o}", "socket", cli_json_text(socket_path)));
        (void)rc; /* a closed output is no reason to end */
    } else {
        printf("listening at %s\n", socket_path);
    }
    fflush(stdout);
}

int
cli_serve_run(const struct cli *cli)
{
    const char *directory = NULL;
    const struct dor_daemon daemon = {
        .socket_path = cli->values.socket,
        .config_path = cli->values.config,
        .socket_mode = cli->values.socket_mode,
        .resp = cli->values.resp.items,
        .resp_count = cli->values.resp.count,
        .tenants_path = cli->values.tenants,
        .ready = tell_ready,
        .ready_context = (void *)(uintptr_t)cli,
    };
    int rc = cli_store_directory(cli, &directory);
    return rc == 0 ? dor_daemon_serve(directory, &daemon) : rc;
}
