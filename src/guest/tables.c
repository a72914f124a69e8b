/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tables.c - x86-64 paging.
 *
 * An entry, 64 bits little-endian, 512 in a table of 4096 bytes:
 *
 *     bit 0      present             bit 7       a leaf, at 2 MiB and 1 GiB
 *     bit 1      writable            bits 12-51  address of the table or page
 *     bit 2      user may touch it   bit 63      no execution
 *
 * Rights of a page are those that every level gives. A table may be its own child; a visit is a
 * loop over a stack of at most five levels and pays for each table it enters.
 */
#include "guest/tables.h"

#include "base/le.h"

#include <string.h>

enum {
    ENTRY_PRESENT = 1,
    ENTRY_WRITE = 2,
    ENTRY_USER = 4,
    ENTRY_LEAF = 0x80,
    TABLE_ENTRIES = 512,
    LEVELS_MAX = 5,
    NAME_BYTES_MAX = 256,
};

#define ENTRY_ADDRESS    UINT64_C(0x000ffffffffff000)
#define ENTRY_NO_EXECUTE (UINT64_C(1) << 63)

/* Enough for every honest guest many times over, and under a second of a hostile one's. */
#define WORK_BASE     UINT64_C(100000)
#define WORK_PER_PAGE 32

void
guest_tables_init(
    struct guest_tables *tables, const struct guest_memory *memory, uint64_t top,
    bool five_levels, uint64_t encryption_mask)
{
    memset(tables, 0, sizeof *tables);
    tables->memory = memory;
    tables->top = top;
    tables->levels = five_levels ? 5 : 4;
    tables->addresses = ENTRY_ADDRESS & ~encryption_mask;
    tables->work_left = WORK_BASE + WORK_PER_PAGE * memory->row_count;
}

bool
guest_tables_work(struct guest_tables *tables, uint64_t amount)
{
    if (amount > tables->work_left) {
        tables->work_left = 0;
        tables->exhausted = true;
        return false;
    }
    tables->work_left -= amount;
    return true;
}

static unsigned
shift_of(unsigned level)
{
    return 12 + 9 * level;
}

/* No processor has larger pages than 1 GiB; such an entry is reserved. */
static bool
is_reserved(uint64_t entry, unsigned level)
{
    return level > 2 && (entry & ENTRY_LEAF) != 0;
}

/* Whether an entry of LEVEL (0 is the lowest) maps a page and not a table. */
static bool
is_leaf(uint64_t entry, unsigned level)
{
    return level == 0 || (entry & ENTRY_LEAF) != 0;
}

static void
leaf_of_entry(
    const struct guest_tables *tables, uint64_t entry, unsigned level, struct guest_leaf *ret)
{
    uint64_t in_page = (UINT64_C(1) << shift_of(level)) - 1;
    ret->shift = shift_of(level);
    ret->address = entry & tables->addresses & ~in_page;
}

bool
guest_tables_walk(
    struct guest_tables *tables, uint64_t top, uint64_t address, struct guest_leaf *ret)
{
    uint64_t table = top;
    struct guest_leaf leaf = {.writable = true, .user = true};
    if (!guest_tables_work(tables, 1))
        return false;
    for (unsigned level = tables->levels; level-- > 0;) {
        uint64_t index = address >> shift_of(level) & (TABLE_ENTRIES - 1);
        const uint8_t *at = guest_memory_at(tables->memory, table + index * 8, 8);
        uint64_t entry = at == NULL ? 0 : base_le64_get(at);
        if ((entry & ENTRY_PRESENT) == 0 || is_reserved(entry, level))
            return false;
        leaf.writable &= (entry & ENTRY_WRITE) != 0;
        leaf.user &= (entry & ENTRY_USER) != 0;
        leaf.no_execute |= (entry & ENTRY_NO_EXECUTE) != 0;
        if (is_leaf(entry, level)) {
            leaf_of_entry(tables, entry, level, &leaf);
            leaf.address |= address & ((UINT64_C(1) << leaf.shift) - 1);
            *ret = leaf;
            return true;
        }
        table = entry & tables->addresses;
    }
    return false;
}

bool
guest_tables_address(struct guest_tables *tables, uint64_t address, uint64_t *ret)
{
    uint64_t page = address >> DOR_PAGE_SHIFT;
    uint64_t in_page = address % DOR_PAGE_BYTES;
    size_t slot = (page ^ page >> 10) % GUEST_WALKS_KEPT;
    if (tables->kept[slot].page == page + 1 && guest_tables_work(tables, 1)) {
        *ret = tables->kept[slot].address + in_page;
        return true;
    }
    struct guest_leaf leaf;
    if (!guest_tables_walk(tables, tables->top, address, &leaf))
        return false;
    tables->kept[slot].page = page + 1;
    tables->kept[slot].address = leaf.address - in_page;
    *ret = leaf.address;
    return true;
}

const uint8_t *
guest_tables_at(struct guest_tables *tables, uint64_t address, size_t size_bytes)
{
    uint64_t physical;
    if (size_bytes > DOR_PAGE_BYTES - address % DOR_PAGE_BYTES ||
        !guest_tables_address(tables, address, &physical))
        return NULL;
    return guest_memory_at(tables->memory, physical, size_bytes);
}

bool
guest_read(struct guest_tables *tables, uint64_t address, void *buf, size_t size_bytes)
{
    uint8_t *to = buf;
    while (size_bytes > 0) {
        size_t part = base_min_size(size_bytes, DOR_PAGE_BYTES - address % DOR_PAGE_BYTES);
        const uint8_t *from = guest_tables_at(tables, address, part);
        if (from == NULL)
            return false;
        memcpy(to, from, part);
        to += part;
        address += part;
        size_bytes -= part;
    }
    return true;
}

