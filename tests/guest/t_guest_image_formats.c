/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_guest_image_formats.c - every format: found by content, its row where it should be, and its
 * files back byte for byte from row and frame.
 */
#include "guest/make_formats.h"
#include "guest/round_trip.h"

static char paths[8][320];
static unsigned path_count;

/* A path in the test's directory; up to 8 at a time. */
static const char *
at(const char *name)
{
    char *path = paths[path_count++ % ARRAY_LEN(paths)];
    snprintf(path, sizeof paths[0], "%s/%s", tap_dir(), name);
    return path;
}

/* What a test expects of a range. */
struct expected {
    uint64_t pages;
    uint64_t address;
    uint32_t space;
    uint64_t first; /* number of its first page for make_page() */
};

static bool
pages_are(const struct dor_image_range *range, uint64_t first)
{
    uint8_t page[DOR_PAGE_BYTES];
    for (uint64_t i = 0; i < range->page_count; i++) {
        make_page(first + i, page);
        if (memcmp(page, range->data + i * DOR_PAGE_BYTES, sizeof page) != 0) {
            note("page %d of the range differs", (int)i);
            return false;
        }
    }
    return true;
}

static void
check_ranges(
    const struct dor_image_info *info, const struct expected *expected, size_t count,
    bool content)
{
    uint64_t page = 0;
    is_int(info->range_count, count, "as many ranges as expected");
    for (size_t i = 0; i < count && i < info->range_count; i++) {
        const struct dor_image_range *range = &info->ranges[i];
        is_int(range->first_page, page, "range %d begins where the last ended", (int)i);
        is_int(range->page_count, expected[i].pages, "its pages");
        ok(range->address == expected[i].address, "its address");
        is_int(range->space, expected[i].space, "its space");
        ok(!content || pages_are(range, expected[i].first), "its content");
        page += range->page_count;
    }
    is_int(info->page_count, page, "ranges cover the row");
}

/* A frame tells by itself what its image told. */
static void
check_frame(const struct dor_image_info *info, bool folder)
{
    struct dor_frame_info frame;
    struct dor_image_range *ranges = NULL;
    size_t count = 0;
    is_ok(dor_frame_read_info(info->frame, info->frame_bytes, &frame), "the frame is read");
    ok(frame.format == info->format && frame.folder == folder &&
           frame.process == info->process && frame.page_count == info->page_count &&
           frame.addresses_guessed == info->addresses_guessed,
       "and tells what the image told");
    is_ok(dor_frame_read_ranges(info->frame, info->frame_bytes, &ranges, &count), "its ranges");
    bool same = count == info->range_count && count == frame.range_count;
    for (size_t i = 0; same && i < count; i++)
        same = ranges[i].first_page == info->ranges[i].first_page &&
               ranges[i].page_count == info->ranges[i].page_count &&
               ranges[i].address == info->ranges[i].address &&
               ranges[i].space == info->ranges[i].space && ranges[i].data == NULL;
    ok(same, "are the image's");
    free(ranges);
}

static void
check_round_trip(const char *path, bool folder)
{
    const char *copy = at("copy");
    for (int with_holes = 0; with_holes < 2; with_holes++) {
        is_ok(copy_image(path, copy, DOR_IMAGE_AUTO, with_holes), "it is written");
        ok(same_files(path, copy), "and is the same, %s", with_holes ? "by holes" : "by zeros");
        if (!folder)
            remove_all(copy);
        else
            is_int(
                copy_image(path, copy, DOR_IMAGE_AUTO, false), DOR_E_EXISTS,
                "a folder is not written over");
        remove_all(copy);
    }
}

/* Ranges, frame and round trip of the image at PATH. */
static void
check_image(
    const char *path, enum dor_image_format format, const struct expected *expected,
    size_t count, bool content)
{
    struct dor_image *image;
    note("%s", path);
    if (!is_ok(dor_image_open(path, DOR_IMAGE_AUTO, &image), "it is opened"))
        return;
    const struct dor_image_info *info = dor_image_info(image);
    is_str(
        dor_image_format_name(info->format), dor_image_format_name(format),
        "its format is found");
    ok(info->process == (expected[0].space != 0), "it is of a machine or of processes");
    check_ranges(info, expected, count, content);
    struct stat status;
    bool folder = stat(path, &status) == 0 && S_ISDIR(status.st_mode);
    if (format == DOR_IMAGE_RAW)
        is_int(info->frame_bytes, 0, "raw has no frame");
    else
        check_frame(info, folder);
    dor_image_close(image);
    check_round_trip(path, folder);
}

