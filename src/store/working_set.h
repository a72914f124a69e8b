/* SPDX-License-Identifier: Apache-2.0 */
/*
 * working_set.h - what earlier wakes taught of a snapshot: which pages were needed, how often
 * lately, and when. A small file beside the snapshot's own (docs/formats/working-set.md); it
 * names pages and holds none of their bytes. It is advice: without it, or with a wrong one, a wake
 * is slower and no less right.
 *
 * Ownership:  a working set owns its windows: store_working_set_fini().
 * Threads:    plain values; two that write one snapshot's file at a time lose one lesson.
 * Errors:     DOR_E_NOT_FOUND: nothing learnt yet; DOR_E_CORRUPT, DOR_E_UNSUPPORTED: the file is
 *             of no use.
 */
#ifndef DOR_STORE_WORKING_SET_H
#define DOR_STORE_WORKING_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dormouse/store.h>

#include "store/medium.h"

/* Pages are learnt and pushed in windows of 64 KiB, at a multiple of that in the image. */
#define STORE_SET_WINDOW_PAGES 16
#define STORE_SET_WINDOWS_MAX  65536
#define STORE_SET_RANKS_MAX    5
/* Of each page so many wakes are remembered. */
#define STORE_SET_WAKES_MAX 7

/*
 * History of a page: a 1, then a bit for each remembered wake that could see whether it was needed,
 * the latest lowest.
 */
#define STORE_SET_HISTORY_NONE 1

struct store_set_window {
    uint64_t window;                           /* page / 16 */
    uint16_t pages;                            /* bit i: page 16 * window + i has a history */
    uint8_t rank_count;                        /* 1 to 5 */
    uint8_t ranks[STORE_SET_RANKS_MAX];        /* latest first: when in a wake, 0 to 255 */
    uint8_t histories[STORE_SET_WINDOW_PAGES]; /* of PAGES; 0 for others */
};

struct store_working_set {
    uint64_t wakes; /* that it has learnt from */
    size_t window_count;
    struct store_set_window *windows; /* ascending */
};

void store_working_set_fini(struct store_working_set *set);

/* How many of the remembered wakes saw the page, and how many of these needed it. */
unsigned store_set_history_wakes(uint8_t history);
unsigned store_set_history_needed(uint8_t history);
/* A page is in the set when a third of the remembered wakes needed it. */
bool store_set_history_is_in(uint8_t history);
/* Pages of WINDOW that are in the set, as a mask. */
uint16_t store_set_window_pages(const struct store_set_window *window);
/* When WINDOW is needed: the median of its ranks. */
unsigned store_set_window_rank(const struct store_set_window *window);

/* The turns in which windows are left out of a set, see store_working_set_runs(). */
#define STORE_SET_TURNS   32
#define STORE_SET_NO_TURN UINT64_MAX

/*
 * The pages in SET as runs in the order of need, in memory that the caller frees. Windows whose
 * turn TURN modulo STORE_SET_TURNS is are left out: what is given ahead is not seen to be needed,
 * so each wake puts some windows to the test.
 */
DOR_MUST_CHECK int store_working_set_runs(
    const struct store_working_set *set, uint64_t turn, struct dor_working_set_run **ret,
    size_t *ret_count);

/* ------------------------------------------------------------------ the file */

/* Whose working set: what its file is found by and bound to. Needs the store to be open. */
struct store_set_key {
    struct store_medium *medium;
    uint8_t uuid[16];
    uint64_t snapshot_id;
    uint64_t page_count;
};

struct store_catalog;
struct base_buf;

struct store_set_key
store_working_set_key(const struct dor_store *store, uint64_t snapshot_id, uint64_t page_count);
/* "wset.000000000000002a" */
void store_working_set_file_name(uint64_t snapshot_id, char *name, size_t name_bytes);
/* Whether FILE is one that a working set may have while it is written, or of no snapshot. */
bool store_working_set_is_leftover(const struct store_catalog *catalog, const char *file);

DOR_MUST_CHECK int
store_working_set_read(const struct store_set_key *key, struct store_working_set *ret);
/*
 * In one step that nothing can split: readers see the old set or the new one. Needs no lock, so a
 * reader of the store may write it as well.
 */
DOR_MUST_CHECK int
store_working_set_write(const struct store_set_key *key, const struct store_working_set *set);
/* Whether it is there, and its bytes. */
bool store_working_set_bytes(const struct store_set_key *key, uint64_t *ret);
/* Give what TO's snapshot is made of to learn from; a failure is logged. */
void store_working_set_carry(const struct store_set_key *from, const struct store_set_key *to);
/* Remove what is there; a failure is logged and left to the next writer. */
void store_working_set_drop(struct dor_store *store, uint64_t snapshot_id);

/* The bytes of a file, for read, write and the fuzzer. */
DOR_MUST_CHECK int store_working_set_encode(
    const struct store_set_key *key, const struct store_working_set *set,
    struct base_buf *file);
DOR_MUST_CHECK int store_working_set_decode(
    const struct store_set_key *key, const uint8_t *file, size_t size_bytes,
    struct store_working_set *ret);

#endif
