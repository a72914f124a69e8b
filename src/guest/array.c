/* SPDX-License-Identifier: Apache-2.0 */
/*
 * array.c - finds and reads struct page.
 *
 * Where members lie, and most numbers of flags, are in the note. Three flags are not, but stood at
 * the same distance from others in 5.10, 6.1, 6.12 and 6.18: dirty = lru - 1, and reserved = private
 * - 1. A type of a page is, in the word _mapcount:
 *
 *     up to 6.10   an inverted bit below 0xf0000000: buddy is ~0x80, table ~0x200
 *     6.11         the same below 0x80000000
 *     since 6.12   the upper byte: buddy 0xf0, table 0xf2, slab 0xf5
 *
 * Records are looked up 64 at a time: with 64 bytes each, that is one page of the array.
 */
#include "guest/array.h"

#include "base/err.h"
#include "base/mem.h"

#include <string.h>

enum { GROUP_PAGES = 64, FLAGS_MAX = 63, HEAD_DISTANCE_MAX = 1 << 18 };

static bool
describe_members(struct guest_array *array, const struct guest_note *note)
{
    const struct {
        const char *name;
        uint32_t *offset;
        uint32_t bytes;
    } members[] = {
        {"page.flags", &array->flags, 8},
        {"page._refcount", &array->refcount, 4},
        {"page.mapping", &array->mapping, 8},
        {"page.lru", &array->lru, 16},
        {"page._mapcount", &array->type, 4},
        {"page.private", &array->private_word, 8},
        {"page.compound_head", &array->compound_head, 8},
    };
    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        if (!guest_note_u32(
                note, "OFFSET", members[i].name, array->record_bytes - members[i].bytes,
                members[i].offset))
            return false;
    return true;
}

static bool
describe_flag(const struct guest_note *note, const char *name, int32_t known, uint8_t *ret)
{
    uint32_t number = (uint32_t)known;
    if (known < 0 && !guest_note_u32(note, "NUMBER", name, FLAGS_MAX, &number))
        return false;
    *ret = (uint8_t)number;
    return true;
}

static bool
describe_flags(
    struct guest_array *array, const struct guest_note *note,
    const struct guest_profile *profile)
{
    uint8_t private_flag;
    uint64_t head_mask;
    if (!describe_flag(note, "PG_lru", GUEST_UNKNOWN, &array->flag_lru) ||
        !describe_flag(note, "PG_private", GUEST_UNKNOWN, &private_flag) ||
        !describe_flag(note, "PG_swapbacked", GUEST_UNKNOWN, &array->flag_swapbacked) ||
        !guest_note_u64(note, "NUMBER", "PG_head_mask", &head_mask) || head_mask == 0 ||
        array->flag_lru == 0 || private_flag == 0)
        return false;
    array->flag_head = (uint8_t)__builtin_ctzll(head_mask);
    array->flag_dirty =
        (uint8_t)(guest_knows(profile, GUEST_pg_dirty) ? profile->numbers[GUEST_pg_dirty] : array->flag_lru - 1);
    array->flag_reserved =
        (uint8_t)(guest_knows(profile, GUEST_pg_reserved) ? profile->numbers[GUEST_pg_reserved] : private_flag - 1);
    return true;
}

/* Types in the upper byte. */
static void
describe_byte_types(
    struct guest_page_types *types, uint32_t buddy, const struct guest_note *note,
    const struct guest_profile *profile)
{
    uint64_t slab;
    uint32_t table_byte = 0xf2;
    uint32_t slab_byte = 0xf5;
    if (guest_knows(profile, GUEST_type_table))
        table_byte = (uint32_t)profile->numbers[GUEST_type_table];
    if (guest_knows(profile, GUEST_type_slab))
        slab_byte = (uint32_t)profile->numbers[GUEST_type_slab];
    else if (guest_note_u64(note, "NUMBER", "PAGE_SLAB_MAPCOUNT_VALUE", &slab))
        slab_byte = (uint32_t)slab >> 24;
    types->mask = 0xff000000;
    types->buddy = buddy;
    types->table = table_byte << 24;
    types->slab = slab_byte << 24;
}

