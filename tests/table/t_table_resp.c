/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_table_resp.c - requests out of bytes: whole, in pieces, with large arguments, inline, and
 * broken ones; and replies in both versions, with values that are not copied.
 */
#include "tap.h"

#include <float.h>
#include <math.h>
#include <sys/mman.h>

#include "base/mem.h"
#include "table/reply.h"
#include "table/resp.h"

static struct resp_args args;

/* Parse TEXT as one request; its arguments, separated by |, into a static buffer. */
static const char *
parse(const char *text, size_t length, enum resp_result *ret)
{
    static char words[1024];
    struct resp_request request = {0};
    args.count = 0;
    *ret = resp_parse(&request, (const uint8_t *)text, length, &args);
    if (*ret == RESP_BROKEN) {
        snprintf(words, sizeof words, "%s", request.error);
        return words;
    }
    size_t used = 0;
    words[0] = '\0';
    for (uint32_t i = 0; i < args.count; i++)
        used += (size_t)snprintf(
            words + used, sizeof words - used, "%s%.*s", i == 0 ? "" : "|",
            (int)args.args[i].length, (const char *)args.args[i].bytes);
    return words;
}

static void
check(const char *text, enum resp_result want, const char *words)
{
    char name[40];
    enum resp_result result;
    const char *got = parse(text, strlen(text), &result);
    snprintf(name, sizeof name, "%s", text);
    for (char *c = name; *c != '\0'; c++)
        if (*c < ' ')
            *c = '.';
    is_int(result, want, "%s: the result", name);
    is_str(got, words, "%s: its words", name);
}

static void
test_requests(void)
{
    check("*1\r\n$4\r\nPING\r\n", RESP_COMPLETE, "PING");
    check("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$0\r\n\r\n", RESP_COMPLETE, "SET|a|");
    check("*0\r\n", RESP_COMPLETE, "");
    check("*-1\r\n", RESP_COMPLETE, "");
    check("*1\r\n$4\r\nPIN", RESP_PARTIAL, "");
    check("*2\r\n$4\r\nPING\r\n", RESP_PARTIAL, "");
    check("*1", RESP_PARTIAL, "");
    check("*x\r\n", RESP_BROKEN, "Protocol error: invalid multibulk length");
    check("*01\r\n", RESP_BROKEN, "Protocol error: invalid multibulk length");
    check("*1048577\r\n", RESP_BROKEN, "Protocol error: invalid multibulk length");
    check("*1\r\n:4\r\n", RESP_BROKEN, "Protocol error: expected '$', got ':'");
    check("*1\r\n$-1\r\n", RESP_BROKEN, "Protocol error: invalid bulk length");
    check("*1\r\n$536870913\r\n", RESP_BROKEN, "Protocol error: invalid bulk length");
    check(
        "*1\r\n$99999999999999999999\r\n", RESP_BROKEN, "Protocol error: invalid bulk length");
    check("PING\r\n", RESP_COMPLETE, "PING");
    check("  GET   a \r\n", RESP_COMPLETE, "GET|a");
    check("\r\n", RESP_COMPLETE, "");
    check("SET 'it\\'s' \"\\x41\\n\\q\"\n", RESP_COMPLETE, "SET|it's|A\nq");
    check("GET \"a\r\n", RESP_BROKEN, "Protocol error: unbalanced quotes in request");
    check("GET 'a'b\r\n", RESP_BROKEN, "Protocol error: unbalanced quotes in request");
    check("GET a", RESP_PARTIAL, "");
}

