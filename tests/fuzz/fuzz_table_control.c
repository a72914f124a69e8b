/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_table_control.c - the input is a packet that a worker sends to the front. It is refused, or
 * a message whose texts end and whose lengths agree.
 */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "table/control.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

static void
look_at(const struct table_message *message, const struct base_buf *extra)
{
    dor_assert(extra->size_bytes == message->extra_bytes);
    if (message->word != TABLE_WORD_ADOPT && message->word != TABLE_WORD_HAND_BACK)
        return;
    dor_assert(strlen(message->client.name) < TABLE_CONTROL_NAME_BYTES);
    dor_assert(strlen(message->client.address) < TABLE_CONTROL_NAME_BYTES);
    dor_assert(message->client.input_bytes <= TABLE_CONTROL_INPUT_MAX);
    dor_assert(
        message->client.input_in_file != 0 || message->client.input_bytes == extra->size_bytes);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    int pair[2];
    int fds[TABLE_CONTROL_FDS];
    struct table_message message;
    struct base_buf extra = {0};
    if (size_bytes == 0 || size_bytes > 1 << 16 || table_control_pair(pair) != 0)
        return 0;
    if (send(pair[0], data, size_bytes, MSG_NOSIGNAL) == (ssize_t)size_bytes &&
        table_control_receive(pair[1], &message, &extra, fds) == 0)
        look_at(&message, &extra);
    base_buf_free(&extra);
    close(pair[0]);
    close(pair[1]);
    return 0;
}
