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

int
cli_kinds_print_region_types(const struct dor_kind_bytes *kinds)
{
    AUTO_TABLE struct cli_table table = {.columns = "lrrrrrr"};
    static const char *const heads[] = {
        "region type", "bytes", "zero", "exact", "patched", "raw", "reference",
    };
    bool others = false;
    for (size_t i = 0; i < ARRAY_LEN(heads); i++)
        cli_table_cell(&table, "%s", heads[i]);
    for (unsigned i = 0; i < DOR_REGION_TYPES; i++) {
        if (kinds[i].logical_bytes == 0)
            continue;
        others = others || i != DOR_NRT;
        cli_table_cell(&table, "%s", cli_text_region_type((enum dor_region_type)i));
        cli_table_size(&table, kinds[i].logical_bytes);
        cli_table_size(&table, kinds[i].zero_bytes);
        cli_table_size(&table, kinds[i].exact_bytes);
        cli_table_size(&table, kinds[i].patched_bytes);
        cli_table_size(&table, kinds[i].raw_bytes);
        cli_table_size(&table, kinds[i].reference_bytes);
    }
    if (!others)
        return 0;
    putchar('\n');
    return cli_table_print(&table);
}
