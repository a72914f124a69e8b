/* SPDX-License-Identifier: Apache-2.0 */
/*
 * live.c - live memory as a row of pages that stays as it was at the moment of the mark.
 *
 *     page:   marked --first write, or settling--> saved (its bytes are in the copy)
 *
 * Invariants:
 *  1. A page is written by its owner only after it is saved: the mark holds the writer until the
 *     handler has read the page, set its bit and taken the mark away, in this order.
 *  2. So whoever reads a page where it lies, and then takes the lock and finds its bit unset, has
 *     read it as it was at the moment. Who finds it set takes the copy.
 *  3. Pages are saved under one lock: nobody reads a page to save it after another let it go.
 *  4. What takes pages away without writing (madvise, munmap, mremap) is told by the kernel, too
 *     late to read them. If one was not saved yet, the moment is lost, and that is an error.
 *     Only what is offered with MADV_FREE goes without a word.
 */
#include "wake/live_priv.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/size.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define ROW_BYTES_MAX (UINT64_C(1) << 44)
enum { STEP_PAGES = 256 };

/* ------------------------------------------------------------------ making */

static int
take_ranges(struct dor_live *live, const struct dor_live_range *ranges, size_t range_count)
{
    live->ranges = base_array(range_count, sizeof *live->ranges);
    live->public_ranges = base_array(range_count, sizeof *live->public_ranges);
    if (live->ranges == NULL || live->public_ranges == NULL)
        return DOR_E_NO_MEMORY;
    live->range_count = range_count;
    for (size_t i = 0; i < range_count; i++) {
        uint64_t end;
        if ((ranges[i].address | ranges[i].size_bytes) % DOR_PAGE_BYTES != 0 ||
            ranges[i].size_bytes == 0 ||
            !base_add_u64(ranges[i].address, ranges[i].size_bytes, &end) ||
            ranges[i].size_bytes > ROW_BYTES_MAX - live->page_count * DOR_PAGE_BYTES)
            return dor_fail(
                DOR_E_USAGE, "memory %#" PRIx64 ": is not of whole pages, empty or too much",
                ranges[i].address);
        for (size_t k = 0; k < i; k++)
            if (ranges[k].address < end &&
                ranges[i].address < ranges[k].address + ranges[k].size_bytes)
                return dor_fail(
                    DOR_E_USAGE, "memory %#" PRIx64 " is given twice", ranges[i].address);
        live->public_ranges[i] = ranges[i];
        live->ranges[i] = (struct live_range){
            ranges[i].address, ranges[i].size_bytes / DOR_PAGE_BYTES, live->page_count, false};
        live->page_count += ranges[i].size_bytes / DOR_PAGE_BYTES;
    }
    return 0;
}

static int
make_copy(struct dor_live *live)
{
    uint64_t size_bytes = live->page_count * DOR_PAGE_BYTES;
    live->copy_fd = memfd_create("dormouse-live", MFD_CLOEXEC);
    if (live->copy_fd < 0)
        return dor_fail_errno(errno, "live memory: no memory file");
    int rc = base_file_truncate(live->copy_fd, size_bytes, "live memory");
    if (rc != 0)
        return rc;
    void *map = mmap(
        NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, live->copy_fd, 0);
    if (map == MAP_FAILED)
        return dor_fail_errno(errno, "live memory: no address space for a copy");
    live->copy = map;
    live->saved = base_array(DIV_ROUND_UP(live->page_count, 64), sizeof *live->saved);
    return live->saved == NULL ? DOR_E_NO_MEMORY : 0;
}

static int read_source(void *context, uint64_t first_page, size_t page_count, void *pages);

int
live_new(
    pid_t pid, const struct dor_live_range *ranges, size_t range_count, struct dor_live **ret)
{
    struct dor_live *live = base_zalloc(sizeof *live);
    if (live == NULL)
        return DOR_E_NO_MEMORY;
    *live = (struct dor_live){
        .pid = pid, .copy_fd = -1, .uffd = -1, .wake_fd = -1, .stat.why_copied = ""};
    base_mutex_init(&live->lock);
    int rc = take_ranges(live, ranges, range_count);
    if (rc == 0)
        rc = make_copy(live);
    if (rc != 0) {
        dor_live_close(live);
        return rc;
    }
    live->source = (struct dor_page_source){
        .page_count = live->page_count, .read = read_source, .context = live};
    *ret = live;
    return 0;
}

