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

int
cli_kinds_print(const struct dor_kind_bytes *kinds)
{
    const struct {
        const char *name;
        uint64_t bytes, stored_bytes;
    } rows[] = {
        {"zero", kinds->zero_bytes, 0},
        {"exact", kinds->exact_bytes, 0},
        {"patched", kinds->patched_bytes, kinds->patched_stored_bytes},
        {"raw", kinds->raw_bytes, kinds->raw_stored_bytes},
        {"reference", kinds->reference_bytes, 0},
    };
    AUTO_TABLE struct cli_table table = {.columns = "lrrrr"};
    static const char *const heads[] = {"kind", "pages", "bytes", "of image", "stored"};
    for (size_t i = 0; i < ARRAY_LEN(heads); i++)
        cli_table_cell(&table, "%s", heads[i]);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char percent[CLI_NUMBER_BYTES];
        if (rows[i].bytes == 0)
            continue;
        cli_table_cell(&table, "%s", rows[i].name);
        cli_table_cell(&table, "%" PRIu64, rows[i].bytes / DOR_PAGE_BYTES);
        cli_table_size(&table, rows[i].bytes);
        cli_table_cell(
            &table, "%s", cli_text_percent(rows[i].bytes, kinds->logical_bytes, percent));
        cli_table_size(&table, rows[i].stored_bytes);
    }
    return cli_table_print(&table);
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
