/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kept_model.h - a table that is kept, with all its parts in one process, and a plain model of
 * what it must hold: change number N is the same in every run.
 *
 * Ownership:  kept_live_end() frees what kept_live_begin() made.
 * Threads:    one.
 * Errors:     what must not fail ends the test.
 */
#ifndef TESTS_TABLE_KEPT_MODEL_H
#define TESTS_TABLE_KEPT_MODEL_H

#include "tap.h"

#include <dormouse/table.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>

#include "base/random.h"
#include "table/fill.h"
#include "table/kept.h"
#include "table/mark.h"

enum { MODEL_KEYS = 200, MODEL_VALUE_MAX = 3000 };

struct model {
    uint64_t changes;          /* made so far */
    uint64_t keys[MODEL_KEYS]; /* the change that set each; 0 = not there */
};

static inline uint64_t
model_random(uint64_t number)
{
    uint64_t state = number * 0x9e3779b97f4a7c15u + 1;
    return base_random_splitmix(&state);
}

/* A key, and whether change NUMBER sets it or removes it; each fifth flushes now and then. */
static inline void
model_apply(struct model *model)
{
    uint64_t number = ++model->changes;
    uint64_t random = model_random(number);
    if (random % 251 == 0)
        memset(model->keys, 0, sizeof model->keys);
    else
        model->keys[random / 1024 % MODEL_KEYS] = random % 5 == 0 ? 0 : number;
}

static inline uint32_t
model_value(uint64_t number, uint8_t bytes[MODEL_VALUE_MAX])
{
    uint64_t random = model_random(~number);
    uint32_t length =
        (uint32_t)(random % 7 == 0 ? random / 8 % MODEL_VALUE_MAX : random / 8 % 100);
    for (uint32_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)(number + i * i);
    return length;
}

static inline struct table_key
model_key(struct table *table, unsigned i, char text[24])
{
    struct table_key key = {0};
    snprintf(text, 24, i % 2 == 0 ? "%u" : "key:%u", i);
    if (!table_key(table, text, strlen(text), &key))
        bail("a short key is too long");
    return key;
}

static inline bool
model_is(const struct model *model, struct table *table)
{
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        char text[24];
        uint8_t bytes[MODEL_VALUE_MAX];
        struct table_key key = model_key(table, i, text);
        struct table_value value;
        bool found = table_find(table, &key, false, &value);
        if (found != (model->keys[i] != 0))
            return false;
        if (found && (value.length != model_value(model->keys[i], bytes) ||
                      memcmp(value.bytes, bytes, value.length) != 0))
            return false;
    }
    struct table_stat stat;
    uint64_t keys = 0;
    table_stat(table, &stat);
    for (unsigned i = 0; i < MODEL_KEYS; i++)
        keys += model->keys[i] != 0;
    return stat.keys == keys;
}

/* ------------------------------------------------------------------ all parts */

struct kept_live {
    struct dor_table_keeper *keeper;
    struct table_kept *kept;
    struct table_log *log;
    struct table *table;
    int arena_fd;
    int device, socket; /* of pages that come when they are needed; -1 = all are there */
    uint64_t limit_bytes;
    struct table_log_replayed replayed;
};

static inline int
kept_live_mapped(void *context, void *base, uint64_t file_bytes)
{
    struct kept_live *live = context;
    return table_fill_register(live->device, live->socket, base, file_bytes);
}

