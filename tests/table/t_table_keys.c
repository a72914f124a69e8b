/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_table_keys.c - keys and values one call at a time: numbers and strings, empty and longest, time
 * of expiry, drafts, pins, libraries, scans while the table grows, limits and what goes then.
 */
#include "tables.h"

#include <sys/sysinfo.h>

static void
test_numbers(void)
{
    struct table *table = new_table(1 << 20, TABLE_NO_EVICTION);
    static const char *const texts[] = {"42",         "042",        "0", "-1",  "",  " 1",
                                        "4294967295", "4294967296", "+", "1e3", "00"};
    static const bool numbers[ARRAY_LEN(texts)] = {true, false, true,  false, false, false,
                                                   true, false, false, false, false};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct table_key key = key_of(table, texts[i]);
        is_int(key.is_number, numbers[i], "\"%s\" is a number: %d", texts[i], numbers[i]);
        set(table, texts[i], texts[i]);
    }
    bool all = true;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        all &= has(table, texts[i], texts[i]);
    ok(all, "each has its own value");
    is_int(stat_of(table).keys, ARRAY_LEN(texts), "and counts as a key");
    ok(remove_key(table, "42"), "a number is removed");
    ok(!remove_key(table, "42"), "and is not there to be removed again");
    ok(has(table, "42", NULL) && has(table, "042", "042"), "its string twin stays");
    table_close(table);
}

static void
test_lengths(void)
{
    struct table *table = new_table(4 << 20, TABLE_NO_EVICTION);
    static uint8_t bytes[TABLE_KEY_LENGTH_MAX + 1];
    struct table_key key;
    ok(!table_key(table, bytes, sizeof bytes, &key), "a key of 65281 bytes is too long");
    ok(!table_library_key(table, bytes, sizeof bytes, &key), "for a library too");
    struct table_value value;
    for (size_t length = 0; length <= TABLE_KEY_LENGTH_MAX;
         length += length < 20 ? 1 : 5 * 1009) {
        for (size_t i = 0; i < length; i++)
            bytes[i] = (uint8_t)(length + i); /* zeros and all else */
        if (!table_key(table, bytes, length, &key) ||
            table_set(table, &key, bytes, length / 2, 0) != 0)
            bail("%s", dor_err_message());
        bool same = table_find(table, &key, false, &value) && value.length == length / 2 &&
                    memcmp(value.bytes, bytes, value.length) == 0 &&
                    (uintptr_t)value.bytes % 8 == 0;
        if (!same || length > 60000)
            ok(same, "a key of %zu bytes has its value", length);
    }
    memset(bytes, 'x', sizeof bytes);
    if (!table_key(table, bytes, TABLE_KEY_LENGTH_MAX, &key))
        bail("the longest key is too long");
    is_ok(table_set(table, &key, "", 0, 0), "the longest key with an empty value");
    ok(has_value(table, &key, ""), "is found");
    table = open_again(table, true);
    ok(has_value(table, &key, "") && stat_of(table).damaged == 0, "also after recovery");
    table_close(table);
}

static void
test_largest_value(void)
{
    struct sysinfo info;
    if (sysinfo(&info) != 0 ||
        (uint64_t)(info.freeram + info.bufferram) * info.mem_unit < UINT64_C(3) << 30) {
        skip("less than 3 GiB of memory are free", "a value of 512 MiB");
        return;
    }
    struct table *table = new_table(UINT64_C(1) << 30, TABLE_NO_EVICTION);
    struct table_key key = key_of(table, "large");
    struct table_draft draft;
    is_int(
        table_draft(table, &key, TABLE_VALUE_BYTES_MAX + 1, 0, &draft), DOR_E_USAGE,
        "a byte more than 512 MiB is too much");
    is_ok(table_draft(table, &key, TABLE_VALUE_BYTES_MAX, 1 + NOW_MS, &draft), "512 MiB");
    draft.bytes[0] = 'a';
    draft.bytes[TABLE_VALUE_BYTES_MAX - 1] = 'z';
    is_ok(table_commit_draft(table, &key, &draft), "are a value");
    struct table_value value;
    ok(table_find(table, &key, false, &value) && value.length == TABLE_VALUE_BYTES_MAX &&
           value.bytes[0] == 'a' && value.bytes[value.length - 1] == 'z',
       "which is found");
    set(table, "other", "one");
    is_int(
        table_draft(table, &key, TABLE_VALUE_BYTES_MAX, 0, &draft), DOR_E_NO_SPACE,
        "a second one does not fit beside it");
    table = open_again(table, true);
    ok(table_remove(table, &key), "it is removed after recovery");
    upkeep(table);
    ok(has(table, "other", "one") && stat_of(table).arena_bytes < 1 << 20,
       "and the arena is small again");
    table_close(table);
}

