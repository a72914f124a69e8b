/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_guest_image_errors.c - what is no image, or a damaged one: each is refused with its own error
 * and with words that name the file.
 */
#include <sys/mman.h>

#include "guest/make_formats.h"
#include "guest/round_trip.h"

static char path[300];
static struct base_buf buf;

static const char *
set_path(const char *name)
{
    snprintf(path, sizeof path, "%s/%s", tap_dir(), name);
    return path;
}

/* The image at PATH is refused with WANT and WORDS, and removed. */
static void
refused(enum dor_image_format format, int want, const char *words)
{
    struct dor_image *image = NULL;
    int rc = dor_image_open(path, format, &image);
    is_int(rc, want, "%s", words);
    if (!ok(strstr(dor_err_message(), words) != NULL, "its words"))
        note("%s", dor_err_message());
    ok(rc == 0 || strncmp(dor_err_message(), "image", 5) == 0, "begin with what it is about");
    if (rc == 0)
        dor_image_close(image);
    remove_all(path);
}

static void
file_refused(const char *name, enum dor_image_format format, int want, const char *words)
{
    set_path(name);
    write_file(path, &buf);
    refused(format, want, words);
}

/* ------------------------------------------------------------------ paths */

static void
test_paths(void)
{
    struct dor_image *image;
    is_int(dor_image_open("", DOR_IMAGE_AUTO, &image), DOR_E_USAGE, "an empty path");
    is_int(
        dor_image_open(set_path("nothing"), DOR_IMAGE_AUTO, &image), DOR_E_NOT_FOUND,
        "a path of nothing");
    is_int(dor_image_open("/dev/zero", DOR_IMAGE_AUTO, &image), DOR_E_USAGE, "a device");
    ok(strstr(dor_err_message(), "is a device") != NULL, "is named as one");
    is_int(
        dor_image_open("/dev/zero", DOR_IMAGE_FORMATS, &image), DOR_E_USAGE,
        "a format that is none");
    if (mkfifo(set_path("pipe"), 0600) != 0)
        bail("mkfifo");
    refused(DOR_IMAGE_AUTO, DOR_E_USAGE, "is a pipe");
    make_folder(set_path("folder"));
    refused(DOR_IMAGE_AUTO, DOR_E_USAGE, "empty folder");
    make_folder(set_path("folder"));
    refused(DOR_IMAGE_RAW, DOR_E_USAGE, "empty folder");
    file_refused("empty", DOR_IMAGE_AUTO, DOR_E_USAGE, "is empty");
    put_zeros(&buf, 5000);
    file_refused("short", DOR_IMAGE_AUTO, DOR_E_USAGE, "not whole pages");
    put_pages(&buf, 0, 1);
    file_refused("raw", DOR_IMAGE_CRIU, DOR_E_USAGE, "is a file");
    make_criu(set_path("criu"));
    refused(DOR_IMAGE_RAW, DOR_E_USAGE, "is a folder");
    /* In memory, for not every file system has such files. */
    AUTO_CLOSE int fd = memfd_create("huge", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)((UINT64_C(1) << 44) + 4096)) != 0)
        bail("no file of 16 TiB");
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    is_int(dor_image_open(path, DOR_IMAGE_AUTO, &image), DOR_E_USAGE, "a file too large");
    ok(strstr(dor_err_message(), "too large") != NULL, "is told to be that");
}

static void
test_folders(void)
{
    char link[400];
    make_criu(set_path("criu"));
    snprintf(link, sizeof link, "%s/parent", path);
    if (symlink("..", link) != 0)
        bail("symlink");
    refused(DOR_IMAGE_AUTO, DOR_E_USAGE, "parent: is a symbolic link");
    make_criu(set_path("criu"));
    snprintf(link, sizeof link, "%s/sub", path);
    make_folder(link);
    refused(DOR_IMAGE_AUTO, DOR_E_USAGE, "sub: is a folder");
    make_folder(set_path("unknown"));
    put_pages(&buf, 0, 1);
    write_in(path, "mem", &buf);
    refused(DOR_IMAGE_AUTO, DOR_E_USAGE, "no file in this folder");
    make_folder(set_path("unknown"));
    put_pages(&buf, 0, 1);
    write_in(path, "mem", &buf);
    refused(DOR_IMAGE_FIRECRACKER, DOR_E_USAGE, "Firecracker vmstate");
    make_folder(set_path("many"));
    for (unsigned i = 0; i < 4097; i++) {
        char name[16];
        snprintf(name, sizeof name, "%u", i);
        write_in(path, name, &buf);
    }
    refused(DOR_IMAGE_AUTO, DOR_E_USAGE, "more than 4096 files");
}

