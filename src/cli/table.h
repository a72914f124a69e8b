/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.h - a table of words whose columns line up, printed when all of them are known.
 * Cells are added row by row; the first row is the heads. Bytes that a terminal would obey are
 * shown as \xNN.
 *
 *     AUTO_TABLE struct cli_table table = {.columns = "lr"};
 *     cli_table_cell(&table, "NAME");
 *     cli_table_cell(&table, "SIZE");
 *     ...
 *     return cli_table_print(&table);
 *
 * Ownership:  the table owns its cells; cli_table_fini() frees them.
 * Threads:    one.
 * Errors:     a cell that could not be added is remembered: DOR_E_NO_MEMORY when printed.
 */
#ifndef DOR_CLI_TABLE_H
#define DOR_CLI_TABLE_H

#include <dormouse/err.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cli_table {
    const char *columns; /* a letter a column: l left, r right */
    char **cells;
    size_t cell_count, cell_cap;
    bool failed;
};

#define AUTO_TABLE __attribute__((cleanup(cli_table_fini)))

void cli_table_cell(struct cli_table *table, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* A cell with a size in binary units. */
void cli_table_size(struct cli_table *table, uint64_t bytes);

/* Print to standard output. The last row must be full. */
DOR_MUST_CHECK int cli_table_print(const struct cli_table *table);

void cli_table_fini(struct cli_table *table);

#endif
