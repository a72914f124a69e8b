/* SPDX-License-Identifier: Apache-2.0 */
/*
 * freelists.h - whether what the page records call free is what the allocator's lists hold.
 *
 * Ownership:  writes the pages of the look.
 * Threads:    one.
 * Errors:     none; lists that do not agree are false.
 */
#ifndef DOR_GUEST_FREELISTS_H
#define DOR_GUEST_FREELISTS_H

#include "guest/look.h"

/*
 * Walk the free lists of every zone of every node. True when each list is a ring, each entry is the
 * head of a free block of the list's order, the zone's counts agree, and no free block is missing.
 */
bool guest_freelists_check(struct guest_look *look);

/*
 * Pages that wait on the lists of a processor are free, too, and no record says so. They become
 * free when the lists of the processor agree with its count; otherwise they stay as they are.
 */
void guest_freelists_add_cached(struct guest_look *look);

/* Whether this kernel looks for a pattern in free pages, so that they are not to be changed. */
bool guest_freelists_are_guarded(struct guest_look *look);

#endif