/* Types as inverted bits. */
static void
describe_bit_types(
    struct guest_page_types *types, uint32_t buddy, const struct guest_note *note)
{
    uint64_t slab;
    types->mask = buddy >> 28 == 0xf ? 0xf0000000 : 0x80000000;
    types->buddy_bits = ~buddy;
    /* Table comes two bits after buddy upwards, and after the change of 6.11 downwards. */
    types->table_bits =
        types->mask == 0xf0000000 ? types->buddy_bits << 2 : types->buddy_bits >> 2;
    types->buddy = types->mask;
    types->table = types->mask;
    if (guest_note_u64(note, "NUMBER", "PAGE_SLAB_MAPCOUNT_VALUE", &slab)) {
        types->slab_bits = ~(uint32_t)slab;
        types->slab = types->mask;
    }
}

static bool
describe_types(
    struct guest_array *array, const struct guest_note *note,
    const struct guest_profile *profile)
{
    uint64_t buddy;
    struct guest_page_types *types = &array->types;
    if (!guest_note_u64(note, "NUMBER", "PAGE_BUDDY_MAPCOUNT_VALUE", &buddy))
        return false;
    if (((uint32_t)buddy & 0xffffff) == 0)
        describe_byte_types(types, (uint32_t)buddy, note, profile);
    else
        describe_bit_types(types, (uint32_t)buddy, note);
    types->slab_is_flag = describe_flag(note, "PG_slab", GUEST_UNKNOWN, &array->flag_slab);
    return types->slab_is_flag || types->slab != 0;
}

bool
guest_array_describe(
    struct guest_array *array, const struct guest_kernel *kernel,
    const struct guest_profile *profile)
{
    memset(array, 0, sizeof *array);
    array->memory = kernel->memory;
    array->vmemmap = kernel->vmemmap;
    array->record_bytes = kernel->struct_page_bytes;
    if (guest_knows(profile, GUEST_page_index) &&
        guest_offset(profile, GUEST_page_index) <= array->record_bytes - 8) {
        array->index = (uint32_t)guest_offset(profile, GUEST_page_index);
        array->has_index = true;
    }
    return describe_members(array, &kernel->note) &&
           describe_flags(array, &kernel->note, profile) &&
           describe_types(array, &kernel->note, profile);
}

/* A private copy of a group's records that do not lie in one page; *RET NULL when not all are there. */
static int
copy_group(
    struct guest_array *array, struct guest_kernel *kernel, uint64_t address,
    const uint8_t **ret)
{
    size_t bytes = (size_t)GROUP_PAGES * array->record_bytes;
    if (array->copy_count == array->copy_cap) {
        size_t cap = array->copy_cap * 2 + 64;
        uint8_t **copies = base_realloc_array(array->copies, cap, sizeof copies[0]);
        if (copies == NULL)
            return DOR_E_NO_MEMORY;
        array->copies = copies;
        array->copy_cap = cap;
    }
    AUTO_FREE uint8_t *copy = base_alloc(bytes);
    if (copy == NULL)
        return DOR_E_NO_MEMORY;
    *ret = NULL;
    if (!guest_read(&kernel->tables, address, copy, bytes))
        return 0;
    *ret = copy;
    array->copies[array->copy_count++] = TAKE(copy);
    return 0;
}

static int
find_group(
    struct guest_array *array, struct guest_kernel *kernel, uint64_t group, const uint8_t **ret)
{
    size_t bytes = (size_t)GROUP_PAGES * array->record_bytes;
    uint64_t address = array->vmemmap + group * bytes;
    if (bytes > DOR_PAGE_BYTES - address % DOR_PAGE_BYTES)
        return copy_group(array, kernel, address, ret);
    *ret = guest_tables_at(&kernel->tables, address, bytes);
    return 0;
}

