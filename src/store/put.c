/* SPDX-License-Identifier: Apache-2.0 */
/*
 * put.c - stores an image: per chunk zero, equal to a stored one, similar to one, or plain.
 *
 * The image is worked on in windows. Pass one finds suggestions for every chunk of the window (the parent's page
 * of the same number, then the index) and fetches them together, so that each stored group is decoded once:
 * equal candidates are compared byte by byte, similar ones encoded against at once. Pass two goes through the
 * chunks in order, looks for equals and similars among the window's own new pages, and writes.
 *
 * Invariants
 *  (1) a page becomes a reference only after a compare of all its bytes with the stored page's.
 *  (2) bases are plain pages (patch depth one); a base is stored before the patch that needs it.
 *  (3) until the catalog is saved nothing that a reader sees has changed; on any error before that the
 *      store is reloaded and cleaned.
 */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/size.h"
#include "chunk/digest.h"
#include "chunk/fingerprint.h"
#include "chunk/patch.h"
#include "store/defragment.h"
#include "store/fetch.h"
#include "store/recipe.h"
#include "store/snapshot.h"
#include "store/writer.h"

#define IMAGE_BYTES_MAX (UINT64_C(1) << 44)
#define CANDIDATES_MAX 8     /* similar chunks fetched per chunk, option and parent's together */
#define VOTES_MAX 48         /* distinct references that may be voted on */
#define EQUAL_TRIES 3        /* of the best voted, this many are looked at for an equal digest */
#define LEARN_STEP 48        /* every which page is looked at to learn slides */
#define LEARN_LEAST 4        /* a slide must be seen this often among them */
#define DEFRAGMENT_PAGES 32  /* may be stored again by any put, besides half as many as it adds */
#define PATCH_GOOD_BYTES 256  /* a patch this small is not worth beating */
#define SIDECAR_BYTES_MAX (UINT32_C(1) << 30)

/* A chunk of the window. */
struct cut {
    uint32_t page; /* first page in the window */
    uint32_t exact_key;
    uint64_t equal_place; /* of the first page, when all are equal; 0 = none found */
    uint64_t equal_candidate;
    uint32_t fingerprints[CHUNK_FINGERPRINTS_MAX];
    uint8_t fingerprint_count;
    uint8_t pages;
    uint8_t type;
    uint8_t equal_pages; /* of the candidate, compared so far */
};

/* The best patch found for a page of the window. */
struct page_patch {
    uint64_t base;
    uint64_t offset; /* in the patches' buffer */
    uint32_t size_bytes; /* 0 = none */
};

/* New pages of this window, by serial number since its start; those before written_end can be fetched. */
struct window_stream {
    uint64_t written_end;
    uint64_t first_serial;
    uint32_t *pages; /* window page of each */
    uint64_t count;
};

struct job {
    struct dor_store *store;
    const struct dor_put *put;
    const struct store_options *options;
    uint32_t domain;
    struct store_writer *writer;
    uint64_t page_count;
    uint64_t *places;
    uint64_t *parent_places;
    uint64_t parent_page_count;
    struct store_index *indexes[DOR_REGION_TYPES];
    struct chunk_slides slides;
    struct dor_put_result result;
    /* the window */
    uint64_t window_first; /* page of the image */
    uint64_t window_pages, window_cap;
    uint8_t *window;
    uint8_t *is_data; /* per page: not zero */
    uint32_t *digests;
    struct cut *cuts;
    size_t cut_count;
    struct page_patch *page_patches;
    struct base_buf patches;
    struct window_stream streams[STORE_STREAMS];
    struct store_fetch_item *items;
    size_t item_count, item_cap;
};

struct votes {
    uint32_t exact[STORE_INDEX_REFS_MAX]; /* suggested by the exact key alone */
    unsigned exact_size;
    uint32_t reference[VOTES_MAX];
    uint8_t count[VOTES_MAX];
    unsigned size;
};

/* ------------------------------------------------------------------ candidates */