void
dor_live_close(struct dor_live *live)
{
    if (live == NULL)
        return;
    live_mark_end(live);
    if (live->copy != NULL)
        munmap(live->copy, live->page_count * DOR_PAGE_BYTES);
    base_auto_close(&live->copy_fd);
    base_mutex_fini(&live->lock);
    base_free(live->saved);
    base_free(live->ranges);
    base_free(live->public_ranges);
    base_free(live);
}

/* ------------------------------------------------------------------ reading */

/* The range that holds page PAGE of the row. */
static const struct live_range *
range_of(const struct dor_live *live, uint64_t page)
{
    size_t low = 0;
    size_t high = live->range_count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (live->ranges[middle].first_page <= page)
            low = middle;
        else
            high = middle;
    }
    return &live->ranges[low];
}

static int
fail_read(const struct dor_live *live, int errnum, uint64_t address)
{
    if (errnum == ESRCH)
        return dor_fail(DOR_E_NOT_FOUND, "process %d: has ended", (int)live->pid);
    if (errnum == EPERM)
        return dor_fail(DOR_E_DENIED, "process %d: its memory may not be read", (int)live->pid);
    return dor_fail(
        DOR_E_IO, "process %d: its memory at %#" PRIx64 " cannot be read: %s", (int)live->pid,
        address, strerrordesc_np(errnum));
}

int
live_read_now(
    const struct dor_live *live, uint64_t first_page, uint64_t page_count, void *pages)
{
    uint8_t *to = pages;
    while (page_count > 0) {
        const struct live_range *range = range_of(live, first_page);
        uint64_t skip = first_page - range->first_page;
        uint64_t step = base_min_u64(page_count, range->page_count - skip);
        uint64_t address = range->address + skip * DOR_PAGE_BYTES;
        struct iovec local = {to, step * DOR_PAGE_BYTES};
        struct iovec remote = {(void *)(uintptr_t)address, step * DOR_PAGE_BYTES};
        ssize_t got = process_vm_readv(live->pid, &local, 1, &remote, 1, 0);
        if (got <= 0 && !(got < 0 && errno == EINTR))
            return fail_read(live, got == 0 ? EFAULT : errno, address);
        step = got < 0 ? 0 : (uint64_t)got / DOR_PAGE_BYTES;
        if (got > 0 && step == 0)
            return fail_read(live, EFAULT, address);
        to += step * DOR_PAGE_BYTES;
        first_page += step;
        page_count -= step;
    }
    return 0;
}

int
live_check_lost(const struct dor_live *live)
{
    /* Pairs with the store in lose_locked() of live_mark.c. */
    return atomic_load(&live->is_lost) ? base_err_load(&live->lost) : 0;
}

static int
read_source(void *context, uint64_t first_page, size_t page_count, void *pages)
{
    struct dor_live *live = context;
    uint8_t *to = pages;
    bool all = true;
    int rc = 0;
    for (uint64_t i = 0; all && i < page_count; i++)
        all = live_is_saved(live, first_page + i);
    if (!all)
        rc = live_read_now(live, first_page, page_count, pages);
    base_mutex_lock(&live->lock);
    while (!all && live_drain_locked(live))
        continue;
    for (uint64_t i = 0; rc == 0 && i < page_count; i++)
        if (all || live_is_saved(live, first_page + i))
            memcpy(
                to + i * DOR_PAGE_BYTES, live->copy + (first_page + i) * DOR_PAGE_BYTES,
                DOR_PAGE_BYTES);
    base_mutex_unlock(&live->lock);
    int lost = live_check_lost(live);
    return lost != 0 ? lost : rc;
}

const struct dor_page_source *
dor_live_source(struct dor_live *live)
{
    return &live->source;
}

/* ------------------------------------------------------------------ copying */

static bool
is_zero(const uint8_t *page)
{
    return page[0] == 0 && memcmp(page, page + 1, DOR_PAGE_BYTES - 1) == 0;
}

/* Put pages that were read into the copy; zeros are there already. */
static void
keep(struct dor_live *live, uint64_t page, const uint8_t *bytes)
{
    if (!is_zero(bytes))
        memcpy(live->copy + page * DOR_PAGE_BYTES, bytes, DOR_PAGE_BYTES);
    atomic_fetch_or_explicit(
        &live->saved[page / 64], UINT64_C(1) << (page % 64), memory_order_release);
}

