/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tasks.c - from init_task along the ring of tasks; each with an mm of its own is a process.
 *
 * Without types there is another way: the upper halves of all top-level tables are copies of the
 * kernel's, so a page that has that half and something below is a process's. It has no name, and
 * whether it may write is what its entries say now, not what its mappings allow.
 */
#include "guest/tasks.h"

#include "base/err.h"
#include "base/mem.h"
#include "guest/mappings.h"

#include <stdlib.h>
#include <string.h>

enum {
    TASKS_MAX = 1 << 18,
    COMM_BYTES = 16,
    TABLE_HALF = 256,
    TABLE_ENTRIES = 512,
    PGDS_MAX = 65536
};

/* Bits that processors set in entries as they go: accessed, dirty. */
#define ENTRY_TOUCHED UINT64_C(0x60)

/* Whether the struct at TASK looks like the idle task of the first processor. */
static bool
is_first_task(struct guest_look *look, uint64_t task)
{
    const struct guest_profile *profile = &look->profile;
    struct guest_tables *tables = &look->kernel.tables;
    uint64_t ring = task + guest_offset(profile, GUEST_task_tasks);
    char comm[COMM_BYTES];
    uint32_t pid;
    uint64_t mm;
    uint64_t next;
    uint64_t back;
    return guest_read_name(
               tables, task + guest_offset(profile, GUEST_task_comm), comm, sizeof comm) &&
           strncmp(comm, "swapper", 7) == 0 &&
           guest_read_u32(tables, task + guest_offset(profile, GUEST_task_pid), &pid) &&
           pid == 0 &&
           guest_read_u64(tables, task + guest_offset(profile, GUEST_task_mm), &mm) &&
           mm == 0 && guest_read_u64(tables, ring, &next) &&
           guest_read_u64(tables, next + 8, &back) && back == ring;
}

struct search {
    struct guest_look *look;
    uint64_t found;
};

/* Structs of tasks begin on a line, so their names stand at one place modulo 64. */
static bool
search_leaf(void *context, uint64_t address, const struct guest_leaf *leaf)
{
    struct search *search = context;
    struct guest_look *look = search->look;
    uint64_t bytes = UINT64_C(1) << leaf->shift;
    uint64_t comm = guest_offset(&look->profile, GUEST_task_comm);
    const uint8_t *data = guest_memory_at(look->kernel.memory, leaf->address, (size_t)bytes);
    if (!leaf->writable || data == NULL)
        return true;
    if (!guest_tables_work(&look->kernel.tables, bytes / 256))
        return false;
    for (uint64_t at = comm % 64; at + COMM_BYTES <= bytes; at += 64)
        if (memcmp(data + at, "swapper", 7) == 0 && is_first_task(look, address + at - comm)) {
            search->found = address + at - comm;
            return false;
        }
    return true;
}

bool
guest_tasks_find_first(struct guest_look *look, uint64_t *ret)
{
    uint64_t first;
    struct search search = {.look = look};
    if (guest_profile_symbol(
            &look->profile, GUEST_SYMBOL_init_task, look->kernel.stext, &first) &&
        is_first_task(look, first)) {
        *ret = first;
        return true;
    }
    const struct guest_visit visit = {
        .leaf = search_leaf,
        .context = &search,
        .first = GUEST_KERNEL_IMAGE,
        .end = GUEST_KERNEL_IMAGE_END,
    };
    (void)!guest_tables_visit(&look->kernel.tables, look->kernel.tables.top, &visit);
    if (search.found == 0)
        return false;
    *ret = search.found;
    return true;
}

/* ------------------------------------------------------------------ whose pages */

static void
count_page(struct dor_inspect_process *process, enum dor_page_class page_class)
{
    process->resident_pages++;
    if (page_class == DOR_CLASS_ANON)
        process->anon_pages++;
    else if (
        page_class == DOR_CLASS_FILE_CLEAN || page_class == DOR_CLASS_FILE_DIRTY ||
        page_class == DOR_CLASS_SHMEM)
        process->file_pages++;
}

