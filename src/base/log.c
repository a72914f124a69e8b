/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.c - makes one line on the stack and writes it with one call, so that lines of several
 * threads and processes stay whole. It writes by itself instead of through file.c: the log must
 * not fail or die at an injected fault, and there is nobody to tell when a line is lost.
 */
#include "base/log.h"

#include "base/clock.h"
#include "base/size.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const level_names[] = {"error", "warn", "info", "debug"};

enum { LEVEL_UNKNOWN = -1 };

/* Relaxed everywhere: a thread that sees a change of level late shows a line more or less. */
static _Atomic int level_now = LEVEL_UNKNOWN;

void
base_log_level_set(enum base_log_level level)
{
    atomic_store_explicit(&level_now, (int)level, memory_order_relaxed);
}

static enum base_log_level
level_of_environment(void)
{
    const char *wish = getenv("DOR_LOG");
    for (size_t i = 0; wish != NULL && i < ARRAY_LEN(level_names); i++)
        if (strcmp(wish, level_names[i]) == 0)
            return (enum base_log_level)i;
    return LOG_LEVEL_WARN;
}

bool
base_log_shows(enum base_log_level level)
{
    int now = atomic_load_explicit(&level_now, memory_order_relaxed);
    if (now == LEVEL_UNKNOWN) {
        now = (int)level_of_environment();
        atomic_store_explicit(&level_now, now, memory_order_relaxed);
    }
    return (int)level <= now;
}

/* The part before the caller's pairs; returns its length. */
static size_t
write_head(
    char *line, size_t size_bytes, enum base_log_level level, const char *room,
    const char *event)
{
    uint64_t now_ms = base_clock_realtime_ns() / 1000000;
    time_t seconds = (time_t)(now_ms / 1000);
    struct tm utc;
    char stamp[32] = "";
    if (gmtime_r(&seconds, &utc) != NULL)
        strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
    int n = snprintf(
        line, size_bytes, "%s.%03uZ %s %s %s ", stamp, (unsigned)(now_ms % 1000),
        level_names[level], room, event);
    return n < 0 ? 0 : base_min_size((size_t)n, size_bytes - 1);
}

void
base_log_write(
    enum base_log_level level, const char *room, const char *event, const char *fmt, ...)
{
    char line[BASE_LOG_LINE_BYTES];
    size_t used = write_head(line, sizeof line, level, room, event);
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(line + used, sizeof line - used, fmt, args);
    va_end(args);
    used += n < 0 ? 0 : base_min_size((size_t)n, sizeof line - used - 1);
    /* A name from outside may hold line breaks; the promise of one line an event comes first.
     */
    for (size_t i = 0; i < used; i++)
        if (line[i] == '\n' || line[i] == '\r')
            line[i] = ' ';
    line[used] = '\n';
    ssize_t written = write(STDERR_FILENO, line, used + 1);
    (void)written;
}
