/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handshake.h - what a monitor says when it wants a sandbox woken through userfaultfd, in
 * Firecracker's way: one JSON array of mappings, and with it a userfaultfd. Everything is hostile
 * until it was looked at here.
 *
 * Ownership:  descriptors of a handshake are its own until they are taken.
 * Threads:    one handshake, one thread.
 * Errors:     DOR_E_CORRUPT: what was said makes no sense; DOR_E_UNSUPPORTED: we cannot do it;
 *             DOR_E_BUSY: more must come.
 */
#ifndef DOR_WAKE_HANDSHAKE_H
#define DOR_WAKE_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

#define WAKE_MAPPINGS_MAX        256
#define WAKE_HANDSHAKE_BYTES_MAX (128 << 10)
#define WAKE_HUGE_BYTES          (UINT64_C(2) << 20)

/* Memory of the client that is pages of the image. */
struct wake_mapping {
    uint64_t address; /* in the client */
    uint64_t size_bytes;
    uint64_t offset;     /* in the image */
    uint64_t page_bytes; /* 4 KiB or 2 MiB */
};

struct wake_mappings {
    size_t count;
    struct wake_mapping items[WAKE_MAPPINGS_MAX]; /* in the order of addresses */
};

/*
 * The mappings that SIZE_BYTES of TEXT tell of, for an image of IMAGE_BYTES. None overlaps another,
 * in the client or in the image, and all is inside the image. DOR_E_BUSY: the text is not complete.
 */
DOR_MUST_CHECK int wake_handshake_parse(
    const char *text, size_t size_bytes, uint64_t image_bytes, struct wake_mappings *ret);

/* A handshake under way. */
struct wake_handshake {
    struct base_buf text;
    unsigned message_count;
    int uffd;   /* -1: has not come */
    int memory; /* the memory file, if one came too */
};

void wake_handshake_init(struct wake_handshake *handshake);
void wake_handshake_fini(struct wake_handshake *handshake);

/*
 * Receive what SOCKET, which does not block, has. 0: the handshake is complete and its mappings in
 * *RET; DOR_E_BUSY: come again when there is more; DOR_E_IO: the client hung up.
 */
DOR_MUST_CHECK int wake_handshake_receive(
    struct wake_handshake *handshake, int socket, uint64_t image_bytes,
    struct wake_mappings *ret);

#endif
