/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_table_log.c - logs of tables: what is replayed is what was done, for every length a log can
 * be cut to and every byte that can be wrong in it; damage of what was on disk is an error that
 * names its place.
 */
#include "tap.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/random.h"
#include "table/log.h"
#include "table/log_read.h"

enum { KEYS = 60, STATES_MAX = 400, FRAME_KEYS_MAX = 4, VALUE_MAX = 90 };

/* What the table holds after each frame: the seed of each key's value, 0 = not there. */
static uint32_t states[STATES_MAX][KEYS];
static uint64_t ends[STATES_MAX]; /* of the file, after so many frames */
static unsigned state_count;
static struct base_random rng;

static struct table *
new_table(struct table_log *log)
{
    struct table_options options = {
        .limit_bytes = 8 << 20,
        .changed = log != NULL ? table_log_change : NULL,
        .context = log};
    struct table *table = NULL;
    if (table_create(memfd_create("t", MFD_CLOEXEC), &options, &table) != 0)
        bail("%s", dor_err_message());
    table_set_now(table, 1000000);
    return table;
}

static struct table_log *
open_log(int fd, enum table_log_when when, struct table_syncer *syncer)
{
    struct table_log_options options = {.tenant = "alice", .when = when, .syncer = syncer};
    struct table_log *log = NULL;
    if (table_log_open(fd, &options, &log) != 0)
        bail("%s", dor_err_message());
    return log;
}

static int
new_file(void)
{
    char path[] = "/tmp/t_table_log.XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        bail("no file");
    unlink(path);
    return fd;
}

static struct table_key
make_key(struct table *table, unsigned i, char text[24])
{
    struct table_key key;
    snprintf(text, 24, i % 2 == 0 ? "%u" : "key:%u", i);
    if (!table_key(table, text, strlen(text), &key))
        bail("no key");
    return key;
}

static uint32_t
make_value(uint32_t seed, uint8_t bytes[VALUE_MAX])
{
    uint32_t length = seed % VALUE_MAX;
    for (uint32_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)(seed >> (i % 4 * 8));
    return length;
}

static int64_t
make_expiry(uint32_t seed)
{
    return seed % 5 == 0 ? (int64_t)5000000 + seed : 0;
}

static bool
is_state(struct table *table, const uint32_t *state)
{
    for (unsigned i = 0; i < KEYS; i++) {
        char text[24];
        uint8_t bytes[VALUE_MAX];
        struct table_key key = make_key(table, i, text);
        struct table_value value;
        bool found = table_find(table, &key, false, &value);
        if (found != (state[i] != 0))
            return false;
        if (found && (value.length != make_value(state[i], bytes) ||
                      memcmp(value.bytes, bytes, value.length) != 0 ||
                      value.expiry_ms != make_expiry(state[i])))
            return false;
    }
    return true;
}

static void
change_key(struct table *table, uint32_t *state)
{
    char text[24];
    uint8_t bytes[VALUE_MAX];
    unsigned i = (unsigned)base_random_below(&rng, KEYS);
    struct table_key key = make_key(table, i, text);
    if (base_random_below(&rng, 4) == 0) {
        (void)table_remove(table, &key);
        state[i] = 0;
        return;
    }
    uint32_t seed = (uint32_t)base_random_next(&rng) | 1;
    uint32_t length = make_value(seed, bytes);
    if (table_set(table, &key, bytes, length, make_expiry(seed)) != 0)
        bail("%s", dor_err_message());
    state[i] = seed;
}

/* One frame or none; states[] gets what is then. */
static void
change(struct table *table, struct table_log *log)
{
    uint32_t *state = states[state_count];
    struct table_log_stat before, after;
    table_log_stat(log, &before);
    memcpy(state, states[state_count - 1], sizeof states[0]);
    unsigned kind = (unsigned)base_random_below(&rng, 20);
    if (kind == 0) {
        if (table_flush(table, false) != 0)
            bail("%s", dor_err_message());
        memset(state, 0, sizeof states[0]);
    } else if (kind < 14) {
        change_key(table, state);
    } else {
        if (table_begin(table) != 0)
            bail("%s", dor_err_message());
        table_log_begin(log);
        for (unsigned n = 0; n < FRAME_KEYS_MAX; n++)
            change_key(table, state);
        if (kind == 19) {
            table_abort(table);
            table_log_drop(log);
            memcpy(state, states[state_count - 1], sizeof states[0]);
        } else {
            table_log_commit(log);
            table_commit(table);
        }
    }
    table_log_stat(log, &after);
    if (after.frames != before.frames)
        ends[state_count++] = after.bytes;
}

