/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h - one line an event on standard error: time, level, room, event, then key=value pairs.
 * The line is made on the stack and written by one call, so lines of several threads do not
 * mix. It is for events a person may want to read, never for hot paths.
 *
 *     2026-03-01T12:00:00.123Z warn store segment_torn segment=17 at=40960
 *
 * Ownership:  nothing is allocated; lines are cut at BASE_LOG_LINE_BYTES.
 * Threads:    any.
 * Errors:     none; a line that cannot be written is lost.
 */
#ifndef DOR_BASE_LOG_H
#define DOR_BASE_LOG_H

#include <stdbool.h>

enum { BASE_LOG_LINE_BYTES = 1024 };

enum base_log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* dor_log(WARN, "store", "segment_torn", "segment=%u at=%zu", id, at); arguments only evaluated
 * if shown. */
#define dor_log(level, room, event, ...)                                                       \
    do {                                                                                       \
        if (base_log_shows(LOG_LEVEL_##level))                                                 \
            base_log_write(LOG_LEVEL_##level, (room), (event), __VA_ARGS__);                   \
    } while (0)

/* The level is DOR_LOG=error|warn|info|debug of the environment, warn when unset, until it is
 * set here. */
void base_log_level_set(enum base_log_level level);

bool base_log_shows(enum base_log_level level);

void base_log_write(
    enum base_log_level level, const char *room, const char *event, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#endif
