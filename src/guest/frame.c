/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame.c - encodes, decodes and validates frames; docs/formats/frame.md has the layout.
 *
 *     offset  size  field (little endian)
 *     0       8     magic "DORFRAME"
 *     8       4     version, 1
 *     12      2     enum dor_image_format
 *     14      2     enum guest_frame_flag
 *     16      8     pages of the row
 *     24      8     bytes of the body
 *     32      8     XXH3-64 of bytes 0 to 31, XOR XXH3-64 of the body
 *     40      -     the body: ops, each a varint count << 3 | op and what the op needs
 *
 * Invariants:
 *  1. A builder writes every byte of every file exactly once, in order: a file's ops make its
 *     size, which is an assertion, for a reader that forgets bytes is wrong code.
 *  2. Zeros and pages wait in the builder until something else comes, so neighbours are one op.
 *  3. guest_frame_open() walks all ops with the same decoder that guest_frame_next() uses.
 *     Whoever opened a frame needs no checks of its own.
 *
 * What it does not do: compress. The store does that with every sidecar.
 */
#include "guest/frame.h"

#include "base/err.h"
#include "base/le.h"
#include "base/size.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
    VERSION = 1,
    HEADER_BYTES = 40,
    VERSION_AT = 8,
    FORMAT_AT = 12,
    FLAGS_AT = 14,
    PAGES_AT = 16,
    BODY_AT = 24,
    DIGEST_AT = 32,
    OP_BITS = 3,
    MODE_MAX = 0777,
    ZERO_STEP_BYTES = 64 /* zeros are looked for in steps, so shorter runs stay literals */
};

static const char magic[8] = {'D', 'O', 'R', 'F', 'R', 'A', 'M', 'E'};

static_assert(GUEST_FRAME_OPS <= 1 << OP_BITS, "an op must fit its bits");
static_assert(GUEST_FRAME_PAGES_MAX == UINT64_C(1) << 32, "as frame.md says");

static uint64_t
frame_digest(const uint8_t *frame, const uint8_t *body, size_t body_bytes)
{
    return XXH3_64bits(frame, DIGEST_AT) ^ XXH3_64bits(body, body_bytes);
}

/* ------------------------------------------------------------------ making */

void
guest_frame_builder_fini(struct guest_frame_builder *builder)
{
    base_buf_free(&builder->bytes);
}

int
guest_frame_begin(struct guest_frame_builder *builder)
{
    static const uint8_t header[HEADER_BYTES];
    return base_buf_append(&builder->bytes, header, sizeof header);
}

static int
add_varint(struct guest_frame_builder *builder, uint64_t v)
{
    uint8_t bytes[BASE_VARINT_BYTES_MAX];
    size_t count = (size_t)(base_varint_put(bytes, v) - bytes);
    return base_buf_append(&builder->bytes, bytes, count);
}

static int
add_op(struct guest_frame_builder *builder, enum guest_frame_op_kind op, uint64_t count)
{
    return add_varint(builder, count << OP_BITS | (uint64_t)op);
}

/* Write what waits. */
static int
flush(struct guest_frame_builder *builder)
{
    int rc = 0;
    if (builder->zero_bytes > 0)
        rc = add_op(builder, GUEST_FRAME_ZEROS, builder->zero_bytes);
    builder->zero_bytes = 0;
    if (rc != 0 || builder->run_page_count == 0)
        return rc;
    bool goes_on = builder->run_first_page == builder->next_page;
    rc = add_op(
        builder, goes_on ? GUEST_FRAME_PAGES : GUEST_FRAME_PAGES_FROM, builder->run_page_count);
    if (rc == 0 && !goes_on)
        rc = add_varint(builder, builder->run_first_page);
    builder->next_page = builder->run_first_page + builder->run_page_count;
    builder->run_page_count = 0;
    return rc;
}

