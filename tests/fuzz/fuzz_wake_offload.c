/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_wake_offload.c - the input is all that a monitor sends which hands its machine over, or the
 * two texts of a folder that it wrote. What is taken for a machine can be read to its last page.
 *
 *     exchange: 'x', then for each piece: u8 descriptors that come with it, u16 bytes, the bytes
 *     folder:   'f', the text of config.json, 0, the text of state.json
 */
#include "base/err.h"
#include "base/le.h"
#include "base/mem.h"
#include "base/size.h"
#include "guest/cloud.h"
#include "wake/offload_take.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PIECE_HEAD_BYTES = 3, MEMORY_PAGES = 16, DESCRIPTORS_MAX = 3 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

/* A memory file whose even pages are holes. */
static int
make_memory(void)
{
    uint8_t page[DOR_PAGE_BYTES];
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    dor_assert(fd >= 0 && ftruncate(fd, MEMORY_PAGES * (off_t)sizeof page) == 0);
    memset(page, 'm', sizeof page);
    for (int i = 1; i < MEMORY_PAGES; i += 2)
        dor_assert(pwrite(fd, page, sizeof page, i * (off_t)sizeof page) > 0);
    return fd;
}

static ssize_t
send_piece(int peer, const uint8_t *data, size_t size_bytes, int memory, unsigned descriptors)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))];
    } control = {0};
    struct iovec piece = {(void *)(uintptr_t)data, size_bytes};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    if (descriptors > 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(descriptors * sizeof memory);
        control.align.cmsg_level = SOL_SOCKET;
        control.align.cmsg_type = SCM_RIGHTS;
        control.align.cmsg_len = CMSG_LEN(descriptors * sizeof memory);
        for (unsigned i = 0; i < descriptors; i++)
            memcpy(CMSG_DATA(&control.align) + i * sizeof memory, &memory, sizeof memory);
    }
    return sendmsg(peer, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* All at once: the answers are not looked at. */
static void
send_all(int peer, const uint8_t *data, size_t size_bytes)
{
    int memory = make_memory();
    while (size_bytes >= PIECE_HEAD_BYTES) {
        unsigned descriptors = data[0] % (DESCRIPTORS_MAX + 1);
        size_t length = base_min_u64(base_le16_get(data + 1), size_bytes - PIECE_HEAD_BYTES);
        data += PIECE_HEAD_BYTES;
        if (length > 0 && send_piece(peer, data, length, memory, descriptors) < 0)
            break;
        data += length;
        size_bytes -= PIECE_HEAD_BYTES + length;
    }
    shutdown(peer, SHUT_WR);
    close(memory);
}

static void
read_image(struct dor_image *image)
{
    const struct dor_image_info *info = dor_image_info(image);
    uint8_t page[DOR_PAGE_BYTES];
    dor_assert(info->format == DOR_IMAGE_CLOUD_HYPERVISOR && info->page_count > 0);
    for (uint64_t i = 0; i < info->page_count; i++) {
        dor_image_read(image, i, 1, page);
        dor_assert((page[0] == 0 || page[0] == 'm') && page[0] == page[DOR_PAGE_BYTES - 1]);
    }
}

static void
try_exchange(const uint8_t *data, size_t size_bytes)
{
    struct offload_peer peer = {.fd = -1};
    struct dor_offload *offload = NULL;
    struct dor_image *image = NULL;
    int ends[2];
    int made = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends);
    dor_assert(made == 0);
    send_all(ends[1], data, size_bytes);
    peer.fd = ends[0];
    dor_assert(offload_take_new(&peer, &offload) == 0);
    int rc = dor_offload_receive(offload, &image);
    if (rc == 0) {
        read_image(image);
        dor_image_close(image);
        dor_assert(dor_offload_answer(offload, true) == 0);
    }
    dor_assert(rc != DOR_E_TIMEOUT && dor_offload_answer(offload, true) == DOR_E_USAGE);
    dor_offload_close(offload);
    close(ends[1]);
}

/* What is made of texts that are good is good. */
static void
try_folder(const char *text, size_t size_bytes)
{
    const char *end = memchr(text, 0, size_bytes);
    if (end == NULL)
        return;
    struct guest_span config = {text, (size_t)(end - text)};
    struct guest_span state = {end + 1, size_bytes - config.size_bytes - 1};
    AUTO_FREE struct dor_offload_slot *slots = NULL;
    AUTO_FREE char *made = NULL;
    size_t made_bytes = 0;
    size_t count = 0;
    if (guest_cloud_check(config.text, config.size_bytes, "config.json") != 0 ||
        guest_cloud_make_config(config, state, &made, &made_bytes) != 0)
        return;
    struct guest_span whole = {made, made_bytes};
    struct guest_span vm = guest_cloud_member(whole, "vm_config");
    dor_assert(guest_cloud_check(made, made_bytes, "Config") == 0);
    dor_assert(guest_cloud_check(vm.text, vm.size_bytes, "vm_config") == 0);
    if (guest_cloud_slots(
            guest_cloud_member(whole, "memory_manager_data"), "Config", &slots, &count) == 0)
        for (size_t i = 0; i < count; i++)
            dor_assert(slots[i].size_bytes % DOR_PAGE_BYTES == 0 && slots[i].fd == -1);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    if (size_bytes > 0 && data[0] == 'x')
        try_exchange(data + 1, size_bytes - 1);
    if (size_bytes > 0 && data[0] == 'f')
        try_folder((const char *)data + 1, size_bytes - 1);
    return 0;
}
