/* SPDX-License-Identifier: Apache-2.0 */
/*
 * format_criu.c - a folder of CRIU's images: the memory of processes in pages-N.img, what it is in
 * pagemap-PID.img and pagemap-shmem-N.img, everything else in some dozens of other files.
 *
 *     pages-N.img      pages one after another, nothing else
 *     pagemap-X.img    u32 0x54564319, u32 0x56084025, then records: u32 length and a protobuf
 *                      message, first pagemap_head { 1: pages_id }, then pagemap_entry
 *                      { 1: vaddr, 2: nr_pages (older), 3: in_parent, 4: flags, 5: nr_pages }
 *
 * All numbers little endian. Flags: 1 the pages are in a parent dump, 2 lazy, 4 they are here; an
 * entry without flags has its pages here unless in_parent. Those that are here follow
 * each other in pages-N.img, N the pages_id. A dump whose pages are partly in a parent is refused,
 * as is a field that is not known: CRIU adds fields when pages are stored in a new way.
 *
 * Invariants: a pages file belongs to one pagemap, and its size is what that says.
 */
#include "base/err.h"
#include "base/le.h"
#include "base/size.h"
#include "guest/image_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGEMAP_PREFIX "pagemap-"
#define SHMEM_PREFIX   "pagemap-shmem-"

enum {
    HEADER_BYTES = 8,
    LENGTH_BYTES = 4,
    WIRE_VARINT = 0,
    FLAG_PARENT = 1,
    FLAG_PRESENT = 4,
    PID_BYTES_MAX = 10
};

static const uint8_t pagemap_magic[HEADER_BYTES] = {
    0x19, 0x43, 0x56, 0x54, 0x25, 0x40, 0x08, 0x56,
};

/* A pagemap file while its records are read. */
struct pagemap {
    const struct guest_file *file;
    uint64_t at;
    uint64_t pages_id;
    bool shmem;
    uint32_t pid;
};

struct entry {
    uint64_t address;
    uint64_t page_count;
    bool present;
};

/* Fields 1 to 5 of a message, all varints. */
enum { FIELD_COUNT = 6 };
struct message {
    uint64_t values[FIELD_COUNT];
    bool there[FIELD_COUNT];
};

static bool
is_pagemap(const struct guest_file *file)
{
    return strncmp(file->name, PAGEMAP_PREFIX, strlen(PAGEMAP_PREFIX)) == 0 &&
           guest_file_begins(file, pagemap_magic, sizeof pagemap_magic);
}

static bool
matches(const struct dor_image *image)
{
    for (size_t i = 0; i < image->file_count; i++)
        if (is_pagemap(&image->files[i]))
            return true;
    return false;
}

/* ------------------------------------------------------------------ protobuf */

static int
damaged(const struct pagemap *map, const char *what)
{
    return dor_fail(
        DOR_E_CORRUPT, "image %s: %s at byte %" PRIu64 "; dump again", map->file->label, what,
        map->at);
}

/* One message of varints between AT and END. */
static int
parse_message(
    const struct pagemap *map, const uint8_t *at, const uint8_t *end, struct message *ret)
{
    *ret = (struct message){0};
    while (at < end) {
        uint64_t key, value;
        at = base_varint_get(at, end, &key);
        if (at == NULL)
            return damaged(map, "a message is not as long as it says");
        uint64_t field = key >> 3;
        if ((key & 7) != WIRE_VARINT || field == 0 || field >= FIELD_COUNT)
            return dor_fail(
                DOR_E_UNSUPPORTED,
                "image %s: field %" PRIu64 " at byte %" PRIu64
                " is not known; the pages may be compressed or stored in another way",
                map->file->label, field, map->at);
        at = base_varint_get(at, end, &value);
        if (at == NULL)
            return damaged(map, "a message is not as long as it says");
        ret->values[field] = value;
        ret->there[field] = true;
    }
    return 0;
}

static bool
at_end(const struct pagemap *map)
{
    return map->at == map->file->size_bytes;
}

static int
next_message(struct pagemap *map, struct message *ret)
{
    uint64_t left = map->file->size_bytes - map->at;
    if (left < LENGTH_BYTES)
        return damaged(map, "the file is cut");
    uint32_t length = base_le32_get(map->file->data + map->at);
    if (length > left - LENGTH_BYTES)
        return damaged(map, "the file is cut");
    const uint8_t *at = map->file->data + map->at + LENGTH_BYTES;
    int rc = parse_message(map, at, at + length, ret);
    map->at += LENGTH_BYTES + length;
    return rc;
}

