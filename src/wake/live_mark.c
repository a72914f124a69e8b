/* SPDX-License-Identifier: Apache-2.0 */
/*
 * live_mark.c - marks memory by userfaultfd's write protection, and saves each page before its
 * first write.
 *
 * The handler saves the 16 pages around a write at once, since writers mostly go on beside; the
 * mark is taken off all of them by one call. When something goes wrong the owner comes first: the
 * moment is given up, and its memory let go.
 *
 * Messages are read and acted on under the lock of saving. Memory that is given back goes as soon
 * as its message is read; so nobody may save what is left of it before the handler has looked which
 * of its pages were saved.
 */
#include "wake/live_priv.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/size.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than some headers. */
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (UINT64_C(1) << 13)
#endif

enum { AROUND_PAGES = 16, MESSAGES = 16 };

/* ------------------------------------------------------------------ marks */

/* 0 or an errno. EAGAIN: a message about memory that changes must be read first. */
static int
set_mark(const struct dor_live *live, uint64_t address, uint64_t size_bytes, bool on)
{
    struct uffdio_writeprotect mark = {
        .range = {address, size_bytes}, .mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0};
    return ioctl(live->uffd, UFFDIO_WRITEPROTECT, &mark) == 0 ? 0 : errno;
}

static void
stop_watching(const struct dor_live *live, const struct live_range *range)
{
    struct uffdio_range watched = {range->address, range->page_count * DOR_PAGE_BYTES};
    (void)ioctl(live->uffd, UFFDIO_UNREGISTER, &watched);
}

/* Watch RANGE, if it is memory whose pages can be marked one by one: huge ones cannot. */
static bool
watch(const struct dor_live *live, const struct live_range *range)
{
    int errnum = 0;
    struct uffdio_register watched = {
        .range = {range->address, range->page_count * DOR_PAGE_BYTES},
        .mode = UFFDIO_REGISTER_MODE_WP};
    if (ioctl(live->uffd, UFFDIO_REGISTER, &watched) != 0)
        return false;
    do
        errnum = set_mark(live, range->address, DOR_PAGE_BYTES, false);
    while (errnum == EAGAIN);
    if (errnum != 0)
        stop_watching(live, range);
    return errnum == 0;
}

/* Under the lock. */
static void
let_go_locked(const struct dor_live *live, struct live_range *range)
{
    if (range->marked)
        stop_watching(live, range);
    range->marked = false;
}

static int
open_uffd(struct dor_live *live)
{
    struct uffdio_api api = {
        .api = UFFD_API,
        .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM |
                    UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_EVENT_REMOVE |
                    UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMAP};
    if (live->uffd < 0)
        live->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (live->uffd < 0 || ioctl(live->uffd, UFFDIO_API, &api) != 0)
        return dor_fail(
            DOR_E_UNSUPPORTED, "live memory: userfaultfd cannot mark it here (error %d)",
            errno);
    live->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (live->wake_fd < 0)
        return dor_fail_errno(errno, "live memory: no eventfd");
    return 0;
}

static void handle(void *context);

int
live_mark_prepare(struct dor_live *live)
{
    bool any = false;
    int rc = open_uffd(live);
    /* From the first range that is watched on, the owner may wait for the handler. */
    if (rc == 0)
        rc = base_thread_start(&live->handler, "live-mark", handle, live);
    if (rc != 0)
        return rc;
    live->has_handler = true;
    for (size_t i = 0; i < live->range_count; i++) {
        bool watched = watch(live, &live->ranges[i]);
        base_mutex_lock(&live->lock);
        live->ranges[i].marked = watched;
        base_mutex_unlock(&live->lock);
        any = any || watched;
    }
    if (!any)
        return dor_fail(
            DOR_E_UNSUPPORTED, "live memory: it is of no kind that can be marked page by page");
    return 0;
}

static bool
is_marked(struct dor_live *live, const struct live_range *range)
{
    base_mutex_lock(&live->lock);
    bool marked = range->marked;
    base_mutex_unlock(&live->lock);
    return marked;
}

int
live_mark_all(struct dor_live *live)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < live->range_count; i++) {
        struct live_range *range = &live->ranges[i];
        int errnum = EINVAL;
        if (is_marked(live, range))
            do
                errnum =
                    set_mark(live, range->address, range->page_count * DOR_PAGE_BYTES, true);
            while (errnum == EAGAIN); /* the handler reads what there is */
        if (errnum == 0)
            continue;
        base_mutex_lock(&live->lock);
        let_go_locked(live, range);
        rc = live_save_locked(live, range->first_page, range->page_count);
        base_mutex_unlock(&live->lock);
    }
    return rc;
}

/* ------------------------------------------------------------------ the handler */

/* The moment is lost: readers are told, the owner's memory is let go at once. */
static void
lose_locked(struct dor_live *live)
{
    if (atomic_load(&live->is_lost))
        return;
    live->lost = *base_err_record();
    /* Pairs with the load in live_check_lost(). */
    atomic_store(&live->is_lost, true);
    dor_log(WARN, "wake", "live_lost", "pid=%d why=%s", (int)live->pid, dor_err_message());
    for (size_t i = 0; i < live->range_count; i++)
        let_go_locked(live, &live->ranges[i]);
}

static const struct live_range *
range_at(const struct dor_live *live, uint64_t address)
{
    for (size_t i = 0; i < live->range_count; i++) {
        const struct live_range *range = &live->ranges[i];
        if (address >= range->address &&
            (address - range->address) / DOR_PAGE_BYTES < range->page_count)
            return range;
    }
    return NULL;
}

