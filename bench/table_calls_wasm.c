/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_calls_wasm.c - the walk of table_calls.py as a module of storage functions: the lists of
 * all friends of a node are looked up together.
 */
#include <dormouse/kv_wasm.h>

enum {
    DEPTH_MAX = 8,
    TOGETHER = 64,
    VALUE_BYTES = 300, /* of most lists */
};

static struct kv_value friends[DEPTH_MAX + 1][TOGETHER];
static uint32_t lengths[TOGETHER];

static uint32_t
walk(struct kv_value list, uint32_t depth)
{
    const uint32_t *nodes = (const uint32_t *)list.at;
    uint32_t count = list.length / 4, sum = count;
    for (uint32_t at = 0; depth > 1 && at < count; at += TOGETHER) {
        uint32_t some = count - at < TOGETHER ? count - at : TOGETHER;
        struct kv_value *found = friends[depth];
        if (depth == 2) {
            kv_lengths_u32(nodes + at, some, lengths);
        } else {
            kv_find_many_u32(nodes + at, some, found);
            kv_touch(found, some, VALUE_BYTES);
        }
        for (uint32_t i = 0; i < some; i++)
            sum += depth == 2 ? lengths[i] / 4 : walk(found[i], depth - 1);
    }
    return sum;
}

KV_FUNCTION(module, "no-writes")
{
    uint32_t node = (uint32_t)kv_number(kv_arg(0), 0);
    uint32_t depth = (uint32_t)kv_number(kv_arg(1), 0);
    if (depth > DEPTH_MAX)
        return kv_error("ERR that is too deep");
    return kv_integer(walk(kv_find_u32(node), depth));
}