static void
vote(struct votes *votes, uint32_t reference)
{
    for (unsigned i = 0; i < votes->size; i++)
        if (votes->reference[i] == reference) {
            votes->count[i]++;
            return;
        }
    if (votes->size == VOTES_MAX)
        return;
    votes->reference[votes->size] = reference;
    votes->count[votes->size++] = 1;
}

/* All references the index suggests for CUT, most voted first, newer first among equals. */
static void
collect_votes(const struct store_index *index, const struct cut *cut, struct votes *votes)
{
    uint32_t references[STORE_INDEX_REFS_MAX];
    votes->size = 0;
    votes->exact_size = store_index_find(index, cut->exact_key, votes->exact);
    for (unsigned f = 0; f < cut->fingerprint_count; f++) {
        unsigned found = store_index_find(index, cut->fingerprints[f], references);
        for (unsigned i = 0; i < found; i++)
            vote(votes, references[i]);
    }
    for (unsigned i = 1; i < votes->size; i++) {
        uint32_t reference = votes->reference[i];
        uint8_t count = votes->count[i];
        unsigned at = i;
        for (; at > 0 && (votes->count[at - 1] < count ||
                             (votes->count[at - 1] == count && votes->reference[at - 1] < reference));
             at--) {
            votes->reference[at] = votes->reference[at - 1];
            votes->count[at] = votes->count[at - 1];
        }
        votes->reference[at] = reference;
        votes->count[at] = count;
    }
}

static uint64_t
reference_place(unsigned type, uint32_t reference)
{
    bool patch = (reference & STORE_INDEX_PATCH) != 0;
    return store_place(patch ? DOR_PAGE_PATCHED : DOR_PAGE_RAW, type,
        reference & STORE_INDEX_SERIAL_MAX);
}

/* Whether the stored pages from PLACE on have the digests of CUT's pages. */
static bool
digests_equal(struct job *job, const struct cut *cut, uint64_t place)
{
    struct store_page_at at;
    if (store_locate(job->store, job->domain, store_place_stream(place),
            store_place_serial(place), &at) != 0)
        return false;
    const struct store_table *table = at.segment->table;
    for (unsigned i = 0; i < cut->pages; i++)
        if (at.row + i >= table->page_count ||
            table->serials[at.row + i] != store_place_serial(place) + i ||
            table->digests[at.row + i] != job->digests[cut->page + i])
            return false;
    return true;
}

/* Pages of this window and of groups that are still open cannot be fetched. */
static bool
can_fetch(const struct job *job, uint64_t place)
{
    return store_place_serial(place) < job->streams[store_place_stream(place)].written_end;
}

/* What a fetched page is for, packed in the fetch tag. */
enum { FETCH_EQUAL, FETCH_SIMILAR, FETCH_PARENT };

static uint64_t
make_tag(size_t cut, unsigned page, unsigned purpose)
{
    return (uint64_t)cut << 8 | page << 2 | purpose;
}

static int
want_pages(struct job *job, size_t cut_index, uint64_t place, unsigned purpose)
{
    const struct cut *cut = &job->cuts[cut_index];
    if (job->item_count + cut->pages > job->item_cap) {
        size_t cap = job->item_cap * 2 + cut->pages + 1024;
        struct store_fetch_item *items = base_realloc_array(job->items, cap, sizeof *items);
        if (items == NULL)
            return DOR_E_NO_MEMORY;
        job->items = items;
        job->item_cap = cap;
    }
    for (unsigned i = 0; i < cut->pages; i++)
        job->items[job->item_count++] =
            (struct store_fetch_item){place + i, make_tag(cut_index, i, purpose)};
    return 0;
}

/* The plain page a stored page could serve as base with: itself, or the base it is patched from. */
static uint64_t
base_of(struct job *job, uint64_t place)
{
    struct store_page_at at;
    if (store_place_kind(place) == DOR_PAGE_RAW)
        return place;
    if (store_locate(job->store, job->domain, store_place_stream(place),
            store_place_serial(place), &at) != 0)
        return 0;
    return store_place(DOR_PAGE_RAW, store_place_type(place), at.segment->table->bases[at.row]);
}

