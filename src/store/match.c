/* SPDX-License-Identifier: Apache-2.0 */
/*
 * match.c - what a chunk of a new image equals or resembles.
 *
 * Suggestions come from the parent's pages of the same number, from the index by exact key,
 * and from votes of fingerprints. They are fetched together; equal ones are compared byte by
 * byte, similar ones encoded against. Pages of the window itself are not in files yet and are
 * looked at in memory, in a second step.
 *
 * All region types of the domain are asked, the chunk's own first: a file page that one guest's
 * runtime maps is mere page cache in the next. An equal page is then a reference to where it is, a
 * patch goes to the stream of its base's type; only what resembles nothing starts its own type's
 * new chunk.
 */
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/size.h"
#include "chunk/digest.h"
#include "store/put_priv.h"

#define VOTES_MAX        48 /* distinct references that may be voted on */
#define EQUAL_TRIES      3  /* of the best voted, this many are looked at for an equal digest */
#define PATCH_GOOD_BYTES 256 /* a patch this small is not worth beating */

/* A stored chunk that an index suggests. */
struct candidate {
    uint32_t reference;
    uint8_t type; /* whose index suggests it */
    uint8_t count;
};

struct votes {
    struct candidate
        exact[STORE_INDEX_REFS_MAX * DOR_REGION_TYPES]; /* by the exact key alone */
    unsigned exact_size;
    struct candidate similar[VOTES_MAX];
    unsigned size;
};

/* ------------------------------------------------------------------ candidates */

static void
vote(struct votes *votes, uint32_t reference, unsigned type)
{
    for (unsigned i = 0; i < votes->size; i++)
        if (votes->similar[i].reference == reference && votes->similar[i].type == type) {
            votes->similar[i].count++;
            return;
        }
    if (votes->size < VOTES_MAX)
        votes->similar[votes->size++] = (struct candidate){reference, (uint8_t)type, 1};
}

/* What the index of TYPE suggests for CUT. */
static void
collect_of_type(
    const struct job *job, const struct cut *cut, unsigned type, struct votes *votes)
{
    const struct store_index *index = job->indexes[type];
    uint32_t references[STORE_INDEX_REFS_MAX];
    unsigned found = store_index_find(index, cut->exact_key, references);
    for (unsigned i = 0; i < found; i++)
        votes->exact[votes->exact_size++] = (struct candidate){references[i], (uint8_t)type, 1};
    for (unsigned f = 0; f < cut->fingerprint_count; f++) {
        found = store_index_find(index, cut->fingerprints[f], references);
        for (unsigned i = 0; i < found; i++)
            vote(votes, references[i], type);
    }
}

/* More votes first, then the chunk's own type, then the newer. */
static bool
is_better(const struct candidate *left, const struct candidate *right, unsigned type)
{
    if (left->count != right->count)
        return left->count > right->count;
    if ((left->type == type) != (right->type == type))
        return left->type == type;
    return left->reference > right->reference;
}

/* Whether pages of TYPE may be stored as references to or patches of pages of OTHER. */
static bool
may_cross(const struct job *job, unsigned type, unsigned other)
{
    return job->indexes[other] != NULL && other != type && job->options->cross_types;
}

/* All that the indexes suggest for CUT, best first. */
static void
collect_votes(const struct job *job, const struct cut *cut, struct votes *votes)
{
    votes->exact_size = votes->size = 0;
    collect_of_type(job, cut, cut->type, votes);
    for (unsigned type = 0; type < DOR_REGION_TYPES; type++)
        if (may_cross(job, cut->type, type))
            collect_of_type(job, cut, type, votes);
    for (unsigned i = 1; i < votes->size; i++) {
        struct candidate candidate = votes->similar[i];
        unsigned at = i;
        for (; at > 0 && is_better(&candidate, &votes->similar[at - 1], cut->type); at--)
            votes->similar[at] = votes->similar[at - 1];
        votes->similar[at] = candidate;
    }
}

static uint64_t
candidate_place(const struct candidate *candidate)
{
    bool patch = (candidate->reference & STORE_INDEX_PATCH) != 0;
    return store_place(
        patch ? DOR_PAGE_PATCHED : DOR_PAGE_RAW, candidate->type,
        candidate->reference & STORE_INDEX_SERIAL_MAX);
}

/* Whether the stored pages from PLACE on have the digests of CUT's pages. */
static bool
digests_equal(struct job *job, const struct cut *cut, uint64_t place)
{
    struct store_page_at at;
    if (store_locate(
            job->store, job->domain, store_place_stream(place), store_place_serial(place),
            &at) != 0)
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

/*
 * Whether as many stored pages as CUT has follow each other from PLACE on, so that all can be
 * fetched.
 */
static bool
has_run(struct job *job, const struct cut *cut, uint64_t place)
{
    struct store_page_at at;
    if (cut->pages == 1)
        return can_fetch(job, place);
    if (!can_fetch(job, place) || store_locate(
                                      job->store, job->domain, store_place_stream(place),
                                      store_place_serial(place), &at) != 0)
        return false;
    const struct store_table *table = at.segment->table;
    uint64_t last = at.row + cut->pages - 1;
    return last < table->page_count &&
           table->serials[last] == store_place_serial(place) + cut->pages - 1;
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
    if (store_locate(
            job->store, job->domain, store_place_stream(place), store_place_serial(place),
            &at) != 0)
        return 0;
    return store_place(DOR_PAGE_RAW, store_place_type(place), at.segment->table->bases[at.row]);
}

/* The parent's place for the first page of CUT; 0 when it has none that CUT may use. */
static uint64_t
parent_place(const struct job *job, const struct cut *cut)
{
    uint64_t page = job->window_first + cut->page;
    if (page + cut->pages > job->parent.page_count)
        return 0;
    uint64_t place = job->parent.places[page];
    if (!store_place_is_stored(place) || (store_place_type(place) != cut->type &&
                                          !may_cross(job, cut->type, store_place_type(place))))
        return 0;
    for (unsigned i = 1; i < cut->pages; i++)
        if (job->parent.places[page + i] != place + i)
            return 0;
    return place;
}

/* The first of CANDIDATES, written before this window, whose pages have CUT's digests; or 0. */
static uint64_t
first_equal(
    struct job *job, const struct cut *cut, const struct candidate *candidates, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        uint64_t place = candidate_place(&candidates[i]);
        if (can_fetch(job, place) && digests_equal(job, cut, place))
            return place;
    }
    return 0;
}

