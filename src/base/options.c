/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options.c - reads and prints a table of options. A value is only stored after its row has
 * accepted it, so a struct of values is always within the declared ranges.
 */
#include "base/options.h"

#include "base/err.h"
#include "base/size.h"

#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <string.h>

enum { HELP_COLUMNS = 80, HELP_TEXT_COLUMN = 28, NAME_BYTES_MAX = 48 };

static_assert(sizeof(bool) == 1, "the field of a BOOL is one byte");

/* Digits only: strtoull would take signs and spaces too. Returns the byte after them, NULL when
 * there is none or the number exceeds 64 bits. */
static const char *
parse_digits(const char *text, uint64_t *ret)
{
    uint64_t n = 0;
    const char *p = text;
    for (; *p >= '0' && *p <= '9'; p++)
        if (!base_mul_u64(n, 10, &n) || !base_add_u64(n, (uint64_t)(*p - '0'), &n))
            return NULL;
    if (p == text)
        return NULL;
    *ret = n;
    return p;
}

int
base_bytes_parse(const char *text, uint64_t *ret)
{
    static const char units[] = "KMGT";
    uint64_t n = 0;
    const char *p = parse_digits(text, &n);
    if (p == NULL)
        return dor_fail(
            DOR_E_USAGE, "\"%s\" is not a size; write one such as 4096, 64M or 4KiB", text);
    const char *unit = *p == '\0' ? NULL : strchr(units, toupper((unsigned char)*p));
    if (unit != NULL) {
        p++;
        if (strcmp(p, "iB") == 0)
            p += 2;
        if (!base_mul_u64(n, (uint64_t)1 << (10 * (unit - units + 1)), &n))
            return dor_fail(DOR_E_USAGE, "the size %s exceeds 64 bits", text);
    }
    if (*p != '\0')
        return dor_fail(
            DOR_E_USAGE, "the size %s ends in an unknown unit; use K, M, G or T", text);
    *ret = n;
    return 0;
}

/* The place of TEXT in CHOICES, names joined by '|'. */
static int
parse_choice(const char *text, const char *choices, uint64_t *ret)
{
    size_t length = strlen(text);
    uint64_t index = 0;
    for (const char *name = choices; name != NULL; index++) {
        const char *bar = strchrnul(name, '|');
        if ((size_t)(bar - name) == length && memcmp(name, text, length) == 0) {
            *ret = index;
            return 0;
        }
        name = *bar == '\0' ? NULL : bar + 1;
    }
    return dor_fail(DOR_E_USAGE, "\"%s\" is none of %s", text, choices);
}

static int
parse_bool(const char *text, uint64_t *ret)
{
    if (text == NULL || strcmp(text, "yes") == 0)
        *ret = 1;
    else if (strcmp(text, "no") == 0)
        *ret = 0;
    else
        return dor_fail(DOR_E_USAGE, "\"%s\" is neither yes nor no", text);
    return 0;
}

/* The number that TEXT means for ROW; of a STRING, its length. */
static int
parse_number(const struct base_option *row, const char *text, uint64_t *ret)
{
    const char *end;
    if (row->type == BASE_OPTION_BOOL)
        return parse_bool(text, ret);
    if (text == NULL)
        return dor_fail(DOR_E_USAGE, "a value is missing");
    switch (row->type) {
    case BASE_OPTION_BYTES:
        return base_bytes_parse(text, ret);
    case BASE_OPTION_ENUM:
        return parse_choice(text, row->unit, ret);
    case BASE_OPTION_STRING:
        *ret = strlen(text);
        return 0;
    case BASE_OPTION_U64:
    case BASE_OPTION_BOOL:
        break;
    }
    end = parse_digits(text, ret);
    if (end == NULL || *end != '\0')
        return dor_fail(DOR_E_USAGE, "\"%s\" is not a whole number of %s", text, row->unit);
    return 0;
}

