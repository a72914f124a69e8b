/* SPDX-License-Identifier: Apache-2.0 */
/*
 * match_roots.c - pages of a new image that are blocks of root images.
 *
 * A page's digest names a block; after a page that was block b the next one is first thought to be
 * block b + 1, so that runs stay runs. All blocks that a window asks for are read together, in
 * their order, and a page becomes a reference only after a compare of all its bytes.
 */
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/size.h"
#include "chunk/digest.h"
#include "store/put_priv.h"
#include "store/root.h"

static bool
is_for_job(const struct job *job, const struct dor_root_info *info)
{
    return info->domain[0] == 0 ||
           strcmp(info->domain, job->store->catalog->domains[job->domain].name) == 0;
}

int
match_roots_begin(struct job *job)
{
    struct store_catalog *catalog = job->store->catalog;
    job->roots = base_array(catalog->root_count + 1, sizeof(struct store_root_entry *));
    if (job->roots == NULL)
        return DOR_E_NO_MEMORY;
    for (size_t i = 0; i < catalog->root_count; i++) {
        struct store_root_entry *entry = &catalog->roots[i];
        if (!is_for_job(job, &entry->info))
            continue;
        int err = store_root_open(job->store, entry);
        if (err == 0)
            err = store_root_index(entry, job->options->index_bytes_max);
        if (err == DOR_E_NO_MEMORY)
            return err;
        /* A put needs no root image; without one it stores more. */
        if (err != 0)
            dor_log(WARN, "store", "root_unusable", "error=\"%s\"", dor_err_message());
        else
            job->roots[job->root_count++] = entry;
    }
    return 0;
}

/* The reference that a page with DIGEST may be, 0 when no image has such a block. */
static uint64_t
find_reference(const struct job *job, uint64_t digest, uint64_t hint)
{
    for (size_t i = 0; i < job->root_count; i++) {
        const struct store_root_entry *entry = job->roots[i];
        bool hinted = hint != 0 && store_place_root(hint) == entry->info.id;
        uint64_t next = hinted ? store_place_block(hint) + 1 : UINT64_MAX;
        uint64_t block = store_root_find(entry, digest, next);
        if (block != UINT64_MAX)
            return store_root_place(DOR_NRT, entry->info.id, block);
    }
    return 0;
}

bool
match_roots_know(struct job *job, const uint8_t *bytes)
{
    return job->root_count > 0 &&
           find_reference(job, chunk_digest(bytes, DOR_PAGE_BYTES), 0) != 0;
}

static int
visit_block(void *context, uint64_t tag, uint64_t place, const uint8_t *block)
{
    struct job *job = context;
    if (block == NULL) {
        /* What cannot be read is not referred to: the page is stored. */
        dor_log(WARN, "store", "block_unreadable", "error=\"%s\"", dor_err_message());
        return 0;
    }
    if (memcmp(block, job->window + tag * DOR_PAGE_BYTES, DOR_PAGE_BYTES) != 0)
        return 0;
    job->content[tag] = SLOT_ROOT;
    job->places[job->window_first + tag] = store_root_place(
        match_page_type(job, tag), store_place_root(place), store_place_block(place));
    return 0;
}

int
match_roots(struct job *job)
{
    size_t count = 0;
    if (job->root_count == 0)
        return 0;
    for (uint64_t page = 0; page < job->window_pages; page++) {
        if (job->content[page] != SLOT_DATA)
            continue;
        uint64_t digest = chunk_digest(job->window + page * DOR_PAGE_BYTES, DOR_PAGE_BYTES);
        uint64_t place = find_reference(job, digest, job->root_hint);
        if (place == 0)
            continue;
        job->root_hint = place;
        job->root_items[count++] = (struct store_fetch_item){place, page};
    }
    return store_root_fetch(job->store, job->root_items, count, visit_block, job);
}
