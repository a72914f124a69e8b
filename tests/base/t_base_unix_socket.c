/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_base_unix_socket.c - who listens at a name, what may be replaced, and whose name is taken away.
 */
#include "base/unix_socket.h"
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/fault.h"
#include "base/mem.h"

enum { STARTERS = 8, ROUNDS = 50, MODE = 0600 };

static char long_dir[512];

/* NAME in DIRECTORY; a few live at a time. */
static const char *
in(const char *directory, const char *name)
{
    static char paths[8][1024];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}

static int
listen_at(const char *path, struct base_listener *ret)
{
    *ret = BASE_LISTENER_NONE;
    return base_listener_open(path, MODE, ret);
}

static bool
answers(const char *path)
{
    AUTO_CLOSE int fd = -1;
    return base_unix_connect(path, 0, &fd) == 0;
}

static bool
exists(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

static int
open_count(void)
{
    int count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* A socket at PATH that nobody listens at any more. */
static void
abandon(const char *path)
{
    struct base_listener listener;
    if (listen_at(path, &listener) != 0)
        bail("no socket at %s", path);
    close(listener.fd);
    close(listener.directory);
}

static void
check_life(const char *directory)
{
    struct base_listener listener;
    struct base_listener second;
    struct stat info;
    const char *path = in(directory, "life");
    int fd = -1;
    is_int(base_unix_connect(path, 0, &fd), DOR_E_NOT_FOUND, "nobody is there yet");
    is_ok(listen_at(path, &listener), "listens");
    ok(stat(path, &info) == 0 && (info.st_mode & 07777) == MODE, "with its permissions");
    ok((fcntl(listener.fd, F_GETFL) & O_NONBLOCK) != 0, "and does not block");
    is_ok(base_unix_connect(path, 0, &fd), "somebody connects");
    AUTO_CLOSE int accepted = accept(listener.fd, NULL, NULL);
    ok(accepted >= 0 && write(fd, "x", 1) == 1, "and is accepted");
    close(fd);
    is_int(listen_at(path, &second), DOR_E_BUSY, "a second one is refused");
    ok(answers(path), "which does the first no harm");
    base_listener_close(&listener);
    ok(!exists(path), "closed, the name is gone");
    base_listener_close(&listener);
    ok(listener.fd == -1, "closing again is fine");
}

static void
check_replacing(const char *directory)
{
    struct base_listener listener;
    const char *path = in(directory, "place");
    const char *target = in(directory, "target");
    abandon(path);
    is_int(base_unix_connect(path, 0, &(int){-1}), DOR_E_NOT_FOUND, "an abandoned socket");
    is_ok(listen_at(path, &listener), "is replaced");
    ok(answers(path), "by one that is not");
    base_listener_close(&listener);

    int fd = open(target, O_CREAT | O_WRONLY, 0600);
    close(fd);
    is_int(listen_at(target, &listener), DOR_E_EXISTS, "a file is left alone");
    ok(symlink(target, path) == 0, "a link");
    is_int(listen_at(path, &listener), DOR_E_EXISTS, "to a file, too");
    ok(exists(path) && exists(target), "both are still there");
    unlink(target);
    is_ok(listen_at(path, &listener), "a link to nothing is replaced");
    base_listener_close(&listener);
    is_int(listen_at(directory, &listener), DOR_E_EXISTS, "a folder is left alone");

    struct base_listener other;
    is_ok(listen_at(target, &other), "another socket");
    ok(symlink(target, path) == 0, "and a link to it");
    is_int(listen_at(path, &listener), DOR_E_BUSY, "is somebody's");
    base_listener_close(&other);
    abandon(target);
    is_ok(listen_at(path, &listener), "a link to an abandoned socket is replaced");
    ok(exists(target), "the socket itself is not");
    base_listener_close(&listener);
    unlink(target);
}

static void
check_identity(const char *directory)
{
    struct base_listener listener;
    struct base_listener later;
    const char *path = in(directory, "mine");
    is_ok(listen_at(path, &listener), "listens");
    unlink(path);
    is_ok(listen_at(path, &later), "somebody else takes the name");
    base_listener_close(&listener);
    ok(answers(path), "and keeps it when the first one closes");
    base_listener_close(&later);
    ok(!exists(path), "but not his own end");
}

static void
check_adopting(const char *directory)
{
    struct base_listener listener;
    struct base_listener heir;
    const char *path = in(directory, "inherited");
    is_ok(listen_at(path, &listener), "listens");
    int fd = dup(listener.fd);
    close(listener.fd);
    close(listener.directory);
    is_ok(base_listener_adopt(&fd, path, &heir), "an heir takes it over");
    ok(fd == -1 && answers(path), "and is connected to");
    base_listener_close(&heir);
    ok(!exists(path), "he takes the name away");

    is_ok(listen_at(path, &listener), "listens again");
    fd = dup(listener.fd);
    base_listener_close(&listener);
    is_ok(base_listener_adopt(&fd, path, &heir), "one whose name is gone is taken as well");
    is_ok(listen_at(path, &listener), "the name is somebody else's now");
    base_listener_close(&heir);
    ok(answers(path), "and stays his");
    base_listener_close(&listener);

    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    is_int(
        base_listener_adopt(&fd, path, &heir), DOR_E_CORRUPT, "what does not listen is none");
    ok(fd >= 0, "and stays the caller's");
    close(fd);
}

/* The process's umask must not get in the way, and stays what it was. */
static void
check_umask(const char *directory)
{
    struct base_listener listener;
    struct stat info;
    const char *path = in(directory, "masked");
    mode_t before = umask(0777);
    is_ok(base_listener_open(path, 0666, &listener), "permissions beyond the umask");
    ok(umask(before) == 0777, "which is not changed");
    ok(stat(path, &info) == 0 && (info.st_mode & 07777) == 0666, "are there");
    base_listener_close(&listener);
}

static void
check_paths(void)
{
    struct base_listener listener;
    char name[128];
    int fd = -1;
    memset(name, 'n', sizeof name);
    name[108] = '\0';
    is_int(listen_at(name, &listener), DOR_E_USAGE, "a name that is too long");
    is_int(listen_at("", &listener), DOR_E_USAGE, "no name");
    is_int(listen_at("/tmp/", &listener), DOR_E_USAGE, "a folder's name");
    is_int(base_unix_connect("", 0, &fd), DOR_E_USAGE, "connecting to no name");
    is_int(listen_at("/nowhere/at/all", &listener), DOR_E_NOT_FOUND, "no such folder");
    is_int(
        base_unix_connect("/nowhere/at/all", 0, &fd), DOR_E_NOT_FOUND, "to connect to either");
    name[83] = '\0';
    is_int(
        listen_at(in(long_dir, name), &listener), DOR_E_USAGE,
        "a name of 83 bytes at the end of a long path");
    name[82] = '\0';
    is_ok(listen_at(in(long_dir, name), &listener), "one of 82 is possible");
    ok(answers(in(long_dir, name)), "and is found");
    base_listener_close(&listener);
    AUTO_FREE char *huge = base_zalloc(8192);
    memset(huge, '/', 8000);
    huge[8000] = 'x';
    is_int(listen_at(huge, &listener), DOR_E_USAGE, "a path beyond all bounds");
}

static void
check_full_queue(const char *directory)
{
    const char *path = in(directory, "full");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct base_listener listener;
    int waiting[4];
    int rc = 0;
    int count = 0;
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 0) != 0)
        bail("cannot listen at %s", path);
    while (count < 4 && rc == 0) {
        rc = base_unix_connect(path, SOCK_NONBLOCK, &waiting[count]);
        count += rc == 0;
    }
    is_int(rc, DOR_E_BUSY, "a queue that is full is told apart");
    is_int(listen_at(path, &listener), DOR_E_BUSY, "and is somebody's");
    while (count > 0)
        close(waiting[--count]);
    unlink(path);
}

