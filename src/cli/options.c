/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options.c - `dormouse options`: the library's table of options.
 */
#include "base/err.h"
#include "cli/cli.h"
#include "cli/json.h"
#include "cli/text.h"

#include <dormouse/node.h>
#include <stdio.h>

enum { INDENT = 6 };

static void
print_option(
    void *context, const char *name, const char *preset, const char *unit, const char *text)
{
    (void)context;
    printf("  %s=%s%s%s\n%*s", name, preset, unit[0] == '\0' ? "" : "  ", unit, INDENT, "");
    cli_text_wrap(stdout, INDENT, INDENT, text);
}

struct collected {
    json_t *rows;
    bool lost;
};

static void
add_option(
    void *context, const char *name, const char *preset, const char *unit, const char *text)
{
    struct collected *collected = context;
    json_t *row = json_pack(
        "{s:o, s:o, s:o, s:o}", "name", cli_json_text(name), "default", cli_json_text(preset),
        "unit", cli_json_text(unit), "text", cli_json_text(text));
    if (json_array_append_new(collected->rows, row) != 0)
        collected->lost = true;
}

int
cli_options_run(const struct cli *cli)
{
    bool daemon = cli->values.daemon;
    void (*each)(
        void (*visit)(
            void *context, const char *name, const char *preset, const char *unit,
            const char *text),
        void *context) = daemon ? dor_daemon_options_each : dor_options_each;
    if (cli->values.json) {
        AUTO_JSON json_t *rows = json_array();
        struct collected collected = {.rows = rows};
        each(add_option, &collected);
        return cli_json_print(collected.lost ? NULL : json_pack("{s:O}", "options", rows));
    }
    puts(
        daemon ? "Lines of the daemon's configuration, with their defaults:"
               : "Options for --option NAME=VALUE, with their defaults:");
    each(print_option, NULL);
    return 0;
}
