/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli.h - what the verbs of the command line share: the parsed command and a few steps that
 * most of them take. Each verb is one function in its own file, named in verbs.def.
 *
 * Ownership:  struct cli borrows the strings of main()'s arguments.
 * Threads:    the program has one.
 * Errors:     0 or a negative enum dor_errno with its words recorded; main() prints them and
 *             exits with the positive number.
 */
#ifndef DOR_CLI_CLI_H
#define DOR_CLI_CLI_H

#include <dormouse/err.h>
#include <dormouse/store.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CLI_LIST_MAX = DOR_SIDECARS_MAX };

/* The values of an option that may be repeated, in their order. */
struct cli_list {
    const char *items[CLI_LIST_MAX];
    size_t count;
};

/* One field per option of verbs.def; NULL, 0 and false where an option was not given. */
struct cli_values {
    const char *store, *socket;
    bool no_daemon;
    struct cli_list options;
    bool json, quiet, help, version, no_password;

    struct cli_list sidecars;
    const char *parent, *domain;
    bool replace, diff, no_inspect, drop_free;

    const char *output, *sidecars_directory, *diff_from;
    const char *by;

    bool map, squeeze, cluster, repair;
    uint64_t older_than_ns; /* CLI_NOT_GIVEN when it was not given, for 0 means something */
    uint64_t max_work_bytes;

    const char *to, *as;

    const char *name;
    bool absorb, daemon;
    const char *config, *socket_mode;

    struct cli_list resp;
    const char *tenants, *directory;

    const char *uffd_socket, *core;
    uint64_t window_bytes, cache_bytes;
    bool no_working_set, fill, hold, once;

    const char *offload, *pid, *memfd;
    struct cli_list ranges;
    uint64_t timeout_ns; /* CLI_NOT_GIVEN when it was not given */
    bool copy, postcopy, resume, no_fill;

    bool background, allow_other, trust_writers, huge_pages;

    const char *process, *format, *pages_file, *map_file, *profiles, *vmlinux;

    const char *mount, *qemu;
    struct cli_list settings;
};

#define CLI_NOT_GIVEN UINT64_MAX

struct cli;

struct cli_verb {
    const char *name;
    const char *arguments; /* as help shows them */
    size_t least, most;    /* how many */
    const char *line;
    const char *text;
    int (*run)(const struct cli *cli);
};

enum cli_kind { CLI_FLAG, CLI_TEXT, CLI_LIST, CLI_BYTES, CLI_DURATION };

struct cli_option {
    const char *verb; /* "all" or the name of one */
    const char *name; /* without dashes */
    char letter;      /* 0 when it has none */
    enum cli_kind kind;
    size_t offset; /* of its field in struct cli_values */
    const char *value;
    const char *text;
};

/* The rows of verbs.def, in its order. */
extern const struct cli_verb cli_verbs[];
extern const size_t cli_verb_count;
extern const struct cli_option cli_options[];
extern const size_t cli_option_count;

/* Whether OPTION may be given to VERB, which is NULL before the verb is known. */
bool cli_option_fits(const struct cli_option *option, const struct cli_verb *verb);

struct cli {
    const struct cli_verb *verb; /* NULL when none was given */
    struct cli_values values;
    char **args; /* what stands without dashes, after the verb */
    size_t arg_count;
    struct dor_options *store_options;
};

/* The directory of --store or of $DORMOUSE_STORE; DOR_E_USAGE when there is neither. */
DOR_MUST_CHECK int cli_store_directory(const struct cli *cli, const char **ret);

/* Open that store. Close it with dor_store_close(). */
DOR_MUST_CHECK int
cli_store_open(const struct cli *cli, enum dor_open_mode mode, struct dor_store **ret);

#define AUTO_STORE    __attribute__((cleanup(cli_auto_store)))
#define AUTO_SNAPSHOT __attribute__((cleanup(cli_auto_snapshot)))

void cli_auto_store(struct dor_store **store);
void cli_auto_snapshot(struct dor_snapshot **snapshot);

#define OPTION(...)
#define VERB(name, ...)       DOR_MUST_CHECK int cli_##name##_run(const struct cli *cli);
#define NAMED_VERB(name, ...) VERB(name, __VA_ARGS__)
#include "cli/verbs.def"
#undef NAMED_VERB
#undef VERB
#undef OPTION

#endif
