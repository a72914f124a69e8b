/* SPDX-License-Identifier: Apache-2.0 */
/*
 * usage.c - bitmaps over serial numbers. A page is 4 KiB, its bit is a bit: a terabyte of
 * unique pages is marked in 32 MiB, whatever the number of snapshots.
 */
#include "store/usage.h"

#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"

int
store_usage_init(struct store_usage *usage, const struct dor_store *store, uint32_t domain)
{
    memset(usage, 0, sizeof *usage);
    for (unsigned i = 0; i < STORE_STREAMS; i++) {
        uint64_t count = store->catalog->domains[domain].next_serial[i];
        usage->bits[i] = base_array(count / 64 + 1, sizeof *usage->bits[i]);
        if (usage->bits[i] == NULL) {
            store_usage_fini(usage);
            return DOR_E_NO_MEMORY;
        }
        usage->bit_count[i] = count;
    }
    return 0;
}

void
store_usage_fini(struct store_usage *usage)
{
    for (unsigned i = 0; i < STORE_STREAMS; i++)
        base_free(usage->bits[i]);
    memset(usage, 0, sizeof *usage);
}

void
store_usage_mark_recipe(struct store_usage *usage, const struct store_recipe *recipe)
{
    for (uint64_t i = 0; i < recipe->page_count; i++) {
        uint64_t place = recipe->places[i];
        if (store_place_is_stored(place))
            store_usage_mark(usage, store_place_stream(place), store_place_serial(place));
    }
}

int
store_usage_mark_bases(
    struct store_usage *usage, struct dor_store *store, uint32_t domain, unsigned type,
    bool marked_only, bool lenient)
{
    unsigned raw = type * STORE_STREAM_KINDS + STORE_STREAM_RAW;
    unsigned patch = type * STORE_STREAM_KINDS + STORE_STREAM_PATCH;
    struct store_segment_entry *first;
    size_t count = store_catalog_stream(store->catalog, domain, patch, &first);
    for (size_t i = 0; i < count; i++) {
        int err = store_segment_load(store, &first[i]);
        if (err != 0 && lenient && err != DOR_E_NO_MEMORY)
            continue;
        if (err != 0)
            return err;
        const struct store_table *table = first[i].loaded->table;
        for (uint64_t row = 0; row < table->page_count; row++)
            if (!marked_only || store_usage_has(usage, patch, table->serials[row]))
                store_usage_mark(usage, raw, table->bases[row]);
    }
    return 0;
}
