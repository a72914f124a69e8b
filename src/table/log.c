/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.c - frames gathered and written.
 *
 *     buffer: | whole frames, to be written at `file_bytes` | the open frame, if any |
 *             0                                        frame_at              size_bytes
 *
 * Invariants: 1. the file up to `file_bytes` is whole frames. 2. A frame is closed, and gets its
 * number, only when it is complete. 3. After an error that lost a change, or a sync that failed,
 * no write is allowed until a snapshot has what the log may lack.
 */
#include "table/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/le.h"
#include "base/log.h"
#include "base/random.h"
#include "base/size.h"
#include "table/log_read.h"
#include "table/log_sync.h"
#include "table/table_priv.h"

#define WRITE_BYTES        (4u << 20) /* so much gathered is written at once */
#define BUFFER_BYTES       (1u << 20) /* a longer buffer is not kept */
#define RESERVE_MIN        (UINT64_C(256) << 10)
#define RESERVE_MAX        (UINT64_C(16) << 20)
#define RESERVED_UNLIMITED (UINT64_MAX / 2)
#define MAINTAIN_FRAMES    256
#define MAINTAIN_STEPS     256

static const char log_name[] = "the log of changes";

struct table_log {
    struct table_log_fill fill; /* first: log.h looks at it */
    char *tenant;
    struct table *table;
    enum table_log_when when;
    struct table_syncer *syncer;
    struct table_sync sync;
    uint64_t number, key;
    uint64_t file_bytes;
    uint64_t next_sequence;
    struct base_buf buf;
    size_t frame_at; /* of the frame that is open, or where the next will be */
    bool frame_open;
    unsigned depth;
    bool replaying;
    bool lost; /* a change is in no log */
    int error; /* of the last write or sync */
    bool error_told;
    uint64_t frames;
};

_Static_assert(offsetof(struct table_log, fill) == 0, "log.h casts");

/* ------------------------------------------------------------------ opening */

int
table_log_create(
    int fd, const char *tenant, uint64_t number, uint64_t first_sequence, bool after_snapshot)
{
    struct table_log_header header = {
        .number = number,
        .first_sequence = first_sequence,
        .tenant_digest = table_log_tenant_digest(tenant),
        .flags = after_snapshot ? TABLE_LOG_AFTER_SNAPSHOT : 0,
    };
    int rc = base_random_seed_os(&header.key, sizeof header.key);
    if (rc != 0)
        return rc;
    uint8_t bytes[TABLE_LOG_HEADER_BYTES];
    table_log_header_encode(&header, bytes);
    rc = base_file_truncate(fd, 0, log_name);
    if (rc == 0)
        rc = base_file_pwrite(fd, bytes, sizeof bytes, 0, log_name);
    return rc == 0 ? base_file_sync(fd, log_name) : rc;
}

int
table_log_open(int fd, const struct table_log_options *options, struct table_log **ret)
{
    AUTO_CLOSE int guard = fd;
    dor_assert(options->when != TABLE_LOG_OFF);
    dor_assert(options->when != TABLE_LOG_EVERYSEC || options->syncer != NULL);
    struct table_log *log = base_zalloc(sizeof *log);
    AUTO_FREE char *tenant = base_alloc(strlen(options->tenant) + 1);
    if (log == NULL || tenant == NULL) {
        base_free(log);
        return DOR_E_NO_MEMORY;
    }
    memcpy(tenant, options->tenant, strlen(options->tenant) + 1);
    *log = (struct table_log){
        .tenant = TAKE(tenant),
        .when = options->when,
        .syncer = options->syncer,
        .sync = {.fd = base_take_fd(&guard)},
        .replaying = true,
    };
    *ret = log;
    return 0;
}

/* The log is whole up to OFFSET, all of it on disk, and goes on there. */
static void
go_on_at(struct table_log *log, uint64_t offset, uint64_t sequence)
{
    log->file_bytes = offset;
    log->next_sequence = sequence;
    log->buf.size_bytes = 0;
    log->frame_at = 0;
    log->frame_open = false;
    log->fill.end_bytes = log->fill.reserved_bytes = offset;
    atomic_store_explicit(&log->sync.written, sequence, memory_order_release);
    atomic_store_explicit(&log->sync.synced, sequence, memory_order_release);
}

