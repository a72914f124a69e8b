/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mark.c - copies of pages before they change, and the reader of both.
 *
 *     mark file: one bit a page of the arena, lowest bit first, and at least a bit more, in whole
 *                pages; then the copies, each at its own place. What has no copy is a hole.
 *
 *     writer: copy the page, set its bit (release), change the page
 *     reader: read the page, look at its bit (acquire), read the copy if it is set
 *
 * A reader that saw any byte of a change sees the bit too. The size of the file tells how much of
 * the arena there was, so nobody need be told.
 */
#include "table/mark.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"

#define PAGE_BITS     (DOR_PAGE_BYTES * 8)
#define PAGES_AT_ONCE 64

struct table_mark {
    uint8_t *base;
    uint64_t size_bytes;
    uint64_t head_bytes;
    uint64_t arena_bytes; /* pages behind were not part of the table when the mark was made */
};

static uint64_t
head_bytes(uint64_t arena_bytes)
{
    return (arena_bytes / DOR_PAGE_BYTES / PAGE_BITS + 1) * DOR_PAGE_BYTES;
}

int
table_mark_begin(struct table_arena *arena, int mark_fd)
{
    AUTO_CLOSE int fd = mark_fd;
    if (arena->mark != NULL)
        return dor_fail(DOR_E_BUSY, "a snapshot of the table is being taken");
    uint64_t arena_bytes =
        ((uint64_t)arena->header->top * TABLE_UNIT_BYTES + DOR_PAGE_BYTES - 1) &
        ~(uint64_t)(DOR_PAGE_BYTES - 1);
    uint64_t size_bytes = head_bytes(arena_bytes) + arena_bytes;
    AUTO_FREE struct table_mark *mark = base_zalloc(sizeof *mark);
    if (mark == NULL)
        return DOR_E_NO_MEMORY;
    int rc = base_file_truncate(fd, 0, "the mark of a table");
    if (rc == 0)
        rc = base_file_truncate(fd, size_bytes, "the mark of a table");
    if (rc != 0)
        return rc;
    void *base =
        mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (base == MAP_FAILED)
        return dor_fail_errno(errno, "cannot map the mark of a table");
    *mark = (struct table_mark){
        .base = base,
        .size_bytes = size_bytes,
        .head_bytes = head_bytes(arena_bytes),
        .arena_bytes = arena_bytes,
    };
    arena->mark = TAKE(mark);
    return 0;
}

void
table_mark_end(struct table_arena *arena)
{
    struct table_mark *mark = arena->mark;
    if (mark == NULL)
        return;
    arena->mark = NULL;
    munmap(mark->base, mark->size_bytes);
    base_free(mark);
}

void
table_mark_save(struct table_arena *arena, uint64_t offset, uint64_t size_bytes)
{
    const struct table_mark *mark = arena->mark;
    uint64_t end = base_min_u64(offset + size_bytes, mark->arena_bytes);
    for (uint64_t at = offset & ~(uint64_t)(DOR_PAGE_BYTES - 1); at < end;
         at += DOR_PAGE_BYTES) {
        uint64_t page = at >> DOR_PAGE_SHIFT;
        uint8_t *bits = mark->base + page / 8;
        uint8_t bit = (uint8_t)(1u << (page % 8));
        if ((*bits & bit) != 0)
            continue;
        memcpy(mark->base + mark->head_bytes + at, arena->base + at, DOR_PAGE_BYTES);
        /* Pairs with the fence in table_mark_read(): whoever sees the bit sees the copy, and the
         * page changes only after the bit can be seen. */
        __atomic_store_n(bits, (uint8_t)(*bits | bit), __ATOMIC_SEQ_CST);
    }
}

int
table_mark_arena_bytes(int mark_fd, uint64_t *ret)
{
    uint64_t size_bytes;
    int rc = base_file_size(mark_fd, "the mark of a table", &size_bytes);
    if (rc != 0)
        return rc;
    /* Each page of bits stands for PAGE_BITS pages of copies, the last one for fewer. */
    uint64_t pages = size_bytes / DOR_PAGE_BYTES;
    uint64_t arena_bytes = (pages - pages / (PAGE_BITS + 1) - 1) * DOR_PAGE_BYTES;
    if (pages < 2 || size_bytes % DOR_PAGE_BYTES != 0 ||
        head_bytes(arena_bytes) + arena_bytes != size_bytes)
        return dor_fail(DOR_E_CORRUPT, "this memory file is no mark of a table");
    *ret = arena_bytes;
    return 0;
}

/* Replace the pages from AT on, COUNT of them, that have copies. */
static int
take_copies(int mark_fd, uint64_t arena_bytes, uint64_t at, uint64_t count, uint8_t *pages)
{
    uint8_t bits[PAGES_AT_ONCE / 8 + 1];
    uint64_t first = at / DOR_PAGE_BYTES;
    uint64_t bits_bytes = (first + count - 1) / 8 - first / 8 + 1;
    int rc = base_file_pread(mark_fd, bits, bits_bytes, first / 8, "the mark of a table");
    for (uint64_t i = 0; rc == 0 && i < count; i++) {
        uint64_t bit = first % 8 + i;
        if ((bits[bit / 8] >> (bit % 8) & 1) != 0)
            rc = base_file_pread(
                mark_fd, pages + i * DOR_PAGE_BYTES, DOR_PAGE_BYTES,
                head_bytes(arena_bytes) + at + i * DOR_PAGE_BYTES, "the mark of a table");
    }
    return rc;
}

int
table_mark_read(
    int arena_fd, int mark_fd, uint64_t arena_bytes, uint64_t offset, size_t size_bytes,
    void *ret)
{
    if (offset % DOR_PAGE_BYTES != 0 || size_bytes % DOR_PAGE_BYTES != 0 ||
        offset > arena_bytes || size_bytes > arena_bytes - offset)
        return dor_fail(DOR_E_USAGE, "a mark of a table is read in whole pages inside it");
    uint8_t *pages = ret;
    int rc = 0;
    for (uint64_t done = 0; rc == 0 && done < size_bytes;) {
        uint64_t bytes =
            base_min_u64(size_bytes - done, PAGES_AT_ONCE * (uint64_t)DOR_PAGE_BYTES);
        rc = base_file_pread(
            arena_fd, pages + done, bytes, offset + done, "the memory of a table");
        /* The pages were read before their bits are; see table_mark_save(). */
        atomic_thread_fence(memory_order_seq_cst);
        if (rc == 0)
            rc = take_copies(
                mark_fd, arena_bytes, offset + done, bytes / DOR_PAGE_BYTES, pages + done);
        done += bytes;
    }
    return rc;
}
