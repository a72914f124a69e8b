/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_guest_inspect.c - inspections of made-up guests: what is found in whole ones of each kind, and
 * that nothing in a broken one leads out of bounds, round in circles, or to a wrong answer unsaid.
 */
#include "base/fault.h"
#include "base/random.h"
#include "guest/synth.h"

static void
check_classes(const struct dor_inspection *inspection, const char *name)
{
    static const struct {
        uint64_t first, count;
        enum dor_page_class page_class;
    } rows[] = {
        {SYNTH_TABLES, 4, DOR_CLASS_RESERVED},
        {SYNTH_RECORDS, 16, DOR_CLASS_KERNEL_DATA},
        {SYNTH_NOTE, 1, DOR_CLASS_KERNEL_DATA},
        {SYNTH_SLAB, SYNTH_PGD - SYNTH_SLAB, DOR_CLASS_SLAB},
        {SYNTH_PGD, 4, DOR_CLASS_PAGE_TABLE},
        {SYNTH_ANON, SYNTH_PAGES_EACH, DOR_CLASS_ANON},
        {SYNTH_FILE, SYNTH_PAGES_EACH, DOR_CLASS_FILE_CLEAN},
        {SYNTH_DIRTY, 1, DOR_CLASS_FILE_DIRTY},
        {SYNTH_SHMEM, 1, DOR_CLASS_SHMEM},
        {SYNTH_KERNEL, SYNTH_KERNEL_DATA - SYNTH_KERNEL, DOR_CLASS_KERNEL_TEXT},
        {SYNTH_KERNEL_DATA, SYNTH_FREE - SYNTH_KERNEL_DATA, DOR_CLASS_KERNEL_DATA},
        {SYNTH_FREE, SYNTH_PAGES - SYNTH_FREE, DOR_CLASS_FREE},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint64_t same = 0;
        for (uint64_t pfn = rows[i].first; pfn < rows[i].first + rows[i].count; pfn++)
            same += inspection->pages[pfn].page_class == rows[i].page_class ? 1 : 0;
        is_int(
            same, rows[i].count, "%s: pages from %" PRIu64 " are %s", name, rows[i].first,
            dor_page_class_name(rows[i].page_class));
    }
}

static void
check_regions(const struct dor_inspection *inspection, const char *name)
{
    uint64_t same = 0;
    for (uint64_t pfn = 0; pfn < SYNTH_PAGES; pfn++) {
        enum dor_region_type want = pfn - SYNTH_ANON < SYNTH_PAGES_EACH   ? DOR_W_MAP
                                    : pfn - SYNTH_FILE < SYNTH_PAGES_EACH ? DOR_RX_MAP
                                                                          : DOR_NRT;
        same += inspection->pages[pfn].region_type == want ? 1 : 0;
    }
    is_int(same, SYNTH_PAGES, "%s: region types", name);
}

static void
check_process(const struct dor_inspection *inspection, const char *name)
{
    if (!is_int(inspection->process_count, 1, "%s: one process", name) ||
        !is_int(inspection->mapping_count, 2, "%s: two mappings", name))
        return;
    const struct dor_inspect_process *process = &inspection->processes[0];
    const struct dor_inspect_mapping *mapping = &inspection->mappings[1];
    is_int(process->pid, SYNTH_TASK_PID, "%s: its number", name);
    is_str(process->name, "work?", "%s: its name without control characters", name);
    is_int(process->resident_pages, 20, "%s: its pages", name);
    is_int(process->anon_pages, 10, "%s: of these anonymous", name);
    ok(process->runtime, "%s: it is the runtime process", name);
    is_int(mapping->start, SYNTH_USER + 16 * DOR_PAGE_BYTES, "%s: start of a mapping", name);
    is_int(mapping->flags, 5, "%s: its flags", name);
    ok(mapping->file < inspection->file_count, "%s: it has a file", name);
}

