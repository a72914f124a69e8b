/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_base_options.c - one table makes the struct, the parser, the help and the man page.
 */
#include "base/mem.h"
#include "base/options.h"
#include "base/size.h"
#include "tap.h"

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

static struct example
defaults(void)
{
    struct example e;
    memset(&e, 0xff, sizeof e);
    base_options_default(rows, ARRAY_LEN(rows), &e);
    return e;
}

static void
test_defaults(void)
{
    struct example e = defaults();
    is_int(e.level, 3, "default of a number");
    is_int(e.cache_bytes, 64 << 20, "default of a size");
    is_int(e.codec, 2, "default of a choice");
    ok(e.sync_each, "default of a switch");
    is_str(e.label, "", "default of a string");
}

static void
test_bytes(void)
{
    static const struct {
        const char *text;
        uint64_t want;
    } good[] = {
        {"0", 0},
        {"4096", 4096},
        {"64M", 64 << 20},
        {"4KiB", 4096},
        {"4k", 4096},
        {"1GiB", 1 << 30},
        {"2T", (uint64_t)2 << 40},
        {"18446744073709551615", UINT64_MAX},
    };
    static const char *const bad[] = {
        "",          "M",   "-1", " 1",    "1 ",   "1.5G",
        "1MB",       "1Mi", "1X", "1KiBx", "0x10", "18446744073709551616",
        "16777216T",
    };
    uint64_t v;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        v = 42;
        ok(base_bytes_parse(good[i].text, &v) == 0 && v == good[i].want, "size %s",
           good[i].text);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        v = 42;
        ok(base_bytes_parse(bad[i], &v) == DOR_E_USAGE && v == 42, "bad size \"%s\"", bad[i]);
    }
}

static int
set(struct example *e, const char *name, const char *text)
{
    return base_options_set(rows, ARRAY_LEN(rows), e, name, text);
}

static void
test_set(void)
{
    struct example e = defaults();
    is_ok(set(&e, "level", "19"), "the largest number");
    is_int(e.level, 19, "is set");
    is_int(set(&e, "level", "20"), DOR_E_USAGE, "one more is refused");
    is_str(dor_err_message(), "--level: 20 is out of range: 1 to 19 level", "with the range");
    is_int(set(&e, "level", "0"), DOR_E_USAGE, "too small a number is refused");
    is_int(set(&e, "level", "3x"), DOR_E_USAGE, "so is half a number");
    is_int(set(&e, "level", NULL), DOR_E_USAGE, "and none");
    is_int(e.level, 19, "refused values change nothing");
    is_ok(set(&e, "cache-bytes", "4K"), "names may be written with dashes");
    is_int(e.cache_bytes, 4096, "a size is set");
    is_int(set(&e, "cache_bytes", "4G"), DOR_E_USAGE, "too large a size");
    is_ok(set(&e, "codec", "none"), "the first choice");
    is_int(e.codec, 0, "is number 0");
    is_ok(set(&e, "codec", "lz4"), "the second choice");
    is_int(e.codec, 1, "is number 1");
    is_int(set(&e, "codec", "lz"), DOR_E_USAGE, "the beginning of a choice");
    is_int(set(&e, "codec", ""), DOR_E_USAGE, "an empty choice");
    is_str(dor_err_message(), "--codec: \"\" is none of none|lz4|zstd", "lists the choices");
    is_ok(set(&e, "sync_each", "no"), "a switch off");
    ok(!e.sync_each, "is off");
    is_ok(set(&e, "sync_each", NULL), "a switch without value");
    ok(e.sync_each, "is on");
    is_int(set(&e, "sync_each", "maybe"), DOR_E_USAGE, "neither on nor off");
    is_ok(set(&e, "label", "12345678"), "a string of the largest length");
    is_str(e.label, "12345678", "is set");
    is_int(set(&e, "label", "123456789"), DOR_E_USAGE, "a longer one is refused");
    is_int(set(&e, "labels", "x"), DOR_E_USAGE, "an unknown name");
    is_str(dor_err_message(), "there is no option --labels; --help lists them", "is told");
}