static void
store(const struct base_option *row, void *values, uint64_t number, const char *text)
{
    char *field = (char *)values + row->offset;
    bool flag = number != 0;
    switch (row->type) {
    case BASE_OPTION_U64:
    case BASE_OPTION_BYTES:
    case BASE_OPTION_ENUM:
        memcpy(field, &number, sizeof number);
        break;
    case BASE_OPTION_BOOL:
        memcpy(field, &flag, sizeof flag);
        break;
    case BASE_OPTION_STRING:
        memcpy(field, &text, sizeof text);
        break;
    }
}

void
base_options_default(const struct base_option *rows, size_t row_count, void *values)
{
    for (const struct base_option *row = rows; row < rows + row_count; row++)
        store(row, values, row->default_number, row->default_text);
}

/* The name as a person types it, with dashes. */
static const char *
spelled(const char *name, char buf[NAME_BYTES_MAX])
{
    size_t i = 0;
    for (; name[i] != '\0' && i < NAME_BYTES_MAX - 1; i++)
        buf[i] = name[i] == '_' ? '-' : name[i];
    buf[i] = '\0';
    return buf;
}

static bool
is_named(const struct base_option *row, const char *name)
{
    char ours[NAME_BYTES_MAX];
    char theirs[NAME_BYTES_MAX];
    return strlen(name) < NAME_BYTES_MAX &&
           strcmp(spelled(row->name, ours), spelled(name, theirs)) == 0;
}

static const struct base_option *
find_row(const struct base_option *rows, size_t row_count, const char *name)
{
    for (const struct base_option *row = rows; row < rows + row_count; row++)
        if (is_named(row, name))
            return row;
    return NULL;
}

static int
set_row(const struct base_option *row, void *values, const char *text)
{
    char name[NAME_BYTES_MAX];
    uint64_t number = 0;
    int rc = parse_number(row, text, &number);
    if (rc != 0)
        return dor_fail_wrap("--%s", spelled(row->name, name));
    if (number < row->min || number > row->max)
        return dor_fail(
            DOR_E_USAGE, "--%s: %s is out of range: %" PRIu64 " to %" PRIu64 " %s",
            spelled(row->name, name), text == NULL ? "yes" : text, row->min, row->max,
            row->type == BASE_OPTION_STRING ? "characters" : row->unit);
    store(row, values, number, text);
    return 0;
}

static int
fail_unknown(const char *name)
{
    return dor_fail(DOR_E_USAGE, "there is no option --%s; --help lists them", name);
}

int
base_options_set(
    const struct base_option *rows, size_t row_count, void *values, const char *name,
    const char *text)
{
    const struct base_option *row = find_row(rows, row_count, name);
    return row == NULL ? fail_unknown(name) : set_row(row, values, text);
}

/* Take one argument that begins with "--"; NEXT is the one after it or NULL. *RET_USED is 1
 * or 2. */
static int
take_option(
    const struct base_option *rows, size_t row_count, void *values, const char *arg,
    const char *next, int *ret_used)
{
    const char *equals = strchrnul(arg, '=');
    char name[NAME_BYTES_MAX];
    size_t length = (size_t)(equals - arg) - 2;
    if (length >= sizeof name)
        return fail_unknown(arg + 2);
    memcpy(name, arg + 2, length);
    name[length] = '\0';
    *ret_used = 1;
    const struct base_option *row = find_row(rows, row_count, name);
    if (row == NULL && strncmp(name, "no-", 3) == 0 && *equals == '\0') {
        row = find_row(rows, row_count, name + 3);
        if (row != NULL && row->type == BASE_OPTION_BOOL)
            return set_row(row, values, "no");
        row = NULL;
    }
    if (row == NULL)
        return fail_unknown(name);
    if (*equals == '=')
        return set_row(row, values, equals + 1);
    if (row->type == BASE_OPTION_BOOL)
        return set_row(row, values, NULL);
    *ret_used = 2;
    return set_row(row, values, next);
}

int
base_options_parse(
    const struct base_option *rows, size_t row_count, void *values, int argc, char **argv,
    int *ret_count)
{
    int kept = 0;
    bool ended = false;
    for (int i = 0; i < argc;) {
        if (ended || strncmp(argv[i], "--", 2) != 0) {
            argv[kept++] = argv[i++];
            continue;
        }
        if (argv[i][2] == '\0') {
            ended = true;
            i++;
            continue;
        }
        int used = 1;
        const char *next = i + 1 < argc ? argv[i + 1] : NULL;
        int rc = take_option(rows, row_count, values, argv[i], next, &used);
        if (rc != 0)
            return rc;
        i += used;
    }
    *ret_count = kept;
    return 0;
}

