/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qevm.c - reads QEMU's migration stream up to the end of the list of RAM blocks.
 *
 *     all numbers big endian; a name is a u8 length and so many bytes
 *
 *     u32 "QEVM", u32 version 3
 *     u8 7 (configuration)      u32 length, machine type
 *        u8 5 (subsection)      name, u32 version, then by name:
 *                                 configuration/capabilities      u32 count, names
 *                                 configuration/target-page-bits  u32
 *                                 configuration/uuid              16 bytes
 *     u8 8 (command)            u16 command, u16 length, so many bytes
 *     u8 1 (section start)      u32 section, name "ram", u32 instance, u32 version 4
 *        u64 bytes of all blocks | 4 (their list follows), then of each until all are counted:
 *           name, u64 used length
 *           u64 address                  with the capability x-ignore-shared
 *           mapped-ram header, packed    with the capability mapped-ram:
 *             u32 version 1, u64 page size, u64 offset of the bitmap, u64 offset of the pages
 *             (both 0: not in the file; otherwise the list goes on after the pages)
 *
 * Invariants: every read is checked against the end of the file, blocks are at most BLOCKS_MAX, and
 * the place only moves forward, so blocks, bitmaps and pages of a file cannot overlap.
 */
#include "guest/qevm.h"

#include "base/err.h"
#include "base/size.h"

#include <endian.h>
#include <inttypes.h>
#include <string.h>

enum {
    VERSION = 3,
    BYTE_SECTION_START = 1,
    BYTE_SUBSECTION = 5,
    BYTE_CONFIGURATION = 7,
    BYTE_COMMAND = 8,
    RAM_VERSION = 4,
    RAM_LIST_FOLLOWS = 4,
    RAM_FLAGS_MASK = 4095,
    MAPPED_VERSION = 1,
    UUID_BYTES = 16,
    BLOCKS_MAX = 1024,
    NAMES_MAX = 256,
    MACHINE_BYTES_MAX = 255
};

static const char magic[8] = {'Q', 'E', 'V', 'M', 0, 0, 0, VERSION};

struct cursor {
    const struct guest_file *file;
    uint64_t at;
    bool ended; /* the file is too short: all numbers are 0 from here on */
};

/* ------------------------------------------------------------------ numbers and names */

static const uint8_t *
take(struct cursor *cursor, uint64_t size_bytes)
{
    static const uint8_t nothing[UUID_BYTES];
    if (cursor->ended || size_bytes > cursor->file->size_bytes - cursor->at) {
        cursor->ended = true;
        return nothing;
    }
    cursor->at += size_bytes;
    return cursor->file->data + cursor->at - size_bytes;
}

static uint8_t
take_u8(struct cursor *cursor)
{
    return *take(cursor, 1);
}

static uint32_t
take_u16(struct cursor *cursor)
{
    uint16_t v;
    memcpy(&v, take(cursor, sizeof v), sizeof v);
    return be16toh(v);
}

static uint32_t
take_u32(struct cursor *cursor)
{
    uint32_t v;
    memcpy(&v, take(cursor, sizeof v), sizeof v);
    return be32toh(v);
}

static uint64_t
take_u64(struct cursor *cursor)
{
    uint64_t v;
    memcpy(&v, take(cursor, sizeof v), sizeof v);
    return be64toh(v);
}

static const char *
take_name(struct cursor *cursor, size_t *ret_bytes)
{
    size_t name_bytes = take_u8(cursor);
    const char *name = (const char *)take(cursor, name_bytes);
    *ret_bytes = cursor->ended ? 0 : name_bytes;
    return name;
}

static bool
name_is(const char *name, size_t name_bytes, const char *want)
{
    return name_bytes == strlen(want) && memcmp(name, want, name_bytes) == 0;
}

/* What stands at the next place, without taking it; 0 at the end. */
static uint8_t
peek(const struct cursor *cursor)
{
    bool there = !cursor->ended && cursor->at < cursor->file->size_bytes;
    return there ? cursor->file->data[cursor->at] : 0;
}

static int
cut(const struct cursor *cursor)
{
    return dor_fail(
        DOR_E_CORRUPT,
        "image %s: the migration stream ends early, at byte %" PRIu64 "; save it again",
        cursor->file->label, cursor->at);
}

/* ------------------------------------------------------------------ configuration */