static void
check_file(const struct dor_inspection *inspection, const char *name)
{
    if (!is_int(inspection->file_count, 1, "%s: one file", name))
        return;
    const struct dor_inspect_file *file = &inspection->files[0];
    is_str(file->name, "lib,\"odd\".so", "%s: its name", name);
    is_str(file->file_system, "ext4", "%s: its file system", name);
    is_int(file->inode, 1234, "%s: its inode", name);
    is_int(file->resident_pages, 12, "%s: its pages in memory", name);
    is_int(inspection->pages[SYNTH_FILE + 2].file_page, 9, "%s: a page's place in it", name);
    is_int(inspection->pages[SYNTH_ANON].file, UINT32_MAX, "%s: anon has none", name);
}

static void
test_whole(const char *name, const struct synth_kind *kind)
{
    struct synth synth;
    synth_init(&synth, kind);
    struct dor_inspection *inspection = synth_inspect(&synth, NULL);
    is_int(inspection->tier, DOR_TIER_FULL, "%s: full tier", name);
    ok(!inspection->partial, "%s: nothing is missing", name);
    is_str(inspection->remark, "", "%s: no remark", name);
    ok(inspection->free_is_sure, "%s: the free lists agree", name);
    is_str(inspection->kernel, "6.1.0-synth", "%s: the kernel's name", name);
    is_int(
        inspection->pages[SYNTH_CACHED].page_class, DOR_CLASS_FREE,
        "%s: a page on a processor's list is free", name);
    check_classes(inspection, name);
    check_regions(inspection, name);
    check_process(inspection, name);
    check_file(inspection, name);
    dor_inspection_free(inspection);
    synth_fini(&synth);
}

/* Importance follows from class and content. */
static void
test_importance(void)
{
    struct synth synth;
    synth_init(&synth, &(struct synth_kind){0});
    memset(synth_page(&synth, SYNTH_ANON), 0, DOR_PAGE_BYTES);
    memset(synth_page(&synth, SYNTH_FREE), 1, DOR_PAGE_BYTES);
    struct dor_inspection *inspection = synth_inspect(&synth, NULL);
    const struct dor_inspect_page *pages = inspection->pages;
    is_int(pages[SYNTH_ANON].importance, DOR_IMPORTANCE_NONE, "a zero page: none");
    is_int(pages[SYNTH_FREE].importance, DOR_IMPORTANCE_NONE, "a free page: none");
    is_int(pages[SYNTH_FILE].importance, DOR_IMPORTANCE_LOW, "a clean file page: low");
    is_int(pages[SYNTH_ANON + 1].importance, DOR_IMPORTANCE_NORMAL, "an anon page: normal");
    is_int(pages[SYNTH_SLAB].importance, DOR_IMPORTANCE_CRITICAL, "a slab page: critical");
    dor_inspection_free(inspection);
    synth_fini(&synth);
}

static void
test_tiers(void)
{
    struct synth synth;
    synth_init(&synth, &(struct synth_kind){.no_btf = true, .no_symbols = true});
    struct dor_inspection *inspection = synth_inspect(&synth, NULL);
    is_int(inspection->tier, DOR_TIER_NOTE, "without types: note tier");
    check_classes(inspection, "note tier");
    check_regions(inspection, "note tier");
    is_int(inspection->process_count, 1, "note tier: the process is found by its tables");
    ok(!inspection->free_is_sure, "note tier: free pages are not certain");
    dor_inspection_free(inspection);
    memset(synth_page(&synth, SYNTH_NOTE), 0, DOR_PAGE_BYTES);
    inspection = synth_inspect(&synth, NULL);
    is_int(inspection->tier, DOR_TIER_CONTENT, "without a note: content tier");
    is_int(inspection->pages[SYNTH_FREE].page_class, DOR_CLASS_ZERO, "zero");
    is_int(inspection->pages[SYNTH_ANON].page_class, DOR_CLASS_UNKNOWN, "unknown");
    dor_inspection_free(inspection);
    synth_fini(&synth);
}

