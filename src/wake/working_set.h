/* SPDX-License-Identifier: Apache-2.0 */
/*
 * working_set.h - how a working set learns from one more wake: a pure function of what is known
 * and what the wake needed. The doors for ways of waking are in pages.h.
 *
 * Ownership:  what is learnt is the caller's: store_working_set_fini().
 * Threads:    pure functions.
 * Errors:     DOR_E_NO_MEMORY.
 */
#ifndef DOR_WAKE_WORKING_SET_H
#define DOR_WAKE_WORKING_SET_H

#include "store/working_set.h"
#include "wake/pages.h"

/* At most so many pages of a wake are noted, the first ones: 1 GiB. */
#define WAKE_NOTED_PAGES_MAX (UINT64_C(1) << 18)

/* What one wake saw. */
struct wake_lesson {
    uint64_t image_pages;
    const uint64_t *needed; /* pages in the order of need, each once */
    size_t needed_count;
    /* Given ahead: that they were not asked for says nothing. */
    const struct wake_run *given;
    size_t given_count;
    /*
     * Given because a page beside them was needed, in any order: the same holds. One that is not
     * known yet becomes a candidate, and the next wake tells whether it is needed.
     */
    const uint64_t *around;
    size_t around_count;
    /*
     * All pages that came beside needed ones are in AROUND. Otherwise those of a needed page's
     * window had no chance to be asked for and count as needed.
     */
    bool exact;
    bool (*is_zero)(const void *context, uint64_t page_index); /* such pages are never learnt */
    const void *context;
};

/*
 * What is known after LESSON. A page that was needed gets a 1 in its history, one that was given
 * unasked keeps it, any other gets a 0; a page that no remembered wake needed is forgotten, unless
 * it is a candidate. A page that is new was not needed by the wakes before.
 */
DOR_MUST_CHECK int wake_working_set_learn(
    const struct store_working_set *old, const struct wake_lesson *lesson,
    struct store_working_set *ret);

#endif
