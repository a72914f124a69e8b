/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest.c - manifests, and several logs made one.
 *
 * Invariant: at each moment the frames of the logs, in the order of their numbers and each
 * sequence number once, are all changes since the snapshot. A log that is appended to another
 * stays until its frames are on disk there; who comes after a crash finds some twice and takes
 * the first.
 */
#include "table/manifest.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/le.h"
#include "base/log.h"
#include "base/mem.h"
#include "table/log_read.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#define MANIFEST_NAME  "manifest"
#define MANIFEST_MAGIC "DORTMAN1"

enum { MANIFEST_BYTES = 64, DIGEST_AT = 56, LOGS_MAX = 4096, APPEND_BYTES = 1 << 20 };

/* ------------------------------------------------------------------ manifests */

int
table_manifest_read(int directory, const char *tenant, struct table_manifest *ret)
{
    AUTO_BUF struct base_buf buf = {0};
    int rc = base_file_read_all(directory, MANIFEST_NAME, MANIFEST_BYTES, &buf);
    if (rc != 0)
        return rc;
    const uint8_t *bytes = buf.data;
    if (buf.size_bytes != MANIFEST_BYTES || memcmp(bytes, MANIFEST_MAGIC, 8) != 0 ||
        base_le64_get(bytes + DIGEST_AT) != XXH3_64bits(bytes, DIGEST_AT))
        return dor_fail(
            DOR_E_CORRUPT,
            "tenant %s: the file manifest is damaged, or of a version that is not "
            "known; without it nobody knows where its table begins",
            tenant);
    if (base_le64_get(bytes + 40) != table_log_tenant_digest(tenant))
        return dor_fail(DOR_E_CORRUPT, "tenant %s: the file manifest is another's", tenant);
    *ret = (struct table_manifest){
        .log_number = base_le64_get(bytes + 8),
        .first_sequence = base_le64_get(bytes + 16),
        .snapshot_id = base_le64_get(bytes + 24),
        .snapshot_ns = base_le64_get(bytes + 32),
        .snapshot_number = base_le64_get(bytes + 48),
    };
    return 0;
}

int
table_manifest_write(int directory, const char *tenant, const struct table_manifest *manifest)
{
    uint8_t bytes[MANIFEST_BYTES] = {0};
    memcpy(bytes, MANIFEST_MAGIC, 8);
    base_le64_put(bytes + 8, manifest->log_number);
    base_le64_put(bytes + 16, manifest->first_sequence);
    base_le64_put(bytes + 24, manifest->snapshot_id);
    base_le64_put(bytes + 32, manifest->snapshot_ns);
    base_le64_put(bytes + 40, table_log_tenant_digest(tenant));
    base_le64_put(bytes + 48, manifest->snapshot_number);
    base_le64_put(bytes + DIGEST_AT, XXH3_64bits(bytes, DIGEST_AT));
    return base_file_replace(directory, MANIFEST_NAME, bytes, sizeof bytes);
}

/* ------------------------------------------------------------------ the folder */

void
table_log_file_name(uint64_t number, char ret[TABLE_LOG_NAME_BYTES])
{
    snprintf(ret, TABLE_LOG_NAME_BYTES, "log.%" PRIu64, number);
}

struct numbers {
    uint64_t items[LOGS_MAX];
    size_t count;
};

static int
take_number(const char *name, void *context)
{
    struct numbers *numbers = context;
    char again[TABLE_LOG_NAME_BYTES];
    if (strncmp(name, "log.", 4) != 0)
        return 0;
    uint64_t number = strtoull(name + 4, NULL, 10);
    table_log_file_name(number, again);
    if (strcmp(name, again) != 0)
        return 0;
    if (numbers->count == LOGS_MAX)
        return dor_fail(DOR_E_CORRUPT, "over %d logs are in one folder", LOGS_MAX);
    numbers->items[numbers->count++] = number;
    return 0;
}

static int
compare_numbers(const void *a, const void *b)
{
    const uint64_t *left = a, *right = b;
    return *left < *right ? -1 : *left > *right;
}

