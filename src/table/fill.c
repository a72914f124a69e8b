/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fill.c - a userfaultfd for a mapping, and the handshake with which it goes to the page server.
 * The descriptor is closed here: the server's is the only one, so that its end of the work is the
 * end of the registration.
 */
#include "table/fill.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"

/* Since Linux 6.1, newer than the headers that this is built with. */
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

int
table_fill_open_device(int *ret)
{
    int rc = base_file_open(AT_FDCWD, "/dev/userfaultfd", O_RDWR, 0, ret);
    return rc == 0 ? 0 : dor_fail(DOR_E_UNSUPPORTED, "pages cannot be given on demand here");
}

static int
register_pages(int uffd, void *base, uint64_t size_bytes)
{
    struct uffdio_api api = {.api = UFFD_API};
    struct uffdio_register pages = {
        .range = {(uintptr_t)base, size_bytes}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    if (ioctl(uffd, UFFDIO_API, &api) != 0 || ioctl(uffd, UFFDIO_REGISTER, &pages) != 0)
        return dor_fail(
            DOR_E_UNSUPPORTED, "pages cannot be given on demand: %s", strerror(errno));
    return 0;
}

static int
hand_over(int socket, int uffd, const void *base, uint64_t size_bytes)
{
    char text[160];
    int length = snprintf(
        text, sizeof text,
        "[{\"base_host_virt_addr\": %" PRIu64 ", \"size\": %" PRIu64
        ", \"offset\": 0, \"page_size\": 4096}]",
        (uint64_t)(uintptr_t)base, size_bytes);
    struct iovec piece = {text, (size_t)length};
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof uffd)];
    } control = {0};
    struct msghdr message = {
        .msg_iov = &piece,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof control.bytes,
    };
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof uffd);
    memcpy(CMSG_DATA(head), &uffd, sizeof uffd);
    ssize_t sent;
    do
        sent = sendmsg(socket, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent != length)
        return dor_fail(DOR_E_IO, "the page server of a table does not listen");
    return 0;
}

int
table_fill_register(int device, int socket, void *base, uint64_t size_bytes)
{
    AUTO_CLOSE int uffd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
    if (uffd < 0)
        return dor_fail(
            DOR_E_UNSUPPORTED, "pages cannot be given on demand: %s", strerror(errno));
    int rc = register_pages(uffd, base, size_bytes);
    return rc == 0 ? hand_over(socket, uffd, base, size_bytes) : rc;
}
