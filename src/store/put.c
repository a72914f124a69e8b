/* SPDX-License-Identifier: Apache-2.0 */
/*
 * put.c - stores an image: per chunk zero, equal to a stored one, similar to one, or plain.
 *
 * The image is worked on in windows. Pass one finds suggestions for every chunk of the window
 * (the parent's page of the same number, then the index) and fetches them together, so that
 * each stored group is decoded once: equal candidates are compared byte by byte, similar ones
 * encoded against at once. Pass two goes through the chunks in order, looks for equals and
 * similars among the window's own new pages, and writes.
 *
 * Invariants
 *  (1) a page becomes a reference only after a compare of all its bytes with the stored page's.
 *  (2) bases are plain pages (patch depth one); a base is stored before the patch that needs it.
 *  (3) until the catalog is saved nothing that a reader sees has changed; on any error before
 *  that the
 *      store is reloaded and cleaned.
 */
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"
#include "chunk/digest.h"
#include "store/defragment.h"
#include "store/put_priv.h"
#include "store/recipe.h"
#include "store/root.h"
#include "store/snapshot.h"

#define LEARN_STEP  48 /* every which page is looked at to learn slides */
#define LEARN_LEAST 4  /* a slide must be seen this often among them */
/*
 * Puts store old pages again (defragment.h) from this generation on, before an image is little but
 * its first; and for three pages that they add they look at so many of the image.
 */
#define CHAIN_GENERATION 8
#define SWEEP_THIRDS     2

/* ------------------------------------------------------------------ the window */

static int
next_data(const struct job *job, uint64_t page, uint64_t *ret_first, uint64_t *ret_end)
{
    *ret_first = page;
    *ret_end = job->page_count;
    return job->source.next_data == NULL
               ? 0
               : job->source.next_data(job->source.context, page, ret_first, ret_end);
}

static bool
is_dropped(const struct job *job, uint64_t image_page)
{
    return job->put->dropped != NULL && job->put->dropped[image_page] != 0;
}

/* Pages [page, end) of the image are data: read them and see which are not zero. */
static int
read_run(struct job *job, uint64_t page, uint64_t end)
{
    const struct chunk_kernels *kernels = chunk_kernels();
    uint64_t slot = page - job->window_first;
    int err = job->source.read(
        job->source.context, page, end - page, job->window + slot * DOR_PAGE_BYTES);
    if (err != 0)
        return err;
    for (; page < end; page++, slot++) {
        bool is_zero = kernels->page_is_zero(job->window + slot * DOR_PAGE_BYTES);
        bool drop = !is_zero && is_dropped(job, page);
        job->result.dropped_bytes += drop ? DOR_PAGE_BYTES : 0;
        job->content[slot] = is_zero || drop ? SLOT_ZERO : SLOT_DATA;
    }
    return 0;
}

static int
read_window(struct job *job)
{
    uint64_t page = job->window_first;
    uint64_t window_end = page + job->window_pages;
    memset(job->content, job->put->diff ? SLOT_PARENT : SLOT_ZERO, job->window_pages);
    while (page < window_end) {
        uint64_t first;
        uint64_t end;
        int err = next_data(job, page, &first, &end);
        if (err != 0)
            return err;
        if (first >= window_end)
            break;
        if (first < page || end <= first)
            return dor_fail(DOR_E_USAGE, "image: its source does not go on");
        end = base_min_u64(end, window_end);
        err = read_run(job, first, end);
        if (err != 0)
            return err;
        page = end;
    }
    return 0;
}

/*
 * Pages from PAGE on that form one chunk: data, of one type, inside an aligned run of the
 * type's size.
 */
static unsigned
cut_length(const struct job *job, uint64_t page, unsigned type)
{
    uint64_t chunk_pages = store_options_chunk_pages(job->options, type);
    uint64_t image_page = job->window_first + page;
    uint64_t end = page + chunk_pages - image_page % chunk_pages;
    end = base_min_u64(end, job->window_pages);
    uint64_t i = page + 1;
    while (i < end && job->content[i] == SLOT_DATA && match_page_type(job, i) == type)
        i++;
    return (unsigned)(i - page);
}

