/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kinds.c - tables of page kinds.
 */
#include "cli/kinds.h"

#include "base/size.h"
#include "cli/table.h"
#include "cli/text.h"

#include <inttypes.h>
#include <stdio.h>

struct row {
    const char *name;
    uint64_t bytes, stored_bytes;
};

static void
add_row(
    struct cli_table *table, const struct row *row, uint64_t logical_bytes, bool with_stored)
{
    char percent[CLI_NUMBER_BYTES];
    cli_table_cell(table, "%s", row->name);
    cli_table_cell(table, "%" PRIu64, row->bytes / DOR_PAGE_BYTES);
    cli_table_size(table, row->bytes);
    cli_table_cell(table, "%s", cli_text_percent(row->bytes, logical_bytes, percent));
    if (with_stored)
        cli_table_size(table, row->stored_bytes);
}

static int
print_kinds(const struct dor_kind_bytes *kinds, bool with_stored)
{
    const struct row rows[] = {
        {"zero", kinds->zero_bytes, 0},
        {"exact", kinds->exact_bytes, 0},
        {"patched", kinds->patched_bytes, kinds->patched_stored_bytes},
        {"raw", kinds->raw_bytes, kinds->raw_stored_bytes},
        {"reference", kinds->reference_bytes, 0},
    };
    static const char *const heads[] = {"kind", "pages", "bytes", "of image", "stored"};
    AUTO_TABLE struct cli_table table = {.columns = with_stored ? "lrrrr" : "lrrr"};
    for (size_t i = 0; i < ARRAY_LEN(heads) - (with_stored ? 0 : 1); i++)
        cli_table_cell(&table, "%s", heads[i]);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (rows[i].bytes > 0)
            add_row(&table, &rows[i], kinds->logical_bytes, with_stored);
    return cli_table_print(&table);
}

int
cli_kinds_print(const struct dor_kind_bytes *kinds)
{
    return print_kinds(kinds, false);
}

int
cli_kinds_print_added(const struct dor_kind_bytes *kinds)
{
    return print_kinds(kinds, true);
}

/* NAME and the bytes of each kind. */
static void
add_kinds_row(struct cli_table *table, const char *name, const struct dor_kind_bytes *kinds)
{
    cli_table_cell(table, "%s", name);
    cli_table_size(table, kinds->logical_bytes);
    cli_table_size(table, kinds->zero_bytes);
    cli_table_size(table, kinds->exact_bytes);
    cli_table_size(table, kinds->patched_bytes);
    cli_table_size(table, kinds->raw_bytes);
    cli_table_size(table, kinds->reference_bytes);
    cli_table_size(table, kinds->raw_stored_bytes + kinds->patched_stored_bytes);
}

static void
add_kinds_heads(struct cli_table *table, const char *first)
{
    static const char *const heads[] = {
        "bytes", "zero", "exact", "patched", "raw", "reference", "stored",
    };
    cli_table_cell(table, "%s", first);
    for (size_t i = 0; i < ARRAY_LEN(heads); i++)
        cli_table_cell(table, "%s", heads[i]);
}

int
cli_kinds_print_classes(const struct dor_kind_bytes *kinds)
{
    AUTO_TABLE struct cli_table table = {.columns = "lrrrrrrr"};
    bool known = false;
    add_kinds_heads(&table, "class");
    for (unsigned i = 0; i < DOR_CLASSES; i++) {
        if (kinds[i].logical_bytes == 0)
            continue;
        known = known || i != DOR_CLASS_UNKNOWN;
        add_kinds_row(&table, dor_page_class_name((enum dor_page_class)i), &kinds[i]);
    }
    if (!known)
        return 0;
    putchar('\n');
    return cli_table_print(&table);
}

int
cli_kinds_print_region_types(const struct dor_kind_bytes *kinds)
{
    AUTO_TABLE struct cli_table table = {.columns = "lrrrrrrr"};
    bool others = false;
    add_kinds_heads(&table, "region type");
    for (unsigned i = 0; i < DOR_REGION_TYPES; i++) {
        if (kinds[i].logical_bytes == 0)
            continue;
        others = others || i != DOR_NRT;
        add_kinds_row(&table, cli_text_region_type((enum dor_region_type)i), &kinds[i]);
    }
    if (!others)
        return 0;
    putchar('\n');
    return cli_table_print(&table);
}
