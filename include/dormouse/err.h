/* SPDX-License-Identifier: Apache-2.0 */
/*
 * err.h - what can go wrong, as numbers a program can act on and words a person can read.
 * Every function of dormouse returns 0 or one of these numbers; the words of the last failure
 * wait in the calling thread until the next one.
 *
 * Ownership:  the strings belong to the library; dor_err_message() is overwritten by the
 *             thread's next error.
 * Threads:    each thread has its own last error.
 * Errors:     these functions cannot fail.
 */
#ifndef DORMOUSE_ERR_H
#define DORMOUSE_ERR_H

#define DOR_PUBLIC     __attribute__((visibility("default")))
#define DOR_MUST_CHECK __attribute__((warn_unused_result))

#ifdef __cplusplus
extern "C" {
#endif

/* The exit codes of the command line are the same numbers without the sign. */
enum dor_errno {
    DOR_OK = 0,
    DOR_E_USAGE = -1,       /* the call or the command line makes no sense */
    DOR_E_NOT_FOUND = -2,   /* the named thing does not exist */
    DOR_E_EXISTS = -3,      /* the named thing exists already */
    DOR_E_CORRUPT = -4,     /* stored or received bytes are not what they must be */
    DOR_E_IO = -5,          /* the operating system could not read or write */
    DOR_E_NO_SPACE = -6,    /* disk, quota or a configured budget is used up */
    DOR_E_NO_MEMORY = -7,   /* an allocation failed */
    DOR_E_BUSY = -8,        /* somebody else holds it; trying again later may work */
    DOR_E_TIMEOUT = -9,     /* the time allowed has passed */
    DOR_E_DENIED = -10,     /* permissions forbid it */
    DOR_E_UNSUPPORTED = -11 /* this build, kernel or file format version cannot do it */
};

/* The words of this thread's last error; "" when it had none. Never NULL. */
DOR_PUBLIC const char *dor_err_message(void);

/* The name of CODE in lower case, such as "not found"; "unknown error" for other numbers. */
DOR_PUBLIC const char *dor_err_name(int code);

#ifdef __cplusplus
}
#endif
#endif
