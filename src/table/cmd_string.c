/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_string.c - commands on values, with the answers of Redis 7.0.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"
#include "table/client.h"
#include "table/commands.h"
#include "table/group.h"
#include "table/log.h"
#include "table/watch.h"

enum { FLOAT_TEXT_BYTES = 5 * 1024 };

/* How GET counts: as used now, unless the client asked for something else. */
static inline bool
touches(const struct table_call *call)
{
    return call->client == NULL || !call->client->no_touch;
}

static inline bool
find(struct table_call *call, const struct table_key *key, struct table_value *ret)
{
    return table_find(call->table, key, touches(call), ret);
}

/* The same for commands that read, which are counted. */
static inline bool
look_up(struct table_call *call, const struct table_key *key, struct table_value *ret)
{
    bool found = find(call, key, ret);
    if (found)
        call->tenant->hits++;
    else
        call->tenant->misses++;
    return found;
}

static void
reply_value_or_null(struct table_call *call, bool found, const struct table_value *value)
{
    if (found)
        table_reply_value(call->reply, call->table, value);
    else
        table_reply_null(call->reply);
}

/* Give KEY the value of ARG, whose draft becomes the record if it has one. */
static int
store(
    struct table_call *call, const struct table_key *key, const struct table_arg *arg,
    int64_t expiry_ms)
{
    if (__builtin_expect(arg->large >= 0 && call->large != NULL, 0)) {
        struct table_large *large = &call->large[arg->large];
        if (large->for_key && large->draft.units != 0) {
            table_set_draft_expiry(call->table, &large->draft, expiry_ms);
            return table_commit_draft(call->table, key, &large->draft);
        }
    }
    return table_set(call->table, key, arg->bytes, arg->length, expiry_ms);
}

/* The same; the old value is replied after the new one is there, and stays until then. */
static int
exchange(
    struct table_call *call, const struct table_key *key, bool found,
    const struct table_value *old, int64_t expiry_ms)
{
    int rc = found ? table_pin(call->table, old->ref) : 0;
    if (rc == 0)
        rc = store(call, key, &call->args[2], expiry_ms);
    if (rc == 0)
        reply_value_or_null(call, found, old);
    if (found)
        table_unpin(call->table, old->ref);
    return rc;
}

int
table_call_ok(struct table_call *call)
{
    table_reply_ok(call->reply);
    return 0;
}

int
table_cmd_get(struct table_call *call)
{
    struct table_key key;
    struct table_value value;
    if (!table_call_key(call, 1, &key))
        return 0;
    if (__builtin_expect(look_up(call, &key, &value), 1))
        table_reply_value(call->reply, call->table, &value);
    else
        table_reply_null(call->reply);
    return 0;
}

/* ---- SET and its like ---- */

struct set_options {
    bool nx, xx, get, keep_ttl, persist;
    uint32_t expiry_index; /* of the number, 0 = none */
    int64_t unit_ms, base_ms;
};

bool
table_call_expiry(
    struct table_call *call, uint32_t index, int64_t unit_ms, int64_t base_ms, int64_t *ret)
{
    int64_t time;
    if (!table_call_integer(call, index, &time))
        return false;
    if (time <= 0 || time > INT64_MAX / unit_ms || time * unit_ms > INT64_MAX - base_ms) {
        table_reply_error(
            call->reply, "ERR invalid expire time in '%s' command", call->command->name);
        return false;
    }
    *ret = time * unit_ms + base_ms;
    return true;
}

/*
 * One of EX PX EXAT PXAT at INDEX; false when it is none, or has no number, or others exclude
 * it.
 */
