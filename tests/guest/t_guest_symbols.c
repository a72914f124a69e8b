/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_guest_symbols.c - the three meanings that offsets of symbols have had, long names, and tables
 * that are damaged.
 */
#include "base/random.h"
#include "guest/symbols.h"
#include "guest/synth.h"

static struct synth synth;

/* Whether init_task and one that does not exist are found as they should be. */
static bool
finds(void)
{
    struct guest_kernel kernel;
    struct guest_memory memory;
    struct guest_wanted wanted[] = {{.name = "init_task"}, {.name = "init_tasks"}};
    const struct guest_note_place place = {.row = SYNTH_NOTE};
    struct guest_note note;
    if (guest_memory_init(&memory, synth.info.ranges, synth.info.range_count) != 0 ||
        !guest_note_read(&synth.info, &place, &note) ||
        !guest_kernel_open(&memory, &note, &kernel))
        bail("the guest makes no sense");
    bool read = guest_symbols_find(&kernel, wanted, ARRAY_LEN(wanted));
    guest_memory_fini(&memory);
    return read && wanted[0].found && wanted[0].address == synth.init_task && !wanted[1].found;
}

static uint8_t *
table(void)
{
    return synth_page(&synth, SYNTH_SYMBOLS_PAGE);
}

static void
test_meanings(void)
{
    ok(finds(), "relative to a base");
    for (size_t i = 0; i < synth.symbol_count; i++) {
        uint64_t distance = synth.symbols[i].address - SYNTH_IMAGE;
        base_le32_put(table() + 64 + i * 4, (uint32_t)(-1 - (int64_t)distance));
    }
    ok(finds(), "negative, beside absolute ones");
    synth_make_symbols(&synth);
    synth_change_note(&synth, "SYMBOL(kallsyms_relative_base)", NULL);
    ok(finds(), "relative to the kernel's text");
    base_le32_put(table() + 64, 4096);
    ok(!finds(), "not where _stext would be elsewhere");
    base_le32_put(table() + 64, 0);
}

/* A name of 200 letters has a length of two bytes. */
static void
test_long_name(void)
{
    uint8_t *names = table() + 512;
    size_t bytes = 1024;
    memmove(names + 202, names, bytes);
    names[0] = 0x80 | (200 & 0x7f);
    names[1] = 200 >> 7;
    memset(names + 2, 'x', 200);
    memmove(table() + 68, table() + 64, synth.symbol_count * 4);
    base_le32_put(table(), (uint32_t)synth.symbol_count + 1);
    ok(finds(), "after a long name");
    synth_make_symbols(&synth);
}

static void
test_damage(void)
{
    struct base_random random;
    uint8_t whole[4096];
    base_random_init(&random, tap_seed());
    base_le32_put(table(), UINT32_MAX);
    ok(!finds(), "four billion symbols");
    base_le32_put(table(), 1 << 20);
    ok(!finds(), "more symbols than memory");
    base_le32_put(table(), 0);
    ok(!finds(), "no symbols");
    synth_make_symbols(&synth);
    memcpy(whole, table(), sizeof whole);
    for (unsigned run = 0; run < 2000; run++) {
        for (unsigned i = 0; i < 4; i++)
            table()[base_random_below(&random, sizeof whole)] =
                (uint8_t)base_random_next(&random);
        (void)!finds();
        memcpy(table(), whole, sizeof whole);
    }
    ok(finds(), "2000 tables with random bytes come back");
}

int
main(void)
{
    synth_init(&synth, &(struct synth_kind){0});
    test_meanings();
    test_long_name();
    test_damage();
    synth_fini(&synth);
    return done_testing();
}
