/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_pages.c - asks the image where its data is, and remembers the last answer: the file system
 * goes through all of a run of data to find its end.
 */
#include "guest/image_pages.h"

#include "base/err.h"
#include "base/size.h"
#include "guest/image_priv.h"

static int
look_at(struct guest_image_pages *pages, uint64_t page)
{
    uint64_t first = 0;
    uint64_t end = 0;
    if (page >= pages->hole_first && page < pages->data_end)
        return 0;
    int rc = dor_image_next_data(pages->image, page, &first, &end);
    if (rc != 0)
        return rc;
    pages->hole_first = page;
    pages->data_first = first;
    pages->data_end = end;
    return 0;
}

static int
next_data(void *context, uint64_t page, uint64_t *ret_first, uint64_t *ret_end)
{
    struct guest_image_pages *pages = context;
    int rc = look_at(pages, page);
    if (rc != 0)
        return rc;
    *ret_first = base_max_u64(pages->data_first, page);
    *ret_end = pages->data_end;
    return 0;
}

static int
read_pages(void *context, uint64_t first_page, size_t page_count, void *bytes)
{
    const struct guest_image_pages *pages = context;
    dor_image_read(pages->image, first_page, page_count, bytes);
    return 0;
}

bool
guest_image_is_sparse(const struct dor_image *image)
{
    size_t i = 0;
    while (i < image->file_count && !image->files[i].sparse)
        i++;
    return i < image->file_count;
}

void
guest_image_pages_init(struct guest_image_pages *pages, const struct dor_image *image)
{
    *pages = (struct guest_image_pages){
        .source =
            {.page_count = dor_image_info(image)->page_count,
             .read = read_pages,
             .next_data = next_data,
             .context = pages},
        .image = image};
}

const uint8_t *
guest_image_pages_find(void *context, uint64_t page_index)
{
    struct guest_image_pages *pages = context;
    /* Who finds nothing reads, and hears of the error then. */
    if (look_at(pages, page_index) != 0 || page_index < pages->data_first ||
        page_index >= pages->data_end)
        return NULL;
    return dor_image_page(pages->image, page_index);
}