/* A process whose pages are being visited, in the order of addresses, as its mappings are. */
struct claim {
    struct guest_look *look;
    uint32_t process;
    struct dor_inspect_process *row;
    bool has_mappings; /* otherwise there are only its page tables */
    const struct dor_inspect_mapping *mapping, *mapping_end;
};

/* The mapping that ADDRESS lies in, or NULL. Addresses must not go down. */
static const struct dor_inspect_mapping *
mapping_at(struct claim *claim, uint64_t address)
{
    while (claim->mapping < claim->mapping_end && claim->mapping->end <= address)
        claim->mapping++;
    return claim->mapping < claim->mapping_end && claim->mapping->start <= address
               ? claim->mapping
               : NULL;
}

/* Pages that a driver put there are the kernel's, not the process's. */
static bool
is_device(struct claim *claim, uint64_t address)
{
    const struct dor_inspect_mapping *mapping =
        claim->has_mappings ? mapping_at(claim, address) : NULL;
    return mapping != NULL && (mapping->flags & GUEST_MAPPING_DEVICE) != 0;
}

static bool
claim_leaf(void *context, uint64_t address, const struct guest_leaf *leaf)
{
    struct claim *claim = context;
    struct guest_look *look = claim->look;
    uint64_t count = UINT64_C(1) << (leaf->shift - DOR_PAGE_SHIFT);
    if (!guest_tables_work(&look->kernel.tables, count))
        return false;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t row;
        if (!guest_memory_row(&look->memory, (leaf->address >> DOR_PAGE_SHIFT) + i, &row) ||
            is_device(claim, address + (i << DOR_PAGE_SHIFT)))
            continue;
        count_page(claim->row, look->pages[row].page_class);
        if (look->pages[row].process == UINT32_MAX)
            look->pages[row].process = claim->process;
    }
    return true;
}

/* Tables of the upper levels bear no type in their records; the walk shows what they are. */
static void
claim_table(void *context, uint64_t pfn)
{
    const struct claim *claim = context;
    uint64_t row;
    if (guest_memory_row(&claim->look->memory, pfn, &row) &&
        claim->look->pages[row].page_class == DOR_CLASS_KERNEL_DATA)
        claim->look->pages[row].page_class = DOR_CLASS_PAGE_TABLE;
}

static struct guest_process *
inside_of(const struct guest_look *look, size_t process)
{
    return (struct guest_process *)look->insides.rows + process;
}

static struct dor_inspect_process *
process_of(const struct guest_look *look, size_t process)
{
    return (struct dor_inspect_process *)look->processes.rows + process;
}

static uint64_t
user_end(const struct guest_tables *tables)
{
    return UINT64_C(1) << (tables->levels == 5 ? 56 : 47);
}

typedef bool leaf_fn(void *context, uint64_t address, const struct guest_leaf *leaf);

/* Call LEAF with all that PROCESS has mapped. */
static void
visit_process(struct guest_look *look, size_t process, leaf_fn *leaf)
{
    const struct dor_inspect_mapping *mappings = look->mappings.rows;
    struct claim claim = {
        .look = look,
        .process = (uint32_t)process,
        .row = process_of(look, process),
        .has_mappings = inside_of(look, process)->mm != 0,
    };
    if (mappings != NULL) {
        claim.mapping = mappings + inside_of(look, process)->first_mapping;
        claim.mapping_end = claim.mapping + claim.row->mapping_count;
    }
    const struct guest_visit visit = {
        .leaf = leaf,
        .table = claim_table,
        .context = &claim,
        .end = user_end(&look->kernel.tables),
        .user = true,
    };
    if (!guest_tables_visit(&look->kernel.tables, inside_of(look, process)->pgd, &visit))
        guest_look_partial(look, "page tables map more than can be");
}

static int
add_process(struct guest_look *look, const struct guest_process *inside)
{
    struct dor_inspect_process *row = guest_rows_add(&look->processes);
    struct guest_process *more = guest_rows_add(&look->insides);
    if (row == NULL || more == NULL)
        return DOR_E_NO_MEMORY;
    *more = *inside;
    more->first_mapping = look->mappings.count;
    return 0;
}