static inline int
kept_live_begin_with(
    const char *folder, bool repair, bool lazily, uint64_t limit_bytes, struct kept_live *live)
{
    char tables[200];
    snprintf(tables, sizeof tables, "%s/tables", folder);
    *live = (struct kept_live){
        .arena_fd = memfd_create("arena", MFD_CLOEXEC),
        .device = -1,
        .socket = -1,
        .limit_bytes = limit_bytes,
    };
    bool is_new = false;
    int rc = dor_table_keeper_open(folder, &live->keeper);
    struct table_kept_options options = {
        .directory = tables,
        .tenant = "alice",
        .domain = "zoo",
        .keeper = live->keeper,
        .repair = repair,
    };
    if (rc == 0)
        rc = table_kept_open(&options, &live->kept);
    if (rc == 0)
        rc = table_kept_fill(live->kept, live->arena_fd, lazily, &is_new, &live->socket);
    if (rc == 0 && live->socket >= 0)
        rc = table_fill_open_device(&live->device);
    if (rc != 0)
        return rc;
    struct table_log_options how = {.tenant = "alice", .when = TABLE_LOG_ALWAYS};
    rc = table_log_open(dup(table_kept_log_fd(live->kept)), &how, &live->log);
    if (rc != 0)
        return rc;
    struct table_options table = {
        .limit_bytes = limit_bytes,
        .changed = table_log_change,
        .context = live->log,
        .mapped = live->socket >= 0 ? kept_live_mapped : NULL,
        .mapped_context = live,
    };
    rc = is_new ? table_create(dup(live->arena_fd), &table, &live->table)
                : table_open(dup(live->arena_fd), &table, false, &live->table);
    if (rc == 0)
        rc = table_log_replay(live->log, live->table, true, &live->replayed);
    if (rc == 0)
        table_kept_worker_ready(live->kept);
    return rc;
}

static inline int
kept_live_begin(const char *folder, bool repair, struct kept_live *live)
{
    return kept_live_begin_with(folder, repair, false, 64 << 20, live);
}

static inline void
kept_live_end(struct kept_live *live)
{
    table_log_close(live->log);
    table_close(live->table);
    table_kept_close(live->kept);
    dor_table_keeper_close(live->keeper);
    close(live->arena_fd);
    if (live->socket >= 0) {
        close(live->socket);
        close(live->device);
    }
}

/* The next change of MODEL, which is told as done when it is on disk. */
static inline void
kept_live_change(struct kept_live *live, struct model *model)
{
    char text[24];
    uint8_t bytes[MODEL_VALUE_MAX];
    model_apply(model);
    uint64_t number = model->changes;
    uint64_t random = model_random(number);
    if (table_log_room(live->log, MODEL_VALUE_MAX) != 0)
        bail("%s", dor_err_message());
    struct table_key key = model_key(live->table, (unsigned)(random / 1024 % MODEL_KEYS), text);
    int rc = 0;
    if (random % 251 == 0)
        rc = table_flush(live->table, false);
    else if (random % 5 == 0)
        (void)table_remove(live->table, &key);
    else
        rc = table_set(live->table, &key, bytes, model_value(number, bytes), 0);
    if (rc == 0)
        rc = table_log_flush_before_reply(live->log);
    if (rc != 0)
        bail("change %" PRIu64 ": %s", number, dor_err_message());
}

/* What a worker does when it is asked for a snapshot. */
static inline int
kept_live_mark(struct kept_live *live)
{
    int log_fd, mark_fd;
    uint64_t number;
    int rc = table_kept_snapshot_begin(live->kept, &log_fd, &number, &mark_fd);
    if (rc == 0)
        rc = table_log_rotate(live->log, dup(log_fd), number);
    if (rc == 0)
        rc = table_mark_begin(table_arena(live->table), dup(mark_fd));
    return rc == 0 ? table_kept_snapshot_marked(live->kept, live->arena_fd) : rc;
}

static inline bool
kept_live_is_done(struct kept_live *live, int timeout_ms)
{
    struct pollfd event = {.fd = table_kept_event_fd(live->kept), .events = POLLIN};
    return poll(&event, 1, timeout_ms) == 1;
}

static inline int
kept_live_unmark(struct kept_live *live, struct table_kept_snapshot *ret)
{
    int rc = table_kept_snapshot_end(live->kept, ret);
    table_mark_end(table_arena(live->table));
    if (rc == 0)
        table_log_snapshot_done(live->log);
    return rc;
}

/* A folder that is quick to write to, if there is one. */
static inline void
kept_folder(char ret[64])
{
    snprintf(
        ret, 64, "%s/t_table_kept.XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (mkdtemp(ret) == NULL)
        bail("no folder");
}

static inline void
kept_folder_remove(const char *folder)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (system(command) != 0)
        note("%s stays", folder);
}

#endif
