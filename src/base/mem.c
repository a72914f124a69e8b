/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem.c - malloc behind a fault hook and an overflow check.
 */
#include "base/mem.h"

#include "base/err.h"
#include "base/fault.h"
#include "base/size.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Enough for most small records, so that a buffer that grows byte by byte starts with few
 * moves. */
enum { BUF_CAP_BYTES_MIN = 256 };

#define HUGE_PAGE_BYTES ((size_t)2 << 20)

static void *
checked(void *p, size_t size_bytes)
{
    if (p == NULL)
        (void)dor_fail(DOR_E_NO_MEMORY, "cannot allocate %zu bytes", size_bytes);
    return p;
}

void
base_free(void *p)
{
    free(p);
}

void *
base_keep(void *p)
{
    return p;
}

/* malloc(0) may be NULL, which callers would take for a failure; hence at least one byte. */
static void *
uncleared(size_t size_bytes)
{
    return checked(
        base_fault_alloc() ? NULL : malloc(base_max_size(size_bytes, 1)), size_bytes);
}

void *
base_alloc(size_t size_bytes)
{
    return uncleared(size_bytes);
}

static void *
zeroed(size_t size_bytes)
{
    return checked(
        base_fault_alloc() ? NULL : calloc(1, base_max_size(size_bytes, 1)), size_bytes);
}

void *
base_zalloc(size_t size_bytes)
{
    return zeroed(size_bytes);
}

void *
base_array(size_t count, size_t size_bytes)
{
    size_t total;
    if (!base_mul_size(count, size_bytes, &total))
        return checked(NULL, SIZE_MAX);
    return zeroed(total);
}

void *
base_realloc_array(void *p, size_t count, size_t size_bytes)
{
    size_t total;
    if (!base_mul_size(count, size_bytes, &total))
        return checked(NULL, SIZE_MAX);
    return checked(base_fault_alloc() ? NULL : realloc(p, base_max_size(total, 1)), total);
}

void *
base_alloc_pages(size_t page_count)
{
    size_t total;
    if (!base_mul_size(base_max_size(page_count, 1), DOR_PAGE_BYTES, &total))
        return checked(NULL, SIZE_MAX);
    return checked(base_fault_alloc() ? NULL : aligned_alloc(DOR_PAGE_BYTES, total), total);
}

void *
base_alloc_huge(size_t size_bytes)
{
    if (size_bytes < HUGE_PAGE_BYTES)
        return uncleared(size_bytes);
    size_t total;
    if (!base_add_size(size_bytes, HUGE_PAGE_BYTES - 1, &total))
        return checked(NULL, SIZE_MAX);
    total -= total % HUGE_PAGE_BYTES;
    void *p = checked(base_fault_alloc() ? NULL : aligned_alloc(HUGE_PAGE_BYTES, total), total);
    /* Only advice: without it the same memory comes in small pages. */
    if (p != NULL)
        (void)madvise(p, total, MADV_HUGEPAGE);
    return p;
}

/* The guard passes the address of a pointer of any type; memcpy reads it without breaking
 * aliasing. */
void
base_auto_free(void *pointer_to_pointer)
{
    void *p;
    memcpy(&p, pointer_to_pointer, sizeof p);
    base_free(p);
}

void
base_auto_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

int
base_buf_reserve(struct base_buf *buf, size_t more_bytes)
{
    dor_assert(buf->size_bytes <= buf->cap_bytes);
    if (more_bytes <= buf->cap_bytes - buf->size_bytes)
        return 0;
    size_t need;
    if (!base_add_size(buf->size_bytes, more_bytes, &need))
        return dor_fail(DOR_E_NO_MEMORY, "a buffer cannot hold %zu more bytes", more_bytes);
    /* Doubling keeps the cost of all moves linear; past half the address space it is just what
     * is needed. */
    size_t cap = base_max_size(buf->cap_bytes, BUF_CAP_BYTES_MIN);
    while (cap < need && base_mul_size(cap, 2, &cap))
        ;
    cap = base_max_size(cap, need);
    uint8_t *data = base_realloc_array(buf->data, cap, 1);
    if (data == NULL)
        return DOR_E_NO_MEMORY;
    buf->data = data;
    buf->cap_bytes = cap;
    return 0;
}

int
base_buf_append(struct base_buf *buf, const void *data, size_t size_bytes)
{
    int rc = base_buf_reserve(buf, size_bytes);
    if (rc == 0 && size_bytes > 0) {
        memcpy(buf->data + buf->size_bytes, data, size_bytes);
        buf->size_bytes += size_bytes;
    }
    return rc;
}

void
base_buf_free(struct base_buf *buf)
{
    base_free(buf->data);
    *buf = (struct base_buf){.data = NULL};
}