static int
list_logs(int directory, struct numbers *ret)
{
    ret->count = 0;
    int rc = base_dir_list(directory, take_number, ret);
    if (rc == 0)
        qsort(ret->items, ret->count, sizeof ret->items[0], compare_numbers);
    return rc;
}

int
table_logs_drop(int directory, uint64_t first)
{
    AUTO_FREE struct numbers *numbers = base_alloc(sizeof *numbers);
    if (numbers == NULL)
        return DOR_E_NO_MEMORY;
    int rc = list_logs(directory, numbers);
    for (size_t i = 0; rc == 0 && i < numbers->count && numbers->items[i] < first; i++) {
        char name[TABLE_LOG_NAME_BYTES];
        table_log_file_name(numbers->items[i], name);
        rc = base_file_unlink(directory, name);
    }
    return rc;
}

/* ------------------------------------------------------------------ appending */

/* A log that frames are copied to. */
struct target {
    int fd;
    const char *name;
    uint64_t key, offset, sequence;
    struct base_buf buf;
};

static int
write_out(struct target *target)
{
    int rc = base_file_pwrite(
        target->fd, target->buf.data, target->buf.size_bytes, target->offset, target->name);
    target->offset += target->buf.size_bytes;
    target->buf.size_bytes = 0;
    return rc;
}

static int
append(struct target *target, const struct table_log_frame *frame)
{
    size_t size_bytes = TABLE_LOG_FRAME_BYTES + (size_t)frame->size_bytes;
    int rc = base_buf_reserve(&target->buf, size_bytes);
    if (rc != 0)
        return rc;
    uint8_t *bytes = target->buf.data + target->buf.size_bytes;
    base_le64_put(bytes + 8, frame->sequence);
    base_le32_put(bytes + 16, frame->size_bytes);
    base_le32_put(bytes + 20, UINT32_MAX); /* it was not there when those before were synced */
    memcpy(bytes + TABLE_LOG_FRAME_BYTES, frame->effects, frame->size_bytes);
    base_le64_put(bytes, table_log_frame_checksum(target->key, bytes, size_bytes));
    target->buf.size_bytes += size_bytes;
    target->sequence++;
    return target->buf.size_bytes < APPEND_BYTES ? 0 : write_out(target);
}

/* The frames of READER that TARGET has not; DOR_E_CORRUPT as the reader says it. */
static int
append_all(struct target *target, struct table_log_reader *reader)
{
    struct table_log_frame frame;
    int rc;
    while ((rc = table_log_reader_next(reader, &frame)) == 0) {
        rc = frame.sequence < target->sequence ? 0 : append(target, &frame);
        if (rc != 0)
            return rc;
    }
    int written = write_out(target);
    if (written == 0)
        written = base_file_sync(target->fd, target->name);
    return written != 0 ? written : rc == DOR_E_NOT_FOUND ? 0 : rc;
}

/* ------------------------------------------------------------------ folding */

struct folder {
    int directory;
    const char *tenant;
    bool repair;
};

static int
put_aside(const struct folder *folder, const char *name)
{
    char aside[TABLE_LOG_NAME_BYTES + 4];
    snprintf(aside, sizeof aside, "bad.%s", name);
    dor_log(WARN, "table", "log_aside", "tenant=%s file=%s", folder->tenant, aside);
    return base_file_rename(folder->directory, name, aside);
}