static void
test_raw(void)
{
    struct base_buf buf = {0};
    put_pages(&buf, 0, 20);
    write_file(at("raw"), &buf);
    if (chmod(at("raw"), 0600) != 0)
        bail("chmod");
    check_image(at("raw"), DOR_IMAGE_RAW, (struct expected[]){{20, 0, 0, 0}}, 1, true);
}

/* Larger than what fits below the hole; all of it a hole of the file. */
static void
test_split(void)
{
    const uint64_t gib = UINT64_C(1) << 30;
    const char *path = at("large");
    AUTO_CLOSE int fd = -1;
    struct dor_image *image;
    if (base_file_open(AT_FDCWD, path, O_RDWR | O_CREAT, 0600, &fd) != 0 ||
        ftruncate(fd, (off_t)(5 * gib)) != 0 || pwrite(fd, "x", 1, (off_t)(4 * gib)) != 1)
        bail("cannot make %s", path);
    is_ok(dor_image_open(path, DOR_IMAGE_RAW, &image), "an image of 5 GiB");
    check_ranges(
        dor_image_info(image),
        (struct expected[]){
            {3 * gib / 4096, 0, 0, 0},
            {2 * gib / 4096, 4 * gib, 0, 0},
        },
        2, false);
    ok(dor_image_info(image)->addresses_guessed, "its addresses are a guess");
    uint64_t first, end;
    is_ok(dor_image_next_data(image, 0, &first, &end), "next data");
    ok(first == 4 * gib / 4096 && end > first, "is found over the holes");
    is_ok(dor_image_next_data(image, end, &first, &end), "after it");
    ok(first == 5 * gib / 4096 && end == first, "nothing is left");
    dor_image_close(image);
}

static void
test_firecracker(void)
{
    struct base_buf buf = {0};
    make_firecracker(at("firecracker"));
    check_image(
        at("firecracker"), DOR_IMAGE_FIRECRACKER, (struct expected[]){{9, 0, 0, 0}}, 1, true);
    make_folder(at("arm"));
    put_vmstate(&buf, FIRECRACKER_AARCH64);
    write_in(at("arm"), "vmstate", &buf);
    put_pages(&buf, 0, 2);
    write_in(at("arm"), "mem", &buf);
    check_image(
        at("arm"), DOR_IMAGE_FIRECRACKER, (struct expected[]){{2, UINT64_C(2) << 30, 0, 0}}, 1,
        true);
}

/* bitcode packs numbers: the magic cannot be found, but the CRC is right. */
static void
test_firecracker_without_magic(void)
{
    struct base_buf buf = {0};
    make_folder(at("packed"));
    put_text(&buf, "packed in some way, with no magic in it");
    put_crc(&buf);
    write_in(at("packed"), "zzz", &buf);
    put_pages(&buf, 0, 2);
    write_in(at("packed"), "aaa", &buf);
    put_zeros(&buf, 400); /* zeros have a CRC of 0 too, but are no vmstate */
    write_in(at("packed"), "zeros", &buf);
    check_image(
        at("packed"), DOR_IMAGE_FIRECRACKER, (struct expected[]){{2, 0, 0, 0}}, 1, true);
}

static void
test_diff(void)
{
    struct dor_image *image;
    struct base_buf buf = {0};
    const char *copy = at("diff copy");
    AUTO_CLOSE int fd = -1;
    /* A page of zeros as data, between holes, at the end of an image that is a hole otherwise. */
    put_zeros(&buf, 64 * DOR_PAGE_BYTES);
    write_file(at("diff"), &buf);
    put_zeros(&buf, DOR_PAGE_BYTES);
    if (base_file_open(AT_FDCWD, at("diff"), O_WRONLY, 0, &fd) != 0 ||
        base_file_pwrite(fd, buf.data, DOR_PAGE_BYTES, 40 * DOR_PAGE_BYTES, "diff") != 0)
        bail("%s", dor_err_message());
    base_buf_free(&buf);
    is_ok(dor_image_open(at("diff"), DOR_IMAGE_AUTO, &image), "a diff");
    ok(!dor_image_info(image)->diff, "is none by itself");
    is_ok(dor_image_set_diff(image), "but when told so");
    ok(dor_image_info(image)->diff, "it says it");
    uint64_t first = 0, end = 0;
    is_ok(dor_image_next_data(image, 0, &first, &end), "its data");
    if (first == 0)
        note("this file system has no holes");
    struct dor_page_source source = image_source(image, true);
    is_ok(dor_frame_write(NULL, 0, copy, &source), "it is written with its holes");
    dor_image_close(image);
    is_ok(dor_image_open(copy, DOR_IMAGE_AUTO, &image), "and read again");
    uint64_t copy_first = 0, copy_end = 0;
    is_ok(dor_image_next_data(image, 0, &copy_first, &copy_end), "its data");
    ok(first == copy_first && end == copy_end, "is where it was, though zero");
    dor_image_close(image);
    make_core(at("core for diff"), true);
    is_ok(dor_image_open(at("core for diff"), DOR_IMAGE_AUTO, &image), "a core");
    is_int(dor_image_set_diff(image), DOR_E_USAGE, "has no diffs");
    dor_image_close(image);
}

