/* SPDX-License-Identifier: Apache-2.0 */
/*
 * freelists.c - the allocator's own lists.
 *
 *     node_data[n] -> pglist_data: zones[], each with free_area[order]:
 *         free_list[migrate type], rings through struct page.lru;  nr_free, blocks of that order
 *     zone.per_cpu_pageset + __per_cpu_offset[cpu] -> per_cpu_pages: count (pages), lists[]
 *
 * A list is believed as far as each entry points back to the one before.
 */
#include "guest/freelists.h"

#include <string.h>

enum { NODES_MAX = 1024, ZONES_MAX = 16, LISTS_MAX = 64, CPUS_MAX = 4096, ORDERS_MAX = 20 };

/* Types whose pages are kept for each order on a processor's lists; the order is list / 3. */
enum { CACHED_TYPES = 3, CACHED_ORDERS = 4, HUGE_ORDER = 9 };

/* How the structs look. */
struct shape {
    uint32_t node_zones, nr_zones, zone_bytes, zone_free_area, area_bytes, area_list, orders,
        types;
    uint32_t next, prev;
    uint64_t nodes;
    uint32_t node_count;
};

static bool
describe(const struct guest_note *note, struct shape *ret)
{
    struct shape shape = {.prev = 8};
    uint32_t node_bytes;
    if (!guest_note_u32(note, "SIZE", "pglist_data", 1 << 24, &node_bytes) || node_bytes < 8 ||
        !guest_note_u32(
            note, "OFFSET", "pglist_data.node_zones", node_bytes, &shape.node_zones) ||
        !guest_note_u32(
            note, "OFFSET", "pglist_data.nr_zones", node_bytes - 4, &shape.nr_zones) ||
        !guest_note_u32(note, "SIZE", "zone", 1 << 20, &shape.zone_bytes) ||
        !guest_note_u32(
            note, "OFFSET", "zone.free_area", shape.zone_bytes, &shape.zone_free_area) ||
        !guest_note_u32(note, "SIZE", "free_area", 4096, &shape.area_bytes) ||
        !guest_note_u32(
            note, "OFFSET", "free_area.free_list", shape.area_bytes, &shape.area_list) ||
        !guest_note_u32(note, "LENGTH", "zone.free_area", ORDERS_MAX, &shape.orders) ||
        !guest_note_u32(note, "LENGTH", "free_area.free_list", LISTS_MAX, &shape.types) ||
        shape.area_list + shape.types * 16 + 8 > shape.area_bytes)
        return false;
    (void)guest_note_u32(note, "OFFSET", "list_head.next", 8, &shape.next);
    (void)guest_note_u32(note, "OFFSET", "list_head.prev", 8, &shape.prev);
    if (guest_note_u64(note, "SYMBOL", "node_data", &shape.nodes)) {
        if (!guest_note_u32(note, "LENGTH", "node_data", NODES_MAX, &shape.node_count))
            return false;
    } else if (!guest_note_u64(note, "SYMBOL", "contig_page_data", &shape.nodes)) {
        return false;
    }
    *ret = shape;
    return true;
}

struct zone_walk {
    struct guest_look *look;
    const struct shape *shape;
    /* Takes the page of an entry; false when it does not belong there. */
    bool (*entry)(struct zone_walk *walk, uint64_t pfn, unsigned order);
    uint64_t found; /* entries of this free_area, or pages of this processor */
    uint64_t total; /* of all free areas */
};

/* One ring whose list_head is at HEAD. */
static bool
walk_ring(struct zone_walk *walk, uint64_t head, unsigned order)
{
    struct guest_tables *tables = &walk->look->kernel.tables;
    const struct shape *shape = walk->shape;
    uint64_t before = head;
    uint64_t at;
    if (!guest_read_u64(tables, head + shape->next, &at))
        return false;
    /* A zone that no page of the node lies in was never made, and counts nothing. */
    if (at == 0)
        return true;
    while (at != head) {
        uint64_t back;
        uint64_t pfn;
        if (!guest_read_u64(tables, at + shape->prev, &back) || back != before ||
            !guest_array_pfn(&walk->look->array, at - walk->look->array.lru, &pfn) ||
            !walk->entry(walk, pfn, order))
            return false;
        before = at;
        if (!guest_read_u64(tables, at + shape->next, &at))
            return false;
    }
    return true;
}