static void
test_expiry(void)
{
    struct table *table = new_table(1 << 20, TABLE_NO_EVICTION);
    bool found = true;
    struct table_key key = key_of(table, "k");
    is_ok(table_expire(table, &key, NOW_MS + 10, &found), "expiry of no key is no error");
    ok(!found, "it is not found");
    is_ok(try_set(table, "k", "v", NOW_MS + 10), "a key that expires");
    struct table_value value;
    ok(table_find(table, &key, false, &value) && value.expiry_ms == NOW_MS + 10, "is there");
    is_int(stat_of(table).expiring, 1, "it counts");
    is_ok(table_expire(table, &key, 0, &found), "expiry is taken away");
    ok(found && table_find(table, &key, false, &value) && value.expiry_ms == 0, "and is none");
    is_int(stat_of(table).expiring, 0, "it does not count any more");
    is_ok(table_expire(table, &key, NOW_MS + 5, &found), "it expires again");
    table_set_now(table, NOW_MS + 4);
    ok(has(table, "k", "v"), "there a ms before its time");
    table_set_now(table, NOW_MS + 5);
    ok(has(table, "k", NULL), "gone at its time");
    is_int(stat_of(table).keys, 0, "for the counts too");
    is_int(stat_of(table).expired, 1, "as expired");
    set(table, "k", "v");
    is_ok(table_expire(table, &key, NOW_MS, &found), "a time in the past");
    ok(found && has(table, "k", NULL), "removes the key");
    char text[16];
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(text, sizeof text, "e%u", i);
        if (try_set(table, text, "value", NOW_MS + 10 + i) != 0)
            bail("%s", dor_err_message());
    }
    table_set_now(table, NOW_MS + 509);
    for (unsigned i = 0; i < 200; i++)
        table_maintain(table, 50);
    is_int(stat_of(table).keys, 500, "upkeep removes those whose time has come, and no other");
    table_set_now(table, NOW_MS + 5000);
    struct table_key any;
    char scratch[16];
    ok(!table_random_key(table, 7, scratch, &any) || stat_of(table).keys > 0,
       "a random key is none whose time has come");
    upkeep(table);
    for (unsigned i = 0; i < 200; i++)
        table_maintain(table, 50);
    is_int(stat_of(table).keys, 0, "none are left");
    table_close(table);
}

