/* SPDX-License-Identifier: Apache-2.0 */
/*
 * root.c - root files, and reading the images they describe. docs/formats/root.md has worked bytes.
 *
 *     offset  size  field (little endian)
 *          0     8  magic "DORROOT1"
 *          8    16  uuid of the store
 *         24     4  codec of the head
 *         28     4  id of the root image
 *         32     8  bytes of the head as stored, which follows at 64
 *         40     8  bytes of the head decoded
 *         48     8  blocks
 *         56     8  XXH3-64 of bytes 0-55 XOR that of the stored head
 *         64     -  head: what the catalog says of the root image, then XXH3-64 of each block
 *
 * Invariants
 *  (1) a block is handed out only if the image has the size and change time of its registration
 *      and the block's bytes match their digest.
 *  (2) the table of slots only suggests: whoever looks there for a page compares bytes.
 */
#include "store/root.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/size.h"
#include "base/sort.h"
#include "chunk/codec.h"
#include "chunk/digest.h"
#include "store/store_priv.h"
#include "store/wire.h"

#define MAGIC          "DORROOT1"
#define HEADER_BYTES   64
#define HEAD_LEVEL     3
#define HEAD_BYTES_MAX (UINT64_C(1) << 36)
#define RUN_BLOCKS     64  /* neighbours read together */
#define SCAN_BLOCKS    256 /* read together by a scan */

/* A root image that is in use. */
struct store_root {
    atomic_uint references; /* the catalog entry's, and those of views */
    int fd;                 /* of the image; -1 until it was found to be the registered one */
    uint64_t block_count;
    uint64_t *digests;
    uint32_t
        *slots; /* block + 1 at the place its digest says or after it; NULL until indexed */
    uint64_t slot_mask;
};

static int
damaged(const char *what)
{
    return dor_fail(DOR_E_CORRUPT, "root file: %s", what);
}

/* ------------------------------------------------------------------ in the catalog */

void
store_root_file_name(uint32_t id, char name[STORE_FILE_NAME_BYTES])
{
    snprintf(name, STORE_FILE_NAME_BYTES, "root.%08x", id);
}

struct store_root *
store_root_ref(const struct store_root_entry *entry)
{
    /* Whoever refers has a reference already: nothing needs to be ordered. */
    atomic_fetch_add_explicit(&entry->loaded->references, 1, memory_order_relaxed);
    return entry->loaded;
}

void
store_root_unref(struct store_root *root)
{
    /* Pairs with itself: the last one sees all that the others did with the root image. */
    if (root == NULL ||
        atomic_fetch_sub_explicit(&root->references, 1, memory_order_acq_rel) > 1)
        return;
    if (root->fd >= 0)
        close(root->fd);
    base_free(root->digests);
    base_free(root->slots);
    base_free(root);
}

void
store_forget_roots(struct dor_store *store)
{
    for (size_t i = 0; store->catalog != NULL && i < store->catalog->root_count; i++) {
        store_root_unref(store->catalog->roots[i].loaded);
        store->catalog->roots[i].loaded = NULL;
    }
}

struct store_root_entry *
store_catalog_root(const struct store_catalog *catalog, uint32_t id)
{
    for (size_t i = 0; i < catalog->root_count; i++)
        if (catalog->roots[i].info.id == id)
            return &catalog->roots[i];
    return NULL;
}

struct store_root_entry *
store_catalog_root_named(const struct store_catalog *catalog, const char *name)
{
    for (size_t i = 0; i < catalog->root_count; i++)
        if (strcmp(catalog->roots[i].info.name, name) == 0)
            return &catalog->roots[i];
    return NULL;
}

int
store_catalog_root_add(struct store_catalog *catalog, const struct dor_root_info *info)
{
    struct store_root_entry *roots =
        base_realloc_array(catalog->roots, catalog->root_count + 1, sizeof *roots);
    if (roots == NULL)
        return DOR_E_NO_MEMORY;
    catalog->roots = roots;
    roots[catalog->root_count++] = (struct store_root_entry){.info = *info};
    return 0;
}

void
store_catalog_root_remove(struct store_catalog *catalog, uint32_t id)
{
    struct store_root_entry *entry = store_catalog_root(catalog, id);
    if (entry == NULL)
        return;
    store_root_unref(entry->loaded);
    size_t at = (size_t)(entry - catalog->roots);
    memmove(entry, entry + 1, (catalog->root_count - at - 1) * sizeof *entry);
    catalog->root_count--;
}

