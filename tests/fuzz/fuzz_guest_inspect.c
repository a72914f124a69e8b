/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_guest_inspect.c - the input is a list of changes to a made-up guest: 12 bytes each, where (a
 * word of its memory, u32) and what (u64). What is found has indexes that exist and names that end.
 */
#include "guest/synth.h"

enum { CHANGE_BYTES = 12, CHANGES_MAX = 4096 };

static void
look_at(const struct dor_inspection *inspection)
{
    for (uint64_t i = 0; i < inspection->page_count; i++) {
        const struct dor_inspect_page *page = &inspection->pages[i];
        dor_assert(page->page_class < DOR_CLASSES && page->importance < DOR_IMPORTANCES);
        dor_assert(page->region_type < DOR_REGION_TYPES);
        dor_assert(page->process == UINT32_MAX || page->process < inspection->process_count);
        dor_assert(page->file == UINT32_MAX || page->file < inspection->file_count);
    }
    for (size_t i = 0; i < inspection->mapping_count; i++) {
        const struct dor_inspect_mapping *mapping = &inspection->mappings[i];
        dor_assert(mapping->start < mapping->end);
        dor_assert(mapping->process < inspection->process_count);
        dor_assert(mapping->file == UINT32_MAX || mapping->file < inspection->file_count);
    }
    for (size_t i = 0; i < inspection->process_count; i++)
        dor_assert(memchr(inspection->processes[i].name, 0, 16) != NULL);
    for (size_t i = 0; i < inspection->file_count; i++)
        dor_assert(memchr(inspection->files[i].name, 0, 256) != NULL);
    dor_assert(inspection->tier == DOR_TIER_FULL || !inspection->free_is_sure);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    static struct synth synth;
    static uint64_t before[CHANGES_MAX];
    static uint8_t *at[CHANGES_MAX];
    struct dor_inspection *inspection;
    size_t count = base_min_size(size_bytes / CHANGE_BYTES, CHANGES_MAX);
    if (synth.bytes == NULL)
        synth_init(&synth, &(struct synth_kind){.byte_types = true});
    for (size_t i = 0; i < count; i++, data += CHANGE_BYTES) {
        at[i] = synth.bytes + base_le32_get(data) % (SYNTH_FREE * DOR_PAGE_BYTES / 8) * 8;
        before[i] = base_le64_get(at[i]);
        base_le64_put(at[i], base_le64_get(data + 4));
    }
    if (guest_inspect(NULL, &synth.info, NULL, &inspection) == 0) {
        look_at(inspection);
        dor_inspection_free(inspection);
    }
    for (size_t i = count; i-- > 0;)
        base_le64_put(at[i], before[i]);
    return 0;
}
