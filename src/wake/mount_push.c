/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mount_push.c - the working set of mounted memory: pushed into the page cache ahead of the reads
 * that would fetch it, and learnt from the reads that came.
 *
 * A wake begins with the first handle of a memory file and ends with the last, or when no read
 * has come for a while. While the page cache has what is needed, no read comes and nothing is
 * pushed; the first read starts the pusher, a thread beside the workers. In a mount of one guest
 * the page cache is known to be empty, so there the pusher starts at once.
 *
 *     opened ---> ARMED --first read--> push the working set      (thread)
 *            \--> RECORDING --quiet, or the last handle closed--> learn   (thread)
 *
 * What is learnt are reads, which are more than what was touched where the kernel reads ahead,
 * which in a mount of one guest it does not. A wake
 * teaches nothing when it was a copy of the file rather than a guest, or when the page cache was
 * warm, so that what was needed was not all asked for.
 */
#include "wake/mount_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/size.h"

#define NS_PER_S      UINT64_C(1000000000)
#define QUIET_NS      (2 * NS_PER_S) /* without a read, and a wake is over */
#define PUSH_AGAIN_NS (5 * NS_PER_S) /* after the last push, while others have the file open */

enum { BEGIN_RUNS = 16 };

/* What the disk is asked for before each batch. */
#define AHEAD_BYTES (UINT64_C(2) << 20)

/* ------------------------------------------------------------------ the handles' side */

void
wake_mount_push_opened(struct dor_mount *mount, struct mount_snapshot *snapshot)
{
    uint64_t now = base_clock_monotonic_ns();
    base_mutex_lock(&mount->lock);
    bool first = snapshot->memory_opens++ == 0;
    if (first || now - snapshot->pushed_ns > PUSH_AGAIN_NS)
        atomic_store(&snapshot->armed, true);
    /* Nobody else has a handle to note by, and the thread is done with the last wake. */
    if (first && !snapshot->learn_wanted && !snapshot->learning) {
        wake_recorder_free(TAKE(snapshot->recorder));
        snapshot->pushed = false;
        atomic_store(&snapshot->read_pages, 0);
        atomic_store(&snapshot->last_read_ns, now);
        /* Without memory for it nothing is learnt from this wake. */
        if (wake_recorder_new(snapshot->wake, &snapshot->recorder) == 0) {
            if (mount->options.one_guest)
                wake_recorder_set_exact(snapshot->recorder);
            atomic_store(&snapshot->recording, true);
        }
    }
    if (mount->options.one_guest && atomic_exchange(&snapshot->armed, false)) {
        snapshot->push_wanted = true;
        base_condition_wake_all(&mount->push.wake);
    }
    base_mutex_unlock(&mount->lock);
}

void
wake_mount_push_closed(struct dor_mount *mount, struct mount_snapshot *snapshot)
{
    base_mutex_lock(&mount->lock);
    bool last = --snapshot->memory_opens == 0;
    /* The last handle's use of the pages goes over to the thread. */
    bool learn = last && atomic_exchange(&snapshot->recording, false) && !mount->push.stop;
    if (learn) {
        snapshot->learn_wanted = true;
        snapshot->users++;
        base_condition_wake_all(&mount->push.wake);
    }
    base_mutex_unlock(&mount->lock);
    if (!learn)
        wake_mount_pages_close(snapshot);
}

void
wake_mount_push_read(
    struct dor_mount *mount, struct mount_snapshot *snapshot, uint64_t first_page,
    unsigned page_count)
{
    if (atomic_load_explicit(&snapshot->armed, memory_order_relaxed) &&
        atomic_exchange(&snapshot->armed, false)) {
        base_mutex_lock(&mount->lock);
        snapshot->push_wanted = true;
        base_condition_wake_all(&mount->push.wake);
        base_mutex_unlock(&mount->lock);
    }
    if (!atomic_load(&snapshot->recording))
        return;
    if (atomic_fetch_add(&snapshot->read_pages, page_count) == 0)
        atomic_store(&snapshot->first_read_page, first_page);
    atomic_store(&snapshot->last_read_ns, base_clock_monotonic_ns());
    for (unsigned i = 0; i < page_count; i++)
        wake_recorder_note(snapshot->recorder, first_page + i);
}

void
wake_mount_push_forget(struct mount_snapshot *snapshot)
{
    atomic_store(&snapshot->recording, false);
}

void
wake_mount_push_drop(struct dor_mount *mount, struct mount_snapshot *snapshot)
{
    base_mutex_lock(&mount->lock);
    snapshot->drop_wanted = true;
    base_condition_wake_all(&mount->push.wake);
    base_mutex_unlock(&mount->lock);
}

/* ------------------------------------------------------------------ pushing */

