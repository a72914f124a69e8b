/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tap.h - a test harness in one header: each check prints a line of the Test Anything Protocol.
 * A test program is `int main(void) { ...; return done_testing(); }`.
 *
 *     ok(cond, "name %d", i)            is_int(got, want, "name")      is_str(got, want,
 * "name")
 *     is_mem(got, want, bytes, "name")  is_ok(rc, "name")              note("seen %d", n)
 *     skip_all("why not here")          bail("cannot go on: %s", s)    skip("why", "name")
 *
 * Ownership:  the counts are static: one test program, one copy.
 * Threads:    checks are for the main thread.
 * Errors:     a failed check is counted and shows in the exit code; bail() ends the program.
 */
#ifndef TESTS_TAP_H
#define TESTS_TAP_H

#include <dirent.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <dormouse/err.h>

static unsigned tap_run_count;
static unsigned tap_failed_count;

__attribute__((format(printf, 4, 0))) static inline bool
tap_report(bool passed, const char *file, int line, const char *fmt, va_list args)
{
    printf("%s %u - ", passed ? "ok" : "not ok", ++tap_run_count);
    vprintf(fmt, args);
    putchar('\n');
    if (!passed) {
        tap_failed_count++;
        printf("# %s:%d: failed; last error: %s\n", file, line, dor_err_message());
    }
    /* A program that is killed later has still told what it saw. */
    fflush(stdout);
    return passed;
}

__attribute__((format(printf, 4, 5))) static inline bool
tap_ok(bool passed, const char *file, int line, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    tap_report(passed, file, line, fmt, args);
    va_end(args);
    return passed;
}

__attribute__((format(printf, 5, 6))) static inline bool
tap_is_int(intmax_t got, intmax_t want, const char *file, int line, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    tap_report(got == want, file, line, fmt, args);
    va_end(args);
    if (got != want)
        printf(
            "# got %" PRIdMAX " (%#" PRIxMAX "), want %" PRIdMAX "\n", got, (uintmax_t)got,
            want);
    return got == want;
}

__attribute__((format(printf, 5, 6))) static inline bool
tap_is_str(const char *got, const char *want, const char *file, int line, const char *fmt, ...)
{
    bool same = got != NULL && want != NULL ? strcmp(got, want) == 0 : got == want;
    va_list args;
    va_start(args, fmt);
    tap_report(same, file, line, fmt, args);
    va_end(args);
    if (!same)
        printf("# got  \"%s\"\n# want \"%s\"\n", got ? got : "(null)", want ? want : "(null)");
    return same;
}

__attribute__((format(printf, 6, 7))) static inline bool
tap_is_mem(
    const void *got, const void *want, size_t size_bytes, const char *file, int line,
    const char *fmt, ...)
{
    const unsigned char *a = got;
    const unsigned char *b = want;
    size_t at = 0;
    while (at < size_bytes && a[at] == b[at])
        at++;
    va_list args;
    va_start(args, fmt);
    tap_report(at == size_bytes, file, line, fmt, args);
    va_end(args);
    if (at < size_bytes)
        printf("# byte %zu of %zu: got %02x, want %02x\n", at, size_bytes, a[at], b[at]);
    return at == size_bytes;
}

#define ok(cond, ...) tap_ok((cond), __FILE__, __LINE__, __VA_ARGS__)
#define is_int(got, want, ...)                                                                 \
    tap_is_int((intmax_t)(got), (intmax_t)(want), __FILE__, __LINE__, __VA_ARGS__)
#define is_str(got, want, ...) tap_is_str((got), (want), __FILE__, __LINE__, __VA_ARGS__)
#define is_mem(got, want, size_bytes, ...)                                                     \
    tap_is_mem((got), (want), (size_bytes), __FILE__, __LINE__, __VA_ARGS__)
#define is_ok(rc, ...) is_int((rc), DOR_OK, __VA_ARGS__)

