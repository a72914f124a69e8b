/* SPDX-License-Identifier: Apache-2.0 */
/*
 * harness.h - what the benchmarks in C share: images in memory files, digests, percentiles, and
 * giving up with words. These programs print one JSON object; a script beside each runs it.
 *
 * Ownership:  returned memory and descriptors are the caller's; most callers leave them to the
 *             end of the process.
 * Threads:    one.
 * Errors:     every function ends the process with exit code 1 and a message.
 */
#ifndef DOR_BENCH_HARNESS_H
#define DOR_BENCH_HARNESS_H

#include <dormouse/store.h>
#include <stddef.h>
#include <stdint.h>

enum { BENCH_PAGE_BYTES = 4096 };

struct bench_digest {
    uint64_t low, high;
};

/* End the process when CODE is an error of the library; WHAT was tried. */
void bench_must(int code, const char *what);
_Noreturn void bench_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

uint64_t bench_number(const char *text); /* a decimal argument */

/* Options from the arguments "NAME=VALUE" among COUNT WORDS; others are an error. */
struct dor_options *bench_options(int count, char **words);

int bench_open(const char *path);         /* for reading */
int bench_memory_file(const char *label); /* empty */
int bench_memory_copy(const char *path);  /* of a file, holes kept */
uint64_t bench_size_bytes(int fd);

void bench_read_page(int fd, uint64_t page_index, void *page);
void bench_write_page(int fd, uint64_t page_index, const void *page);

/* Indexes of the pages that are not all zero, in order. */
uint32_t *bench_full_pages(int fd, size_t *ret_count);

struct bench_digest bench_digest(int fd);

/* Put what FD holds into STORE as NAME. */
void bench_put(struct dor_store *store, const char *name, const char *parent, int fd);

/* The whole of snapshot NAME in a new memory file. */
int bench_get(struct dor_store *store, const char *name);

/* Sorts TIMES; the value below which FRACTION (0 to 1) of them lie. */
uint64_t bench_percentile(uint64_t *times, size_t count, double fraction);

/* One object: how many calls, how long they took in all, percentiles of TIMES (ns), a checksum. */
void bench_print_calls(uint64_t *times, size_t count, double wall_s, uint64_t sum);

/* A "Vm..." or "Rss..." line of this process's status, in bytes. */
uint64_t bench_status_bytes(const char *field);

#endif
