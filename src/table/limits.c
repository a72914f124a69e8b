/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limits.c - privileges, the list of system calls, and priority.
 *
 * The list has what the loop, the C library's allocator and threads, and the engine (memory that is
 * written, then run; threads of its own; signals between them) call. A call that it does not have
 * fails with EPERM instead of ending the process: libraries probe for files that may be missing.
 * io_uring would go around the filter: a ring is restricted before it is enabled, and no other can
 * be made.
 */
#include "table/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/err.h"
#include "base/size.h"

/* Since Linux 6.1, newer than the headers that this is built with. */
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

enum { NOBODY = 65534, NICE_RANGE = 20 };

/* ------------------------------------------------------------------ privileges */

/* Who may go to a low priority and come back: by its limit, or by the one capability for that. */
static bool can_come_back;

static bool
may_by_limit(void)
{
    struct rlimit limit = {NICE_RANGE, NICE_RANGE};
    (void)setrlimit(RLIMIT_NICE, &limit);
    return getrlimit(RLIMIT_NICE, &limit) == 0 && limit.rlim_cur >= NICE_RANGE;
}

/* Keep CAPABILITY alone of those there are; false when it is not among them. */
static bool
keep_capability(unsigned capability)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = {{0}};
    const uint32_t bit = 1U << capability;
    if (syscall(SYS_capget, &header, sets) != 0 || (sets[0].permitted & bit) == 0)
        return false;
    memset(sets, 0, sizeof sets);
    sets[0].permitted = sets[0].effective = bit;
    return syscall(SYS_capset, &header, sets) == 0;
}

/*
 * A container's root may lack what it takes to raise the limit; CAP_SYS_NICE does as well, and the
 * filter bounds what can be done with it.
 */
static int
leave_root(void)
{
    can_come_back = may_by_limit();
    if (!can_come_back && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0)
        return dor_fail_errno(errno, "cannot keep a capability");
    if (setgroups(0, NULL) != 0 || setresgid(NOBODY, NOBODY, NOBODY) != 0 ||
        setresuid(NOBODY, NOBODY, NOBODY) != 0)
        return dor_fail_errno(errno, "cannot give up root's rights");
    if (can_come_back)
        return 0;
    can_come_back = keep_capability(CAP_SYS_NICE);
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};
    if (!can_come_back && syscall(SYS_capset, &header, none) != 0)
        return dor_fail_errno(errno, "cannot give up capabilities");
    return 0;
}

int
table_limits_drop_privileges(void)
{
    const struct rlimit no_core = {0, 0};
    if (setrlimit(RLIMIT_CORE, &no_core) != 0)
        return dor_fail_errno(errno, "cannot forbid core files");
    if (geteuid() == 0) {
        int rc = leave_root();
        if (rc != 0)
            return rc;
    } else {
        can_come_back = may_by_limit();
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        return dor_fail_errno(errno, "cannot give up privileges");
    return 0;
}

/* ------------------------------------------------------------------ system calls */

static const int allowed_calls[] = {
    /* memory */
    SCMP_SYS(brk),
    SCMP_SYS(mmap),
    SCMP_SYS(munmap),
    SCMP_SYS(mprotect),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(mincore),
    SCMP_SYS(membarrier),
    SCMP_SYS(memfd_create),
    SCMP_SYS(msync),
    /* descriptors that are there */
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(readv),
    SCMP_SYS(writev),
    SCMP_SYS(pread64),
    SCMP_SYS(pwrite64),
    SCMP_SYS(pwritev),
    SCMP_SYS(lseek),
    SCMP_SYS(close),
    SCMP_SYS(fstat),
    SCMP_SYS(ftruncate),
    SCMP_SYS(fallocate),
    SCMP_SYS(fsync),
    SCMP_SYS(fdatasync),
    SCMP_SYS(sync_file_range),
    SCMP_SYS(recvfrom),
    SCMP_SYS(sendto),
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendmsg),
    SCMP_SYS(shutdown),
    SCMP_SYS(getsockopt),
    SCMP_SYS(setsockopt),
    SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
    /* waiting */
    SCMP_SYS(epoll_create1),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_pwait2),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(eventfd2),
    SCMP_SYS(timerfd_create),
    SCMP_SYS(timerfd_settime),
    SCMP_SYS(io_uring_enter),
    SCMP_SYS(io_uring_register),
    SCMP_SYS(futex),
    SCMP_SYS(nanosleep),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(sched_yield),
    SCMP_SYS(restart_syscall),
    /* time, and what one is */
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_getres),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getrusage),
    SCMP_SYS(times),
    SCMP_SYS(getcpu),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(sched_getparam),
    SCMP_SYS(sched_getscheduler),
    SCMP_SYS(sched_get_priority_max),
    SCMP_SYS(sched_get_priority_min),
    SCMP_SYS(getpriority),
    SCMP_SYS(getrlimit),
    SCMP_SYS(uname),
    SCMP_SYS(sysinfo),
    SCMP_SYS(getrandom),
    /* threads and signals to them */
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigsuspend),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
};

/* ------------------------------------------------------------------ random numbers */

/*
 * The engine opens the system's random numbers where it starts and dies without them. A refused
 * openat() comes here as a signal: for that one path it gets a copy of a descriptor that was opened
 * before the filter, for all others the error.
 */
static int random_fd = -1;

#if defined(__x86_64__)
#define PATH_OF(context)        ((const char *)(context)->uc_mcontext.gregs[REG_RSI])
#define SET_RESULT(context, to) ((context)->uc_mcontext.gregs[REG_RAX] = (to))
#elif defined(__aarch64__)
#define PATH_OF(context)        ((const char *)(context)->uc_mcontext.regs[1])
#define SET_RESULT(context, to) ((context)->uc_mcontext.regs[0] = (uint64_t)(to))
#endif

