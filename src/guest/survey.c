/* SPDX-License-Identifier: Apache-2.0 */
/*
 * survey.c - zero pages and note heads.
 *
 * Head of a note, little-endian (an ELF note in memory):
 *
 *     offset  size  field
 *          0     4  bytes of the name with its NUL: 11
 *          4     4  bytes of the text
 *          8     4  type: 0
 *         12    11  "VMCOREINFO"
 *         24        text, lines of KEY=VALUE
 *
 * A page that is not zero mostly shows it in its first line, and holes are not touched at all, so
 * the pass costs one cache miss a used page and a read of the zero pages that are stored as bytes.
 */
#include "guest/survey.h"

#include <dormouse/inspect.h>

#include "base/le.h"
#include "base/mem.h"
#include "base/size.h"
#include "guest/note.h"

#include <string.h>

enum {
    HEAD_BYTES = 24,
    NAME_BYTES = 11,
    NAME_OFFSET = 12,
    BLOCK_WORDS = 32,
    BLOCK_BYTES = 256
};

bool
guest_page_is_zero(const uint8_t *page)
{
    for (size_t block = 0; block < DOR_PAGE_BYTES; block += BLOCK_BYTES) {
        uint64_t words[BLOCK_WORDS];
        uint64_t any = 0;
        memcpy(words, page + block, sizeof words);
        for (size_t i = 0; i < BLOCK_WORDS; i++)
            any |= words[i];
        if (any != 0)
            return false;
    }
    return true;
}

static bool
is_note_head(const uint8_t *head)
{
    return base_le32_get(head) == NAME_BYTES && base_le32_get(head + 8) == 0 &&
           memcmp(head + NAME_OFFSET, "VMCOREINFO", NAME_BYTES) == 0;
}

static void
set_zero(struct guest_survey *survey, uint64_t row)
{
    survey->zero_bits[row / 64] |= UINT64_C(1) << (row % 64);
    survey->zero_count++;
}

static bool
bring(struct guest_pager *pager, const uint8_t *data, size_t size_bytes)
{
    return pager == NULL || guest_pager_bring(pager, data, size_bytes);
}

/* Note the head at AT in RANGE; its text is brought with it. */
static void
add_note(
    struct guest_survey *survey, struct guest_pager *pager, const struct dor_image_range *range,
    uint64_t at)
{
    uint64_t left_bytes = (range->page_count << DOR_PAGE_SHIFT) - at;
    size_t note_bytes = (size_t)base_min_u64(left_bytes, HEAD_BYTES + GUEST_NOTE_BYTES_MAX);
    if (survey->note_count == GUEST_NOTES_MAX || !bring(pager, range->data + at, note_bytes))
        return;
    survey->notes[survey->note_count++] = (struct guest_note_place){
        .row = range->first_page + (at >> DOR_PAGE_SHIFT),
        .offset = (uint32_t)(at % DOR_PAGE_BYTES)};
}

/* What PAGER knows of the page of ROW. */
static uint8_t
known_class(const struct guest_pager *pager, uint64_t row)
{
    return pager == NULL || pager->pages->known == NULL ? DOR_CLASS_UNKNOWN
                                                        : pager->pages->known[row];
}

/* Whether a kernel may keep its note in a page of this class: in memory that it allotted itself. */
static bool
may_hold_note(uint8_t page_class)
{
    return page_class == DOR_CLASS_KERNEL_DATA || page_class == DOR_CLASS_RESERVED;
}

/*
 * A page that is known not to be zero may hold the note. A kernel has one, so pages behind it are not
 * read for another.
 */
static void
look_at_known(
    struct guest_survey *survey, struct guest_pager *pager, const struct dor_image_range *range,
    uint64_t row, uint8_t page_class)
{
    uint64_t at = (row - range->first_page) << DOR_PAGE_SHIFT;
    if (survey->known_note || !may_hold_note(page_class) ||
        !bring(pager, range->data + at, HEAD_BYTES) || !is_note_head(range->data + at))
        return;
    add_note(survey, pager, range, at);
    survey->known_note = true;
}

static void
look_at_page(
    struct guest_survey *survey, struct guest_pager *pager, const struct dor_image_range *range,
    uint64_t row)
{
    uint64_t at = (row - range->first_page) << DOR_PAGE_SHIFT;
    uint8_t page_class = known_class(pager, row);
    if (page_class != DOR_CLASS_UNKNOWN) {
        look_at_known(survey, pager, range, row, page_class);
        return;
    }
    const uint8_t *page = pager == NULL ? range->data + at : guest_pager_peek(pager, row);
    if (page == NULL || guest_page_is_zero(page))
        set_zero(survey, row);
    else if (is_note_head(page))
        add_note(survey, pager, range, at);
}

