/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buckets.c - linear hashing over segments of buckets.
 *
 * Bucket INDEX lies in segment 0 (the header) if it is below TABLE_FIRST_BUCKETS, otherwise in
 * the segment of its highest bit; header.segments[] holds for each the word of its first bucket,
 * less that bucket's number times 16, so that any index finds its words by one addition.
 *
 *     hash & mask                    if that is below bucket_count
 *     hash & mask >> 1               otherwise: that half is not split yet
 *
 * A bucket that is full continues in others, from the heap. Their entries are kept together:
 * only the last bucket of a chain has empty slots, and none is empty as a whole but the first.
 *
 * Invariants:
 * 1. A slot holds a record when its ref is not 0; the hash is written before the ref.
 * 2. A slot's length is that of its record's value, or TABLE_LENGTH_UNKNOWN: it says so before and
 *    while they differ. What an arena says that others may write is set right by recovery.
 * 3. A process that dies in a split leaves entries twice, never none: they are in the new bucket
 *    before the count lets anybody look there, and leave the old one after.
 */
#include <emmintrin.h>
#include <string.h>

#include "base/err.h"
#include "base/le.h"
#include "table/hash.h"
#include "table/table_priv.h"

#define BUCKET_WORDS 16
#define BUCKET_UNITS 8u
#define KEYS_PER_2   9 /* in two buckets on average before there is one more */
#define FIRST_LOG    4

_Static_assert(TABLE_FIRST_BUCKETS == 1 << FIRST_LOG, "segments double from there");

static unsigned
segment_of(uint32_t index)
{
    uint32_t high = index >> FIRST_LOG;
    return high == 0 ? 0 : 32 - (unsigned)__builtin_clz(high);
}

struct table_bucket *
table_bucket(const struct table *table, uint32_t index)
{
    unsigned segment = segment_of(index);
    if (segment >= TABLE_SEGMENTS)
        return NULL;
    uint32_t word = table->arena.header->segments[segment] + index * BUCKET_WORDS;
    uint64_t offset = (uint64_t)word * sizeof(uint32_t);
    uint64_t top = (uint64_t)table->arena.header->top * TABLE_UNIT_BYTES;
    if (offset < offsetof(struct table_header, buckets) || offset % TABLE_UNIT_BYTES != 0 ||
        offset + sizeof(struct table_bucket) > top)
        return NULL;
    return (struct table_bucket *)(void *)(table->arena.base + offset);
}

uint32_t
table_bucket_index(const struct table *table, uint32_t hash)
{
    const struct table_header *header = table->arena.header;
    uint32_t index = hash & header->bucket_mask;
    return index < header->bucket_count ? index : hash & header->bucket_mask >> 1;
}

static struct table_bucket *
overflow_at(const struct table *table, uint32_t unit)
{
    uint32_t top = table->arena.header->top;
    if (unit <= TABLE_HEAP_FIRST || unit >= top ||
        top - unit < sizeof(struct table_bucket) / TABLE_UNIT_BYTES)
        return NULL;
    return table_arena_at(&table->arena, unit);
}

struct table_bucket *
table_bucket_next(const struct table *table, const struct table_bucket *bucket)
{
    return bucket->next == 0 ? NULL : overflow_at(table, bucket->next);
}

/* A bit for each slot whose hash is HASH, empty ones too. */
static unsigned
slots_with(const struct table_bucket *bucket, uint32_t hash)
{
    __m128i wanted = _mm_set1_epi32((int)hash);
    const __m128i *hashes = (const __m128i *)(const void *)bucket->hash;
    __m128i low = _mm_cmpeq_epi32(_mm_loadu_si128(hashes), wanted);
    __m128i high = _mm_cmpeq_epi32(_mm_loadu_si128(hashes + 1), wanted);
    unsigned bits = (unsigned)_mm_movemask_epi8(
        _mm_packs_epi16(_mm_packs_epi32(low, high), _mm_setzero_si128()));
    return bits & ((1u << TABLE_BUCKET_SLOTS) - 1);
}

static bool
is_key(const struct table *table, uint32_t ref, const struct table_key *key)
{
    if (((ref & REF_NUMBER) != 0) != key->is_number ||
        ((ref & REF_LIBRARY) != 0) != key->is_library)
        return false;
    if (key->is_number)
        return true; /* the hash of a number is the number */
    struct table_record record;
    return table_record(table, ref, &record) && record.key_bytes == key->length &&
           memcmp(
               record.at + record.value_offset + record.value_bytes, key->bytes, key->length) ==
               0;
}

