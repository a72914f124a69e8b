/* SPDX-License-Identifier: Apache-2.0 */
/*
 * live_trace.c - ptrace.
 *
 *     thread: unknown --SEIZE--> running --INTERRUPT, wait--> stopped --DETACH--> free
 *
 * To make a system call inside the process, its stopped main thread is set to a `syscall`
 * instruction that is in its memory anyway (the vdso has some), for one step; then its registers
 * are put back. Nothing in the process is written. Signals are held off meanwhile; it is not done
 * inside a restartable sequence (rseq); and seccomp filters, which would kill it for a system call
 * that it never makes, are suspended, or nothing is tried.
 *
 * A helper process of its own session does that: whoever is killed meanwhile, it finishes, and no
 * thread goes on with the wrong registers. All other states end well by themselves when the tracer
 * dies.
 */
#include "wake/live_trace.h"

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/size.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/ptrace.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <sys/user.h>
#endif

enum { ROUNDS_MAX = 100, VDSO_BYTES_MAX = 16384 };

/* The library's ptrace() is declared for other numbers than the kernel's header has. */
static long
trace_call(unsigned request, pid_t thread, uintptr_t address, uintptr_t data)
{
    return syscall(SYS_ptrace, request, thread, address, data);
}

/* ------------------------------------------------------------------ threads */

static int
fail_trace(pid_t pid, int errnum)
{
    if (errnum == ESRCH)
        return dor_fail(DOR_E_NOT_FOUND, "process %d: is not there", (int)pid);
    return dor_fail(
        DOR_E_DENIED,
        "process %d: may not be traced (%s); be its owner or root, and let no debugger hold it",
        (int)pid, strerrordesc_np(errnum));
}

static int
add_thread(struct live_trace *trace, pid_t thread)
{
    if (trace->thread_count == trace->thread_room) {
        size_t room = trace->thread_room == 0 ? 16 : trace->thread_room * 2;
        struct live_thread *threads = base_realloc_array(trace->threads, room, sizeof *threads);
        if (threads == NULL)
            return DOR_E_NO_MEMORY;
        trace->threads = threads;
        trace->thread_room = room;
    }
    trace->threads[trace->thread_count++] = (struct live_thread){.id = thread};
    return 0;
}

int
live_trace_open(pid_t pid, struct live_trace *ret)
{
    struct live_trace trace = {.pid = pid};
    int rc = add_thread(&trace, pid);
    if (rc == 0 && trace_call(PTRACE_SEIZE, pid, 0, 0) != 0) {
        rc = fail_trace(pid, errno);
        trace.thread_count = 0;
    }
    if (rc != 0) {
        live_trace_close(&trace);
        return rc;
    }
    *ret = trace;
    return 0;
}

/* Wait until the thread stands; false when it ended instead. */
static bool
wait_stopped(struct live_thread *thread)
{
    int status;
    pid_t got;
    do
        got = waitpid(thread->id, &status, __WALL);
    while (got < 0 && errno == EINTR);
    if (got != thread->id || !WIFSTOPPED(status))
        return false;
    /* Stopped on the way to a signal, not by us: it is not to be lost. */
    if (status >> 16 == 0 && WSTOPSIG(status) != SIGTRAP)
        thread->signal = WSTOPSIG(status);
    return true;
}

/* Bring THREAD to a stand; one that has ended is forgotten. */
static void
stop_thread(struct live_thread *thread)
{
    if (trace_call(PTRACE_INTERRUPT, thread->id, 0, 0) == 0 && wait_stopped(thread))
        thread->stopped = true;
    else
        thread->id = 0;
}

static void
detach(pid_t pid, struct live_thread *thread)
{
    if (thread->id != 0 && !thread->stopped)
        stop_thread(thread);
    if (thread->id == 0)
        return;
    (void)trace_call(PTRACE_DETACH, thread->id, 0, 0);
    if (thread->signal != 0)
        (void)syscall(SYS_tgkill, pid, thread->id, thread->signal);
}

void
live_trace_close(struct live_trace *trace)
{
    live_trace_resume(trace);
    base_free(trace->threads);
    *trace = (struct live_trace){0};
}

static bool
is_known(const struct live_trace *trace, pid_t thread)
{
    for (size_t i = 0; i < trace->thread_count; i++)
        if (trace->threads[i].id == thread)
            return true;
    return false;
}