/* The parent's place for the first page of CUT; 0 when it has none of the same type. */
static uint64_t
parent_place(const struct job *job, const struct cut *cut)
{
    uint64_t page = job->window_first + cut->page;
    if (page + cut->pages > job->parent_page_count)
        return 0;
    uint64_t place = job->parent_places[page];
    if (!store_place_is_stored(place) || store_place_type(place) != cut->type)
        return 0;
    for (unsigned i = 1; i < cut->pages; i++)
        if (job->parent_places[page + i] != place + i)
            return 0;
    return place;
}

/* The first of REFERENCES, written before this window, whose pages have CUT's digests; or 0. */
static uint64_t
first_equal(
    struct job *job, const struct cut *cut, const uint32_t *references, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        uint64_t place = reference_place(cut->type, references[i]);
        if (can_fetch(job, place) && digests_equal(job, cut, place))
            return place;
    }
    return 0;
}

static int
suggest_similar(
    struct job *job, size_t cut_index, const struct votes *votes, uint64_t parent)
{
    const struct cut *cut = &job->cuts[cut_index];
    uint64_t base = parent == 0 || cut->pages > 1 ? 0 : base_of(job, parent);
    unsigned wanted = 0;
    for (unsigned i = 0; i < votes->size && wanted < job->options->candidates; i++) {
        uint64_t place = reference_place(cut->type, votes->reference[i]);
        if (store_place_kind(place) != DOR_PAGE_RAW || !can_fetch(job, place))
            continue;
        if (place == base)
            base = 0;
        int err = want_pages(job, cut_index, place, FETCH_SIMILAR);
        if (err != 0)
            return err;
        wanted++;
    }
    return base == 0 ? 0 : want_pages(job, cut_index, base, FETCH_PARENT);
}

/* Ask for the stored page CUT seems to equal, else for those it resembles. */
static int
suggest(struct job *job, size_t cut_index)
{
    struct cut *cut = &job->cuts[cut_index];
    struct votes votes;
    if (cut->equal_candidate == 0) {
        collect_votes(job->indexes[cut->type], cut, &votes);
        cut->equal_candidate = first_equal(job, cut, votes.exact, votes.exact_size);
    }
    if (cut->equal_candidate == 0)
        cut->equal_candidate = first_equal(job, cut, votes.reference,
            (unsigned)base_min_size(votes.size, EQUAL_TRIES));
    if (cut->equal_candidate != 0)
        return want_pages(job, cut_index, cut->equal_candidate, FETCH_EQUAL);
    return job->options->similarity
        ? suggest_similar(job, cut_index, &votes, parent_place(job, cut))
        : 0;
}

/* ------------------------------------------------------------------ comparing and encoding */

/* Encode window page PAGE against BASE and keep the patch if it is the smallest so far. */
static int
try_patch(struct job *job, uint32_t page, const uint8_t *base_page, uint64_t base_serial,
    enum chunk_patch_effort effort)
{
    uint8_t patch[CHUNK_PATCH_BYTES_MAX];
    struct page_patch *best = &job->page_patches[page];
    if (best->size_bytes != 0 && best->size_bytes <= PATCH_GOOD_BYTES)
        return 0;
    size_t size_bytes = chunk_patch_encode(
        &job->slides, job->window + page * DOR_PAGE_BYTES, base_page, effort, patch);
    if (size_bytes > job->options->patch_bytes_max ||
        (best->size_bytes != 0 && best->size_bytes <= size_bytes))
        return 0;
    *best = (struct page_patch){base_serial, job->patches.size_bytes, (uint32_t)size_bytes};
    return base_buf_append(&job->patches, patch, size_bytes);
}

