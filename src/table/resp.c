/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resp.c - the parser of requests.
 *
 *     array:  "*" count CRLF, then count times "$" length CRLF bytes CRLF
 *     inline: words up to a line feed, with quotes and escapes as in Redis' sdssplitargs()
 *
 * What is refused, and with which words, is as in Redis 7.0; the line ends behind a number and
 * behind a bulk are passed over without a look, as there.
 *
 * Invariant: `left` heads of bulks, the first of them at `offset`, are not complete; all before is.
 */
#include "table/resp.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/size.h"

enum number_result { NUMBER_READ, NUMBER_PARTIAL, NUMBER_LONG, NUMBER_WRONG };

bool
resp_integer(const uint8_t *bytes, size_t length, int64_t *ret)
{
    if (length == 0 || length > 20)
        return false;
    bool negative = bytes[0] == '-';
    size_t i = negative;
    if (length == i || (bytes[i] == '0' && (length > 1)))
        return false;
    uint64_t n = 0;
    for (; i < length; i++) {
        unsigned digit = bytes[i] - (unsigned)'0';
        if (digit > 9 || __builtin_mul_overflow(n, 10u, &n) ||
            __builtin_add_overflow(n, digit, &n))
            return false;
    }
    uint64_t limit = (uint64_t)INT64_MAX + negative;
    if (n > limit)
        return false;
    *ret = negative ? (int64_t)(0 - n) : (int64_t)n;
    return true;
}

/* The line at AT, of any length and content. */
static enum number_result
read_line_number(
    struct resp_request *request, const uint8_t *bytes, size_t length, size_t at,
    size_t *ret_next, int64_t *ret)
{
    size_t from = at;
    if (request->state.line_seen > from)
        from = request->state.line_seen;
    const uint8_t *end = from < length ? memchr(bytes + from, '\r', length - from) : NULL;
    if (end == NULL) {
        request->state.line_seen = length;
        return length - at > RESP_INLINE_BYTES_MAX ? NUMBER_LONG : NUMBER_PARTIAL;
    }
    request->state.line_seen = 0;
    size_t line_bytes = (size_t)(end - bytes) - at;
    if (at + line_bytes + 2 > length)
        return NUMBER_PARTIAL;
    if (!resp_integer(bytes + at, line_bytes, ret))
        return NUMBER_WRONG;
    *ret_next = at + line_bytes + 2;
    return NUMBER_READ;
}

/* The number at AT up to its line end, which most often is complete and short. */
static inline enum number_result
read_number(
    struct resp_request *request, const uint8_t *bytes, size_t length, size_t at,
    size_t *ret_next, int64_t *ret)
{
    size_t i = at;
    uint32_t n = 0;
    while (i < length && i < at + 9) {
        unsigned digit = bytes[i] - (unsigned)'0';
        if (digit > 9)
            break;
        n = n * 10 + digit;
        i++;
    }
    if (__builtin_expect(
            i > at && i + 2 <= length && bytes[i] == '\r' && (bytes[at] != '0' || i == at + 1),
            1)) {
        *ret_next = i + 2;
        *ret = n;
        return NUMBER_READ;
    }
    return read_line_number(request, bytes, length, at, ret_next, ret);
}

static enum resp_result
broken(struct resp_request *request, const char *text)
{
    snprintf(request->error, sizeof request->error, "Protocol error: %s", text);
    return RESP_BROKEN;
}

static bool
grow_args(struct resp_args *args)
{
    uint32_t cap = args->cap == 0 ? 256 : 2 * args->cap;
    struct table_arg *grown = base_realloc_array(args->args, cap, sizeof *grown);
    if (grown == NULL)
        return false;
    args->args = grown;
    args->cap = cap;
    return true;
}

static inline bool
add_arg(struct resp_args *args, const uint8_t *bytes, uint32_t length, int32_t large)
{
    if (args->count == args->cap && !grow_args(args))
        return false;
    args->args[args->count++] = (struct table_arg){bytes, length, large};
    return true;
}

/* The first of the large arguments from number INDEX on. */
static uint32_t
large_from(const struct resp_request *request, uint32_t index)
{
    uint32_t i = request->large_count;
    while (i > 0 && request->large[i - 1].index >= index)
        i--;
    return i;
}

