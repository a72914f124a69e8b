/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs.c - the rows of verbs.def as tables.
 */
#include "cli/cli.h"

#include "base/size.h"

#include <string.h>

#define OPTION(...)
#define NAMED_VERB(name, word, arguments, least, most, line, text)                             \
    {word, arguments, least, most, line, text, cli_##name##_run},
#define VERB(name, ...) NAMED_VERB(name, #name, __VA_ARGS__)
const struct cli_verb cli_verbs[] = {
#include "cli/verbs.def"
};
#undef VERB
#undef NAMED_VERB
#undef OPTION

#define VERB(...)
#define NAMED_VERB(...)
#define OPTION(verb, name, letter, kind, field, value, text)                                   \
    {#verb, name, letter, CLI_##kind, offsetof(struct cli_values, field), value, text},
const struct cli_option cli_options[] = {
#include "cli/verbs.def"
};
#undef OPTION
#undef NAMED_VERB
#undef VERB

const size_t cli_verb_count = ARRAY_LEN(cli_verbs);
const size_t cli_option_count = ARRAY_LEN(cli_options);

bool
cli_option_fits(const struct cli_option *option, const struct cli_verb *verb)
{
    return strcmp(option->verb, "all") == 0 ||
           (verb != NULL && strcmp(option->verb, verb->name) == 0);
}