static void
give_back_reserve(struct table_log *log)
{
    /* Only space is lost if it fails. */
    (void)!base_file_truncate(log->sync.fd, log->file_bytes, log_name);
}

static int write_gathered(struct table_log *log);

void
table_log_close(struct table_log *log)
{
    if (log == NULL)
        return;
    if (!log->replaying) {
        table_log_drop(log);
        int rc = log->fill.failed ? 0 : write_gathered(log);
        if (log->syncer != NULL)
            table_sync_remove(log->syncer, &log->sync);
        if (rc == 0)
            rc = table_sync_now(&log->sync);
        if (rc != 0)
            dor_log(
                ERROR, "table", "log_not_written", "tenant=%s error=\"%s\"", log->tenant,
                dor_err_message());
        else
            give_back_reserve(log);
    }
    base_auto_close(&log->sync.fd);
    base_buf_free(&log->buf);
    base_free(log->tenant);
    base_free(log);
}

/* ------------------------------------------------------------------ replaying */

static int
apply_effect(struct table *table, const struct table_effect_view *view)
{
    struct table_key key;
    bool found;
    uint64_t length;
    bool is_library =
        view->effect == TABLE_EFFECT_SET_LIBRARY || view->effect == TABLE_EFFECT_REMOVE_LIBRARY;
    bool fits = is_library ? table_library_key(table, view->key, view->key_bytes, &key)
                           : table_key(table, view->key, view->key_bytes, &key);
    dor_assert(fits);
    switch (view->effect) {
    case TABLE_EFFECT_SET:
    case TABLE_EFFECT_SET_EXPIRING:
    case TABLE_EFFECT_SET_LIBRARY:
        return table_set(table, &key, view->value, view->value_bytes, view->expiry_ms);
    case TABLE_EFFECT_APPEND:
        return table_append(table, &key, view->value, view->value_bytes, &length);
    case TABLE_EFFECT_EXPIRE:
        return table_expire(table, &key, view->expiry_ms, &found);
    case TABLE_EFFECT_REMOVE:
    case TABLE_EFFECT_REMOVE_LIBRARY:
        (void)table_remove(table, &key);
        return 0;
    case TABLE_EFFECT_FLUSH:
    case TABLE_EFFECT_FLUSH_ALL:
        return table_flush(table, view->effect == TABLE_EFFECT_FLUSH_ALL);
    }
    return 0;
}

/* All effects of the frame or, if one of them makes no sense, none. */
static int
apply_frame(
    const struct table_log_reader *reader, const struct table_log_frame *frame,
    struct table *table, uint64_t *effects)
{
    const uint8_t *end = frame->effects + frame->size_bytes;
    struct table_effect_view view;
    for (const uint8_t *at = frame->effects; at < end;)
        if (!table_effect_read(&at, end, &view))
            return dor_fail(
                DOR_E_CORRUPT,
                "%s: damaged at %" PRIu64 ": change %" PRIu64 " has an effect that is none",
                reader->name, reader->offset - frame->size_bytes - TABLE_LOG_FRAME_BYTES,
                frame->sequence);
    for (const uint8_t *at = frame->effects; at < end && table != NULL;) {
        dor_assert(table_effect_read(&at, end, &view));
        int rc = apply_effect(table, &view);
        if (rc != 0)
            return dor_fail_wrap("%s: change %" PRIu64, reader->name, frame->sequence);
        (*effects)++;
    }
    return 0;
}

static int
apply_frames(
    struct table_log_reader *reader, struct table *table, struct table_log_replayed *ret)
{
    struct table_log_frame frame;
    int rc;
    while ((rc = table_log_reader_next(reader, &frame)) == 0) {
        rc = apply_frame(reader, &frame, table, &ret->effects);
        if (rc != 0)
            break;
        if (++ret->frames % MAINTAIN_FRAMES == 0 && table != NULL)
            table_maintain(table, MAINTAIN_STEPS);
    }
    return rc == DOR_E_NOT_FOUND ? 0 : rc;
}

