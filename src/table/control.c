/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.c - packets with descriptors. What is longer than a packet should be goes into a memory
 * file beside it.
 */
#include "table/control.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/size.h"

enum { SOCKET_BUFFER_BYTES = 1 << 20 };

union fd_room {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int) * TABLE_CONTROL_FDS)];
};

int
table_control_pair(int ret[2])
{
    const int bytes = SOCKET_BUFFER_BYTES;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ret) != 0)
        return dor_fail_errno(errno, "cannot make a control socket");
    /* A smaller buffer only fills earlier. */
    for (unsigned i = 0; i < 2; i++)
        (void)setsockopt(ret[i], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    return 0;
}

int
table_control_send(
    int control, const struct table_message *message, const void *extra, const int *fds,
    size_t fd_count)
{
    dor_assert(fd_count <= TABLE_CONTROL_FDS);
    struct iovec pieces[] = {
        {.iov_base = (void *)(uintptr_t)message, .iov_len = sizeof *message},
        {.iov_base = (void *)(uintptr_t)extra, .iov_len = message->extra_bytes},
    };
    struct msghdr packet = {.msg_iov = pieces, .msg_iovlen = ARRAY_LEN(pieces)};
    union fd_room room = {0};
    if (fd_count > 0) {
        packet.msg_control = &room;
        packet.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        struct cmsghdr *header = CMSG_FIRSTHDR(&packet);
        dor_assert(header != NULL);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(header), fds, sizeof(int) * fd_count);
    }
    ssize_t sent;
    do
        sent = sendmsg(control, &packet, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0)
        return 0;
    /* ETOOMANYREFS: more descriptors are on their way than one user may have there. */
    if (errno == EAGAIN || errno == ENOBUFS || errno == ETOOMANYREFS)
        return dor_fail(DOR_E_BUSY, "a control socket is full");
    return dor_fail(DOR_E_IO, "a control socket is closed: %s", strerror(errno));
}

/* ------------------------------------------------------------------ receiving */

static void
take_fds(struct msghdr *packet, int fds[static TABLE_CONTROL_FDS])
{
    size_t count = 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(packet); header != NULL;
         header = CMSG_NXTHDR(packet, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        size_t here = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < here; i++) {
            int fd = -1;
            memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
            if (count < TABLE_CONTROL_FDS)
                fds[count++] = fd;
            else
                close(fd);
        }
    }
}

static void
close_fds(int fds[static TABLE_CONTROL_FDS])
{
    for (unsigned i = 0; i < TABLE_CONTROL_FDS; i++)
        base_close_fd(&fds[i]);
}

static bool
is_text(const char *text)
{
    return memchr(text, '\0', TABLE_CONTROL_NAME_BYTES) != NULL;
}

/* Whether what came is a message of which every field can be read. */
static bool
is_message(const struct table_message *message, size_t extra_bytes)
{
    if (message->extra_bytes != extra_bytes)
        return false;
    switch (message->word) {
    case TABLE_WORD_TENANT:
    case TABLE_WORD_CHANGE:
        return is_text(message->tenant.name);
    case TABLE_WORD_ADOPT:
    case TABLE_WORD_HAND_BACK:
        return is_text(message->client.name) && is_text(message->client.address) &&
               is_text(message->client.library) && is_text(message->client.library_version) &&
               (message->client.protocol == 2 || message->client.protocol == 3) &&
               message->client.input_bytes <= TABLE_CONTROL_INPUT_MAX &&
               (message->client.input_in_file != 0 ||
                message->client.input_bytes == extra_bytes);
    default:
        return message->word >= TABLE_WORD_SPAWN && message->word <= TABLE_WORD_LEFT;
    }
}

int
table_control_receive(
    int control, struct table_message *ret, struct base_buf *extra,
    int ret_fds[static TABLE_CONTROL_FDS])
{
    extra->size_bytes = 0;
    for (unsigned i = 0; i < TABLE_CONTROL_FDS; i++)
        ret_fds[i] = -1;
    int rc = base_buf_reserve(extra, TABLE_CONTROL_INLINE);
    if (rc != 0)
        return rc;
    struct iovec pieces[] = {
        {.iov_base = ret, .iov_len = sizeof *ret},
        {.iov_base = extra->data, .iov_len = TABLE_CONTROL_INLINE},
    };
    union fd_room room;
    struct msghdr packet = {
        .msg_iov = pieces,
        .msg_iovlen = ARRAY_LEN(pieces),
        .msg_control = &room,
        .msg_controllen = sizeof room,
    };
    ssize_t got;
    do
        got = recvmsg(control, &packet, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0 && errno == EAGAIN)
        return dor_fail(DOR_E_BUSY, "no control message is there");
    if (got <= 0)
        return dor_fail(
            DOR_E_IO, "a control socket is closed%s%s", got < 0 ? ": " : "",
            got < 0 ? strerror(errno) : "");
    take_fds(&packet, ret_fds);
    if ((size_t)got < sizeof *ret || (packet.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 ||
        !is_message(ret, (size_t)got - sizeof *ret)) {
        close_fds(ret_fds);
        return dor_fail(DOR_E_CORRUPT, "a control message makes no sense");
    }
    extra->size_bytes = ret->extra_bytes;
    return 0;
}

/* ------------------------------------------------------------------ clients */

/* INPUT in a memory file. */
static int
make_input_file(const void *input, size_t input_bytes, int *ret)
{
    AUTO_CLOSE int fd = memfd_create("dormouse-input", MFD_CLOEXEC);
    if (fd < 0)
        return dor_fail_errno(errno, "no memory for a client's input");
    int rc = base_file_pwrite(fd, input, input_bytes, 0, "a client's input");
    if (rc == 0)
        *ret = base_take_fd(&fd);
    return rc;
}

int
table_control_input(
    struct table_message *message, const void *input, size_t input_bytes, int *ret_file)
{
    if (input_bytes > TABLE_CONTROL_INPUT_MAX)
        return dor_fail(DOR_E_USAGE, "%zu bytes of input are too many", input_bytes);
    bool in_file = input_bytes > TABLE_CONTROL_INLINE;
    *ret_file = -1;
    int rc = in_file ? make_input_file(input, input_bytes, ret_file) : 0;
    if (rc != 0)
        return rc;
    message->client.input_in_file = in_file;
    message->client.input_bytes = input_bytes;
    message->extra_bytes = in_file ? 0 : (uint32_t)input_bytes;
    return 0;
}

int
table_control_send_client(
    int control, struct table_message *message, int client_fd, const void *input,
    size_t input_bytes)
{
    AUTO_CLOSE int file = -1;
    int rc = table_control_input(message, input, input_bytes, &file);
    if (rc != 0)
        return rc;
    const int fds[] = {client_fd, file};
    return table_control_send(control, message, input, fds, file >= 0 ? 2 : 1);
}

int
table_control_take_input(
    const struct table_message *message, int input_fd, struct base_buf *extra)
{
    if (message->client.input_in_file == 0)
        return 0;
    size_t bytes = (size_t)message->client.input_bytes;
    extra->size_bytes = 0;
    int rc = base_buf_reserve(extra, bytes);
    if (rc == 0)
        rc = base_file_pread(input_fd, extra->data, bytes, 0, "a client's input");
    if (rc == 0)
        extra->size_bytes = bytes;
    return rc;
}
