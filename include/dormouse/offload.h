/* SPDX-License-Identifier: Apache-2.0 */
/*
 * offload.h - Cloud Hypervisor's offload: it hands its memory over as descriptors and its state as
 * text, over a Unix socket, and takes both back in the same way. No file is written for it, and a
 * machine that is woken asks for its pages when it needs them.
 *
 * Ownership:  the caller closes what it opened and received.
 * Threads:    a machine, an offload: one at a time.
 * Errors:     0 or a negative enum dor_errno; dor_err_message() has the words. What the monitor
 *             sends is checked: DOR_E_CORRUPT when it is not what the protocol allows.
 */
#ifndef DORMOUSE_OFFLOAD_H
#define DORMOUSE_OFFLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dormouse/err.h>
#include <dormouse/image.h>
#include <dormouse/wake.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------ machines */

/* One slot of guest memory. */
struct dor_offload_slot {
    uint32_t slot; /* its number */
    int fd;        /* a memory file, where SIZE_BYTES at OFFSET are the slot; -1: none */
    bool virtio_mem;
    uint64_t gpa; /* guest physical address */
    uint64_t size_bytes;
    uint64_t offset;
};

/* What the monitor hands over, or is given. */
struct dor_offload_machine {
    char *config; /* JSON, as the message Config carries it */
    size_t config_bytes;
    char *state; /* JSON, as State does */
    size_t state_bytes;
    struct dor_offload_slot *slots;
    size_t slot_count;
};

/*
 * The image of MACHINE, whose slots need their numbers and descriptors alone: a folder as
 * `vm.snapshot` writes it (config.json, state.json, memory-ranges), and migration_config.json with
 * the configuration as it was sent. Pages are in the descriptors, which the caller may close. They
 * must not be cut while the image is open. DOR_E_CORRUPT: the parts do not fit together.
 */
DOR_PUBLIC DOR_MUST_CHECK int
dor_offload_image_open(const struct dor_offload_machine *machine, struct dor_image **ret);

/*
 * The machine of a snapshot whose image had FRAME: that of an offload, or a folder that Cloud
 * Hypervisor wrote itself. Slots come without descriptors. DOR_E_UNSUPPORTED: the image is of
 * another format, or its version of Cloud Hypervisor knew no offload.
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_offload_machine_read(
    const void *frame, size_t frame_bytes, struct dor_offload_machine *ret);

/* Free what MACHINE points to, and close its descriptors. */
DOR_PUBLIC void dor_offload_machine_fini(struct dor_offload_machine *machine);

/* ------------------------------------------------------------------ taking a machine */

/* All zero: the defaults. */
struct dor_offload_options {
    uint64_t silence_ns; /* how long a message may take; 0 = 30 s */
    /* Called a few times a second while nothing happens; not 0 ends the wait with DOR_E_BUSY. */
    int (*stop)(void *context);
    void *stop_context;
    /* The socket is there and may be connected to. May be NULL. */
    void (*ready)(void *context);
    void *ready_context;
};

struct dor_offload;

/*
 * Listen at SOCKET_PATH until a monitor has connected (`send-migration
 * destination_url=unix:PATH,local=on`), however long that takes, then take the socket away again.
 * DOR_E_BUSY: somebody listens there; DOR_E_EXISTS: something is there that is no socket.
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_offload_accept(
    const char *socket_path, const struct dor_offload_options *options,
    struct dor_offload **ret);
/* The monitor believes its machine is lost to nobody until it was answered. NULL is fine. */
DOR_PUBLIC void dor_offload_close(struct dor_offload *offload);

/*
 * Receive the machine and open its image. The monitor now waits for dor_offload_answer(), its
 * machine paused. DOR_E_TIMEOUT: it fell silent; DOR_E_IO: it hung up or gave up.
 */
DOR_PUBLIC DOR_MUST_CHECK int
dor_offload_receive(struct dor_offload *offload, struct dor_image **ret);
/*
 * STORED: all is on disk, and the monitor's machine may end. Otherwise the monitor is told that it
 * failed and goes on with its machine.
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_offload_answer(struct dor_offload *offload, bool stored);

/* ------------------------------------------------------------------ giving a machine */

struct dor_offload_wake {
    struct dor_offload_options options;
    bool resume; /* the machine runs on at once; otherwise it stays paused */
    /*
     * The monitor was called with memory_mode=postcopy: it asks for pages as it needs them. Without
     * it, all memory is read before the machine goes on.
     */
    bool postcopy;
    bool no_fill; /* postcopy: give only what is asked for and the working set */
};

struct dor_offload_wake_stat {
    uint64_t pages;        /* of the machine */
    uint64_t requests;     /* for pages, of the monitor */
    uint64_t asked_pages;  /* given because they were asked for */
    uint64_t pushed_pages; /* of the working set, given ahead */
    uint64_t filled_pages; /* the rest, given in the background */
    uint64_t zero_pages;   /* of all these: zero */
    uint64_t first_ns;     /* from connecting to the monitor's last answer */
    uint64_t failed_requests;
};

/*
 * Wake the snapshot NAME of SERVER in the monitor that listens at SOCKET_PATH (`receive-migration
 * receiver_url=unix:PATH[,memory_mode=postcopy]`). Returns when the monitor has all it may ask for:
 * with postcopy when it hangs up. The pages that were asked for are learnt as the snapshot's
 * working set.
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_offload_wake(
    struct dor_wake_server *server, const char *name, const char *socket_path,
    const struct dor_offload_wake *how, struct dor_offload_wake_stat *ret);

#ifdef __cplusplus
}
#endif
#endif
