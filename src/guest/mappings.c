/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mappings.c - a walk through a maple tree.
 *
 * A pointer to a node has in its low 8 bits: 2 for "a node" (in a root alone), and in bits 3-6 its
 * type. A node, 256 bytes:
 *
 *     parent    u64
 *     pivots    u64[slots - 1]: the last address that slot i holds; a 0 after the first ends them
 *     slots     u64[slots]: in a leaf pointers to vm_area_struct, otherwise to nodes; 0 is a gap
 *
 * Nodes are walked in order of address with a stack of fixed depth. Each must lie within the bounds
 * that its parent gives it, so a cycle makes the bounds no larger and the depth ends it.
 */
#include "guest/mappings.h"

#include "guest/files.h"

#include <string.h>

enum { DEPTH_MAX = 24, SLOTS_MAX = 64 };

/* ------------------------------------------------------------------ one mapping */

struct reader {
    struct guest_look *look;
    size_t process;
    uint64_t end; /* of the mapping before */
};

/* Add the vm_area_struct at ADDRESS. */
static int
add_mapping(struct reader *reader, uint64_t address)
{
    struct guest_look *look = reader->look;
    const struct guest_profile *profile = &look->profile;
    struct guest_tables *tables = &look->kernel.tables;
    struct dor_inspect_mapping mapping = {.process = (uint32_t)reader->process};
    uint64_t file;
    if (!guest_read_u64(
            tables, address + guest_offset(profile, GUEST_vma_start), &mapping.start) ||
        !guest_read_u64(tables, address + guest_offset(profile, GUEST_vma_end), &mapping.end) ||
        !guest_read_u64(
            tables, address + guest_offset(profile, GUEST_vma_flags), &mapping.flags) ||
        !guest_read_u64(tables, address + guest_offset(profile, GUEST_vma_file), &file) ||
        mapping.start >= mapping.end || mapping.start < reader->end) {
        guest_look_partial(look, "a mapping cannot be read or is out of order");
        return 0;
    }
    reader->end = mapping.end;
    int rc = guest_files_of_file(look, file, &mapping.file);
    if (rc != 0)
        return rc;
    struct dor_inspect_mapping *row = guest_rows_add(&look->mappings);
    if (row == NULL)
        return DOR_E_NO_MEMORY;
    *row = mapping;
    ((struct dor_inspect_process *)look->processes.rows)[reader->process].mapping_count++;
    return 0;
}

/* ------------------------------------------------------------------ the tree */

struct node {
    uint64_t slots[SLOTS_MAX], pivots[SLOTS_MAX];
    uint64_t max; /* the last address it may hold */
    uint64_t min;
    unsigned slot_count, next;
    bool is_leaf;
};

/* Read COUNT words at ADDRESS. */
static bool
read_words(struct guest_tables *tables, uint64_t address, uint64_t *words, unsigned count)
{
    uint8_t bytes[SLOTS_MAX * 8];
    if (!guest_read(tables, address, bytes, (size_t)count * 8))
        return false;
    for (unsigned i = 0; i < count; i++)
        words[i] = base_le64_get(bytes + (size_t)i * 8);
    return true;
}

/* The node that POINTER means, to hold MIN ... MAX. */
static bool
read_node(
    struct guest_look *look, uint64_t pointer, uint64_t min, uint64_t max, struct node *node)
{
    const struct guest_profile *profile = &look->profile;
    int32_t type = (int32_t)(pointer >> 3 & 15);
    uint64_t address = pointer & ~UINT64_C(0xff);
    bool is_arange = type == profile->numbers[GUEST_maple_arange];
    node->is_leaf = type == profile->numbers[GUEST_maple_leaf];
    if (!is_arange && !node->is_leaf && type != profile->numbers[GUEST_maple_range])
        return false;
    node->min = min;
    node->max = max;
    node->next = 0;
    node->slot_count =
        (unsigned)profile->numbers[is_arange ? GUEST_arange_slots : GUEST_range_slots];
    enum guest_number pivot = is_arange ? GUEST_arange_pivot : GUEST_range_pivot;
    enum guest_number slot = is_arange ? GUEST_arange_slot : GUEST_range_slot;
    struct guest_tables *tables = &look->kernel.tables;
    return guest_tables_work(tables, 8) &&
           read_words(
               tables, address + guest_offset(profile, pivot), node->pivots,
               node->slot_count - 1) &&
           read_words(
               tables, address + guest_offset(profile, slot), node->slots, node->slot_count);
}