static int
visit_fetched(void *context, uint64_t tag, uint64_t place, const uint8_t *stored)
{
    struct job *job = context;
    struct cut *cut = &job->cuts[tag >> 8];
    uint32_t page = cut->page + ((uint32_t)(tag >> 2) & 0x3f);
    unsigned purpose = (unsigned)tag & 3;
    if (stored == NULL) {
        /* What cannot be read is no candidate: the page is stored anew. */
        dor_log(WARN, "store", "candidate_unreadable", "place=%llx error=\"%s\"",
            (unsigned long long)place, dor_err_message());
        return 0;
    }
    /* A page of the same number is either much the same or not at all: no search for shifted content. */
    if (purpose != FETCH_EQUAL)
        return try_patch(job, page, stored, store_place_serial(place),
            purpose == FETCH_PARENT ? CHUNK_PATCH_WORDS : CHUNK_PATCH_FULL);
    if (memcmp(stored, job->window + page * DOR_PAGE_BYTES, DOR_PAGE_BYTES) == 0 &&
        ++cut->equal_pages == cut->pages)
        cut->equal_place = cut->equal_candidate;
    return 0;
}

/* ------------------------------------------------------------------ the window */

static int
read_window(struct job *job)
{
    uint64_t offset = job->window_first * DOR_PAGE_BYTES;
    uint64_t end = offset + job->window_pages * DOR_PAGE_BYTES;
    const struct chunk_kernels *kernels = chunk_kernels();
    memset(job->is_data, 0, job->window_pages);
    while (offset < end) {
        uint64_t data_start;
        uint64_t data_end;
        int err = base_file_next_data(job->put->image_fd, offset, end, &data_start, &data_end);
        if (err != 0)
            return err;
        if (data_start >= end)
            break;
        data_start = base_round_down_u64(data_start, DOR_PAGE_BYTES);
        data_end = base_min_u64(end, DIV_ROUND_UP(data_end, DOR_PAGE_BYTES) * DOR_PAGE_BYTES);
        uint64_t first = data_start / DOR_PAGE_BYTES - job->window_first;
        err = base_file_pread(job->put->image_fd, job->window + first * DOR_PAGE_BYTES,
            data_end - data_start, data_start, "image");
        if (err != 0)
            return err;
        for (uint64_t i = first; i < first + (data_end - data_start) / DOR_PAGE_BYTES; i++)
            job->is_data[i] = !kernels->page_is_zero(job->window + i * DOR_PAGE_BYTES);
        offset = data_end;
    }
    return 0;
}

static unsigned
page_type(const struct job *job, uint64_t window_page)
{
    if (job->put->region_types == NULL || !job->options->split_types)
        return DOR_NRT;
    return job->put->region_types[job->window_first + window_page];
}

/* Pages from PAGE on that form one chunk: data, of one type, inside an aligned run of the type's size. */
static unsigned
cut_length(const struct job *job, uint64_t page, unsigned type)
{
    uint64_t chunk_pages = store_options_chunk_pages(job->options, type);
    uint64_t image_page = job->window_first + page;
    uint64_t end = page + chunk_pages - image_page % chunk_pages;
    end = base_min_u64(end, job->window_pages);
    uint64_t i = page + 1;
    while (i < end && job->is_data[i] && page_type(job, i) == type)
        i++;
    return (unsigned)(i - page);
}

/* Digests, and fingerprints unless the parent's pages have the same digests already. */
static void
describe_cut(struct job *job, struct cut *cut)
{
    const uint8_t *bytes = job->window + cut->page * DOR_PAGE_BYTES;
    for (unsigned i = 0; i < cut->pages; i++)
        job->digests[cut->page + i] =
            chunk_page_digest(chunk_digest(bytes + i * DOR_PAGE_BYTES, DOR_PAGE_BYTES));
    cut->exact_key = store_index_exact_key(&job->digests[cut->page], cut->pages);
    uint64_t parent = parent_place(job, cut);
    if (parent != 0 && digests_equal(job, cut, parent)) {
        cut->equal_candidate = parent;
        return;
    }
    if (job->options->similarity)
        cut->fingerprint_count = (uint8_t)chunk_fingerprint(job->store->fingerprint_scratch, bytes,
            cut->pages, job->options->normalise, (unsigned)job->options->fingerprints,
            cut->fingerprints);
    const struct store_index *index = job->indexes[cut->type];
    store_index_prefetch(index, cut->exact_key);
    for (unsigned i = 0; i < cut->fingerprint_count; i++)
        store_index_prefetch(index, cut->fingerprints[i]);
}

