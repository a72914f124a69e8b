/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_guest_note.c - the input is the memory of a small machine; what looks like a note in it is
 * read as one.
 */
#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"
#include "guest/note.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    size_t pages = size_bytes / DOR_PAGE_BYTES + 1;
    struct guest_survey survey;
    AUTO_FREE uint8_t *memory = base_array(pages, DOR_PAGE_BYTES);
    if (memory == NULL)
        return 0;
    memcpy(memory, data, size_bytes);
    const struct dor_image_range range = {.page_count = pages, .data = memory};
    const struct dor_image_info info = {
        .page_count = pages, .ranges = &range, .range_count = 1};
    if (guest_survey_make(NULL, NULL, &info, &survey) != 0)
        return 0;
    guest_survey_scan_notes(&survey, NULL, &info);
    for (size_t i = 0; i < survey.note_count; i++) {
        struct guest_note note;
        uint64_t number;
        char text[32];
        if (!guest_note_read(&info, &survey.notes[i], &note))
            continue;
        if (guest_note_text(&note, "OSRELEASE", text, sizeof text))
            dor_assert(strlen(text) < sizeof text);
        (void)guest_note_u64(&note, "NUMBER", "phys_base", &number);
        (void)guest_note_u64(&note, "SYMBOL", "_stext", &number);
    }
    guest_survey_fini(&survey);
    return 0;
}
