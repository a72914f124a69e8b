/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bus.c - the handler maps a page of zeros over the one that is gone, which it may do: mmap is a
 * bare system call. The flags are the thread's own, and were touched by it before it is armed, so
 * that the handler's access allocates nothing.
 */
#include "node/bus.h"

#include "base/err.h"
#include "base/size.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>

static _Thread_local volatile sig_atomic_t armed;
static _Thread_local volatile sig_atomic_t lost;

static void
replace_page(int number, siginfo_t *info, void *context)
{
    (void)context;
    uintptr_t page = (uintptr_t)info->si_addr & ~(uintptr_t)(DOR_PAGE_BYTES - 1);
    void *mapped = MAP_FAILED;
    if (armed && info->si_code == BUS_ADRERR)
        mapped = mmap(
            (void *)page, DOR_PAGE_BYTES, PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (mapped == MAP_FAILED) {
        /* Returning repeats the access, which then ends the process. */
        signal(number, SIG_DFL);
        return;
    }
    lost = true;
}

void
node_bus_install(void)
{
    struct sigaction action = {.sa_sigaction = replace_page, .sa_flags = SA_SIGINFO};
    sigaction(SIGBUS, &action, NULL);
}

void
node_bus_begin(void)
{
    /* Threads begin with all signals blocked, and a blocked SIGBUS is deadly. */
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGBUS);
    pthread_sigmask(SIG_UNBLOCK, &wanted, NULL);
    lost = false;
    armed = true;
}

void
node_bus_end(void)
{
    armed = false;
}

int
node_bus_check(void)
{
    if (!lost)
        return 0;
    return dor_fail(
        DOR_E_IO, "a page cannot be read; is the file being cut, or is its disk damaged?");
}
