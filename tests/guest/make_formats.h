/* SPDX-License-Identifier: Apache-2.0 */
/*
 * make_formats.h - makes small images in every format, byte by byte as the format's description
 * has them, so that a test can change any byte of them. Memory is pages of text, noise and zeros.
 *
 * Ownership:  buffers are the caller's, to be freed with base_buf_free().
 * Threads:    plain values.
 * Errors:     what goes wrong ends the test with bail().
 */
#ifndef TESTS_GUEST_MAKE_FORMATS_H
#define TESTS_GUEST_MAKE_FORMATS_H

#include <elf.h>
#include <endian.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/file.h"
#include "base/le.h"
#include "base/mem.h"
#include "base/size.h"
#include "guest/crc64.h"
#include "tap.h"

/* ------------------------------------------------------------------ bytes */

static inline void
put(struct base_buf *buf, const void *data, size_t size_bytes)
{
    if (base_buf_append(buf, data, size_bytes) != 0)
        bail("%s", dor_err_message());
}

static inline void
put_zeros(struct base_buf *buf, size_t size_bytes)
{
    static const uint8_t zeros[4096];
    for (; size_bytes > sizeof zeros; size_bytes -= sizeof zeros)
        put(buf, zeros, sizeof zeros);
    put(buf, zeros, size_bytes);
}

static inline void
put_up_to(struct base_buf *buf, size_t offset)
{
    dor_assert(buf->size_bytes <= offset);
    put_zeros(buf, offset - buf->size_bytes);
}

static inline void
put_text(struct base_buf *buf, const char *text)
{
    put(buf, text, strlen(text));
}

static inline void
put_u8(struct base_buf *buf, unsigned v)
{
    put(buf, &(uint8_t){(uint8_t)v}, 1);
}

static inline void
put_le32(struct base_buf *buf, uint32_t v)
{
    uint8_t bytes[4];
    base_le32_put(bytes, v);
    put(buf, bytes, sizeof bytes);
}

static inline void
put_le64(struct base_buf *buf, uint64_t v)
{
    uint8_t bytes[8];
    base_le64_put(bytes, v);
    put(buf, bytes, sizeof bytes);
}

static inline void
put_be32(struct base_buf *buf, uint32_t v)
{
    v = htobe32(v);
    put(buf, &v, sizeof v);
}

static inline void
put_be64(struct base_buf *buf, uint64_t v)
{
    v = htobe64(v);
    put(buf, &v, sizeof v);
}

static inline void
put_name(struct base_buf *buf, const char *name)
{
    put_u8(buf, (unsigned)strlen(name));
    put_text(buf, name);
}

/* Page NUMBER of an image: every fourth is zero, the others differ from each other. */
static inline void
make_page(uint64_t number, uint8_t *page)
{
    uint64_t v = number * UINT64_C(0x9e3779b97f4a7c15) + 1;
    memset(page, 0, DOR_PAGE_BYTES);
    if (number % 4 == 3)
        return;
    for (size_t at = 0; at < DOR_PAGE_BYTES; at += 8) {
        v = v * UINT64_C(6364136223846793005) + 1442695040888963407;
        base_le64_put(page + at, number % 2 == 0 ? v >> 40 : v ^ v >> 31);
    }
}

static inline void
put_pages(struct base_buf *buf, uint64_t first, uint64_t count)
{
    uint8_t page[DOR_PAGE_BYTES];
    for (uint64_t i = 0; i < count; i++) {
        make_page(first + i, page);
        put(buf, page, sizeof page);
    }
}

/* ------------------------------------------------------------------ files */

/* Write the bytes, runs of zero pages as holes, and free them. */
static inline void
write_file(const char *path, struct base_buf *buf)
{
    static const uint8_t zeros[DOR_PAGE_BYTES];
    AUTO_CLOSE int fd = -1;
    int rc = base_file_open(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0640, &fd);
    if (rc == 0)
        rc = base_file_truncate(fd, buf->size_bytes, path);
    for (size_t at = 0; rc == 0 && at < buf->size_bytes; at += DOR_PAGE_BYTES) {
        size_t bytes = base_min_size(DOR_PAGE_BYTES, buf->size_bytes - at);
        if (memcmp(buf->data + at, zeros, bytes) != 0)
            rc = base_file_pwrite(fd, buf->data + at, bytes, at, path);
    }
    if (rc != 0)
        bail("%s", dor_err_message());
    base_buf_free(buf);
}