/* A free block's head, not seen before; its bit is taken away. */
static bool
take_block(struct zone_walk *walk, uint64_t pfn, unsigned order)
{
    struct guest_look *look = walk->look;
    uint64_t row;
    const uint8_t *record = guest_array_record(&look->array, pfn);
    if (record == NULL || !guest_memory_row(&look->memory, pfn, &row) ||
        base_le64_get(record + look->array.private_word) != order ||
        (look->head_bits[row / 64] >> (row % 64) & 1) == 0)
        return false;
    look->head_bits[row / 64] &= ~(UINT64_C(1) << (row % 64));
    walk->found++;
    walk->total++;
    return true;
}

static bool
check_zone(struct zone_walk *walk, uint64_t zone)
{
    const struct shape *shape = walk->shape;
    for (unsigned order = 0; order < shape->orders; order++) {
        uint64_t area = zone + shape->zone_free_area + (uint64_t)order * shape->area_bytes;
        uint64_t count;
        walk->found = 0;
        for (unsigned type = 0; type < shape->types; type++)
            if (!walk_ring(walk, area + shape->area_list + (uint64_t)type * 16, order))
                return false;
        if (!guest_read_u64(
                &walk->look->kernel.tables,
                area + shape->area_list + (uint64_t)shape->types * 16, &count) ||
            count != walk->found)
            return false;
    }
    return true;
}

/* Call FN with each zone; false as soon as one is or the table makes no sense. */
static bool
each_zone(struct zone_walk *walk, bool (*fn)(struct zone_walk *walk, uint64_t zone))
{
    const struct shape *shape = walk->shape;
    struct guest_tables *tables = &walk->look->kernel.tables;
    unsigned seen = 0;
    for (uint32_t i = 0; i < shape->node_count || (i == 0 && shape->node_count == 0); i++) {
        uint64_t node = shape->nodes;
        uint32_t zones;
        if (shape->node_count > 0 &&
            !guest_read_u64(tables, shape->nodes + (uint64_t)i * 8, &node))
            return false;
        if (node == 0)
            continue;
        if (!guest_read_u32(tables, node + shape->nr_zones, &zones) || zones > ZONES_MAX)
            return false;
        for (uint32_t z = 0; z < zones; z++)
            if (!fn(walk, node + shape->node_zones + (uint64_t)z * shape->zone_bytes))
                return false;
        seen++;
    }
    return seen > 0;
}

bool
guest_freelists_check(struct guest_look *look)
{
    struct shape shape;
    if (look->free_blocks_are_bad || !describe(&look->kernel.note, &shape))
        return false;
    struct zone_walk walk = {.look = look, .shape = &shape, .entry = take_block};
    return each_zone(&walk, check_zone) && walk.total == look->head_count;
}

/* Whether ENTRY's pages may be on a processor's list: records without a use or a user. */
static bool
is_cached(const struct guest_look *look, uint64_t pfn, unsigned order)
{
    uint64_t count = UINT64_C(1) << order;
    if (pfn % count != 0)
        return false;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t row;
        const uint8_t *record = guest_array_record(&look->array, pfn + i);
        if (record == NULL || !guest_memory_row(&look->memory, pfn + i, &row) ||
            look->pages[row].page_class != DOR_CLASS_KERNEL_DATA ||
            base_le32_get(record + look->array.refcount) != 0 ||
            guest_record_has(&look->array, record, look->array.flag_reserved))
            return false;
    }
    return true;
}