/* Cut the window into chunks; zero pages get their places at once. */
static int
cut_window(struct job *job)
{
    job->cut_count = 0;
    for (uint64_t page = 0; page < job->window_pages;) {
        unsigned type = page_type(job, page);
        struct dor_kind_bytes *bytes = &job->result.by_region_type[type];
        if (!job->is_data[page]) {
            job->places[job->window_first + page++] = store_place(DOR_PAGE_ZERO, type, 0);
            bytes->zero_bytes += DOR_PAGE_BYTES;
            continue;
        }
        if (job->indexes[type] == NULL) {
            int err = store_index_of(job->store, job->domain, type, &job->indexes[type]);
            if (err != 0)
                return err;
        }
        struct cut *cut = &job->cuts[job->cut_count++];
        *cut = (struct cut){.page = (uint32_t)page,
            .pages = (uint8_t)cut_length(job, page, type),
            .type = (uint8_t)type};
        describe_cut(job, cut);
        page += cut->pages;
    }
    return 0;
}

/* ------------------------------------------------------------------ pass two: in order, writing */

/* The bytes of a plain page written in this window, or NULL. */
static const uint8_t *
window_page_of(const struct job *job, uint64_t place)
{
    const struct window_stream *stream = &job->streams[store_place_stream(place)];
    uint64_t index = store_place_serial(place) - stream->first_serial;
    if (store_place_serial(place) < stream->first_serial || index >= stream->count)
        return NULL;
    return job->window + stream->pages[index] * DOR_PAGE_BYTES;
}

/* Whether the pages written in this window from PLACE on equal CUT's. */
static bool
equals_window_pages(const struct job *job, const struct cut *cut, uint64_t place)
{
    for (unsigned i = 0; i < cut->pages; i++) {
        const uint8_t *page = window_page_of(job, place + i);
        if (page == NULL || memcmp(page, job->window + (cut->page + i) * DOR_PAGE_BYTES,
                DOR_PAGE_BYTES) != 0)
            return false;
    }
    return true;
}

/* Look among the window's own new pages for an equal chunk or, where there is no patch yet, a base. */
static int
look_in_window(struct job *job, struct cut *cut)
{
    struct votes votes;
    bool patched = job->page_patches[cut->page].size_bytes != 0 || !job->options->similarity;
    collect_votes(job->indexes[cut->type], cut, &votes);
    for (unsigned i = 0; i < votes.exact_size; i++) {
        uint64_t place = reference_place(cut->type, votes.exact[i]);
        if (equals_window_pages(job, cut, place)) {
            cut->equal_place = place;
            return 0;
        }
    }
    for (unsigned i = 0; i < votes.size; i++) {
        uint64_t place = reference_place(cut->type, votes.reference[i]);
        if (window_page_of(job, place) == NULL)
            continue;
        if (equals_window_pages(job, cut, place)) {
            cut->equal_place = place;
            return 0;
        }
        if (patched || store_place_kind(place) != DOR_PAGE_RAW)
            continue;
        patched = true;
        for (unsigned p = 0; p < cut->pages; p++) {
            const uint8_t *base = window_page_of(job, place + p);
            int err = base == NULL
                ? 0
                : try_patch(job, cut->page + p, base, store_place_serial(place + p),
                      CHUNK_PATCH_FULL);
            if (err != 0)
                return err;
        }
    }
    return 0;
}

static void
note_new_page(struct job *job, unsigned stream, uint32_t page)
{
    struct window_stream *window = &job->streams[stream];
    window->pages[window->count++] = page;
}

