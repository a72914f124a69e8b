/* SPDX-License-Identifier: Apache-2.0 */
/*
 * defragment.c - measures how thinly a new snapshot's pages lie in their groups and stores the
 * thinnest again.
 *
 * The measure is what a full read decodes for what it wants. Under the limit nothing is done, so
 * a second boot or a fork costs nothing here; a chain of generations reaches it after some
 * hundred puts and then pays a few pages a put. Pages stored again get groups of their own,
 * apart from the put's new pages: those are mostly rewritten soon, these mostly not, so the
 * new groups stay full (as generations do in a garbage collector). A patch is copied as it is,
 * with its base and slides; nothing is encoded again.
 */
#include "store/defragment.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"
#include "chunk/digest.h"
#include "store/usage.h"

/* A stored page that the snapshot uses, itself or as the base of a patch, and where it goes. */
struct used_page {
    uint64_t place;
    uint64_t moved_to; /* 0 = stays */
};

/* A group that holds used pages [first, first + count) of the sorted list. */
struct used_group {
    const struct store_segment *segment;
    struct store_group group; /* a copy: tables grow while pages move */
    size_t first;
    uint32_t count;
    bool has_base;        /* it must be decoded for a patch in any case */
    uint64_t cost, worth; /* of reading it; of its used pages in full groups */
};

struct defragmenter {
    struct dor_store *store;
    struct store_usage bases;
    struct store_writer *writer;
    const struct store_defragment *wish;
    struct used_page *pages;
    size_t page_count;
    struct used_group *groups;
    size_t group_count;
    uint64_t cost, worth; /* sums */
    size_t small_count;
};

/*
 * Reading a group costs its decoded bytes and about as much time as this many more for
 * finding, reading and starting to decode it: many small groups are as bad as thin ones.
 */
#define GROUP_COST_BYTES 2048
#define FULL_GROUP_BYTES 12288
/*
 * Groups that are read for less than this share are moved; above it most pages are young
 * still, will be rewritten soon and would be moved in vain. Small groups are merged once
 * nothing of them was rewritten.
 */
#define THIN_PERCENT      35
#define SMALL_GROUP_BYTES (FULL_GROUP_BYTES / 4)
/* So many that merging them makes a full one. */
#define SMALL_GROUPS 4

static int
by_place(const void *left, const void *right)
{
    uint64_t l = ((const struct used_page *)left)->place;
    uint64_t r = ((const struct used_page *)right)->place;
    return (l > r) - (l < r);
}

static void
sort_distinct(struct defragmenter *work)
{
    size_t distinct = 0;
    qsort(work->pages, work->page_count, sizeof *work->pages, by_place);
    for (size_t i = 0; i < work->page_count; i++)
        if (i == 0 || work->pages[i].place != work->pages[i - 1].place)
            work->pages[distinct++] = work->pages[i];
    work->page_count = distinct;
}

/* Append the bases of the patches among the pages. */
static int
collect_bases(struct defragmenter *work)
{
    size_t count = work->page_count;
    for (size_t i = 0; i < count; i++) {
        uint64_t place = work->pages[i].place;
        struct store_page_at at;
        if (store_place_kind(place) != DOR_PAGE_PATCHED)
            continue;
        int err = store_locate(
            work->store, work->wish->domain, store_place_stream(place),
            store_place_serial(place), &at);
        if (err != 0)
            return err;
        uint64_t base = store_place(
            DOR_PAGE_RAW, store_place_type(place), at.segment->table->bases[at.row]);
        store_usage_mark(&work->bases, store_place_stream(base), store_place_serial(base));
        work->pages[work->page_count++].place = base;
    }
    sort_distinct(work);
    return 0;
}

static int
collect_pages(struct defragmenter *work)
{
    const struct store_defragment *wish = work->wish;
    work->pages = base_array(wish->page_count * 2 + 1, sizeof *work->pages);
    if (work->pages == NULL)
        return DOR_E_NO_MEMORY;
    for (uint64_t i = 0; i < wish->page_count; i++)
        if (store_place_is_stored(wish->places[i]))
            work->pages[work->page_count++].place = wish->places[i];
    sort_distinct(work);
    return collect_bases(work);
}

/* A little group of pages that are all still wanted. */
static bool
is_small(const struct used_group *used)
{
    return used->count == used->group.page_count &&
           used->group.plain_bytes <= SMALL_GROUP_BYTES;
}

/* Whether PLACE is in the group of the last entry, whose pages AT came from. */
static bool
is_in_last(const struct defragmenter *work, const struct store_page_at *at, uint64_t place)
{
    if (work->group_count == 0)
        return false;
    const struct used_group *last = &work->groups[work->group_count - 1];
    if (store_place_stream(work->pages[last->first].place) != store_place_stream(place))
        return false;
    dor_assert(at->segment != NULL);
    uint64_t row = store_table_find(at->segment->table, store_place_serial(place));
    return row != UINT64_MAX && row >= last->group.first_page &&
           row - last->group.first_page < last->group.page_count;
}