static void
test_drafts_and_pins(void)
{
    struct table *table = new_table(1 << 20, TABLE_NO_EVICTION);
    struct table_key key = key_of(table, "k");
    struct table_draft draft, other;
    set(table, "k", "old");
    set(table, "gap", "a value that leaves a gap when it goes");
    uint64_t used_bytes = stat_of(table).used_bytes;
    is_ok(table_draft(table, &key, 100, 0, &draft), "a draft");
    ok(has(table, "k", "old"), "changes nothing");
    table_drop_draft(table, &draft);
    table_drop_draft(table, &draft);
    is_int(stat_of(table).used_bytes, used_bytes, "nor when it is dropped, or twice");
    is_ok(table_draft(table, &key, 3, 0, &draft), "a draft");
    is_ok(table_draft(table, &key, 5, 0, &other), "and another one of the same key");
    ok(remove_key(table, "gap"), "the table changes meanwhile");
    is_ok(table_flush(table, true), "and is emptied");
    for (unsigned i = 0; i < 50; i++) {
        char text[16];
        snprintf(text, sizeof text, "n%u", i);
        set(table, text, "fills what is free");
    }
    upkeep(table);
    memcpy(draft.bytes, "new", 3);
    memcpy(other.bytes, "newer", 5);
    is_ok(table_commit_draft(table, &key, &draft), "the first is committed");
    ok(has(table, "k", "new"), "and is the value");
    is_ok(table_commit_draft(table, &key, &other), "the second is");
    ok(has(table, "k", "newer") && has(table, "n7", "fills what is free"), "and takes over");

    struct table_value value, gone;
    if (!table_find(table, &key, false, &value))
        bail("a key is gone");
    is_ok(table_pin(table, value.ref), "a value is pinned");
    is_ok(table_pin(table, value.ref), "twice");
    ok(remove_key(table, "k"), "its key goes");
    is_ok(table_flush(table, true), "everything goes");
    for (unsigned i = 0; i < 200; i++)
        set(table, "n", "somebody else's bytes, many times");
    upkeep(table);
    is_mem(value.bytes, "newer", 5, "the value is still what it was");
    table_unpin(table, value.ref);
    set(table, "m", "somebody else's bytes");
    is_mem(value.bytes, "newer", 5, "with one pin left too");
    used_bytes = stat_of(table).used_bytes;
    table_unpin(table, value.ref);
    ok(stat_of(table).used_bytes < used_bytes, "the last one frees it");
    table_unpin(table, value.ref);
    set(table, "k", "pinned and alive");
    if (!table_find(table, &key, false, &gone) || table_pin(table, gone.ref) != 0)
        bail("%s", dor_err_message());
    table_unpin(table, gone.ref);
    ok(has(table, "k", "pinned and alive"), "a pin that goes leaves a key that is there");
    table_close(table);
}

static bool
collect(void *context, const struct table_key *key, const struct table_value *value)
{
    uint8_t *seen = context;
    if (key->length > 1 && key->bytes[0] == 's' && value->length == 1)
        seen[strtoul(
            (const char[]){
                (char)key->bytes[1], (char)key->bytes[2], (char)key->bytes[3],
                (char)key->bytes[4], '\0'},
            NULL, 10)]++;
    return true;
}

static bool
stop_at_once(void *context, const struct table_key *key, const struct table_value *value)
{
    (void)key;
    (void)value;
    ++*(unsigned *)context;
    return false;
}

struct remover {
    struct table *table;
    unsigned removed;
};

static bool
remove_given(void *context, const struct table_key *key, const struct table_value *value)
{
    struct remover *remover = context;
    (void)value;
    remover->removed += table_remove(remover->table, key);
    return true;
}

static void
test_scan(void)
{
    enum { KEYS = 2000 };
    struct table *table = new_table(16 << 20, TABLE_NO_EVICTION);
    char text[16];
    for (unsigned i = 0; i < KEYS; i++) {
        snprintf(text, sizeof text, "s%04u", i);
        set(table, text, "v");
    }
    static uint8_t seen[10000];
    uint64_t cursor = 0;
    unsigned grown = 0;
    do {
        cursor = table_scan(table, cursor, 5, collect, seen);
        for (unsigned i = 0; i < 10; i++, grown++) {
            snprintf(text, sizeof text, "%u", grown);
            set(table, text, "grows");
        }
        for (unsigned i = 0; i < 2 && grown > 500; i++) {
            snprintf(text, sizeof text, "%u", grown - 400 + i);
            remove_key(table, text);
        }
        table_maintain(table, 50);
    } while (cursor != 0 && grown < 1000000);
    unsigned missed = 0;
    for (unsigned i = 0; i < KEYS; i++)
        missed += seen[i] == 0;
    is_int(missed, 0, "a scan meets all that was there, while %u keys came", grown);
    unsigned calls = 0;
    cursor = table_scan(table, 0, 1000, stop_at_once, &calls);
    ok(calls == 1 && cursor != 0, "a scan stops when it is told to");
    is_int(
        table_scan(table, UINT64_MAX, 10, stop_at_once, &calls), 0,
        "a cursor from nowhere is the end");
    struct remover remover = {.table = table};
    uint64_t keys = stat_of(table).keys;
    cursor = 0;
    do
        cursor = table_scan(table, cursor, 10, remove_given, &remover);
    while (cursor != 0);
    is_int(remover.removed, keys, "a scan may remove what it is given");
    is_int(stat_of(table).keys, 0, "and leaves nothing");
    upkeep(table);
    is_int(table_scan(table, 0, UINT32_MAX, stop_at_once, &calls), 0, "an empty scan");
    table_close(table);
}

