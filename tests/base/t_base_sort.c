/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_base_sort.c - rows come out in the order of qsort(), equals in the order they came in.
 */
#include "base/mem.h"
#include "base/random.h"
#include "base/size.h"
#include "base/sort.h"
#include "tap.h"

#include <stdlib.h>

static int
by_key_then_index(const void *left, const void *right)
{
    const struct base_sort_row *l = left;
    const struct base_sort_row *r = right;
    if (l->key != r->key)
        return l->key < r->key ? -1 : 1;
    return (l->index > r->index) - (l->index < r->index);
}

static void
test_against_qsort(struct base_random *random, size_t count, uint64_t mask, const char *what)
{
    struct base_sort_row *rows = base_array(count + 1, sizeof *rows);
    struct base_sort_row *spare = base_array(count + 1, sizeof *spare);
    struct base_sort_row *want = base_array(count + 1, sizeof *want);
    if (rows == NULL || spare == NULL || want == NULL)
        abort();
    for (size_t i = 0; i < count; i++)
        want[i] = rows[i] = (struct base_sort_row){base_random_next(random) & mask, i};
    const struct base_sort_row *have = base_sort_rows(rows, spare, count);
    qsort(want, count, sizeof *want, by_key_then_index);
    bool same = true;
    for (size_t i = 0; i < count; i++)
        same = same && have[i].key == want[i].key && have[i].index == want[i].index;
    ok(same, "%s, %zu rows", what, count);
    base_free(rows);
    base_free(spare);
    base_free(want);
}

int
main(void)
{
    struct base_random random;
    base_random_init(&random, tap_seed());
    static const size_t counts[] = {0, 1, 2, 3, 255, 256, 10000};
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        test_against_qsort(&random, counts[i], UINT64_MAX, "all bytes differ");
        test_against_qsort(&random, counts[i], 0x700, "few keys, many equals");
        test_against_qsort(&random, counts[i], UINT64_C(0xff000000000000ff), "ends differ");
        test_against_qsort(&random, counts[i], 0, "all equal");
    }
    return done_testing();
}