int
guest_frame_add_file(
    struct guest_frame_builder *builder, const char *name, unsigned mode, uint64_t size_bytes)
{
    dor_assert(builder->file_left_bytes == 0 && size_bytes <= GUEST_FRAME_FILE_BYTES_MAX);
    size_t name_bytes = strlen(name);
    int rc = flush(builder);
    if (rc == 0)
        rc = add_op(builder, GUEST_FRAME_FILE, name_bytes);
    if (rc == 0)
        rc = base_buf_append(&builder->bytes, name, name_bytes);
    if (rc == 0)
        rc = add_varint(builder, mode & MODE_MAX);
    if (rc == 0)
        rc = add_varint(builder, size_bytes);
    builder->file_left_bytes = size_bytes;
    return rc;
}

static void
use_bytes(struct guest_frame_builder *builder, uint64_t size_bytes)
{
    dor_assert(size_bytes <= builder->file_left_bytes);
    builder->file_left_bytes -= size_bytes;
}

int
guest_frame_add_zeros(struct guest_frame_builder *builder, uint64_t size_bytes)
{
    int rc = builder->run_page_count > 0 ? flush(builder) : 0;
    use_bytes(builder, size_bytes);
    builder->zero_bytes += size_bytes;
    return rc;
}

static bool
is_zero(const uint8_t *data, size_t size_bytes)
{
    return size_bytes == 0 || (data[0] == 0 && memcmp(data, data + 1, size_bytes - 1) == 0);
}

/* How far DATA goes on with steps that are all zero, or none of which is. */
static uint64_t
same_length(const uint8_t *data, uint64_t size_bytes, bool zero)
{
    uint64_t at = 0;
    while (at < size_bytes) {
        size_t step = (size_t)base_min_u64(ZERO_STEP_BYTES, size_bytes - at);
        if ((step == ZERO_STEP_BYTES && is_zero(data + at, step)) != zero)
            break;
        at += step;
    }
    return at;
}

static int
add_nonzero(struct guest_frame_builder *builder, const uint8_t *data, uint64_t size_bytes)
{
    if (size_bytes > GUEST_FRAME_LITERAL_BYTES_MAX - builder->literal_bytes)
        return dor_fail(
            DOR_E_USAGE,
            "more than %" PRIu64
            " MiB of the image are not memory pages; move files that do not "
            "belong to the snapshot, such as disks, out of its folder",
            GUEST_FRAME_LITERAL_BYTES_MAX >> 20);
    int rc = flush(builder);
    if (rc == 0)
        rc = add_op(builder, GUEST_FRAME_LITERAL, size_bytes);
    if (rc == 0)
        rc = base_buf_append(&builder->bytes, data, (size_t)size_bytes);
    use_bytes(builder, size_bytes);
    builder->literal_bytes += size_bytes;
    return rc;
}

int
guest_frame_add_literal(
    struct guest_frame_builder *builder, const uint8_t *data, uint64_t size_bytes)
{
    int rc = 0;
    for (uint64_t at = 0; rc == 0 && at < size_bytes;) {
        uint64_t zeros = same_length(data + at, size_bytes - at, true);
        if (zeros > 0)
            rc = guest_frame_add_zeros(builder, zeros);
        at += zeros;
        uint64_t others = same_length(data + at, size_bytes - at, false);
        if (rc == 0 && others > 0)
            rc = add_nonzero(builder, data + at, others);
        at += others;
    }
    return rc;
}

int
guest_frame_add_pages(
    struct guest_frame_builder *builder, uint64_t first_page, uint64_t page_count)
{
    uint64_t after = builder->run_first_page + builder->run_page_count;
    bool joins = builder->run_page_count > 0 && first_page == after && builder->zero_bytes == 0;
    int rc = joins ? 0 : flush(builder);
    if (!joins)
        builder->run_first_page = first_page;
    use_bytes(builder, page_count * DOR_PAGE_BYTES);
    builder->run_page_count += page_count;
    return rc;
}

