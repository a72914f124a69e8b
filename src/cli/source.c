/* SPDX-License-Identifier: Apache-2.0 */
/*
 * source.c - images are mapped, so a file that another program cuts short meanwhile ends this one
 * by a signal; it says so and exits as for any other trouble with reading. Nothing is lost: what a
 * put has written by then is not part of the store.
 */
#include "cli/source.h"

#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"

#include <dormouse/store.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ------------------------------------------------------------------ reading */

static int
look_at(struct cli_source_image *image, uint64_t page)
{
    if (page >= image->hole_first && page < image->data_end)
        return 0;
    image->hole_first = page;
    return dor_image_next_data(image->image, page, &image->data_first, &image->data_end);
}

static bool
has_data(const struct cli_source_image *image, uint64_t page)
{
    return page >= image->data_first && page < image->data_end;
}

/* The first data of any image of the chain. */
static int
next_data(void *context, uint64_t page, uint64_t *ret_first, uint64_t *ret_end)
{
    struct cli_source *source = context;
    uint64_t first = source->pages.page_count;
    uint64_t end = first;
    for (size_t i = 0; i < source->image_count; i++) {
        struct cli_source_image *image = &source->images[i];
        int rc = look_at(image, page);
        if (rc != 0)
            return rc;
        uint64_t here = base_max_u64(image->data_first, page);
        if (here < first) {
            first = here;
            end = image->data_end;
        }
    }
    *ret_first = first;
    *ret_end = end;
    return 0;
}

/* Each page from the last image that has data for it. */
static int
read_pages(void *context, uint64_t first_page, size_t page_count, void *pages)
{
    struct cli_source *source = context;
    if (source->image_count == 1) {
        dor_image_read(source->images[0].image, first_page, page_count, pages);
        return 0;
    }
    for (size_t p = 0; p < page_count; p++) {
        uint8_t *bytes = (uint8_t *)pages + p * DOR_PAGE_BYTES;
        memset(bytes, 0, DOR_PAGE_BYTES);
        for (size_t i = source->image_count; i-- > 0;) {
            int rc = look_at(&source->images[i], first_page + p);
            if (rc != 0)
                return rc;
            if (has_data(&source->images[i], first_page + p)) {
                dor_image_read(source->images[i].image, first_page + p, 1, bytes);
                break;
            }
        }
    }
    return 0;
}

static void
tell_bus_error(int number)
{
    static const char words[] =
        "dormouse: image: cannot be read; is it being cut, or is its disk damaged?\n";
    (void)number;
    ssize_t written = write(STDERR_FILENO, words, sizeof words - 1);
    (void)written;
    _exit(-DOR_E_IO);
}

static int
open_one(
    const struct cli *cli, const char *path, enum dor_image_format format,
    struct cli_source *source)
{
    struct cli_source_image *image = &source->images[source->image_count];
    int rc = dor_image_open(path, format, &image->image);
    if (rc != 0)
        return rc;
    source->image_count++;
    uint64_t page_count = dor_image_info(image->image)->page_count;
    if (source->image_count == 1)
        source->pages.page_count = page_count;
    if (page_count != source->pages.page_count)
        return dor_fail(
            DOR_E_USAGE, "image %s: has another size than %s; diffs of one chain are as long",
            path, cli->args[1]);
    rc = cli->values.diff ? dor_image_set_diff(image->image) : 0;
    return rc == 0 ? 0 : dor_fail_wrap("image %s", path);
}

int
cli_source_open(const struct cli *cli, struct cli_source *ret)
{
    enum dor_image_format format = DOR_IMAGE_AUTO;
    const char *name = cli->values.format;
    int rc = name == NULL ? 0 : dor_image_format_parse(name, &format);
    if (rc == 0 && cli->values.diff && cli->values.parent == NULL)
        rc = dor_fail(
            DOR_E_USAGE, "--diff needs --parent NAME, the snapshot that the diff began from");
    if (rc == 0 && !cli->values.diff && cli->arg_count > 2)
        rc = dor_fail(DOR_E_USAGE, "put takes one image; only diffs (--diff) may be several");
    if (rc == 0 && cli->arg_count - 1 > CLI_LIST_MAX)
        rc = dor_fail(DOR_E_USAGE, "at most %d diffs at a time", CLI_LIST_MAX);
    signal(SIGBUS, tell_bus_error);
    for (size_t i = 1; rc == 0 && i < cli->arg_count; i++)
        rc = open_one(cli, cli->args[i], format, ret);
    ret->pages.read = read_pages;
    ret->pages.next_data = next_data;
    ret->pages.context = ret;
    return rc;
}

