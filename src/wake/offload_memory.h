/* SPDX-License-Identifier: Apache-2.0 */
/*
 * offload_memory.h - the memory files of a machine that is woken while it runs already: each page
 * is given once, whole, and never over what the machine has written since.
 *
 * Ownership:  a memory owns its file and its mapping.
 * Threads:    giving: any number. Making and freeing: one.
 * Errors:     DOR_E_NO_MEMORY, DOR_E_NO_SPACE, DOR_E_IO; DOR_E_UNSUPPORTED without userfaultfd.
 */
#ifndef DOR_WAKE_OFFLOAD_MEMORY_H
#define DOR_WAKE_OFFLOAD_MEMORY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <dormouse/offload.h>

struct offload_memory {
    struct dor_offload_slot slot; /* fd is ours */
    uint64_t page_count;
    int uffd;                /* borrowed; -1: nobody reads before all is written */
    uint8_t *map;            /* of the slot, never touched; NULL without uffd */
    _Atomic uint64_t *given; /* a bit for each page */
};

/* A userfaultfd for all memories of one machine. */
DOR_MUST_CHECK int offload_uffd_open(int *ret);

/* An empty memory for SLOT (whose fd is not looked at); ended by offload_memory_fini(). */
DOR_MUST_CHECK int offload_memory_init(
    struct offload_memory *memory, const struct dor_offload_slot *slot, int uffd);
void offload_memory_fini(struct offload_memory *memory);

/* Whether the page was given: when it is not there all the same, the machine gave it back. */
bool offload_memory_was_given(const struct offload_memory *memory, uint64_t page);

/*
 * Give COUNT pages of BYTES from FIRST_PAGE on; BYTES of NULL: zeros. Pages that are there already
 * stay as they are. *RET_NEW: how many were not.
 */
DOR_MUST_CHECK int offload_memory_give(
    struct offload_memory *memory, uint64_t first_page, uint64_t count, const uint8_t *bytes,
    uint64_t *ret_new);

#endif