static inline void
write_in(const char *folder, const char *name, struct base_buf *buf)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    write_file(path, buf);
}

static inline void
write_text(const char *folder, const char *name, const char *text)
{
    struct base_buf buf = {0};
    put_text(&buf, text);
    write_in(folder, name, &buf);
}

static inline void
make_folder(const char *path)
{
    if (mkdir(path, 0700) != 0)
        bail("cannot make %s", path);
}

/* ------------------------------------------------------------------ Firecracker */

static inline void
put_crc(struct base_buf *buf)
{
    put_le64(buf, guest_crc64(0, buf->data, buf->size_bytes));
}

/* As bincode wrote it: magic, version as text, state, CRC. */
static inline void
put_vmstate(struct base_buf *buf, uint64_t magic)
{
    put_le64(buf, magic);
    put_le64(buf, 5);
    put_text(buf, "5.0.0");
    for (unsigned i = 0; i < 300; i++)
        put_le32(buf, i * i);
    put_crc(buf);
}

#define FIRECRACKER_X86     UINT64_C(0x0710198486640000)
#define FIRECRACKER_AARCH64 UINT64_C(0x07101984AAAA0000)

static inline void
make_firecracker(const char *folder)
{
    struct base_buf buf = {0};
    make_folder(folder);
    put_vmstate(&buf, FIRECRACKER_X86);
    write_in(folder, "state.snap", &buf);
    put_pages(&buf, 0, 9);
    write_in(folder, "memory", &buf);
    write_text(folder, "note.txt", "made for a test\n");
}

/* ------------------------------------------------------------------ QEMU */

struct ram_block {
    const char *name;
    uint64_t pages;
    uint64_t address;
};

static inline void
put_stream_start(struct base_buf *buf, const char *machine, const char *capability)
{
    put_text(buf, "QEVM");
    put_be32(buf, 3);
    put_u8(buf, 7);
    put_be32(buf, (uint32_t)strlen(machine));
    put_text(buf, machine);
    put_u8(buf, 5);
    put_name(buf, "configuration/capabilities");
    put_be32(buf, 1);
    put_be32(buf, 1);
    put_name(buf, capability);
}

static inline void
put_ram_start(struct base_buf *buf, const struct ram_block *blocks, size_t count)
{
    uint64_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += blocks[i].pages * DOR_PAGE_BYTES;
    put_u8(buf, 1);
    put_be32(buf, 2);
    put_name(buf, "ram");
    put_be32(buf, 0);
    put_be32(buf, 4);
    put_be64(buf, total | 4);
}

static inline void
put_devices(struct base_buf *buf)
{
    put_be64(buf, 0x10);
    put_u8(buf, 0x7e);
    put_be32(buf, 2);
    for (unsigned i = 0; i < 500; i++)
        put_be32(buf, i * 77);
    put_u8(buf, 0);
}

/* The device state of a guest whose RAM is in files: x-ignore-shared. */
static inline void
put_device_state(struct base_buf *buf, const struct ram_block *blocks, size_t count)
{
    put_stream_start(buf, "microvm", "x-ignore-shared");
    put_ram_start(buf, blocks, count);
    for (size_t i = 0; i < count; i++) {
        put_name(buf, blocks[i].name);
        put_be64(buf, blocks[i].pages * DOR_PAGE_BYTES);
        put_be64(buf, blocks[i].address);
    }
    put_devices(buf);
}

enum { QEMU_PAGES = 256 }; /* less is not taken for memory */

static const struct ram_block qemu_blocks[] = {
    {"ram", QEMU_PAGES, 0}, {"/rom@etc/acpi/tables", 1, 0}, {"pc.bios", 16, 0xffff0000}};