/* A file beside the memory that is no page and larger than a frame may be. */
static void
test_large_rest(void)
{
    AUTO_CLOSE int fd = -1;
    char name[400];
    const size_t step = (size_t)1 << 20;
    make_firecracker(set_path("disk"));
    snprintf(name, sizeof name, "%s/rootfs.img", path);
    uint8_t *block = base_alloc(step);
    if (block == NULL || base_file_open(AT_FDCWD, name, O_WRONLY | O_CREAT, 0600, &fd) != 0)
        bail("%s", dor_err_message());
    memset(block, 'x', step);
    for (uint64_t i = 0; i < 257; i++)
        if (base_file_pwrite(fd, block, step, i * step, name) != 0)
            bail("%s", dor_err_message());
    base_free(block);
    refused(DOR_IMAGE_AUTO, DOR_E_USAGE, "rootfs.img: more than 256 MiB");
}

/* ------------------------------------------------------------------ single files */

static void
test_raw(void)
{
    put_text(&buf, "KDUMP   ");
    put_up_to(&buf, 4096);
    file_refused("kdump", DOR_IMAGE_AUTO, DOR_E_UNSUPPORTED, "kdump-compressed");
    put_vmstate(&buf, FIRECRACKER_X86);
    file_refused("vmstate", DOR_IMAGE_AUTO, DOR_E_USAGE, "folder should be given");
}

/* Make the mapped-ram image, change the u64 (big endian) at AT, and see it refused. */
static void
mapped_refused(uint64_t at, uint64_t v, int want, const char *words)
{
    put_mapped_ram(&buf, mapped_blocks, 3, 4096, 5);
    v = htobe64(v);
    memcpy(buf.data + at, &v, sizeof v);
    file_refused("mapped", DOR_IMAGE_AUTO, want, words);
}

static void
test_mapped_ram(void)
{
    struct base_buf all = {0};
    put_mapped_ram(&all, mapped_blocks, 3, 4096, 5);
    const uint8_t *found = memmem(all.data, all.size_bytes, "\006pc.ram", 7);
    uint64_t block = (uint64_t)(found - all.data) + 7;
    uint64_t list = block - 15;
    base_buf_free(&all);
    mapped_refused(list, 0x1000003, DOR_E_CORRUPT, "no list of RAM blocks");
    mapped_refused(list, 0x10004, DOR_E_CORRUPT, "larger than all blocks");
    mapped_refused(block, 0x1000000, DOR_E_CORRUPT, "larger than all blocks");
    mapped_refused(block, 0x45fff, DOR_E_CORRUPT, "not whole pages");
    mapped_refused(block + 8, (UINT64_C(2) << 32), DOR_E_UNSUPPORTED, "mapped-ram version 2");
    mapped_refused(block + 12, 65536, DOR_E_UNSUPPORTED, "pages of 65536");
    mapped_refused(block + 20, block, DOR_E_CORRUPT, "does not fit");
    mapped_refused(block + 28, block + 40, DOR_E_CORRUPT, "does not fit");
    mapped_refused(block + 28, 4097, DOR_E_CORRUPT, "not aligned");
    mapped_refused(block + 28, UINT64_C(1) << 63, DOR_E_CORRUPT, "the file is cut");
    for (size_t cut = 9; cut < block + 36; cut += 3) {
        struct dor_image *image;
        put_mapped_ram(&buf, mapped_blocks, 3, 4096, 5);
        buf.size_bytes = cut;
        write_file(set_path("cut"), &buf);
        int rc = dor_image_open(path, DOR_IMAGE_AUTO, &image);
        ok(rc == DOR_E_CORRUPT || rc == DOR_E_UNSUPPORTED, "cut at byte %d", (int)cut);
    }
    put_mapped_ram(&buf, mapped_blocks, 3, 4096, 5);
    buf.size_bytes -= 30 + 4 * 500;
    file_refused("mapped", DOR_IMAGE_AUTO, DOR_E_CORRUPT, "the file is cut");
    put_device_state(&buf, qemu_blocks, 3);
    file_refused("devstate", DOR_IMAGE_AUTO, DOR_E_UNSUPPORTED, "folder with the memory file");
    put_stream_start(&buf, "pc", "none");
    put_u8(&buf, 5);
    put_name(&buf, "configuration/new");
    put_be32(&buf, 1);
    file_refused("stream", DOR_IMAGE_AUTO, DOR_E_UNSUPPORTED, "configuration/new");
    put_pages(&buf, 0, 1);
    file_refused("raw", DOR_IMAGE_MAPPED_RAM, DOR_E_USAGE, "no QEMU migration stream");
}