/* With all memory there is, and in no time: what went is told. */
static int
apply_unlimited(
    struct table_log_reader *reader, struct table *table, struct table_log_replayed *ret)
{
    if (table == NULL)
        return apply_frames(reader, NULL, ret);
    struct table_stat stat;
    table_stat(table, &stat);
    enum table_policy policy = table->policy;
    int64_t now_ms = table_now(table);
    table_set_limit(table, UINT64_MAX, TABLE_NO_EVICTION);
    table_set_now(table, 0);
    int rc = apply_frames(reader, table, ret);
    table_set_now(table, now_ms);
    table_set_limit(table, stat.limit_bytes, policy);
    return rc;
}

int
table_log_replay(
    struct table_log *log, struct table *table, bool apply, struct table_log_replayed *ret)
{
    dor_assert(log->replaying);
    struct table_log_replayed replayed = {0};
    struct table_log_reader reader;
    int rc = table_log_reader_open(log->sync.fd, log_name, log->tenant, &reader);
    if (rc == 0)
        rc = apply_unlimited(&reader, apply ? table : NULL, &replayed);
    if (rc == 0) {
        replayed.bytes = reader.offset;
        replayed.cut_bytes = reader.file_bytes - reader.offset;
        rc = base_file_truncate(log->sync.fd, reader.offset, log_name);
    }
    if (rc == 0)
        rc = base_file_sync(log->sync.fd, log_name);
    if (rc == 0 && log->syncer != NULL)
        rc = table_sync_add(log->syncer, &log->sync);
    if (rc == 0) {
        log->number = reader.header.number;
        log->key = reader.header.key;
        go_on_at(log, reader.offset, reader.sequence);
        log->replaying = false;
        log->table = table;
        if (ret != NULL)
            *ret = replayed;
    }
    table_log_reader_close(&reader);
    if (rc == 0 && replayed.cut_bytes != 0)
        dor_log(
            WARN, "table", "log_cut", "tenant=%s log=%" PRIu64 " at=%" PRIu64 " bytes=%" PRIu64,
            log->tenant, log->number, replayed.bytes, replayed.cut_bytes);
    return rc != 0 ? dor_fail_wrap("tenant %s", log->tenant) : 0;
}

/* ------------------------------------------------------------------ frames */

static void
fail(struct table_log *log, int error, bool lost)
{
    if (!log->fill.failed)
        dor_log(
            ERROR, "table", "log_failed", "tenant=%s log=%" PRIu64 " error=\"%s\"", log->tenant,
            log->number, dor_err_message());
    log->fill.failed = log->fill.pending = true;
    log->lost |= lost;
    log->error = error;
    log->error_told = false;
}

static void
drop_frame(struct table_log *log)
{
    log->buf.size_bytes = log->frame_at;
    log->frame_open = false;
    log->fill.end_bytes = log->file_bytes + log->buf.size_bytes;
}

/* Whether the table has a change that the log has not. */
static bool
lacks(const struct table_log *log)
{
    return log->lost || atomic_load_explicit(&log->sync.errnum, memory_order_acquire) != 0;
}

static void
close_frame(struct table_log *log)
{
    if (!log->frame_open)
        return;
    uint8_t *frame = log->buf.data + log->frame_at;
    size_t size_bytes = log->buf.size_bytes - log->frame_at;
    if (lacks(log) || size_bytes == TABLE_LOG_FRAME_BYTES) {
        drop_frame(log);
        return;
    }
    uint64_t unsynced =
        log->next_sequence - atomic_load_explicit(&log->sync.synced, memory_order_acquire);
    base_le64_put(frame + 8, log->next_sequence);
    base_le32_put(frame + 16, (uint32_t)(size_bytes - TABLE_LOG_FRAME_BYTES));
    base_le32_put(frame + 20, (uint32_t)base_min_u64(unsynced, UINT32_MAX));
    base_le64_put(frame, table_log_frame_checksum(log->key, frame, size_bytes));
    log->next_sequence++;
    log->frames++;
    log->frame_at = log->buf.size_bytes;
    log->frame_open = false;
    log->fill.pending = true;
    /* What is closed may be written at any time: it only does not count before the flush. */
    if (log->buf.size_bytes >= WRITE_BYTES && write_gathered(log) != 0)
        fail(log, DOR_E_IO, false);
}