struct table_slot
table_slot_of_key(const struct table *table, const struct table_key *key)
{
    const struct table_bucket *bucket =
        table_bucket(table, table_bucket_index(table, key->hash));
    for (unsigned n = 0; bucket != NULL && n < TABLE_CHAIN_MAX; n++) {
        for (unsigned bits = slots_with(bucket, key->hash); bits != 0; bits &= bits - 1) {
            unsigned i = (unsigned)__builtin_ctz(bits);
            if (bucket->ref[i] != 0 && is_key(table, bucket->ref[i], key))
                return (struct table_slot){(struct table_bucket *)(uintptr_t)bucket, i};
        }
        bucket = table_bucket_next(table, bucket);
    }
    return (struct table_slot){NULL, 0};
}

struct table_slot
table_slot_of_ref(const struct table *table, uint32_t hash, uint32_t ref)
{
    struct table_bucket *bucket = table_bucket(table, table_bucket_index(table, hash));
    for (unsigned n = 0; bucket != NULL && n < TABLE_CHAIN_MAX; n++) {
        for (unsigned i = 0; i < TABLE_BUCKET_SLOTS; i++)
            if (bucket->ref[i] == ref && bucket->hash[i] == hash)
                return (struct table_slot){bucket, i};
        bucket = table_bucket_next(table, bucket);
    }
    return (struct table_slot){NULL, 0};
}

static int
new_overflow(struct table *table, uint32_t *ret)
{
    uint32_t unit = 0;
    int rc = table_heap_alloc(&table->arena, TABLE_OVERFLOW_BYTES, &unit);
    if (rc != 0)
        return rc;
    struct table_block *block = table_arena_at(&table->arena, unit);
    table_arena_touch(&table->arena, (uint64_t)unit * TABLE_UNIT_BYTES, TABLE_OVERFLOW_BYTES);
    memset(block, 0, TABLE_OVERFLOW_BYTES);
    block->length = table_heap_units(TABLE_OVERFLOW_BYTES);
    block->tag = TABLE_KEY_BUCKETS << 16;
    *ret = unit + 1;
    return 0;
}

static void
free_overflow(struct table *table, uint32_t unit)
{
    table_heap_free(&table->arena, unit - 1, table_heap_units(TABLE_OVERFLOW_BYTES));
}

/* What a slot has. */
struct entry {
    uint32_t hash, ref;
    uint16_t length;
};

static uint16_t
length_of(const struct table *table, uint32_t ref)
{
    struct table_record record;
    return table_record(table, ref, &record) && record.value_bytes < TABLE_LENGTH_UNKNOWN
               ? (uint16_t)record.value_bytes
               : TABLE_LENGTH_UNKNOWN;
}

static struct entry
entry_of(const struct table *table, uint32_t hash, uint32_t ref)
{
    return (struct entry){hash, ref, length_of(table, ref)};
}

static struct entry
entry_in(const struct table_bucket *bucket, unsigned index)
{
    return (struct entry){bucket->hash[index], bucket->ref[index], bucket->length[index]};
}

/* SLOT is empty. */
static void
fill_slot(struct table *table, struct table_slot slot, const struct entry *entry)
{
    table_arena_put(&table->arena, &slot.bucket->hash[slot.index], entry->hash);
    table_arena_put_half(&table->arena, &slot.bucket->length[slot.index], entry->length);
    table_arena_put(&table->arena, &slot.bucket->ref[slot.index], entry->ref);
}

void
table_slot_forget_length(struct table *table, struct table_slot slot)
{
    table_arena_put_half(&table->arena, &slot.bucket->length[slot.index], TABLE_LENGTH_UNKNOWN);
}

void
table_slot_put(struct table *table, struct table_slot slot, uint32_t ref)
{
    uint16_t length = length_of(table, ref);
    bool differs = slot.bucket->length[slot.index] != length;
    if (differs)
        table_slot_forget_length(table, slot);
    if (slot.bucket->ref[slot.index] != ref)
        table_arena_put(&table->arena, &slot.bucket->ref[slot.index], ref);
    if (differs)
        table_arena_put_half(&table->arena, &slot.bucket->length[slot.index], length);
}

static int
insert_into(struct table *table, struct table_bucket *bucket, const struct entry *entry)
{
    for (unsigned n = 0; bucket != NULL && n < TABLE_CHAIN_MAX; n++) {
        for (unsigned i = 0; i < TABLE_BUCKET_SLOTS; i++)
            if (bucket->ref[i] == 0) {
                fill_slot(table, (struct table_slot){bucket, i}, entry);
                return 0;
            }
        if (bucket->next == 0) {
            uint32_t unit = 0;
            int rc = new_overflow(table, &unit);
            if (rc != 0)
                return rc;
            fill_slot(
                table, (struct table_slot){table_arena_at(&table->arena, unit), 0}, entry);
            table_arena_put(&table->arena, &bucket->next, unit);
            return 0;
        }
        bucket = table_bucket_next(table, bucket);
    }
    return dor_fail(DOR_E_NO_SPACE, "too many keys of the table have the same hash");
}