/* Make a core, change its ELF or first program header, and see it refused. */
static void
core_refused(size_t at, size_t bytes, uint64_t v, int want, const char *words)
{
    put_core(&buf, machine_segments, 3, false, false);
    memcpy(buf.data + at, &v, bytes);
    file_refused("core", DOR_IMAGE_AUTO, want, words);
}

static void
test_elf_core(void)
{
    size_t note = sizeof(Elf64_Ehdr);
    core_refused(EI_CLASS, 1, ELFCLASS32, DOR_E_UNSUPPORTED, "class 1");
    core_refused(EI_DATA, 1, ELFDATA2MSB, DOR_E_UNSUPPORTED, "byte order 2");
    core_refused(18, 2, EM_AARCH64, DOR_E_UNSUPPORTED, "machine 183");
    core_refused(16, 2, ET_DYN, DOR_E_USAGE, "is it a program");
    core_refused(54, 2, 32, DOR_E_CORRUPT, "has 32 bytes");
    core_refused(32, 8, UINT64_MAX - 10, DOR_E_CORRUPT, "the core is cut");
    core_refused(56, 2, PN_XNUM, DOR_E_CORRUPT, "number of segments, is not");
    core_refused(note + 32, 8, UINT64_C(1) << 40, DOR_E_CORRUPT, "the core is cut");
    core_refused(note + 56 + 8, 8, UINT64_MAX, DOR_E_CORRUPT, "the core is cut");
    put_core(&buf, machine_segments, 3, false, false);
    buf.size_bytes -= 5000;
    file_refused("core", DOR_IMAGE_AUTO, DOR_E_CORRUPT, "the core is cut");
    put_core(&buf, machine_segments, 3, false, false);
    buf.size_bytes = 30;
    file_refused("core", DOR_IMAGE_AUTO, DOR_E_USAGE, "no ELF file");
    put_core(&buf, machine_segments, 3, false, true);
    Elf64_Shdr section = {.sh_info = 1 << 30};
    memcpy(buf.data + sizeof(Elf64_Ehdr) + 4 * sizeof(Elf64_Phdr), &section, sizeof section);
    file_refused("core", DOR_IMAGE_AUTO, DOR_E_UNSUPPORTED, "segments; at most");
    put_core(&buf, &(struct core_segment){UINT64_MAX - 8191, 12288, 0}, 1, true, false);
    file_refused("core", DOR_IMAGE_AUTO, DOR_E_CORRUPT, "past the last address");
    put_core(&buf, &(struct core_segment){4096, 100, 0}, 1, true, false);
    file_refused("core", DOR_IMAGE_AUTO, DOR_E_USAGE, "no whole page");
}

/* ------------------------------------------------------------------ folders */

/* Put the bytes in place of NAME in the folder at PATH. */
static void
replace(const char *name)
{
    write_in(path, name, &buf);
}

static void delete (const char *name)
{
    char file[400];
    snprintf(file, sizeof file, "%s/%s", path, name);
    remove_all(file);
}

