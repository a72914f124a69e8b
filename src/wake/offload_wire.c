/* SPDX-License-Identifier: Apache-2.0 */
/*
 * offload_wire.c - requests, answers and descriptors.
 *
 *     request: offset  size  field (little endian)
 *              0       2     command
 *              2       6     Start: u16 version, then 0; otherwise 0
 *              8       8     bytes of the payload, which follows
 *     answer:  0       2     1 Ok, 2 Error
 *              2       6     0
 *              8       8     bytes of the payload; always 0 here
 *     role:    0       2     enum offload_role, the first bytes on a second connection
 *
 * A descriptor comes with a byte of the message that it belongs to. What a peer sends along
 * elsewhere, or more than one, is closed and is an error, so nobody can fill our table.
 *
 * Every wait is in slices, between which the caller may want to stop.
 */
#include "wake/offload_wire.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/le.h"
#include "base/mem.h"
#include "base/size.h"
#include "base/unix_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    HEADER_BYTES = 16,
    VERSION_AT = 2,
    LENGTH_AT = 8,
    STATUS_OK = 1,
    STATUS_ERROR = 2,
    SLICE_MS = 100,
    FDS_MAX = 253, /* the kernel's limit for one message */
    NS_PER_MS = 1000000
};
#define SILENCE_USUAL_NS (UINT64_C(30) * 1000000000)

const char *
offload_command_name(unsigned command)
{
    static const char *const names[OFFLOAD_COMMANDS] = {
        [OFFLOAD_START] = "Start",          [OFFLOAD_CONFIG] = "Config",
        [OFFLOAD_STATE] = "State",          [OFFLOAD_MEMORY] = "Memory",
        [OFFLOAD_COMPLETE] = "Complete",    [OFFLOAD_ABANDON] = "Abandon",
        [OFFLOAD_MEMORY_FD] = "MemoryFd",   [OFFLOAD_COMPLETE_PAUSED] = "CompletePaused",
        [OFFLOAD_PAGE_FAULT] = "PageFault",
    };
    return command < OFFLOAD_COMMANDS && names[command] != NULL ? names[command]
                                                                : "an unknown command";
}

/* ------------------------------------------------------------------ waiting */

static uint64_t
deadline_of(const struct offload_peer *peer)
{
    uint64_t silence_ns = peer->options.silence_ns;
    return base_clock_monotonic_ns() + (silence_ns == 0 ? SILENCE_USUAL_NS : silence_ns);
}

static int
check_stop(const struct offload_peer *peer)
{
    if (peer->options.stop == NULL || peer->options.stop(peer->options.stop_context) == 0)
        return 0;
    return dor_fail(DOR_E_BUSY, "offload: stopped");
}

/* Wait for EVENTS on FD until DEADLINE_NS; UINT64_MAX: for ever. */
static int
wait_for(const struct offload_peer *peer, int fd, short events, uint64_t deadline_ns)
{
    struct pollfd poll_fd = {.fd = fd, .events = events};
    for (;;) {
        if (base_clock_monotonic_ns() > deadline_ns)
            return dor_fail(
                DOR_E_TIMEOUT,
                "offload: the monitor fell silent in the middle of the exchange");
        int count = poll(&poll_fd, 1, SLICE_MS);
        if (count > 0)
            return 0;
        if (count < 0 && errno != EINTR)
            return dor_fail_errno(errno, "offload: cannot wait for the monitor");
        int rc = check_stop(peer);
        if (rc != 0)
            return rc;
    }
}

/* Sleep a little where nothing can be waited for. */
static int
pause_until(const struct offload_peer *peer, uint64_t deadline_ns, const char *words)
{
    const struct timespec moment = {.tv_nsec = NS_PER_MS};
    if (base_clock_monotonic_ns() > deadline_ns)
        return dor_fail(DOR_E_TIMEOUT, "offload: %s", words);
    nanosleep(&moment, NULL);
    return check_stop(peer);
}

/* ------------------------------------------------------------------ sockets */

/* Whether FD's other side has said anything: one that only looked whether we listen has not. */
static int
check_spoken(const struct offload_peer *peer, int fd, bool *ret)
{
    char byte;
    int rc = wait_for(peer, fd, POLLIN, deadline_of(peer));
    if (rc == 0)
        *ret = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
    return rc;
}

static int
accept_one(const struct offload_peer *peer, int listening, int *ret)
{
    for (;;) {
        bool spoken = false;
        int rc = wait_for(peer, listening, POLLIN, UINT64_MAX);
        if (rc != 0)
            return rc;
        AUTO_CLOSE int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && errno != EINTR && errno != EAGAIN && errno != ECONNABORTED)
            return dor_fail_errno(errno, "offload: no connection can be accepted");
        if (fd >= 0)
            rc = check_spoken(peer, fd, &spoken);
        if (rc != 0)
            return rc;
        if (spoken) {
            *ret = base_take_fd(&fd);
            return 0;
        }
    }
}

