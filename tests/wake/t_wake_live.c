/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_wake_live.c - memory that is written to all the time is stored as it was at one moment, to the
 * word, and its owner is none the worse: whatever its memory is, whichever way is taken, whoever
 * dies meanwhile.
 */
#include "writer.h"

#include <dormouse/store.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/syscall.h>

enum { PAGES_EACH = 1024, ROUNDS = 3 };

static uint64_t random_state;

static uint64_t
next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static bool
can_mark(void)
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* ------------------------------------------------------------------ one moment */

/* All pages of the row, in steps of random size and order, some of them twice. */
static int
read_all(const struct dor_page_source *source, uint8_t *pages)
{
    enum { STEP = 64 };
    size_t steps = source->page_count / STEP;
    for (unsigned again = 0; again < 2; again++) {
        for (size_t i = 0; i < steps; i++) {
            size_t step = again == 0 ? i : next_random() % steps;
            uint8_t buf[STEP * WRITER_PAGE_BYTES];
            int rc = source->read(source->context, step * STEP, STEP, buf);
            if (rc != 0)
                return rc;
            if (again != 0 && memcmp(pages + step * sizeof buf, buf, sizeof buf) != 0)
                return DOR_E_CORRUPT;
            memcpy(pages + step * sizeof buf, buf, sizeof buf);
        }
    }
    return 0;
}

static bool
is_one_moment(const uint8_t *pages, size_t pages_each)
{
    bool good = true;
    for (unsigned i = 0; i < WRITER_THREADS; i++)
        good = good &&
               writer_in_order(
                   (const uint64_t *)(const void *)(pages + i * pages_each * WRITER_PAGE_BYTES),
                   pages_each * WRITER_PAGE_WORDS);
    return good;
}

static int
pause_threads(void *context)
{
    struct writer *writer = context;
    atomic_store(&writer->shared->park, true);
    while (atomic_load(&writer->shared->parked) < WRITER_THREADS)
        usleep(100);
    return 0;
}

static void
resume_threads(void *context)
{
    struct writer *writer = context;
    atomic_store(&writer->shared->park, false);
    while (atomic_load(&writer->shared->parked) > 0)
        usleep(100);
}

static int
open_live(struct writer *writer, enum dor_live_way way, struct dor_live **ret)
{
    struct dor_live_options options = {
        .way = way, .pause = pause_threads, .resume = resume_threads, .context = writer};
    if (writer->pid == 0)
        return dor_live_open_self(writer->ranges, WRITER_THREADS, &options, ret);
    return dor_live_open_process(writer->pid, writer->ranges, WRITER_THREADS, &options, ret);
}

/* The owner's memory is what it wrote, and it goes on writing. */
static void
check_owner(struct writer *writer, const char *name)
{
    uint64_t before = atomic_load(&writer->shared->rounds[0]);
    writer_wait_round(writer, 2);
    ok(atomic_load(&writer->shared->rounds[0]) >= before + 2, "%s: its owner goes on", name);
    if (writer->pid == 0)
        return;
    atomic_store(&writer->shared->own_result, 0);
    atomic_store(&writer->shared->ask_own, true);
    for (unsigned i = 0; i < 60000 && atomic_load(&writer->shared->own_result) == 0; i++)
        usleep(1000);
    is_int(
        atomic_load(&writer->shared->own_result), 1, "%s: its memory is as it wrote it", name);
}