static fuse_ino_t
memory_inode(const struct mount_snapshot *snapshot)
{
    return (snapshot->info.id + 1) << MOUNT_NODE_BITS | MOUNT_NODE_MEMORY;
}

/* Pages that are next to be pushed. */
struct batch {
    uint64_t pages[WAKE_WINDOW_PAGES];
    unsigned count;
};

/* Store COUNT pages of the window from AT on, which follow each other in the file. */
static int
store_stretch(
    struct dor_mount *mount, const struct mount_snapshot *snapshot, const struct batch *batch,
    const struct wake_window *window, unsigned at, unsigned count)
{
    size_t size_bytes = count * DOR_PAGE_BYTES;
    struct fuse_bufvec bytes = FUSE_BUFVEC_INIT(size_bytes);
    bytes.buf[0].mem = mount->push.bounce;
    for (unsigned i = 0; i < count; i++) {
        uint8_t *to = mount->push.bounce + i * DOR_PAGE_BYTES;
        if (window->pages[at + i] == NULL)
            memset(to, 0, DOR_PAGE_BYTES);
        else
            memcpy(to, window->pages[at + i], DOR_PAGE_BYTES);
    }
    return fuse_lowlevel_notify_store(
        mount->serving, memory_inode(snapshot), (off_t)(batch->pages[at] * DOR_PAGE_BYTES),
        &bytes, 0);
}

