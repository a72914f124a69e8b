/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_table_limits.c - behind the filter a process keeps what it has and gets nothing new: each call
 * that would reach a file, a socket, a program or another process fails, each that serving takes
 * works.
 */
#include "table/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "tap.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
int
main(void)
{
    skip_all("a sanitizer makes calls that the filter refuses");
}
#else

static pid_t parent;

static void
refused(long result, const char *what)
{
    ok(result < 0 && errno == EPERM, "%s is refused", what);
}

static void *
run_thread(void *context)
{
    *(bool *)context = true;
    return NULL;
}

static void
test_refused(void)
{
    char *const arguments[] = {NULL};
    struct iovec piece = {.iov_base = &parent, .iov_len = sizeof parent};
    int pair[2];
    refused(open("/etc/passwd", O_RDONLY), "open");
    refused(syscall(SYS_open, "/etc/passwd", O_RDONLY), "the old open");
    refused(syscall(SYS_openat2, AT_FDCWD, "/etc/passwd", NULL, 0), "openat2");
    refused(socket(AF_INET, SOCK_STREAM, 0), "socket");
    refused(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
    refused(execve("/bin/true", arguments, arguments), "execve");
    refused(ptrace(PTRACE_ATTACH, parent, 0, 0), "ptrace");
    refused(kill(parent, 0), "kill");
    refused(syscall(SYS_tgkill, parent, parent, 0), "a signal to a thread of another process");
    refused(syscall(SYS_pidfd_open, parent, 0), "pidfd_open");
    refused(process_vm_readv(parent, &piece, 1, &piece, 1, 0), "the memory of others");
    refused(syscall(SYS_io_uring_setup, 8, NULL), "a new ring");
    refused(fork(), "fork");
    refused(syscall(SYS_unshare, CLONE_NEWUSER), "unshare");
    refused(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), "to be dumped");
    refused(fcntl(0, F_SETOWN, parent), "to have signals sent");
    refused(unlink("/tmp/nothing"), "unlink");
    refused(mkdir("/tmp/nothing", 0700), "mkdir");
    refused(chdir("/"), "chdir");
    refused(setuid(0), "setuid");
    refused(setpriority(PRIO_PROCESS, (id_t)parent, 10), "the priority of others");
    const struct sched_param realtime = {.sched_priority = 1};
    refused(sched_setscheduler(0, SCHED_FIFO, &realtime), "a high priority");
    refused(sched_setscheduler(parent, SCHED_IDLE, &realtime), "to set that of others");
    refused(syscall(SYS_bpf, 0, NULL, 0), "bpf");
    refused(syscall(SYS_keyctl, 0, 0, 0, 0, 0), "keys");
    ok(syscall(SYS_clone3, NULL, 0) < 0 && errno == ENOSYS, "clone3 is not there");
}

static void
test_allowed(void)
{
    bool ran = false;
    pthread_t thread;
    struct stat status;
    ok(pthread_create(&thread, NULL, run_thread, &ran) == 0 &&
           pthread_join(thread, NULL) == 0 && ran,
       "threads start");
    void *code = mmap(
        NULL, 65536, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ok(code != MAP_FAILED && mprotect(code, 65536, PROT_READ | PROT_EXEC) == 0 &&
           munmap(code, 65536) == 0,
       "memory that is run");
    int memory = memfd_create("t", 0);
    ok(memory >= 0 && ftruncate(memory, 8192) == 0 && fstat(memory, &status) == 0 &&
           fallocate(memory, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0,
       "memory files");
    int random = open("/dev/urandom", O_RDONLY);
    char bytes[8];
    ok(random >= 0 && read(random, bytes, sizeof bytes) == sizeof bytes, "random numbers");
    ok(epoll_create1(0) >= 0 && eventfd(0, 0) >= 0, "descriptors to wait with");
    ok(fcntl(memory, F_GETFL) >= 0, "flags of descriptors");
    ok(pthread_kill(pthread_self(), 0) == 0, "signals to one's own threads");
    void *big = malloc(64 << 20);
    ok(big != NULL, "much memory");
    free(big);
}

static int
be_worker(void)
{
    is_ok(table_limits_drop_privileges(), "give up privileges");
    ok(geteuid() != 0, "not root");
    ok(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0, "nobody looks in");
    ok(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1, "nothing gives privileges");
    is_ok(table_limits_filter_calls(), "the filter");
    test_refused();
    test_allowed();
    int before = sched_getscheduler(0);
    struct rlimit limit;
    /* A container's root may have neither the limit nor the capability: then nothing happens. */
    table_limits_call_is_long(true);
    if (getrlimit(RLIMIT_NICE, &limit) == 0 && limit.rlim_cur >= 20)
        is_int(sched_getscheduler(0), SCHED_IDLE, "a long call is at the back");
    else
        ok(sched_getscheduler(0) == SCHED_IDLE || sched_getscheduler(0) == before,
           "a long call is at the back, if it may come back");
    table_limits_call_is_long(false);
    is_int(sched_getscheduler(0), before, "and comes back");
    return done_testing();
}

int
main(void)
{
    int status = 0;
    parent = getpid();
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        exit(be_worker());
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
}
#endif
