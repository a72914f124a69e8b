/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.c - cells are kept row by row in one array; widths are found when the table is printed.
 */
#include "cli/table.h"

#include "base/err.h"
#include "base/mem.h"
#include "cli/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS_MAX = 16, GAP_COLUMNS = 2, CELLS_FIRST = 64 };

static bool
make_room(struct cli_table *table)
{
    if (table->cell_count < table->cell_cap)
        return true;
    size_t cap = table->cell_cap == 0 ? CELLS_FIRST : 2 * table->cell_cap;
    char **cells = base_realloc_array(table->cells, cap, sizeof *cells);
    if (cells == NULL)
        return false;
    table->cells = cells;
    table->cell_cap = cap;
    return true;
}

/* Names may come from a store that somebody else made; NULL without memory. */
static char *
clean_copy(const char *text)
{
    size_t bytes = 4 * strlen(text) + 1;
    char *clean = base_alloc(bytes);
    if (clean != NULL)
        cli_text_clean(text, clean, bytes);
    return clean;
}

void
cli_table_cell(struct cli_table *table, const char *fmt, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, fmt);
    int length = vasprintf(&text, fmt, args);
    va_end(args);
    char *cell = length < 0 ? NULL : clean_copy(text);
    if (length >= 0)
        free(text);
    if (cell == NULL || !make_room(table)) {
        table->failed = true;
        base_free(cell);
        return;
    }
    table->cells[table->cell_count++] = cell;
}

void
cli_table_size(struct cli_table *table, uint64_t bytes)
{
    char size[CLI_NUMBER_BYTES];
    cli_table_cell(table, "%s", cli_text_size(bytes, size));
}

static void
print_row(const struct cli_table *table, char *const *cells, const int *widths, size_t columns)
{
    for (size_t i = 0; i < columns; i++) {
        bool last = i + 1 == columns;
        int pad = widths[i] - cli_text_columns(cells[i]);
        if (table->columns[i] == 'r')
            printf("%*s%s", pad, "", cells[i]);
        else
            printf("%s%*s", cells[i], last ? 0 : pad, "");
        printf("%*s", last ? 0 : GAP_COLUMNS, "");
    }
    putchar('\n');
}

int
cli_table_print(const struct cli_table *table)
{
    if (table->failed)
        return dor_fail(DOR_E_NO_MEMORY, "no memory for a table of output");
    int widths[COLUMNS_MAX] = {0};
    size_t columns = strlen(table->columns);
    dor_assert(columns <= COLUMNS_MAX && table->cell_count % columns == 0);
    for (size_t i = 0; i < table->cell_count; i++) {
        int width = cli_text_columns(table->cells[i]);
        if (width > widths[i % columns])
            widths[i % columns] = width;
    }
    for (size_t i = 0; i < table->cell_count; i += columns)
        print_row(table, table->cells + i, widths, columns);
    return 0;
}

void
cli_table_fini(struct cli_table *table)
{
    for (size_t i = 0; i < table->cell_count; i++)
        base_free(table->cells[i]);
    base_free(table->cells);
    *table = (struct cli_table){0};
}