/* Buckets stay when keys go: what is left is found all the same, each of it. */
static void
test_random_of_few(void)
{
    enum { KEYS = 60000, LEFT = 3 };
    struct table *table = new_table(16 << 20, TABLE_NO_EVICTION);
    char text[16];
    struct table_key key;
    for (unsigned i = 0; i < KEYS; i++) {
        snprintf(text, sizeof text, "k%u", i);
        set(table, text, "v");
    }
    key = library_of(table, "lib");
    is_ok(table_set(table, &key, "source", 6, 0), "a library");
    for (unsigned i = LEFT; i < KEYS; i++) {
        snprintf(text, sizeof text, "k%u", i);
        remove_key(table, text);
    }
    for (int swept = 0; swept < 2; swept++) {
        unsigned drawn[LEFT] = {0};
        for (uint64_t i = 0; i < 300; i++) {
            unsigned number = LEFT;
            if (!table_random_key(table, i * 0x9e3779b97f4a7c15, text, &key) ||
                sscanf((const char *)key.bytes, "k%1u", &number) != 1 || number >= LEFT)
                bail("a random key is none of those that are left");
            drawn[number]++;
        }
        ok(drawn[0] > 0 && drawn[1] > 0 && drawn[2] > 0, "each is drawn: %u, %u, %u", drawn[0],
           drawn[1], drawn[2]);
        upkeep(table);
    }
    table_close(table);
}

struct named {
    char names[64];
    struct table *table;
};

static bool
note_name(void *context, const struct table_key *key, const struct table_value *value)
{
    struct named *named = context;
    size_t at = strlen(named->names);
    snprintf(
        named->names + at, sizeof named->names - at, "%.*s=%.*s ", (int)key->length,
        (const char *)key->bytes, (int)value->length, (const char *)value->bytes);
    return named->table == NULL || table_remove(named->table, key);
}

static void
test_each_library(void)
{
    struct table *table = new_table(1 << 20, TABLE_NO_EVICTION);
    struct named named = {.names = ""};
    is_ok(table_each_library(table, note_name, &named), "no library");
    is_str(named.names, "", "is met");
    char name[16];
    /* More names than anybody remembers, one at a time; and the first stays. */
    for (unsigned i = 0; i < 5000; i++) {
        snprintf(name, sizeof name, "lib%u", i);
        struct table_key key = library_of(table, name);
        if (table_set(table, &key, "s", 1, 0) != 0 || (i > 0 && !table_remove(table, &key)))
            bail("%s", dor_err_message());
    }
    struct table_key twice = library_of(table, "lib0");
    is_ok(table_set(table, &twice, "t", 1, 0), "it is replaced");
    set(table, "lib0", "a key");
    is_ok(table_each_library(table, note_name, &named), "all libraries");
    is_str(named.names, "lib0=t ", "are one");
    table = open_again(table, false);
    named = (struct named){.table = table};
    is_ok(table_each_library(table, note_name, &named), "opened again");
    is_str(named.names, "lib0=t ", "it is there, and may be removed");
    is_int(stat_of(table).libraries, 0, "and is gone");
    table_close(table);
}

