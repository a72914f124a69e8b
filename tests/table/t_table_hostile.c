/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_table_hostile.c - arenas that somebody wrote into: what is left is found, and nothing that is
 * in them makes a call crash, hang or leave the arena (the sanitizers watch). fuzz_table_arena goes
 * on where the random words here end.
 */
#include "hostile.h"

#include <sys/resource.h>

enum { ROUNDS = 400 };

static struct hostile_arena at_rest, in_transaction;

/* How many of the keys are as they were. */
static unsigned
keys_left(struct table *table)
{
    unsigned left = 0;
    for (unsigned i = 0; i < HOSTILE_KEYS; i++) {
        char text[32], want[WORLD_VALUE_BYTES_MAX];
        struct table_key key = world_key(table, i, text);
        struct table_value value;
        size_t length = world_value(i, 1, want);
        left += table_find(table, &key, false, &value) && value.length == length &&
                memcmp(value.bytes, want, length) == 0;
    }
    return left;
}

/* Recover ARENA with WORD changed to VALUE; it has LEAST keys, and most that all are there. */
static void
change_one(
    const struct hostile_arena *arena, uint32_t word, uint32_t value, unsigned least,
    const char *name)
{
    struct hostile_arena changed = *arena;
    changed.bytes = malloc(arena->size_bytes);
    if (changed.bytes == NULL)
        bail("no memory");
    memcpy(changed.bytes, arena->bytes, arena->size_bytes);
    hostile_put(changed.bytes, word, value);
    struct table *table = hostile_open(&changed, true);
    free(changed.bytes);
    unsigned left = table != NULL ? keys_left(table) : 0;
    if (!ok(table != NULL && left >= least, "%s: %u of %u keys are left", name, left,
            HOSTILE_KEYS))
        note("at least %u should be", least);
    const char *trouble = table != NULL ? table_trouble(table) : NULL;
    ok(trouble == NULL || strcmp(trouble, "something is damaged") == 0, "%s: in order", name);
    table_close(table);
}

/* The first word of a bucket that another one continues. */
static uint32_t
long_chain(void)
{
    uint32_t words[1024];
    memcpy(words, at_rest.bytes, sizeof words);
    for (uint32_t index = 0; index < words[4]; index++) {
        uint32_t segment = index < 16 ? 0 : 28 - (uint32_t)__builtin_clz(index);
        uint32_t word = words[16 + segment] + index * 16;
        uint32_t next;
        memcpy(&next, at_rest.bytes + (size_t)(word + 6) * 4, 4);
        if (next != 0)
            return word;
    }
    bail("no chain is longer than a bucket");
}

static void
test_what_is_left(void)
{
    enum { ALL = HOSTILE_KEYS };
    change_one(&at_rest, 6, 77, ALL, "a wrong count of keys");
    change_one(&at_rest, 9, 0x7fffffff, ALL, "too much in use");
    change_one(&at_rest, 9, 0, ALL, "nothing in use");
    change_one(&at_rest, 3, at_rest.words / 2 - 99, ALL, "a top that is too low");
    change_one(&at_rest, 3, 512, ALL, "no top");
    change_one(&at_rest, 5, 0, ALL, "no mask");
    change_one(&at_rest, 16, 0, ALL, "no first segment");
    for (uint32_t word = 40; word < 486; word += 13)
        change_one(&at_rest, word, 0x12345, ALL, "a wrong list of free blocks");
    change_one(&at_rest, 12, 600, ALL, "a journal that is none");
    change_one(&at_rest, 13, 600, ALL, "a count without a journal");
    change_one(&at_rest, 486, 600, ALL, "an append that is none");
    change_one(&at_rest, 14, 0, ALL, "no limit");
    uint32_t chain = long_chain();
    uint32_t next, second;
    memcpy(&second, at_rest.bytes + (size_t)17 * 4, 4);
    memcpy(&next, at_rest.bytes + (size_t)(chain + 6) * 4, 4);
    change_one(&at_rest, chain + 6, 0x1fffffff, ALL - 12, "a chain that leaves the arena");
    change_one(&at_rest, chain + 6, 384, ALL - 12, "a chain that leads into the header");
    change_one(&at_rest, next * 2 + 6, next, ALL, "a chain that bites its tail");
    change_one(&at_rest, chain + 10, 0x1fffffff, ALL - 1, "a place outside");
    change_one(&at_rest, chain, 0xdeadbeef, ALL - 1, "another hash");
    change_one(&at_rest, chain + 7, 0x12345678, ALL, "other lengths");
    uint32_t place;
    memcpy(&place, at_rest.bytes + (size_t)(chain + 10) * 4, 4);
    change_one(&at_rest, chain + 11, place, ALL - 2, "two slots with one place");
    uint32_t record = (place & 0x1fffffff) * 2;
    change_one(&at_rest, record, 0x3fffffff, ALL - 1, "a record that is too long");
    change_one(&at_rest, record, 0, ALL - 2, "a record that is too short");
    change_one(&at_rest, record + 1, 0xffffffff, ALL - 1, "a record that looks free");
    hostile_put(at_rest.bytes, 17, 0);
    struct table *table = hostile_open(&at_rest, true);
    ok(table == NULL, "without a segment there is no table");
    hostile_put(at_rest.bytes, 17, second);
    table = hostile_open(&in_transaction, true);
    is_int(keys_left(table), ALL, "a transaction is undone");
    table_close(table);
    change_one(&in_transaction, 13, 0x7fffffff, 0, "a journal with too many entries");
    change_one(&in_transaction, 12, 512, 0, "a journal that is a record");
}

