/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_catalog.c - the catalog goes into its file and comes out the same; a file that is
 * damaged, of another version or that says what cannot be is refused.
 */
#include "base/err.h"
#include "base/fault.h"
#include "chunk/digest.h"
#include "store/catalog.h"
#include "store/images.h"
#include "store/options.h"

static struct base_random rng;

static void
must(int err)
{
    if (err != 0)
        bail("%s", dor_err_message());
}

/* ------------------------------------------------------------------ a made-up catalog */

static void
add_segments(struct store_catalog *catalog, uint32_t domain, unsigned stream)
{
    uint64_t serial = 1 + base_random_below(&rng, 100);
    for (uint64_t n = base_random_below(&rng, 4); n > 0; n--) {
        struct store_segment_entry entry = {
            .id = catalog->next_segment_id++,
            .domain = domain,
            .stream = stream,
            .squeezed = base_random_below(&rng, 2) != 0,
            .first_serial = serial};
        entry.page_count = base_random_below(&rng, 1000);
        entry.end_serial = serial + entry.page_count + base_random_below(&rng, 10);
        serial = entry.end_serial + base_random_below(&rng, 100);
        entry.size_bytes = 1000000 + base_random_below(&rng, 1000);
        for (uint64_t f = base_random_below(&rng, 5); f > 0; f--)
            must(store_segment_entry_add_frame(
                &entry, base_random_below(&rng, 1000), base_random_below(&rng, 900000)));
        must(store_catalog_segment_add(catalog, &entry));
    }
    catalog->domains[domain].next_serial[stream] = serial;
}

static void
add_snapshot(struct store_catalog *catalog, unsigned number)
{
    struct store_snapshot_entry entry = {
        .domain = (uint32_t)base_random_below(&rng, catalog->domain_count)};
    struct dor_snapshot_info *info = &entry.info;
    uint64_t *put = (uint64_t *)(void *)info->put.by_region_type;
    size_t put_count = sizeof(struct dor_kind_bytes[DOR_REGION_TYPES]) / 8;
    snprintf(info->name, sizeof info->name, "snapshot %u", number * 37 % 100);
    snprintf(info->parent, sizeof info->parent, "%s", number % 2 == 0 ? "" : "its parent");
    memcpy(info->domain, catalog->domains[entry.domain].name, sizeof info->domain);
    info->id = catalog->next_snapshot_id++;
    info->created_ns = base_random_next(&rng);
    info->logical_bytes = base_random_below(&rng, UINT64_C(1) << 60);
    info->recipe_bytes = base_random_below(&rng, INT64_MAX);
    info->sidecar_count = base_random_below(&rng, DOR_SIDECARS_MAX + 1);
    info->put.added_bytes = base_random_next(&rng);
    for (size_t i = 0; i < put_count; i++)
        put[i] = 1 + base_random_below(&rng, 1u << 30);
    for (unsigned type = 0; type < DOR_REGION_TYPES; type++)
        if (base_random_below(&rng, 2) == 0)
            memset(&info->put.by_region_type[type], 0, sizeof info->put.total);
        else
            store_kind_bytes_add(&info->put.total, &info->put.by_region_type[type]);
    must(store_catalog_snapshot_add(catalog, &entry));
}

static struct store_catalog *
make_catalog(void)
{
    struct store_catalog *catalog;
    must(store_catalog_new(&catalog));
    must(dor_options_set(catalog->options, "patch_level", "5"));
    must(dor_options_set(catalog->options, "similarity", "no"));
    catalog->generation = base_random_next(&rng) >> 1;
    for (uint64_t n = 1 + base_random_below(&rng, 5); n > 0; n--) {
        char name[32];
        uint32_t domain;
        snprintf(name, sizeof name, "domain %d", (int)n);
        must(store_catalog_domain(catalog, name, true, &domain));
        for (unsigned stream = 0; stream < STORE_STREAMS; stream++)
            add_segments(catalog, domain, stream);
    }
    for (unsigned n = 0; n < 20; n++)
        add_snapshot(catalog, n);
    return catalog;
}

/* ------------------------------------------------------------------ comparing */

