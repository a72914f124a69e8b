/* SPDX-License-Identifier: Apache-2.0 */
/*
 * defragment.c - measures what a full read of a new snapshot costs beside one of its content put
 * alone, and stores again what makes the difference.
 *
 * A group that few of the snapshot's pages need is read for little: a unit. Either all of these
 * pages are stored again elsewhere and the group is no longer read, or nothing is gained.
 *  - A group of patches: once it is so old that what was written often has gone from it, its
 *    patches are copied as they are, which is cheap.
 *  - A group of plain pages: the pages that need it, for themselves or as bases of their patches,
 *    are stored again plain. These cost space, so each put looks at a part of the image only, the
 *    larger the more pages it adds, and in time all parts have their turn. Neighbours move
 *    together and stay neighbours.
 * So a page that is written once costs a patch now and a few plain pages some hundred generations
 * later, and the cost of reading does not grow with the number of generations.
 *
 * Costs are counted in bytes of plain pages decoded, one of which takes about 0.4 ns: profiles
 * of gets gave the other figures.
 *
 * Invariants
 *  (1) pages that this put has just stored stay where they are, and so does what they need.
 *  (2) pages stored again lie apart from the put's new pages, which are mostly rewritten soon; so
 *      their groups stay full, as generations do in a garbage collector.
 *  (3) plain pages stored again are packed as a first image is: they are read often.
 *  (4) a page that cannot be read stays where it is, for check to find.
 */
#include "store/defragment.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"
#include "base/sort.h"
#include "chunk/digest.h"
#include "chunk/fingerprint.h"
#include "store/fetch.h"
#include "store/index.h"

/* Finding, reading and starting to decode a group. */
#define GROUP_COST 2048
/* A plain page in a full group of its own kind, and what it takes in a segment. */
#define PAGE_COST         (DOR_PAGE_BYTES + GROUP_COST / 6)
#define PAGE_STORED_BYTES 1600
/* Patches are decoded more slowly, in groups of a dozen KiB; then each is applied. */
#define PATCH_BYTE_COST  3
#define PATCH_APPLY_COST 3072
/* What LZ4 takes of zstd's time, in per cent. */
#define LZ4_PERCENT 40
/* Handing a page to the kernel: it is part of every read. */
#define OUTPUT_COST 3584
/* In puts: younger patches are likely to be rewritten; above AGE_MAX all are as old. */
#define PATCH_AGE_MIN 8
#define AGE_MAX       256

enum move_kind { STAYS = 0, MOVES_AS_PATCH, MOVES_PLAIN };

/* A stored page that the snapshot uses. */
struct used_page {
    uint64_t place;
    uint64_t plain;       /* place of the page itself or of its base */
    uint64_t image_page;  /* the first that is kept there */
    uint64_t moved_to;    /* 0 = stays */
    uint32_t patch_bytes; /* 0 for a plain page */
    uint32_t patch_cost;  /* of decoding and applying it, if its neighbours are wanted too */
    uint32_t age;         /* in puts like this one; 0 = stored by this one */
    uint8_t move;         /* enum move_kind */
};

/* A group, and what needs it. */
struct unit {
    enum move_kind kind;
    /* patches: in the list of pages; plain: in the order of what pages need */
    size_t first, count;
    uint64_t cost, after; /* of reading it now and once it was moved */
    uint64_t price;       /* bytes that moving it adds to the store */
    uint64_t image_page;  /* of the first page that needs it */
    bool has_young;       /* one is so young that nothing moves yet */
};

struct defragmenter {
    struct dor_store *store;
    struct store_writer *writer;
    const struct store_defragment *wish;
    struct used_page *pages; /* by place */
    size_t page_count;
    struct base_sort_row *rows;        /* memory to sort them in */
    const struct base_sort_row *order; /* by plain place; index in pages */
    struct unit *units;
    size_t unit_count;
    uint64_t cost, worth;     /* sums */
    size_t moved_count[3];    /* by enum move_kind */
    struct used_page **moves; /* that move plain */
    uint8_t *bytes;           /* their pages */
};

/* ------------------------------------------------------------------ what is used */

static int
collect_places(struct defragmenter *work)
{
    const struct store_defragment *wish = work->wish;
    size_t count = 0;
    work->rows = base_array(wish->page_count + 1, 2 * sizeof *work->rows);
    work->pages = base_array(wish->page_count + 1, sizeof *work->pages);
    /* A page is in at most two units. */
    work->units = base_array(wish->page_count + 1, 2 * sizeof *work->units);
    if (work->rows == NULL || work->pages == NULL || work->units == NULL)
        return DOR_E_NO_MEMORY;
    for (uint64_t i = 0; i < wish->page_count; i++)
        if (store_place_is_stored(wish->places[i]))
            work->rows[count++] = (struct base_sort_row){wish->places[i], i};
    const struct base_sort_row *sorted = base_sort_rows(work->rows, work->rows + count, count);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || sorted[i].key != sorted[i - 1].key)
            work->pages[work->page_count++] =
                (struct used_page){.place = sorted[i].key, .image_page = sorted[i].index};
    return 0;
}