static int
add_range(struct guest_frame_builder *builder, const struct dor_image_range *range)
{
    bool known = range->address != DOR_IMAGE_NO_ADDRESS;
    dor_assert(!known || range->address % DOR_PAGE_BYTES == 0);
    int rc = add_op(builder, GUEST_FRAME_RANGE, range->page_count);
    if (rc == 0)
        rc = add_varint(builder, range->space);
    if (rc == 0)
        rc = add_varint(builder, known ? range->address / DOR_PAGE_BYTES + 1 : 0);
    return rc;
}

int
guest_frame_finish(
    struct guest_frame_builder *builder, enum dor_image_format format, unsigned flags,
    const struct dor_image_range *ranges, size_t range_count, struct base_buf *ret)
{
    uint64_t page_count = 0;
    dor_assert(builder->file_left_bytes == 0);
    int rc = flush(builder);
    for (size_t i = 0; rc == 0 && i < range_count; i++) {
        rc = add_range(builder, &ranges[i]);
        page_count += ranges[i].page_count;
    }
    if (rc == 0)
        rc = add_op(builder, GUEST_FRAME_END, 0);
    if (rc != 0)
        return rc;
    uint8_t *frame = builder->bytes.data;
    size_t body_bytes = builder->bytes.size_bytes - HEADER_BYTES;
    memcpy(frame, magic, sizeof magic);
    base_le32_put(frame + VERSION_AT, VERSION);
    base_le16_put(frame + FORMAT_AT, (uint16_t)format);
    base_le16_put(frame + FLAGS_AT, (uint16_t)flags);
    base_le64_put(frame + PAGES_AT, page_count);
    base_le64_put(frame + BODY_AT, body_bytes);
    base_le64_put(frame + DIGEST_AT, frame_digest(frame, frame + HEADER_BYTES, body_bytes));
    *ret = builder->bytes;
    builder->bytes = (struct base_buf){0};
    return 0;
}

/* ------------------------------------------------------------------ reading ops */

static int
damaged(const struct guest_frame_reader *reader, const char *what)
{
    return dor_fail(
        DOR_E_CORRUPT, "frame: %s at byte %zu; the snapshot is damaged, run check", what,
        HEADER_BYTES + (size_t)(reader->at - reader->start));
}

/* Read a varint of at most MAX; false when there is none. */
static bool
take(struct guest_frame_reader *reader, uint64_t max, uint64_t *ret)
{
    uint64_t v;
    const uint8_t *after = base_varint_get(reader->at, reader->end, &v);
    if (after == NULL || v > max)
        return false;
    reader->at = after;
    *ret = v;
    return true;
}

static bool
take_data(struct guest_frame_reader *reader, struct guest_frame_op *op)
{
    if (op->count > (uint64_t)(reader->end - reader->at))
        return false;
    op->data = reader->at;
    reader->at += op->count;
    return true;
}

static bool
take_file(struct guest_frame_reader *reader, struct guest_frame_op *op)
{
    uint64_t mode;
    if (op->count > GUEST_FRAME_NAME_BYTES_MAX || !take_data(reader, op) ||
        !take(reader, MODE_MAX, &mode))
        return false;
    op->mode = (unsigned)mode;
    return take(reader, GUEST_FRAME_FILE_BYTES_MAX, &op->file_bytes);
}

static bool
take_pages(struct guest_frame_reader *reader, struct guest_frame_op *op)
{
    op->first_page = reader->next_page;
    if (op->kind == GUEST_FRAME_PAGES_FROM &&
        !take(reader, reader->page_count - 1, &op->first_page))
        return false;
    op->kind = GUEST_FRAME_PAGES;
    if (op->first_page > reader->page_count || op->count > reader->page_count - op->first_page)
        return false;
    reader->next_page = op->first_page + op->count;
    return true;
}

