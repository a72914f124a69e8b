/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.c - records, and what can be done with keys.
 *
 *     record: u32 length of the value, bit 30: it expires, bit 31: it is a library
 *             u32 length of the key or TABLE_KEY_NUMBER in the upper half; time of the last use
 *             below i64 time of expiry, ms since 1970, if bit 30 is set
 *             the value, then the key (or its four bytes)
 *
 * A record never changes but for its time of use, and what is appended to its value (append.c): a
 * new value or time of expiry is a new record, and one store of its place makes it the key's. So
 * a reader inside a transaction keeps what it found, and a process that dies leaves one or the
 * other. The old block is free afterwards.
 */
#include "table/table.h"

#include <inttypes.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/random.h"
#include "table/hash.h"
#include "table/table_priv.h"

#define NUMBER_BYTES 4

bool
table_record(const struct table *table, uint32_t ref, struct table_record *ret)
{
    uint32_t unit = ref & REF_UNIT_MASK;
    uint32_t top = table->arena.header->top;
    if (unit < TABLE_HEAP_FIRST || unit >= top)
        return false;
    uint8_t *at = table_arena_at(&table->arena, unit);
    /* Read once: what is checked is what is used. */
    uint32_t length = __atomic_load_n((uint32_t *)(void *)at, __ATOMIC_RELAXED);
    uint32_t tag = __atomic_load_n((uint32_t *)(void *)(at + 4), __ATOMIC_RELAXED);
    uint32_t key_bytes = TABLE_TAG_KEY_BYTES(tag);
    bool is_number = key_bytes == TABLE_KEY_NUMBER;
    if (key_bytes > TABLE_KEY_BYTES_MAX && !is_number)
        return false;
    uint32_t offset =
        sizeof(struct table_block) + ((length & TABLE_LENGTH_EXPIRES) != 0 ? 8 : 0);
    struct table_record record = {
        .unit = unit,
        .value_bytes = length & TABLE_LENGTH_MASK,
        .key_bytes = is_number ? NUMBER_BYTES : key_bytes,
        .value_offset = offset,
        .expires = (length & TABLE_LENGTH_EXPIRES) != 0,
        .is_number = is_number,
        .is_library = (length & TABLE_LENGTH_LIBRARY) != 0,
        .at = at,
    };
    record.units = table_heap_units((uint64_t)offset + record.value_bytes + record.key_bytes);
    if (record.units > top - unit)
        return false;
    *ret = record;
    return true;
}

/* The decimal of NUMBER into SCRATCH; its length. */
static uint32_t
write_number(uint32_t number, char scratch[16])
{
    char digits[16];
    unsigned n = 0;
    do
        digits[n++] = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    for (unsigned i = 0; i < n; i++)
        scratch[i] = digits[n - 1 - i];
    return n;
}

struct table_key
table_record_key(const struct table *table, const struct table_record *record, char scratch[16])
{
    uint32_t seed = table->arena.header->seed;
    const uint8_t *bytes = record->at + record->value_offset + record->value_bytes;
    struct table_key key = {
        .bytes = bytes, .length = record->key_bytes, .is_library = record->is_library};
    if (!record->is_number) {
        key.hash = table_hash_bytes(seed, bytes, record->key_bytes);
        return key;
    }
    key.is_number = true;
    key.number = base_le32_get(bytes);
    key.hash = table_hash_number(seed, key.number);
    key.length = write_number(key.number, scratch);
    key.bytes = (const uint8_t *)scratch;
    return key;
}

static int64_t
record_expiry(const struct table_record *record)
{
    return record->expires ? (int64_t)base_le64_get(record->at + sizeof(struct table_block))
                           : 0;
}

struct table_value
table_record_value(const struct table_record *record, uint32_t ref)
{
    int64_t expiry_ms = record_expiry(record);
    return (struct table_value){
        .bytes = record->at + record->value_offset,
        .length = record->value_bytes,
        .ref = ref,
        .expiry_ms = expiry_ms == TABLE_EXPIRY_OPEN ? 0 : expiry_ms,
    };
}

