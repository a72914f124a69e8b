/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cells.c - the square of cells, and how it is drawn in a terminal.
 */
#include "cli/cells.h"

#include "base/mem.h"
#include "base/size.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { TERMINAL_SIDE = 64, LETTERS_SIDE = 32 };

/* Colours that people who confuse red and green can tell apart; what may be dropped is pale. */
static const struct cli_class_look looks[DOR_CLASSES] = {
    [DOR_CLASS_UNKNOWN] = {"#7f7f7f", '?'},     [DOR_CLASS_ZERO] = {"#f4f4f4", '.'},
    [DOR_CLASS_FREE] = {"#dfe7ee", '-'},        [DOR_CLASS_KERNEL_TEXT] = {"#08306b", 'T'},
    [DOR_CLASS_KERNEL_DATA] = {"#4292c6", 'K'}, [DOR_CLASS_SLAB] = {"#9e7bb5", 'S'},
    [DOR_CLASS_PAGE_TABLE] = {"#d62728", 'P'},  [DOR_CLASS_FILE_CLEAN] = {"#a1d99b", 'f'},
    [DOR_CLASS_FILE_DIRTY] = {"#238b45", 'D'},  [DOR_CLASS_ANON] = {"#f5a142", 'A'},
    [DOR_CLASS_SHMEM] = {"#e7d04b", 'M'},       [DOR_CLASS_RESERVED] = {"#424242", 'R'},
};

const struct cli_class_look *
cli_class_look(unsigned page_class)
{
    return &looks[page_class];
}

void
cli_class_counts(const struct dor_inspection *inspection, uint64_t counts[DOR_CLASSES])
{
    for (unsigned i = 0; i < DOR_CLASSES; i++)
        counts[i] = 0;
    for (uint64_t page = 0; page < inspection->page_count; page++)
        counts[inspection->pages[page].page_class]++;
}

/* The place of cell INDEX of a curve of SIDE; one quarter turn a level. */
static void
hilbert_place(unsigned side, uint64_t index, unsigned *ret_x, unsigned *ret_y)
{
    unsigned x = 0;
    unsigned y = 0;
    for (unsigned step = 1; step < side; step *= 2, index /= 4) {
        unsigned right = (unsigned)(index / 2) & 1;
        unsigned down = (unsigned)(index ^ right) & 1;
        if (down == 0) {
            unsigned before = right != 0 ? step - 1 - x : x;
            x = right != 0 ? step - 1 - y : y;
            y = before;
        }
        x += step * right;
        y += step * down;
    }
    *ret_x = x;
    *ret_y = y;
}

/* The class of most of the pages FIRST ... END - 1. */
static uint8_t
class_of_most(const struct dor_inspection *inspection, uint64_t first, uint64_t end)
{
    uint64_t counts[DOR_CLASSES] = {0};
    unsigned most = 0;
    for (uint64_t page = first; page < end; page++)
        counts[inspection->pages[page].page_class]++;
    for (unsigned i = 1; i < DOR_CLASSES; i++)
        if (counts[i] > counts[most])
            most = i;
    return (uint8_t)most;
}

int
cli_cells_make(
    const struct dor_inspection *inspection, unsigned side_max, struct cli_cells *ret)
{
    struct cli_cells cells = {.side = 1, .pages_per_cell = 1};
    uint64_t page_count = inspection->page_count;
    while (cells.side < side_max && (uint64_t)cells.side * cells.side < page_count)
        cells.side *= 2;
    uint64_t count = (uint64_t)cells.side * cells.side;
    cells.pages_per_cell = base_max_u64(1, DIV_ROUND_UP(page_count, count));
    cells.classes = base_alloc(count);
    if (cells.classes == NULL)
        return DOR_E_NO_MEMORY;
    for (uint64_t i = 0; i < count; i++) {
        unsigned x;
        unsigned y;
        uint64_t first = i * cells.pages_per_cell;
        hilbert_place(cells.side, i, &x, &y);
        cells.classes[(size_t)y * cells.side + x] =
            first >= page_count ? CLI_CELL_NONE
                                : class_of_most(
                                      inspection, first,
                                      base_min_u64(first + cells.pages_per_cell, page_count));
    }
    *ret = cells;
    return 0;
}

void
cli_cells_fini(struct cli_cells *cells)
{
    base_free(cells->classes);
    cells->classes = NULL;
}

/* "38;2;r;g;b" for text or "48;..." for what is behind it. */
static void
put_colour(unsigned where, uint8_t page_class)
{
    if (page_class == CLI_CELL_NONE) {
        printf("\x1b[%um", where + 1);
        return;
    }
    unsigned long rgb = strtoul(looks[page_class].colour + 1, NULL, 16);
    printf("\x1b[%u;2;%lu;%lu;%lum", where, rgb >> 16, rgb >> 8 & 255, rgb & 255);
}

/* Two lines of cells are one of text: the upper half of each letter is drawn in its colour. */
static void
draw_colours(const struct cli_cells *cells)
{
    for (unsigned y = 0; y < cells->side; y += 2) {
        fputs("  ", stdout);
        for (unsigned x = 0; x < cells->side; x++) {
            size_t at = (size_t)y * cells->side + x;
            put_colour(38, cells->classes[at]);
            put_colour(
                48, y + 1 < cells->side ? cells->classes[at + cells->side] : CLI_CELL_NONE);
            fputs("\xe2\x96\x80", stdout);
        }
        puts("\x1b[0m");
    }
}

/* Letters are twice as high as wide, so each cell is two of them. */
static void
draw_letters(const struct cli_cells *cells)
{
    for (unsigned y = 0; y < cells->side; y++) {
        fputs("  ", stdout);
        for (unsigned x = 0; x < cells->side; x++) {
            uint8_t page_class = cells->classes[(size_t)y * cells->side + x];
            char letter = page_class == CLI_CELL_NONE ? ' ' : looks[page_class].letter;
            putchar(letter);
            putchar(letter);
        }
        putchar('\n');
    }
}

static void
draw_legend(const struct dor_inspection *inspection, bool colours)
{
    uint64_t counts[DOR_CLASSES];
    unsigned in_line = 0;
    cli_class_counts(inspection, counts);
    for (unsigned i = 0; i < DOR_CLASSES; i++) {
        if (counts[i] == 0)
            continue;
        fputs(in_line == 0 ? "  " : "   ", stdout);
        if (colours)
            put_colour(48, (uint8_t)i);
        fputs(colours ? "  \x1b[0m" : "", stdout);
        if (!colours)
            printf("%c%c", looks[i].letter, looks[i].letter);
        printf(" %-12s", dor_page_class_name((enum dor_page_class)i));
        in_line = (in_line + 1) % 4;
        if (in_line == 0)
            putchar('\n');
    }
    if (in_line != 0)
        putchar('\n');
}

int
cli_cells_draw(const struct dor_inspection *inspection)
{
    const char *no_colour = getenv("NO_COLOR");
    bool colours = isatty(STDOUT_FILENO) != 0 && (no_colour == NULL || no_colour[0] == '\0');
    AUTO_CELLS struct cli_cells cells = {0};
    int rc = cli_cells_make(inspection, colours ? TERMINAL_SIDE : LETTERS_SIDE, &cells);
    if (rc != 0)
        return rc;
    printf("Memory along a Hilbert curve, %" PRIu64 " pages a cell:\n", cells.pages_per_cell);
    if (colours)
        draw_colours(&cells);
    else
        draw_letters(&cells);
    draw_legend(inspection, colours);
    return 0;
}