/* The largest unit that divides N, as base_bytes_parse() reads it. */
static void
print_bytes(uint64_t n, FILE *out)
{
    static const char units[] = " KMGT";
    size_t unit = 0;
    while (n != 0 && n % 1024 == 0 && unit < sizeof units - 2) {
        n /= 1024;
        unit++;
    }
    if (unit == 0)
        fprintf(out, "%" PRIu64, n);
    else
        fprintf(out, "%" PRIu64 "%c", n, units[unit]);
}

static void
print_choice(const char *choices, uint64_t index, FILE *out)
{
    const char *name = choices;
    for (; index > 0; index--)
        name = strchrnul(name, '|') + 1;
    fprintf(out, "%.*s", (int)(strchrnul(name, '|') - name), name);
}

static void
print_default(const struct base_option *row, FILE *out)
{
    switch (row->type) {
    case BASE_OPTION_U64:
        fprintf(out, "%" PRIu64, row->default_number);
        break;
    case BASE_OPTION_BYTES:
        print_bytes(row->default_number, out);
        break;
    case BASE_OPTION_ENUM:
        print_choice(row->unit, row->default_number, out);
        break;
    case BASE_OPTION_BOOL:
        fputs(row->default_number != 0 ? "yes" : "no", out);
        break;
    case BASE_OPTION_STRING:
        fprintf(out, "%s", row->default_text[0] == '\0' ? "none" : row->default_text);
        break;
    }
}

/* Print words from column COLUMN on, breaking lines before HELP_COLUMNS; returns the last
 * column. */
static int
print_wrapped(const char *text, int column, FILE *out)
{
    while (*text != '\0') {
        int length = (int)strcspn(text, " ");
        if (column + 1 + length > HELP_COLUMNS) {
            fprintf(out, "\n%*s", HELP_TEXT_COLUMN, "");
            column = HELP_TEXT_COLUMN;
        }
        column += fprintf(out, " %.*s", length, text);
        text += length;
        text += strspn(text, " ");
    }
    return column;
}

static void
print_help_row(const struct base_option *row, FILE *out)
{
    char name[NAME_BYTES_MAX];
    int column = fprintf(out, "  --%s", spelled(row->name, name));
    if (row->type != BASE_OPTION_BOOL)
        column += fprintf(out, " %s", row->unit);
    if (column >= HELP_TEXT_COLUMN) {
        fputc('\n', out);
        column = 0;
    }
    fprintf(out, "%*s", HELP_TEXT_COLUMN - column, "");
    char words[160];
    FILE *memory = fmemopen(words, sizeof words, "w");
    if (memory != NULL) {
        fputs("(default ", memory);
        print_default(row, memory);
        fputc(')', memory);
        fclose(memory);
    }
    column = print_wrapped(row->text, HELP_TEXT_COLUMN, out);
    print_wrapped(memory == NULL ? "" : words, column, out);
    fputc('\n', out);
}

void
base_options_print_help(const struct base_option *rows, size_t row_count, FILE *out)
{
    for (const struct base_option *row = rows; row < rows + row_count; row++)
        print_help_row(row, out);
}

void
base_options_print_man(const struct base_option *rows, size_t row_count, FILE *out)
{
    char name[NAME_BYTES_MAX];
    fprintf(out, ".Bl -tag -width Ds\n");
    for (const struct base_option *row = rows; row < rows + row_count; row++) {
        fprintf(out, ".It Fl Fl %s", spelled(row->name, name));
        if (row->type != BASE_OPTION_BOOL)
            fprintf(out, " Ar %s", row->unit);
        fprintf(out, "\n%s\nThe default is ", row->text);
        print_default(row, out);
        fprintf(out, ".\n");
    }
    fprintf(out, ".El\n");
}
