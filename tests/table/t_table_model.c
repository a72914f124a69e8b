/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_table_model.c - Random changes to a table beside a plain model of it: same answers, also
 * after a transaction is given up, after the table is opened again with recovery, and after a
 * flush.
 */
#include "tap.h"

#include <fcntl.h>
#include <sys/mman.h>

#include "base/random.h"
#include "table/table.h"

enum { KEYS = 3000, VALUE_BYTES_MAX = 700 };

struct model {
    bool there[KEYS];
    uint32_t length[KEYS];
    uint32_t seed[KEYS];
    int64_t expiry_ms[KEYS];
};

static struct model model, saved, before_part;
static struct base_random rng;
static int64_t now_ms = 1000000;

static void
key_text(unsigned i, char text[40])
{
    if (i % 3 == 0)
        snprintf(text, 40, "%u", i);
    else
        snprintf(text, 40, "key:%u:%.*s", i, (int)(i % 20), "abcdefghijklmnopqrstuvwxyz");
}

static void
fill_value(uint8_t *bytes, uint32_t length, uint32_t seed)
{
    for (uint32_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)((seed = seed * 1664525 + 1013904223) >> 24);
}

static struct table_key
make_key(const struct table *table, unsigned i, char text[40])
{
    struct table_key key = {0};
    key_text(i, text);
    if (!table_key(table, text, strlen(text), &key))
        bail("a short key is too long");
    return key;
}

static bool
model_has(unsigned i)
{
    return model.there[i] && (model.expiry_ms[i] == 0 || model.expiry_ms[i] > now_ms);
}

static void
change(struct table *table)
{
    unsigned i = (unsigned)base_random_below(&rng, KEYS);
    char text[40];
    struct table_key key = make_key(table, i, text);
    unsigned kind = (unsigned)base_random_below(&rng, 10);
    if (kind < 6) {
        uint8_t value[VALUE_BYTES_MAX];
        model.there[i] = true;
        model.length[i] = (uint32_t)base_random_below(&rng, VALUE_BYTES_MAX);
        model.seed[i] = (uint32_t)base_random_next(&rng);
        model.expiry_ms[i] = base_random_below(&rng, 5) == 0
                                 ? now_ms + (int64_t)base_random_below(&rng, 5000) + 1
                                 : 0;
        fill_value(value, model.length[i], model.seed[i]);
        if (table_set(table, &key, value, model.length[i], model.expiry_ms[i]) != 0)
            bail("%s", dor_err_message());
    } else if (kind < 9) {
        if (table_remove(table, &key) != model_has(i))
            bail("removing key %u is not what the model says", i);
        model.there[i] = false;
    } else {
        bool found;
        int64_t expiry_ms = now_ms + (int64_t)base_random_below(&rng, 5000) - 100;
        if (table_expire(table, &key, expiry_ms, &found) != 0)
            bail("%s", dor_err_message());
        if (found != model_has(i))
            bail("key %u is not what the model says", i);
        if (found)
            model.expiry_ms[i] = expiry_ms;
        if (found && expiry_ms <= now_ms)
            model.there[i] = false;
    }
}

static bool
same_as_model(struct table *table)
{
    for (unsigned i = 0; i < KEYS; i++) {
        char text[40];
        struct table_key key = make_key(table, i, text);
        struct table_value value;
        bool found = table_find(table, &key, false, &value);
        uint8_t want[VALUE_BYTES_MAX];
        fill_value(want, model.length[i], model.seed[i]);
        if (found != model_has(i) ||
            (found &&
             (value.length != model.length[i] || value.expiry_ms != model.expiry_ms[i] ||
              memcmp(value.bytes, want, value.length) != 0))) {
            note("key %u: found %d, model %d", i, found, model_has(i));
            return false;
        }
    }
    return true;
}

static bool
count_key(void *context, const struct table_key *key, const struct table_value *value)
{
    (void)key;
    (void)value;
    ++*(uint64_t *)context;
    return true;
}

static bool
counts_agree(struct table *table)
{
    uint64_t scanned = 0, cursor = 0, there = 0;
    do
        cursor = table_scan(table, cursor, 7, count_key, &scanned);
    while (cursor != 0);
    for (unsigned i = 0; i < KEYS; i++)
        there += model_has(i);
    struct table_stat stat;
    table_stat(table, &stat);
    if (scanned != there || stat.keys != there)
        note(
            "%" PRIu64 " scanned, %" PRIu64 " counted, %" PRIu64 " in the model", scanned,
            stat.keys, there);
    return scanned == there && stat.keys == there;
}

static struct table *
open_again(struct table *table, bool recover)
{
    int fd = fcntl(table_arena(table)->fd, F_DUPFD_CLOEXEC, 0);
    struct table_options options = {.limit_bytes = 64 << 20};
    table_close(table);
    if (table_open(fd, &options, recover, &table) != 0)
        bail("%s", dor_err_message());
    table_set_now(table, now_ms);
    return table;
}

int
main(void)
{
    base_random_init(&rng, tap_seed());
    struct table_options options = {.limit_bytes = 64 << 20};
    struct table *table;
    if (table_create(memfd_create("table", MFD_CLOEXEC), &options, &table) != 0)
        bail("%s", dor_err_message());
    table_set_now(table, now_ms);
    for (unsigned round = 0; round < 40; round++) {
        for (unsigned n = 0; n < 2000; n++)
            change(table);
        saved = model;
        bool aborts = round % 4 == 1;
        if (table_begin(table) != 0)
            bail("%s", dor_err_message());
        for (unsigned n = 0; n < 400; n++)
            change(table);
        /* A part of it is taken back; sometimes longer than a block of the journal. */
        struct table_savepoint savepoint = table_savepoint(table);
        before_part = model;
        for (unsigned n = 0; n < round * 40; n++)
            change(table);
        table_rollback(table, &savepoint);
        model = before_part;
        ok(same_as_model(table), "round %u: a part of a transaction is taken back", round);
        for (unsigned n = 0; n < 400; n++)
            change(table);
        if (round % 4 == 3) {
            /* As if the process had died here. */
            model = saved;
            table = open_again(table, true);
        } else if (aborts) {
            table_abort(table);
            model = saved;
        } else {
            table_commit(table);
        }
        now_ms += 700;
        table_set_now(table, now_ms);
        struct table_stat stat;
        ok(same_as_model(table), "round %u: values are those of the model", round);
        while (table_maintain(table, 100))
            ;
        ok(same_as_model(table), "round %u: and after upkeep", round);
        ok(counts_agree(table), "round %u: counts are those of the model", round);
        table_stat(table, &stat);
        if (round % 10 == 9) {
            note(
                "%" PRIu64 " keys, %" PRIu64 " used, arena %" PRIu64 ", %" PRIu64 " damaged",
                stat.keys, stat.used_bytes, stat.arena_bytes, stat.damaged);
            table = open_again(table, round % 20 == 9);
            table_stat(table, &stat);
            is_int(stat.damaged, 0, "round %u: nothing is damaged", round);
            ok(same_as_model(table), "round %u: and opened again", round);
        }
        if (round == 30) {
            is_ok(table_flush(table, false), "round %u: a flush", round);
            model = (struct model){0};
            ok(counts_agree(table), "a flush leaves nothing");
        }
    }
    table_close(table);
    return done_testing();
}
