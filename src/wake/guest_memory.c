/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest_memory.c - userfaultfd's ioctls, and what their answers mean.
 *
 *     progress > 0   so many bytes are done, even when the call failed: go on behind them
 *     EAGAIN         the client is changing its mappings; the field of progress then is -11, too
 *     EEXIST         there is a page already: pass over it, and wake who waits for it
 *     ENOENT         not all in one registered mapping: page by page; a single one is no more there
 *     ESRCH          nobody uses the memory any more
 *     ENOMEM         no memory just now, ENOSPC likewise
 *
 * Invariant: a page is marked as removed before the kernel lets the removal go on, for that waits
 * until the event was read, and nothing is put into the memory between the reading and the marking.
 */
#include "wake/guest_memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/err.h"
#include "base/size.h"

/* Since Linux 6.6, newer than the headers that this is built with. */
#ifndef UFFDIO_POISON
struct uffdio_poison {
    struct uffdio_range range;
    __u64 mode;
    __s64 updated;
};
#define UFFDIO_POISON _IOWR(UFFDIO, 0x08, struct uffdio_poison)
#endif

/* ------------------------------------------------------------------ finding */

bool
wake_guest_find(const struct wake_guest *guest, uint64_t address, struct wake_spot *ret)
{
    const struct wake_mappings *mappings = &guest->state->mappings;
    for (size_t i = 0; i < mappings->count; i++) {
        const struct wake_mapping *mapping = &mappings->items[i];
        if (address - mapping->address < mapping->size_bytes) {
            uint64_t offset = mapping->offset + (address - mapping->address);
            *ret = (struct wake_spot){mapping, offset / DOR_PAGE_BYTES};
            return true;
        }
    }
    return false;
}

bool
wake_guest_find_page(const struct wake_guest *guest, uint64_t page, struct wake_spot *ret)
{
    const struct wake_mappings *mappings = &guest->state->mappings;
    for (size_t i = 0; i < mappings->count; i++)
        if (page * DOR_PAGE_BYTES - mappings->items[i].offset < mappings->items[i].size_bytes) {
            *ret = (struct wake_spot){&mappings->items[i], page};
            return true;
        }
    return false;
}

static uint64_t
address_of(struct wake_spot spot)
{
    return spot.mapping->address + spot.page * DOR_PAGE_BYTES - spot.mapping->offset;
}

/* ------------------------------------------------------------------ giving */

enum act { ACT_COPY, ACT_ZERO, ACT_POISON, ACT_CONTINUE };

struct giving {
    const struct wake_guest *guest;
    enum act act;
    uint64_t address;
    uint64_t page;        /* of the image */
    const uint8_t *bytes; /* ACT_COPY */
    uint64_t size_bytes;
    uint64_t unit_bytes;
};

/* One call for AT and SIZE_BYTES of it: the bytes that it did, or a negative errno. */
static int64_t
give_once(const struct giving *giving, uint64_t at, uint64_t size_bytes)
{
    struct uffdio_range range = {giving->address + at, size_bytes};
    struct uffdio_copy copy = {
        .dst = range.start, .src = (uintptr_t)giving->bytes + at, .len = size_bytes};
    struct uffdio_zeropage zero = {.range = range};
    struct uffdio_poison poison = {.range = range};
    struct uffdio_continue cont = {.range = range};
    int uffd = giving->guest->uffd;
    int64_t done = 0;
    int rc = -1;
    switch (giving->act) {
    case ACT_COPY:
        rc = ioctl(uffd, UFFDIO_COPY, &copy);
        done = copy.copy;
        break;
    case ACT_ZERO:
        rc = ioctl(uffd, UFFDIO_ZEROPAGE, &zero);
        done = zero.zeropage;
        break;
    case ACT_POISON:
        rc = ioctl(uffd, UFFDIO_POISON, &poison);
        done = poison.updated;
        break;
    case ACT_CONTINUE:
        rc = ioctl(uffd, UFFDIO_CONTINUE, &cont);
        done = cont.mapped;
        break;
    }
    if (rc == 0)
        return (int64_t)size_bytes;
    return done > 0 ? done : -errno;
}

static enum wake_given
meaning_of(int64_t failure)
{
    switch (-failure) {
    case EAGAIN:
    case EINTR:
        return WAKE_AGAIN;
    case ESRCH:
        return WAKE_GONE;
    case ENOMEM:
    case ENOSPC:
        return WAKE_FULL;
    default:
        return WAKE_NOT_POSSIBLE;
    }
}

