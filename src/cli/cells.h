/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cells.h - an inspected image as a square of cells along a Hilbert curve, so that pages that are
 * neighbours in memory are neighbours in the picture, and free runs and files show as patches.
 *
 * Ownership:  the square owns its cells.
 * Threads:    any.
 * Errors:     DOR_E_NO_MEMORY.
 */
#ifndef DOR_CLI_CELLS_H
#define DOR_CLI_CELLS_H

#include <dormouse/inspect.h>
#include <stdbool.h>

enum { CLI_CELL_NONE = DOR_CLASSES }; /* past the end of the image */

struct cli_cells {
    unsigned side; /* a power of two */
    uint64_t pages_per_cell;
    uint8_t *classes; /* side * side, by line; the class that most pages of the cell have */
};

/* A square of at most SIDE_MAX cells a side. */
DOR_MUST_CHECK int cli_cells_make(
    const struct dor_inspection *inspection, unsigned side_max, struct cli_cells *ret);
void cli_cells_fini(struct cli_cells *cells);

#define AUTO_CELLS __attribute__((cleanup(cli_cells_fini)))

struct cli_class_look {
    const char *colour; /* #rrggbb */
    char letter;
};

/* How a class is drawn. */
const struct cli_class_look *cli_class_look(unsigned page_class);

/* Count the pages of each class. */
void cli_class_counts(const struct dor_inspection *inspection, uint64_t counts[DOR_CLASSES]);

/* Draw on standard output: in colours on a terminal, otherwise, or with $NO_COLOR, in letters. */
DOR_MUST_CHECK int cli_cells_draw(const struct dor_inspection *inspection);

/* Write an SVG picture titled TITLE to PATH. */
DOR_MUST_CHECK int cli_cells_write_svg(
    const struct dor_inspection *inspection, const char *title, const char *path);

#endif
