/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_guest_tables.c - walks through page tables made by hand: pages of three sizes, rights, four and
 * five levels, tables that lie outside memory, and tables in a circle.
 */
#include "base/le.h"
#include "guest/tables.h"
#include "tap.h"

enum { PAGES = 64, P = 1, W = 2, U = 4, LEAF = 0x80 };

#define NX (UINT64_C(1) << 63)

static uint8_t bytes[PAGES * 4096];
static struct guest_memory memory;
static struct guest_tables tables;

static void
set_entry(uint64_t table, uint64_t index, uint64_t value)
{
    base_le64_put(bytes + table * 4096 + index * 8, value);
}

static void
start(bool five_levels)
{
    const struct dor_image_range range = {.page_count = PAGES, .data = bytes};
    memset(bytes, 0, sizeof bytes);
    guest_memory_fini(&memory);
    if (guest_memory_init(&memory, &range, 1) != 0)
        bail("%s", dor_err_message());
    guest_tables_init(&tables, &memory, 0x1000, five_levels, 0);
}

/* Tables 1 -> 2 -> 3 -> 4, entry I at every level. */
static void
chain(uint64_t i, uint64_t flags)
{
    for (uint64_t table = 1; table < 4; table++)
        set_entry(table, i, (table + 1) << 12 | flags);
}

static void
test_walk(void)
{
    struct guest_leaf leaf;
    uint64_t value;
    start(false);
    chain(0, P | W | U);
    set_entry(4, 5, 9 << 12 | P | U | NX);
    base_le64_put(bytes + 9 * 4096 + 0x123, 77);
    ok(guest_tables_walk(&tables, 0x1000, 0x5123, &leaf), "a page of 4 KiB");
    is_int(leaf.address, 0x9123, "where it lies");
    ok(!leaf.writable && leaf.no_execute && leaf.user && leaf.shift == 12, "its rights");
    ok(guest_read_u64(&tables, 0x5123, &value) && value == 77, "a word in it");
    ok(guest_read_u64(&tables, 0x5123, &value) && value == 77, "and again, remembered");
    ok(!guest_tables_walk(&tables, 0x1000, 0x6000, &leaf), "an entry that is not there");
    ok(!guest_read_u64(&tables, 0x5ffc, &value), "a word that ends in it");
    set_entry(4, 6, 9 << 12 | P);
    ok(guest_read_u64(&tables, 0x5ffc, &value), "a word across two pages");
    ok(guest_tables_at(&tables, 0x5ffc, 8) == NULL, "has no one place");
    set_entry(4, 7, UINT64_C(0xffff0000000) | P);
    ok(!guest_read_u64(&tables, 0x7000, &value), "a page outside memory");
    set_entry(3, 1, UINT64_C(0xffff0000000) | P);
    ok(!guest_tables_walk(&tables, 0x1000, 0x200000, &leaf), "a table outside memory");
}

static void
test_large(void)
{
    struct guest_leaf leaf;
    start(false);
    chain(0, P | W);
    set_entry(3, 1, 0x400000 | P | W | LEAF);
    set_entry(2, 2, 0x80000000 | P | LEAF);
    ok(guest_tables_walk(&tables, 0x1000, 0x212345, &leaf) && leaf.address == 0x412345 &&
           leaf.shift == 21,
       "a page of 2 MiB");
    ok(guest_tables_walk(&tables, 0x1000, 0x80000000 + 0x1234567, &leaf) &&
           leaf.address == 0x80000000 + 0x1234567 && leaf.shift == 30 && !leaf.writable,
       "a page of 1 GiB");
    set_entry(1, 3, 0x1000 | P | LEAF);
    ok(!guest_tables_walk(&tables, 0x1000, UINT64_C(3) << 39, &leaf),
       "there is no page of 512 GiB");
}

static void
test_five_levels(void)
{
    struct guest_leaf leaf;
    start(true);
    chain(0, P | W);
    set_entry(4, 0, 5 << 12 | P | W);
    set_entry(5, 1, 7 << 12 | P | W);
    ok(guest_tables_walk(&tables, 0x1000, 0x1008, &leaf) && leaf.address == 0x7008,
       "five levels");
}

static void
test_names(void)
{
    char name[8];
    start(false);
    chain(0, P);
    set_entry(4, 0, 9 << 12 | P);
    memcpy(bytes + 9 * 4096, "a\x01\x7f\xc3\xa4 long name", 14);
    ok(guest_read_name(&tables, 0, name, sizeof name), "a name");
    is_str(name, "a??\xc3\xa4 l", "is cut, without control characters");
    memcpy(bytes + 10 * 4096 - 4, "tail", 4);
    ok(guest_read_name(&tables, 4092, name, sizeof name), "a name at the end of a page");
    is_str(name, "tail", "when the next one is not there");
    ok(!guest_read_name(&tables, 0x8000, name, sizeof name), "no name");
}

struct seen {
    uint64_t leaves, first, last, tables;
};

static bool
see_leaf(void *context, uint64_t address, const struct guest_leaf *leaf)
{
    struct seen *seen = context;
    (void)leaf;
    if (seen->leaves++ == 0)
        seen->first = address;
    seen->last = address;
    return true;
}

static void
see_table(void *context, uint64_t pfn)
{
    struct seen *seen = context;
    (void)pfn;
    seen->tables++;
}

static bool
visit(struct seen *seen, uint64_t first, uint64_t end, bool user)
{
    const struct guest_visit visit = {
        .leaf = see_leaf,
        .table = see_table,
        .context = seen,
        .first = first,
        .end = end,
        .user = user,
    };
    memset(seen, 0, sizeof *seen);
    return guest_tables_visit(&tables, 0x1000, &visit);
}

static void
test_visit(void)
{
    struct seen seen;
    start(false);
    chain(0, P | W | U);
    set_entry(4, 5, 9 << 12 | P | U);
    set_entry(4, 6, 9 << 12 | P);
    set_entry(4, 7, 9 << 12 | P | U);
    set_entry(1, 511, 2 << 12 | P);
    ok(visit(&seen, 0, 0, false) && seen.leaves == 6, "all leaves");
    is_int(seen.last, UINT64_C(0xffffff8000007000), "high addresses have their sign");
    is_int(seen.tables, 7, "a table that is used twice is seen twice");
    ok(visit(&seen, 0, 0, true) && seen.leaves == 2, "what user space may touch");
    ok(visit(&seen, 0x6000, 0x7000, false) && seen.leaves == 1 && seen.first == 0x6000,
       "a part");
    ok(visit(&seen, UINT64_C(0xffffff8000006000), 0, false) && seen.leaves == 2,
       "a part of the upper half");
    ok(visit(&seen, 0x8000, 0x9000, false) && seen.leaves == 0, "an empty part");
}

/* 512 entries that lead back to the top, at every level: 2^36 leaves. */
static void
test_circle(void)
{
    struct seen seen;
    uint64_t value;
    start(false);
    for (uint64_t i = 0; i < 512; i++)
        set_entry(1, i, 1 << 12 | P | W | U);
    ok(!visit(&seen, 0, 0, true), "tables in a circle are cut");
    ok(tables.exhausted && seen.leaves < 10000000, "for want of work");
    ok(!guest_read_u64(&tables, 0, &value), "after which nothing is read");
}

int
main(void)
{
    test_walk();
    test_large();
    test_five_levels();
    test_names();
    test_visit();
    test_circle();
    guest_memory_fini(&memory);
    return done_testing();
}