static void
wake_range(const struct wake_guest *guest, uint64_t address, uint64_t size_bytes)
{
    /* It fails for ranges that make no sense alone, and these are the mappings'. */
    struct uffdio_range range = {address, size_bytes};
    (void)ioctl(guest->uffd, UFFDIO_WAKE, &range);
}

/* Pages that are there now, because they were just given or were there before. */
static void
mark_given(const struct giving *giving, uint64_t at, uint64_t size_bytes)
{
    for (uint64_t i = 0; i < size_bytes / DOR_PAGE_BYTES; i++)
        wake_state_set_given(giving->guest->state, giving->page + at / DOR_PAGE_BYTES + i);
}

static enum wake_given
give(const struct giving *giving)
{
    uint64_t unit_bytes = giving->unit_bytes;
    uint64_t step_bytes = giving->size_bytes;
    uint64_t at = 0;
    bool passed_over = false;
    enum wake_given given = WAKE_GIVEN;
    while (at < giving->size_bytes && given == WAKE_GIVEN) {
        int64_t done = give_once(giving, at, base_min_u64(step_bytes, giving->size_bytes - at));
        bool is_missing = done == -ENOENT || (done == -EFAULT && giving->act == ACT_CONTINUE);
        if (done > 0) {
            mark_given(giving, at, (uint64_t)done);
            at += (uint64_t)done;
        } else if (is_missing && step_bytes > unit_bytes) {
            step_bytes = unit_bytes;
        } else if (is_missing || done == -EEXIST) {
            if (done == -EEXIST)
                mark_given(giving, at, unit_bytes);
            at += unit_bytes;
            passed_over = true;
        } else {
            given = meaning_of(done);
        }
    }
    if (passed_over)
        wake_range(giving->guest, giving->address, at);
    return given;
}

static enum wake_given
give_pages(
    const struct wake_guest *guest, enum act act, struct wake_spot spot, uint64_t count,
    const uint8_t *bytes)
{
    const struct giving giving = {
        .guest = guest,
        .act = act,
        .address = address_of(spot),
        .page = spot.page,
        .bytes = bytes,
        .size_bytes = count * DOR_PAGE_BYTES,
        .unit_bytes = spot.mapping->page_bytes};
    return give(&giving);
}

enum wake_given
wake_guest_copy(
    const struct wake_guest *guest, struct wake_spot spot, uint64_t count, const uint8_t *bytes)
{
    return give_pages(guest, ACT_COPY, spot, count, bytes);
}

enum wake_given
wake_guest_zero(const struct wake_guest *guest, struct wake_spot spot, uint64_t count)
{
    return give_pages(guest, ACT_ZERO, spot, count, NULL);
}

enum wake_given
wake_guest_poison(const struct wake_guest *guest, struct wake_spot spot, uint64_t count)
{
    return give_pages(guest, ACT_POISON, spot, count, NULL);
}

enum wake_given
wake_guest_continue(const struct wake_guest *guest, struct wake_spot spot, uint64_t count)
{
    return give_pages(guest, ACT_CONTINUE, spot, count, NULL);
}

enum wake_given
wake_guest_unprotect(const struct wake_guest *guest, struct wake_spot spot)
{
    struct uffdio_writeprotect protect = {
        .range = {address_of(spot), spot.mapping->page_bytes}};
    if (ioctl(guest->uffd, UFFDIO_WRITEPROTECT, &protect) == 0)
        return WAKE_GIVEN;
    enum wake_given given = meaning_of(-errno);
    return given == WAKE_NOT_POSSIBLE ? WAKE_GIVEN : given;
}

/* ------------------------------------------------------------------ memory files */

/* The bytes at OFFSET on that are a hole, at most SIZE_BYTES. */
static uint64_t
hole_bytes(int fd, uint64_t offset, uint64_t size_bytes)
{
    off_t data = lseek(fd, (off_t)offset, SEEK_DATA);
    if (data < 0)
        return errno == ENXIO ? size_bytes : 0;
    return base_min_u64((uint64_t)data - offset, size_bytes);
}

