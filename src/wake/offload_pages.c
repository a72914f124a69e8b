/* SPDX-License-Identifier: Apache-2.0 */
/*
 * offload_pages.c - guest addresses, pages of the row, and memories.
 *
 *     guest address --memory_at()--> memory and page in it
 *                   --page_at()----> page of the row, or zero
 *
 * Pages of a window are scattered in the cache; they are copied to one piece first, for one call
 * that puts in sixteen pages costs about as much as two that put in one.
 */
#include "wake/offload_pages.h"

#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ making */

static int
by_address(const void *a, const void *b)
{
    const struct offload_place *left = a;
    const struct offload_place *right = b;
    return (left->address > right->address) - (left->address < right->address);
}

static int
by_gpa(const void *a, const void *b)
{
    const struct dor_offload_slot *left = a;
    const struct dor_offload_slot *right = b;
    return (left->gpa > right->gpa) - (left->gpa < right->gpa);
}

static int
make_places(struct offload_pages *pages, const void *frame, size_t frame_bytes)
{
    struct dor_image_range *ranges = NULL;
    size_t count = 0;
    uint64_t end = 0;
    int rc = dor_frame_read_ranges(frame, frame_bytes, &ranges, &count);
    if (rc != 0)
        return rc;
    pages->places = base_array(count, sizeof *pages->places);
    for (size_t i = 0; pages->places != NULL && i < count; i++) {
        end = ranges[i].first_page + ranges[i].page_count;
        if (ranges[i].address != DOR_IMAGE_NO_ADDRESS)
            pages->places[pages->place_count++] = (struct offload_place){
                ranges[i].address, ranges[i].first_page, ranges[i].page_count};
    }
    free(ranges);
    if (pages->places == NULL)
        return DOR_E_NO_MEMORY;
    if (end != wake_snapshot_page_count(pages->snapshot))
        return dor_fail(
            DOR_E_CORRUPT, "snapshot %s: its frame is of %" PRIu64 " pages; run check",
            wake_snapshot_info(pages->snapshot)->name, end);
    qsort(pages->places, pages->place_count, sizeof *pages->places, by_address);
    for (size_t i = 1; i < pages->place_count; i++)
        if (pages->places[i - 1].address + pages->places[i - 1].page_count * DOR_PAGE_BYTES >
            pages->places[i].address)
            return dor_fail(
                DOR_E_CORRUPT, "snapshot %s: two of its pages have the address %#" PRIx64,
                wake_snapshot_info(pages->snapshot)->name, pages->places[i].address);
    return 0;
}

static int
make_memories(struct offload_pages *pages)
{
    struct dor_offload_machine *machine = &pages->machine;
    qsort(machine->slots, machine->slot_count, sizeof *machine->slots, by_gpa);
    pages->memories = base_array(machine->slot_count, sizeof *pages->memories);
    if (pages->memories == NULL)
        return DOR_E_NO_MEMORY;
    for (size_t i = 0; i < machine->slot_count; i++) {
        pages->memory_count++;
        int rc = offload_memory_init(&pages->memories[i], &machine->slots[i], pages->uffd);
        if (rc != 0)
            return rc;
    }
    return 0;
}

int
offload_pages_init(struct offload_pages *pages, struct wake_snapshot *snapshot, bool watched)
{
    void *frame = NULL;
    size_t frame_bytes = 0;
    *pages = (struct offload_pages){.snapshot = snapshot, .uffd = -1};
    int rc = wake_snapshot_read_frame(snapshot, &frame, &frame_bytes);
    if (rc == DOR_E_NOT_FOUND)
        return dor_fail(
            DOR_E_UNSUPPORTED,
            "snapshot %s: was put as memory alone; only machines of Cloud Hypervisor can be "
            "woken by offload",
            wake_snapshot_info(snapshot)->name);
    if (rc == 0)
        rc = dor_offload_machine_read(frame, frame_bytes, &pages->machine);
    if (rc == 0)
        rc = make_places(pages, frame, frame_bytes);
    free(frame);
    if (rc == 0 && watched)
        rc = offload_uffd_open(&pages->uffd);
    if (rc == 0)
        rc = make_memories(pages);
    if (rc != 0)
        offload_pages_fini(pages);
    return rc;
}

void
offload_pages_fini(struct offload_pages *pages)
{
    for (size_t i = 0; i < pages->memory_count; i++)
        offload_memory_fini(&pages->memories[i]);
    base_auto_close(&pages->uffd);
    base_free(pages->memories);
    base_free(pages->places);
    dor_offload_machine_fini(&pages->machine);
    *pages = (struct offload_pages){.uffd = -1};
}

int
offload_giver_init(
    struct offload_giver *giver, struct offload_pages *pages, struct dor_wake_server *server)
{
    *giver = (struct offload_giver){.pages = pages};
    giver->bytes = base_alloc_pages(WAKE_WINDOW_PAGES);
    if (giver->bytes == NULL)
        return DOR_E_NO_MEMORY;
    return wake_worker_new(server, &giver->worker);
}

void
offload_giver_fini(struct offload_giver *giver)
{
    wake_worker_free(giver->worker);
    base_free(giver->bytes);
    *giver = (struct offload_giver){0};
}

