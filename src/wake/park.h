/* SPDX-License-Identifier: Apache-2.0 */
/*
 * park.h - what must outlive the process that wakes sandboxes. A userfaultfd that is closed with a
 * fault in flight gives its sandbox a page of zeros, so copies of the descriptors of every client
 * are parked with somebody who does not die: a keeper process (keeper.h), or systemd's descriptor
 * store. Who takes over finds in one of them, a memory file, all that he must know of the client.
 *
 * Ownership:  a parking place has copies; the caller's own descriptors stay the caller's.
 * Threads:    a parking place: any. A state is its client's handler's, where not said otherwise.
 * Errors:     DOR_E_IO: the parking place is gone, which costs only the safety.
 */
#ifndef DOR_WAKE_PARK_H
#define DOR_WAKE_PARK_H

#include <linux/userfaultfd.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dormouse/store.h>

#include "wake/handshake.h"

/* ------------------------------------------------------------------ what is parked */

enum wake_park_role {
    WAKE_PARK_STATE,  /* the memory file with struct wake_state */
    WAKE_PARK_UFFD,   /* never closed while its memory lives */
    WAKE_PARK_SOCKET, /* to the client: tells when it is gone */
    WAKE_PARK_MEMORY, /* the client's memory file; may be missing */
    WAKE_PARK_ROLES
};

/* One client's descriptors by role; -1 = none. */
struct wake_parked {
    uint64_t id;
    int fds[WAKE_PARK_ROLES];
};

/* A parking place. */
struct wake_park {
    void *context;
    /* Keep copies of CLIENT's descriptors. */
    int (*store)(void *context, const struct wake_parked *client);
    /* The client ID is gone, or needs nothing any more. */
    void (*remove)(void *context, uint64_t id);
};

/*
 * Names by which a store of single descriptors, such as systemd's, can keep them:
 * "wake-000000000000002a-uffd".
 */
#define WAKE_PARK_NAME_BYTES 32
void
wake_park_name(uint64_t id, enum wake_park_role role, char name[static WAKE_PARK_NAME_BYTES]);
/* Whether NAME is such a one, and of what. */
bool wake_park_name_parse(const char *name, uint64_t *ret_id, enum wake_park_role *ret_role);

/* Whether the memory behind UFFD, which has MAPPINGS, has no user any more. */
bool wake_uffd_is_gone(int uffd, const struct wake_mappings *mappings);
/* A parked client whose memory no process has any more: its descriptors may be closed. */
bool wake_parked_is_gone(const struct wake_parked *client);
void wake_parked_close(struct wake_parked *client);

/* ------------------------------------------------------------------ the state of a client */

#define WAKE_EVENTS_MAX 64

/*
 * Lies in a memory file that all processes that ever serve the client map. Of the bitmaps, a bit
 * stands for a page of the image.
 *
 * Events are read straight into it: what the kernel has handed out is never lost with the process
 * that asked. The writer marks what was removed, then clears the events; who takes over does the
 * same again, which changes nothing.
 */
struct wake_state {
    uint64_t magic;
    uint32_t version;
    uint32_t state_bytes; /* of this struct */
    uint64_t size_bytes;  /* of the file */
    uint64_t snapshot_id;
    uint64_t page_count; /* of the image */
    char snapshot[DOR_NAME_BYTES_MAX + 1];
    struct wake_mappings mappings;
    struct uffd_msg events[WAKE_EVENTS_MAX];
    _Atomic uint64_t bits[]; /* removed pages; given pages */
};

DOR_MUST_CHECK int wake_state_new(
    const struct dor_snapshot_info *snapshot, uint64_t page_count,
    const struct wake_mappings *mappings, int *ret_fd, struct wake_state **ret);
/* Map what an earlier process left in FD. DOR_E_CORRUPT, DOR_E_UNSUPPORTED. */
DOR_MUST_CHECK int wake_state_map(int fd, struct wake_state **ret);
void wake_state_unmap(struct wake_state *state);

/* Pages that the client has let go: what it finds there from now on is zeros. */
bool wake_state_is_removed(const struct wake_state *state, uint64_t page);
void wake_state_set_removed(struct wake_state *state, uint64_t page);
/* Pages that were given to the client. Any thread may look. */
bool wake_state_is_given(const struct wake_state *state, uint64_t page);
void wake_state_set_given(struct wake_state *state, uint64_t page);

#endif