/* The place of a page that needs no bytes: zero, or in a diff the parent's unless it is dropped. */
static void
keep_page(struct job *job, uint64_t page, unsigned type)
{
    uint64_t image_page = job->window_first + page;
    uint64_t place = store_place(DOR_PAGE_ZERO, type, 0);
    if (job->content[page] == SLOT_PARENT) {
        place = job->parent.places[image_page];
        if (job->put->region_types == NULL)
            type = job->types[image_page] =
                (uint8_t)store_recipe_page_type(&job->parent, image_page);
        else if (!store_place_is_stored(place))
            place = store_place_retype(place, type);
        if (store_place_kind(place) != DOR_PAGE_ZERO && is_dropped(job, image_page)) {
            place = store_place(DOR_PAGE_ZERO, type, 0);
            job->result.dropped_bytes += DOR_PAGE_BYTES;
        }
    }
    job->places[image_page] = place;
    if (store_place_kind(place) == DOR_PAGE_ZERO)
        job->result.by_region_type[type].zero_bytes += DOR_PAGE_BYTES;
    else if (store_place_is_reference(place))
        job->result.by_region_type[type].reference_bytes += DOR_PAGE_BYTES;
    else
        job->result.by_region_type[type].exact_bytes += DOR_PAGE_BYTES;
}

static int
open_index(struct job *job, unsigned type)
{
    if (job->indexes[type] != NULL)
        return 0;
    return store_index_of(job->store, job->domain, type, &job->indexes[type]);
}

/* Types that the image has no page of may still hold what its pages equal. */
static int
open_indexes(struct job *job)
{
    const uint64_t *next_serial = job->store->catalog->domains[job->domain].next_serial;
    int err = 0;
    for (unsigned i = 0; i < STORE_STREAMS && job->options->cross_types && err == 0; i++)
        if (next_serial[i] > 0)
            err = open_index(job, i / STORE_STREAM_KINDS);
    return err;
}

/* Cut the window into chunks; pages that need none get their places at once. */
static int
cut_window(struct job *job)
{
    job->cut_count = 0;
    for (uint64_t page = 0; page < job->window_pages;) {
        unsigned type = match_page_type(job, page);
        job->types[job->window_first + page] = (uint8_t)type;
        if (job->content[page] == SLOT_ROOT) {
            job->result.by_region_type[type].reference_bytes += DOR_PAGE_BYTES;
            page++;
            continue;
        }
        if (job->content[page] != SLOT_DATA) {
            keep_page(job, page++, type);
            continue;
        }
        int err = open_index(job, type);
        if (err != 0)
            return err;
        struct cut *cut = &job->cuts[job->cut_count++];
        *cut = (struct cut){
            .page = (uint32_t)page,
            .pages = (uint8_t)cut_length(job, page, type),
            .type = (uint8_t)type};
        memset(&job->types[job->window_first + page], (int)type, cut->pages);
        match_describe(job, cut);
        page += cut->pages;
    }
    return 0;
}

/* ------------------------------------------------------------------ pass two: in order, writing */

static void
note_new_page(struct job *job, unsigned stream, uint32_t page)
{
    struct window_stream *window = &job->streams[stream];
    window->pages[window->count++] = page;
}

