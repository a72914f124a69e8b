/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_guest_holes.c - whoever opens an image and looks into it leaves its holes what they are, also
 * in a file system in memory, where a hole that is read through a mapping becomes data. In a diff
 * that would put zeros in place of the parent's pages.
 */
#include "base/file.h"
#include "guest/image_pages.h"
#include "guest/make_formats.h"
#include "guest/synth.h"

#include <fcntl.h>

static const char *
at(const char *name)
{
    static char path[320];
    snprintf(path, sizeof path, "%s/%s", tap_dir(), name);
    return path;
}

static int
open_file(const char *path, int flags)
{
    int fd = -1;
    if (base_file_open(AT_FDCWD, path, flags, 0600, &fd) != 0)
        bail("%s", dor_err_message());
    return fd;
}

/* A file of PAGE_COUNT pages, of which only those that are not zero are written. */
static void
write_sparse(const char *path, const uint8_t *bytes, uint64_t page_count)
{
    AUTO_CLOSE int fd = open_file(path, O_RDWR | O_CREAT | O_EXCL);
    if (ftruncate(fd, (off_t)(page_count * DOR_PAGE_BYTES)) != 0)
        bail("cannot make %s", path);
    for (uint64_t i = 0; i < page_count; i++) {
        const uint8_t *page = bytes + i * DOR_PAGE_BYTES;
        if (!guest_page_is_zero(page) &&
            base_file_pwrite(fd, page, DOR_PAGE_BYTES, i * DOR_PAGE_BYTES, path) != 0)
            bail("%s", dor_err_message());
    }
}

static uint64_t
data_bytes(const char *path)
{
    AUTO_CLOSE int fd = open_file(path, O_RDONLY);
    uint64_t size_bytes = 0;
    uint64_t start = 0;
    uint64_t end = 0;
    uint64_t count = 0;
    int rc = base_file_size(fd, path, &size_bytes);
    while (rc == 0 && end < size_bytes) {
        rc = base_file_next_data(fd, end, size_bytes, &start, &end);
        count += end - start;
    }
    if (rc != 0)
        bail("%s", dor_err_message());
    return count;
}

/* Open the image at PATH, of which FILE is the memory, and look into it. */
static struct dor_inspection *
look(const char *path, const char *file, struct dor_image **ret)
{
    struct dor_inspection *inspection = NULL;
    uint64_t before = data_bytes(file);
    if (!is_ok(dor_image_open(path, DOR_IMAGE_AUTO, ret), "it is opened") ||
        !is_ok(dor_inspect(*ret, NULL, &inspection), "and looked into"))
        bail("%s", dor_err_message());
    is_int(data_bytes(file), before, "its holes are holes");
    return inspection;
}

static void
test_guest(const struct synth_kind *kind, const char *name)
{
    struct synth synth;
    struct dor_image *image;
    note("%s", name);
    synth_init(&synth, kind);
    write_sparse(at("guest"), synth.bytes, SYNTH_PAGES);
    struct dor_inspection *whole = synth_inspect(&synth, NULL);
    struct dor_inspection *found = look(at("guest"), at("guest"), &image);
    ok(guest_image_is_sparse(image), "it has holes");
    is_int(found->tier, whole->tier, "the tier is that of the memory without holes");
    is_str(found->remark, whole->remark, "so is the remark");
    unsigned different = 0;
    for (size_t i = 0; i < SYNTH_PAGES; i++)
        different += memcmp(&found->pages[i], &whole->pages[i], sizeof found->pages[i]) != 0;
    is_int(different, 0, "and what is said of each page");
    is_int(found->range_count, 1, "there is one range");
    ok(found->ranges[0].data == dor_image_page(image, 0), "which is the image's");
    dor_inspection_free(found);
    dor_inspection_free(whole);
    dor_image_close(image);
    synth_fini(&synth);
    if (unlink(at("guest")) != 0)
        bail("unlink");
}

/* Files as small as this could be a vmstate by their size. */
static void
test_firecracker(uint64_t data_page, const char *name)
{
    enum { PAGES = 9 };
    struct base_buf vmstate = {0};
    struct dor_image *image;
    uint64_t first = 0;
    uint64_t end = 0;
    AUTO_FREE uint8_t *memory = base_zalloc((size_t)PAGES * DOR_PAGE_BYTES);
    note("%s", name);
    make_folder(at("machine"));
    put_vmstate(&vmstate, FIRECRACKER_X86);
    write_in(at("machine"), "vmstate", &vmstate);
    memset(memory + data_page * DOR_PAGE_BYTES, 5, DOR_PAGE_BYTES);
    write_sparse(at("machine/memory"), memory, PAGES);
    /* at() has one path at a time. */
    AUTO_FREE char *file = strdup(at("machine/memory"));
    dor_inspection_free(look(at("machine"), file, &image));
    is_ok(dor_image_set_diff(image), "it is a diff");
    is_ok(dor_image_next_data(image, 0, &first, &end), "its first data");
    if (first == 0 && end == PAGES)
        skip("no holes in this file system", "data of the diff");
    else
        ok(first == data_page && end == data_page + 1, "is what was written");
    dor_image_close(image);
    if (unlink(file) != 0 || unlink(at("machine/vmstate")) != 0 || rmdir(at("machine")) != 0)
        bail("cannot remove the folder");
}

/* The bytes of a vmstate, long enough for a memory file, are one as long as there is no hole. */
static void
test_vmstate_of_pages(void)
{
    struct base_buf buf = {0};
    struct dor_image *image;
    make_folder(at("packed"));
    put_text(&buf, "packed in some way, with no magic in it");
    while (buf.size_bytes < 2 * DOR_PAGE_BYTES - sizeof(uint64_t))
        put_u8(&buf, 9);
    put_crc(&buf);
    write_in(at("packed"), "state", &buf);
    put_pages(&buf, 1, 3);
    write_in(at("packed"), "mem", &buf);
    is_ok(dor_image_open(at("packed"), DOR_IMAGE_AUTO, &image), "a vmstate of whole pages");
    is_int(dor_image_info(image)->format, DOR_IMAGE_FIRECRACKER, "is known by its CRC");
    is_int(dor_image_info(image)->page_count, 3, "and is not the memory");
    dor_image_close(image);
}

int
main(void)
{
    work_in_memory();
    test_guest(&(struct synth_kind){0}, "a guest that tells all");
    test_guest(&(struct synth_kind){.five_levels = true}, "with five levels");
    test_guest(&(struct synth_kind){.no_btf = true, .no_symbols = true}, "without types");
    test_firecracker(0, "data at the begin alone");
    test_firecracker(4, "in the middle");
    test_firecracker(8, "at the end");
    test_vmstate_of_pages();
    return done_testing();
}