/* Room in memory for an effect with KEY_BYTES and VALUE_BYTES; NULL: there is none. */
static uint8_t *
begin_effect(struct table_log *log, uint64_t key_bytes, uint64_t value_bytes)
{
    uint64_t head_bytes = log->frame_open ? 0 : TABLE_LOG_FRAME_BYTES;
    uint64_t bytes =
        head_bytes + 1 + (uint64_t)3 * BASE_VARINT_BYTES_MAX + key_bytes + value_bytes;
    uint64_t open_bytes = log->buf.size_bytes - log->frame_at;
    int rc = open_bytes + bytes > UINT32_MAX
                 ? dor_fail(DOR_E_NO_SPACE, "a change of over 4 GiB is too large for a log")
                 : base_buf_reserve(&log->buf, bytes);
    if (rc != 0) {
        fail(log, rc, true);
        return NULL;
    }
    log->buf.size_bytes += head_bytes;
    log->frame_open = true;
    return log->buf.data + log->buf.size_bytes;
}

static void
end_effect(struct table_log *log, const uint8_t *at)
{
    log->buf.size_bytes = (size_t)(at - log->buf.data);
    log->fill.end_bytes = log->file_bytes + log->buf.size_bytes;
    if (log->depth == 0)
        close_frame(log);
}

static uint8_t *
put_string(uint8_t *at, const uint8_t *bytes, uint32_t length)
{
    at = base_varint_put(at, length);
    if (length != 0)
        memcpy(at, bytes, length);
    return at + length;
}

/* As a log has it: what is over since before 1970 is over. */
static uint64_t
expiry_of(int64_t expiry_ms)
{
    return expiry_ms < 0 ? 1 : (uint64_t)expiry_ms;
}

static void
log_set(struct table_log *log, const struct table_key *key, const struct table_value *value)
{
    uint8_t *at = begin_effect(log, key->length, value->length);
    if (at == NULL)
        return;
    *at++ = key->is_library         ? TABLE_EFFECT_SET_LIBRARY
            : value->expiry_ms != 0 ? TABLE_EFFECT_SET_EXPIRING
                                    : TABLE_EFFECT_SET;
    at = put_string(at, key->bytes, key->length);
    if (!key->is_library && value->expiry_ms != 0)
        at = base_varint_put(at, expiry_of(value->expiry_ms));
    end_effect(log, put_string(at, value->bytes, value->length));
}

static void
log_append(struct table_log *log, const struct table_key *key, const struct table_value *value)
{
    uint8_t *at = begin_effect(log, key->length, value->length);
    if (at == NULL)
        return;
    *at++ = TABLE_EFFECT_APPEND;
    at = put_string(at, key->bytes, key->length);
    end_effect(log, put_string(at, value->bytes, value->length));
}

static void
log_key(struct table_log *log, enum table_effect effect, const struct table_key *key)
{
    uint8_t *at = begin_effect(log, key->length, 0);
    if (at == NULL)
        return;
    *at++ = (uint8_t)effect;
    end_effect(log, put_string(at, key->bytes, key->length));
}

static void
log_expiry(struct table_log *log, const struct table_key *key, int64_t expiry_ms)
{
    uint8_t *at = begin_effect(log, key->length, 0);
    if (at == NULL)
        return;
    *at++ = TABLE_EFFECT_EXPIRE;
    at = put_string(at, key->bytes, key->length);
    end_effect(log, base_varint_put(at, expiry_of(expiry_ms)));
}

/* It is told when it is done: what is left is libraries, if they were not meant. */
static void
log_flush(struct table_log *log)
{
    uint8_t *at = begin_effect(log, 0, 0);
    if (at == NULL)
        return;
    bool all = log->table->arena.header->library_count == 0;
    *at++ = all ? TABLE_EFFECT_FLUSH_ALL : TABLE_EFFECT_FLUSH;
    end_effect(log, at);
}

