/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check.c - `dormouse check`. A store that cannot be opened because its catalog is damaged or gone
 * is the one that most needs to be checked, so then the directory is looked at without opening it.
 */
#include "base/err.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/json.h"
#include "cli/progress.h"
#include "cli/stop.h"
#include "cli/table.h"
#include "cli/text.h"

#include <inttypes.h>
#include <stdio.h>

struct report {
    struct cli_progress *progress;
    json_t *findings; /* NULL when they are printed as they come */
    bool lost;        /* one could not be added */
};

static void
add_json(struct report *report, const struct dor_finding *finding)
{
    json_t *row = json_pack(
        "{s:o, s:o, s:o}", "file", cli_json_text(finding->file), "detail",
        cli_json_text(finding->detail), "snapshot", cli_json_text(finding->snapshot));
    if (json_array_append_new(report->findings, row) != 0)
        report->lost = true;
}

static void
print_finding(void *context, const struct dor_finding *finding)
{
    struct report *report = context;
    if (report->findings != NULL) {
        add_json(report, finding);
        return;
    }
    /* Damaged bytes may have found their way into these words. */
    char words[4 * DOR_ERR_TEXT_BYTES];
    cli_progress_clear(report->progress);
    printf("%s: ", cli_text_clean(finding->file, words, sizeof words));
    printf("%s", cli_text_clean(finding->detail, words, sizeof words));
    if (finding->snapshot != NULL)
        printf(" (snapshot %s)", cli_text_clean(finding->snapshot, words, sizeof words));
    putchar('\n');
    fflush(stdout);
}

static int
check_store(const struct cli *cli, const struct dor_check *check, struct dor_check_result *ret)
{
    AUTO_CLIENT struct cli_client client = {0};
    AUTO_STORE struct dor_store *store = NULL;
    const char *directory = NULL;
    int rc = check->repair ? cli_client_find(cli, &client) : 0;
    if (rc == 0 && client.daemon != NULL)
        return dor_client_check(client.daemon, check, ret);
    if (rc == 0)
        rc = cli_store_directory(cli, &directory);
    if (rc != 0)
        return rc;
    rc = cli_store_open(cli, check->repair ? DOR_OPEN_WRITE : DOR_OPEN_READ, &store);
    if (rc == DOR_E_CORRUPT || rc == DOR_E_NOT_FOUND)
        return dor_store_check_directory(directory, check, ret);
    return rc == 0 ? dor_store_check(store, check, ret) : rc;
}

static int
print_json(const struct report *report, const struct dor_check_result *result)
{
    if (report->lost)
        return cli_json_print(NULL);
    return cli_json_print(json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:O}", "snapshots", cli_json_u64(result->snapshots),
        "damaged_snapshots", cli_json_u64(result->damaged_snapshots), "quarantined_snapshots",
        cli_json_u64(result->quarantined_snapshots), "groups", cli_json_u64(result->groups),
        "pages", cli_json_u64(result->pages), "bytes", cli_json_u64(result->bytes), "findings",
        report->findings));
}

static int
print_text(const struct dor_check_result *result)
{
    AUTO_TABLE struct cli_table table = {.columns = "lr"};
    cli_table_cell(&table, "snapshots");
    cli_table_cell(&table, "%" PRIu64, result->snapshots);
    cli_table_cell(&table, "  damaged");
    cli_table_cell(&table, "%" PRIu64, result->damaged_snapshots);
    cli_table_cell(&table, "  moved aside");
    cli_table_cell(&table, "%" PRIu64, result->quarantined_snapshots);
    cli_table_cell(&table, "groups");
    cli_table_cell(&table, "%" PRIu64, result->groups);
    cli_table_cell(&table, "pages");
    cli_table_cell(&table, "%" PRIu64, result->pages);
    cli_table_cell(&table, "verified");
    cli_table_size(&table, result->bytes);
    cli_table_cell(&table, "findings");
    cli_table_cell(&table, "%" PRIu64, result->findings);
    return cli_table_print(&table);
}

/* Findings are no failure of the check, but the caller's exit code has to tell them. */
static int
judge(const struct cli *cli, const struct dor_check_result *result)
{
    if (result->findings == 0)
        return 0;
    return dor_fail(
        DOR_E_CORRUPT, "the store has %" PRIu64 " finding%s; %s", result->findings,
        result->findings == 1 ? "" : "s",
        cli->values.repair ? "repaired what can be; check again to see that it is well"
                           : "\"dormouse check --repair\" saves what can be saved");
}

int
cli_check_run(const struct cli *cli)
{
    AUTO_JSON json_t *findings = cli->values.json ? json_array() : NULL;
    AUTO_PROGRESS struct cli_progress progress;
    cli_progress_init(&progress, cli, "check");
    struct report report = {.progress = &progress, .findings = findings};
    struct dor_check_result result = {0};
    const struct dor_check check = {
        .repair = cli->values.repair,
        .report = print_finding,
        .report_context = &report,
        .progress = cli_progress_update,
        .progress_context = &progress,
    };
    cli_stop_catch();
    int rc = check_store(cli, &check, &result);
    cli_progress_clear(&progress);
    if (rc != 0)
        return rc;
    if (cli->values.json)
        rc = print_json(&report, &result);
    else if (!cli->values.quiet)
        rc = print_text(&result);
    return rc == 0 ? judge(cli, &result) : rc;
}