static void
test_pieces(void)
{
    static const char text[] = "*3\r\n$3\r\nSET\r\n$10\r\n0123456789\r\n$2\r\nxy\r\n";
    struct resp_request request = {0};
    args.count = 0;
    enum resp_result result = RESP_PARTIAL;
    size_t there = 0;
    while (result == RESP_PARTIAL && there < sizeof text - 1)
        result = resp_parse(&request, (const uint8_t *)text, ++there, &args);
    is_int(result, RESP_COMPLETE, "byte by byte it is complete");
    is_int(there, sizeof text - 1, "with its last byte");
    is_int(request.used, sizeof text - 1, "of which all are used");
    is_int(args.count, 3, "three arguments");
    is_mem(args.args[1].bytes, "0123456789", 10, "in order");

    static char line[RESP_INLINE_BYTES_MAX + 2];
    memset(line, 'a', sizeof line);
    for (unsigned i = 0; i < 3; i++) {
        line[0] = "a*$"[i];
        request = (struct resp_request){0};
        result = resp_parse(&request, (const uint8_t *)line, sizeof line, &args);
        is_int(result, RESP_BROKEN, "a line without an end is refused");
    }
}

static void
test_large(void)
{
    static const char first[] = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\n";
    static const uint8_t value[100000] = {1};
    struct resp_request request = {0};
    args.count = 0;
    is_int(
        resp_parse(&request, (const uint8_t *)first, sizeof first - 1, &args), RESP_LARGE,
        "a long argument is found at its head");
    is_int(request.used, sizeof first - 1, "its bytes are behind the head");
    is_int(request.found.index, 2, "its number");
    is_int(request.found.length, sizeof value, "its length");
    is_int(args.count, 2, "the arguments before it are there");
    const struct resp_large large = {2, sizeof value, value};
    request.large = &large;
    request.large_count = 1;
    args.count = 0;
    is_int(
        resp_parse(&request, (const uint8_t *)first, sizeof first - 1, &args), RESP_COMPLETE,
        "with its bytes elsewhere the request is complete");
    is_int(args.count, 3, "with all arguments");
    ok(args.args[2].bytes == value && args.args[2].large == 0, "the long one where it is");
}

static void
test_integers(void)
{
    int64_t n;
    ok(resp_integer((const uint8_t *)"-9223372036854775808", 20, &n) && n == INT64_MIN,
       "least");
    ok(resp_integer((const uint8_t *)"9223372036854775807", 19, &n) && n == INT64_MAX, "most");
    static const char *const wrong[] = {
        "",  "-", "+1", " 1", "1 ", "01", "-0", "9223372036854775808", "-9223372036854775809",
        "1x"};
    for (unsigned i = 0; i < ARRAY_LEN(wrong); i++)
        ok(!resp_integer((const uint8_t *)wrong[i], strlen(wrong[i]), &n), "'%s' is none",
           wrong[i]);
}

/* ---- replies ---- */

/* All that waits in REPLY, as text. */
static const char *
written(const struct table_reply *reply)
{
    static char text[4096];
    struct iovec pieces[16];
    unsigned count = table_reply_pieces(reply, pieces, 16);
    size_t used = 0;
    for (unsigned i = 0; i < count; i++) {
        memcpy(text + used, pieces[i].iov_base, pieces[i].iov_len);
        used += pieces[i].iov_len;
    }
    text[used] = '\0';
    return text;
}

static void
write_all(struct table_reply *reply)
{
    table_reply_ok(reply);
    table_reply_error(reply, "ERR %s", "two\r\nlines");
    table_reply_integer(reply, INT64_MIN);
    table_reply_null(reply);
    table_reply_null_array(reply);
    table_reply_bool(reply, true);
    table_reply_double(reply, 1.5);
    table_reply_map(reply, 1);
    table_reply_text(reply, "a");
    table_reply_verbatim(reply, "b", 1);
    struct table_chunk *begun = table_reply_array_begin(reply);
    table_reply_bulk(reply, "", 0);
    table_reply_array_end(reply, begun, "*2\r\n", 1);
    table_reply_set(reply, 0);
}

