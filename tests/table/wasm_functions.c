/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wasm_functions.c - the functions in C that t_table_wasm.py compiles to WebAssembly: what the
 * header offers, and what a hostile one would try.
 */
#include <dormouse/kv_wasm.h>

static volatile uint32_t sink;

static uint32_t
argument(uint32_t index)
{
    return (uint32_t)kv_number(kv_arg(index), 0);
}

/* ---- what is offered ---- */

KV_FUNCTION(w_get, "no-writes the value of a key")
{
    struct kv_value value = kv_find(kv_key(0).at, kv_key(0).length);
    return value.at != NULL ? kv_bulk(value.at, value.length) : NULL;
}

KV_FUNCTION(w_length, "no-writes")
{
    struct kv_value value = kv_find(kv_key(0).at, kv_key(0).length);
    return value.at != NULL ? kv_integer(value.length) : NULL;
}

/* How many keys there are, of those that are told. */
KV_FUNCTION(w_found, "no-writes")
{
    int64_t found = 0;
    for (uint32_t i = 0; i < kv_key_count(); i++)
        found += kv_find(kv_key(i).at, kv_key(i).length).at != NULL;
    return kv_integer(found);
}

KV_FUNCTION(w_words, "no-writes")
{
    struct kv_writer writer = {0};
    kv_write_array(&writer, 2);
    kv_write_array(&writer, kv_key_count());
    for (uint32_t i = 0; i < kv_key_count(); i++)
        kv_write_bulk(&writer, kv_key(i).at, kv_key(i).length);
    kv_write_array(&writer, kv_arg_count());
    for (uint32_t i = 0; i < kv_arg_count(); i++)
        kv_write_bulk(&writer, kv_arg(i).at, kv_arg(i).length);
    return kv_written(&writer);
}

KV_FUNCTION(w_kinds, "no-writes")
{
    struct kv_writer writer = {0};
    kv_write_array(&writer, 7);
    kv_write_null(&writer);
    kv_write_bool(&writer, 1);
    kv_write_integer(&writer, INT64_MIN);
    kv_write_double(&writer, 0.5);
    kv_write_bulk(&writer, "a\0b", 3);
    kv_write_map(&writer, 1);
    kv_write_integer(&writer, 1);
    kv_write_bool(&writer, 0);
    kv_write_text(&writer, '+', "FINE", 4);
    return kv_written(&writer);
}

KV_FUNCTION(w_number, "no-writes")
{
    return kv_integer(kv_number(kv_arg(0), -7));
}

KV_FUNCTION(w_error, "no-writes")
{
    return kv_error("BAD thing");
}

KV_FUNCTION(w_now, "no-writes")
{
    return kv_double(kv_now());
}

static uint32_t
walk(uint32_t node, uint32_t depth)
{
    struct kv_value list = kv_find_u32(node);
    const uint32_t *friends = (const uint32_t *)list.at;
    uint32_t count = list.length / 4, sum = count;
    for (uint32_t i = 0; depth > 1 && i < count; i++)
        sum += walk(friends[i], depth - 1);
    return sum;
}

/* Of look-ups together: those found differently one by one, those of no key, all bytes. */
struct compared {
    uint32_t wrong, none;
    uint64_t bytes;
};

static void
compare(struct compared *compared, struct kv_value one, struct kv_value together)
{
    compared->wrong += one.at != together.at || one.length != together.length;
    compared->none += together.at == NULL;
    compared->bytes += together.length;
}

static kv_reply
told(const struct compared *compared)
{
    struct kv_writer writer = {0};
    kv_write_array(&writer, 3);
    kv_write_integer(&writer, compared->wrong);
    kv_write_integer(&writer, compared->none);
    kv_write_integer(&writer, (int64_t)compared->bytes);
    return kv_written(&writer);
}