/* Where SERIAL of STREAM lies; AT is kept while pages lie in one group. */
static int
locate(
    const struct defragmenter *work, unsigned stream, uint64_t serial, unsigned *at_stream,
    struct store_page_at *at, bool *ret_same)
{
    *ret_same = false;
    if (at->segment != NULL && *at_stream == stream) {
        uint64_t row = store_table_find(at->segment->table, serial);
        if (row != UINT64_MAX && row >= at->group->first_page &&
            row - at->group->first_page < at->group->page_count) {
            at->row = row;
            *ret_same = true;
            return 0;
        }
    }
    *at_stream = stream;
    return store_locate(work->store, work->wish->domain, stream, serial, at);
}

/* Decoding PLAIN_BYTES of GROUP. */
static uint64_t
decoding_cost(const struct store_group *group, bool patches, uint64_t plain_bytes)
{
    uint64_t cost = plain_bytes * (patches ? PATCH_BYTE_COST : 1);
    return group->codec == CHUNK_ZSTD ? cost : cost * LZ4_PERCENT / 100;
}

/* How many puts like this one ago a page was stored, by the serial numbers given since. */
static uint32_t
age_of(const struct defragmenter *work, unsigned stream, uint64_t serial)
{
    uint64_t first_new = work->wish->first_new[stream];
    uint64_t new_pages =
        work->store->catalog->domains[work->wish->domain].next_serial[stream] - first_new;
    if (serial >= first_new)
        return 0;
    return (uint32_t)base_min_u64(AGE_MAX, 1 + (first_new - serial) / (new_pages + 1));
}

/* Pages whose patches lie in one group become a unit; find what each page is made from. */
static int
collect_patch_units(struct defragmenter *work)
{
    struct store_page_at at = {0};
    struct unit *unit = NULL;
    unsigned at_stream = 0;
    bool same;
    for (size_t i = 0; i < work->page_count; i++) {
        struct used_page *page = &work->pages[i];
        unsigned stream = store_place_stream(page->place);
        page->plain = page->place;
        page->age = age_of(work, stream, store_place_serial(page->place));
        if (store_place_kind(page->place) != DOR_PAGE_PATCHED)
            continue;
        int err = locate(work, stream, store_place_serial(page->place), &at_stream, &at, &same);
        if (err != 0)
            return err;
        if (!same) {
            unit = &work->units[work->unit_count++];
            *unit = (struct unit){.kind = MOVES_AS_PATCH, .first = i};
            unit->cost = decoding_cost(at.group, true, at.group->plain_bytes) + GROUP_COST;
            work->cost += unit->cost;
        }
        page->plain = store_place(
            DOR_PAGE_RAW, store_place_type(page->place), at.segment->table->bases[at.row]);
        page->patch_bytes = store_table_page_bytes(at.segment->table, at.group, at.row);
        dor_assert(unit != NULL); /* only a page before this one can be in the same group */
        unit->count++;
        uint64_t alone =
            decoding_cost(at.group, true, page->patch_bytes) + page->patch_bytes / 6;
        page->patch_cost = (uint32_t)(PATCH_APPLY_COST + alone);
        unit->after += alone;
        unit->price += page->patch_bytes * 2 / 3;
        unit->has_young |= page->age < PATCH_AGE_MIN;
        work->cost += PATCH_APPLY_COST;
    }
    return 0;
}

/* Pages that need the same group of plain pages become a unit. */
static int
collect_plain_units(struct defragmenter *work)
{
    struct store_page_at at = {0};
    struct unit *unit = NULL;
    unsigned at_stream = 0;
    bool same;
    for (size_t i = 0; i < work->page_count; i++)
        work->rows[i] = (struct base_sort_row){work->pages[i].plain, i};
    work->order = base_sort_rows(work->rows, work->rows + work->page_count, work->page_count);
    for (size_t i = 0; i < work->page_count; i++) {
        const struct used_page *page = &work->pages[work->order[i].index];
        int err = locate(
            work, store_place_stream(page->plain), store_place_serial(page->plain), &at_stream,
            &at, &same);
        if (err != 0)
            return err;
        if (!same) {
            unit = &work->units[work->unit_count++];
            *unit =
                (struct unit){.kind = MOVES_PLAIN, .first = i, .image_page = page->image_page};
            unit->cost = decoding_cost(at.group, false, at.group->plain_bytes) + GROUP_COST;
            work->cost += unit->cost;
        }
        unit->count++;
        unit->cost += page->patch_cost;
        unit->after += decoding_cost(at.group, false, DOR_PAGE_BYTES) + GROUP_COST / 6;
        unit->price += PAGE_STORED_BYTES;
        unit->has_young |= page->age == 0;
        work->cost += OUTPUT_COST;
        /* Patches that this put has just made are as it is meant to be. */
        work->worth += PAGE_COST + OUTPUT_COST + (page->age == 0 ? page->patch_cost : 0);
    }
    return 0;
}

