/* SPDX-License-Identifier: Apache-2.0 */
/*
 * live_process.c - live memory of another process.
 *
 *     userfaultfd inside, memory registered -> attach, stop all threads -> mark -> let go
 *     attach, stop all threads -> copy -> let go
 *
 * Only what is between stopping and letting go keeps the process waiting. Of memory files that are
 * copied, holes are left alone: to read one through a mapping would fill it.
 */
#include "wake/live_priv.h"
#include "wake/live_trace.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/size.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#define MAPS_BYTES_MAX ((size_t)64 << 20)

/* A line of /proc/PID/maps. */
struct mapping {
    uint64_t start, end;
    bool readable, writable;
    bool special; /* the kernel's own, or a device's: cannot be read, or must not */
};

/* ------------------------------------------------------------------ mappings */

/* A hexadecimal number at *AT, which ends at END; *AT is then behind that. */
static bool
take_number(const char **at, char end, uint64_t *ret)
{
    char *after;
    errno = 0;
    *ret = strtoull(*at, &after, 16);
    bool good = after != *at && *after == end && errno == 0;
    *at = good ? after + 1 : *at;
    return good;
}

/* Behind the COUNT words at AT and the spaces after each. */
static const char *
skip_words(const char *at, unsigned count)
{
    for (; count > 0; count--) {
        at += strcspn(at, " \n");
        at += strspn(at, " ");
    }
    return at;
}

/* "START-END rwxp OFFSET DEVICE INODE PATH", the path perhaps empty. */
static bool
parse_line(const char *line, struct mapping *ret)
{
    static const size_t flags_bytes = sizeof "rwxp" - 1;
    const char *at = line;
    if (!take_number(&at, '-', &ret->start) || !take_number(&at, ' ', &ret->end) ||
        strcspn(at, " \n") != flags_bytes)
        return false;
    const char *path = skip_words(at, 4);
    ret->readable = at[0] == 'r';
    ret->writable = at[1] == 'w';
    bool is_device = strncmp(path, "/dev/", 5) == 0 && strncmp(path, "/dev/zero", 9) != 0 &&
                     strncmp(path, "/dev/shm/", 9) != 0;
    ret->special =
        is_device || strncmp(path, "[v", 2) == 0 || strncmp(path, "anon_inode:", 11) == 0;
    return true;
}

/* The next line of TEXT that is one, from *AT on. */
static bool
next_mapping(const struct base_buf *text, size_t *at, struct mapping *ret)
{
    while (*at < text->size_bytes) {
        const char *line = (const char *)text->data + *at;
        const char *end = memchr(line, '\n', text->size_bytes - *at);
        if (end == NULL)
            return false;
        *at += (size_t)(end - line) + 1;
        if (parse_line(line, ret))
            return true;
    }
    return false;
}

static int
read_maps(pid_t pid, struct base_buf *ret)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    int rc = base_file_read_all(AT_FDCWD, path, MAPS_BYTES_MAX, ret);
    if (rc == 0 && ret->size_bytes == 0)
        return dor_fail(DOR_E_NOT_FOUND, "process %d: has no memory", (int)pid);
    return rc == 0 ? base_buf_append(ret, "", 1) : rc;
}

/* All that can be written to, as ranges; neighbours are one. */
static int
choose_ranges(const struct base_buf *maps, struct base_buf *ret)
{
    struct mapping mapping;
    int rc = 0;
    for (size_t at = 0; rc == 0 && next_mapping(maps, &at, &mapping);) {
        struct dor_live_range range = {mapping.start, mapping.end - mapping.start};
        if (mapping.readable && mapping.writable && !mapping.special)
            rc = base_buf_append(ret, &range, sizeof range);
    }
    if (rc == 0 && ret->size_bytes == 0)
        rc = dor_fail(DOR_E_NOT_FOUND, "process: has no writable memory");
    return rc;
}

/* Every page of the ranges must be mapped. */
static int
check_mapped(
    const struct base_buf *maps, const struct dor_live_range *ranges, size_t range_count)
{
    for (size_t i = 0; i < range_count; i++) {
        struct mapping mapping;
        uint64_t from = ranges[i].address;
        uint64_t end = from + ranges[i].size_bytes;
        for (size_t at = 0; from < end && next_mapping(maps, &at, &mapping);)
            if (mapping.start <= from && from < mapping.end && mapping.readable &&
                !mapping.special)
                from = mapping.end;
        if (from < end)
            return dor_fail(
                DOR_E_NOT_FOUND, "process: has no readable memory at %#" PRIx64, from);
    }
    return 0;
}

/* ------------------------------------------------------------------ stopping */

static int
copy_process(struct dor_live *live, struct live_trace *trace)
{
    int rc = trace->threads == NULL ? live_trace_open(live->pid, trace) : 0;
    uint64_t start_ns = base_clock_monotonic_ns();
    if (rc == 0)
        rc = live_trace_stop(trace);
    if (rc == 0)
        rc = live_copy_all(live);
    live_trace_resume(trace);
    live->stat.pause_ns = base_clock_monotonic_ns() - start_ns;
    live->stat.way = DOR_LIVE_COPY;
    return rc;
}