static void
read_capabilities(struct cursor *cursor, struct guest_qevm *stream)
{
    uint32_t count = take_u32(cursor);
    for (uint32_t i = 0; i < count && i < NAMES_MAX && !cursor->ended; i++) {
        size_t name_bytes;
        const char *name = take_name(cursor, &name_bytes);
        stream->mapped_ram |= name_is(name, name_bytes, "mapped-ram");
        stream->ignore_shared |= name_is(name, name_bytes, "x-ignore-shared");
    }
}

static int
read_subsection(struct cursor *cursor, struct guest_qevm *stream)
{
    size_t name_bytes;
    take_u8(cursor);
    const char *name = take_name(cursor, &name_bytes);
    take_u32(cursor);
    if (name_is(name, name_bytes, "configuration/capabilities"))
        read_capabilities(cursor, stream);
    else if (name_is(name, name_bytes, "configuration/target-page-bits"))
        take_u32(cursor);
    else if (name_is(name, name_bytes, "configuration/uuid"))
        take(cursor, UUID_BYTES);
    else if (!cursor->ended)
        return dor_fail(
            DOR_E_UNSUPPORTED,
            "image %s: the migration stream has a part \"%.*s\" at byte %" PRIu64
            " that is not known",
            cursor->file->label, (int)name_bytes, name, cursor->at);
    return cursor->ended ? cut(cursor) : 0;
}

static int
read_configuration(struct cursor *cursor, struct guest_qevm *stream)
{
    int rc = 0;
    if (peek(cursor) != BYTE_CONFIGURATION)
        return 0; /* old machine types have none */
    take_u8(cursor);
    uint32_t machine_bytes = take_u32(cursor);
    if (machine_bytes > MACHINE_BYTES_MAX)
        return dor_fail(
            DOR_E_CORRUPT, "image %s: a machine type of %" PRIu32 " bytes is not possible",
            cursor->file->label, machine_bytes);
    stream->machine = (const char *)take(cursor, machine_bytes);
    stream->machine_bytes = cursor->ended ? 0 : machine_bytes;
    while (rc == 0 && peek(cursor) == BYTE_SUBSECTION)
        rc = read_subsection(cursor, stream);
    return rc == 0 && cursor->ended ? cut(cursor) : rc;
}

/* ------------------------------------------------------------------ RAM */

static int
damaged_block(
    const struct cursor *cursor, const struct guest_qevm_block *block, const char *what)
{
    return dor_fail(
        DOR_E_CORRUPT, "image %s: RAM block \"%.*s\" at byte %" PRIu64 ": %s",
        cursor->file->label, (int)block->name_bytes, block->name, cursor->at, what);
}

static int
read_mapped_header(struct cursor *cursor, struct guest_qevm_block *block)
{
    uint32_t version = take_u32(cursor);
    uint64_t page_bytes = take_u64(cursor);
    block->bitmap_offset = take_u64(cursor);
    block->pages_offset = take_u64(cursor);
    block->header_end = cursor->at;
    if (cursor->ended)
        return cut(cursor);
    if (version != MAPPED_VERSION || page_bytes != DOR_PAGE_BYTES)
        return dor_fail(
            DOR_E_UNSUPPORTED,
            "image %s: RAM block \"%.*s\" has mapped-ram version %" PRIu32
            " and pages of %" PRIu64 " bytes; version %d and pages of %zu are read",
            cursor->file->label, (int)block->name_bytes, block->name, version, page_bytes,
            MAPPED_VERSION, DOR_PAGE_BYTES);
    if (block->bitmap_offset == 0 && block->pages_offset == 0)
        return 0;
    uint64_t pages = block->used_bytes / DOR_PAGE_BYTES;
    uint64_t bitmap_bytes = DIV_ROUND_UP(pages, 64) * 8;
    if (block->used_bytes % DOR_PAGE_BYTES != 0)
        return damaged_block(cursor, block, "its length is not whole pages");
    if (block->bitmap_offset < cursor->at || block->pages_offset < block->bitmap_offset ||
        block->pages_offset - block->bitmap_offset < bitmap_bytes)
        return damaged_block(cursor, block, "its bitmap does not fit before its pages");
    if (block->pages_offset % DOR_PAGE_BYTES != 0)
        return damaged_block(cursor, block, "its pages are not aligned");
    if (block->pages_offset > cursor->file->size_bytes ||
        block->used_bytes > cursor->file->size_bytes - block->pages_offset)
        return damaged_block(cursor, block, "its pages end after the file; the file is cut");
    cursor->at = block->pages_offset + block->used_bytes;
    return 0;
}