/* ------------------------------------------------------------------ what is worth moving */

static uint64_t
gain_of(const struct unit *unit)
{
    return unit->has_young || unit->cost <= unit->after ? 0 : unit->cost - unit->after;
}

static void
mark_unit(struct defragmenter *work, const struct unit *unit)
{
    for (size_t i = unit->first; i < unit->first + unit->count; i++) {
        struct used_page *page =
            &work->pages[unit->kind == MOVES_PLAIN ? work->order[i].index : i];
        work->moved_count[page->move]--;
        page->move = (uint8_t)base_max_u64(page->move, unit->kind);
        work->moved_count[page->move]++;
    }
}

/*
 * The part of the image whose turn it is: of the size that the put's new pages call for, and where
 * multiples of the golden ratio fall, which come near every point evenly (Weyl).
 */
static bool
has_turn(const struct defragmenter *work, const struct unit *unit)
{
    const struct store_defragment *wish = work->wish;
    uint64_t part = wish->generation * UINT64_C(0x9e3779b97f4a7c15) >> 32;
    uint64_t first = part * wish->page_count >> 32;
    uint64_t distance = unit->image_page >= first ? unit->image_page - first
                                                  : unit->image_page + wish->page_count - first;
    return unit->kind == MOVES_AS_PATCH || distance < wish->sweep_pages;
}

static void
choose_moves(struct defragmenter *work)
{
    const struct store_defragment *wish = work->wish;
    work->moved_count[STAYS] = work->page_count;
    if (work->cost * 100 <= work->worth * wish->percent_max)
        return;
    for (size_t u = 0; u < work->unit_count; u++) {
        const struct unit *unit = &work->units[u];
        /* A byte that is stored again must save the decoding of a quarter. */
        if (gain_of(unit) > unit->price / 4 && has_turn(work, unit))
            mark_unit(work, unit);
    }
}

/* ------------------------------------------------------------------ storing again */

/* Copy a patch, whose group is decoded. */
static int
store_patch(struct defragmenter *work, const struct store_page_at *at, struct used_page *page)
{
    unsigned stream = store_place_stream(page->place);
    const struct store_table *table = at->segment->table;
    uint16_t slides = at->group->slides;
    struct store_page_row row = {
        .serial = store_writer_serial(work->writer, stream),
        .digest = table->digests[at->row],
        .base = table->bases[at->row]};
    page->moved_to = store_stream_place(stream, row.serial);
    return store_writer_add(
        work->writer, stream, &row, work->store->plain + table->offsets[at->row],
        page->patch_bytes, slides == 0 ? NULL : &table->slides[slides - 1]);
}

static int
store_patches(struct defragmenter *work)
{
    struct dor_store *store = work->store;
    uint64_t decoded = UINT64_MAX; /* offset of the group in its segment */
    const struct store_segment *segment = NULL;
    int err = 0;
    for (size_t i = 0; i < work->page_count && err == 0; i++) {
        struct used_page *page = &work->pages[i];
        struct store_page_at at = {.segment = NULL};
        if (page->move != MOVES_AS_PATCH)
            continue;
        /* Found anew each time: the tables grow while patches move. */
        err = store_locate(
            store, work->wish->domain, store_place_stream(page->place),
            store_place_serial(page->place), &at);
        dor_assert(err != 0 || at.segment != NULL);
        if (err == 0 && (segment != at.segment || decoded != at.group->offset)) {
            segment = at.segment;
            decoded = at.group->offset;
            err = store_segment_read_group(
                store, at.segment, at.group, store->stored, store->plain);
            if (err == 0)
                err = store_group_verify(at.segment, at.group, store->stored);
            if (err == DOR_E_CORRUPT) {
                decoded = UINT64_MAX;
                err = 0;
                continue;
            }
        }
        if (err == 0)
            err = store_patch(work, &at, page);
    }
    return err;
}

static int
by_image_page(const void *left, const void *right)
{
    const struct used_page *l = *(struct used_page *const *)left;
    const struct used_page *r = *(struct used_page *const *)right;
    return (l->image_page > r->image_page) - (l->image_page < r->image_page);
}

static int
visit_moved(void *context, uint64_t tag, uint64_t place, const uint8_t *page)
{
    struct defragmenter *work = context;
    (void)place;
    if (page == NULL)
        work->moves[tag]->move = STAYS;
    else
        memcpy(work->bytes + tag * DOR_PAGE_BYTES, page, DOR_PAGE_BYTES);
    return 0;
}