static void
test_moment(struct writer *writer, enum dor_live_way way, bool settle, const char *name)
{
    struct dor_live *live = NULL;
    struct dor_live_stat stat;
    uint8_t *pages = malloc(WRITER_THREADS * PAGES_EACH * WRITER_PAGE_BYTES);
    uint64_t before = atomic_load(&writer->shared->rounds[1]);
    if (!is_ok(open_live(writer, way, &live), "%s: opens", name) || pages == NULL)
        bail("cannot go on");
    uint64_t after = atomic_load(&writer->shared->rounds[1]);
    /* The owner writes all of it again before a page is read. */
    writer_wait_round(writer, 2);
    int fd = -1;
    if (settle)
        is_ok(dor_live_settle(live, &fd), "%s: settles", name);
    is_ok(read_all(dor_live_source(live), pages), "%s: is read, and twice the same", name);
    ok(is_one_moment(pages, PAGES_EACH), "%s: is one moment", name);
    uint64_t first = *(const uint64_t *)(const void *)(pages + PAGES_EACH * WRITER_PAGE_BYTES);
    ok(first >= before + 1 && first <= after + 1, "%s: is the moment of opening", name);
    if (settle)
        ok(pread(fd, pages, WRITER_PAGE_BYTES, 0) == WRITER_PAGE_BYTES, "%s: has a file", name);
    dor_live_stat(live, &stat);
    is_int(stat.way, way, "%s: is done in this way", name);
    ok(stat.pause_ns > 0, "%s: stood still for %" PRIu64 " us", name, stat.pause_ns / 1000);
    if (way == DOR_LIVE_MARK)
        ok(stat.faults > 0 && stat.saved_pages > 0, "%s: pages were saved before writes", name);
    dor_live_close(live);
    check_owner(writer, name);
    free(pages);
}

static void
test_kinds(bool process)
{
    static const char *const memories[] = {"anonymous", "huge", "shared"};
    char name[100];
    for (unsigned memory = 0; memory < WRITER_MEMORIES; memory++) {
        struct writer writer;
        writer_map(&writer, (enum writer_memory)memory, PAGES_EACH);
        writer_start(&writer, process);
        for (unsigned round = 0; round < ROUNDS; round++) {
            for (unsigned settle = 0; settle < 2; settle++) {
                snprintf(
                    name, sizeof name, "%s %s memory %s", process ? "another's" : "own",
                    memories[memory], settle ? "settled" : "as it is");
                if (can_mark())
                    test_moment(&writer, DOR_LIVE_MARK, settle != 0, name);
                else
                    skip("userfaultfd is not allowed here", name);
            }
            snprintf(
                name, sizeof name, "%s %s memory copied", process ? "another's" : "own",
                memories[memory]);
            test_moment(&writer, DOR_LIVE_COPY, false, name);
        }
        writer_stop(&writer);
    }
}

/* ------------------------------------------------------------------ a put of it */

static void
test_put(void)
{
    struct writer writer;
    struct dor_store *store = NULL;
    struct dor_snapshot *snapshot = NULL;
    struct dor_live *live = NULL;
    struct dor_put_result result;
    writer_map(&writer, WRITER_ANON, PAGES_EACH);
    writer_start(&writer, true);
    if (dor_store_open_memory(NULL, &store) != 0 ||
        open_live(&writer, DOR_LIVE_AUTO, &live) != 0)
        bail("%s", dor_err_message());
    struct dor_put put = {.source = dor_live_source(live)};
    is_ok(dor_store_put(store, "live", &put, &result), "live memory is put as it is");
    dor_live_close(live);
    is_ok(dor_snapshot_open(store, "live", &snapshot), "and is a snapshot");
    uint8_t *pages = malloc(2 * PAGES_EACH * WRITER_PAGE_BYTES);
    bool good = pages != NULL && snapshot != NULL;
    for (uint64_t i = 0; good && i < 2 * PAGES_EACH; i++)
        good = dor_snapshot_read_page(snapshot, i, pages + i * WRITER_PAGE_BYTES) == 0;
    ok(good && is_one_moment(pages, PAGES_EACH), "of one moment");
    free(pages);
    dor_snapshot_close(snapshot);
    dor_store_close(store);
    writer_stop(&writer);
}

/* ------------------------------------------------------------------ losses */

