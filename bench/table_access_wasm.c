/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_access_wasm.c - the workloads of table_access.c as a module of storage functions.
 */
#include <dormouse/kv_wasm.h>

#include <stdbool.h>

enum {
    DEPTH = 3,
    ROOTS = 4,
    TEXT_KEYS = 2000,
    TEXT_STEP = 7919,
    NAME_BYTES = 16,
    TOGETHER = 128,    /* more friends than anybody has */
    VALUE_BYTES = 300, /* of most lists */
    TEXTS = 50,        /* that are looked up together */
};

static struct kv_value friends_at[DEPTH + 1][TOGETHER];
static uint32_t lengths[TOGETHER];

static uint32_t
walk(uint32_t node, uint32_t depth, bool sum_last)
{
    struct kv_value list = kv_find_u32(node);
    const uint32_t *friends = (const uint32_t *)list.at;
    uint32_t count = list.length / 4, sum = count;
    if (depth == 1 && !sum_last)
        return count;
    for (uint32_t i = 0; i < count; i++)
        sum += depth == 1 ? friends[i] : walk(friends[i], depth - 1, sum_last);
    return sum;
}

static uint32_t
sum_of(struct kv_value list)
{
    const uint32_t *friends = (const uint32_t *)list.at;
    uint32_t count = list.length / 4, sum = count;
    for (uint32_t i = 0; i < count; i++)
        sum += friends[i];
    return sum;
}

/* The same with the lists of all friends of a node looked up together. */
static uint32_t
walk_many(struct kv_value list, uint32_t depth, bool sum_last)
{
    struct kv_value *found = friends_at[depth];
    uint32_t count = list.length / 4, sum = count;
    if (depth == 2 && !sum_last) {
        kv_lengths_u32((const uint32_t *)list.at, count, lengths);
        for (uint32_t i = 0; i < count; i++)
            sum += lengths[i] / 4;
        return sum;
    }
    kv_find_many_u32((const uint32_t *)list.at, count, found);
    kv_touch(found, count, VALUE_BYTES);
    for (uint32_t i = 0; i < count; i++)
        sum += depth > 2 ? walk_many(found[i], depth - 1, sum_last) : sum_of(found[i]);
    return sum;
}

/* The names of all nodes are a value of the table. */
static struct kv_value
all_names(void)
{
    return kv_find("names", 5);
}

static kv_reply
walks(bool sum_last, bool many)
{
    uint32_t turn = (uint32_t)kv_number(kv_arg(0), 0), sum = 0;
    uint32_t nodes = all_names().length / NAME_BYTES;
    for (uint32_t i = 0; i < ROOTS; i++) {
        uint32_t node = (turn + i) * TEXT_STEP % nodes;
        sum +=
            many ? walk_many(kv_find_u32(node), DEPTH, sum_last) : walk(node, DEPTH, sum_last);
    }
    return kv_integer(sum);
}

KV_FUNCTION(wasm_khop, "no-writes")
{
    return walks(false, false);
}

KV_FUNCTION(wasm_sum, "no-writes")
{
    return walks(true, false);
}

static kv_reply
texts(bool many)
{
    struct kv_value names = all_names(), keys[TEXTS], values[TEXTS];
    uint32_t turn = (uint32_t)kv_number(kv_arg(0), 0), sum = 0;
    uint32_t nodes = names.length / NAME_BYTES;
    uint32_t at = (uint32_t)((uint64_t)(turn / ROOTS * TEXT_KEYS % nodes) * TEXT_STEP % nodes);
    for (uint32_t i = 0; i < TEXT_KEYS; i += TEXTS) {
        for (uint32_t k = 0; k < TEXTS; k++, at = (at + TEXT_STEP) % nodes) {
            keys[k] = (struct kv_value){names.at + at * NAME_BYTES, 0};
            while (keys[k].at[keys[k].length] != '\0')
                keys[k].length++;
            if (!many)
                sum += *(const uint32_t *)kv_find(keys[k].at, keys[k].length).at;
        }
        if (many)
            kv_find_many(keys, TEXTS, values);
        for (uint32_t k = 0; many && k < TEXTS; k++)
            sum += *(const uint32_t *)values[k].at;
    }
    return kv_integer(sum);
}

KV_FUNCTION(wasm_text, "no-writes")
{
    return texts(false);
}

KV_FUNCTION(wasm_text_many, "no-writes")
{
    return texts(true);
}

KV_FUNCTION(wasm_khop_many, "no-writes")
{
    return walks(false, true);
}

KV_FUNCTION(wasm_sum_many, "no-writes")
{
    return walks(true, true);
}