/* ------------------------------------------------------------------ inspecting */

static int
make_arrays(struct cli_source *source)
{
    uint64_t count = source->pages.page_count;
    source->region_types = base_array(count, 1);
    source->page_classes = base_array(count, 1);
    return source->region_types == NULL || source->page_classes == NULL ? DOR_E_NO_MEMORY : 0;
}

static int
mark_free(
    const struct cli *cli, const struct dor_inspection *inspection, struct cli_source *source)
{
    if (!inspection->free_is_sure) {
        fprintf(
            stderr,
            "dormouse: %s: free pages are kept, for it is not sure which are free: %s\n",
            cli->args[1],
            inspection->remark[0] != '\0' ? inspection->remark : "no kernel that tells");
        return 0;
    }
    source->dropped = base_array(source->pages.page_count, 1);
    if (source->dropped == NULL)
        return DOR_E_NO_MEMORY;
    for (uint64_t i = 0; i < source->pages.page_count; i++)
        source->dropped[i] = inspection->pages[i].page_class == DOR_CLASS_FREE;
    return 0;
}

static int
take_inspection(
    const struct cli *cli, const struct dor_inspection *inspection, struct cli_source *source)
{
    int rc = make_arrays(source);
    if (rc != 0)
        return rc;
    source->inspected = true;
    source->tier = inspection->tier;
    memcpy(source->kernel, inspection->kernel, sizeof source->kernel);
    for (uint64_t i = 0; i < source->pages.page_count; i++) {
        source->page_classes[i] = inspection->pages[i].page_class;
        source->region_types[i] = inspection->pages[i].region_type;
    }
    return cli->values.drop_free ? mark_free(cli, inspection, source) : 0;
}

/* ------------------------------------------------------------------ diffs */

/* Whether a diff has data for the page. */
static int
is_changed(struct cli_source *source, uint64_t page, bool *ret)
{
    *ret = false;
    for (size_t i = 0; !*ret && i < source->image_count; i++) {
        int rc = look_at(&source->images[i], page);
        if (rc != 0)
            return rc;
        *ret = has_data(&source->images[i], page);
    }
    return 0;
}

/* Whether the parent's page is not zero, so that it counts where no diff has data. */
static bool
is_in_parent(const struct cli_source *source, uint64_t page)
{
    return dor_snapshot_page_kind(source->parent, page) != DOR_PAGE_ZERO;
}

/* The next pages that are in a diff or not zero in the parent. */
static int
next_data_of_sum(void *context, uint64_t page, uint64_t *ret_first, uint64_t *ret_end)
{
    struct cli_source *source = context;
    uint64_t end = source->pages.page_count;
    uint64_t changed = end;
    uint64_t changed_end = end;
    int rc = next_data(source, page, &changed, &changed_end);
    while (page < changed && !is_in_parent(source, page))
        page++;
    *ret_first = page;
    while (page < changed && is_in_parent(source, page))
        page++;
    *ret_end = page < changed ? page : changed_end;
    return rc;
}

/* Each page from the last diff that has data for it, or else from the parent. */
static int
read_sum(void *context, uint64_t first_page, size_t page_count, void *pages)
{
    struct cli_source *source = context;
    size_t at = 0;
    while (at < page_count) {
        uint8_t *bytes = (uint8_t *)pages + at * DOR_PAGE_BYTES;
        size_t run = 0;
        bool changed = false;
        int rc = 0;
        while (rc == 0 && !changed && at + run < page_count) {
            rc = is_changed(source, first_page + at + run, &changed);
            run += changed ? 0 : 1;
        }
        if (rc == 0 && run > 0)
            rc = dor_snapshot_read_pages(source->parent, first_page + at, run, bytes);
        if (rc == 0 && changed)
            rc = read_pages(source, first_page + at + run, 1, bytes + run * DOR_PAGE_BYTES);
        if (rc != 0)
            return rc;
        at += run + (changed ? 1 : 0);
    }
    return 0;
}