bool
table_record_is_dead(const struct table *table, const struct table_record *record)
{
    return record->expires && record_expiry(record) <= table->now_ms;
}

static int
new_table(const struct table_options *options, struct table **ret)
{
    struct table *table = base_zalloc(sizeof *table);
    if (table == NULL)
        return DOR_E_NO_MEMORY;
    table->policy = options->policy;
    table->changed = options->changed;
    table->context = options->context;
    int rc = base_random_seed_os(&table->random_state, sizeof table->random_state);
    if (rc != 0) {
        base_free(table);
        return rc;
    }
    *ret = table;
    return 0;
}

int
table_create(int fd, const struct table_options *options, struct table **ret)
{
    AUTO_CLOSE int guard = fd;
    struct table *table;
    int rc = new_table(options, &table);
    if (rc != 0)
        return rc;
    uint32_t seed = (uint32_t)base_random_splitmix(&table->random_state);
    rc = table_arena_create(base_take_fd(&guard), options->limit_bytes, seed, &table->arena);
    if (rc != 0) {
        base_free(table);
        return rc;
    }
    *ret = table;
    return 0;
}

/* Whether a process that let go of the table left nothing half done, as far as the header says. */
static bool
is_in_order(const struct table_arena *arena)
{
    const struct table_header *header = arena->header;
    uint32_t count = header->bucket_count;
    return header->journal == 0 && header->journal_count == 0 && header->flush == 0 &&
           header->append == 0 && count >= TABLE_FIRST_BUCKETS && count <= header->top &&
           header->bucket_mask == table_mask_of(count);
}

int
table_open(int fd, const struct table_options *options, bool recover, struct table **ret)
{
    AUTO_CLOSE int guard = fd;
    struct table *table;
    int rc = new_table(options, &table);
    if (rc != 0)
        return rc;
    rc = table_arena_open(
        base_take_fd(&guard), options->limit_bytes, options->mapped, options->mapped_context,
        &table->arena);
    if (rc != 0) {
        base_free(table);
        return rc;
    }
    if ((recover || !is_in_order(&table->arena)) && (rc = table_recover(table)) != 0) {
        table_close(table);
        return rc;
    }
    table->swept_free = table_free_units(table);
    *ret = table;
    return 0;
}

void
table_close(struct table *table)
{
    if (table == NULL)
        return;
    if (table->in_transaction)
        table_abort(table);
    table_arena_close(&table->arena);
    base_free(table->deferred);
    base_free(table->pins);
    base_free(table->drafts);
    base_free(table->hints);
    base_free(table);
}

struct table_arena *
table_arena(struct table *table)
{
    return &table->arena;
}

void
table_stat(const struct table *table, struct table_stat *ret)
{
    const struct table_header *header = table->arena.header;
    *ret = (struct table_stat){
        .keys = header->key_count,
        .libraries = header->library_count,
        .expiring = header->expiring_count,
        .used_bytes = table_used_units(table) * TABLE_UNIT_BYTES + sizeof *header,
        .arena_bytes = (uint64_t)header->top * TABLE_UNIT_BYTES,
        .limit_bytes = (uint64_t)header->limit_units * TABLE_UNIT_BYTES,
        .expired = table->expired,
        .evicted = table->evicted,
        .splits = table->splits,
        .damaged = table->damaged,
    };
}

void
table_set_limit(struct table *table, uint64_t limit_bytes, enum table_policy policy)
{
    uint64_t mapped = table->arena.mapped_bytes;
    table_arena_touch(&table->arena, 0, DOR_PAGE_BYTES);
    table->arena.header->limit_units =
        (uint32_t)(base_min_u64(limit_bytes, mapped) / TABLE_UNIT_BYTES);
    table->policy = policy;
}

/* Whether BYTES is the decimal of a number below 2^32 as it is usually written. */
static bool
parse_number(const uint8_t *bytes, size_t length, uint32_t *ret)
{
    if (length == 0 || length > 10 || (bytes[0] == '0' && length > 1))
        return false;
    uint64_t number = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned digit = bytes[i] - (unsigned)'0';
        if (digit > 9)
            return false;
        number = number * 10 + digit;
    }
    *ret = (uint32_t)number;
    return number <= UINT32_MAX;
}