static int
suggest_similar(struct job *job, size_t cut_index, const struct votes *votes, uint64_t parent)
{
    const struct cut *cut = &job->cuts[cut_index];
    uint64_t base = parent == 0 || cut->pages > 1 ? 0 : base_of(job, parent);
    unsigned wanted = 0;
    for (unsigned i = 0; i < votes->size && wanted < job->options->candidates; i++) {
        uint64_t place = candidate_place(&votes->similar[i]);
        if (store_place_kind(place) != DOR_PAGE_RAW || !has_run(job, cut, place))
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

int
match_suggest(struct job *job, size_t cut_index)
{
    struct cut *cut = &job->cuts[cut_index];
    struct votes votes;
    if (cut->equal_candidate == 0) {
        collect_votes(job, cut, &votes);
        cut->equal_candidate = first_equal(job, cut, votes.exact, votes.exact_size);
    }
    if (cut->equal_candidate == 0)
        cut->equal_candidate = first_equal(
            job, cut, votes.similar, (unsigned)base_min_size(votes.size, EQUAL_TRIES));
    if (cut->equal_candidate != 0)
        return want_pages(job, cut_index, cut->equal_candidate, FETCH_EQUAL);
    return job->options->similarity
               ? suggest_similar(job, cut_index, &votes, parent_place(job, cut))
               : 0;
}

/* ------------------------------------------------------------------ comparing and encoding */

/* Encode window page PAGE against BASE and keep the patch if it is the smallest so far. */
static int
try_patch(
    struct job *job, uint32_t page, const uint8_t *base_page, uint64_t base_place,
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
    *best = (struct page_patch){base_place, job->patches.size_bytes, (uint32_t)size_bytes};
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
        dor_log(
            WARN, "store", "candidate_unreadable", "place=%llx error=\"%s\"",
            (unsigned long long)place, dor_err_message());
        return 0;
    }
    /*
     * A page of the same number is either much the same or not at all: no search for shifted
     * content.
     */
    if (purpose != FETCH_EQUAL)
        return try_patch(
            job, page, stored, place,
            purpose == FETCH_PARENT ? CHUNK_PATCH_WORDS : CHUNK_PATCH_FULL);
    if (memcmp(stored, job->window + page * DOR_PAGE_BYTES, DOR_PAGE_BYTES) == 0 &&
        ++cut->equal_pages == cut->pages)
        cut->equal_place = cut->equal_candidate;
    return 0;
}

/* ------------------------------------------------------------------ the window's own pages */

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
        if (page == NULL ||
            memcmp(page, job->window + (cut->page + i) * DOR_PAGE_BYTES, DOR_PAGE_BYTES) != 0)
            return false;
    }
    return true;
}

int
match_in_window(struct job *job, struct cut *cut)
{
    struct votes votes;
    bool patched = job->page_patches[cut->page].size_bytes != 0 || !job->options->similarity;
    collect_votes(job, cut, &votes);
    for (unsigned i = 0; i < votes.exact_size; i++) {
        uint64_t place = candidate_place(&votes.exact[i]);
        if (equals_window_pages(job, cut, place)) {
            cut->equal_place = place;
            return 0;
        }
    }
    for (unsigned i = 0; i < votes.size; i++) {
        uint64_t place = candidate_place(&votes.similar[i]);
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
                          : try_patch(job, cut->page + p, base, place + p, CHUNK_PATCH_FULL);
            if (err != 0)
                return err;
        }
    }
    return 0;
}

/* ------------------------------------------------------------------ describing */

unsigned
match_page_type(const struct job *job, uint64_t window_page)
{
    if (job->put->region_types == NULL || !job->options->split_types)
        return DOR_NRT;
    return job->put->region_types[job->window_first + window_page];
}

void
match_describe(struct job *job, struct cut *cut)
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
        cut->fingerprint_count = (uint8_t)chunk_fingerprint(
            job->store->fingerprint_scratch, bytes, cut->pages, job->options->normalise,
            (unsigned)job->options->fingerprints, cut->fingerprints);
    for (unsigned type = 0; type < DOR_REGION_TYPES; type++) {
        if (type != cut->type && !may_cross(job, cut->type, type))
            continue;
        store_index_prefetch(job->indexes[type], cut->exact_key);
        for (unsigned i = 0; i < cut->fingerprint_count; i++)
            store_index_prefetch(job->indexes[type], cut->fingerprints[i]);
    }
}

int
match_suggest_base(struct job *job, size_t cut_index)
{
    struct votes votes;
    const struct cut *cut = &job->cuts[cut_index];
    collect_votes(job, cut, &votes);
    for (unsigned i = 0; i < votes.size; i++) {
        uint64_t place = candidate_place(&votes.similar[i]);
        if (store_place_kind(place) == DOR_PAGE_RAW)
            return want_pages(job, cut_index, place, FETCH_SIMILAR);
    }
    return 0;
}

int
match_fetch(struct job *job)
{
    return store_fetch(
        job->store, job->domain, job->items, job->item_count, visit_fetched, job);
}
