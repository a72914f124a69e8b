/* SPDX-License-Identifier: Apache-2.0 */
/*
 * show.c - `dormouse show`: what the catalog and the recipe of one snapshot say.
 */
#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"
#include "cli/cli.h"
#include "cli/json.h"
#include "cli/kinds.h"
#include "cli/map.h"
#include "cli/table.h"
#include "cli/text.h"

#include <inttypes.h>
#include <stdio.h>

/* Name and size of sidecar INDEX. */
static int
look_at_sidecar(
    struct dor_snapshot *snapshot, size_t index, char name[DOR_NAME_BYTES_MAX + 1],
    size_t *ret_size_bytes)
{
    AUTO_FREE void *data = NULL;
    return dor_snapshot_read_sidecar(snapshot, index, name, &data, ret_size_bytes);
}

static int
sidecars_json(struct dor_snapshot *snapshot, json_t *sidecars)
{
    size_t count = (size_t)dor_snapshot_info(snapshot)->sidecar_count;
    for (size_t i = 0; i < count; i++) {
        char name[DOR_NAME_BYTES_MAX + 1];
        size_t size_bytes = 0;
        int rc = look_at_sidecar(snapshot, i, name, &size_bytes);
        if (rc != 0)
            return rc;
        json_t *row = json_pack(
            "{s:o, s:o}", "name", cli_json_text(name), "size_bytes", cli_json_u64(size_bytes));
        if (json_array_append_new(sidecars, row) != 0)
            return dor_fail(DOR_E_NO_MEMORY, "no memory for the list of sidecars");
    }
    return 0;
}

static json_t *
info_json(const struct dor_snapshot_info *info)
{
    AUTO_JSON json_t *object = json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "name", cli_json_text(info->name), "id",
        cli_json_u64(info->id), "domain", cli_json_text(info->domain), "parent",
        cli_json_text(info->parent), "created", cli_json_time(info->created_ns), "woken",
        cli_json_time(info->woken_ns), "recipe_bytes", cli_json_u64(info->recipe_bytes),
        "added_bytes", cli_json_u64(info->put.added_bytes));
    if (!cli_json_set_kinds(object, &info->put.total) ||
        !cli_json_set(object, "pages_by_class", cli_json_classes(info->put.pages_by_class)) ||
        !cli_json_set(object, "dropped_bytes", cli_json_u64(info->put.dropped_bytes)) ||
        !cli_json_set(object, "generation", cli_json_u64(info->generation)) ||
        !cli_json_set(object, "logical_bytes", cli_json_u64(info->logical_bytes)) ||
        !cli_json_set(
            object, "by_region_type", cli_json_region_types(info->put.by_region_type)))
        return NULL;
    return json_incref(object);
}

static int
show_json(struct dor_store *store, struct dor_snapshot *snapshot)
{
    AUTO_JSON json_t *object = info_json(dor_snapshot_info(snapshot));
    AUTO_JSON json_t *sidecars = json_array();
    int rc = sidecars_json(snapshot, sidecars);
    if (rc != 0)
        return rc;
    if (!cli_json_set(object, "sidecars", json_incref(sidecars)) ||
        !cli_json_set(
            object, "working_set",
            cli_json_working_set(store, dor_snapshot_info(snapshot)->name)))
        return cli_json_print(NULL);
    return cli_json_print(json_incref(object));
}

static int
print_info(struct dor_store *store, const struct dor_snapshot_info *info)
{
    AUTO_TABLE struct cli_table table = {.columns = "ll"};
    char buf[CLI_TIME_BYTES];
    cli_table_cell(&table, "name");
    cli_table_cell(&table, "%s", info->name);
    cli_table_cell(&table, "domain");
    cli_table_cell(&table, "%s", info->domain);
    cli_table_cell(&table, "parent");
    cli_table_cell(&table, "%s", info->parent[0] == '\0' ? "-" : info->parent);
    cli_table_cell(&table, "generation");
    cli_table_cell(&table, "%" PRIu64, info->generation);
    cli_table_cell(&table, "put");
    cli_table_cell(&table, "%s", cli_text_time(info->created_ns, buf));
    cli_table_cell(&table, "woken");
    cli_table_cell(&table, "%s", cli_text_time(info->woken_ns, buf));
    cli_table_cell(&table, "size");
    cli_table_size(&table, info->logical_bytes);
    cli_table_cell(&table, "added");
    cli_table_size(&table, info->put.added_bytes);
    cli_table_cell(&table, "recipe");
    cli_table_size(&table, info->recipe_bytes);
    cli_table_cell(&table, "working set");
    struct dor_working_set set;
    if (dor_working_set_read(store, info->name, &set) == 0) {
        cli_table_size(&table, set.page_count * DOR_PAGE_BYTES);
        dor_working_set_fini(&set);
    } else {
        cli_table_cell(&table, "-");
    }
    return cli_table_print(&table);
}

static int
print_sidecars(struct dor_snapshot *snapshot)
{
    AUTO_TABLE struct cli_table table = {.columns = "lr"};
    size_t count = (size_t)dor_snapshot_info(snapshot)->sidecar_count;
    if (count == 0)
        return 0;
    cli_table_cell(&table, "sidecar");
    cli_table_cell(&table, "size");
    for (size_t i = 0; i < count; i++) {
        char name[DOR_NAME_BYTES_MAX + 1];
        size_t size_bytes = 0;
        int rc = look_at_sidecar(snapshot, i, name, &size_bytes);
        if (rc != 0)
            return rc;
        cli_table_cell(&table, "%s", name);
        cli_table_size(&table, size_bytes);
    }
    putchar('\n');
    return cli_table_print(&table);
}

static int
show_text(struct dor_store *store, struct dor_snapshot *snapshot, bool draw_map)
{
    const struct dor_snapshot_info *info = dor_snapshot_info(snapshot);
    int rc = print_info(store, info);
    if (rc != 0)
        return rc;
    puts("\nWhen it was put:");
    rc = cli_kinds_print_added(&info->put.total);
    if (rc == 0)
        rc = cli_kinds_print_region_types(info->put.by_region_type);
    if (rc == 0)
        rc = print_sidecars(snapshot);
    if (rc == 0 && draw_map)
        cli_map_print(snapshot);
    return rc;
}

int
cli_show_run(const struct cli *cli)
{
    AUTO_STORE struct dor_store *store = NULL;
    AUTO_SNAPSHOT struct dor_snapshot *snapshot = NULL;
    if (cli->values.json && cli->values.map)
        return dor_fail(DOR_E_USAGE, "--map is a picture for people; leave out --json");
    int rc = cli_store_open(cli, DOR_OPEN_READ, &store);
    if (rc == 0)
        rc = dor_snapshot_open(store, cli->args[0], &snapshot);
    if (rc != 0)
        return rc;
    return cli->values.json ? show_json(store, snapshot)
                            : show_text(store, snapshot, cli->values.map);
}
