/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fetch.c - batch reading in two sweeps. First the patch groups that are needed, in file
 * order, keeping the patches; then the plain groups, in file order: each plain page serves
 * every item that is it or is patched from it. So a group is read, verified and decoded once
 * per batch whatever the image's order.
 */
#include "store/fetch.h"

#include <assert.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"
#include "base/sort.h"
#include "chunk/digest.h"
#include "chunk/patch.h"
#include "store/store_priv.h"

#define READ_AHEAD_BYTES (256u << 10)
/* Few patches are longer. What is not used costs no memory, but room that grows is copied. */
#define PATCH_BYTES_USUAL 2048
#define READ_GAP_BYTES    4096 /* copying so much costs about as much as another call */

static_assert(READ_AHEAD_BYTES <= STORE_GROUP_BYTES_MAX, "one buffer does for both");

/* What one item needs from a plain page. */
struct need {
    uint64_t plain_key; /* type << 48 | serial of the plain page: the sweep's order */
    uint64_t tag;
    uint64_t place;
    uint64_t patch_offset; /* in the kept patches */
    uint32_t patch_bytes;  /* 0 = the page itself */
    uint32_t digest;       /* of the patched page */
    const struct chunk_slides *slides;
};

/* Reads groups of one segment, ahead when they follow each other. */
struct sweep {
    const struct store_fetch_source *source;
    unsigned stream;
    struct store_page_at at;
    const struct store_group *decoded; /* group in plain, NULL when none */
    const uint8_t *plain;
    /* where to decode to: an arena, of which used_bytes hold pages, or else the source's plain */
    const struct store_fetch_arena *arena;
    size_t used_bytes;
    void *context;
    const struct store_group *failed; /* is not tried again, */
    int failure;                      /* for this gives no other answer */
    uint64_t verified_row;            /* of the decoded group: matched its digest */
    uint8_t *ahead;
    const struct store_segment *ahead_segment;
    uint64_t ahead_offset, ahead_bytes;
    /* what will be wanted next, by place or key: the serial is in the low bits */
    const struct base_sort_row *next, *next_end;
};

static const struct chunk_slides no_slides;

static const struct chunk_slides *
group_slides(const struct store_page_at *at)
{
    return at->group->slides == 0 ? &no_slides
                                  : &at->segment->table->slides[at->group->slides - 1];
}

/*
 * How much to read from the sweep's group on: up to the end of the last group that will be wanted
 * within READ_AHEAD_BYTES, as long as no gap is longer than another read costs.
 */
static uint64_t
plan_read(const struct sweep *sweep)
{
    const struct store_table *table = sweep->at.segment->table;
    const struct store_group *group = sweep->at.group;
    uint64_t end = group->offset + group->stored_bytes;
    uint64_t rows_end = group->first_page + (uint64_t)group->page_count;
    for (const struct base_sort_row *next = sweep->next; next < sweep->next_end; next++) {
        if (next->key >> STORE_SERIAL_BITS != sweep->next[-1].key >> STORE_SERIAL_BITS)
            break;
        uint64_t row = store_table_find(table, next->key & STORE_SERIAL_MAX);
        if (row == UINT64_MAX)
            break;
        if (row < rows_end)
            continue;
        while (row >= group->first_page + (uint64_t)group->page_count)
            group++;
        uint64_t group_end = group->offset + group->stored_bytes;
        if (group->offset > end + READ_GAP_BYTES ||
            group_end > sweep->at.group->offset + READ_AHEAD_BYTES)
            break;
        end = group_end;
        rows_end = group->first_page + (uint64_t)group->page_count;
    }
    return end - sweep->at.group->offset;
}

/* Stored bytes of the sweep's group, read together with those that will be wanted next. */
static int
sweep_bytes(struct sweep *sweep, const uint8_t **ret)
{
    const struct store_segment *segment = sweep->at.segment;
    const struct store_group *group = sweep->at.group;
    uint64_t end = group->offset + group->stored_bytes;
    bool held = sweep->ahead_segment == segment && group->offset >= sweep->ahead_offset &&
                end <= sweep->ahead_offset + sweep->ahead_bytes;
    if (!held) {
        uint64_t want = plan_read(sweep);
        sweep->ahead_segment = NULL;
        int err =
            base_file_pread(segment->fd, sweep->ahead, want, group->offset, segment->name);
        if (err != 0)
            return err;
        sweep->ahead_segment = segment;
        sweep->ahead_offset = group->offset;
        sweep->ahead_bytes = want;
    }
    *ret = sweep->ahead + (group->offset - sweep->ahead_offset);
    return 0;
}