bool
table_key(const struct table *table, const void *bytes, size_t length, struct table_key *ret)
{
    if (length > TABLE_KEY_LENGTH_MAX)
        return false;
    uint32_t seed = table->arena.header->seed;
    struct table_key key = {.bytes = bytes, .length = (uint32_t)length};
    key.is_number = parse_number(bytes, length, &key.number);
    key.hash = key.is_number ? table_hash_number(seed, key.number)
                             : table_hash_bytes(seed, bytes, length);
    *ret = key;
    return true;
}

bool
table_library_key(
    const struct table *table, const void *bytes, size_t length, struct table_key *ret)
{
    if (length > TABLE_KEY_LENGTH_MAX)
        return false;
    *ret = (struct table_key){
        .bytes = bytes,
        .length = (uint32_t)length,
        .hash = table_hash_bytes(table->arena.header->seed, bytes, length),
        .is_library = true,
    };
    return true;
}

void
table_set_now(struct table *table, int64_t now_ms)
{
    table->now_ms = now_ms;
    struct table_header *header = table->arena.header;
    table_arena_touch(&table->arena, 0, DOR_PAGE_BYTES);
    header->now_ms = (double)now_ms;
}

int64_t
table_now(const struct table *table)
{
    return table->now_ms;
}

void
table_count(struct table *table, uint32_t ref, int sign)
{
    struct table_header *header = table->arena.header;
    uint32_t n = (uint32_t)sign;
    table_arena_touch(&table->arena, 0, DOR_PAGE_BYTES);
    if ((ref & REF_LIBRARY) != 0)
        header->library_count += n;
    else
        header->key_count += n;
    if ((ref & REF_EXPIRES) != 0)
        header->expiring_count += n;
}

