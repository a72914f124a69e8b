/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_places.c - the list of a snapshot's places as bytes: whatever list goes in comes out, it
 * is small, and bytes that no list makes are refused.
 */
#include "base/err.h"
#include "base/fault.h"
#include "store/images.h"
#include "store/recipe.h"
#include "store/root.h"
#include "store/wire.h"

enum { PAGES_MAX = 3000 };

static struct base_random rng;

/* ------------------------------------------------------------------ lists of many kinds */

static unsigned
random_stream(void)
{
    return (unsigned)base_random_below(&rng, STORE_STREAMS);
}

static uint64_t
random_zero(void)
{
    return store_place(DOR_PAGE_ZERO, (unsigned)base_random_below(&rng, DOR_REGION_TYPES), 0);
}

/* Any place at all. */
static void
make_wild(uint64_t *places, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t serial = 1 + base_random_below(&rng, STORE_SERIAL_MAX);
        places[i] = base_random_below(&rng, 4) == 0
                        ? random_zero()
                        : store_stream_place(random_stream(), serial);
    }
}

/* Runs side by side: what an image that was put into a store with others looks like. */
static void
make_usual(uint64_t *places, size_t count)
{
    uint64_t cursors[12];
    for (size_t i = 0; i < ARRAY_LEN(cursors); i++)
        cursors[i] = store_stream_place(random_stream(), 1 + base_random_below(&rng, 100000));
    for (size_t i = 0; i < count;) {
        uint64_t *cursor = &cursors[base_random_below(&rng, ARRAY_LEN(cursors))];
        uint64_t length = 1 + base_random_below(&rng, 9);
        bool zero = base_random_below(&rng, 3) == 0;
        uint64_t zero_place = random_zero();
        if (base_random_below(&rng, 10) == 0)
            *cursor = store_stream_place(random_stream(), 1 + base_random_below(&rng, 100000));
        for (; length > 0 && i < count; length--)
            places[i++] = zero ? zero_place : (*cursor)++;
    }
}

/* Every page jumps: the worst there is, in a store of up to 2^SERIAL_BITS pages. */
static void
make_scattered(uint64_t *places, size_t count, unsigned serial_bits)
{
    for (size_t i = 0; i < count; i++)
        places[i] = store_stream_place(
            random_stream(), 1 + base_random_below(&rng, UINT64_C(1) << serial_bits));
}

/* The ends of what serial numbers may be, and repeats. */
static void
make_edges(uint64_t *places, size_t count)
{
    static const uint64_t serials[] = {1, 2, STORE_SERIAL_MAX - 1, STORE_SERIAL_MAX};
    for (size_t i = 0; i < count; i++) {
        uint64_t serial = serials[base_random_below(&rng, ARRAY_LEN(serials))];
        places[i] = base_random_below(&rng, 8) == 0
                        ? random_zero()
                        : store_stream_place(random_stream(), serial);
    }
}

/* Runs of blocks of a few root images between stored pages, up to the last block there can be. */
static void
make_references(uint64_t *places, size_t count)
{
    for (size_t i = 0; i < count;) {
        uint32_t id = 1 + (uint32_t)base_random_below(&rng, 3);
        unsigned type = (unsigned)base_random_below(&rng, DOR_REGION_TYPES);
        uint64_t block = base_random_below(&rng, 2) == 0
                             ? base_random_below(&rng, 100000)
                             : STORE_ROOT_BLOCKS_MAX - 1 - base_random_below(&rng, 20);
        for (uint64_t run = base_random_below(&rng, 30);
             run > 0 && i < count && block < STORE_ROOT_BLOCKS_MAX; run--)
            places[i++] = store_root_place(type, id, block++);
        if (i < count)
            places[i++] = store_stream_place(0, 1 + base_random_below(&rng, 1000));
    }
}

static void
make_list(unsigned kind, uint64_t *places, size_t count)
{
    if (kind == 0)
        make_wild(places, count);
    else if (kind == 1)
        make_usual(places, count);
    else if (kind == 2)
        make_scattered(places, count, 1 + (unsigned)base_random_below(&rng, 30));
    else if (kind == 3)
        make_edges(places, count);
    else
        make_references(places, count);
}

/* ------------------------------------------------------------------ there and back */

static void
encode(const uint64_t *places, size_t count, struct base_buf *buf)
{
    buf->size_bytes = 0;
    if (store_places_encode(places, count, buf) != 0)
        bail("%s", dor_err_message());
}