static void
test_libraries(void)
{
    struct table *table = new_table(1 << 20, TABLE_NO_EVICTION);
    struct table_key library = library_of(table, "lib");
    is_ok(table_set(table, &library, "source", 6, 0), "a library");
    set(table, "lib", "a key");
    ok(has_value(table, &library, "source") && has(table, "lib", "a key"), "beside its twin");
    is_int(stat_of(table).keys, 1, "libraries are no keys");
    is_int(stat_of(table).libraries, 1, "but libraries");
    struct table_key any;
    char scratch[16];
    bool only = true;
    for (uint64_t i = 0; i < 100; i++)
        only &=
            table_random_key(table, i * 0x9e3779b97f4a7c15, scratch, &any) && !any.is_library;
    ok(only, "a random key is none");
    char name[16];
    for (unsigned i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "lib%u", i);
        struct table_key key = library_of(table, name);
        if (table_set(table, &key, name, strlen(name), 0) != 0)
            bail("%s", dor_err_message());
        set(table, name, "value");
    }
    struct table_value value;
    if (!table_find(table, &library, false, &value) || table_pin(table, value.ref) != 0)
        bail("%s", dor_err_message());
    is_ok(table_flush(table, false), "a flush of the keys");
    is_int(stat_of(table).keys, 0, "leaves no key");
    is_int(stat_of(table).libraries, 301, "and all libraries");
    table_unpin(table, value.ref);
    set(table, "after", "the flush");
    upkeep(table);
    bool all = has_value(table, &library, "source");
    for (unsigned i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "lib%u", i);
        struct table_key key = library_of(table, name);
        all &= has_value(table, &key, name);
    }
    ok(all, "with their sources");
    table = open_again(table, true);
    is_int(stat_of(table).libraries, 301, "also after recovery");
    is_int(stat_of(table).damaged, 0, "and nothing is damaged");
    is_ok(table_begin(table), "in a transaction");
    is_int(table_flush(table, false), DOR_E_BUSY, "there is no flush");
    table_abort(table);
    is_ok(table_flush(table, true), "a flush of everything");
    is_int(stat_of(table).libraries, 0, "leaves no library");
    table_close(table);
}

static void
test_limits(void)
{
    struct table *table = new_table(128 << 10, TABLE_NO_EVICTION);
    char text[16];
    unsigned i = 0;
    int rc = 0;
    static const char value[200] = "";
    for (; rc == 0 && i < 1000; i++) {
        snprintf(text, sizeof text, "k%u", i);
        struct table_key key = key_of(table, text);
        rc = table_set(table, &key, value, sizeof value, 0);
    }
    is_int(rc, DOR_E_NO_SPACE, "the table is full at %u keys", i);
    ok(stat_of(table).used_bytes <= 128 << 10, "and holds no more than its limit");
    is_int(stat_of(table).evicted, 0, "nothing was evicted");
    ok(remove_key(table, "k0"), "a key goes");
    is_ok(try_set(table, "new", "value", 0), "and another one fits");

    table_set_limit(table, 256 << 10, TABLE_NO_EVICTION);
    is_ok(try_set(table, "more", "fits", 0), "a higher limit");
    table_set_limit(table, 64 << 10, TABLE_EVICT_RANDOM);
    upkeep(table);
    ok(stat_of(table).used_bytes <= 64 << 10, "a lower one: upkeep evicts");
    uint64_t evicted = stat_of(table).evicted;
    ok(evicted > 0, "%" PRIu64 " keys went", evicted);
    is_int(stat_of(table).keys + evicted, i - 1 + 1, "and no others");
    static const char large[16 << 10] = "";
    struct table_key key = key_of(table, "large");
    is_ok(
        table_set(table, &key, large, sizeof large, 0),
        "a large value takes the place of many");
    static const char larger[80 << 10] = "";
    is_int(
        table_set(table, &key, larger, sizeof larger, 0), DOR_E_NO_SPACE,
        "one above the limit fits never");
    ok(stat_of(table).keys > 0, "and takes nobody's place");
    upkeep(table);
    is_ok(table_begin(table), "a transaction in a full table");
    for (rc = 0, i = 0; rc == 0 && i < 1000; i++) {
        snprintf(text, sizeof text, "t%u", i);
        struct table_key in = key_of(table, text);
        rc = table_set(table, &in, value, sizeof value, 0);
    }
    ok(rc == DOR_E_NO_SPACE && i > 3, "goes a little over the limit: %u keys", i);
    table_commit(table);
    upkeep(table);
    ok(stat_of(table).used_bytes <= 64 << 10, "which upkeep makes good");
    table_close(table);
}

