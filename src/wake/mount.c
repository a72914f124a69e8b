/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mount.c - begins and ends a mount: the sessions with the kernel and the threads that serve.
 *
 *     mounting session: mount ... unmount          serving session: a descriptor of its own,
 *                                                  read by the workers
 *
 * Two sessions, for libfuse closes the descriptor of the one that unmounts, and a mount that was
 * taken out of the folder tree is to be served on until its last file is closed.
 *
 * The end: the pusher first, for it may wait for pages that workers read; then the workers; then
 * the last descriptor is closed. From there the kernel answers everything that is still open with
 * ECONNABORTED or ENOTCONN, faults with SIGBUS. The same happens when this process dies.
 */
#include "wake/mount_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/code.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/size.h"

enum { WORKERS_LEAST = 4, WORKERS_MOST = 64, OPTION_BYTES = 256, LOG_BYTES = 256 };

/* ------------------------------------------------------------------ libfuse's words */

/* What it said last in this thread: its functions only return that they failed. */
static _Thread_local char last_words[LOG_BYTES];

static void take_words(enum fuse_log_level level, const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));

static void
take_words(enum fuse_log_level level, const char *format, va_list arguments)
{
    if (level > FUSE_LOG_WARNING)
        return;
    vsnprintf(last_words, sizeof last_words, format, arguments);
    last_words[strcspn(last_words, "\n")] = '\0';
    dor_log(WARN, "wake", "fuse", "words=\"%s\"", last_words);
}

/* ------------------------------------------------------------------ workers */

static void
tell_ended(struct dor_mount *mount)
{
    const uint64_t one = 1;
    /* It only fails when it is readable already. */
    (void)!write(mount->ended_fd, &one, sizeof one);
}

static void
serve(void *context)
{
    struct mount_worker *worker = context;
    struct dor_mount *mount = worker->mount;
    struct fuse_buf buffer = {0};
    struct epoll_event event;
    wake_mount_worker = worker;
    while (!atomic_load_explicit(&mount->stopping, memory_order_relaxed)) {
        int bytes = fuse_session_receive_buf(mount->serving, &buffer);
        if (bytes > 0)
            fuse_session_process_buf(mount->serving, &buffer);
        else if (bytes == -EAGAIN)
            (void)epoll_wait(worker->epoll_fd, &event, 1, -1);
        else if (bytes != -EINTR)
            break; /* unmounted */
    }
    free(buffer.mem);
    if (!atomic_load(&mount->stopping))
        tell_ended(mount);
}

static int
watch(int epoll_fd, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        return dor_fail_errno(errno, "mount: cannot wait for requests");
    return 0;
}

/* One request wakes one worker; the end wakes all. */
static int
worker_start(struct dor_mount *mount, struct mount_worker *worker)
{
    worker->mount = mount;
    worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (worker->epoll_fd < 0)
        return dor_fail_errno(errno, "mount: cannot wait for requests");
    int err =
        watch(worker->epoll_fd, fuse_session_fd(mount->serving), EPOLLIN | EPOLLEXCLUSIVE);
    if (err == 0)
        err = watch(worker->epoll_fd, mount->stop_fd, EPOLLIN);
    if (err == 0)
        err = wake_worker_new(mount->server, &worker->pages);
    if (err != 0)
        return err;
    void *bounce = base_alloc_pages(WAKE_WINDOW_PAGES);
    if (bounce == NULL)
        return DOR_E_NO_MEMORY;
    worker->bounce = base_keep(bounce);
    err = base_thread_start(&worker->thread, "mount", serve, worker);
    worker->started = err == 0;
    return err;
}