int
table_slot_insert(struct table *table, uint32_t hash, uint32_t ref)
{
    struct table_bucket *bucket = table_bucket(table, table_bucket_index(table, hash));
    if (bucket == NULL)
        return dor_fail(DOR_E_CORRUPT, "the table is damaged: a bucket is not inside it");
    const struct entry entry = entry_of(table, hash, ref);
    return insert_into(table, bucket, &entry);
}

/* The last bucket of the chain INDEX, and the one before it, NULL when the first is the last. */
static struct table_bucket *
last_bucket(const struct table *table, uint32_t index, struct table_bucket **ret_before)
{
    struct table_bucket *last = table_bucket(table, index);
    *ret_before = NULL;
    for (unsigned n = 0; last != NULL && n < TABLE_CHAIN_MAX; n++) {
        struct table_bucket *next = table_bucket_next(table, last);
        if (next == NULL)
            break;
        *ret_before = last;
        last = next;
    }
    return last;
}

/* Slots of BUCKET up to its last entry. */
static unsigned
slots_in_use(const struct table_bucket *bucket)
{
    unsigned count = TABLE_BUCKET_SLOTS;
    while (count > 0 && bucket->ref[count - 1] == 0)
        count--;
    return count;
}

/*
 * Fill the empty SLOT of the chain INDEX with its last entry, and free its last bucket if that is
 * empty. False when there was nothing to do, or the chain has no end.
 */
static bool
close_gap(struct table *table, uint32_t index, struct table_slot slot)
{
    struct table_bucket *before;
    struct table_bucket *last = last_bucket(table, index, &before);
    if (last == NULL || table_bucket_next(table, last) != NULL)
        return false;
    unsigned count = slots_in_use(last);
    bool fills = count > 0 && (last != slot.bucket || count - 1 > slot.index);
    if (fills) {
        const struct entry entry = entry_in(last, count - 1);
        fill_slot(table, slot, &entry);
        table_arena_put(&table->arena, &last->ref[count - 1], 0);
        count = slots_in_use(last);
    }
    if (count > 0 || before == NULL)
        return fills;
    uint32_t unit = before->next;
    table_arena_put(&table->arena, &before->next, 0);
    free_overflow(table, unit);
    return true;
}

bool
table_slot_fill(struct table *table, uint32_t hash, uint32_t ref)
{
    struct table_bucket *bucket = table_bucket(table, table_bucket_index(table, hash));
    for (unsigned n = 0; bucket != NULL && n < TABLE_CHAIN_MAX; n++) {
        for (unsigned i = 0; i < TABLE_BUCKET_SLOTS; i++)
            if (bucket->ref[i] == 0) {
                const struct entry entry = entry_of(table, hash, ref);
                fill_slot(table, (struct table_slot){bucket, i}, &entry);
                return true;
            }
        bucket = table_bucket_next(table, bucket);
    }
    return false;
}

void
table_bucket_pack(struct table *table, uint32_t index)
{
    struct table_bucket *first = table_bucket(table, index);
    struct table_bucket *bucket = first;
    for (unsigned n = 0; bucket != NULL && n < TABLE_CHAIN_MAX; n++) {
        for (unsigned i = 0; i < TABLE_BUCKET_SLOTS; i++)
            if (bucket->ref[i] != 0 && table_bucket_index(table, bucket->hash[i]) != index)
                table_arena_put(&table->arena, &bucket->ref[i], 0);
        bucket = table_bucket_next(table, bucket);
    }
    bucket = first;
    for (unsigned n = 0; bucket != NULL && n < TABLE_CHAIN_MAX; n++) {
        /* An end that is empty goes at the first gap, and the gap is looked at again. */
        for (unsigned i = 0; i < TABLE_BUCKET_SLOTS && bucket->next != 0;)
            if (bucket->ref[i] != 0)
                i++;
            else if (!close_gap(table, index, (struct table_slot){bucket, i}))
                return;
        struct table_bucket *next = table_bucket_next(table, bucket);
        if (next != NULL && next->next == 0 && slots_in_use(next) == 0 &&
            !close_gap(table, index, (struct table_slot){next, 0}))
            return;
        bucket = table_bucket_next(table, bucket);
    }
}

void
table_slot_remove(struct table *table, uint32_t hash, struct table_slot slot)
{
    table_arena_put(&table->arena, &slot.bucket->ref[slot.index], 0);
    uint32_t index = table_bucket_index(table, hash);
    const struct table_bucket *first = table_bucket(table, index);
    if (first != NULL && (first->next != 0 || slot.bucket != first))
        (void)close_gap(table, index, slot); /* a gap that stays is found by the next key */
}

