/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem.h - memory that may run out, and scope guards that give it back.
 * Sizes of arrays are checked before they reach malloc, and every allocation passes the fault
 * hook, so a test can make each one fail in turn.
 *
 * Ownership:  what the allocators return is the caller's, to be given to base_free().
 * Threads:    any; one struct base_buf belongs to one thread at a time.
 * Errors:     allocators return NULL and record DOR_E_NO_MEMORY; base_buf_*() return it.
 */
#ifndef DOR_BASE_MEM_H
#define DOR_BASE_MEM_H

#include <dormouse/err.h>
#include <stddef.h>
#include <stdint.h>

void base_free(void *p); /* NULL is fine */

/* gcc follows what these return to base_free(); clang only knows that it is new. */
#if defined(__clang__)
#define BASE_ALLOCATOR __attribute__((malloc, warn_unused_result))
#else
#define BASE_ALLOCATOR __attribute__((malloc, malloc(base_free, 1), warn_unused_result))
#endif

/* SIZE_BYTES of memory, not cleared; a size of 0 gives a pointer that may only be freed. */
void *base_alloc(size_t size_bytes) BASE_ALLOCATOR;

/* The same, filled with zero bytes. */
void *base_zalloc(size_t size_bytes) BASE_ALLOCATOR;

/* COUNT elements of SIZE_BYTES each, filled with zero bytes; NULL too when the product
 * overflows. */
void *base_array(size_t count, size_t size_bytes) BASE_ALLOCATOR;

/* Resize to COUNT elements; on NULL the old memory is still the caller's. New elements are not
 * cleared. */
void *base_realloc_array(void *p, size_t count, size_t size_bytes)
    __attribute__((warn_unused_result));

/* COUNT pages of DOR_PAGE_BYTES, page-aligned, not cleared. */
void *base_alloc_pages(size_t page_count) BASE_ALLOCATOR;

/*
 * SIZE_BYTES, not cleared, for work space of megabytes: in huge pages where the system offers
 * them, which saves most of its page faults.
 */
void *base_alloc_huge(size_t size_bytes) BASE_ALLOCATOR;

/*
 * P, which now belongs to what it is stored in and is freed with it: `loop->buffer = base_keep(p);`
 * gcc's analyzer does not follow memory into a struct of which it knows only the address, and
 * would take it for lost there.
 */
void *base_keep(void *p);

/* Guards: `AUTO_FREE uint8_t *p = NULL;` and `AUTO_CLOSE int fd = -1;`, always initialised
 * there. */
#define AUTO_FREE  __attribute__((cleanup(base_auto_free)))
#define AUTO_CLOSE __attribute__((cleanup(base_auto_close)))

void base_auto_free(void *pointer_to_pointer);
void base_auto_close(int *fd);

/* Move a guarded pointer out of its guard: `*ret = TAKE(p);`. */
#define TAKE(p)                                                                                \
    __extension__({                                                                            \
        __typeof__(p) *take_from_ = &(p);                                                      \
        __typeof__(p) taken_ = *take_from_;                                                    \
        *take_from_ = NULL;                                                                    \
        taken_;                                                                                \
    })

/* The same for a guarded descriptor. */
static inline int
base_take_fd(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}

/* Close *FD, unless it is -1, and leave -1. */
static inline void
base_close_fd(int *fd)
{
    int taken = base_take_fd(fd);
    base_auto_close(&taken);
}

/* Bytes that grow; all zero is an empty one. */
struct base_buf {
    uint8_t *data;
    size_t size_bytes;
    size_t cap_bytes;
};

#define AUTO_BUF __attribute__((cleanup(base_buf_free)))

/* Make room for MORE_BYTES after the present ones: data[size_bytes ...] may then be written. */
DOR_MUST_CHECK int base_buf_reserve(struct base_buf *buf, size_t more_bytes);

DOR_MUST_CHECK int base_buf_append(struct base_buf *buf, const void *data, size_t size_bytes);

void base_buf_free(struct base_buf *buf); /* leaves an empty one */

#endif