/* The first pin of a record at UNIT or behind it; pins are in order. */
static size_t
pin_at(const struct table *table, uint32_t unit)
{
    size_t low = 0, high = table->pin_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (table->pins[middle].unit < unit)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct table_pin *
find_pin(const struct table *table, uint32_t unit)
{
    size_t at = pin_at(table, unit);
    return at < table->pin_count && table->pins[at].unit == unit ? &table->pins[at] : NULL;
}

void
table_free_block(struct table *table, uint32_t unit, uint32_t units)
{
    struct table_pin *pin = find_pin(table, unit);
    if (pin != NULL) {
        pin->units = units;
        return;
    }
    table_heap_free(&table->arena, unit, units);
}

bool
table_is_held(const struct table *table, uint32_t unit)
{
    for (size_t i = 0; i < table->draft_count; i++)
        if (table->drafts[i].unit == unit)
            return true;
    return find_pin(table, unit) != NULL;
}

int
table_pin(struct table *table, uint32_t ref)
{
    uint32_t unit = ref & REF_UNIT_MASK;
    struct table_pin *pin = find_pin(table, unit);
    if (pin != NULL) {
        pin->pins++;
        return 0;
    }
    if (table->pin_count == table->pin_cap) {
        size_t cap = table->pin_cap == 0 ? 8 : 2 * table->pin_cap;
        struct table_pin *grown = base_realloc_array(table->pins, cap, sizeof *grown);
        if (grown == NULL)
            return DOR_E_NO_MEMORY;
        table->pins = grown;
        table->pin_cap = cap;
    }
    size_t at = pin_at(table, unit);
    memmove(
        table->pins + at + 1, table->pins + at, (table->pin_count - at) * sizeof *table->pins);
    table->pins[at] = (struct table_pin){.unit = unit, .pins = 1};
    table->pin_count++;
    return 0;
}

void
table_unpin(struct table *table, uint32_t ref)
{
    struct table_pin *pin = find_pin(table, ref & REF_UNIT_MASK);
    if (pin == NULL || --pin->pins > 0)
        return;
    struct table_pin last = *pin;
    size_t behind = (size_t)(table->pins + --table->pin_count - pin);
    memmove(pin, pin + 1, behind * sizeof *pin);
    if (last.units != 0)
        table_free_block(table, last.unit, last.units);
}

static void
tell(
    const struct table *table, enum table_change change, const struct table_key *key,
    const struct table_value *value)
{
    if (table->changed != NULL)
        table->changed(table->context, change, key, value);
}

/*
 * Let NEW_REF take the place of what SLOT holds under HASH; either may be none. On an error
 * nothing has changed.
 */
static int
replace(struct table *table, uint32_t hash, struct table_slot slot, uint32_t new_ref)
{
    uint32_t old_ref = slot.bucket != NULL ? slot.bucket->ref[slot.index] : 0;
    struct table_record old = {0};
    bool has_old = old_ref != 0 && table_record(table, old_ref, &old);
    if (table->in_transaction) {
        int rc = has_old ? table_defer_free(table, old.unit, old.units) : 0;
        if (rc == 0 && (rc = table_journal_add(table, hash, old_ref, new_ref)) != 0 && has_old)
            table->deferred_count--;
        if (rc != 0)
            return rc;
    }
    table_arena_touch(&table->arena, 0, DOR_PAGE_BYTES);
    if (slot.bucket == NULL) {
        int rc = table_slot_insert(table, hash, new_ref);
        if (rc != 0) {
            if (table->in_transaction)
                table->arena.header->journal_count--;
            return rc;
        }
    } else if (new_ref == 0) {
        table_slot_remove(table, hash, slot);
    } else {
        table_slot_put(table, slot, new_ref);
    }
    if (has_old)
        table_drop_slack(table, old.unit + old.units);
    if (new_ref != 0)
        table_count(table, new_ref, 1);
    if (__builtin_expect((new_ref & REF_LIBRARY) != 0, 0))
        table_note_library(table, hash);
    if (old_ref != 0)
        table_count(table, old_ref, -1);
    if (has_old && !table->in_transaction)
        table_free_block(table, old.unit, old.units);
    if (slot.bucket == NULL)
        table_buckets_grow(table);
    return 0;
}

bool
table_drop_slot(struct table *table, struct table_slot slot)
{
    uint32_t ref = slot.bucket->ref[slot.index];
    uint32_t hash = slot.bucket->hash[slot.index];
    struct table_record record;
    char scratch[16];
    struct table_key key = {0};
    bool known = table_record(table, ref, &record);
    if (known)
        key = table_record_key(table, &record, scratch);
    /* The hook reads the key where it lies, so it is told before the block is free. */
    if (known && !record.is_library)
        tell(table, TABLE_CHANGE_REMOVE, &key, NULL);
    return replace(table, hash, slot, 0) == 0;
}

bool
table_find(
    struct table *table, const struct table_key *key, bool touch, struct table_value *ret)
{
    struct table_slot slot = table_slot_of_key(table, key);
    if (slot.bucket == NULL)
        return false;
    uint32_t ref = slot.bucket->ref[slot.index];
    struct table_record record;
    if (!table_record(table, ref, &record))
        return false;
    if (table_record_is_dead(table, &record)) {
        if (table_drop_slot(table, slot))
            table->expired++;
        return false;
    }
    if (touch && table->policy == TABLE_EVICT_LRU) {
        /* Not saved for a mark: a time of use that is newer than the rest does no harm. */
        uint16_t *use = (uint16_t *)(void *)(record.at + 4);
        if (*use != table_use_now(table))
            *use = table_use_now(table);
    }
    *ret = table_record_value(&record, ref);
    return true;
}

uint32_t
table_value_handle(const struct table_value *value)
{
    return (value->ref & REF_UNIT_MASK) * (TABLE_UNIT_BYTES / (uint32_t)sizeof(uint32_t));
}

uint32_t
table_free_units(const struct table *table)
{
    const struct table_header *header = table->arena.header;
    uint32_t used = header->used_units + TABLE_HEAP_FIRST;
    return header->top > used ? header->top - used : 0;
}

/* A block for a record, below what is kept for buckets and the journal. */
static int
alloc_block(struct table *table, uint64_t size_bytes, uint32_t *ret)
{
    uint32_t unit = 0;
    int rc = table_heap_alloc(&table->arena, size_bytes, &unit);
    if (rc != 0)
        return rc;
    uint32_t units = table_heap_units(size_bytes);
    if (unit + units > table->arena.records_end) {
        table_heap_free(&table->arena, unit, units);
        return dor_fail(DOR_E_NO_SPACE, "the table has no room in one piece");
    }
    *ret = unit;
    return 0;
}

/* The same with SLACK units behind it if there is room for them, and nobody has to go for it. */
static int
alloc_record(struct table *table, uint64_t size_bytes, uint32_t slack, uint32_t *ret)
{
    uint32_t units = table_heap_units(size_bytes);
    uint64_t all_bytes = ((uint64_t)units + slack) * TABLE_UNIT_BYTES;
    uint32_t all_units = table_heap_units(all_bytes);
    uint64_t want = table_used_units(table) + all_units + TABLE_HEAP_FIRST;
    if (slack == 0 || want > table->arena.header->limit_units ||
        alloc_block(table, all_bytes, ret) != 0)
        return alloc_block(table, size_bytes, ret);
    table_write_slack(table, *ret + units, all_units - units);
    return 0;
}

int
table_make_draft(
    struct table *table, const struct table_key *key, size_t length, int64_t expiry_ms,
    uint32_t slack, struct table_draft *ret)
{
    if (length > TABLE_VALUE_BYTES_MAX)
        return dor_fail(DOR_E_USAGE, "a value of %zu bytes: 512 MiB are possible", length);
    uint32_t offset = sizeof(struct table_block) + (expiry_ms != 0 ? 8 : 0);
    uint32_t key_bytes = key->is_number ? NUMBER_BYTES : key->length;
    uint64_t size_bytes = (uint64_t)offset + length + key_bytes;
    uint32_t units = table_heap_units(size_bytes);
    uint32_t unit = 0;
    int rc = table_make_room(table, units);
    if (rc == 0)
        rc = alloc_record(table, size_bytes, slack, &unit);
    if (rc != 0)
        return rc;
    uint8_t *at = table_arena_at(&table->arena, unit);
    table_arena_touch(&table->arena, (uint64_t)unit * TABLE_UNIT_BYTES, size_bytes);
    uint32_t flags = (expiry_ms != 0 ? TABLE_LENGTH_EXPIRES : 0) |
                     (key->is_library ? TABLE_LENGTH_LIBRARY : 0);
    uint32_t tag_key = key->is_number ? TABLE_KEY_NUMBER : key->length;
    base_le32_put(at, (uint32_t)length | flags);
    base_le32_put(at + 4, tag_key << 16 | table_use_now(table));
    if (expiry_ms != 0)
        base_le64_put(at + sizeof(struct table_block), (uint64_t)expiry_ms);
    if (key->is_number)
        base_le32_put(at + offset + length, key->number);
    else
        memcpy(at + offset + length, key->bytes, key->length);
    *ret = (struct table_draft){
        .unit = unit, .units = units, .length = (uint32_t)length, .bytes = at + offset};
    return 0;
}

int
table_draft(
    struct table *table, const struct table_key *key, size_t length, int64_t expiry_ms,
    struct table_draft *ret)
{
    if (table->draft_count == table->draft_cap) {
        size_t cap = table->draft_cap == 0 ? 8 : 2 * table->draft_cap;
        struct table_extent *grown = base_realloc_array(table->drafts, cap, sizeof *grown);
        if (grown == NULL)
            return DOR_E_NO_MEMORY;
        table->drafts = grown;
        table->draft_cap = cap;
    }
    int rc = table_make_draft(table, key, length, expiry_ms, 0, ret);
    if (rc == 0)
        table->drafts[table->draft_count++] = (struct table_extent){ret->unit, ret->units};
    return rc;
}

/* DRAFT is in the list when others could change the table while it was filled. */
static void
forget_draft(struct table *table, const struct table_draft *draft)
{
    for (size_t i = 0; i < table->draft_count; i++)
        if (table->drafts[i].unit == draft->unit) {
            table->drafts[i] = table->drafts[--table->draft_count];
            return;
        }
}

void
table_set_draft_expiry(struct table *table, struct table_draft *draft, int64_t expiry_ms)
{
    uint8_t *at = table_arena_at(&table->arena, draft->unit);
    dor_assert((base_le32_get(at) & TABLE_LENGTH_EXPIRES) != 0);
    base_le64_put(
        at + sizeof(struct table_block),
        (uint64_t)(expiry_ms != 0 ? expiry_ms : TABLE_EXPIRY_OPEN));
}

void
table_drop_draft(struct table *table, struct table_draft *draft)
{
    forget_draft(table, draft);
    if (draft->units != 0) {
        table_drop_slack(table, draft->unit + draft->units);
        table_heap_free(&table->arena, draft->unit, draft->units);
    }
    *draft = (struct table_draft){0};
}

/* Let DRAFT be the record of KEY, told to nobody; *RET is its place. */
static int
place(
    struct table *table, const struct table_key *key, struct table_draft *draft, uint32_t *ret)
{
    const struct table_block *block = table_arena_at(&table->arena, draft->unit);
    uint32_t ref = draft->unit | (key->is_number ? REF_NUMBER : 0) |
                   (key->is_library ? REF_LIBRARY : 0) |
                   ((block->length & TABLE_LENGTH_EXPIRES) != 0 ? REF_EXPIRES : 0);
    int rc = replace(table, key->hash, table_slot_of_key(table, key), ref);
    if (rc != 0) {
        table_drop_draft(table, draft);
        return rc;
    }
    forget_draft(table, draft);
    *draft = (struct table_draft){0};
    *ret = ref;
    return 0;
}

int
table_place_draft(struct table *table, const struct table_key *key, struct table_draft *draft)
{
    uint32_t ref;
    return place(table, key, draft, &ref);
}

static int
commit_draft(
    struct table *table, const struct table_key *key, struct table_draft *draft,
    enum table_change change)
{
    uint32_t ref;
    struct table_record record;
    int rc = place(table, key, draft, &ref);
    if (rc == 0 && table->changed != NULL && table_record(table, ref, &record)) {
        struct table_value value = table_record_value(&record, ref);
        tell(table, change, key, &value);
    }
    return rc;
}

int
table_commit_draft(struct table *table, const struct table_key *key, struct table_draft *draft)
{
    return commit_draft(table, key, draft, TABLE_CHANGE_SET);
}

int
table_set(
    struct table *table, const struct table_key *key, const void *bytes, size_t length,
    int64_t expiry_ms)
{
    struct table_draft draft = {0};
    int rc = table_make_draft(table, key, length, expiry_ms, 0, &draft);
    if (rc != 0)
        return rc;
    if (length != 0)
        memcpy(draft.bytes, bytes, length);
    return commit_draft(table, key, &draft, TABLE_CHANGE_SET);
}

bool
table_remove(struct table *table, const struct table_key *key)
{
    struct table_value value;
    if (!table_find(table, key, false, &value) ||
        replace(table, key->hash, table_slot_of_key(table, key), 0) != 0)
        return false;
    tell(table, TABLE_CHANGE_REMOVE, key, NULL);
    return true;
}

int
table_expire(
    struct table *table, const struct table_key *key, int64_t expiry_ms, bool *ret_found)
{
    struct table_value value;
    if (!table_find(table, key, false, &value)) {
        *ret_found = false;
        return 0;
    }
    int rc = 0;
    if (expiry_ms != 0 && expiry_ms <= table->now_ms) {
        if (!table_remove(table, key))
            return dor_fail(DOR_E_NO_MEMORY, "the key could not be removed");
    } else if (value.expiry_ms != expiry_ms) {
        struct table_draft draft = {0};
        rc = table_pin(table, value.ref); /* it may be evicted to make room for itself */
        if (rc != 0)
            return rc;
        rc = table_make_draft(table, key, value.length, expiry_ms, 0, &draft);
        if (rc == 0) {
            dor_assert(draft.bytes != NULL);
            memcpy(draft.bytes, value.bytes, value.length);
            rc = commit_draft(table, key, &draft, TABLE_CHANGE_EXPIRY);
        }
        table_unpin(table, value.ref);
    }
    if (rc == 0)
        *ret_found = true;
    return rc;
}
