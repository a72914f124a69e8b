/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inspect.c - the order of an inspection.
 *
 *     survey -> note and layout -> page tables      none: content tier
 *     -> array of struct page -> classes            note tier
 *     -> profile: cache, vmlinux, BTF + kallsyms
 *     -> free lists, files, tasks -> region types   full tier
 *     -> importance
 *
 * Each step uses what the ones before found, and a step that finds nothing leaves the tier as it is.
 * Invariants:
 *     1. Nothing read from the guest is used as a pointer, an index or a length before a check.
 *     2. All loops over the guest's data take from the account of work in struct guest_tables.
 *     3. A guest cannot make an inspection fail, only its operator and the machine can.
 */
#include <dormouse/inspect.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "guest/btf.h"
#include "guest/choose.h"
#include "guest/classify.h"
#include "guest/files.h"
#include "guest/freelists.h"
#include "guest/image_pages.h"
#include "guest/inspect_priv.h"
#include "guest/look.h"
#include "guest/symbols.h"
#include "guest/tasks.h"
#include "guest/vmlinux.h"

#include <stdio.h>
#include <string.h>

/* What dor_inspection_free() is given, and the arrays as they can be freed. */
struct inspection {
    struct dor_inspection result; /* first */
    void *pages, *processes, *mappings, *files;
    struct dor_image_range *ranges;
};

const char *
dor_page_class_name(enum dor_page_class page_class)
{
    static const char *const names[DOR_CLASSES] = {
        [DOR_CLASS_UNKNOWN] = "unknown",
        [DOR_CLASS_ZERO] = "zero",
        [DOR_CLASS_FREE] = "free",
        [DOR_CLASS_KERNEL_TEXT] = "kernel_text",
        [DOR_CLASS_KERNEL_DATA] = "kernel_data",
        [DOR_CLASS_SLAB] = "slab",
        [DOR_CLASS_PAGE_TABLE] = "page_table",
        [DOR_CLASS_FILE_CLEAN] = "file_clean",
        [DOR_CLASS_FILE_DIRTY] = "file_dirty",
        [DOR_CLASS_ANON] = "anon",
        [DOR_CLASS_SHMEM] = "shmem",
        [DOR_CLASS_RESERVED] = "reserved",
    };
    return (unsigned)page_class < DOR_CLASSES ? names[page_class] : NULL;
}

const char *
dor_inspect_tier_name(enum dor_inspect_tier tier)
{
    static const char *const names[] = {"content", "note", "full"};
    return (unsigned)tier < ARRAY_LEN(names) ? names[tier] : NULL;
}

const char *
dor_importance_name(enum dor_importance importance)
{
    static const char *const names[DOR_IMPORTANCES] = {"none", "low", "normal", "critical"};
    return (unsigned)importance < DOR_IMPORTANCES ? names[importance] : NULL;
}

/* ------------------------------------------------------------------ the profile */

/* What the kernel in memory says of itself: symbols, then types. */
static int
learn_from_memory(struct guest_look *look)
{
    enum { START = GUEST_SYMBOLS, STOP, WANTED };
    struct guest_wanted wanted[WANTED] = {
        [START] = {.name = "__start_BTF"}, [STOP] = {.name = "__stop_BTF"}};
    struct guest_profile learnt;
    size_t btf_bytes;
    guest_profile_init(&learnt);
    for (size_t i = 0; i < GUEST_SYMBOLS; i++)
        wanted[i].name = guest_symbol_names[i];
    (void)guest_symbols_find(&look->kernel, wanted, WANTED);
    for (size_t i = 0; i < GUEST_SYMBOLS; i++) {
        int64_t distance = (int64_t)(wanted[i].address - look->kernel.stext);
        if (wanted[i].found && distance >= -GUEST_SYMBOL_MAX && distance <= GUEST_SYMBOL_MAX)
            learnt.symbols[i] = distance;
    }
    const uint8_t *btf = guest_btf_find(
        &look->kernel, wanted[START].found ? wanted[START].address : 0,
        wanted[STOP].found ? wanted[STOP].address : 0, &btf_bytes);
    int rc = btf == NULL ? 0 : guest_btf_read(btf, btf_bytes, &learnt);
    if (rc == DOR_E_NO_MEMORY)
        return rc;
    guest_profile_merge(&look->profile, &learnt);
    return 0;
}