/* ------------------------------------------------------------------ addresses */

struct offload_memory *
offload_memory_at(const struct offload_pages *pages, uint64_t address)
{
    size_t low = 0;
    size_t high = pages->memory_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        struct offload_memory *memory = &pages->memories[middle];
        if (address < memory->slot.gpa)
            high = middle;
        else if (address - memory->slot.gpa < memory->slot.size_bytes)
            return memory;
        else
            low = middle + 1;
    }
    return NULL;
}

uint64_t
offload_page_at(const struct offload_pages *pages, uint64_t address)
{
    size_t low = 0;
    size_t high = pages->place_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct offload_place *place = &pages->places[middle];
        if (address < place->address)
            high = middle;
        else if ((address - place->address) / DOR_PAGE_BYTES < place->page_count)
            return place->first_page + (address - place->address) / DOR_PAGE_BYTES;
        else
            low = middle + 1;
    }
    return OFFLOAD_NO_PAGE;
}

/* ------------------------------------------------------------------ giving */

/* Give PAGES, which follow each other in MEMORY, all zero or all in giver->bytes from FROM on. */
static int
give_run(
    struct offload_giver *giver, struct offload_memory *memory, uint64_t page, unsigned count,
    const uint8_t *bytes)
{
    uint64_t new_pages = 0;
    int rc = offload_memory_give(memory, page, count, bytes, &new_pages);
    giver->given_pages += new_pages;
    giver->zero_pages += bytes == NULL ? new_pages : 0;
    return rc;
}

/* What stands at each page of a window: its place in giver->bytes, or this. */
enum { PAGE_ZERO = -1, PAGE_LEFT_OUT = -2 };

static int
give_runs(
    struct offload_giver *giver, struct offload_memory *memory, uint64_t first_page,
    const int *contents, unsigned count)
{
    int rc = 0;
    for (unsigned from = 0; rc == 0 && from < count;) {
        unsigned to = from + 1;
        int content = contents[from];
        while (to < count && (content < 0 ? contents[to] == content : contents[to] >= 0))
            to++;
        if (content != PAGE_LEFT_OUT)
            rc = give_run(
                giver, memory, first_page + from, to - from,
                content < 0 ? NULL : giver->bytes + (size_t)content * DOR_PAGE_BYTES);
        from = to;
    }
    return rc;
}

int
offload_give(
    struct offload_giver *giver, struct offload_memory *memory, uint64_t first_page,
    unsigned count, bool zeros)
{
    const struct offload_pages *pages = giver->pages;
    uint64_t wanted[WAKE_WINDOW_PAGES] = {0};
    int contents[WAKE_WINDOW_PAGES];
    unsigned wanted_count = 0;
    struct wake_window window;
    dor_assert(count <= WAKE_WINDOW_PAGES);
    for (unsigned i = 0; i < count; i++) {
        uint64_t page = first_page + i;
        uint64_t row = offload_page_at(pages, memory->slot.gpa + page * DOR_PAGE_BYTES);
        /* What was given and is asked for again was let go since: zero, if it is not there. */
        if (offload_memory_was_given(memory, page) || row == OFFLOAD_NO_PAGE ||
            wake_snapshot_page_is_zero(pages->snapshot, row))
            contents[i] = zeros ? PAGE_ZERO : PAGE_LEFT_OUT;
        else
            wanted[contents[i] = (int)wanted_count++] = row;
    }
    int rc = wake_pages_get(giver->worker, pages->snapshot, wanted, wanted_count, &window);
    if (rc != 0)
        return rc;
    for (unsigned i = 0; i < wanted_count; i++)
        memcpy(giver->bytes + i * DOR_PAGE_BYTES, window.pages[i], DOR_PAGE_BYTES);
    wake_window_release(giver->worker, &window);
    return give_runs(giver, memory, first_page, contents, count);
}

/* Give pages of the row that follow each other at ADDRESS too. */
static int
give_at(struct offload_giver *giver, uint64_t address, uint64_t page_count)
{
    int rc = 0;
    while (rc == 0 && page_count > 0) {
        struct offload_memory *memory = offload_memory_at(giver->pages, address);
        uint64_t step = 1;
        if (memory != NULL) {
            uint64_t page = (address - memory->slot.gpa) / DOR_PAGE_BYTES;
            step = base_min_u64(page_count, memory->page_count - page);
            step = base_min_u64(step, WAKE_WINDOW_PAGES);
            rc = offload_give(giver, memory, page, (unsigned)step, false);
        }
        address += step * DOR_PAGE_BYTES;
        page_count -= step;
    }
    return rc;
}

int
offload_give_row(struct offload_giver *giver, uint64_t first_page, uint64_t page_count)
{
    const struct offload_pages *pages = giver->pages;
    uint64_t end = first_page + page_count;
    for (size_t i = 0; i < pages->place_count; i++) {
        const struct offload_place *place = &pages->places[i];
        uint64_t from = base_max_u64(first_page, place->first_page);
        uint64_t to = base_min_u64(end, place->first_page + place->page_count);
        if (from >= to)
            continue;
        int rc = give_at(
            giver, place->address + (from - place->first_page) * DOR_PAGE_BYTES, to - from);
        if (rc != 0)
            return rc;
    }
    return 0;
}
