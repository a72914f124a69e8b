/* SPDX-License-Identifier: Apache-2.0 */
/*
 * put.c - `dormouse put`. Everything that can be wrong with the arguments is found before the
 * writer's lock is taken.
 */
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/input.h"
#include "cli/json.h"
#include "cli/kinds.h"
#include "cli/progress.h"
#include "cli/source.h"
#include "cli/stop.h"
#include "cli/text.h"

#include <stdio.h>

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

/* Store the open image with its sidecars. */
static int
put_image(
    const struct cli *cli, const char *name, struct cli_source *source,
    const struct cli_sidecars *sidecars, struct dor_put_result *ret)
{
    AUTO_STORE struct dor_store *store = NULL;
    AUTO_PROGRESS struct cli_progress progress;
    cli_progress_init(&progress, cli, name);
    /* Before the lock is taken: whoever sees it held may count on a clean stop. */
    cli_stop_catch();
    int rc = cli_store_open(cli, DOR_OPEN_WRITE, &store);
    if (rc == 0)
        rc = cli_source_inspect(cli, store, source);
    if (rc == 0)
        rc = cli_stop_check();
    if (rc != 0)
        return rc;
    struct dor_put put = {
        .diff = cli->values.diff,
        .domain = cli->values.domain,
        .parent = cli->values.parent,
        .replace = cli->values.replace,
        .sidecars = sidecars->rows,
        .sidecar_count = sidecars->count,
        .progress = cli_progress_update,
        .progress_context = &progress,
    };
    cli_source_describe(source, &put);
    return dor_store_put(store, name, &put, ret);
}

static int
check_names(const struct cli *cli)
{
    int rc = dor_name_check(cli->args[0]);
    if (rc != 0 || cli->values.domain == NULL)
        return rc;
    rc = dor_name_check(cli->values.domain);
    return rc == 0 ? 0 : dor_fail_wrap("--domain");
}

int
cli_put_run(const struct cli *cli)
{
    const char *name = cli->args[0];
    uint64_t start_ns = base_clock_monotonic_ns();
    AUTO_SOURCE struct cli_source source = {0};
    AUTO_SIDECARS struct cli_sidecars sidecars = {0};
    struct dor_put_result result = {0};
    int rc = check_names(cli);
    if (rc == 0)
        rc = cli_source_open(cli, &source);
    if (rc == 0)
        rc = cli_sidecars_read(&cli->values.sidecars, &sidecars);
    if (rc == 0)
        rc = put_image(cli, name, &source, &sidecars, &result);
    if (rc != 0)
        return rc;
    uint64_t elapsed_ns = base_clock_monotonic_ns() - start_ns;
    if (cli->values.json)
        return print_json(name, &result, elapsed_ns);
    return cli->values.quiet ? 0 : print_text(name, &result, elapsed_ns);
}
