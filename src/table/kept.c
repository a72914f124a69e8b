/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kept.c - the front's side of a table that outlives its processes. The order of the steps of a
 * snapshot is in docs/formats/table-log.md; whatever fails in it, the manifest and the logs that
 * it names stay, and the next snapshot begins anew.
 */
#include "table/kept.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/size.h"
#include "base/thread.h"
#include "table/log_read.h"
#include "table/manifest.h"
#include "table/mark.h"

#define SNAPSHOT_BYTES   (UINT64_C(64) << 20)
#define SNAPSHOT_PERCENT 100
#define RETRY_NS         UINT64_C(10000000000)
#define NAME_BYTES       256

enum state { IDLE, ASKED, PUTTING };

struct table_kept {
    char *tenant, *domain;
    struct dor_table_keeper *keeper;
    uint64_t snapshot_bytes;
    unsigned snapshot_percent;
    int directory, lock;
    struct table_manifest manifest;
    int log_fd;
    uint64_t
        log_number; /* of log_fd; those between the manifest's and this one are there too */
    struct table_fill *fill;
    uint64_t table_bytes; /* of the last snapshot */
    bool wanted, replayed;
    int last_error;
    uint64_t next_try_ns;

    enum state state;
    int next_fd, mark_fd;
    uint64_t next_number;

    /* The thread's, while the state is PUTTING. */
    struct base_thread thread;
    int event;
    int arena_fd;
    uint64_t arena_bytes;
    uint64_t ns;
    struct table_manifest next_manifest;
    struct table_keeper_result result;
    int error;
    struct base_err words;
    _Atomic bool done, stops; /* relaxed: the event and the join order the rest */
};

/* ------------------------------------------------------------------ names */

static void
snapshot_name(const struct table_kept *kept, uint64_t number, char ret[NAME_BYTES])
{
    snprintf(ret, NAME_BYTES, "table.%s.%" PRIu64, kept->tenant, number);
}

static void
snapshot_prefix(const struct table_kept *kept, char ret[NAME_BYTES])
{
    snprintf(ret, NAME_BYTES, "table.%s.", kept->tenant);
}

/* ------------------------------------------------------------------ opening */

static int
open_folder(const char *directory, const char *tenant, int *ret)
{
    int rc = base_dir_make(AT_FDCWD, directory, 0700);
    if (rc != 0 && rc != DOR_E_EXISTS)
        return rc;
    AUTO_CLOSE int parent = -1;
    rc = base_file_open(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY, 0, &parent);
    if (rc != 0)
        return rc;
    rc = base_dir_make(parent, tenant, 0700);
    if (rc == 0)
        rc = base_dir_sync(parent, directory);
    if (rc != 0 && rc != DOR_E_EXISTS)
        return rc;
    return base_file_open(parent, tenant, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, ret);
}

static int
open_lock(struct table_kept *kept)
{
    int rc = base_file_open(kept->directory, "lock", O_RDWR | O_CREAT, 0600, &kept->lock);
    if (rc == 0)
        rc = base_file_lock_exclusive(kept->lock, "lock");
    return rc == 0 ? 0 : dor_fail_wrap("tenant %s", kept->tenant);
}

static int
read_state(struct table_kept *kept, bool repair)
{
    struct table_manifest manifest = {.log_number = 1, .first_sequence = 1};
    int rc = table_manifest_read(kept->directory, kept->tenant, &manifest);
    bool has_manifest = rc == 0;
    if (rc == DOR_E_NOT_FOUND)
        rc = 0;
    if (rc == 0)
        rc = table_logs_fold(
            kept->directory, kept->tenant, &manifest, has_manifest, repair, &kept->log_fd);
    if (rc == 0 && !has_manifest)
        rc = table_manifest_write(kept->directory, kept->tenant, &manifest);
    kept->manifest = manifest;
    kept->log_number = manifest.log_number;
    return rc;
}

/* The snapshot is there, and no other of this tenant. */
static int
check_snapshot(struct table_kept *kept)
{
    char name[NAME_BYTES], prefix[NAME_BYTES];
    bool has_one = kept->manifest.snapshot_id != 0;
    snapshot_name(kept, kept->manifest.snapshot_number, name);
    snapshot_prefix(kept, prefix);
    if (kept->keeper == NULL)
        return has_one ? dor_fail(
                             DOR_E_USAGE,
                             "tenant %s: its table is in snapshot %s: a store is needed",
                             kept->tenant, name)
                       : 0;
    if (has_one) {
        int rc = kept->keeper->ops->find(
            kept->keeper, name, kept->manifest.snapshot_id, &kept->table_bytes);
        if (rc != 0)
            return dor_fail_wrap("tenant %s", kept->tenant);
    }
    int rc = kept->keeper->ops->drop(kept->keeper, prefix, has_one ? name : NULL);
    if (rc != 0)
        dor_log(
            WARN, "table", "snapshots_stay", "tenant=%s error=\"%s\"", kept->tenant,
            dor_err_message());
    return 0;
}

