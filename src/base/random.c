/* SPDX-License-Identifier: Apache-2.0 */
/*
 * random.c - xoshiro256** 1.0 seeded by splitmix64, as published by Blackman and Vigna,
 * "Scrambled Linear Pseudorandom Number Generators" (2021), and getrandom(2).
 */
#include "base/random.h"

#include "base/err.h"
#include "base/size.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

static uint64_t
rotate_left(uint64_t v, unsigned bits)
{
    return (v << bits) | (v >> (64 - bits));
}

uint64_t
base_random_splitmix(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

/* Four outputs of splitmix64 are never all zero, the one state xoshiro cannot leave. */
void
base_random_init(struct base_random *random, uint64_t seed)
{
    for (size_t i = 0; i < ARRAY_LEN(random->state); i++)
        random->state[i] = base_random_splitmix(&seed);
}

uint64_t
base_random_next(struct base_random *random)
{
    uint64_t *s = random->state;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

/* Numbers below 2^64 mod LIMIT are drawn again: what is left is a whole number of rounds of
 * LIMIT. */
uint64_t
base_random_below(struct base_random *random, uint64_t limit)
{
    dor_assert(limit > 0);
    uint64_t threshold = (0 - limit) % limit;
    uint64_t v;
    do {
        v = base_random_next(random);
    } while (v < threshold);
    return v % limit;
}

void
base_random_fill(struct base_random *random, void *buf, size_t size_bytes)
{
    char *p = buf;
    while (size_bytes > 0) {
        uint64_t v = base_random_next(random);
        size_t n = base_min_size(size_bytes, sizeof v);
        memcpy(p, &v, n);
        p += n;
        size_bytes -= n;
    }
}

int
base_random_seed_os(void *buf, size_t size_bytes)
{
    char *p = buf;
    while (size_bytes > 0) {
        ssize_t n = getrandom(p, size_bytes, 0);
        if (n < 0 && errno != EINTR)
            return dor_fail_errno(errno, "the system gives no random bytes");
        size_t got = n < 0 ? 0 : (size_t)n;
        p += got;
        size_bytes -= got;
    }
    return 0;
}