struct walk {
    struct live_trace *trace;
    size_t found;
};

static int
seize(const char *name, void *arg)
{
    struct walk *walk = arg;
    pid_t thread = (pid_t)strtol(name, NULL, 10);
    if (is_known(walk->trace, thread))
        return 0;
    if (trace_call(PTRACE_SEIZE, thread, 0, 0) != 0)
        return errno == ESRCH ? 0 : fail_trace(thread, errno);
    walk->found++;
    return add_thread(walk->trace, thread);
}

/* Attach to the threads that are not yet; how many there were. */
static int
seize_all(struct live_trace *trace, size_t *ret_found)
{
    AUTO_CLOSE int dir = -1;
    struct walk walk = {.trace = trace};
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", (int)trace->pid);
    int rc = base_file_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0, &dir);
    if (rc == 0)
        rc = base_dir_list(dir, seize, &walk);
    *ret_found = walk.found;
    return rc;
}

int
live_trace_stop(struct live_trace *trace)
{
    /* A thread that runs may start others; when all that are known stand, there is none left. */
    for (unsigned round = 0; round < ROUNDS_MAX; round++) {
        size_t found = 0;
        int rc = seize_all(trace, &found);
        if (rc != 0)
            return rc;
        bool stood = found == 0;
        for (size_t i = 0; i < trace->thread_count; i++) {
            if (trace->threads[i].id == 0 || trace->threads[i].stopped)
                continue;
            stop_thread(&trace->threads[i]);
            stood = false;
        }
        if (stood)
            return 0;
    }
    return dor_fail(
        DOR_E_BUSY, "process %d: starts threads faster than they can be stopped",
        (int)trace->pid);
}

void
live_trace_resume(struct live_trace *trace)
{
    for (size_t i = 0; i < trace->thread_count; i++)
        detach(trace->pid, &trace->threads[i]);
    trace->thread_count = 0;
}

/* ------------------------------------------------------------------ a userfaultfd inside */

#if defined(__x86_64__)

enum { USER_CODE_64 = 0x33, RSEQ_HEAD_AT = 8, SEQUENCE_TRIES = 50 };

static const uint8_t syscall_instruction[] = {0x0f, 0x05};

/* Where the vdso of PID is, by its auxiliary vector; *RET is 0 when there is none. */
static int
find_vdso(pid_t pid, uint64_t *ret)
{
    AUTO_BUF struct base_buf buf = {0};
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/auxv", (int)pid);
    int rc = base_file_read_all(AT_FDCWD, path, 4096, &buf);
    *ret = 0;
    for (size_t at = 0; at + sizeof(Elf64_auxv_t) <= buf.size_bytes;
         at += sizeof(Elf64_auxv_t)) {
        Elf64_auxv_t entry;
        memcpy(&entry, buf.data + at, sizeof entry);
        if (entry.a_type == AT_SYSINFO_EHDR)
            *ret = entry.a_un.a_val;
    }
    return rc;
}

/* The address of a `syscall` instruction in the process. */
static int
find_syscall(pid_t pid, uint64_t *ret)
{
    uint8_t bytes[VDSO_BYTES_MAX];
    uint64_t vdso = 0;
    int rc = find_vdso(pid, &vdso);
    if (rc != 0)
        return rc;
    struct iovec local = {bytes, sizeof bytes};
    struct iovec remote = {(void *)(uintptr_t)vdso, sizeof bytes};
    ssize_t got = vdso == 0 ? -1 : process_vm_readv(pid, &local, 1, &remote, 1, 0);
    const uint8_t *at =
        got <= 0 ? NULL
                 : memmem(bytes, (size_t)got, syscall_instruction, sizeof syscall_instruction);
    if (at == NULL)
        return dor_fail(DOR_E_UNSUPPORTED, "process %d: no vdso is found in it", (int)pid);
    *ret = vdso + (uint64_t)(at - bytes);
    return 0;
}

/*
 * Whether the thread is inside a restartable sequence, which the kernel would forget if it saw the
 * thread elsewhere.
 */