/* Make room in the arena for a group and a page, with no group decoded when that empties it. */
static int
make_room(struct sweep *sweep)
{
    if (sweep->arena == NULL ||
        sweep->arena->size_bytes - sweep->used_bytes >= STORE_GROUP_BYTES_MAX + DOR_PAGE_BYTES)
        return 0;
    sweep->decoded = NULL;
    sweep->used_bytes = 0;
    return sweep->arena->flush(sweep->context);
}

/* SIZE_BYTES of the arena, or SPARE when there is none. */
static uint8_t *
take_room(struct sweep *sweep, size_t size_bytes, uint8_t *spare)
{
    if (sweep->arena == NULL)
        return spare;
    dor_assert(sweep->arena->size_bytes - sweep->used_bytes >= size_bytes);
    uint8_t *room = sweep->arena->bytes + sweep->used_bytes;
    sweep->used_bytes += size_bytes;
    return room;
}

/* True when the page is in the group that is decoded already; most are. */
static bool
sweep_stays(struct sweep *sweep, unsigned stream, uint64_t serial)
{
    if (sweep->decoded == NULL || sweep->stream != stream)
        return false;
    uint64_t row = store_table_find(sweep->at.segment->table, serial);
    if (row < sweep->decoded->first_page ||
        row - sweep->decoded->first_page >= sweep->decoded->page_count)
        return false;
    sweep->at.row = row;
    return true;
}

/* Whether the group can be used as it was read, until the next one is. An arena's must stay. */
static bool
is_plain(const struct sweep *sweep)
{
    const struct store_group *group = sweep->at.group;
    return sweep->arena == NULL && group->codec == CHUNK_NONE &&
           group->stored_bytes == group->plain_bytes;
}

/* Make sweep->at the page SERIAL of STREAM with its group decoded. */
static int
sweep_to(struct sweep *sweep, unsigned stream, uint64_t serial)
{
    if (sweep_stays(sweep, stream, serial))
        return 0;
    sweep->decoded = NULL;
    sweep->verified_row = UINT64_MAX;
    sweep->stream = stream;
    int err = sweep->source->locate(sweep->source->context, stream, serial, &sweep->at);
    if (err != 0)
        return err;
    if (sweep->at.group == sweep->failed)
        return dor_fail(
            sweep->failure, "%s: the group at %llu %s", sweep->at.segment->name,
            (unsigned long long)sweep->at.group->offset,
            sweep->failure == DOR_E_CORRUPT ? "is damaged" : "cannot be read");
    const uint8_t *stored = NULL;
    uint8_t *room = take_room(sweep, sweep->at.group->plain_bytes, sweep->source->plain);
    err = sweep_bytes(sweep, &stored);
    if (err == 0 && is_plain(sweep)) {
        sweep->plain = stored;
    } else if (err == 0) {
        err = store_group_decode(
            sweep->source->coder, sweep->at.segment, sweep->at.group, stored, room);
        sweep->plain = room;
    }
    if (err == 0) {
        sweep->decoded = sweep->at.group;
        return 0;
    }
    sweep->failed = sweep->at.group;
    sweep->failure = err;
    return err;
}

/* Turn ITEM into NEED; a patched item's patch is copied to PATCHES. */
static int
find_need(
    struct sweep *sweep, const struct store_fetch_item *item, struct base_buf *patches,
    struct need *need)
{
    uint64_t type = store_place_type(item->place);
    uint64_t serial = store_place_serial(item->place);
    *need = (struct need){.tag = item->tag, .place = item->place};
    if (store_place_kind(item->place) == DOR_PAGE_RAW) {
        need->plain_key = type << STORE_SERIAL_BITS | serial;
        return 0;
    }
    int err = sweep_to(sweep, store_place_stream(item->place), serial);
    if (err != 0)
        return err;
    const struct store_table *table = sweep->at.segment->table;
    uint64_t row = sweep->at.row;
    need->plain_key = type << STORE_SERIAL_BITS | table->bases[row];
    need->patch_offset = patches->size_bytes;
    need->patch_bytes = store_table_page_bytes(table, sweep->at.group, row);
    need->digest = table->digests[row];
    need->slides = group_slides(&sweep->at);
    return base_buf_append(patches, sweep->plain + table->offsets[row], need->patch_bytes);
}

static int
bad_digest(const struct store_page_at *at)
{
    return dor_fail(
        DOR_E_CORRUPT, "%s: a page of the group at %llu does not match its digest",
        at->segment->name, (unsigned long long)at->group->offset);
}

