/* SPDX-License-Identifier: Apache-2.0 */
/*
 * working_set.c - the file of a working set, and which pages it says to push in which order.
 *
 * offset size field (little endian)
 *      0    8 magic "DORWSET1"
 *      8   16 uuid of the store
 *     24    4 codec of the body
 *     28    4 bytes of the body as stored; the file ends with them
 *     32    8 id of the snapshot
 *     40    8 pages of the image
 *     48    4 bytes of the body decoded
 *     52    4 0
 *     56    8 XXH3-64 of bytes 0 to 55, XOR XXH3-64 of the stored body
 *     64    - the body: wakes, number of windows, then columns (docs/formats/working-set.md)
 *
 * It is written beside its name and renamed. A reader may write it, so the name it is written
 * under is random: two that learn at a time do not write into one file.
 */
#include "store/working_set.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/random.h"
#include "base/size.h"
#include "base/sort.h"
#include "chunk/codec.h"
#include "chunk/digest.h"
#include "store/catalog.h"
#include "store/store_priv.h"
#include "store/wire.h"

#define MAGIC        "DORWSET1"
#define HEADER_BYTES 64
#define BODY_LEVEL   9
#define PREFIX       "wset."
/* Of a window: gap, mask, number of ranks, ranks, histories. */
#define WINDOW_BYTES_MAX (10 + 2 + 1 + STORE_SET_RANKS_MAX + STORE_SET_WINDOW_PAGES)
#define BODY_BYTES_MAX   (20u + STORE_SET_WINDOWS_MAX * WINDOW_BYTES_MAX)
/* In the set when 1 of so many wakes needed it: a fault costs some times what a pushed page does.
 */
#define NEEDED_ONE_OF 3

void
store_working_set_fini(struct store_working_set *set)
{
    base_free(set->windows);
    memset(set, 0, sizeof *set);
}

/* ------------------------------------------------------------------ what is in it */

unsigned
store_set_history_wakes(uint8_t history)
{
    return history == 0 ? 0 : 31 - (unsigned)__builtin_clz(history);
}

unsigned
store_set_history_needed(uint8_t history)
{
    return history == 0 ? 0 : (unsigned)__builtin_popcount(history) - 1;
}

bool
store_set_history_is_in(uint8_t history)
{
    unsigned needed = store_set_history_needed(history);
    return needed > 0 && needed * NEEDED_ONE_OF >= store_set_history_wakes(history);
}

uint16_t
store_set_window_pages(const struct store_set_window *window)
{
    unsigned pages = 0;
    for (unsigned i = 0; i < STORE_SET_WINDOW_PAGES; i++)
        if (store_set_history_is_in(window->histories[i]))
            pages |= 1u << i;
    return (uint16_t)pages;
}

unsigned
store_set_window_rank(const struct store_set_window *window)
{
    uint8_t ranks[STORE_SET_RANKS_MAX];
    unsigned count = window->rank_count;
    for (unsigned i = 0; i < count; i++) {
        unsigned at = i;
        for (; at > 0 && ranks[at - 1] > window->ranks[i]; at--)
            ranks[at] = ranks[at - 1];
        ranks[at] = window->ranks[i];
    }
    return count == 0 ? 255 : ranks[(count - 1) / 2];
}

/* Windows have their turns in no order that an image could have. */
static bool
has_turn(const struct store_set_window *window, uint64_t turn)
{
    uint64_t mixed = window->window;
    return turn != STORE_SET_NO_TURN &&
           base_random_splitmix(&mixed) % STORE_SET_TURNS == turn % STORE_SET_TURNS;
}

/* Add the pages of MASK in WINDOW; a run goes on where the last one ended. */
static void
add_runs(uint64_t window, unsigned mask, struct dor_working_set_run *runs, size_t *count)
{
    for (unsigned i = 0; i < STORE_SET_WINDOW_PAGES; i++) {
        uint64_t page = window * STORE_SET_WINDOW_PAGES + i;
        if ((mask >> i & 1) == 0)
            continue;
        struct dor_working_set_run *last = *count == 0 ? NULL : &runs[*count - 1];
        if (last != NULL && last->first_page + last->page_count == page)
            last->page_count++;
        else
            runs[(*count)++] = (struct dor_working_set_run){page, 1};
    }
}

