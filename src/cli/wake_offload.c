/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wake_offload.c - `dormouse wake NAME --offload PATH`.
 */
#include "base/err.h"
#include "base/size.h"
#include "cli/client.h"
#include "cli/json.h"
#include "cli/stop.h"
#include "cli/text.h"
#include "cli/wake.h"

#include <dormouse/offload.h>
#include <inttypes.h>
#include <stdio.h>

static int
print_json(const char *name, const struct dor_offload_wake_stat *stat)
{
    AUTO_JSON json_t *object = json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "name", cli_json_text(name), "pages",
        cli_json_u64(stat->pages), "requests", cli_json_u64(stat->requests), "failed_requests",
        cli_json_u64(stat->failed_requests), "asked_pages", cli_json_u64(stat->asked_pages),
        "pushed_pages", cli_json_u64(stat->pushed_pages), "filled_pages",
        cli_json_u64(stat->filled_pages), "zero_pages", cli_json_u64(stat->zero_pages),
        "handed_over_ns", cli_json_u64(stat->first_ns));
    return cli_json_print(object == NULL ? NULL : json_incref(object));
}

static int
print_text(const char *name, const struct dor_offload_wake_stat *stat)
{
    char size[CLI_NUMBER_BYTES];
    char asked[CLI_NUMBER_BYTES];
    char pushed[CLI_NUMBER_BYTES];
    char filled[CLI_NUMBER_BYTES];
    char elapsed[CLI_NUMBER_BYTES];
    printf(
        "woke %s: %s, handed over in %s; %s asked for in %" PRIu64
        " requests, %s pushed ahead, %s filled in\n",
        name, cli_text_size(stat->pages * DOR_PAGE_BYTES, size),
        cli_text_duration(stat->first_ns, elapsed),
        cli_text_size(stat->asked_pages * DOR_PAGE_BYTES, asked), stat->requests,
        cli_text_size(stat->pushed_pages * DOR_PAGE_BYTES, pushed),
        cli_text_size(stat->filled_pages * DOR_PAGE_BYTES, filled));
    return 0;
}

/* With a page server of our own. */
static int
wake_alone(
    const struct cli *cli, const struct dor_offload_wake *how,
    struct dor_offload_wake_stat *ret)
{
    const char *directory = NULL;
    struct dor_wake_server *server = NULL;
    int rc = cli_store_directory(cli, &directory);
    if (rc == 0)
        rc = dor_wake_server_open(directory, NULL, &server);
    if (rc == 0)
        rc = dor_offload_wake(server, cli->args[0], cli->values.offload, how, ret);
    struct base_err err = *base_err_record();
    dor_wake_server_close(server);
    return rc == 0 ? 0 : base_err_load(&err);
}

int
cli_wake_offload(const struct cli *cli)
{
    AUTO_CLIENT struct cli_client client = {0};
    struct dor_offload_wake_stat stat = {0};
    const struct dor_offload_wake how = {
        .options =
            {
                .silence_ns =
                    cli->values.timeout_ns == CLI_NOT_GIVEN ? 0 : cli->values.timeout_ns,
                .stop = cli_stop_asked,
            },
        .resume = cli->values.resume,
        .postcopy = cli->values.postcopy,
        .no_fill = cli->values.no_fill,
    };
    if (how.no_fill && !how.postcopy)
        return dor_fail(
            DOR_E_USAGE, "--no-fill needs --postcopy, or the machine would lack its memory");
    cli_stop_catch();
    int rc = cli_client_find(cli, &client);
    if (rc == 0 && client.daemon != NULL)
        rc = dor_client_wake_offload(
            client.daemon, cli->args[0], cli->values.offload, &how, &stat);
    else if (rc == 0)
        rc = wake_alone(cli, &how, &stat);
    if (rc != 0)
        return rc;
    if (cli->values.json)
        return print_json(cli->args[0], &stat);
    return cli->values.quiet ? 0 : print_text(cli->args[0], &stat);
}