/* No symbol of init_task: it is found by its look. */
static void
test_init_task_by_look(void)
{
    struct synth synth;
    synth_init(&synth, &(struct synth_kind){0});
    for (size_t i = 0; i < synth.symbol_count; i++)
        if (strcmp(synth.symbols[i].name, "init_task") == 0)
            synth.symbols[i].name = "xxxx_task";
    synth_make_symbols(&synth);
    struct dor_inspection *inspection = synth_inspect(&synth, NULL);
    is_int(inspection->tier, DOR_TIER_FULL, "init_task without a symbol: full tier");
    check_process(inspection, "init_task without a symbol");
    dor_inspection_free(inspection);
    synth_fini(&synth);
}

static void
test_process_option(void)
{
    struct synth synth;
    struct dor_inspection *inspection;
    synth_init(&synth, &(struct synth_kind){0});
    struct dor_inspect options = {.process = "42"};
    inspection = synth_inspect(&synth, &options);
    ok(inspection->processes[0].runtime, "by number");
    dor_inspection_free(inspection);
    options.process = "work?";
    inspection = synth_inspect(&synth, &options);
    ok(inspection->processes[0].runtime, "by name");
    dor_inspection_free(inspection);
    options.process = "other";
    is_int(
        guest_inspect(NULL, &synth.info, &options, &inspection), DOR_E_NOT_FOUND,
        "a name that none has");
    synth_fini(&synth);
}

/* Images that are no machine's, or not all of it. */
static void
test_other_images(void)
{
    struct synth synth;
    synth_init(&synth, &(struct synth_kind){0});
    synth.info.process = true;
    struct dor_inspection *inspection = synth_inspect(&synth, NULL);
    is_int(inspection->tier, DOR_TIER_CONTENT, "memory of processes: content tier");
    dor_inspection_free(inspection);
    synth.info.process = false;
    synth.info.diff = true;
    inspection = synth_inspect(&synth, NULL);
    is_int(inspection->tier, DOR_TIER_CONTENT, "a diff: content tier");
    dor_inspection_free(inspection);
    synth_fini(&synth);
}

/* ------------------------------------------------------------------ hostile guests */

typedef void break_fn(struct synth *synth);

/* What an inspection may say of a guest after FN broke it: it comes back, and admits it. */
static void
test_broken(const char *name, break_fn *fn, bool partial, bool free_is_sure)
{
    struct synth synth;
    synth_init(&synth, &(struct synth_kind){0});
    fn(&synth);
    struct dor_inspection *inspection = synth_inspect(&synth, NULL);
    is_int(inspection->partial, partial, "%s: partial: %s", name, inspection->remark);
    is_int(inspection->free_is_sure, free_is_sure, "%s: free pages", name);
    dor_inspection_free(inspection);
    synth_fini(&synth);
}

static void
break_task_ring(struct synth *synth)
{
    uint64_t tasks = synth_number(synth, GUEST_task_tasks);
    synth_put(synth, synth->task + tasks, synth->task + tasks);
}

static void
break_task_pointer(struct synth *synth)
{
    synth_put(synth, synth->task + synth_number(synth, GUEST_task_tasks), 0xdead000000000000);
}

static void
break_pgd(struct synth *synth)
{
    synth_set(synth, synth->mm, GUEST_mm_pgd, 8);
}

static void
break_tree_cycle(struct synth *synth)
{
    synth_set(
        synth, synth->root_node, GUEST_arange_slot,
        synth->root_node | synth_number(synth, GUEST_maple_arange) << 3);
}

static void
break_tree_type(struct synth *synth)
{
    synth_set(synth, synth->root_node, GUEST_arange_slot, synth->root_node | 9 << 3);
}

static void
break_mapping_order(struct synth *synth)
{
    synth_set(synth, synth->vma[1], GUEST_vma_start, SYNTH_USER);
}

static void
break_mapping_end(struct synth *synth)
{
    synth_set(synth, synth->vma[0], GUEST_vma_end, 0);
}

/* Every entry of every table of the process is the top table. */
static void
break_tables_cycle(struct synth *synth)
{
    for (size_t i = 0; i < 256; i++)
        base_le64_put(synth_page(synth, SYNTH_PGD) + i * 8, (uint64_t)SYNTH_PGD << 12 | 0x7);
}

