/* SPDX-License-Identifier: Apache-2.0 */
/*
 * intake.c - what is put: the pages of one image, or of a chain of diffs in their order, and what
 * inspection says of each page; or pages of which nothing else is known. Images are mapped, so
 * whatever reads them stands between node_bus_begin() and node_bus_end(), and is believed only
 * after node_bus_check().
 */
#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"
#include "node/bus.h"
#include "node/sidecars.h"

#include <dormouse/inspect.h>
#include <dormouse/transfer.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { WARNING_BYTES = 384 };

/* An image, and what was seen of its holes last: from hole_first a hole, then a run of data. */
struct source_image {
    struct dor_image *image;
    uint64_t hole_first, data_first, data_end;
};

struct dor_intake {
    struct dor_intake_options options;
    struct source_image images[DOR_INTAKE_IMAGES_MAX];
    size_t image_count; /* 0: there are only the pages */
    struct dor_page_source pages;
    struct node_sidecars sidecars;
    struct dor_snapshot *parent;                    /* of diffs, while they are inspected */
    uint8_t *region_types, *page_classes, *dropped; /* NULL when not known */
    char warning[WARNING_BYTES];
};

/* ------------------------------------------------------------------ reading */

static int
look_at(struct source_image *image, uint64_t page)
{
    if (page >= image->hole_first && page < image->data_end)
        return 0;
    image->hole_first = page;
    return dor_image_next_data(image->image, page, &image->data_first, &image->data_end);
}

static bool
has_data(const struct source_image *image, uint64_t page)
{
    return page >= image->data_first && page < image->data_end;
}

