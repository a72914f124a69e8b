/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault_trace.c - records which pages of its memory a guest needs, in order. Preloaded into QEMU,
 * it puts memory that is filled through a userfaultfd, a page at a time, in the place of the
 * private mapping of the memory file, and writes down each fault.
 *
 * FAULT_TRACE names the file to write, FAULT_TRACE_BYTES the size of the memory file.
 *
 *     u32, little endian, a fault: page index << 1 | 1 if it is written to
 *
 * A page that is read and later written to comes twice: what was read is write-protected.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAGE_BYTES = 4096 };

typedef void *mmap_call(void *, size_t, int, int, int, off_t);

/* Of the only guest that this process has. */
static struct {
    uint8_t *memory;
    const uint8_t *image;
    int uffd, trace_fd;
    pthread_t thread;
} guest;

static _Noreturn void
give_up(const char *what)
{
    perror(what);
    _exit(EXIT_FAILURE);
}

static void
note(uint64_t page, int written)
{
    uint32_t entry = (uint32_t)(page << 1) | (written ? 1 : 0);
    if (write(guest.trace_fd, &entry, sizeof entry) != sizeof entry)
        give_up("the fault trace cannot be written");
}

static void
fill(uint64_t page, int written)
{
    struct uffdio_copy copy = {
        .dst = (uintptr_t)guest.memory + page * PAGE_BYTES,
        .src = (uintptr_t)guest.image + page * PAGE_BYTES,
        .len = PAGE_BYTES,
        .mode = written ? 0 : UFFDIO_COPY_MODE_WP};
    if (ioctl(guest.uffd, UFFDIO_COPY, &copy) != 0)
        give_up("UFFDIO_COPY");
}

static void
unprotect(uint64_t page)
{
    struct uffdio_writeprotect open = {
        .range = {(uintptr_t)guest.memory + page * PAGE_BYTES, PAGE_BYTES}};
    if (ioctl(guest.uffd, UFFDIO_WRITEPROTECT, &open) != 0)
        give_up("UFFDIO_WRITEPROTECT");
}

/* One fault at a time, so that no two threads' faults of one page are both filled. */
static void *
serve(void *context)
{
    (void)context;
    struct uffd_msg message;
    static uint8_t known[UINT32_MAX / PAGE_BYTES]; /* bit 0: filled, bit 1: may be written to */
    while (read(guest.uffd, &message, sizeof message) == sizeof message) {
        uint64_t page = (message.arg.pagefault.address - (uintptr_t)guest.memory) / PAGE_BYTES;
        uint64_t flags = message.arg.pagefault.flags;
        int written = (flags & (UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP)) != 0;
        if ((known[page] & 1) == 0) {
            fill(page, written);
        } else if (written && (known[page] & 2) == 0) {
            unprotect(page);
        } else {
            struct uffdio_range range = {
                (uintptr_t)guest.memory + page * PAGE_BYTES, PAGE_BYTES};
            if (ioctl(guest.uffd, UFFDIO_WAKE, &range) != 0)
                give_up("UFFDIO_WAKE");
            continue;
        }
        note(page, written);
        known[page] |= written ? 3 : 1;
    }
    give_up("userfaultfd");
}

static void
begin(uint8_t *memory, size_t size_bytes, const uint8_t *image)
{
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP};
    struct uffdio_register all = {
        .range = {(uintptr_t)memory, size_bytes},
        .mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP};
    guest.memory = memory;
    guest.image = image;
    guest.trace_fd =
        open(getenv("FAULT_TRACE"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    guest.uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    if (guest.trace_fd < 0 || guest.uffd < 0 || ioctl(guest.uffd, UFFDIO_API, &api) != 0 ||
        ioctl(guest.uffd, UFFDIO_REGISTER, &all) != 0 ||
        pthread_create(&guest.thread, NULL, serve, NULL) != 0)
        give_up("the guest's faults cannot be recorded");
}

/* Whether this is how QEMU maps the guest's memory. */
static int
is_memory(int fd, size_t size_bytes, int protection, int flags)
{
    const char *wanted = getenv("FAULT_TRACE_BYTES");
    struct stat status;
    return fd >= 0 && wanted != NULL && guest.memory == NULL && (flags & MAP_PRIVATE) != 0 &&
           (protection & PROT_WRITE) != 0 && size_bytes == strtoull(wanted, NULL, 10) &&
           size_bytes <= UINT32_MAX && fstat(fd, &status) == 0 &&
           status.st_size == (off_t)size_bytes;
}

/* With 64-bit offsets, as here and in QEMU, the symbol is mmap64. */
__attribute__((visibility("default"))) void *
mmap(void *at, size_t size_bytes, int protection, int flags, int fd, off_t offset)
{
    mmap_call *next = (mmap_call *)dlsym(RTLD_NEXT, "mmap64");
    if (!is_memory(fd, size_bytes, protection, flags))
        return next(at, size_bytes, protection, flags, fd, offset);
    void *image = next(NULL, size_bytes, PROT_READ, MAP_PRIVATE, fd, offset);
    void *memory = next(at, size_bytes, protection, flags | MAP_ANONYMOUS, -1, 0);
    if (image == MAP_FAILED || memory == MAP_FAILED)
        give_up("mmap");
    begin(memory, size_bytes, image);
    return memory;
}
