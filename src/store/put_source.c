/* SPDX-License-Identifier: Apache-2.0 */
/*
 * put_source.c - what a put is given: whether it makes sense, and where its pages come from.
 */
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/file.h"
#include "base/size.h"
#include "store/put_priv.h"
#include "store/store_priv.h"

#define IMAGE_BYTES_MAX   (UINT64_C(1) << 44)
#define SIDECAR_BYTES_MAX (UINT32_C(1) << 30)

/* The row of pages in a file, as a source. */
static int
file_next_data(void *context, uint64_t page_index, uint64_t *ret_first, uint64_t *ret_end)
{
    const struct job *job = context;
    uint64_t image_bytes = job->page_count * DOR_PAGE_BYTES;
    uint64_t data_start;
    uint64_t data_end;
    int err = base_file_next_data(
        job->put->image_fd, page_index * DOR_PAGE_BYTES, image_bytes, &data_start, &data_end);
    if (err != 0)
        return err;
    *ret_first = data_start / DOR_PAGE_BYTES;
    *ret_end = base_min_u64(job->page_count, DIV_ROUND_UP(data_end, DOR_PAGE_BYTES));
    return 0;
}

static int
file_read(void *context, uint64_t first_page, size_t page_count, void *pages)
{
    const struct job *job = context;
    return base_file_pread(
        job->put->image_fd, pages, page_count * DOR_PAGE_BYTES, first_page * DOR_PAGE_BYTES,
        "image");
}

static int
check_image(int fd, uint64_t *ret_pages)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return dor_fail(DOR_E_USAGE, "image: not a regular file");
    uint64_t size_bytes = (uint64_t)st.st_size;
    if (size_bytes == 0)
        return dor_fail(DOR_E_USAGE, "image: empty file");
    if (size_bytes % DOR_PAGE_BYTES != 0)
        return dor_fail(
            DOR_E_USAGE, "image: %llu bytes is not a multiple of 4096",
            (unsigned long long)size_bytes);
    if (size_bytes > IMAGE_BYTES_MAX)
        return dor_fail(
            DOR_E_USAGE, "image: %llu bytes is more than the limit of 16 TiB",
            (unsigned long long)size_bytes);
    *ret_pages = size_bytes / DOR_PAGE_BYTES;
    return 0;
}

/* Where the pages come from, and how many there are. */
static int
choose_source(struct job *job)
{
    const struct dor_put *put = job->put;
    if (put->source == NULL) {
        int err = check_image(put->image_fd, &job->page_count);
        job->source = (struct dor_page_source){job->page_count, file_read, file_next_data, job};
        return err;
    }
    job->source = *put->source;
    job->page_count = put->source->page_count;
    if (job->page_count == 0 || job->page_count > IMAGE_BYTES_MAX / DOR_PAGE_BYTES)
        return dor_fail(
            DOR_E_USAGE, "image: %llu pages; at least 1 and at most 16 TiB are possible",
            (unsigned long long)job->page_count);
    return 0;
}

static int
check_arrays(const struct job *job)
{
    const struct dor_put *put = job->put;
    for (uint64_t i = 0; put->region_types != NULL && i < job->page_count; i++)
        if (put->region_types[i] >= DOR_REGION_TYPES)
            return dor_fail(
                DOR_E_USAGE, "page %llu has no such region type", (unsigned long long)i);
    for (uint64_t i = 0; put->page_classes != NULL && i < job->page_count; i++)
        if (put->page_classes[i] >= DOR_CLASSES)
            return dor_fail(DOR_E_USAGE, "page %llu has no such class", (unsigned long long)i);
    return 0;
}

int
put_check(const struct dor_store *store, const char *name, struct job *job)
{
    const struct dor_put *put = job->put;
    int err = store_require_writable(store);
    if (err == 0)
        err = dor_name_check(name);
    if (err == 0 && put->domain != NULL)
        err = dor_name_check(put->domain);
    if (err == 0 && put->sidecar_count > DOR_SIDECARS_MAX)
        err = dor_fail(DOR_E_USAGE, "at most %d sidecars", DOR_SIDECARS_MAX);
    for (size_t i = 0; i < put->sidecar_count && err == 0; i++) {
        err = dor_name_check(put->sidecars[i].name);
        if (err == 0 && put->sidecars[i].size_bytes > SIDECAR_BYTES_MAX)
            err = dor_fail(DOR_E_USAGE, "sidecar %s is too large", put->sidecars[i].name);
        for (size_t k = 0; k < i && err == 0; k++)
            if (strcmp(put->sidecars[i].name, put->sidecars[k].name) == 0)
                err =
                    dor_fail(DOR_E_USAGE, "two sidecars are called %s", put->sidecars[i].name);
    }
    if (err == 0 && put->frame_bytes > SIDECAR_BYTES_MAX)
        err = dor_fail(DOR_E_USAGE, "the image's frame is too large");
    if (err == 0 && !put->replace && store_catalog_snapshot(store->catalog, name) != NULL)
        err = dor_fail(
            DOR_E_EXISTS, "snapshot %s exists; replace it or choose another name", name);
    if (err == 0 && put->diff && put->parent == NULL)
        err = dor_fail(DOR_E_USAGE, "a diff needs the name of the snapshot it is one of");
    if (err == 0)
        err = choose_source(job);
    return err != 0 ? err : check_arrays(job);
}
