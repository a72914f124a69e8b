/* SPDX-License-Identifier: Apache-2.0 */
/*
 * err.h - records an error's words at the place that knows the cause.
 * `return dor_fail(DOR_E_CORRUPT, "segment %u: ...", id);` is the whole protocol: the number
 * goes up the call stack, the words stay in a fixed thread-local record, so that failing needs
 * no memory.
 *
 * Ownership:  the record belongs to the thread; texts are cut at DOR_ERR_TEXT_BYTES - 1
 *             bytes.
 * Threads:    each thread has its own record.
 * Errors:     these functions are how errors are made; they cannot fail.
 */
#ifndef DOR_BASE_ERR_H
#define DOR_BASE_ERR_H

#include <dormouse/err.h>

enum { DOR_ERR_TEXT_BYTES = 512 };

struct base_err {
    int code; /* enum dor_errno, DOR_OK when nothing failed yet */
    int line;
    const char *file;
    char text[DOR_ERR_TEXT_BYTES];
};

/*
 * Record CODE with words that name the object, the cause and what to do next. The value is CODE,
 * and the compiler sees that: who fails with a constant does not return 0.
 */
#define dor_fail(code, ...)                                                                    \
    __extension__({                                                                            \
        const int failed_with_ = (code);                                                       \
        base_err_set(__FILE__, __LINE__, failed_with_, __VA_ARGS__);                           \
        failed_with_;                                                                          \
    })

/* The same for a failed system call: maps ERRNUM to a code and appends the system's words for
 * it. */
#define dor_fail_errno(errnum, ...)                                                            \
    base_err_set_errno(__FILE__, __LINE__, (errnum), __VA_ARGS__)

/* Put more context before the present words ("snapshot x: segment 3: ..."); returns the present
 * code. */
#define dor_fail_wrap(...) base_err_wrap(__VA_ARGS__)

/* Always on, and for wrong code only: input gets errors. */
#define dor_assert(cond)                                                                       \
    (__builtin_expect(!!(cond), 1) ? (void)0 : base_err_abort(__FILE__, __LINE__, #cond))

void base_err_set(const char *file, int line, int code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5), cold, nonnull(1, 4)));
int base_err_set_errno(const char *file, int line, int errnum, const char *fmt, ...)
    __attribute__((format(printf, 4, 5), cold, nonnull(1, 4)));
int base_err_wrap(const char *fmt, ...) __attribute__((format(printf, 1, 2), cold, nonnull(1)));
_Noreturn void base_err_abort(const char *file, int line, const char *cond)
    __attribute__((cold, nonnull));

/* This thread's record, for handing an error to another thread: copy it there with
 * base_err_load(). */
const struct base_err *base_err_record(void);

/* Make *ERR the record of this thread; returns its code. */
int base_err_load(const struct base_err *err) __attribute__((nonnull));

/* Forget the last error of this thread. */
void base_err_clear(void);

#endif
