/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wasm_find.c - what modules of storage functions import from "kv" to look keys up, itself compiled
 * to WebAssembly: it reads the arena where the modules see it (docs/formats/table.md), so a look-up
 * never leaves compiled code. It also does memory.fill and memory.copy for them, which may only
 * write to a module's own part.
 *
 * It has no memory of its own, not even a stack. Whatever takes long asks whether it may go on.
 * src/table/buckets.c and hash.h are the twins, and so is kv.js.
 */
#include <dormouse/kv_wasm.h>

#include <stdbool.h>

#define WORDS ((const uint32_t *)KV_TABLE_AT)

#define NUMBER  0x80000000u
#define LIBRARY 0x40000000u
#define EXPIRES 0x20000000u
#define UNIT    0x1fffffffu

enum {
    SLOTS = 6,
    NEXT = 6, /* words of a bucket */
    LENGTHS = 7,
    REFS = 10,
    LENGTH_UNKNOWN = 0xffff,
    CHAIN_MAX = 1 << 20,
    CHAIN_STEP = 64, /* buckets between two questions */
    KEY_BYTES_MAX = 0xff00,
    LONG_BYTES = 4096,
    MANY_KEYS = 64,       /* that are looked up in step */
    MANY_BYTES = 256,     /* of a key that is */
    MANY_KEYS_ASK = 1024, /* between two questions */
};

__attribute__((import_module("env"), import_name("ask"))) void ask(void);

#define EXPORT(name) __attribute__((export_name(#name)))

static const uint32_t *
bucket_of(uint32_t hash)
{
    uint32_t mask = WORDS[5], index = hash & mask;
    if (index >= WORDS[4])
        index = hash & mask >> 1;
    uint32_t part = index >> 4;
    uint32_t segment = part == 0 ? 0 : 32 - (uint32_t)__builtin_clz(part);
    return WORDS + (uint32_t)(WORDS[16 + segment] + (index << 4));
}

static uint32_t
length_in(const uint32_t *bucket, uint32_t slot)
{
    return ((const uint16_t *)(bucket + LENGTHS))[slot];
}

/* Where the value is, and its length above; 0 if its time has come. */
static uint64_t
value_of(uint32_t ref)
{
    const uint32_t *record = WORDS + ((ref & UNIT) << 1);
    uint32_t at = (uint32_t)(uintptr_t)(record + 2);
    if ((ref & EXPIRES) != 0) {
        if ((double)*(const int64_t *)(record + 2) <= *(const double *)(WORDS + 10))
            return 0;
        at += 8;
    }
    return (uint64_t)(*record & 0x3fffffffu) << 32 | at;
}

static uint32_t
number_hash(uint32_t number)
{
    uint32_t h = number ^ WORDS[2];
    h = (h ^ h >> 16) * 0x7feb352du;
    h = (h ^ h >> 15) * 0x846ca68bu;
    return h ^ h >> 16;
}

EXPORT(find_u32)
uint64_t
find_number(uint32_t number)
{
    uint32_t h = number_hash(number);
    const uint32_t *bucket = bucket_of(h);
    for (uint32_t n = 1; n < CHAIN_MAX; n++) {
        for (uint32_t i = 0; i < SLOTS; i++)
            if (bucket[i] == h && (bucket[REFS + i] & (NUMBER | LIBRARY)) == NUMBER)
                return value_of(bucket[REFS + i]);
        if (bucket[NEXT] == 0)
            return 0;
        bucket = WORDS + (bucket[NEXT] << 1);
        if (n % CHAIN_STEP == 0)
            ask();
    }
    return 0;
}

static uint32_t
mix(uint32_t word)
{
    word *= 0xcc9e2d51u;
    return (word << 15 | word >> 17) * 0x1b873593u;
}

static uint32_t
hash_of(const uint8_t *key, uint32_t length)
{
    uint32_t h = WORDS[2], rest = 0, i = 0;
    for (; i + 4 <= length; i += 4) {
        h ^= mix(*(const uint32_t *)(key + i));
        h = (h << 13 | h >> 19) * 5 + 0xe6546b64u;
    }
    for (uint32_t j = length; j-- > i;)
        rest = rest << 8 | key[j];
    h ^= mix(rest) ^ length;
    h = (h ^ h >> 16) * 0x85ebca6bu;
    h = (h ^ h >> 13) * 0xc2b2ae35u;
    return h ^ h >> 16;
}

static bool
has_key(uint32_t ref, const uint8_t *key, uint32_t length)
{
    const uint32_t *record = WORDS + ((ref & UNIT) << 1);
    if (record[1] >> 16 != length)
        return false;
    const uint8_t *own =
        (const uint8_t *)(record + ((ref & EXPIRES) != 0 ? 4 : 2)) + (*record & 0x3fffffffu);
    uint32_t i = 0;
    for (; i + 4 <= length; i += 4)
        if (*(const uint32_t *)(own + i) != *(const uint32_t *)(key + i))
            return false;
    for (; i < length; i++)
        if (own[i] != key[i])
            return false;
    return true;
}

