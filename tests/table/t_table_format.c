/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_table_format.c - docs/formats/table.md is true: the bytes in it are those of the example
 * that it tells of, and a second reader, written from the page alone, finds the example's keys
 * in them.
 */
#include "tap.h"

#include <sys/mman.h>

#include "table/mark.h"
#include "table/table.h"

enum { SEED = 0x0d0e0f10, ARENA_BYTES_MAX = 65536, PAGE_BYTES_MAX = 1 << 20 };

static const char PAGE[] = "docs/formats/table.md";
static const int64_t NOW_MS = 1700000000000;

/* ---- the second reader ---- */

static uint32_t
word(const uint8_t *arena, uint64_t index)
{
    const uint8_t *at = arena + 4 * index;
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint32_t
mix(uint32_t k)
{
    k *= 0xcc9e2d51;
    return (k << 15 | k >> 17) * 0x1b873593;
}

static uint32_t
hash_string(uint32_t h, const char *key, uint32_t length)
{
    uint32_t k = 0;
    for (uint32_t i = 0; i < length; i++) {
        k |= (uint32_t)(uint8_t)key[i] << i % 4 * 8;
        if (i % 4 == 3) {
            h ^= mix(k);
            h = (h << 13 | h >> 19) * 5 + 0xe6546b64;
            k = 0;
        }
    }
    h ^= mix(k) ^ length;
    h = (h ^ h >> 16) * 0x85ebca6b;
    h = (h ^ h >> 13) * 0xc2b2ae35;
    return h ^ h >> 16;
}

static uint32_t
hash_number(uint32_t seed, uint32_t number)
{
    uint32_t h = number ^ seed;
    h = (h ^ h >> 16) * 0x7feb352d;
    h = (h ^ h >> 15) * 0x846ca68b;
    return h ^ h >> 16;
}

/* The word of the first bucket for HASH. */
static uint32_t
bucket_word(const uint8_t *arena, uint32_t hash)
{
    uint32_t index = hash & word(arena, 5);
    if (index >= word(arena, 4))
        index = hash & word(arena, 5) >> 1;
    uint32_t segment = 0;
    for (uint32_t n = index >> 4; n != 0; n >>= 1)
        segment++;
    return word(arena, 16 + segment) + index * 16;
}

/* The value of a key in quotes, a number, or a library; in RET, "(none)" when there is none. */
static void
look_up(
    const uint8_t *arena, const char *key, uint32_t kind, uint32_t hash, char ret[64],
    uint64_t *ret_expiry)
{
    snprintf(ret, 64, "(none)");
    uint32_t at = bucket_word(arena, hash);
    while (at != 0) {
        for (uint32_t i = 0; i < 6; i++) {
            uint32_t place = word(arena, at + 10 + i);
            if (word(arena, at + i) != hash || place == 0 || (place & 0xc0000000) != kind)
                continue;
            uint32_t record = (place & 0x1fffffff) * 2;
            uint32_t length = word(arena, record) & 0x3fffffff;
            uint32_t value = record * 4 + 8 + ((place & 0x20000000) != 0 ? 8 : 0);
            uint32_t key_length = word(arena, record + 1) >> 16;
            if (key != NULL && (key_length != strlen(key) ||
                                memcmp(arena + value + length, key, key_length) != 0))
                continue;
            uint32_t said = word(arena, at + 7 + i / 2) >> i % 2 * 16 & 0xffff;
            if (said != 0xffff && said != length) {
                snprintf(ret, 64, "(a length of %u)", said);
                return;
            }
            snprintf(ret, 64, "%.*s", (int)length, (const char *)arena + value);
            if ((place & 0x20000000) != 0)
                *ret_expiry = word(arena, record + 2) | (uint64_t)word(arena, record + 3) << 32;
            return;
        }
        at = word(arena, at + 6) * 2;
    }
}

static void
check_reader(const uint8_t *arena)
{
    uint32_t seed = word(arena, 2);
    char value[64];
    uint64_t expiry = 0;
    look_up(arena, "dormouse", 0, hash_string(seed, "dormouse", 8), value, &expiry);
    is_str(value, "sleeps", "the reader finds a string key");
    is_int(expiry, 0, "which never expires");
    look_up(arena, NULL, 0x80000000, hash_number(seed, 42), value, &expiry);
    is_str(value, "answer", "it finds a number key");
    is_int(expiry, NOW_MS + 60000, "and its time of expiry");
    look_up(arena, "lib", 0x40000000, hash_string(seed, "lib", 3), value, &expiry);
    is_str(value, "#!js name=lib\n", "it finds a library");
    look_up(arena, "lib", 0, hash_string(seed, "lib", 3), value, &expiry);
    is_str(value, "(none)", "which is no key");
    look_up(arena, "gone", 0, hash_string(seed, "gone", 4), value, &expiry);
    is_str(value, "(none)", "it does not find a key that was removed");
}

/* ---- the page's bytes ---- */

/* The blocks called NAME against BYTES; lines are "offset  bytes ; words". */
static void
check_blocks(const char *text, const char *name, const uint8_t *bytes, size_t size_bytes)
{
    char begin[64];
    snprintf(begin, sizeof begin, "<!-- bytes of a table: %s -->", name);
    unsigned lines = 0;
    for (const char *block = strstr(text, begin); block != NULL; block = strstr(block, begin)) {
        const char *line = strchr(strstr(block, "```text"), '\n') + 1;
        const char *end = strstr(line, "```");
        for (; line < end; line = strchr(line, '\n') + 1, lines++) {
            char *at;
            size_t offset = strtoull(line, &at, 16);
            const char *first = at;
            for (; *at == ' '; offset++) {
                char *after;
                unsigned long byte = strtoul(at, &after, 16);
                if (after == at)
                    break;
                if (offset >= size_bytes || bytes[offset] != byte) {
                    ok(false, "%s, %.4s: byte %#zx is as the page says", name, line, offset);
                    return;
                }
                at = after;
            }
            if (at == first)
                bail("a line without bytes in %s: %.40s", name, line);
        }
        block = end;
    }
    ok(lines > 0, "%s: %u lines of bytes are as the page says", name, lines);
}

static char *
read_page(void)
{
    static char text[PAGE_BYTES_MAX];
    FILE *file = fopen(PAGE, "r");
    if (file == NULL)
        skip_all("the page is not there");
    size_t bytes = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[bytes] = '\0';
    return text;
}

static void
set(struct table *table, const char *name, bool library, const char *value, int64_t expiry_ms)
{
    struct table_key key;
    if (!(library ? table_library_key : table_key)(table, name, strlen(name), &key) ||
        table_set(table, &key, value, strlen(value), expiry_ms) != 0)
        bail("%s", dor_err_message());
}

static int
memory_file(void)
{
    int fd = memfd_create("table", MFD_CLOEXEC);
    if (fd < 0)
        bail("no memory file");
    return fd;
}

int
main(void)
{
    int fd = memory_file();
    struct table_arena empty;
    if (table_arena_create(dup(fd), ARENA_BYTES_MAX, SEED, &empty) != 0)
        bail("%s", dor_err_message());
    table_arena_close(&empty);
    const struct table_options options = {.limit_bytes = ARENA_BYTES_MAX};
    struct table *table;
    if (table_open(fd, &options, false, &table) != 0)
        bail("%s", dor_err_message());
    table_set_now(table, NOW_MS);
    set(table, "dormouse", false, "sleeps", 0);
    set(table, "gone", false, "a value of thirty-two bytes, all.", 0);
    set(table, "42", false, "answer", NOW_MS + 60000);
    set(table, "lib", true, "#!js name=lib\n", 0);
    struct table_key gone;
    if (!table_key(table, "gone", 4, &gone) || !table_remove(table, &gone))
        bail("a key that was set is not there");

    const uint8_t *arena = table_arena(table)->base;
    const char *text = read_page();
    check_blocks(text, "arena", arena, ARENA_BYTES_MAX);
    check_reader(arena);

    /* A mark, and then a transaction: both change the arena, and the mark has what was before. */
    static uint8_t before[ARENA_BYTES_MAX];
    memcpy(before, arena, sizeof before);
    int mark_fd = memory_file();
    if (table_mark_begin(table_arena(table), dup(mark_fd)) != 0 || table_begin(table) != 0)
        bail("%s", dor_err_message());
    set(table, "dormouse", false, "wakes", 0);
    check_blocks(text, "transaction", arena, ARENA_BYTES_MAX);
    uint64_t bytes;
    is_ok(table_mark_arena_bytes(mark_fd, &bytes), "the mark says what it covers");
    uint8_t *mark = mmap(NULL, 4096 + bytes, PROT_READ, MAP_SHARED, mark_fd, 0);
    if (mark == MAP_FAILED)
        bail("cannot map the mark");
    check_blocks(text, "mark", mark, 4096 + bytes);
    static uint8_t marked[ARENA_BYTES_MAX];
    is_ok(table_mark_read(fd, mark_fd, bytes, 0, bytes, marked), "the mark is read");
    is_mem(marked, before, bytes, "and gives the arena as it was");
    munmap(mark, 4096 + bytes);
    table_abort(table);
    table_mark_end(table_arena(table));
    check_reader(arena);
    table_close(table);
    close(mark_fd);
    return done_testing();
}
