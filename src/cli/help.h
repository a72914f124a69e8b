/* SPDX-License-Identifier: Apache-2.0 */
/*
 * help.h - --help of the program and of each verb, made from verbs.def.
 *
 * Ownership:  nothing is allocated.
 * Threads:    any.
 * Errors:     none; what cannot be printed shows in ferror() of the stream.
 */
#ifndef DOR_CLI_HELP_H
#define DOR_CLI_HELP_H

#include "cli/cli.h"

#include <stdio.h>

/* Lines of at most 80 columns about VERB, or about all of them when it is NULL. */
void cli_help_print(const struct cli_verb *verb, FILE *out);

#endif
