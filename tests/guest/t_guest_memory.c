/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_guest_memory.c - addresses to bytes: ranges, their ends, and the layouts that raw memory may
 * have.
 */
#include "guest/layout.h"
#include "guest/memory.h"
#include "tap.h"

#define GIB (UINT64_C(1) << 30)

static uint8_t bytes[8 * 4096];

static void
test_ranges(void)
{
    const struct dor_image_range ranges[] = {
        {.first_page = 0, .page_count = 2, .address = 0x9000, .data = bytes},
        {.first_page = 2, .page_count = 3, .address = 0x1000, .data = bytes + 0x2000},
        {.first_page = 5, .page_count = 1, .address = DOR_IMAGE_NO_ADDRESS, .data = bytes},
        {.first_page = 6, .page_count = 1, .address = 0x20001, .data = bytes},
    };
    struct guest_memory memory;
    uint64_t row;
    is_ok(guest_memory_init(&memory, ranges, ARRAY_LEN(ranges)), "ranges in any order");
    is_int(memory.range_count, 2, "pages without an address of a page are left out");
    is_int(memory.row_count, 7, "but counted");
    is_int(memory.end_pfn, 11, "end");
    ok(guest_memory_at(&memory, 0x9000, 0x2000) == bytes, "a whole range");
    ok(guest_memory_at(&memory, 0xafff, 1) == bytes + 0x1fff, "its last byte");
    ok(guest_memory_at(&memory, 0xafff, 2) == NULL, "not one more");
    ok(guest_memory_at(&memory, 0x3fff, 2) == NULL, "nor across a hole");
    ok(guest_memory_at(&memory, 0, 1) == NULL, "nothing before the first");
    ok(guest_memory_at(&memory, UINT64_MAX, 1) == NULL, "nothing at the end of all");
    ok(guest_memory_at(&memory, 0x9000, SIZE_MAX) == NULL, "nor as much as all");
    ok(guest_memory_row(&memory, 1, &row) && row == 2, "row of a page");
    ok(!guest_memory_row(&memory, 4, &row), "none of a page in a hole");
    guest_memory_fini(&memory);
}

static void
test_bad_ranges(void)
{
    struct dor_image_range ranges[] = {
        {.page_count = 2, .address = 0x1000, .data = bytes},
        {.first_page = 2, .page_count = 2, .address = 0x2000, .data = bytes},
    };
    struct guest_memory memory;
    is_int(guest_memory_init(&memory, ranges, 2), DOR_E_CORRUPT, "overlap");
    ranges[1].address = UINT64_C(0xfffffffffffff000);
    is_int(guest_memory_init(&memory, ranges, 2), DOR_E_CORRUPT, "past 52 bits");
    ranges[1].address = 0x10000;
    ranges[1].page_count = UINT64_MAX;
    is_int(guest_memory_init(&memory, ranges, 2), DOR_E_CORRUPT, "more pages than can be");
    is_ok(guest_memory_init(&memory, NULL, 0), "none at all");
    ok(guest_memory_at(&memory, 0, 0) == NULL, "has nothing");
    guest_memory_fini(&memory);
}

/* Where the page ROW of an image of PAGES lies in layout WHICH. */
static uint64_t
address_in(size_t which, uint64_t pages, uint64_t row)
{
    const struct dor_image_range range = {.page_count = pages, .data = bytes};
    const struct dor_image_info info = {
        .page_count = pages, .ranges = &range, .range_count = 1, .addresses_guessed = true};
    struct guest_layout layout;
    uint64_t address = DOR_IMAGE_NO_ADDRESS;
    if (guest_layout_make(&info, which, &layout) != 0)
        bail("%s", dor_err_message());
    for (size_t i = 0; i < layout.range_count; i++)
        if (row - layout.ranges[i].first_page < layout.ranges[i].page_count)
            address =
                layout.ranges[i].address + (row - layout.ranges[i].first_page) * DOR_PAGE_BYTES;
    guest_layout_fini(&layout);
    return address;
}

static void
test_layouts(void)
{
    size_t different = 0;
    for (size_t i = 0; i < guest_layout_count(); i++)
        different += guest_layout_differs(i, GIB / 4096) ? 1 : 0;
    is_int(different, 1, "1 GiB can only lie in one piece");
    ok(guest_layout_differs(1, 3 * GIB / 4096 + 1), "3 GiB and a page can lie in two");
    ok(!guest_layout_differs(1, 3 * GIB / 4096), "3 GiB cannot");
    is_int(address_in(0, 5 * GIB / 4096, 4 * GIB / 4096), 4 * GIB, "without a hole");
    is_int(address_in(1, 5 * GIB / 4096, 3 * GIB / 4096 - 1), 3 * GIB - 4096, "below it");
    is_int(address_in(1, 5 * GIB / 4096, 3 * GIB / 4096), 4 * GIB, "above it");
    is_int(address_in(2, 300 * GIB / 4096, 255 * GIB / 4096 - 1), 256 * GIB - 4096, "low");
    is_int(address_in(2, 300 * GIB / 4096, 255 * GIB / 4096), 512 * GIB, "past the second");
}

int
main(void)
{
    test_ranges();
    test_bad_ranges();
    test_layouts();
    return done_testing();
}