static void
break_free_order(struct synth *synth)
{
    base_le64_put(synth_record(synth, SYNTH_FREE) + REC_PRIVATE, 60);
}

static void
break_free_overlap(struct synth *synth)
{
    synth_mark_type(synth, SYNTH_FREE + 8, 0x80, 0xf0);
}

static void
break_free_count(struct synth *synth)
{
    synth_put(synth, synth_area(9) + AREA_TYPES * 16, 2);
}

static void
break_free_ring(struct synth *synth)
{
    base_le64_put(
        synth_lru_at(synth, synth_record_lru(SYNTH_FREE)), synth_record_lru(SYNTH_FREE));
}

static void
break_free_missing(struct synth *synth)
{
    synth_ring(synth, synth_area(9) + 16, 0);
    synth_put(synth, synth_area(9) + AREA_TYPES * 16, 0);
}

static void
break_zone_count(struct synth *synth)
{
    synth_put(synth, synth_image_address(SYNTH_NODE) + NODE_NR_ZONES, 0xffffffff);
}

static void
guard_free_pages(struct synth *synth)
{
    synth_put(synth, synth_image_address(SYNTH_SWITCHES), 1);
}

static void
break_file(struct synth *synth)
{
    synth_set(synth, synth->mapping, GUEST_mapping_host, synth->mapping | 1);
}

static void
break_head(struct synth *synth)
{
    base_le64_put(synth_record(synth, 200) + REC_LRU, SYNTH_ARRAY + 0x40000000 + 1);
    base_le64_put(synth_record(synth, 201) + REC_LRU, (SYNTH_ARRAY - 64) | 1);
}

static void
test_cached_list(void)
{
    struct synth synth;
    synth_init(&synth, &(struct synth_kind){0});
    synth_put(&synth, synth_image_address(SYNTH_CPU) + 128, 7);
    struct dor_inspection *inspection = synth_inspect(&synth, NULL);
    is_int(
        inspection->pages[SYNTH_CACHED].page_class, DOR_CLASS_KERNEL_DATA,
        "a processor's list that is not as long as it says is not believed");
    ok(inspection->free_is_sure, "and the others are");
    dor_inspection_free(inspection);
    synth_fini(&synth);
}

static void
test_hostile(void)
{
    test_broken("tasks in a circle", break_task_ring, true, true);
    test_broken("a wild pointer to a task", break_task_pointer, true, true);
    test_broken("a wild pointer to page tables", break_pgd, true, true);
    test_broken("a tree of mappings in a circle", break_tree_cycle, true, true);
    test_broken("a node of no type", break_tree_type, true, true);
    test_broken("mappings that overlap", break_mapping_order, true, true);
    test_broken("a mapping that ends before it begins", break_mapping_end, true, true);
    test_broken("page tables in a circle", break_tables_cycle, true, true);
    test_broken("a free block of order 60", break_free_order, false, false);
    test_broken("free blocks that overlap", break_free_overlap, false, false);
    test_broken("a wrong count of free blocks", break_free_count, false, false);
    test_broken("a free list that does not close", break_free_ring, false, false);
    test_broken("a free block on no list", break_free_missing, false, false);
    test_broken("four billion zones", break_zone_count, false, false);
    test_broken("free pages that hold a pattern", guard_free_pages, false, false);
    test_broken("a file that is none", break_file, false, true);
    test_broken("heads of compound pages far away", break_head, false, true);
    test_cached_list();
}