static bool
same_segment(const struct store_segment_entry *a, const struct store_segment_entry *b)
{
    if (a->id != b->id || a->domain != b->domain || a->stream != b->stream ||
        a->squeezed != b->squeezed || a->first_serial != b->first_serial ||
        a->end_serial != b->end_serial || a->size_bytes != b->size_bytes ||
        a->page_count != b->page_count || a->frame_count != b->frame_count || b->loaded != NULL)
        return false;
    return a->frame_count == 0 ||
           memcmp(a->frames, b->frames, a->frame_count * sizeof *a->frames) == 0;
}

static bool
same_options(const struct dor_options *a, const struct dor_options *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (strcmp(a->names[i], b->names[i]) != 0 || strcmp(a->values[i], b->values[i]) != 0)
            return false;
    return true;
}

static bool
same_catalog(const struct store_catalog *a, const struct store_catalog *b)
{
    if (memcmp(a->uuid, b->uuid, 16) != 0 || a->generation != b->generation ||
        a->next_snapshot_id != b->next_snapshot_id ||
        a->next_segment_id != b->next_segment_id || a->domain_count != b->domain_count ||
        a->segment_count != b->segment_count || a->snapshot_count != b->snapshot_count ||
        !same_options(a->options, b->options))
        return false;
    bool same = a->domain_count == 0 ||
                memcmp(a->domains, b->domains, a->domain_count * sizeof *a->domains) == 0;
    for (size_t i = 0; i < a->segment_count; i++)
        same = same && same_segment(&a->segments[i], &b->segments[i]);
    for (size_t i = 0; i < a->snapshot_count; i++)
        same =
            same && a->snapshots[i].domain == b->snapshots[i].domain &&
            memcmp(&a->snapshots[i].info, &b->snapshots[i].info, sizeof a->snapshots[i].info) ==
                0;
    return same;
}

/* ------------------------------------------------------------------ there and back */

/* The bytes of CATALOG's file; saving counts its generation up. */
static void
encode(struct store_catalog *catalog, struct base_buf *file)
{
    struct store_medium *medium;
    AUTO_CLOSE int fd = -1;
    uint64_t size_bytes = 0;
    must(store_medium_open_memory(&medium));
    must(store_catalog_save(medium, catalog));
    must(store_medium_open(medium, STORE_CATALOG_NAME, false, &fd));
    must(base_file_size(fd, "catalog", &size_bytes));
    file->size_bytes = 0;
    must(base_buf_reserve(file, size_bytes));
    must(base_file_pread(fd, file->data, size_bytes, 0, "catalog"));
    file->size_bytes = size_bytes;
    store_medium_close(medium);
}

static int
decode(const struct base_buf *file, struct store_catalog **ret)
{
    AUTO_FREE uint8_t *exact = exact_copy(file->data, file->size_bytes);
    return store_catalog_decode(exact, file->size_bytes, ret);
}

static void
test_round_trip(void)
{
    unsigned wrong = 0;
    for (int round = 0; round < 30; round++) {
        struct store_catalog *catalog = make_catalog();
        struct store_catalog *back = NULL;
        struct store_catalog *copy = NULL;
        AUTO_BUF struct base_buf file = {0};
        uint64_t generation = catalog->generation;
        encode(catalog, &file);
        wrong += catalog->generation != generation + 1;
        wrong += decode(&file, &back) != 0 || !same_catalog(catalog, back);
        wrong += store_catalog_copy(catalog, &copy) != 0 || !same_catalog(catalog, copy);
        store_catalog_free(catalog);
        store_catalog_free(back);
        store_catalog_free(copy);
    }
    is_int(wrong, 0, "made-up catalogs come back, saved or copied");
    store_catalog_free(NULL);
}