void
table_log_change(
    void *context, enum table_change change, const struct table_key *key,
    const struct table_value *value)
{
    struct table_log *log = context;
    if (log->replaying || lacks(log))
        return;
    switch (change) {
    case TABLE_CHANGE_SET:
        log_set(log, key, value);
        return;
    case TABLE_CHANGE_EXPIRY:
        log_expiry(log, key, value->expiry_ms);
        return;
    case TABLE_CHANGE_REMOVE:
        log_key(log, key->is_library ? TABLE_EFFECT_REMOVE_LIBRARY : TABLE_EFFECT_REMOVE, key);
        return;
    case TABLE_CHANGE_FLUSH:
        log_flush(log);
        return;
    case TABLE_CHANGE_APPEND:
        log_append(log, key, value);
        return;
    }
}

void
table_log_begin(struct table_log *log)
{
    log->depth++;
}

void
table_log_commit(struct table_log *log)
{
    dor_assert(log->depth > 0);
    if (--log->depth == 0)
        close_frame(log);
}

void
table_log_drop(struct table_log *log)
{
    log->depth = 0;
    if (log->frame_open)
        drop_frame(log);
}

size_t
table_log_savepoint(const struct table_log *log)
{
    return log->frame_open ? log->buf.size_bytes - log->frame_at : 0;
}

void
table_log_rollback(struct table_log *log, size_t savepoint)
{
    if (!log->frame_open)
        return;
    if (savepoint == 0) {
        drop_frame(log);
        return;
    }
    log->buf.size_bytes = log->frame_at + savepoint;
    log->fill.end_bytes = log->file_bytes + log->buf.size_bytes;
}

/* ------------------------------------------------------------------ writing */

static int
write_gathered(struct table_log *log)
{
    size_t bytes = log->frame_at;
    if (bytes == 0)
        return 0;
    int rc = base_file_pwrite(log->sync.fd, log->buf.data, bytes, log->file_bytes, log_name);
    if (rc != 0)
        return rc;
    log->file_bytes += bytes;
    atomic_store_explicit(&log->sync.written, log->next_sequence, memory_order_release);
    size_t open_bytes = log->buf.size_bytes - bytes;
    if (open_bytes != 0)
        memmove(log->buf.data, log->buf.data + bytes, open_bytes);
    log->buf.size_bytes = open_bytes;
    log->frame_at = 0;
    if (open_bytes == 0 && log->buf.cap_bytes > BUFFER_BYTES)
        base_buf_free(&log->buf);
    return 0;
}

static int
reserve(struct table_log *log, uint64_t need_bytes)
{
    uint64_t step =
        base_min_u64(base_max_u64(log->fill.end_bytes / 8, RESERVE_MIN), RESERVE_MAX);
    const uint64_t tries[] = {need_bytes + step, need_bytes};
    for (size_t i = 0; i < 2; i++) {
        uint64_t from = base_min_u64(log->fill.reserved_bytes, tries[i]);
        int rc;
        do
            rc = fallocate(
                log->sync.fd, FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(tries[i] - from));
        while (rc != 0 && errno == EINTR);
        if (rc == 0) {
            log->fill.reserved_bytes = tries[i];
            return 0;
        }
        if (errno == EOPNOTSUPP) {
            log->fill.reserved_bytes = RESERVED_UNLIMITED;
            return 0;
        }
    }
    return dor_fail_errno(errno, "no room for %" PRIu64 " bytes in %s", need_bytes, log_name);
}

int
table_log_room_slow(struct table_log *log, uint64_t bytes)
{
    if (lacks(log))
        return dor_fail(
            DOR_E_IO, "a change could not be kept; writes go on after the next snapshot");
    uint64_t open_bytes = log->buf.size_bytes - log->frame_at;
    if (bytes > TABLE_LOG_EFFECTS_MAX || open_bytes + bytes > TABLE_LOG_EFFECTS_MAX)
        return dor_fail(DOR_E_NO_SPACE, "one change of over 1 GiB is too large for the log");
    if (log->fill.failed) {
        int rc = write_gathered(log);
        if (rc != 0)
            return rc;
        log->fill.failed = false;
        log->error = 0;
        dor_log(INFO, "table", "log_well", "tenant=%s log=%" PRIu64, log->tenant, log->number);
    }
    uint64_t need_bytes = log->fill.end_bytes + bytes + TABLE_LOG_SLACK_BYTES;
    return need_bytes <= log->fill.reserved_bytes ? 0 : reserve(log, need_bytes);
}