/* Numbers in a value. */
KV_FUNCTION(w_many, "no-writes")
{
    struct kv_value keys = kv_find(kv_key(0).at, kv_key(0).length);
    uint32_t count = keys.length / 4;
    struct compared compared = {0};
    struct kv_value *values = kv_alloc(count * sizeof *values);
    kv_find_many_u32((const uint32_t *)keys.at, count, values);
    uint32_t *lengths = kv_alloc(count * sizeof *lengths);
    kv_lengths_u32((const uint32_t *)keys.at, count, lengths);
    for (uint32_t i = 0; i < count; i++) {
        compare(&compared, kv_find_u32(((const uint32_t *)keys.at)[i]), values[i]);
        compared.wrong += lengths[i] != values[i].length;
    }
    return told(&compared);
}

/* The keys of the call. */
KV_FUNCTION(w_many_keys, "no-writes")
{
    uint32_t count = kv_key_count();
    struct compared compared = {0};
    struct kv_value *keys = kv_alloc(count * sizeof *keys);
    struct kv_value *values = kv_alloc(count * sizeof *values);
    for (uint32_t i = 0; i < count; i++)
        keys[i] = kv_key(i);
    kv_find_many(keys, count, values);
    for (uint32_t i = 0; i < count; i++)
        compare(&compared, kv_find(keys[i].at, keys[i].length), values[i]);
    return told(&compared);
}

/* Values where nothing may be written. */
KV_FUNCTION(w_many_out, "no-writes")
{
    kv_find_many_u32_raw((const uint32_t *)64, 4, (void *)(uintptr_t)(KV_ROOM_BYTES - 8));
    return kv_integer(0);
}

KV_FUNCTION(w_lengths_out, "no-writes")
{
    kv_lengths_u32((const uint32_t *)64, 4, (uint32_t *)(uintptr_t)(KV_ROOM_BYTES - 8));
    return kv_integer(0);
}

KV_FUNCTION(w_many_keys_out, "no-writes")
{
    kv_find_many_raw((const void *)64, 4, (void *)(uintptr_t)(KV_ROOM_BYTES - 8));
    return kv_integer(0);
}

KV_FUNCTION(w_walk, "no-writes")
{
    return kv_integer(walk((uint32_t)kv_number(kv_key(0), 0), argument(0)));
}

/* ---- changes ---- */

KV_FUNCTION(w_put, "")
{
    kv_put(kv_key(0).at, kv_key(0).length, kv_arg(0).at, kv_arg(0).length, (double)argument(1));
    return w_get();
}

KV_FUNCTION(w_put_ro, "no-writes")
{
    return w_put();
}

KV_FUNCTION(w_del, "")
{
    return kv_integer(kv_del(kv_key(0).at, kv_key(0).length));
}

/* A key's value becomes another one's, from where it lies. */
KV_FUNCTION(w_copy, "")
{
    struct kv_value value = kv_find(kv_key(0).at, kv_key(0).length);
    kv_put(kv_key(1).at, kv_key(1).length, value.at, value.length, 0);
    return kv_integer(value.length);
}

/* So many keys of so many bytes, each found at once. */
KV_FUNCTION(w_put_many, "")
{
    uint32_t found = 0, length = argument(1);
    uint8_t *value = kv_alloc(length);
    for (uint32_t i = 0; i < argument(0); i++) {
        uint8_t key[5] = {'m', (uint8_t)i, (uint8_t)(i >> 8), (uint8_t)(i >> 16), 'k'};
        value[0] = (uint8_t)i;
        kv_put(key, sizeof key, value, length, 0);
        struct kv_value own = kv_find(key, sizeof key);
        found += own.length == length && own.at[0] == (uint8_t)i;
    }
    return kv_integer(found);
}

KV_FUNCTION(w_put_and_trap, "")
{
    kv_put(kv_key(0).at, kv_key(0).length, "gone", 4, 0);
    __builtin_trap();
}

/* ---- memory ---- */

static uint32_t counter = 40;
static uint32_t big[1 << 20];

KV_FUNCTION(w_count, "no-writes")
{
    big[1 << 19]++;
    counter++;
    return kv_integer(counter + big[1 << 19]);
}