int
store_working_set_runs(
    const struct store_working_set *set, uint64_t turn, struct dor_working_set_run **ret,
    size_t *ret_count)
{
    AUTO_FREE struct base_sort_row *rows = base_array(set->window_count + 1, 2 * sizeof *rows);
    size_t count = 0;
    size_t pages = 0;
    if (rows == NULL)
        return DOR_E_NO_MEMORY;
    for (size_t i = 0; i < set->window_count; i++) {
        const struct store_set_window *window = &set->windows[i];
        unsigned mask = has_turn(window, turn) ? 0 : store_set_window_pages(window);
        if (mask == 0)
            continue;
        pages += (size_t)__builtin_popcount(mask);
        rows[count++] = (struct base_sort_row){store_set_window_rank(window), i};
    }
    struct dor_working_set_run *runs = base_array(pages + 1, sizeof *runs);
    if (runs == NULL)
        return DOR_E_NO_MEMORY;
    const struct base_sort_row *order = base_sort_rows(rows, rows + count, count);
    size_t run_count = 0;
    for (size_t i = 0; i < count; i++) {
        const struct store_set_window *window = &set->windows[order[i].index];
        add_runs(window->window, store_set_window_pages(window), runs, &run_count);
    }
    *ret = runs;
    *ret_count = run_count;
    return 0;
}

/* ------------------------------------------------------------------ encoding */

static int
encode_body(const struct store_working_set *set, struct base_buf *body)
{
    uint64_t next = 0;
    int err = store_put_varint(body, set->wakes);
    if (err == 0)
        err = store_put_varint(body, set->window_count);
    if (err == 0)
        err = base_buf_reserve(body, set->window_count * WINDOW_BYTES_MAX);
    if (err != 0)
        return err;
    uint8_t *at = body->data + body->size_bytes;
    for (size_t i = 0; i < set->window_count; i++) {
        at = base_varint_put(at, set->windows[i].window - next);
        next = set->windows[i].window + 1;
    }
    for (size_t i = 0; i < set->window_count; i++, at += 2)
        base_le16_put(at, set->windows[i].pages);
    for (size_t i = 0; i < set->window_count; i++)
        *at++ = set->windows[i].rank_count;
    for (size_t i = 0; i < set->window_count; i++)
        for (unsigned r = 0; r < set->windows[i].rank_count; r++)
            *at++ = set->windows[i].ranks[r];
    for (size_t i = 0; i < set->window_count; i++)
        for (unsigned p = 0; p < STORE_SET_WINDOW_PAGES; p++)
            if ((set->windows[i].pages >> p & 1) != 0)
                *at++ = set->windows[i].histories[p];
    body->size_bytes = (size_t)(at - body->data);
    return 0;
}

int
store_working_set_encode(
    const struct store_set_key *key, const struct store_working_set *set, struct base_buf *file)
{
    AUTO_BUF struct base_buf body = {0};
    struct chunk_coder *coder = NULL;
    enum chunk_codec codec = CHUNK_ZSTD;
    size_t stored_bytes = 0;
    dor_assert(set->window_count <= STORE_SET_WINDOWS_MAX && file->size_bytes == 0);
    int err = encode_body(set, &body);
    if (err == 0)
        err = base_buf_reserve(file, HEADER_BYTES + chunk_compress_bound(body.size_bytes));
    if (err == 0)
        err = chunk_coder_new(&coder);
    if (err == 0)
        err = chunk_compress(
            coder, &codec, BODY_LEVEL, body.data, body.size_bytes, file->data + HEADER_BYTES,
            &stored_bytes);
    chunk_coder_free(coder);
    if (err != 0)
        return err;
    memcpy(file->data, MAGIC, 8);
    memcpy(file->data + 8, key->uuid, 16);
    base_le32_put(file->data + 24, codec);
    base_le32_put(file->data + 28, (uint32_t)stored_bytes);
    base_le64_put(file->data + 32, key->snapshot_id);
    base_le64_put(file->data + 40, key->page_count);
    base_le32_put(file->data + 48, (uint32_t)body.size_bytes);
    base_le32_put(file->data + 52, 0);
    base_le64_put(
        file->data + 56,
        chunk_digest(file->data, 56) ^ chunk_digest(file->data + HEADER_BYTES, stored_bytes));
    file->size_bytes = HEADER_BYTES + stored_bytes;
    return 0;
}

/* ------------------------------------------------------------------ decoding */

