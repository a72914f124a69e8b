/* SPDX-License-Identifier: Apache-2.0 */
/*
 * help.c - prints the tables of verbs.def.
 */
#include "cli/help.h"

#include "cli/text.h"

#include <string.h>

enum { TEXT_COLUMN = 26, CODES_A_LINE = 3, CODE_COLUMNS = 20 };

/* A row of two columns; a left side that is too long gets a line of its own. */
static void
print_row(FILE *out, const char *left, const char *right)
{
    int columns = fprintf(out, "  %s", left);
    if (columns >= TEXT_COLUMN) {
        fputc('\n', out);
        columns = 0;
    }
    fprintf(out, "%*s", TEXT_COLUMN - columns, "");
    cli_text_wrap(out, TEXT_COLUMN, TEXT_COLUMN, right);
}

static void
print_options(FILE *out, const char *verb_name)
{
    for (size_t i = 0; i < cli_option_count; i++) {
        const struct cli_option *option = &cli_options[i];
        char left[64];
        char letter[8] = "";
        if (strcmp(option->verb, verb_name) != 0)
            continue;
        if (option->letter != 0)
            snprintf(letter, sizeof letter, "-%c, ", option->letter);
        snprintf(
            left, sizeof left, "%s--%s%s%s", letter, option->name,
            option->value[0] == '\0' ? "" : " ", option->value);
        print_row(out, left, option->text);
    }
}

static bool
has_options(const struct cli_verb *verb)
{
    for (size_t i = 0; i < cli_option_count; i++)
        if (strcmp(cli_options[i].verb, verb->name) == 0)
            return true;
    return false;
}

static void
print_verb(const struct cli_verb *verb, FILE *out)
{
    bool options = has_options(verb);
    fprintf(
        out, "Usage: dormouse %s%s%s%s\n", verb->name, verb->arguments[0] == '\0' ? "" : " ",
        verb->arguments, options ? " [OPTION]..." : "");
    fprintf(out, "%s: ", verb->name);
    cli_text_wrap(out, (int)strlen(verb->name) + 2, 0, verb->line);
    fputc('\n', out);
    cli_text_wrap(out, 0, 0, verb->text);
    if (options) {
        fputs("\nOptions:\n", out);
        print_options(out, verb->name);
    }
    fputs("\nOptions of all verbs:\n", out);
    print_options(out, "all");
}

static void
print_exit_codes(FILE *out)
{
    fputs("Exit codes:\n", out);
    for (int code = DOR_OK; code >= DOR_E_UNSUPPORTED; code--) {
        bool last = code % CODES_A_LINE == 1 - CODES_A_LINE || code == DOR_E_UNSUPPORTED;
        fprintf(out, "  %2d %s", -code, dor_err_name(code));
        if (last)
            fputc('\n', out);
        else
            fprintf(out, "%*s", CODE_COLUMNS - (int)strlen(dor_err_name(code)), "");
    }
}

static void
print_all(FILE *out)
{
    fputs("Usage: dormouse [--store DIR] VERB [ARGUMENT]... [OPTION]...\n", out);
    fputs("Keeps snapshots of microVM memory in a few per cent of their size.\n\n", out);
    fputs("Verbs:\n", out);
    for (size_t i = 0; i < cli_verb_count; i++) {
        char left[64];
        snprintf(left, sizeof left, "%s %s", cli_verbs[i].name, cli_verbs[i].arguments);
        print_row(out, left, cli_verbs[i].line);
    }
    fputs("\nOptions of all verbs:\n", out);
    print_options(out, "all");
    fputc('\n', out);
    print_exit_codes(out);
    fputs("\n\"dormouse VERB --help\" tells more about one.\n", out);
}

void
cli_help_print(const struct cli_verb *verb, FILE *out)
{
    if (verb == NULL)
        print_all(out);
    else
        print_verb(verb, out);
}
