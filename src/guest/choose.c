/* SPDX-License-Identifier: Apache-2.0 */
/*
 * choose.c - tries notes and layouts. Any process of the guest can write a page that looks like a
 * note; such a page is anonymous or a file's, and the kernel's own records say so.
 */
#include "guest/choose.h"

#include "guest/layout.h"

#include <string.h>

struct choice {
    size_t layout, note;
    unsigned score; /* 0: none works */
};

/* Whether the page of the note is in use by nobody but the kernel. */
static bool
is_kernels_own(struct guest_look *look, struct guest_kernel *kernel)
{
    struct guest_array array;
    struct guest_profile nothing;
    uint8_t record[512];
    guest_profile_init(&nothing);
    if (kernel->struct_page_bytes > sizeof record ||
        !guest_array_describe(&array, kernel, &nothing))
        return true;
    for (size_t i = 0; i < look->memory.range_count; i++) {
        const struct guest_range *range = &look->memory.ranges[i];
        uint64_t page = kernel->note.row - range->first_row;
        if (page >= range->page_count)
            continue;
        uint64_t address =
            kernel->vmemmap + (range->first_pfn + page) * kernel->struct_page_bytes;
        return guest_read(&kernel->tables, address, record, kernel->struct_page_bytes) &&
               !guest_record_is_buddy(&array, record) &&
               !guest_record_has(&array, record, array.flag_lru) &&
               (base_le64_get(record + array.mapping) & 1) == 0;
    }
    return false;
}

/* How well note number WHICH fits the look's present memory; 0 when it does not. */
static unsigned
try_note(struct guest_look *look, size_t which)
{
    struct guest_note note;
    if (!guest_note_read(look->info, &look->survey.notes[which], &note) ||
        !guest_kernel_open(&look->memory, &note, &look->kernel) ||
        !is_kernels_own(look, &look->kernel))
        return 0;
    return look->kernel.score;
}

/* Make the look's memory that of layout WHICH. */
static int
make_memory(struct guest_look *look, size_t which)
{
    struct guest_layout layout;
    guest_memory_fini(&look->memory);
    if (!look->info->addresses_guessed)
        return guest_memory_init(&look->memory, look->info->ranges, look->info->range_count);
    int rc = guest_layout_make(look->info, which, &layout);
    if (rc != 0)
        return rc;
    rc = guest_memory_init(&look->memory, layout.ranges, layout.range_count);
    guest_layout_fini(&layout);
    return rc;
}

static int
set_layout(struct guest_look *look, size_t which)
{
    int rc = make_memory(look, which);
    look->memory.pager = look->pager;
    return rc;
}

static int
try_all(struct guest_look *look, struct choice *best)
{
    size_t layouts = look->info->addresses_guessed ? guest_layout_count() : 1;
    for (size_t layout = 0; layout < layouts; layout++) {
        if (!guest_layout_differs(layout, look->info->page_count))
            continue;
        int rc = set_layout(look, layout);
        if (rc != 0)
            return rc;
        for (size_t note = 0; note < look->survey.note_count; note++) {
            unsigned score = try_note(look, note);
            if (score > best->score)
                *best = (struct choice){.layout = layout, .note = note, .score = score};
        }
    }
    return 0;
}

int
guest_choose_kernel(struct guest_look *look)
{
    struct choice best = {0};
    int rc = try_all(look, &best);
    if (rc == 0 && best.score == 0) {
        guest_survey_scan_notes(&look->survey, look->pager, look->info);
        rc = try_all(look, &best);
    }
    if (rc == 0 && best.score == 0) {
        guest_look_remark(
            look, look->survey.note_count == 0
                      ? "no VMCOREINFO note: not Linux, encrypted, or a kernel without it"
                      : "VMCOREINFO notes were found, but memory does not agree with them");
        return 0;
    }
    if (rc == 0)
        rc = set_layout(look, best.layout);
    if (rc == 0)
        look->has_kernel = try_note(look, best.note) == best.score;
    return rc;
}