/* Writes at the places it is told, and counts those that were not as at first. */
KV_FUNCTION(w_scribble, "no-writes")
{
    uint32_t changed = counter != 40;
    counter = 1;
    for (uint32_t i = 0; i < kv_arg_count(); i++) {
        uint8_t *at = (uint8_t *)(uintptr_t)argument(i);
        changed += *at != 0;
        *at = 1;
    }
    return kv_integer(changed);
}

KV_FUNCTION(w_alloc, "no-writes")
{
    uint32_t sum = 0;
    uint8_t *bytes = kv_alloc(argument(0));
    for (uint32_t i = 0; i < argument(0); i += 4096) {
        sum += bytes[i];
        bytes[i] = 1;
    }
    return kv_integer(sum);
}

KV_FUNCTION(w_pages, "no-writes")
{
    struct kv_writer writer = {0};
    kv_write_array(&writer, 3);
    kv_write_integer(&writer, (int64_t)__builtin_wasm_memory_size(0));
    kv_write_integer(&writer, (int32_t)__builtin_wasm_memory_grow(0, 1));
    kv_write_integer(&writer, (int32_t)__builtin_wasm_memory_grow(0, 0));
    return kv_written(&writer);
}

/* ---- what is tried ---- */

KV_FUNCTION(w_peek, "no-writes")
{
    return kv_integer(*(const volatile uint32_t *)argument(0));
}

/* So many good stores, so that it is compiled well, then one to there. */
KV_FUNCTION(w_poke, "no-writes")
{
    for (uint32_t i = 0; i < argument(1); i++)
        sink = i;
    *(volatile uint32_t *)argument(0) = 7;
    return kv_integer(1);
}

/* The bytes in [FROM, TO) that are not zero, each 4096th of them. */
KV_FUNCTION(w_sweep, "no-writes")
{
    uint32_t sum = 0;
    for (uint64_t at = argument(0); at < argument(1); at += 4096)
        sum += *(const volatile uint8_t *)(uintptr_t)at != 0;
    return kv_integer(sum);
}

KV_FUNCTION(w_fill, "no-writes")
{
    __builtin_memset((void *)argument(0), 1, argument(1));
    return kv_integer(1);
}

KV_FUNCTION(w_copy_bytes, "no-writes")
{
    __builtin_memmove((void *)argument(0), (const void *)argument(1), argument(2));
    return kv_integer(1);
}

KV_FUNCTION(w_put_bytes, "")
{
    kv_put("x", 1, (const void *)argument(0), argument(1), 0);
    return kv_integer(1);
}

KV_FUNCTION(w_bad_reply, "no-writes")
{
    return (kv_reply)argument(0);
}

KV_FUNCTION(w_long_reply, "no-writes")
{
    uint8_t *at = kv_alloc(5);
    at[0] = (uint8_t)argument(0);
    at[1] = at[2] = at[3] = at[4] = 0xff;
    return at;
}

KV_FUNCTION(w_loop, "no-writes")
{
    for (;;)
        __asm__ volatile("");
}

KV_FUNCTION(w_loop_writing, "")
{
    for (;;)
        kv_put("loop", 4, "x", 1, 0);
}

KV_FUNCTION(w_loop_finding, "no-writes")
{
    for (;;)
        sink = kv_find("loop", 4).length;
}

KV_FUNCTION(w_fills, "no-writes")
{
    for (;;)
        __builtin_memset((void *)0x100000, (int)sink, 0x800000);
}

__attribute__((noinline)) static uint32_t
tree(uint32_t depth)
{
    return depth == 0 ? sink : tree(depth - 1) + tree(depth - 1);
}

KV_FUNCTION(w_tree, "no-writes")
{
    return kv_integer(tree(60));
}

__attribute__((noinline)) static uint32_t
deep(uint32_t depth)
{
    return depth == UINT32_MAX ? sink : deep(depth + 1) * 3 + sink;
}

KV_FUNCTION(w_deep, "no-writes")
{
    return kv_integer(deep(0));
}
