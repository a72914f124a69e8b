/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pager.c - pages are brought in aligned blocks: who wants one page of a table soon wants its
 * neighbours, and a store decodes neighbours together. Holes of the source are not read, for the
 * mapping is zero there.
 */
#include "guest/pager.h"

#include "base/mem.h"
#include "base/size.h"

#include <errno.h>
#include <sys/mman.h>

#define BLOCK_PAGES UINT64_C(16)

int
guest_pager_open(struct guest_pager *pager, const struct dor_inspect_pages *pages)
{
    size_t size_bytes;
    const struct dor_page_source *source = pages->source;
    *pager = (struct guest_pager){.pages = pages};
    if (!base_mul_size((size_t)source->page_count, DOR_PAGE_BYTES, &size_bytes))
        return dor_fail(DOR_E_NO_MEMORY, "an image of so many pages has no room in memory");
    size_t words = (size_t)DIV_ROUND_UP(source->page_count, BLOCK_PAGES * 64);
    pager->here_bits = base_array(words, sizeof(uint64_t));
    pager->kept_bits = base_array(words, sizeof(uint64_t));
    if (pager->here_bits == NULL || pager->kept_bits == NULL) {
        guest_pager_close(pager);
        return DOR_E_NO_MEMORY;
    }
    void *bytes = mmap(
        NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
        -1, 0);
    if (bytes == MAP_FAILED) {
        guest_pager_close(pager);
        return dor_fail_errno(errno, "memory to look into the image");
    }
    pager->bytes = bytes;
    pager->size_bytes = size_bytes;
    return 0;
}

void
guest_pager_close(struct guest_pager *pager)
{
    if (pager->bytes != NULL)
        munmap(pager->bytes, pager->size_bytes);
    base_free(pager->here_bits);
    base_free(pager->kept_bits);
    pager->bytes = NULL;
    pager->here_bits = NULL;
    pager->kept_bits = NULL;
}

/* Read what the source has of the pages FIRST ... END - 1. */
static int
read_pages(const struct guest_pager *pager, uint64_t first, uint64_t end)
{
    const struct dor_page_source *source = pager->pages->source;
    while (first < end) {
        uint64_t data = first;
        uint64_t data_end = end;
        int rc = source->next_data == NULL
                     ? 0
                     : source->next_data(source->context, first, &data, &data_end);
        if (rc != 0 || data >= end)
            return rc;
        dor_assert(data >= first && data_end > data);
        data_end = base_min_u64(data_end, end);
        rc = source->read(
            source->context, data, (size_t)(data_end - data),
            pager->bytes + data * DOR_PAGE_BYTES);
        if (rc != 0)
            return rc;
        first = data_end;
    }
    return 0;
}

static bool
has_bit(const uint64_t *bits, uint64_t bit)
{
    return (bits[bit / 64] >> bit % 64 & 1) != 0;
}

static void
set_bit(uint64_t *bits, uint64_t bit)
{
    bits[bit / 64] |= UINT64_C(1) << bit % 64;
}

static bool
bring_block(struct guest_pager *pager, uint64_t block)
{
    uint64_t first = block * BLOCK_PAGES;
    uint64_t end = base_min_u64(first + BLOCK_PAGES, pager->pages->source->page_count);
    if (has_bit(pager->here_bits, block))
        return true;
    if (pager->rc != 0)
        return false;
    pager->rc = read_pages(pager, first, end);
    if (pager->rc != 0) {
        pager->err = *base_err_record();
        return false;
    }
    set_bit(pager->here_bits, block);
    return true;
}

bool
guest_pager_bring(struct guest_pager *pager, const uint8_t *data, size_t size_bytes)
{
    uint64_t at = (uint64_t)(data - pager->bytes);
    dor_assert(at <= pager->size_bytes && size_bytes <= pager->size_bytes - at);
    if (size_bytes == 0)
        return true;
    uint64_t last = (at + size_bytes - 1) / (BLOCK_PAGES * DOR_PAGE_BYTES);
    for (uint64_t block = at / (BLOCK_PAGES * DOR_PAGE_BYTES); block <= last; block++)
        if (!has_bit(pager->kept_bits, block)) {
            if (!bring_block(pager, block))
                return false;
            set_bit(pager->kept_bits, block);
        }
    return true;
}

/* Give back the memory of the block that was peeked at last, unless it is kept. */
static void
drop_peeked(struct guest_pager *pager)
{
    uint64_t block = pager->peeked - 1;
    uint64_t first = block * BLOCK_PAGES;
    if (pager->peeked == 0 || has_bit(pager->kept_bits, block))
        return;
    uint64_t count = base_min_u64(BLOCK_PAGES, pager->pages->source->page_count - first);
    /* After an error, which private memory without a file has none of, it would only be kept. */
    if (madvise(
            pager->bytes + first * DOR_PAGE_BYTES, (size_t)count * DOR_PAGE_BYTES,
            MADV_DONTNEED) == 0)
        pager->here_bits[block / 64] &= ~(UINT64_C(1) << block % 64);
}

const uint8_t *
guest_pager_peek(struct guest_pager *pager, uint64_t row)
{
    const struct dor_inspect_pages *pages = pager->pages;
    const uint8_t *page = pages->find == NULL ? NULL : pages->find(pages->source->context, row);
    if (page != NULL)
        return page;
    uint64_t block = row / BLOCK_PAGES;
    if (pager->peeked != block + 1)
        drop_peeked(pager);
    if (!bring_block(pager, block))
        return NULL;
    pager->peeked = block + 1;
    return pager->bytes + row * DOR_PAGE_BYTES;
}

int
guest_pager_error(const struct guest_pager *pager)
{
    if (pager->rc != 0)
        base_err_load(&pager->err);
    return pager->rc;
}
