/* SPDX-License-Identifier: Apache-2.0 */
/*
 * code.c - MADV_POPULATE_READ on every segment that the linker mapped and nobody writes to.
 */
#include "base/code.h"

#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include "base/size.h"

static int
populate(struct dl_phdr_info *info, size_t size_bytes, void *context)
{
    (void)size_bytes;
    (void)context;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type != PT_LOAD || (segment->p_flags & PF_W) != 0)
            continue;
        uintptr_t first = (info->dlpi_addr + segment->p_vaddr) & ~(DOR_PAGE_BYTES - 1);
        uintptr_t end = info->dlpi_addr + segment->p_vaddr + segment->p_filesz;
        /* An old kernel says no, and a page that cannot be read is a matter for its first use. */
        (void)madvise(
            (void *)first, DIV_ROUND_UP(end - first, DOR_PAGE_BYTES) * DOR_PAGE_BYTES,
            MADV_POPULATE_READ);
    }
    return 0;
}

void
base_code_populate(void)
{
    dl_iterate_phdr(populate, NULL);
}
