/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest_memory.h - the memory of a client behind its userfaultfd: events out of it, pages into it.
 * Here the kernel's answers get their meaning; what to give is decided elsewhere.
 *
 * Ownership:  the descriptors and the state are the caller's.
 * Threads:    one: the client's handler.
 * Errors:     enum wake_given. Nothing is allocated.
 */
#ifndef DOR_WAKE_GUEST_MEMORY_H
#define DOR_WAKE_GUEST_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "wake/park.h"

struct wake_guest {
    int uffd;
    int memory; /* the client's memory file when pages may be written to it; else -1 */
    struct wake_state *state;
};

enum wake_given {
    WAKE_GIVEN, /* done: also where there was a page already, or no such memory any more */
    WAKE_AGAIN, /* the client's memory is changing: drain events and try again */
    WAKE_FULL,  /* no memory on this machine just now */
    WAKE_GONE,  /* the client's memory has no user any more */
    WAKE_NOT_POSSIBLE /* the kernel, or this kind of memory, cannot do it */
};

/* Where a page of the client is. */
struct wake_spot {
    const struct wake_mapping *mapping;
    uint64_t page; /* of the image */
};

/* What ADDRESS of the client is; false when it is in no mapping. */
bool wake_guest_find(const struct wake_guest *guest, uint64_t address, struct wake_spot *ret);
/* The mapping that has PAGE of the image; false when none has. */
bool wake_guest_find_page(const struct wake_guest *guest, uint64_t page, struct wake_spot *ret);

/*
 * Pages [PAGE, PAGE + COUNT) of the image, all in SPOT's mapping and whole pages of it, which
 * guests that wait for them see at once. Pages that are there already are left as they are. Given
 * pages are marked so.
 */
enum wake_given wake_guest_copy(
    const struct wake_guest *guest, struct wake_spot spot, uint64_t count,
    const uint8_t *bytes);
enum wake_given
wake_guest_zero(const struct wake_guest *guest, struct wake_spot spot, uint64_t count);
/* Pages that cannot be had: who touches them gets SIGBUS. */
enum wake_given
wake_guest_poison(const struct wake_guest *guest, struct wake_spot spot, uint64_t count);
/* Pages that are in the client's memory file already. */
enum wake_given
wake_guest_continue(const struct wake_guest *guest, struct wake_spot spot, uint64_t count);
/* A write to a page that the client protected. */
enum wake_given wake_guest_unprotect(const struct wake_guest *guest, struct wake_spot spot);

/*
 * As wake_guest_copy(), by way of the client's memory file, with one of PIECES (changed) for each
 * page. Where the file has data already nothing is written. WAKE_NOT_POSSIBLE: take copies.
 */
enum wake_given wake_guest_write(
    const struct wake_guest *guest, struct wake_spot spot, uint64_t count,
    struct iovec *pieces);
/*
 * Whether pages can be written to memory files at all: where the system makes huge pages of them,
 * a written page brings zeros around it that nobody gave.
 */
bool wake_guest_can_write(int memory);

/* Wake whoever waits: they ask again. */
void wake_guest_wake_all(const struct wake_guest *guest);

bool wake_guest_is_gone(const struct wake_guest *guest);

/*
 * Read events into the state: how many, 0 when there are none. Ranges that were removed are marked
 * before this returns.
 */
size_t wake_guest_read_events(const struct wake_guest *guest);
/* The events that were read are dealt with. */
void wake_guest_clear_events(const struct wake_guest *guest, size_t count);
/* What a process left that died meanwhile; afterwards everybody who waits asks again. */
void wake_guest_adopt(const struct wake_guest *guest);

#endif
