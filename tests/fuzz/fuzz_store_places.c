/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_store_places.c - the input is a count of pages (2 bytes) and a list of places; what decodes
 * is encoded and decoded again to the same.
 */
#include "mend.h"
#include "store/recipe.h"

static void
check_round_trip(const uint64_t *places, uint64_t page_count)
{
    AUTO_BUF struct base_buf buf = {0};
    AUTO_FREE uint64_t *again = base_array(page_count, sizeof *again);
    if (again == NULL || store_places_encode(places, page_count, &buf) != 0)
        return;
    dor_assert(store_places_decode(buf.data, buf.size_bytes, again, page_count) == 0);
    dor_assert(memcmp(places, again, page_count * sizeof *places) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    if (size_bytes < 2)
        return 0;
    uint64_t page_count = base_le16_get(data);
    AUTO_FREE uint64_t *places = base_array(page_count, sizeof *places);
    if (places == NULL)
        return 0;
    if (store_places_decode(data + 2, size_bytes - 2, places, page_count) == 0)
        check_round_trip(places, page_count);
    return 0;
}
