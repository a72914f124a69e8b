/* SPDX-License-Identifier: Apache-2.0 */
/*
 * explain.c - `dormouse explain`: what a snapshot takes, shares and would give back.
 */
#include "base/err.h"
#include "cli/cli.h"
#include "cli/json.h"
#include "cli/kinds.h"
#include "cli/table.h"
#include "cli/text.h"

#include <stdio.h>

#define AUTO_EXPLAIN __attribute__((cleanup(dor_explain_fini)))

static json_t *
sharers_json(const struct dor_explain *explain)
{
    AUTO_JSON json_t *sharers = json_array();
    for (size_t i = 0; i < explain->sharer_count; i++) {
        json_t *row = json_pack(
            "{s:o, s:o}", "name", cli_json_text(explain->sharers[i].name), "shared_bytes",
            cli_json_u64(explain->sharers[i].shared_bytes));
        if (json_array_append_new(sharers, row) != 0)
            return NULL;
    }
    return json_incref(sharers);
}

static int
print_json(const char *name, const struct dor_explain *explain)
{
    AUTO_JSON json_t *object = json_object();
    if (!cli_json_set(object, "name", cli_json_text(name)) ||
        !cli_json_set_kinds(object, &explain->total) ||
        !cli_json_set(object, "recipe_bytes", cli_json_u64(explain->recipe_bytes)) ||
        !cli_json_set(object, "exclusive_bytes", cli_json_u64(explain->exclusive_bytes)) ||
        !cli_json_set(object, "shared_bytes", cli_json_u64(explain->shared_bytes)) ||
        !cli_json_set(object, "freed_bytes", cli_json_u64(explain->freed_bytes)) ||
        !cli_json_set(
            object, "by_region_type", cli_json_region_types(explain->by_region_type)) ||
        !cli_json_set(object, "by_class", cli_json_class_kinds(explain->by_class)) ||
        !cli_json_set(object, "shared_with", sharers_json(explain)))
        return cli_json_print(NULL);
    return cli_json_print(json_incref(object));
}

static int
print_stored(const struct dor_explain *explain)
{
    AUTO_TABLE struct cli_table table = {.columns = "lr"};
    cli_table_cell(&table, "plain pages that it uses");
    cli_table_size(&table, explain->total.raw_stored_bytes);
    cli_table_cell(&table, "patches that it uses");
    cli_table_size(&table, explain->total.patched_stored_bytes);
    cli_table_cell(&table, "stored for it alone");
    cli_table_size(&table, explain->exclusive_bytes);
    cli_table_cell(&table, "  of that, its recipe");
    cli_table_size(&table, explain->recipe_bytes);
    cli_table_cell(&table, "stored, used by others too");
    cli_table_size(&table, explain->shared_bytes);
    cli_table_cell(&table, "given back by rm and gc");
    cli_table_size(&table, explain->freed_bytes);
    putchar('\n');
    return cli_table_print(&table);
}

static int
print_sharers(const struct dor_explain *explain)
{
    AUTO_TABLE struct cli_table table = {.columns = "lr"};
    if (explain->sharer_count == 0)
        return 0;
    cli_table_cell(&table, "shares with");
    cli_table_cell(&table, "stored");
    for (size_t i = 0; i < explain->sharer_count; i++) {
        cli_table_cell(&table, "%s", explain->sharers[i].name);
        cli_table_size(&table, explain->sharers[i].shared_bytes);
    }
    putchar('\n');
    return cli_table_print(&table);
}

static int
print_text(const char *name, const struct dor_explain *explain)
{
    char size[CLI_NUMBER_BYTES];
    printf("%s: %s\n\n", name, cli_text_size(explain->total.logical_bytes, size));
    int rc = cli_kinds_print(&explain->total);
    if (rc == 0)
        rc = cli_kinds_print_region_types(explain->by_region_type);
    if (rc == 0)
        rc = cli_kinds_print_classes(explain->by_class);
    if (rc == 0)
        rc = print_stored(explain);
    return rc == 0 ? print_sharers(explain) : rc;
}

int
cli_explain_run(const struct cli *cli)
{
    const char *name = cli->args[0];
    AUTO_STORE struct dor_store *store = NULL;
    AUTO_EXPLAIN struct dor_explain explain = {0};
    int rc = cli_store_open(cli, DOR_OPEN_READ, &store);
    if (rc == 0)
        rc = dor_store_explain(store, name, &explain);
    if (rc != 0)
        return rc;
    return cli->values.json ? print_json(name, &explain) : print_text(name, &explain);
}