/* The next slot of NODE with the bounds of what it holds; false after the last one. */
static bool
next_slot(struct node *node, uint64_t *ret, uint64_t *ret_min, uint64_t *ret_max)
{
    if (node->next >= node->slot_count || node->min > node->max)
        return false;
    unsigned slot = node->next++;
    uint64_t end = slot + 1 < node->slot_count ? node->pivots[slot] : node->max;
    if ((slot > 0 && end == 0) || end > node->max)
        end = node->max;
    if (end < node->min)
        return false;
    *ret = node->slots[slot];
    *ret_min = node->min;
    *ret_max = end;
    if (end == node->max)
        node->next = node->slot_count;
    node->min = end + 1;
    return true;
}

/* The tree below the node ROOT. */
static int
walk_tree(struct reader *reader, uint64_t root)
{
    struct node nodes[DEPTH_MAX];
    unsigned depth = 0;
    if (!read_node(reader->look, root, 0, UINT64_MAX, &nodes[0])) {
        guest_look_partial(reader->look, "the root of a tree of mappings cannot be read");
        return 0;
    }
    for (;;) {
        uint64_t slot;
        uint64_t min;
        uint64_t max;
        if (!next_slot(&nodes[depth], &slot, &min, &max)) {
            if (depth-- == 0)
                return 0;
            continue;
        }
        /* Values below 4096 are marks of the tree's own. */
        if (slot < DOR_PAGE_BYTES || (nodes[depth].is_leaf && (slot & 3) != 0))
            continue;
        if (nodes[depth].is_leaf) {
            int rc = add_mapping(reader, slot);
            if (rc != 0)
                return rc;
        } else if (
            depth + 1 == DEPTH_MAX ||
            !read_node(reader->look, slot, min, max, &nodes[depth + 1])) {
            guest_look_partial(reader->look, "a tree of mappings is broken or too deep");
        } else {
            depth++;
        }
        if (reader->look->kernel.tables.exhausted)
            return 0;
    }
}

/* Up to Linux 6.0: each mapping points to the next. */
static int
walk_list(struct reader *reader, uint64_t mm)
{
    struct guest_look *look = reader->look;
    const struct guest_profile *profile = &look->profile;
    struct guest_tables *tables = &look->kernel.tables;
    uint64_t at;
    if (!guest_read_u64(tables, mm + guest_offset(profile, GUEST_mm_mmap), &at))
        at = 0;
    while (at != 0) {
        uint64_t end = reader->end;
        int rc = add_mapping(reader, at);
        if (rc != 0)
            return rc;
        /* Ends grow in an honest list, so one that does not grow is none. */
        if (reader->end <= end ||
            !guest_read_u64(tables, at + guest_offset(profile, GUEST_vma_next), &at)) {
            guest_look_partial(look, "a list of mappings breaks off");
            return 0;
        }
    }
    return 0;
}

int
guest_mappings_read(struct guest_look *look, size_t process, uint64_t mm)
{
    const struct guest_profile *profile = &look->profile;
    struct reader reader = {.look = look, .process = process};
    uint64_t root;
    if (!guest_profile_has_tree(profile))
        return walk_list(&reader, mm);
    if (!guest_read_u64(
            &look->kernel.tables,
            mm + guest_offset(profile, GUEST_mm_mt) + guest_offset(profile, GUEST_tree_root),
            &root)) {
        guest_look_partial(look, "a tree of mappings cannot be read");
        return 0;
    }
    if ((root & 3) == 2)
        return walk_tree(&reader, root);
    return root == 0 ? 0 : add_mapping(&reader, root);
}
