/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_key.c - commands on keys and on all of them, with the answers of Redis 7.0.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "table/commands.h"
#include "table/watch.h"
#include "table/worker_priv.h"

#define SCAN_BUCKETS_MAX (1u << 20)

/* Key number INDEX; false when it is too long to be there. */
static bool
key_at(const struct table_call *call, uint32_t index, struct table_key *ret)
{
    const struct table_arg *arg = &call->args[index];
    return table_key(call->table, arg->bytes, arg->length, ret);
}

static bool
is_there(struct table_call *call, uint32_t index, bool touch, struct table_value *ret)
{
    struct table_key key;
    return key_at(call, index, &key) && table_find(call->table, &key, touch, ret);
}

int
table_cmd_del(struct table_call *call)
{
    int64_t count = 0;
    for (uint32_t i = 1; i < call->arg_count; i++) {
        struct table_key key;
        count += key_at(call, i, &key) && table_remove(call->table, &key);
    }
    table_reply_integer(call->reply, count);
    return 0;
}

static int
count_keys(struct table_call *call, bool touch)
{
    int64_t count = 0;
    for (uint32_t i = 1; i < call->arg_count; i++) {
        struct table_value value;
        count += is_there(call, i, touch, &value);
    }
    table_reply_integer(call->reply, count);
    return 0;
}

int
table_cmd_exists(struct table_call *call)
{
    return count_keys(call, false);
}

int
table_cmd_touch(struct table_call *call)
{
    return count_keys(call, true);
}

int
table_cmd_type(struct table_call *call)
{
    struct table_value value;
    table_reply_status(call->reply, is_there(call, 1, false, &value) ? "string" : "none");
    return 0;
}

/* What Redis would call the way in which the value is kept. */
int
table_cmd_object_encoding(struct table_call *call)
{
    enum { EMBEDDED_BYTES = 44 };
    struct table_value value;
    int64_t number;
    if (!is_there(call, 2, false, &value))
        table_reply_null(call->reply);
    else if (resp_integer(value.bytes, value.length, &number))
        table_reply_text(call->reply, "int");
    else
        table_reply_text(call->reply, value.length <= EMBEDDED_BYTES ? "embstr" : "raw");
    return 0;
}

int
table_cmd_object_refcount(struct table_call *call)
{
    struct table_value value;
    if (is_there(call, 2, false, &value))
        table_reply_integer(call->reply, 1);
    else
        table_reply_null(call->reply);
    return 0;
}

/* ---- times ---- */

struct expire_options {
    bool nx, xx, gt, lt;
};

static bool
parse_expire_options(struct table_call *call, struct expire_options *options)
{
    for (uint32_t i = 3; i < call->arg_count; i++) {
        const struct table_arg *arg = &call->args[i];
        if (table_arg_is(arg, "nx")) {
            options->nx = true;
        } else if (table_arg_is(arg, "xx")) {
            options->xx = true;
        } else if (table_arg_is(arg, "gt")) {
            options->gt = true;
        } else if (table_arg_is(arg, "lt")) {
            options->lt = true;
        } else {
            table_reply_error(
                call->reply, "ERR Unsupported option %.*s",
                (int)strnlen((const char *)arg->bytes, arg->length), (const char *)arg->bytes);
            return false;
        }
    }
    if (options->nx && (options->xx || options->gt || options->lt)) {
        table_reply_error(
            call->reply, "ERR NX and XX, GT or LT options at the same time are not compatible");
        return false;
    }
    if (options->gt && options->lt) {
        table_reply_error(
            call->reply, "ERR GT and LT options at the same time are not compatible");
        return false;
    }
    return true;
}

static bool
options_allow(const struct expire_options *options, int64_t now_is_ms, int64_t when_ms)
{
    bool has = now_is_ms != 0;
    return !(options->nx && has) && !(options->xx && !has) &&
           !(options->gt && (!has || when_ms <= now_is_ms)) &&
           !(options->lt && has && when_ms >= now_is_ms);
}

int
table_call_expire(
    struct table_call *call, const struct table_key *key, const struct table_value *value,
    int64_t expiry_ms, bool *ret_found)
{
    if (value->expiry_ms == expiry_ms && call->tenant->watch_count != 0)
        table_watch_changed(call->tenant, key);
    return table_expire(call->table, key, expiry_ms, ret_found);
}

static int
expire(struct table_call *call, int64_t unit_ms, int64_t base_ms)
{
    struct expire_options options = {0};
    struct table_key key;
    struct table_value value;
    int64_t when_ms;
    if (!parse_expire_options(call, &options) || !table_call_integer(call, 2, &when_ms))
        return 0;
    if (when_ms > INT64_MAX / unit_ms || when_ms < INT64_MIN / unit_ms ||
        when_ms * unit_ms > INT64_MAX - base_ms) {
        table_reply_error(
            call->reply, "ERR invalid expire time in '%s' command", call->command->name);
        return 0;
    }
    when_ms = when_ms * unit_ms + base_ms;
    if (!key_at(call, 1, &key) || !table_find(call->table, &key, false, &value) ||
        !options_allow(&options, value.expiry_ms, when_ms)) {
        table_reply_integer(call->reply, 0);
        return 0;
    }
    bool found = true;
    int rc = 0;
    if (when_ms <= table_now(call->table))
        found = table_remove(call->table, &key);
    else
        rc = table_call_expire(call, &key, &value, when_ms, &found);
    if (rc == 0)
        table_reply_integer(call->reply, found);
    return rc;
}