/* A kernel file of another build would explain a guest wrongly. */
static int
learn_from_vmlinux(struct guest_look *look)
{
    struct guest_profile learnt;
    int rc = guest_vmlinux_read(look->options->vmlinux, &learnt);
    if (rc != 0)
        return rc;
    if (learnt.build_id[0] != '\0' && look->kernel.build_id[0] != '\0' &&
        strcmp(learnt.build_id, look->kernel.build_id) != 0)
        return dor_fail(
            DOR_E_USAGE, "kernel %s: is build %s, but the guest runs build %s",
            look->options->vmlinux, learnt.build_id, look->kernel.build_id);
    guest_profile_merge(&look->profile, &learnt);
    return 0;
}

/* Whether a profile was taken from the cache. A bad one is as good as none. */
static bool
load_profile(struct guest_look *look)
{
    struct guest_profile cached;
    if (look->options->profile_directory == NULL)
        return false;
    int rc =
        guest_profile_load(look->options->profile_directory, look->kernel.build_id, &cached);
    if (rc != 0 && rc != DOR_E_NOT_FOUND)
        dor_log(WARN, "guest", "profile_unusable", "why=\"%s\"", dor_err_message());
    if (rc == 0)
        guest_profile_merge(&look->profile, &cached);
    return rc == 0;
}

static void
save_profile(struct guest_look *look)
{
    if (look->options->profile_directory == NULL || !guest_build_id_fits(look->kernel.build_id))
        return;
    snprintf(
        look->profile.build_id, sizeof look->profile.build_id, "%s", look->kernel.build_id);
    if (guest_profile_save(look->options->profile_directory, &look->profile) != 0)
        dor_log(WARN, "guest", "profile_not_saved", "why=\"%s\"", dor_err_message());
}

static int
learn(struct guest_look *look)
{
    bool cached = load_profile(look) && guest_profile_has_tasks(&look->profile);
    int rc = 0;
    if (look->options->vmlinux != NULL)
        rc = learn_from_vmlinux(look);
    if (rc == 0 && !cached)
        rc = learn_from_memory(look);
    (void)guest_profile_clean(&look->profile);
    if (rc == 0 && !cached && guest_profile_has_tasks(&look->profile))
        save_profile(look);
    return rc;
}

/* ------------------------------------------------------------------ the steps */

/* Everything that needs types. */
static int
look_at_tasks(struct guest_look *look)
{
    uint64_t first;
    bool types = guest_profile_has_tasks(&look->profile);
    if (!types || !guest_tasks_find_first(look, &first)) {
        guest_look_remark(
            look, types
                      ? "the first task was not found"
                      : "no type information (BTF) in the guest, and no profile of its build");
        return guest_tasks_guess(look);
    }
    look->result.tier = DOR_TIER_FULL;
    look->result.free_is_sure =
        guest_freelists_check(look) && !guest_freelists_are_guarded(look);
    if (look->result.free_is_sure)
        guest_freelists_add_cached(look);
    else
        guest_look_remark(look, "the lists of free pages do not agree with their pages");
    int rc = guest_files_read(look);
    return rc == 0 ? guest_tasks_read(look, first) : rc;
}

static int
look_at_kernel(struct guest_look *look)
{
    snprintf(look->result.kernel, sizeof look->result.kernel, "%s", look->kernel.release);
    snprintf(look->result.build_id, sizeof look->result.build_id, "%s", look->kernel.build_id);
    int rc = learn(look);
    if (rc != 0)
        return rc;
    if (!guest_array_describe(&look->array, &look->kernel, &look->profile)) {
        guest_look_remark(look, "the note does not say how a page's record looks");
        return 0;
    }
    look->result.tier = DOR_TIER_NOTE;
    rc = guest_array_open(&look->array, &look->kernel);
    if (rc == 0)
        rc = guest_classify(look);
    if (rc == 0)
        rc = look_at_tasks(look);
    if (rc == 0)
        rc = guest_tasks_region_types(look);
    if (rc == 0 && look->kernel.tables.exhausted)
        guest_look_partial(look, "the guest's tables are larger than can be, or have cycles");
    return rc;
}