/* Notes with absurd numbers lead to a lower tier. */
static void
test_absurd_notes(void)
{
    static const struct {
        const char *key, *line;
        enum dor_inspect_tier tier;
    } rows[] = {
        {"SIZE(page)", "SIZE(page)=0", DOR_TIER_CONTENT},
        {"SIZE(page)", "SIZE(page)=18446744073709551615", DOR_TIER_CONTENT},
        {"SIZE(page)", "SIZE(page)=99999999999999999999", DOR_TIER_CONTENT},
        {"OFFSET(page.flags)", "OFFSET(page.flags)=60", DOR_TIER_CONTENT},
        {"OFFSET(page.mapping)", "OFFSET(page.mapping)=-8", DOR_TIER_CONTENT},
        {"NUMBER(PG_lru)", "NUMBER(PG_lru)=64", DOR_TIER_CONTENT},
        {"NUMBER(PG_head_mask)", "NUMBER(PG_head_mask)=0", DOR_TIER_CONTENT},
        {"NUMBER(phys_base)", "NUMBER(phys_base)=9223372036854775807", DOR_TIER_CONTENT},
        {"SYMBOL(init_top_pgt)", "SYMBOL(init_top_pgt)=0", DOR_TIER_CONTENT},
        {"SYMBOL(init_uts_ns)", "SYMBOL(init_uts_ns)=ffffffff81000000", DOR_TIER_CONTENT},
        {"SYMBOL(vmemmap)", "SYMBOL(vmemmap)=ffffffffffffffff", DOR_TIER_CONTENT},
        {"LENGTH(zone.free_area)", "LENGTH(zone.free_area)=99", DOR_TIER_FULL},
        {"LENGTH(node_data)", "LENGTH(node_data)=4000000000", DOR_TIER_FULL},
        {"SYMBOL(kallsyms_names)", "SYMBOL(kallsyms_names)=1", DOR_TIER_NOTE},
        {"SYMBOL(kallsyms_offsets)", "SYMBOL(kallsyms_offsets)=ffffffff811ffffc",
         DOR_TIER_NOTE},
        {"OSRELEASE", "OSRELEASE=6.6.6", DOR_TIER_CONTENT},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct synth synth;
        synth_init(&synth, &(struct synth_kind){0});
        synth_change_note(&synth, rows[i].key, rows[i].line);
        struct dor_inspection *inspection = synth_inspect(&synth, NULL);
        is_int(inspection->tier, rows[i].tier, "%s: %s", rows[i].line, inspection->remark);
        dor_inspection_free(inspection);
        synth_fini(&synth);
    }
}

/* A process may write a page like a note; the kernel's records show whose it is. */
static void
test_forged_note(void)
{
    struct synth synth;
    synth_init(&synth, &(struct synth_kind){0});
    memcpy(synth_page(&synth, SYNTH_ANON), synth_page(&synth, SYNTH_NOTE), DOR_PAGE_BYTES);
    memset(synth_page(&synth, SYNTH_NOTE), 0, DOR_PAGE_BYTES);
    struct dor_inspection *inspection = synth_inspect(&synth, NULL);
    is_int(inspection->tier, DOR_TIER_CONTENT, "a note in anonymous memory is not believed");
    dor_inspection_free(inspection);
    synth_fini(&synth);
}

/* An old kernel's note is not at the beginning of a page. */
static void
test_note_inside_a_page(void)
{
    struct synth synth;
    synth_init(&synth, &(struct synth_kind){0});
    synth_write_note(&synth, 260);
    struct dor_inspection *inspection = synth_inspect(&synth, NULL);
    is_int(inspection->tier, DOR_TIER_FULL, "a note inside a page is found");
    dor_inspection_free(inspection);
    synth_fini(&synth);
}

