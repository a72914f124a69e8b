/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox.h - a sandbox's memory as benchmarks have it: a region that a userfaultfd fills, and the
 * handshake by which it asks `dormouse wake` to do so.
 *
 * Ownership:  sandbox_end() gives back what sandbox_new() and sandbox_connect() took.
 * Threads:    any, one at a time for each sandbox.
 * Errors:     what goes wrong ends the process.
 */
#ifndef DOR_BENCH_SANDBOX_H
#define DOR_BENCH_SANDBOX_H

#include <stddef.h>
#include <stdint.h>

struct sandbox {
    int uffd;
    uint8_t *bytes;
    size_t size_bytes;
    int socket; /* -1: to nobody */
};

/* Registered for missing pages and removals, in small pages. */
struct sandbox sandbox_new(size_t size_bytes);
void sandbox_connect(struct sandbox *sandbox, const char *socket_path);
/* As Firecracker does. */
void sandbox_hand_over(const struct sandbox *sandbox);
void sandbox_end(struct sandbox *sandbox);

#endif
