/* SPDX-License-Identifier: Apache-2.0 */
/*
 * counters.h - numbers for the operator, declared once in a table that makes the struct,
 * `dormouse stat`, the Prometheus text and the man page. Rows of a room's counters.def:
 *
 *     COUNTER(read_bytes, "bytes", "bytes read from segments", "Grows with every wake.")
 *
 * The room includes that file twice:
 *
 *     struct store_counters {
 *     #define COUNTER BASE_COUNTER_FIELD
 *     #include "store/counters.def"
 *     #undef COUNTER
 *     };
 *
 *     #define BASE_COUNTER_STRUCT struct store_counters
 *     static const struct base_counter rows[] = {
 *     #define COUNTER BASE_COUNTER_ROW
 *     #include "store/counters.def"
 *     #undef COUNTER
 *     };
 *     #undef BASE_COUNTER_STRUCT
 *
 * Ownership:  tables are static; the struct of counters is the room's, all zero at first.
 * Threads:    any. Counters are relaxed atomics: each is exact, two of them are not one
 *             moment.
 * Errors:     none; what cannot be printed shows in ferror() of the stream.
 */
#ifndef DOR_BASE_COUNTERS_H
#define DOR_BASE_COUNTERS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct base_counter {
    const char *name;
    const char *unit;
    const char *line;      /* what it counts, a phrase */
    const char *paragraph; /* what it tells the operator, and when to worry */
    size_t offset;         /* of the field in the room's struct */
};

#define BASE_COUNTER_FIELD(name, unit, line, paragraph) _Atomic uint64_t name;
#define BASE_COUNTER_ROW(name, unit, line, paragraph)                                          \
    {#name, unit, line, paragraph, offsetof(BASE_COUNTER_STRUCT, name)},

/* Relaxed: a counter orders nothing else, readers only want its value. */
static inline void
base_counter_add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* The value of the counter that ROW describes in the struct VALUES. */
uint64_t base_counter_get(const struct base_counter *row, const void *values);

/* One line each: value, name, what it counts. */
void base_counters_print_text(
    const struct base_counter *rows, size_t row_count, const void *values, FILE *out);

/* Prometheus text format; the metric is dormouse_<ROOM>_<name>_total. */
void base_counters_print_prometheus(
    const struct base_counter *rows, size_t row_count, const void *values, const char *room,
    FILE *out);

/* An mdoc list for a man page. */
void base_counters_print_man(const struct base_counter *rows, size_t row_count, FILE *out);

#endif