static bool
in_sequence(pid_t thread, uint64_t instruction)
{
    struct ptrace_rseq_configuration rseq = {0};
    struct rseq_cs_head {
        uint32_t version, flags;
        uint64_t start, length, abort;
    } head;
    uint64_t head_at = 0;
    struct iovec local = {&head_at, sizeof head_at};
    if (trace_call(PTRACE_GET_RSEQ_CONFIGURATION, thread, sizeof rseq, (uintptr_t)&rseq) !=
            (long)sizeof rseq ||
        rseq.rseq_abi_pointer == 0)
        return false;
    struct iovec remote = {
        (void *)(uintptr_t)(rseq.rseq_abi_pointer + RSEQ_HEAD_AT), sizeof head_at};
    if (process_vm_readv(thread, &local, 1, &remote, 1, 0) != (ssize_t)sizeof head_at)
        return true;
    if (head_at == 0)
        return false;
    local = (struct iovec){&head, sizeof head};
    remote = (struct iovec){(void *)(uintptr_t)head_at, sizeof head};
    if (process_vm_readv(thread, &local, 1, &remote, 1, 0) != (ssize_t)sizeof head)
        return true;
    return instruction - head.start < head.length;
}

static int
get_registers(pid_t thread, struct user_regs_struct *ret)
{
    struct iovec piece = {ret, sizeof *ret};
    return trace_call(PTRACE_GETREGSET, thread, NT_PRSTATUS, (uintptr_t)&piece) == 0 &&
                   piece.iov_len == sizeof *ret
               ? 0
               : -1; /* a program of 32 bits has fewer */
}

static int
set_registers(pid_t thread, struct user_regs_struct *regs)
{
    struct iovec piece = {regs, sizeof *regs};
    return trace_call(PTRACE_SETREGSET, thread, NT_PRSTATUS, (uintptr_t)&piece) == 0 ? 0 : -1;
}

/* The system call NUMBER of the stopped thread at INSTRUCTION: its result, or a negative errno. */
static long
call_inside(struct live_thread *thread, uint64_t instruction, long number, long first)
{
    struct user_regs_struct before;
    if (get_registers(thread->id, &before) != 0 || before.cs != USER_CODE_64)
        return -ENOSYS;
    struct user_regs_struct regs = before;
    regs.rip = instruction;
    regs.rax = (unsigned long long)number;
    regs.rdi = (unsigned long long)first;
    regs.orig_rax = (unsigned long long)-1; /* nothing is to be restarted before it */
    long result = -EIO;
    if (set_registers(thread->id, &regs) == 0 &&
        trace_call(PTRACE_SINGLESTEP, thread->id, 0, 0) == 0 && wait_stopped(thread) &&
        get_registers(thread->id, &regs) == 0 &&
        regs.rip == instruction + sizeof syscall_instruction)
        result = (long)regs.rax;
    if (set_registers(thread->id, &before) != 0)
        dor_log(ERROR, "wake", "live_registers_lost", "thread=%d", (int)thread->id);
    return result;
}

static bool
has_seccomp(pid_t pid)
{
    AUTO_BUF struct base_buf buf = {0};
    static const char key[] = "\nSeccomp:\t";
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    if (base_file_read_all(AT_FDCWD, path, 65536, &buf) != 0)
        return true;
    const uint8_t *at = memmem(buf.data, buf.size_bytes, key, sizeof key - 1);
    return at == NULL || at + sizeof key > buf.data + buf.size_bytes ||
           at[sizeof key - 1] != '0';
}

/* Take our copy of descriptor FD of the process. */
static int
take_descriptor(pid_t pid, int fd)
{
    AUTO_CLOSE int process = (int)syscall(SYS_pidfd_open, pid, 0);
    return process < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, process, fd, 0);
}

/* What the helper was given, and what came of it; in memory that it shares with us. */
struct inside {
    pid_t pid;
    uint64_t instruction;
    bool seccomp;
    int fd;
    struct base_err err;
};