static int
encode_info(struct base_buf *buf, const struct dor_root_info *info)
{
    int err = store_put_string(buf, info->name);
    if (err == 0)
        err = store_put_string(buf, info->path);
    if (err == 0)
        err = store_put_string(buf, info->domain);
    if (err == 0)
        err = store_put_varint(buf, info->size_bytes);
    if (err == 0)
        err = store_put_varint(buf, info->modified_ns);
    if (err == 0)
        err = store_put_varint(buf, info->added_ns);
    return err == 0 ? store_put_u64(buf, info->digest) : err;
}

static void
decode_info(struct store_reader *reader, struct dor_root_info *info)
{
    store_get_string(reader, info->name, sizeof info->name);
    store_get_string(reader, info->path, sizeof info->path);
    store_get_string(reader, info->domain, sizeof info->domain);
    info->size_bytes =
        store_get_bounded(reader, (STORE_ROOT_BLOCKS_MAX + 1) * DOR_PAGE_BYTES - 1);
    info->modified_ns = store_get_varint(reader);
    info->added_ns = store_get_varint(reader);
    info->digest = store_get_u64(reader);
    if (!reader->bad && (dor_name_check(info->name) != 0 || info->path[0] == 0 ||
                         (info->domain[0] != 0 && dor_name_check(info->domain) != 0)))
        reader->bad = true;
}

int
store_catalog_roots_encode(struct base_buf *buf, const struct store_catalog *catalog)
{
    int err = store_put_varint(buf, catalog->next_root_id);
    if (err == 0)
        err = store_put_varint(buf, catalog->root_count);
    for (size_t i = 0; i < catalog->root_count && err == 0; i++) {
        const struct dor_root_info *info = &catalog->roots[i].info;
        err = store_put_varint(buf, info->id);
        if (err == 0)
            err = encode_info(buf, info);
        if (err == 0)
            err = store_put_varint(buf, info->file_bytes);
    }
    return err;
}

int
store_catalog_roots_decode(struct store_reader *reader, struct store_catalog *catalog)
{
    uint32_t last_id = 0;
    catalog->next_root_id = (uint32_t)store_get_bounded(reader, STORE_ROOT_ID_MAX + 1);
    uint64_t count = store_get_bounded(reader, STORE_ROOT_ID_MAX);
    for (uint64_t i = 0; i < count && !reader->bad; i++) {
        struct dor_root_info info = {0};
        info.id = (uint32_t)store_get_bounded(reader, STORE_ROOT_ID_MAX);
        decode_info(reader, &info);
        info.file_bytes = store_get_bounded(reader, INT64_MAX);
        if (reader->bad || info.id <= last_id || info.id >= catalog->next_root_id ||
            store_catalog_root_named(catalog, info.name) != NULL) {
            reader->bad = true;
            return 0;
        }
        last_id = info.id;
        int err = store_catalog_root_add(catalog, &info);
        if (err != 0)
            return err;
    }
    return 0;
}

/* ------------------------------------------------------------------ the root file */

uint64_t
store_root_digest(const uint64_t *digests, uint64_t block_count)
{
    return chunk_digest(digests, block_count * sizeof *digests);
}

int
store_root_encode(
    const struct dor_root_info *info, const uint64_t *digests, const uint8_t uuid[16],
    struct base_buf *file)
{
    AUTO_BUF struct base_buf head = {0};
    uint64_t block_count = info->size_bytes / DOR_PAGE_BYTES;
    struct chunk_coder *coder = NULL;
    enum chunk_codec codec = CHUNK_ZSTD;
    size_t stored_bytes = 0;
    int err = encode_info(&head, info);
    if (err == 0)
        err = base_buf_reserve(&head, block_count * 8);
    if (err != 0)
        return err;
    for (uint64_t i = 0; i < block_count; i++, head.size_bytes += 8)
        base_le64_put(head.data + head.size_bytes, digests[i]);
    err = base_buf_reserve(file, HEADER_BYTES + chunk_compress_bound(head.size_bytes));
    if (err == 0)
        err = chunk_coder_new(&coder);
    if (err == 0)
        err = chunk_compress(
            coder, &codec, HEAD_LEVEL, head.data, head.size_bytes, file->data + HEADER_BYTES,
            &stored_bytes);
    chunk_coder_free(coder);
    if (err != 0)
        return err;
    memcpy(file->data, MAGIC, 8);
    memcpy(file->data + 8, uuid, 16);
    base_le32_put(file->data + 24, codec);
    base_le32_put(file->data + 28, info->id);
    base_le64_put(file->data + 32, stored_bytes);
    base_le64_put(file->data + 40, head.size_bytes);
    base_le64_put(file->data + 48, block_count);
    base_le64_put(
        file->data + 56,
        chunk_digest(file->data, 56) ^ chunk_digest(file->data + HEADER_BYTES, stored_bytes));
    file->size_bytes = HEADER_BYTES + stored_bytes;
    return 0;
}

