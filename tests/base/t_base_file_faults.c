/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_base_file_faults.c - every file call fails in turn, every allocation too, and the process
 * is killed at every change of the disk: a file that is replaced is always the old or the new
 * one, whole.
 */
#include "base/err.h"
#include "base/fault.h"
#include "base/file.h"
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>

enum { OLD_BYTES = 1000, NEW_BYTES = 3000, TRIES_MAX = 100 };

static char old_data[OLD_BYTES];
static char new_data[NEW_BYTES];
static int dir = -1;

static int
ignore_name(const char *name, void *arg)
{
    (void)name;
    (void)arg;
    return 0;
}

/* One of each call of file.h. */
static int
use_everything(void)
{
    AUTO_CLOSE int fd = -1;
    AUTO_BUF struct base_buf buf = {0};
    uint64_t start, end;
    struct stat status;
    uint8_t *map = NULL;
    char c;
    int rc = base_file_open(dir, "f", O_RDWR | O_CREAT | O_TRUNC, 0600, &fd);
    if (rc == 0)
        rc = base_file_lock_exclusive(fd, "f");
    if (rc == 0)
        rc = base_file_pwrite(fd, "abc", 3, 0, "f");
    if (rc == 0)
        rc = base_file_truncate(fd, 2, "f");
    if (rc == 0)
        rc = base_file_pread(fd, &c, 1, 1, "f");
    if (rc == 0)
        rc = base_file_size(fd, "f", &end);
    if (rc == 0)
        rc = base_file_next_data(fd, 0, 2, &start, &end);
    if (rc == 0)
        rc = base_file_replace(dir, "g", "data", 4);
    if (rc == 0)
        rc = base_file_read_all(dir, "g", 4, &buf);
    if (rc == 0)
        rc = base_dir_make(dir, "d", 0700);
    if (rc == 0)
        rc = base_dir_remove(dir, "d");
    if (rc == 0)
        rc = base_file_stat(dir, "f", 0, "f", &status);
    if (rc == 0)
        rc = base_file_map(fd, 2, "f", &map);
    if (rc == 0)
        rc = base_map_writable(map, 2, "f");
    if (rc == 0)
        rc = base_map_read_only(map, 2, "f");
    base_file_unmap(map, 2);
    if (rc == 0)
        rc = base_dir_list(dir, ignore_name, NULL);
    if (rc == 0)
        rc = base_file_rename(dir, "f", "h");
    if (rc == 0)
        rc = base_file_link(dir, "h", "i");
    if (rc == 0)
        rc = base_file_unlink(dir, "i");
    if (rc == 0)
        rc = base_file_unlink(dir, "h");
    return rc;
}

static void
clean(void)
{
    unlinkat(dir, "d", AT_REMOVEDIR);
    unlinkat(dir, "i", 0);
}

static void
test_each_call_fails(enum base_fault_kind kind)
{
    uint64_t nth = 0;
    do {
        base_err_clear();
        base_fault_arm(kind, ++nth, EIO);
        int rc = use_everything();
        base_fault_arm(FAULT_NONE, 0, 0);
        clean();
        ok((rc == DOR_E_IO) == base_fault_fired() && (rc == 0) == !base_fault_fired(),
           "file call %d fails: %s", (int)nth, dor_err_message());
        ok(rc == 0 || strstr(dor_err_message(), "Input/output error") != NULL, "and says why");
    } while (base_fault_fired() && nth < TRIES_MAX);
    ok(nth > 20 && nth < TRIES_MAX, "%d calls were visited", (int)nth - 1);
    is_int(base_fault_count(), (int)nth - 1, "and counted");
}

static void
test_each_allocation_fails(void)
{
    uint64_t nth = 0;
    do {
        base_fault_arm(FAULT_ALLOC, ++nth, 0);
        int rc = use_everything();
        base_fault_arm(FAULT_NONE, 0, 0);
        clean();
        is_int(rc, base_fault_fired() ? DOR_E_NO_MEMORY : 0, "allocation %d fails", (int)nth);
    } while (base_fault_fired() && nth < TRIES_MAX);
    ok(nth > 1, "there was one");
}

