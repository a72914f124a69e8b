/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_base_code.c - the whole code of a library is mapped after base_code_populate(), used or not.
 */
#include "tap.h"

#include <sys/mman.h>
#include <zstd.h>

#include "base/code.h"

/* Kilobytes that are mapped, and those that could be, of the mapping that holds ADDRESS. */
static bool
mapping_of(uintptr_t address, unsigned long *ret_resident, unsigned long *ret_size)
{
    FILE *file = fopen("/proc/self/smaps", "re");
    if (file == NULL)
        return false;
    char line[512];
    unsigned long first, end;
    bool inside = false, found = false;
    while (!found && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "%lx-%lx ", &first, &end) == 2)
            inside = address >= first && address < end;
        else if (inside && sscanf(line, "Size: %lu kB", ret_size) != 1)
            found = sscanf(line, "Rss: %lu kB", ret_resident) == 1;
    }
    fclose(file);
    return found;
}

int
main(void)
{
    unsigned long before = 0, after = 0, size = 0;
    uintptr_t address = (uintptr_t)ZSTD_compress;
    if (!mapping_of(address, &before, &size))
        bail("/proc/self/smaps does not say where zstd is");
    base_code_populate();
    if (!mapping_of(address, &after, &size))
        bail("/proc/self/smaps does not say where zstd is");
    note("zstd: %lu of %lu kB mapped before, %lu after", before, size, after);
    if (madvise((void *)(address & ~(uintptr_t)4095), 4096, MADV_POPULATE_READ) != 0)
        skip("this kernel has no MADV_POPULATE_READ", "all of zstd is mapped");
    else
        is_int(after, size, "all of zstd is mapped");
    return done_testing();
}
