/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_store_recipe.c - the input is a snapshot file whose header is mended; what it decodes to has
 * places and sidecars that make sense.
 */
#include <sys/mman.h>

#include "base/file.h"
#include "mend.h"
#include "store/recipe.h"
#include "store/root.h"

enum { HEADER_BYTES = 64 };

static const uint8_t uuid[16] = {1, 2, 3};

static void
mend(uint8_t *file, size_t size_bytes)
{
    memcpy(file, "DORSNAP1", 8);
    memcpy(file + 8, uuid, sizeof uuid);
    uint64_t stored_bytes = base_le64_get(file + 32);
    if (stored_bytes > size_bytes - HEADER_BYTES)
        stored_bytes = size_bytes - HEADER_BYTES;
    base_le64_put(file + 32, stored_bytes);
    if (base_le32_get(file + 24) == CHUNK_NONE)
        base_le64_put(file + 40, stored_bytes);
    mend_digest(file, 56, HEADER_BYTES, HEADER_BYTES + stored_bytes);
}

static void
look_at(const struct store_recipe *recipe, size_t file_bytes)
{
    for (uint64_t i = 0; i < recipe->page_count; i++) {
        uint64_t place = recipe->places[i];
        dor_assert(store_place_type(place) < DOR_REGION_TYPES);
        dor_assert(
            (store_place_kind(place) == DOR_PAGE_ZERO) == (store_place_serial(place) == 0));
        dor_assert(!store_place_is_reference(place) || store_place_root(place) != 0);
    }
    for (size_t i = 0; i < recipe->sidecar_count; i++) {
        const struct store_sidecar_row *row = &recipe->sidecars[i];
        dor_assert(row->offset <= file_bytes && row->stored_bytes <= file_bytes - row->offset);
        /* Parts have names that no sidecar can have. */
        dor_assert(dor_name_check(row->name) == 0 || row->name[0] == '/');
    }
    dor_assert(recipe->sidecar_count <= DOR_SIDECARS_MAX + STORE_PARTS_MAX);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    if (size_bytes < HEADER_BYTES)
        return 0;
    AUTO_FREE uint8_t *file = mend_copy(data, size_bytes);
    AUTO_CLOSE int fd = memfd_create("snap", MFD_CLOEXEC);
    if (file == NULL || fd < 0)
        return 0;
    mend(file, size_bytes);
    if (base_le64_get(file + 40) > MEND_PLAIN_BYTES_MAX ||
        base_le64_get(file + 48) > MEND_PAGES_MAX)
        return 0;
    struct store_recipe recipe;
    if (base_file_pwrite(fd, file, size_bytes, 0, "input") != 0 ||
        store_recipe_read(fd, "input", uuid, &recipe) != 0)
        return 0;
    look_at(&recipe, size_bytes);
    store_recipe_fini(&recipe);
    return 0;
}
