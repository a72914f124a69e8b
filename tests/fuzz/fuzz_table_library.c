/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_table_library.c - first lines of libraries, and dumps: what is accepted lies inside the
 * input, and what was dumped comes back.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"
#include "table/library.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_dump(const uint8_t *data, size_t size)
{
    AUTO_BUF struct base_buf buf = {0};
    struct table_engine_bytes source;
    size_t length, at = 0;
    if (table_dump_add(&buf, data, size) != 0 || table_dump_end(&buf) != 0)
        return;
    dor_assert(table_dump_check(buf.data, buf.size_bytes, &length) == 0);
    dor_assert(table_dump_next(buf.data, length, &at, &source) == 0 && at == length);
    dor_assert(source.length == size && (size == 0 || memcmp(source.bytes, data, size) == 0));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct table_library_head head;
    struct table_engine_bytes source;
    size_t length, at = 0;
    if (table_library_parse(data, size, &head) == 0) {
        dor_assert(head.code_offset < size && data[head.code_offset] == '\n');
        dor_assert(head.name.bytes > data && head.name.bytes + head.name.length <= data + size);
        dor_assert(table_library_name_is_good(head.name.bytes, head.name.length));
    }
    if (table_dump_check(data, size, &length) == 0)
        dor_assert(length < size);
    while (at < size && table_dump_next(data, size, &at, &source) == 0)
        dor_assert(source.bytes + source.length <= data + size && at <= size);
    check_dump(data, size);
    return 0;
}