static void
test_longest_unused_go(void)
{
    static const char value[200] = "";
    struct table *table = new_table(64 << 10, TABLE_EVICT_LRU);
    for (unsigned i = 0; i < 2000; i++) {
        char text[16];
        snprintf(text, sizeof text, "k%u", i);
        struct table_key key = key_of(table, text);
        if (table_set(table, &key, value, sizeof value, 0) != 0)
            bail("%s", dor_err_message());
        table_set_now(table, NOW_MS + (int64_t)i * 4096);
        if (!has(table, "k0", NULL))
            continue; /* used each time */
        ok(false, "a key that is used stays");
        break;
    }
    ok(stat_of(table).evicted > 1000, "longest unused go first, and k0 is there");
    table_close(table);
}

static void
test_what_is_no_table(void)
{
    struct table *table;
    const struct table_options bad = {.limit_bytes = 1000};
    is_int(table_create(memory_file(), &bad, &table), DOR_E_USAGE, "1000 bytes are too few");
    const struct table_options good = {.limit_bytes = 1 << 20};
    is_int(table_open(memory_file(), &good, true, &table), DOR_E_CORRUPT, "an empty file");
    int fd = memory_file();
    if (ftruncate(fd, 8192) != 0)
        bail("no memory file");
    is_int(table_open(fd, &good, false, &table), DOR_E_CORRUPT, "a file of zeros");
    table_close(NULL);
}

static bool
append(struct table *table, const char *text, const char *piece, uint64_t want)
{
    struct table_key key = key_of(table, text);
    uint64_t length = 0;
    int rc = table_append(table, &key, piece, (uint32_t)strlen(piece), &length);
    return rc == 0 && length == want;
}

/* Appends in place, behind pins, with neighbours that take what lies free, and in a full table. */
static void
test_appends(void)
{
    enum { APPENDS = 200000, PIECE = 10 };
    struct table *table = new_table(64 << 20, TABLE_NO_EVICTION);
    struct table_key key = key_of(table, "text");
    ok(append(table, "text", "one ", 4) && append(table, "text", "", 4), "appended to nothing");
    struct table_value value;
    if (!table_find(table, &key, false, &value) || table_pin(table, value.ref) != 0)
        bail("%s", dor_err_message());
    ok(append(table, "text", "two ", 8) && append(table, "text", "three", 13), "to a value");
    ok(memcmp(value.bytes, "one ", 4) == 0 && has(table, "text", "one two three"),
       "the old one stays readable");
    table_unpin(table, value.ref);
    bool found, right = true;
    is_ok(table_expire(table, &key, NOW_MS + 1000, &found), "it expires");
    ok(append(table, "text", "!", 14) && table_find(table, &key, false, &value) &&
           value.expiry_ms == NOW_MS + 1000,
       "as before after an append");
    uint32_t moves = 0, ref = 0;
    for (uint64_t i = 0; i < APPENDS; i++) {
        char text[16];
        snprintf(text, sizeof text, "n%" PRIu64, i % 1000);
        set(table, text, "neighbour");
        right &= append(table, "7", "0123456789", (i + 1) * PIECE);
        key = key_of(table, "7");
        right &= table_find(table, &key, false, &value);
        moves += value.ref != ref;
        ref = value.ref;
    }
    ok(right && value.length == APPENDS * PIECE, "%u appends to one key", APPENDS);
    ok(moves < 40, "copy its value %u times", moves);
    for (uint64_t i = 0; right && i < APPENDS; i += 997)
        right = memcmp(value.bytes + i * PIECE, "0123456789", PIECE) == 0;
    ok(right, "and have all bytes");
    uint64_t used = stat_of(table).used_bytes;
    ok(remove_key(table, "7"), "it goes");
    ok(used - stat_of(table).used_bytes >= value.length, "with all its memory");
    upkeep(table);
    ok(stat_of(table).used_bytes < 200000, "and no slack is left: %" PRIu64 " bytes are used",
       stat_of(table).used_bytes);
    table_set_limit(table, stat_of(table).used_bytes + 4096, TABLE_NO_EVICTION);
    int rc = 0;
    uint64_t length = 0;
    for (unsigned i = 0; rc == 0 && i < 1000; i++)
        rc = table_append(table, &key, "0123456789", PIECE, &length);
    is_int(rc, DOR_E_NO_SPACE, "a full table ends it at %" PRIu64 " bytes", length);
    ok(table_find(table, &key, false, &value) && value.length == length && length > 1000,
       "which are there");
    table_close(table);
}

