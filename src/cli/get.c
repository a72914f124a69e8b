/* SPDX-License-Identifier: Apache-2.0 */
/*
 * get.c - `dormouse get`.
 */
#include "base/clock.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/json.h"
#include "cli/progress.h"
#include "cli/stop.h"
#include "cli/text.h"

#include <dormouse/transfer.h>
#include <stdio.h>
#include <string.h>

#define AUTO_EXPORT_RESULT __attribute__((cleanup(dor_export_result_fini)))

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
print_json(const struct cli *cli, const struct dor_export_result *result, uint64_t elapsed_ns)
{
    AUTO_JSON json_t *paths = json_array();
    for (size_t i = 0; i < result->sidecar_count; i++)
        if (json_array_append_new(paths, cli_json_text(result->sidecar_paths[i])) != 0)
            return cli_json_print(NULL);
    return cli_json_print(json_pack(
        "{s:o, s:o, s:o, s:O, s:o}", "name", cli_json_text(cli->args[0]), "file",
        cli_json_text(cli->values.output), "logical_bytes", cli_json_u64(result->logical_bytes),
        "sidecars", paths, "elapsed_ns", cli_json_u64(elapsed_ns)));
}

static void
print_text(const struct cli *cli, const struct dor_export_result *result, uint64_t elapsed_ns)
{
    char size[CLI_NUMBER_BYTES];
    char elapsed[CLI_NUMBER_BYTES];
    printf(
        "wrote %s: %s to %s in %s\n", cli->args[0], cli_text_size(result->logical_bytes, size),
        cli->values.output, cli_text_duration(elapsed_ns, elapsed));
    for (size_t i = 0; i < result->sidecar_count; i++)
        printf("wrote %s\n", result->sidecar_paths[i]);
}

int
cli_get_run(const struct cli *cli)
{
    uint64_t start_ns = base_clock_monotonic_ns();
    AUTO_STORE struct dor_store *store = NULL;
    AUTO_STORE struct dor_store *diff_store = NULL;
    AUTO_EXPORT_RESULT struct dor_export_result result = {0};
    AUTO_PROGRESS struct cli_progress progress;
    cli_progress_init(&progress, cli, cli->args[0]);
    struct dor_export how = {
        .path = cli->values.output,
        .diff_from = cli->values.diff_from,
        .sidecars_directory = cli->values.sidecars_directory,
        .progress = cli_progress_update,
        .progress_context = &progress,
    };
    int rc = check_arguments(cli);
    if (rc == 0)
        rc = cli_store_open(cli, DOR_OPEN_READ, &store);
    if (rc == 0 && how.diff_from != NULL)
        rc = cli_store_open(cli, DOR_OPEN_READ, &diff_store);
    if (rc != 0)
        return rc;
    how.diff_store = diff_store;
    cli_stop_catch();
    rc = dor_store_export(store, cli->args[0], &how, &result);
    cli_progress_clear(&progress);
    if (rc != 0)
        return rc;
    uint64_t elapsed_ns = base_clock_monotonic_ns() - start_ns;
    if (cli->values.json)
        return print_json(cli, &result, elapsed_ns);
    if (!cli->values.quiet)
        print_text(cli, &result, elapsed_ns);
    return 0;
}
