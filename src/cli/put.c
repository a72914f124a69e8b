/* SPDX-License-Identifier: Apache-2.0 */
/*
 * put.c - `dormouse put`. Everything that can be wrong with the arguments is found before the
 * writer's lock is taken.
 */
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/json.h"
#include "cli/kinds.h"
#include "cli/progress.h"
#include "cli/stop.h"
#include "cli/text.h"

#include <dormouse/transfer.h>
#include <stdio.h>

#define AUTO_INTAKE __attribute__((cleanup(close_intake)))

static void
close_intake(struct dor_intake **intake)
{
    dor_intake_close(*intake);
}

static int
print_json(const char *name, const struct dor_put_result *result, uint64_t elapsed_ns)
{
    AUTO_JSON json_t *object = json_object();
    if (!cli_json_set(object, "name", cli_json_text(name)) ||
        !cli_json_set_kinds(object, &result->total) ||
        !cli_json_set(object, "added_bytes", cli_json_u64(result->added_bytes)) ||
        !cli_json_set(object, "pages_by_class", cli_json_classes(result->pages_by_class)) ||
        !cli_json_set(object, "dropped_bytes", cli_json_u64(result->dropped_bytes)) ||
        !cli_json_set(
            object, "by_region_type", cli_json_region_types(result->by_region_type)) ||
        !cli_json_set(object, "elapsed_ns", cli_json_u64(elapsed_ns)))
        return cli_json_print(NULL);
    return cli_json_print(json_incref(object));
}

static int
print_text(const char *name, const struct dor_put_result *result, uint64_t elapsed_ns)
{
    char logical[CLI_NUMBER_BYTES];
    char added[CLI_NUMBER_BYTES];
    char percent[CLI_NUMBER_BYTES];
    char elapsed[CLI_NUMBER_BYTES];
    uint64_t logical_bytes = result->total.logical_bytes;
    printf(
        "stored %s: %s in %s, %s of it, in %s\n", name, cli_text_size(logical_bytes, logical),
        cli_text_size(result->added_bytes, added),
        cli_text_percent(result->added_bytes, logical_bytes, percent),
        cli_text_duration(elapsed_ns, elapsed));
    return cli_kinds_print_added(&result->total);
}

static void
warn(const struct cli *cli, const char *words)
{
    if (words[0] != '\0')
        fprintf(stderr, "dormouse: %s: %s\n", cli->args[1], words);
}

static int
put_alone(
    const struct cli *cli, const struct dor_intake_options *options,
    struct cli_progress *progress, struct dor_put_result *ret)
{
    AUTO_INTAKE struct dor_intake *intake = NULL;
    AUTO_STORE struct dor_store *store = NULL;
    dor_intake_guard();
    int rc = dor_intake_open(options, &intake);
    if (rc != 0)
        return rc;
    /* Before the lock is taken: whoever sees it held may count on a clean stop. */
    cli_stop_catch();
    rc = cli_store_open(cli, DOR_OPEN_WRITE, &store);
    if (rc == 0)
        rc = dor_intake_put(intake, store, cli->args[0], cli_progress_update, progress, ret);
    cli_progress_clear(progress);
    warn(cli, dor_intake_warning(intake));
    return rc;
}

static int
put_image(
    const struct cli *cli, const struct dor_intake_options *options, struct dor_put_result *ret)
{
    AUTO_CLIENT struct cli_client client = {0};
    AUTO_PROGRESS struct cli_progress progress;
    char warning[DOR_WARNING_BYTES] = "";
    cli_progress_init(&progress, cli, cli->args[0]);
    int rc = cli_client_find(cli, &client);
    if (rc != 0)
        return rc;
    if (client.daemon == NULL)
        return put_alone(cli, options, &progress, ret);
    cli_stop_catch();
    rc = dor_client_put(
        client.daemon, cli->args[0], options, cli_progress_update, &progress, ret, warning);
    cli_progress_clear(&progress);
    warn(cli, warning);
    return rc;
}

static void
fill_options(const struct cli *cli, struct dor_intake_options *ret)
{
    const struct cli_values *values = &cli->values;
    *ret = (struct dor_intake_options){
        .images = (const char *const *)cli->args + 1,
        .image_count = cli->arg_count - 1,
        .sidecars = values->sidecars.items,
        .sidecar_count = values->sidecars.count,
        .format = values->format,
        .parent = values->parent,
        .domain = values->domain,
        .replace = values->replace,
        .diff = values->diff,
        .drop_free = values->drop_free,
        .no_inspect = values->no_inspect,
        .process = values->process,
        .profile_directory = values->profiles,
        .vmlinux = values->vmlinux,
    };
}

int
cli_put_run(const struct cli *cli)
{
    const char *name = cli->args[0];
    uint64_t start_ns = base_clock_monotonic_ns();
    struct dor_intake_options options;
    struct dor_put_result result = {0};
    fill_options(cli, &options);
    int rc = dor_name_check(name);
    if (rc == 0)
        rc = dor_intake_check(&options);
    if (rc == 0)
        rc = put_image(cli, &options, &result);
    if (rc != 0)
        return rc;
    uint64_t elapsed_ns = base_clock_monotonic_ns() - start_ns;
    if (cli->values.json)
        return print_json(name, &result, elapsed_ns);
    return cli->values.quiet ? 0 : print_text(name, &result, elapsed_ns);
}