enum { WORDS_MAX = 16, WORD_BYTES = 80 };

/* The words as a program gets them, for the parser moves them; their bytes outlive the values. */
static char *argv[WORDS_MAX];

static int
parse(struct example *e, const char *const *words, int *ret_count)
{
    static char copies[WORDS_MAX][WORD_BYTES];
    int argc = 0;
    for (; words[argc] != NULL; argc++) {
        snprintf(copies[argc], WORD_BYTES, "%s", words[argc]);
        argv[argc] = copies[argc];
    }
    return base_options_parse(rows, ARRAY_LEN(rows), e, argc, argv, ret_count);
}

static void
test_parse(void)
{
    struct example e = defaults();
    int count = -1;
    static const char *const words[] = {
        "image",   "--level=5", "--codec", "lz4", "--no-sync-each", "name",
        "--label", "--",        "-",       "--",  "--level",        NULL};
    is_ok(parse(&e, words, &count), "options between other words");
    is_int(count, 4, "leave the other words");
    ok(strcmp(argv[0], "image") == 0 && strcmp(argv[1], "name") == 0 &&
           strcmp(argv[2], "-") == 0 && strcmp(argv[3], "--level") == 0,
       "in order, and what follows -- is no option");
    ok(e.level == 5 && e.codec == 1 && !e.sync_each, "and set their fields");
    is_str(e.label, "--", "a value may look like an option");

    static const char *const bad[][3] = {
        {"--level", NULL},
        {"--levl=3", NULL},
        {"--no-level", NULL},
        {"--no-nothing", NULL},
        {"--no-sync-each=yes", NULL},
        {"--=3", NULL},
        {"--sync-each=perhaps", NULL},
        {"--an-option-whose-name-is-longer-than-any-that-could-be-declared=1", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        int rc = parse(&e, bad[i], &count);
        is_int(rc, DOR_E_USAGE, "%s: %s", bad[i][0], dor_err_message());
    }
}

static char *
printed(void (*print)(const struct base_option *, size_t, FILE *))
{
    char *text = NULL;
    size_t size_bytes = 0;
    FILE *out = open_memstream(&text, &size_bytes);
    if (out == NULL)
        bail("no memory stream");
    print(rows, ARRAY_LEN(rows), out);
    fclose(out);
    return text;
}

static void
test_help(void)
{
    AUTO_FREE char *text = printed(base_options_print_help);
    size_t widest = 0;
    for (const char *line = text; *line != '\0'; line += strcspn(line, "\n") + 1)
        widest = base_max_size(widest, strcspn(line, "\n"));
    ok(widest <= 80 && widest > 60, "the help is %zu columns wide", widest);
    ok(strstr(
           text, "  --cache-bytes bytes        Memory for decoded groups. (default 64M)\n") !=
           NULL,
       "a size in the help");
    ok(strstr(text, "--codec none|lz4|zstd") != NULL, "a choice in the help");
    ok(strstr(text, "(default zstd)") != NULL, "its default");
    ok(strstr(text, "--sync-each  ") != NULL, "a switch has no value in the help");
    ok(strstr(text, "--a-rather-long-option-name things\n     ") != NULL,
       "a long name has its line");
}

static void
test_man(void)
{
    AUTO_FREE char *text = printed(base_options_print_man);
    ok(strstr(
           text, ".It Fl Fl cache-bytes Ar bytes\nMemory for decoded groups.\n"
                 "The default is 64M.\n") != NULL,
       "an item of the man page");
    ok(strncmp(text, ".Bl -tag", 8) == 0, "the list begins");
    is_str(text + strlen(text) - 4, ".El\n", "and ends");
}

int
main(void)
{
    test_defaults();
    test_bytes();
    test_set();
    test_parse();
    test_help();
    test_man();
    return done_testing();
}