static int
next_entry(struct pagemap *map, struct entry *ret)
{
    enum { VADDR = 1, OLD_COUNT = 2, IN_PARENT = 3, FLAGS = 4, COUNT = 5 };
    struct message message = {0};
    int rc = next_message(map, &message);
    if (rc != 0)
        return rc;
    uint64_t flags = message.there[FLAGS] ? message.values[FLAGS] : FLAG_PRESENT;
    if (message.values[IN_PARENT] != 0)
        flags = FLAG_PARENT;
    if ((flags & FLAG_PARENT) != 0)
        return dor_fail(
            DOR_E_UNSUPPORTED,
            "image %s: has pages in a parent dump; only whole dumps are read, dump without "
            "--prev-images-dir",
            map->file->label);
    ret->address = message.values[VADDR];
    ret->page_count = message.values[message.there[COUNT] ? COUNT : OLD_COUNT];
    ret->present = (flags & FLAG_PRESENT) != 0;
    if (!message.there[VADDR] || ret->address % DOR_PAGE_BYTES != 0 ||
        ret->page_count > GUEST_FRAME_PAGES_MAX ||
        (ret->page_count > 0 &&
         ret->page_count * DOR_PAGE_BYTES - 1 > UINT64_MAX - ret->address))
        return damaged(map, "an entry with addresses that are not possible");
    return 0;
}

/* ------------------------------------------------------------------ files */

/* The number at the end of "pagemap-123.img", or 0. */
static uint32_t
number_of(const char *name, const char *prefix)
{
    const char *digits = name + strlen(prefix);
    char *end;
    unsigned long v = strtoul(digits, &end, 10);
    bool plain = end > digits && end - digits <= PID_BYTES_MAX && strcmp(end, ".img") == 0;
    return plain && v <= UINT32_MAX ? (uint32_t)v : 0;
}

/* Open the file as a pagemap, its head read. */
static int
open_pagemap(const struct guest_file *file, struct pagemap *ret)
{
    enum { PAGES_ID = 1 };
    struct message head = {0};
    struct pagemap map = {.file = file, .at = HEADER_BYTES};
    map.shmem = strncmp(file->name, SHMEM_PREFIX, strlen(SHMEM_PREFIX)) == 0;
    map.pid = map.shmem ? 0 : number_of(file->name, PAGEMAP_PREFIX);
    int rc = next_message(&map, &head);
    if (rc != 0)
        return rc;
    map.pages_id = head.values[PAGES_ID];
    *ret = map;
    return 0;
}

/* For each file the number of its pagemap plus 1; 0 for files that hold no pages. */
static int
match_files(const struct dor_image *image, size_t *map_of)
{
    for (size_t i = 0; i < image->file_count; i++) {
        struct pagemap map = {0};
        char name[32];
        if (!is_pagemap(&image->files[i]))
            continue;
        int rc = open_pagemap(&image->files[i], &map);
        if (rc != 0)
            return rc;
        snprintf(name, sizeof name, "pages-%" PRIu64 ".img", map.pages_id);
        size_t pages = guest_image_find(image, name);
        if (pages == image->file_count)
            return dor_fail(
                DOR_E_CORRUPT, "image %s: its pages should be in %s, which is missing",
                image->files[i].label, name);
        if (map_of[pages] != 0)
            return dor_fail(
                DOR_E_CORRUPT, "image %s: its pages are those of %s too, in %s",
                image->files[i].label, image->files[map_of[pages] - 1].name, name);
        map_of[pages] = i + 1;
    }
    return 0;
}

/* The pages file FILE_INDEX, by its pagemap. */
static int
add_pages(struct dor_image *image, size_t file_index, const struct guest_file *map_file)
{
    const struct guest_file *file = &image->files[file_index];
    struct pagemap map = {0};
    uint64_t at = 0;
    int rc = open_pagemap(map_file, &map);
    if (rc == 0)
        rc = guest_image_begin_file(image, file_index);
    while (rc == 0 && !at_end(&map)) {
        struct entry entry = {0};
        rc = next_entry(&map, &entry);
        if (rc != 0 || !entry.present)
            continue;
        if (entry.page_count > (file->size_bytes - at) / DOR_PAGE_BYTES)
            return dor_fail(
                DOR_E_CORRUPT,
                "image %s: %s says there are %" PRIu64 " pages at byte %" PRIu64
                ", the file has %" PRIu64 " bytes; it is cut",
                file->label, map_file->name, entry.page_count, at, file->size_bytes);
        rc = guest_image_add_pages(
            image, file_index, at, entry.page_count,
            map.shmem ? DOR_IMAGE_NO_ADDRESS : entry.address, map.pid);
        at += entry.page_count * DOR_PAGE_BYTES;
    }
    if (rc == 0 && at != file->size_bytes)
        rc = dor_fail(
            DOR_E_CORRUPT,
            "image %s: has %" PRIu64 " bytes, but %s speaks of %" PRIu64
            "; the files are not of one dump",
            file->label, file->size_bytes, map_file->name, at);
    return rc;
}

static int
read_criu(struct dor_image *image)
{
    AUTO_FREE size_t *map_of = base_array(image->file_count, sizeof *map_of);
    if (map_of == NULL)
        return DOR_E_NO_MEMORY;
    if (!matches(image))
        return dor_fail(
            DOR_E_USAGE, "image %s: has no pagemap-*.img; it is no dump of CRIU", image->path);
    int rc = match_files(image, map_of);
    for (size_t i = 0; rc == 0 && i < image->file_count; i++)
        rc = map_of[i] == 0 ? guest_image_add_other(image, i)
                            : add_pages(image, i, &image->files[map_of[i] - 1]);
    image->info.process = true;
    return rc;
}

const struct guest_format guest_format_criu = {
    .name = "criu",
    .folder = true,
    .matches = matches,
    .read = read_criu,
};
