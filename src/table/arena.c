/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena.c - mapping and growing the memory file of a table.
 *
 * The whole range up to the limit is mapped at once and the file grows under it, so addresses
 * never change. The file grows by an eighth, at least FILE_STEP_BYTES: an empty table costs one
 * page, and only pages that were written cost memory.
 */
#include "table/arena.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "table/mark.h"

_Static_assert(sizeof(struct table_bucket) == 64, "a bucket is a cache line");
_Static_assert(sizeof(struct table_header) == DOR_PAGE_BYTES, "the header is a page");
_Static_assert(
    offsetof(struct table_header, segments) == 64, "as docs/formats/table.md has it");
_Static_assert(
    offsetof(struct table_header, buckets) == 3072, "as docs/formats/table.md has it");

#define FILE_STEP_BYTES 65536
#define RESERVE_PART    64

static int
map_arena(int fd, uint64_t limit_bytes, struct table_arena *ret)
{
    if (limit_bytes < TABLE_ARENA_BYTES_MIN || limit_bytes > TABLE_ARENA_BYTES_MAX)
        return dor_fail(
            DOR_E_USAGE, "a table of %" PRIu64 " bytes: 64 KiB to 4 GiB are possible",
            limit_bytes);
    /* The limit is for what is in use; free blocks lie between. A page more: what reads a little
     * behind the last value finds memory. */
    uint64_t mapped_bytes =
        base_round_down_u64(
            base_min_u64(limit_bytes + limit_bytes / 4 + (1 << 20), TABLE_ARENA_BYTES_MAX),
            DOR_PAGE_BYTES) +
        DOR_PAGE_BYTES;
    void *base =
        mmap(NULL, mapped_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (base == MAP_FAILED)
        return dor_fail_errno(errno, "cannot map a table of %" PRIu64 " bytes", limit_bytes);
    uint64_t units = (mapped_bytes - DOR_PAGE_BYTES) / TABLE_UNIT_BYTES;
    *ret = (struct table_arena){
        .fd = fd,
        .base = base,
        .header = base,
        .mapped_bytes = mapped_bytes,
        .records_end = (uint32_t)(units - units / RESERVE_PART),
    };
    return 0;
}

int
table_arena_create(int fd, uint64_t limit_bytes, uint32_t seed, struct table_arena *ret)
{
    AUTO_CLOSE int guard = fd;
    struct table_arena arena = {.fd = -1};
    int rc = map_arena(fd, limit_bytes, &arena);
    if (rc != 0)
        return rc;
    rc = table_arena_extend(&arena, FILE_STEP_BYTES / TABLE_UNIT_BYTES);
    if (rc != 0) {
        munmap(arena.base, arena.mapped_bytes);
        return rc;
    }
    struct table_header *header = arena.header;
    dor_assert(header != NULL);
    header->version = TABLE_VERSION;
    header->seed = seed;
    header->top = sizeof *header / TABLE_UNIT_BYTES;
    header->bucket_count = TABLE_FIRST_BUCKETS;
    header->bucket_mask = 2 * TABLE_FIRST_BUCKETS - 1;
    header->limit_units = (uint32_t)(limit_bytes / TABLE_UNIT_BYTES);
    header->segments[0] = offsetof(struct table_header, buckets) / sizeof(uint32_t);
    table_arena_put(&arena, &header->magic, TABLE_MAGIC);
    arena.fd = base_take_fd(&guard);
    *ret = arena;
    return 0;
}

int
table_arena_open(
    int fd, uint64_t limit_bytes, table_mapped_fn *mapped, void *context,
    struct table_arena *ret)
{
    AUTO_CLOSE int guard = fd;
    uint64_t file_bytes = 0;
    int rc = base_file_size(fd, "the memory of a table", &file_bytes);
    if (rc != 0)
        return rc;
    if (file_bytes < DOR_PAGE_BYTES || file_bytes > TABLE_ARENA_BYTES_MAX + DOR_PAGE_BYTES)
        return dor_fail(DOR_E_CORRUPT, "a table of %" PRIu64 " bytes is none", file_bytes);
    struct table_arena arena = {.fd = -1};
    rc = map_arena(
        fd, base_max_u64(limit_bytes, base_min_u64(file_bytes, TABLE_ARENA_BYTES_MAX)), &arena);
    if (rc != 0)
        return rc;
    if (mapped != NULL && (rc = mapped(context, arena.base, file_bytes)) != 0) {
        munmap(arena.base, arena.mapped_bytes);
        return rc;
    }
    arena.lacking_bytes = mapped != NULL ? file_bytes : 0;
    const struct table_header *header = arena.header;
    dor_assert(header != NULL);
    if (header->magic != TABLE_MAGIC || header->version != TABLE_VERSION ||
        (uint64_t)header->top * TABLE_UNIT_BYTES >
            base_min_u64(file_bytes, TABLE_ARENA_BYTES_MAX) ||
        header->top < sizeof *header / TABLE_UNIT_BYTES) {
        munmap(arena.base, arena.mapped_bytes);
        return dor_fail(
            DOR_E_CORRUPT, "this memory is no table, or one of a version that is not known");
    }
    /* An arena out of a snapshot ends with its last page. */
    uint64_t least_bytes = base_round_down_u64(
        (uint64_t)header->top * TABLE_UNIT_BYTES + 2 * DOR_PAGE_BYTES - 1, DOR_PAGE_BYTES);
    if (file_bytes < least_bytes &&
        (rc = base_file_truncate(fd, least_bytes, "the memory of a table")) != 0) {
        munmap(arena.base, arena.mapped_bytes);
        return rc;
    }
    arena.file_bytes = base_max_u64(file_bytes, least_bytes);
    arena.dirty_top = (uint32_t)base_min_u64(file_bytes / TABLE_UNIT_BYTES, UINT32_MAX);
    arena.header->limit_units = (uint32_t)(limit_bytes / TABLE_UNIT_BYTES);
    arena.fd = base_take_fd(&guard);
    *ret = arena;
    return 0;
}

void
table_arena_complete(struct table_arena *arena)
{
    const volatile uint8_t *base = arena->base;
    for (uint64_t at = 0; at < arena->lacking_bytes; at += DOR_PAGE_BYTES)
        (void)base[at];
    arena->lacking_bytes = 0;
}

void
table_arena_close(struct table_arena *arena)
{
    if (arena->base == NULL)
        return;
    table_mark_end(arena);
    munmap(arena->base, arena->mapped_bytes);
    base_auto_close(&arena->fd);
    *arena = (struct table_arena){.fd = -1};
}

int
table_arena_extend(struct table_arena *arena, uint32_t top)
{
    uint64_t need = (uint64_t)top * TABLE_UNIT_BYTES;
    if (need + DOR_PAGE_BYTES > arena->mapped_bytes)
        return dor_fail(DOR_E_NO_SPACE, "the table is full");
    if (need <= arena->file_bytes)
        return 0;
    uint64_t bytes = need + base_max_u64(need / 8, FILE_STEP_BYTES);
    bytes = base_min_u64(base_round_down_u64(bytes, DOR_PAGE_BYTES), arena->mapped_bytes);
    int rc = base_file_truncate(arena->fd, bytes, "the memory of a table");
    if (rc == 0)
        arena->file_bytes = bytes;
    return rc;
}

void
table_arena_punch(struct table_arena *arena, uint32_t from, uint32_t to)
{
    uint64_t begin =
        ((uint64_t)from * TABLE_UNIT_BYTES + DOR_PAGE_BYTES - 1) & ~(DOR_PAGE_BYTES - 1);
    uint64_t end = (uint64_t)to * TABLE_UNIT_BYTES & ~(uint64_t)(DOR_PAGE_BYTES - 1);
    if (arena->mark != NULL || end <= begin)
        return;
    /* It is only an advice: memory that stays is found dirty and is written over later. */
    (void)!fallocate(
        arena->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)begin,
        (off_t)(end - begin));
}
