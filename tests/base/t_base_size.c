/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_base_size.c - checked arithmetic at its limits; results stay untouched on overflow.
 */
#include "base/size.h"
#include "tap.h"

int
main(void)
{
    uint64_t r = 42;
    ok(base_add_u64(UINT64_MAX - 1, 1, &r) && r == UINT64_MAX, "the largest sum");
    r = 42;
    ok(!base_add_u64(UINT64_MAX, 1, &r) && r == 42, "a sum too large");
    ok(base_mul_u64(UINT64_MAX / 3, 3, &r) && r == UINT64_MAX, "the largest product");
    r = 42;
    ok(!base_mul_u64((uint64_t)1 << 32, (uint64_t)1 << 32, &r) && r == 42,
       "a product too large");
    size_t s = 42;
    ok(base_add_size(1, 2, &s) && s == 3, "size_t sum");
    ok(!base_add_size(SIZE_MAX, 1, &s) && s == 3, "size_t sum too large");
    ok(base_mul_size(5, 7, &s) && s == 35, "size_t product");
    ok(!base_mul_size(SIZE_MAX, 2, &s) && s == 35, "size_t product too large");
    is_int(base_round_down_u64(4095, 4096), 0, "round down below one unit");
    is_int(base_round_down_u64(8192, 4096), 8192, "round down a multiple");
    ok(base_round_up_u64(1, 4096, &r) && r == 4096, "round up");
    ok(base_round_up_u64(8192, 4096, &r) && r == 8192, "round up a multiple");
    ok(base_round_up_u64(7, 3, &r) && r == 9, "round up to what is no power of two");
    r = 42;
    ok(!base_round_up_u64(UINT64_MAX, 4096, &r) && r == 42, "round up past 64 bits");
    is_int(base_min_u64(1, 2) + base_max_u64(1, 2), 3, "u64 min and max");
    is_int(base_min_size(2, 1) + base_max_size(5, 4), 6, "size_t min and max");
    is_int(DIV_ROUND_UP(9, 4), 3, "divide and round up");
    is_int(DIV_ROUND_UP(8, 4), 2, "divide without rest");
    is_int(DIV_ROUND_UP(UINT64_MAX, 2) == (uint64_t)1 << 63, 1, "divide the largest number");
    int three[3] = {0};
    is_int(ARRAY_LEN(three), 3, "length of an array");
    is_int(
        (intmax_t)(UINT64_MAX & ~(DOR_PAGE_BYTES - 1)), -4096, "page masks are 64 bits wide");
    return done_testing();
}