static int
check_header(const uint8_t *file, size_t size_bytes, const uint8_t uuid[16])
{
    if (size_bytes < HEADER_BYTES || memcmp(file, MAGIC, 7) != 0)
        return damaged("this is not one");
    if (file[7] != MAGIC[7])
        return dor_fail(DOR_E_UNSUPPORTED, "root file: version '%c' is not known", file[7]);
    if (memcmp(file + 8, uuid, 16) != 0)
        return damaged("it belongs to another store");
    if (base_le64_get(file + 32) != size_bytes - HEADER_BYTES)
        return damaged("the file is cut short or too long");
    uint64_t digest =
        chunk_digest(file, 56) ^ chunk_digest(file + HEADER_BYTES, size_bytes - HEADER_BYTES);
    if (base_le64_get(file + 56) != digest)
        return damaged("bad checksum");
    if (base_le64_get(file + 40) > HEAD_BYTES_MAX || base_le32_get(file + 28) == 0 ||
        base_le32_get(file + 28) > STORE_ROOT_ID_MAX)
        return damaged("its numbers make no sense");
    return 0;
}

/* The head: the info, then one digest a block and nothing else. */
static int
decode_head(
    struct store_reader *reader, uint64_t block_count, struct dor_root_info *info,
    uint64_t **ret_digests)
{
    decode_info(reader, info);
    if (reader->bad || info->size_bytes / DOR_PAGE_BYTES != block_count || block_count == 0 ||
        (uint64_t)(reader->end - reader->at) / 8 != block_count ||
        (reader->end - reader->at) % 8 != 0)
        return damaged("its head makes no sense");
    uint64_t *digests = base_array(block_count, sizeof *digests);
    if (digests == NULL)
        return DOR_E_NO_MEMORY;
    for (uint64_t i = 0; i < block_count; i++)
        digests[i] = store_get_u64(reader);
    if (store_root_digest(digests, block_count) != info->digest) {
        base_free(digests);
        return damaged("its digests do not add up");
    }
    *ret_digests = digests;
    return 0;
}

int
store_root_decode(
    const uint8_t *file, size_t size_bytes, const uint8_t uuid[16],
    struct dor_root_info *ret_info, uint64_t **ret_digests)
{
    int err = check_header(file, size_bytes, uuid);
    if (err != 0)
        return err;
    size_t head_bytes = base_le64_get(file + 40);
    AUTO_FREE uint8_t *head = base_alloc(head_bytes);
    struct chunk_coder *coder = NULL;
    struct dor_root_info info = {0};
    err = head == NULL ? DOR_E_NO_MEMORY : chunk_coder_new(&coder);
    if (err == 0)
        err = chunk_decompress(
            coder, base_le32_get(file + 24), file + HEADER_BYTES, size_bytes - HEADER_BYTES,
            head, head_bytes);
    chunk_coder_free(coder);
    if (err != 0)
        return err;
    struct store_reader reader = {.at = head, .end = head + head_bytes};
    err = decode_head(&reader, base_le64_get(file + 48), &info, ret_digests);
    if (err != 0)
        return err;
    info.id = base_le32_get(file + 28);
    info.file_bytes = size_bytes;
    *ret_info = info;
    return 0;
}

/* ------------------------------------------------------------------ opening */

static uint64_t
modified_ns(const struct stat *st)
{
    return (uint64_t)st->st_mtim.tv_sec * 1000000000u + (uint64_t)st->st_mtim.tv_nsec;
}

