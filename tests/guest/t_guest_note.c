/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_guest_note.c - notes are found where they are, read by key, and refused when they cannot be.
 */
#include "base/le.h"
#include "base/size.h"
#include "guest/note.h"
#include "tap.h"

enum { PAGES = 16 };

static uint8_t bytes[PAGES * 4096];
static const struct dor_image_range range = {.page_count = PAGES, .data = bytes};
static const struct dor_image_info info = {
    .page_count = PAGES, .ranges = &range, .range_count = 1};

static void
put_note(size_t at, const char *text, uint32_t text_bytes)
{
    base_le32_put(bytes + at, 11);
    base_le32_put(bytes + at + 4, text_bytes);
    base_le32_put(bytes + at + 8, 0);
    memcpy(bytes + at + 12, "VMCOREINFO\0", 12);
    memcpy(bytes + at + 24, text, base_min_size(strlen(text), sizeof bytes - at - 24));
}

static void
test_survey(void)
{
    struct guest_survey survey;
    memset(bytes, 0, sizeof bytes);
    put_note((size_t)3 * 4096, "OSRELEASE=a\n", 12);
    put_note((size_t)5 * 4096 + 1000, "OSRELEASE=b\n", 12);
    put_note((size_t)8 * 4096 - 16, "OSRELEASE=c\n", 12);
    bytes[9 * 4096 + 4095] = 1;
    is_ok(guest_survey_make(NULL, NULL, &info, &survey), "survey");
    is_int(survey.zero_count, PAGES - 5, "zero pages");
    ok(!guest_survey_is_zero(&survey, 9), "a page whose last byte is not zero is not");
    is_int(survey.note_count, 1, "notes at the beginning of a page");
    guest_survey_scan_notes(&survey, NULL, &info);
    is_int(survey.note_count, 3, "notes anywhere");
    is_int(survey.notes[2].row, 7, "one across two pages");
    is_int(survey.notes[2].offset, 4096 - 16, "where it begins");
    guest_survey_fini(&survey);
}

static void
test_many(void)
{
    struct guest_survey survey;
    memset(bytes, 0, sizeof bytes);
    for (size_t i = 0; i < 1000; i++)
        put_note(i * 64, "OSRELEASE=a\n", 12);
    is_ok(guest_survey_make(NULL, NULL, &info, &survey), "a thousand notes");
    guest_survey_scan_notes(&survey, NULL, &info);
    is_int(survey.note_count, GUEST_NOTES_MAX, "are too many");
    guest_survey_fini(&survey);
}

static void
test_read(void)
{
    static const char text[] = "OSRELEASE=6.1\x1b\n"
                               "NUMBER(a)=-17\n"
                               "NUMBER(b)=x\n"
                               "SYMBOL(c)=ffff\n"
                               "OFFSET(d)=18446744073709551616\nLENGTH(e)=\nSIZE(f)=70000";
    const struct guest_note_place place = {0};
    struct guest_note note;
    uint64_t number = 5;
    uint32_t small = 5;
    char words[4];
    memset(bytes, 0, sizeof bytes);
    put_note(0, text, sizeof text - 1);
    ok(guest_note_read(&info, &place, &note), "a note");
    ok(guest_note_u64(&note, "NUMBER", "a", &number) && number == (uint64_t)-17, "negative");
    ok(guest_note_u64(&note, "SYMBOL", "c", &number) && number == 0xffff, "an address");
    ok(guest_note_u64(&note, "SIZE", "f", &number) && number == 70000, "the last line");
    ok(!guest_note_u64(&note, "NUMBER", "b", &number), "no digits");
    ok(!guest_note_u64(&note, "OFFSET", "d", &number), "65 bits");
    ok(!guest_note_u64(&note, "LENGTH", "e", &number), "empty");
    ok(!guest_note_u64(&note, "NUMBER", "g", &number) && number == 70000, "missing");
    ok(!guest_note_u32(&note, "SIZE", "f", 69999, &small) && small == 5, "too large");
    ok(guest_note_text(&note, "OSRELEASE", words, sizeof words), "text");
    is_str(words, "6.1", "is cut");
}

static void
test_refuse(void)
{
    struct guest_note_place place = {0};
    struct guest_note note;
    memset(bytes, 0, sizeof bytes);
    put_note(0, "OSRELEASE=a\n", GUEST_NOTE_BYTES_MAX + 1);
    ok(!guest_note_read(&info, &place, &note), "too long");
    put_note(0, "OSRELEASE=a\n", 5);
    ok(!guest_note_read(&info, &place, &note), "too short");
    put_note(0, "OTHER=a\n", 12);
    ok(!guest_note_read(&info, &place, &note), "without a release");
    place = (struct guest_note_place){.row = PAGES - 1, .offset = 4000};
    put_note((size_t)(PAGES - 1) * 4096 + 4000, "OSRELEASE=a\n", 100);
    ok(!guest_note_read(&info, &place, &note), "longer than memory");
    place.offset = 4090;
    ok(!guest_note_read(&info, &place, &note), "a head longer than memory");
    place.row = PAGES;
    ok(!guest_note_read(&info, &place, &note), "a row that is not there");
}

int
main(void)
{
    test_survey();
    test_many();
    test_read();
    test_refuse();
    return done_testing();
}
