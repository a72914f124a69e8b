/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_read.h - reading a log of docs/formats/table-log.md: frame by frame, up to its end, which a
 * crash may have left torn. What is torn ends it; what is damaged is an error.
 *
 * Ownership:  the descriptor is the caller's; the reader owns its buffers.
 * Threads:    one reader, one thread.
 * Errors:     DOR_E_CORRUPT with file and offset; DOR_E_IO; DOR_E_NO_MEMORY.
 */
#ifndef DOR_TABLE_LOG_READ_H
#define DOR_TABLE_LOG_READ_H

#include "base/mem.h"
#include "table/log.h"

#define TABLE_LOG_MAGIC "DORTLOG1"

enum { TABLE_LOG_AFTER_SNAPSHOT = 1 };

/* The bytes of effects. */
enum table_effect {
    TABLE_EFFECT_SET = 1,
    TABLE_EFFECT_SET_EXPIRING,
    TABLE_EFFECT_REMOVE,
    TABLE_EFFECT_EXPIRE,
    TABLE_EFFECT_FLUSH,
    TABLE_EFFECT_FLUSH_ALL,
    TABLE_EFFECT_SET_LIBRARY,
    TABLE_EFFECT_REMOVE_LIBRARY,
    TABLE_EFFECT_APPEND,
};

struct table_log_header {
    uint64_t number, first_sequence, key, tenant_digest;
    uint32_t flags;
};

struct table_log_reader {
    int fd;
    const char *name; /* of the file, for errors */
    struct table_log_header header;
    uint64_t file_bytes;
    uint64_t offset;   /* behind the last frame */
    uint64_t sequence; /* that is due */
    bool ended;
    struct base_buf window; /* of the file from window_offset on */
    uint64_t window_offset;
};

struct table_log_frame {
    uint64_t sequence;
    const uint8_t *effects; /* valid until the next call */
    uint32_t size_bytes;
};

uint64_t table_log_tenant_digest(const char *tenant);
void table_log_header_encode(
    const struct table_log_header *header, uint8_t ret[TABLE_LOG_HEADER_BYTES]);

/*
 * Begin to read FD, a log of TENANT. DOR_E_NOT_FOUND: the log has not begun, and holds nothing.
 * *RET is to be ended in any case.
 */
DOR_MUST_CHECK int table_log_reader_open(
    int fd, const char *name, const char *tenant, struct table_log_reader *ret);
void table_log_reader_close(struct table_log_reader *reader);

/* The next frame. DOR_E_NOT_FOUND: the log ends at `offset`. */
DOR_MUST_CHECK int
table_log_reader_next(struct table_log_reader *reader, struct table_log_frame *ret);

/* The first 20 of a frame's bytes before its effects, but for the checksum in front. */
uint64_t table_log_frame_checksum(uint64_t key, const uint8_t *frame, size_t size_bytes);

struct table_effect_view {
    enum table_effect effect;
    const uint8_t *key, *value;
    uint32_t key_bytes, value_bytes;
    int64_t expiry_ms;
};

/* The effect at *AT, which is moved behind it; false when there is none such. */
bool table_effect_read(const uint8_t **at, const uint8_t *end, struct table_effect_view *ret);

#endif
