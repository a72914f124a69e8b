/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmp.h - talks to a QEMU over its machine protocol: one command, one answer, at a time.
 *
 * Ownership:  the caller closes the socket, and calls cli_qmp_fini().
 * Threads:    one.
 * Errors:     DOR_E_IO when QEMU is gone or says no, DOR_E_TIMEOUT when it says nothing.
 */
#ifndef DOR_CLI_QMP_H
#define DOR_CLI_QMP_H

#include <dormouse/err.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct cli_qmp {
    int fd;
    char *bytes; /* received and not yet used up */
    size_t byte_count, room;
};

void cli_qmp_fini(struct cli_qmp *qmp);

/* Read the greeting and leave the mode in which QEMU only negotiates. */
DOR_MUST_CHECK int cli_qmp_begin(struct cli_qmp *qmp, int fd);

/*
 * Have COMMAND done with ARGUMENTS, which are used up and may be NULL. PASS_FD goes along unless it
 * is -1. *RET, when asked for, is what it returns, for json_decref().
 */
DOR_MUST_CHECK int cli_qmp_do(
    struct cli_qmp *qmp, const char *command, json_t *arguments, int pass_fd, json_t **ret);

/* Have a QEMU that waits for it take the device state at STATE_FD. */
DOR_MUST_CHECK int cli_qmp_load(struct cli_qmp *qmp, int state_fd);

/* Read and forget what QEMU tells of itself; false when it has closed its end. */
bool cli_qmp_drain(struct cli_qmp *qmp);

#endif
