/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_base_le.c - byte order, and varints against a twin that is written without shifts of a
 * running value.
 */
#include "base/le.h"
#include "base/random.h"
#include "base/size.h"
#include "tap.h"

static void
test_fixed(void)
{
    uint8_t bytes[12] = {0};
    base_le64_put(bytes + 1, 0x1122334455667788);
    is_mem(
        bytes, "\0\x88\x77\x66\x55\x44\x33\x22\x11\0\0", 11, "u64 is little endian, unaligned");
    ok(base_le64_get(bytes + 1) == 0x1122334455667788, "u64 comes back");
    base_le32_put(bytes + 3, 0xdeadbeef);
    is_mem(bytes + 3, "\xef\xbe\xad\xde", 4, "u32 is little endian");
    ok(base_le32_get(bytes + 3) == 0xdeadbeef, "u32 comes back");
    base_le16_put(bytes + 7, 0xcafe);
    is_mem(bytes + 7, "\xfe\xca", 2, "u16 is little endian");
    ok(base_le16_get(bytes + 7) == 0xcafe, "u16 comes back");
}

/* The plain twin: digits of base 128 by division. */
static size_t
naive_varint(uint8_t *out, uint64_t v)
{
    size_t n = 0;
    do {
        out[n++] = (uint8_t)(v % 128 + 128);
        v /= 128;
    } while (v > 0);
    out[n - 1] = (uint8_t)(out[n - 1] - 128);
    return n;
}

static bool
round_trips(uint64_t v)
{
    uint8_t ours[BASE_VARINT_BYTES_MAX];
    uint8_t naive[BASE_VARINT_BYTES_MAX];
    size_t n = (size_t)(base_varint_put(ours, v) - ours);
    uint64_t back = ~v;
    if (n != naive_varint(naive, v) || memcmp(ours, naive, n) != 0)
        return false;
    /* Every shorter piece must be refused. */
    for (size_t cut = 0; cut < n; cut++)
        if (base_varint_get(ours, ours + cut, &back) != NULL || back != ~v)
            return false;
    return base_varint_get(ours, ours + n, &back) == ours + n && back == v;
}

static void
test_varints(void)
{
    struct base_random random;
    base_random_init(&random, tap_seed());
    unsigned wrong = 0;
    for (unsigned shift = 0; shift < 64; shift++) {
        uint64_t power = (uint64_t)1 << shift;
        wrong += (unsigned)!round_trips(power) + (unsigned)!round_trips(power - 1);
    }
    is_int(wrong, 0, "varints around every power of two");
    for (unsigned i = 0; i < 100000; i++)
        wrong += !round_trips(base_random_next(&random) >> base_random_below(&random, 64));
    is_int(wrong, 0, "random varints");
    ok(round_trips(UINT64_MAX), "the largest varint");
}

static void
test_bad_varints(void)
{
    uint8_t bytes[12];
    uint64_t v = 42;
    memset(bytes, 0xff, sizeof bytes);
    ok(base_varint_get(bytes, bytes + sizeof bytes, &v) == NULL && v == 42,
       "no end in 12 bytes");
    bytes[9] = 0x02;
    ok(base_varint_get(bytes, bytes + sizeof bytes, &v) == NULL && v == 42, "65 bits");
    bytes[9] = 0x01;
    ok(base_varint_get(bytes, bytes + sizeof bytes, &v) == bytes + 10, "64 bits");
    ok(v == UINT64_MAX, "are all ones");
    memset(bytes, 0x80, sizeof bytes);
    bytes[10] = 0;
    v = 42;
    ok(base_varint_get(bytes, bytes + sizeof bytes, &v) == NULL && v == 42, "11 bytes");
    ok(base_varint_get(bytes, bytes, &v) == NULL && v == 42, "no bytes");
}

static void
test_zigzag(void)
{
    static const int64_t values[] = {0, -1, 1, -2, 2};
    for (size_t i = 0; i < ARRAY_LEN(values); i++)
        is_int(base_zigzag_encode(values[i]), i, "zigzag of %d", (int)values[i]);
    ok(base_zigzag_encode(INT64_MIN) == UINT64_MAX, "zigzag of the least");
    is_int(base_zigzag_decode(UINT64_MAX), INT64_MIN, "and back");
    is_int(
        base_zigzag_decode(base_zigzag_encode(INT64_MAX)), INT64_MAX, "the largest and back");
}

int
main(void)
{
    test_fixed();
    test_varints();
    test_bad_varints();
    test_zigzag();
    return done_testing();
}