static int
read_block(struct cursor *cursor, struct guest_qevm *stream, uint64_t *left_bytes)
{
    struct guest_qevm_block block = {.address = DOR_IMAGE_NO_ADDRESS};
    block.name = take_name(cursor, &block.name_bytes);
    block.used_bytes = take_u64(cursor);
    if (stream->ignore_shared)
        block.address = take_u64(cursor);
    block.header_end = cursor->at;
    int rc = cursor->ended ? cut(cursor) : 0;
    if (rc == 0 && block.used_bytes > *left_bytes)
        rc = damaged_block(cursor, &block, "is larger than all blocks together");
    if (rc == 0 && stream->mapped_ram)
        rc = read_mapped_header(cursor, &block);
    if (rc == 0 && stream->block_count == BLOCKS_MAX)
        rc = damaged_block(cursor, &block, "there are too many");
    if (rc != 0)
        return rc;
    *left_bytes -= block.used_bytes;
    stream->blocks[stream->block_count++] = block;
    return 0;
}

static int
read_blocks(struct cursor *cursor, struct guest_qevm *stream)
{
    uint64_t total = take_u64(cursor);
    uint64_t left_bytes = total & ~(uint64_t)RAM_FLAGS_MASK;
    if (!cursor->ended && (total & RAM_FLAGS_MASK) != RAM_LIST_FOLLOWS)
        return dor_fail(
            DOR_E_CORRUPT, "image %s: no list of RAM blocks at byte %" PRIu64,
            cursor->file->label, cursor->at);
    stream->blocks = base_array(BLOCKS_MAX, sizeof *stream->blocks);
    if (stream->blocks == NULL)
        return DOR_E_NO_MEMORY;
    int rc = cursor->ended ? cut(cursor) : 0;
    while (rc == 0 && left_bytes > 0)
        rc = read_block(cursor, stream, &left_bytes);
    return rc;
}

static void
skip_commands(struct cursor *cursor)
{
    while (peek(cursor) == BYTE_COMMAND) {
        take_u8(cursor);
        take_u16(cursor);
        take(cursor, take_u16(cursor));
    }
}

/* The RAM section, if the stream begins with it. */
static int
read_ram(struct cursor *cursor, struct guest_qevm *stream)
{
    size_t name_bytes;
    skip_commands(cursor);
    if (peek(cursor) != BYTE_SECTION_START)
        return cursor->ended ? cut(cursor) : 0;
    take_u8(cursor);
    take_u32(cursor);
    const char *name = take_name(cursor, &name_bytes);
    take_u32(cursor);
    uint32_t version = take_u32(cursor);
    if (cursor->ended)
        return cut(cursor);
    if (!name_is(name, name_bytes, "ram"))
        return 0;
    if (version != RAM_VERSION)
        return dor_fail(
            DOR_E_UNSUPPORTED, "image %s: its RAM section has version %" PRIu32 ", %d is read",
            cursor->file->label, version, RAM_VERSION);
    return read_blocks(cursor, stream);
}

/* ------------------------------------------------------------------ the whole */

bool
guest_qevm_matches(const struct guest_file *file)
{
    return guest_file_begins(file, magic, sizeof magic);
}

int
guest_qevm_read(const struct guest_file *file, struct guest_qevm *ret)
{
    struct cursor cursor = {.file = file, .at = sizeof magic};
    struct guest_qevm stream = {.machine = ""};
    if (!guest_qevm_matches(file))
        return dor_fail(
            DOR_E_USAGE, "image %s: is no QEMU migration stream of version %d", file->label,
            VERSION);
    int rc = read_configuration(&cursor, &stream);
    if (rc == 0)
        rc = read_ram(&cursor, &stream);
    if (rc != 0) {
        guest_qevm_fini(&stream);
        return rc;
    }
    *ret = stream;
    return 0;
}

void
guest_qevm_fini(struct guest_qevm *stream)
{
    base_free(stream->blocks);
    stream->blocks = NULL;
}

static bool
machine_contains(const struct guest_qevm *stream, const char *word)
{
    return memmem(stream->machine, stream->machine_bytes, word, strlen(word)) != NULL;
}

/* As `info mtree` of QEMU 7.2 and 10.0 has it, unless the option max-ram-below-4g says other. */
uint64_t
guest_qevm_low_bytes(const struct guest_qevm *stream, uint64_t ram_bytes)
{
    const uint64_t mib = UINT64_C(1) << 20;
    if (machine_contains(stream, "q35"))
        return ram_bytes >= 2816 * mib ? 2048 * mib : 2816 * mib;
    if (machine_contains(stream, "microvm"))
        return 3072 * mib;
    return ram_bytes >= 3584 * mib ? 3072 * mib : 3584 * mib;
}
