/* SPDX-License-Identifier: Apache-2.0 */
/*
 * format_elf_core.c - ELF cores of x86-64: of machines (QEMU's dump-guest-memory, kdump) and of
 * processes (gcore, the kernel's own).
 *
 *     ELF header | program headers | notes | loaded segments, at any offsets | section headers
 *
 *     0    16  7f 45 4c 46, 2 (64 bits), 1 (little endian) ...
 *     16   2   4: a core          18  2  62: x86-64
 *     32   8   offset of the program headers, 40 8 of the section headers
 *     54   2   bytes of a program header, 56
 *     56   2   how many; 0xffff: u32 at offset 44 of section header 0 has the number
 *
 *     program header: u32 type (1 load, 4 note), u32 flags, u64 offset, virtual address, physical
 *     address, bytes in the file, bytes in memory, alignment
 *
 * Pages of the row are the whole pages, by address, of every loaded segment's bytes in the file.
 * Segments are taken in the order of the file. Where two lie over each other (a dump with paging
 * names the same physical memory once per mapping), the later one loses what is covered. Such a
 * dump also holds memory that no segment names: long stretches between segments and after them
 * are pages without an address. All other bytes go to the frame.
 *
 * A core of a process has notes about it; it gives virtual addresses, a machine physical ones.
 */
#include "base/err.h"
#include "base/le.h"
#include "base/size.h"
#include "guest/image_priv.h"

#include <elf.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Between segments there may be padding too, of less than a page. */
#define STRETCH_BYTES_MIN ((uint64_t)2 * DOR_PAGE_BYTES)

enum {
    SEGMENTS_MAX = 1 << 20,
    PID_IN_PRPSINFO = 24,
    PID_IN_PRSTATUS = 32,
    NOTES_MAX = 1 << 16
};

struct segment {
    uint64_t offset;
    uint64_t size_bytes; /* in the file */
    uint64_t address;
};

struct core {
    const struct guest_file *file;
    const uint8_t *headers;
    uint64_t header_count;
    struct segment *segments; /* by offset */
    size_t segment_count;
    bool process;
    bool about_machine; /* a note says so */
    bool about_process;
    uint32_t pid;
};

static bool
matches(const struct dor_image *image)
{
    return guest_file_begins(&image->files[0], ELFMAG, SELFMAG);
}

/* ------------------------------------------------------------------ headers */

static bool
lies_in(const struct guest_file *file, uint64_t offset, uint64_t size_bytes)
{
    return offset <= file->size_bytes && size_bytes <= file->size_bytes - offset;
}

static int
check_header(const struct guest_file *file, const Elf64_Ehdr *header)
{
    if (file->size_bytes < sizeof *header || memcmp(file->data, ELFMAG, SELFMAG) != 0)
        return dor_fail(DOR_E_USAGE, "image %s: is no ELF file", file->label);
    if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB ||
        header->e_machine != EM_X86_64)
        return dor_fail(
            DOR_E_UNSUPPORTED,
            "image %s: is an ELF file of class %u, byte order %u, machine %u; only cores of "
            "x86-64 are read (--format raw stores whole pages as they are)",
            file->label, header->e_ident[EI_CLASS], header->e_ident[EI_DATA],
            header->e_machine);
    if (header->e_type != ET_CORE)
        return dor_fail(
            DOR_E_USAGE,
            "image %s: is an ELF file, but no core (its type is %u); is it a program?",
            file->label, header->e_type);
    if (header->e_phentsize != sizeof(Elf64_Phdr))
        return dor_fail(
            DOR_E_CORRUPT, "image %s: says a program header has %u bytes, not %zu", file->label,
            header->e_phentsize, sizeof(Elf64_Phdr));
    return 0;
}

/* The number of program headers, which may be too large for its field. */
static int
count_headers(struct core *core, const Elf64_Ehdr *header)
{
    const struct guest_file *file = core->file;
    core->header_count = header->e_phnum;
    if (header->e_phnum == PN_XNUM) {
        Elf64_Shdr section;
        if (header->e_shoff == 0 || !lies_in(file, header->e_shoff, sizeof section))
            return dor_fail(
                DOR_E_CORRUPT,
                "image %s: its section header, with the number of segments, is not in the "
                "file, "
                "at byte %" PRIu64 "; the core is cut",
                file->label, (uint64_t)header->e_shoff);
        memcpy(&section, file->data + header->e_shoff, sizeof section);
        core->header_count = section.sh_info;
    }
    if (core->header_count > SEGMENTS_MAX)
        return dor_fail(
            DOR_E_UNSUPPORTED, "image %s: has %" PRIu64 " segments; at most %d are read",
            file->label, core->header_count, SEGMENTS_MAX);
    if (!lies_in(file, header->e_phoff, core->header_count * sizeof(Elf64_Phdr)))
        return dor_fail(
            DOR_E_CORRUPT,
            "image %s: its %" PRIu64 " program headers at byte %" PRIu64
            " end after the file's end; the core is cut",
            file->label, core->header_count, (uint64_t)header->e_phoff);
    core->headers = file->data + header->e_phoff;
    return 0;
}