static int
write_patched(struct job *job, const struct cut *cut)
{
    unsigned stream = cut->type * STORE_STREAM_KINDS + (unsigned)STORE_STREAM_PATCH;
    for (unsigned i = 0; i < cut->pages; i++) {
        uint32_t page = cut->page + i;
        const struct page_patch *patch = &job->page_patches[page];
        struct store_page_row row = {.serial = store_writer_serial(job->writer, stream),
            .digest = job->digests[page],
            .base = patch->base};
        job->places[job->window_first + page] = store_stream_place(stream, row.serial);
        note_new_page(job, stream, page);
        int err = store_writer_add(job->writer, stream, &row, job->patches.data + patch->offset,
            patch->size_bytes, &job->slides);
        if (err == 0 && row.serial <= STORE_INDEX_SERIAL_MAX)
            err = store_index_add(job->indexes[cut->type],
                (uint32_t)row.serial | STORE_INDEX_PATCH,
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
        struct store_page_row row = {.serial = store_writer_serial(job->writer, stream),
            .digest = job->digests[page],
            .chunk_pages = i == 0 ? cut->pages : 0,
            .fingerprint_count = i == 0 ? cut->fingerprint_count : 0,
            .fingerprints = cut->fingerprints};
        first_serial = i == 0 ? row.serial : first_serial;
        job->places[job->window_first + page] = store_stream_place(stream, row.serial);
        note_new_page(job, stream, page);
        int err = store_writer_add(job->writer, stream, &row,
            job->window + page * DOR_PAGE_BYTES, DOR_PAGE_BYTES, NULL);
        if (err != 0)
            return err;
    }
    job->result.by_region_type[cut->type].raw_bytes += cut->pages * DOR_PAGE_BYTES;
    if (first_serial > STORE_INDEX_SERIAL_MAX)
        return 0;
    return store_index_add(job->indexes[cut->type], (uint32_t)first_serial, cut->exact_key,
        cut->fingerprints, cut->fingerprint_count);
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
        int err = look_in_window(job, cut);
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
            int err =
                store_index_rebuild(job->store, job->domain, type, &job->indexes[type]);
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
        job->streams[i].first_serial =
            job->store->catalog->domains[job->domain].next_serial[i];
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
        err = cut_window(job);
    for (size_t i = 0; i < job->cut_count && err == 0; i++)
        err = suggest(job, i);
    if (err == 0)
        err = store_fetch(
            job->store, job->domain, job->items, job->item_count, visit_fetched, job);
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
            learn->learner, learn->job->window + (tag >> 8) * DOR_PAGE_BYTES, stored);
    return 0;
}

/* Ask for the most similar stored page of the image page in window slot SLOT. */
static int
sample_page(struct job *job, uint64_t page, size_t slot)
{
    struct votes votes;
    job->window_first = page - slot;
    job->cuts[slot] = (struct cut){
        .page = (uint32_t)slot, .pages = 1, .type = (uint8_t)page_type(job, slot)};
    struct cut *cut = &job->cuts[slot];
    if (job->indexes[cut->type] == NULL) {
        int err = store_index_of(job->store, job->domain, cut->type, &job->indexes[cut->type]);
        if (err != 0)
            return err;
    }
    describe_cut(job, cut);
    collect_votes(job->indexes[cut->type], cut, &votes);
    for (unsigned i = 0; i < votes.size; i++) {
        uint64_t place = reference_place(cut->type, votes.reference[i]);
        if (store_place_kind(place) == DOR_PAGE_RAW)
            return want_pages(job, slot, place, FETCH_SIMILAR);
    }
    return 0;
}

static int
sample_pages(struct job *job)
{
    size_t slot = 0;
    int err = 0;
    for (uint64_t page = LEARN_STEP / 2; page < job->page_count && slot < job->window_cap;
         page += LEARN_STEP) {
        uint8_t *bytes = job->window + slot * DOR_PAGE_BYTES;
        err = base_file_pread(
            job->put->image_fd, bytes, DOR_PAGE_BYTES, page * DOR_PAGE_BYTES, "image");
        if (err == 0 && !chunk_kernels()->page_is_zero(bytes))
            err = sample_page(job, page, slot++);
        if (err != 0)
            return err;
    }
    return 0;
}

/* Learn from a sample of the whole image by how much pointers differ from those of similar stored pages. */
static int
learn_slides(struct job *job)
{
    struct learn_context learn = {.job = job};
    if (!job->options->slides || !job->options->similarity)
        return 0;
    int err = chunk_slide_learner_new(&learn.learner);
    if (err != 0)
        return err;
    job->item_count = 0;
    err = sample_pages(job);
    if (err == 0)
        err = store_fetch(
            job->store, job->domain, job->items, job->item_count, visit_learn, &learn);
    if (err == 0)
        chunk_slide_finish(learn.learner, LEARN_LEAST, &job->slides);
    chunk_slide_learner_free(learn.learner);
    return err;
}

