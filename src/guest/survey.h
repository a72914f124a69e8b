/* SPDX-License-Identifier: Apache-2.0 */
/*
 * survey.h - the one pass over all bytes of an image: which pages are zero, and where a
 * VMCOREINFO note may be. Everything after it only goes where pointers lead.
 *
 * Ownership:  a survey owns its bits.
 * Threads:    any.
 * Errors:     DOR_E_NO_MEMORY, and what dor_image_next_data() or a pager's source says.
 */
#ifndef DOR_GUEST_SURVEY_H
#define DOR_GUEST_SURVEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dormouse/image.h>

#include "guest/pager.h"

/* So many that a process cannot easily hide the kernel's note behind its own. */
enum { GUEST_NOTES_MAX = 256 };

/* A place that looks like the head of a note. */
struct guest_note_place {
    uint64_t row;
    uint32_t offset; /* in the page */
};

struct guest_survey {
    uint64_t *zero_bits; /* by row */
    uint64_t row_count, zero_count;
    struct guest_note_place notes[GUEST_NOTES_MAX]; /* by row; the first so many */
    size_t note_count;
    bool known_note; /* one of them is in a page that a pager knows */
};

static inline bool
guest_survey_is_zero(const struct guest_survey *survey, uint64_t row)
{
    return (survey->zero_bits[row / 64] >> (row % 64) & 1) != 0;
}

/* True when all 4096 bytes are zero. */
bool guest_page_is_zero(const uint8_t *page);

/*
 * Look at the pages of INFO. Their holes are told by IMAGE or, when it is not NULL, by PAGER; where
 * both are NULL all is data. Notes are found at the beginning of a page, where Linux since 4.13 keeps
 * its own. Of pages that a pager brings, only those are read that nothing is known of, or where a
 * kernel may keep a note. What cannot be brought counts as zero; the pager has the error.
 */
DOR_MUST_CHECK int guest_survey_make(
    const struct dor_image *image, struct guest_pager *pager, const struct dor_image_info *info,
    struct guest_survey *ret);
void guest_survey_fini(struct guest_survey *survey);

/* Forget the notes and look for them at every fourth byte of every page that is not zero. */
void guest_survey_scan_notes(
    struct guest_survey *survey, struct guest_pager *pager, const struct dor_image_info *info);

#endif
