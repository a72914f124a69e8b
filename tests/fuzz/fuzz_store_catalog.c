/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_store_catalog.c - the input is a catalog file whose header is mended; what it decodes to is
 * in order and can be copied.
 */
#include "mend.h"
#include "store/catalog.h"

enum { HEADER_BYTES = 40 };

static void
mend(uint8_t *file, size_t size_bytes)
{
    memcpy(file, "DORMOUSE", 8);
    base_le32_put(file + 8, STORE_FORMAT_VERSION);
    base_le64_put(file + 16, size_bytes - HEADER_BYTES);
    if (base_le32_get(file + 12) == CHUNK_NONE)
        base_le64_put(file + 24, size_bytes - HEADER_BYTES);
    mend_digest(file, 32, HEADER_BYTES, size_bytes);
}

static void
look_at(const struct store_catalog *catalog)
{
    for (size_t i = 0; i < catalog->snapshot_count; i++) {
        const struct store_snapshot_entry *entry = &catalog->snapshots[i];
        dor_assert(store_catalog_snapshot(catalog, entry->info.name) == entry);
        dor_assert(entry->domain < catalog->domain_count);
        dor_assert(entry->info.name[0] != '\0');
    }
    for (size_t i = 0; i < catalog->segment_count; i++) {
        const struct store_segment_entry *segment = &catalog->segments[i];
        dor_assert(segment->domain < catalog->domain_count && segment->stream < STORE_STREAMS);
        dor_assert(store_catalog_segment(catalog, segment->id) != NULL);
        dor_assert(segment->first_serial <= segment->end_serial);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    if (size_bytes < HEADER_BYTES)
        return 0;
    AUTO_FREE uint8_t *file = mend_copy(data, size_bytes);
    if (file == NULL)
        return 0;
    mend(file, size_bytes);
    struct store_catalog *catalog;
    if (base_le64_get(file + 24) > MEND_PLAIN_BYTES_MAX ||
        store_catalog_decode(file, size_bytes, &catalog) != 0)
        return 0;
    look_at(catalog);
    struct store_catalog *copy;
    if (store_catalog_copy(catalog, &copy) == 0) {
        dor_assert(copy->snapshot_count == catalog->snapshot_count);
        store_catalog_free(copy);
    }
    store_catalog_free(catalog);
    return 0;
}
