/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_access_wasm.c - the workloads of table_access.c as a module of storage functions.
 */
#include <dormouse/kv_wasm.h>

#include <stdbool.h>

enum { DEPTH = 3, ROOTS = 4, TEXT_KEYS = 2000, TEXT_STEP = 7919, NAME_BYTES = 16 };

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

/* The names of all nodes are a value of the table. */
static struct kv_value
all_names(void)
{
    return kv_find("names", 5);
}

static kv_reply
walks(bool sum_last)
{
    uint32_t turn = (uint32_t)kv_number(kv_arg(0), 0), sum = 0;
    uint32_t nodes = all_names().length / NAME_BYTES;
    for (uint32_t i = 0; i < ROOTS; i++)
        sum += walk((turn + i) * TEXT_STEP % nodes, DEPTH, sum_last);
    return kv_integer(sum);
}

KV_FUNCTION(wasm_khop, "no-writes")
{
    return walks(false);
}

KV_FUNCTION(wasm_sum, "no-writes")
{
    return walks(true);
}

KV_FUNCTION(wasm_text, "no-writes")
{
    struct kv_value names = all_names();
    uint32_t turn = (uint32_t)kv_number(kv_arg(0), 0), sum = 0;
    uint32_t nodes = names.length / NAME_BYTES;
    uint32_t at = (uint32_t)((uint64_t)(turn / ROOTS * TEXT_KEYS % nodes) * TEXT_STEP % nodes);
    for (uint32_t i = 0; i < TEXT_KEYS; i++, at = (at + TEXT_STEP) % nodes) {
        const uint8_t *name = names.at + at * NAME_BYTES;
        uint32_t length = 0;
        while (name[length] != '\0')
            length++;
        sum += *(const uint32_t *)kv_find(name, length).at;
    }
    return kv_integer(sum);
}