enum wake_given
wake_guest_write(
    const struct wake_guest *guest, struct wake_spot spot, uint64_t count, struct iovec *pieces)
{
    uint64_t offset = spot.page * DOR_PAGE_BYTES;
    uint64_t hole = hole_bytes(guest->memory, offset, count * DOR_PAGE_BYTES);
    uint64_t hole_pages = hole / DOR_PAGE_BYTES;
    if (hole_pages > 0) {
        ssize_t done = pwritev(guest->memory, pieces, (int)hole_pages, (off_t)offset);
        if (done < 0)
            return meaning_of(-errno);
        if ((uint64_t)done < hole)
            return WAKE_FULL;
    }
    enum wake_given given = wake_guest_continue(guest, spot, count);
    if (given != WAKE_NOT_POSSIBLE)
        return given;
    /* Not registered for minor faults: who asks again finds the page in the file. */
    wake_range(guest, address_of(spot), count * DOR_PAGE_BYTES);
    for (uint64_t i = 0; i < count; i++)
        wake_state_set_given(guest->state, spot.page + i);
    return WAKE_GIVEN;
}

/* The word in brackets of the setting PATH is one of those that make huge pages unasked. */
static bool
makes_huge(const char *path)
{
    char line[128] = "";
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    bool read = fgets(line, sizeof line, file) != NULL;
    fclose(file);
    return read && (strstr(line, "[always]") != NULL || strstr(line, "[within_size]") != NULL ||
                    strstr(line, "[force]") != NULL);
}

bool
wake_guest_can_write(int memory)
{
    char path[96];
    char name[64] = "";
    if (memory < 0)
        return false;
    /* Those of the kernel's own mount, whose settings can be read. */
    snprintf(path, sizeof path, "/proc/self/fd/%d", memory);
    if (readlink(path, name, sizeof name - 1) < 0 || strncmp(name, "/memfd:", 7) != 0)
        return false;
    bool huge = makes_huge("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
    for (unsigned kib = 8; kib <= 2048 && !huge; kib *= 2) {
        snprintf(
            path, sizeof path,
            "/sys/kernel/mm/transparent_hugepage/hugepages-%ukB/shmem_enabled", kib);
        huge = makes_huge(path);
    }
    return !huge;
}

/* ------------------------------------------------------------------ events */

void
wake_guest_wake_all(const struct wake_guest *guest)
{
    const struct wake_mappings *mappings = &guest->state->mappings;
    for (size_t i = 0; i < mappings->count; i++)
        wake_range(guest, mappings->items[i].address, mappings->items[i].size_bytes);
}

bool
wake_guest_is_gone(const struct wake_guest *guest)
{
    return wake_uffd_is_gone(guest->uffd, &guest->state->mappings);
}

static void
mark_removed(const struct wake_guest *guest, uint64_t start, uint64_t end)
{
    const struct wake_mappings *mappings = &guest->state->mappings;
    for (size_t i = 0; i < mappings->count; i++) {
        const struct wake_mapping *mapping = &mappings->items[i];
        uint64_t low = base_max_u64(start, mapping->address);
        uint64_t high = base_min_u64(end, mapping->address + mapping->size_bytes);
        for (uint64_t at = low; at < high; at += DOR_PAGE_BYTES)
            wake_state_set_removed(
                guest->state, (mapping->offset + at - mapping->address) / DOR_PAGE_BYTES);
    }
}

static void
mark_all_removed(const struct wake_guest *guest)
{
    for (size_t i = 0; i < WAKE_EVENTS_MAX; i++) {
        const struct uffd_msg *event = &guest->state->events[i];
        if (event->event == UFFD_EVENT_REMOVE || event->event == UFFD_EVENT_UNMAP)
            mark_removed(guest, event->arg.remove.start, event->arg.remove.end);
    }
}

/*
 * The client shares the flags of the descriptor with us and may have made it block: this does not.
 * Kernels before 6.11 cannot be asked so.
 */
static ssize_t
read_now(int fd, void *bytes, size_t size_bytes)
{
    struct iovec piece = {bytes, size_bytes};
    ssize_t got = preadv2(fd, &piece, 1, -1, RWF_NOWAIT);
    return got < 0 && errno == EOPNOTSUPP ? read(fd, bytes, size_bytes) : got;
}

size_t
wake_guest_read_events(const struct wake_guest *guest)
{
    struct wake_state *state = guest->state;
    ssize_t got = read_now(guest->uffd, state->events, sizeof state->events);
    if (got <= 0)
        return 0;
    mark_all_removed(guest);
    return (size_t)got / sizeof state->events[0];
}

void
wake_guest_clear_events(const struct wake_guest *guest, size_t count)
{
    /* After the marks, should the process be killed here. */
    atomic_signal_fence(memory_order_seq_cst);
    memset(guest->state->events, 0, count * sizeof guest->state->events[0]);
}

void
wake_guest_adopt(const struct wake_guest *guest)
{
    mark_all_removed(guest);
    wake_guest_clear_events(guest, WAKE_EVENTS_MAX);
    wake_guest_wake_all(guest);
}