int
table_cmd_expire(struct table_call *call)
{
    return expire(call, 1000, table_now(call->table));
}

int
table_cmd_pexpire(struct table_call *call)
{
    return expire(call, 1, table_now(call->table));
}

int
table_cmd_expireat(struct table_call *call)
{
    return expire(call, 1000, 0);
}

int
table_cmd_pexpireat(struct table_call *call)
{
    return expire(call, 1, 0);
}

/* The key's time after BASE_MS, in units of UNIT_MS; -2 without key, -1 without time. */
static int
reply_time(struct table_call *call, int64_t unit_ms, int64_t base_ms)
{
    struct table_value value;
    int64_t time = -2;
    if (is_there(call, 1, false, &value)) {
        time = value.expiry_ms == 0 ? -1 : value.expiry_ms - base_ms;
        if (time >= 0 && unit_ms > 1)
            time = time / unit_ms + (time % unit_ms >= unit_ms / 2);
    }
    table_reply_integer(call->reply, time);
    return 0;
}

int
table_cmd_ttl(struct table_call *call)
{
    return reply_time(call, 1000, table_now(call->table));
}

int
table_cmd_pttl(struct table_call *call)
{
    return reply_time(call, 1, table_now(call->table));
}

int
table_cmd_expiretime(struct table_call *call)
{
    return reply_time(call, 1000, 0);
}

int
table_cmd_pexpiretime(struct table_call *call)
{
    return reply_time(call, 1, 0);
}

int
table_cmd_persist(struct table_call *call)
{
    struct table_key key;
    struct table_value value;
    bool had = key_at(call, 1, &key) && table_find(call->table, &key, false, &value) &&
               value.expiry_ms != 0;
    bool found;
    int rc = had ? table_expire(call->table, &key, 0, &found) : 0;
    if (rc == 0)
        table_reply_integer(call->reply, had);
    return rc;
}

/* ---- all keys ---- */

/* Where the class that begins at AT (behind its bracket) ends; whether it has C goes to *RET. */
static size_t
match_class(const uint8_t *pattern, size_t length, size_t at, uint8_t c, bool fold, bool *ret)
{
    bool negated = at < length && pattern[at] == '^';
    bool has = false;
    at += negated;
    for (;; at++) {
        if (at >= length || pattern[at] == ']')
            break;
        uint8_t low = pattern[at], high = low;
        if (low == '\\' && at + 1 < length) {
            low = high = pattern[++at];
        } else if (at + 2 < length && pattern[at + 1] == '-') {
            high = pattern[at + 2];
            at += 2;
        }
        if (low > high) {
            uint8_t other = low;
            low = high;
            high = other;
        }
        if (fold) {
            low = (uint8_t)tolower(low);
            high = (uint8_t)tolower(high);
            c = (uint8_t)tolower(c);
        }
        has |= c >= low && c <= high;
    }
    *ret = has != negated;
    return at < length ? at + 1 : at;
}

/* Match one element of the pattern, no star, against C; where the next one begins. */
static size_t
match_one(const uint8_t *pattern, size_t length, size_t at, uint8_t c, bool fold, bool *ret)
{
    uint8_t p = pattern[at];
    if (p == '?') {
        *ret = true;
        return at + 1;
    }
    if (p == '[')
        return match_class(pattern, length, at + 1, c, fold, ret);
    if (p == '\\' && at + 1 < length)
        p = pattern[++at];
    *ret = fold ? tolower(p) == tolower(c) : p == c;
    return at + 1;
}

bool
table_glob_match(
    const uint8_t *pattern, size_t pattern_bytes, const uint8_t *text, size_t text_bytes,
    bool ignore_case)
{
    /* Only the last star need be tried again: what an earlier one takes more, a later one can. */
    size_t p = 0, t = 0, after_star = 0, star_text = 0;
    bool has_star = false;
    while (t < text_bytes) {
        bool same = false;
        if (p < pattern_bytes && pattern[p] == '*') {
            has_star = true;
            after_star = ++p;
            star_text = t;
            continue;
        }
        size_t next = p < pattern_bytes
                          ? match_one(pattern, pattern_bytes, p, text[t], ignore_case, &same)
                          : p;
        if (same) {
            p = next;
            t++;
        } else if (has_star) {
            p = after_star;
            t = ++star_text;
        } else {
            return false;
        }
    }
    while (p < pattern_bytes && pattern[p] == '*')
        p++;
    return p == pattern_bytes;
}