/* The next rows that hold data, as dor_image_next_data(). */
static int
next_data(
    const struct dor_image *image, const struct guest_pager *pager, uint64_t row,
    uint64_t *ret_first, uint64_t *ret_end)
{
    const struct dor_page_source *source = pager == NULL ? NULL : pager->pages->source;
    if (pager != NULL && pager->rc != 0)
        return guest_pager_error(pager);
    if (source != NULL)
        return source->next_data == NULL
                   ? 0
                   : source->next_data(source->context, row, ret_first, ret_end);
    return image == NULL ? 0 : dor_image_next_data(image, row, ret_first, ret_end);
}

/* The rows of RANGE, of which only what IMAGE or PAGER has data for is touched. */
static int
look_at_range(
    struct guest_survey *survey, const struct dor_image *image, struct guest_pager *pager,
    const struct dor_image_range *range)
{
    uint64_t row = range->first_page;
    uint64_t end = row + range->page_count;
    while (row < end) {
        uint64_t data = row;
        uint64_t data_end = end;
        int rc = next_data(image, pager, row, &data, &data_end);
        if (rc != 0)
            return rc;
        for (data = base_min_u64(data, end); row < data; row++)
            set_zero(survey, row);
        for (data_end = base_min_u64(data_end, end); row < data_end; row++)
            look_at_page(survey, pager, range, row);
    }
    return 0;
}

int
guest_survey_make(
    const struct dor_image *image, struct guest_pager *pager, const struct dor_image_info *info,
    struct guest_survey *ret)
{
    struct guest_survey survey = {.row_count = info->page_count};
    survey.zero_bits = base_array(DIV_ROUND_UP(info->page_count, 64), sizeof(uint64_t));
    if (survey.zero_bits == NULL)
        return DOR_E_NO_MEMORY;
    for (size_t i = 0; i < info->range_count; i++) {
        int rc = look_at_range(&survey, image, pager, &info->ranges[i]);
        if (rc != 0) {
            guest_survey_fini(&survey);
            return rc;
        }
    }
    *ret = survey;
    return 0;
}

void
guest_survey_fini(struct guest_survey *survey)
{
    base_free(survey->zero_bits);
    survey->zero_bits = NULL;
}

/* Whether any aligned word of PAGE is the beginning of the name: one compare a word, no branch. */
static bool
may_hold_name(const uint8_t *page)
{
    uint32_t name;
    uint32_t any = 0;
    memcpy(&name, "VMCO", sizeof name);
    for (size_t at = 0; at < DOR_PAGE_BYTES; at += sizeof name) {
        uint32_t word;
        memcpy(&word, page + at, sizeof word);
        any |= word == name ? 1u : 0u;
    }
    return any != 0;
}

static void
scan_page(
    struct guest_survey *survey, struct guest_pager *pager, const struct dor_image_range *range,
    uint64_t row)
{
    uint64_t offset = (row - range->first_page) << DOR_PAGE_SHIFT;
    uint64_t range_bytes = range->page_count << DOR_PAGE_SHIFT;
    const uint8_t *page = pager == NULL ? range->data + offset : guest_pager_peek(pager, row);
    if (page == NULL || !may_hold_name(page) ||
        !bring(pager, range->data + offset, DOR_PAGE_BYTES))
        return;
    /* The name may begin in this page and its head in the one before. */
    for (uint64_t name = offset; name < offset + DOR_PAGE_BYTES; name += 4) {
        if (name < NAME_OFFSET || range_bytes - name < HEAD_BYTES - NAME_OFFSET)
            continue;
        uint64_t head = name - NAME_OFFSET;
        if (bring(pager, range->data + head, HEAD_BYTES) && is_note_head(range->data + head))
            add_note(survey, pager, range, head);
    }
}

void
guest_survey_scan_notes(
    struct guest_survey *survey, struct guest_pager *pager, const struct dor_image_info *info)
{
    survey->note_count = 0;
    for (size_t i = 0; i < info->range_count; i++) {
        const struct dor_image_range *range = &info->ranges[i];
        for (uint64_t row = range->first_page; row < range->first_page + range->page_count;
             row++)
            if (!guest_survey_is_zero(survey, row))
                scan_page(survey, pager, range, row);
    }
}
