/* SPDX-License-Identifier: Apache-2.0 */
/*
 * put_priv.h - one put under way, shared by put.c (order and commit), put_source.c (what it is
 * given), match.c and match_roots.c (what a chunk equals or resembles).
 *
 * Ownership:  put.c makes and frees a job; match.c only fills it.
 * Threads:    as the store.
 * Errors:     any of reading and writing; the caller rolls back.
 */
#ifndef DOR_STORE_PUT_PRIV_H
#define DOR_STORE_PUT_PRIV_H

#include "chunk/fingerprint.h"
#include "chunk/patch.h"
#include "store/fetch.h"
#include "store/recipe.h"
#include "store/writer.h"

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
    uint64_t base_place;
    uint64_t offset;     /* in the patches' buffer */
    uint32_t size_bytes; /* 0 = none */
};

/*
 * New pages of this window, by serial number since its start; those before written_end can be
 * fetched.
 */
struct window_stream {
    uint64_t written_end;
    uint64_t first_serial;
    uint32_t *pages; /* window page of each */
    uint64_t count;
};

/* What a page of the window is. */
enum {
    SLOT_ZERO = 0,
    SLOT_DATA,
    SLOT_PARENT, /* in a diff: as in the parent */
    SLOT_ROOT    /* found in a root image, with its place noted */
};

struct job {
    struct dor_store *store;
    const struct dor_put *put;
    struct dor_page_source source;
    const struct store_options *options;
    uint32_t domain;
    struct store_writer *writer;
    uint64_t page_count;
    uint64_t *places;
    uint8_t *types;             /* of the pages; matches may be stored under another */
    struct store_recipe parent; /* empty when there is none */
    uint64_t generation;        /* of the parent, at the end of the new snapshot */
    struct store_index *indexes[DOR_REGION_TYPES];
    struct chunk_slides slides;
    size_t sample_count,
        known_count; /* pages of the sample, and those that something resembles */
    struct dor_put_result result;
    /* the window */
    uint64_t window_first; /* page of the image */
    uint64_t window_pages, window_cap;
    uint8_t *window;
    uint8_t *content; /* per page: zero, data or (in a diff) as in the parent */
    uint32_t *digests;
    struct cut *cuts;
    size_t cut_count;
    struct page_patch *page_patches;
    struct base_buf patches;
    struct window_stream streams[STORE_STREAMS];
    struct store_fetch_item *items;
    size_t item_count, item_cap;
    struct store_root_entry **roots; /* images that the put may refer to */
    size_t root_count;
    uint64_t root_hint; /* the latest reference found */
    struct store_fetch_item *root_items;
};

/* Whether the put of JOB as NAME makes sense; its source and page count. */
DOR_MUST_CHECK int put_check(const struct dor_store *store, const char *name, struct job *job);

/* Make the root images of the job's domain ready; those that are gone or changed are left out. */
DOR_MUST_CHECK int match_roots_begin(struct job *job);
/* Pages of the window that are equal to blocks of root images get their places. */
DOR_MUST_CHECK int match_roots(struct job *job);
/* Whether a root image seems to have the page BYTES. */
bool match_roots_know(struct job *job, const uint8_t *bytes);

unsigned match_page_type(const struct job *job, uint64_t window_page);

/* Digests of CUT's pages, and its fingerprints unless the parent's pages have the same digests. */
void match_describe(struct job *job, struct cut *cut);
/* Ask for the stored pages that chunk CUT_INDEX seems to equal, else for those it resembles. */
DOR_MUST_CHECK int match_suggest(struct job *job, size_t cut_index);
/* Ask for the most voted plain page of chunk CUT_INDEX, if there is one. */
DOR_MUST_CHECK int match_suggest_base(struct job *job, size_t cut_index);
/* Fetch all that was asked for: compare equals, encode against similars. */
DOR_MUST_CHECK int match_fetch(struct job *job);
/* Look among the window's own new pages for an equal chunk or, where there is no patch, a base. */
DOR_MUST_CHECK int match_in_window(struct job *job, struct cut *cut);

/* Which chunk of the window a fetched page was asked for. */
static inline size_t
match_tag_cut(uint64_t tag)
{
    return tag >> 8;
}

#endif