/* The page in the mapping of a diff; NULL when it is the parent's. */
static const uint8_t *
find_in_diffs(void *context, uint64_t page)
{
    struct cli_source *source = context;
    for (size_t i = source->image_count; i-- > 0;) {
        struct cli_source_image *image = &source->images[i];
        if (look_at(image, page) == 0 && has_data(image, page))
            return dor_image_page(image->image, page);
    }
    return NULL;
}

/* CLASSES are the parent's: forget those of pages that a diff has or that are zero. */
static int
keep_unchanged(struct cli_source *source, uint8_t *classes)
{
    int rc = 0;
    for (uint64_t i = 0; rc == 0 && i < source->pages.page_count; i++) {
        bool changed = false;
        rc = is_changed(source, i, &changed);
        if (changed || !is_in_parent(source, i))
            classes[i] = DOR_CLASS_UNKNOWN;
    }
    return rc;
}

/* Look into what the diffs make of the parent. */
static int
inspect_sum(
    struct dor_store *store, const char *parent, const struct dor_inspect *options,
    struct cli_source *source, struct dor_inspection **ret)
{
    AUTO_SNAPSHOT struct dor_snapshot *snapshot = NULL;
    AUTO_FREE uint8_t *classes = NULL;
    int rc = dor_snapshot_open(store, parent, &snapshot);
    if (rc != 0)
        return rc;
    uint64_t parent_pages = dor_snapshot_info(snapshot)->logical_bytes / DOR_PAGE_BYTES;
    if (parent_pages != source->pages.page_count)
        return dor_fail(
            DOR_E_USAGE,
            "a diff of %" PRIu64 " pages is not one of snapshot %s, which has %" PRIu64,
            source->pages.page_count, parent, parent_pages);
    source->parent = snapshot;
    rc = dor_snapshot_read_classes(snapshot, &classes);
    if (rc == 0)
        rc = keep_unchanged(source, classes);
    else if (rc == DOR_E_NOT_FOUND)
        rc = 0;
    const struct dor_page_source sum = {
        .page_count = parent_pages,
        .read = read_sum,
        .next_data = next_data_of_sum,
        .context = source};
    const struct dor_inspect_pages pages = {
        .image = source->images[0].image,
        .source = &sum,
        .find = find_in_diffs,
        .known = classes};
    if (rc == 0)
        rc = dor_inspect_pages(&pages, options, ret);
    source->parent = NULL;
    return rc;
}

int
cli_source_inspect(const struct cli *cli, struct dor_store *store, struct cli_source *source)
{
    const struct dor_inspect options = {
        .process = cli->values.process,
        .profile_directory = cli->values.profiles,
        .vmlinux = cli->values.vmlinux,
    };
    struct dor_inspection *inspection = NULL;
    if (cli->values.drop_free && cli->values.no_inspect)
        return dor_fail(
            DOR_E_USAGE, "--drop-free needs to look into the image; leave out --no-inspect");
    if (cli->values.no_inspect)
        return 0;
    int rc = cli->values.diff
                 ? inspect_sum(store, cli->values.parent, &options, source, &inspection)
                 : dor_inspect(source->images[0].image, &options, &inspection);
    dor_assert((rc == 0) == (inspection != NULL));
    if (rc == 0)
        rc = take_inspection(cli, inspection, source);
    dor_inspection_free(inspection);
    return rc == 0 ? 0 : dor_fail_wrap("image %s", cli->args[1]);
}

void
cli_source_describe(const struct cli_source *source, struct dor_put *put)
{
    const struct dor_image_info *last =
        dor_image_info(source->images[source->image_count - 1].image);
    put->source = &source->pages;
    put->region_types = source->region_types;
    put->page_classes = source->page_classes;
    put->dropped = source->dropped;
    put->frame = last->frame;
    put->frame_bytes = last->frame_bytes;
}

void
cli_source_fini(struct cli_source *source)
{
    for (size_t i = 0; i < source->image_count; i++)
        dor_image_close(source->images[i].image);
    base_free(source->region_types);
    base_free(source->page_classes);
    base_free(source->dropped);
}
