/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stat.c - `dormouse stat`: the whole store in numbers.
 */
#include "base/size.h"
#include "cli/cli.h"
#include "cli/json.h"
#include "cli/table.h"
#include "cli/text.h"

#include <inttypes.h>
#include <stdio.h>

/* What the store's files are, in the order in which both outputs tell them. */
struct file_row {
    const char *key;
    const char *words;
    uint64_t bytes;
};

enum { FILE_ROWS = 6 };

static void
list_files(const struct dor_stat *stat, struct file_row rows[FILE_ROWS])
{
    rows[0] = (struct file_row){"segment_bytes", "segments", stat->segment_bytes};
    rows[1] = (struct file_row){"table_bytes", "tables", stat->table_bytes};
    rows[2] = (struct file_row){"recipe_bytes", "recipes", stat->recipe_bytes};
    rows[3] = (struct file_row){"catalog_bytes", "catalog", stat->catalog_bytes};
    rows[4] = (struct file_row){"root_bytes", "root images' digests", stat->root_bytes};
    rows[5] = (struct file_row){"working_set_bytes", "working sets", stat->working_set_bytes};
}

static const char *const kind_names[DOR_PAGE_KINDS] = {
    [DOR_PAGE_ZERO] = "zero",
    [DOR_PAGE_RAW] = "raw",
    [DOR_PAGE_PATCHED] = "patched",
    [DOR_PAGE_REFERENCE] = "reference",
};

static json_t *
types_json(const struct dor_stat *stat)
{
    AUTO_JSON json_t *types = json_object();
    for (unsigned i = 0; i < DOR_REGION_TYPES; i++) {
        const struct dor_stat_type *type = &stat->by_region_type[i];
        json_t *row = json_pack(
            "{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "raw_pages", cli_json_u64(type->raw_pages),
            "raw_bytes", cli_json_u64(type->raw_bytes), "patched_pages",
            cli_json_u64(type->patched_pages), "patched_bytes",
            cli_json_u64(type->patched_bytes), "table_bytes", cli_json_u64(type->table_bytes),
            "segments", cli_json_u64(type->segments), "groups", cli_json_u64(type->groups));
        if (!cli_json_set(types, cli_text_region_type((enum dor_region_type)i), row))
            return NULL;
    }
    return json_incref(types);
}

static json_t *
pages_json(const struct dor_stat *stat)
{
    AUTO_JSON json_t *pages = json_object();
    for (size_t i = 0; i < DOR_PAGE_KINDS; i++)
        if (!cli_json_set(pages, kind_names[i], cli_json_u64(stat->pages_by_kind[i])))
            return NULL;
    if (!cli_json_set(pages, "exact", cli_json_u64(stat->exact_pages)))
        return NULL;
    return json_incref(pages);
}

static int
print_json(const struct dor_stat *stat)
{
    struct file_row rows[FILE_ROWS];
    list_files(stat, rows);
    AUTO_JSON json_t *object = json_pack(
        "{s:o, s:o, s:o, s:o}", "snapshots", cli_json_u64(stat->snapshots), "domains",
        cli_json_u64(stat->domains), "logical_bytes", cli_json_u64(stat->logical_bytes),
        "stored_bytes", cli_json_u64(stat->stored_bytes));
    bool made = true;
    for (size_t i = 0; made && i < FILE_ROWS; i++)
        made = cli_json_set(object, rows[i].key, cli_json_u64(rows[i].bytes));
    made = made && cli_json_set(object, "pages_by_kind", pages_json(stat)) &&
           cli_json_set(object, "pages_by_class", cli_json_classes(stat->pages_by_class)) &&
           cli_json_set(object, "by_region_type", types_json(stat));
    return cli_json_print(made ? json_incref(object) : NULL);
}

static int
print_sums(const struct dor_stat *stat)
{
    AUTO_TABLE struct cli_table table = {.columns = "lrr"};
    struct file_row rows[FILE_ROWS];
    char percent[CLI_NUMBER_BYTES];
    list_files(stat, rows);
    cli_table_cell(&table, "snapshots");
    cli_table_cell(&table, "%" PRIu64, stat->snapshots);
    cli_table_cell(&table, "%s", "");
    cli_table_cell(&table, "domains");
    cli_table_cell(&table, "%" PRIu64, stat->domains);
    cli_table_cell(&table, "%s", "");
    cli_table_cell(&table, "images");
    cli_table_size(&table, stat->logical_bytes);
    cli_table_cell(&table, "%s", "");
    cli_table_cell(&table, "stored");
    cli_table_size(&table, stat->stored_bytes);
    cli_table_cell(
        &table, "%s", cli_text_percent(stat->stored_bytes, stat->logical_bytes, percent));
    for (size_t i = 0; i < FILE_ROWS; i++) {
        cli_table_cell(&table, "  %s", rows[i].words);
        cli_table_size(&table, rows[i].bytes);
        cli_table_cell(
            &table, "%s", cli_text_percent(rows[i].bytes, stat->logical_bytes, percent));
    }
    return cli_table_print(&table);
}

