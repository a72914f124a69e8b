/* SPDX-License-Identifier: Apache-2.0 */
/*
 * put.c - `dormouse put`, of files, of a machine that a monitor hands over, or of memory in use.
 * Everything that can be wrong with the arguments is found before the writer's lock is taken.
 */
#include "cli/put.h"

#include "base/clock.h"
#include "base/err.h"
#include "cli/json.h"
#include "cli/kinds.h"
#include "cli/live.h"
#include "cli/stop.h"
#include "cli/text.h"

#include <stdio.h>

static int
print_json(
    const char *name, const struct dor_put_result *result, const struct cli_live *memory,
    uint64_t elapsed_ns)
{
    AUTO_JSON json_t *object = json_object();
    if (!cli_json_set(object, "name", cli_json_text(name)) ||
        !cli_json_set_kinds(object, &result->total) ||
        !cli_json_set(object, "added_bytes", cli_json_u64(result->added_bytes)) ||
        !cli_json_set(object, "pages_by_class", cli_json_classes(result->pages_by_class)) ||
        !cli_json_set(object, "dropped_bytes", cli_json_u64(result->dropped_bytes)) ||
        !cli_json_set(
            object, "by_region_type", cli_json_region_types(result->by_region_type)) ||
        !cli_json_set(object, "elapsed_ns", cli_json_u64(elapsed_ns)) ||
        !cli_live_json(memory, object))
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

/* ------------------------------------------------------------------ the work */

void
cli_put_warn(const struct dor_intake_options *options, const char *words)
{
    if (words[0] != '\0')
        fprintf(stderr, "dormouse: %s: %s\n", options->images[0], words);
}

int
cli_put_intake(
    const struct cli *cli, const struct dor_intake_options *options, struct dor_intake *intake,
    struct dor_store *store, struct cli_progress *progress, struct dor_put_result *ret)
{
    int rc = dor_intake_put(intake, store, cli->args[0], cli_progress_update, progress, ret);
    cli_progress_clear(progress);
    cli_put_warn(options, dor_intake_warning(intake));
    return rc;
}

int
cli_put_by_daemon(
    const struct cli *cli, struct cli_client *client, const struct dor_intake_options *options,
    struct dor_put_result *ret)
{
    AUTO_PROGRESS struct cli_progress progress;
    char warning[DOR_WARNING_BYTES] = "";
    cli_progress_init(&progress, cli, cli->args[0]);
    int rc = dor_client_put(
        client->daemon, cli->args[0], options, cli_progress_update, &progress, ret, warning);
    cli_progress_clear(&progress);
    cli_put_warn(options, warning);
    return rc;
}

static int
put_alone(
    const struct cli *cli, const struct dor_intake_options *options, struct dor_put_result *ret)
{
    AUTO_PROGRESS struct cli_progress progress;
    AUTO_INTAKE struct dor_intake *intake = NULL;
    AUTO_STORE struct dor_store *store = NULL;
    cli_progress_init(&progress, cli, cli->args[0]);
    int rc = dor_intake_open(options, &intake);
    if (rc != 0)
        return rc;
    /* Before the lock is taken: whoever sees it held may count on a clean stop. */
    cli_stop_catch();
    rc = cli_store_open(cli, DOR_OPEN_WRITE, &store);
    return rc == 0 ? cli_put_intake(cli, options, intake, store, &progress, ret) : rc;
}

static int
put_files(
    const struct cli *cli, const struct dor_intake_options *options, struct dor_put_result *ret)
{
    AUTO_CLIENT struct cli_client client = {0};
    int rc = cli_client_find(cli, &client);
    if (rc != 0)
        return rc;
    if (client.daemon == NULL)
        return put_alone(cli, options, ret);
    cli_stop_catch();
    return cli_put_by_daemon(cli, &client, options, ret);
}

/* ------------------------------------------------------------------ the verb */

static int
check_sources(const struct cli *cli)
{
    const struct cli_values *values = &cli->values;
    int sources = (cli->arg_count > 1) + (values->offload != NULL) + (values->pid != NULL) +
                  (values->memfd != NULL);
    if (sources != 1)
        return dor_fail(
            DOR_E_USAGE,
            "put needs one source: an image, --offload PATH, --pid PID or --memfd PID:FD");
    if (cli->arg_count == 1 && (values->diff || values->format != NULL))
        return dor_fail(
            DOR_E_USAGE, "machines and memory are taken whole, without --diff and --format");
    if (values->timeout_ns != CLI_NOT_GIVEN && values->offload == NULL)
        return dor_fail(DOR_E_USAGE, "--timeout needs --offload PATH");
    return 0;
}

static void
fill_options(const struct cli *cli, struct dor_intake_options *ret)
{
    static const char *const machine[] = {"the machine"};
    static const char *const process[] = {"the process"};
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
    if (cli->arg_count > 1)
        return;
    ret->images = values->offload != NULL ? machine : process;
    ret->image_count = 1;
}

static int
put_source(
    const struct cli *cli, const struct dor_intake_options *options, struct cli_live *memory,
    struct dor_put_result *ret)
{
    dor_intake_guard();
    if (cli->values.offload != NULL)
        return cli_put_offload(cli, options, ret);
    if (cli->values.pid != NULL || cli->values.memfd != NULL)
        return cli_put_live(cli, options, memory, ret);
    return put_files(cli, options, ret);
}

int
cli_put_run(const struct cli *cli)
{
    const char *name = cli->args[0];
    uint64_t start_ns = base_clock_monotonic_ns();
    AUTO_LIVE struct cli_live memory = {0};
    struct dor_intake_options options;
    struct dor_put_result result = {0};
    int rc = dor_name_check(name);
    if (rc == 0)
        rc = check_sources(cli);
    if (rc == 0)
        rc = cli_live_parse(cli, &memory);
    fill_options(cli, &options);
    if (rc == 0)
        rc = dor_intake_check(&options);
    if (rc == 0)
        rc = put_source(cli, &options, &memory, &result);
    if (rc != 0)
        return rc;
    uint64_t elapsed_ns = base_clock_monotonic_ns() - start_ns;
    if (cli->values.json)
        return print_json(name, &result, &memory, elapsed_ns);
    if (cli->values.quiet)
        return 0;
    rc = print_text(name, &result, elapsed_ns);
    cli_live_print(&memory);
    return rc;
}
