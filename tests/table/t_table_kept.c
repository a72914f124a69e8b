/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_table_kept.c - a table comes back as it was: from its log, from a snapshot that was taken
 * while it was written to, and from both; for the second generation too. A snapshot holds its
 * moment.
 */
#include "kept_model.h"

#include "base/log.h"

enum { NOISE_KEYS = 8000, NOISE_BYTES = 1000 };

static void
reopen(const char *folder, const struct model *model, const char *name)
{
    struct kept_live live;
    is_ok(kept_live_begin(folder, false, &live), "%s: it opens", name);
    ok(model_is(model, live.table), "%s: and is as it was", name);
    kept_live_end(&live);
}

/* Take a snapshot with changes all the while; *RET_MOMENT is what it must hold. */
static void
snapshot(
    struct kept_live *live, struct model *model, struct model *ret_moment,
    struct table_kept_snapshot *ret)
{
    *ret_moment = *model;
    is_ok(kept_live_mark(live), "a snapshot begins");
    int log_fd, mark_fd;
    uint64_t number;
    is_int(
        table_kept_snapshot_begin(live->kept, &log_fd, &number, &mark_fd), DOR_E_BUSY,
        "another waits");
    unsigned changes = 0;
    while (!kept_live_is_done(live, 0) || changes < 200) {
        kept_live_change(live, model);
        changes++;
    }
    is_ok(kept_live_unmark(live, ret), "it is taken, with %u changes meanwhile", changes);
}

/* The snapshot alone, without what the log says. */
static bool
snapshot_is(struct kept_live *live, const struct model *moment)
{
    int fd = memfd_create("moment", MFD_CLOEXEC);
    bool is_new;
    int socket;
    struct table *table = NULL;
    const struct table_options options = {.limit_bytes = 64 << 20};
    if (table_kept_fill(live->kept, fd, false, &is_new, &socket) != 0 || is_new ||
        table_open(fd, &options, false, &table) != 0)
        bail("%s", dor_err_message());
    bool same = model_is(moment, table);
    table_close(table);
    return same;
}

static void
test_generations(void)
{
    char folder[64];
    kept_folder(folder);
    struct model model = {0}, moment;
    struct kept_live live;
    struct table_kept_snapshot first, second;
    is_ok(kept_live_begin(folder, false, &live), "a new table");
    for (unsigned i = 0; i < 1000; i++)
        kept_live_change(&live, &model);
    kept_live_end(&live);
    reopen(folder, &model, "from the log");

    is_ok(kept_live_begin(folder, false, &live), "it goes on");
    snapshot(&live, &model, &moment, &first);
    ok(snapshot_is(&live, &moment), "the snapshot holds its moment");
    kept_live_end(&live);
    reopen(folder, &model, "from a snapshot and a log");

    is_ok(kept_live_begin(folder, false, &live), "it goes on");
    for (unsigned i = 0; i < 20; i++)
        kept_live_change(&live, &model);
    snapshot(&live, &model, &moment, &second);
    ok(snapshot_is(&live, &moment), "the second snapshot holds its moment");
    kept_live_end(&live);
    reopen(folder, &model, "from the second snapshot");
    kept_folder_remove(folder);
}

static void
set_noise(struct kept_live *live, unsigned i, uint64_t seed)
{
    char text[24];
    uint8_t bytes[NOISE_BYTES];
    struct base_random noise;
    base_random_init(&noise, seed);
    base_random_fill(&noise, bytes, sizeof bytes);
    struct table_key key = model_key(live->table, i, text);
    if (table_log_room(live->log, sizeof bytes) != 0 ||
        table_set(live->table, &key, bytes, sizeof bytes, 0) != 0 ||
        table_log_flush_before_reply(live->log) != 0)
        bail("%s", dor_err_message());
}

static void
take(struct kept_live *live, struct table_kept_snapshot *ret)
{
    is_ok(kept_live_mark(live), "a snapshot begins");
    if (!kept_live_is_done(live, 30000))
        bail("a snapshot takes over 30 s");
    is_ok(kept_live_unmark(live, ret), "and is taken");
}

static void
test_dedup(void)
{
    char folder[64];
    kept_folder(folder);
    struct kept_live live;
    struct table_kept_snapshot first, second;
    is_ok(kept_live_begin(folder, false, &live), "a new table");
    for (unsigned i = 0; i < NOISE_KEYS; i++)
        set_noise(&live, i, i);
    take(&live, &first);
    for (unsigned i = 0; i < NOISE_KEYS / 100; i++)
        set_noise(&live, i * 7, NOISE_KEYS + i);
    take(&live, &second);
    note(
        "%u values of %u bytes of noise: the first snapshot of %" PRIu64 " bytes added %" PRIu64
        ", the second, with a hundredth of them new, %" PRIu64,
        (unsigned)NOISE_KEYS, (unsigned)NOISE_BYTES, first.table_bytes, first.added_bytes,
        second.added_bytes);
    ok(second.added_bytes < first.added_bytes / 10, "what has not changed is not stored again");
    kept_live_end(&live);
    is_ok(kept_live_begin(folder, false, &live), "it comes back");
    ok(live.replayed.bytes < 4096, "with an empty log");
    kept_live_end(&live);
    kept_folder_remove(folder);
}