static Elf64_Phdr
get_header(const struct core *core, uint64_t i)
{
    Elf64_Phdr header;
    dor_assert(core->headers != NULL);
    memcpy(&header, core->headers + i * sizeof header, sizeof header);
    return header;
}

static int
check_segment(const struct core *core, uint64_t i, const Elf64_Phdr *header)
{
    if (header->p_type != PT_LOAD && header->p_type != PT_NOTE)
        return 0;
    if (lies_in(core->file, header->p_offset, header->p_filesz))
        return 0;
    return dor_fail(
        DOR_E_CORRUPT,
        "image %s: segment %" PRIu64 " has %" PRIu64 " bytes at %" PRIu64
        " and the file only %" PRIu64 "; the core is cut, dump it again",
        core->file->label, i, (uint64_t)header->p_filesz, (uint64_t)header->p_offset,
        core->file->size_bytes);
}

/* ------------------------------------------------------------------ notes */

static void
read_note(
    struct core *core, const char *name, uint64_t name_bytes, uint32_t type,
    const uint8_t *content, uint64_t content_bytes)
{
    bool about_core = name_bytes >= 4 && memcmp(name, "CORE", 4) == 0;
    bool about_qemu = name_bytes >= 4 && memcmp(name, "QEMU", 4) == 0;
    bool about_kernel = name_bytes >= 10 && memcmp(name, "VMCOREINFO", 10) == 0;
    core->about_machine |= about_qemu || about_kernel;
    if (!about_core)
        return;
    if (type == NT_PRPSINFO || type == NT_AUXV || type == NT_FILE)
        core->about_process = true;
    if (type == NT_PRPSINFO && content_bytes >= PID_IN_PRPSINFO + 4)
        core->pid = base_le32_get(content + PID_IN_PRPSINFO);
    if (type == NT_PRSTATUS && content_bytes >= PID_IN_PRSTATUS + 4 && core->pid == 0)
        core->pid = base_le32_get(content + PID_IN_PRSTATUS);
}

/* Notes are advice about whose memory this is: what is odd in them is passed over. */
static void
read_notes(struct core *core, const Elf64_Phdr *header)
{
    const uint8_t *at = core->file->data + header->p_offset;
    uint64_t left = header->p_filesz;
    Elf64_Nhdr note;
    for (unsigned i = 0; i < NOTES_MAX && left >= sizeof note; i++) {
        memcpy(&note, at, sizeof note);
        uint64_t name_room = ((uint64_t)note.n_namesz + 3) / 4 * 4;
        uint64_t content_room = ((uint64_t)note.n_descsz + 3) / 4 * 4;
        if (name_room + content_room > left - sizeof note)
            return;
        const uint8_t *name = at + sizeof note;
        read_note(
            core, (const char *)name, note.n_namesz, note.n_type, name + name_room,
            note.n_descsz);
        at += sizeof note + name_room + content_room;
        left -= sizeof note + name_room + content_room;
    }
}

/* ------------------------------------------------------------------ segments */

/* Whether the addresses to use are virtual. Without a word in the notes: if no physical one is. */
static bool
is_process(const struct core *core)
{
    if (core->about_machine || core->about_process)
        return !core->about_machine;
    for (uint64_t i = 0; i < core->header_count; i++) {
        Elf64_Phdr header = get_header(core, i);
        if (header.p_type == PT_LOAD && header.p_paddr != 0)
            return false;
    }
    return core->header_count > 1;
}

static int
by_offset(const void *a, const void *b)
{
    const struct segment *left = a;
    const struct segment *right = b;
    if (left->offset != right->offset)
        return left->offset < right->offset ? -1 : 1;
    return (left->size_bytes < right->size_bytes) - (left->size_bytes > right->size_bytes);
}