static bool
parse_expiry_option(struct table_call *call, uint32_t index, struct set_options *options)
{
    static const struct {
        const char *word;
        int64_t unit_ms;
        bool relative;
    } words[] = {
        {"ex", 1000, true}, {"px", 1, true}, {"exat", 1000, false}, {"pxat", 1, false}};
    const struct table_arg *arg = &call->args[index];
    if (options->keep_ttl || options->persist || index + 1 >= call->arg_count)
        return false;
    for (unsigned i = 0; i < ARRAY_LEN(words); i++) {
        if (!table_arg_is(arg, words[i].word))
            continue;
        int64_t base_ms = words[i].relative ? table_now(call->table) : 0;
        /* The same word again is fine and counts. */
        if (options->expiry_index != 0 &&
            (options->unit_ms != words[i].unit_ms || options->base_ms != base_ms))
            return false;
        options->expiry_index = index + 1;
        options->unit_ms = words[i].unit_ms;
        options->base_ms = base_ms;
        return true;
    }
    return false;
}

static bool
parse_set_options(struct table_call *call, struct set_options *options)
{
    for (uint32_t i = 3; i < call->arg_count; i++) {
        const struct table_arg *arg = &call->args[i];
        if (table_arg_is(arg, "nx") && !options->xx)
            options->nx = true;
        else if (table_arg_is(arg, "xx") && !options->nx)
            options->xx = true;
        else if (table_arg_is(arg, "get"))
            options->get = true;
        else if (table_arg_is(arg, "keepttl") && options->expiry_index == 0)
            options->keep_ttl = true;
        else if (parse_expiry_option(call, i, options))
            i++;
        else
            return false;
    }
    return true;
}

static int
set_with_options(struct table_call *call)
{
    struct set_options options = {0};
    int64_t expiry_ms = 0;
    struct table_key key;
    struct table_value old;
    if (!parse_set_options(call, &options))
        return table_call_syntax_error(call);
    if (options.expiry_index != 0 &&
        !table_call_expiry(
            call, options.expiry_index, options.unit_ms, options.base_ms, &expiry_ms))
        return 0;
    if (!table_call_key(call, 1, &key))
        return 0;
    bool found = options.get ? look_up(call, &key, &old) : find(call, &key, &old);
    if ((options.nx && found) || (options.xx && !found)) {
        reply_value_or_null(call, options.get && found, &old);
        return 0;
    }
    if (options.keep_ttl && found)
        expiry_ms = old.expiry_ms;
    if (options.get)
        return exchange(call, &key, found, &old, expiry_ms);
    int rc = store(call, &key, &call->args[2], expiry_ms);
    return rc != 0 ? rc : table_call_ok(call);
}

int
table_cmd_set(struct table_call *call)
{
    struct table_key key;
    if (call->arg_count != 3)
        return set_with_options(call);
    if (!table_call_key(call, 1, &key))
        return 0;
    int rc = store(call, &key, &call->args[2], 0);
    return __builtin_expect(rc != 0, 0) ? rc : table_call_ok(call);
}

int
table_cmd_setnx(struct table_call *call)
{
    struct table_key key;
    struct table_value value;
    if (!table_call_key(call, 1, &key))
        return 0;
    bool found = find(call, &key, &value);
    int rc = found ? 0 : store(call, &key, &call->args[2], 0);
    if (rc == 0)
        table_reply_integer(call->reply, !found);
    return rc;
}

static int
set_expiring(struct table_call *call, int64_t unit_ms)
{
    struct table_key key;
    int64_t expiry_ms;
    if (!table_call_expiry(call, 2, unit_ms, table_now(call->table), &expiry_ms) ||
        !table_call_key(call, 1, &key))
        return 0;
    int rc = store(call, &key, &call->args[3], expiry_ms);
    return rc != 0 ? rc : table_call_ok(call);
}

int
table_cmd_setex(struct table_call *call)
{
    return set_expiring(call, 1000);
}

int
table_cmd_psetex(struct table_call *call)
{
    return set_expiring(call, 1);
}

int
table_cmd_getset(struct table_call *call)
{
    struct table_key key;
    struct table_value old;
    if (!table_call_key(call, 1, &key))
        return 0;
    bool found = look_up(call, &key, &old);
    return exchange(call, &key, found, &old, 0);
}

int
table_cmd_getdel(struct table_call *call)
{
    struct table_key key;
    struct table_value value;
    if (!table_call_key(call, 1, &key))
        return 0;
    bool found = look_up(call, &key, &value);
    reply_value_or_null(call, found, &value);
    if (found)
        (void)table_remove(call->table, &key);
    return 0;
}