/* ------------------------------------------------------------------ along the tasks */

/* One task; those without an mm are the kernel's own. */
static int
read_task(struct guest_look *look, uint64_t task)
{
    const struct guest_profile *profile = &look->profile;
    struct guest_tables *tables = &look->kernel.tables;
    struct guest_process inside = {0};
    uint64_t pgd;
    uint32_t pid;
    char comm[COMM_BYTES];
    if (!guest_read_u64(tables, task + guest_offset(profile, GUEST_task_mm), &inside.mm) ||
        !guest_read_u32(tables, task + guest_offset(profile, GUEST_task_pid), &pid) ||
        !guest_read_name(
            tables, task + guest_offset(profile, GUEST_task_comm), comm, sizeof comm)) {
        guest_look_partial(look, "a task cannot be read");
        return 0;
    }
    if (inside.mm == 0)
        return 0;
    if (!guest_read_u64(tables, inside.mm + guest_offset(profile, GUEST_mm_pgd), &pgd) ||
        !guest_tables_address(tables, pgd, &inside.pgd)) {
        guest_look_partial(look, "the page tables of process %u cannot be read", pid);
        return 0;
    }
    int rc = add_process(look, &inside);
    if (rc != 0)
        return rc;
    size_t process = look->processes.count - 1;
    struct dor_inspect_process *row = process_of(look, process);
    row->pid = pid;
    memcpy(row->name, comm, sizeof row->name);
    rc = guest_mappings_read(look, process, inside.mm);
    visit_process(look, process, claim_leaf);
    return rc;
}

int
guest_tasks_read(struct guest_look *look, uint64_t first)
{
    uint64_t member = guest_offset(&look->profile, GUEST_task_tasks);
    uint64_t before = first + member;
    uint64_t at;
    if (!guest_read_u64(&look->kernel.tables, before, &at))
        at = before;
    for (unsigned count = 0; at != first + member; count++) {
        uint64_t back;
        if (count == TASKS_MAX || !guest_read_u64(&look->kernel.tables, at + 8, &back) ||
            back != before) {
            guest_look_partial(look, "the list of tasks breaks off after %u", count);
            return 0;
        }
        int rc = read_task(look, at - member);
        if (rc != 0)
            return rc;
        before = at;
        if (!guest_read_u64(&look->kernel.tables, at, &at)) {
            guest_look_partial(look, "the list of tasks breaks off after %u", count + 1);
            return 0;
        }
    }
    return 0;
}

/* ------------------------------------------------------------------ from tables alone */

/* Whether the page TABLE has all that KERNEL, a top-level table, has in its upper half. */
static bool
has_kernel_half(const uint8_t *table, const uint8_t *kernel)
{
    for (size_t i = TABLE_ENTRIES; i-- > TABLE_HALF;) {
        uint64_t ours = base_le64_get(kernel + i * 8);
        if (ours != 0 && ((ours ^ base_le64_get(table + i * 8)) & ~ENTRY_TOUCHED) != 0)
            return false;
    }
    return true;
}

static bool
has_user_half(const uint8_t *table)
{
    for (size_t i = 0; i < TABLE_HALF; i++)
        if ((base_le64_get(table + i * 8) & 1) != 0)
            return true;
    return false;
}

/* Keep the process at PFN when it maps anything. */
static int
guess_process(struct guest_look *look, uint64_t pfn)
{
    const struct guest_process inside = {.pgd = pfn << DOR_PAGE_SHIFT};
    int rc = add_process(look, &inside);
    if (rc != 0)
        return rc;
    visit_process(look, look->processes.count - 1, claim_leaf);
    if (process_of(look, look->processes.count - 1)->resident_pages == 0) {
        look->processes.count--;
        look->insides.count--;
    }
    return 0;
}

/* Whether the page of ROW may be a process's top table, by its class. */
static bool
may_be_top(const struct guest_look *look, uint64_t row)
{
    uint8_t page_class = look->pages[row].page_class;
    return (page_class == DOR_CLASS_KERNEL_DATA || page_class == DOR_CLASS_PAGE_TABLE) &&
           !guest_survey_is_zero(&look->survey, row);
}

