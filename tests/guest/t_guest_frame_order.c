/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_guest_frame_order.c - pages that come to a frame's files in any order, some twice and some never:
 * each gets to every place that the frame has for it, also with more files than are kept open.
 * Whoever gives up, or fails at any call, leaves nothing.
 */
#include <errno.h>

#include "base/err.h"
#include "base/fault.h"
#include "base/random.h"
#include "base/size.h"
#include "guest/frame.h"
#include "guest/make_formats.h"
#include "guest/round_trip.h"

enum {
    FILES = 40,
    FILE_PAGES_MAX = 12,
    ROW_PAGES = FILES * FILE_PAGES_MAX,
    NAME_BYTES = 16,
    READ_ONLY = 3, /* the number of a file that its owner may not write */
    TRIES_MAX = 4000
};

static struct base_random rng;
static struct base_buf frame;
static struct base_buf files[FILES]; /* what must be in them */
static uint8_t row[ROW_PAGES][DOR_PAGE_BYTES];
static bool is_given[ROW_PAGES];
static char path[300];

static void
file_name(unsigned number, char name[NAME_BYTES])
{
    snprintf(name, NAME_BYTES, "pages-%02u.img", number);
}

static void
make_row(void)
{
    for (uint64_t i = 0; i < ROW_PAGES; i++) {
        is_given[i] = base_random_below(&rng, 5) != 0;
        for (size_t b = 0; is_given[i] && b < DOR_PAGE_BYTES; b++)
            row[i][b] = (uint8_t)base_random_next(&rng);
    }
}

/* Pages of the frame's next file: runs of the row from anywhere, so some come again. */
static int
add_pages(struct guest_frame_builder *builder, struct base_buf *want, uint64_t count)
{
    int rc = 0;
    while (rc == 0 && count > 0) {
        uint64_t run = 1 + base_random_below(&rng, count);
        uint64_t first = base_random_below(&rng, ROW_PAGES - run + 1);
        rc = guest_frame_add_pages(builder, first, run);
        if (rc == 0)
            rc = base_buf_append(want, row[first], run * DOR_PAGE_BYTES);
        count -= run;
    }
    return rc;
}

static void
make_frame(void)
{
    static const struct dor_image_range range = {
        .page_count = ROW_PAGES, .address = DOR_IMAGE_NO_ADDRESS};
    AUTO_FRAME_BUILDER struct guest_frame_builder builder = {0};
    int rc = guest_frame_begin(&builder);
    for (unsigned i = 0; rc == 0 && i < FILES; i++) {
        char name[NAME_BYTES];
        uint8_t text[200];
        /* Every fifth file has no pages; offsets of pages are no multiples of anything. */
        uint64_t pages = i % 5 == 4 ? 0 : base_random_below(&rng, FILE_PAGES_MAX + 1);
        uint64_t text_bytes = 1 + base_random_below(&rng, sizeof text);
        memset(text, (int)i + 1, sizeof text);
        file_name(i, name);
        rc = guest_frame_add_file(
            &builder, name, i == READ_ONLY ? 0400 : 0640, text_bytes + pages * DOR_PAGE_BYTES);
        if (rc == 0)
            rc = guest_frame_add_literal(&builder, text, text_bytes);
        if (rc == 0)
            rc = base_buf_append(&files[i], text, text_bytes);
        if (rc == 0)
            rc = add_pages(&builder, &files[i], pages);
    }
    if (rc == 0)
        rc = guest_frame_finish(
            &builder, DOR_IMAGE_CRIU, GUEST_FRAME_FOLDER | GUEST_FRAME_PROCESS, &range, 1,
            &frame);
    if (rc != 0)
        bail("%s", dor_err_message());
}

/* Add neighbours from FIRST on, at most DOR_SINK_PAGES_MAX of them. */
static int
add_run(struct dor_frame_writer *writer, uint64_t first)
{
    struct iovec pages[DOR_SINK_PAGES_MAX];
    size_t count = 0;
    for (; count < DOR_SINK_PAGES_MAX && first + count < ROW_PAGES && is_given[first + count];
         count++)
        pages[count] = (struct iovec){row[first + count], DOR_PAGE_BYTES};
    return count == 0 ? 0 : dor_frame_writer_add(writer, first, pages, count);
}

/* All pages that are given, from a place in the row on and round, backwards when TURN is odd. */
static int
add_all(struct dor_frame_writer *writer, uint64_t turn)
{
    int rc = 0;
    for (uint64_t i = 0; rc == 0 && i < ROW_PAGES; i++) {
        uint64_t at = (turn * 97 + i) % ROW_PAGES;
        rc = add_run(writer, turn % 2 == 0 ? at : ROW_PAGES - 1 - at);
    }
    return rc;
}