/* Whether KEY is a number as it is usually written. */
static bool
number_of(const uint8_t *key, uint32_t length, uint32_t *ret)
{
    uint64_t number = 0;
    if (length == 0 || length > 10 || (key[0] == '0' && length > 1))
        return false;
    for (uint32_t i = 0; i < length; i++) {
        if (key[i] < '0' || key[i] > '9')
            return false;
        number = number * 10 + (uint64_t)(key[i] - '0');
    }
    *ret = (uint32_t)number;
    return number <= UINT32_MAX;
}

EXPORT(find)
uint64_t
find_bytes(const uint8_t *key, uint32_t length)
{
    uint32_t number;
    if (length > KEY_BYTES_MAX)
        return 0;
    if (number_of(key, length, &number))
        return find_number(number);
    if (length > LONG_BYTES)
        ask();
    uint32_t h = hash_of(key, length);
    const uint32_t *bucket = bucket_of(h);
    for (uint32_t n = 1; n < CHAIN_MAX; n++) {
        for (uint32_t i = 0; i < SLOTS; i++) {
            uint32_t ref = bucket[REFS + i];
            if (bucket[i] == h && ref != 0 && (ref & (NUMBER | LIBRARY)) == 0 &&
                has_key(ref, key, length))
                return value_of(ref);
        }
        if (bucket[NEXT] == 0)
            return 0;
        bucket = WORDS + (bucket[NEXT] << 1);
        if (n % CHAIN_STEP == 0)
            ask();
    }
    return 0;
}

EXPORT(now)
double
present(void)
{
    return *(const double *)(WORDS + 10);
}

static void
check_room(uint32_t to, uint32_t length)
{
    if (length > KV_ROOM_BYTES || to > KV_ROOM_BYTES - length)
        __builtin_trap();
    if (length > LONG_BYTES)
        ask();
}

EXPORT(fill)
void
fill(uint32_t to, uint32_t byte, uint32_t length)
{
    check_room(to, length);
    __builtin_memset((void *)to, (int)byte, length);
}

EXPORT(copy)
void
copy(uint32_t to, uint32_t from, uint32_t length)
{
    check_room(to, length);
    __builtin_memmove((void *)to, (const void *)from, length);
}

/*
 * A look-up waits for memory twice, for the bucket and for the record. What is independent is
 * waited for together, as long as nothing is guessed wrong: so no branch depends on a bucket. A
 * loop that does nothing but touch is short, and of such a one the processor has more in its view
 * at once. The record is not read where the bucket says all: it has the lengths of values that are
 * not long.
 */
static void
touch(const void *at)
{
    (void)*(const volatile uint32_t *)at;
}

/*
 * What the first slot of BUCKET with the hash H says if it has a key of KIND: the place of its
 * record, and the length of the value above. Otherwise above 0 the unit of the next bucket.
 */
static uint64_t
entry_of(const uint32_t *bucket, uint32_t h, uint32_t kind)
{
    uint32_t fits = 0;
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        fits |= (uint32_t)(bucket[slot] == h) << slot;
    uint32_t slot = (uint32_t)__builtin_ctz(fits | 1u << (SLOTS - 1));
    uint32_t ref = bucket[REFS + slot];
    ref = fits != 0 && (ref & (NUMBER | LIBRARY)) == kind ? ref : 0;
    return (uint64_t)(ref != 0 ? length_in(bucket, slot) : bucket[NEXT]) << 32 | ref;
}

static bool
says_all(uint64_t entry)
{
    return (uint32_t)entry != 0 && (entry & EXPIRES) == 0 && entry >> 32 != LENGTH_UNKNOWN;
}

static const uint32_t *
record_of(uint64_t entry)
{
    return WORDS + (((uint32_t)entry & UNIT) << 1);
}

static uint64_t
value_in(uint64_t entry)
{
    return says_all(entry) ? entry >> 32 << 32 | (uint32_t)(uintptr_t)(record_of(entry) + 2)
                           : value_of((uint32_t)entry);
}

/* A bucket and, above, the hash that led to it. */
static uint64_t
bucket_and(uint32_t h)
{
    return (uint64_t)h << 32 | (uint32_t)(uintptr_t)bucket_of(h);
}

static const uint32_t *
words_at(uint64_t place)
{
    return (const uint32_t *)(uintptr_t)(uint32_t)place;
}

/* Where a look-up goes on whose ENTRY does not say all. */
static const uint32_t *
further(uint64_t entry)
{
    return (uint32_t)entry != 0 ? record_of(entry) : WORDS + (uint32_t)(entry >> 31);
}

