/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_base_err.c - errors keep their number, place and words, apart for each thread, and never
 * overflow.
 */
#include "base/err.h"
#include "base/size.h"
#include "tap.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

static void
test_record(void)
{
    is_str(dor_err_message(), "", "no words before the first error");
    int line = __LINE__ + 1;
    int rc = dor_fail(DOR_E_CORRUPT, "segment %u: bad", 7);
    is_int(rc, DOR_E_CORRUPT, "dor_fail gives its code");
    is_str(dor_err_message(), "segment 7: bad", "the words are formatted");
    is_int(base_err_record()->line, line, "the line is that of the call");
    is_str(
        base_err_record()->file, "tests/base/t_base_err.c",
        "the file is told from the tree's top");
    rc = dor_fail_wrap("snapshot %s", "web");
    is_int(rc, DOR_E_CORRUPT, "wrapping keeps the code");
    is_str(dor_err_message(), "snapshot web: segment 7: bad", "wrapping puts words before");
    is_int(base_err_record()->line, line, "wrapping keeps the place of the cause");
    (void)dor_fail(DOR_E_IO, "again: %s", dor_err_message());
    is_str(
        dor_err_message(), "again: snapshot web: segment 7: bad",
        "the old words may be used in the new");
}

static void
test_errno(void)
{
    static const struct {
        int errnum;
        int code;
    } cases[] = {
        {ENOENT, DOR_E_NOT_FOUND},  {EEXIST, DOR_E_EXISTS},    {ENOSPC, DOR_E_NO_SPACE},
        {EDQUOT, DOR_E_NO_SPACE},   {EFBIG, DOR_E_NO_SPACE},   {ENOMEM, DOR_E_NO_MEMORY},
        {EACCES, DOR_E_DENIED},     {EPERM, DOR_E_DENIED},     {EROFS, DOR_E_DENIED},
        {EAGAIN, DOR_E_BUSY},       {EWOULDBLOCK, DOR_E_BUSY}, {EBUSY, DOR_E_BUSY},
        {ETIMEDOUT, DOR_E_TIMEOUT}, {EIO, DOR_E_IO},           {EISDIR, DOR_E_IO},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        is_int(
            dor_fail_errno(cases[i].errnum, "x"), cases[i].code, "%s",
            strerror(cases[i].errnum));
    (void)dor_fail_errno(ENOENT, "file %s", "a");
    is_str(
        dor_err_message(), "file a: No such file or directory", "the system's words are added");
}

static void
test_long_text(void)
{
    char text[2 * DOR_ERR_TEXT_BYTES];
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = '\0';
    (void)dor_fail(DOR_E_IO, "%s", text);
    is_int(strlen(dor_err_message()), DOR_ERR_TEXT_BYTES - 1, "long words are cut");
    (void)dor_fail_errno(EIO, "%s", text);
    is_int(strlen(dor_err_message()), DOR_ERR_TEXT_BYTES - 1, "with the system's words too");
    (void)dor_fail_wrap("%s", text);
    is_int(strlen(dor_err_message()), DOR_ERR_TEXT_BYTES - 1, "and when wrapped");
}

static void *
fail_elsewhere(void *arg)
{
    (void)dor_fail(DOR_E_BUSY, "elsewhere");
    *(struct base_err *)arg = *base_err_record();
    return NULL;
}

static void
test_threads(void)
{
    struct base_err theirs;
    pthread_t thread;
    (void)dor_fail(DOR_E_IO, "here");
    if (pthread_create(&thread, NULL, fail_elsewhere, &theirs) != 0)
        bail("no thread");
    pthread_join(thread, NULL);
    is_str(dor_err_message(), "here", "another thread's error does not show here");
    is_int(base_err_load(&theirs), DOR_E_BUSY, "its record can be loaded here");
    is_str(dor_err_message(), "elsewhere", "with its words");
    base_err_clear();
    is_str(dor_err_message(), "", "clearing forgets");
    is_int(base_err_record()->code, DOR_OK, "the code too");
}

static void
test_names(void)
{
    is_str(dor_err_name(DOR_OK), "ok", "name of success");
    is_str(dor_err_name(DOR_E_USAGE), "usage error", "first name");
    is_str(dor_err_name(DOR_E_CORRUPT), "corrupt", "a middle name");
    is_str(dor_err_name(DOR_E_UNSUPPORTED), "unsupported", "last name");
    is_str(dor_err_name(1), "unknown error", "positive numbers have none");
    is_str(dor_err_name(DOR_E_UNSUPPORTED - 1), "unknown error", "nor those past the last");
}

static void
test_assert(void)
{
    dor_assert(tap_run_count > 0);
    pid_t child = fork();
    if (child == 0) {
        fclose(stderr);
        dor_assert(tap_run_count == 0);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "a broken assertion aborts");
}

int
main(void)
{
    test_record();
    test_errno();
    test_long_text();
    test_threads();
    test_names();
    test_assert();
    return done_testing();
}