static int
write_patched(struct job *job, const struct cut *cut)
{
    for (unsigned i = 0; i < cut->pages; i++) {
        uint32_t page = cut->page + i;
        const struct page_patch *patch = &job->page_patches[page];
        unsigned type = store_place_type(patch->base_place);
        unsigned stream = type * STORE_STREAM_KINDS + (unsigned)STORE_STREAM_PATCH;
        struct store_page_row row = {
            .serial = store_writer_serial(job->writer, stream),
            .digest = job->digests[page],
            .base = store_place_serial(patch->base_place)};
        job->places[job->window_first + page] = store_stream_place(stream, row.serial);
        note_new_page(job, stream, page);
        int err = store_writer_add(
            job->writer, stream, &row, job->patches.data + patch->offset, patch->size_bytes,
            &job->slides);
        if (err == 0 && row.serial <= STORE_INDEX_SERIAL_MAX)
            err = store_index_add(
                job->indexes[type], (uint32_t)row.serial | STORE_INDEX_PATCH,
                store_index_exact_key(&job->digests[page], 1), NULL, 0);
        if (err != 0)
            return err;
    }
    job->result.by_region_type[cut->type].patched_bytes += cut->pages * DOR_PAGE_BYTES;
    return 0;
}

static int
write_raw(struct job *job, const struct cut *cut)
{
    unsigned stream = cut->type * STORE_STREAM_KINDS + STORE_STREAM_RAW;
    uint64_t first_serial = 0;
    for (unsigned i = 0; i < cut->pages; i++) {
        uint32_t page = cut->page + i;
        struct store_page_row row = {
            .serial = store_writer_serial(job->writer, stream),
            .digest = job->digests[page],
            .chunk_pages = i == 0 ? cut->pages : 0,
            .fingerprint_count = i == 0 ? cut->fingerprint_count : 0,
            .fingerprints = cut->fingerprints};
        first_serial = i == 0 ? row.serial : first_serial;
        job->places[job->window_first + page] = store_stream_place(stream, row.serial);
        note_new_page(job, stream, page);
        int err = store_writer_add(
            job->writer, stream, &row, job->window + page * DOR_PAGE_BYTES, DOR_PAGE_BYTES,
            NULL);
        if (err != 0)
            return err;
    }
    job->result.by_region_type[cut->type].raw_bytes += cut->pages * DOR_PAGE_BYTES;
    if (first_serial > STORE_INDEX_SERIAL_MAX)
        return 0;
    return store_index_add(
        job->indexes[cut->type], (uint32_t)first_serial, cut->exact_key, cut->fingerprints,
        cut->fingerprint_count);
}

/* Whether every page of CUT has a patch that is worth it. */
static bool
is_patched(const struct job *job, const struct cut *cut)
{
    for (unsigned i = 0; i < cut->pages; i++)
        if (job->page_patches[cut->page + i].size_bytes == 0)
            return false;
    return true;
}

static int
write_cut(struct job *job, struct cut *cut)
{
    if (cut->equal_place == 0) {
        int err = match_in_window(job, cut);
        if (err != 0)
            return err;
    }
    if (cut->equal_place != 0) {
        for (unsigned i = 0; i < cut->pages; i++)
            job->places[job->window_first + cut->page + i] = cut->equal_place + i;
        job->result.by_region_type[cut->type].exact_bytes += cut->pages * DOR_PAGE_BYTES;
        return 0;
    }
    return is_patched(job, cut) ? write_patched(job, cut) : write_raw(job, cut);
}

/* Indexes grow by what is written; a large first image would make the unsettled part large. */
static int
settle_indexes(struct job *job)
{
    for (unsigned type = 0; type < DOR_REGION_TYPES; type++)
        if (job->indexes[type] != NULL && store_index_wants_rebuild(job->indexes[type])) {
            int err = store_index_rebuild(job->store, job->domain, type, &job->indexes[type]);
            if (err != 0)
                return err;
        }
    return 0;
}

static void
begin_window(struct job *job, uint64_t first_page)
{
    job->window_first = first_page;
    job->window_pages = base_min_u64(job->window_cap, job->page_count - first_page);
    job->item_count = 0;
    job->patches.size_bytes = 0;
    memset(job->page_patches, 0, job->window_pages * sizeof *job->page_patches);
    for (unsigned i = 0; i < STORE_STREAMS; i++) {
        job->streams[i].first_serial = job->store->catalog->domains[job->domain].next_serial[i];
        job->streams[i].written_end = store_writer_open_serial(job->writer, i);
        job->streams[i].count = 0;
    }
}