static void
test_round_trip(void)
{
    static const char *const names[] = {
        "wild", "usual", "scattered", "at the edges", "references"};
    static uint64_t places[PAGES_MAX];
    static uint64_t back[PAGES_MAX];
    AUTO_BUF struct base_buf buf = {0};
    for (unsigned kind = 0; kind < ARRAY_LEN(names); kind++) {
        unsigned wrong = 0;
        for (int round = 0; round < 100; round++) {
            size_t count = 1 + base_random_below(&rng, round < 50 ? 20 : PAGES_MAX);
            make_list(kind, places, count);
            encode(places, count, &buf);
            memset(back, 0xee, sizeof back);
            AUTO_FREE uint8_t *exact = exact_copy(buf.data, buf.size_bytes);
            wrong += store_places_decode(exact, buf.size_bytes, back, count) != 0 ||
                     memcmp(back, places, count * sizeof *places) != 0;
        }
        is_int(wrong, 0, "lists that are %s come back", names[kind]);
    }
}

static void
test_size(void)
{
    static uint64_t places[PAGES_MAX];
    AUTO_BUF struct base_buf buf = {0};
    make_scattered(places, PAGES_MAX, 35);
    encode(places, PAGES_MAX, &buf);
    ok(buf.size_bytes <= PAGES_MAX * 8,
       "a page costs at most 8 bytes: %.2f in a store of 128 TiB",
       (double)buf.size_bytes / PAGES_MAX);
    for (size_t i = 0; i < PAGES_MAX; i++)
        places[i] = store_stream_place(0, 1000 + i);
    encode(places, PAGES_MAX, &buf);
    ok(buf.size_bytes < 16, "a run of %d pages costs %zu bytes", PAGES_MAX, buf.size_bytes);
    memset(places, 0, sizeof places);
    encode(places, PAGES_MAX, &buf);
    ok(buf.size_bytes < 16, "an image of zeros costs %zu bytes", buf.size_bytes);
}

/* ------------------------------------------------------------------ bytes that no list makes */

static bool
is_valid(uint64_t place)
{
    unsigned kind = store_place_kind(place);
    uint64_t serial = store_place_serial(place);
    if (store_place_type(place) >= DOR_REGION_TYPES)
        return false;
    if (kind == DOR_PAGE_REFERENCE)
        return store_place_root(place) > 0 && store_place_block(place) < STORE_ROOT_BLOCKS_MAX;
    return kind == DOR_PAGE_ZERO
               ? serial == 0
               : (kind == DOR_PAGE_RAW || kind == DOR_PAGE_PATCHED) && serial > 0;
}

/* False when the decoder does harm: another error, or a place that makes no sense. */
static bool
decodes_soundly(const uint8_t *data, size_t size_bytes, size_t count)
{
    AUTO_FREE uint8_t *exact = exact_copy(data, size_bytes);
    AUTO_FREE uint64_t *places = base_array(count, sizeof *places);
    int err = store_places_decode(exact, size_bytes, places, count);
    for (size_t i = 0; i < count && err == 0; i++)
        if (!is_valid(places[i]))
            return false;
    return err == 0 || err == DOR_E_CORRUPT;
}

static void
test_cut_and_changed(void)
{
    static uint64_t places[200];
    AUTO_BUF struct base_buf buf = {0};
    unsigned accepted = 0;
    unsigned unsound = 0;
    for (int round = 0; round < 200; round++) {
        size_t count = 1 + base_random_below(&rng, ARRAY_LEN(places));
        make_list((unsigned)round % 5, places, count);
        encode(places, count, &buf);
        for (size_t cut = 0; cut < buf.size_bytes; cut += 1 + cut / 20) {
            uint64_t back[ARRAY_LEN(places)];
            AUTO_FREE uint8_t *exact = exact_copy(buf.data, cut);
            accepted += store_places_decode(exact, cut, back, count) != DOR_E_CORRUPT;
        }
        for (int i = 0; i < 100; i++) {
            AUTO_FREE uint8_t *mutant = exact_copy(buf.data, buf.size_bytes);
            for (uint64_t n = 1 + base_random_below(&rng, 3); n > 0; n--)
                mutant[base_random_below(&rng, buf.size_bytes)] =
                    (uint8_t)base_random_next(&rng);
            unsound += !decodes_soundly(mutant, buf.size_bytes, count);
        }
    }
    is_int(accepted, 0, "a list cut short is refused");
    is_int(unsound, 0, "a changed one gives an error or a list of places");
}

/* Columns from their parts, with which one can write what the encoder would not. */
static void
join(struct base_buf *buf, const uint64_t *const columns[3], const size_t counts[3])
{
    struct base_buf parts[3] = {{0}};
    int err = 0;
    buf->size_bytes = 0;
    for (size_t c = 0; c < 3; c++) {
        for (size_t i = 0; i < counts[c] && err == 0; i++)
            err = store_put_varint(&parts[c], columns[c][i]);
        if (err == 0)
            err = store_put_varint(buf, parts[c].size_bytes);
    }
    for (size_t c = 0; c < 3 && err == 0; c++)
        if (parts[c].size_bytes > 0)
            err = base_buf_append(buf, parts[c].data, parts[c].size_bytes);
    for (size_t c = 0; c < 3; c++)
        base_buf_free(&parts[c]);
    if (err != 0)
        bail("%s", dor_err_message());
}