/* FD's first BYTES, in a new file. */
static int
copy_of(int fd, uint64_t bytes)
{
    int copy = memfd_create("copy", MFD_CLOEXEC);
    uint8_t *data = malloc(bytes + 1);
    if (data == NULL || pread(fd, data, bytes, 0) != (ssize_t)bytes ||
        write(copy, data, bytes) != (ssize_t)bytes)
        bail("cannot copy");
    free(data);
    return copy;
}

/*
 * Replay FD, taken over, into a new table: the state it has then; -1 for none, -2 for an error.
 */
static int
replay(int fd, struct table_log_replayed *ret)
{
    struct table_log *log = open_log(fd, TABLE_LOG_ALWAYS, NULL);
    struct table *table = new_table(NULL);
    struct table_log_replayed replayed = {0};
    int rc = table_log_replay(log, table, true, &replayed);
    int state = -1;
    for (unsigned i = 0; i < state_count && state < 0; i++)
        if ((rc != 0 || i == replayed.frames) && is_state(table, states[i]))
            state = (int)i;
    if (rc == DOR_E_CORRUPT || rc == DOR_E_NOT_FOUND)
        state = -2;
    *ret = replayed;
    table_close(table);
    table_log_close(log);
    return state;
}

static int
write_log(enum table_log_when when, struct table_syncer *syncer, unsigned frames)
{
    int fd = new_file();
    if (table_log_create(fd, "alice", 7, 100, false) != 0)
        bail("%s", dor_err_message());
    struct table_log *log = open_log(dup(fd), when, syncer);
    struct table *table = new_table(log);
    if (table_log_replay(log, table, true, NULL) != 0)
        bail("%s", dor_err_message());
    state_count = 1;
    memset(states[0], 0, sizeof states[0]);
    ends[0] = TABLE_LOG_HEADER_BYTES;
    while (state_count < frames) {
        if (table_log_room(log, 1024) != 0)
            bail("%s", dor_err_message());
        change(table, log);
        if (base_random_below(&rng, 3) == 0 && table_log_flush_before_reply(log) != 0)
            bail("%s", dor_err_message());
    }
    table_log_close(log);
    table_close(table);
    return fd;
}

static void
test_every_length(struct table_syncer *syncer)
{
    int fd = write_log(TABLE_LOG_EVERYSEC, syncer, 60);
    struct table_log_replayed replayed;
    uint64_t size = ends[state_count - 1];
    struct stat stat;
    is_int(fstat(fd, &stat), 0, "the log can be looked at");
    is_int(stat.st_size, (intmax_t)size, "a closed log ends with its last frame");
    unsigned wrong = 0;
    for (uint64_t bytes = 0; bytes <= size; bytes++) {
        unsigned want = 0;
        while (want + 1 < state_count && ends[want + 1] <= bytes)
            want++;
        int got = replay(copy_of(fd, bytes), &replayed);
        bool right = bytes < TABLE_LOG_HEADER_BYTES
                         ? got == -2
                         : got == (int)want && replayed.cut_bytes == bytes - ends[want];
        wrong += !right;
    }
    is_int(
        wrong, 0, "cut at each of %" PRIu64 " bytes, it ends with its last whole frame", size);
    close(fd);
}