static inline void
make_qemu(const char *folder)
{
    struct base_buf buf = {0};
    make_folder(folder);
    put_pages(&buf, 20, QEMU_PAGES);
    write_in(folder, "mem", &buf);
    put_device_state(&buf, qemu_blocks, 3);
    write_in(folder, "devstate", &buf);
    put_pages(&buf, 7, 3);
    write_in(folder, "gt", &buf);
    write_text(folder, "console", "READY\n");
    write_text(folder, "empty", "");
}

/*
 * mapped-ram, as QEMU writes it: behind each block's header its bitmap, then at a multiple of
 * ALIGN_BYTES its pages. Page STALE of each block was written and became zero later: its bit
 * is not set and its bytes are still there.
 */
static inline void
put_mapped_ram(
    struct base_buf *buf, const struct ram_block *blocks, size_t count, uint64_t align_bytes,
    uint64_t stale)
{
    uint64_t number = 0;
    put_stream_start(buf, "pc-q35-10.0", "mapped-ram");
    put_ram_start(buf, blocks, count);
    for (size_t i = 0; i < count; i++) {
        uint64_t pages = blocks[i].pages;
        uint64_t words = DIV_ROUND_UP(pages, 64);
        put_name(buf, blocks[i].name);
        put_be64(buf, pages * DOR_PAGE_BYTES);
        uint64_t bitmap_offset = buf->size_bytes + 28;
        uint64_t pages_offset =
            DIV_ROUND_UP(bitmap_offset + words * 8, align_bytes) * align_bytes;
        put_be32(buf, 1);
        put_be64(buf, DOR_PAGE_BYTES);
        put_be64(buf, bitmap_offset);
        put_be64(buf, pages_offset);
        for (uint64_t word = 0; word < words; word++) {
            uint64_t bits = 0;
            for (uint64_t page = word * 64; page < pages && page < word * 64 + 64; page++)
                if ((number + page) % 4 != 3 && page != stale)
                    bits |= UINT64_C(1) << page % 64;
            put_le64(buf, bits);
        }
        put_up_to(buf, pages_offset);
        put_pages(buf, number, pages);
        number += pages;
    }
    put_devices(buf);
}

static const struct ram_block mapped_blocks[] = {
    {"pc.ram", 70, 0}, {"vga.vram", 16, 0}, {"pc.bios", 3, 0}};

static inline void
make_mapped_ram(const char *path)
{
    struct base_buf buf = {0};
    put_mapped_ram(&buf, mapped_blocks, 3, 1 << 20, 5);
    write_file(path, &buf);
}

/* ------------------------------------------------------------------ ELF cores */

struct core_segment {
    uint64_t address;
    uint64_t size_bytes;
    uint64_t first_page; /* of make_page() */
};

static inline void
put_note(struct base_buf *buf, const char *name, uint32_t type, const void *data, size_t bytes)
{
    static const uint8_t padding[4];
    size_t name_bytes = strlen(name) + 1;
    put_le32(buf, (uint32_t)name_bytes);
    put_le32(buf, (uint32_t)bytes);
    put_le32(buf, type);
    put(buf, name, name_bytes);
    put(buf, padding, (4 - name_bytes % 4) % 4);
    put(buf, data, bytes);
    put(buf, padding, (4 - bytes % 4) % 4);
}

static inline void
put_notes(struct base_buf *buf, bool process)
{
    uint8_t about[136] = {0};
    base_le32_put(about + 24, 4242);
    if (process) {
        put_note(buf, "CORE", NT_PRSTATUS, about, 112);
        put_note(buf, "CORE", NT_PRPSINFO, about, sizeof about);
    } else {
        put_note(buf, "CORE", NT_PRSTATUS, about, 112);
        put_note(buf, "QEMU", 0, about, 100);
    }
}

static inline void
put_elf_header(struct base_buf *buf, uint64_t headers, uint64_t section_offset)
{
    Elf64_Ehdr header = {
        .e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
        .e_type = ET_CORE,
        .e_machine = EM_X86_64,
        .e_version = EV_CURRENT,
        .e_phoff = sizeof header,
        .e_shoff = section_offset,
        .e_ehsize = sizeof header,
        .e_phentsize = sizeof(Elf64_Phdr),
        .e_phnum = (uint16_t)(section_offset != 0 ? PN_XNUM : headers),
        .e_shentsize = section_offset != 0 ? sizeof(Elf64_Shdr) : 0,
        .e_shnum = section_offset != 0 ? 1 : 0,
    };
    put(buf, &header, sizeof header);
}

