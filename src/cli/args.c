/* SPDX-License-Identifier: Apache-2.0 */
/*
 * args.c - one pass over the arguments. The first word without dashes is the verb; before it only
 * the options of all verbs are known, after it also those of the verb. An option's row says where
 * its value goes, so a new option needs no code here.
 */
#include "cli/args.h"

#include "base/err.h"
#include "base/mem.h"
#include "base/options.h"
#include "base/size.h"

#include <ctype.h>
#include <string.h>

#define NS_PER_S UINT64_C(1000000000)

enum { STORE_OPTION_NAME_BYTES = 64 };

/* What one word "--name=value", "--name", "-xvalue" or "-x" asks for. */
struct word {
    const char *shown;       /* as it was typed */
    const char *name;        /* NULL for a letter */
    size_t name_bytes;       /* without "=value" */
    char letter;             /* 0 for a name */
    const char *value_there; /* the value in the same word, or NULL */
};

static struct word
split_word(const char *arg)
{
    struct word word = {.shown = arg};
    if (arg[1] == '-') {
        const char *equals = strchr(arg, '=');
        word.name = arg + 2;
        word.name_bytes = equals == NULL ? strlen(arg + 2) : (size_t)(equals - arg - 2);
        word.value_there = equals == NULL ? NULL : equals + 1;
    } else {
        word.letter = arg[1];
        word.value_there = arg[2] == '\0' ? NULL : arg + 2;
    }
    return word;
}

static bool
is_meant(const struct cli_option *option, const struct word *word)
{
    if (word->name == NULL)
        return option->letter != 0 && option->letter == word->letter;
    return strlen(option->name) == word->name_bytes &&
           memcmp(option->name, word->name, word->name_bytes) == 0;
}

/* NULL with words when VERB has no such option. */
static const struct cli_option *
find_option(const struct cli_verb *verb, const struct word *word)
{
    for (size_t i = 0; i < cli_option_count; i++)
        if (cli_option_fits(&cli_options[i], verb) && is_meant(&cli_options[i], word))
            return &cli_options[i];
    if (verb == NULL)
        dor_fail(
            DOR_E_USAGE,
            "there is no option %s before the verb; \"dormouse --help\" lists what there is",
            word->shown);
    else
        dor_fail(
            DOR_E_USAGE, "%s has no option %s; \"dormouse %s --help\" lists what it has",
            verb->name, word->shown, verb->name);
    return NULL;
}

static int
find_verb(const char *name, const struct cli_verb **ret)
{
    for (size_t i = 0; i < cli_verb_count; i++) {
        if (strcmp(cli_verbs[i].name, name) == 0) {
            *ret = &cli_verbs[i];
            return 0;
        }
    }
    return dor_fail(
        DOR_E_USAGE, "there is no verb \"%s\"; \"dormouse --help\" lists them", name);
}

/* Digits and a unit; a bare 0 needs none. */
static int
parse_duration(const char *text, uint64_t *ret)
{
    static const struct {
        char letter;
        uint64_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}};
    uint64_t number = 0;
    const char *p = text;
    bool fits = isdigit((unsigned char)*p);
    for (; fits && isdigit((unsigned char)*p); p++)
        fits = base_mul_u64(number, 10, &number) &&
               base_add_u64(number, (uint64_t)(*p - '0'), &number);
    if (fits && number == 0 && *p == '\0') {
        *ret = 0;
        return 0;
    }
    for (size_t i = 0; fits && i < ARRAY_LEN(units); i++) {
        if (p[0] == units[i].letter && p[1] == '\0' &&
            base_mul_u64(number, units[i].seconds, &number) &&
            base_mul_u64(number, NS_PER_S, &number) && number != CLI_NOT_GIVEN) {
            *ret = number;
            return 0;
        }
    }
    return dor_fail(
        DOR_E_USAGE, "\"%s\" is not a duration; write one such as 90s, 30m, 12h or 7d", text);
}

static int
add_to_list(struct cli_list *list, const char *text)
{
    if (list->count == CLI_LIST_MAX)
        return dor_fail(DOR_E_USAGE, "may be given at most %d times", CLI_LIST_MAX);
    list->items[list->count++] = text;
    return 0;
}