static int
scan_blocks(
    int fd, const char *path, dor_progress_fn *progress, void *progress_context,
    uint64_t block_count, uint64_t *digests)
{
    AUTO_FREE uint8_t *buffer = base_alloc_pages(SCAN_BLOCKS);
    if (buffer == NULL)
        return DOR_E_NO_MEMORY;
    for (uint64_t block = 0; block < block_count;) {
        uint64_t count = base_min_u64(SCAN_BLOCKS, block_count - block);
        if (progress != NULL &&
            progress(progress_context, block * DOR_PAGE_BYTES, block_count * DOR_PAGE_BYTES) !=
                0)
            return dor_fail(DOR_E_BUSY, "reading the root image was stopped");
        int err =
            base_file_pread(fd, buffer, count * DOR_PAGE_BYTES, block * DOR_PAGE_BYTES, path);
        if (err != 0)
            return err;
        for (uint64_t i = 0; i < count; i++)
            digests[block + i] = chunk_digest(buffer + i * DOR_PAGE_BYTES, DOR_PAGE_BYTES);
        block += count;
    }
    return 0;
}

int
store_root_scan(
    int fd, const char *path, dor_progress_fn *progress, void *progress_context,
    struct dor_root_info *info, uint64_t **ret_digests)
{
    struct stat before;
    struct stat after;
    int err = base_file_stat(fd, "", AT_EMPTY_PATH, path, &before);
    if (err != 0)
        return err;
    uint64_t block_count = (uint64_t)before.st_size / DOR_PAGE_BYTES;
    if (!S_ISREG(before.st_mode))
        return dor_fail(DOR_E_USAGE, "root image %s is not a regular file", path);
    if (block_count == 0 || block_count > STORE_ROOT_BLOCKS_MAX)
        return dor_fail(
            DOR_E_USAGE, "root image %s has %lld bytes; 4096 to 16 TiB are possible", path,
            (long long)before.st_size);
    AUTO_FREE uint64_t *digests = base_array(block_count, sizeof *digests);
    if (digests == NULL)
        return DOR_E_NO_MEMORY;
    err = scan_blocks(fd, path, progress, progress_context, block_count, digests);
    if (err == 0)
        err = base_file_stat(fd, "", AT_EMPTY_PATH, path, &after);
    if (err != 0)
        return err;
    if (after.st_size != before.st_size || modified_ns(&after) != modified_ns(&before))
        return dor_fail(DOR_E_BUSY, "root image %s changed while it was read", path);
    info->size_bytes = (uint64_t)before.st_size;
    info->modified_ns = modified_ns(&before);
    info->digest = store_root_digest(digests, block_count);
    *ret_digests = TAKE(digests);
    return 0;
}

static int
read_root_file(
    struct dor_store *store, const struct dor_root_info *info, uint64_t **ret_digests)
{
    char name[STORE_FILE_NAME_BYTES];
    AUTO_CLOSE int fd = -1;
    uint64_t size_bytes = 0;
    store_root_file_name(info->id, name);
    int err = store_medium_open(store->medium, name, false, &fd);
    if (err == DOR_E_NOT_FOUND)
        return dor_fail(DOR_E_CORRUPT, "%s is missing", name);
    if (err == 0)
        err = base_file_size(fd, name, &size_bytes);
    if (err == 0 && size_bytes != info->file_bytes)
        err = dor_fail(DOR_E_CORRUPT, "%s and the catalog do not agree", name);
    if (err != 0)
        return err;
    AUTO_FREE uint8_t *file = base_alloc(size_bytes);
    struct dor_root_info found = {0};
    if (file == NULL)
        return DOR_E_NO_MEMORY;
    err = base_file_pread(fd, file, size_bytes, 0, name);
    if (err != 0)
        return err;
    err = store_root_decode(file, size_bytes, store->catalog->uuid, &found, ret_digests);
    if (err != 0)
        return dor_fail_wrap("%s", name);
    if (found.id == info->id && found.digest == info->digest &&
        found.size_bytes == info->size_bytes)
        return 0;
    base_free(*ret_digests);
    *ret_digests = NULL;
    return dor_fail(DOR_E_CORRUPT, "%s and the catalog do not agree", name);
}

int
store_root_load(struct dor_store *store, struct store_root_entry *entry)
{
    if (entry->loaded != NULL)
        return 0;
    struct store_root *root = base_zalloc(sizeof *root);
    if (root == NULL)
        return DOR_E_NO_MEMORY;
    root->fd = -1;
    atomic_init(&root->references, 1);
    root->block_count = entry->info.size_bytes / DOR_PAGE_BYTES;
    int err = read_root_file(store, &entry->info, &root->digests);
    if (err != 0) {
        base_free(root);
        return err;
    }
    entry->loaded = base_keep(root);
    return 0;
}

