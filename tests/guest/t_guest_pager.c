/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_guest_pager.c - a guest whose pages are read one by one is found to be what it is when all of
 * its memory is mapped: with and without what is known from before, in each tier, and when the source
 * fails at any call.
 */
#include "base/fault.h"
#include "base/size.h"
#include "guest/synth.h"

/* A guest's pages as a source that counts what is asked of it, and may fail. */
struct memory {
    const struct synth *synth;
    unsigned fail_at; /* this call fails; 0: none */
    unsigned calls;
    unsigned page_reads[SYNTH_PAGES];
};

static int
read_pages(void *context, uint64_t first_page, size_t page_count, void *pages)
{
    struct memory *memory = context;
    if (++memory->calls == memory->fail_at)
        return dor_fail(DOR_E_CORRUPT, "page %" PRIu64 " is gone", first_page);
    memcpy(
        pages, memory->synth->bytes + first_page * DOR_PAGE_BYTES, page_count * DOR_PAGE_BYTES);
    for (size_t i = 0; i < page_count; i++)
        memory->page_reads[first_page + i]++;
    return 0;
}

static bool
is_data(const struct memory *memory, uint64_t page)
{
    return !guest_page_is_zero(memory->synth->bytes + page * DOR_PAGE_BYTES);
}

static int
next_data(void *context, uint64_t page, uint64_t *ret_first, uint64_t *ret_end)
{
    struct memory *memory = context;
    if (++memory->calls == memory->fail_at)
        return dor_fail(DOR_E_IO, "holes are not told");
    while (page < SYNTH_PAGES && !is_data(memory, page))
        page++;
    *ret_first = page;
    while (page < SYNTH_PAGES && is_data(memory, page))
        page++;
    *ret_end = page;
    return 0;
}

static int
inspect(struct memory *memory, const uint8_t *known, struct dor_inspection **ret)
{
    const struct dor_page_source source = {
        .page_count = SYNTH_PAGES,
        .read = read_pages,
        .next_data = next_data,
        .context = memory};
    const struct dor_inspect_pages pages = {.source = &source, .known = known};
    return guest_inspect_pages(&memory->synth->info, &pages, NULL, ret);
}

/* In how many pages the two differ. */
static unsigned
count_different(const struct dor_inspection *a, const struct dor_inspection *b)
{
    unsigned different = 0;
    for (size_t i = 0; i < SYNTH_PAGES; i++)
        different += a->pages[i].page_class != b->pages[i].page_class ||
                     a->pages[i].region_type != b->pages[i].region_type ||
                     a->pages[i].importance != b->pages[i].importance ||
                     a->pages[i].process != b->pages[i].process ||
                     a->pages[i].file != b->pages[i].file;
    return different;
}

static bool
is_same(const struct dor_inspection *a, const struct dor_inspection *b)
{
    return a->tier == b->tier && a->partial == b->partial &&
           strcmp(a->remark, b->remark) == 0 && strcmp(a->kernel, b->kernel) == 0 &&
           a->process_count == b->process_count && a->mapping_count == b->mapping_count &&
           a->file_count == b->file_count && count_different(a, b) == 0;
}

static unsigned
count_read(const struct memory *memory)
{
    unsigned count = 0;
    for (size_t i = 0; i < SYNTH_PAGES; i++)
        count += memory->page_reads[i] > 0;
    return count;
}

/* The classes as an earlier inspection would give them: of pages that are not zero. */
static void
note_classes(
    const struct memory *memory, const struct dor_inspection *inspection,
    uint8_t known[SYNTH_PAGES])
{
    for (size_t i = 0; i < SYNTH_PAGES; i++)
        known[i] = is_data(memory, i) ? inspection->pages[i].page_class : DOR_CLASS_UNKNOWN;
}

