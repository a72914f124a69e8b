/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zygote.h - a small process that workers are forked from. It was started anew, so nothing that the
 * front knows is in its memory; what all workers need is loaded once and shared.
 *
 * Ownership:  none to speak of.
 * Threads:    it has one.
 * Errors:     a worker that cannot be started is told to the front.
 */
#ifndef DOR_TABLE_ZYGOTE_H
#define DOR_TABLE_ZYGOTE_H

enum { TABLE_ZYGOTE_CONTROL_FD = 3 };

struct table_engine;

/*
 * The life of a worker: serve what comes over CONTROL until it is closed, and tell about it in the
 * status page of ROWS rows. Takes the descriptors over; ENGINE may be NULL. Returns an exit code.
 */
int table_worker_main(int control, int status_fd, unsigned rows, struct table_engine *engine);

#endif
