/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_guest_frame.c - frames as bytes: what the builder makes the reader gives back, and every rule
 * of frame.md is kept: a frame that breaks one is refused, whole, before anything is written.
 */
#include "guest/frame.h"
#include "guest/make_formats.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { HEADER_BYTES = 40 };

/* ------------------------------------------------------------------ the builder */

/* A folder of two files with everything in them, of a row of 20 pages. */
static void
make_frame(struct base_buf *ret)
{
    static const struct dor_image_range ranges[] = {
        {.page_count = 15, .address = 0x1000, .space = 7},
        {.first_page = 15, .page_count = 5, .address = DOR_IMAGE_NO_ADDRESS},
    };
    AUTO_FRAME_BUILDER struct guest_frame_builder builder = {0};
    uint8_t literal[300] = {1};
    literal[299] = 1;
    int rc = guest_frame_begin(&builder);
    rc |= guest_frame_add_file(&builder, "a", 0640, 300 + 15 * 4096 + 1000);
    rc |= guest_frame_add_literal(&builder, literal, sizeof literal);
    rc |= guest_frame_add_pages(&builder, 0, 7);
    rc |= guest_frame_add_pages(&builder, 7, 3);
    rc |= guest_frame_add_pages(&builder, 15, 5);
    rc |= guest_frame_add_zeros(&builder, 400);
    rc |= guest_frame_add_zeros(&builder, 600);
    rc |= guest_frame_add_file(&builder, "b", 0100, 0);
    rc |= guest_frame_finish(
        &builder, DOR_IMAGE_QEMU, GUEST_FRAME_FOLDER | GUEST_FRAME_PROCESS, ranges, 2, ret);
    if (rc != 0)
        bail("%s", dor_err_message());
}

static bool
is_op(struct guest_frame_reader *reader, enum guest_frame_op_kind kind, uint64_t count)
{
    struct guest_frame_op op;
    guest_frame_next(reader, &op);
    if (op.kind == kind && op.count == count)
        return true;
    note("op %d of %d", (int)op.kind, (int)op.count);
    return false;
}

static void
test_builder(void)
{
    AUTO_BUF struct base_buf frame = {0};
    struct guest_frame_reader reader;
    struct guest_frame_op op;
    struct dor_frame_info info;
    make_frame(&frame);
    is_ok(guest_frame_open(frame.data, frame.size_bytes, 20, &reader, &info), "a frame");
    ok(info.folder && info.process && !info.addresses_guessed, "its flags");
    ok(info.file_count == 2 && info.file_bytes == 300 + 15 * 4096 + 1000, "its files");
    ok(info.page_count == 20 && info.range_count == 2, "its row");
    guest_frame_next(&reader, &op);
    ok(op.kind == GUEST_FRAME_FILE && op.count == 1 && op.data[0] == 'a' && op.mode == 0640 &&
           op.file_bytes == 300 + 15 * 4096 + 1000,
       "the first file");
    ok(is_op(&reader, GUEST_FRAME_LITERAL, 64), "literals are cut at zeros");
    ok(is_op(&reader, GUEST_FRAME_ZEROS, 192), "zeros among them cost nothing");
    ok(is_op(&reader, GUEST_FRAME_LITERAL, 44), "to the last byte");
    ok(is_op(&reader, GUEST_FRAME_PAGES, 10), "runs of pages are joined");
    guest_frame_next(&reader, &op);
    ok(op.kind == GUEST_FRAME_PAGES && op.first_page == 15 && op.count == 5, "and may jump");
    ok(is_op(&reader, GUEST_FRAME_ZEROS, 1000), "zeros are joined");
    ok(is_op(&reader, GUEST_FRAME_FILE, 1), "the second file is empty");
    guest_frame_next(&reader, &op);
    ok(op.kind == GUEST_FRAME_RANGE && op.count == 15 && op.address == 0x1000 && op.space == 7,
       "a range");
    guest_frame_next(&reader, &op);
    ok(op.kind == GUEST_FRAME_RANGE && op.count == 5 && op.address == DOR_IMAGE_NO_ADDRESS,
       "a range without address");
    ok(is_op(&reader, GUEST_FRAME_END, 0), "the end");
}

static void
test_too_many_literals(void)
{
    AUTO_FRAME_BUILDER struct guest_frame_builder builder = {0};
    uint8_t byte = 1;
    builder.literal_bytes = GUEST_FRAME_LITERAL_BYTES_MAX;
    is_ok(guest_frame_begin(&builder), "a frame");
    is_ok(guest_frame_add_file(&builder, "", 0, 1), "with a file");
    is_int(guest_frame_add_literal(&builder, &byte, 1), DOR_E_USAGE, "too many literals");
    ok(strstr(dor_err_message(), "256 MiB") != NULL, "says how many are too many");
}