/* A child that does ACT to two megabytes when it is told to. */
static void
test_loss(const char *name, void (*act)(uint8_t *), bool settled, int want)
{
    enum { PAGES = 512 };
    struct dor_live *live = NULL;
    uint8_t page[WRITER_PAGE_BYTES];
    int go[2];
    int done[2];
    uint8_t *map = mmap(
        NULL, PAGES * WRITER_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
        -1, 0);
    if (map == MAP_FAILED || pipe(go) != 0 || pipe(done) != 0)
        bail("no memory");
    memset(map, 0x5a, PAGES * WRITER_PAGE_BYTES);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        char byte;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (read(go[0], &byte, 1) == 1)
            act(map);
        close(done[1]);
        pause();
        _exit(0);
    }
    close(done[1]);
    struct dor_live_range range = {(uintptr_t)map, PAGES * WRITER_PAGE_BYTES};
    struct dor_live_options options = {.way = DOR_LIVE_MARK};
    if (dor_live_open_process(pid, &range, 1, &options, &live) != 0)
        bail("%s", dor_err_message());
    const struct dor_page_source *source = dor_live_source(live);
    int fd;
    is_ok(source->read(source->context, 100, 1, page), "%s: before it", name);
    if (settled)
        is_ok(dor_live_settle(live, &fd), "%s: settled before it", name);
    ok(write(go[1], "x", 1) == 1, "%s: now", name);
    /* Its end is closed when it has acted, or with it. */
    struct pollfd acted = {.fd = done[0], .events = POLLIN};
    ok(poll(&acted, 1, 60000) == 1, "%s: is done", name);
    int got = source->read(source->context, 100, 1, page);
    is_int(got, want, "%s: %s", name, want == 0 ? "no harm is done" : "the moment is lost");
    if (got == 0)
        ok(page[0] == 0x5a && page[4095] == 0x5a, "%s: the page is as it was", name);
    dor_live_close(live);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    munmap(map, PAGES * WRITER_PAGE_BYTES);
    close(go[0]);
    close(go[1]);
    close(done[0]);
}

static void
discard(uint8_t *map)
{
    madvise(map + 100 * WRITER_PAGE_BYTES, WRITER_PAGE_BYTES, MADV_DONTNEED);
}

static void
unmap(uint8_t *map)
{
    munmap(map, 512 * WRITER_PAGE_BYTES);
}