static int
read_plain(struct defragmenter *work)
{
    size_t count = work->moved_count[MOVES_PLAIN];
    AUTO_FREE struct store_fetch_item *items = base_array(count, sizeof *items);
    work->bytes = base_alloc_pages(count);
    work->moves = base_array(count, sizeof(struct used_page *));
    if (items == NULL || work->bytes == NULL || work->moves == NULL)
        return DOR_E_NO_MEMORY;
    size_t at = 0;
    for (size_t i = 0; i < work->page_count; i++)
        if (work->pages[i].move == MOVES_PLAIN)
            work->moves[at++] = &work->pages[i];
    dor_assert(at == count);
    qsort(work->moves, count, sizeof(struct used_page *), by_image_page);
    for (size_t i = 0; i < count; i++)
        items[i] = (struct store_fetch_item){work->moves[i]->place, i};
    return store_fetch(work->store, work->wish->domain, items, count, visit_moved, work);
}

static int
store_page(struct defragmenter *work, struct used_page *page, const uint8_t *bytes)
{
    const struct store_options *options = &work->store->options;
    unsigned type = store_place_type(page->place);
    unsigned stream = type * STORE_STREAM_KINDS + STORE_STREAM_RAW;
    uint32_t fingerprints[CHUNK_FINGERPRINTS_MAX];
    struct store_page_row row = {
        .serial = store_writer_serial(work->writer, stream),
        .digest = chunk_page_digest(chunk_digest(bytes, DOR_PAGE_BYTES)),
        .chunk_pages = 1,
        .fingerprints = fingerprints};
    if (options->similarity)
        row.fingerprint_count = (uint8_t)chunk_fingerprint(
            work->store->fingerprint_scratch, bytes, 1, options->normalise,
            (unsigned)options->fingerprints, fingerprints);
    page->moved_to = store_stream_place(stream, row.serial);
    int err = store_writer_add(work->writer, stream, &row, bytes, DOR_PAGE_BYTES, NULL);
    if (err != 0 || work->wish->indexes[type] == NULL || row.serial > STORE_INDEX_SERIAL_MAX)
        return err;
    return store_index_add(
        work->wish->indexes[type], (uint32_t)row.serial, store_index_exact_key(&row.digest, 1),
        fingerprints, row.fingerprint_count);
}

static int
store_plain(struct defragmenter *work)
{
    size_t count = work->moved_count[MOVES_PLAIN];
    int err = count == 0 ? 0 : read_plain(work);
    if (err == 0)
        store_writer_pack_base(work->writer);
    for (size_t i = 0; i < count && err == 0; i++)
        if (work->moves[i]->move == MOVES_PLAIN)
            err = store_page(work, work->moves[i], work->bytes + i * DOR_PAGE_BYTES);
    return err;
}

static int
by_place(const void *left, const void *right)
{
    uint64_t l = ((const struct used_page *)left)->place;
    uint64_t r = ((const struct used_page *)right)->place;
    return (l > r) - (l < r);
}

/* Change the places of what was moved, which is little of the image. */
static void
change_places(struct defragmenter *work, uint64_t ret_pages[STORE_STREAMS])
{
    size_t moved = 0;
    for (size_t i = 0; i < work->page_count; i++)
        if (work->pages[i].moved_to != 0) {
            ret_pages[store_place_stream(work->pages[i].moved_to)]++;
            work->pages[moved++] = work->pages[i];
        }
    for (uint64_t i = 0; i < work->wish->page_count && moved > 0; i++) {
        struct used_page key = {.place = work->wish->places[i]};
        const struct used_page *page =
            !store_place_is_stored(key.place)
                ? NULL
                : bsearch(&key, work->pages, moved, sizeof key, by_place);
        if (page != NULL)
            work->wish->places[i] = page->moved_to;
    }
}

int
store_defragment(
    struct dor_store *store, struct store_writer *writer, const struct store_defragment *wish,
    uint64_t ret_pages[STORE_STREAMS])
{
    struct defragmenter work = {.store = store, .writer = writer, .wish = wish};
    memset(ret_pages, 0, (size_t)STORE_STREAMS * sizeof *ret_pages);
    int err = collect_places(&work);
    if (err == 0)
        err = collect_patch_units(&work);
    if (err == 0)
        err = collect_plain_units(&work);
    if (err == 0) {
        choose_moves(&work);
        err = store_patches(&work);
    }
    if (err == 0)
        err = store_plain(&work);
    if (err == 0)
        change_places(&work, ret_pages);
    base_free(work.rows);
    base_free(work.pages);
    base_free(work.units);
    base_free(work.moves);
    base_free(work.bytes);
    return err;
}
