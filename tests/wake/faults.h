/* SPDX-License-Identifier: Apache-2.0 */
/*
 * faults.h - runs something again and again, each time with another allocation or file call
 * failing: it ends well, with the right result, or with the error of its kind, and leaves no
 * descriptor open. (The leak checker of the sanitizers looks for memory.)
 *
 * Ownership:  nothing is kept.
 * Threads:    what is run may have threads; which call the Nth is then is a matter of chance.
 * Errors:     what is the test's own trouble ends it with bail().
 */
#ifndef TESTS_WAKE_FAULTS_H
#define TESTS_WAKE_FAULTS_H

#include <errno.h>

#include "base/fault.h"
#include "tap.h"

/* What a run returns when it says that it is done, and what it did is wrong. */
enum { FAULT_RUN_WRONG = 1, FAULT_TRIES_MAX = 5000, FAULT_NOTES_MAX = 8 };

static inline void
try_each(
    enum base_fault_kind kind, int errnum, int want, int (*run)(const void *how),
    const void *how, const char *name)
{
    unsigned wrong = 0;
    unsigned errors = 0;
    uint64_t nth = tap_first();
    for (bool fired = true; fired && nth < FAULT_TRIES_MAX; nth += fired ? tap_every() : 0) {
        unsigned before = tap_descriptors();
        base_fault_arm(kind, nth, errnum);
        int rc = run(how);
        base_fault_arm(FAULT_NONE, 0, 0);
        unsigned after = tap_descriptors();
        fired = base_fault_fired();
        bool good = rc == 0 || (rc == want && fired);
        errors += rc == want;
        if ((!good || before != after) && wrong++ < FAULT_NOTES_MAX)
            note(
                "call %d gives %d, descriptors %u and %u: %s", (int)nth, rc, before, after,
                dor_err_message());
    }
    is_int(wrong, 0, "%s at one in %u of %d calls", name, tap_every(), (int)nth - 1);
    ok((errors > 0 || tap_every() > 1) && nth < FAULT_TRIES_MAX, "%s: some of them are errors",
       name);
}

/* Allocations, single file calls, and all file calls from one on. */
static inline void
try_faults(int (*run)(const void *how), const void *how, const char *name)
{
    char words[100];
    is_ok(run(how), "%s", name);
    snprintf(words, sizeof words, "%s: no memory", name);
    try_each(FAULT_ALLOC, 0, DOR_E_NO_MEMORY, run, how, words);
    snprintf(words, sizeof words, "%s: an I/O error", name);
    try_each(FAULT_IO_FAIL, EIO, DOR_E_IO, run, how, words);
    snprintf(words, sizeof words, "%s: I/O errors from then on", name);
    try_each(FAULT_IO_FAIL_STICKY, EIO, DOR_E_IO, run, how, words);
}

#endif