int
live_save_locked(struct dor_live *live, uint64_t first_page, uint64_t count)
{
    uint8_t pages[16 * DOR_PAGE_BYTES];
    const uint64_t step_max = sizeof pages / DOR_PAGE_BYTES;
    int rc = 0;
    for (uint64_t at = first_page; rc == 0 && at < first_page + count; at += step_max) {
        uint64_t step = base_min_u64(step_max, first_page + count - at);
        bool all = true;
        for (uint64_t i = 0; i < step; i++)
            all = all && live_is_saved(live, at + i);
        if (all)
            continue;
        rc = live_read_now(live, at, step, pages);
        for (uint64_t i = 0; rc == 0 && i < step; i++)
            if (!live_is_saved(live, at + i))
                keep(live, at + i, pages + i * DOR_PAGE_BYTES);
    }
    return rc;
}

int
live_copy_all(struct dor_live *live)
{
    base_mutex_lock(&live->lock);
    int rc = live_save_locked(live, 0, live->page_count);
    base_mutex_unlock(&live->lock);
    return rc;
}

int
dor_live_settle(struct dor_live *live, int *ret_fd)
{
    int rc = 0;
    for (uint64_t page = 0; rc == 0 && page < live->page_count; page += STEP_PAGES) {
        uint64_t count = base_min_u64(STEP_PAGES, live->page_count - page);
        base_mutex_lock(&live->lock);
        rc = live_save_locked(live, page, count);
        while (live_drain_locked(live))
            continue;
        base_mutex_unlock(&live->lock);
    }
    int lost = live_check_lost(live);
    if (lost != 0)
        return lost;
    if (rc != 0)
        return rc;
    live_mark_end(live);
    *ret_fd = live->copy_fd;
    return 0;
}

/* ------------------------------------------------------------------ memory of our own */

static int
mark_self(struct dor_live *live, const struct dor_live_options *options)
{
    int rc = live_mark_prepare(live);
    uint64_t start_ns = base_clock_monotonic_ns();
    if (rc == 0 && options->pause != NULL)
        rc = options->pause(options->context);
    if (rc != 0)
        return rc;
    rc = live_mark_all(live);
    if (options->resume != NULL)
        options->resume(options->context);
    live->stat.pause_ns = base_clock_monotonic_ns() - start_ns;
    live->stat.way = DOR_LIVE_MARK;
    return rc;
}

static int
copy_self(struct dor_live *live, const struct dor_live_options *options)
{
    uint64_t start_ns = base_clock_monotonic_ns();
    int rc = options->pause == NULL ? 0 : options->pause(options->context);
    if (rc != 0)
        return rc;
    rc = live_copy_all(live);
    if (options->resume != NULL)
        options->resume(options->context);
    live->stat.pause_ns = base_clock_monotonic_ns() - start_ns;
    live->stat.way = DOR_LIVE_COPY;
    return rc;
}

int
dor_live_open_self(
    const struct dor_live_range *ranges, size_t range_count,
    const struct dor_live_options *options, struct dor_live **ret)
{
    static const struct dor_live_options usual;
    struct dor_live *live = NULL;
    if (options == NULL)
        options = &usual;
    if (range_count == 0)
        return dor_fail(DOR_E_USAGE, "live memory: no memory is named");
    int rc = live_new(getpid(), ranges, range_count, &live);
    if (rc != 0)
        return rc;
    live->self = true;
    rc = options->way == DOR_LIVE_COPY ? DOR_E_UNSUPPORTED : mark_self(live, options);
    if (rc == DOR_E_UNSUPPORTED && options->way != DOR_LIVE_MARK) {
        live_mark_end(live);
        if (options->way == DOR_LIVE_AUTO)
            live->stat.why_copied = "it cannot be marked here";
        rc = copy_self(live, options);
    }
    if (rc != 0) {
        dor_live_close(live);
        return rc;
    }
    *ret = live;
    return 0;
}

/* ------------------------------------------------------------------ what it is */

const struct dor_live_range *
dor_live_ranges(const struct dor_live *live, size_t *ret_count)
{
    *ret_count = live->range_count;
    return live->public_ranges;
}

void
dor_live_stat(const struct dor_live *live, struct dor_live_stat *ret)
{
    *ret = live->stat;
    ret->page_count = live->page_count;
    ret->faults = atomic_load(&live->fault_count);
    ret->saved_pages = atomic_load(&live->saved_count);
}
