/* SPDX-License-Identifier: Apache-2.0 */
/*
 * counters.c - prints a table of counters for three readers: a person, Prometheus and mdoc.
 */
#include "base/counters.h"

#include <inttypes.h>

uint64_t
base_counter_get(const struct base_counter *row, const void *values)
{
    const _Atomic uint64_t *counter =
        (const _Atomic uint64_t *)(const void *)((const char *)values + row->offset);
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void
base_counters_print_text(
    const struct base_counter *rows, size_t row_count, const void *values, FILE *out)
{
    for (const struct base_counter *row = rows; row < rows + row_count; row++)
        fprintf(
            out, "%20" PRIu64 "  %-24s %s\n", base_counter_get(row, values), row->name,
            row->line);
}

void
base_counters_print_prometheus(
    const struct base_counter *rows, size_t row_count, const void *values, const char *room,
    FILE *out)
{
    for (const struct base_counter *row = rows; row < rows + row_count; row++) {
        fprintf(out, "# HELP dormouse_%s_%s_total %s\n", room, row->name, row->line);
        fprintf(out, "# TYPE dormouse_%s_%s_total counter\n", room, row->name);
        fprintf(
            out, "dormouse_%s_%s_total %" PRIu64 "\n", room, row->name,
            base_counter_get(row, values));
    }
}

void
base_counters_print_man(const struct base_counter *rows, size_t row_count, FILE *out)
{
    fprintf(out, ".Bl -tag -width Ds\n");
    for (const struct base_counter *row = rows; row < rows + row_count; row++)
        fprintf(
            out, ".It Va %s Pq %s\n%s.\n%s\n", row->name, row->unit, row->line, row->paragraph);
    fprintf(out, ".El\n");
}