static void
test_firecracker(void)
{
    make_firecracker(set_path("fc"));
    put_vmstate(&buf, FIRECRACKER_X86);
    buf.data[40] ^= 1;
    replace("state.snap");
    refused(DOR_IMAGE_AUTO, DOR_E_CORRUPT, "state.snap: its CRC64 is wrong");
    make_firecracker(set_path("fc"));
    put_vmstate(&buf, FIRECRACKER_X86);
    replace("state2");
    refused(DOR_IMAGE_AUTO, DOR_E_USAGE, "both a vmstate");
    make_firecracker(set_path("fc"));
    delete ("memory");
    refused(DOR_IMAGE_AUTO, DOR_E_USAGE, "memory file is missing");
    make_firecracker(set_path("fc"));
    put_pages(&buf, 0, 3);
    replace("memory2");
    refused(DOR_IMAGE_AUTO, DOR_E_USAGE, "2 files could be the memory");
}

static void
test_qemu(void)
{
    make_qemu(set_path("qemu"));
    delete ("mem");
    refused(DOR_IMAGE_AUTO, DOR_E_USAGE, "no file has the 1048576 bytes");
    make_qemu(set_path("qemu"));
    put_device_state(&buf, qemu_blocks, 3);
    replace("state2");
    refused(DOR_IMAGE_AUTO, DOR_E_USAGE, "both a device state");
    make_qemu(set_path("qemu"));
    put_device_state(&buf, qemu_blocks, 3);
    buf.size_bytes = 100;
    replace("devstate");
    refused(DOR_IMAGE_AUTO, DOR_E_CORRUPT, "devstate: the migration stream ends early");
    make_qemu(set_path("qemu"));
    put_mapped_ram(&buf, mapped_blocks, 1, 4096, 5);
    replace("devstate");
    refused(DOR_IMAGE_AUTO, DOR_E_USAGE, "give the file");
    make_qemu(set_path("qemu"));
    put_stream_start(&buf, "microvm", "x-ignore-shared");
    put_u8(&buf, 4);
    replace("devstate");
    refused(DOR_IMAGE_AUTO, DOR_E_USAGE, "lists no RAM");
    make_qemu(set_path("qemu"));
    put_device_state(&buf, &(struct ram_block){"ram", QEMU_PAGES, 77}, 1);
    replace("devstate");
    refused(DOR_IMAGE_AUTO, DOR_E_CORRUPT, "where no memory can be");
    make_firecracker(set_path("fc"));
    refused(DOR_IMAGE_QEMU, DOR_E_USAGE, "QEMU migration stream");
}

static void
cloud_refused(const char *state, int want, const char *words)
{
    make_cloud_hypervisor(set_path("cloud"), false);
    put_text(&buf, state);
    replace("state.json");
    refused(DOR_IMAGE_AUTO, want, words);
}

static void
table_refused(const char *table, int want, const char *words)
{
    make_cloud_hypervisor(set_path("cloud"), false);
    put_cloud_state(&buf, table);
    replace("state.json");
    refused(DOR_IMAGE_AUTO, want, words);
}

static void
test_cloud_hypervisor(void)
{
    cloud_refused("", DOR_E_CORRUPT, "state.json: 0 bytes");
    cloud_refused("{\"snapshots\":{", DOR_E_CORRUPT, "state.json: line 1");
    cloud_refused("{\"snapshots\":{}}", DOR_E_UNSUPPORTED, "no table of memory_ranges");
    cloud_refused("[[[[1]]]]", DOR_E_UNSUPPORTED, "no table of memory_ranges");
    table_refused("{\"memory_ranges\":", DOR_E_CORRUPT, "state.json: line 1");
    table_refused("{\"memory_ranges\":7}", DOR_E_UNSUPPORTED, "no table");
    table_refused("{\"memory_ranges\":[{\"gpa\":0}]}", DOR_E_CORRUPT, "range 0: its length");
    table_refused(
        "{\"memory_ranges\":[{\"gpa\":5,\"length\":4096}]}", DOR_E_CORRUPT, "range 0: its gpa");
    table_refused(
        "{\"memory_ranges\":[{\"gpa\":-4096,\"length\":4096}]}", DOR_E_CORRUPT, "its gpa");
    table_refused(
        "{\"memory_ranges\":[{\"gpa\":1e300,\"length\":4096}]}", DOR_E_CORRUPT, "its gpa");
    table_refused(
        "{\"memory_ranges\":[{\"gpa\":0,\"length\":40960}]}", DOR_E_CORRUPT, "it is cut");
    table_refused(
        "{\"memory_ranges\":[{\"gpa\":0,\"length\":4096}]}", DOR_E_CORRUPT,
        "not of one snapshot");
    table_refused("{\"memory_ranges\":[]}", DOR_E_CORRUPT, "not of one snapshot");
    make_cloud_hypervisor(set_path("cloud"), false);
    delete ("memory-ranges");
    refused(DOR_IMAGE_CLOUD_HYPERVISOR, DOR_E_USAGE, "the memory is missing");
    make_cloud_hypervisor(set_path("cloud"), false);
    delete ("state.json");
    refused(DOR_IMAGE_CLOUD_HYPERVISOR, DOR_E_USAGE, "no Cloud Hypervisor snapshot");
}