static char *
copy_text(const char *text)
{
    char *copy = base_alloc(strlen(text) + 1);
    if (copy != NULL)
        memcpy(copy, text, strlen(text) + 1);
    return copy;
}

int
table_kept_open(const struct table_kept_options *options, struct table_kept **ret)
{
    struct table_kept *kept = base_zalloc(sizeof *kept);
    if (kept == NULL)
        return DOR_E_NO_MEMORY;
    *kept = (struct table_kept){
        .tenant = copy_text(options->tenant),
        .domain = copy_text(options->domain),
        .keeper = options->keeper,
        .snapshot_bytes =
            options->snapshot_bytes != 0 ? options->snapshot_bytes : SNAPSHOT_BYTES,
        .snapshot_percent =
            options->snapshot_percent != 0 ? options->snapshot_percent : SNAPSHOT_PERCENT,
        .directory = -1,
        .lock = -1,
        .log_fd = -1,
        .next_fd = -1,
        .mark_fd = -1,
        .arena_fd = -1,
    };
    kept->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = kept->tenant == NULL || kept->domain == NULL ? DOR_E_NO_MEMORY : 0;
    if (rc == 0 && kept->event < 0)
        rc = dor_fail_errno(errno, "tenant %s", kept->tenant);
    if (rc == 0)
        rc = open_folder(options->directory, options->tenant, &kept->directory);
    if (rc == 0)
        rc = open_lock(kept);
    if (rc == 0)
        rc = read_state(kept, options->repair);
    if (rc == 0)
        rc = check_snapshot(kept);
    if (rc != 0) {
        table_kept_close(kept);
        return rc;
    }
    *ret = kept;
    return 0;
}

static void
end_fill(struct table_kept *kept)
{
    if (kept->fill != NULL)
        kept->keeper->ops->end_fill(TAKE(kept->fill));
}

static void
stop_putting(struct table_kept *kept)
{
    if (kept->state != PUTTING)
        return;
    atomic_store_explicit(&kept->stops, true, memory_order_relaxed);
    (void)!table_kept_snapshot_end(kept, NULL); /* given up or done, it is over */
}

void
table_kept_close(struct table_kept *kept)
{
    if (kept == NULL)
        return;
    stop_putting(kept);
    if (kept->keeper != NULL)
        end_fill(kept);
    base_close_fd(&kept->next_fd);
    base_close_fd(&kept->mark_fd);
    base_close_fd(&kept->arena_fd);
    base_close_fd(&kept->log_fd);
    base_close_fd(&kept->lock);
    base_close_fd(&kept->directory);
    base_close_fd(&kept->event);
    base_free(kept->tenant);
    base_free(kept->domain);
    base_free(kept);
}

int
table_kept_log_fd(const struct table_kept *kept)
{
    return kept->log_fd;
}

int
table_kept_fill(struct table_kept *kept, int fd, bool lazily, bool *ret_is_new, int *ret_socket)
{
    char name[NAME_BYTES];
    *ret_socket = -1;
    *ret_is_new = kept->manifest.snapshot_id == 0;
    if (*ret_is_new)
        return 0;
    dor_assert(kept->fill == NULL);
    snapshot_name(kept, kept->manifest.snapshot_number, name);
    const struct table_keeper_ops *ops = kept->keeper->ops;
    int rc = DOR_E_UNSUPPORTED;
    if (lazily)
        rc = ops->fill_lazily(kept->keeper, name, ret_socket, &kept->fill);
    if (rc == DOR_E_UNSUPPORTED)
        return ops->fill(kept->keeper, name, fd);
    return rc == 0 ? base_file_truncate(fd, kept->table_bytes, "the memory of a table") : rc;
}

/* ------------------------------------------------------------------ snapshots */

static uint64_t
log_bytes(const struct table_kept *kept)
{
    uint64_t bytes = 0;
    return base_file_size(kept->log_fd, "a log", &bytes) == 0 ? bytes : 0;
}

bool
table_kept_wants_snapshot(struct table_kept *kept)
{
    if (kept->keeper == NULL || kept->state != IDLE ||
        base_clock_monotonic_ns() < kept->next_try_ns || kept->fill != NULL)
        return false;
    uint64_t grown = log_bytes(kept);
    return kept->wanted || (grown >= kept->snapshot_bytes &&
                            grown >= kept->table_bytes / 100 * kept->snapshot_percent);
}

static int
no_store(void)
{
    return dor_fail(DOR_E_UNSUPPORTED, "there is no store for snapshots");
}

int
table_kept_want_snapshot(struct table_kept *kept)
{
    if (kept->keeper == NULL)
        return no_store();
    kept->wanted = true;
    return 0;
}