/* The first data of any image of the chain. */
static int
next_data(void *context, uint64_t page, uint64_t *ret_first, uint64_t *ret_end)
{
    struct dor_intake *intake = context;
    uint64_t first = intake->pages.page_count;
    uint64_t end = first;
    for (size_t i = 0; i < intake->image_count; i++) {
        struct source_image *image = &intake->images[i];
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
    struct dor_intake *intake = context;
    if (intake->image_count == 1) {
        dor_image_read(intake->images[0].image, first_page, page_count, pages);
        return node_bus_check();
    }
    for (size_t p = 0; p < page_count; p++) {
        uint8_t *bytes = (uint8_t *)pages + p * DOR_PAGE_BYTES;
        memset(bytes, 0, DOR_PAGE_BYTES);
        for (size_t i = intake->image_count; i-- > 0;) {
            int rc = look_at(&intake->images[i], first_page + p);
            if (rc != 0)
                return rc;
            if (has_data(&intake->images[i], first_page + p)) {
                dor_image_read(intake->images[i].image, first_page + p, 1, bytes);
                break;
            }
        }
    }
    return node_bus_check();
}

static int
open_image(struct dor_intake *intake, const char *path, enum dor_image_format format)
{
    struct source_image *image = &intake->images[intake->image_count];
    int rc = dor_image_open(path, format, &image->image);
    if (rc != 0)
        return rc;
    intake->image_count++;
    uint64_t page_count = dor_image_info(image->image)->page_count;
    if (intake->image_count == 1)
        intake->pages.page_count = page_count;
    if (page_count != intake->pages.page_count)
        return dor_fail(
            DOR_E_USAGE, "image %s: has another size than %s; diffs of one chain are as long",
            path, intake->options.images[0]);
    rc = intake->options.diff ? dor_image_set_diff(image->image) : 0;
    return rc == 0 ? 0 : dor_fail_wrap("image %s", path);
}

int
dor_intake_check(const struct dor_intake_options *options)
{
    if (options->image_count == 0)
        return dor_fail(DOR_E_USAGE, "put needs an image");
    if (options->diff && options->parent == NULL)
        return dor_fail(
            DOR_E_USAGE, "--diff needs --parent NAME, the snapshot that the diff began from");
    if (!options->diff && options->image_count > 1)
        return dor_fail(DOR_E_USAGE, "put takes one image; only diffs (--diff) may be several");
    if (options->image_count > DOR_INTAKE_IMAGES_MAX)
        return dor_fail(DOR_E_USAGE, "at most %d diffs at a time", DOR_INTAKE_IMAGES_MAX);
    if (options->drop_free && options->no_inspect)
        return dor_fail(
            DOR_E_USAGE, "--drop-free needs to look into the image; leave out --no-inspect");
    if (options->domain == NULL)
        return 0;
    int rc = dor_name_check(options->domain);
    return rc == 0 ? 0 : dor_fail_wrap("--domain");
}

static int
open_images(struct dor_intake *intake)
{
    enum dor_image_format format = DOR_IMAGE_AUTO;
    const char *name = intake->options.format;
    int rc = name == NULL ? 0 : dor_image_format_parse(name, &format);
    for (size_t i = 0; rc == 0 && i < intake->options.image_count; i++) {
        node_bus_begin();
        rc = open_image(intake, intake->options.images[i], format);
        node_bus_end();
        if (rc == 0)
            rc = node_bus_check();
    }
    return rc;
}

static int
new_intake(const struct dor_intake_options *options, struct dor_intake **ret)
{
    int rc = dor_intake_check(options);
    if (rc != 0)
        return rc;
    struct dor_intake *intake = base_zalloc(sizeof *intake);
    if (intake == NULL)
        return DOR_E_NO_MEMORY;
    intake->options = *options;
    intake->pages =
        (struct dor_page_source){.read = read_pages, .next_data = next_data, .context = intake};
    *ret = intake;
    return 0;
}

/* Read the sidecars, as the last step. */
static int
finish_opening(struct dor_intake *intake, struct dor_intake **ret)
{
    const struct dor_intake_options *options = &intake->options;
    int rc = node_sidecars_read(options->sidecars, options->sidecar_count, &intake->sidecars);
    if (rc != 0) {
        dor_intake_close(intake);
        return rc;
    }
    *ret = intake;
    return 0;
}

int
dor_intake_open(const struct dor_intake_options *options, struct dor_intake **ret)
{
    struct dor_intake *intake = NULL;
    int rc = new_intake(options, &intake);
    if (rc == 0)
        rc = open_images(intake);
    if (rc != 0) {
        dor_intake_close(intake);
        return rc;
    }
    return finish_opening(intake, ret);
}

/* What is no file is one, and is what it is. */
static int
check_named(const struct dor_intake_options *options)
{
    if (options->image_count == 1 && !options->diff && options->format == NULL)
        return 0;
    return dor_fail(
        DOR_E_USAGE, "%s: is taken as it is, whole, without --diff and --format",
        options->image_count > 0 ? options->images[0] : "memory");
}

int
dor_intake_open_image(
    const struct dor_intake_options *options, struct dor_image *image, struct dor_intake **ret)
{
    struct dor_intake *intake = NULL;
    int rc = check_named(options);
    if (rc == 0)
        rc = new_intake(options, &intake);
    if (rc != 0) {
        dor_image_close(image);
        return rc;
    }
    intake->images[intake->image_count++].image = image;
    intake->pages.page_count = dor_image_info(image)->page_count;
    return finish_opening(intake, ret);
}

int
dor_intake_open_pages(
    const struct dor_intake_options *options, const struct dor_page_source *pages,
    struct dor_intake **ret)
{
    struct dor_intake *intake = NULL;
    int rc = check_named(options);
    if (rc == 0 && !options->no_inspect)
        rc = dor_fail(DOR_E_USAGE, "%s: cannot be looked into as it is", options->images[0]);
    if (rc == 0)
        rc = new_intake(options, &intake);
    if (rc != 0)
        return rc;
    intake->pages = *pages;
    return finish_opening(intake, ret);
}

/* ------------------------------------------------------------------ inspecting */

static int
make_arrays(struct dor_intake *intake)
{
    uint64_t count = intake->pages.page_count;
    intake->region_types = base_array(count, 1);
    intake->page_classes = base_array(count, 1);
    return intake->region_types == NULL || intake->page_classes == NULL ? DOR_E_NO_MEMORY : 0;
}

static int
mark_free(struct dor_intake *intake, const struct dor_inspection *inspection)
{
    if (!inspection->free_is_sure) {
        snprintf(
            intake->warning, sizeof intake->warning,
            "free pages are kept, for it is not sure which are free: %s",
            inspection->remark[0] != '\0' ? inspection->remark : "no kernel that tells");
        return 0;
    }
    intake->dropped = base_array(intake->pages.page_count, 1);
    if (intake->dropped == NULL)
        return DOR_E_NO_MEMORY;
    for (uint64_t i = 0; i < intake->pages.page_count; i++)
        intake->dropped[i] = inspection->pages[i].page_class == DOR_CLASS_FREE;
    return 0;
}

static int
take_inspection(struct dor_intake *intake, const struct dor_inspection *inspection)
{
    int rc = make_arrays(intake);
    if (rc != 0)
        return rc;
    for (uint64_t i = 0; i < intake->pages.page_count; i++) {
        intake->page_classes[i] = inspection->pages[i].page_class;
        intake->region_types[i] = inspection->pages[i].region_type;
    }
    return intake->options.drop_free ? mark_free(intake, inspection) : 0;
}

static void
forget(struct dor_intake *intake)
{
    base_free(TAKE(intake->region_types));
    base_free(TAKE(intake->page_classes));
    base_free(TAKE(intake->dropped));
    intake->warning[0] = '\0';
}

/* ------------------------------------------------------------------ diffs */

/* Whether a diff has data for the page. */
static int
is_changed(struct dor_intake *intake, uint64_t page, bool *ret)
{
    *ret = false;
    for (size_t i = 0; !*ret && i < intake->image_count; i++) {
        int rc = look_at(&intake->images[i], page);
        if (rc != 0)
            return rc;
        *ret = has_data(&intake->images[i], page);
    }
    return 0;
}

/* Whether the parent's page is not zero, so that it counts where no diff has data. */
static bool
is_in_parent(const struct dor_intake *intake, uint64_t page)
{
    return dor_snapshot_page_kind(intake->parent, page) != DOR_PAGE_ZERO;
}

/* The next pages that are in a diff or not zero in the parent. */
static int
next_data_of_sum(void *context, uint64_t page, uint64_t *ret_first, uint64_t *ret_end)
{
    struct dor_intake *intake = context;
    uint64_t end = intake->pages.page_count;
    uint64_t changed = end;
    uint64_t changed_end = end;
    int rc = next_data(intake, page, &changed, &changed_end);
    while (page < changed && !is_in_parent(intake, page))
        page++;
    *ret_first = page;
    while (page < changed && is_in_parent(intake, page))
        page++;
    *ret_end = page < changed ? page : changed_end;
    return rc;
}

/* Each page from the last diff that has data for it, or else from the parent. */
static int
read_sum(void *context, uint64_t first_page, size_t page_count, void *pages)
{
    struct dor_intake *intake = context;
    size_t at = 0;
    while (at < page_count) {
        uint8_t *bytes = (uint8_t *)pages + at * DOR_PAGE_BYTES;
        size_t run = 0;
        bool changed = false;
        int rc = 0;
        while (rc == 0 && !changed && at + run < page_count) {
            rc = is_changed(intake, first_page + at + run, &changed);
            run += changed ? 0 : 1;
        }
        if (rc == 0 && run > 0)
            rc = dor_snapshot_read_pages(intake->parent, first_page + at, run, bytes);
        if (rc == 0 && changed)
            rc = read_pages(intake, first_page + at + run, 1, bytes + run * DOR_PAGE_BYTES);
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
    struct dor_intake *intake = context;
    for (size_t i = intake->image_count; i-- > 0;) {
        struct source_image *image = &intake->images[i];
        if (look_at(image, page) == 0 && has_data(image, page))
            return dor_image_page(image->image, page);
    }
    return NULL;
}

/* CLASSES are the parent's: forget those of pages that a diff has or that are zero. */
static int
keep_unchanged(struct dor_intake *intake, uint8_t *classes)
{
    int rc = 0;
    for (uint64_t i = 0; rc == 0 && i < intake->pages.page_count; i++) {
        bool changed = false;
        rc = is_changed(intake, i, &changed);
        if (changed || !is_in_parent(intake, i))
            classes[i] = DOR_CLASS_UNKNOWN;
    }
    return rc;
}

/* Look into what the diffs make of the parent, which is open as SNAPSHOT. */
static int
inspect_on_parent(
    struct dor_intake *intake, struct dor_snapshot *snapshot, const struct dor_inspect *options,
    struct dor_inspection **ret)
{
    AUTO_FREE uint8_t *classes = NULL;
    uint64_t parent_pages = dor_snapshot_info(snapshot)->logical_bytes / DOR_PAGE_BYTES;
    if (parent_pages != intake->pages.page_count)
        return dor_fail(
            DOR_E_USAGE,
            "a diff of %" PRIu64 " pages is not one of snapshot %s, which has %" PRIu64,
            intake->pages.page_count, intake->options.parent, parent_pages);
    int rc = dor_snapshot_read_classes(snapshot, &classes);
    if (rc == 0)
        rc = keep_unchanged(intake, classes);
    else if (rc == DOR_E_NOT_FOUND)
        rc = 0;
    const struct dor_page_source sum = {
        .page_count = parent_pages,
        .read = read_sum,
        .next_data = next_data_of_sum,
        .context = intake};
    const struct dor_inspect_pages pages = {
        .image = intake->images[0].image,
        .source = &sum,
        .find = find_in_diffs,
        .known = classes};
    return rc == 0 ? dor_inspect_pages(&pages, options, ret) : rc;
}

static int
inspect_sum(
    struct dor_intake *intake, struct dor_store *store, const struct dor_inspect *options,
    struct dor_inspection **ret)
{
    struct dor_snapshot *snapshot = NULL;
    int rc = dor_snapshot_open(store, intake->options.parent, &snapshot);
    if (rc != 0)
        return rc;
    intake->parent = snapshot;
    rc = inspect_on_parent(intake, snapshot, options, ret);
    intake->parent = NULL;
    dor_snapshot_close(snapshot);
    return rc;
}

static int
has_hole(const struct dor_image *image, bool *ret)
{
    uint64_t page_count = dor_image_info(image)->page_count;
    uint64_t end = 0;
    bool found = false;
    while (!found && end < page_count) {
        uint64_t at = end;
        uint64_t first = 0;
        int rc = dor_image_next_data(image, at, &first, &end);
        if (rc != 0)
            return rc;
        found = first > at;
    }
    *ret = found;
    return 0;
}

/*
 * A copy that keeps no holes, or whoever reads a file in memory through a mapping, makes zeros of
 * what was unchanged. Zeros of a diff may be meant; one that has no hole at all seldom is.
 */
static int
warn_of_whole_diffs(struct dor_intake *intake)
{
    for (size_t i = 0; intake->options.diff && i < intake->image_count; i++) {
        bool found = false;
        int rc = has_hole(intake->images[i].image, &found);
        if (rc != 0)
            return rc;
        if (!found)
            snprintf(
                intake->warning, sizeof intake->warning,
                "diff %zu of %zu has no hole, so that nothing stays as it was before; if its "
                "holes were filled on the way here, put it again from where it has them",
                i + 1, intake->image_count);
    }
    return 0;
}

/* ------------------------------------------------------------------ all of it */

/* Look into the image, of diffs into what they make of their parent. */
static int
inspect(struct dor_intake *intake, struct dor_store *store)
{
    const struct dor_inspect options = {
        .process = intake->options.process,
        .profile_directory = intake->options.profile_directory,
        .vmlinux = intake->options.vmlinux,
    };
    struct dor_inspection *inspection = NULL;
    if (intake->options.no_inspect)
        return 0;
    node_bus_begin();
    int rc = intake->options.diff ? inspect_sum(intake, store, &options, &inspection)
                                  : dor_inspect(intake->images[0].image, &options, &inspection);
    node_bus_end();
    if (rc == 0)
        rc = node_bus_check();
    if (rc == 0)
        rc = take_inspection(intake, inspection);
    dor_inspection_free(inspection);
    return rc == 0 ? 0 : dor_fail_wrap("image %s", intake->options.images[0]);
}

/* ------------------------------------------------------------------ putting */

/* Also while nothing is counted, whoever waits may want it to end. */
static int
ask_progress(dor_progress_fn *progress, void *context)
{
    if (progress == NULL || progress(context, 0, 0) == 0)
        return 0;
    return dor_fail(DOR_E_BUSY, "stopped before anything was stored");
}

int
dor_intake_put(
    struct dor_intake *intake, struct dor_store *store, const char *name,
    dor_progress_fn *progress, void *progress_context, struct dor_put_result *ret)
{
    forget(intake);
    int rc = inspect(intake, store);
    if (rc == 0)
        rc = warn_of_whole_diffs(intake);
    if (rc == 0)
        rc = ask_progress(progress, progress_context);
    if (rc != 0)
        return rc;
    struct dor_put put = {
        .source = &intake->pages,
        .diff = intake->options.diff,
        .domain = intake->options.domain,
        .parent = intake->options.parent,
        .replace = intake->options.replace,
        .region_types = intake->region_types,
        .page_classes = intake->page_classes,
        .dropped = intake->dropped,
        .sidecars = intake->sidecars.rows,
        .sidecar_count = intake->sidecars.count,
        .progress = progress,
        .progress_context = progress_context,
    };
    if (intake->image_count > 0) {
        const struct dor_image_info *last =
            dor_image_info(intake->images[intake->image_count - 1].image);
        put.frame = last->frame;
        put.frame_bytes = last->frame_bytes;
    }
    node_bus_begin();
    rc = dor_store_put(store, name, &put, ret);
    node_bus_end();
    return rc;
}

const char *
dor_intake_warning(const struct dor_intake *intake)
{
    return intake->warning;
}

void
dor_intake_guard(void)
{
    node_bus_install();
}

void
dor_intake_close(struct dor_intake *intake)
{
    if (intake == NULL)
        return;
    for (size_t i = 0; i < intake->image_count; i++)
        dor_image_close(intake->images[i].image);
    forget(intake);
    node_sidecars_fini(&intake->sidecars);
    base_free(intake);
}
