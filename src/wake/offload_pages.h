/* SPDX-License-Identifier: Apache-2.0 */
/*
 * offload_pages.h - a snapshot as the memory of a machine: which page of the row is at which guest
 * address, and giving runs of them.
 *
 * Ownership:  a struct offload_pages owns its memories and places; it borrows the snapshot.
 * Threads:    giving: any number, each with a struct offload_giver of its own.
 * Errors:     DOR_E_CORRUPT: the snapshot's parts do not fit together, or a page is damaged.
 */
#ifndef DOR_WAKE_OFFLOAD_PAGES_H
#define DOR_WAKE_OFFLOAD_PAGES_H

#include "wake/offload_memory.h"
#include "wake/pages.h"

/* PAGE_COUNT pages of the row from FIRST_PAGE on are at ADDRESS. */
struct offload_place {
    uint64_t address;
    uint64_t first_page;
    uint64_t page_count;
};

struct offload_pages {
    struct wake_snapshot *snapshot;
    struct dor_offload_machine machine;
    struct offload_memory *memories; /* by gpa */
    size_t memory_count;
    struct offload_place *places; /* by address */
    size_t place_count;
    int uffd;
};

/* Read the machine of SNAPSHOT and make its memories; WATCHED: it will run before it has them. */
DOR_MUST_CHECK int
offload_pages_init(struct offload_pages *pages, struct wake_snapshot *snapshot, bool watched);
void offload_pages_fini(struct offload_pages *pages);

/* What one thread gives pages with. */
struct offload_giver {
    struct offload_pages *pages;
    struct wake_worker *worker;
    uint8_t *bytes; /* of one window, together */
    uint64_t given_pages, zero_pages;
};

DOR_MUST_CHECK int offload_giver_init(
    struct offload_giver *giver, struct offload_pages *pages, struct dor_wake_server *server);
void offload_giver_fini(struct offload_giver *giver);

/* The memory that holds guest address ADDRESS, or NULL. */
struct offload_memory *offload_memory_at(const struct offload_pages *pages, uint64_t address);

#define OFFLOAD_NO_PAGE UINT64_MAX
/* The page of the row at ADDRESS; OFFLOAD_NO_PAGE: none is stored, it is zero. */
uint64_t offload_page_at(const struct offload_pages *pages, uint64_t address);

/*
 * Give pages FIRST_PAGE ... of MEMORY, at most WAKE_WINDOW_PAGES. ZEROS: zero pages as well, which
 * take memory; a page that was given before and is gone is given as zero then.
 */
DOR_MUST_CHECK int offload_give(
    struct offload_giver *giver, struct offload_memory *memory, uint64_t first_page,
    unsigned count, bool zeros);

/* The same for pages of the row; those that are in no memory are left out. */
DOR_MUST_CHECK int
offload_give_row(struct offload_giver *giver, uint64_t first_page, uint64_t page_count);

#endif