int
table_kept_snapshot_begin(
    struct table_kept *kept, int *ret_log_fd, uint64_t *ret_number, int *ret_mark_fd)
{
    if (kept->keeper == NULL)
        return no_store();
    if (kept->state != IDLE)
        return dor_fail(DOR_E_BUSY, "a snapshot of tenant %s is being taken", kept->tenant);
    if (kept->fill != NULL)
        return dor_fail(
            DOR_E_BUSY, "the table of tenant %s is still coming back", kept->tenant);
    char name[TABLE_LOG_NAME_BYTES];
    AUTO_CLOSE int fd = -1;
    kept->next_try_ns = base_clock_monotonic_ns() + RETRY_NS;
    table_log_file_name(kept->log_number + 1, name);
    int rc = base_file_open(kept->directory, name, O_RDWR | O_CREAT | O_TRUNC, 0600, &fd);
    if (rc == 0)
        rc = base_dir_sync(kept->directory, kept->tenant);
    if (rc != 0)
        return rc;
    kept->mark_fd = memfd_create("table-mark", MFD_CLOEXEC);
    if (kept->mark_fd < 0)
        return dor_fail_errno(errno, "a snapshot of tenant %s", kept->tenant);
    kept->next_fd = base_take_fd(&fd);
    kept->next_number = kept->log_number + 1;
    kept->state = ASKED;
    *ret_log_fd = kept->next_fd;
    *ret_number = kept->next_number;
    *ret_mark_fd = kept->mark_fd;
    return 0;
}

/* Whether the worker goes on in the next log: then it is the present one. */
static bool
take_next_log(struct table_kept *kept, uint64_t *ret_sequence)
{
    struct table_log_reader reader = {0};
    int rc = table_log_reader_open(kept->next_fd, "the next log", kept->tenant, &reader);
    *ret_sequence = reader.header.first_sequence;
    table_log_reader_close(&reader);
    if (rc != 0 || reader.header.number != kept->next_number)
        return false;
    base_close_fd(&kept->log_fd);
    kept->log_fd = base_take_fd(&kept->next_fd);
    kept->log_number = kept->next_number;
    return true;
}

/* It is over, with ERROR or not. */
static void
come_to_rest(struct table_kept *kept, int error)
{
    base_close_fd(&kept->next_fd);
    base_close_fd(&kept->mark_fd);
    base_close_fd(&kept->arena_fd);
    kept->state = IDLE;
    kept->last_error = error;
    kept->next_try_ns = error != 0 ? base_clock_monotonic_ns() + RETRY_NS : 0;
    if (error == 0)
        kept->wanted = false;
}

void
table_kept_snapshot_refused(struct table_kept *kept)
{
    uint64_t sequence;
    if (kept->state != ASKED)
        return;
    if (!take_next_log(kept, &sequence)) {
        char name[TABLE_LOG_NAME_BYTES];
        table_log_file_name(kept->next_number, name);
        int rc = base_file_unlink(kept->directory, name);
        if (rc != 0)
            dor_log(
                WARN, "table", "log_stays", "tenant=%s file=%s error=\"%s\"", kept->tenant,
                name, dor_err_message());
    }
    come_to_rest(kept, DOR_E_BUSY);
}

static int
read_pages(void *context, uint64_t first_page, size_t page_count, void *pages)
{
    struct table_kept *kept = context;
    return table_mark_read(
        kept->arena_fd, kept->mark_fd, kept->arena_bytes, first_page * DOR_PAGE_BYTES,
        page_count * DOR_PAGE_BYTES, pages);
}

static int
asks_to_stop(void *context)
{
    struct table_kept *kept = context;
    return atomic_load_explicit(&kept->stops, memory_order_relaxed) ? 1 : 0;
}

static int
put(struct table_kept *kept)
{
    char name[NAME_BYTES], parent[NAME_BYTES];
    snapshot_name(kept, kept->next_number, name);
    snapshot_name(kept, kept->manifest.snapshot_number, parent);
    const struct dor_page_source source = {
        .page_count = kept->arena_bytes / DOR_PAGE_BYTES, .read = read_pages, .context = kept};
    const struct table_keeper_put how = {
        .name = name,
        .domain = kept->domain,
        .parent = kept->manifest.snapshot_id != 0 ? parent : NULL,
        .source = &source,
        .stop = asks_to_stop,
        .stop_context = kept,
    };
    int rc = kept->keeper->ops->put(kept->keeper, &how, &kept->result);
    if (rc != 0)
        return rc;
    kept->next_manifest.snapshot_id = kept->result.id;
    return table_manifest_write(kept->directory, kept->tenant, &kept->next_manifest);
}

