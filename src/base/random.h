/* SPDX-License-Identifier: Apache-2.0 */
/*
 * random.h - a fast reproducible generator (xoshiro256**, seeded by splitmix64; Blackman and
 * Vigna 2021), and true random bytes of the operating system. The state is explicit: the same
 * seed gives the same run.
 *
 * Ownership:  the state is the caller's memory.
 * Threads:    one state, one thread.
 * Errors:     only base_random_seed_os() can fail, with DOR_E_IO. Not for secrets:
 *             predictable from its output.
 */
#ifndef DOR_BASE_RANDOM_H
#define DOR_BASE_RANDOM_H

#include <dormouse/err.h>
#include <stddef.h>
#include <stdint.h>

struct base_random {
    uint64_t state[4];
};

/* The next number of the splitmix64 sequence whose position is *STATE; also a good mixer of one
 * word. */
uint64_t base_random_splitmix(uint64_t *state);

void base_random_init(struct base_random *random, uint64_t seed);

uint64_t base_random_next(struct base_random *random);

/* Evenly spread over 0 ... LIMIT - 1; LIMIT must not be 0. */
uint64_t base_random_below(struct base_random *random, uint64_t limit);

void base_random_fill(struct base_random *random, void *buf, size_t size_bytes);

/* SIZE_BYTES of the operating system's random bytes, fit for secrets. */
DOR_MUST_CHECK int base_random_seed_os(void *buf, size_t size_bytes);

#endif
