/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_frames.c - the table of a segment goes into frames and comes out of them the same, in
 * one or in several, for plain pages and for patches; a frame that is damaged leaves the table as
 * it was.
 */
#include "base/fault.h"
#include "store/images.h"
#include "store/table.h"

enum { LIMIT = 1 << 30 };

static struct base_random rng;
static struct chunk_coder *coder;

/* ------------------------------------------------------------------ made-up tables */

static struct store_table *
new_table(bool patches)
{
    struct store_table *table;
    if (store_table_new(patches, &table) != 0)
        bail("%s", dor_err_message());
    return table;
}

static void
must(int err)
{
    if (err != 0)
        bail("%s", dor_err_message());
}

static uint16_t
random_slides(struct store_table *table)
{
    struct chunk_slides slides = {0};
    uint16_t number = 0;
    uint64_t count = base_random_below(&rng, 6);
    for (uint64_t i = 0; i < count; i++)
        chunk_slides_add(&slides, (base_random_below(&rng, 3) << 40) + ((i + 1) << 12));
    must(store_table_add_slides(table, &slides, &number));
    return number;
}

/* One group of pages; STATE is the last serial and the end of the last group. */
static void
add_group(struct store_table *table, uint64_t *serial, uint64_t *end)
{
    bool gaps = base_random_below(&rng, 3) == 0;
    struct store_group group = {
        .offset = *end + (gaps ? base_random_below(&rng, 1000) : 0),
        .digest = base_random_next(&rng),
        .stored_bytes = 1 + (uint32_t)base_random_below(&rng, 9000),
        .first_page = (uint32_t)table->page_count,
        .page_count = (uint16_t)(1 + base_random_below(&rng, table->patches ? 60 : 16)),
        .codec = (uint8_t)base_random_below(&rng, 3)};
    if (table->patches)
        group.slides = random_slides(table);
    unsigned chunk = 0;
    for (uint32_t i = 0; i < group.page_count; i++) {
        uint32_t fingerprints[CHUNK_FINGERPRINTS_MAX];
        base_random_fill(&rng, fingerprints, sizeof fingerprints);
        *serial += 1 + (gaps ? base_random_below(&rng, 5) : 0);
        struct store_page_row row = {
            .serial = *serial,
            .digest = (uint32_t)base_random_next(&rng),
            .offset = group.plain_bytes,
            .fingerprints = fingerprints};
        if (table->patches) {
            row.base = 1 + base_random_below(&rng, gaps ? STORE_SERIAL_MAX : 5000);
            group.plain_bytes += 1 + (uint32_t)base_random_below(&rng, 1500);
        } else {
            if (chunk == 0) {
                chunk = 1 + (unsigned)base_random_below(&rng, CHUNK_PAGES_MAX);
                row.chunk_pages = (uint8_t)chunk;
                row.fingerprint_count =
                    (uint8_t)base_random_below(&rng, CHUNK_FINGERPRINTS_MAX + 1);
            }
            chunk--;
            group.plain_bytes += (uint32_t)DOR_PAGE_BYTES;
        }
        must(store_table_add_page(table, &row));
    }
    must(store_table_add_group(table, &group));
    *end = group.offset + group.stored_bytes;
}

static struct store_table *
random_table(bool patches, unsigned groups)
{
    struct store_table *table = new_table(patches);
    uint64_t serial = base_random_below(&rng, 3) == 0 ? 0 : base_random_below(&rng, 1u << 30);
    uint64_t end = 48;
    for (unsigned i = 0; i < groups; i++)
        add_group(table, &serial, &end);
    return table;
}

/* ------------------------------------------------------------------ comparing */

static bool
same_slides(
    const struct store_table *left, unsigned l, const struct store_table *right, unsigned r)
{
    if (l == 0 || r == 0)
        return l == r;
    const struct chunk_slides *a = &left->slides[l - 1];
    const struct chunk_slides *b = &right->slides[r - 1];
    return a->count == b->count &&
           memcmp(a->slide, b->slide, a->count * sizeof a->slide[0]) == 0 &&
           memcmp(a->bucket, b->bucket, sizeof a->bucket) == 0;
}

static bool
same_group(const struct store_table *left, const struct store_table *right, uint64_t i)
{
    const struct store_group *a = &left->groups[i];
    const struct store_group *b = &right->groups[i];
    return a->offset == b->offset && a->digest == b->digest &&
           a->stored_bytes == b->stored_bytes && a->plain_bytes == b->plain_bytes &&
           a->first_page == b->first_page && a->page_count == b->page_count &&
           a->codec == b->codec && same_slides(left, a->slides, right, b->slides);
}

static bool
same_column(const void *left, const void *right, uint64_t count, size_t element_bytes)
{
    return count == 0 || memcmp(left, right, count * element_bytes) == 0;
}

