/* SPDX-License-Identifier: Apache-2.0 */
/*
 * offload_take.h - a machine that is being taken, from its connection on.
 *
 * Ownership:  what is made is ended by dor_offload_close().
 * Threads:    one at a time.
 * Errors:     DOR_E_NO_MEMORY.
 */
#ifndef DOR_WAKE_OFFLOAD_TAKE_H
#define DOR_WAKE_OFFLOAD_TAKE_H

#include "wake/offload_wire.h"

/* Speak with PEER, whose socket is taken over when it is connected; -1: it is not yet. */
DOR_MUST_CHECK int offload_take_new(const struct offload_peer *peer, struct dor_offload **ret);

#endif