struct starter {
    const char *path;
    pthread_t thread;
    struct base_listener listener;
    int rc;
};

static void *
start_one(void *context)
{
    struct starter *starter = context;
    starter->rc = base_listener_open(starter->path, MODE, &starter->listener);
    return NULL;
}

/* Of all that start at once at an abandoned socket one gets it, and keeps it. */
static void
check_race(const char *directory)
{
    const char *path = in(directory, "race");
    unsigned good = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct starter starters[STARTERS];
        unsigned winners = 0;
        unsigned refused = 0;
        abandon(path);
        for (unsigned i = 0; i < STARTERS; i++) {
            starters[i] = (struct starter){.path = path, .listener = BASE_LISTENER_NONE};
            if (pthread_create(&starters[i].thread, NULL, start_one, &starters[i]) != 0)
                bail("no thread");
        }
        for (unsigned i = 0; i < STARTERS; i++) {
            pthread_join(starters[i].thread, NULL);
            winners += starters[i].rc == 0;
            refused += starters[i].rc == DOR_E_BUSY;
        }
        good += winners == 1 && refused == STARTERS - 1 && answers(path);
        for (unsigned i = 0; i < STARTERS; i++)
            base_listener_close(&starters[i].listener);
        good -= exists(path);
    }
    is_int(good, ROUNDS, "of %d that start at once one wins", STARTERS);
}