static enum resp_result
head_error(struct resp_request *request, enum number_result result, bool is_count)
{
    if (result == NUMBER_PARTIAL)
        return RESP_PARTIAL;
    if (result == NUMBER_LONG)
        return broken(
            request, is_count ? "too big mbulk count string" : "too big bulk count string");
    return broken(request, is_count ? "invalid multibulk length" : "invalid bulk length");
}

/* The first line; *RET is where the first bulk begins. */
static enum resp_result
parse_count(struct resp_request *request, const uint8_t *bytes, size_t length, size_t *ret)
{
    int64_t count;
    enum number_result result = read_number(request, bytes, length, 1, ret, &count);
    if (result != NUMBER_READ)
        return head_error(request, result, true);
    if (count > RESP_ARGS_MAX)
        return broken(request, "invalid multibulk length");
    request->state.total = request->state.left = count > 0 ? (uint32_t)count : 0;
    return RESP_COMPLETE;
}

/* Go through the bulks from the state on; into ARGS unless it is NULL. */
static enum resp_result
walk(struct resp_request *request, const uint8_t *bytes, size_t length, struct resp_args *args)
{
    size_t at = request->state.offset;
    uint32_t left = request->state.left, total = request->state.total;
    uint32_t next_large = request->large_count != 0 ? large_from(request, total - left) : 0;
    enum resp_result rc = RESP_COMPLETE;
    while (left > 0) {
        size_t next;
        int64_t bulk_bytes;
        if (at >= length) {
            rc = RESP_PARTIAL;
            break;
        }
        if (__builtin_expect(bytes[at] != '$', 0)) {
            /* Redis looks for the end of the line first. */
            enum number_result result =
                read_line_number(request, bytes, length, at, &next, &bulk_bytes);
            if (result == NUMBER_PARTIAL || result == NUMBER_LONG) {
                rc = head_error(request, result, false);
                break;
            }
            char text[32];
            snprintf(text, sizeof text, "expected '$', got '%c'", bytes[at]);
            return broken(request, text);
        }
        enum number_result result =
            read_number(request, bytes, length, at + 1, &next, &bulk_bytes);
        if (__builtin_expect(result != NUMBER_READ, 0)) {
            rc = head_error(request, result, false);
            break;
        }
        uint32_t index = total - left;
        if (__builtin_expect(bulk_bytes > RESP_LARGE_BYTES || bulk_bytes < 0, 0)) {
            if (bulk_bytes < 0 || bulk_bytes > RESP_BULK_BYTES_MAX)
                return broken(request, "invalid bulk length");
            if (next_large == request->large_count ||
                request->large[next_large].index != index) {
                request->found = (struct resp_large){index, (uint32_t)bulk_bytes, NULL};
                request->used = next;
                rc = RESP_LARGE;
                break;
            }
            const struct resp_large *large = &request->large[next_large];
            if (args != NULL &&
                !add_arg(args, large->bytes, large->length, (int32_t)next_large))
                return RESP_NO_MEMORY;
            next_large++;
            at = next;
            left--;
            continue;
        }
        size_t bulk = (size_t)bulk_bytes;
        if (length - next < bulk + 2) {
            rc = RESP_PARTIAL;
            break;
        }
        if (args != NULL && !add_arg(args, bytes + next, (uint32_t)bulk, -1))
            return RESP_NO_MEMORY;
        at = next + bulk + 2;
        left--;
    }
    if (rc == RESP_COMPLETE) {
        request->used = at;
        return rc;
    }
    request->state.offset = at;
    request->state.left = left;
    return rc;
}

static enum resp_result
parse_array(
    struct resp_request *request, const uint8_t *bytes, size_t length, struct resp_args *args)
{
    size_t first = 0;
    if (request->state.total == 0) {
        enum resp_result rc = parse_count(request, bytes, length, &first);
        if (rc != RESP_COMPLETE)
            return rc;
        request->state.offset = first;
    } else {
        struct resp_state begin = {.total = request->state.total, .left = request->state.total};
        enum resp_result rc = walk(request, bytes, length, NULL);
        int64_t ignored;
        if (rc != RESP_COMPLETE)
            return rc;
        (void)read_number(request, bytes, length, 1, &begin.offset, &ignored);
        request->state = begin;
    }
    uint32_t count = args->count;
    enum resp_result rc = walk(request, bytes, length, args);
    if (rc != RESP_COMPLETE && rc != RESP_LARGE)
        args->count = count;
    return rc;
}

/* ---- inline ---- */

