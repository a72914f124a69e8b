/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_read.c - frames out of a log, and what to think of the place where there are none any more.
 *
 * Invariants: 1. nothing of a frame is handed out before its checksum was right. 2. No number in
 * the file makes the reader take more memory than the file is long.
 */
#include "table/log_read.h"

#include <inttypes.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/le.h"
#include "base/size.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#define WINDOW_BYTES (1u << 20)

enum {
    HEAD_SEQUENCE = 8,
    HEAD_SIZE = 16,
    HEAD_UNSYNCED = 20,
};

/* Looking for frames behind a place that is none takes no more than so many bytes' checksums. */
#define SEARCH_TIMES 4

uint64_t
table_log_tenant_digest(const char *tenant)
{
    return XXH3_64bits(tenant, strlen(tenant));
}

uint64_t
table_log_frame_checksum(uint64_t key, const uint8_t *frame, size_t size_bytes)
{
    return XXH3_64bits_withSeed(frame + HEAD_SEQUENCE, size_bytes - HEAD_SEQUENCE, key);
}

void
table_log_header_encode(
    const struct table_log_header *header, uint8_t ret[TABLE_LOG_HEADER_BYTES])
{
    memset(ret, 0, TABLE_LOG_HEADER_BYTES);
    memcpy(ret, TABLE_LOG_MAGIC, 8);
    base_le64_put(ret + 8, header->number);
    base_le64_put(ret + 16, header->first_sequence);
    base_le64_put(ret + 24, header->key);
    base_le64_put(ret + 32, header->tenant_digest);
    base_le32_put(ret + 40, header->flags);
    base_le64_put(ret + 56, XXH3_64bits(ret, 56));
}

static bool
decode_header(const uint8_t bytes[TABLE_LOG_HEADER_BYTES], struct table_log_header *ret)
{
    if (memcmp(bytes, TABLE_LOG_MAGIC, 8) != 0 ||
        base_le64_get(bytes + 56) != XXH3_64bits(bytes, 56))
        return false;
    *ret = (struct table_log_header){
        .number = base_le64_get(bytes + 8),
        .first_sequence = base_le64_get(bytes + 16),
        .key = base_le64_get(bytes + 24),
        .tenant_digest = base_le64_get(bytes + 32),
        .flags = base_le32_get(bytes + 40),
    };
    return ret->first_sequence != 0;
}

int
table_log_reader_open(
    int fd, const char *name, const char *tenant, struct table_log_reader *ret)
{
    *ret = (struct table_log_reader){.fd = fd, .name = name};
    uint8_t bytes[TABLE_LOG_HEADER_BYTES];
    size_t got = 0;
    int rc = base_file_size(fd, name, &ret->file_bytes);
    if (rc == 0)
        rc = base_file_pread_some(fd, bytes, sizeof bytes, 0, name, &got);
    if (rc != 0)
        return rc;
    if (got < sizeof bytes || !decode_header(bytes, &ret->header)) {
        /* Frames come after the header is on disk. */
        if (ret->file_bytes <= sizeof bytes)
            return dor_fail(DOR_E_NOT_FOUND, "%s: has not begun", name);
        return dor_fail(
            DOR_E_CORRUPT,
            "%s: damaged at 0: this is no header of a log, or one of a version "
            "that is not known",
            name);
    }
    if (ret->header.tenant_digest != table_log_tenant_digest(tenant))
        return dor_fail(
            DOR_E_CORRUPT, "%s: is the log of another tenant than %s", name, tenant);
    ret->offset = sizeof bytes;
    ret->sequence = ret->header.first_sequence;
    return 0;
}

void
table_log_reader_close(struct table_log_reader *reader)
{
    base_buf_free(&reader->window);
}

/* ------------------------------------------------------------------ the window */

/* SIZE_BYTES at OFFSET, all inside the file; the pointer is valid until the next call. */
static int
look(struct table_log_reader *reader, uint64_t offset, size_t size_bytes, const uint8_t **ret)
{
    struct base_buf *window = &reader->window;
    if (offset >= reader->window_offset &&
        offset + size_bytes <= reader->window_offset + window->size_bytes) {
        *ret = window->data + (offset - reader->window_offset);
        return 0;
    }
    size_t want = (size_t)base_min_u64(
        base_max_u64(size_bytes, WINDOW_BYTES), reader->file_bytes - offset);
    window->size_bytes = 0;
    int rc = base_buf_reserve(window, want);
    if (rc == 0)
        rc = base_file_pread(reader->fd, window->data, want, offset, reader->name);
    if (rc != 0)
        return rc;
    window->size_bytes = want;
    reader->window_offset = offset;
    *ret = window->data;
    return 0;
}

struct head {
    uint64_t sequence;
    uint32_t size_bytes, unsynced;
};

/* The head at OFFSET; false when no frame of that length can be there. */
static bool
head_at(
    const struct table_log_reader *reader, uint64_t offset, const uint8_t *bytes,
    struct head *ret)
{
    *ret = (struct head){
        .sequence = base_le64_get(bytes + HEAD_SEQUENCE),
        .size_bytes = base_le32_get(bytes + HEAD_SIZE),
        .unsynced = base_le32_get(bytes + HEAD_UNSYNCED),
    };
    return ret->size_bytes != 0 &&
           ret->size_bytes <= reader->file_bytes - offset - TABLE_LOG_FRAME_BYTES;
}

