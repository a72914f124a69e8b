/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run.h - what the files of `dormouse run` share: the snapshot's files, and QEMU's command line.
 *
 * Ownership:  each _fini() gives back what its struct holds; all zero with descriptors of -1 is an
 *             empty one.
 * Threads:    one; a mount has its own.
 * Errors:     as everywhere.
 */
#ifndef DOR_CLI_RUN_H
#define DOR_CLI_RUN_H

#include "base/mem.h"
#include "cli/cli.h"

#include <dormouse/wake.h>

/* What a guest is woken from: files of a mount, which need no path to be read. */
struct cli_run_files {
    struct dor_wake_server *server;
    struct dor_mount *mount; /* of its own, or NULL */
    int memory_fd, state_fd;
    uint64_t memory_bytes;
    struct base_buf description; /* qemu.json */
};

DOR_MUST_CHECK int cli_run_files_open(const struct cli *cli, struct cli_run_files *files);
void cli_run_files_fini(struct cli_run_files *files);

/* Arguments for execvp(), ended by NULL. */
struct cli_run_command {
    char **words;
    size_t count;
};

/*
 * How FILES' guest is started, with QMP at QMP_FD. The command's descriptors are those of this
 * process.
 */
DOR_MUST_CHECK int cli_run_command_make(
    const struct cli *cli, const struct cli_run_files *files, int qmp_fd,
    struct cli_run_command *command);
void cli_run_command_fini(struct cli_run_command *command);

/* Whether COMMAND may have QEMU start a setuid program. */
bool cli_run_wants_setuid(const struct cli_run_command *command);
/*
 * In QEMU's process, before it is QEMU: have it not ask for huge pages for MEMORY_BYTES of memory.
 * Without rights this forbids setuid programs, and is left out if it needs SETUID. Takes no lock.
 */
void cli_run_drop_advice(uint64_t memory_bytes, bool setuid);

#endif