static bool
same_table(const struct store_table *a, const struct store_table *b)
{
    if (a->page_count != b->page_count || a->group_count != b->group_count ||
        a->fingerprint_count != b->fingerprint_count)
        return false;
    for (uint64_t i = 0; i < a->group_count; i++)
        if (!same_group(a, b, i))
            return false;
    uint64_t pages = a->page_count;
    bool same = same_column(a->serials, b->serials, pages, sizeof *a->serials) &&
                same_column(a->digests, b->digests, pages, sizeof *a->digests) &&
                same_column(a->offsets, b->offsets, pages, sizeof *a->offsets);
    if (a->patches)
        return same && same_column(a->bases, b->bases, pages, sizeof *a->bases);
    return same && same_column(a->chunk_pages, b->chunk_pages, pages, 1) &&
           same_column(a->fingerprint_counts, b->fingerprint_counts, pages, 1) &&
           same_column(
               a->fingerprints, b->fingerprints, a->fingerprint_count, sizeof *a->fingerprints);
}

/* ------------------------------------------------------------------ there and back */

static void
encode(const struct store_table *table, uint64_t first_group, struct base_buf *buf)
{
    buf->size_bytes = 0;
    must(store_frame_encode(table, first_group, coder, buf));
}

static int
decode(struct store_table *table, const struct base_buf *buf, uint64_t limit)
{
    AUTO_FREE uint8_t *exact = exact_copy(buf->data, buf->size_bytes);
    return store_frame_decode(table, exact, buf->size_bytes, limit, coder, "made up");
}

static void
test_one_frame(bool patches)
{
    unsigned wrong = 0;
    for (int round = 0; round < 60; round++) {
        AUTO_BUF struct base_buf buf = {0};
        struct store_table *table =
            random_table(patches, 1 + (unsigned)base_random_below(&rng, 40));
        struct store_table *back = new_table(patches);
        uint64_t frame_bytes = 0;
        encode(table, 0, &buf);
        wrong += !store_frame_probe(buf.data, buf.size_bytes, &frame_bytes) ||
                 frame_bytes != buf.size_bytes;
        wrong += decode(back, &buf, LIMIT) != 0 || !same_table(table, back);
        store_table_free(table);
        store_table_free(back);
    }
    is_int(wrong, 0, "%s: tables come back from one frame", patches ? "patches" : "plain");
}

/* As a segment grows: after each batch of groups a frame for them. */
static void
test_many_frames(bool patches)
{
    unsigned wrong = 0;
    for (int round = 0; round < 30; round++) {
        AUTO_BUF struct base_buf buf = {0};
        struct store_table *table = new_table(patches);
        struct store_table *back = new_table(patches);
        uint64_t serial = 7;
        uint64_t end = 48;
        for (int frame = 0; frame < 8; frame++) {
            uint64_t first_group = table->group_count;
            for (uint64_t n = 1 + base_random_below(&rng, 6); n > 0; n--)
                add_group(table, &serial, &end);
            encode(table, first_group, &buf);
            wrong += decode(back, &buf, end) != 0 || !same_table(table, back);
            end += buf.size_bytes;
        }
        store_table_free(table);
        store_table_free(back);
    }
    is_int(wrong, 0, "%s: tables grow frame by frame", patches ? "patches" : "plain");
}

static void
test_look_up(bool patches)
{
    struct store_table *table = random_table(patches, 50);
    unsigned wrong = 0;
    uint64_t row = 0;
    for (uint64_t serial = 0; serial <= table->serials[table->page_count - 1] + 2; serial++) {
        if (serial + 10 < table->serials[0])
            serial = table->serials[0] - 10;
        bool there = row < table->page_count && table->serials[row] == serial;
        wrong += store_table_find(table, serial) != (there ? row : UINT64_MAX);
        if (!there)
            continue;
        const struct store_group *group = store_table_group(table, row);
        wrong += row < group->first_page || row - group->first_page >= group->page_count;
        uint32_t bytes = store_table_page_bytes(table, group, row);
        wrong += bytes == 0 || table->offsets[row] + bytes > group->plain_bytes;
        row++;
    }
    is_int(wrong, 0, "%s: each serial is found, no other is", patches ? "patches" : "plain");
    is_int(row, table->page_count, "all %d", (int)row);
    ok(store_table_bytes(table) > row * 16, "the table knows its size");
    store_table_free(table);
    store_table_free(NULL);
}

/* ------------------------------------------------------------------ damage */