static void
check_lock(const char *directory)
{
    struct base_listener listener;
    const char *path = in(directory, "locked");
    AUTO_CLOSE int fd = open(directory, O_RDONLY | O_DIRECTORY);
    if (flock(fd, LOCK_EX) != 0)
        bail("cannot lock %s", directory);
    is_int(
        listen_at(path, &listener), DOR_E_BUSY, "a folder that stays locked is no way to wait");
    ok(!exists(path), "and nothing is left there");
}

static void
check_faults(const char *directory)
{
    struct base_listener listener;
    const char *path = in(directory, "fault");
    int before = open_count();
    base_fault_arm(FAULT_IO_FAIL, 1, EIO);
    int rc = listen_at(path, &listener);
    base_fault_arm(FAULT_NONE, 0, 0);
    ok(rc == DOR_E_IO && base_fault_fired(), "a folder that cannot be opened");
    ok(!exists(path) && open_count() == before, "leaves nothing behind");
    base_fault_arm(FAULT_IO_FAIL, 1, EIO);
    rc = base_unix_connect(path, 0, &(int){-1});
    base_fault_arm(FAULT_NONE, 0, 0);
    ok(rc == DOR_E_IO && open_count() == before, "nor when connecting");
}

int
main(void)
{
    int before = open_count();
    const char *directory = tap_dir();
    char part[61];
    memset(part, 'd', sizeof part);
    part[60] = '\0';
    snprintf(long_dir, sizeof long_dir, "%s/%s", directory, part);
    if (mkdir(long_dir, 0700) != 0)
        bail("no folder");
    snprintf(long_dir, sizeof long_dir, "%s/%s/%s", directory, part, part);
    if (mkdir(long_dir, 0700) != 0)
        bail("no folder");
    const char *const directories[] = {directory, long_dir};
    for (unsigned i = 0; i < 2; i++) {
        note("in %s", directories[i]);
        check_life(directories[i]);
        check_replacing(directories[i]);
        check_identity(directories[i]);
        check_adopting(directories[i]);
        check_umask(directories[i]);
        check_race(directories[i]);
    }
    check_paths();
    check_full_queue(directory);
    check_lock(directory);
    check_faults(directory);
    is_int(open_count(), before, "no descriptor is left open");
    return done_testing();
}
