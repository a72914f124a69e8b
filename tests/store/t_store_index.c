/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_index.c - the index finds what was entered, before and after it is built anew, and stays
 * within its memory: 24 bytes a stored page and a mebibyte, or what the option says.
 */
#include "base/fault.h"
#include "store/images.h"
#include "store/index.h"

static struct base_random rng;

static void
must(int err)
{
    if (err != 0)
        bail("%s", dor_err_message());
}

/* ------------------------------------------------------------------ made-up tables */

/* Chunk of one page with COUNT fingerprints. */
static void
add_page(struct store_table *table, uint64_t serial, unsigned count)
{
    uint32_t fingerprints[CHUNK_FINGERPRINTS_MAX];
    base_random_fill(&rng, fingerprints, sizeof fingerprints);
    struct store_page_row row = {
        .serial = serial,
        .digest = (uint32_t)base_random_next(&rng),
        .base = 1,
        .chunk_pages = 1,
        .fingerprint_count = (uint8_t)count,
        .fingerprints = fingerprints};
    must(store_table_add_page(table, &row));
}

static struct store_table *
make_table(bool patches, uint64_t pages, unsigned fingerprints)
{
    struct store_table *table;
    must(store_table_new(patches, &table));
    for (uint64_t i = 0; i < pages; i++)
        add_page(table, i + 1, patches ? 0 : fingerprints);
    return table;
}

static struct store_index *
build(uint64_t bytes_max, const struct store_table *const *tables, size_t count)
{
    struct store_index *index;
    uint64_t entries = 0;
    for (size_t i = 0; i < count; i++)
        entries += tables[i]->page_count + tables[i]->fingerprint_count;
    must(store_index_new(bytes_max, &index));
    must(store_index_begin(index, entries));
    for (size_t i = 0; i < count; i++)
        store_index_measure(index, tables[i]);
    must(store_index_settle(index));
    for (size_t i = 0; i < count; i++)
        store_index_fill(index, tables[i]);
    store_index_ready(index);
    return index;
}

static bool
finds(const struct store_index *index, uint32_t key, uint32_t reference)
{
    uint32_t found[STORE_INDEX_REFS_MAX];
    unsigned count = store_index_find(index, key, found);
    for (unsigned i = 0; i < count; i++)
        if (found[i] == reference)
            return true;
    return false;
}

/* Keys of the table that do not lead to their page. */
static uint64_t
count_missing(const struct store_index *index, const struct store_table *table)
{
    uint64_t missing = 0;
    const uint32_t *fingerprint = table->fingerprints;
    for (uint64_t i = 0; i < table->page_count; i++) {
        uint32_t reference = (uint32_t)table->serials[i];
        unsigned count = table->patches ? 0 : table->fingerprint_counts[i];
        for (unsigned f = 0; f < count; f++)
            missing += !finds(index, *fingerprint++, reference);
        if (table->patches)
            reference |= STORE_INDEX_PATCH;
        if (count < 4)
            missing += !finds(index, store_index_exact_key(&table->digests[i], 1), reference);
    }
    return missing;
}

/* ------------------------------------------------------------------ finding */

/* Tags have 8 bits, so now and then five keys of a run look alike and one is left out. */
static void
test_finds_settled(void)
{
    static const uint64_t sizes[] = {1, 5, 100, 5000, 60000};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct store_table *raw = make_table(false, sizes[i], 4);
        struct store_table *patches = make_table(true, sizes[i], 0);
        const struct store_table *both[] = {raw, patches};
        struct store_index *index = build(UINT64_C(1) << 30, both, 2);
        uint64_t missing = count_missing(index, raw) + count_missing(index, patches);
        ok(missing * 1000 <= sizes[i] * 5, "%d pages of each kind: %d of %d keys are lost",
           (int)sizes[i], (int)missing, (int)sizes[i] * 5);
        store_index_free(index);
        store_table_free(raw);
        store_table_free(patches);
    }
}