/* Whether the file FD is still what was registered, as far as its size and time tell. */
static int
check_identity(const struct dor_root_info *info, int fd)
{
    struct stat st;
    int err = base_file_stat(fd, "", AT_EMPTY_PATH, info->path, &st);
    if (err != 0)
        return err;
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != info->size_bytes)
        return dor_fail(
            DOR_E_CORRUPT,
            "%s has %lld bytes now and had %llu when it was added; put the old file back",
            info->path, (long long)st.st_size, (unsigned long long)info->size_bytes);
    if (modified_ns(&st) != info->modified_ns)
        return dor_fail(
            DOR_E_CORRUPT,
            "%s was changed after it was added; if its content is the same, add it again with "
            "root add, else put the old file back",
            info->path);
    return 0;
}

int
store_root_open(struct dor_store *store, struct store_root_entry *entry)
{
    AUTO_CLOSE int fd = -1;
    if (entry->loaded != NULL && entry->loaded->fd >= 0)
        return 0;
    int err = store_root_load(store, entry);
    if (err == 0) {
        err = base_file_open(AT_FDCWD, entry->info.path, O_RDONLY, 0, &fd);
        if (err == DOR_E_NOT_FOUND)
            err = dor_fail(
                DOR_E_NOT_FOUND,
                "%s is missing; put it back, or add it again from where it is now with root "
                "add",
                entry->info.path);
    }
    if (err == 0)
        err = check_identity(&entry->info, fd);
    if (err != 0)
        return dor_fail_wrap("root image %s", entry->info.name);
    entry->loaded->fd = base_take_fd(&fd);
    return 0;
}

const uint64_t *
store_root_digests(const struct store_root_entry *entry)
{
    return entry->loaded->digests;
}

/* ------------------------------------------------------------------ reading blocks */

/* COUNT blocks from FIRST on into BUFFER; *RET is what they belong to. */
static int
read_blocks(
    struct dor_store *store, uint32_t id, uint64_t first, uint64_t count, uint8_t *buffer,
    const struct store_root_entry **ret)
{
    struct store_root_entry *entry = store_catalog_root(store->catalog, id);
    if (entry == NULL)
        return dor_fail(DOR_E_CORRUPT, "root image %u is not in the store (any more)", id);
    int err = store_root_open(store, entry);
    if (err != 0)
        return err;
    if (first + count > entry->loaded->block_count)
        return dor_fail(
            DOR_E_CORRUPT, "root image %s has no block %llu", entry->info.name,
            (unsigned long long)(first + count - 1));
    *ret = entry;
    return base_file_pread(
        entry->loaded->fd, buffer, count * DOR_PAGE_BYTES, first * DOR_PAGE_BYTES,
        entry->info.path);
}

static int
verify_block(
    const struct store_root *root, const struct dor_root_info *info, uint64_t block,
    const uint8_t *bytes)
{
    if (chunk_digest(bytes, DOR_PAGE_BYTES) == root->digests[block])
        return 0;
    return dor_fail(
        DOR_E_CORRUPT, "root image %s: block %llu of %s is not what it was when it was added",
        info->name, (unsigned long long)block, info->path);
}

int
store_root_read_block(
    const struct store_root *root, const struct dor_root_info *info, uint64_t block,
    uint8_t *page)
{
    if (block >= root->block_count)
        return dor_fail(
            DOR_E_CORRUPT, "root image %s has no block %llu", info->name,
            (unsigned long long)block);
    int err =
        base_file_pread(root->fd, page, DOR_PAGE_BYTES, block * DOR_PAGE_BYTES, info->path);
    return err == 0 ? verify_block(root, info, block, page) : err;
}

int
store_root_fd(const struct store_root *root)
{
    return root->fd;
}

/* Rows that lie in a run of neighbouring blocks of one image; the same block may come twice. */
static size_t
run_rows(const struct base_sort_row *rows, size_t count)
{
    size_t length = 1;
    while (length < count && rows[length].key - rows[length - 1].key <= 1 &&
           rows[length].key - rows[0].key < RUN_BLOCKS &&
           rows[length].key >> 32 == rows[0].key >> 32)
        length++;
    return length;
}

