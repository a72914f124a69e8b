/* SPDX-License-Identifier: Apache-2.0 */
/*
 * text.c - how numbers and words look.
 */
#include "cli/text.h"

#include "base/err.h"
#include "base/size.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#define NS_PER_S UINT64_C(1000000000)

const char *
cli_text_size(uint64_t bytes, char buf[CLI_NUMBER_BYTES])
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes < 1024) {
        snprintf(buf, CLI_NUMBER_BYTES, "%" PRIu64 " B", bytes);
        return buf;
    }
    double value = (double)bytes / 1024;
    size_t unit = 0;
    /* 1023.96 would print as 1024.0, so the next unit begins a little earlier. */
    for (; value >= 1023.95 && unit + 1 < ARRAY_LEN(units); unit++)
        value /= 1024;
    snprintf(buf, CLI_NUMBER_BYTES, "%.1f %s", value, units[unit]);
    return buf;
}

const char *
cli_text_percent(uint64_t part, uint64_t whole, char buf[CLI_NUMBER_BYTES])
{
    if (whole == 0)
        return "-";
    double percent = 100.0 * (double)part / (double)whole;
    snprintf(buf, CLI_NUMBER_BYTES, percent < 10 ? "%.2f %%" : "%.1f %%", percent);
    return buf;
}

const char *
cli_text_duration(uint64_t duration_ns, char buf[CLI_NUMBER_BYTES])
{
    uint64_t seconds = duration_ns / NS_PER_S;
    if (seconds < 60)
        snprintf(buf, CLI_NUMBER_BYTES, "%.2f s", (double)duration_ns / (double)NS_PER_S);
    else
        snprintf(
            buf, CLI_NUMBER_BYTES, "%" PRIu64 " min %" PRIu64 " s", seconds / 60, seconds % 60);
    return buf;
}

const char *
cli_text_time(uint64_t realtime_ns, char buf[CLI_TIME_BYTES])
{
    time_t seconds = (time_t)(realtime_ns / NS_PER_S);
    struct tm parts;
    if (realtime_ns == 0)
        return "never";
    if (localtime_r(&seconds, &parts) == NULL)
        return "?";
    strftime(buf, CLI_TIME_BYTES, "%Y-%m-%d %H:%M:%S", &parts);
    return buf;
}

const char *
cli_text_time_utc(uint64_t realtime_ns, char buf[CLI_TIME_BYTES])
{
    time_t seconds = (time_t)(realtime_ns / NS_PER_S);
    struct tm parts;
    if (realtime_ns == 0 || gmtime_r(&seconds, &parts) == NULL)
        return "";
    strftime(buf, CLI_TIME_BYTES, "%Y-%m-%dT%H:%M:%SZ", &parts);
    return buf;
}

const char *
cli_text_region_type(enum dor_region_type type)
{
    static const char *const names[] = {"nrt", "rx_map", "w_map"};
    dor_assert(type < DOR_REGION_TYPES);
    return names[type];
}

/*
 * Bytes of the UTF-8 character at P, 0 when there is no valid one or it is a control character:
 * those of ASCII and, in two bytes, those from U+0080 to U+009F.
 */
static size_t
printable_bytes(const unsigned char *p)
{
    static const struct {
        unsigned char first_low, first_high, second_low, second_high;
        size_t bytes;
    } forms[] = {
        {0xc2, 0xc2, 0xa0, 0xbf, 2}, {0xc3, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    if (p[0] < 0x80)
        return p[0] >= 0x20 && p[0] != 0x7f;
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        if (p[0] < forms[i].first_low || p[0] > forms[i].first_high)
            continue;
        if (p[1] < forms[i].second_low || p[1] > forms[i].second_high)
            return 0;
        for (size_t k = 2; k < forms[i].bytes; k++)
            if (p[k] < 0x80 || p[k] > 0xbf)
                return 0;
        return forms[i].bytes;
    }
    return 0;
}

const char *
cli_text_clean(const char *text, char *buf, size_t buf_bytes)
{
    size_t used = 0;
    const unsigned char *p = (const unsigned char *)text;
    while (*p != '\0') {
        char piece[8];
        size_t bytes = printable_bytes(p);
        if (bytes > 0)
            memcpy(piece, p, bytes);
        else
            snprintf(piece, sizeof piece, "\\x%02x", *p);
        size_t piece_bytes = bytes > 0 ? bytes : 4;
        if (used + piece_bytes >= buf_bytes)
            break;
        memcpy(buf + used, piece, piece_bytes);
        used += piece_bytes;
        p += bytes > 0 ? bytes : 1;
    }
    buf[used] = '\0';
    return buf;
}

/* Bytes that continue a character take no column of their own. */
static int
columns_of(const char *text, size_t bytes)
{
    int columns = 0;
    for (size_t i = 0; i < bytes; i++)
        columns += ((unsigned char)text[i] & 0xc0) != 0x80;
    return columns;
}

int
cli_text_columns(const char *text)
{
    return columns_of(text, strlen(text));
}

void
cli_text_wrap(FILE *out, int column, int indent, const char *text)
{
    bool fresh = true;
    while (*text != '\0') {
        size_t bytes = strcspn(text, " ");
        int columns = columns_of(text, bytes);
        if (!fresh && column + 1 + columns > CLI_COLUMNS) {
            fprintf(out, "\n%*s", indent, "");
            column = indent;
            fresh = true;
        }
        column += fprintf(out, "%s", fresh ? "" : " ") + columns;
        fprintf(out, "%.*s", (int)bytes, text);
        fresh = false;
        text += bytes;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}