static bool
take_range(struct guest_frame_reader *reader, struct guest_frame_op *op)
{
    enum { PAGES_OF_ALL_BITS = 52 }; /* 64 bits of address are 2^52 pages */
    uint64_t space, page;
    if (!take(reader, UINT32_MAX, &space) ||
        !take(reader, UINT64_C(1) << PAGES_OF_ALL_BITS, &page) ||
        op->count > reader->page_count)
        return false;
    if (page > 0 && op->count > (UINT64_C(1) << PAGES_OF_ALL_BITS) - (page - 1))
        return false;
    op->space = (uint32_t)space;
    op->address = page == 0 ? DOR_IMAGE_NO_ADDRESS : (page - 1) * DOR_PAGE_BYTES;
    return true;
}

/* Decode one op; false when it is none. */
static bool
take_op(struct guest_frame_reader *reader, struct guest_frame_op *op)
{
    uint64_t v;
    *op = (struct guest_frame_op){0};
    if (!take(reader, UINT64_MAX, &v))
        return false;
    op->kind = (enum guest_frame_op_kind)(v & ((1u << OP_BITS) - 1));
    op->count = v >> OP_BITS;
    if (op->count == 0 && op->kind != GUEST_FRAME_END && op->kind != GUEST_FRAME_FILE)
        return false;
    switch (op->kind) {
    case GUEST_FRAME_END:
        return op->count == 0;
    case GUEST_FRAME_FILE:
        return take_file(reader, op);
    case GUEST_FRAME_ZEROS:
        return true;
    case GUEST_FRAME_LITERAL:
        return take_data(reader, op);
    case GUEST_FRAME_PAGES:
    case GUEST_FRAME_PAGES_FROM:
        return take_pages(reader, op);
    case GUEST_FRAME_RANGE:
        return take_range(reader, op);
    case GUEST_FRAME_OPS:
        break;
    }
    return false;
}

void
guest_frame_next(struct guest_frame_reader *reader, struct guest_frame_op *ret)
{
    dor_assert(take_op(reader, ret));
}

/* ------------------------------------------------------------------ validating */

/* What the walk of guest_frame_open() knows so far. */
struct walk {
    struct guest_frame_reader *reader;
    struct dor_frame_info *info;
    struct guest_frame_op file; /* the one that is open */
    uint64_t file_left_bytes;
    uint64_t used_pages;
    uint64_t range_pages;
};

/* Negative, 0 or positive, as names are ordered. */
static int
compare_names(const struct guest_frame_op *a, const struct guest_frame_op *b)
{
    int order = memcmp(a->data, b->data, (size_t)base_min_u64(a->count, b->count));
    return order != 0 ? order : (a->count > b->count) - (a->count < b->count);
}

static bool
name_is_safe(const struct guest_frame_op *op)
{
    bool dots =
        op->data[0] == '.' && (op->count == 1 || (op->count == 2 && op->data[1] == '.'));
    return !dots && memchr(op->data, '/', op->count) == NULL &&
           memchr(op->data, 0, op->count) == NULL;
}

static int
check_file(struct walk *walk, const struct guest_frame_op *op)
{
    struct dor_frame_info *info = walk->info;
    if (walk->file_left_bytes > 0 || walk->range_pages > 0)
        return damaged(walk->reader, "a file begins where none may");
    if (!info->folder && (op->count > 0 || info->file_count > 0))
        return damaged(walk->reader, "a second or named file in an image of one file");
    if (info->folder && (op->count == 0 || !name_is_safe(op)))
        return damaged(walk->reader, "a file name that is not allowed");
    if (info->file_count > 0 && compare_names(&walk->file, op) >= 0)
        return damaged(walk->reader, "file names out of order");
    if (info->file_count >= GUEST_FRAME_FILES_MAX)
        return damaged(walk->reader, "too many files");
    walk->file = *op;
    walk->file_left_bytes = op->file_bytes;
    info->file_count++;
    info->file_bytes += op->file_bytes;
    return 0;
}