/* The log NAME is damaged: write what is before the damage anew, and keep the damaged file. */
static int
rescue(const struct folder *folder, const char *name, int damaged_fd)
{
    char fresh[TABLE_LOG_NAME_BYTES + 4], aside[TABLE_LOG_NAME_BYTES + 4];
    snprintf(fresh, sizeof fresh, "%s.tmp", name);
    snprintf(aside, sizeof aside, "bad.%s", name);
    struct table_log_reader reader;
    AUTO_CLOSE int fd = -1;
    int rc = table_log_reader_open(damaged_fd, name, folder->tenant, &reader);
    if (rc == 0)
        rc = base_file_open(folder->directory, fresh, O_RDWR | O_CREAT | O_TRUNC, 0600, &fd);
    if (rc == 0)
        rc = table_log_create(
            fd, folder->tenant, reader.header.number, reader.header.first_sequence, false);
    struct table_log_reader target_reader = {0};
    if (rc == 0)
        rc = table_log_reader_open(fd, fresh, folder->tenant, &target_reader);
    if (rc == 0) {
        struct target target = {
            .fd = fd,
            .name = fresh,
            .key = target_reader.header.key,
            .offset = target_reader.offset,
            .sequence = target_reader.sequence,
        };
        rc = append_all(&target, &reader);
        if (rc == DOR_E_CORRUPT) {
            dor_log(
                WARN, "table", "log_repaired", "tenant=%s file=%s cut=\"%s\"", folder->tenant,
                name, dor_err_message());
            rc = 0;
        }
        base_buf_free(&target.buf);
    }
    if (rc == 0) {
        rc = base_file_link(folder->directory, name, aside);
        rc = rc == DOR_E_EXISTS ? 0 : rc;
    }
    if (rc == 0)
        rc = base_file_rename(folder->directory, fresh, name);
    if (rc == 0)
        rc = base_dir_sync(folder->directory, folder->tenant);
    table_log_reader_close(&reader);
    table_log_reader_close(&target_reader);
    return rc;
}

/* Read the log FD to its end; *RET is behind its last frame, to be ended in any case. */
static int
read_to_end(const struct folder *folder, const char *name, int fd, struct table_log_reader *ret)
{
    struct table_log_frame frame;
    int rc = table_log_reader_open(fd, name, folder->tenant, ret);
    while (rc == 0)
        rc = table_log_reader_next(ret, &frame);
    if (rc == DOR_E_NOT_FOUND && ret->ended)
        return 0;
    return rc == DOR_E_NOT_FOUND ? dor_fail(DOR_E_CORRUPT, "%s: has no header", name) : rc;
}

/* Open the first log, to be appended to: what it ends with is its last frame. */
static int
open_first(
    const struct folder *folder, uint64_t number, uint64_t first_sequence, struct target *ret,
    bool *ret_rescued)
{
    char name[TABLE_LOG_NAME_BYTES];
    table_log_file_name(number, name);
    *ret_rescued = false;
    for (;;) {
        AUTO_CLOSE int fd = -1;
        struct table_log_reader reader = {0};
        int rc = base_file_open(folder->directory, name, O_RDWR, 0, &fd);
        if (rc == 0)
            rc = read_to_end(folder, name, fd, &reader);
        table_log_reader_close(&reader);
        if (rc == DOR_E_CORRUPT && folder->repair && !*ret_rescued) {
            *ret_rescued = true;
            rc = rescue(folder, name, fd);
            if (rc != 0)
                return rc;
            continue;
        }
        if (rc == 0 &&
            (reader.header.number != number || reader.header.first_sequence != first_sequence))
            rc = dor_fail(
                DOR_E_CORRUPT,
                "%s: is log %" PRIu64 " from change %" PRIu64 " on, not from %" PRIu64, name,
                reader.header.number, reader.header.first_sequence, first_sequence);
        if (rc == 0 && reader.offset < reader.file_bytes) {
            dor_log(
                WARN, "table", "log_cut",
                "tenant=%s log=%" PRIu64 " at=%" PRIu64 " bytes=%" PRIu64, folder->tenant,
                number, reader.offset, reader.file_bytes - reader.offset);
            rc = base_file_truncate(fd, reader.offset, name);
        }
        if (rc != 0)
            return rc;
        *ret = (struct target){
            .fd = base_take_fd(&fd),
            .name = "the first log",
            .key = reader.header.key,
            .offset = reader.offset,
            .sequence = reader.sequence,
        };
        return 0;
    }
}

