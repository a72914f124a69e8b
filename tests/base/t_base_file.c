/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_base_file.c - file calls on real files: whole reads and writes, holes, locks, and errors
 * with names.
 */
#include "base/file.h"
#include "base/size.h"
#include "tap.h"

#include <fcntl.h>
#include <sys/stat.h>

static int
open_dir(void)
{
    int fd = -1;
    if (base_file_open(AT_FDCWD, tap_dir(), O_RDONLY | O_DIRECTORY, 0, &fd) != 0)
        bail("%s", dor_err_message());
    return fd;
}

static void
test_read_write(int dir)
{
    AUTO_CLOSE int fd = -1;
    char buf[16] = "";
    size_t got = 99;
    uint64_t size = 0;
    is_ok(base_file_open(dir, "a", O_RDWR | O_CREAT | O_EXCL, 0600, &fd), "create a file");
    ok((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0, "it does not leak to other programs");
    is_ok(base_file_pwrite(fd, "0123456789", 10, 5, "a"), "write at an offset");
    is_ok(base_file_size(fd, "a", &size), "ask for the size");
    is_int(size, 15, "it is 15");
    is_ok(base_file_pread(fd, buf, 10, 5, "a"), "read it back");
    is_mem(buf, "0123456789", 10, "the same bytes");
    is_int(base_file_pread(fd, buf, 11, 5, "a"), DOR_E_CORRUPT, "read past the end");
    is_str(dor_err_message(), "a: ends early: has 10 of 11 bytes at 5", "tells what was there");
    is_ok(base_file_pread_some(fd, buf, 11, 5, "a", &got), "read some past the end");
    is_int(got, 10, "gives what there is");
    is_ok(base_file_pread_some(fd, buf, 11, 100, "a", &got), "read some from behind the end");
    is_int(got, 0, "gives nothing");
    is_ok(base_file_truncate(fd, 7, "a"), "cut the file");
    is_ok(base_file_size(fd, "a", &size), "ask again");
    is_int(size, 7, "it is 7");
    is_ok(base_file_sync(fd, "a"), "sync the file");
    is_ok(base_dir_sync(dir, "."), "sync the directory");
}

static void
test_errors(int dir)
{
    int fd = 42;
    AUTO_CLOSE int readable = -1;
    is_int(
        base_file_open(dir, "none", O_RDONLY, 0, &fd), DOR_E_NOT_FOUND,
        "open what is not there");
    is_str(dor_err_message(), "cannot open none: No such file or directory", "is told by name");
    is_int(fd, 42, "and gives no descriptor");
    is_int(
        base_file_open(dir, "a", O_RDWR | O_CREAT | O_EXCL, 0600, &fd), DOR_E_EXISTS,
        "create twice");
    is_ok(base_file_open(dir, "a", O_RDONLY, 0, &readable), "open for reading");
    is_int(base_file_pwrite(readable, "x", 1, 0, "a"), DOR_E_IO, "write to it");
    is_str(dor_err_message(), "a: cannot write 1 bytes at 0: Bad file descriptor", "is told");
    is_int(base_file_truncate(readable, 0, "a"), DOR_E_IO, "truncate it");
    char c;
    uint64_t size;
    is_int(base_file_pread(-1, &c, 1, 0, "gone"), DOR_E_IO, "read from no descriptor");
    is_int(base_file_size(-1, "gone", &size), DOR_E_IO, "size of no descriptor");
    is_int(base_file_sync(-1, "gone"), DOR_E_IO, "sync of no descriptor");
    is_int(base_dir_sync(-1, "gone"), DOR_E_IO, "directory sync of no descriptor");
    is_int(base_file_lock_exclusive(-1, "gone"), DOR_E_IO, "lock of no descriptor");
    is_int(base_file_next_data(-1, 0, 1, &size, &size), DOR_E_IO, "holes of no descriptor");
    is_int(base_file_rename(dir, "none", "b"), DOR_E_NOT_FOUND, "rename what is not there");
    is_int(base_file_link(dir, "none", "b"), DOR_E_NOT_FOUND, "link what is not there");
    is_int(base_file_unlink(dir, "none"), DOR_E_NOT_FOUND, "remove what is not there");
    is_int(base_dir_list(readable, NULL, NULL), DOR_E_IO, "list what is no directory");
}

struct names {
    unsigned count;
    unsigned sum; /* of first letters */
    unsigned stop_at;
};

static int
add_name(const char *name, void *arg)
{
    struct names *names = arg;
    names->sum += (unsigned char)name[0];
    return ++names->count == names->stop_at ? 7 : 0;
}

static void
test_directories(int dir)
{
    AUTO_CLOSE int inner = -1;
    is_ok(base_dir_make(dir, "d", 0700), "make a directory");
    is_int(base_dir_make(dir, "d", 0700), DOR_E_EXISTS, "make it twice");
    is_ok(base_file_open(dir, "d", O_RDONLY | O_DIRECTORY, 0, &inner), "open it");
    for (char name[2] = "p"; name[0] < 's'; name[0]++)
        is_ok(base_file_replace(inner, name, "x", 1), "make %s in it", name);
    is_ok(base_file_rename(inner, "p", "t"), "rename one");
    is_ok(base_file_link(inner, "q", "s"), "give one a second name");
    is_int(base_file_link(inner, "q", "t"), DOR_E_EXISTS, "not one that is taken");
    is_ok(base_file_unlink(inner, "q"), "remove one");
    is_ok(base_file_unlink(inner, "s"), "and by its second name");
    struct names names = {0};
    is_ok(base_dir_list(inner, add_name, &names), "list it");
    is_int(names.count, 2, "two names");
    is_int(names.sum, 'r' + 't', "the right ones");
    names = (struct names){.stop_at = 1};
    is_int(base_dir_list(inner, add_name, &names), 7, "a callback may stop the walk");
    is_int(names.count, 1, "at once");
    is_int(base_dir_remove(dir, "d"), DOR_E_EXISTS, "a directory that is not empty");
    is_ok(base_dir_make(dir, "e", 0700), "an empty one");
    is_ok(base_dir_remove(dir, "e"), "can be removed");
    is_int(base_dir_remove(dir, "e"), DOR_E_NOT_FOUND, "once");
}

static void
test_lock(int dir)
{
    AUTO_CLOSE int one = -1;
    AUTO_CLOSE int two = -1;
    is_ok(base_file_open(dir, "lock", O_RDWR | O_CREAT, 0600, &one), "a lock file");
    is_ok(base_file_open(dir, "lock", O_RDWR, 0, &two), "opened twice");
    is_ok(base_file_lock_exclusive(one, "lock"), "the first takes it");
    is_int(base_file_lock_exclusive(two, "lock"), DOR_E_BUSY, "the second does not wait");
    ok(strstr(dor_err_message(), "locked by another process") != NULL, "and says why");
    close(base_take_fd(&one));
    is_ok(base_file_lock_exclusive(two, "lock"), "closing gives it free");
}

static void
test_holes(int dir)
{
    enum { MIB = 1 << 20 };
    AUTO_CLOSE int fd = -1;
    uint64_t start = 0, end = 0;
    is_ok(base_file_open(dir, "sparse", O_RDWR | O_CREAT, 0600, &fd), "a sparse file");
    is_ok(base_file_pwrite(fd, "x", 1, MIB, "sparse"), "with a byte in the midst");
    is_ok(base_file_truncate(fd, 3 * MIB, "sparse"), "and a hole at the end");
    is_ok(base_file_next_data(fd, 0, 3 * MIB, &start, &end), "find the data");
    ok(start <= MIB && end > MIB && end <= 3 * MIB, "the byte is in it");
    if (end == 3 * MIB && start == 0) {
        skip("this file system does not know holes", "the hole at the end");
    } else {
        is_ok(base_file_next_data(fd, end, 3 * MIB, &start, &end), "look behind it");
        ok(start == 3 * MIB && end == 3 * MIB, "only a hole is left");
    }
    is_int(
        base_file_next_data(fd, 3 * MIB, 4 * MIB, &start, &end), DOR_E_IO,
        "what was cut off is no hole");
    is_ok(base_file_next_data(fd, 9 * MIB, 3 * MIB, &start, &end), "look behind the end");
    ok(start == 3 * MIB && end == 3 * MIB, "nothing is there");
    is_ok(base_file_next_data(fd, MIB, MIB + 1, &start, &end), "a range cut short");
    ok(start == MIB && end == MIB + 1, "ends where it was cut");
    AUTO_CLOSE int device = -1;
    is_ok(base_file_open(AT_FDCWD, "/dev/zero", O_RDONLY, 0, &device), "a device");
    is_ok(base_file_next_data(device, 5, 10, &start, &end), "has no holes");
    ok(start >= 5 && end == 10, "and is all data");
}

static void
test_whole(int dir)
{
    AUTO_BUF struct base_buf buf = {0};
    AUTO_FREE char *big = base_alloc(100000);
    if (big == NULL)
        bail("no memory");
    memset(big, 'b', 100000);
    is_ok(base_file_replace(dir, "w", "old", 3), "write a whole file");
    is_ok(base_file_replace(dir, "w", big, 100000), "replace it");
    is_ok(base_file_read_all(dir, "w", 100000, &buf), "read it whole");
    is_int(buf.size_bytes, 100000, "all its bytes");
    is_mem(buf.data, big, 100000, "the right ones");
    struct stat st;
    ok(fstatat(dir, "w.tmp", &st, 0) != 0, "no temporary file stays");
    is_int(base_file_read_all(dir, "w", 99999, &buf), DOR_E_CORRUPT, "a file over its limit");
    is_str(dor_err_message(), "w: longer than 99999 bytes", "is told");
    is_int(
        base_file_read_all(dir, "none", 1, &buf), DOR_E_NOT_FOUND, "a file that is not there");
    base_buf_free(&buf);
    is_ok(base_file_replace(dir, "w", "", 0), "an empty file");
    is_ok(base_file_read_all(dir, "w", 0, &buf), "is read");
    is_int(buf.size_bytes, 0, "and is empty");
    is_ok(
        base_file_read_all(AT_FDCWD, "/proc/self/stat", 4096, &buf),
        "files that say they are empty");
    ok(buf.size_bytes > 10, "are read to their end");
    char name[300];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    is_int(base_file_replace(dir, name, "", 0), DOR_E_USAGE, "a name too long");
}

static void
test_map(int dir)
{
    AUTO_CLOSE int fd = -1;
    struct stat status;
    uint8_t *map = NULL;
    char c = 0;
    is_ok(base_file_open(dir, "m", O_RDWR | O_CREAT, 0600, &fd), "a file");
    is_ok(base_file_pwrite(fd, "mapped", 6, 0, "m"), "with bytes");
    is_ok(base_file_stat(dir, "m", 0, "m", &status), "look at it by name");
    is_int(status.st_size, 6, "its size");
    is_ok(base_file_stat(fd, "", AT_EMPTY_PATH, "m", &status), "and by descriptor");
    is_int(status.st_size, 6, "its size");
    is_int(base_file_stat(dir, "none", 0, "none", &status), DOR_E_NOT_FOUND, "nothing there");
    is_ok(base_file_map(fd, 6, "m", &map), "map it");
    is_mem(map, "mapped", 6, "its bytes");
    is_ok(base_map_writable(map, 6, "m"), "make the mapping writable");
    map[0] = 'M';
    is_ok(base_map_read_only(map, 6, "m"), "and read-only again");
    is_ok(base_file_pread(fd, &c, 1, 0, "m"), "the file");
    is_int(c, 'm', "is as it was");
    base_file_unmap(map, 6);
    base_file_unmap(NULL, 6);
    AUTO_CLOSE int pipe = -1;
    is_ok(base_file_open(AT_FDCWD, "/proc/self/cmdline", O_RDONLY, 0, &pipe), "no file");
    ok(base_file_map(pipe, 6, "cmdline", &map) != 0, "cannot be mapped");
}

int
main(void)
{
    AUTO_CLOSE int dir = open_dir();
    test_read_write(dir);
    test_errors(dir);
    test_directories(dir);
    test_lock(dir);
    test_holes(dir);
    test_whole(dir);
    test_map(dir);
    return done_testing();
}