struct listing {
    struct table_reply *reply;
    const uint8_t *pattern;
    size_t pattern_bytes;
    bool all;  /* the pattern is a star */
    bool none; /* a type that no key has */
    uint64_t count;
};

static bool
list_key(void *context, const struct table_key *key, const struct table_value *value)
{
    struct listing *listing = context;
    (void)value;
    if (!listing->none && (listing->all || table_glob_match(
                                               listing->pattern, listing->pattern_bytes,
                                               key->bytes, key->length, false))) {
        table_reply_bulk(listing->reply, key->bytes, key->length);
        listing->count++;
    }
    return !listing->reply->failed;
}

static struct listing
new_listing(struct table_call *call, const struct table_arg *pattern)
{
    struct listing listing = {.reply = call->reply, .all = true};
    if (pattern != NULL) {
        listing.pattern = pattern->bytes;
        listing.pattern_bytes = pattern->length;
        listing.all = pattern->length == 1 && pattern->bytes[0] == '*';
    }
    return listing;
}

int
table_cmd_keys(struct table_call *call)
{
    struct listing listing = new_listing(call, &call->args[1]);
    struct table_chunk *begun = table_reply_array_begin(call->reply);
    uint64_t cursor = 0;
    do
        cursor = table_scan(call->table, cursor, SCAN_BUCKETS_MAX, list_key, &listing);
    while (cursor != 0);
    table_reply_array_end(call->reply, begun, NULL, listing.count);
    return 0;
}

enum { CURSOR_BYTES_MAX = 63 };

/* A cursor is what strtoul() reads as a decimal, a sign or nothing too, with no space before it. */
static bool
parse_cursor(const struct table_arg *arg, uint64_t *ret)
{
    char text[CURSOR_BYTES_MAX + 1] = "";
    if (arg->length > CURSOR_BYTES_MAX)
        return false;
    memcpy(text, arg->bytes, arg->length);
    if (isspace((unsigned char)text[0]))
        return false;
    char *end;
    errno = 0;
    *ret = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0';
}

int
table_cmd_scan(struct table_call *call)
{
    uint64_t cursor;
    int64_t count = 10;
    const struct table_arg *pattern = NULL;
    bool none = false;
    if (!parse_cursor(&call->args[1], &cursor)) {
        table_reply_error(call->reply, "ERR invalid cursor");
        return 0;
    }
    for (uint32_t i = 2; i < call->arg_count; i += 2) {
        const struct table_arg *arg = &call->args[i];
        if (i + 1 >= call->arg_count)
            return table_call_syntax_error(call);
        if (table_arg_is(arg, "count")) {
            if (!table_call_integer(call, i + 1, &count))
                return 0;
            if (count < 1)
                return table_call_syntax_error(call);
        } else if (table_arg_is(arg, "match")) {
            pattern = &call->args[i + 1];
        } else if (table_arg_is(arg, "type")) {
            none = !table_arg_is(&call->args[i + 1], "string");
        } else {
            return table_call_syntax_error(call);
        }
    }
    struct listing listing = new_listing(call, pattern);
    listing.none = none;
    struct table_chunk *begun = table_reply_array_begin(call->reply);
    /* A bucket holds about four keys. */
    uint32_t buckets =
        count / 4 + 1 < SCAN_BUCKETS_MAX ? (uint32_t)(count / 4 + 1) : SCAN_BUCKETS_MAX;
    cursor = table_scan(call->table, cursor, buckets, list_key, &listing);
    char number[24], before[TABLE_BEFORE_BYTES_MAX];
    int length = snprintf(number, sizeof number, "%" PRIu64, cursor);
    snprintf(before, sizeof before, "*2\r\n$%d\r\n%s\r\n", length, number);
    table_reply_array_end(call->reply, begun, before, listing.count);
    return 0;
}

int
table_cmd_randomkey(struct table_call *call)
{
    char scratch[16];
    struct table_key key;
    if (table_random_key(call->table, table_worker_random(call->worker), scratch, &key))
        table_reply_bulk(call->reply, key.bytes, key.length);
    else
        table_reply_null(call->reply);
    return 0;
}

int
table_cmd_dbsize(struct table_call *call)
{
    struct table_stat stat;
    table_stat(call->table, &stat);
    table_reply_integer(call->reply, (int64_t)stat.keys);
    return 0;
}

int
table_cmd_flushall(struct table_call *call)
{
    if (call->arg_count > 2 ||
        (call->arg_count == 2 && !table_arg_is(&call->args[1], "async") &&
         !table_arg_is(&call->args[1], "sync")))
        return table_call_syntax_error(call);
    /* A flush is one change of its own: what EXEC did before it is made to stay. */
    bool inside = table_in_transaction(call->table);
    if (inside)
        table_commit(call->table);
    int rc = table_flush(call->table, false);
    if (inside) {
        int again = table_begin(call->table);
        rc = rc != 0 ? rc : again;
    }
    return rc != 0 ? rc : table_call_ok(call);
}