static int
check_content(struct walk *walk, const struct guest_frame_op *op)
{
    bool pages = op->kind == GUEST_FRAME_PAGES;
    uint64_t size_bytes = pages ? op->count * DOR_PAGE_BYTES : op->count;
    if (size_bytes > walk->file_left_bytes)
        return damaged(walk->reader, "content beyond the end of its file");
    walk->file_left_bytes -= size_bytes;
    if (op->kind == GUEST_FRAME_LITERAL)
        walk->info->literal_bytes += op->count;
    if (pages && op->count > walk->info->page_count - walk->used_pages)
        return damaged(walk->reader, "more pages than the row has");
    if (pages)
        walk->used_pages += op->count;
    return 0;
}

static int
check_range(struct walk *walk, const struct guest_frame_op *op)
{
    if (walk->file_left_bytes > 0 || walk->info->file_count == 0)
        return damaged(walk->reader, "a range before the last file's end");
    if (op->count > walk->info->page_count - walk->range_pages)
        return damaged(walk->reader, "ranges beyond the row");
    walk->range_pages += op->count;
    walk->info->range_count++;
    return 0;
}

static int
check_end(const struct walk *walk)
{
    if (walk->reader->at != walk->reader->end)
        return damaged(walk->reader, "bytes after the end");
    if (walk->range_pages != walk->info->page_count)
        return damaged(walk->reader, "ranges that do not cover the row");
    return 0;
}

static int
check_ops(struct walk *walk)
{
    for (;;) {
        struct guest_frame_op op;
        if (!take_op(walk->reader, &op))
            return damaged(walk->reader, "not an op");
        int rc = 0;
        if (op.kind == GUEST_FRAME_END)
            return check_end(walk);
        if (op.kind == GUEST_FRAME_FILE)
            rc = check_file(walk, &op);
        else if (op.kind == GUEST_FRAME_RANGE)
            rc = check_range(walk, &op);
        else
            rc = check_content(walk, &op);
        if (rc != 0)
            return rc;
    }
}

static int
check_header(const uint8_t *frame, size_t frame_bytes)
{
    if (frame_bytes < HEADER_BYTES || memcmp(frame, magic, sizeof magic) != 0)
        return dor_fail(DOR_E_CORRUPT, "frame: these %zu bytes are none", frame_bytes);
    uint32_t version = base_le32_get(frame + VERSION_AT);
    if (version != VERSION)
        return dor_fail(
            DOR_E_UNSUPPORTED,
            "frame: has version %" PRIu32 ", this program knows %d; use a newer one", version,
            VERSION);
    if (base_le64_get(frame + BODY_AT) != frame_bytes - HEADER_BYTES)
        return dor_fail(
            DOR_E_CORRUPT, "frame: has %zu bytes and says %" PRIu64 "; it is cut", frame_bytes,
            base_le64_get(frame + BODY_AT));
    if (base_le64_get(frame + DIGEST_AT) !=
        frame_digest(frame, frame + HEADER_BYTES, frame_bytes - HEADER_BYTES))
        return dor_fail(
            DOR_E_CORRUPT, "frame: its checksum is wrong; the snapshot is damaged, run check");
    return 0;
}

static int
check_numbers(const uint8_t *frame, uint64_t page_count, struct dor_frame_info *info)
{
    unsigned format = base_le16_get(frame + FORMAT_AT);
    unsigned flags = base_le16_get(frame + FLAGS_AT);
    if (format == DOR_IMAGE_AUTO || format >= DOR_IMAGE_FORMATS || flags > GUEST_FRAME_FLAGS)
        return dor_fail(
            DOR_E_CORRUPT, "frame: format %u, flags %u are not known", format, flags);
    info->format = (enum dor_image_format)format;
    info->folder = (flags & GUEST_FRAME_FOLDER) != 0;
    info->process = (flags & GUEST_FRAME_PROCESS) != 0;
    info->addresses_guessed = (flags & GUEST_FRAME_GUESSED) != 0;
    info->page_count = base_le64_get(frame + PAGES_AT);
    if (info->page_count == 0 || info->page_count > GUEST_FRAME_PAGES_MAX)
        return dor_fail(
            DOR_E_CORRUPT, "frame: %" PRIu64 " pages are not possible", info->page_count);
    if (page_count != 0 && page_count != info->page_count)
        return dor_fail(
            DOR_E_CORRUPT, "frame: is of an image of %" PRIu64 " pages, not of %" PRIu64,
            info->page_count, page_count);
    return 0;
}

