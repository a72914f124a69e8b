/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map.c - the whole image in one screen, whatever its size: the pages behind one letter are as
 * many as it takes, a power of two so that addresses at the left are round.
 */
#include "cli/map.h"

#include "base/size.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MAP_COLUMNS = 64, MAP_LINES_MAX = 24 };

static const char letters[DOR_PAGE_KINDS] = {
    [DOR_PAGE_ZERO] = '.',
    [DOR_PAGE_RAW] = '#',
    [DOR_PAGE_PATCHED] = '+',
    [DOR_PAGE_REFERENCE] = '=',
};

/* The letter of pages FIRST ... END - 1; of two kinds with as many pages, the costlier one. */
static char
letter_of(const struct dor_snapshot *snapshot, uint64_t first, uint64_t end)
{
    static const enum dor_page_kind by_cost[] = {
        DOR_PAGE_RAW,
        DOR_PAGE_PATCHED,
        DOR_PAGE_REFERENCE,
        DOR_PAGE_ZERO,
    };
    uint64_t counts[DOR_PAGE_KINDS] = {0};
    for (uint64_t page = first; page < end; page++)
        counts[dor_snapshot_page_kind(snapshot, page)]++;
    enum dor_page_kind most = by_cost[0];
    for (size_t i = 1; i < ARRAY_LEN(by_cost); i++)
        if (counts[by_cost[i]] > counts[most])
            most = by_cost[i];
    return letters[most];
}

/* Pages behind one letter. */
static uint64_t
step_of(uint64_t page_count)
{
    uint64_t step = 1;
    while (DIV_ROUND_UP(page_count, step) > (uint64_t)MAP_COLUMNS * MAP_LINES_MAX)
        step *= 2;
    return step;
}

void
cli_map_print(const struct dor_snapshot *snapshot)
{
    uint64_t page_count = dor_snapshot_info(snapshot)->logical_bytes / DOR_PAGE_BYTES;
    uint64_t step = step_of(page_count);
    printf(
        "\nPages, %" PRIu64 " a letter: %c raw  %c patched  %c zero  %c reference\n", step,
        letters[DOR_PAGE_RAW], letters[DOR_PAGE_PATCHED], letters[DOR_PAGE_ZERO],
        letters[DOR_PAGE_REFERENCE]);
    for (uint64_t page = 0; page < page_count; page += step * MAP_COLUMNS) {
        char line[MAP_COLUMNS + 1];
        size_t used = 0;
        for (uint64_t first = page; used < MAP_COLUMNS && first < page_count; first += step)
            line[used++] = letter_of(snapshot, first, base_min_u64(first + step, page_count));
        line[used] = '\0';
        printf("  %#12" PRIx64 "  %s\n", page * DOR_PAGE_BYTES, line);
    }
}

/* The cell of each page of the set gets the digit of its tenth; an earlier one stays. */
static void
mark_cells(const struct dor_working_set *set, uint64_t step, char *cells)
{
    uint64_t done = 0;
    for (size_t i = 0; i < set->run_count; i++)
        for (uint64_t p = 0; p < set->runs[i].page_count; p++, done++) {
            char *cell = &cells[(set->runs[i].first_page + p) / step];
            if (*cell == '.')
                *cell = (char)('0' + done * 10 / set->page_count);
        }
}

void
cli_map_print_working_set(const struct dor_working_set *set, uint64_t page_count)
{
    uint64_t step = step_of(page_count);
    uint64_t cell_count = DIV_ROUND_UP(page_count, step);
    char cells[MAP_COLUMNS * MAP_LINES_MAX];
    memset(cells, '.', sizeof cells);
    mark_cells(set, step, cells);
    printf(
        "\nPages, %" PRIu64 " a letter: 0 needed first ... 9 last  . not in the set\n", step);
    for (uint64_t cell = 0; cell < cell_count; cell += MAP_COLUMNS)
        printf(
            "  %#12" PRIx64 "  %.*s\n", cell * step * DOR_PAGE_BYTES,
            (int)base_min_u64(MAP_COLUMNS, cell_count - cell), cells + cell);
}