int
guest_tasks_guess(struct guest_look *look)
{
    uint64_t top = look->kernel.tables.top;
    const uint8_t *kernel = guest_memory_at(&look->memory, top, DOR_PAGE_BYTES);
    if (kernel == NULL)
        return 0;
    for (size_t i = 0; i < look->memory.range_count; i++) {
        const struct guest_range *range = &look->memory.ranges[i];
        for (uint64_t page = 0; page < range->page_count; page++) {
            uint64_t pfn = range->first_pfn + page;
            if (pfn == top >> DOR_PAGE_SHIFT || !may_be_top(look, range->first_row + page))
                continue;
            const uint8_t *table =
                guest_memory_at(&look->memory, pfn << DOR_PAGE_SHIFT, DOR_PAGE_BYTES);
            if (table == NULL || !has_kernel_half(table, kernel) || !has_user_half(table))
                continue;
            int rc = look->processes.count < PGDS_MAX ? guess_process(look, pfn) : 0;
            if (rc != 0)
                return rc;
        }
    }
    return 0;
}

/* ------------------------------------------------------------------ region types */

static bool
fits_name(const struct dor_inspect_process *process, const char *wanted)
{
    char *end;
    unsigned long pid = strtoul(wanted, &end, 10);
    if (*end == '\0' && wanted[0] >= '0' && wanted[0] <= '9')
        return process->pid == pid;
    /* The kernel keeps 15 bytes of a name. */
    return strncmp(process->name, wanted, COMM_BYTES - 1) == 0;
}

/* The largest process that fits, and that is not init unless asked for; SIZE_MAX when none does. */
static size_t
choose_runtime(const struct guest_look *look, const char *wanted)
{
    size_t best = SIZE_MAX;
    for (size_t i = 0; i < look->processes.count; i++) {
        const struct dor_inspect_process *process = process_of(look, i);
        if (wanted == NULL ? process->pid == 1 : !fits_name(process, wanted))
            continue;
        if (best == SIZE_MAX ||
            process->resident_pages > process_of(look, best)->resident_pages)
            best = i;
    }
    return best;
}

static enum dor_region_type
region_of(struct claim *claim, uint64_t address, bool writable)
{
    if (!claim->has_mappings)
        return writable ? DOR_W_MAP : DOR_RX_MAP;
    const struct dor_inspect_mapping *mapping = mapping_at(claim, address);
    if (mapping == NULL || (mapping->flags & GUEST_MAPPING_DEVICE) != 0)
        return DOR_NRT;
    return (mapping->flags & GUEST_MAPPING_WRITE) != 0 ? DOR_W_MAP : DOR_RX_MAP;
}

static bool
region_leaf(void *context, uint64_t address, const struct guest_leaf *leaf)
{
    struct claim *claim = context;
    struct guest_look *look = claim->look;
    uint64_t count = UINT64_C(1) << (leaf->shift - DOR_PAGE_SHIFT);
    if (!guest_tables_work(&look->kernel.tables, count))
        return false;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t row;
        uint8_t type =
            (uint8_t)region_of(claim, address + (i << DOR_PAGE_SHIFT), leaf->writable);
        if (guest_memory_row(&look->memory, (leaf->address >> DOR_PAGE_SHIFT) + i, &row) &&
            type > look->pages[row].region_type)
            look->pages[row].region_type = type;
    }
    return true;
}

int
guest_tasks_region_types(struct guest_look *look)
{
    const char *wanted = look->options->process;
    if (look->result.tier != DOR_TIER_FULL)
        wanted = NULL;
    size_t runtime = choose_runtime(look, wanted);
    if (runtime == SIZE_MAX && wanted != NULL)
        return dor_fail(
            DOR_E_NOT_FOUND, "the guest has no process %s; it has %zu others", wanted,
            look->processes.count);
    if (runtime == SIZE_MAX)
        return 0;
    process_of(look, runtime)->runtime = true;
    visit_process(look, runtime, region_leaf);
    return 0;
}