int
guest_frame_open(
    const void *frame, size_t frame_bytes, uint64_t page_count,
    struct guest_frame_reader *reader, struct dor_frame_info *ret_info)
{
    const uint8_t *bytes = frame;
    struct dor_frame_info info = {0};
    int rc = check_header(bytes, frame_bytes);
    if (rc == 0)
        rc = check_numbers(bytes, page_count, &info);
    if (rc != 0)
        return rc;
    struct guest_frame_reader first = {
        .start = bytes + HEADER_BYTES,
        .at = bytes + HEADER_BYTES,
        .end = bytes + frame_bytes,
        .page_count = info.page_count,
    };
    struct guest_frame_reader walker = first;
    struct walk walk = {.reader = &walker, .info = &info};
    rc = check_ops(&walk);
    if (rc != 0)
        return rc;
    *reader = first;
    *ret_info = info;
    return 0;
}

/* ------------------------------------------------------------------ the public face */

int
dor_frame_read_info(const void *frame, size_t frame_bytes, struct dor_frame_info *ret)
{
    struct guest_frame_reader reader;
    return guest_frame_open(frame, frame_bytes, 0, &reader, ret);
}

int
dor_frame_read_ranges(
    const void *frame, size_t frame_bytes, struct dor_image_range **ret, size_t *ret_count)
{
    struct guest_frame_reader reader;
    struct dor_frame_info info;
    struct guest_frame_op op;
    int rc = guest_frame_open(frame, frame_bytes, 0, &reader, &info);
    if (rc != 0)
        return rc;
    struct dor_image_range *ranges = base_array((size_t)info.range_count, sizeof *ranges);
    if (ranges == NULL)
        return DOR_E_NO_MEMORY;
    uint64_t page = 0;
    size_t count = 0;
    for (guest_frame_next(&reader, &op); op.kind != GUEST_FRAME_END;
         guest_frame_next(&reader, &op)) {
        if (op.kind != GUEST_FRAME_RANGE)
            continue;
        ranges[count++] = (struct dor_image_range){
            .first_page = page,
            .page_count = op.count,
            .address = op.address,
            .space = op.space,
        };
        page += op.count;
    }
    *ret = ranges;
    *ret_count = count;
    return 0;
}

static int
visit_op(const struct dor_frame_visitor *visitor, const struct guest_frame_op *op)
{
    char name[GUEST_FRAME_NAME_BYTES_MAX + 1];
    struct dor_frame_piece piece = {.size_bytes = op->count};
    if (op->kind == GUEST_FRAME_FILE) {
        memcpy(name, op->data, (size_t)op->count);
        name[op->count] = '\0';
        return visitor->file(visitor->context, name, op->mode, op->file_bytes);
    }
    if (op->kind == GUEST_FRAME_LITERAL) {
        piece.kind = DOR_FRAME_LITERAL;
        piece.bytes = op->data;
    } else if (op->kind == GUEST_FRAME_PAGES) {
        piece.kind = DOR_FRAME_PAGES;
        piece.first_page = op->first_page;
        piece.size_bytes = op->count * DOR_PAGE_BYTES;
    }
    return visitor->piece(visitor->context, &piece);
}

int
dor_frame_visit(
    const void *frame, size_t frame_bytes, uint64_t page_count,
    const struct dor_frame_visitor *visitor)
{
    struct guest_frame_reader reader;
    struct dor_frame_info info;
    struct guest_frame_op op;
    int rc = guest_frame_open(frame, frame_bytes, page_count, &reader, &info);
    if (rc != 0)
        return rc;
    for (guest_frame_next(&reader, &op);
         rc == 0 && op.kind != GUEST_FRAME_RANGE && op.kind != GUEST_FRAME_END;
         guest_frame_next(&reader, &op))
        rc = visit_op(visitor, &op);
    return rc;
}