static int
write_it(uint64_t turn)
{
    struct dor_frame_writer *writer;
    int rc = dor_frame_writer_open(frame.data, frame.size_bytes, path, ROW_PAGES, &writer);
    if (rc != 0)
        return rc;
    rc = add_all(writer, turn);
    if (rc == 0)
        rc = dor_frame_writer_finish(writer);
    dor_frame_writer_close(writer);
    return rc;
}

static bool
exists(const char *name)
{
    struct stat status;
    return lstat(name, &status) == 0;
}

static bool
is_nothing_left(void)
{
    char part[310];
    snprintf(part, sizeof part, "%s.part", path);
    return !exists(path) && !exists(part);
}

/* How many files are not what they must be. */
static unsigned
count_wrong(void)
{
    unsigned wrong = 0;
    for (unsigned i = 0; i < FILES; i++) {
        char name[NAME_BYTES];
        char file_path[400];
        struct stat status;
        file_name(i, name);
        snprintf(file_path, sizeof file_path, "%s/%s", path, name);
        FILE *file = fopen(file_path, "rb");
        uint8_t *got = malloc(files[i].size_bytes);
        if (file == NULL || got == NULL || fstat(fileno(file), &status) != 0)
            bail("%s", file_path);
        bool same = fread(got, 1, files[i].size_bytes, file) == files[i].size_bytes &&
                    (uint64_t)status.st_size == files[i].size_bytes &&
                    memcmp(got, files[i].data, files[i].size_bytes) == 0;
        bool fit = (status.st_mode & 0777) == (i == READ_ONLY ? 0400 : 0640);
        wrong += same && fit ? 0 : 1;
        free(got);
        fclose(file);
    }
    return wrong;
}

static void
test_orders(void)
{
    for (uint64_t turn = 0; turn < 4; turn++) {
        is_ok(write_it(turn), "pages in order %d", (int)turn);
        is_int(count_wrong(), 0, "are in their places");
        remove_all(path);
    }
}

static void
test_given_up(void)
{
    struct dor_frame_writer *writer;
    if (dor_frame_writer_open(frame.data, frame.size_bytes, path, ROW_PAGES, &writer) != 0 ||
        add_all(writer, 0) != 0)
        bail("%s", dor_err_message());
    ok(!is_nothing_left(), "there is something before the end");
    (void)!dor_fail(DOR_E_CORRUPT, "what went wrong");
    dor_frame_writer_close(writer);
    ok(is_nothing_left(), "and nothing when it is given up");
    is_str(dor_err_message(), "what went wrong", "the words of the error stay");
    is_int(
        dor_frame_writer_open(frame.data, frame.size_bytes, path, ROW_PAGES - 1, &writer),
        DOR_E_CORRUPT, "a frame of another row is refused");
    ok(is_nothing_left(), "before anything is made");
}

/* True while there are more calls to fail. */
static bool
try_failure(enum base_fault_kind kind, uint64_t nth, int want, unsigned *wrong)
{
    base_fault_arm(kind, nth, EIO);
    int rc = write_it(1);
    base_fault_arm(FAULT_NONE, 0, 0);
    bool fired = base_fault_fired();
    bool complete = exists(path);
    /* What stands in the way of removal is another failure; the last sync comes after the name. */
    if ((rc != 0 && (rc != want || !fired)) || (rc == 0 && !complete) ||
        (rc != 0 && complete && count_wrong() != 0) ||
        (kind == FAULT_ALLOC && rc != 0 && !is_nothing_left())) {
        note("call %d: %d, %s", (int)nth, rc, dor_err_message());
        ++*wrong;
    }
    remove_all(path);
    return fired && nth < TRIES_MAX;
}

static void
test_faults(void)
{
    const struct {
        enum base_fault_kind kind;
        int want;
        const char *name;
    } kinds[] = {
        {FAULT_ALLOC, DOR_E_NO_MEMORY, "an allocation fails"},
        {FAULT_IO_FAIL, DOR_E_IO, "a file call fails"},
        {FAULT_IO_FAIL_STICKY, DOR_E_IO, "all file calls fail from there on"},
    };
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        unsigned wrong = 0;
        uint64_t nth = 1;
        /* There are thousands of calls; those at the beginning and every so many are tried. */
        while (try_failure(kinds[i].kind, nth, kinds[i].want, &wrong))
            nth += 1 + nth / 16;
        is_int(wrong, 0, "%s, the last tried is call %d", kinds[i].name, (int)nth);
        ok(nth > 2, "there were some");
    }
}

int
main(void)
{
    base_random_init(&rng, tap_seed());
    umask(0022);
    work_in_memory();
    snprintf(path, sizeof path, "%s/to", tap_dir());
    make_row();
    make_frame();
    test_orders();
    test_given_up();
    test_faults();
    for (unsigned i = 0; i < FILES; i++)
        base_buf_free(&files[i]);
    base_buf_free(&frame);
    return done_testing();
}