static int
do_window(struct job *job, uint64_t first_page)
{
    begin_window(job, first_page);
    int err = read_window(job);
    if (err == 0)
        err = match_roots(job);
    if (err == 0)
        err = cut_window(job);
    for (size_t i = 0; i < job->cut_count && err == 0; i++)
        err = match_suggest(job, i);
    if (err == 0)
        err = match_fetch(job);
    for (size_t i = 0; i < job->cut_count && err == 0; i++)
        err = write_cut(job, &job->cuts[i]);
    if (err == 0)
        err = store_writer_flush(job->writer);
    return err != 0 ? err : settle_indexes(job);
}

/* ------------------------------------------------------------------ slides */

struct learn_context {
    struct job *job;
    struct chunk_slide_learner *learner;
};

static int
visit_learn(void *context, uint64_t tag, uint64_t place, const uint8_t *stored)
{
    struct learn_context *learn = context;
    (void)place;
    if (stored != NULL)
        chunk_slide_learn(
            learn->learner, learn->job->window + match_tag_cut(tag) * DOR_PAGE_BYTES, stored);
    return 0;
}

/* Ask for the most similar stored page of the image page in window slot SLOT. */
static int
sample_page(struct job *job, uint64_t page, size_t slot)
{
    job->window_first = page - slot;
    job->cuts[slot] = (struct cut){
        .page = (uint32_t)slot, .pages = 1, .type = (uint8_t)match_page_type(job, slot)};
    struct cut *cut = &job->cuts[slot];
    int err = open_index(job, cut->type);
    if (err != 0)
        return err;
    match_describe(job, cut);
    size_t items_before = job->item_count;
    err = match_suggest_base(job, slot);
    job->sample_count++;
    job->known_count += cut->equal_candidate != 0 || job->item_count > items_before;
    return err;
}

/* In a diff a page without data is known, for it is the parent's. */
static void
count_inherited(struct job *job, uint64_t page)
{
    if (!job->put->diff || store_place_kind(job->parent.places[page]) == DOR_PAGE_ZERO)
        return;
    job->sample_count++;
    job->known_count++;
}

static int
sample_pages(struct job *job)
{
    size_t slot = 0;
    uint64_t first = 0; /* the data at or after PAGE */
    uint64_t end = 0;
    int err = 0;
    for (uint64_t page = LEARN_STEP / 2; page < job->page_count && slot < job->window_cap;
         page += LEARN_STEP) {
        if (page >= end)
            err = next_data(job, page, &first, &end);
        if (err != 0)
            return err;
        if (page < first || page >= end) {
            count_inherited(job, page);
            continue;
        }
        uint8_t *bytes = job->window + slot * DOR_PAGE_BYTES;
        err = job->source.read(job->source.context, page, 1, bytes);
        if (err == 0 && !chunk_kernels()->page_is_zero(bytes) && !match_roots_know(job, bytes))
            err = sample_page(job, page, slot++);
        if (err != 0)
            return err;
    }
    return 0;
}

/*
 * An image that is mostly new will be a base: every later put and get of its kind decodes it,
 * so it is packed for fast decoding; and even more so what is added late in a chain, for in the end
 * that is all there is. Elsewhere the few new pages are packed for size.
 */
static void
choose_packing(struct job *job)
{
    if (job->known_count * 2 < job->sample_count)
        store_writer_pack_base(job->writer);
    else if (job->generation + 1 >= CHAIN_GENERATION)
        store_writer_pack_chain(job->writer);
}

/*
 * Learn from a sample of the whole image by how much pointers differ from those of similar
 * stored pages.
 */
static int
learn_slides(struct job *job)
{
    struct learn_context learn = {.job = job};
    if (!job->options->similarity)
        return 0;
    int err = chunk_slide_learner_new(&learn.learner);
    if (err != 0)
        return err;
    job->item_count = 0;
    err = sample_pages(job);
    if (err == 0 && job->options->slides)
        err = store_fetch(
            job->store, job->domain, job->items, job->item_count, visit_learn, &learn);
    if (err == 0)
        chunk_slide_finish(learn.learner, LEARN_LEAST, &job->slides);
    chunk_slide_learner_free(learn.learner);
    return err;
}