static uint64_t
first_group(const struct guest_range *range)
{
    return range->first_pfn / GROUP_PAGES;
}

static uint64_t
group_count(const struct guest_range *range)
{
    return (range->first_pfn + range->page_count - 1) / GROUP_PAGES - first_group(range) + 1;
}

static int
open_range(struct guest_array *array, struct guest_kernel *kernel, size_t which)
{
    const struct guest_range *range = &array->memory->ranges[which];
    const uint8_t **groups = array->groups + array->range_groups[which];
    int rc = 0;
    for (uint64_t i = 0; i < group_count(range) && rc == 0; i++)
        rc = find_group(array, kernel, first_group(range) + i, &groups[i]);
    return rc;
}

int
guest_array_open(struct guest_array *array, struct guest_kernel *kernel)
{
    size_t range_count = array->memory->range_count;
    uint64_t groups = 0;
    array->range_groups = base_array(range_count, sizeof array->range_groups[0]);
    if (array->range_groups == NULL)
        return DOR_E_NO_MEMORY;
    for (size_t i = 0; i < range_count; i++) {
        array->range_groups[i] = groups;
        groups += group_count(&array->memory->ranges[i]);
    }
    array->groups = base_array(groups, sizeof array->groups[0]);
    if (array->groups == NULL)
        return DOR_E_NO_MEMORY;
    int rc = 0;
    for (size_t i = 0; i < range_count && rc == 0; i++)
        rc = open_range(array, kernel, i);
    return rc;
}

void
guest_array_fini(struct guest_array *array)
{
    for (size_t i = 0; i < array->copy_count; i++)
        base_free(array->copies[i]);
    base_free(array->range_groups);
    base_free(array->groups);
    base_free(array->copies);
    array->range_groups = NULL;
    array->groups = NULL;
    array->copies = NULL;
    array->copy_count = 0;
}

const uint8_t *
guest_array_record(const struct guest_array *array, uint64_t pfn)
{
    const struct guest_range *range = guest_memory_range(array->memory, pfn);
    if (range == NULL)
        return NULL;
    uint64_t first = array->range_groups[range - array->memory->ranges];
    const uint8_t *group = array->groups[first + pfn / GROUP_PAGES - first_group(range)];
    return group == NULL ? NULL : group + pfn % GROUP_PAGES * array->record_bytes;
}

bool
guest_array_pfn(const struct guest_array *array, uint64_t address, uint64_t *ret)
{
    uint64_t distance = address - array->vmemmap;
    uint64_t pfn = distance / array->record_bytes;
    if (distance % array->record_bytes != 0 || guest_memory_range(array->memory, pfn) == NULL)
        return false;
    *ret = pfn;
    return true;
}

static uint32_t
type_word(const struct guest_array *array, const uint8_t *record)
{
    return base_le32_get(record + array->type);
}

bool
guest_record_is_buddy(const struct guest_array *array, const uint8_t *record)
{
    const struct guest_page_types *types = &array->types;
    return (type_word(array, record) & (types->mask | types->buddy_bits)) == types->buddy;
}

bool
guest_record_is_table(const struct guest_array *array, const uint8_t *record)
{
    const struct guest_page_types *types = &array->types;
    return (type_word(array, record) & (types->mask | types->table_bits)) == types->table;
}

bool
guest_record_is_slab(const struct guest_array *array, const uint8_t *record)
{
    const struct guest_page_types *types = &array->types;
    if (types->slab_is_flag)
        return guest_record_has(array, record, array->flag_slab);
    return (type_word(array, record) & (types->mask | types->slab_bits)) == types->slab;
}

uint64_t
guest_array_head(const struct guest_array *array, uint64_t pfn, const uint8_t *record)
{
    uint64_t head;
    uint64_t word = base_le64_get(record + array->compound_head);
    if ((word & 1) == 0 || !guest_array_pfn(array, word - 1, &head) || head >= pfn ||
        pfn - head >= HEAD_DISTANCE_MAX)
        return pfn;
    return head;
}