/* A dump whose first pagemap has this one record. */
static void
criu_refused(const uint64_t (*fields)[2], size_t count, int want, const char *words)
{
    make_criu(set_path("criu"));
    put_pagemap_head(&buf, 1);
    put_message(&buf, fields, count);
    replace("pagemap-1000.img");
    refused(DOR_IMAGE_AUTO, want, words);
}

#define FIELDS(...)                                                                            \
    (const uint64_t[][2]){__VA_ARGS__}, sizeof((const uint64_t[][2]){__VA_ARGS__}) / 16

static void
test_criu(void)
{
    criu_refused(FIELDS({1, 0}, {2, 6}, {3, 1}), DOR_E_UNSUPPORTED, "parent dump");
    criu_refused(FIELDS({1, 0}, {2, 6}, {4, 1}), DOR_E_UNSUPPORTED, "parent dump");
    criu_refused(FIELDS({1, 0}, {2, 6}, {6, 1}), DOR_E_UNSUPPORTED, "field 6");
    criu_refused(FIELDS({1, 0}, {2, 7}), DOR_E_CORRUPT, "it is cut");
    criu_refused(FIELDS({1, 0}, {2, 5}), DOR_E_CORRUPT, "not of one dump");
    criu_refused(FIELDS({1, 1}, {2, 6}), DOR_E_CORRUPT, "addresses that are not possible");
    criu_refused(FIELDS({2, 6}), DOR_E_CORRUPT, "addresses that are not possible");
    criu_refused(
        FIELDS({1, UINT64_MAX - 4095}, {2, 6}), DOR_E_CORRUPT,
        "addresses that are not possible");
    criu_refused(FIELDS({1, 0}, {5, UINT64_MAX}), DOR_E_CORRUPT, "not possible");
    make_criu(set_path("criu"));
    put_pagemap_head(&buf, 1);
    put_le32(&buf, 100);
    replace("pagemap-1000.img");
    refused(DOR_IMAGE_AUTO, DOR_E_CORRUPT, "pagemap-1000.img: the file is cut");
    make_criu(set_path("criu"));
    put_pagemap_head(&buf, 1);
    put_le32(&buf, 1);
    put_u8(&buf, 0x88);
    replace("pagemap-1000.img");
    refused(DOR_IMAGE_AUTO, DOR_E_CORRUPT, "not as long as it says");
    make_criu(set_path("criu"));
    put_pagemap_head(&buf, 9);
    replace("pagemap-1000.img");
    refused(DOR_IMAGE_AUTO, DOR_E_CORRUPT, "pages-9.img, which is missing");
    make_criu(set_path("criu"));
    put_pagemap_head(&buf, 2);
    replace("pagemap-1000.img");
    refused(DOR_IMAGE_AUTO, DOR_E_CORRUPT, "its pages are those of pagemap-1000.img too");
    make_qemu(set_path("qemu"));
    refused(DOR_IMAGE_CRIU, DOR_E_USAGE, "no dump of CRIU");
}

int
main(void)
{
    test_paths();
    test_folders();
    test_large_rest();
    test_raw();
    test_mapped_ram();
    test_elf_core();
    test_firecracker();
    test_qemu();
    test_cloud_hypervisor();
    test_criu();
    return done_testing();
}
