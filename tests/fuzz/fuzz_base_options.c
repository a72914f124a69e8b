/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_base_options.c - the input is a command line, a word a line; whatever it says, the
 * values stay within the ranges of their table.
 */
#include "base/err.h"
#include "base/mem.h"
#include "base/options.h"
#include "base/size.h"

#include <string.h>

enum { WORDS_MAX = 64 };

struct example {
#define OPTION BASE_OPTION_FIELD
#include "base/example_options.def"
#undef OPTION
};

#define BASE_OPTION_STRUCT struct example
static const struct base_option rows[] = {
#define OPTION BASE_OPTION_ROW
#include "base/example_options.def"
#undef OPTION
};
#undef BASE_OPTION_STRUCT

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    AUTO_FREE char *text = base_zalloc(size_bytes + 1);
    char *words[WORDS_MAX];
    int count = 0;
    if (text == NULL)
        return 0;
    if (size_bytes > 0)
        memcpy(text, data, size_bytes);
    char *rest = text;
    for (char *word; count < WORDS_MAX && (word = strsep(&rest, "\n")) != NULL;)
        words[count++] = word;
    struct example values;
    int left = -1;
    base_options_default(rows, ARRAY_LEN(rows), &values);
    int rc = base_options_parse(rows, ARRAY_LEN(rows), &values, count, words, &left);
    dor_assert(rc == 0 || rc == DOR_E_USAGE);
    dor_assert(rc != 0 || (left >= 0 && left <= count));
    dor_assert(values.level >= 1 && values.level <= 19 && values.codec <= 2);
    dor_assert(values.cache_bytes >= 4096 && values.cache_bytes <= (uint64_t)1 << 30);
    dor_assert(strlen(values.label) <= 8);
    return 0;
}
