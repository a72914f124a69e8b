/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ls.c - `dormouse ls`.
 */
#include "base/err.h"
#include "base/size.h"
#include "cli/cli.h"
#include "cli/json.h"
#include "cli/table.h"
#include "cli/text.h"

#include <string.h>

struct json_list {
    struct dor_store *store;
    json_t *snapshots;
};

static int
add_json(void *context, const struct dor_snapshot_info *info)
{
    const struct json_list *list = context;
    AUTO_JSON json_t *row = json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "name", cli_json_text(info->name), "domain",
        cli_json_text(info->domain), "parent", cli_json_text(info->parent), "logical_bytes",
        cli_json_u64(info->logical_bytes), "added_bytes", cli_json_u64(info->put.added_bytes),
        "sidecars", cli_json_u64(info->sidecar_count), "created",
        cli_json_time(info->created_ns), "woken", cli_json_time(info->woken_ns));
    if (!cli_json_set(row, "pages_by_class", cli_json_classes(info->put.pages_by_class)) ||
        !cli_json_set(row, "by_region_type", cli_json_region_types(info->put.by_region_type)) ||
        !cli_json_set(row, "working_set", cli_json_working_set(list->store, info->name)) ||
        json_array_append_new(list->snapshots, json_incref(row)) != 0)
        return dor_fail(DOR_E_NO_MEMORY, "no memory for the list of snapshots");
    return 0;
}

static int
list_json(struct dor_store *store)
{
    AUTO_JSON json_t *snapshots = json_array();
    struct json_list list = {store, snapshots};
    int rc = dor_store_list(store, add_json, &list);
    return rc == 0 ? cli_json_print(json_pack("{s:O}", "snapshots", snapshots)) : rc;
}

static int
add_text(void *context, const struct dor_snapshot_info *info)
{
    struct cli_table *table = context;
    char created[CLI_TIME_BYTES];
    cli_table_cell(table, "%s", info->name);
    cli_table_size(table, info->logical_bytes);
    cli_table_size(table, info->put.added_bytes);
    cli_table_cell(table, "%s", cli_text_time(info->created_ns, created));
    cli_table_cell(table, "%s", info->domain);
    cli_table_cell(table, "%s", info->parent[0] == '\0' ? "-" : info->parent);
    return 0;
}

static int
list_text(struct dor_store *store)
{
    static const char *const heads[] = {"name", "size", "added", "put", "domain", "parent"};
    AUTO_TABLE struct cli_table table = {.columns = "lrrlll"};
    for (size_t i = 0; i < ARRAY_LEN(heads); i++)
        cli_table_cell(&table, "%s", heads[i]);
    int rc = dor_store_list(store, add_text, &table);
    return rc == 0 ? cli_table_print(&table) : rc;
}

static int
add_region_types(void *context, const struct dor_snapshot_info *info)
{
    struct cli_table *table = context;
    cli_table_cell(table, "%s", info->name);
    for (unsigned i = 0; i < DOR_REGION_TYPES; i++) {
        const struct dor_kind_bytes *kinds = &info->put.by_region_type[i];
        cli_table_size(table, kinds->logical_bytes);
        cli_table_size(table, kinds->raw_stored_bytes + kinds->patched_stored_bytes);
    }
    return 0;
}

static int
list_region_types(struct dor_store *store)
{
    AUTO_TABLE struct cli_table table = {.columns = "lrrrrrr"};
    cli_table_cell(&table, "name");
    for (unsigned i = 0; i < DOR_REGION_TYPES; i++) {
        cli_table_cell(&table, "%s", cli_text_region_type((enum dor_region_type)i));
        cli_table_cell(&table, "new");
    }
    int rc = dor_store_list(store, add_region_types, &table);
    return rc == 0 ? cli_table_print(&table) : rc;
}

static int
add_classes(void *context, const struct dor_snapshot_info *info)
{
    struct cli_table *table = context;
    cli_table_cell(table, "%s", info->name);
    for (unsigned i = 0; i < DOR_CLASSES; i++)
        cli_table_size(table, info->put.pages_by_class[i] * DOR_PAGE_BYTES);
    return 0;
}

static int
list_classes(struct dor_store *store)
{
    AUTO_TABLE struct cli_table table = {.columns = "lrrrrrrrrrrrr"};
    cli_table_cell(&table, "name");
    for (unsigned i = 0; i < DOR_CLASSES; i++)
        cli_table_cell(&table, "%s", dor_page_class_name((enum dor_page_class)i));
    int rc = dor_store_list(store, add_classes, &table);
    return rc == 0 ? cli_table_print(&table) : rc;
}

/* What --by asks for. */
static int
find_list(const char *by, int (**ret)(struct dor_store *store))
{
    *ret = list_text;
    if (by == NULL)
        return 0;
    if (strcmp(by, "region-type") == 0)
        *ret = list_region_types;
    else if (strcmp(by, "class") == 0)
        *ret = list_classes;
    else
        return dor_fail(DOR_E_USAGE, "--by %s: it is by region-type or by class", by);
    return 0;
}

int
cli_ls_run(const struct cli *cli)
{
    AUTO_STORE struct dor_store *store = NULL;
    int (*list)(struct dor_store * store);
    int rc = find_list(cli->values.by, &list);
    if (rc == 0)
        rc = cli_store_open(cli, DOR_OPEN_READ, &store);
    if (rc != 0)
        return rc;
    return cli->values.json ? list_json(store) : list(store);
}