/* The plain page at sweep->at, verified once however many items want it. */
static int
verify_plain(struct sweep *sweep, const uint8_t **ret)
{
    const struct store_table *table = sweep->at.segment->table;
    const uint8_t *plain = sweep->plain + table->offsets[sweep->at.row];
    if (sweep->verified_row != sweep->at.row) {
        uint64_t digest = chunk_digest(plain, DOR_PAGE_BYTES);
        if (chunk_page_digest(digest) != table->digests[sweep->at.row])
            return bad_digest(&sweep->at);
        sweep->verified_row = sweep->at.row;
    }
    *ret = plain;
    return 0;
}

/* The page that NEED asks for: in the decoded group, or made in PATCHED. */
static int
make_page(
    struct sweep *sweep, const struct need *need, const uint8_t *patches, uint8_t *patched,
    const uint8_t **ret)
{
    unsigned type = (unsigned)(need->plain_key >> STORE_SERIAL_BITS);
    int err = make_room(sweep);
    if (err == 0)
        err = sweep_to(
            sweep, type * STORE_STREAM_KINDS + STORE_STREAM_RAW,
            need->plain_key & STORE_SERIAL_MAX);
    if (err == 0 && need->patch_bytes == 0)
        return verify_plain(sweep, ret);
    if (err != 0)
        return err;
    /* The patched page's own digest proves its base as well. */
    const struct store_table *table = sweep->at.segment->table;
    const uint8_t *plain = sweep->plain + table->offsets[sweep->at.row];
    patched = take_room(sweep, DOR_PAGE_BYTES, patched);
    err = chunk_patch_apply(
        need->slides, patches + need->patch_offset, need->patch_bytes, plain, patched);
    if (err != 0)
        return dor_fail_wrap("page patched from %s", sweep->at.segment->name);
    if (chunk_page_digest(chunk_digest(patched, DOR_PAGE_BYTES)) != need->digest)
        return bad_digest(&sweep->at);
    *ret = patched;
    return 0;
}

/* Sweep the patch groups: NEEDS of all items that could be found. */
static int
find_needs(
    struct sweep *sweep, const struct store_fetch_item *items, size_t count,
    struct base_sort_row *orders, struct need *needs, size_t *ret_count,
    struct base_buf *patches, store_fetch_fn *visit, void *context)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        dor_assert(store_place_is_stored(items[i].place));
        orders[i] = (struct base_sort_row){items[i].place, i};
    }
    const struct base_sort_row *order = base_sort_rows(orders, orders + count, count);
    for (size_t i = 0; i < count; i++) {
        const struct store_fetch_item *item = &items[order[i].index];
        sweep->next = &order[i + 1];
        sweep->next_end = &order[count];
        int err = find_need(sweep, item, patches, &needs[found]);
        if (err == DOR_E_NO_MEMORY)
            return err;
        if (err == 0)
            found++;
        else if ((err = visit(context, item->tag, item->place, NULL)) != 0)
            return err;
    }
    *ret_count = found;
    return 0;
}

static int
visit_needs(
    struct sweep *sweep, const struct need *needs, size_t count, struct base_sort_row *orders,
    const uint8_t *patches, store_fetch_fn *visit, void *context)
{
    uint8_t patched[DOR_PAGE_BYTES];
    for (size_t i = 0; i < count; i++)
        orders[i] = (struct base_sort_row){needs[i].plain_key, i};
    const struct base_sort_row *order = base_sort_rows(orders, orders + count, count);
    for (size_t i = 0; i < count; i++) {
        const struct need *need = &needs[order[i].index];
        sweep->next = &order[i + 1];
        sweep->next_end = &order[count];
        const uint8_t *page = NULL;
        int err = make_page(sweep, need, patches, patched, &page);
        if (err != 0)
            page = NULL;
        err = visit(context, need->tag, need->place, page);
        if (err != 0)
            return err;
    }
    return 0;
}

/* Work space of a batch: two orders of its items and their needs follow, then patches. */
struct store_fetch_work {
    size_t count_max;
    struct base_buf patches;
    uint8_t ahead[STORE_GROUP_BYTES_MAX];
};

static struct base_sort_row *
work_orders(struct store_fetch_work *work)
{
    return (struct base_sort_row *)(work + 1);
}

static struct need *
work_needs(struct store_fetch_work *work)
{
    return (struct need *)(work_orders(work) + 2 * work->count_max);
}

int
store_fetch_work_new(size_t count_max, size_t patch_bytes, struct store_fetch_work **ret)
{
    /* Items are pages of an image in memory: no product overflows. */
    size_t items_bytes = count_max * (2 * sizeof(struct base_sort_row) + sizeof(struct need));
    struct store_fetch_work *work = base_alloc_huge(sizeof *work + items_bytes);
    if (work == NULL)
        return DOR_E_NO_MEMORY;
    work->count_max = count_max;
    work->patches = (struct base_buf){.data = base_alloc_huge(patch_bytes)};
    if (work->patches.data == NULL) {
        base_free(work);
        return DOR_E_NO_MEMORY;
    }
    work->patches.cap_bytes = patch_bytes;
    *ret = work;
    return 0;
}

