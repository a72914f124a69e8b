/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.h - what front, zygote and workers say to each other: one message a packet of a
 * SOCK_SEQPACKET socket, a struct of fixed size, then `extra_bytes` of text, and descriptors beside
 * it. A worker may have been taken over by what it runs, so the front believes no field unseen.
 *
 *     word       from    to      id       descriptors         extra
 *     SPAWN      front   zygote  worker   control, status     -
 *     SPAWNED    zygote  front   worker   its pidfd, if any   -
 *     TENANT     front   worker  tenant   arena, and if it is kept its log; if its pages are
 *                                         still to come, a socket and a device for that (fill.h)
 *     SERVED     worker  front   tenant   -                   -: its log is replayed
 *     FILLED     worker  front   tenant   -                   -: all its pages are there
 *     SAVE       worker  front   tenant   -                   -: a snapshot is wanted
 *     MARK       front   worker  tenant   next log, mark      -
 *     MARKED     worker  front   tenant   -                   why not, if it is not
 *     SAVED      front   worker  tenant   -                   -: the mark can end
 *     CHANGE     front   worker  tenant   -                   -
 *     REMOVE     front   worker  tenant   -                   -
 *     REFUSED    worker  front   tenant   -                   why it cannot be served
 *     APART      worker  front   tenant   -                   -: it overran its limits and leaves
 *     LEFT       worker  front   tenant   -                   -: nothing of it is here any more
 *     ADOPT      front   worker  tenant   client, input       bytes the client sent already
 *     HAND_BACK  worker  front   tenant   client, input       the same, from its AUTH on, or all
 *     BYE        front   worker  -        -                   -
 *
 * Input of more than TABLE_CONTROL_INLINE bytes comes as a memory file.
 *
 * Ownership:  descriptors that are sent stay the sender's; those that come are the receiver's.
 * Threads:    one socket end, one thread.
 * Errors:     DOR_E_BUSY: the other side does not keep up, send it later. DOR_E_IO: it is gone.
 *             DOR_E_CORRUPT: what came is no message.
 */
#ifndef DOR_TABLE_CONTROL_H
#define DOR_TABLE_CONTROL_H

#include <dormouse/err.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

enum table_word {
    TABLE_WORD_SPAWN = 1,
    TABLE_WORD_SPAWNED,
    TABLE_WORD_TENANT,
    TABLE_WORD_CHANGE,
    TABLE_WORD_REMOVE,
    TABLE_WORD_REFUSED,
    TABLE_WORD_ADOPT,
    TABLE_WORD_HAND_BACK,
    TABLE_WORD_BYE,
    TABLE_WORD_SERVED,
    TABLE_WORD_FILLED,
    TABLE_WORD_SAVE,
    TABLE_WORD_MARK,
    TABLE_WORD_MARKED,
    TABLE_WORD_SAVED,
    TABLE_WORD_APART,
    TABLE_WORD_LEFT,
};

enum {
    TABLE_CONTROL_FDS = 4,
    TABLE_CONTROL_INLINE = 32 << 10,
    TABLE_CONTROL_INPUT_MAX = 16 << 20, /* more than sockets and rings hold */
    TABLE_CONTROL_NAME_BYTES = 65,
};

/* SPAWN, SPAWNED */
struct table_control_worker {
    int32_t pid; /* of SPAWNED; 0 = it could not be started */
    uint32_t rows;
};

/* TENANT, CHANGE */
struct table_control_tenant {
    char name[TABLE_CONTROL_NAME_BYTES];
    uint8_t is_new; /* its arena is empty */
    uint8_t recover;
    uint8_t suspect; /* a worker was killed for a call of it, not long ago */
    uint8_t policy;  /* enum table_policy */
    uint8_t log;     /* enum table_log_when; not off: its descriptor is there */
    uint8_t fills;   /* the socket and the device too */
    uint32_t slot;   /* in the status page */
    uint32_t calls_max;
    uint64_t limit_bytes;
    uint64_t heap_bytes;
    uint64_t call_ms;
    uint64_t saved_ms; /* when its last snapshot was, since 1970; 0 = there is none */
};

/* MARK, MARKED, SAVED */
struct table_control_snapshot {
    uint64_t log_number;
    uint64_t saved_ms; /* of SAVED: when it was */
    uint8_t failed;    /* of MARKED and SAVED */
};

/* ADOPT, HAND_BACK */
struct table_control_client {
    uint64_t client_id;
    uint8_t protocol; /* 2 or 3 */
    char name[TABLE_CONTROL_NAME_BYTES];
    char address[TABLE_CONTROL_NAME_BYTES];
    char library[TABLE_CONTROL_NAME_BYTES];
    char library_version[TABLE_CONTROL_NAME_BYTES];
    uint8_t input_in_file; /* the second descriptor has it */
    uint64_t input_bytes;
};

struct table_message {
    uint32_t word;
    uint32_t id;
    union {
        struct table_control_worker worker;
        struct table_control_tenant tenant;
        struct table_control_client client;
        struct table_control_snapshot snapshot;
    };
    uint32_t extra_bytes;
};

/* Two connected ends that do not block. */
DOR_MUST_CHECK int table_control_pair(int ret[2]);

DOR_MUST_CHECK int table_control_send(
    int control, const struct table_message *message, const void *extra, const int *fds,
    size_t fd_count);

/*
 * A message with the descriptors that came along, -1 for those that did not; EXTRA has its text,
 * EXTRA->size_bytes of it. DOR_E_BUSY: there is none now.
 */
DOR_MUST_CHECK int table_control_receive(
    int control, struct table_message *ret, struct base_buf *extra,
    int ret_fds[static TABLE_CONTROL_FDS]);

/*
 * Set MESSAGE's fields about INPUT, which goes along as its text, or when it is long in the memory
 * file *RET_FILE that this makes; -1 otherwise.
 */
DOR_MUST_CHECK int table_control_input(
    struct table_message *message, const void *input, size_t input_bytes, int *ret_file);

/*
 * ADOPT or HAND_BACK the client CLIENT_FD with INPUT; MESSAGE's fields about input are set here.
 * The descriptor stays the caller's.
 */
DOR_MUST_CHECK int table_control_send_client(
    int control, struct table_message *message, int client_fd, const void *input,
    size_t input_bytes);

/*
 * The input that came with MESSAGE: EXTRA already has it, or it is read into it from the memory
 * file INPUT_FD.
 */
DOR_MUST_CHECK int table_control_take_input(
    const struct table_message *message, int input_fd, struct base_buf *extra);

#endif