static void
find_in_step(const uint32_t *numbers, uint32_t count, uint64_t *values)
{
    for (uint32_t i = 0; i < count; i++)
        values[i] = bucket_and(number_hash(numbers[i]));
    for (uint32_t i = 0; i < count; i++)
        touch(words_at(values[i]));
    for (uint32_t i = 0; i < count; i++)
        values[i] = entry_of(words_at(values[i]), (uint32_t)(values[i] >> 32), NUMBER);
    for (uint32_t i = 0; i < count; i++)
        if (!says_all(values[i]))
            touch(further(values[i]));
    for (uint32_t i = 0; i < count; i++)
        values[i] = (uint32_t)values[i] != 0 ? value_in(values[i]) : find_number(numbers[i]);
}

/* LENGTHS has the buckets first. */
static void
measure_in_step(const uint32_t *numbers, uint32_t count, uint32_t *lengths)
{
    uint32_t unsaid = 0;
    for (uint32_t i = 0; i < count; i++)
        lengths[i] = (uint32_t)(uintptr_t)bucket_of(number_hash(numbers[i]));
    for (uint32_t i = 0; i < count; i++)
        touch(words_at(lengths[i]));
    for (uint32_t i = 0; i < count; i++) {
        uint64_t entry = entry_of(words_at(lengths[i]), number_hash(numbers[i]), NUMBER);
        lengths[i] = says_all(entry) ? (uint32_t)(entry >> 32) : LENGTH_UNKNOWN;
        unsaid += !says_all(entry);
    }
    for (uint32_t i = 0; unsaid > 1 && i < count; i++)
        if (lengths[i] == LENGTH_UNKNOWN) {
            uint32_t h = number_hash(numbers[i]);
            touch(further(entry_of(bucket_of(h), h, NUMBER)));
        }
    for (uint32_t i = 0; unsaid > 0 && i < count; i++)
        if (lengths[i] == LENGTH_UNKNOWN)
            lengths[i] = (uint32_t)(find_number(numbers[i]) >> 32);
}

/* Begin with the next keys: how many of the COUNT from AT on. */
static uint32_t
next_keys(uint32_t at, uint32_t count)
{
    if (at % MANY_KEYS_ASK == 0)
        ask();
    return count - at < MANY_KEYS ? count - at : MANY_KEYS;
}

static void
check_out(const void *out, uint32_t count, uint32_t each_bytes)
{
    if (count > KV_ROOM_BYTES / each_bytes)
        __builtin_trap();
    check_room((uint32_t)(uintptr_t)out, count * each_bytes);
}

EXPORT(find_many_u32)
void
find_many_numbers(const uint32_t *numbers, uint32_t count, uint64_t *values)
{
    check_out(values, count, sizeof *values);
    for (uint32_t at = 0; at < count; at += MANY_KEYS)
        find_in_step(numbers + at, next_keys(at, count), values + at);
}

EXPORT(lengths_u32)
void
measure_many_numbers(const uint32_t *numbers, uint32_t count, uint32_t *lengths)
{
    check_out(lengths, count, sizeof *lengths);
    for (uint32_t at = 0; at < count; at += MANY_KEYS)
        measure_in_step(numbers + at, next_keys(at, count), lengths + at);
}

struct key {
    uint32_t at, length;
};

/*
 * The same for keys that are bytes. What is in the first slot with the right hash may be another
 * key's record: has_key() tells.
 */
static void
find_bytes_in_step(const struct key *keys, uint32_t count, uint64_t *values)
{
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *key = (const uint8_t *)keys[i].at;
        uint32_t length = keys[i].length;
        values[i] = 0;
        if (length == 0 || length > MANY_BYTES || (key[0] >= '0' && key[0] <= '9'))
            continue;
        values[i] = bucket_and(hash_of(key, length));
    }
    for (uint32_t i = 0; i < count; i++)
        touch(words_at(values[i]));
    for (uint32_t i = 0; i < count; i++)
        if (values[i] != 0)
            values[i] = entry_of(words_at(values[i]), (uint32_t)(values[i] >> 32), 0);
    for (uint32_t i = 0; i < count; i++)
        touch(further(values[i]));
    for (uint32_t i = 0; i < count; i++)
        if ((uint32_t)values[i] != 0) /* the key is behind the value */
            touch(record_of(values[i]) + 2 + (values[i] >> 34));
    for (uint32_t i = 0; i < count; i++) {
        uint32_t ref = (uint32_t)values[i];
        const uint8_t *key = (const uint8_t *)keys[i].at;
        values[i] = ref != 0 && has_key(ref, key, keys[i].length)
                        ? value_of(ref)
                        : find_bytes(key, keys[i].length);
    }
}

EXPORT(find_many)
void
find_many_keys(const struct key *keys, uint32_t count, uint64_t *values)
{
    check_out(values, count, sizeof *values);
    for (uint32_t at = 0; at < count; at += MANY_KEYS)
        find_bytes_in_step(keys + at, next_keys(at, count), values + at);
}