int
offload_accept(const char *path, struct offload_peer *peer)
{
    struct base_listener listener;
    int rc = base_listener_open(path, S_IRUSR | S_IWUSR, &listener);
    if (rc != 0)
        return rc;
    if (peer->options.ready != NULL)
        peer->options.ready(peer->options.ready_context);
    rc = accept_one(peer, listener.fd, &peer->fd);
    base_listener_close(&listener);
    return rc;
}

int
offload_connect(const char *path, struct offload_peer *peer)
{
    uint64_t deadline_ns = deadline_of(peer);
    for (;;) {
        int rc = base_unix_connect(path, SOCK_NONBLOCK, &peer->fd);
        if (rc == DOR_E_NOT_FOUND)
            return dor_fail(
                DOR_E_NOT_FOUND,
                "socket %s: nobody listens there; call receive-migration first", path);
        if (rc != DOR_E_BUSY)
            return rc;
        rc = pause_until(peer, deadline_ns, "nobody takes the connection");
        if (rc != 0)
            return rc;
    }
}

void
offload_peer_close(struct offload_peer *peer)
{
    base_auto_close(&peer->fd);
    peer->fd = -1;
}

/* ------------------------------------------------------------------ receiving */

/* Keep the only descriptor of MESSAGE in *RET_FD; close all others. */
static int
take_descriptors(struct msghdr *message, int *ret_fd)
{
    size_t count = 0;
    int kept = -1;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part != NULL;
         part = CMSG_NXTHDR(message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        size_t here = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < here; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
            if (count++ == 0 && ret_fd != NULL && *ret_fd < 0)
                kept = fd;
            else
                close(fd);
        }
    }
    if ((message->msg_flags & MSG_CTRUNC) == 0 && (count == 0 || (count == 1 && kept >= 0))) {
        if (count == 1)
            *ret_fd = kept;
        return 0;
    }
    base_auto_close(&kept);
    return dor_fail(DOR_E_CORRUPT, "offload: the monitor sent descriptors where none belong");
}

/* One recvmsg(); *RET is 0 at the end and -1 when there is nothing yet. */
static int
receive_some(
    struct offload_peer *peer, void *data, size_t size_bytes, int *ret_fd, ssize_t *ret)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } control;
    struct iovec piece = {.iov_base = data, .iov_len = size_bytes};
    struct msghdr message = {
        .msg_iov = &piece,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof control.bytes,
    };
    *ret = recvmsg(peer->fd, &message, MSG_CMSG_CLOEXEC);
    if (*ret >= 0)
        return take_descriptors(&message, ret_fd);
    if (errno == EAGAIN || errno == EINTR)
        return 0;
    if (errno != ECONNRESET)
        return dor_fail_errno(errno, "offload: cannot receive from the monitor");
    *ret = 0;
    return 0;
}

static int
hung_up(void)
{
    return dor_fail(DOR_E_IO, "offload: the monitor hung up in the middle of the exchange");
}

/* Receive to the end of DATA; with RET_END, the end of all before its first byte is no error. */
static int
receive_until(
    struct offload_peer *peer, uint8_t *data, size_t size_bytes, int *ret_fd, bool patient,
    bool *ret_end)
{
    uint64_t deadline_ns = patient ? UINT64_MAX : deadline_of(peer);
    size_t done = 0;
    while (done < size_bytes) {
        ssize_t count = 0;
        int rc = wait_for(peer, peer->fd, POLLIN, deadline_ns);
        if (rc == 0)
            rc = receive_some(peer, data + done, size_bytes - done, ret_fd, &count);
        if (rc != 0)
            return rc;
        if (count == 0 && done == 0 && ret_end != NULL) {
            *ret_end = true;
            return 0;
        }
        if (count == 0)
            return hung_up();
        if (done == 0 && count > 0)
            deadline_ns = deadline_of(peer);
        done += count > 0 ? (size_t)count : 0;
    }
    return 0;
}

int
offload_receive(struct offload_peer *peer, void *data, size_t size_bytes, int *ret_fd)
{
    return receive_until(peer, data, size_bytes, ret_fd, false, NULL);
}

int
offload_receive_request(
    struct offload_peer *peer, bool patient, struct offload_request *ret, bool *ret_end)
{
    uint8_t header[HEADER_BYTES];
    int rc = receive_until(peer, header, sizeof header, NULL, patient, ret_end);
    if (rc != 0 || (ret_end != NULL && *ret_end))
        return rc;
    unsigned command = base_le16_get(header);
    if (command == 0 || command >= OFFLOAD_COMMANDS)
        return dor_fail(DOR_E_CORRUPT, "offload: the protocol has no command %u", command);
    *ret = (struct offload_request){
        .command = (enum offload_command)command,
        .version = base_le16_get(header + VERSION_AT),
        .length = base_le64_get(header + LENGTH_AT),
    };
    return 0;
}