/* What the new manifest does not name may go; what stays is removed the next time. */
static void
drop_old(struct table_kept *kept)
{
    char name[NAME_BYTES], prefix[NAME_BYTES];
    snapshot_name(kept, kept->next_number, name);
    snapshot_prefix(kept, prefix);
    int rc = table_logs_drop(kept->directory, kept->next_manifest.log_number);
    if (rc == 0)
        rc = kept->keeper->ops->drop(kept->keeper, prefix, name);
    if (rc != 0)
        dor_log(
            WARN, "table", "old_stays", "tenant=%s error=\"%s\"", kept->tenant,
            dor_err_message());
}

static void
run(void *context)
{
    struct table_kept *kept = context;
    kept->error = put(kept);
    if (kept->error != 0)
        kept->words = *base_err_record();
    else
        drop_old(kept);
    atomic_store_explicit(&kept->done, true, memory_order_relaxed);
    (void)!write(kept->event, &(uint64_t){1}, sizeof(uint64_t)); /* it cannot be full */
}

int
table_kept_snapshot_marked(struct table_kept *kept, int arena_fd)
{
    dor_assert(kept->state == ASKED);
    uint64_t sequence;
    if (!take_next_log(kept, &sequence)) {
        table_kept_snapshot_refused(kept);
        return dor_fail(DOR_E_CORRUPT, "the worker of %s did not begin a log", kept->tenant);
    }
    kept->ns = base_clock_realtime_ns();
    kept->next_manifest = (struct table_manifest){
        .log_number = kept->next_number,
        .first_sequence = sequence,
        .snapshot_ns = kept->ns,
        .snapshot_number = kept->next_number,
    };
    atomic_store_explicit(&kept->done, false, memory_order_relaxed);
    atomic_store_explicit(&kept->stops, false, memory_order_relaxed);
    int rc = table_mark_arena_bytes(kept->mark_fd, &kept->arena_bytes);
    if (rc == 0) {
        kept->arena_fd = fcntl(arena_fd, F_DUPFD_CLOEXEC, 0);
        rc = kept->arena_fd < 0 ? dor_fail_errno(errno, "a snapshot of %s", kept->tenant) : 0;
    }
    if (rc == 0)
        rc = base_thread_start(&kept->thread, "table-snapshot", run, kept);
    if (rc != 0) {
        come_to_rest(kept, rc);
        return rc;
    }
    kept->state = PUTTING;
    return 0;
}

int
table_kept_event_fd(const struct table_kept *kept)
{
    return kept->event;
}

int
table_kept_snapshot_end(struct table_kept *kept, struct table_kept_snapshot *ret)
{
    bool stops = atomic_load_explicit(&kept->stops, memory_order_relaxed);
    if (kept->state != PUTTING ||
        (!stops && !atomic_load_explicit(&kept->done, memory_order_relaxed)))
        return dor_fail(DOR_E_BUSY, "no snapshot of %s is done", kept->tenant);
    base_thread_join(&kept->thread);
    uint64_t count;
    (void)!read(kept->event, &count, sizeof count); /* it is over, seen or not */
    int rc = kept->error;
    if (rc == 0) {
        kept->manifest = kept->next_manifest;
        kept->table_bytes = kept->arena_bytes;
        dor_log(
            INFO, "table", "snapshot",
            "tenant=%s number=%" PRIu64 " bytes=%" PRIu64 " added=%" PRIu64, kept->tenant,
            kept->next_number, kept->arena_bytes, kept->result.added_bytes);
    } else {
        base_err_load(&kept->words);
        dor_log(
            ERROR, "table", "snapshot_failed", "tenant=%s error=\"%s\"", kept->tenant,
            dor_err_message());
    }
    if (ret != NULL)
        *ret = (struct table_kept_snapshot){
            .ns = kept->ns,
            .table_bytes = kept->arena_bytes,
            .added_bytes = kept->result.added_bytes,
        };
    come_to_rest(kept, rc);
    return rc;
}

void
table_kept_worker_ready(struct table_kept *kept)
{
    kept->replayed = true;
    if (kept->fill != NULL)
        kept->keeper->ops->finish_fill(kept->fill);
}

void
table_kept_worker_filled(struct table_kept *kept)
{
    end_fill(kept);
}

bool
table_kept_worker_died(struct table_kept *kept)
{
    if (kept->state == ASKED)
        table_kept_snapshot_refused(kept);
    stop_putting(kept);
    if (!kept->replayed || kept->fill != NULL)
        return false;
    kept->wanted = true;
    kept->next_try_ns = 0;
    return true;
}

void
table_kept_stat(struct table_kept *kept, struct table_kept_stat *ret)
{
    *ret = (struct table_kept_stat){
        .snapshot_ns = kept->manifest.snapshot_ns,
        .log_bytes = log_bytes(kept),
        .snapshot_runs = kept->state != IDLE,
        .filling = kept->fill != NULL,
        .snapshot_error = kept->last_error,
    };
}
