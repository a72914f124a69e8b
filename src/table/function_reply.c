/* SPDX-License-Identifier: Apache-2.0 */
/*
 * function_reply.c - what a function returned, as a reply. The engine's trees are looked at as a
 * whole before a byte of them is replied, since nothing that is in an engine is believed.
 */
#include <string.h>

#include "base/le.h"
#include "base/size.h"
#include "table/functions.h"

enum { REPLY_DEPTH = 40 };

static void
reply_number(struct table_reply *reply, double number)
{
    if (number >= -9007199254740992.0 && number <= 9007199254740992.0 &&
        number == (double)(int64_t)number)
        table_reply_integer(reply, (int64_t)number);
    else
        table_reply_double(reply, number);
}

/* As Redis does for Lua: true is 1 and false is null, where there are no booleans. */
static void
reply_bool(struct table_reply *reply, bool value)
{
    if (reply->protocol < 3 && !value)
        table_reply_null(reply);
    else
        table_reply_bool(reply, value);
}

/* An error that a function returns begins with a word in capitals, its own or ERR. */
static void
reply_error_text(struct table_reply *reply, struct table_engine_bytes text)
{
    size_t word = 0;
    while (word < text.length && text.bytes[word] >= 'A' && text.bytes[word] <= 'Z')
        word++;
    bool has_word = word > 0 && (word == text.length || text.bytes[word] == ' ');
    table_reply_error(
        reply, "%s%.*s", has_word ? "" : "ERR ",
        (int)base_min_u64(text.length, TABLE_ENGINE_ERROR_BYTES), (const char *)text.bytes);
}

static void
reply_status_text(struct table_reply *reply, struct table_engine_bytes text)
{
    char line[TABLE_ENGINE_ERROR_BYTES];
    size_t n = text.bytes == NULL ? 0 : base_min_u64(text.length, sizeof line - 1);
    for (size_t i = 0; i < n; i++)
        line[i] = text.bytes[i] < ' ' ? ' ' : (char)text.bytes[i];
    line[n] = '\0';
    table_reply_status(reply, line);
}

/* Bytes that the value at *AT and all in it take, checked; 0 when it is no tree. */
static size_t
tree_bytes(const uint8_t *bytes, size_t length, unsigned depth)
{
    size_t at = 1;
    if (length == 0 || depth > REPLY_DEPTH)
        return 0;
    switch (bytes[0]) {
    case 'n':
    case 't':
    case 'f':
        return 1;
    case 'd':
    case 'i':
        return length >= 9 ? 9 : 0;
    case 's':
    case '+':
    case '-':
        return length >= 5 && base_le32_get(bytes + 1) <= length - 5
                   ? 5 + (size_t)base_le32_get(bytes + 1)
                   : 0;
    case 'a':
    case 'm':
        break;
    default:
        return 0;
    }
    if (length < 5)
        return 0;
    uint64_t count = base_le32_get(bytes + 1);
    at = 5;
    for (uint64_t i = 0; i < (bytes[0] == 'm' ? 2 * count : count); i++) {
        size_t used = tree_bytes(bytes + at, length - at, depth + 1);
        if (used == 0)
            return 0;
        at += used;
    }
    return at;
}

/* Reply the value at BYTES, which tree_bytes() has looked at; how long it is. */
static size_t
reply_tree(struct table_reply *reply, const uint8_t *bytes)
{
    struct table_engine_bytes text = {NULL, 0};
    uint64_t count = 0;
    double number;
    if (strchr("s+-", bytes[0]) != NULL)
        text = (struct table_engine_bytes){bytes + 5, base_le32_get(bytes + 1)};
    switch (bytes[0]) {
    case 't':
    case 'f':
        reply_bool(reply, bytes[0] == 't');
        return 1;
    case 'd':
        memcpy(&number, bytes + 1, sizeof number);
        reply_number(reply, number);
        return 9;
    case 'i':
        table_reply_integer(reply, (int64_t)base_le64_get(bytes + 1));
        return 9;
    case 's':
        table_reply_bulk(reply, text.bytes, text.length);
        return 5 + text.length;
    case '+':
        reply_status_text(reply, text);
        return 5 + text.length;
    case '-':
        reply_error_text(reply, text);
        return 5 + text.length;
    case 'a':
        count = base_le32_get(bytes + 1);
        table_reply_array(reply, count);
        break;
    case 'm':
        count = 2 * (uint64_t)base_le32_get(bytes + 1);
        table_reply_map(reply, count / 2);
        break;
    default:
        table_reply_null(reply);
        return 1;
    }
    size_t at = 5;
    for (uint64_t i = 0; i < count; i++)
        at += reply_tree(reply, bytes + at);
    return at;
}

void
table_function_reply(struct table_reply *reply, const struct table_engine_result *result)
{
    switch (result->kind) {
    case TABLE_RESULT_NULL:
        table_reply_null(reply);
        break;
    case TABLE_RESULT_BOOL:
        reply_bool(reply, result->number != 0);
        break;
    case TABLE_RESULT_NUMBER:
        reply_number(reply, result->number);
        break;
    case TABLE_RESULT_BYTES:
        table_reply_bulk(reply, result->bytes.bytes, result->bytes.length);
        break;
    case TABLE_RESULT_TREE:
        if (tree_bytes(result->bytes.bytes, result->bytes.length, 0) != 0)
            reply_tree(reply, result->bytes.bytes);
        else
            table_reply_error(reply, "ERR the function's reply cannot be read");
        break;
    }
}
