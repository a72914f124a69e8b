/* SPDX-License-Identifier: Apache-2.0 */
/* The ground-truth recorder of the guest agent; see record.c. */
#ifndef RECORD_H
#define RECORD_H

#include <sys/types.h>

int record_start(const char *disk);	/* allocates and pins all buffers */
int record(pid_t function);		/* writes one recording; 0 or -1 */

#endif