/* ------------------------------------------------------------------ beginning and end */

/*
 * The newest snapshot of the domain: where none is named, its pages of the same number are
 * tried.
 */
static const struct store_snapshot_entry *
newest_snapshot(const struct job *job)
{
    const struct store_snapshot_entry *newest = NULL;
    const struct store_catalog *catalog = job->store->catalog;
    for (size_t i = 0; i < catalog->snapshot_count; i++) {
        const struct store_snapshot_entry *entry = &catalog->snapshots[i];
        if (entry->domain == job->domain &&
            (newest == NULL || entry->info.id > newest->info.id))
            newest = entry;
    }
    return newest;
}

static int
load_parent(struct job *job)
{
    const struct store_snapshot_entry *parent = NULL;
    if (job->put->parent == NULL)
        parent = newest_snapshot(job);
    else
        parent = store_catalog_snapshot(job->store->catalog, job->put->parent);
    if (job->put->parent != NULL && (parent == NULL || parent->domain != job->domain))
        return dor_fail(
            DOR_E_NOT_FOUND, "no snapshot %s in this domain to be the parent",
            job->put->parent);
    if (parent == NULL)
        return 0;
    int err = store_snapshot_read_recipe(job->store, parent, &job->parent);
    if (err != 0 && job->put->parent == NULL && err != DOR_E_NO_MEMORY)
        return 0; /* a damaged snapshot that nobody asked for must not stop a put */
    if (err != 0)
        return err;
    job->generation = parent->info.generation;
    return 0;
}

static int
job_init(struct job *job)
{
    struct dor_store *store = job->store;
    const char *domain = job->put->domain == NULL ? "default" : job->put->domain;
    struct store_packing packing;
    int err = store_catalog_domain(store->catalog, domain, true, &job->domain);
    if (err == 0)
        err = load_parent(job);
    if (err == 0 && job->put->diff && job->parent.page_count != job->page_count)
        err = dor_fail(
            DOR_E_USAGE, "a diff of %llu pages is not one of snapshot %s, which has %llu",
            (unsigned long long)job->page_count, job->put->parent,
            (unsigned long long)job->parent.page_count);
    if (err == 0)
        err = match_roots_begin(job);
    if (err != 0)
        return err;
    store_packing_from_options(&store->options, &packing);
    uint64_t cap = base_min_u64(store->options.window_bytes / DOR_PAGE_BYTES, job->page_count);
    cap = base_max_u64(cap, base_min_u64(job->page_count / LEARN_STEP + 1, 4096));
    job->window_cap = cap;
    job->places = base_array(job->page_count, sizeof *job->places);
    job->types = base_array(job->page_count, sizeof *job->types);
    job->window = base_alloc_pages(cap);
    job->content = base_array(cap, sizeof *job->content);
    job->digests = base_array(cap, sizeof *job->digests);
    job->cuts = base_array(cap, sizeof *job->cuts);
    job->root_items = base_array(cap, sizeof *job->root_items);
    job->page_patches = base_array(cap, sizeof *job->page_patches);
    if (job->places == NULL || job->types == NULL || job->window == NULL ||
        job->content == NULL || job->digests == NULL || job->cuts == NULL ||
        job->page_patches == NULL || job->root_items == NULL)
        return DOR_E_NO_MEMORY;
    for (unsigned i = 0; i < STORE_STREAMS; i++) {
        job->streams[i].pages = base_array(cap, sizeof *job->streams[i].pages);
        if (job->streams[i].pages == NULL)
            return DOR_E_NO_MEMORY;
    }
    return store_writer_new(store, job->domain, &packing, &job->writer);
}

