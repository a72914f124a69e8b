/* SPDX-License-Identifier: Apache-2.0 */
/*
 * err.c - the thread's last error. The record has a fixed size so that the report of a failure
 * cannot itself fail; words that do not fit are cut.
 */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local struct base_err last;

__attribute__((format(printf, 4, 0))) static void
record(const char *file, int line, int code, const char *fmt, va_list args)
{
    /* The arguments may point into the old text, so the new one is made beside it. */
    char text[sizeof last.text];
    vsnprintf(text, sizeof text, fmt, args);
    memcpy(last.text, text, sizeof text);
    last.code = code;
    last.file = file;
    last.line = line;
}

/* Add words to the end of the text, as far as they fit. */
static void
append(const char *words)
{
    size_t used = strlen(last.text);
    snprintf(last.text + used, sizeof last.text - used, "%s", words);
}

void
base_err_set(const char *file, int line, int code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    record(file, line, code, fmt, args);
    va_end(args);
}

static int
code_of_errno(int errnum)
{
    switch (errnum) {
    case ENOENT:
        return DOR_E_NOT_FOUND;
    case EEXIST:
    case ENOTEMPTY:
        return DOR_E_EXISTS;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return DOR_E_NO_SPACE;
    case ENOMEM:
        return DOR_E_NO_MEMORY;
    case EACCES:
    case EPERM:
    case EROFS:
        return DOR_E_DENIED;
    case EAGAIN:
    case EBUSY:
        return DOR_E_BUSY;
    case ETIMEDOUT:
        return DOR_E_TIMEOUT;
    default:
        return DOR_E_IO;
    }
}

int
base_err_set_errno(const char *file, int line, int errnum, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    record(file, line, code_of_errno(errnum), fmt, args);
    va_end(args);
    char words[128];
    append(": ");
    append(strerror_r(errnum, words, sizeof words));
    return last.code;
}

int
base_err_wrap(const char *fmt, ...)
{
    char cause[sizeof last.text];
    memcpy(cause, last.text, sizeof cause);
    va_list args;
    va_start(args, fmt);
    record(last.file, last.line, last.code, fmt, args);
    va_end(args);
    append(": ");
    append(cause);
    return last.code;
}

void
base_err_abort(const char *file, int line, const char *cond)
{
    fprintf(stderr, "dormouse: %s:%d: broken assumption: %s\n", file, line, cond);
    abort();
}

const struct base_err *
base_err_record(void)
{
    return &last;
}

int
base_err_load(const struct base_err *err)
{
    memmove(&last, err, sizeof last);
    return last.code;
}

void
base_err_clear(void)
{
    last = (struct base_err){.code = DOR_OK};
}

const char *
dor_err_message(void)
{
    return last.text;
}

const char *
dor_err_name(int code)
{
    static const char *const names[] = {
        "ok",       "usage error",   "not found", "exists",    "corrupt", "input/output error",
        "no space", "out of memory", "busy",      "timed out", "denied",  "unsupported",
    };
    if (code > 0 || code < DOR_E_UNSUPPORTED)
        return "unknown error";
    return names[-code];
}