static int
damaged(const struct store_set_key *key, const char *words)
{
    return dor_fail(
        DOR_E_CORRUPT, PREFIX "%016llx: %s; forget it, and the next wakes teach it again",
        (unsigned long long)key->snapshot_id, words);
}

static int
check_header(const struct store_set_key *key, const uint8_t *file, size_t size_bytes)
{
    if (size_bytes < HEADER_BYTES || memcmp(file, MAGIC, 7) != 0)
        return damaged(key, "it is no working set");
    if (file[7] != MAGIC[7])
        return dor_fail(DOR_E_UNSUPPORTED, "working set: version '%c' is not known", file[7]);
    if (base_le32_get(file + 28) != size_bytes - HEADER_BYTES)
        return damaged(key, "the file is cut short or too long");
    uint64_t digest =
        chunk_digest(file, 56) ^ chunk_digest(file + HEADER_BYTES, size_bytes - HEADER_BYTES);
    if (base_le64_get(file + 56) != digest)
        return damaged(key, "bad checksum");
    if (memcmp(file + 8, key->uuid, 16) != 0)
        return damaged(key, "it belongs to another store");
    if (base_le64_get(file + 32) != key->snapshot_id ||
        base_le64_get(file + 40) != key->page_count)
        return damaged(key, "it belongs to another snapshot");
    if (base_le32_get(file + 48) > BODY_BYTES_MAX || base_le32_get(file + 52) != 0)
        return damaged(key, "its numbers make no sense");
    return 0;
}

static uint8_t
get_byte(struct store_reader *reader)
{
    if (reader->bad || reader->at == reader->end) {
        reader->bad = true;
        return 0;
    }
    return *reader->at++;
}

/* The numbers of the windows, ascending, and which of their pages: all inside the image. */
static void
decode_windows(
    struct store_reader *reader, uint64_t page_count, struct store_set_window *windows,
    size_t count)
{
    uint64_t next = 0;
    for (size_t i = 0; i < count && !reader->bad; i++) {
        uint64_t last = (page_count - 1) / STORE_SET_WINDOW_PAGES;
        if (next > last) {
            reader->bad = true;
            return;
        }
        windows[i].window = next + store_get_bounded(reader, last - next);
        next = windows[i].window + 1;
    }
    for (size_t i = 0; i < count && !reader->bad; i++) {
        uint64_t after = page_count - windows[i].window * STORE_SET_WINDOW_PAGES;
        unsigned mask = get_byte(reader);
        mask |= (unsigned)get_byte(reader) << 8;
        windows[i].pages = (uint16_t)mask;
        if (mask == 0 || (after < STORE_SET_WINDOW_PAGES && mask >> after != 0))
            reader->bad = true;
    }
}

static void
decode_columns(struct store_reader *reader, struct store_set_window *windows, size_t count)
{
    for (size_t i = 0; i < count && !reader->bad; i++) {
        windows[i].rank_count = get_byte(reader);
        if (windows[i].rank_count == 0 || windows[i].rank_count > STORE_SET_RANKS_MAX)
            reader->bad = true;
    }
    for (size_t i = 0; i < count && !reader->bad; i++)
        for (unsigned r = 0; r < windows[i].rank_count; r++)
            windows[i].ranks[r] = get_byte(reader);
    for (size_t i = 0; i < count && !reader->bad; i++)
        for (unsigned p = 0; p < STORE_SET_WINDOW_PAGES; p++) {
            if ((windows[i].pages >> p & 1) == 0)
                continue;
            windows[i].histories[p] = get_byte(reader);
            if (windows[i].histories[p] == 0)
                reader->bad = true;
        }
}

static int
decode_body(
    const struct store_set_key *key, const uint8_t *body, size_t size_bytes,
    struct store_working_set *ret)
{
    struct store_reader reader = {.at = body, .end = body + size_bytes};
    struct store_working_set set = {0};
    set.wakes = store_get_varint(&reader);
    uint64_t count = store_get_bounded(&reader, STORE_SET_WINDOWS_MAX);
    if (reader.bad || set.wakes == 0 || (count > 0 && key->page_count == 0))
        return damaged(key, "its body makes no sense");
    set.window_count = (size_t)count;
    set.windows = base_array(set.window_count + 1, sizeof *set.windows);
    if (set.windows == NULL)
        return DOR_E_NO_MEMORY;
    decode_windows(&reader, key->page_count, set.windows, set.window_count);
    decode_columns(&reader, set.windows, set.window_count);
    if (reader.bad || reader.at != reader.end) {
        store_working_set_fini(&set);
        return damaged(key, "its body makes no sense");
    }
    *ret = set;
    return 0;
}