static void
job_fini(struct job *job)
{
    store_writer_free(job->writer);
    base_free(job->places);
    base_free(job->types);
    store_recipe_fini(&job->parent);
    base_free(job->window);
    base_free(job->content);
    base_free(job->digests);
    base_free(job->cuts);
    base_free(job->page_patches);
    base_buf_free(&job->patches);
    base_free(job->items);
    base_free(job->roots);
    base_free(job->root_items);
    for (unsigned i = 0; i < STORE_STREAMS; i++)
        base_free(job->streams[i].pages);
}

/* Most pages are where they are in the parent. */
static bool
is_next_generation(const struct job *job)
{
    uint64_t stored_pages = 0;
    uint64_t same_pages = 0;
    if (job->put->parent != NULL || job->parent.places == NULL)
        return job->parent.places != NULL;
    for (uint64_t i = 0; i < job->page_count; i++) {
        stored_pages += store_place_is_stored(job->places[i]);
        same_pages += i < job->parent.page_count && store_place_is_stored(job->places[i]) &&
                      job->places[i] == job->parent.places[i];
    }
    return same_pages * 4 >= stored_pages * 3;
}

/* Old pages that are stored again count as what they are now. */
static int
defragment(struct job *job, const uint64_t first_new[STORE_STREAMS])
{
    uint64_t moved[STORE_STREAMS];
    uint64_t new_pages = 0;
    if (is_next_generation(job))
        job->generation = base_min_u64(job->generation + 1, STORE_GENERATION_MAX);
    else
        job->generation = 0;
    if (job->generation < CHAIN_GENERATION)
        return 0;
    for (unsigned i = 0; i < STORE_STREAMS; i++)
        new_pages += job->store->catalog->domains[job->domain].next_serial[i] - first_new[i];
    struct store_defragment wish = {
        .domain = job->domain,
        .places = job->places,
        .page_count = job->page_count,
        .first_new = first_new,
        .indexes = job->indexes,
        .generation = job->generation,
        .sweep_pages = new_pages * SWEEP_THIRDS / 3,
        .percent_max = job->options->fragment_percent};
    int err = store_defragment(job->store, job->writer, &wish, moved);
    for (unsigned i = 0; i < STORE_STREAMS && err == 0; i++) {
        struct dor_kind_bytes *bytes = &job->result.by_region_type[i / STORE_STREAM_KINDS];
        uint64_t moved_bytes = base_min_u64(moved[i] * DOR_PAGE_BYTES, bytes->exact_bytes);
        bytes->exact_bytes -= moved_bytes;
        if (i % STORE_STREAM_KINDS == STORE_STREAM_PATCH)
            bytes->patched_bytes += moved_bytes;
        else
            bytes->raw_bytes += moved_bytes;
    }
    return err;
}

static int
do_pages(struct job *job)
{
    uint64_t total_bytes = job->page_count * DOR_PAGE_BYTES;
    uint64_t first_new[STORE_STREAMS];
    memcpy(first_new, job->store->catalog->domains[job->domain].next_serial, sizeof first_new);
    int err = open_indexes(job);
    if (err == 0)
        err = learn_slides(job);
    if (err == 0)
        choose_packing(job);
    for (uint64_t page = 0; page < job->page_count && err == 0; page += job->window_pages) {
        if (job->put->progress != NULL &&
            job->put->progress(
                job->put->progress_context, page * DOR_PAGE_BYTES, total_bytes) != 0)
            return dor_fail(DOR_E_BUSY, "put was stopped");
        err = do_window(job, page);
    }
    if (err == 0)
        err = store_writer_close_groups(job->writer);
    return err != 0 ? err : defragment(job, first_new);
}