static inline void
put_program_header(
    struct base_buf *buf, uint32_t type, uint64_t offset, uint64_t vaddr, uint64_t paddr,
    uint64_t size_bytes)
{
    Elf64_Phdr header = {
        .p_type = type,
        .p_offset = offset,
        .p_vaddr = vaddr,
        .p_paddr = paddr,
        .p_filesz = size_bytes,
        .p_memsz = size_bytes,
    };
    put(buf, &header, sizeof header);
}

/* Notes first, then the segments right behind each other, as QEMU and gdb do it: not aligned. */
static inline void
put_core(
    struct base_buf *buf, const struct core_segment *segments, size_t count, bool process,
    bool many)
{
    struct base_buf notes = {0};
    put_notes(&notes, process);
    uint64_t at = sizeof(Elf64_Ehdr) + (count + 1) * sizeof(Elf64_Phdr);
    put_elf_header(buf, count + 1, many ? at : 0);
    at += many ? sizeof(Elf64_Shdr) : 0;
    put_program_header(buf, PT_NOTE, at, 0, 0, notes.size_bytes);
    at += notes.size_bytes;
    for (size_t i = 0; i < count; i++) {
        uint64_t address = segments[i].address;
        put_program_header(
            buf, PT_LOAD, at, process ? address : 0, process ? 0 : address,
            segments[i].size_bytes);
        at += segments[i].size_bytes;
    }
    if (many) {
        Elf64_Shdr section = {.sh_info = (uint32_t)count + 1};
        put(buf, &section, sizeof section);
    }
    put(buf, notes.data, notes.size_bytes);
    base_buf_free(&notes);
    for (size_t i = 0; i < count; i++) {
        struct base_buf pages = {0};
        put_pages(&pages, segments[i].first_page, segments[i].size_bytes / DOR_PAGE_BYTES + 1);
        put(buf, pages.data, segments[i].size_bytes);
        base_buf_free(&pages);
    }
}

static const struct core_segment machine_segments[] = {
    {0, 40960, 0}, {0xc0000, 3 * 4096, 100}, {UINT64_C(1) << 32, 8192, 200}};
static const struct core_segment process_segments[] = {
    {0x555500000000, 8192, 0}, {0x7f0000000800, 10000, 50}, {0xffffffffff600000, 4096, 60}};

static inline void
make_core(const char *path, bool process)
{
    struct base_buf buf = {0};
    put_core(&buf, process ? process_segments : machine_segments, 3, process, false);
    write_file(path, &buf);
}

/* ------------------------------------------------------------------ Cloud Hypervisor */

#define CLOUD_TABLE                                                                            \
    "{\"memory_ranges\":{\"data\":[{\"gpa\":0,\"length\":24576},"                              \
    "{\"gpa\":4294967296,\"length\":12288}]},\"guest_ram_mappings\":[{\"slot\":0,\"gpa\":0,"   \
    "\"size\":24576,\"zone_id\":\"mem0\",\"virtio_mem\":false,\"file_offset\":0}],"            \
    "\"arch_mem_regions\":[{\"base\":0,\"size\":18446744073709551615,\"r_type\":\"Ram\"}]}"

/* The table as JSON in a JSON string, as versions since 2022 write it. */
static inline void
put_cloud_state(struct base_buf *buf, const char *table)
{
    put_text(
        buf, "{\"snapshots\":{\"cpu-manager\":{\"snapshots\":{},\"snapshot_data\":{}},"
             "\"memory-manager\":{\"snapshots\":{},\"snapshot_data\":{\"state\":\"");
    for (const char *at = table; *at != '\0'; at++) {
        if (*at == '"')
            put_u8(buf, '\\');
        put_u8(buf, (unsigned char)*at);
    }
    put_text(buf, "\"}}},\"snapshot_data\":{}}");
}