static bool
count_cached(struct zone_walk *walk, uint64_t pfn, unsigned order)
{
    walk->found += UINT64_C(1) << order;
    return is_cached(walk->look, pfn, order);
}

static bool
free_cached(struct zone_walk *walk, uint64_t pfn, unsigned order)
{
    for (uint64_t i = 0; i < UINT64_C(1) << order; i++) {
        uint64_t row;
        if (guest_memory_row(&walk->look->memory, pfn + i, &row))
            walk->look->pages[row].page_class = DOR_CLASS_FREE;
    }
    return true;
}

/* The lists of one processor and zone, at PAGES. */
static bool
walk_cached(struct zone_walk *walk, uint64_t pages)
{
    const struct guest_profile *profile = &walk->look->profile;
    uint64_t lists = pages + guest_offset(profile, GUEST_pcp_lists);
    unsigned count = (unsigned)profile->numbers[GUEST_pcp_list_count];
    for (unsigned i = 0; i < count; i++) {
        unsigned order = i / CACHED_TYPES;
        if (order >= CACHED_ORDERS)
            order = HUGE_ORDER;
        if (!walk_ring(walk, lists + (uint64_t)i * 16, order))
            return false;
    }
    return true;
}

/* First count, then believe: half a list is no list. */
static void
add_processor(struct zone_walk *walk, uint64_t pages)
{
    uint32_t count;
    walk->entry = count_cached;
    walk->found = 0;
    if (!guest_read_u32(
            &walk->look->kernel.tables,
            pages + guest_offset(&walk->look->profile, GUEST_pcp_count), &count) ||
        !walk_cached(walk, pages) || walk->found != count)
        return;
    walk->entry = free_cached;
    (void)!walk_cached(walk, pages);
}

static bool
add_zone(struct zone_walk *walk, uint64_t zone)
{
    struct guest_look *look = walk->look;
    struct guest_tables *tables = &look->kernel.tables;
    uint64_t offsets = 0;
    uint64_t cpus = 0;
    uint64_t pages;
    uint32_t cpu_count = 0;
    (void)guest_profile_symbol(
        &look->profile, GUEST_SYMBOL___per_cpu_offset, look->kernel.stext, &offsets);
    (void)guest_profile_symbol(
        &look->profile, GUEST_SYMBOL_nr_cpu_ids, look->kernel.stext, &cpus);
    if (!guest_read_u32(tables, cpus, &cpu_count) || cpu_count > CPUS_MAX ||
        !guest_read_u64(tables, zone + guest_offset(&look->profile, GUEST_zone_pcp), &pages))
        return false;
    for (uint64_t cpu = 0; cpu < cpu_count; cpu++) {
        uint64_t offset;
        if (guest_read_u64(tables, offsets + cpu * 8, &offset))
            add_processor(walk, pages + offset);
    }
    return true;
}

void
guest_freelists_add_cached(struct guest_look *look)
{
    struct shape shape;
    const struct guest_profile *profile = &look->profile;
    if (!guest_knows(profile, GUEST_zone_pcp) || !guest_knows(profile, GUEST_pcp_count) ||
        !guest_knows(profile, GUEST_pcp_lists) || !guest_knows(profile, GUEST_pcp_list_count) ||
        !describe(&look->kernel.note, &shape))
        return;
    struct zone_walk walk = {.look = look, .shape = &shape};
    (void)!each_zone(&walk, add_zone);
}

bool
guest_freelists_are_guarded(struct guest_look *look)
{
    static const enum guest_symbol switches[] = {
        GUEST_SYMBOL__page_poisoning_enabled, GUEST_SYMBOL__debug_pagealloc_enabled};
    for (size_t i = 0; i < ARRAY_LEN(switches); i++) {
        uint64_t address;
        uint32_t enabled;
        if (!guest_profile_symbol(&look->profile, switches[i], look->kernel.stext, &address))
            continue;
        if (!guest_read_u32(&look->kernel.tables, address, &enabled) || enabled != 0)
            return true;
    }
    return false;
}
