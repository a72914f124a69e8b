/* SPDX-License-Identifier: Apache-2.0 */
/*
 * park.c - states of clients in memory files, and what can be told from parked descriptors alone.
 */
#include "wake/park.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/size.h"

#define STATE_MAGIC   UINT64_C(0x656b61772d726f64) /* "dor-wake" */
#define STATE_VERSION 1

static const char *const role_names[WAKE_PARK_ROLES] = {"state", "uffd", "socket", "memory"};

/* ------------------------------------------------------------------ descriptors */

void
wake_park_name(uint64_t id, enum wake_park_role role, char name[static WAKE_PARK_NAME_BYTES])
{
    snprintf(name, WAKE_PARK_NAME_BYTES, "wake-%016" PRIx64 "-%s", id, role_names[role]);
}

bool
wake_park_name_parse(const char *name, uint64_t *ret_id, enum wake_park_role *ret_role)
{
    char again[WAKE_PARK_NAME_BYTES];
    if (strncmp(name, "wake-", 5) != 0)
        return false;
    /* It is the number only if it makes the same name again. */
    uint64_t id = strtoull(name + 5, NULL, 16);
    for (unsigned role = 0; role < WAKE_PARK_ROLES; role++) {
        wake_park_name(id, role, again);
        if (strcmp(name, again) == 0) {
            *ret_id = id;
            *ret_role = role;
            return true;
        }
    }
    return false;
}

/*
 * The kernel looks whether the memory still has a user before it looks at the range: taking write
 * protection away where there is none does nothing else.
 */
bool
wake_uffd_is_gone(int uffd, const struct wake_mappings *mappings)
{
    struct uffdio_writeprotect probe = {.range = {mappings->items[0].address, DOR_PAGE_BYTES}};
    return ioctl(uffd, UFFDIO_WRITEPROTECT, &probe) != 0 && errno == ESRCH;
}

bool
wake_parked_is_gone(const struct wake_parked *client)
{
    struct wake_state *state = NULL;
    if (wake_state_map(client->fds[WAKE_PARK_STATE], &state) != 0 || state == NULL)
        return false;
    bool gone = wake_uffd_is_gone(client->fds[WAKE_PARK_UFFD], &state->mappings);
    wake_state_unmap(state);
    return gone;
}

void
wake_parked_close(struct wake_parked *client)
{
    for (unsigned role = 0; role < WAKE_PARK_ROLES; role++) {
        if (client->fds[role] >= 0)
            close(client->fds[role]);
        client->fds[role] = -1;
    }
}

/* ------------------------------------------------------------------ states */

static uint64_t
words_of(uint64_t page_count)
{
    return DIV_ROUND_UP(page_count, 64);
}

/* NULL, and the error recorded, when that fails. */
static struct wake_state *
map_state(int fd, uint64_t size_bytes)
{
    void *memory = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory != MAP_FAILED)
        return memory;
    dor_fail_errno(errno, "the state of a client");
    return NULL;
}

static int
make_file(uint64_t size_bytes, int *ret)
{
    AUTO_CLOSE int fd = memfd_create("dormouse-client", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)size_bytes) != 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
        return dor_fail_errno(errno, "the state of a client");
    *ret = base_take_fd(&fd);
    return 0;
}

int
wake_state_new(
    const struct dor_snapshot_info *snapshot, uint64_t page_count,
    const struct wake_mappings *mappings, int *ret_fd, struct wake_state **ret)
{
    AUTO_CLOSE int fd = -1;
    struct wake_state *state = NULL;
    uint64_t size_bytes = sizeof *state + 2 * words_of(page_count) * sizeof state->bits[0];
    int err = make_file(size_bytes, &fd);
    if (err != 0)
        return err;
    state = map_state(fd, size_bytes);
    if (state == NULL)
        return base_err_record()->code;
    state->magic = STATE_MAGIC;
    state->version = STATE_VERSION;
    state->state_bytes = sizeof *state;
    state->size_bytes = size_bytes;
    state->snapshot_id = snapshot->id;
    state->page_count = page_count;
    memcpy(state->snapshot, snapshot->name, sizeof state->snapshot);
    state->mappings = *mappings;
    /* From now on it has memory: reading an event into it needs none that could be missing. */
    memset(state->events, 0, sizeof state->events);
    *ret_fd = base_take_fd(&fd);
    *ret = state;
    return 0;
}

/* It was written by this program, but perhaps by another version of it. */
static bool
state_fits(const struct wake_state *state, uint64_t size_bytes)
{
    return state->magic == STATE_MAGIC && state->version == STATE_VERSION &&
           state->state_bytes == sizeof *state && state->size_bytes == size_bytes &&
           state->page_count <= size_bytes * 4 &&
           sizeof *state + 2 * words_of(state->page_count) * sizeof state->bits[0] ==
               size_bytes &&
           state->mappings.count > 0 && state->mappings.count <= WAKE_MAPPINGS_MAX &&
           memchr(state->snapshot, '\0', sizeof state->snapshot) != NULL;
}

int
wake_state_map(int fd, struct wake_state **ret)
{
    struct stat info;
    struct wake_state *state = NULL;
    if (fstat(fd, &info) != 0)
        return dor_fail_errno(errno, "the state of a client");
    if ((uint64_t)info.st_size < sizeof *state)
        return dor_fail(DOR_E_CORRUPT, "the state of a client: too short");
    state = map_state(fd, (uint64_t)info.st_size);
    if (state == NULL)
        return base_err_record()->code;
    if (!state_fits(state, (uint64_t)info.st_size)) {
        munmap(state, (size_t)info.st_size);
        return dor_fail(DOR_E_UNSUPPORTED, "the state of a client: of another version");
    }
    *ret = state;
    return 0;
}

void
wake_state_unmap(struct wake_state *state)
{
    if (state != NULL)
        munmap(state, state->size_bytes);
}

/*
 * Relaxed: bits of removed pages are one thread's, and given pages are looked at by others only
 * to save work. That a killed process leaves bits in their order needs no more than one thread's
 * program order, for its stores are in shared memory at once.
 */
static bool
bit_is_set(const _Atomic uint64_t *bits, uint64_t page)
{
    return (atomic_load_explicit(&bits[page / 64], memory_order_relaxed) >> page % 64 & 1) != 0;
}

static void
set_bit(_Atomic uint64_t *bits, uint64_t page)
{
    uint64_t word = atomic_load_explicit(&bits[page / 64], memory_order_relaxed);
    atomic_store_explicit(
        &bits[page / 64], word | UINT64_C(1) << page % 64, memory_order_relaxed);
}

bool
wake_state_is_removed(const struct wake_state *state, uint64_t page)
{
    return bit_is_set(state->bits, page);
}

void
wake_state_set_removed(struct wake_state *state, uint64_t page)
{
    set_bit(state->bits, page);
}

bool
wake_state_is_given(const struct wake_state *state, uint64_t page)
{
    return bit_is_set(state->bits + words_of(state->page_count), page);
}

void
wake_state_set_given(struct wake_state *state, uint64_t page)
{
    set_bit(state->bits + words_of(state->page_count), page);
}