static void
test_every_byte(struct table_syncer *syncer)
{
    /*
     * Nothing of it is known to be on disk: wrong bytes end it, and nothing behind them counts.
     */
    int fd = write_log(TABLE_LOG_EVERYSEC, syncer, 40);
    struct table_log_replayed replayed;
    uint64_t size = ends[state_count - 1];
    unsigned wrong = 0;
    for (uint64_t at = TABLE_LOG_HEADER_BYTES; at < size; at++) {
        int copy = copy_of(fd, size);
        uint8_t byte;
        if (pread(copy, &byte, 1, (off_t)at) != 1)
            bail("no byte");
        byte ^= (uint8_t)(1 + at % 255);
        if (pwrite(copy, &byte, 1, (off_t)at) != 1)
            bail("no byte");
        unsigned want = 0;
        while (want + 1 < state_count && ends[want + 1] <= at)
            want++;
        wrong += replay(copy, &replayed) != (int)want;
    }
    is_int(wrong, 0, "a wrong byte in what was not on disk ends the log before its frame");
    close(fd);

    /* With each change on disk before the next, all but the last frame has a witness. */
    fd = write_log(TABLE_LOG_ALWAYS, NULL, 40);
    size = ends[state_count - 1];
    unsigned told = 0;
    for (uint64_t at = 0; at < size; at++) {
        int copy = copy_of(fd, size);
        uint8_t byte;
        if (pread(copy, &byte, 1, (off_t)at) != 1)
            bail("no byte");
        byte ^= 0x20;
        if (pwrite(copy, &byte, 1, (off_t)at) != 1)
            bail("no byte");
        int got = replay(copy, &replayed);
        unsigned want = 0;
        while (want + 1 < state_count && ends[want + 1] <= at)
            want++;
        if (got == -2)
            told++;
        else if (got != (int)want)
            wrong++;
    }
    is_int(wrong, 0, "a wrong byte in what was on disk never gives another table");
    ok(told > size / 2, "%u of %" PRIu64 " wrong bytes are told", told, size);
    close(fd);
}

static void
test_damage_names_place(void)
{
    int fd = new_file();
    if (table_log_create(fd, "alice", 1, 1, false) != 0)
        bail("%s", dor_err_message());
    struct table_log *log = open_log(dup(fd), TABLE_LOG_ALWAYS, NULL);
    struct table *table = new_table(log);
    is_ok(table_log_replay(log, table, true, NULL), "an empty log is replayed");
    uint64_t third = 0;
    for (unsigned i = 0; i < 6; i++) {
        struct table_log_stat stat;
        table_log_stat(log, &stat);
        third = i == 2 ? stat.bytes : third;
        struct table_key key;
        if (!table_key(table, "k", 1, &key) || table_set(table, &key, "value", 5, 0) != 0)
            bail("cannot set");
        is_ok(table_log_flush_before_reply(log), "change %u is on disk", i);
    }
    table_log_close(log);
    table_close(table);
    uint8_t zero[8] = {0};
    if (pwrite(fd, zero, sizeof zero, (off_t)third + 12) != sizeof zero)
        bail("no bytes");
    log = open_log(fd, TABLE_LOG_ALWAYS, NULL);
    table = new_table(NULL);
    char want[64];
    snprintf(want, sizeof want, "damaged at %" PRIu64, third);
    is_int(
        table_log_replay(log, table, true, NULL), DOR_E_CORRUPT, "damage in the midst is told");
    ok(strstr(dor_err_message(), want) != NULL, "with its place: %s", dor_err_message());
    struct table_stat stat;
    table_stat(table, &stat);
    is_int((intmax_t)stat.keys, 1, "what is before it is there");
    table_log_close(log);
    table_close(table);
}

static void
test_others(void)
{
    int fd = new_file();
    struct table_log_replayed replayed;
    is_ok(table_log_create(fd, "bob", 1, 1, false), "bob has a log");
    is_int(replay(copy_of(fd, 64), &replayed), -2, "it is not alice's");
    ok(strstr(dor_err_message(), "another tenant") != NULL, "which is said");
    close(fd);
    fd = new_file();
    if (pwrite(
            fd, "no log, but longer than a header is: this and that and so on, 1234567890", 70,
            0) != 70)
        bail("no bytes");
    is_int(replay(fd, &replayed), -2, "what is no log is none");
}