static int
workers_start(struct dor_mount *mount)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    size_t count = mount->options.thread_count;
    if (count == 0)
        count = base_max_u64(WORKERS_LEAST, cores < 1 ? 1 : 2 * (uint64_t)cores);
    count = base_min_size(count, WORKERS_MOST);
    mount->workers = base_array(count, sizeof *mount->workers);
    if (mount->workers == NULL)
        return DOR_E_NO_MEMORY;
    int err = 0;
    for (size_t i = 0; err == 0 && i < count; i++) {
        mount->workers[i].epoll_fd = -1;
        mount->worker_count++;
        err = worker_start(mount, &mount->workers[i]);
    }
    return err;
}

static void
workers_stop(struct dor_mount *mount)
{
    const uint64_t one = 1;
    atomic_store(&mount->stopping, true);
    if (mount->stop_fd >= 0)
        (void)!write(mount->stop_fd, &one, sizeof one);
    for (size_t i = 0; i < mount->worker_count; i++) {
        struct mount_worker *worker = &mount->workers[i];
        if (worker->started)
            base_thread_join(&worker->thread);
        wake_worker_free(worker->pages);
        base_free(worker->bounce);
        base_auto_close(&worker->epoll_fd);
    }
    base_free(mount->workers);
}

/* ------------------------------------------------------------------ sessions */

static int
check_directory(const char *directory)
{
    /* Its attributes may still be in the kernel's memory; its content is asked for. */
    AUTO_CLOSE int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && (errno == ENOTCONN || errno == ECONNABORTED))
        return dor_fail(
            DOR_E_BUSY,
            "%s: a mount whose process is gone is still there; clear it with "
            "fusermount3 -u -z %s (or umount -l, as root) and try again",
            directory, directory);
    if (fd < 0 && errno == ENOTDIR)
        return dor_fail(DOR_E_USAGE, "%s: is no folder to mount on", directory);
    if (fd < 0)
        return dor_fail_errno(errno, "%s: cannot mount there", directory);
    if (access("/dev/fuse", F_OK) != 0)
        return dor_fail(
            DOR_E_UNSUPPORTED,
            "mounting needs /dev/fuse, which is not here; load the module fuse, or let the "
            "container have the device");
    return 0;
}

static int
session_new(struct dor_mount *mount, struct fuse_session **ret)
{
    char options[OPTION_BYTES];
    char program[] = "dormouse";
    char flag[] = "-o";
    char *words[] = {program, flag, options, NULL};
    struct fuse_args arguments = FUSE_ARGS_INIT(3, words);
    snprintf(
        options, sizeof options,
        "fsname=dormouse,subtype=dormouse,default_permissions,nosuid,nodev,max_read=%zu%s",
        MOUNT_READ_BYTES_MAX, mount->options.allow_other ? ",allow_other" : "");
    last_words[0] = '\0';
    struct fuse_session *session =
        fuse_session_new(&arguments, &wake_mount_ops, sizeof wake_mount_ops, mount);
    fuse_opt_free_args(&arguments);
    if (session == NULL)
        return dor_fail(DOR_E_NO_MEMORY, "cannot begin a mount: %s", last_words);
    *ret = session;
    return 0;
}

static int
mount_directory(struct dor_mount *mount, const char *directory)
{
    int err = session_new(mount, &mount->mounting);
    if (err != 0)
        return err;
    if (fuse_session_mount(mount->mounting, directory) == 0)
        return 0;
    fuse_session_destroy(TAKE(mount->mounting));
    return dor_fail(
        DOR_E_DENIED,
        "%s: cannot mount there%s%s; who is not root needs fusermount3, must own the folder, "
        "and may let others look only with user_allow_other in /etc/fuse.conf",
        directory, last_words[0] == '\0' ? "" : ": ", last_words);
}

/*
 * A handle that one worker answers with may come back to another with the next request: the kernel
 * keeps them apart in time, and these two say so to the language. The store in send_answer() pairs
 * with the load in receive_request().
 */
static ssize_t
receive_request(int fd, void *bytes, size_t size_bytes, void *context)
{
    struct dor_mount *mount = context;
    ssize_t count = read(fd, bytes, size_bytes);
    (void)atomic_load_explicit(&mount->answer_count, memory_order_acquire);
    return count;
}

