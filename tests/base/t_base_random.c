/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_base_random.c - the generators give the published numbers, and numbers below a limit are
 * even.
 */
#include "base/random.h"
#include "base/size.h"
#include "tap.h"

static void
test_known_answers(void)
{
    /* From the authors' splitmix64.c with state 1234567 and xoshiro256starstar.c with state 1,
     * 2, 3, 4. */
    static const uint64_t splitmix[] = {
        6457827717110365317U, 3203168211198807973U, 9817491932198370423U};
    static const uint64_t xoshiro[] = {11520U, 0U, 1509978240U, 1215971899390074240U};
    uint64_t state = 1234567;
    for (size_t i = 0; i < ARRAY_LEN(splitmix); i++)
        ok(base_random_splitmix(&state) == splitmix[i], "splitmix64 number %zu", i);
    struct base_random random = {{1, 2, 3, 4}};
    for (size_t i = 0; i < ARRAY_LEN(xoshiro); i++)
        ok(base_random_next(&random) == xoshiro[i], "xoshiro256** number %zu", i);
}

static void
test_seeds(void)
{
    struct base_random a, b;
    char one[37], two[37];
    base_random_init(&a, 9);
    base_random_init(&b, 9);
    base_random_fill(&a, one, sizeof one);
    base_random_fill(&b, two, sizeof two);
    is_mem(one, two, sizeof one, "the same seed gives the same bytes");
    base_random_init(&b, 10);
    base_random_fill(&b, two, sizeof two);
    ok(memcmp(one, two, sizeof one) != 0, "another seed gives others");
}

static void
test_below(void)
{
    struct base_random random;
    base_random_init(&random, tap_seed());
    unsigned seen[7] = {0};
    unsigned outside = 0;
    for (unsigned i = 0; i < 70000; i++) {
        uint64_t v = base_random_below(&random, ARRAY_LEN(seen));
        if (v < ARRAY_LEN(seen))
            seen[v]++;
        else
            outside++;
    }
    is_int(outside, 0, "nothing reaches the limit");
    /* 10000 expected, standard deviation 93: 600 off happens once in 10^9 runs. */
    for (size_t i = 0; i < ARRAY_LEN(seen); i++)
        ok(seen[i] > 9400 && seen[i] < 10600, "%zu is drawn as often as others", i);
    is_int(base_random_below(&random, 1), 0, "below one there is zero");
}

static void
test_os(void)
{
    unsigned char a[64] = {0}, b[64] = {0};
    is_ok(base_random_seed_os(a, sizeof a), "the system gives bytes");
    is_ok(base_random_seed_os(b, sizeof b), "and more");
    ok(memcmp(a, b, sizeof a) != 0, "and other ones");
    is_ok(base_random_seed_os(NULL, 0), "and none");
}

int
main(void)
{
    test_known_answers();
    test_seeds();
    test_below();
    test_os();
    return done_testing();
}
