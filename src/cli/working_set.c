/* SPDX-License-Identifier: Apache-2.0 */
/*
 * working_set.c - `dormouse working-set show` and `working-set forget`.
 */
#include "base/err.h"
#include "base/size.h"
#include "cli/cli.h"
#include "cli/json.h"
#include "cli/map.h"
#include "cli/table.h"
#include "cli/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Of the last wakes that could tell, how many needed a page; in the order of pages_by_share. */
static const char *const share_words[] = {"a third or more", "two thirds or more", "all"};
static const char *const share_keys[] = {"third", "two_thirds", "all"};

static int
print_json(const char *name, const struct dor_working_set *set, uint64_t page_count)
{
    AUTO_JSON json_t *runs = json_array();
    AUTO_JSON json_t *shares = json_object();
    for (size_t i = 0; i < set->run_count; i++) {
        json_t *run = json_pack(
            "[o, o]", cli_json_u64(set->runs[i].first_page),
            cli_json_u64(set->runs[i].page_count));
        if (json_array_append_new(runs, run) != 0)
            return cli_json_print(NULL);
    }
    for (size_t i = 0; i < ARRAY_LEN(share_keys); i++)
        if (!cli_json_set(shares, share_keys[i], cli_json_u64(set->pages_by_share[i])))
            return cli_json_print(NULL);
    return cli_json_print(json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:O, s:O}", "name", cli_json_text(name), "wakes",
        cli_json_u64(set->wakes), "pages", cli_json_u64(set->page_count), "bytes",
        cli_json_u64(set->page_count * DOR_PAGE_BYTES), "image_pages", cli_json_u64(page_count),
        "candidate_pages", cli_json_u64(set->candidate_pages), "file_bytes",
        cli_json_u64(set->file_bytes), "pages_by_share", shares, "runs", runs));
}

static int
print_text(const char *name, const struct dor_working_set *set, uint64_t page_count)
{
    AUTO_TABLE struct cli_table table = {.columns = "lrr"};
    char percent[CLI_NUMBER_BYTES];
    char size[CLI_NUMBER_BYTES];
    printf(
        "%s: learnt from %" PRIu64 " wake%s, kept in %s\n\n", name, set->wakes,
        set->wakes == 1 ? "" : "s", cli_text_size(set->file_bytes, size));
    cli_table_cell(&table, "needed by");
    cli_table_cell(&table, "pages");
    cli_table_cell(&table, "bytes");
    for (size_t i = ARRAY_LEN(share_words); i-- > 0;) {
        cli_table_cell(&table, "%s", share_words[i]);
        cli_table_cell(&table, "%" PRIu64, set->pages_by_share[i]);
        cli_table_size(&table, set->pages_by_share[i] * DOR_PAGE_BYTES);
    }
    cli_table_cell(&table, "working set");
    cli_table_cell(&table, "%" PRIu64, set->page_count);
    cli_table_size(&table, set->page_count * DOR_PAGE_BYTES);
    cli_table_cell(&table, "too few, or not known");
    cli_table_cell(&table, "%" PRIu64, set->candidate_pages);
    cli_table_size(&table, set->candidate_pages * DOR_PAGE_BYTES);
    int rc = cli_table_print(&table);
    if (rc != 0)
        return rc;
    printf(
        "\n%s of the image, in %zu runs\n",
        cli_text_percent(set->page_count, page_count, percent), set->run_count);
    cli_map_print_working_set(set, page_count);
    return 0;
}

static int
run_show(const struct cli *cli, struct dor_store *store)
{
    AUTO_SNAPSHOT struct dor_snapshot *snapshot = NULL;
    struct dor_working_set set = {0};
    const char *name = cli->args[1];
    int rc = dor_snapshot_open(store, name, &snapshot);
    if (rc == 0)
        rc = dor_working_set_read(store, name, &set);
    if (rc != 0)
        return rc;
    uint64_t page_count = dor_snapshot_info(snapshot)->logical_bytes / DOR_PAGE_BYTES;
    rc = cli->values.json ? print_json(name, &set, page_count)
                          : print_text(name, &set, page_count);
    dor_working_set_fini(&set);
    return rc;
}

static int
run_forget(const struct cli *cli, struct dor_store *store)
{
    const char *name = cli->args[1];
    int rc = dor_working_set_forget(store, name);
    if (rc != 0)
        return rc;
    if (cli->values.json)
        return cli_json_print(json_pack("{s:o}", "name", cli_json_text(name)));
    if (!cli->values.quiet)
        printf("forgot the working set of %s\n", name);
    return 0;
}

int
cli_working_set_run(const struct cli *cli)
{
    AUTO_STORE struct dor_store *store = NULL;
    bool show = strcmp(cli->args[0], "show") == 0;
    if (!show && strcmp(cli->args[0], "forget") != 0)
        return dor_fail(
            DOR_E_USAGE, "working-set does show and forget, not \"%s\"", cli->args[0]);
    int rc = cli_store_open(cli, DOR_OPEN_READ, &store);
    if (rc != 0)
        return rc;
    return show ? run_show(cli, store) : run_forget(cli, store);
}