/* Whether there is a whole frame at OFFSET, from MIN_SEQUENCE on; *RET_BYTES is all of it. */
static int
frame_at(
    struct table_log_reader *reader, uint64_t offset, uint64_t min_sequence, struct head *ret,
    const uint8_t **ret_bytes, bool *ret_found)
{
    const uint8_t *bytes;
    *ret_found = false;
    if (reader->file_bytes - offset < TABLE_LOG_FRAME_BYTES)
        return 0;
    int rc = look(reader, offset, TABLE_LOG_FRAME_BYTES, &bytes);
    if (rc != 0 || !head_at(reader, offset, bytes, ret) || ret->sequence < min_sequence ||
        ret->sequence - min_sequence > reader->file_bytes)
        return rc;
    size_t size_bytes = TABLE_LOG_FRAME_BYTES + (size_t)ret->size_bytes;
    rc = look(reader, offset, size_bytes, ret_bytes);
    if (rc != 0)
        return rc;
    *ret_found = base_le64_get(*ret_bytes) ==
                 table_log_frame_checksum(reader->header.key, *ret_bytes, size_bytes);
    return 0;
}

/* ------------------------------------------------------------------ the end */

/* Whether a frame behind the end says that the frame that is due was on disk. */
static int
find_witness(struct table_log_reader *reader, bool *ret)
{
    uint64_t left_bytes = reader->file_bytes - reader->offset;
    uint64_t budget = SEARCH_TIMES * left_bytes + WINDOW_BYTES;
    uint64_t sequence = reader->sequence;
    *ret = false;
    for (uint64_t at = reader->offset; reader->file_bytes - at > TABLE_LOG_FRAME_BYTES;) {
        struct head head = {0};
        const uint8_t *bytes;
        bool found;
        int rc = frame_at(reader, at, sequence, &head, &bytes, &found);
        if (rc != 0)
            return rc;
        if (!found) {
            bool is_head = head.size_bytes != 0 && head.sequence >= sequence &&
                           head.sequence - sequence <= reader->file_bytes &&
                           head.size_bytes <= reader->file_bytes - at - TABLE_LOG_FRAME_BYTES;
            if (is_head && budget < head.size_bytes) {
                *ret = true; /* too much that looks like frames to know */
                return 0;
            }
            budget -= is_head ? head.size_bytes : 0;
            at++;
            continue;
        }
        if (head.unsynced != UINT32_MAX && head.unsynced < head.sequence &&
            head.sequence - head.unsynced > reader->sequence) {
            *ret = true;
            return 0;
        }
        at += TABLE_LOG_FRAME_BYTES + (uint64_t)head.size_bytes;
        sequence = head.sequence + 1;
    }
    return 0;
}

static int
come_to_end(struct table_log_reader *reader)
{
    bool damaged = false;
    if (!reader->ended && reader->offset < reader->file_bytes) {
        int rc = find_witness(reader, &damaged);
        if (rc != 0)
            return rc;
    }
    if (damaged)
        return dor_fail(
            DOR_E_CORRUPT,
            "%s: damaged at %" PRIu64 ": change %" PRIu64 " was on disk and is not there",
            reader->name, reader->offset, reader->sequence);
    reader->ended = true;
    return DOR_E_NOT_FOUND;
}

int
table_log_reader_next(struct table_log_reader *reader, struct table_log_frame *ret)
{
    struct head head;
    const uint8_t *bytes = NULL;
    bool found = false;
    int rc = reader->ended
                 ? 0
                 : frame_at(reader, reader->offset, reader->sequence, &head, &bytes, &found);
    if (rc != 0)
        return rc;
    if (!found || head.sequence != reader->sequence)
        return come_to_end(reader);
    *ret = (struct table_log_frame){
        .sequence = head.sequence,
        .effects = bytes + TABLE_LOG_FRAME_BYTES,
        .size_bytes = head.size_bytes,
    };
    reader->offset += TABLE_LOG_FRAME_BYTES + (uint64_t)head.size_bytes;
    reader->sequence++;
    return 0;
}

/* ------------------------------------------------------------------ effects */

static bool
read_string(
    const uint8_t **at, const uint8_t *end, uint64_t max_bytes, const uint8_t **ret,
    uint32_t *ret_bytes)
{
    uint64_t length;
    const uint8_t *p = base_varint_get(*at, end, &length);
    if (p == NULL || length > max_bytes || length > (uint64_t)(end - p))
        return false;
    *ret = p;
    *ret_bytes = (uint32_t)length;
    *at = p + length;
    return true;
}

static bool
read_expiry(const uint8_t **at, const uint8_t *end, int64_t *ret)
{
    uint64_t expiry;
    const uint8_t *p = base_varint_get(*at, end, &expiry);
    if (p == NULL || expiry > INT64_MAX)
        return false;
    *ret = (int64_t)expiry;
    *at = p;
    return true;
}

bool
table_effect_read(const uint8_t **at, const uint8_t *end, struct table_effect_view *ret)
{
    if (*at >= end)
        return false;
    struct table_effect_view view = {.effect = (enum table_effect) * (*at)++};
    if (view.effect < TABLE_EFFECT_SET || view.effect > TABLE_EFFECT_APPEND)
        return false;
    bool has_key = view.effect != TABLE_EFFECT_FLUSH && view.effect != TABLE_EFFECT_FLUSH_ALL;
    bool has_expiry =
        view.effect == TABLE_EFFECT_SET_EXPIRING || view.effect == TABLE_EFFECT_EXPIRE;
    bool has_value =
        view.effect == TABLE_EFFECT_SET || view.effect == TABLE_EFFECT_SET_EXPIRING ||
        view.effect == TABLE_EFFECT_SET_LIBRARY || view.effect == TABLE_EFFECT_APPEND;
    if ((has_key && !read_string(at, end, TABLE_KEY_LENGTH_MAX, &view.key, &view.key_bytes)) ||
        (has_expiry && !read_expiry(at, end, &view.expiry_ms)) ||
        (has_value &&
         !read_string(at, end, TABLE_VALUE_BYTES_MAX, &view.value, &view.value_bytes)))
        return false;
    *ret = view;
    return true;
}