static int
print_pages(const struct dor_stat *stat)
{
    AUTO_TABLE struct cli_table table = {.columns = "lrr"};
    uint64_t pages = stat->logical_bytes / DOR_PAGE_BYTES;
    char percent[CLI_NUMBER_BYTES];
    cli_table_cell(&table, "kind");
    cli_table_cell(&table, "pages");
    cli_table_cell(&table, "of images");
    for (size_t i = 0; i < DOR_PAGE_KINDS; i++) {
        if (stat->pages_by_kind[i] == 0)
            continue;
        cli_table_cell(&table, "%s", kind_names[i]);
        cli_table_cell(&table, "%" PRIu64, stat->pages_by_kind[i]);
        cli_table_cell(&table, "%s", cli_text_percent(stat->pages_by_kind[i], pages, percent));
    }
    cli_table_cell(&table, "exact");
    cli_table_cell(&table, "%" PRIu64, stat->exact_pages);
    cli_table_cell(&table, "%s", cli_text_percent(stat->exact_pages, pages, percent));
    putchar('\n');
    return cli_table_print(&table);
}

static int
print_types(const struct dor_stat *stat)
{
    static const char *const heads[] = {
        "region type", "stored raw", "bytes", "patched", "bytes", "segments", "groups",
    };
    AUTO_TABLE struct cli_table table = {.columns = "lrrrrrr"};
    for (size_t i = 0; i < ARRAY_LEN(heads); i++)
        cli_table_cell(&table, "%s", heads[i]);
    for (unsigned i = 0; i < DOR_REGION_TYPES; i++) {
        const struct dor_stat_type *type = &stat->by_region_type[i];
        if (type->groups == 0)
            continue;
        cli_table_cell(&table, "%s", cli_text_region_type((enum dor_region_type)i));
        cli_table_cell(&table, "%" PRIu64, type->raw_pages);
        cli_table_size(&table, type->raw_bytes);
        cli_table_cell(&table, "%" PRIu64, type->patched_pages);
        cli_table_size(&table, type->patched_bytes);
        cli_table_cell(&table, "%" PRIu64, type->segments);
        cli_table_cell(&table, "%" PRIu64, type->groups);
    }
    putchar('\n');
    return cli_table_print(&table);
}

/* Classes of the snapshots that were inspected. */
static int
print_classes(const struct dor_stat *stat)
{
    AUTO_TABLE struct cli_table table = {.columns = "lrrr"};
    uint64_t sum = 0;
    char percent[CLI_NUMBER_BYTES];
    for (unsigned i = 0; i < DOR_CLASSES; i++)
        sum += stat->pages_by_class[i];
    if (sum == 0)
        return 0;
    cli_table_cell(&table, "class");
    cli_table_cell(&table, "pages");
    cli_table_cell(&table, "bytes");
    cli_table_cell(&table, "of inspected");
    for (unsigned i = 0; i < DOR_CLASSES; i++) {
        uint64_t pages = stat->pages_by_class[i];
        if (pages == 0)
            continue;
        cli_table_cell(&table, "%s", dor_page_class_name((enum dor_page_class)i));
        cli_table_cell(&table, "%" PRIu64, pages);
        cli_table_size(&table, pages * DOR_PAGE_BYTES);
        cli_table_cell(&table, "%s", cli_text_percent(pages, sum, percent));
    }
    putchar('\n');
    return cli_table_print(&table);
}

int
cli_stat_run(const struct cli *cli)
{
    AUTO_STORE struct dor_store *store = NULL;
    struct dor_stat stat = {0};
    int rc = cli_store_open(cli, DOR_OPEN_READ, &store);
    if (rc == 0)
        rc = dor_store_stat(store, &stat);
    if (rc != 0)
        return rc;
    if (cli->values.json)
        return print_json(&stat);
    rc = print_sums(&stat);
    if (rc == 0)
        rc = print_pages(&stat);
    if (rc == 0)
        rc = print_types(&stat);
    return rc == 0 ? print_classes(&stat) : rc;
}
