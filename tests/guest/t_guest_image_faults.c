/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_guest_image_faults.c - opening and asking an image of each format while one allocation or one
 * file call fails: an error of the right kind, or an image that is whole.
 */
#include <errno.h>

#include "base/fault.h"
#include "guest/make_formats.h"
#include "guest/round_trip.h"

enum { TRIES_MAX = 3000 };

static char path[300];
static uint64_t want_pages;

/* Open, walk the data, close. */
static int
use_image(void)
{
    struct dor_image *image;
    uint64_t first = 0, end = 0;
    int rc = dor_image_open(path, DOR_IMAGE_AUTO, &image);
    if (rc != 0)
        return rc;
    const struct dor_image_info *info = dor_image_info(image);
    while (rc == 0 && end < info->page_count)
        rc = dor_image_next_data(image, end, &first, &end);
    if (rc == 0 && want_pages == 0)
        want_pages = info->page_count;
    if (rc == 0 && want_pages != info->page_count)
        rc = 1;
    dor_image_close(image);
    return rc;
}

static void
try_each(enum base_fault_kind kind, int want, const char *name)
{
    unsigned wrong = 0;
    uint64_t nth = 0;
    do {
        base_fault_arm(kind, ++nth, EIO);
        int rc = use_image();
        base_fault_arm(FAULT_NONE, 0, 0);
        if (rc != (base_fault_fired() ? want : 0) && wrong++ < 8)
            note("call %d gives %d: %s", (int)nth, rc, dor_err_message());
    } while (base_fault_fired() && nth < TRIES_MAX);
    is_int(wrong, 0, "%s at each of %d calls", name, (int)nth - 1);
    ok(nth > 1, "there were some");
}

static void
test_format(const char *name)
{
    note("%s", name);
    want_pages = 0;
    is_ok(use_image(), "without a fault");
    try_each(FAULT_ALLOC, DOR_E_NO_MEMORY, "an allocation fails");
    try_each(FAULT_IO_FAIL, DOR_E_IO, "a file call fails");
    try_each(FAULT_IO_FAIL_STICKY, DOR_E_IO, "all file calls fail from there on");
    remove_all(path);
}

int
main(void)
{
    struct base_buf buf = {0};
    snprintf(path, sizeof path, "%s/image", tap_dir());
    put_pages(&buf, 0, 6);
    write_file(path, &buf);
    test_format("raw");
    make_firecracker(path);
    test_format("firecracker");
    make_qemu(path);
    test_format("qemu");
    make_mapped_ram(path);
    test_format("mapped-ram");
    make_core(path, false);
    test_format("elf-core of a machine");
    make_core(path, true);
    test_format("elf-core of a process");
    make_cloud_hypervisor(path, false);
    test_format("cloud-hypervisor");
    make_cloud_hypervisor(path, true);
    test_format("cloud-hypervisor, older");
    make_criu(path);
    test_format("criu");
    return done_testing();
}