int
store_working_set_decode(
    const struct store_set_key *key, const uint8_t *file, size_t size_bytes,
    struct store_working_set *ret)
{
    int err = check_header(key, file, size_bytes);
    if (err != 0)
        return err;
    size_t body_bytes = base_le32_get(file + 48);
    AUTO_FREE uint8_t *body = base_alloc(body_bytes);
    struct chunk_coder *coder = NULL;
    err = body == NULL ? DOR_E_NO_MEMORY : chunk_coder_new(&coder);
    if (err == 0)
        err = chunk_decompress(
            coder, base_le32_get(file + 24), file + HEADER_BYTES, size_bytes - HEADER_BYTES,
            body, body_bytes);
    chunk_coder_free(coder);
    return err == 0 ? decode_body(key, body, body_bytes, ret) : err;
}

/* ------------------------------------------------------------------ the file */

struct store_set_key
store_working_set_key(const struct dor_store *store, uint64_t snapshot_id, uint64_t page_count)
{
    struct store_set_key key = {
        .medium = store->medium, .snapshot_id = snapshot_id, .page_count = page_count};
    memcpy(key.uuid, store->catalog->uuid, sizeof key.uuid);
    return key;
}

void
store_working_set_file_name(uint64_t snapshot_id, char *name, size_t name_bytes)
{
    snprintf(name, name_bytes, PREFIX "%016llx", (unsigned long long)snapshot_id);
}

bool
store_working_set_is_leftover(const struct store_catalog *catalog, const char *file)
{
    char name[STORE_FILE_NAME_BYTES];
    if (strncmp(file, PREFIX, strlen(PREFIX)) != 0)
        return false;
    uint64_t id = strtoull(file + strlen(PREFIX), NULL, 16);
    store_working_set_file_name(id, name, sizeof name);
    if (strcmp(name, file) != 0)
        return true;
    for (size_t i = 0; i < catalog->snapshot_count; i++)
        if (catalog->snapshots[i].info.id == id)
            return false;
    return true;
}

int
store_working_set_read(const struct store_set_key *key, struct store_working_set *ret)
{
    char name[STORE_FILE_NAME_BYTES];
    AUTO_CLOSE int fd = -1;
    uint64_t size_bytes = 0;
    store_working_set_file_name(key->snapshot_id, name, sizeof name);
    int err = store_medium_open(key->medium, name, false, &fd);
    if (err == 0)
        err = base_file_size(fd, name, &size_bytes);
    if (err != 0)
        return err;
    if (size_bytes > HEADER_BYTES + BODY_BYTES_MAX)
        return damaged(key, "the file is too long");
    AUTO_FREE uint8_t *file = base_alloc(size_bytes);
    if (file == NULL)
        return DOR_E_NO_MEMORY;
    err = base_file_pread(fd, file, size_bytes, 0, name);
    return err == 0 ? store_working_set_decode(key, file, size_bytes, ret) : err;
}

/* A name that nobody else writes to; whoever opens the store for writing removes what is left. */
static int
choose_name(const struct store_set_key *key, char *name, size_t name_bytes)
{
    uint32_t random;
    int err = base_random_seed_os(&random, sizeof random);
    snprintf(
        name, name_bytes, PREFIX "%016llx.%08x", (unsigned long long)key->snapshot_id, random);
    return err;
}

int
store_working_set_write(const struct store_set_key *key, const struct store_working_set *set)
{
    char name[STORE_FILE_NAME_BYTES];
    char temporary[STORE_FILE_NAME_BYTES];
    AUTO_BUF struct base_buf file = {0};
    AUTO_CLOSE int fd = -1;
    store_working_set_file_name(key->snapshot_id, name, sizeof name);
    int err = store_working_set_encode(key, set, &file);
    if (err == 0)
        err = choose_name(key, temporary, sizeof temporary);
    if (err == 0)
        err = store_medium_create(key->medium, temporary, &fd);
    if (err != 0)
        return err;
    err = base_file_pwrite(fd, file.data, file.size_bytes, 0, temporary);
    if (err == 0)
        err = base_file_sync(fd, temporary);
    if (err == 0)
        err = store_medium_rename(key->medium, temporary, name);
    if (err == 0)
        return 0;
    struct base_err first = *base_err_record();
    if (store_medium_unlink(key->medium, temporary) != 0)
        dor_log(INFO, "store", "leftover", "file=%s", temporary);
    return base_err_load(&first);
}

