/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_wake_live_faults.c - memory in use is taken while any allocation or file call fails: it is as
 * it was at its moment or there is an error, and its owner goes on writing either way.
 */
#include <dormouse/live.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "wake/faults.h"

enum { PAGES = 200, PAGE_BYTES = 4096, SECONDS_MAX = 100, MOMENTS_MAX = 20000 };

static uint8_t *memory;           /* its owner writes all of it whenever it is asked to */
static _Atomic uint64_t *beats;   /* of the owner, shared */
static _Atomic uint64_t *written; /* the round that was asked for; the owner's answer */
static pid_t owner;
static int memory_fd;

struct how {
    enum dor_live_way way;
    bool settle, self, file;
};

static uint8_t
byte_of(uint64_t round, unsigned page)
{
    return (uint8_t)(round * 7 + page);
}

static void
fill(uint64_t round)
{
    for (unsigned page = 0; page < PAGES; page++)
        memset(memory + (size_t)page * PAGE_BYTES, byte_of(round, page), PAGE_BYTES);
}

static bool
is_round(const uint8_t *pages, uint64_t round)
{
    bool same = true;
    for (unsigned page = 0; page < PAGES; page++) {
        const uint8_t *bytes = pages + (size_t)page * PAGE_BYTES;
        same = same && bytes[0] == byte_of(round, page) &&
               memcmp(bytes, bytes + 1, PAGE_BYTES - 1) == 0;
    }
    return same;
}

static uint64_t round_now;

/* All of the memory is written again by its owner; false when it does not come to it. */
static bool
write_all(bool self)
{
    round_now++;
    if (self) {
        fill(round_now);
        return true;
    }
    atomic_store(&written[0], round_now);
    for (unsigned i = 0; i < MOMENTS_MAX && atomic_load(&written[1]) != round_now; i++)
        usleep(1000);
    return atomic_load(&written[1]) == round_now;
}

static bool
goes_on(void)
{
    uint64_t before = atomic_load(beats);
    for (unsigned i = 0; i < MOMENTS_MAX && atomic_load(beats) == before; i++)
        usleep(1000);
    return atomic_load(beats) != before;
}

static int
open_live(const struct how *how, struct dor_live **ret)
{
    const struct dor_live_range range = {(uintptr_t)memory, (uint64_t)PAGES * PAGE_BYTES};
    const struct dor_live_options options = {.way = how->way};
    if (how->file)
        return dor_live_open_memory_file(owner, memory_fd, ret);
    return how->self ? dor_live_open_self(&range, 1, &options, ret)
                     : dor_live_open_process(owner, &range, 1, &options, ret);
}

/* *RET: whether it is the memory at the moment of opening. */
static int
read_live(const struct how *how, struct dor_live *live, uint64_t round, bool *ret)
{
    static uint8_t pages[(size_t)PAGES * PAGE_BYTES];
    const struct dor_page_source *source = dor_live_source(live);
    int rc = 0;
    int fd = -1;
    if (how->settle)
        rc = dor_live_settle(live, &fd);
    if (rc == 0)
        rc = source->read(source->context, 0, PAGES, pages);
    *ret = rc != 0 || is_round(pages, round);
    return rc;
}

static int
use_live(const void *context)
{
    const struct how *how = context;
    struct dor_live *live = NULL;
    bool same = true;
    bool well = write_all(how->self);
    uint64_t round = round_now;
    int rc = open_live(how, &live);
    /* The owner writes to all of it before it is read. */
    well = well && write_all(how->self);
    if (rc == 0)
        rc = read_live(how, live, round, &same);
    dor_live_close(live);
    well = well && write_all(how->self) && (how->self || goes_on());
    return well && same ? rc : FAULT_RUN_WRONG;
}

_Noreturn static void
be_owner(void)
{
    uint64_t done = 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        atomic_fetch_add(beats, 1);
        uint64_t asked = atomic_load(&written[0]);
        if (asked != done)
            fill(asked);
        atomic_store(&written[1], done = asked);
        usleep(100);
    }
}

static void *
map_shared(size_t size_bytes, int fd)
{
    int flags = MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0);
    void *map = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (map == MAP_FAILED)
        bail("no memory");
    return map;
}

/* Another process with its own memory, or with that of a file when FD is one. */
static void
start_owner(int fd)
{
    size_t size_bytes = (size_t)PAGES * PAGE_BYTES;
    memory_fd = fd;
    memory = fd >= 0 ? map_shared(size_bytes, fd)
                     : mmap(
                           NULL, size_bytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        bail("no memory");
    fflush(stdout);
    owner = fork();
    if (owner == 0)
        be_owner();
    if (owner < 0)
        bail("no process");
}

static void
stop_owner(void)
{
    kill(owner, SIGKILL);
    waitpid(owner, NULL, 0);
    munmap(memory, (size_t)PAGES * PAGE_BYTES);
}

static bool
can_mark(void)
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static void
test_ways(bool self, const char *whose)
{
    char name[100];
    for (unsigned settle = 0; settle < 2; settle++) {
        struct how how = {.way = DOR_LIVE_MARK, .settle = settle != 0, .self = self};
        snprintf(name, sizeof name, "%s memory marked%s", whose, settle ? ", settled" : "");
        if (can_mark())
            try_faults(use_live, &how, name);
        else
            skip("userfaultfd is not allowed here", name);
    }
    struct how how = {.way = DOR_LIVE_COPY, .self = self};
    snprintf(name, sizeof name, "%s memory copied", whose);
    try_faults(use_live, &how, name);
}

int
main(void)
{
    /* An owner that waits for a mark that nobody takes away would wait for ever. */
    alarm(SECONDS_MAX);
    beats = map_shared(PAGE_BYTES, -1);
    written = (_Atomic uint64_t *)beats + 1;
    start_owner(-1);
    test_ways(true, "own");
    test_ways(false, "another's");
    stop_owner();

    int fd = memfd_create("memory", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)PAGES * PAGE_BYTES) != 0)
        bail("no memory file");
    start_owner(fd);
    const struct how how = {.file = true};
    try_faults(use_live, &how, "a memory file");
    stop_owner();
    close(fd);
    return done_testing();
}