static void
test_random_words(struct base_random *rng)
{
    uint32_t sum = 0;
    unsigned opened = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        const struct hostile_arena *arena = round % 2 == 0 ? &at_rest : &in_transaction;
        struct hostile_arena changed = *arena;
        changed.bytes = malloc(arena->size_bytes);
        if (changed.bytes == NULL)
            bail("no memory");
        memcpy(changed.bytes, arena->bytes, arena->size_bytes);
        unsigned changes = 1 + (unsigned)base_random_below(rng, round % 5 == 0 ? 300 : 6);
        for (unsigned n = 0; n < changes; n++) {
            /* The header's and the buckets' words more often than those of values. */
            uint32_t words = base_random_below(rng, 3) == 0 ? arena->words : 1024;
            uint32_t word = (uint32_t)base_random_below(rng, words);
            uint32_t value = (uint32_t)base_random_next(rng);
            switch (base_random_below(rng, 4)) {
            case 0:
                value %= arena->words;
                break;
            case 1: /* a bit of what is there */
                memcpy(&sum, changed.bytes + (size_t)word * 4, 4);
                value = sum ^ 1u << value % 32;
                break;
            case 2:
                value = value % 2 == 0 ? 0 : UINT32_MAX;
                break;
            default:
                break;
            }
            hostile_put(changed.bytes, word, value);
        }
        struct table *table = hostile_open(&changed, round % 4 < 2);
        free(changed.bytes);
        opened += table != NULL;
        if (table != NULL)
            hostile_calls(table, &sum);
        table_close(table);
    }
    ok(opened > ROUNDS / 8, "%u of %u arenas with random words opened, no call crashed", opened,
       ROUNDS);
}

/* The journal's block as that of an append under way, with words that lead anywhere. */
static void
test_random_appends(struct base_random *rng)
{
    uint32_t sum = 0, unit;
    unsigned opened = 0;
    memcpy(&unit, in_transaction.bytes + (size_t)12 * 4, 4);
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct hostile_arena changed = in_transaction;
        changed.bytes = malloc(changed.size_bytes);
        if (changed.bytes == NULL)
            bail("no memory");
        memcpy(changed.bytes, in_transaction.bytes, changed.size_bytes);
        hostile_put(changed.bytes, 486, unit);
        hostile_put(
            changed.bytes, unit * 2 + 2,
            (uint32_t)base_random_below(rng, changed.words / 2 + round % 7));
        for (uint32_t word = 3; word < 6; word++) {
            uint32_t value = (uint32_t)base_random_next(rng);
            hostile_put(changed.bytes, unit * 2 + word, value >> base_random_below(rng, 32));
        }
        struct table *table = hostile_open(&changed, true);
        free(changed.bytes);
        opened += table != NULL;
        if (table != NULL)
            hostile_calls(table, &sum);
        table_close(table);
    }
    ok(opened > ROUNDS / 2, "%u of %u arenas with random appends opened, no call crashed",
       opened, ROUNDS);
}

int
main(void)
{
    struct base_random rng;
    base_random_init(&rng, tap_seed());
    hostile_make(&at_rest, &in_transaction);
    test_what_is_left();
    test_random_words(&rng);
    test_random_appends(&rng);
    free(at_rest.bytes);
    free(in_transaction.bytes);
    return done_testing();
}