/* Of a hundred classes, so many should be right. */
static uint32_t
confidence(const struct guest_look *look)
{
    uint64_t pages = look->info->page_count;
    switch (look->result.tier) {
    case DOR_TIER_FULL:
        return look->result.partial ? 80 : look->result.free_is_sure ? 99 : 95;
    case DOR_TIER_NOTE:
        return look->result.partial ? 70 : 90;
    case DOR_TIER_CONTENT:
    default:
        return pages == 0 ? 0 : (uint32_t)(look->survey.zero_count * 100 / pages);
    }
}

static int
look_at_image(struct guest_look *look, const struct dor_image *image)
{
    const struct dor_image_info *info = look->info;
    look->pages = base_array(info->page_count, sizeof look->pages[0]);
    if (look->pages == NULL)
        return DOR_E_NO_MEMORY;
    for (uint64_t row = 0; row < info->page_count; row++) {
        look->pages[row].process = UINT32_MAX;
        look->pages[row].file = UINT32_MAX;
    }
    int rc = guest_survey_make(image, look->pager, info, &look->survey);
    if (rc != 0)
        return rc;
    if (info->process)
        guest_look_remark(look, "memory of processes: it has no kernel to ask");
    else if (info->diff)
        guest_look_remark(look, "a diff holds only some of the pages");
    else
        rc = guest_choose_kernel(look);
    if (rc == 0 && look->has_kernel)
        rc = look_at_kernel(look);
    if (rc == 0 && look->result.tier == DOR_TIER_CONTENT)
        guest_classify_content(look);
    guest_classify_importance(look);
    look->result.confidence_percent = confidence(look);
    return rc;
}

/* The ranges that were settled on; without a kernel those of the image. */
static int
give_ranges(const struct guest_look *look, struct inspection *inspection)
{
    size_t count = look->has_kernel ? look->memory.range_count : look->info->range_count;
    inspection->ranges = base_array(count, sizeof inspection->ranges[0]);
    if (inspection->ranges == NULL)
        return DOR_E_NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        const struct guest_range *range = &look->memory.ranges[i];
        inspection->ranges[i] = !look->has_kernel
                                    ? look->info->ranges[i]
                                    : (struct dor_image_range){
                                          .first_page = range->first_row,
                                          .page_count = range->page_count,
                                          .address = range->first_pfn << DOR_PAGE_SHIFT,
                                          .data = range->data,
                                      };
        /* The pager's mapping ends with the inspection. */
        if (look->pager != NULL)
            inspection->ranges[i].data = NULL;
    }
    inspection->result.ranges = inspection->ranges;
    inspection->result.range_count = count;
    return 0;
}

/* Move the result out of LOOK. */
static int
give_result(struct guest_look *look, struct dor_inspection **ret)
{
    AUTO_FREE struct inspection *inspection = base_zalloc(sizeof *inspection);
    if (inspection == NULL)
        return DOR_E_NO_MEMORY;
    inspection->result = look->result;
    int rc = give_ranges(look, inspection);
    if (rc != 0)
        return rc;
    struct dor_inspection *result = &inspection->result;
    result->page_count = look->info->page_count;
    result->process_count = look->processes.count;
    result->mapping_count = look->mappings.count;
    result->file_count = look->files.count;
    result->pages = inspection->pages = TAKE(look->pages);
    result->processes = inspection->processes = TAKE(look->processes.rows);
    result->mappings = inspection->mappings = TAKE(look->mappings.rows);
    result->files = inspection->files = TAKE(look->files.rows);
    *ret = &TAKE(inspection)->result;
    return 0;
}