static void
test_qemu(void)
{
    make_qemu(at("qemu"));
    check_image(
        at("qemu"), DOR_IMAGE_QEMU, (struct expected[]){{QEMU_PAGES, 0, 0, 20}}, 1, true);
}

/* Two nodes of memory in two files: the stream knows where each lies. */
static void
test_qemu_nodes(void)
{
    static const struct ram_block blocks[] = {
        {"node0", 300, 0}, {"node1", 256, UINT64_C(300) * 4096}};
    struct base_buf buf = {0};
    make_folder(at("nodes"));
    put_device_state(&buf, blocks, 2);
    write_in(at("nodes"), "a-state", &buf);
    put_pages(&buf, 1000, 256);
    write_in(at("nodes"), "b-mem", &buf);
    put_pages(&buf, 0, 300);
    write_in(at("nodes"), "c-mem", &buf);
    check_image(
        at("nodes"), DOR_IMAGE_QEMU,
        (struct expected[]){{256, UINT64_C(300) * 4096, 0, 1000}, {300, 0, 0, 0}}, 2, true);
}

/* More memory than fits below the hole of this machine. */
static void
test_qemu_hole(void)
{
    const uint64_t mib = UINT64_C(1) << 20;
    const struct ram_block block = {"ram", 5120 * mib / 4096, 0};
    struct base_buf buf = {0};
    struct dor_image *image;
    char memory[400];
    make_folder(at("large qemu"));
    put_device_state(&buf, &block, 1);
    write_in(at("large qemu"), "state", &buf);
    write_text(at("large qemu"), "mem", "");
    snprintf(memory, sizeof memory, "%s/mem", at("large qemu"));
    if (truncate(memory, (off_t)(5120 * mib)) != 0)
        bail("cannot make %s", memory);
    is_ok(dor_image_open(at("large qemu"), DOR_IMAGE_AUTO, &image), "a guest of 5 GiB");
    check_ranges(
        dor_image_info(image),
        (struct expected[]){
            {3072 * mib / 4096, 0, 0, 0},
            {2048 * mib / 4096, 4096 * mib, 0, 0},
        },
        2, false);
    ok(dor_image_info(image)->addresses_guessed, "its addresses are a guess");
    check_frame(dor_image_info(image), true);
    dor_image_close(image);
}

static void
test_mapped_ram(void)
{
    struct dor_image *image;
    const char *path = at("mapped");
    make_mapped_ram(path);
    check_image(
        path, DOR_IMAGE_MAPPED_RAM,
        (struct expected[]){
            {70, 0, 0, 0},
            {16, DOR_IMAGE_NO_ADDRESS, 0, 70},
            {3, DOR_IMAGE_NO_ADDRESS, 0, 86},
        },
        3, false);
    static const uint8_t zeros[DOR_PAGE_BYTES];
    is_ok(dor_image_open(path, DOR_IMAGE_MAPPED_RAM, &image), "again, by name");
    const struct dor_image_range *ranges = dor_image_info(image)->ranges;
    ok(memcmp(ranges[0].data + 5 * DOR_PAGE_BYTES, zeros, sizeof zeros) == 0,
       "a page without a bit is zero whatever the file holds");
    uint8_t page[DOR_PAGE_BYTES];
    make_page(86 + 2, page);
    ok(memcmp(ranges[2].data + 2 * DOR_PAGE_BYTES, page, sizeof page) == 0, "others are there");
    uint64_t first, end;
    is_ok(dor_image_next_data(image, 3, &first, &end), "next data");
    ok(first == 4 && end == 5, "is told by the bitmap");
    dor_image_close(image);
}

static void
test_cores(void)
{
    make_core(at("machine.core"), false);
    check_image(
        at("machine.core"), DOR_IMAGE_ELF_CORE,
        (struct expected[]){
            {10, 0, 0, 0}, {3, 0xc0000, 0, 100}, {2, UINT64_C(1) << 32, 0, 200}},
        3, true);
    make_core(at("process.core"), true);
    check_image(
        at("process.core"), DOR_IMAGE_ELF_CORE,
        (struct expected[]){
            {2, 0x555500000000, 4242, 0},
            {1, 0x7f0000001000, 4242, 0},
            {1, 0xffffffffff600000, 4242, 0},
        },
        3, false);
}