int
table_cmd_getex(struct table_call *call)
{
    struct set_options options = {0};
    struct table_key key;
    struct table_value value;
    int64_t expiry_ms = 0;
    for (uint32_t i = 2; i < call->arg_count; i++) {
        if (table_arg_is(&call->args[i], "persist") && options.expiry_index == 0)
            options.persist = true;
        else if (parse_expiry_option(call, i, &options))
            i++;
        else
            return table_call_syntax_error(call);
    }
    if (!table_call_key(call, 1, &key))
        return 0;
    if (!look_up(call, &key, &value)) {
        table_reply_null(call->reply);
        return 0;
    }
    if (options.expiry_index != 0 &&
        !table_call_expiry(
            call, options.expiry_index, options.unit_ms, options.base_ms, &expiry_ms))
        return 0;
    table_reply_value(call->reply, call->table, &value);
    if (options.expiry_index == 0 && !(options.persist && value.expiry_ms != 0))
        return 0;
    bool found;
    if (table_call_expire(call, &key, &value, expiry_ms, &found) != 0)
        call->reply->failed =
            true; /* the reply is there already: its client must not believe it */
    return 0;
}

/* ---- parts of values ---- */

int
table_cmd_strlen(struct table_call *call)
{
    struct table_key key;
    struct table_value value;
    if (!table_call_key(call, 1, &key))
        return 0;
    table_reply_integer(call->reply, look_up(call, &key, &value) ? value.length : 0);
    return 0;
}

int
table_cmd_getrange(struct table_call *call)
{
    struct table_key key;
    struct table_value value;
    int64_t start, end;
    if (!table_call_integer(call, 2, &start) || !table_call_integer(call, 3, &end) ||
        !table_call_key(call, 1, &key))
        return 0;
    if (!look_up(call, &key, &value) || (start < 0 && end < 0 && start > end)) {
        table_reply_bulk(call->reply, "", 0);
        return 0;
    }
    int64_t length = value.length;
    if (start < 0)
        start = start < -length ? 0 : start + length;
    if (end < 0)
        end = end < -length ? 0 : end + length;
    if (end >= length)
        end = length - 1;
    if (length == 0 || start > end)
        table_reply_bulk(call->reply, "", 0);
    else
        table_reply_bulk(call->reply, value.bytes + start, (size_t)(end - start + 1));
    return 0;
}

/*
 * Make KEY a value of LENGTH bytes: the first OLD_BYTES of its present one, zeros, and ARG at
 * OFFSET. It keeps its time.
 */
static int
rewrite(
    struct table_call *call, const struct table_key *key, bool found,
    const struct table_value *old, const struct table_arg *arg, uint64_t offset)
{
    uint64_t end = offset + arg->length;
    uint64_t old_bytes = found ? old->length : 0;
    uint64_t length = end > old_bytes ? end : old_bytes;
    struct table_draft draft;
    int rc = found ? table_pin(call->table, old->ref) : 0;
    if (rc != 0)
        return rc;
    rc = table_draft(call->table, key, length, found ? old->expiry_ms : 0, &draft);
    if (rc == 0) {
        if (old_bytes != 0)
            memcpy(draft.bytes, old->bytes, old_bytes);
        if (offset > old_bytes)
            memset(draft.bytes + old_bytes, 0, offset - old_bytes);
        memcpy(draft.bytes + offset, arg->bytes, arg->length);
        rc = table_commit_draft(call->table, key, &draft);
    }
    if (found)
        table_unpin(call->table, old->ref);
    if (rc == 0)
        table_reply_integer(call->reply, (int64_t)length);
    return rc;
}