__attribute__((format(printf, 1, 2))) static inline void
note(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    printf("# ");
    vprintf(fmt, args);
    putchar('\n');
    va_end(args);
}

/* One check that this machine cannot do, NAME, and why. */
static inline void
skip(const char *reason, const char *name)
{
    printf("ok %u - %s # SKIP %s\n", ++tap_run_count, name, reason);
}

/* The whole program cannot run here. Before the first check. */
_Noreturn static inline void
skip_all(const char *reason)
{
    printf("1..0 # SKIP %s\n", reason);
    fflush(stdout);
    exit(77);
}

/* The test itself is broken or its surroundings are: nothing that follows would mean anything.
 * */
__attribute__((format(printf, 1, 2))) _Noreturn static inline void
bail(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    printf("Bail out! ");
    vprintf(fmt, args);
    putchar('\n');
    va_end(args);
    fflush(stdout);
    exit(1);
}

/* The seed of a random test: DOR_SEED or a new one, printed so that a failure can be run
 * again. */
static inline uint64_t
tap_seed(void)
{
    const char *given = getenv("DOR_SEED");
    uint64_t seed;
    if (given != NULL) {
        seed = strtoull(given, NULL, 0);
    } else {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        seed = (uint64_t)now.tv_sec * 1000000007 + (uint64_t)now.tv_nsec + (uint64_t)getpid();
    }
    printf("# seed=%" PRIu64 "\n", seed);
    return seed;
}

/*
 * Long rows of points, at each of which something fails or dies: of every tap_every() of them a
 * program tries one, the first of which is tap_first(). Each is tried unless DOR_EVERY is set.
 */
static inline unsigned
tap_every(void)
{
    const char *given = getenv("DOR_EVERY");
    unsigned long every = given != NULL ? strtoul(given, NULL, 10) : 1;
    return every > 0 && every < 1000 ? (unsigned)every : 1;
}

static inline uint64_t
tap_first(void)
{
    static uint64_t row;
    if (tap_every() == 1)
        return 1;
    if (row == 0)
        row = 1 + tap_seed() % tap_every();
    /* Rows that are alike do not begin at the same point. */
    return 1 + row++ * 5 % tap_every();
}

/* A new empty directory under TMPDIR, removed with all it holds at the end of the program; its
 * path. */
static char tap_dir_path[256];
static pid_t tap_dir_owner;

static inline void
tap_dir_remove(void)
{
    /* A forked child that exits must leave its parent's directory alone. */
    if (getpid() != tap_dir_owner)
        return;
    char command[sizeof tap_dir_path + 16];
    snprintf(command, sizeof command, "rm -rf '%s'", tap_dir_path);
    if (system(command) != 0)
        note("cannot remove %s", tap_dir_path);
}

static inline const char *
tap_dir(void)
{
    if (tap_dir_path[0] != '\0')
        return tap_dir_path;
    const char *parent = getenv("TMPDIR");
    snprintf(
        tap_dir_path, sizeof tap_dir_path, "%s/dormouse-test-XXXXXX", parent ? parent : "/tmp");
    if (mkdtemp(tap_dir_path) == NULL)
        bail("cannot make a directory in %s", parent ? parent : "/tmp");
    tap_dir_owner = getpid();
    atexit(tap_dir_remove);
    return tap_dir_path;
}

/* Tests that write much work in memory where they can: what is tested is not the disk. */
static inline void
work_in_memory(void)
{
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 0);
}

/* How many descriptors are open; only differences mean something. */
static inline unsigned
tap_descriptors(void)
{
    unsigned count = 0;
    DIR *dir = opendir("/proc/self/fd");
    if (dir == NULL)
        bail("no list of descriptors");
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

/* Print the plan; the exit code of the program. */
static inline int
done_testing(void)
{
    printf("1..%u\n", tap_run_count);
    return tap_failed_count == 0 && tap_run_count > 0 ? 0 : 1;
}

#endif