/* Let the writer at PAGE, and its neighbours, which are saved, go; false: not now. */
static bool
free_writer_locked(struct dor_live *live, uint64_t page, uint64_t from, uint64_t size_bytes)
{
    int errnum = set_mark(live, from, size_bytes, false);
    /* A piece of the window was unmapped: the page itself must come free. */
    if (errnum != 0 && errnum != EAGAIN && size_bytes > DOR_PAGE_BYTES)
        errnum = set_mark(live, page, DOR_PAGE_BYTES, false);
    if (errnum == EINVAL) {
        (void)dor_fail(
            DOR_E_UNSUPPORTED,
            "process %d: its memory cannot be marked page by page; put it with a copy",
            (int)live->pid);
        lose_locked(live);
    }
    return errnum != EAGAIN;
}

/* Somebody wants to write at ADDRESS and waits; false: must be tried again. */
static bool
take_write_locked(struct dor_live *live, uint64_t address)
{
    const struct live_range *range = range_at(live, address);
    uint64_t page = base_round_down_u64(address, DOR_PAGE_BYTES);
    /* Memory that was moved, or is no longer marked at all. */
    if (range == NULL || atomic_load(&live->is_lost))
        return free_writer_locked(live, page, page, DOR_PAGE_BYTES);
    uint64_t from = (page - range->address) / DOR_PAGE_BYTES;
    from = base_round_down_u64(from, AROUND_PAGES);
    uint64_t count = base_min_u64(AROUND_PAGES, range->page_count - from);
    if (live_save_locked(live, range->first_page + from, count) != 0) {
        lose_locked(live);
        return true;
    }
    if (!free_writer_locked(
            live, page, range->address + from * DOR_PAGE_BYTES, count * DOR_PAGE_BYTES))
        return false;
    atomic_fetch_add(&live->saved_count, count);
    return true;
}

/* Pages [START, END) of the address space are gone or will be. */
static void
take_loss_locked(struct dor_live *live, uint64_t start, uint64_t end)
{
    for (size_t i = 0; i < live->range_count; i++) {
        const struct live_range *range = &live->ranges[i];
        uint64_t from = base_max_u64(start, range->address);
        uint64_t to = base_min_u64(end, range->address + range->page_count * DOR_PAGE_BYTES);
        for (; from < to; from += DOR_PAGE_BYTES) {
            uint64_t page = range->first_page + (from - range->address) / DOR_PAGE_BYTES;
            if (live_is_saved(live, page))
                continue;
            (void)dor_fail(
                DOR_E_BUSY,
                "process %d: gave back memory at %#" PRIx64
                " before it was read; put it again, or with a copy",
                (int)live->pid, from);
            lose_locked(live);
            return;
        }
    }
}

static void
take_message_locked(struct dor_live *live, const struct uffd_msg *message)
{
    switch (message->event) {
    case UFFD_EVENT_PAGEFAULT:
        atomic_fetch_add(&live->fault_count, 1);
        live->waiting[live->waiting_count++] = message->arg.pagefault.address;
        break;
    case UFFD_EVENT_REMOVE:
    case UFFD_EVENT_UNMAP:
        take_loss_locked(live, message->arg.remove.start, message->arg.remove.end);
        break;
    case UFFD_EVENT_REMAP:
        take_loss_locked(
            live, message->arg.remap.from, message->arg.remap.from + message->arg.remap.len);
        break;
    default:
        break;
    }
}

bool
live_drain_locked(struct dor_live *live)
{
    struct uffd_msg messages[MESSAGES];
    ssize_t count = MESSAGES;
    bool any = false;
    /* Changes of memory come first: while one is unread, no mark can be taken away. */
    while (count == MESSAGES && live->waiting_count + MESSAGES <= LIVE_WAITING_MAX) {
        ssize_t got = live->uffd < 0 ? 0 : read(live->uffd, messages, sizeof messages);
        count = got <= 0 ? 0 : got / (ssize_t)sizeof messages[0];
        for (ssize_t i = 0; i < count; i++)
            take_message_locked(live, &messages[i]);
        any = any || count > 0;
    }
    size_t left = 0;
    for (size_t i = 0; i < live->waiting_count; i++)
        if (!take_write_locked(live, live->waiting[i]))
            live->waiting[left++] = live->waiting[i];
    live->waiting_count = left;
    return any;
}

static void
handle(void *context)
{
    struct dor_live *live = context;
    struct pollfd waits[] = {
        {.fd = live->uffd, .events = POLLIN}, {.fd = live->wake_fd, .events = POLLIN}};
    int timeout_ms = -1;
    while (waits[1].revents == 0) {
        if (poll(waits, ARRAY_LEN(waits), timeout_ms) < 0 && errno != EINTR)
            break;
        base_mutex_lock(&live->lock);
        bool any = live_drain_locked(live);
        timeout_ms = live->waiting_count > 0 ? 1 : -1;
        base_mutex_unlock(&live->lock);
        /* The process is gone: nobody waits any more, and its end was told by reading it. */
        if ((waits[0].revents & (POLLERR | POLLHUP)) != 0 && !any)
            waits[0].fd = -1;
    }
}

void
live_mark_end(struct dor_live *live)
{
    static const uint64_t one = 1;
    /*
     * First all marks go: nobody waits for the handler then. When the userfaultfd closes, the
     * kernel clears what is left of it and wakes all.
     */
    base_mutex_lock(&live->lock);
    for (size_t i = 0; i < live->range_count; i++)
        let_go_locked(live, &live->ranges[i]);
    base_mutex_unlock(&live->lock);
    if (live->has_handler) {
        ssize_t written = write(live->wake_fd, &one, sizeof one);
        dor_assert(written == (ssize_t)sizeof one);
        base_thread_join(&live->handler);
        live->has_handler = false;
    }
    base_auto_close(&live->uffd);
    base_auto_close(&live->wake_fd);
    live->uffd = live->wake_fd = -1;
}