/* ------------------------------------------------------------------ every byte */

static void
test_damage(void)
{
    AUTO_BUF struct base_buf frame = {0};
    struct dor_frame_info info;
    unsigned accepted = 0;
    make_frame(&frame);
    for (size_t i = 0; i < frame.size_bytes; i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            frame.data[i] ^= (uint8_t)(1u << bit);
            accepted += dor_frame_read_info(frame.data, frame.size_bytes, &info) == 0;
            frame.data[i] ^= (uint8_t)(1u << bit);
        }
    is_int(accepted, 0, "every flipped bit is found");
    for (size_t i = 0; i < frame.size_bytes; i++)
        accepted += dor_frame_read_info(frame.data, i, &info) == 0;
    is_int(accepted, 0, "every cut is found");
    is_int(
        dor_frame_read_info(frame.data, frame.size_bytes - 1, &info), DOR_E_CORRUPT,
        "a cut frame is damaged");
    base_le32_put(frame.data + 8, 2);
    is_int(
        dor_frame_read_info(frame.data, frame.size_bytes, &info), DOR_E_UNSUPPORTED,
        "another version is not supported");
    ok(strstr(dor_err_message(), "version 2") != NULL, "and is named");
    struct guest_frame_reader reader;
    base_le32_put(frame.data + 8, 1);
    is_int(
        guest_frame_open(frame.data, frame.size_bytes, 21, &reader, &info), DOR_E_CORRUPT,
        "the frame of another row");
}

/* ------------------------------------------------------------------ every rule */

/* A frame with a right header over this body, of a row of PAGES. */
static void
put_frame(struct base_buf *buf, unsigned flags, uint64_t pages, const struct base_buf *body)
{
    put_text(buf, "DORFRAME");
    put_le32(buf, 1);
    put_le32(buf, DOR_IMAGE_QEMU | flags << 16);
    put_le64(buf, pages);
    put_le64(buf, body->size_bytes);
    put_le64(buf, XXH3_64bits(buf->data, 32) ^ XXH3_64bits(body->data, body->size_bytes));
    put(buf, body->data, body->size_bytes);
}

static void
put_op(struct base_buf *buf, enum guest_frame_op_kind op, uint64_t count)
{
    put_varint(buf, count << 3 | (uint64_t)op);
}

static void
put_file(struct base_buf *buf, const char *name, uint64_t size_bytes)
{
    put_op(buf, GUEST_FRAME_FILE, strlen(name));
    put_text(buf, name);
    put_varint(buf, 0600);
    put_varint(buf, size_bytes);
}

static void
put_range(struct base_buf *buf, uint64_t pages, uint64_t address)
{
    put_op(buf, GUEST_FRAME_RANGE, pages);
    put_varint(buf, 0);
    put_varint(buf, address);
}

/* The end of a folder whose one file M has all 4 pages. */
static void
put_rest(struct base_buf *buf)
{
    put_file(buf, "m", 4 * DOR_PAGE_BYTES);
    put_op(buf, GUEST_FRAME_PAGES, 4);
    put_range(buf, 4, 1);
    put_op(buf, GUEST_FRAME_END, 0);
}

/* Close the body and see whether the frame is taken. Frees the body. */
static void
expect(struct base_buf *body, unsigned flags, int want, const char *name)
{
    AUTO_BUF struct base_buf frame = {0};
    struct dor_frame_info info;
    put_frame(&frame, flags, 4, body);
    is_int(dor_frame_read_info(frame.data, frame.size_bytes, &info), want, "%s", name);
    base_buf_free(body);
}

static void
test_names(void)
{
    static const char *const bad[] = {"", ".", "..", "a/b", "/", "../x"};
    struct base_buf body = {0};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        put_file(&body, bad[i], 0);
        put_rest(&body);
        expect(&body, 1, DOR_E_CORRUPT, "a name that leaves the folder");
    }
    put_op(&body, GUEST_FRAME_FILE, 3);
    put(&body, "a\0b", 3);
    put_varint(&body, 0);
    put_varint(&body, 0);
    put_rest(&body);
    expect(&body, 1, DOR_E_CORRUPT, "a name with a zero byte");
    char longest[257];
    memset(longest, 'l', sizeof longest);
    longest[256] = '\0';
    put_file(&body, longest, 0);
    put_rest(&body);
    expect(&body, 1, DOR_E_CORRUPT, "a name too long");
    put_file(&body, longest + 1, 0);
    put_rest(&body);
    expect(&body, 1, 0, "the longest name");
    put_file(&body, "m", 0);
    put_rest(&body);
    expect(&body, 1, DOR_E_CORRUPT, "a name twice");
    put_file(&body, "n", 0);
    put_rest(&body);
    expect(&body, 1, DOR_E_CORRUPT, "names out of order");
    put_file(&body, "...", 0);
    put_rest(&body);
    expect(&body, 1, 0, "three dots are a name");
    put_rest(&body);
    expect(&body, 0, DOR_E_CORRUPT, "a name where there is no folder");
    put_file(&body, "", 0);
    put_file(&body, "", 4 * DOR_PAGE_BYTES);
    put_op(&body, GUEST_FRAME_PAGES, 4);
    put_range(&body, 4, 1);
    put_op(&body, GUEST_FRAME_END, 0);
    expect(&body, 0, DOR_E_CORRUPT, "two files where there is no folder");
}