static void
test_finds_recent(void)
{
    struct store_table *table = make_table(false, 3000, 4);
    struct store_table *few = make_table(false, 500, 2);
    struct store_index *index;
    must(store_index_new(UINT64_C(1) << 30, &index));
    uint32_t found[STORE_INDEX_REFS_MAX];
    is_int(store_index_find(index, 1, found), 0, "an empty index finds nothing");
    store_index_prefetch(index, 1);
    const struct store_table *tables[] = {table, few};
    uint32_t offsets[] = {0, 0};
    for (size_t t = 0; t < 2; t++)
        for (uint64_t i = 0; i < tables[t]->page_count; i++) {
            unsigned count = tables[t]->fingerprint_counts[i];
            must(store_index_add(
                index, (uint32_t)tables[t]->serials[i],
                store_index_exact_key(&tables[t]->digests[i], 1),
                tables[t]->fingerprints + offsets[t], count));
            offsets[t] += count;
        }
    is_int(count_missing(index, table), 0, "what was added is found");
    is_int(count_missing(index, few), 0, "pages with few fingerprints by their digest too");
    uint32_t digest = 77;
    must(store_index_add(
        index, 99 | STORE_INDEX_PATCH, store_index_exact_key(&digest, 1), NULL, 0));
    ok(finds(index, store_index_exact_key(&digest, 1), 99 | STORE_INDEX_PATCH),
       "patches are found");
    store_index_free(index);
    store_index_free(NULL);
    store_table_free(table);
    store_table_free(few);
}

/* A key that thousands of pages share says nothing: few are kept, and the rest costs nothing. */
static void
test_common_key(void)
{
    struct store_table *table;
    uint32_t found[STORE_INDEX_REFS_MAX + 1];
    must(store_table_new(false, &table));
    uint32_t same[4] = {5, 5, 5, 5};
    for (uint64_t i = 0; i < 20000; i++) {
        struct store_page_row row = {
            .serial = i + 1,
            .digest = 9,
            .chunk_pages = 1,
            .fingerprint_count = 4,
            .fingerprints = same};
        must(store_table_add_page(table, &row));
    }
    const struct store_table *tables[] = {table};
    struct store_index *index = build(UINT64_C(1) << 30, tables, 1);
    is_int(
        store_index_find(index, 5, found), STORE_INDEX_REFS_MAX, "a common key has few pages");
    uint64_t before = store_index_bytes(index);
    for (uint32_t i = 0; i < 20000; i++)
        must(store_index_add(index, 30000 + i, 9, same, 4));
    is_int(store_index_find(index, 5, found), STORE_INDEX_REFS_MAX, "also when more are added");
    ok(store_index_bytes(index) < before + 700000, "which needs %d bytes",
       (int)(store_index_bytes(index) - before));
    store_index_free(index);
    store_table_free(table);
}

static void
test_exact_key(void)
{
    const uint32_t a[] = {1, 2, 3};
    const uint32_t b[] = {1, 2, 4};
    const uint32_t c[] = {2, 1, 3};
    ok(store_index_exact_key(a, 3) != store_index_exact_key(b, 3), "another page, another key");
    ok(store_index_exact_key(a, 3) != store_index_exact_key(c, 3), "the order counts");
    ok(store_index_exact_key(a, 2) == store_index_exact_key(b, 2),
       "and no page after the last");
}

/* ------------------------------------------------------------------ memory */

static void
test_settled_memory(void)
{
    static const uint64_t sizes[] = {1000, 33000, 100000, 263000};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct store_table *raw = make_table(false, sizes[i] * 3 / 4, 4);
        struct store_table *patches = make_table(true, sizes[i] / 4, 0);
        const struct store_table *both[] = {raw, patches};
        struct store_index *index = build(UINT64_C(1) << 30, both, 2);
        uint64_t bytes = store_index_bytes(index);
        ok(bytes <= sizes[i] * 24 + (1 << 20), "%d pages take %d bytes, %.1f a page",
           (int)sizes[i], (int)bytes, (double)bytes / (double)sizes[i]);
        store_index_free(index);
        store_table_free(raw);
        store_table_free(patches);
    }
}