/* Neighbours in the sorted list that lie in one group become one entry. */
static int
collect_groups(struct defragmenter *work)
{
    struct store_page_at at = {0};
    work->groups = base_array(work->page_count + 1, sizeof *work->groups);
    if (work->groups == NULL)
        return DOR_E_NO_MEMORY;
    for (size_t i = 0; i < work->page_count; i++) {
        uint64_t place = work->pages[i].place;
        if (!is_in_last(work, &at, place)) {
            int err = store_locate(
                work->store, work->wish->domain, store_place_stream(place),
                store_place_serial(place), &at);
            if (err != 0)
                return err;
            work->groups[work->group_count++] =
                (struct used_group){.segment = at.segment, .group = *at.group, .first = i};
        }
        struct used_group *last = &work->groups[work->group_count - 1];
        last->count++;
        if (store_usage_has(&work->bases, store_place_stream(place), store_place_serial(place)))
            last->has_base = true;
    }
    for (size_t i = 0; i < work->group_count; i++) {
        struct used_group *used = &work->groups[i];
        uint64_t bytes = used->group.plain_bytes;
        uint64_t wanted = bytes * used->count / used->group.page_count;
        used->cost = bytes + GROUP_COST_BYTES;
        used->worth = wanted + wanted * GROUP_COST_BYTES / FULL_GROUP_BYTES;
        used->worth = base_min_u64(used->worth, used->cost);
        work->cost += used->cost;
        work->worth += used->worth;
        work->small_count += is_small(used);
    }
    return 0;
}

/* Thinnest first; the order of equals is that of storage, so that runs are deterministic. */
static int
by_thinness(const void *left, const void *right)
{
    const struct used_group *l = left;
    const struct used_group *r = right;
    uint64_t lx = l->worth * r->cost;
    uint64_t rx = r->worth * l->cost;
    if (lx != rx)
        return lx < rx ? -1 : 1;
    return (l->first > r->first) - (l->first < r->first);
}

static bool
is_new(const struct defragmenter *work, const struct used_group *used)
{
    uint64_t place = work->pages[used->first].place;
    return store_place_serial(place) >= work->wish->first_new[store_place_stream(place)];
}

static bool
is_worth_moving(const struct defragmenter *work, const struct used_group *used)
{
    bool thin = used->worth * 100 <= used->cost * THIN_PERCENT;
    return thin || (is_small(used) && work->small_count >= SMALL_GROUPS);
}

/* Store page ROW of the decoded group again. */
static int
move_page(struct defragmenter *work, const struct used_group *used, struct used_page *page)
{
    const struct store_table *table = used->segment->table;
    unsigned stream = store_place_stream(page->place);
    uint64_t row = store_table_find(table, store_place_serial(page->place));
    const uint8_t *bytes = work->store->plain + table->offsets[row];
    if (!table->patches &&
        chunk_page_digest(chunk_digest(bytes, DOR_PAGE_BYTES)) != table->digests[row])
        return 0; /* damaged: leave it where it is for check to find */
    struct store_page_row moved = {
        .serial = store_writer_serial(work->writer, stream),
        .digest = table->digests[row],
        .base = table->patches ? table->bases[row] : 0,
        .chunk_pages = table->patches ? 0 : 1};
    page->moved_to = store_stream_place(stream, moved.serial);
    const struct chunk_slides *slides =
        used->group.slides == 0 ? NULL : &table->slides[used->group.slides - 1];
    return store_writer_add(
        work->writer, stream, &moved, bytes, store_table_page_bytes(table, &used->group, row),
        slides);
}

static int
move_group(struct defragmenter *work, const struct used_group *used)
{
    struct dor_store *store = work->store;
    int err = store_segment_read_group(
        store, used->segment, &used->group, store->stored, store->plain);
    if (err == 0)
        err = store_group_verify(used->segment, &used->group, store->stored);
    if (err == DOR_E_CORRUPT)
        return 0;
    for (uint32_t i = 0; i < used->count && err == 0; i++)
        err = move_page(work, used, &work->pages[used->first + i]);
    return err;
}

static int
move_thinnest(struct defragmenter *work, uint64_t ret_pages[STORE_STREAMS])
{
    uint64_t moved = 0;
    uint64_t limit = work->wish->percent_max;
    qsort(work->groups, work->group_count, sizeof *work->groups, by_thinness);
    for (size_t g = 0; g < work->group_count; g++) {
        const struct used_group *used = &work->groups[g];
        if (work->cost * 100 <= work->worth * limit ||
            moved + used->count > work->wish->pages_max)
            break;
        if (used->has_base || is_new(work, used) || !is_worth_moving(work, used))
            continue;
        int err = move_group(work, used);
        if (err != 0)
            return err;
        moved += used->count;
        ret_pages[store_place_stream(work->pages[used->first].place)] += used->count;
        work->cost -= used->cost - used->worth;
    }
    return 0;
}

static void
change_places(struct defragmenter *work)
{
    for (uint64_t i = 0; i < work->wish->page_count; i++) {
        uint64_t *place = &work->wish->places[i];
        if (!store_place_is_stored(*place))
            continue;
        struct used_page key = {.place = *place};
        const struct used_page *page =
            bsearch(&key, work->pages, work->page_count, sizeof key, by_place);
        dor_assert(page != NULL);
        if (page->moved_to != 0)
            *place = page->moved_to;
    }
}

int
store_defragment(
    struct dor_store *store, struct store_writer *writer, const struct store_defragment *wish,
    uint64_t ret_pages[STORE_STREAMS])
{
    struct defragmenter work = {.store = store, .writer = writer, .wish = wish};
    memset(ret_pages, 0, (size_t)STORE_STREAMS * sizeof *ret_pages);
    int err = store_usage_init(&work.bases, store, wish->domain);
    if (err == 0)
        err = collect_pages(&work);
    if (err == 0)
        err = collect_groups(&work);
    if (err == 0)
        err = move_thinnest(&work, ret_pages);
    if (err == 0)
        change_places(&work);
    store_usage_fini(&work.bases);
    base_free(work.pages);
    base_free(work.groups);
    return err;
}