static int
hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static uint8_t
escaped(uint8_t c)
{
    static const char from[] = "nrtba", to[] = "\n\r\t\b\a";
    const char *found = c != '\0' ? strchr(from, c) : NULL;
    return found != NULL ? (uint8_t)to[found - from] : c;
}

/* Where a quoted part ends, which begins behind AT; its text is moved to *OUT. 0: nowhere. */
static size_t
unquote(uint8_t *line, size_t length, size_t at, size_t *out)
{
    uint8_t quote = line[at++];
    while (at < length) {
        uint8_t c = line[at];
        if (c == quote) {
            at++;
            return at == length || isspace(line[at]) ? at : 0;
        }
        size_t taken = 1;
        if (quote == '"' && c == '\\' && at + 3 < length && line[at + 1] == 'x' &&
            hex_value(line[at + 2]) >= 0 && hex_value(line[at + 3]) >= 0) {
            c = (uint8_t)(hex_value(line[at + 2]) * 16 + hex_value(line[at + 3]));
            taken = 4;
        } else if (quote == '"' && c == '\\' && at + 1 < length) {
            c = escaped(line[at + 1]);
            taken = 2;
        } else if (quote == '\'' && c == '\\' && at + 1 < length && line[at + 1] == '\'') {
            c = '\'';
            taken = 2;
        }
        line[(*out)++] = c;
        at += taken;
    }
    return 0;
}

/* One word at AT; where it ends, 0 when its quotes do not. */
static size_t
parse_word(uint8_t *line, size_t length, size_t at, struct table_arg *ret)
{
    size_t begin = at, out = at;
    while (at < length && strchr(" \n\r\t", line[at]) == NULL) {
        if (line[at] == '"' || line[at] == '\'') {
            at = unquote(line, length, at, &out);
            if (at == 0)
                return 0;
            break;
        }
        line[out++] = line[at++];
    }
    *ret = (struct table_arg){line + begin, (uint32_t)(out - begin), -1};
    return at;
}

/* Copy a line of LENGTH bytes to where it may be changed. */
static uint8_t *
copy_line(struct resp_args *args, const uint8_t *bytes, size_t length)
{
    if (length > args->line_cap || args->line == NULL) {
        uint8_t *grown = base_realloc_array(args->line, length + 1, 1);
        if (grown == NULL)
            return NULL;
        args->line = grown;
        args->line_cap = length;
    }
    memcpy(args->line, bytes, length);
    return args->line;
}

static enum resp_result
parse_inline(
    struct resp_request *request, const uint8_t *bytes, size_t length, struct resp_args *args)
{
    size_t from = request->state.line_seen;
    const uint8_t *end = from < length ? memchr(bytes + from, '\n', length - from) : NULL;
    if (end == NULL) {
        request->state.line_seen = length;
        return length > RESP_INLINE_BYTES_MAX ? broken(request, "too big inline request")
                                              : RESP_PARTIAL;
    }
    size_t line_bytes = (size_t)(end - bytes);
    request->used = line_bytes + 1;
    if (line_bytes > 0 && bytes[line_bytes - 1] == '\r')
        line_bytes--;
    /* A zero byte ends the line, as it does a string of C. */
    line_bytes = strnlen((const char *)bytes, line_bytes);
    uint8_t *line = copy_line(args, bytes, line_bytes);
    if (line == NULL)
        return RESP_NO_MEMORY;
    uint32_t count = args->count;
    for (size_t at = 0;;) {
        while (at < line_bytes && isspace(line[at]))
            at++;
        if (at >= line_bytes)
            return RESP_COMPLETE;
        struct table_arg arg;
        at = parse_word(line, line_bytes, at, &arg);
        if (at == 0) {
            args->count = count;
            return broken(request, "unbalanced quotes in request");
        }
        if (!add_arg(args, arg.bytes, arg.length, -1))
            return RESP_NO_MEMORY;
    }
}

enum resp_result
resp_parse(
    struct resp_request *request, const uint8_t *bytes, size_t length, struct resp_args *args)
{
    if (length == 0)
        return RESP_PARTIAL;
    if (__builtin_expect(bytes[0] == '*', 1))
        return parse_array(request, bytes, length, args);
    return parse_inline(request, bytes, length, args);
}

void
resp_args_free(struct resp_args *args)
{
    base_free(args->args);
    base_free(args->line);
    *args = (struct resp_args){0};
}