static void
sum_result(struct job *job)
{
    struct dor_put_result *result = &job->result;
    memset(&result->total, 0, sizeof result->total);
    for (uint64_t i = 0; job->put->page_classes != NULL && i < job->page_count; i++)
        result->pages_by_class[job->put->page_classes[i]]++;
    for (unsigned type = 0; type < DOR_REGION_TYPES; type++) {
        struct dor_kind_bytes *bytes = &result->by_region_type[type];
        unsigned stream = type * STORE_STREAM_KINDS;
        bytes->logical_bytes = bytes->zero_bytes + bytes->exact_bytes + bytes->patched_bytes +
                               bytes->raw_bytes + bytes->reference_bytes;
        bytes->raw_stored_bytes = store_writer_bytes(job->writer, stream + STORE_STREAM_RAW);
        bytes->patched_stored_bytes =
            store_writer_bytes(job->writer, stream + STORE_STREAM_PATCH);
        store_kind_bytes_add(&result->total, bytes);
    }
}

static uint64_t
segment_bytes(const struct store_catalog *catalog)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < catalog->segment_count; i++)
        bytes += catalog->segments[i].size_bytes;
    return bytes;
}

/* The user's sidecars and the parts. */
static size_t
collect_rows(const struct job *job, struct dor_sidecar rows[DOR_SIDECARS_MAX + STORE_PARTS_MAX])
{
    const struct dor_put *put = job->put;
    size_t count = put->sidecar_count;
    for (size_t i = 0; i < count; i++)
        rows[i] = put->sidecars[i];
    if (put->page_classes != NULL)
        rows[count++] =
            (struct dor_sidecar){STORE_PART_CLASSES, put->page_classes, job->page_count};
    if (put->frame_bytes > 0)
        rows[count++] = (struct dor_sidecar){STORE_PART_FRAME, put->frame, put->frame_bytes};
    return count;
}

/* Write the snapshot file, then make everything true at once by saving the catalog. */
static int
commit(struct job *job, const char *name, uint64_t bytes_before)
{
    struct dor_store *store = job->store;
    struct store_snapshot_entry entry = {.domain = job->domain};
    AUTO_BUF struct base_buf file = {0};
    memcpy(entry.info.name, name, strlen(name));
    memcpy(
        entry.info.domain, store->catalog->domains[job->domain].name, sizeof entry.info.domain);
    if (job->put->parent != NULL)
        memcpy(entry.info.parent, job->put->parent, strlen(job->put->parent));
    entry.info.generation = job->generation;
    entry.info.id = store->catalog->next_snapshot_id;
    entry.info.created_ns = base_clock_realtime_ns();
    entry.info.logical_bytes = job->page_count * DOR_PAGE_BYTES;
    entry.info.sidecar_count = job->put->sidecar_count;
    sum_result(job);
    job->result.added_bytes = segment_bytes(store->catalog) - bytes_before;
    entry.info.put = job->result;
    struct dor_sidecar rows[DOR_SIDECARS_MAX + STORE_PARTS_MAX];
    size_t row_count = collect_rows(job, rows);
    struct store_recipe recipe = {.page_count = job->page_count, .places = job->places};
    int err = store_recipe_set_types(&recipe, job->types);
    if (err == 0)
        err =
            store_recipe_encode(&entry, &recipe, rows, row_count, store->catalog->uuid, &file);
    base_free(recipe.type_runs);
    if (err != 0)
        return err;
    job->result.added_bytes += file.size_bytes;
    entry.info.put.added_bytes = job->result.added_bytes;
    entry.info.recipe_bytes = file.size_bytes;
    store->catalog->next_snapshot_id++;
    return store_snapshot_commit(store, &entry, &file);
}

int
dor_store_put(
    struct dor_store *store, const char *name, const struct dor_put *put,
    struct dor_put_result *ret)
{
    struct job job = {.store = store, .put = put, .options = &store->options};
    int err = put_check(store, name, &job);
    if (err != 0)
        return err;
    uint64_t bytes_before = segment_bytes(store->catalog);
    err = job_init(&job);
    if (err == 0)
        err = do_pages(&job);
    if (err == 0)
        err = store_writer_finish(job.writer);
    if (err == 0)
        err = commit(&job, name, bytes_before);
    if (err == 0)
        *ret = job.result;
    job_fini(&job);
    return err == 0 ? 0 : store_roll_back(store, err);
}