static void
test_look_up(void)
{
    struct store_catalog *catalog = make_catalog();
    unsigned wrong = 0;
    for (size_t i = 0; i < catalog->snapshot_count; i++)
        wrong += store_catalog_snapshot(catalog, catalog->snapshots[i].info.name) !=
                 &catalog->snapshots[i];
    wrong += store_catalog_snapshot(catalog, "nobody") != NULL;
    for (size_t i = 0; i < catalog->segment_count; i++)
        wrong +=
            store_catalog_segment(catalog, catalog->segments[i].id) != &catalog->segments[i];
    wrong += store_catalog_segment(catalog, catalog->next_segment_id) != NULL;
    size_t sum = 0;
    for (uint32_t domain = 0; domain < catalog->domain_count; domain++)
        for (unsigned stream = 0; stream < STORE_STREAMS; stream++) {
            struct store_segment_entry *first;
            size_t count = store_catalog_stream(catalog, domain, stream, &first);
            for (size_t i = 0; i < count; i++)
                wrong += first[i].domain != domain || first[i].stream != stream ||
                         (i > 0 && first[i - 1].end_serial > first[i].first_serial);
            sum += count;
        }
    is_int(wrong, 0, "snapshots, segments and streams are found in order");
    is_int(sum, catalog->segment_count, "every segment is in a stream");
    uint32_t domain = 0;
    is_int(
        store_catalog_domain(catalog, "nobody", false, &domain), DOR_E_NOT_FOUND, "no domain");
    is_int(
        store_catalog_snapshot_add(catalog, &catalog->snapshots[3]), DOR_E_EXISTS,
        "no name twice");
    while (catalog->segment_count > 0)
        store_catalog_segment_remove(
            catalog, catalog->segments[base_random_below(&rng, catalog->segment_count)].id);
    while (catalog->snapshot_count > 0) {
        char name[DOR_NAME_BYTES_MAX + 1];
        memcpy(
            name,
            catalog->snapshots[base_random_below(&rng, catalog->snapshot_count)].info.name,
            sizeof name);
        store_catalog_snapshot_remove(catalog, name);
        wrong += store_catalog_snapshot(catalog, name) != NULL;
    }
    is_int(wrong, 0, "all can be removed");
    store_catalog_snapshot_remove(catalog, "nobody");
    store_catalog_segment_remove(catalog, 1);
    store_catalog_free(catalog);
}

/* ------------------------------------------------------------------ damage */

static void
test_damage(void)
{
    struct store_catalog *catalog = make_catalog();
    struct store_catalog *back = NULL;
    AUTO_BUF struct base_buf file = {0};
    unsigned wrong = 0;
    encode(catalog, &file);
    for (size_t at = 0; at < file.size_bytes; at++) {
        uint8_t before = file.data[at];
        file.data[at] ^= (uint8_t)(1u << base_random_below(&rng, 8));
        int err = decode(&file, &back);
        wrong += err != (at >= 8 && at < 12 ? DOR_E_UNSUPPORTED : DOR_E_CORRUPT);
        file.data[at] = before;
    }
    is_int(wrong, 0, "each changed byte is seen; the version's as another version");
    size_t whole = file.size_bytes;
    for (file.size_bytes = 0; file.size_bytes < whole; file.size_bytes++)
        wrong += decode(&file, &back) != DOR_E_CORRUPT;
    is_int(wrong, 0, "each cut is seen");
    must(base_buf_append(&file, "x", 1));
    is_int(decode(&file, &back), DOR_E_CORRUPT, "a byte more too");
    store_catalog_free(catalog);
}

static void
test_another_version(void)
{
    struct store_catalog *catalog = make_catalog();
    struct store_catalog *back = NULL;
    AUTO_BUF struct base_buf file = {0};
    encode(catalog, &file);
    base_le32_put(file.data + 8, STORE_FORMAT_VERSION + 1);
    is_int(decode(&file, &back), DOR_E_UNSUPPORTED, "a newer version is not guessed at");
    ok(strstr(dor_err_message(), "version 2") != NULL, "the words name it");
    store_catalog_free(catalog);
}

/* Save what MAKE did to a good catalog; it must not be read back. */
static void
refuse(const char *what, void (*make)(struct store_catalog *catalog))
{
    struct store_catalog *catalog = make_catalog();
    struct store_catalog *back = NULL;
    AUTO_BUF struct base_buf file = {0};
    for (unsigned stream = 0; catalog->segment_count < 2; stream++)
        add_segments(catalog, 0, stream % STORE_STREAMS);
    make(catalog);
    encode(catalog, &file);
    is_int(decode(&file, &back), DOR_E_CORRUPT, "refused: %s", what);
    store_catalog_free(catalog);
}

static void
two_domains_of_one_name(struct store_catalog *catalog)
{
    uint32_t domain;
    must(store_catalog_domain(catalog, "another", true, &domain));
    memcpy(catalog->domains[domain].name, catalog->domains[0].name, DOR_NAME_BYTES_MAX);
}