bool
guest_read_u32(struct guest_tables *tables, uint64_t address, uint32_t *ret)
{
    uint8_t bytes[4];
    if (!guest_read(tables, address, bytes, sizeof bytes))
        return false;
    *ret = base_le32_get(bytes);
    return true;
}

bool
guest_read_u64(struct guest_tables *tables, uint64_t address, uint64_t *ret)
{
    uint8_t bytes[8];
    if (!guest_read(tables, address, bytes, sizeof bytes))
        return false;
    *ret = base_le64_get(bytes);
    return true;
}

bool
guest_read_name(struct guest_tables *tables, uint64_t address, char *buf, size_t size_bytes)
{
    char bytes[NAME_BYTES_MAX] = {0};
    size_t want = base_min_size(size_bytes - 1, sizeof bytes - 1);
    /* The name may end just before a page that is not there. */
    size_t in_page = base_min_size(want, DOR_PAGE_BYTES - address % DOR_PAGE_BYTES);
    if (!guest_read(tables, address, bytes, in_page))
        return false;
    if (in_page < want && memchr(bytes, '\0', in_page) == NULL)
        (void)!guest_read(tables, address + in_page, bytes + in_page, want - in_page);
    size_t used = 0;
    for (; used < want && bytes[used] != '\0'; used++)
        buf[used] =
            (unsigned char)bytes[used] < ' ' || bytes[used] == '\x7f' ? '?' : bytes[used];
    buf[used] = '\0';
    return true;
}

/* One level of a visit: the table that is being read and how far. */
struct level {
    const uint8_t *table;
    uint64_t address; /* that its first entry maps */
    unsigned index;
    bool writable, no_execute;
};

struct walk {
    struct guest_tables *tables;
    const struct guest_visit *visit;
    struct level levels[LEVELS_MAX];
    unsigned depth; /* levels[depth] is the one being read; its entries are of depth's level */
};

static bool
enter_table(struct walk *walk, uint64_t table, uint64_t address, bool writable, bool no_execute)
{
    const uint8_t *bytes =
        guest_memory_at(walk->tables->memory, table & ~(DOR_PAGE_BYTES - 1), DOR_PAGE_BYTES);
    if (bytes == NULL)
        return false;
    struct level *level = &walk->levels[walk->depth];
    *level = (struct level){bytes, address, 0, writable, no_execute};
    unsigned shift = shift_of(walk->depth);
    if (walk->visit->first > address)
        level->index =
            (unsigned)base_min_u64((walk->visit->first - address) >> shift, TABLE_ENTRIES);
    if (walk->visit->table != NULL)
        walk->visit->table(walk->visit->context, table >> DOR_PAGE_SHIFT);
    return true;
}

/* The address that the entry of LEVEL maps, with the sign that the top bit gives it. */
static uint64_t
entry_address(const struct walk *walk, unsigned depth)
{
    const struct level *level = &walk->levels[depth];
    uint64_t address = level->address + ((uint64_t)level->index << shift_of(depth));
    unsigned top = shift_of(walk->tables->levels) - 1;
    return (address >> top & 1) != 0 ? address | ~UINT64_C(0) << top : address;
}

/* Skip entries that are not present; false at the end of the table. */
static bool
next_present(struct level *level, bool user, uint64_t *ret)
{
    const uint64_t wanted = ENTRY_PRESENT | (user ? (uint64_t)ENTRY_USER : 0);
    for (; level->index < TABLE_ENTRIES; level->index++) {
        uint64_t entry = base_le64_get(level->table + (size_t)level->index * 8);
        if ((entry & wanted) == wanted) {
            *ret = entry;
            return true;
        }
    }
    return false;
}

/* One entry; false when the visit is to end. */
static bool
visit_entry(struct walk *walk, uint64_t entry)
{
    struct level *level = &walk->levels[walk->depth];
    uint64_t address = entry_address(walk, walk->depth);
    bool writable = level->writable && (entry & ENTRY_WRITE) != 0;
    bool no_execute = level->no_execute || (entry & ENTRY_NO_EXECUTE) != 0;
    level->index++;
    if (walk->visit->end != 0 && address >= walk->visit->end) {
        level->index = TABLE_ENTRIES;
        return true;
    }
    if (is_reserved(entry, walk->depth))
        return true;
    if (is_leaf(entry, walk->depth)) {
        struct guest_leaf leaf = {
            .writable = writable, .no_execute = no_execute, .user = (entry & ENTRY_USER) != 0};
        leaf_of_entry(walk->tables, entry, walk->depth, &leaf);
        return guest_tables_work(walk->tables, 1) &&
               walk->visit->leaf(walk->visit->context, address, &leaf);
    }
    if (!guest_tables_work(walk->tables, 16))
        return false;
    walk->depth--;
    if (!enter_table(walk, entry & walk->tables->addresses, address, writable, no_execute))
        walk->depth++;
    return true;
}

bool
guest_tables_visit(struct guest_tables *tables, uint64_t top, const struct guest_visit *visit)
{
    struct walk walk = {.tables = tables, .visit = visit, .depth = tables->levels - 1};
    unsigned top_depth = walk.depth;
    if (!guest_tables_work(tables, 16))
        return false;
    if (!enter_table(&walk, top, 0, true, false))
        return true;
    /* The upper half of addresses begins with sixteen or seven ones, which no level holds. */
    if (visit->first >> 63 != 0)
        walk.levels[top_depth].index =
            (unsigned)(visit->first >> shift_of(top_depth) & (TABLE_ENTRIES - 1));
    for (;;) {
        uint64_t entry;
        if (next_present(&walk.levels[walk.depth], visit->user, &entry)) {
            if (!visit_entry(&walk, entry))
                return false;
        } else if (walk.depth++ == top_depth) {
            return true;
        }
    }
}