static void
free_chain(struct table *table, uint32_t unit)
{
    for (unsigned n = 0; unit != 0 && n < TABLE_CHAIN_MAX; n++) {
        const struct table_bucket *bucket = overflow_at(table, unit);
        if (bucket == NULL)
            return;
        uint32_t next = bucket->next;
        free_overflow(table, unit);
        unit = next;
    }
}

/* For INDEX buckets, to align them, and for one more; see new_bucket(). */
uint32_t
table_segment_units(uint32_t index)
{
    return (index + 2) * BUCKET_UNITS;
}

/* Memory for the bucket INDEX, the first one that is not there. */
static struct table_bucket *
new_bucket(struct table *table, uint32_t index)
{
    unsigned segment = segment_of(index);
    struct table_header *header = table->arena.header;
    if (segment >= TABLE_SEGMENTS)
        return NULL;
    if (header->segments[segment] == 0) {
        uint32_t units = table_segment_units(index);
        uint32_t unit = 0;
        if (index > (REF_UNIT_MASK >> 4) ||
            table_heap_alloc_top(&table->arena, units, &unit) != 0)
            return NULL;
        uint32_t word = ((unit + BUCKET_UNITS) & ~(BUCKET_UNITS - 1)) * 2;
        /* 0 says that there is no segment, so it lies a bucket further if that would come out. */
        if (word == index * BUCKET_WORDS)
            word += BUCKET_WORDS;
        /* Recovery looks for the block in front of the buckets: nothing else may look like it. */
        struct table_block *block = table_arena_at(&table->arena, unit);
        uint64_t gap_bytes = (word / 2 - unit) * (uint64_t)TABLE_UNIT_BYTES;
        table_arena_touch(&table->arena, (uint64_t)unit * TABLE_UNIT_BYTES, gap_bytes);
        memset(block, 0, gap_bytes);
        block->length = units;
        block->tag = TABLE_KEY_BUCKETS << 16;
        table_arena_put(&table->arena, &header->segments[segment], word - index * BUCKET_WORDS);
    }
    struct table_bucket *bucket = table_bucket(table, index);
    if (bucket != NULL) {
        table_arena_touch(
            &table->arena, (uint64_t)((uint8_t *)bucket - table->arena.base), sizeof *bucket);
        memset(bucket, 0, sizeof *bucket);
    }
    return bucket;
}

void
table_buckets_grow(struct table *table)
{
    struct table_header *header = table->arena.header;
    uint32_t count = header->bucket_count;
    if ((uint64_t)(header->key_count + header->library_count) * 2 <=
        (uint64_t)count * KEYS_PER_2)
        return;
    table_arena_touch(&table->arena, 0, DOR_PAGE_BYTES);
    uint32_t mask = header->bucket_mask;
    struct table_bucket *to = new_bucket(table, count);
    const struct table_bucket *from = table_bucket(table, count & mask >> 1);
    if (to == NULL)
        return;
    for (unsigned n = 0; from != NULL && n < TABLE_CHAIN_MAX; n++) {
        for (unsigned i = 0; i < TABLE_BUCKET_SLOTS; i++) {
            if (from->ref[i] == 0 || (from->hash[i] & mask) != count)
                continue;
            const struct entry entry = entry_in(from, i);
            if (insert_into(table, to, &entry) != 0) {
                free_chain(table, to->next);
                return;
            }
        }
        from = table_bucket_next(table, from);
    }
    if (((count + 1) & count) == 0)
        table_arena_put(&table->arena, &header->bucket_mask, 2 * mask + 1);
    table_arena_put(&table->arena, &header->bucket_count, count + 1);
    table_bucket_pack(table, count & mask >> 1);
    table->splits++;
}

uint32_t
table_buckets_ahead(const struct table *table)
{
    const struct table_header *header = table->arena.header;
    unsigned segment = segment_of(header->bucket_count);
    if (segment >= TABLE_SEGMENTS || header->segments[segment] == 0)
        return 0;
    return header->bucket_mask + 1 - header->bucket_count;
}

void
table_buckets_reset(struct table *table)
{
    struct table_header *header = table->arena.header;
    table_arena_touch(&table->arena, 0, DOR_PAGE_BYTES);
    memset(header->segments + 1, 0, sizeof header->segments - sizeof header->segments[0]);
    memset(header->buckets, 0, sizeof header->buckets);
    header->segments[0] = offsetof(struct table_header, buckets) / sizeof(uint32_t);
    header->bucket_mask = 2 * TABLE_FIRST_BUCKETS - 1;
    header->bucket_count = TABLE_FIRST_BUCKETS;
}
