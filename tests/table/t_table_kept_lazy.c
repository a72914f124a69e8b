/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_table_kept_lazy.c - a table answers before its memory is there, and never wrongly: reads and
 * writes meet every page while it comes, and at the end all of it is as it was.
 */
#include "kept_model.h"

#include "base/clock.h"
#include "base/log.h"

enum { KEYS = 60000, VALUE_BYTES = 1000 };

#define LIMIT_BYTES (UINT64_C(256) << 20)

static uint64_t seeds[KEYS];

static void
noise(uint64_t seed, uint8_t bytes[VALUE_BYTES])
{
    struct base_random random;
    base_random_init(&random, seed);
    base_random_fill(&random, bytes, VALUE_BYTES);
}

static void
set(struct kept_live *live, unsigned i, uint64_t seed)
{
    char text[24];
    uint8_t bytes[VALUE_BYTES];
    noise(seed, bytes);
    struct table_key key = model_key(live->table, i, text);
    if (table_log_room(live->log, sizeof bytes) != 0 ||
        table_set(live->table, &key, bytes, sizeof bytes, 0) != 0)
        bail("%s", dor_err_message());
    seeds[i] = seed;
}

static bool
get(struct kept_live *live, unsigned i)
{
    char text[24];
    uint8_t bytes[VALUE_BYTES];
    struct table_value value;
    struct table_key key = model_key(live->table, i, text);
    noise(seeds[i], bytes);
    return table_find(live->table, &key, false, &value) && value.length == VALUE_BYTES &&
           memcmp(value.bytes, bytes, VALUE_BYTES) == 0;
}

static bool
is_whole(struct kept_live *live)
{
    for (unsigned i = 0; i < KEYS; i++)
        if (!get(live, i))
            return false;
    return true;
}

/* The file has the same bytes as the mapping in which pages came when they were needed. */
static bool
file_is_arena(struct kept_live *live)
{
    struct table_arena *arena = table_arena(live->table);
    void *other = mmap(NULL, arena->file_bytes, PROT_READ, MAP_SHARED, live->arena_fd, 0);
    if (other == MAP_FAILED)
        bail("no second mapping");
    table_arena_complete(arena);
    bool same = memcmp(other, arena->base, arena->file_bytes) == 0;
    munmap(other, arena->file_bytes);
    return same;
}

static bool
hangs_up(const struct kept_live *live, int timeout_ms)
{
    struct pollfd end = {.fd = live->socket, .events = POLLIN};
    char byte;
    return poll(&end, 1, timeout_ms) == 1 && read(live->socket, &byte, 1) == 0;
}

static void
begin(const char *folder, bool lazily, struct kept_live *live, uint64_t *ret_ns)
{
    uint64_t from_ns = base_clock_monotonic_ns();
    if (kept_live_begin_with(folder, false, lazily, LIMIT_BYTES, live) != 0)
        bail("%s", dor_err_message());
    ok(get(live, 4711), "the first answer is right");
    *ret_ns = base_clock_monotonic_ns() - from_ns;
}

static void
make(const char *folder)
{
    struct kept_live live;
    if (kept_live_begin_with(folder, false, false, LIMIT_BYTES, &live) != 0)
        bail("%s", dor_err_message());
    for (unsigned i = 0; i < KEYS; i++)
        set(&live, i, i);
    is_ok(kept_live_mark(&live), "a snapshot begins");
    for (unsigned i = 0; i < KEYS; i += 100)
        set(&live, i, KEYS + i);
    ok(kept_live_is_done(&live, 60000), "is put");
    is_ok(kept_live_unmark(&live, NULL), "and is done");
    kept_live_end(&live);
}

int
main(void)
{
    base_log_level_set(LOG_LEVEL_ERROR);
    int device;
    if (table_fill_open_device(&device) != 0)
        skip_all("pages cannot be given on demand here");
    close(device);
    char folder[64];
    kept_folder(folder);
    make(folder);
    struct kept_live live;
    uint64_t full_ns, lazy_ns;
    begin(folder, false, &live, &full_ns);
    kept_live_end(&live);

    begin(folder, true, &live, &lazy_ns);
    ok(live.socket >= 0, "pages come when they are needed");
    note(
        "first answer after %.1f ms, with all memory after %.1f ms", (double)lazy_ns / 1e6,
        (double)full_ns / 1e6);
    int log_fd, mark_fd;
    uint64_t number;
    is_int(
        table_kept_snapshot_begin(live.kept, &log_fd, &number, &mark_fd), DOR_E_BUSY,
        "a snapshot waits until they are there");
    unsigned wrong = 0;
    for (unsigned i = 0; i < KEYS; i++) {
        unsigned at = (unsigned)(model_random(i) % KEYS);
        if (i % 3 == 0)
            set(&live, at, 2 * KEYS + i);
        wrong += !get(&live, at);
    }
    is_int(wrong, 0, "reads and writes meet no wrong page");
    is_ok(table_log_flush_before_reply(live.log), "they are logged");
    ok(file_is_arena(&live), "another mapping has the same bytes");
    ok(hangs_up(&live, 60000), "the page server is done");
    table_kept_worker_filled(live.kept);
    ok(is_whole(&live), "all is as it was");
    is_ok(kept_live_mark(&live), "now a snapshot begins");
    ok(kept_live_is_done(&live, 60000), "is put");
    is_ok(kept_live_unmark(&live, NULL), "and is done");
    kept_live_end(&live);

    begin(folder, true, &live, &lazy_ns);
    ok(is_whole(&live), "and again");
    ok(hangs_up(&live, 60000), "the page server is done");
    table_kept_worker_filled(live.kept);
    kept_live_end(&live);
    kept_folder_remove(folder);
    return done_testing();
}
