/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_table_control.c - control messages: they arrive whole with their descriptors, a full socket
 * says so, and whatever else comes is refused and leaks no descriptor.
 */
#include "table/control.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "table/status.h"
#include "tap.h"

static struct base_buf extra;
static int fds[TABLE_CONTROL_FDS];
static struct table_message got;

static void
test_messages(const int pair[2])
{
    struct table_message message = {.word = TABLE_WORD_REFUSED, .id = 3, .extra_bytes = 4};
    is_int(
        table_control_receive(pair[1], &got, &extra, fds), DOR_E_BUSY, "nothing is there yet");
    is_ok(table_control_send(pair[0], &message, "why?", NULL, 0), "send");
    is_ok(table_control_receive(pair[1], &got, &extra, fds), "receive");
    ok(got.id == 3 && extra.size_bytes == 4 && memcmp(extra.data, "why?", 4) == 0,
       "with its text");
    ok(fds[0] == -1 && fds[1] == -1, "without descriptors");
}

static void
test_clients(const int pair[2])
{
    static uint8_t input[100000];
    struct table_message message = {.word = TABLE_WORD_ADOPT, .id = 5};
    struct stat sent;
    struct stat arrived;
    message.client.protocol = 3;
    for (size_t i = 0; i < sizeof input; i++)
        input[i] = (uint8_t)(i * 7);
    const size_t sizes[] = {0, 1, TABLE_CONTROL_INLINE, TABLE_CONTROL_INLINE + 1, sizeof input};
    unsigned before = tap_descriptors();
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        is_ok(table_control_send_client(pair[0], &message, 0, input, sizes[i]), "send");
        is_ok(table_control_receive(pair[1], &got, &extra, fds), "receive");
        is_ok(table_control_take_input(&got, fds[1], &extra), "take the input");
        ok(extra.size_bytes == sizes[i] && memcmp(extra.data, input, sizes[i]) == 0,
           "%zu bytes of input", sizes[i]);
        ok(fstat(0, &sent) == 0 && fstat(fds[0], &arrived) == 0 &&
               sent.st_ino == arrived.st_ino,
           "and the descriptor");
        for (unsigned k = 0; k < TABLE_CONTROL_FDS; k++)
            base_close_fd(&fds[k]);
    }
    is_int(
        table_control_send_client(
            pair[0], &message, 0, input, (size_t)TABLE_CONTROL_INPUT_MAX + 1),
        DOR_E_USAGE, "too much input");
    is_int(tap_descriptors(), before, "no descriptor is left");
}

/* Send BYTES as they are with COUNT descriptors. */
static void
send_raw(int fd, const void *bytes, size_t length, unsigned count)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int) * 8)];
    } control = {0};
    struct iovec piece = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length};
    struct msghdr packet = {.msg_iov = &piece, .msg_iovlen = 1};
    if (count > 0) {
        packet.msg_control = &control;
        packet.msg_controllen = CMSG_SPACE(sizeof(int) * count);
        struct cmsghdr *header = CMSG_FIRSTHDR(&packet);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * count);
        for (unsigned i = 0; i < count; i++)
            memset(CMSG_DATA(header) + i * sizeof(int), 0, sizeof(int));
    }
    if (sendmsg(fd, &packet, 0) < 0)
        bail("cannot send");
}

static void
test_nonsense(const int pair[2])
{
    struct table_message message = {.word = TABLE_WORD_ADOPT};
    unsigned before = tap_descriptors();
    send_raw(pair[0], &message, 7, 2);
    is_int(table_control_receive(pair[1], &got, &extra, fds), DOR_E_CORRUPT, "a short one");
    send_raw(pair[0], &message, sizeof message, 2);
    is_int(table_control_receive(pair[1], &got, &extra, fds), DOR_E_CORRUPT, "protocol 0");
    message.client.protocol = 2;
    memset(message.client.name, 'a', sizeof message.client.name);
    send_raw(pair[0], &message, sizeof message, 1);
    is_int(
        table_control_receive(pair[1], &got, &extra, fds), DOR_E_CORRUPT,
        "a name without an end");
    message.client.name[0] = '\0';
    message.client.input_bytes = UINT64_MAX;
    send_raw(pair[0], &message, sizeof message, 1);
    is_int(
        table_control_receive(pair[1], &got, &extra, fds), DOR_E_CORRUPT,
        "much too much input");
    message.client.input_bytes = 9;
    send_raw(pair[0], &message, sizeof message, 1);
    is_int(
        table_control_receive(pair[1], &got, &extra, fds), DOR_E_CORRUPT,
        "input that did not come");
    message.client.input_bytes = 0;
    message.extra_bytes = 100;
    send_raw(pair[0], &message, sizeof message, 1);
    is_int(
        table_control_receive(pair[1], &got, &extra, fds), DOR_E_CORRUPT, "text that did not");
    message.extra_bytes = 0;
    message.word = 77;
    send_raw(pair[0], &message, sizeof message, 1);
    is_int(table_control_receive(pair[1], &got, &extra, fds), DOR_E_CORRUPT, "an unknown word");
    message.word = TABLE_WORD_ADOPT;
    send_raw(pair[0], &message, sizeof message, 8);
    is_int(
        table_control_receive(pair[1], &got, &extra, fds), DOR_E_CORRUPT,
        "too many descriptors");
    /* The file that input is said to be in is no file, or a short one. */
    message.client.input_in_file = 1;
    message.client.input_bytes = 1000;
    send_raw(pair[0], &message, sizeof message, 1);
    is_ok(table_control_receive(pair[1], &got, &extra, fds), "input in a file");
    ok(table_control_take_input(&got, fds[1], &extra) != 0, "that did not come");
    base_close_fd(&fds[0]);
    is_int(tap_descriptors(), before, "no descriptor is left");
}

static void
test_full(const int pair[2])
{
    struct table_message message = {.word = TABLE_WORD_BYE};
    int rc = 0;
    unsigned sent = 0;
    while (rc == 0 && sent < 1000000) {
        rc = table_control_send(pair[0], &message, NULL, NULL, 0);
        sent += rc == 0;
    }
    is_int(rc, DOR_E_BUSY, "a full socket says so");
    unsigned received = 0;
    while (table_control_receive(pair[1], &got, &extra, fds) == 0)
        received++;
    is_int(received, sent, "and what was sent arrives");
}

static void
test_status(void)
{
    struct table_status *ours = NULL;
    struct table_status *theirs = NULL;
    int fd = -1;
    is_ok(table_status_create(3, &fd, &ours), "a status page");
    is_ok(table_status_map(fd, 3, &theirs), "mapped twice");
    table_status_put(&table_status_row(theirs, 2)->keys, 12);
    is_int(table_status_get(&table_status_row(ours, 2)->keys), 12, "is one page");
    ok(ftruncate(fd, 0) != 0, "that nobody can cut off");
    ok(table_status_map(fd, 1 << 20, &theirs) == DOR_E_USAGE, "too many rows");
    table_status_unmap(ours, 3);
    close(fd);
}

int
main(void)
{
    int pair[2];
    if (table_control_pair(pair) != 0)
        bail("no pair");
    test_messages(pair);
    test_clients(pair);
    test_nonsense(pair);
    test_full(pair);
    test_status();
    close(pair[0]);
    is_int(
        table_control_receive(pair[1], &got, &extra, fds), DOR_E_IO, "the other side is gone");
    struct table_message message = {.word = TABLE_WORD_BYE};
    is_int(
        table_control_send(pair[1], &message, NULL, NULL, 0), DOR_E_IO, "nor can it be told");
    close(pair[1]);
    base_buf_free(&extra);
    return done_testing();
}