/* What the file is now: 'o' for the old bytes, 'n' for the new, '?' for anything else. */
static char
state(void)
{
    AUTO_BUF struct base_buf buf = {0};
    if (base_file_read_all(dir, "state", NEW_BYTES, &buf) != 0)
        return '?';
    if (buf.size_bytes == OLD_BYTES && memcmp(buf.data, old_data, OLD_BYTES) == 0)
        return 'o';
    if (buf.size_bytes == NEW_BYTES && memcmp(buf.data, new_data, NEW_BYTES) == 0)
        return 'n';
    return '?';
}

/* Replace the file in a child process that dies at its NTH change; true when it lived to the
 * end. */
static bool
replace_killed_at(enum base_fault_kind kind, uint64_t nth)
{
    if (base_file_replace(dir, "state", old_data, OLD_BYTES) != 0)
        bail("%s", dor_err_message());
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        base_fault_arm(kind, nth, 0);
        _exit(base_file_replace(dir, "state", new_data, NEW_BYTES) == 0 ? 0 : 1);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
        bail("the child is lost");
    int code = WEXITSTATUS(status);
    ok(code == 0 || code == FAULT_EXIT_CODE, "killed or done: %d", code);
    return code == 0;
}

/* WANT has one letter a kill, what the file must be after it; the calls are open, write,
 * rename. */
static void
test_each_kill(enum base_fault_kind kind, const char *want)
{
    uint64_t nth = 1;
    while (!replace_killed_at(kind, nth) && nth < TRIES_MAX) {
        ok(nth <= strlen(want) && state() == want[nth - 1], "after kill %d it is %c", (int)nth,
           state());
        nth++;
    }
    is_int(nth - 1, strlen(want), "all kills were visited");
    is_int(state(), 'n', "without a kill it is new");
}

static void
test_half_write(void)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        AUTO_CLOSE int fd = -1;
        if (base_file_open(dir, "half", O_WRONLY | O_CREAT, 0600, &fd) != 0)
            _exit(1);
        base_fault_arm(FAULT_WRITE_KILL, 1, 0);
        _exit(base_file_pwrite(fd, new_data, NEW_BYTES, 0, "half") == 0 ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    is_int(WEXITSTATUS(status), FAULT_EXIT_CODE, "a writer is killed");
    AUTO_BUF struct base_buf buf = {0};
    is_ok(base_file_read_all(dir, "half", NEW_BYTES, &buf), "what it wrote is read");
    is_int(buf.size_bytes, NEW_BYTES / 2, "it is half");
}

static void
test_sticky(void)
{
    AUTO_CLOSE int fd = -1;
    base_fault_arm(FAULT_IO_FAIL_STICKY, 2, ENOSPC);
    is_ok(base_file_open(dir, "s", O_RDWR | O_CREAT, 0600, &fd), "the first call works");
    is_int(base_file_pwrite(fd, "x", 1, 0, "s"), DOR_E_NO_SPACE, "the second does not");
    is_int(base_file_pwrite(fd, "x", 1, 0, "s"), DOR_E_NO_SPACE, "nor the third");
    base_fault_arm(FAULT_NONE, 0, 0);
    is_ok(base_file_pwrite(fd, "x", 1, 0, "s"), "until the fault is disarmed");
}

int
main(void)
{
    memset(old_data, 'o', sizeof old_data);
    memset(new_data, 'n', sizeof new_data);
    if (base_file_open(AT_FDCWD, tap_dir(), O_RDONLY | O_DIRECTORY, 0, &dir) != 0)
        bail("%s", dor_err_message());
    test_each_call_fails(FAULT_IO_FAIL);
    test_each_allocation_fails();
    test_each_kill(FAULT_WRITE_KILL, "oon");
    test_each_kill(FAULT_WRITE_SKIP_KILL, "ooo");
    test_half_write();
    test_sticky();
    close(dir);
    return done_testing();
}