/* Seeded words anywhere in the structures, many times: it always comes back. */
static void
test_random_words(void)
{
    enum { RUNS = 300, WORDS = 12 };
    struct base_random random;
    struct synth synth;
    base_random_init(&random, tap_seed());
    synth_init(&synth, &(struct synth_kind){0});
    AUTO_FREE uint8_t *whole = base_alloc(SYNTH_PAGES * DOR_PAGE_BYTES);
    if (whole == NULL)
        bail("no memory");
    memcpy(whole, synth.bytes, SYNTH_PAGES * DOR_PAGE_BYTES);
    unsigned tiers[3] = {0};
    for (unsigned run = 0; run < RUNS; run++) {
        for (unsigned i = 0; i < WORDS; i++) {
            /* Only words that hold something: the others lead nowhere. */
            uint64_t at = base_random_below(&random, SYNTH_FREE * DOR_PAGE_BYTES / 8) * 8;
            uint64_t old = base_le64_get(synth.bytes + at);
            uint64_t other = base_random_below(&random, SYNTH_FREE * DOR_PAGE_BYTES / 8) * 8;
            uint64_t choice = base_random_below(&random, 4);
            if (old == 0) {
                i -= base_random_below(&random, 32) != 0 ? 1 : 0;
                continue;
            }
            base_le64_put(
                synth.bytes + at, choice == 0   ? old ^ 1ull << base_random_below(&random, 64)
                                  : choice == 1 ? base_random_next(&random)
                                  : choice == 2 ? base_le64_get(whole + other)
                                                : old + 8 * base_random_below(&random, 64));
        }
        struct dor_inspection *inspection = synth_inspect(&synth, NULL);
        tiers[inspection->tier]++;
        dor_inspection_free(inspection);
        memcpy(synth.bytes, whole, SYNTH_PAGES * DOR_PAGE_BYTES);
    }
    note("tiers: content %u, note %u, full %u", tiers[0], tiers[1], tiers[2]);
    ok(tiers[2] > 0, "%d guests with random words come back", RUNS);
    synth_fini(&synth);
}

/* ------------------------------------------------------------------ layouts, memory, files */

/* Memory in two pieces, given by the image. */
static void
test_two_ranges(void)
{
    struct synth synth;
    synth_init(&synth, &(struct synth_kind){0});
    struct dor_image_range ranges[] = {
        {.page_count = 600, .data = synth.bytes},
        {.first_page = 600,
         .page_count = SYNTH_PAGES - 600,
         .address = 600 * DOR_PAGE_BYTES,
         .data = synth.bytes + 600 * DOR_PAGE_BYTES},
    };
    synth.info.ranges = ranges;
    synth.info.range_count = 2;
    struct dor_inspection *inspection = synth_inspect(&synth, NULL);
    is_int(inspection->tier, DOR_TIER_FULL, "two ranges: full tier");
    is_int(inspection->range_count, 2, "two ranges: the result has them");
    dor_inspection_free(inspection);
    ranges[1].address = 5 * DOR_PAGE_BYTES;
    is_int(
        guest_inspect(NULL, &synth.info, NULL, &inspection), DOR_E_CORRUPT,
        "ranges that overlap are an error");
    synth_fini(&synth);
}

static void
test_no_memory(void)
{
    struct synth synth;
    struct dor_inspection *inspection;
    unsigned nth = 0;
    bool fired;
    int wrong = 0;
    synth_init(&synth, &(struct synth_kind){0});
    do {
        base_fault_arm(FAULT_ALLOC, ++nth, 0);
        int rc = guest_inspect(NULL, &synth.info, NULL, &inspection);
        base_fault_arm(FAULT_NONE, 0, 0);
        fired = base_fault_fired();
        if (rc == 0)
            dor_inspection_free(inspection);
        wrong += rc != (fired ? DOR_E_NO_MEMORY : 0) ? 1 : 0;
    } while (fired && nth < 1000);
    is_int(wrong, 0, "each of %u allocations fails cleanly", nth - 1);
    synth_fini(&synth);
}

/* Pages inside a compound page are what its head is. */
static void
test_compound(void)
{
    enum { HEAD = 160, COUNT = 8, SLAB_HEAD = 176 };
    struct synth synth;
    int wrong = 0;
    synth_init(&synth, &(struct synth_kind){0});
    for (uint64_t i = 1; i < COUNT; i++) {
        base_le64_put(
            synth_record(&synth, HEAD + i) + REC_LRU, (SYNTH_ARRAY + HEAD * RECORD_BYTES) | 1);
        base_le64_put(
            synth_record(&synth, SLAB_HEAD + i) + REC_LRU,
            (SYNTH_ARRAY + SLAB_HEAD * RECORD_BYTES) | 1);
    }
    synth_mark(&synth, HEAD, 1u << FLAG_LRU | 1u << 16, synth.mapping, 50);
    synth_mark(&synth, SLAB_HEAD, 1u << FLAG_SLAB | 1u << 16, 0, 0);
    struct dor_inspection *inspection = synth_inspect(&synth, NULL);
    for (uint64_t i = 0; i < COUNT; i++) {
        wrong += inspection->pages[HEAD + i].page_class != DOR_CLASS_FILE_CLEAN;
        wrong += inspection->pages[HEAD + i].file_page != 50 + i;
        wrong += inspection->pages[SLAB_HEAD + i].page_class != DOR_CLASS_SLAB;
    }
    is_int(wrong, 0, "pages inside compound pages");
    dor_inspection_free(inspection);
    synth_fini(&synth);
}