static void
test_content(void)
{
    struct base_buf body = {0};
    put_file(&body, "a", 10);
    put_op(&body, GUEST_FRAME_ZEROS, 9);
    put_rest(&body);
    expect(&body, 1, DOR_E_CORRUPT, "a file that is too short");
    put_file(&body, "a", 10);
    put_op(&body, GUEST_FRAME_ZEROS, 11);
    put_rest(&body);
    expect(&body, 1, DOR_E_CORRUPT, "a file that is too long");
    put_op(&body, GUEST_FRAME_ZEROS, 1);
    put_rest(&body);
    expect(&body, 1, DOR_E_CORRUPT, "content before the first file");
    put_file(&body, "a", 4096);
    put_op(&body, GUEST_FRAME_PAGES, 1);
    put_rest(&body);
    expect(&body, 1, DOR_E_CORRUPT, "more pages than the row has");
    put_file(&body, "a", 2 * 4096);
    put_op(&body, GUEST_FRAME_PAGES_FROM, 2);
    put_varint(&body, 3);
    put_rest(&body);
    expect(&body, 1, DOR_E_CORRUPT, "pages after the row");
    put_file(&body, "a", 10);
    put_op(&body, GUEST_FRAME_LITERAL, 10);
    put_text(&body, "short");
    expect(&body, 1, DOR_E_CORRUPT, "a literal that is cut");
    put_file(&body, "a", 0);
    put_op(&body, GUEST_FRAME_ZEROS, 0);
    put_rest(&body);
    expect(&body, 1, DOR_E_CORRUPT, "an op of nothing");
    put_op(&body, GUEST_FRAME_OPS, 1);
    put_rest(&body);
    expect(&body, 1, DOR_E_CORRUPT, "an op that is not known");
    put_file(&body, "a", (UINT64_C(1) << 44) + 1);
    put_op(&body, GUEST_FRAME_ZEROS, (UINT64_C(1) << 44) + 1);
    put_rest(&body);
    expect(&body, 1, DOR_E_CORRUPT, "a file that is too large");
}

static void
test_ranges(void)
{
    struct base_buf body = {0};
    put_file(&body, "a", 0);
    put_op(&body, GUEST_FRAME_END, 0);
    expect(&body, 1, DOR_E_CORRUPT, "no range");
    put_range(&body, 4, 1);
    put_op(&body, GUEST_FRAME_END, 0);
    expect(&body, 1, DOR_E_CORRUPT, "no file");
    put_file(&body, "a", 0);
    put_range(&body, 3, 1);
    put_op(&body, GUEST_FRAME_END, 0);
    expect(&body, 1, DOR_E_CORRUPT, "ranges that do not cover the row");
    put_file(&body, "a", 0);
    put_range(&body, 3, 1);
    put_range(&body, 2, 0);
    put_op(&body, GUEST_FRAME_END, 0);
    expect(&body, 1, DOR_E_CORRUPT, "ranges beyond the row");
    put_file(&body, "a", 0);
    put_range(&body, 4, (UINT64_C(1) << 52) - 2);
    put_op(&body, GUEST_FRAME_END, 0);
    expect(&body, 1, DOR_E_CORRUPT, "a range past the last address");
    put_file(&body, "a", 0);
    put_range(&body, 4, (UINT64_C(1) << 52) - 3);
    put_op(&body, GUEST_FRAME_END, 0);
    expect(&body, 1, 0, "a range up to the last address");
    put_file(&body, "a", 0);
    put_range(&body, 4, 1);
    put_file(&body, "b", 0);
    put_op(&body, GUEST_FRAME_END, 0);
    expect(&body, 1, DOR_E_CORRUPT, "a file after a range");
    put_rest(&body);
    put_u8(&body, 0);
    expect(&body, 1, DOR_E_CORRUPT, "bytes after the end");
    put_rest(&body);
    expect(&body, 9, DOR_E_CORRUPT, "a flag that is not known");
    put_rest(&body);
    expect(&body, 7, 0, "all flags that are");
}

int
main(void)
{
    test_builder();
    test_too_many_literals();
    test_damage();
    test_names();
    test_content();
    test_ranges();
    return done_testing();
}