static bool
check_length(struct table_call *call, uint64_t length)
{
    if (length <= TABLE_VALUE_BYTES_MAX)
        return true;
    table_reply_error(
        call->reply, "ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    return false;
}

int
table_cmd_setrange(struct table_call *call)
{
    struct table_key key;
    struct table_value old;
    int64_t offset;
    if (!table_call_integer(call, 2, &offset))
        return 0;
    if (offset < 0) {
        table_reply_error(call->reply, "ERR offset is out of range");
        return 0;
    }
    if (!table_call_key(call, 1, &key))
        return 0;
    bool found = find(call, &key, &old);
    if (call->args[3].length == 0) {
        table_reply_integer(call->reply, found ? old.length : 0);
        return 0;
    }
    uint64_t end = (uint64_t)offset + call->args[3].length;
    /* All of the value is logged. */
    if (!check_length(call, end) ||
        !table_call_log_room(call, found && old.length > end ? old.length : end))
        return 0;
    return rewrite(call, &key, found, &old, &call->args[3], (uint64_t)offset);
}

int
table_cmd_append(struct table_call *call)
{
    struct table_key key;
    struct table_value old;
    const struct table_arg *arg = &call->args[2];
    if (!table_call_key(call, 1, &key) ||
        !check_length(call, (find(call, &key, &old) ? (uint64_t)old.length : 0) + arg->length))
        return 0;
    uint64_t length;
    int rc = table_append(call->table, &key, arg->bytes, arg->length, &length);
    /* As in Redis, who watches the key learns of it also when nothing is appended. */
    if (rc == 0 && arg->length == 0 && call->tenant->watch_count != 0)
        table_watch_changed(call->tenant, &key);
    if (rc == 0)
        table_reply_integer(call->reply, (int64_t)length);
    return rc;
}

/* ---- several keys ---- */

int
table_cmd_mget(struct table_call *call)
{
    enum { AHEAD = 16 };
    uint32_t count = call->arg_count - 1;
    table_reply_array(call->reply, count);
    for (uint32_t from = 0; from < count; from += AHEAD) {
        struct table_key keys[AHEAD];
        uint32_t here = count - from < AHEAD ? count - from : AHEAD;
        for (uint32_t i = 0; i < here; i++) {
            const struct table_arg *arg = &call->args[1 + from + i];
            /* A key that is too long is not there. */
            if (!table_key(call->table, arg->bytes, arg->length, &keys[i]))
                keys[i].bytes = NULL;
            else
                table_prefetch(call->table, &keys[i]);
        }
        for (uint32_t i = 0; here > 1 && i < here; i++)
            if (keys[i].bytes != NULL)
                table_prefetch_record(call->table, &keys[i]);
        for (uint32_t i = 0; i < here; i++) {
            struct table_value value;
            bool found = keys[i].bytes != NULL && look_up(call, &keys[i], &value);
            reply_value_or_null(call, found, &value);
        }
    }
    return 0;
}

/* Set all pairs, together or not at all. */
static int
set_pairs(struct table_call *call)
{
    struct table_group group = {0};
    bool several = call->arg_count > 3;
    int rc = several ? table_group_begin(call->table, call->tenant->log, &group) : 0;
    bool begun = several && rc == 0;
    for (uint32_t i = 1; rc == 0 && i < call->arg_count; i += 2) {
        struct table_key key;
        const struct table_arg *arg = &call->args[i];
        rc = table_key(call->table, arg->bytes, arg->length, &key)
                 ? store(call, &key, &call->args[i + 1], 0)
                 : dor_fail(
                       DOR_E_USAGE, "a key of %u bytes: %u are possible", arg->length,
                       TABLE_KEY_LENGTH_MAX);
    }
    if (begun)
        table_group_end(&group, rc == 0);
    return rc;
}

int
table_cmd_mset(struct table_call *call)
{
    if (call->arg_count % 2 == 0)
        return table_call_arity_error(call);
    int rc = set_pairs(call);
    return rc != 0 ? rc : table_call_ok(call);
}

int
table_cmd_msetnx(struct table_call *call)
{
    if (call->arg_count % 2 == 0)
        return table_call_arity_error(call);
    for (uint32_t i = 1; i < call->arg_count; i += 2) {
        struct table_key key;
        struct table_value value;
        if (table_key(call->table, call->args[i].bytes, call->args[i].length, &key) &&
            find(call, &key, &value)) {
            table_reply_integer(call->reply, 0);
            return 0;
        }
    }
    int rc = set_pairs(call);
    if (rc == 0)
        table_reply_integer(call->reply, 1);
    return rc;
}

/* ---- numbers ---- */

static int
increment(struct table_call *call, int64_t by)
{
    struct table_key key;
    struct table_value old;
    if (!table_call_key(call, 1, &key))
        return 0;
    bool found = find(call, &key, &old);
    int64_t number = 0;
    if (found && !resp_integer(old.bytes, old.length, &number)) {
        table_reply_error(call->reply, "ERR value is not an integer or out of range");
        return 0;
    }
    if (__builtin_add_overflow(number, by, &number)) {
        table_reply_error(call->reply, "ERR increment or decrement would overflow");
        return 0;
    }
    char text[24];
    int length = snprintf(text, sizeof text, "%" PRId64, number);
    int rc = table_set(call->table, &key, text, (size_t)length, found ? old.expiry_ms : 0);
    if (rc == 0)
        table_reply_integer(call->reply, number);
    return rc;
}

int
table_cmd_incr(struct table_call *call)
{
    return increment(call, 1);
}

int
table_cmd_decr(struct table_call *call)
{
    return increment(call, -1);
}

int
table_cmd_incrby(struct table_call *call)
{
    int64_t by;
    return table_call_integer(call, 2, &by) ? increment(call, by) : 0;
}

int
table_cmd_decrby(struct table_call *call)
{
    int64_t by;
    if (!table_call_integer(call, 2, &by))
        return 0;
    if (by == INT64_MIN) {
        table_reply_error(call->reply, "ERR decrement would overflow");
        return 0;
    }
    return increment(call, -by);
}

/* The number that BYTES are, as strtold() reads it and nothing behind. */
static bool
parse_float(const uint8_t *bytes, size_t length, long double *ret)
{
    char text[FLOAT_TEXT_BYTES];
    if (length == 0 || length >= sizeof text || strchr(" \t\n\v\f\r", bytes[0]) != NULL)
        return false;
    memcpy(text, bytes, length);
    text[length] = '\0';
    char *end;
    errno = 0;
    long double number = strtold(text, &end);
    if (end != text + length || isnan(number) ||
        (errno == ERANGE && (isinf(number) || number == 0)) || errno == EINVAL)
        return false;
    *ret = number;
    return true;
}

/* NUMBER as a person writes it: no exponent, no zeros at the end. Its length. */
static size_t
write_float(long double number, char text[FLOAT_TEXT_BYTES])
{
    int length = snprintf(text, FLOAT_TEXT_BYTES, "%.17Lf", number);
    if (length < 0 || length >= FLOAT_TEXT_BYTES)
        return 0;
    size_t n = (size_t)length;
    if (strchr(text, '.') != NULL) {
        while (text[n - 1] == '0')
            n--;
        if (text[n - 1] == '.')
            n--;
    }
    if (n == 2 && text[0] == '-' && text[1] == '0') {
        text[0] = '0';
        n = 1;
    }
    return n;
}

int
table_cmd_incrbyfloat(struct table_call *call)
{
    struct table_key key;
    struct table_value old;
    long double number = 0, by;
    if (!table_call_key(call, 1, &key))
        return 0;
    bool found = find(call, &key, &old);
    if ((found && !parse_float(old.bytes, old.length, &number)) ||
        !parse_float(call->args[2].bytes, call->args[2].length, &by)) {
        table_reply_error(call->reply, "ERR value is not a valid float");
        return 0;
    }
    number += by;
    if (isnan(number) || isinf(number)) {
        table_reply_error(call->reply, "ERR increment would produce NaN or Infinity");
        return 0;
    }
    char text[FLOAT_TEXT_BYTES];
    size_t length = write_float(number, text);
    int rc = table_set(call->table, &key, text, length, found ? old.expiry_ms : 0);
    if (rc == 0)
        table_reply_bulk(call->reply, text, length);
    return rc;
}