/* ------------------------------------------------------------------ beginning and end */

static int
check_image(int fd, uint64_t *ret_pages)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return dor_fail(DOR_E_USAGE, "image: not a regular file");
    uint64_t size_bytes = (uint64_t)st.st_size;
    if (size_bytes == 0)
        return dor_fail(DOR_E_USAGE, "image: empty file");
    if (size_bytes % DOR_PAGE_BYTES != 0)
        return dor_fail(DOR_E_USAGE, "image: %llu bytes is not a multiple of 4096",
            (unsigned long long)size_bytes);
    if (size_bytes > IMAGE_BYTES_MAX)
        return dor_fail(DOR_E_USAGE, "image: %llu bytes is more than the limit of 16 TiB",
            (unsigned long long)size_bytes);
    *ret_pages = size_bytes / DOR_PAGE_BYTES;
    return 0;
}

static int
check_put(const struct dor_store *store, const char *name, const struct dor_put *put,
    uint64_t *ret_pages)
{
    int err = store_require_writable(store);
    if (err == 0)
        err = dor_name_check(name);
    if (err == 0 && put->domain != NULL)
        err = dor_name_check(put->domain);
    if (err == 0 && put->sidecar_count > DOR_SIDECARS_MAX)
        err = dor_fail(DOR_E_USAGE, "at most %d sidecars", DOR_SIDECARS_MAX);
    for (size_t i = 0; i < put->sidecar_count && err == 0; i++) {
        err = dor_name_check(put->sidecars[i].name);
        if (err == 0 && put->sidecars[i].size_bytes > SIDECAR_BYTES_MAX)
            err = dor_fail(DOR_E_USAGE, "sidecar %s is too large", put->sidecars[i].name);
        for (size_t k = 0; k < i && err == 0; k++)
            if (strcmp(put->sidecars[i].name, put->sidecars[k].name) == 0)
                err = dor_fail(
                    DOR_E_USAGE, "two sidecars are called %s", put->sidecars[i].name);
    }
    if (err == 0 && !put->replace && store_catalog_snapshot(store->catalog, name) != NULL)
        err = dor_fail(DOR_E_EXISTS, "snapshot %s exists; replace it or choose another name", name);
    if (err == 0)
        err = check_image(put->image_fd, ret_pages);
    for (uint64_t i = 0; err == 0 && put->region_types != NULL && i < *ret_pages; i++)
        if (put->region_types[i] >= DOR_REGION_TYPES)
            err = dor_fail(DOR_E_USAGE, "page %llu has no such region type",
                (unsigned long long)i);
    return err;
}

