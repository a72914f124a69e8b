/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index.c - a settled part, built by counting sort, and a small hash table of what came since.
 *
 * The settled part is an array of 5-byte entries (8 tag bits, 32-bit reference) in order of
 * the key's upper bits, and a directory of where each run of upper bits begins, about 16
 * entries apart: no empty slots, no pointers, one or two cache lines a look-up. Key bits that
 * neither the directory nor the tag holds are not compared: a false suggestion costs a byte
 * compare.
 *
 * What is entered, per chunk: plain pages enter their fingerprints, and the key of their exact
 * digest only if they have fewer fingerprints than wanted (equal pages have equal
 * fingerprints); patched pages enter the exact key. So a stored page costs at most 4 entries:
 * 21 bytes and its share of the directory.
 *
 * Invariant: directory[i] <= directory[i + 1] <= entry_count; entries of run i are between them.
 */
#include "store/index.h"

#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"

#define ENTRY_BYTES        5
#define RUN_ENTRIES        16
#define DIRECTORY_BITS_MIN 4
#define DIRECTORY_BITS_MAX 28
#define RECENT_BITS_MIN    12
#define EXACT_UNTIL        4 /* fewer fingerprints than this: enter the exact key as well */

struct recent_entry {
    uint32_t key;
    uint32_t reference; /* 0 = free slot: serials begin at 1 */
};

struct store_index {
    uint64_t bytes_max;
    uint64_t entry_count;
    unsigned directory_bits;
    uint32_t run_max;    /* entries a run may have when memory is short */
    uint32_t *directory; /* 2^bits + 1 */
    uint32_t *used;      /* entries placed in each run; while building */
    uint8_t *entries;
    struct recent_entry *recent;
    unsigned recent_bits;
    uint64_t recent_count;
};

int
store_index_new(uint64_t bytes_max, struct store_index **ret)
{
    struct store_index *index = base_zalloc(sizeof *index);
    if (index == NULL)
        return DOR_E_NO_MEMORY;
    index->bytes_max = bytes_max;
    index->recent_bits = RECENT_BITS_MIN;
    index->recent = base_array((size_t)1 << RECENT_BITS_MIN, sizeof *index->recent);
    if (index->recent == NULL) {
        store_index_free(index);
        return DOR_E_NO_MEMORY;
    }
    *ret = index;
    return 0;
}

void
store_index_free(struct store_index *index)
{
    if (index == NULL)
        return;
    base_free(index->directory);
    base_free(index->used);
    base_free(index->entries);
    base_free(index->recent);
    base_free(index);
}

/* Keys are digests already, but sampled ones: spread them over the directory. */
static uint32_t
spread(uint32_t key)
{
    key ^= key >> 16;
    key *= 0x85ebca6bu;
    key ^= key >> 13;
    return key;
}

uint32_t
store_index_exact_key(const uint32_t *digests, unsigned page_count)
{
    uint32_t key = 0x27d4eb2fu;
    for (unsigned i = 0; i < page_count; i++)
        key = (key ^ digests[i]) * 0x9e3779b1u;
    return key;
}

/* The tag is the 8 bits of HASH after those that name the run, or what is left of them. */
static uint8_t
entry_tag(const struct store_index *index, uint32_t hash)
{
    return (uint8_t)(index->directory_bits <= 24 ? hash >> (24 - index->directory_bits) : hash);
}

/* ------------------------------------------------------------------ building */

typedef void visit_fn(struct store_index *index, uint32_t key, uint32_t reference);

/* Visit what a table's chunks enter; also how store_index_add() must enter them. */
static void
visit_table(struct store_index *index, const struct store_table *table, visit_fn *visit)
{
    const uint32_t *fingerprint = table->fingerprints;
    for (uint64_t i = 0; i < table->page_count; i++) {
        uint64_t serial = table->serials[i];
        if (serial > STORE_INDEX_SERIAL_MAX)
            return;
        if (table->patches) {
            visit(
                index, store_index_exact_key(&table->digests[i], 1),
                (uint32_t)serial | STORE_INDEX_PATCH);
            continue;
        }
        unsigned pages = table->chunk_pages[i];
        unsigned count = table->fingerprint_counts[i];
        for (unsigned f = 0; f < count; f++)
            visit(index, fingerprint[f], (uint32_t)serial);
        fingerprint += count;
        if (pages > 0 && count < EXACT_UNTIL && i + pages <= table->page_count)
            visit(index, store_index_exact_key(&table->digests[i], pages), (uint32_t)serial);
    }
}