/* TEXT is NULL for a flag and for nothing else. */
static int
set_value(struct cli_values *values, const struct cli_option *option, const char *text)
{
    void *field = (char *)values + option->offset;
    switch (option->kind) {
    case CLI_FLAG:
        *(bool *)field = true;
        return 0;
    case CLI_TEXT:
        *(const char **)field = text;
        return 0;
    case CLI_LIST:
        return add_to_list(field, text);
    case CLI_BYTES:
        return base_bytes_parse(text, field);
    case CLI_DURATION:
        return parse_duration(text, field);
    }
    dor_assert(false);
}

/* Take the option ARG; NEXT is the word after it or NULL. *RET_USED is 1 or 2 words. */
static int
take_option(struct cli *cli, const char *arg, const char *next, int *ret_used)
{
    struct word word = split_word(arg);
    const struct cli_option *option = find_option(cli->verb, &word);
    if (option == NULL)
        return DOR_E_USAGE;
    const char *value = word.value_there;
    if (option->kind == CLI_FLAG && value != NULL)
        return dor_fail(DOR_E_USAGE, "%s: --%s takes no value", arg, option->name);
    *ret_used = 1;
    if (option->kind != CLI_FLAG && value == NULL) {
        if (next == NULL)
            return dor_fail(DOR_E_USAGE, "%s needs a value: %s %s", arg, arg, option->value);
        value = next;
        *ret_used = 2;
    }
    int rc = set_value(&cli->values, option, value);
    return rc == 0 ? 0 : dor_fail_wrap("--%s", option->name);
}

/* The verb comes first of the words without dashes, the others are its arguments. */
static int
take_word(struct cli *cli, char *word)
{
    if (cli->verb == NULL)
        return find_verb(word, &cli->verb);
    cli->args[cli->arg_count++] = word;
    return 0;
}

static int
check_count(const struct cli *cli)
{
    const struct cli_verb *verb = cli->verb;
    if (verb == NULL)
        return dor_fail(DOR_E_USAGE, "no verb is given; \"dormouse --help\" lists them");
    if (cli->arg_count > verb->most)
        return dor_fail(
            DOR_E_USAGE, "%s takes %s%s, so \"%s\" is too much", verb->name,
            verb->most == 0 ? "no arguments" : "only ", verb->arguments, cli->args[verb->most]);
    if (cli->arg_count < verb->least)
        return dor_fail(
            DOR_E_USAGE, "%s needs %s; see \"dormouse %s --help\"", verb->name, verb->arguments,
            verb->name);
    return 0;
}

/* TEXT is NAME=VALUE. */
static int
set_store_option(struct dor_options *options, const char *text)
{
    const char *equals = strchr(text, '=');
    char name[STORE_OPTION_NAME_BYTES];
    if (equals == NULL || (size_t)(equals - text) >= sizeof name)
        return dor_fail(DOR_E_USAGE, "is not NAME=VALUE; \"dormouse options\" lists the names");
    memcpy(name, text, (size_t)(equals - text));
    name[equals - text] = '\0';
    return dor_options_set(options, name, equals + 1);
}

static int
set_store_options(struct cli *cli)
{
    int rc = dor_options_new(&cli->store_options);
    for (size_t i = 0; rc == 0 && i < cli->values.options.count; i++) {
        const char *text = cli->values.options.items[i];
        rc = set_store_option(cli->store_options, text);
        if (rc != 0)
            dor_fail_wrap("--option %s", text);
    }
    return rc;
}

int
cli_args_parse(struct cli *cli, int argc, char **argv)
{
    *cli = (struct cli){
        .values.older_than_ns = CLI_NOT_GIVEN,
        .values.timeout_ns = CLI_NOT_GIVEN,
        .args = argv,
    };
    bool ended = false;
    for (int i = 1; i < argc;) {
        const char *arg = argv[i];
        int used = 1;
        int rc = 0;
        /* A lone dash is a word, for people mean standard input or output by it. */
        if (ended || arg[0] != '-' || arg[1] == '\0')
            rc = take_word(cli, argv[i]);
        else if (strcmp(arg, "--") == 0)
            ended = true;
        else
            rc = take_option(cli, arg, i + 1 < argc ? argv[i + 1] : NULL, &used);
        if (rc != 0)
            return rc;
        i += used;
    }
    if (cli->values.help || cli->values.version)
        return 0;
    int rc = check_count(cli);
    return rc == 0 ? set_store_options(cli) : rc;
}

void
cli_args_fini(struct cli *cli)
{
    dor_options_free(cli->store_options);
    cli->store_options = NULL;
}

bool
cli_args_want_json(int argc, char *const *argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--json") == 0)
            return true;
    return false;
}