/* The newest snapshot of the domain: where none is named, its pages of the same number are tried. */
static const struct store_snapshot_entry *
newest_snapshot(const struct job *job)
{
    const struct store_snapshot_entry *newest = NULL;
    const struct store_catalog *catalog = job->store->catalog;
    for (size_t i = 0; i < catalog->snapshot_count; i++) {
        const struct store_snapshot_entry *entry = &catalog->snapshots[i];
        if (entry->domain == job->domain && (newest == NULL || entry->info.id > newest->info.id))
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
        return dor_fail(DOR_E_NOT_FOUND, "no snapshot %s in this domain to be the parent",
            job->put->parent);
    if (parent == NULL)
        return 0;
    struct store_recipe recipe = {0};
    int err = store_snapshot_read_recipe(job->store, parent, &recipe);
    if (err != 0 && job->put->parent == NULL && err != DOR_E_NO_MEMORY)
        return 0; /* a damaged snapshot that nobody asked for must not stop a put */
    if (err != 0)
        return err;
    job->parent_places = TAKE(recipe.places);
    job->parent_page_count = recipe.page_count;
    store_recipe_fini(&recipe);
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
    if (err != 0)
        return err;
    store_packing_from_options(&store->options, &packing);
    uint64_t cap = base_min_u64(store->options.window_bytes / DOR_PAGE_BYTES, job->page_count);
    cap = base_max_u64(cap, base_min_u64(job->page_count / LEARN_STEP + 1, 4096));
    job->window_cap = cap;
    job->places = base_array(job->page_count, sizeof *job->places);
    job->window = base_alloc_pages(cap);
    job->is_data = base_array(cap, sizeof *job->is_data);
    job->digests = base_array(cap, sizeof *job->digests);
    job->cuts = base_array(cap, sizeof *job->cuts);
    job->page_patches = base_array(cap, sizeof *job->page_patches);
    if (job->places == NULL || job->window == NULL || job->is_data == NULL ||
        job->digests == NULL || job->cuts == NULL || job->page_patches == NULL)
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
    base_free(job->parent_places);
    base_free(job->window);
    base_free(job->is_data);
    base_free(job->digests);
    base_free(job->cuts);
    base_free(job->page_patches);
    base_buf_free(&job->patches);
    base_free(job->items);
    for (unsigned i = 0; i < STORE_STREAMS; i++)
        base_free(job->streams[i].pages);
}

/* Part of the pages a put writes may be old ones stored again (defragment.h): they count as what they are. */
static int
defragment(struct job *job, const uint64_t first_new[STORE_STREAMS])
{
    uint64_t moved[STORE_STREAMS];
    uint64_t new_pages = 0;
    for (unsigned i = 0; i < STORE_STREAMS; i++)
        new_pages += job->store->catalog->domains[job->domain].next_serial[i] - first_new[i];
    struct store_defragment wish = {.domain = job->domain,
        .places = job->places,
        .page_count = job->page_count,
        .first_new = first_new,
        .pages_max = new_pages / 2 + DEFRAGMENT_PAGES,
        .percent_max = job->options->fragment_percent};
    int err = store_defragment(job->store, job->writer, &wish, moved);
    for (unsigned i = 0; i < STORE_STREAMS && err == 0; i++) {
        struct dor_kind_bytes *bytes = &job->result.by_region_type[i / STORE_STREAM_KINDS];
        uint64_t moved_bytes =
            base_min_u64(moved[i] * DOR_PAGE_BYTES, bytes->exact_bytes);
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
    int err = learn_slides(job);
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

/* Write the snapshot file, then make everything true at once by saving the catalog. */
static int
commit(struct job *job, const char *name, uint64_t bytes_before)
{
    struct dor_store *store = job->store;
    struct store_snapshot_entry entry = {.domain = job->domain};
    AUTO_BUF struct base_buf file = {0};
    memcpy(entry.info.name, name, strlen(name));
    memcpy(entry.info.domain, store->catalog->domains[job->domain].name,
        sizeof entry.info.domain);
    if (job->put->parent != NULL)
        memcpy(entry.info.parent, job->put->parent, strlen(job->put->parent));
    entry.info.id = store->catalog->next_snapshot_id;
    entry.info.created_ns = base_clock_realtime_ns();
    entry.info.logical_bytes = job->page_count * DOR_PAGE_BYTES;
    entry.info.sidecar_count = job->put->sidecar_count;
    sum_result(job);
    job->result.added_bytes = segment_bytes(store->catalog) - bytes_before;
    entry.info.put = job->result;
    int err = store_recipe_encode(&entry, job->places, job->put->sidecars,
        job->put->sidecar_count, store->catalog->uuid, &file);
    if (err != 0)
        return err;
    job->result.added_bytes += file.size_bytes;
    entry.info.put.added_bytes = job->result.added_bytes;
    entry.info.recipe_bytes = file.size_bytes;
    store->catalog->next_snapshot_id++;
    return store_snapshot_commit(store, &entry, &file);
}

int
dor_store_put(struct dor_store *store, const char *name, const struct dor_put *put,
    struct dor_put_result *ret)
{
    struct job job = {.store = store, .put = put, .options = &store->options};
    int err = check_put(store, name, put, &job.page_count);
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
