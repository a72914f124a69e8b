/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel.h - a guest's kernel as its note describes it: where its image lies, its page tables, its
 * array of struct page. A note may be old, of another boot, or forged; how far the memory agrees
 * with it is its score.
 *
 * Ownership:  a kernel borrows memory and note.
 * Threads:    one kernel, one thread.
 * Errors:     none; a note that leads nowhere is false.
 */
#ifndef DOR_GUEST_KERNEL_H
#define DOR_GUEST_KERNEL_H

#include "guest/note.h"
#include "guest/tables.h"

#define GUEST_KERNEL_IMAGE     UINT64_C(0xffffffff80000000)
#define GUEST_KERNEL_IMAGE_END UINT64_C(0xffffffffc0000000)

struct guest_kernel {
    const struct guest_memory *memory;
    struct guest_note note;
    struct guest_tables tables;
    uint64_t image_base; /* physical = virtual - GUEST_KERNEL_IMAGE + image_base */
    uint64_t stext;      /* what symbols of a profile are relative to */
    uint64_t vmemmap;    /* address of the struct page of page 0 */
    uint32_t struct_page_bytes;
    char release[128];
    char build_id[64];
    unsigned score; /* of 100 */
};

/*
 * Follow NOTE; true when its page tables map themselves, the kernel's name is where it should be and
 * the array of struct page is there for at least some pages.
 */
bool guest_kernel_open(
    const struct guest_memory *memory, const struct guest_note *note, struct guest_kernel *ret);

/* Where a virtual address of the kernel's image lies. */
static inline uint64_t
guest_kernel_physical(const struct guest_kernel *kernel, uint64_t address)
{
    return address - GUEST_KERNEL_IMAGE + kernel->image_base;
}

/* SIZE_BYTES of the kernel's image, which lies in one piece; NULL when they are not there. */
const uint8_t *
guest_kernel_at(const struct guest_kernel *kernel, uint64_t address, size_t size_bytes);

#endif
