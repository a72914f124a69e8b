/* SPDX-License-Identifier: Apache-2.0 */
/*
 * heir.h - a process beside a daemon that wakes sandboxes: it holds copies of what is parked with
 * it, and nothing else, until the daemon ends. When clients are left then, because it was killed,
 * the heir gives them all the memory that they lack, and ends. Nobody has to start it, nothing is
 * shared with a daemon that is started anew.
 *
 * Ownership:  an heir is closed by who started it, or inherits.
 * Threads:    starting: where no other thread runs. The parking place: any.
 * Errors:     DOR_E_IO, DOR_E_NO_MEMORY.
 */
#ifndef DOR_WAKE_HEIR_H
#define DOR_WAKE_HEIR_H

#include <dormouse/wake.h>

#include "wake/park.h"

struct wake_heir {
    int control;
    struct wake_park park; /* refers to `control`: the struct stays where it is */
};

/* OPTIONS: of the page server over the store in DIRECTORY, should there be need of one. */
DOR_MUST_CHECK int wake_heir_start(
    const char *directory, const struct dor_wake_options *options, struct wake_heir *ret);
/* It ends, too, once nobody is parked with it any more. */
void wake_heir_close(struct wake_heir *heir);

#endif