/* What is appended is logged alone: the log grows by the bytes, not by the value. */
static void
test_appends(void)
{
    enum { APPENDS = 1000, PIECE = 100 };
    int fd = new_file();
    if (table_log_create(fd, "alice", 1, 1, false) != 0)
        bail("%s", dor_err_message());
    struct table_log *log = open_log(dup(fd), TABLE_LOG_ALWAYS, NULL);
    struct table *table = new_table(log);
    struct table_key key;
    if (table_log_replay(log, table, true, NULL) != 0 || !table_key(table, "k", 1, &key))
        bail("%s", dor_err_message());
    char piece[PIECE];
    uint64_t length;
    for (int i = 0; i < APPENDS; i++) {
        memset(piece, 'a' + i % 26, PIECE);
        if (table_append(table, &key, piece, PIECE, &length) != 0)
            bail("%s", dor_err_message());
    }
    bool found;
    is_ok(table_expire(table, &key, 5000000, &found), "a value of many appends expires");
    is_ok(table_append(table, &key, "end", 3, &length), "and gets an end");
    is_ok(table_log_flush_before_reply(log), "it is kept");
    struct table_log_stat stat;
    table_log_stat(log, &stat);
    ok(stat.bytes < UINT64_C(2) * APPENDS * PIECE, "in %" PRIu64 " bytes", stat.bytes);
    table_log_close(log);

    log = open_log(dup(fd), TABLE_LOG_ALWAYS, NULL);
    struct table *again = new_table(NULL);
    struct table_value was, is;
    if (table_log_replay(log, again, true, NULL) != 0 ||
        !table_find(table, &key, false, &was) || !table_key(again, "k", 1, &key) ||
        !table_find(again, &key, false, &is))
        bail("%s", dor_err_message());
    ok(is.length == APPENDS * PIECE + 3 && is.length == was.length &&
           memcmp(is.bytes, was.bytes, is.length) == 0 && is.expiry_ms == 5000000,
       "and comes back");
    table_log_close(log);
    table_close(again);
    table_close(table);
    close(fd);
}

static bool
count_library(void *context, const struct table_key *key, const struct table_value *value)
{
    (void)key;
    (void)value;
    ++*(unsigned *)context;
    return true;
}

static unsigned
replayed_libraries(int fd, uint64_t *ret_keys)
{
    struct table_log *log = open_log(dup(fd), TABLE_LOG_ALWAYS, NULL);
    struct table *table = new_table(NULL);
    unsigned libraries = 0;
    if (table_log_replay(log, table, true, NULL) != 0)
        bail("%s", dor_err_message());
    if (table_each_library(table, count_library, &libraries) != 0)
        bail("%s", dor_err_message());
    struct table_stat stat;
    table_stat(table, &stat);
    *ret_keys = stat.keys;
    table_log_close(log);
    table_close(table);
    return libraries;
}

static void
test_libraries(void)
{
    int fd = new_file();
    uint64_t keys;
    if (table_log_create(fd, "alice", 1, 1, false) != 0)
        bail("%s", dor_err_message());
    struct table_log *log = open_log(dup(fd), TABLE_LOG_ALWAYS, NULL);
    struct table *table = new_table(log);
    struct table_key key, library;
    if (table_log_replay(log, table, true, NULL) != 0 || !table_key(table, "k", 1, &key) ||
        !table_library_key(table, "lib", 3, &library) ||
        table_set(table, &library, "#!js name=lib", 13, 0) != 0 ||
        table_set(table, &key, "v", 1, 0) != 0)
        bail("%s", dor_err_message());
    is_ok(table_log_flush_before_reply(log), "a key and a library are kept");
    is_int(replayed_libraries(fd, &keys), 1, "the library comes back");
    is_int((intmax_t)keys, 1, "beside the key");
    is_ok(table_flush(table, false), "all keys are flushed");
    is_ok(table_log_flush_before_reply(log), "which is kept");
    is_int(replayed_libraries(fd, &keys), 1, "the library stays");
    is_int((intmax_t)keys, 0, "the key does not");
    is_ok(table_flush(table, true), "all is flushed");
    is_ok(table_log_flush_before_reply(log), "which is kept");
    is_int(replayed_libraries(fd, &keys), 0, "the library too");
    table_log_close(log);
    table_close(table);
    close(fd);
}

