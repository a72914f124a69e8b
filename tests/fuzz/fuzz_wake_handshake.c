/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_wake_handshake.c - the input is what a monitor says to get a sandbox woken. Its first byte
 * is the size of the image in units of 2 MiB. What is understood lies inside the image and is apart
 * from each other there and in the client; what is only the beginning of something is never
 * understood. Then the same comes through a socket, in pieces, without a descriptor: refused.
 */
#include "wake/handshake.h"

#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

static void
check_mapping(const struct wake_mappings *mappings, size_t index, uint64_t image_bytes)
{
    const struct wake_mapping *mapping = &mappings->items[index];
    dor_assert(mapping->page_bytes == DOR_PAGE_BYTES || mapping->page_bytes == WAKE_HUGE_BYTES);
    dor_assert(mapping->size_bytes > 0 && mapping->size_bytes % mapping->page_bytes == 0);
    dor_assert(mapping->address % mapping->page_bytes == 0);
    dor_assert(mapping->offset % DOR_PAGE_BYTES == 0);
    dor_assert(mapping->offset + mapping->size_bytes <= image_bytes);
    for (size_t i = 0; i < index; i++) {
        const struct wake_mapping *other = &mappings->items[i];
        dor_assert(other->address + other->size_bytes <= mapping->address);
        dor_assert(
            other->offset + other->size_bytes <= mapping->offset ||
            mapping->offset + mapping->size_bytes <= other->offset);
    }
}

static void
check_receiving(const char *text, size_t size_bytes, uint64_t image_bytes)
{
    static struct wake_mappings mappings;
    struct wake_handshake handshake;
    int pair[2];
    size_t sent = 0;
    int err = DOR_E_BUSY;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
        return;
    wake_handshake_init(&handshake);
    while (err == DOR_E_BUSY) {
        ssize_t done = send(
            pair[0], text + sent, (size_bytes - sent + 1) / 2, MSG_NOSIGNAL | MSG_DONTWAIT);
        sent += done > 0 ? (size_t)done : 0;
        if (sent == size_bytes || done < 0)
            shutdown(pair[0], SHUT_WR);
        err = wake_handshake_receive(&handshake, pair[1], image_bytes, &mappings);
    }
    dor_assert(err != 0);
    wake_handshake_fini(&handshake);
    close(pair[0]);
    close(pair[1]);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    static struct wake_mappings mappings;
    if (size_bytes < 1)
        return 0;
    const char *text = (const char *)data + 1;
    uint64_t image_bytes = data[0] * WAKE_HUGE_BYTES;
    size_t text_bytes = size_bytes - 1;
    if (wake_handshake_parse(text, text_bytes, image_bytes, &mappings) == 0) {
        dor_assert(mappings.count > 0 && mappings.count <= WAKE_MAPPINGS_MAX);
        for (size_t i = 0; i < mappings.count; i++)
            check_mapping(&mappings, i, image_bytes);
        /* An array ends with its bracket; blanks behind it do not count. */
        while (text_bytes > 0 && text[text_bytes - 1] != ']')
            text_bytes--;
        dor_assert(
            wake_handshake_parse(text, text_bytes - 1, image_bytes, &mappings) == DOR_E_BUSY);
    }
    check_receiving(text, size_bytes - 1, image_bytes);
    return 0;
}