/* As put does: pages are added window by window, and the index built anew when it wants that. */
static void
test_growing_memory(void)
{
    enum { WINDOW_PAGES = 1024, WINDOWS = 200 };
    struct store_table *table = make_table(false, 1, 4);
    const struct store_table *tables[] = {table};
    struct store_index *index = build(UINT64_C(1) << 30, tables, 1);
    uint64_t worst = 0;
    for (int window = 0; window < WINDOWS; window++) {
        for (int i = 0; i < WINDOW_PAGES; i++) {
            uint64_t first = table->fingerprint_count;
            add_page(table, table->page_count + 1, 4);
            must(store_index_add(
                index, (uint32_t)table->page_count,
                store_index_exact_key(&table->digests[table->page_count - 1], 1),
                table->fingerprints + first, 4));
        }
        uint64_t bytes = store_index_bytes(index);
        uint64_t allowed = table->page_count * 24 + (1 << 20);
        worst = bytes > allowed && bytes - allowed > worst ? bytes - allowed : worst;
        if (store_index_wants_rebuild(index)) {
            store_index_free(index);
            index = build(UINT64_C(1) << 30, tables, 1);
        }
    }
    is_int(
        worst, 0, "while %d pages are added: bytes beyond 24 a page and a mebibyte",
        (int)table->page_count);
    store_index_free(index);
    store_table_free(table);
}

static void
test_bytes_max(void)
{
    static const uint64_t limits[] = {65536, 100000, 1 << 20, 3 << 20};
    struct store_table *table = make_table(false, 100000, 4);
    const struct store_table *tables[] = {table};
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        struct store_index *index = build(limits[i], tables, 1);
        uint64_t missing = count_missing(index, table);
        uint64_t bytes = store_index_bytes(index);
        ok(bytes <= limits[i], "limit %d: %d bytes", (int)limits[i], (int)bytes);
        ok(missing < 400000, "and %d keys of 400000 are found", (int)(400000 - missing));
        for (uint32_t r = 1; r < 50000; r++) {
            uint32_t keys[4];
            base_random_fill(&rng, keys, sizeof keys);
            must(store_index_add(index, r, 1, keys, 4));
        }
        bytes = store_index_bytes(index);
        ok(bytes <= limits[i], "still %d bytes when more is added", (int)bytes);
        store_index_free(index);
    }
    store_table_free(table);
}

static void
test_no_memory(void)
{
    struct store_table *table = make_table(false, 100, 4);
    unsigned wrong = 0;
    uint64_t nth = 0;
    do {
        struct store_index *index = NULL;
        base_fault_arm(FAULT_ALLOC, ++nth, 0);
        int err = store_index_new(1 << 20, &index);
        if (err == 0)
            err = store_index_begin(index, 500);
        if (err == 0) {
            store_index_measure(index, table);
            err = store_index_settle(index);
        }
        if (err == 0) {
            store_index_fill(index, table);
            store_index_ready(index);
        }
        for (uint32_t i = 1; i < 2000 && err == 0; i++)
            err = store_index_add(index, i, i, &(uint32_t){i * 77}, 1);
        base_fault_arm(FAULT_NONE, 0, 0);
        /* Shrinking may fail without harm. */
        wrong += err != 0 && (err != DOR_E_NO_MEMORY || !base_fault_fired());
        wrong += err == 0 && count_missing(index, table) > 2;
        store_index_free(index);
    } while (base_fault_fired());
    is_int(wrong, 0, "each of %d allocations may fail", (int)nth - 1);
    store_table_free(table);
}

int
main(void)
{
    base_random_init(&rng, tap_seed());
    test_finds_settled();
    test_finds_recent();
    test_common_key();
    test_exact_key();
    test_settled_memory();
    test_growing_memory();
    test_bytes_max();
    test_no_memory();
    return done_testing();
}