static void
test_wishes(void)
{
    char folder[64];
    kept_folder(folder);
    struct model model = {0};
    struct kept_live live;
    struct table_kept_stat stat;
    is_ok(kept_live_begin(folder, false, &live), "a new table");
    ok(!table_kept_wants_snapshot(live.kept), "wants no snapshot");
    is_ok(table_kept_want_snapshot(live.kept), "which can be asked for");
    ok(table_kept_wants_snapshot(live.kept), "and then it does");
    struct kept_live other;
    is_int(kept_live_begin(folder, false, &other), DOR_E_BUSY, "nobody else opens its folder");
    dor_table_keeper_close(other.keeper);
    close(other.arena_fd);
    for (unsigned i = 0; i < 10; i++)
        kept_live_change(&live, &model);
    int log_fd, mark_fd;
    uint64_t number;
    is_ok(
        table_kept_snapshot_begin(live.kept, &log_fd, &number, &mark_fd),
        "a snapshot is asked for");
    table_kept_snapshot_refused(live.kept);
    kept_live_change(&live, &model);
    table_kept_stat(live.kept, &stat);
    ok(!stat.snapshot_runs && stat.snapshot_ns == 0, "a worker may refuse");
    kept_live_end(&live);
    reopen(folder, &model, "after that");
    kept_folder_remove(folder);
}

/* The worker dies in the midst of a snapshot; its arena is whole. */
static void
test_death(void)
{
    char folder[64];
    kept_folder(folder);
    struct model model = {0};
    struct kept_live live;
    is_ok(kept_live_begin(folder, false, &live), "a new table");
    for (unsigned i = 0; i < 500; i++)
        kept_live_change(&live, &model);
    is_ok(kept_live_mark(&live), "a snapshot begins");
    for (unsigned i = 0; i < 50; i++)
        kept_live_change(&live, &model);
    table_log_close(live.log);
    table_close(live.table);
    ok(table_kept_worker_died(live.kept), "a worker dies, and its arena is whole");
    ok(table_kept_wants_snapshot(live.kept), "it is to be kept soon");
    struct table_log_options how = {.tenant = "alice", .when = TABLE_LOG_ALWAYS};
    if (table_log_open(dup(table_kept_log_fd(live.kept)), &how, &live.log) != 0)
        bail("%s", dor_err_message());
    struct table_options table = {
        .limit_bytes = 64 << 20, .changed = table_log_change, .context = live.log};
    is_ok(table_open(dup(live.arena_fd), &table, true, &live.table), "the next one opens it");
    is_ok(table_log_replay(live.log, live.table, false, NULL), "and finds the log's end");
    ok(model_is(&model, live.table), "everything is there");
    for (unsigned i = 0; i < 50; i++)
        kept_live_change(&live, &model);
    kept_live_end(&live);
    reopen(folder, &model, "after a death");
    kept_folder_remove(folder);
}

/* Damage in the log, and what a repair makes of it. */
static void
test_repair(void)
{
    char folder[64], path[128];
    kept_folder(folder);
    struct model model = {0}, before;
    struct kept_live live;
    is_ok(kept_live_begin(folder, false, &live), "a new table");
    for (unsigned i = 0; i < 50; i++)
        kept_live_change(&live, &model);
    before = model;
    struct table_log_stat stat;
    table_log_stat(live.log, &stat);
    for (unsigned i = 0; i < 50; i++)
        kept_live_change(&live, &model);
    kept_live_end(&live);
    snprintf(path, sizeof path, "%s/tables/alice/log.1", folder);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (pwrite(fd, "damage", 6, (off_t)stat.bytes + 30) != 6)
        bail("cannot damage %s", path);
    close(fd);
    is_int(kept_live_begin(folder, false, &live), DOR_E_CORRUPT, "a damaged log is told");
    char place[64];
    snprintf(place, sizeof place, "log.1: damaged at %" PRIu64, stat.bytes);
    ok(strstr(dor_err_message(), place) != NULL, "with its place: %s", dor_err_message());
    dor_table_keeper_close(live.keeper);
    close(live.arena_fd);
    is_ok(kept_live_begin(folder, true, &live), "it can be repaired");
    uint64_t whole = live.replayed.frames;
    ok(whole > 0 && model_is(&before, live.table), "what was before the damage is there");
    kept_live_end(&live);
    snprintf(path, sizeof path, "%s/tables/alice/bad.log.1", folder);
    ok(access(path, F_OK) == 0, "the damaged log is kept aside");
    reopen(folder, &before, "after the repair");
    kept_folder_remove(folder);
}

int
main(void)
{
    base_log_level_set(LOG_LEVEL_ERROR);
    test_generations();
    test_dedup();
    test_wishes();
    test_death();
    test_repair();
    return done_testing();
}