/* The older way: its bytes as numbers. */
static inline void
put_old_cloud_state(struct base_buf *buf, const char *table)
{
    put_text(
        buf, "{\"id\":\"vm\",\"snapshots\":{\"memory-manager\":{\"id\":\"memory-manager\","
             "\"snapshots\":{},\"snapshot_data\":{\"memory-manager-section\":{\"id\":"
             "\"memory-manager-section\",\"snapshot\":[");
    for (const char *at = table; *at != '\0'; at++) {
        char number[8];
        snprintf(number, sizeof number, "%s%d", at == table ? "" : ",", *at);
        put_text(buf, number);
    }
    put_text(buf, "]}}}},\"snapshot_data\":{}}");
}

static inline void
make_cloud_hypervisor(const char *folder, bool old)
{
    struct base_buf buf = {0};
    make_folder(folder);
    if (old)
        put_old_cloud_state(&buf, CLOUD_TABLE);
    else
        put_cloud_state(&buf, CLOUD_TABLE);
    write_in(folder, "state.json", &buf);
    put_pages(&buf, 5, 9);
    write_in(folder, "memory-ranges", &buf);
    write_text(folder, "config.json", "{\"cpus\":{\"boot_vcpus\":1}}");
}

/* ------------------------------------------------------------------ CRIU */

static inline void
put_varint(struct base_buf *buf, uint64_t v)
{
    uint8_t bytes[BASE_VARINT_BYTES_MAX];
    put(buf, bytes, (size_t)(base_varint_put(bytes, v) - bytes));
}

/* A record of varint fields: COUNT pairs of number and value. */
static inline void
put_message(struct base_buf *buf, const uint64_t (*fields)[2], size_t count)
{
    struct base_buf message = {0};
    for (size_t i = 0; i < count; i++) {
        put_varint(&message, fields[i][0] << 3);
        put_varint(&message, fields[i][1]);
    }
    put_le32(buf, (uint32_t)message.size_bytes);
    put(buf, message.data, message.size_bytes);
    base_buf_free(&message);
}

static inline void
put_pagemap_head(struct base_buf *buf, uint64_t pages_id)
{
    put_le32(buf, 0x54564319);
    put_le32(buf, 0x56084025);
    put_message(buf, (const uint64_t[][2]){{1, pages_id}}, 1);
}

/* As CRIU 3 writes it: count in field 2. */
static inline void
put_pagemap_entry(struct base_buf *buf, uint64_t address, uint64_t pages, uint64_t flags)
{
    put_message(buf, (const uint64_t[][2]){{1, address}, {2, pages}, {4, flags}}, 3);
}

static inline void
make_criu(const char *folder)
{
    struct base_buf buf = {0};
    make_folder(folder);
    put_pagemap_head(&buf, 1);
    put_pagemap_entry(&buf, 0x400000, 2, 4);
    put_pagemap_entry(&buf, 0x402000, 1, 4);
    put_pagemap_entry(&buf, 0x500000, 7, 2); /* lazy, not here */
    put_pagemap_entry(&buf, 0x7f0000000000, 3, 4 | 2);
    write_in(folder, "pagemap-1000.img", &buf);
    put_pages(&buf, 0, 6);
    write_in(folder, "pages-1.img", &buf);
    put_pagemap_head(&buf, 2); /* as CRIU 4: count in field 5 */
    put_message(&buf, (const uint64_t[][2]){{1, 0x400000}, {2, 0}, {4, 4}, {5, 4}}, 4);
    write_in(folder, "pagemap-1001.img", &buf);
    put_pages(&buf, 0, 4);
    write_in(folder, "pages-2.img", &buf);
    put_pagemap_head(&buf, 3); /* as old ones: no flags */
    put_message(&buf, (const uint64_t[][2]){{1, 0}, {2, 2}}, 2);
    write_in(folder, "pagemap-shmem-77.img", &buf);
    put_pages(&buf, 30, 2);
    write_in(folder, "pages-3.img", &buf);
    put_le32(&buf, 0x54564319);
    put_le32(&buf, 0x57492820);
    put_text(&buf, "whatever an mm image holds");
    write_in(folder, "mm-1000.img", &buf);
    write_text(folder, "inventory.img", "inventory");
}

#endif