static int
look_into(
    const struct dor_image *image, struct guest_pager *pager, const struct dor_image_info *info,
    const struct dor_inspect *options, struct dor_inspection **ret)
{
    static const struct dor_inspect none = {0};
    struct guest_look *look = base_zalloc(sizeof *look);
    if (look == NULL)
        return DOR_E_NO_MEMORY;
    look->info = info;
    look->pager = pager;
    look->options = options == NULL ? &none : options;
    look->processes.row_bytes = sizeof(struct dor_inspect_process);
    look->mappings.row_bytes = sizeof(struct dor_inspect_mapping);
    look->files.row_bytes = sizeof(struct dor_inspect_file);
    look->insides.row_bytes = sizeof(struct guest_process);
    guest_profile_init(&look->profile);
    int rc = look_at_image(look, image);
    if (rc == 0 && pager != NULL)
        rc = guest_pager_error(pager);
    if (rc == 0)
        rc = give_result(look, ret);
    guest_look_fini(look);
    base_free(look);
    return rc;
}

int
guest_inspect(
    const struct dor_image *image, const struct dor_image_info *info,
    const struct dor_inspect *options, struct dor_inspection **ret)
{
    return look_into(image, NULL, info, options, ret);
}

int
guest_inspect_pages(
    const struct dor_image_info *info, const struct dor_inspect_pages *pages,
    const struct dor_inspect *options, struct dor_inspection **ret)
{
    struct guest_pager pager;
    if (pages->source->page_count != info->page_count)
        return dor_fail(DOR_E_USAGE, "the pages to look into are not as many as the image has");
    AUTO_FREE struct dor_image_range *ranges = base_array(info->range_count, sizeof ranges[0]);
    if (ranges == NULL)
        return DOR_E_NO_MEMORY;
    int rc = guest_pager_open(&pager, pages);
    if (rc != 0)
        return rc;
    struct dor_image_info layout = *info;
    layout.ranges = ranges;
    layout.diff = false;
    for (size_t i = 0; i < info->range_count; i++) {
        ranges[i] = info->ranges[i];
        ranges[i].data = pager.bytes + ranges[i].first_page * DOR_PAGE_BYTES;
    }
    rc = look_into(NULL, &pager, &layout, options, ret);
    guest_pager_close(&pager);
    return rc;
}

/* Look at nothing but data; the ranges of the result are the image's own all the same. */
static int
inspect_around_holes(
    const struct dor_image *image, const struct dor_inspect *options,
    struct dor_inspection **ret)
{
    struct guest_image_pages around;
    guest_image_pages_init(&around, image);
    const struct dor_inspect_pages pages = {
        .image = image, .source = &around.source, .find = guest_image_pages_find};
    int rc = dor_inspect_pages(&pages, options, ret);
    if (rc != 0)
        return rc;
    struct dor_image_range *ranges = ((struct inspection *)*ret)->ranges;
    for (size_t i = 0; i < (*ret)->range_count; i++)
        ranges[i].data = dor_image_page(image, ranges[i].first_page);
    return 0;
}

int
dor_inspect(
    const struct dor_image *image, const struct dor_inspect *inspect,
    struct dor_inspection **ret)
{
    const struct dor_image_info *info = dor_image_info(image);
    /* Of what is a diff, or has no kernel to follow, the survey reads data alone as it is. */
    if (guest_image_is_sparse(image) && !info->diff && !info->process)
        return inspect_around_holes(image, inspect, ret);
    return guest_inspect(image, info, inspect, ret);
}

int
dor_inspect_pages(
    const struct dor_inspect_pages *pages, const struct dor_inspect *inspect,
    struct dor_inspection **ret)
{
    return guest_inspect_pages(dor_image_info(pages->image), pages, inspect, ret);
}

void
dor_inspection_free(struct dor_inspection *result)
{
    /* The result is the first member of what holds it. */
    struct inspection *inspection = (struct inspection *)result;
    if (inspection == NULL)
        return;
    base_free(inspection->ranges);
    base_free(inspection->pages);
    base_free(inspection->processes);
    base_free(inspection->mappings);
    base_free(inspection->files);
    base_free(inspection);
}