static int
compare_pages(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/*
 * False when there is nothing more to be done. Within a batch the order of need gives way to that
 * of the file: fewer and longer stretches.
 */
static bool
push_batch(struct dor_mount *mount, const struct mount_snapshot *snapshot, struct batch *batch)
{
    struct wake_window window;
    qsort(batch->pages, batch->count, sizeof *batch->pages, compare_pages);
    int error =
        wake_pages_get(mount->push.pages, snapshot->wake, batch->pages, batch->count, &window);
    if (error != 0)
        return false; /* who needs such a page hears of it */
    for (unsigned at = 0; error == 0 && at < batch->count;) {
        unsigned end = at + 1;
        while (end < batch->count && batch->pages[end] == batch->pages[end - 1] + 1)
            end++;
        error = store_stretch(mount, snapshot, batch, &window, at, end - at);
        at = end;
    }
    wake_window_release(mount->push.pages, &window);
    batch->count = 0;
    return error == 0 && !atomic_load(&mount->stopping);
}

static void
push(struct dor_mount *mount, struct mount_snapshot *snapshot)
{
    const struct wake_run *runs;
    size_t run_count;
    struct batch batch = {.count = 0};
    uint64_t page_count = wake_snapshot_page_count(snapshot->wake);
    size_t place = 0;
    wake_snapshot_working_set(snapshot->wake, &runs, &run_count);
    wake_snapshot_read_ahead(snapshot->wake, AHEAD_BYTES, &place);
    for (size_t i = 0; i < run_count; i++)
        for (uint64_t p = 0; p < runs[i].page_count; p++) {
            if (runs[i].first_page + p >= page_count)
                break;
            batch.pages[batch.count++] = runs[i].first_page + p;
            if (batch.count < WAKE_WINDOW_PAGES)
                continue;
            wake_snapshot_read_ahead(snapshot->wake, AHEAD_BYTES, &place);
            if (!push_batch(mount, snapshot, &batch))
                return;
        }
    if (batch.count > 0)
        (void)push_batch(mount, snapshot, &batch);
}

/* ------------------------------------------------------------------ learning */

/* Whether the first read was of what earlier wakes began with: then the page cache was empty. */
static bool
began_cold(const struct dor_mount *mount, const struct mount_snapshot *snapshot)
{
    const struct wake_run *runs;
    size_t run_count;
    uint64_t page = atomic_load(&snapshot->first_read_page);
    if (mount->options.one_guest)
        return true;
    wake_snapshot_working_set(snapshot->wake, &runs, &run_count);
    if (run_count == 0)
        return true;
    for (size_t i = 0; snapshot->pushed && i < base_min_size(run_count, BEGIN_RUNS); i++)
        if (runs[i].first_page < page + WAKE_WINDOW_PAGES &&
            page < runs[i].first_page + runs[i].page_count)
            return true;
    return false;
}

static void
learn(const struct dor_mount *mount, struct mount_snapshot *snapshot)
{
    uint64_t read_pages = atomic_load(&snapshot->read_pages);
    /* The recorder is gone when the wake has ended before this thread had the pages open. */
    if (snapshot->recorder == NULL)
        return;
    /* Whoever reads more than half of it copies it. */
    if (read_pages > 0 && read_pages <= wake_snapshot_page_count(snapshot->wake) / 2 &&
        began_cold(mount, snapshot))
        wake_snapshot_learn(snapshot->wake, snapshot->recorder);
}

/* ------------------------------------------------------------------ the thread */

enum job { JOB_NONE, JOB_PUSH, JOB_DROP, JOB_LEARN, JOB_LEARN_LAST };

static enum job
job_of_locked(struct mount_snapshot *snapshot, uint64_t now, bool stop)
{
    uint64_t quiet_since = atomic_load(&snapshot->last_read_ns) + QUIET_NS;
    if (snapshot->drop_wanted) {
        snapshot->drop_wanted = false;
        return JOB_DROP;
    }
    if (snapshot->learn_wanted) {
        snapshot->learn_wanted = false;
        snapshot->learning = true;
        return JOB_LEARN_LAST;
    }
    if (snapshot->push_wanted) {
        snapshot->push_wanted = false;
        return JOB_PUSH;
    }
    if (atomic_load(&snapshot->recording) && atomic_load(&snapshot->read_pages) > 0 &&
        (stop || now > quiet_since)) {
        atomic_store(&snapshot->recording, false);
        snapshot->learning = true;
        return JOB_LEARN;
    }
    return JOB_NONE;
}

static enum job
find_job_locked(struct dor_mount *mount, struct mount_snapshot **ret)
{
    uint64_t now = base_clock_monotonic_ns();
    for (size_t chain = 0; chain < MOUNT_CHAINS; chain++)
        for (struct mount_snapshot *at = mount->chains[chain]; at != NULL; at = at->next) {
            enum job job = job_of_locked(at, now, mount->push.stop);
            if (job == JOB_NONE)
                continue;
            if (job != JOB_LEARN_LAST)
                at->users++;
            *ret = at;
            return job;
        }
    return JOB_NONE;
}

static void
push_now(struct dor_mount *mount, struct mount_snapshot *snapshot)
{
    base_mutex_lock(&mount->lock);
    snapshot->pushed = true;
    base_mutex_unlock(&mount->lock);
    push(mount, snapshot);
    base_mutex_lock(&mount->lock);
    snapshot->pushed_ns = base_clock_monotonic_ns();
    base_mutex_unlock(&mount->lock);
}

/* The last handle of a wake has left its use of the pages to this thread. */
static int
open_for(struct dor_mount *mount, struct mount_snapshot *snapshot, enum job job)
{
    return job == JOB_LEARN_LAST ? 0 : wake_mount_pages_open(mount, snapshot);
}

static void
do_job(struct dor_mount *mount, struct mount_snapshot *snapshot, enum job job)
{
    if (job == JOB_DROP) {
        fuse_lowlevel_notify_inval_inode(mount->serving, memory_inode(snapshot), 0, 0);
        return;
    }
    bool open = open_for(mount, snapshot, job) == 0;
    if (open && job == JOB_PUSH)
        push_now(mount, snapshot);
    else if (open)
        learn(mount, snapshot);
    if (job != JOB_PUSH) {
        base_mutex_lock(&mount->lock);
        snapshot->learning = false;
        base_mutex_unlock(&mount->lock);
    }
    if (open)
        wake_mount_pages_close(snapshot);
}

static void
run(void *context)
{
    struct dor_mount *mount = context;
    struct mount_snapshot *snapshot;
    base_mutex_lock(&mount->lock);
    for (;;) {
        enum job job = find_job_locked(mount, &snapshot);
        if (job != JOB_NONE) {
            base_mutex_unlock(&mount->lock);
            do_job(mount, snapshot, job);
            wake_mount_release(mount, snapshot);
            base_mutex_lock(&mount->lock);
        } else if (mount->push.stop) {
            break;
        } else {
            (void)base_condition_wait_until(
                &mount->push.wake, &mount->lock, base_clock_monotonic_ns() + NS_PER_S);
        }
    }
    base_mutex_unlock(&mount->lock);
}

int
wake_mount_push_start(struct dor_mount *mount)
{
    struct mount_pusher *pusher = &mount->push;
    pusher->bounce = base_alloc_pages(WAKE_WINDOW_PAGES);
    int err = pusher->bounce == NULL ? DOR_E_NO_MEMORY
                                     : wake_worker_new(mount->server, &pusher->pages);
    if (err == 0)
        err = base_thread_start(&pusher->thread, "mount-push", run, mount);
    pusher->started = err == 0;
    return err;
}

void
wake_mount_push_stop(struct dor_mount *mount)
{
    struct mount_pusher *pusher = &mount->push;
    base_mutex_lock(&mount->lock);
    pusher->stop = true;
    base_condition_wake_all(&pusher->wake);
    base_mutex_unlock(&mount->lock);
    if (pusher->started)
        base_thread_join(&pusher->thread);
    wake_worker_free(pusher->pages);
    base_free(pusher->bounce);
}