bool
store_working_set_bytes(const struct store_set_key *key, uint64_t *ret)
{
    char name[STORE_FILE_NAME_BYTES];
    AUTO_CLOSE int fd = -1;
    store_working_set_file_name(key->snapshot_id, name, sizeof name);
    return store_medium_open(key->medium, name, false, &fd) == 0 &&
           base_file_size(fd, name, ret) == 0;
}

void
store_working_set_carry(const struct store_set_key *from, const struct store_set_key *to)
{
    struct store_working_set set = {0};
    int err = store_working_set_read(from, &set);
    if (err == 0)
        err = store_working_set_write(to, &set);
    if (err != 0 && err != DOR_E_NOT_FOUND)
        dor_log(
            WARN, "store", "working_set_lost", "snapshot=%016llx error=\"%s\"",
            (unsigned long long)from->snapshot_id, dor_err_message());
    store_working_set_fini(&set);
}

void
store_working_set_drop(struct dor_store *store, uint64_t snapshot_id)
{
    char name[STORE_FILE_NAME_BYTES];
    store_working_set_file_name(snapshot_id, name, sizeof name);
    int err = store_medium_unlink(store->medium, name);
    if (err != 0 && err != DOR_E_NOT_FOUND)
        dor_log(WARN, "store", "leftover", "file=%s error=\"%s\"", name, dor_err_message());
}

/* ------------------------------------------------------------------ for users */

static int
find_key(struct dor_store *store, const char *name, struct store_set_key *ret)
{
    const struct store_snapshot_entry *entry = store_catalog_snapshot(store->catalog, name);
    if (entry == NULL)
        return dor_fail(DOR_E_NOT_FOUND, "no snapshot %s", name);
    *ret = store_working_set_key(
        store, entry->info.id, entry->info.logical_bytes / DOR_PAGE_BYTES);
    return 0;
}

static int
fill_public(
    const struct store_set_key *key, const struct store_working_set *set,
    struct dor_working_set *ret)
{
    struct dor_working_set filled = {.wakes = set->wakes};
    int err = store_working_set_runs(set, STORE_SET_NO_TURN, &filled.runs, &filled.run_count);
    if (err != 0)
        return err;
    for (size_t i = 0; i < filled.run_count; i++)
        filled.page_count += filled.runs[i].page_count;
    for (size_t i = 0; i < set->window_count; i++)
        for (unsigned p = 0; p < STORE_SET_WINDOW_PAGES; p++) {
            uint8_t history = set->windows[i].histories[p];
            unsigned wakes = store_set_history_wakes(history);
            if (store_set_history_is_in(history))
                filled.pages_by_share[store_set_history_needed(history) * 3 / wakes - 1]++;
            else
                filled.candidate_pages += history != 0;
        }
    if (!store_working_set_bytes(key, &filled.file_bytes))
        filled.file_bytes = 0;
    *ret = filled;
    return 0;
}

int
dor_working_set_read(struct dor_store *store, const char *name, struct dor_working_set *ret)
{
    struct store_set_key key = {0};
    struct store_working_set set = {0};
    int err = find_key(store, name, &key);
    if (err != 0)
        return err;
    err = store_working_set_read(&key, &set);
    if (err == DOR_E_NOT_FOUND)
        return dor_fail(
            DOR_E_NOT_FOUND, "snapshot %s has no working set: no wake has taught one yet",
            name);
    if (err == 0)
        err = fill_public(&key, &set, ret);
    store_working_set_fini(&set);
    return err;
}

void
dor_working_set_fini(struct dor_working_set *set)
{
    base_free(set->runs);
    memset(set, 0, sizeof *set);
}

int
dor_working_set_forget(struct dor_store *store, const char *name)
{
    char file[STORE_FILE_NAME_BYTES];
    struct store_set_key key = {0};
    int err = find_key(store, name, &key);
    if (err != 0)
        return err;
    store_working_set_file_name(key.snapshot_id, file, sizeof file);
    err = store_medium_unlink(store->medium, file);
    return err == DOR_E_NOT_FOUND
               ? dor_fail(DOR_E_NOT_FOUND, "snapshot %s has no working set", name)
               : err;
}