static int
make_inside(struct live_thread *thread, struct inside *inside)
{
    long made =
        call_inside(thread, inside->instruction, SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (made < 0)
        return dor_fail(
            DOR_E_UNSUPPORTED, "process %d: cannot have a userfaultfd (%s)", (int)inside->pid,
            strerrordesc_np((int)-made));
    inside->fd = take_descriptor(inside->pid, (int)made);
    int errnum = errno;
    (void)call_inside(thread, inside->instruction, SYS_close, made);
    if (inside->fd < 0)
        return dor_fail(
            DOR_E_UNSUPPORTED, "process %d: its userfaultfd cannot be taken (%s)",
            (int)inside->pid, strerrordesc_np(errnum));
    return 0;
}

/* Stop THREAD where a system call can be slipped in. */
static int
stop_between(struct live_thread *thread)
{
    for (unsigned i = 0; i < SEQUENCE_TRIES; i++) {
        struct user_regs_struct regs;
        stop_thread(thread);
        if (!thread->stopped || get_registers(thread->id, &regs) != 0)
            return dor_fail(DOR_E_UNSUPPORTED, "process: has no main thread of 64 bits");
        if (!in_sequence(thread->id, regs.rip))
            return 0;
        thread->stopped = trace_call(PTRACE_CONT, thread->id, 0, 0) != 0;
    }
    return dor_fail(DOR_E_UNSUPPORTED, "process: is always in a restartable sequence");
}

static int
make_stopped(struct live_thread *thread, struct inside *inside)
{
    uint64_t all = UINT64_MAX;
    uint64_t mask = 0;
    if (inside->seccomp &&
        trace_call(PTRACE_SETOPTIONS, thread->id, 0, PTRACE_O_SUSPEND_SECCOMP) != 0)
        return dor_fail(
            DOR_E_UNSUPPORTED, "process %d: its seccomp filters cannot be suspended",
            (int)inside->pid);
    if (trace_call(PTRACE_GETSIGMASK, thread->id, sizeof mask, (uintptr_t)&mask) != 0 ||
        trace_call(PTRACE_SETSIGMASK, thread->id, sizeof all, (uintptr_t)&all) != 0)
        return dor_fail(
            DOR_E_UNSUPPORTED, "process %d: its signals cannot be held", (int)inside->pid);
    int rc = make_inside(thread, inside);
    (void)trace_call(PTRACE_SETSIGMASK, thread->id, sizeof mask, (uintptr_t)&mask);
    return rc;
}

/* The helper: takes hold of the main thread, does it, lets go. Allocates nothing. */
_Noreturn static void
help(struct inside *inside)
{
    struct live_thread thread = {.id = inside->pid};
    int rc = 0;
    setsid();
    if (trace_call(PTRACE_SEIZE, inside->pid, 0, 0) != 0)
        rc = fail_trace(inside->pid, errno);
    if (rc == 0) {
        rc = stop_between(&thread);
        if (rc == 0)
            rc = make_stopped(&thread, inside);
        inside->err = *base_err_record();
        detach(inside->pid, &thread);
    } else {
        inside->err = *base_err_record();
    }
    _exit(rc == 0 ? 0 : 1);
}

/* Run the helper to its end. It shares our descriptors, so what it takes is ours. */
static int
run_helper(struct inside *inside)
{
    sigset_t all, before;
    int status = 0;
    sigfillset(&all);
    /* A signal for us must not end the helper between two steps. */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    long helper = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
    int errnum = errno;
    if (helper == 0)
        help(inside);
    pid_t got = -1;
    while (helper > 0 && (got = waitpid((pid_t)helper, &status, 0)) < 0 && errno == EINTR)
        continue;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (helper < 0)
        return dor_fail_errno(
            errnum, "process %d: no helper to look into it", (int)inside->pid);
    if (got == helper && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    if (inside->err.code != 0)
        return base_err_load(&inside->err);
    return dor_fail(
        DOR_E_UNSUPPORTED, "process %d: the helper that looks into it died", (int)inside->pid);
}

int
live_trace_userfaultfd(pid_t pid, int *ret)
{
    struct inside *inside =
        mmap(NULL, sizeof *inside, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (inside == MAP_FAILED)
        return dor_fail_errno(errno, "process %d: no memory to look into it", (int)pid);
    *inside = (struct inside){.pid = pid, .seccomp = has_seccomp(pid), .fd = -1};
    int rc = find_syscall(pid, &inside->instruction);
    if (rc == 0)
        rc = run_helper(inside);
    if (rc == 0)
        *ret = inside->fd;
    munmap(inside, sizeof *inside);
    return rc;
}

#else

int
live_trace_userfaultfd(pid_t pid, int *ret)
{
    (void)ret;
    return dor_fail(
        DOR_E_UNSUPPORTED, "process %d: on this processor only copies are possible", (int)pid);
}

#endif