#define LIST(...) (const uint64_t[]){__VA_ARGS__}, ARRAY_LEN(((const uint64_t[]){__VA_ARGS__}))

static void
refuse(
    const char *what, size_t pages, const uint64_t *ops, size_t op_count,
    const uint64_t *lengths, size_t length_count, const uint64_t *jumps, size_t jump_count)
{
    AUTO_BUF struct base_buf buf = {0};
    join(
        &buf, (const uint64_t *const[]){ops, lengths, jumps},
        (const size_t[]){op_count, length_count, jump_count});
    AUTO_FREE uint64_t *places = base_array(pages, sizeof *places);
    AUTO_FREE uint8_t *exact = exact_copy(buf.data, buf.size_bytes);
    is_int(
        store_places_decode(exact, buf.size_bytes, places, pages), DOR_E_CORRUPT, "refused: %s",
        what);
}

static void
test_made_up(void)
{
    const uint64_t most = STORE_SERIAL_MAX;
    refuse("no runs", 1, NULL, 0, NULL, 0, NULL, 0);
    refuse("too few pages", 2, LIST(0), LIST(1), NULL, 0);
    refuse("too many pages", 2, LIST(0), LIST(3), NULL, 0);
    refuse("a run of no pages", 1, LIST(0, 0), LIST(0, 1), NULL, 0);
    refuse("an op that does not exist", 1, LIST(13), LIST(1), NULL, 0);
    refuse("a huge op", 1, LIST(UINT64_MAX), LIST(1), NULL, 0);
    refuse("a cursor that was never set", 1, LIST(1), LIST(1), NULL, 0);
    refuse("the last cursor", 2, LIST(9, 8), LIST(1, 1), LIST(0, 5));
    refuse("a jump without its distance", 1, LIST(9), LIST(1), LIST(0));
    refuse("a jump to a stream that does not exist", 1, LIST(9), LIST(1), LIST(12, 5));
    refuse("a jump to a lane that does not exist", 1, LIST(9), LIST(1), LIST(18, 5));
    refuse("root image 0", 1, LIST(9), LIST(1), LIST(12, UINT32_MAX));
    refuse("a block that no image has", 1, LIST(9), LIST(1), LIST(12, UINT64_C(0x1ffffffff)));
    refuse("a run beyond an image", 2, LIST(9), LIST(2), LIST(12, UINT64_C(0x1fffffffe)));
    refuse(
        "the block after the last", 2, LIST(9, 1), LIST(1, 1), LIST(12, UINT64_C(0x1fffffffe)));
    refuse("a jump to before the first page", 1, LIST(9), LIST(1), LIST(1, 5));
    refuse("a jump to serial 0", 1, LIST(9), LIST(1), LIST(0, 0));
    refuse("a jump back to serial 0", 2, LIST(9, 9), LIST(1, 1), LIST(0, 5, 1, 5));
    refuse("a jump beyond the last serial", 1, LIST(9), LIST(1), LIST(0, most + 1));
    refuse("two jumps beyond it", 2, LIST(9, 9), LIST(1, 1), LIST(0, most, 0, 1));
    refuse("a run beyond it", 2, LIST(9), LIST(2), LIST(0, most));
    for (unsigned stream = 0; stream < STORE_STREAMS; stream++)
        refuse(
            "the page after the last serial", 2, LIST(9, 1), LIST(1, 1),
            LIST(stream * 2, most));
    refuse("ops left over", 1, LIST(0, 0), LIST(1), NULL, 0);
    refuse("lengths left over", 1, LIST(0), LIST(1, 1), NULL, 0);
    refuse("jumps left over", 1, LIST(0), LIST(1), LIST(0));
}

static void
test_no_memory(void)
{
    enum { COUNT = 500 };
    static uint64_t places[COUNT];
    AUTO_BUF struct base_buf first = {0};
    AUTO_BUF struct base_buf buf = {0};
    unsigned wrong = 0;
    make_usual(places, COUNT);
    encode(places, COUNT, &first);
    uint64_t nth = 0;
    do {
        buf.size_bytes = 0;
        base_buf_free(&buf);
        base_fault_arm(FAULT_ALLOC, ++nth, 0);
        int err = store_places_encode(places, COUNT, &buf);
        base_fault_arm(FAULT_NONE, 0, 0);
        wrong += err != (base_fault_fired() ? DOR_E_NO_MEMORY : 0);
    } while (base_fault_fired());
    is_int(wrong, 0, "each of %d allocations may fail", (int)nth - 1);
    ok(nth > 3 && buf.size_bytes == first.size_bytes &&
           memcmp(buf.data, first.data, first.size_bytes) == 0,
       "and the result is the same afterwards");
}

int
main(void)
{
    base_random_init(&rng, tap_seed());
    test_round_trip();
    test_size();
    test_made_up();
    test_cut_and_changed();
    test_no_memory();
    return done_testing();
}
