/* SPDX-License-Identifier: Apache-2.0 */
/*
 * offload_memory.c - a memory file, mapped here too and watched by a userfaultfd of our own, so
 * that pages can be put in by UFFDIO_COPY. Plain writing would not do:
 *  1. UFFDIO_COPY makes a page whole before anybody can see it, and refuses (EEXIST) when there is
 *     one. Between looking and writing the machine could have been given the page by another
 *     thread, and have changed it.
 *  2. Where shared memory is made of huge pages (shmem_enabled=always), a write of 4 KiB makes 2
 *     MiB appear, zeros for the most part. UFFDIO_COPY makes one page.
 * A memory that nobody reads before it is complete is simply written.
 */
#include "wake/offload_memory.h"

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/size.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than some headers: faults of user mode only, which needs no privilege. */
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

int
offload_uffd_open(int *ret)
{
    AUTO_CLOSE int fd =
        (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_MISSING_SHMEM};
    if (fd < 0 || ioctl(fd, UFFDIO_API, &api) != 0)
        return dor_fail(
            DOR_E_UNSUPPORTED,
            "userfaultfd: this system does not let us use it (error %d); wake without postcopy",
            errno);
    *ret = base_take_fd(&fd);
    return 0;
}

static int
watch(struct offload_memory *memory)
{
    uint64_t size_bytes = memory->slot.size_bytes;
    void *map = mmap(
        NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, memory->slot.fd,
        (off_t)memory->slot.offset);
    if (map == MAP_FAILED)
        return dor_fail_errno(
            errno, "slot %" PRIu32 ": its memory cannot be mapped", memory->slot.slot);
    memory->map = map;
    struct uffdio_register range = {
        .range = {(uintptr_t)map, size_bytes}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    if (ioctl(memory->uffd, UFFDIO_REGISTER, &range) != 0)
        return dor_fail_errno(
            errno, "slot %" PRIu32 ": its memory cannot be watched", memory->slot.slot);
    return 0;
}

int
offload_memory_init(
    struct offload_memory *memory, const struct dor_offload_slot *slot, int uffd)
{
    char name[32];
    uint64_t words = DIV_ROUND_UP(slot->size_bytes / DOR_PAGE_BYTES, 64);
    *memory = (struct offload_memory){
        .slot = *slot, .page_count = slot->size_bytes / DOR_PAGE_BYTES, .uffd = uffd};
    snprintf(name, sizeof name, "dormouse-slot-%" PRIu32, slot->slot);
    memory->slot.fd = memfd_create(name, MFD_CLOEXEC);
    if (memory->slot.fd < 0)
        return dor_fail_errno(errno, "slot %" PRIu32 ": no memory file", slot->slot);
    memory->given = base_array(words, sizeof *memory->given);
    if (memory->given == NULL)
        return DOR_E_NO_MEMORY;
    int rc = base_file_truncate(memory->slot.fd, slot->offset + slot->size_bytes, name);
    return rc == 0 && uffd >= 0 ? watch(memory) : rc;
}

void
offload_memory_fini(struct offload_memory *memory)
{
    if (memory->map != NULL)
        munmap(memory->map, memory->slot.size_bytes);
    base_free(memory->given);
    base_auto_close(&memory->slot.fd);
}

bool
offload_memory_was_given(const struct offload_memory *memory, uint64_t page)
{
    /* Pairs with the setting in note_given(). */
    return (atomic_load_explicit(&memory->given[page / 64], memory_order_acquire) >>
                (page % 64) &
            1) != 0;
}

static void
note_given(struct offload_memory *memory, uint64_t first_page, uint64_t count)
{
    for (uint64_t page = first_page; page < first_page + count; page++)
        atomic_fetch_or_explicit(
            &memory->given[page / 64], UINT64_C(1) << (page % 64), memory_order_release);
}

/*
 * Put in as many of the pages as one call does: their number, 0 to call again, or a negative errno.
 */
static int64_t
put_in(struct offload_memory *memory, uint64_t page, uint64_t count, const uint8_t *bytes)
{
    uint64_t to = (uintptr_t)memory->map + page * DOR_PAGE_BYTES;
    int64_t done;
    int rc;
    if (bytes == NULL) {
        struct uffdio_zeropage zero = {.range = {to, count * DOR_PAGE_BYTES}};
        rc = ioctl(memory->uffd, UFFDIO_ZEROPAGE, &zero);
        done = zero.zeropage;
    } else {
        struct uffdio_copy copy = {
            .dst = to, .src = (uintptr_t)bytes, .len = count * DOR_PAGE_BYTES};
        rc = ioctl(memory->uffd, UFFDIO_COPY, &copy);
        done = copy.copy;
    }
    if (rc == 0)
        return (int64_t)count;
    /* EAGAIN with pages done: the call was cut short, mostly before a page that is there. */
    if (errno == EAGAIN)
        return done > 0 ? done / (int64_t)DOR_PAGE_BYTES : 0;
    return -errno;
}

static int
give_watched(
    struct offload_memory *memory, uint64_t first_page, uint64_t count, const uint8_t *bytes,
    uint64_t *ret_new)
{
    uint64_t end = first_page + count;
    *ret_new = 0;
    for (uint64_t page = first_page; page < end;) {
        const uint8_t *from =
            bytes == NULL ? NULL : bytes + (page - first_page) * DOR_PAGE_BYTES;
        int64_t done = put_in(memory, page, end - page, from);
        if (done < 0 && done != -EEXIST)
            return dor_fail_errno(
                (int)-done, "slot %" PRIu32 ": no page can be put in", memory->slot.slot);
        uint64_t step = done == -EEXIST ? 1 : (uint64_t)done;
        note_given(memory, page, step);
        *ret_new += done > 0 ? (uint64_t)done : 0;
        page += step;
    }
    return 0;
}

int
offload_memory_give(
    struct offload_memory *memory, uint64_t first_page, uint64_t count, const uint8_t *bytes,
    uint64_t *ret_new)
{
    dor_assert(first_page <= memory->page_count && count <= memory->page_count - first_page);
    if (memory->uffd >= 0)
        return give_watched(memory, first_page, count, bytes, ret_new);
    *ret_new = count;
    note_given(memory, first_page, count);
    if (bytes == NULL)
        return 0;
    return base_file_pwrite(
        memory->slot.fd, bytes, count * DOR_PAGE_BYTES,
        memory->slot.offset + first_page * DOR_PAGE_BYTES, "memory of the machine");
}