static void
test_rotation(void)
{
    int first = new_file(), second = new_file();
    if (table_log_create(first, "alice", 1, 1, false) != 0)
        bail("%s", dor_err_message());
    struct table_log *log = open_log(dup(first), TABLE_LOG_ALWAYS, NULL);
    struct table *table = new_table(log);
    struct table_key key;
    if (table_log_replay(log, table, true, NULL) != 0 || !table_key(table, "k", 1, &key) ||
        table_set(table, &key, "1", 1, 0) != 0)
        bail("%s", dor_err_message());
    is_ok(table_log_rotate(log, dup(second), 2), "a log gives way to the next");
    if (table_set(table, &key, "2", 1, 0) != 0 || table_log_flush_before_reply(log) != 0)
        bail("%s", dor_err_message());
    struct table_log_reader reader;
    struct table_log_frame frame;
    is_ok(table_log_reader_open(first, "first", "alice", &reader), "the first is a log");
    is_ok(table_log_reader_next(&reader, &frame), "with the change before");
    is_int(table_log_reader_next(&reader, &frame), DOR_E_NOT_FOUND, "and no other");
    table_log_reader_close(&reader);
    is_ok(table_log_reader_open(second, "second", "alice", &reader), "the second is a log");
    is_int((intmax_t)reader.header.first_sequence, 2, "that goes on");
    is_int(reader.header.flags, 0, "from the first");
    is_ok(table_log_reader_next(&reader, &frame), "with the change behind");
    is_int((intmax_t)frame.sequence, 2, "and its number");
    table_log_reader_close(&reader);
    table_log_close(log);
    table_close(table);
    close(first);
    close(second);
}

static void
test_everysec(struct table_syncer *syncer)
{
    int fd = new_file();
    if (table_log_create(fd, "alice", 1, 1, false) != 0)
        bail("%s", dor_err_message());
    struct table_log *log = open_log(fd, TABLE_LOG_EVERYSEC, syncer);
    struct table *table = new_table(log);
    struct table_key key;
    if (table_log_replay(log, table, true, NULL) != 0 || !table_key(table, "k", 1, &key) ||
        table_set(table, &key, "1", 1, 0) != 0)
        bail("%s", dor_err_message());
    is_ok(table_log_flush_before_reply(log), "a reply does not wait for the disk");
    unsigned tries = 0;
    while (!table_log_is_on_disk(log, table_log_sequence(log)) && tries++ < 30000)
        usleep(1000);
    ok(table_log_is_on_disk(log, table_log_sequence(log)), "it is there after %u ms", tries);
    table_log_close(log);
    table_close(table);
}

static void
test_syncer(struct table_syncer *syncer)
{
    int fd = new_file();
    if (table_log_create(fd, "alice", 1, 1, false) != 0)
        bail("%s", dor_err_message());
    struct table_log *log = open_log(fd, TABLE_LOG_ALWAYS, syncer);
    struct table *table = new_table(log);
    struct table_key key;
    if (table_log_replay(log, table, true, NULL) != 0 || !table_key(table, "k", 1, &key) ||
        table_set(table, &key, "1", 1, 0) != 0)
        bail("%s", dor_err_message());
    int rc = table_log_flush_before_reply(log);
    for (unsigned i = 0; rc == DOR_E_BUSY && i < 10000; i++) {
        usleep(1000);
        table_syncer_clear(syncer);
        rc = table_log_flush_before_reply(log);
    }
    is_ok(rc, "the thread brings a change to disk");
    ok(table_log_is_on_disk(log, table_log_sequence(log)), "which can be asked");
    table_log_close(log);
    table_close(table);
}

int
main(void)
{
    uint64_t seed = getenv("DOR_SEED") != NULL ? strtoull(getenv("DOR_SEED"), NULL, 0)
                                               : (uint64_t)time(NULL);
    note("seed=%" PRIu64, seed);
    base_random_init(&rng, seed);
    base_log_level_set(LOG_LEVEL_ERROR);
    struct table_syncer *syncer = NULL;
    is_ok(table_syncer_new(&syncer), "a thread that syncs");
    test_every_length(syncer);
    test_every_byte(syncer);
    test_damage_names_place();
    test_others();
    test_appends();
    test_libraries();
    test_rotation();
    test_syncer(syncer);
    test_everysec(syncer);
    table_syncer_free(syncer);
    return done_testing();
}
