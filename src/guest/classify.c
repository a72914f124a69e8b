/* SPDX-License-Identifier: Apache-2.0 */
/*
 * classify.c - rules, the first that fits:
 *
 *     in a free block                          free
 *     flag reserved: in the kernel's image     kernel text where not writable, else kernel data
 *                    a page of the array       kernel data
 *                    other                     reserved
 *     slab; page table                         slab; page table
 *     mapping has bit 0                        anon
 *     flag lru: swapbacked                     shmem
 *               other                          file, dirty or clean
 *     other                                    kernel data
 *     no record                                reserved
 *
 * A page inside a compound page is what its head is. Pages on their way to a list have no flag lru
 * for a moment; files.c finds those that belong to files.
 */
#include "guest/classify.h"

#include "base/err.h"
#include "base/mem.h"

enum { ORDER_MAX = 20 };

void
guest_classify_content(struct guest_look *look)
{
    for (uint64_t row = 0; row < look->info->page_count; row++) {
        bool zero = guest_survey_is_zero(&look->survey, row);
        look->pages[row].page_class = zero ? DOR_CLASS_ZERO : DOR_CLASS_UNKNOWN;
    }
}

static void
set_class(struct guest_look *look, uint64_t pfn, enum dor_page_class page_class)
{
    uint64_t row;
    if (guest_memory_row(&look->memory, pfn, &row))
        look->pages[row].page_class = (uint8_t)page_class;
}

static bool
mark_image_leaf(void *context, uint64_t address, const struct guest_leaf *leaf)
{
    struct guest_look *look = context;
    uint64_t count = UINT64_C(1) << (leaf->shift - DOR_PAGE_SHIFT);
    (void)address;
    if (!guest_tables_work(&look->kernel.tables, count))
        return false;
    for (uint64_t i = 0; i < count; i++)
        set_class(
            look, (leaf->address >> DOR_PAGE_SHIFT) + i,
            leaf->writable ? DOR_CLASS_KERNEL_DATA : DOR_CLASS_KERNEL_TEXT);
    return true;
}

/* What reserved pages are: the kernel's image and the array itself, from where they are mapped. */
static void
mark_reserved(struct guest_look *look)
{
    const struct guest_visit visit = {
        .leaf = mark_image_leaf,
        .context = look,
        .first = GUEST_KERNEL_IMAGE,
        .end = GUEST_KERNEL_IMAGE_END,
    };
    struct guest_tables *tables = &look->kernel.tables;
    for (uint64_t row = 0; row < look->info->page_count; row++)
        look->pages[row].page_class = DOR_CLASS_RESERVED;
    if (!guest_tables_visit(tables, tables->top, &visit))
        guest_look_partial(look, "the kernel's image is mapped in more pieces than can be");
    for (size_t i = 0; i < look->memory.range_count; i++) {
        const struct guest_range *range = &look->memory.ranges[i];
        uint64_t per_page = DOR_PAGE_BYTES / look->array.record_bytes;
        for (uint64_t pfn = range->first_pfn; pfn < range->first_pfn + range->page_count;
             pfn += per_page) {
            uint64_t at = look->array.vmemmap + pfn * look->array.record_bytes;
            uint64_t physical;
            if (guest_tables_address(tables, at, &physical))
                set_class(look, physical >> DOR_PAGE_SHIFT, DOR_CLASS_KERNEL_DATA);
        }
    }
}

/* The class by the record of a page that is in no free block. */
static enum dor_page_class
class_of(
    const struct guest_look *look, uint64_t pfn, const uint8_t *record, uint8_t reserved_class)
{
    const struct guest_array *array = &look->array;
    if (guest_record_has(array, record, array->flag_reserved))
        return reserved_class;
    uint64_t head = guest_array_head(array, pfn, record);
    const uint8_t *own = record;
    if (head != pfn)
        record = guest_array_record(array, head);
    if (record == NULL)
        return DOR_CLASS_KERNEL_DATA;
    if (guest_record_is_slab(array, record))
        return DOR_CLASS_SLAB;
    if (guest_record_is_table(array, own))
        return DOR_CLASS_PAGE_TABLE;
    if ((base_le64_get(record + array->mapping) & 1) != 0)
        return DOR_CLASS_ANON;
    if (!guest_record_has(array, record, array->flag_lru))
        return DOR_CLASS_KERNEL_DATA;
    if (guest_record_has(array, record, array->flag_swapbacked))
        return DOR_CLASS_SHMEM;
    return guest_record_has(array, record, array->flag_dirty) ? DOR_CLASS_FILE_DIRTY
                                                              : DOR_CLASS_FILE_CLEAN;
}