static uint64_t
run_of(const struct store_index *index, uint32_t hash)
{
    return (uint64_t)hash >> (32 - index->directory_bits);
}

int
store_index_begin(struct store_index *index, uint64_t entry_count)
{
    dor_assert(index->directory == NULL);
    /* A run has 8 to 16 entries, so the directory takes at most half a byte an entry. */
    uint64_t fixed = store_index_bytes(index) + (sizeof(uint32_t) << DIRECTORY_BITS_MIN);
    uint64_t room = index->bytes_max > fixed ? index->bytes_max - fixed : 0;
    uint64_t limit = base_min_u64(room * 2 / (ENTRY_BYTES * 2 + 1), UINT32_MAX / 2);
    index->directory_bits = DIRECTORY_BITS_MIN;
    while (index->directory_bits < DIRECTORY_BITS_MAX &&
           ((uint64_t)RUN_ENTRIES << index->directory_bits) < base_min_u64(entry_count, limit))
        index->directory_bits++;
    index->run_max = UINT32_MAX;
    if (entry_count > limit)
        index->run_max = (uint32_t)(limit >> index->directory_bits);
    index->directory =
        base_array((UINT64_C(1) << index->directory_bits) + 1, sizeof *index->directory);
    return index->directory == NULL ? DOR_E_NO_MEMORY : 0;
}

static void
visit_measure(struct store_index *index, uint32_t key, uint32_t reference)
{
    (void)reference;
    uint32_t *count = &index->directory[run_of(index, spread(key))];
    if (*count < index->run_max)
        ++*count;
}

void
store_index_measure(struct store_index *index, const struct store_table *table)
{
    visit_table(index, table, visit_measure);
}

int
store_index_settle(struct store_index *index)
{
    uint64_t runs = UINT64_C(1) << index->directory_bits;
    uint32_t end = 0;
    for (uint64_t run = 0; run < runs; run++) {
        uint32_t count = index->directory[run];
        index->directory[run] = end;
        end += count;
    }
    index->directory[runs] = end;
    index->entry_count = end;
    index->entries = base_alloc(((uint64_t)end + 1) * ENTRY_BYTES);
    index->used = base_array(runs, sizeof *index->used);
    return index->entries == NULL || index->used == NULL ? DOR_E_NO_MEMORY : 0;
}

static void
visit_fill(struct store_index *index, uint32_t key, uint32_t reference)
{
    uint32_t hash = spread(key);
    uint64_t run = run_of(index, hash);
    uint8_t tag = entry_tag(index, hash);
    uint32_t start = index->directory[run];
    uint32_t used = index->used[run];
    if (start + used >= index->directory[run + 1])
        return;
    unsigned same = 0;
    const uint8_t *entry = index->entries + (uint64_t)start * ENTRY_BYTES;
    for (uint32_t i = 0; i < used; i++, entry += ENTRY_BYTES)
        same += entry[0] == tag;
    if (same >= STORE_INDEX_REFS_MAX)
        return;
    uint8_t *slot = index->entries + (uint64_t)(start + used) * ENTRY_BYTES;
    slot[0] = tag;
    memcpy(slot + 1, &reference, sizeof reference);
    index->used[run]++;
}

void
store_index_fill(struct store_index *index, const struct store_table *table)
{
    visit_table(index, table, visit_fill);
}

void
store_index_ready(struct store_index *index)
{
    uint64_t runs = UINT64_C(1) << index->directory_bits;
    uint32_t end = 0;
    for (uint64_t run = 0; run < runs; run++) {
        uint32_t used = index->used[run];
        memmove(
            index->entries + (uint64_t)end * ENTRY_BYTES,
            index->entries + (uint64_t)index->directory[run] * ENTRY_BYTES,
            (size_t)used * ENTRY_BYTES);
        index->directory[run] = end;
        end += used;
    }
    index->directory[runs] = end;
    index->entry_count = end;
    base_free(index->used);
    index->used = NULL;
    uint8_t *shrunk = base_realloc_array(index->entries, (size_t)end + 1, ENTRY_BYTES);
    if (shrunk != NULL)
        index->entries = shrunk;
}

/* ------------------------------------------------------------------ recent entries */

