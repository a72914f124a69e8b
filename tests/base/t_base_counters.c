/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_base_counters.c - one table makes the struct and three texts; threads lose no counts.
 */
#include "base/counters.h"
#include "base/mem.h"
#include "base/size.h"
#include "tap.h"

#include <pthread.h>

struct example {
#define COUNTER BASE_COUNTER_FIELD
#include "base/example_counters.def"
#undef COUNTER
};

#define BASE_COUNTER_STRUCT struct example
static const struct base_counter rows[] = {
#define COUNTER BASE_COUNTER_ROW
#include "base/example_counters.def"
#undef COUNTER
};
#undef BASE_COUNTER_STRUCT

enum { THREAD_COUNT = 4, ADD_COUNT = 20000 };

static void *
count_many(void *arg)
{
    struct example *e = arg;
    for (unsigned i = 0; i < ADD_COUNT; i++)
        base_counter_add(&e->pages_read, 1);
    base_counter_add(&e->read_bytes, 4096);
    return NULL;
}

static char *text;
static size_t text_bytes;

static FILE *
begin(void)
{
    FILE *out = open_memstream(&text, &text_bytes);
    if (out == NULL)
        bail("no memory stream");
    return out;
}

int
main(void)
{
    struct example e = {0};
    pthread_t threads[THREAD_COUNT];
    for (size_t i = 0; i < THREAD_COUNT; i++)
        if (pthread_create(&threads[i], NULL, count_many, &e) != 0)
            bail("no thread");
    for (size_t i = 0; i < THREAD_COUNT; i++)
        pthread_join(threads[i], NULL);
    is_int(base_counter_get(&rows[0], &e), THREAD_COUNT * ADD_COUNT, "no count is lost");
    is_int(base_counter_get(&rows[1], &e), THREAD_COUNT * 4096, "nor of the second counter");

    FILE *out = begin();
    base_counters_print_text(rows, ARRAY_LEN(rows), &e, out);
    fclose(out);
    is_str(
        text,
        "               80000  pages_read               pages given to guests\n"
        "               16384  read_bytes               bytes read from segments\n",
        "text for people");
    base_free(text);

    out = begin();
    base_counters_print_prometheus(rows, 1, &e, "store", out);
    fclose(out);
    is_str(
        text,
        "# HELP dormouse_store_pages_read_total pages given to guests\n"
        "# TYPE dormouse_store_pages_read_total counter\n"
        "dormouse_store_pages_read_total 80000\n",
        "text for Prometheus");
    base_free(text);

    out = begin();
    base_counters_print_man(rows, 1, out);
    fclose(out);
    is_str(
        text,
        ".Bl -tag -width Ds\n.It Va pages_read Pq pages\npages given to guests.\n"
        "Grows while a guest wakes.\n.El\n",
        "text for the man page");
    base_free(text);
    return done_testing();
}
