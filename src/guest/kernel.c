/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel.c - from a note to page tables that work.
 *
 * The array of struct page: newer notes give its address. Older ones give mem_section, a two-level
 * table of sections of 128 MiB, each of which holds in one word
 *
 *     bits 0-5   flags: 0 present, 1 has struct pages
 *     bits 6-63  address that the array would have for page 0
 *
 * and with a virtually mapped array, the only kind on x86-64 distributions, it is the same in all.
 */
#include "guest/kernel.h"

#include "base/le.h"
#include "base/size.h"

#include <string.h>

enum {
    UTSNAME_RELEASE = 130, /* sysname and nodename are 65 bytes each */
    SAMPLES = 64,
    SECTION_HAS_PAGES = 2,
    STRUCT_PAGE_BYTES_MIN = 32,
    STRUCT_PAGE_BYTES_MAX = 512,
};

#define SECTION_MAP_MASK (~UINT64_C(0x3f))

const uint8_t *
guest_kernel_at(const struct guest_kernel *kernel, uint64_t address, size_t size_bytes)
{
    if (address < GUEST_KERNEL_IMAGE || address >= GUEST_KERNEL_IMAGE_END)
        return NULL;
    return guest_memory_at(kernel->memory, guest_kernel_physical(kernel, address), size_bytes);
}

static bool
is_in_image(uint64_t address)
{
    return address >= GUEST_KERNEL_IMAGE && address < GUEST_KERNEL_IMAGE_END;
}

/* Page tables that map the page they begin in where the note says it is. */
static bool
open_tables(struct guest_kernel *kernel)
{
    uint64_t top = 0;
    uint64_t five_levels = 0;
    uint64_t encryption_mask = 0;
    uint64_t physical;
    const struct guest_note *note = &kernel->note;
    if (!guest_note_u64(note, "NUMBER", "phys_base", &kernel->image_base) ||
        (!guest_note_u64(note, "SYMBOL", "init_top_pgt", &top) &&
         !guest_note_u64(note, "SYMBOL", "swapper_pg_dir", &top)) ||
        !guest_note_u64(note, "SYMBOL", "_stext", &kernel->stext) || !is_in_image(top) ||
        !is_in_image(kernel->stext) || top % DOR_PAGE_BYTES != 0)
        return false;
    (void)guest_note_u64(note, "NUMBER", "pgtable_l5_enabled", &five_levels);
    (void)guest_note_u64(note, "NUMBER", "sme_mask", &encryption_mask);
    guest_tables_init(
        &kernel->tables, kernel->memory, guest_kernel_physical(kernel, top), five_levels == 1,
        encryption_mask);
    return guest_tables_address(&kernel->tables, top, &physical) &&
           physical == guest_kernel_physical(kernel, top) &&
           guest_tables_address(&kernel->tables, kernel->stext, &physical) &&
           physical == guest_kernel_physical(kernel, kernel->stext);
}

/* The kernel's own name for uname(2) is the one of the note. */
static bool
names_agree(struct guest_kernel *kernel)
{
    uint64_t space;
    uint32_t name = 0;
    char release[65];
    if (!guest_note_u64(&kernel->note, "SYMBOL", "init_uts_ns", &space))
        return false;
    (void)guest_note_u32(&kernel->note, "OFFSET", "uts_namespace.name", 4096, &name);
    return guest_read_name(
               &kernel->tables, space + name + UTSNAME_RELEASE, release, sizeof release) &&
           strncmp(release, kernel->release, sizeof release - 1) == 0;
}

/* The word of section NUMBER. ROOTS is the address of the upper table. */
static bool
read_section(struct guest_kernel *kernel, uint64_t roots, uint64_t number, uint64_t *ret)
{
    uint32_t section_bytes;
    uint32_t map = 0;
    uint64_t root;
    if (!guest_note_u32(&kernel->note, "SIZE", "mem_section", 4096, &section_bytes) ||
        section_bytes < 8)
        return false;
    (void)guest_note_u32(&kernel->note, "OFFSET", "mem_section.section_mem_map", 4096, &map);
    uint64_t per_root = DOR_PAGE_BYTES / section_bytes;
    return guest_read_u64(&kernel->tables, roots + number / per_root * 8, &root) && root != 0 &&
           guest_read_u64(&kernel->tables, root + number % per_root * section_bytes + map, ret);
}

/* The first section with struct pages among those that memory lies in. */
static bool
vmemmap_of_sections(struct guest_kernel *kernel, uint64_t *ret)
{
    uint64_t roots;
    uint32_t bits = 27;
    (void)guest_note_u32(&kernel->note, "NUMBER", "SECTION_SIZE_BITS", 40, &bits);
    if (bits < 20 || !guest_note_u64(&kernel->note, "SYMBOL", "mem_section", &roots))
        return false;
    for (size_t i = 0; i < kernel->memory->range_count; i++) {
        const struct guest_range *range = &kernel->memory->ranges[i];
        uint64_t step = UINT64_C(1) << (bits - DOR_PAGE_SHIFT);
        uint64_t word;
        for (uint64_t pfn = range->first_pfn; pfn < range->first_pfn + range->page_count &&
                                              guest_tables_work(&kernel->tables, 1);
             pfn += step)
            if (read_section(kernel, roots, pfn / step, &word) &&
                (word & SECTION_HAS_PAGES) != 0) {
                *ret = word & SECTION_MAP_MASK;
                return true;
            }
    }
    return false;
}

static bool
find_array(struct guest_kernel *kernel)
{
    return guest_note_u32(
               &kernel->note, "SIZE", "page", STRUCT_PAGE_BYTES_MAX,
               &kernel->struct_page_bytes) &&
           kernel->struct_page_bytes >= STRUCT_PAGE_BYTES_MIN &&
           kernel->struct_page_bytes % 8 == 0 &&
           (guest_note_u64(&kernel->note, "SYMBOL", "vmemmap", &kernel->vmemmap) ||
            vmemmap_of_sections(kernel, &kernel->vmemmap));
}

/* Of pages evenly spread over all ranges, how many per cent have a struct page inside memory. */
static unsigned
sample_array(struct guest_kernel *kernel)
{
    unsigned found = 0;
    unsigned tried = 0;
    uint64_t step = kernel->memory->row_count / SAMPLES + 1;
    uint64_t skip = step / 2;
    for (size_t i = 0; i < kernel->memory->range_count; i++) {
        const struct guest_range *range = &kernel->memory->ranges[i];
        for (; skip < range->page_count; skip += step, tried++) {
            uint64_t address =
                kernel->vmemmap + (range->first_pfn + skip) * kernel->struct_page_bytes;
            uint8_t head[8];
            found += guest_read(&kernel->tables, address, head, sizeof head) ? 1 : 0;
        }
        skip -= range->page_count;
    }
    return tried == 0 ? 0 : found * 100 / tried;
}

bool
guest_kernel_open(
    const struct guest_memory *memory, const struct guest_note *note, struct guest_kernel *ret)
{
    memset(ret, 0, sizeof *ret);
    ret->memory = memory;
    ret->note = *note;
    if (!guest_note_text(note, "OSRELEASE", ret->release, sizeof ret->release))
        return false;
    (void)guest_note_text(note, "BUILD-ID", ret->build_id, sizeof ret->build_id);
    if (!open_tables(ret) || !names_agree(ret) || !find_array(ret))
        return false;
    ret->score = sample_array(ret);
    return ret->score > 0;
}