/* A double has the fewest digits that are read back as the same. */
static void
test_doubles(void)
{
    const struct {
        double number;
        const char *text;
    } doubles[] = {
        {0.1, ",0.1\r\n"},
        {86.71, ",86.71\r\n"},
        {1.0 / 3, ",0.3333333333333333\r\n"},
        {0.1 + 0.2, ",0.30000000000000004\r\n"},
        {-1e21, ",-1e+21\r\n"},
        {DBL_TRUE_MIN, ",4.94065645841247e-324\r\n"},
        {INFINITY, ",inf\r\n"},
        {-(double)NAN, ",nan\r\n"},
    };
    struct table_chunk_pool pool = {0};
    struct table_reply reply = {.pool = &pool, .protocol = 3};
    for (size_t i = 0; i < sizeof doubles / sizeof doubles[0]; i++) {
        table_reply_double(&reply, doubles[i].number);
        is_str(written(&reply), doubles[i].text, "%g", doubles[i].number);
        table_reply_clear(&reply);
    }
    table_chunk_pool_free(&pool);
}

static void
test_replies(void)
{
    struct table_chunk_pool pool = {0};
    struct table_reply reply = {.pool = &pool, .protocol = 2};
    write_all(&reply);
    is_str(
        written(&reply),
        "+OK\r\n-ERR two  lines\r\n:-9223372036854775808\r\n$-1\r\n*-1\r\n:1\r\n$3\r\n1.5\r\n"
        "*2\r\n$1\r\na\r\n$1\r\nb\r\n*2\r\n*1\r\n$0\r\n\r\n*0\r\n",
        "version 2");
    is_int(reply.waiting_bytes, strlen(written(&reply)), "all of it waits");
    is_int(reply.errors, 1, "an error was counted");
    table_reply_sent(&reply, 5);
    is_mem(written(&reply), "-ERR two", 8, "what was sent is gone");
    table_reply_clear(&reply);
    is_int(reply.waiting_bytes, 0, "nothing waits");
    reply.protocol = 3;
    write_all(&reply);
    is_str(
        written(&reply),
        "+OK\r\n-ERR two  lines\r\n:-9223372036854775808\r\n_\r\n_\r\n#t\r\n,1.5\r\n"
        "%1\r\n$1\r\na\r\n=5\r\ntxt:b\r\n*2\r\n*1\r\n$0\r\n\r\n~0\r\n",
        "version 3");
    table_reply_clear(&reply);
    table_chunk_pool_free(&pool);
}

static void
test_pinned(void)
{
    enum { VALUE_BYTES = 100000 };
    static uint8_t value[VALUE_BYTES] = {7};
    const struct table_options options = {.limit_bytes = 4 << 20};
    struct table *table;
    struct table_key key;
    struct table_value found;
    if (table_create(memfd_create("table", MFD_CLOEXEC), &options, &table) != 0 ||
        !table_key(table, "k", 1, &key) || table_set(table, &key, value, VALUE_BYTES, 0) != 0 ||
        !table_find(table, &key, false, &found))
        bail("%s", dor_err_message());
    struct table_chunk_pool pool = {0};
    struct table_reply reply = {.pool = &pool, .protocol = 2};
    table_reply_value(&reply, table, &found);
    struct iovec pieces[4];
    is_int(table_reply_pieces(&reply, pieces, 4), 3, "a large value is a piece of its own");
    ok(pieces[1].iov_base == found.bytes, "and is sent from where it is");
    ok(table_remove(table, &key), "its key goes");
    ok(table_set(table, &key, "new", 3, 0) == 0, "and comes again");
    is_mem(pieces[1].iov_base, value, VALUE_BYTES, "what waits is as it was");
    struct table_stat before, after;
    table_stat(table, &before);
    table_reply_sent(&reply, reply.waiting_bytes);
    table_stat(table, &after);
    ok(after.used_bytes + VALUE_BYTES <= before.used_bytes, "sent, its memory is free");
    is_int(table_reply_pieces(&reply, pieces, 4), 0, "nothing is left");
    table_reply_clear(&reply);
    table_chunk_pool_free(&pool);
    table_close(table);
}

int
main(void)
{
    test_requests();
    test_pieces();
    test_large();
    test_integers();
    test_replies();
    test_doubles();
    test_pinned();
    resp_args_free(&args);
    return done_testing();
}