void
store_fetch_work_free(struct store_fetch_work *work)
{
    if (work == NULL)
        return;
    base_buf_free(&work->patches);
    base_free(work);
}

int
store_fetch_from(
    const struct store_fetch_source *source, struct store_fetch_work *work,
    const struct store_fetch_item *items, size_t count, const struct store_fetch_arena *arena,
    store_fetch_fn *visit, void *context)
{
    struct sweep sweep = {.source = source, .ahead = work->ahead, .verified_row = UINT64_MAX};
    size_t need_count = 0;
    dor_assert(count <= work->count_max);
    work->patches.size_bytes = 0;
    int err = find_needs(
        &sweep, items, count, work_orders(work), work_needs(work), &need_count, &work->patches,
        visit, context);
    if (err != 0)
        return err;
    sweep.decoded = NULL;
    sweep.verified_row = UINT64_MAX;
    sweep.arena = arena;
    sweep.context = context;
    return visit_needs(
        &sweep, work_needs(work), need_count, work_orders(work), work->patches.data, visit,
        context);
}

struct store_at {
    struct dor_store *store;
    uint32_t domain;
};

static int
locate_in_store(
    const void *context, unsigned stream, uint64_t serial, struct store_page_at *ret)
{
    const struct store_at *at = context;
    return store_locate(at->store, at->domain, stream, serial, ret);
}

int
store_fetch(
    struct dor_store *store, uint32_t domain, const struct store_fetch_item *items,
    size_t count, store_fetch_fn *visit, void *context)
{
    return store_fetch_into(store, domain, items, count, NULL, visit, context);
}

int
store_fetch_into(
    struct dor_store *store, uint32_t domain, const struct store_fetch_item *items,
    size_t count, const struct store_fetch_arena *arena, store_fetch_fn *visit, void *context)
{
    struct store_at at = {store, domain};
    struct store_fetch_source source = {locate_in_store, &at, store->coder, store->plain};
    struct store_fetch_work *work;
    size_t patch_count = 0;
    if (count == 0)
        return 0;
    for (size_t i = 0; i < count; i++)
        patch_count += store_place_kind(items[i].place) == DOR_PAGE_PATCHED;
    int err = store_fetch_work_new(count, patch_count * PATCH_BYTES_USUAL, &work);
    if (err != 0)
        return err;
    err = store_fetch_from(&source, work, items, count, arena, visit, context);
    store_fetch_work_free(work);
    return err;
}

int
store_fetch_page(struct dor_store *store, uint32_t domain, uint64_t place, uint8_t *page)
{
    struct store_page_at at;
    uint8_t patch[DOR_PAGE_BYTES];
    uint32_t patch_bytes = 0;
    uint32_t digest = 0;
    const struct chunk_slides *slides = NULL;
    unsigned type = store_place_type(place);
    uint64_t serial = store_place_serial(place);
    int err;
    if (store_place_kind(place) == DOR_PAGE_PATCHED) {
        err = store_locate(store, domain, store_place_stream(place), serial, &at);
        if (err == 0)
            err = store_segment_read_group(
                store, at.segment, at.group, store->stored, store->plain);
        if (err != 0)
            return err;
        patch_bytes = store_table_page_bytes(at.segment->table, at.group, at.row);
        memcpy(patch, store->plain + at.segment->table->offsets[at.row], patch_bytes);
        digest = at.segment->table->digests[at.row];
        slides = group_slides(&at);
        serial = at.segment->table->bases[at.row];
    }
    err =
        store_locate(store, domain, type * STORE_STREAM_KINDS + STORE_STREAM_RAW, serial, &at);
    if (err == 0)
        err =
            store_segment_read_group(store, at.segment, at.group, store->stored, store->plain);
    if (err != 0)
        return err;
    const uint8_t *plain = store->plain + at.segment->table->offsets[at.row];
    if (patch_bytes == 0) {
        digest = at.segment->table->digests[at.row];
        memcpy(page, plain, DOR_PAGE_BYTES);
    } else {
        err = chunk_patch_apply(slides, patch, patch_bytes, plain, page);
        if (err != 0)
            return err;
    }
    return chunk_page_digest(chunk_digest(page, DOR_PAGE_BYTES)) == digest ? 0
                                                                           : bad_digest(&at);
}