static void
test_kind(const struct synth_kind *kind, enum dor_inspect_tier tier, const char *name)
{
    struct synth synth;
    struct dor_inspection *read;
    uint8_t known[SYNTH_PAGES];
    note("%s", name);
    synth_init(&synth, kind);
    /* The pages that nobody but its process looks at have content of their own. */
    for (uint64_t i = 0; i < SYNTH_PAGES_EACH; i++)
        memset(synth_page(&synth, SYNTH_ANON + i), 7, DOR_PAGE_BYTES);
    struct dor_inspection *mapped = synth_inspect(&synth, NULL);
    is_int(mapped->tier, tier, "the tier of its memory when mapped");
    struct memory memory = {.synth = &synth};
    if (!is_ok(inspect(&memory, NULL, &read), "it is read page by page"))
        bail("%s", dor_err_message());
    ok(is_same(mapped, read), "the same is found");
    is_int(read->range_count, mapped->range_count, "in the same ranges");
    ok(read->ranges[0].data == NULL, "which point nowhere");
    unsigned all = count_read(&memory);
    unsigned often = 0;
    for (size_t i = 0; i < SYNTH_PAGES; i++)
        often += memory.page_reads[i] > 2;
    is_int(often, 0, "no page was read more than twice: in passing, and to stay");
    note_classes(&memory, mapped, known);
    dor_inspection_free(read);

    memory = (struct memory){.synth = &synth};
    is_ok(inspect(&memory, known, &read), "it is read once more, with classes known");
    ok(is_same(mapped, read), "the same is found");
    ok(count_read(&memory) < all, "with fewer reads: %u pages, not %u", count_read(&memory),
       all);
    dor_inspection_free(read);

    /* What is known to be of a process is not searched for the kernel's note until all else is. */
    known[SYNTH_NOTE] = DOR_CLASS_ANON;
    memory = (struct memory){.synth = &synth};
    is_ok(inspect(&memory, known, &read), "what is known is wrong about the note");
    ok(is_same(mapped, read), "and still the same is found");
    dor_inspection_free(read);
    dor_inspection_free(mapped);
    synth_fini(&synth);
}

static void
test_no_kernel(void)
{
    struct synth synth;
    struct dor_inspection *read;
    synth_init(&synth, &(struct synth_kind){0});
    memset(synth_page(&synth, SYNTH_NOTE), 1, DOR_PAGE_BYTES);
    struct dor_inspection *mapped = synth_inspect(&synth, NULL);
    struct memory memory = {.synth = &synth};
    is_ok(inspect(&memory, NULL, &read), "a guest without a note");
    is_int(read->tier, DOR_TIER_CONTENT, "is at the content tier");
    ok(is_same(mapped, read), "as when mapped");
    ok(read->ranges[0].data == NULL, "its range points nowhere");
    dor_inspection_free(read);
    dor_inspection_free(mapped);
    synth_fini(&synth);
}

static void
test_errors(void)
{
    struct synth synth;
    struct dor_inspection *inspection;
    synth_init(&synth, &(struct synth_kind){0});
    unsigned calls = 0;
    unsigned wrong = 0;
    int rc;
    do {
        struct memory memory = {.synth = &synth, .fail_at = ++calls};
        rc = inspect(&memory, NULL, &inspection);
        bool told = strstr(dor_err_message(), "is gone") != NULL ||
                    strstr(dor_err_message(), "are not told") != NULL;
        wrong += rc != 0 && (!told || memory.calls != calls) ? 1 : 0;
    } while (rc != 0 && calls < 1000);
    dor_inspection_free(inspection);
    is_int(
        wrong, 0, "an error of the source at each of %u calls is the inspection's", calls - 1);
    ok(calls > 10, "there were some");

    struct memory memory = {.synth = &synth};
    struct dor_page_source few = {.page_count = 5, .read = read_pages, .context = &memory};
    const struct dor_inspect_pages pages = {.source = &few};
    is_int(
        guest_inspect_pages(&synth.info, &pages, NULL, &inspection), DOR_E_USAGE,
        "fewer pages than the image has");
    synth_fini(&synth);
}

static void
test_no_memory(void)
{
    struct synth synth;
    struct dor_inspection *inspection;
    unsigned nth = 0;
    unsigned wrong = 0;
    bool fired;
    synth_init(&synth, &(struct synth_kind){0});
    do {
        struct memory memory = {.synth = &synth};
        base_fault_arm(FAULT_ALLOC, ++nth, 0);
        int rc = inspect(&memory, NULL, &inspection);
        base_fault_arm(FAULT_NONE, 0, 0);
        fired = base_fault_fired();
        if (rc == 0)
            dor_inspection_free(inspection);
        wrong += rc != (fired ? DOR_E_NO_MEMORY : 0) ? 1 : 0;
    } while (fired && nth < 1000);
    is_int(wrong, 0, "each of %u allocations fails cleanly", nth - 1);
    synth_fini(&synth);
}

int
main(void)
{
    test_kind(&(struct synth_kind){0}, DOR_TIER_FULL, "a guest that tells all");
    test_kind(&(struct synth_kind){.five_levels = true}, DOR_TIER_FULL, "with five levels");
    test_kind(
        &(struct synth_kind){.list_of_mappings = true}, DOR_TIER_FULL,
        "with a list of mappings");
    test_kind(
        &(struct synth_kind){.no_btf = true, .no_symbols = true}, DOR_TIER_NOTE,
        "without types and symbols");
    test_no_kernel();
    test_errors();
    test_no_memory();
    return done_testing();
}