/* The free block that begins at PFN: how many pages; 0 when it cannot be one. */
static uint64_t
free_block(const struct guest_look *look, uint64_t pfn, const uint8_t *record)
{
    uint64_t order = base_le64_get(record + look->array.private_word);
    uint32_t orders = ORDER_MAX;
    (void)guest_note_u32(&look->kernel.note, "LENGTH", "zone.free_area", ORDER_MAX, &orders);
    if (order >= orders || pfn % (UINT64_C(1) << order) != 0)
        return 0;
    return UINT64_C(1) << order;
}

/* Go through the pages of RANGE. */
static void
classify_range(struct guest_look *look, const struct guest_range *range)
{
    uint64_t free_left = 0;
    for (uint64_t i = 0; i < range->page_count; i++) {
        struct dor_inspect_page *page = &look->pages[range->first_row + i];
        const uint8_t *record = guest_array_record(&look->array, range->first_pfn + i);
        if (record == NULL)
            continue;
        bool is_head = guest_record_is_buddy(&look->array, record);
        if (is_head) {
            uint64_t row = range->first_row + i;
            uint64_t count = free_block(look, range->first_pfn + i, record);
            look->free_blocks_are_bad |=
                count == 0 || free_left != 0 || count > range->page_count - i;
            look->head_bits[row / 64] |= UINT64_C(1) << (row % 64);
            look->head_count++;
            free_left = base_max_u64(free_left, count);
        }
        if (free_left > 0) {
            free_left--;
            page->page_class = DOR_CLASS_FREE;
        } else if (is_head) {
            page->page_class = DOR_CLASS_KERNEL_DATA;
        } else {
            page->page_class =
                (uint8_t)class_of(look, range->first_pfn + i, record, page->page_class);
        }
    }
}

int
guest_classify(struct guest_look *look)
{
    look->head_bits = base_array(DIV_ROUND_UP(look->info->page_count, 64), sizeof(uint64_t));
    if (look->head_bits == NULL)
        return DOR_E_NO_MEMORY;
    mark_reserved(look);
    for (size_t i = 0; i < look->memory.range_count; i++)
        classify_range(look, &look->memory.ranges[i]);
    return 0;
}

static enum dor_importance
importance_of(const struct guest_look *look, uint64_t row)
{
    static const uint8_t by_class[DOR_CLASSES] = {
        [DOR_CLASS_UNKNOWN] = DOR_IMPORTANCE_CRITICAL,
        [DOR_CLASS_ZERO] = DOR_IMPORTANCE_NONE,
        [DOR_CLASS_FREE] = DOR_IMPORTANCE_NONE,
        [DOR_CLASS_KERNEL_TEXT] = DOR_IMPORTANCE_CRITICAL,
        [DOR_CLASS_KERNEL_DATA] = DOR_IMPORTANCE_CRITICAL,
        [DOR_CLASS_SLAB] = DOR_IMPORTANCE_CRITICAL,
        [DOR_CLASS_PAGE_TABLE] = DOR_IMPORTANCE_CRITICAL,
        [DOR_CLASS_FILE_CLEAN] = DOR_IMPORTANCE_LOW,
        [DOR_CLASS_FILE_DIRTY] = DOR_IMPORTANCE_NORMAL,
        [DOR_CLASS_ANON] = DOR_IMPORTANCE_NORMAL,
        [DOR_CLASS_SHMEM] = DOR_IMPORTANCE_NORMAL,
        [DOR_CLASS_RESERVED] = DOR_IMPORTANCE_CRITICAL,
    };
    if (guest_survey_is_zero(&look->survey, row) && !look->info->diff)
        return DOR_IMPORTANCE_NONE;
    return by_class[look->pages[row].page_class];
}

void
guest_classify_importance(struct guest_look *look)
{
    for (uint64_t row = 0; row < look->info->page_count; row++)
        look->pages[row].importance = (uint8_t)importance_of(look, row);
}
