/* SPDX-License-Identifier: Apache-2.0 */
/*
 * offload_wire.h - the messages of Cloud Hypervisor's migration protocol on a Unix socket, each
 * whole or an error, within its time.
 *
 * Ownership:  a peer owns its socket; received descriptors are the caller's.
 * Threads:    one at a time for each direction of a peer.
 * Errors:     DOR_E_TIMEOUT: the other side fell silent; DOR_E_IO: it hung up; DOR_E_CORRUPT: it
 *             sent what the protocol does not know; DOR_E_BUSY: stopped by the options' stop().
 */
#ifndef DOR_WAKE_OFFLOAD_WIRE_H
#define DOR_WAKE_OFFLOAD_WIRE_H

#include <dormouse/offload.h>

enum offload_command {
    OFFLOAD_START = 1,
    OFFLOAD_CONFIG = 2,
    OFFLOAD_STATE = 3,
    OFFLOAD_MEMORY = 4,
    OFFLOAD_COMPLETE = 5,
    OFFLOAD_ABANDON = 6,
    OFFLOAD_MEMORY_FD = 7,
    OFFLOAD_COMPLETE_PAUSED = 8,
    OFFLOAD_PAGE_FAULT = 9,
    OFFLOAD_COMMANDS = 10
};

/* Of the first bytes on a second connection. */
enum offload_role { OFFLOAD_ROLE_PRECOPY_MEMORY = 1, OFFLOAD_ROLE_FAULT = 2 };

enum { OFFLOAD_VERSION = 0 };

struct offload_peer {
    int fd; /* of the socket, -1: none */
    struct dor_offload_options options;
};

struct offload_request {
    enum offload_command command;
    unsigned version; /* OFFLOAD_START */
    uint64_t length;  /* of what follows */
};

/* "Config" and so on; "command 77" would not be words, so others are "an unknown command". */
const char *offload_command_name(unsigned command);

/* Listen at PATH and accept one; see dor_offload_accept(). */
DOR_MUST_CHECK int offload_accept(const char *path, struct offload_peer *peer);
DOR_MUST_CHECK int offload_connect(const char *path, struct offload_peer *peer);
void offload_peer_close(struct offload_peer *peer);

/*
 * Receive exactly SIZE_BYTES. A descriptor that comes with them goes to *RET_FD; it is an error
 * where RET_FD is NULL, and *RET_FD stays as it is when there is none.
 */
DOR_MUST_CHECK int
offload_receive(struct offload_peer *peer, void *data, size_t size_bytes, int *ret_fd);
/*
 * The next request. PATIENT: it may take any time to come (but not to come in full), and *RET_END
 * tells whether the other side hung up instead.
 */
DOR_MUST_CHECK int offload_receive_request(
    struct offload_peer *peer, bool patient, struct offload_request *ret, bool *ret_end);

/* Send SIZE_BYTES, with FD unless that is -1. */
DOR_MUST_CHECK int
offload_send(struct offload_peer *peer, const void *data, size_t size_bytes, int fd);
DOR_MUST_CHECK int
offload_send_request(struct offload_peer *peer, enum offload_command command, uint64_t length);
DOR_MUST_CHECK int offload_send_answer(struct offload_peer *peer, bool good);
/* Receive an answer; DOR_E_IO when it is not Ok. WHAT was asked. */
DOR_MUST_CHECK int offload_receive_answer(struct offload_peer *peer, enum offload_command what);

/*
 * After an answer that ends the exchange: let the other side finish what it is sending, for at most
 * a second, so that it comes to read the answer.
 */
void offload_drain(struct offload_peer *peer);

/* Send ROLE and wait until the other side has read it: then it listens to this connection. */
DOR_MUST_CHECK int offload_send_role(struct offload_peer *peer, enum offload_role role);

#endif