static void
on_refused_open(int number, siginfo_t *info, void *context)
{
    static const char path[] = "/dev/urandom";
    ucontext_t *state = context;
    int saved = errno;
    long result = -EPERM;
    (void)number;
    if (info->si_syscall == SYS_openat && strcmp(PATH_OF(state), path) == 0) {
        int fd = fcntl(random_fd, F_DUPFD_CLOEXEC, 0);
        result = fd >= 0 ? fd : -errno;
    }
    errno = saved;
    SET_RESULT(state, result);
}

static int
prepare_random(void)
{
    struct sigaction action = {.sa_sigaction = on_refused_open, .sa_flags = SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    random_fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    if (random_fd < 0 || sigaction(SIGSYS, &action, NULL) != 0)
        return dor_fail_errno(errno, "/dev/urandom");
    return 0;
}

/* ------------------------------------------------------------------ the filter */

/* Calls whose argument number INDEX must, under MASK, be VALUE. */
struct bounded_call {
    int call;
    unsigned index;
    uint64_t mask, value;
};

#define WHOLE UINT64_MAX
#define INT   UINT64_C(0xffffffff)

#define NEW_SPACES                                                                             \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |             \
     CLONE_NEWPID | CLONE_NEWNET)

static const struct bounded_call bounded_calls[] = {
    {SCMP_SYS(clone), 0, CLONE_VM | CLONE_THREAD | NEW_SPACES, CLONE_VM | CLONE_THREAD},
    {SCMP_SYS(prctl), 0, INT, PR_SET_NAME},
    /* what the C library's fstat() is */
    {SCMP_SYS(newfstatat), 3, INT, AT_EMPTY_PATH},
    /* not F_SETOWN, which has the kernel signal others */
    {SCMP_SYS(fcntl), 1, INT, F_GETFL},
    {SCMP_SYS(fcntl), 1, INT, F_SETFL},
    {SCMP_SYS(fcntl), 1, INT, F_GETFD},
    {SCMP_SYS(fcntl), 1, INT, F_SETFD},
    {SCMP_SYS(fcntl), 1, INT, F_DUPFD_CLOEXEC},
    {SCMP_SYS(ioctl), 1, INT, FIONBIO},
    {SCMP_SYS(ioctl), 1, INT, FIONREAD},
    /* pages that come when they are needed, by a device that the front has opened */
    {SCMP_SYS(ioctl), 1, INT, USERFAULTFD_IOC_NEW},
    {SCMP_SYS(ioctl), 1, INT, UFFDIO_API},
    {SCMP_SYS(ioctl), 1, INT, UFFDIO_REGISTER},
};

static int
add_rules(scmp_filter_ctx filter)
{
    int err = 0;
    for (size_t i = 0; err == 0 && i < ARRAY_LEN(allowed_calls); i++)
        err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed_calls[i], 0);
    for (size_t i = 0; err == 0 && i < ARRAY_LEN(bounded_calls); i++) {
        const struct bounded_call *row = &bounded_calls[i];
        err = seccomp_rule_add(
            filter, SCMP_ACT_ALLOW, row->call, 1,
            SCMP_CMP(row->index, SCMP_CMP_MASKED_EQ, row->mask, row->value));
    }
    /* One's own priority: normal, or the lowest. */
    static const int policies[] = {SCHED_OTHER, SCHED_IDLE};
    for (size_t i = 0; err == 0 && i < ARRAY_LEN(policies); i++)
        err = seccomp_rule_add(
            filter, SCMP_ACT_ALLOW, SCMP_SYS(sched_setscheduler), 2,
            SCMP_A0(SCMP_CMP_MASKED_EQ, INT, 0),
            SCMP_A1(SCMP_CMP_MASKED_EQ, INT, (scmp_datum_t)policies[i]));
    /* Signals to threads of one's own, and to read one's own limits. */
    if (err == 0)
        err = seccomp_rule_add(
            filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
            SCMP_A0(SCMP_CMP_MASKED_EQ, INT, (scmp_datum_t)getpid()));
    if (err == 0)
        err = seccomp_rule_add(
            filter, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 2, SCMP_A0(SCMP_CMP_MASKED_EQ, INT, 0),
            SCMP_A2(SCMP_CMP_EQ, 0));
    if (err == 0)
        err = seccomp_rule_add(filter, SCMP_ACT_TRAP, SCMP_SYS(openat), 0);
    /* Its flags are in memory, where no filter sees them; the C library then takes clone. */
    if (err == 0)
        err = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    return err;
}

int
table_limits_filter_calls(void)
{
    int rc = prepare_random();
    if (rc != 0)
        return rc;
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (filter == NULL)
        return dor_fail(DOR_E_NO_MEMORY, "no memory for the filter of system calls");
    int err = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    /* A tree instead of a list. */
    if (err == 0)
        err = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    if (err == 0)
        err = add_rules(filter);
    if (err == 0)
        err = seccomp_load(filter);
    seccomp_release(filter);
    return err == 0
               ? 0
               : dor_fail(DOR_E_UNSUPPORTED, "cannot filter system calls: %s", strerror(-err));
}

/* ------------------------------------------------------------------ priority */

void
table_limits_call_is_long(bool is_long)
{
    const struct sched_param parameter = {0};
    if (can_come_back)
        (void)sched_setscheduler(0, is_long ? SCHED_IDLE : SCHED_OTHER, &parameter);
}