static int
read_segments(struct core *core)
{
    int rc = 0;
    for (uint64_t i = 0; rc == 0 && i < core->header_count; i++) {
        Elf64_Phdr header = get_header(core, i);
        rc = check_segment(core, i, &header);
        if (rc == 0 && header.p_type == PT_NOTE)
            read_notes(core, &header);
    }
    if (rc != 0)
        return rc;
    core->process = is_process(core);
    core->segments = base_array((size_t)core->header_count, sizeof *core->segments);
    if (core->segments == NULL)
        return DOR_E_NO_MEMORY;
    for (uint64_t i = 0; i < core->header_count; i++) {
        Elf64_Phdr header = get_header(core, i);
        if (header.p_type != PT_LOAD || header.p_filesz == 0)
            continue;
        core->segments[core->segment_count++] = (struct segment){
            .offset = header.p_offset,
            .size_bytes = header.p_filesz,
            .address = core->process ? header.p_vaddr : header.p_paddr,
        };
    }
    if (core->segment_count > 1)
        qsort(core->segments, core->segment_count, sizeof *core->segments, by_offset);
    return 0;
}

/* Move the segment's beginning to where the file is not used yet; false if nothing is left. */
static bool
trim(struct segment *segment, uint64_t used_to)
{
    uint64_t covered = used_to > segment->offset ? used_to - segment->offset : 0;
    if (covered >= segment->size_bytes)
        return false;
    segment->offset += covered;
    segment->size_bytes -= covered;
    segment->address += covered;
    return true;
}

/* What is before the first whole page of the segment, by address. */
static uint64_t
head_bytes(const struct segment *segment)
{
    uint64_t past = segment->address % DOR_PAGE_BYTES;
    return base_min_u64(past == 0 ? 0 : DOR_PAGE_BYTES - past, segment->size_bytes);
}

/* With KNOWN false the address is only good for telling where pages begin. */
static int
add_segment(
    struct dor_image *image, const struct core *core, const struct segment *segment, bool known)
{
    uint64_t head = head_bytes(segment);
    uint64_t pages = (segment->size_bytes - head) / DOR_PAGE_BYTES;
    uint64_t tail = segment->size_bytes - head - pages * DOR_PAGE_BYTES;
    uint64_t address = segment->address + head;
    /* Past the last address there is none to give. */
    if (known && pages > 0 && pages * DOR_PAGE_BYTES - 1 > UINT64_MAX - address)
        return dor_fail(
            DOR_E_CORRUPT,
            "image %s: the segment at byte %" PRIu64 " goes past the last address",
            core->file->label, segment->offset);
    int rc = guest_image_add_literal(image, 0, segment->offset, head);
    if (rc == 0)
        rc = guest_image_add_pages(
            image, 0, segment->offset + head, pages, known ? address : DOR_IMAGE_NO_ADDRESS,
            core->process ? core->pid : 0);
    if (rc == 0)
        rc = guest_image_add_literal(
            image, 0, segment->offset + segment->size_bytes - tail, tail);
    return rc;
}

/* What no segment names, from FROM to TO; ADDRESS is where the segment before it ended. */
static int
add_stretch(
    struct dor_image *image, const struct core *core, uint64_t from, uint64_t to,
    uint64_t address)
{
    struct segment stretch = {.offset = from, .size_bytes = to - from, .address = address};
    if (core->process || to - from < STRETCH_BYTES_MIN)
        return guest_image_add_literal(image, 0, from, to - from);
    return add_segment(image, core, &stretch, false);
}

static int
add_segments(struct dor_image *image, const struct core *core)
{
    uint64_t at = 0;
    uint64_t address = 0;
    int rc = guest_image_begin_file(image, 0);
    for (size_t i = 0; rc == 0 && i < core->segment_count; i++) {
        struct segment segment = core->segments[i];
        if (!trim(&segment, at))
            continue;
        if (at == 0) /* headers and notes */
            rc = guest_image_add_literal(image, 0, at, segment.offset - at);
        else
            rc = add_stretch(image, core, at, segment.offset, address);
        if (rc == 0)
            rc = add_segment(image, core, &segment, true);
        at = segment.offset + segment.size_bytes;
        address = segment.address + segment.size_bytes;
    }
    if (rc == 0)
        rc = add_stretch(image, core, at, core->file->size_bytes, address);
    return rc;
}

static int
read_elf_core(struct dor_image *image)
{
    struct core core = {.file = &image->files[0]};
    Elf64_Ehdr header = {0};
    memcpy(
        &header, core.file->data, (size_t)base_min_u64(sizeof header, core.file->size_bytes));
    int rc = check_header(core.file, &header);
    if (rc == 0)
        rc = count_headers(&core, &header);
    if (rc == 0)
        rc = read_segments(&core);
    if (rc == 0)
        rc = add_segments(image, &core);
    image->info.process = core.process;
    base_free(core.segments);
    return rc;
}

const struct guest_format guest_format_elf_core = {
    .name = "elf-core",
    .folder = false,
    .matches = matches,
    .read = read_elf_core,
};