static ssize_t
send_answer(int fd, struct iovec *pieces, int count, void *context)
{
    struct dor_mount *mount = context;
    atomic_fetch_add_explicit(&mount->answer_count, 1, memory_order_acq_rel);
    return writev(fd, pieces, count);
}

/* Have a session serve on a second descriptor of the mount. */
static int
open_serving(struct dor_mount *mount)
{
    static const struct fuse_custom_io io = {.read = receive_request, .writev = send_answer};
    AUTO_CLOSE int fd = fcntl(fuse_session_fd(mount->mounting), F_DUPFD_CLOEXEC, 0);
    if (fd < 0 || fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK) != 0)
        return dor_fail_errno(errno, "mount: cannot set up /dev/fuse");
    int err = session_new(mount, &mount->serving);
    if (err != 0)
        return err;
    if (fuse_session_custom_io(mount->serving, &io, fd) != 0)
        return dor_fail(DOR_E_NO_MEMORY, "mount: cannot serve: %s", last_words);
    base_take_fd(&fd); /* the session's */
    return 0;
}

void
dor_mount_detach(struct dor_mount *mount)
{
    if (mount->mounting == NULL)
        return;
    fuse_session_unmount(mount->mounting);
    fuse_session_destroy(TAKE(mount->mounting));
}

/* ------------------------------------------------------------------ the whole */

static int
open_events(struct dor_mount *mount)
{
    mount->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    mount->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (mount->ended_fd < 0 || mount->stop_fd < 0)
        return dor_fail_errno(errno, "mount: cannot make an event");
    return 0;
}

int
dor_mount_open(
    struct dor_wake_server *server, const char *directory,
    const struct dor_mount_options *options, struct dor_mount **ret)
{
    int err = check_directory(directory);
    if (err != 0)
        return err;
    struct dor_mount *mount = base_zalloc(sizeof *mount);
    if (mount == NULL)
        return DOR_E_NO_MEMORY;
    mount->server = server;
    if (options != NULL)
        mount->options = *options;
    mount->ended_fd = mount->stop_fd = -1;
    mount->mounted_ns = base_clock_realtime_ns();
    base_mutex_init(&mount->lock);
    base_condition_init(&mount->push.wake);
    fuse_set_log_func(take_words);
    err = open_events(mount);
    if (err == 0)
        err = mount_directory(mount, directory);
    if (err == 0)
        err = open_serving(mount);
    if (err == 0)
        err = wake_mount_push_start(mount);
    if (err == 0)
        err = workers_start(mount);
    if (err != 0) {
        struct base_err first = *base_err_record();
        dor_mount_close(mount);
        return base_err_load(&first);
    }
    base_code_populate();
    *ret = mount;
    return 0;
}

int
dor_mount_ended_fd(const struct dor_mount *mount)
{
    return mount->ended_fd;
}

/* What the kernel had not given back: it cannot any more. */
static void
forget_all(struct dor_mount *mount)
{
    while (mount->handles != NULL)
        wake_mount_handle_free(mount, mount->handles);
    for (size_t chain = 0; chain < MOUNT_CHAINS; chain++)
        while (mount->chains[chain] != NULL) {
            struct mount_snapshot *snapshot = mount->chains[chain];
            snapshot->users++;
            snapshot->lookups = 0;
            wake_mount_release(mount, snapshot);
        }
}

void
dor_mount_close(struct dor_mount *mount)
{
    if (mount == NULL)
        return;
    wake_mount_push_stop(mount);
    workers_stop(mount);
    /* Before it is unmounted: fusermount3 looks at the folder, and nobody would answer. */
    if (mount->serving != NULL)
        fuse_session_destroy(mount->serving);
    dor_mount_detach(mount);
    forget_all(mount);
    base_auto_close(&mount->ended_fd);
    base_auto_close(&mount->stop_fd);
    base_condition_fini(&mount->push.wake);
    base_mutex_fini(&mount->lock);
    base_free(mount);
}
