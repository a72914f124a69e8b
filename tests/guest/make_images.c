/* SPDX-License-Identifier: Apache-2.0 */
/*
 * make_images.c - `make_images FOLDER`: the images of make_formats.h as files, for the seeds of
 * the fuzz targets.
 */
#include "guest/make_formats.h"

int
main(int argc, char **argv)
{
    static const struct ram_block blocks[] = {{"pc.ram", 5, 0}, {"pc.bios", 2, 0}};
    struct base_buf buf = {0};
    char path[512];
    if (argc != 2)
        bail("usage: make_images FOLDER");
    const char *folder = argv[1];
#define AT(name) (snprintf(path, sizeof path, "%s/%s", folder, name), path)
    make_firecracker(AT("firecracker"));
    make_qemu(AT("qemu"));
    make_criu(AT("criu"));
    make_cloud_hypervisor(AT("cloud"), false);
    make_cloud_hypervisor(AT("old-cloud"), true);
    make_core(AT("machine.core"), false);
    make_core(AT("process.core"), true);
    put_core(&buf, process_segments, 3, true, true);
    write_file(AT("many.core"), &buf);
    put_mapped_ram(&buf, blocks, 2, DOR_PAGE_BYTES, 1);
    write_file(AT("mapped"), &buf);
    return 0;
}
