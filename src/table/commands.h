/* SPDX-License-Identifier: Apache-2.0 */
/*
 * commands.h - the rows of commands.def and their handlers; what handlers of different files share.
 *
 * Ownership:  rows are constant.
 * Threads:    those of the worker; table_command_init() from any.
 * Errors:     as handlers return them, see command.h.
 */
#ifndef DOR_TABLE_COMMANDS_H
#define DOR_TABLE_COMMANDS_H

#include "table/command.h"

/* What clients hold this for: the version whose answers are given. */
#define TABLE_REDIS_VERSION "7.0.15"

enum {
    TABLE_GROUP_STRING,
    TABLE_GROUP_GENERIC,
    TABLE_GROUP_CONNECTION,
    TABLE_GROUP_TRANSACTIONS,
    TABLE_GROUP_SERVER,
    TABLE_GROUP_SCRIPTING,
};

extern const struct table_command table_commands[];
extern const uint32_t table_command_count;

#define COMMAND(handler, name, arity, flags, keys, group, since, summary)                      \
    int table_cmd_##handler(struct table_call *call);
#include "table/commands.def"

/* Make the dispatch table, once. */
void table_command_init(void);

/* Run the handler of CALL, whose command is checked. */
void table_command_invoke(struct table_call *call);

/* Keep CALL for EXEC and reply QUEUED. */
void table_multi_queue(struct table_call *call);

/*
 * Glob as in Redis: * ? [a-z] [^a] and backslashes. In time of PATTERN by TEXT, whatever they are.
 */
bool table_glob_match(
    const uint8_t *pattern, size_t pattern_bytes, const uint8_t *text, size_t text_bytes,
    bool ignore_case);

/* How it stands with the snapshots of CALL's tenant. */
void table_cmd_saving(const struct table_call *call, struct table_saving *ret);

/* Reply +OK and be done. */
int table_call_ok(struct table_call *call);

/* Reply what HELP of the container in args[0] tells. */
int table_call_help(struct table_call *call);

/*
 * The time that args[INDEX] gives after UNIT_MS and BASE_MS (0: it is a date), in ms since 1970.
 * False, and an error is replied, for what is no time in the future or in range.
 */
bool table_call_expiry(
    struct table_call *call, uint32_t index, int64_t unit_ms, int64_t base_ms, int64_t *ret);

/*
 * table_expire() for KEY, which has VALUE: who watches the key learns of it also when nothing
 * changes.
 */
DOR_MUST_CHECK int table_call_expire(
    struct table_call *call, const struct table_key *key, const struct table_value *value,
    int64_t expiry_ms, bool *ret_found);

#endif
