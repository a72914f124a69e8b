/* SPDX-License-Identifier: Apache-2.0 */
/*
 * args.h - reads the program's arguments by the tables of verbs.def.
 * Options may stand before or after the verb and between its arguments; "--" ends them.
 *
 * Ownership:  the result borrows the strings of ARGV; cli_args_fini() frees the rest.
 * Threads:    one.
 * Errors:     DOR_E_USAGE for what the tables do not know, DOR_E_NO_MEMORY.
 */
#ifndef DOR_CLI_ARGS_H
#define DOR_CLI_ARGS_H

#include "cli/cli.h"

/*
 * Read ARGV[1 ... ARGC - 1] into CLI, reordering ARGV. Without --help and --version, the verb is
 * there and the number of its arguments right. To be ended by cli_args_fini(), also after an
 * error.
 */
DOR_MUST_CHECK int cli_args_parse(struct cli *cli, int argc, char **argv);

void cli_args_fini(struct cli *cli);

/* Whether --json is among the arguments, for errors that come before they are parsed. */
bool cli_args_want_json(int argc, char *const *argv);

#endif
