/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox.c - a region, its userfaultfd, and one message with both.
 */
#include "sandbox.h"

#include "harness.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

struct sandbox
sandbox_new(size_t size_bytes)
{
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_EVENT_REMOVE};
    struct sandbox sandbox = {.size_bytes = size_bytes, .socket = -1};
    sandbox.bytes =
        mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sandbox.uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (sandbox.bytes == MAP_FAILED || sandbox.uffd < 0)
        bench_die("no userfaultfd here");
    struct uffdio_register range = {
        .range = {(uintptr_t)sandbox.bytes, size_bytes}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    if (madvise(sandbox.bytes, size_bytes, MADV_NOHUGEPAGE) != 0 ||
        ioctl(sandbox.uffd, UFFDIO_API, &api) != 0 ||
        ioctl(sandbox.uffd, UFFDIO_REGISTER, &range) != 0)
        bench_die("the region cannot be registered");
    return sandbox;
}

void
sandbox_connect(struct sandbox *sandbox, const char *socket_path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", socket_path);
    sandbox->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (sandbox->socket < 0 ||
        connect(sandbox->socket, (struct sockaddr *)&address, sizeof address) != 0)
        bench_die("%s: nobody listens", socket_path);
}

void
sandbox_hand_over(const struct sandbox *sandbox)
{
    char text[256];
    char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = {0};
    int size = snprintf(
        text, sizeof text,
        "[{\"base_host_virt_addr\": %llu, \"size\": %zu, \"offset\": 0, \"page_size\": %d}]",
        (unsigned long long)(uintptr_t)sandbox->bytes, sandbox->size_bytes, BENCH_PAGE_BYTES);
    struct iovec bytes = {text, (size_t)size};
    struct msghdr message = {
        .msg_iov = &bytes,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof control};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(rights), &sandbox->uffd, sizeof(int));
    if (sendmsg(sandbox->socket, &message, 0) != size)
        bench_die("the handshake cannot be sent");
}

void
sandbox_end(struct sandbox *sandbox)
{
    munmap(sandbox->bytes, sandbox->size_bytes);
    if (sandbox->socket >= 0)
        close(sandbox->socket);
    close(sandbox->uffd);
}
