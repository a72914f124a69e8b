/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cells_svg.c - the square as an SVG file of one path a class: cells of a line that are alike are
 * one rectangle of it, so that a picture of 65,536 pages takes some 200 KB.
 */
#include "base/err.h"
#include "base/mem.h"
#include "base/newfile.h"
#include "base/size.h"
#include "cli/cells.h"
#include "cli/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SVG_SIDE_MAX = 512,
    DRAWN_SIDE = 768, /* pixels */
    MARGIN = 24,
    TITLE_HEIGHT = 56,
    LEGEND_WIDTH = 230,
    LEGEND_LINE = 26,
};

/* TEXT with what means something to XML replaced, and as valid UTF-8. */
static void
put_text(FILE *out, const char *text)
{
    char clean[1024];
    for (const char *p = cli_text_clean(text, clean, sizeof clean); *p != '\0'; p++) {
        const char *name = *p == '&'   ? "&amp;"
                           : *p == '<' ? "&lt;"
                           : *p == '>' ? "&gt;"
                           : *p == '"' ? "&quot;"
                                       : NULL;
        if (name != NULL)
            fputs(name, out);
        else
            fputc(*p, out);
    }
}

static void
put_head(
    FILE *out, const struct dor_inspection *inspection, const struct cli_cells *cells,
    const char *title)
{
    char size[CLI_NUMBER_BYTES];
    unsigned width = DRAWN_SIDE + LEGEND_WIDTH + 3 * MARGIN;
    unsigned height = DRAWN_SIDE + TITLE_HEIGHT + 2 * MARGIN;
    fprintf(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%u\" height=\"%u\" "
        "viewBox=\"0 0 %u %u\" font-family=\"sans-serif\" role=\"img\">\n<title>",
        width, height, width, height);
    put_text(out, title);
    fprintf(
        out,
        "</title>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n"
        "<text x=\"%u\" y=\"%u\" font-size=\"20\" fill=\"#222222\">",
        MARGIN, MARGIN + 20);
    put_text(out, title);
    fprintf(
        out, "</text>\n<text x=\"%u\" y=\"%u\" font-size=\"13\" fill=\"#555555\">", MARGIN,
        MARGIN + 42);
    fprintf(
        out, "%s of memory along a Hilbert curve, %s%" PRIu64 " page%s a cell; ",
        cli_text_size(inspection->page_count * DOR_PAGE_BYTES, size), "", cells->pages_per_cell,
        cells->pages_per_cell == 1 ? "" : "s");
    put_text(out, inspection->kernel[0] == '\0' ? "no kernel found" : inspection->kernel);
    fputs("</text>\n", out);
}

/* The cells of one class. */
static void
put_class(FILE *out, const struct cli_cells *cells, unsigned page_class)
{
    fprintf(out, "<path fill=\"%s\" d=\"", cli_class_look(page_class)->colour);
    for (unsigned y = 0; y < cells->side; y++) {
        const uint8_t *line = cells->classes + (size_t)y * cells->side;
        for (unsigned x = 0; x < cells->side;) {
            unsigned end = x;
            while (end < cells->side && line[end] == page_class)
                end++;
            if (end > x)
                fprintf(out, "M%u %uh%uv1h-%uz", x, y, end - x, end - x);
            x = end > x ? end : x + 1;
        }
    }
    fprintf(
        out, "\"><title>%s</title></path>\n",
        dor_page_class_name((enum dor_page_class)page_class));
}

static void
put_legend(FILE *out, const uint64_t counts[DOR_CLASSES], uint64_t page_count)
{
    unsigned x = DRAWN_SIDE + 2 * MARGIN;
    unsigned y = TITLE_HEIGHT + MARGIN;
    for (unsigned i = 0; i < DOR_CLASSES; i++) {
        char size[CLI_NUMBER_BYTES];
        char percent[CLI_NUMBER_BYTES];
        if (counts[i] == 0)
            continue;
        fprintf(
            out,
            "<rect x=\"%u\" y=\"%u\" width=\"16\" height=\"16\" fill=\"%s\" "
            "stroke=\"#999999\"/>"
            "<text x=\"%u\" y=\"%u\" font-size=\"14\" fill=\"#222222\">%s</text>"
            "<text x=\"%u\" y=\"%u\" font-size=\"12\" fill=\"#555555\" "
            "text-anchor=\"end\">%s, %s</text>\n",
            x, y, cli_class_look(i)->colour, x + 24, y + 13,
            dor_page_class_name((enum dor_page_class)i), x + LEGEND_WIDTH, y + 13,
            cli_text_size(counts[i] * DOR_PAGE_BYTES, size),
            cli_text_percent(counts[i], page_count, percent));
        y += LEGEND_LINE;
    }
}

static int
put_picture(FILE *out, const struct dor_inspection *inspection, const char *title)
{
    uint64_t counts[DOR_CLASSES];
    AUTO_CELLS struct cli_cells cells = {0};
    int rc = cli_cells_make(inspection, SVG_SIDE_MAX, &cells);
    if (rc != 0)
        return rc;
    cli_class_counts(inspection, counts);
    put_head(out, inspection, &cells, title);
    fprintf(
        out,
        "<g transform=\"translate(%u %u) scale(%g)\" shape-rendering=\"crispEdges\">\n"
        "<rect width=\"%u\" height=\"%u\" fill=\"#ffffff\"/>\n",
        MARGIN, TITLE_HEIGHT + MARGIN, (double)DRAWN_SIDE / cells.side, cells.side, cells.side);
    for (unsigned i = 0; i < DOR_CLASSES; i++)
        if (counts[i] > 0)
            put_class(out, &cells, i);
    fputs("</g>\n", out);
    put_legend(out, counts, inspection->page_count);
    fputs("</svg>\n", out);
    return 0;
}

int
cli_cells_write_svg(
    const struct dor_inspection *inspection, const char *title, const char *path)
{
    AUTO_NEWFILE struct base_newfile file = BASE_NEWFILE_NONE;
    FILE *out = NULL;
    int rc = base_newfile_open(&file, path);
    if (rc == 0)
        rc = base_newfile_stream(&file, &out);
    if (rc != 0)
        return rc;
    rc = put_picture(out, inspection, title);
    int closed = base_newfile_stream_end(&file, out);
    rc = rc == 0 ? closed : rc;
    if (rc == 0)
        rc = base_newfile_sync(&file);
    return rc == 0 ? base_newfile_commit(&file) : rc;
}
