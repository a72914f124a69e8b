/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gc.c - `dormouse gc`.
 */
#include "base/err.h"
#include "base/size.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/json.h"
#include "cli/progress.h"
#include "cli/stop.h"
#include "cli/table.h"
#include "cli/text.h"

#include <inttypes.h>
#include <stdio.h>

#define NS_PER_DAY (UINT64_C(86400) * 1000000000)

static int
print_json(const struct dor_gc_result *result)
{
    return cli_json_print(json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b}", "before_bytes",
        cli_json_u64(result->before_bytes), "after_bytes", cli_json_u64(result->after_bytes),
        "freed_bytes",
        cli_json_u64(
            result->before_bytes - base_min_u64(result->before_bytes, result->after_bytes)),
        "dead_pages", cli_json_u64(result->dead_pages), "live_pages",
        cli_json_u64(result->live_pages), "rewritten_segments",
        cli_json_u64(result->rewritten_segments), "clustered_pages",
        cli_json_u64(result->clustered_pages), "complete", result->complete));
}

static int
print_text(const struct dor_gc_result *result)
{
    AUTO_TABLE struct cli_table table = {.columns = "lr"};
    cli_table_cell(&table, "before");
    cli_table_size(&table, result->before_bytes);
    cli_table_cell(&table, "after");
    cli_table_size(&table, result->after_bytes);
    cli_table_cell(&table, "dead pages");
    cli_table_cell(&table, "%" PRIu64, result->dead_pages);
    cli_table_cell(&table, "live pages");
    cli_table_cell(&table, "%" PRIu64, result->live_pages);
    cli_table_cell(&table, "rewritten segments");
    cli_table_cell(&table, "%" PRIu64, result->rewritten_segments);
    if (result->clustered_pages > 0) {
        cli_table_cell(&table, "clustered pages");
        cli_table_cell(&table, "%" PRIu64, result->clustered_pages);
    }
    int rc = cli_table_print(&table);
    if (rc == 0 && !result->complete)
        puts("not complete; call gc again to go on");
    return rc;
}

static int
collect(const struct cli *cli, struct dor_gc_result *ret)
{
    AUTO_CLIENT struct cli_client client = {0};
    AUTO_STORE struct dor_store *store = NULL;
    AUTO_PROGRESS struct cli_progress progress;
    const struct cli_values *values = &cli->values;
    cli_progress_init(&progress, cli, values->squeeze ? "squeeze" : "gc");
    /* Before the lock is taken, as put does. */
    cli_stop_catch();
    int rc = cli_client_find(cli, &client);
    if (rc == 0 && client.daemon == NULL)
        rc = cli_store_open(cli, DOR_OPEN_WRITE, &store);
    if (rc == 0)
        rc = cli_stop_check();
    if (rc != 0)
        return rc;
    const struct dor_gc gc = {
        .squeeze = values->squeeze,
        .cluster = values->cluster,
        .squeeze_age_ns =
            values->older_than_ns == CLI_NOT_GIVEN ? NS_PER_DAY : values->older_than_ns,
        .work_bytes_max = values->max_work_bytes,
        .progress = cli_progress_update,
        .progress_context = &progress,
    };
    return client.daemon != NULL ? dor_client_gc(client.daemon, &gc, ret)
                                 : dor_store_gc(store, &gc, ret);
}

int
cli_gc_run(const struct cli *cli)
{
    struct dor_gc_result result = {0};
    if (cli->values.older_than_ns != CLI_NOT_GIVEN && !cli->values.squeeze)
        return dor_fail(DOR_E_USAGE, "--older-than is for --squeeze; give both or neither");
    int rc = collect(cli, &result);
    if (rc != 0)
        return rc;
    if (cli->values.json)
        rc = print_json(&result);
    else if (!cli->values.quiet)
        rc = print_text(&result);
    /* What was done stays done, but whoever asked for all of it is to learn that it is not. */
    return rc == 0 && !result.complete ? cli_stop_check() : rc;
}