static int
mark_process(struct dor_live *live, struct live_trace *trace)
{
    int rc = live_trace_userfaultfd(live->pid, &live->uffd);
    if (rc == 0)
        rc = live_mark_prepare(live);
    if (rc == 0)
        rc = live_trace_open(live->pid, trace);
    if (rc != 0)
        return rc;
    uint64_t start_ns = base_clock_monotonic_ns();
    if (rc == 0)
        rc = live_trace_stop(trace);
    if (rc == 0)
        rc = live_mark_all(live);
    if (rc == 0)
        live_trace_resume(trace);
    live->stat.pause_ns = base_clock_monotonic_ns() - start_ns;
    live->stat.way = DOR_LIVE_MARK;
    return rc;
}

static int
open_traced(struct dor_live *live, struct live_trace *trace, enum dor_live_way way)
{
    int rc = DOR_E_UNSUPPORTED;
    if (way != DOR_LIVE_COPY)
        rc = mark_process(live, trace);
    if (rc != DOR_E_UNSUPPORTED || way == DOR_LIVE_MARK)
        return rc;
    live_mark_end(live);
    if (way == DOR_LIVE_AUTO) {
        dor_log(
            INFO, "wake", "live_copied", "pid=%d why=%s", (int)live->pid, dor_err_message());
        snprintf(live->why, sizeof live->why, "%s", dor_err_message());
        live->stat.why_copied = live->why;
    }
    return copy_process(live, trace);
}

static int
check_other(int pid)
{
    if (pid > 0 && pid != getpid())
        return 0;
    return dor_fail(DOR_E_USAGE, "process %d: is none that this one can trace", pid);
}

int
dor_live_open_process(
    int pid, const struct dor_live_range *ranges, size_t range_count,
    const struct dor_live_options *options, struct dor_live **ret)
{
    AUTO_BUF struct base_buf maps = {0};
    AUTO_BUF struct base_buf chosen = {0};
    struct live_trace trace = {0};
    struct dor_live *live = NULL;
    int rc = check_other(pid);
    if (rc == 0)
        rc = read_maps(pid, &maps);
    if (rc == 0 && range_count == 0) {
        rc = choose_ranges(&maps, &chosen);
        ranges = (const struct dor_live_range *)(const void *)chosen.data;
        range_count = chosen.size_bytes / sizeof *ranges;
    }
    if (rc == 0)
        rc = check_mapped(&maps, ranges, range_count);
    if (rc == 0)
        rc = live_new(pid, ranges, range_count, &live);
    if (rc == 0)
        rc = open_traced(live, &trace, options == NULL ? DOR_LIVE_AUTO : options->way);
    struct base_err err = *base_err_record();
    live_trace_close(&trace);
    if (rc != 0) {
        dor_live_close(live);
        return base_err_load(&err);
    }
    *ret = live;
    return 0;
}

/* ------------------------------------------------------------------ memory files */

/* Copy what FD holds data for. */
static int
copy_file(struct dor_live *live, int fd)
{
    uint64_t size_bytes = live->page_count * DOR_PAGE_BYTES;
    uint64_t start = 0;
    uint64_t end = 0;
    int rc = 0;
    while (rc == 0 && end < size_bytes) {
        rc = base_file_next_data(fd, end, size_bytes, &start, &end);
        if (rc == 0 && start < end)
            rc = base_file_pread(
                fd, live->copy + start, end - start, start, "memory of the process");
    }
    return rc;
}

static int
open_file(int pid, int fd, int *ret, uint64_t *ret_bytes)
{
    AUTO_CLOSE int opened = -1;
    struct stat status;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
    int rc = base_file_stat(AT_FDCWD, path, 0, path, &status);
    if (rc == 0 && (!S_ISREG(status.st_mode) || status.st_size == 0 ||
                    (uint64_t)status.st_size % DOR_PAGE_BYTES != 0))
        rc = dor_fail(
            DOR_E_USAGE, "descriptor %d of process %d: is no file of whole pages", fd, pid);
    if (rc == 0)
        rc = base_file_open(AT_FDCWD, path, O_RDONLY | O_NONBLOCK, 0, &opened);
    if (rc != 0)
        return rc;
    *ret_bytes = (uint64_t)status.st_size;
    *ret = base_take_fd(&opened);
    return 0;
}

int
dor_live_open_memory_file(int pid, int fd, struct dor_live **ret)
{
    AUTO_CLOSE int file = -1;
    struct live_trace trace = {0};
    struct dor_live *live = NULL;
    struct dor_live_range range = {0};
    int rc = open_file(pid, fd, &file, &range.size_bytes);
    if (rc == 0)
        rc = check_other(pid);
    if (rc == 0)
        rc = live_new(pid, &range, 1, &live);
    if (rc == 0)
        rc = live_trace_open(pid, &trace);
    uint64_t start_ns = base_clock_monotonic_ns();
    if (rc == 0)
        rc = live_trace_stop(&trace);
    if (rc == 0)
        rc = copy_file(live, file);
    struct base_err err = *base_err_record();
    live_trace_close(&trace);
    if (rc != 0) {
        dor_live_close(live);
        return base_err_load(&err);
    }
    live->stat.pause_ns = base_clock_monotonic_ns() - start_ns;
    live->stat.way = DOR_LIVE_COPY;
    live->range_count = 0;
    memset(
        (void *)(uintptr_t)live->saved, UINT8_MAX,
        DIV_ROUND_UP(live->page_count, 64) * sizeof *live->saved);
    *ret = live;
    return 0;
}
