/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run_advice.c - keeps one piece of advice of QEMU's from the kernel: that its guest's memory is to
 * be of huge pages. Of a file that is mapped privately none come of it, but the kernel then reads
 * 2 MiB wherever the guest needs 4 KiB.
 *
 * A filter of system calls answers this one madvise() as if it had been heard, and lets all others
 * pass, so also advice on other memory. It holds for what QEMU starts as well. Who may not filter
 * without giving up setuid programs gives them up, unless the guest's network needs one.
 */
#include "cli/run.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "base/size.h"

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

bool
cli_run_wants_setuid(const struct cli_run_command *command)
{
    for (size_t i = 0; i < command->count; i++)
        if (strstr(command->words[i], "bridge") != NULL ||
            strstr(command->words[i], "helper") != NULL)
            return true;
    return false;
}

#ifdef ARCHITECTURE

/* The halves of system call argument INDEX, on a machine whose low half comes first. */
#define LOW(index)  (offsetof(struct seccomp_data, args) + (index) * sizeof(uint64_t))
#define HIGH(index) (LOW(index) + sizeof(uint32_t))

/* Go on when the word at OFFSET is VALUE; otherwise skip the LEFT instructions up to the pass. */
#define UNLESS(offset, value, left)                                                            \
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(offset)),                                    \
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), 0, (left))

void
cli_run_drop_advice(uint64_t memory_bytes, bool setuid)
{
    struct sock_filter steps[] = {
        UNLESS(offsetof(struct seccomp_data, arch), ARCHITECTURE, 9),
        UNLESS(offsetof(struct seccomp_data, nr), SYS_madvise, 7),
        UNLESS(LOW(2), MADV_HUGEPAGE, 5),
        UNLESS(LOW(1), memory_bytes, 3),
        UNLESS(HIGH(1), memory_bytes >> 32, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog filter = {ARRAY_LEN(steps), steps};
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0 || errno != EACCES || setuid)
        return;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
        (void)prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}

#else

void
cli_run_drop_advice(uint64_t memory_bytes, bool setuid)
{
    (void)memory_bytes;
    (void)setuid;
}

#endif