int
offload_receive_answer(struct offload_peer *peer, enum offload_command what)
{
    uint8_t header[HEADER_BYTES];
    int rc = offload_receive(peer, header, sizeof header, NULL);
    if (rc != 0)
        return dor_fail_wrap("answer to %s", offload_command_name(what));
    if (base_le16_get(header) == STATUS_ERROR)
        return dor_fail(
            DOR_E_IO, "offload: the monitor refused %s; its log says why",
            offload_command_name(what));
    if (base_le16_get(header) != STATUS_OK || base_le64_get(header + LENGTH_AT) != 0)
        return dor_fail(
            DOR_E_CORRUPT, "offload: what the monitor answered to %s is no answer",
            offload_command_name(what));
    return 0;
}

/* ------------------------------------------------------------------ sending */

/* One sendmsg() of DATA, with FD unless that is -1. */
static ssize_t
send_some(const struct offload_peer *peer, const void *data, size_t size_bytes, int fd)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec piece = {.iov_base = (void *)(uintptr_t)data, .iov_len = size_bytes};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    if (fd >= 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        control.align.cmsg_level = SOL_SOCKET;
        control.align.cmsg_type = SCM_RIGHTS;
        control.align.cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(&control.align), &fd, sizeof fd);
    }
    return sendmsg(peer->fd, &message, MSG_NOSIGNAL);
}

int
offload_send(struct offload_peer *peer, const void *data, size_t size_bytes, int fd)
{
    const uint8_t *at = data;
    uint64_t deadline_ns = deadline_of(peer);
    while (size_bytes > 0) {
        ssize_t count = send_some(peer, at, size_bytes, fd);
        if (count < 0 && (errno == EPIPE || errno == ECONNRESET))
            return hung_up();
        if (count < 0 && errno != EAGAIN && errno != EINTR)
            return dor_fail_errno(errno, "offload: cannot send to the monitor");
        if (count > 0) {
            at += count;
            size_bytes -= (size_t)count;
            fd = -1;
            continue;
        }
        int rc = wait_for(peer, peer->fd, POLLOUT, deadline_ns);
        if (rc != 0)
            return rc;
    }
    return 0;
}

int
offload_send_request(struct offload_peer *peer, enum offload_command command, uint64_t length)
{
    uint8_t header[HEADER_BYTES] = {0};
    base_le16_put(header, (uint16_t)command);
    if (command == OFFLOAD_START)
        base_le16_put(header + VERSION_AT, OFFLOAD_VERSION);
    base_le64_put(header + LENGTH_AT, length);
    return offload_send(peer, header, sizeof header, -1);
}

int
offload_send_answer(struct offload_peer *peer, bool good)
{
    uint8_t header[HEADER_BYTES] = {0};
    base_le16_put(header, good ? STATUS_OK : STATUS_ERROR);
    return offload_send(peer, header, sizeof header, -1);
}

void
offload_drain(struct offload_peer *peer)
{
    static const uint64_t drain_ns = UINT64_C(1000000000);
    uint64_t deadline_ns = base_clock_monotonic_ns() + drain_ns;
    uint8_t bytes[4096];
    struct pollfd poll_fd = {.fd = peer->fd, .events = POLLIN};
    if (shutdown(peer->fd, SHUT_WR) != 0)
        return;
    while (base_clock_monotonic_ns() < deadline_ns) {
        if (poll(&poll_fd, 1, SLICE_MS) > 0 &&
            recv(peer->fd, bytes, sizeof bytes, MSG_DONTWAIT) <= 0)
            return;
        if (check_stop(peer) != 0)
            return;
    }
}

int
offload_send_role(struct offload_peer *peer, enum offload_role role)
{
    uint8_t bytes[sizeof(uint16_t)];
    uint64_t deadline_ns = deadline_of(peer);
    int unread = 1;
    base_le16_put(bytes, (uint16_t)role);
    int rc = offload_send(peer, bytes, sizeof bytes, -1);
    while (rc == 0 && unread > 0) {
        if (ioctl(peer->fd, SIOCOUTQ, &unread) != 0)
            return dor_fail_errno(errno, "offload: cannot tell whether the monitor listens");
        if (unread > 0)
            rc = pause_until(
                peer, deadline_ns,
                "the monitor does not ask for pages; call receive-migration with "
                "memory_mode=postcopy");
    }
    return rc;
}