/* False when the key has references enough. */
static bool
recent_insert(struct recent_entry *table, unsigned bits, uint32_t key, uint32_t reference)
{
    uint64_t mask = (UINT64_C(1) << bits) - 1;
    uint64_t i = spread(key) & mask;
    unsigned same = 0;
    for (; table[i].reference != 0; i = (i + 1) & mask)
        if (table[i].key == key && ++same == STORE_INDEX_REFS_MAX)
            return false;
    table[i] = (struct recent_entry){key, reference};
    return true;
}

static int
recent_grow(struct store_index *index)
{
    unsigned bits = index->recent_bits + 1;
    struct recent_entry *grown = base_array((size_t)1 << bits, sizeof *grown);
    if (grown == NULL)
        return DOR_E_NO_MEMORY;
    for (uint64_t i = 0; i < UINT64_C(1) << index->recent_bits; i++)
        if (index->recent[i].reference != 0)
            (void)recent_insert(grown, bits, index->recent[i].key, index->recent[i].reference);
    base_free(index->recent);
    index->recent = grown;
    index->recent_bits = bits;
    return 0;
}

static int
recent_add(struct store_index *index, uint32_t key, uint32_t reference)
{
    if ((index->recent_count + 1) * 10 > (UINT64_C(1) << index->recent_bits) * 7) {
        uint64_t doubled = (UINT64_C(2) << index->recent_bits) * sizeof(struct recent_entry);
        if (store_index_bytes(index) + doubled / 2 > index->bytes_max)
            return 0;
        int err = recent_grow(index);
        if (err != 0)
            return err;
    }
    index->recent_count += recent_insert(index->recent, index->recent_bits, key, reference);
    return 0;
}

int
store_index_add(
    struct store_index *index, uint32_t reference, uint32_t exact_key,
    const uint32_t *fingerprints, unsigned fingerprint_count)
{
    int err = 0;
    for (unsigned i = 0; i < fingerprint_count && err == 0; i++)
        err = recent_add(index, fingerprints[i], reference);
    if (err == 0 && ((reference & STORE_INDEX_PATCH) != 0 || fingerprint_count < EXACT_UNTIL))
        err = recent_add(index, exact_key, reference);
    return err;
}

/* ------------------------------------------------------------------ finding */

static unsigned
find_settled(const struct store_index *index, uint32_t hash, uint32_t ret[STORE_INDEX_REFS_MAX])
{
    if (index->entries == NULL)
        return 0;
    uint64_t run = run_of(index, hash);
    uint8_t tag = entry_tag(index, hash);
    unsigned found = 0;
    const uint8_t *entry = index->entries + (uint64_t)index->directory[run] * ENTRY_BYTES;
    const uint8_t *end = index->entries + (uint64_t)index->directory[run + 1] * ENTRY_BYTES;
    for (; entry < end && found < STORE_INDEX_REFS_MAX; entry += ENTRY_BYTES)
        if (entry[0] == tag)
            memcpy(&ret[found++], entry + 1, sizeof ret[0]);
    return found;
}

unsigned
store_index_find(
    const struct store_index *index, uint32_t key, uint32_t ret[STORE_INDEX_REFS_MAX])
{
    uint32_t hash = spread(key);
    unsigned found = find_settled(index, hash, ret);
    uint64_t mask = (UINT64_C(1) << index->recent_bits) - 1;
    for (uint64_t i = hash & mask;
         index->recent[i].reference != 0 && found < STORE_INDEX_REFS_MAX; i = (i + 1) & mask)
        if (index->recent[i].key == key)
            ret[found++] = index->recent[i].reference;
    return found;
}

void
store_index_prefetch(const struct store_index *index, uint32_t key)
{
    uint32_t hash = spread(key);
    if (index->entries != NULL) {
        uint64_t run = run_of(index, hash);
        __builtin_prefetch(index->entries + (uint64_t)index->directory[run] * ENTRY_BYTES);
    }
    __builtin_prefetch(&index->recent[hash & ((UINT64_C(1) << index->recent_bits) - 1)]);
}

uint64_t
store_index_bytes(const struct store_index *index)
{
    uint64_t bytes = (UINT64_C(1) << index->recent_bits) * sizeof *index->recent;
    if (index->entries != NULL)
        bytes += index->entry_count * ENTRY_BYTES +
                 ((UINT64_C(1) << index->directory_bits) + 1) * sizeof *index->directory;
    return bytes;
}

bool
store_index_wants_rebuild(const struct store_index *index)
{
    return index->recent_count > 65536 && index->recent_count > index->entry_count / 8;
}