static void
two_snapshots_of_one_name(struct store_catalog *catalog)
{
    memcpy(
        catalog->snapshots[5].info.name, catalog->snapshots[4].info.name, DOR_NAME_BYTES_MAX);
}

static void
snapshot_without_name(struct store_catalog *catalog)
{
    catalog->snapshots[5].info.name[0] = 0;
}

static void
snapshot_of_no_domain(struct store_catalog *catalog)
{
    catalog->snapshots[5].domain = (uint32_t)catalog->domain_count;
}

static void
snapshot_from_the_future(struct store_catalog *catalog)
{
    catalog->next_snapshot_id = catalog->snapshots[5].info.id;
}

static void
too_many_sidecars(struct store_catalog *catalog)
{
    catalog->snapshots[5].info.sidecar_count = DOR_SIDECARS_MAX + 1;
}

static void
segment_of_no_domain(struct store_catalog *catalog)
{
    catalog->segments[0].domain = (uint32_t)catalog->domain_count;
}

static void
segment_of_no_stream(struct store_catalog *catalog)
{
    catalog->segments[0].stream = STORE_STREAMS;
}

static void
segment_from_the_future(struct store_catalog *catalog)
{
    catalog->next_segment_id = catalog->segments[0].id;
}

static void
segments_that_overlap(struct store_catalog *catalog)
{
    catalog->segments[1].domain = catalog->segments[0].domain;
    catalog->segments[1].stream = catalog->segments[0].stream;
    catalog->segments[0].end_serial = catalog->segments[0].first_serial + 5;
    catalog->segments[1].first_serial = catalog->segments[0].first_serial + 4;
    catalog->segments[1].end_serial = catalog->segments[1].first_serial + 5000;
}

static void
more_pages_than_serials(struct store_catalog *catalog)
{
    catalog->segments[0].page_count =
        catalog->segments[0].end_serial - catalog->segments[0].first_serial + 1;
}

static void
frame_outside_its_file(struct store_catalog *catalog)
{
    struct store_segment_entry *segment = &catalog->segments[0];
    must(store_segment_entry_add_frame(segment, segment->size_bytes - 10, 11));
}

static void
serial_too_large(struct store_catalog *catalog)
{
    catalog->domains[0].next_serial[0] = STORE_SERIAL_MAX + 1;
}

static void
test_nonsense(void)
{
    refuse("two domains of one name", two_domains_of_one_name);
    refuse("two snapshots of one name", two_snapshots_of_one_name);
    refuse("a snapshot without a name", snapshot_without_name);
    refuse("a snapshot of no domain", snapshot_of_no_domain);
    refuse("a snapshot from the future", snapshot_from_the_future);
    refuse("too many sidecars", too_many_sidecars);
    refuse("a segment of no domain", segment_of_no_domain);
    refuse("a segment of no stream", segment_of_no_stream);
    refuse("a segment from the future", segment_from_the_future);
    refuse("segments that overlap", segments_that_overlap);
    refuse("more pages than serials", more_pages_than_serials);
    refuse("a frame outside its file", frame_outside_its_file);
    refuse("a serial that is too large", serial_too_large);
}

static void
test_no_memory(void)
{
    struct store_catalog *catalog = make_catalog();
    unsigned wrong = 0;
    uint64_t nth = 0;
    do {
        struct store_catalog *copy = NULL;
        base_fault_arm(FAULT_ALLOC, ++nth, 0);
        int err = store_catalog_copy(catalog, &copy);
        base_fault_arm(FAULT_NONE, 0, 0);
        wrong += err != (base_fault_fired() ? DOR_E_NO_MEMORY : 0);
        wrong += err == 0 && !same_catalog(catalog, copy);
        store_catalog_free(copy);
    } while (base_fault_fired());
    is_int(wrong, 0, "each of %d allocations may fail", (int)nth - 1);
    store_catalog_free(catalog);
}

int
main(void)
{
    base_random_init(&rng, tap_seed());
    test_round_trip();
    test_look_up();
    test_damage();
    test_another_version();
    test_nonsense();
    test_no_memory();
    return done_testing();
}