struct told {
    unsigned count[5];
    char last_key[32];
};

static void
hear(
    void *context, enum table_change change, const struct table_key *key,
    const struct table_value *value)
{
    struct told *told = context;
    told->count[change]++;
    if (key != NULL)
        snprintf(told->last_key, 32, "%.*s", (int)key->length, (const char *)key->bytes);
    if ((value != NULL) != (change != TABLE_CHANGE_REMOVE && change != TABLE_CHANGE_FLUSH))
        told->count[change] += 1000;
}

static void
test_changes_are_told(void)
{
    struct told told = {0};
    const struct table_options options = {
        .limit_bytes = 64 << 10, .policy = TABLE_EVICT_LRU, .changed = hear, .context = &told};
    struct table *table;
    if (table_create(memory_file(), &options, &table) != 0)
        bail("%s", dor_err_message());
    table_set_now(table, NOW_MS);
    set(table, "a", "1");
    ok(told.count[TABLE_CHANGE_SET] == 1 && strcmp(told.last_key, "a") == 0, "a set is told");
    bool found;
    struct table_key key = key_of(table, "a");
    is_ok(table_expire(table, &key, NOW_MS + 5, &found), "a time of expiry");
    ok(told.count[TABLE_CHANGE_SET] + told.count[TABLE_CHANGE_EXPIRY] == 2, "is told");
    table_set_now(table, NOW_MS + 5);
    ok(has(table, "a", NULL) && told.count[TABLE_CHANGE_REMOVE] == 1, "its time is told");
    ok(append(table, "4", "1", 1) && append(table, "4", "2", 2) &&
           told.count[TABLE_CHANGE_SET] == 2 && told.count[TABLE_CHANGE_APPEND] == 1,
       "an append is told, of nothing as a set");
    ok(remove_key(table, "4") && told.count[TABLE_CHANGE_REMOVE] == 2 &&
           strcmp(told.last_key, "4") == 0,
       "a removal is told");
    is_ok(table_flush(table, true), "a flush");
    is_int(told.count[TABLE_CHANGE_FLUSH], 1, "is told");
    static char value[3000];
    for (unsigned i = 0; i < 100; i++) {
        char text[16];
        snprintf(text, sizeof text, "k%u", i);
        key = key_of(table, text);
        if (table_set(table, &key, value, sizeof value, 0) != 0)
            bail("%s", dor_err_message());
    }
    is_int(told.count[TABLE_CHANGE_REMOVE] - 2, stat_of(table).evicted, "evictions are told");
    table_close(table);
}

int
main(void)
{
    test_numbers();
    test_lengths();
    test_largest_value();
    test_expiry();
    test_drafts_and_pins();
    test_scan();
    test_random_of_few();
    test_libraries();
    test_each_library();
    test_limits();
    test_appends();
    test_longest_unused_go();
    test_what_is_no_table();
    test_changes_are_told();
    return done_testing();
}