/* An error that was noticed is told once. */
static int
tell_error(struct table_log *log)
{
    if (lacks(log) && !log->fill.failed) {
        dor_fail(DOR_E_IO, "the disk did not take the log's changes");
        fail(log, DOR_E_IO, true);
    }
    log->fill.pending = log->frame_at != 0 && !log->lost;
    bool told = log->error_told;
    log->error_told = true;
    if (told || (log->when == TABLE_LOG_EVERYSEC && !log->lost))
        return 0;
    return dor_fail(DOR_E_IO, "the log's changes are perhaps not on disk");
}

int
table_log_flush_slow(struct table_log *log)
{
    if (lacks(log))
        return tell_error(log);
    int rc = write_gathered(log);
    if (rc != 0) {
        fail(log, rc, false);
        return tell_error(log);
    }
    if (log->when == TABLE_LOG_ALWAYS && !table_log_is_on_disk(log, log->next_sequence)) {
        if (log->syncer != NULL) {
            table_sync_want(log->syncer, &log->sync);
            return DOR_E_BUSY;
        }
        if (table_sync_now(&log->sync) != 0)
            return tell_error(log);
    }
    log->fill.pending = false;
    return 0;
}

uint64_t
table_log_sequence(const struct table_log *log)
{
    return log->next_sequence;
}

bool
table_log_is_on_disk(const struct table_log *log, uint64_t sequence)
{
    return atomic_load_explicit(&log->sync.synced, memory_order_acquire) >= sequence;
}

/* ------------------------------------------------------------------ snapshots */

int
table_log_rotate(struct table_log *log, int fd, uint64_t number)
{
    AUTO_CLOSE int guard = fd;
    dor_assert(!log->replaying && log->depth == 0);
    bool lacking = lacks(log);
    if (!lacking && (write_gathered(log) != 0 || table_sync_now(&log->sync) != 0)) {
        fail(log, DOR_E_IO, true);
        lacking = true;
    }
    /*
     * A log that lacks changes is not gone on from: what follows counts with the snapshot alone.
     */
    int rc = table_log_create(fd, log->tenant, number, log->next_sequence, lacking);
    uint8_t bytes[TABLE_LOG_HEADER_BYTES];
    if (rc == 0)
        rc = base_file_pread(fd, bytes, sizeof bytes, 0, log_name);
    if (rc != 0)
        return rc;
    give_back_reserve(log);
    if (log->syncer != NULL)
        table_sync_remove(log->syncer, &log->sync);
    base_auto_close(&log->sync.fd);
    log->sync.fd = base_take_fd(&guard);
    log->number = number;
    log->key = base_le64_get(bytes + 24);
    go_on_at(log, sizeof bytes, log->next_sequence);
    log->fill.pending = false;
    return log->syncer != NULL ? table_sync_add(log->syncer, &log->sync) : 0;
}

void
table_log_snapshot_done(struct table_log *log)
{
    if (!lacks(log))
        return;
    log->lost = false;
    log->fill.failed = false;
    log->error = 0;
    atomic_store_explicit(&log->sync.errnum, 0, memory_order_release);
}

void
table_log_stat(const struct table_log *log, struct table_log_stat *ret)
{
    *ret = (struct table_log_stat){
        .number = log->number,
        .bytes = log->fill.end_bytes,
        .next_sequence = log->next_sequence,
        .synced_sequence = atomic_load_explicit(&log->sync.synced, memory_order_acquire),
        .frames = log->frames,
        .syncs = atomic_load_explicit(&log->sync.syncs, memory_order_relaxed),
        .error = log->error,
        .needs_snapshot = lacks(log),
    };
}
