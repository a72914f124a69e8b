/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_table_log.c - the input is what is behind a log's header. Frames that fit get the number
 * that is due and their checksum, unless their first byte is 0xff. Whatever it is, replaying it
 * ends with an error or with a log that is cut where it is whole: the second time nothing is left
 * to cut.
 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/le.h"
#include "base/log.h"
#include "base/mem.h"
#include "table/log.h"
#include "table/log_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

enum { TABLE_BYTES = 1 << 20, KEEPS_CHECKSUM = 0xff };

static const struct table_log_header header = {.number = 1, .first_sequence = 1, .key = 7};

static void
mend(uint8_t *bytes, size_t size_bytes)
{
    uint64_t sequence = header.first_sequence;
    for (size_t at = 0; size_bytes - at >= TABLE_LOG_FRAME_BYTES;) {
        size_t effects = base_le32_get(bytes + at + 16);
        if (effects > size_bytes - at - TABLE_LOG_FRAME_BYTES)
            return;
        size_t frame_bytes = TABLE_LOG_FRAME_BYTES + effects;
        if (bytes[at] != KEEPS_CHECKSUM) {
            base_le64_put(bytes + at + 8, sequence++);
            base_le64_put(
                bytes + at, table_log_frame_checksum(header.key, bytes + at, frame_bytes));
        }
        at += frame_bytes;
    }
}

static int
replay(int fd, struct table_log_replayed *ret)
{
    struct table_options options = {.limit_bytes = TABLE_BYTES};
    struct table_log_options how = {.tenant = "fuzz", .when = TABLE_LOG_ALWAYS};
    struct table *table = NULL;
    struct table_log *log = NULL;
    int rc = table_create(memfd_create("table", MFD_CLOEXEC), &options, &table);
    if (rc == 0)
        rc = table_log_open(dup(fd), &how, &log);
    if (rc == 0)
        rc = table_log_replay(log, table, true, ret);
    table_log_close(log);
    table_close(table);
    return rc;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    AUTO_FREE uint8_t *bytes = base_alloc(size_bytes + 1);
    AUTO_CLOSE int fd = memfd_create("log", MFD_CLOEXEC);
    uint8_t head[TABLE_LOG_HEADER_BYTES];
    struct table_log_header mine = header;
    struct table_log_replayed first, second;
    base_log_level_set(LOG_LEVEL_ERROR);
    if (bytes == NULL || fd < 0)
        return 0;
    if (size_bytes > 0)
        memcpy(bytes, data, size_bytes);
    mend(bytes, size_bytes);
    mine.tenant_digest = table_log_tenant_digest("fuzz");
    table_log_header_encode(&mine, head);
    if (base_file_pwrite(fd, head, sizeof head, 0, "log") != 0 ||
        base_file_pwrite(fd, bytes, size_bytes, sizeof head, "log") != 0 ||
        replay(fd, &first) != 0)
        return 0;
    dor_assert(first.bytes + first.cut_bytes == sizeof head + size_bytes);
    dor_assert(replay(fd, &second) == 0);
    dor_assert(second.frames == first.frames && second.effects == first.effects);
    dor_assert(second.bytes == first.bytes && second.cut_bytes == 0);
    return 0;
}