static void
test_damage(bool patches)
{
    AUTO_BUF struct base_buf buf = {0};
    struct store_table *table = random_table(patches, 6);
    struct store_table *back = new_table(patches);
    unsigned accepted = 0;
    encode(table, 0, &buf);
    for (size_t at = 0; at < buf.size_bytes; at++) {
        buf.data[at] ^= (uint8_t)(1u << base_random_below(&rng, 8));
        int err = decode(back, &buf, LIMIT);
        accepted += err != DOR_E_CORRUPT && !(err == DOR_E_UNSUPPORTED && at == 4);
        encode(table, 0, &buf);
    }
    is_int(accepted, 0, "%s: each changed byte is seen", patches ? "patches" : "plain");
    size_t whole = buf.size_bytes;
    for (; buf.size_bytes > 0; buf.size_bytes--)
        if (buf.size_bytes < whole)
            accepted += decode(back, &buf, LIMIT) != DOR_E_CORRUPT;
    is_int(accepted, 0, "each cut too");
    is_int(back->page_count + back->group_count, 0, "and the table is left as it was");
    encode(table, 0, &buf);
    must(decode(back, &buf, LIMIT));
    ok(same_table(table, back), "then a good frame is read");
    is_int(decode(back, &buf, LIMIT), DOR_E_CORRUPT, "but not twice: serials overlap");
    ok(same_table(table, back), "which changes nothing");
    store_table_free(back);
    back = new_table(!patches);
    is_int(decode(back, &buf, LIMIT), DOR_E_CORRUPT, "nor for a table of the other kind");
    store_table_free(back);
    back = new_table(patches);
    const struct store_group *last = &table->groups[table->group_count - 1];
    uint64_t end = last->offset + last->stored_bytes;
    is_int(decode(back, &buf, end - 1), DOR_E_CORRUPT, "nor when a group is not in the file");
    is_ok(decode(back, &buf, end), "which ends just there");
    store_table_free(back);
    store_table_free(table);
}

static void
test_no_memory(bool patches)
{
    AUTO_BUF struct base_buf buf = {0};
    struct store_table *table = random_table(patches, 30);
    unsigned wrong = 0;
    uint64_t nth = 0;
    do {
        struct store_table *back = new_table(patches);
        AUTO_BUF struct base_buf again = {0};
        base_fault_arm(FAULT_ALLOC, ++nth, 0);
        int err = store_frame_encode(table, 0, coder, &again);
        if (err == 0)
            err =
                store_frame_decode(back, again.data, again.size_bytes, LIMIT, coder, "made up");
        base_fault_arm(FAULT_NONE, 0, 0);
        wrong += err != (base_fault_fired() ? DOR_E_NO_MEMORY : 0);
        if (err != 0) {
            wrong += back->page_count != 0 || back->group_count != 0;
            encode(table, 0, &buf);
            wrong += decode(back, &buf, LIMIT) != 0;
        }
        wrong += !same_table(table, back);
        store_table_free(back);
    } while (base_fault_fired());
    is_int(
        wrong, 0, "%s: each of %d allocations may fail", patches ? "patches" : "plain",
        (int)nth - 1);
    store_table_free(table);
}

static void
test_slide_tables(void)
{
    struct store_table *table = new_table(true);
    struct chunk_slides slides = {0};
    uint16_t number = 99;
    is_ok(store_table_add_slides(table, &slides, &number), "an empty slide table");
    is_int(number, 0, "is none");
    unsigned wrong = 0;
    for (uint64_t i = 0; i < 200; i++) {
        slides = (struct chunk_slides){0};
        chunk_slides_add(&slides, (i + 1) << 12);
        wrong += store_table_add_slides(table, &slides, &number) != 0 || number != i + 1;
    }
    is_int(wrong, 0, "others are numbered");
    is_ok(store_table_add_slides(table, &slides, &number), "one that is there");
    is_int(number, 200, "keeps its number");
    /* As full as can be, without the time it takes. */
    table->slides = base_realloc_array(table->slides, STORE_SLIDE_TABLES_MAX, sizeof slides);
    if (table->slides == NULL)
        bail("%s", dor_err_message());
    for (; table->slides_count < STORE_SLIDE_TABLES_MAX; table->slides_count++)
        table->slides[table->slides_count] = (struct chunk_slides){.count = 1, .slide = {1}};
    chunk_slides_add(&slides, 5);
    is_int(store_table_add_slides(table, &slides, &number), DOR_E_NO_SPACE, "one too many");
    store_table_free(table);
}

int
main(void)
{
    base_random_init(&rng, tap_seed());
    must(chunk_coder_new(&coder));
    for (int patches = 0; patches <= 1; patches++) {
        test_one_frame(patches);
        test_many_frames(patches);
        test_look_up(patches);
        test_damage(patches);
        test_no_memory(patches);
    }
    test_slide_tables();
    chunk_coder_free(coder);
    return done_testing();
}
