/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libraries.c - the libraries of a table, which are few among many keys and are needed together.
 *
 * The hashes of those that were set or met are kept beside the table as a hint: the chains that
 * they lead to are looked at first. If that finds another number of libraries than the header
 * says, all buckets are looked at, and the hint is made anew.
 */
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "table/table_priv.h"

#define HINTS_MAX 4096

void
table_note_library(struct table *table, uint32_t hash)
{
    for (size_t i = 0; i < table->hint_count; i++)
        if (table->hints[i] == hash)
            return;
    if (table->hint_count == HINTS_MAX) {
        table->hint_count =
            0; /* most of them are gone: the next look finds those that are not */
        return;
    }
    if (table->hint_count == table->hint_cap) {
        size_t cap = table->hint_cap == 0 ? 8 : 2 * table->hint_cap;
        uint32_t *grown = base_realloc_array(table->hints, cap, sizeof *grown);
        if (grown == NULL)
            return; /* it is only a hint */
        table->hints = grown;
        table->hint_cap = cap;
    }
    table->hints[table->hint_count++] = hash;
}

/* Add the libraries of BUCKET, those with HASH alone unless ANY, to RET; LEFT of them at most. */
static int
gather_bucket(
    const struct table_bucket *bucket, uint32_t hash, bool any, uint32_t *left,
    struct base_buf *ret)
{
    for (unsigned i = 0; i<TABLE_BUCKET_SLOTS && * left> 0; i++) {
        const struct table_library_entry entry = {bucket->hash[i], bucket->ref[i]};
        if ((entry.ref & REF_LIBRARY) == 0 || (!any && entry.hash != hash))
            continue;
        int rc = base_buf_append(ret, &entry, sizeof entry);
        if (rc != 0)
            return rc;
        (*left)--;
    }
    return 0;
}

static int
gather_chain(
    const struct table *table, uint32_t index, uint32_t hash, bool any, uint32_t *left,
    struct base_buf *ret)
{
    const struct table_bucket *bucket = table_bucket(table, index);
    int rc = 0;
    for (uint32_t n = 0; rc == 0 && bucket != NULL && n<TABLE_CHAIN_MAX && * left> 0; n++) {
        rc = gather_bucket(bucket, hash, any, left, ret);
        bucket = table_bucket_next(table, bucket);
    }
    return rc;
}

int
table_gather_libraries(struct table *table, struct base_buf *ret)
{
    const struct table_header *header = table->arena.header;
    uint32_t left = header->library_count;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < table->hint_count; i++) {
        uint32_t hash = table->hints[i];
        rc = gather_chain(table, table_bucket_index(table, hash), hash, false, &left, ret);
    }
    if (rc != 0 || left == 0)
        return rc;
    ret->size_bytes = 0;
    left = header->library_count;
    uint32_t count = header->bucket_count;
    for (uint32_t index = 0; rc == 0 && index < count && left > 0; index++)
        rc = gather_chain(table, index, 0, true, &left, ret);
    table->hint_count = 0;
    const struct table_library_entry *entries = (const void *)ret->data;
    for (size_t i = 0; i < ret->size_bytes / sizeof *entries; i++)
        table_note_library(table, entries[i].hash);
    return rc;
}

int
table_each_library(struct table *table, table_scan_fn *fn, void *context)
{
    AUTO_BUF struct base_buf found = {0};
    int rc = table_gather_libraries(table, &found);
    const struct table_library_entry *entries = (const void *)found.data;
    size_t count = rc == 0 ? found.size_bytes / sizeof *entries : 0;
    for (size_t i = 0; i < count; i++) {
        struct table_record record;
        if (table_slot_of_ref(table, entries[i].hash, entries[i].ref).bucket == NULL ||
            !table_record(table, entries[i].ref, &record))
            continue;
        char scratch[16];
        struct table_key key = table_record_key(table, &record, scratch);
        struct table_value value = table_record_value(&record, entries[i].ref);
        if (!fn(context, &key, &value))
            break;
    }
    return rc;
}