/* Append the log NUMBER to TARGET; *RET_ENDS: nothing goes on behind it. */
static int
fold_one(
    const struct folder *folder, uint64_t number, bool is_last, struct target *target,
    bool *ret_ends)
{
    char name[TABLE_LOG_NAME_BYTES];
    table_log_file_name(number, name);
    AUTO_CLOSE int fd = -1;
    struct table_log_reader reader = {0};
    *ret_ends = false;
    int rc = base_file_open(folder->directory, name, O_RDONLY, 0, &fd);
    if (rc == 0)
        rc = table_log_reader_open(fd, name, folder->tenant, &reader);
    bool begun = rc != DOR_E_NOT_FOUND;
    if (!begun)
        rc = is_last ? 0 : dor_fail(DOR_E_CORRUPT, "%s: is empty, but not the last", name);
    else if (rc == 0 && (reader.header.flags & TABLE_LOG_AFTER_SNAPSHOT) != 0)
        *ret_ends = true;
    else if (rc == 0 && reader.header.first_sequence > target->sequence)
        rc = dor_fail(
            DOR_E_CORRUPT, "%s: begins with change %" PRIu64 ", and %" PRIu64 " is due", name,
            reader.header.first_sequence, target->sequence);
    else if (rc == 0)
        rc = append_all(target, &reader);
    table_log_reader_close(&reader);
    if (rc == DOR_E_CORRUPT && folder->repair)
        *ret_ends = true;
    else if (rc != 0)
        return rc;
    if (*ret_ends)
        return put_aside(folder, name);
    return base_file_unlink(folder->directory, name);
}

static int
fold(
    const struct folder *folder, const struct numbers *numbers, uint64_t first_sequence,
    int *ret_fd)
{
    struct target target = {.fd = -1};
    bool ends = false;
    int rc = open_first(folder, numbers->items[0], first_sequence, &target, &ends);
    for (size_t i = 1; rc == 0 && i < numbers->count; i++) {
        char name[TABLE_LOG_NAME_BYTES];
        table_log_file_name(numbers->items[i], name);
        if (!ends && numbers->items[i] != numbers->items[i - 1] + 1)
            rc = dor_fail(
                DOR_E_CORRUPT, "tenant %s: the log before %s is missing", folder->tenant, name);
        else if (ends)
            rc = put_aside(folder, name);
        else
            rc = fold_one(folder, numbers->items[i], i + 1 == numbers->count, &target, &ends);
    }
    base_buf_free(&target.buf);
    if (rc == 0)
        *ret_fd = base_take_fd(&target.fd);
    base_auto_close(&target.fd);
    return rc;
}

/* The first log of a tenant, which is complete before it has its name. */
static int
make_first(const struct folder *folder, uint64_t number)
{
    char name[TABLE_LOG_NAME_BYTES], fresh[TABLE_LOG_NAME_BYTES + 4];
    table_log_file_name(number, name);
    snprintf(fresh, sizeof fresh, "%s.tmp", name);
    AUTO_CLOSE int fd = -1;
    int rc = base_file_open(folder->directory, fresh, O_RDWR | O_CREAT | O_TRUNC, 0600, &fd);
    if (rc == 0)
        rc = table_log_create(fd, folder->tenant, number, 1, false);
    if (rc == 0)
        rc = base_file_rename(folder->directory, fresh, name);
    return rc == 0 ? base_dir_sync(folder->directory, folder->tenant) : rc;
}

int
table_logs_fold(
    int directory, const char *tenant, const struct table_manifest *manifest, bool has_manifest,
    bool repair, int *ret_fd)
{
    const struct folder folder = {directory, tenant, repair};
    AUTO_FREE struct numbers *numbers = base_alloc(sizeof *numbers);
    if (numbers == NULL)
        return DOR_E_NO_MEMORY;
    int rc = table_logs_drop(directory, manifest->log_number);
    if (rc == 0)
        rc = list_logs(directory, numbers);
    if (rc == 0 && numbers->count == 0 && !has_manifest) {
        rc = make_first(&folder, manifest->log_number);
        numbers->items[numbers->count++] = manifest->log_number;
    }
    if (rc == 0 && (numbers->count == 0 || numbers->items[0] != manifest->log_number))
        rc = dor_fail(
            DOR_E_CORRUPT, "tenant %s: %s, and log.%" PRIu64 " is not there", tenant,
            has_manifest ? "the manifest names a log" : "there is no manifest",
            manifest->log_number);
    return rc == 0 ? fold(&folder, numbers, manifest->first_sequence, ret_fd) : rc;
}