static void
move(uint8_t *map)
{
    /* Somewhere else for sure: where something was mapped before. */
    size_t size_bytes = 512 * WRITER_PAGE_BYTES;
    void *there = mmap(NULL, size_bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint8_t *to = mremap(map, size_bytes, size_bytes, MREMAP_MAYMOVE | MREMAP_FIXED, there);
    if (to != MAP_FAILED)
        memset(to, 1, size_bytes);
}

static void
fork_again(uint8_t *map)
{
    if (fork() == 0) {
        memset(map, 1, 512 * WRITER_PAGE_BYTES);
        _exit(0);
    }
    memset(map, 2, 512 * WRITER_PAGE_BYTES);
}

static void
end(uint8_t *map)
{
    (void)map;
    _exit(0);
}

static void
read_into(uint8_t *map)
{
    /* The kernel writes, not the program. */
    int fd = open("/dev/zero", O_RDONLY);
    if (read(fd, map, 512 * WRITER_PAGE_BYTES) < 0)
        _exit(1);
}

static void
test_losses(void)
{
    test_loss("memory given back", discard, false, DOR_E_BUSY);
    test_loss("memory given back that was saved", discard, true, 0);
    test_loss("memory unmapped", unmap, false, DOR_E_BUSY);
    test_loss("memory unmapped that was saved", unmap, true, 0);
    test_loss("memory moved", move, false, DOR_E_BUSY);
    test_loss("a fork", fork_again, false, 0);
    test_loss("a read() into it", read_into, false, 0);
    test_loss("an end after all was saved", end, true, 0);
}

/* What was not saved is lost with its owner; if all was, it is whole. */
static void
test_end(void)
{
    struct writer writer;
    struct dor_live *live = NULL;
    uint8_t *pages = malloc(WRITER_THREADS * PAGES_EACH * WRITER_PAGE_BYTES);
    writer_map(&writer, WRITER_ANON, PAGES_EACH);
    writer_start(&writer, true);
    if (pages == NULL || open_live(&writer, DOR_LIVE_AUTO, &live) != 0)
        bail("%s", dor_err_message());
    kill(writer.pid, SIGKILL);
    waitpid(writer.pid, NULL, 0);
    writer.pid = 0;
    const struct dor_page_source *source = dor_live_source(live);
    int rc = 0;
    for (uint64_t i = 0; rc == 0 && i < source->page_count; i++)
        rc = source->read(source->context, i, 1, pages + i * WRITER_PAGE_BYTES);
    ok(rc == DOR_E_NOT_FOUND || rc == DOR_E_BUSY ||
           (rc == 0 && is_one_moment(pages, PAGES_EACH)),
       "an owner that is killed is an error, not zeros");
    dor_live_close(live);
    ok(true, "and closing ends");
    free(pages);
}

/* Whoever reads is killed: the owner goes on by itself. */
static void
test_killed(void)
{
    struct writer writer;
    writer_map(&writer, WRITER_ANON, PAGES_EACH);
    writer_start(&writer, true);
    for (unsigned i = 0; i < 20; i++) {
        fflush(stdout);
        pid_t reader = fork();
        if (reader == 0) {
            struct dor_live *live = NULL;
            int fd;
            for (;;) {
                if (open_live(&writer, i % 2 ? DOR_LIVE_AUTO : DOR_LIVE_COPY, &live) != 0 ||
                    dor_live_settle(live, &fd) != 0)
                    _exit(1);
                dor_live_close(live);
            }
        }
        usleep((useconds_t)(next_random() % 30000));
        kill(reader, SIGKILL);
        waitpid(reader, NULL, 0);
    }
    check_owner(&writer, "readers killed at any moment");
    writer_stop(&writer);
}

/* No signal is lost, however often its process is stopped. */
static void
test_signals(void)
{
    struct writer writer;
    uint64_t sent = 0;
    writer_map(&writer, WRITER_ANON, 64);
    writer_start(&writer, true);
    for (unsigned i = 0; i < 50; i++) {
        struct dor_live *live = NULL;
        uint64_t before = atomic_load(&writer.shared->signals);
        kill(writer.pid, SIGUSR1);
        sent++;
        if (open_live(&writer, i % 2 ? DOR_LIVE_AUTO : DOR_LIVE_COPY, &live) != 0)
            bail("%s", dor_err_message());
        dor_live_close(live);
        for (unsigned k = 0; k < 60000 && atomic_load(&writer.shared->signals) == before; k++)
            usleep(1000);
    }
    is_int(atomic_load(&writer.shared->signals), sent, "every signal arrived, once");
    writer_stop(&writer);
}

static void
test_bad_arguments(void)
{
    struct dor_live *live = NULL;
    struct dor_live_range twice[] = {{0x10000, 0x2000}, {0x11000, 0x1000}};
    struct dor_live_range odd = {0x10001, 0x1000};
    struct dor_live_range empty = {0x10000, 0};
    struct dor_live_range nowhere = {0x10000, 0x1000};
    struct dor_live_range beyond = {UINT64_MAX - 0xfff, 0x1000};
    int rc = dor_live_open_self(twice, 2, NULL, &live);
    is_int(rc, DOR_E_USAGE, "ranges that overlap");
    is_int(dor_live_open_self(&odd, 1, NULL, &live), DOR_E_USAGE, "ranges of half pages");
    is_int(dor_live_open_self(&empty, 1, NULL, &live), DOR_E_USAGE, "empty ranges");
    is_int(dor_live_open_self(&beyond, 1, NULL, &live), DOR_E_USAGE, "ranges beyond the end");
    is_int(dor_live_open_self(NULL, 0, NULL, &live), DOR_E_USAGE, "no ranges");
    ok(dor_live_open_self(&nowhere, 1, NULL, &live) != 0, "ranges where nothing is");
    rc = dor_live_open_process(getpid(), &nowhere, 1, NULL, &live);
    is_int(rc, DOR_E_USAGE, "this process as another");
    rc = dor_live_open_process(1 << 22, NULL, 0, NULL, &live);
    is_int(rc, DOR_E_NOT_FOUND, "a process that is not there");
    rc = dor_live_open_memory_file(getpid(), 12345, &live);
    is_int(rc, DOR_E_NOT_FOUND, "a descriptor that is not there");
}

int
main(void)
{
    random_state = tap_seed() | 1;
    test_bad_arguments();
    test_kinds(false);
    test_kinds(true);
    test_put();
    if (can_mark())
        test_losses();
    test_end();
    test_killed();
    test_signals();
    return done_testing();
}