/* A second node, with a free block of its own and a zone that was never made; others are absent. */
static void
test_two_nodes(void)
{
    enum { BLOCK = 240, NODE = SYNTH_SWITCHES + 1 };
    struct synth synth;
    synth_init(&synth, &(struct synth_kind){0});
    uint64_t node = synth_image_address(NODE);
    memcpy(synth_page(&synth, NODE), synth_page(&synth, SYNTH_NODE), 2 * DOR_PAGE_BYTES);
    synth_put(&synth, synth_image_address(SYNTH_NODES) + 24, node);
    synth_put(&synth, node + NODE_NR_ZONES, 2);
    for (unsigned order = 0; order < AREA_ORDERS; order++) {
        uint64_t area = node + ZONE_AREA + (uint64_t)order * AREA_BYTES;
        for (unsigned type = 0; type < AREA_TYPES; type++)
            synth_ring(
                &synth, area + (uint64_t)type * 16,
                order == 3 && type == 0 ? synth_record_lru(BLOCK) : 0);
        synth_put(&synth, area + AREA_TYPES * 16, order == 3);
    }
    synth_mark_type(&synth, BLOCK, 0x80, 0xf0);
    base_le64_put(synth_record(&synth, BLOCK) + REC_PRIVATE, 3);
    struct dor_inspection *inspection = synth_inspect(&synth, NULL);
    ok(inspection->free_is_sure, "two nodes: the free lists agree");
    is_int(inspection->pages[BLOCK + 7].page_class, DOR_CLASS_FREE, "two nodes: a free page");
    dor_inspection_free(inspection);
    synth_put(&synth, synth_image_address(SYNTH_NODES) + 24, 0);
    inspection = synth_inspect(&synth, NULL);
    ok(!inspection->free_is_sure, "a node that is left out: they do not");
    dor_inspection_free(inspection);
    synth_fini(&synth);
}

/* A guest that tells nothing, explained by what one of its build told before. */
static void
test_profile(void)
{
    struct synth synth;
    struct dor_inspect options = {.profile_directory = tap_dir()};
    synth_init(&synth, &(struct synth_kind){0});
    dor_inspection_free(synth_inspect(&synth, &options));
    synth_fini(&synth);
    synth_init(&synth, &(struct synth_kind){.no_btf = true, .no_symbols = true});
    struct dor_inspection *inspection = synth_inspect(&synth, &options);
    is_int(inspection->tier, DOR_TIER_FULL, "with a profile: full tier");
    ok(inspection->free_is_sure, "with a profile: the free lists agree");
    check_process(inspection, "with a profile");
    dor_inspection_free(inspection);
    synth_fini(&synth);
}

int
main(void)
{
    test_whole("6.1", &(struct synth_kind){0});
    test_whole("five levels", &(struct synth_kind){.five_levels = true});
    test_whole("types of 6.12", &(struct synth_kind){.byte_types = true});
    test_whole("list of mappings", &(struct synth_kind){.list_of_mappings = true});
    test_importance();
    test_tiers();
    test_init_task_by_look();
    test_process_option();
    test_other_images();
    test_hostile();
    test_absurd_notes();
    test_forged_note();
    test_note_inside_a_page();
    test_random_words();
    test_compound();
    test_two_nodes();
    test_two_ranges();
    test_no_memory();
    test_profile();
    return done_testing();
}