/* More program headers than their field can count, most of them for the same bytes. */
static void
test_many_segments(void)
{
    enum { SEGMENTS = 70000 };
    struct core_segment *segments = base_array(SEGMENTS, sizeof *segments);
    struct base_buf buf = {0};
    struct dor_image *image;
    for (uint64_t i = 0; i < SEGMENTS; i++)
        segments[i] = (struct core_segment){i * 8192, i % 1000 == 0 ? 4096 : 24, i};
    put_core(&buf, segments, SEGMENTS, false, true);
    write_file(at("many.core"), &buf);
    base_free(segments);
    is_ok(dor_image_open(at("many.core"), DOR_IMAGE_AUTO, &image), "70000 segments");
    is_int(dor_image_info(image)->page_count, 70, "whole pages of some");
    dor_image_close(image);
    check_round_trip(at("many.core"), false);
}

/* A dump with paging: two mappings of the same physical memory. */
static void
test_overlap(void)
{
    struct base_buf buf = {0};
    struct dor_image *image;
    uint64_t at_byte = sizeof(Elf64_Ehdr) + 3 * sizeof(Elf64_Phdr);
    put_elf_header(&buf, 3, 0);
    put_program_header(&buf, PT_LOAD, at_byte, 0xffff888000000000, 0x10000, 4 * 4096);
    put_program_header(&buf, PT_LOAD, at_byte + 8192, 0xffffffff81000000, 0x12000, 4 * 4096);
    put_program_header(&buf, PT_LOAD, at_byte, 0xffffffff91000000, 0x10000, 4096);
    put_pages(&buf, 0, 6);
    write_file(at("overlap.core"), &buf);
    is_ok(dor_image_open(at("overlap.core"), DOR_IMAGE_AUTO, &image), "mappings that overlap");
    check_ranges(dor_image_info(image), (struct expected[]){{6, 0x10000, 0, 0}}, 1, true);
    dor_image_close(image);
    check_round_trip(at("overlap.core"), false);
}

static void
test_cloud_hypervisor(void)
{
    static const struct expected expected[] = {{6, 0, 0, 5}, {3, UINT64_C(1) << 32, 0, 11}};
    make_cloud_hypervisor(at("cloud"), false);
    check_image(at("cloud"), DOR_IMAGE_CLOUD_HYPERVISOR, expected, 2, true);
    make_cloud_hypervisor(at("old cloud"), true);
    check_image(at("old cloud"), DOR_IMAGE_CLOUD_HYPERVISOR, expected, 2, true);
}

static void
test_criu(void)
{
    make_criu(at("criu"));
    check_image(
        at("criu"), DOR_IMAGE_CRIU,
        (struct expected[]){
            {3, 0x400000, 1000, 0},
            {3, 0x7f0000000000, 1000, 3},
            {4, 0x400000, 1001, 0},
            {2, DOR_IMAGE_NO_ADDRESS, 0, 30},
        },
        4, true);
}

static void
test_names(void)
{
    enum dor_image_format format;
    for (unsigned i = 0; i < DOR_IMAGE_FORMATS; i++) {
        const char *name = dor_image_format_name((enum dor_image_format)i);
        ok(name != NULL && dor_image_format_parse(name, &format) == 0 && format == i,
           "the name %s goes both ways", name);
    }
    ok(dor_image_format_name(DOR_IMAGE_FORMATS) == NULL, "no name after the last");
    is_int(dor_image_format_parse("tar", &format), DOR_E_USAGE, "another name is none");
    ok(strstr(dor_err_message(), "mapped-ram") != NULL, "and is told the list");
}

/* The check value that the polynomial's author and Redis give, and what ends a vmstate. */
static void
test_crc(void)
{
    uint8_t bytes[17] = "123456789";
    uint64_t crc = guest_crc64(0, bytes, 9);
    ok(crc == UINT64_C(0xe9c6d914c4b8d9ca), "CRC64 of 123456789");
    base_le64_put(bytes + 9, crc);
    ok(guest_crc64(0, bytes, sizeof bytes) == 0, "bytes and their CRC have the CRC 0");
    ok(guest_crc64(guest_crc64(0, bytes, 4), bytes + 4, 5) == crc, "it goes on");
}

int
main(void)
{
    test_names();
    test_crc();
    test_raw();
    test_split();
    test_firecracker();
    test_firecracker_without_magic();
    test_diff();
    test_qemu();
    test_qemu_nodes();
    test_qemu_hole();
    test_mapped_ram();
    test_cores();
    test_many_segments();
    test_overlap();
    test_cloud_hypervisor();
    test_criu();
    return done_testing();
}