static int
fetch_run(
    struct dor_store *store, const struct store_fetch_item *items,
    const struct base_sort_row *rows, size_t count, uint8_t *buffer, store_fetch_fn *visit,
    void *context)
{
    const struct store_root_entry *entry = NULL;
    uint64_t first = rows[0].key & UINT32_MAX;
    uint64_t end = (rows[count - 1].key & UINT32_MAX) + 1;
    int read =
        read_blocks(store, (uint32_t)(rows[0].key >> 32), first, end - first, buffer, &entry);
    struct base_err failure = *base_err_record();
    dor_assert(read != 0 || entry != NULL);
    for (size_t i = 0; i < count; i++) {
        const struct store_fetch_item *item = &items[rows[i].index];
        uint64_t block = store_place_block(item->place);
        const uint8_t *page = buffer + (block - first) * DOR_PAGE_BYTES;
        int err = read != 0 ? base_err_load(&failure)
                            : verify_block(entry->loaded, &entry->info, block, page);
        err = visit(context, item->tag, item->place, err == 0 ? page : NULL);
        if (err != 0)
            return err;
    }
    return 0;
}

int
store_root_fetch(
    struct dor_store *store, const struct store_fetch_item *items, size_t count,
    store_fetch_fn *visit, void *context)
{
    if (count == 0)
        return 0;
    AUTO_FREE struct base_sort_row *rows = base_array(count, 2 * sizeof *rows);
    AUTO_FREE uint8_t *buffer = base_alloc_pages(RUN_BLOCKS);
    if (rows == NULL || buffer == NULL)
        return DOR_E_NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        dor_assert(store_place_is_reference(items[i].place));
        rows[i] = (struct base_sort_row){store_place_serial(items[i].place), i};
    }
    const struct base_sort_row *sorted = base_sort_rows(rows, rows + count, count);
    for (size_t i = 0; i < count;) {
        size_t run = run_rows(sorted + i, count - i);
        int err = fetch_run(store, items, sorted + i, run, buffer, visit, context);
        if (err != 0)
            return err;
        i += run;
    }
    return 0;
}

int
store_root_fetch_page(struct dor_store *store, uint64_t place, uint8_t *page)
{
    const struct store_root_entry *entry = NULL;
    uint64_t block = store_place_block(place);
    int err = read_blocks(store, store_place_root(place), block, 1, page, &entry);
    dor_assert(err != 0 || entry != NULL);
    return err == 0 ? verify_block(entry->loaded, &entry->info, block, page) : err;
}

/* ------------------------------------------------------------------ finding blocks */

/* Where DIGEST's block is or would be: a slot that is free or whose block has DIGEST. */
static uint64_t
find_slot(const struct store_root *root, uint64_t digest)
{
    uint64_t slot = digest & root->slot_mask;
    while (root->slots[slot] != 0 && root->digests[root->slots[slot] - 1] != digest)
        slot = (slot + 1) & root->slot_mask;
    return slot;
}

int
store_root_index(struct store_root_entry *entry, uint64_t bytes_max)
{
    static const uint8_t zeros[DOR_PAGE_BYTES];
    struct store_root *root = entry->loaded;
    uint64_t zero_digest = chunk_digest(zeros, sizeof zeros);
    uint64_t wanted = 0;
    if (root->slots != NULL)
        return 0;
    for (uint64_t i = 0; i < root->block_count; i++)
        wanted += root->digests[i] != zero_digest;
    uint64_t slot_count = 64;
    while (slot_count * 3 / 4 < wanted && slot_count * 2 * sizeof *root->slots <= bytes_max)
        slot_count *= 2;
    uint32_t *slots = base_array(slot_count, sizeof *slots);
    if (slots == NULL)
        return DOR_E_NO_MEMORY;
    root->slots = base_keep(slots);
    root->slot_mask = slot_count - 1;
    /* Of equal blocks the first is found; what does not fit costs space in the store. */
    uint64_t used = 0;
    for (uint64_t i = 0; i < root->block_count && used < slot_count * 3 / 4; i++) {
        uint64_t slot = find_slot(root, root->digests[i]);
        if (root->digests[i] == zero_digest || root->slots[slot] != 0)
            continue;
        root->slots[slot] = (uint32_t)i + 1;
        used++;
    }
    return 0;
}

uint64_t
store_root_find(const struct store_root_entry *entry, uint64_t digest, uint64_t hint)
{
    const struct store_root *root = entry->loaded;
    if (hint < root->block_count && root->digests[hint] == digest)
        return hint;
    uint32_t found = root->slots[find_slot(root, digest)];
    return found == 0 ? UINT64_MAX : found - 1;
}
