/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kv_wasm.h - storage functions in C, compiled to WebAssembly: the tenant's table lies in the
 * module's memory, for reading only, so a function reads values where they are.
 *
 *     #include <dormouse/kv_wasm.h>
 *
 *     KV_FUNCTION(reach, "no-writes")
 *     {
 *         struct kv_value list = kv_find_u32((uint32_t)kv_number(kv_key(0), 0));
 *         return kv_integer(list.length / 4);
 *     }
 *
 *     clang --target=wasm32 -mbulk-memory -O2 -nostdlib -Wl,--no-entry -o reach.wasm reach.c
 *     (printf '#!wasm name=friends\n'; cat reach.wasm) | redis-cli -x FUNCTION LOAD
 *
 * The memory is described in docs/formats/wasm.md. Outside of WebAssembly this header has the
 * places alone.
 *
 * Ownership:  values and arguments are good until the function returns, or changes the key.
 * Threads:    there is one.
 * Errors:     what cannot be done ends the call, and nothing it changed stays.
 */
#ifndef DOR_KV_WASM_H
#define DOR_KV_WASM_H

#include <stdint.h>

/* What lies where; bytes. Behind KV_ROOM_BYTES everything can only be read. */
#define KV_ROOM_BYTES 0x01000000u /* from 0: data, stack and heap of the module */
#define KV_CALL_AT    0x01000000u /* keys and arguments of the call */
#define KV_CALL_BYTES 0x00400000u
#define KV_TABLE_AT   0x02000000u /* the table's arena */

/* Keys and arguments: a head, then a row for each, the keys first. */
struct kv_call {
    uint32_t key_count;
    uint32_t count; /* of keys and arguments */
    struct {
        uint32_t at, length;
    } rows[];
};

#ifdef __wasm__

#include <stddef.h>

struct kv_value {
    const uint8_t *at; /* NULL: there is no such key; a multiple of 8 in a value */
    uint32_t length;
};

/* What a function returns: where its reply lies. NULL is the null of RESP. */
typedef const uint8_t *kv_reply;

/* A function NAME that clients call; FLAGS by commas, "-" for none, and a description. */
#define KV_FUNCTION(name, flags)                                                               \
    __asm__(".section .custom_section.kv,\"\",@\n.ascii \"" #name " " flags "\\n\"\n");        \
    __attribute__((export_name(#name))) kv_reply name(void)

#define KV_IMPORT(name) __attribute__((import_module("kv"), import_name(#name)))

KV_IMPORT(find) uint64_t kv_find_raw(const void *key, uint32_t length);
KV_IMPORT(find_u32) uint64_t kv_find_u32_raw(uint32_t key);
KV_IMPORT(find_many)
void kv_find_many_raw(const void *keys, uint32_t count, void *values);
KV_IMPORT(find_many_u32)
void kv_find_many_u32_raw(const uint32_t *keys, uint32_t count, void *values);

/*
 * The lengths of the values of COUNT keys that are decimals, in bytes, 0 where there is no such
 * key. It takes much less time than to find the values, which need not be read.
 */
KV_IMPORT(lengths_u32)
void kv_lengths_u32(const uint32_t *keys, uint32_t count, uint32_t *lengths);

/* What storage functions hold for the present, in ms since 1970. */
KV_IMPORT(now) double kv_now(void);

/* TTL_MS is 0 for a key that stays. */
KV_IMPORT(put)
void kv_put(
    const void *key, uint32_t key_length, const void *value, uint32_t value_length,
    double ttl_ms);

/* Whether there was such a key. */
KV_IMPORT(del) uint32_t kv_del(const void *key, uint32_t length);

static inline struct kv_value
kv_value_of(uint64_t raw)
{
    return (struct kv_value){(const uint8_t *)(uintptr_t)(uint32_t)raw, (uint32_t)(raw >> 32)};
}

static inline struct kv_value
kv_find(const void *key, uint32_t length)
{
    return kv_value_of(kv_find_raw(key, length));
}

/* The key that is the decimal of KEY. */
static inline struct kv_value
kv_find_u32(uint32_t key)
{
    return kv_value_of(kv_find_u32_raw(key));
}

/*
 * The same for COUNT keys, which takes much less time than one by one. VALUES is memory of the
 * module, and KEYS may lie anywhere outside of it, such as in a value.
 */
static inline void
kv_find_many_u32(const uint32_t *keys, uint32_t count, struct kv_value *values)
{
    kv_find_many_u32_raw(keys, count, values);
}

/* The same for COUNT keys that are bytes, and lie anywhere outside of VALUES, as KEYS does. */
static inline void
kv_find_many(const struct kv_value *keys, uint32_t count, struct kv_value *values)
{
    kv_find_many_raw(keys, count, values);
}

/*
 * Have the first BYTES of each of COUNT values near, all at once: reading them one after the other
 * waits for memory at each.
 */
static inline void
kv_touch(const struct kv_value *values, uint32_t count, uint32_t bytes)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t end = values[i].length < bytes ? values[i].length : bytes;
        for (uint32_t at = 0; at < end; at += 64)
            (void)*(const volatile uint8_t *)(values[i].at + at);
    }
}

/* ---- what the function was called with ---- */

static inline const struct kv_call *
kv_call(void)
{
    return (const struct kv_call *)KV_CALL_AT;
}

static inline uint32_t
kv_key_count(void)
{
    return kv_call()->key_count;
}

static inline uint32_t
kv_arg_count(void)
{
    return kv_call()->count - kv_call()->key_count;
}

static inline struct kv_value
kv_row(uint32_t index)
{
    const struct kv_call *call = kv_call();
    if (index >= call->count)
        return (struct kv_value){NULL, 0};
    return (struct kv_value){
        (const uint8_t *)(uintptr_t)call->rows[index].at, call->rows[index].length};
}

/* at is NULL when there are not so many. */
static inline struct kv_value
kv_key(uint32_t index)
{
    return index < kv_key_count() ? kv_row(index) : (struct kv_value){NULL, 0};
}

static inline struct kv_value
kv_arg(uint32_t index)
{
    return index < kv_arg_count() ? kv_row(kv_key_count() + index) : (struct kv_value){NULL, 0};
}

/* The decimal that TEXT is, a sign before it allowed; OTHERWISE when it is none. */
static inline int64_t
kv_number(struct kv_value text, int64_t otherwise)
{
    uint32_t i = 0;
    int minus = text.length > 0 && text.at[0] == '-';
    int64_t number = 0;
    for (i = (uint32_t)minus; i < text.length; i++) {
        int64_t digit = text.at[i] - '0';
        if (digit < 0 || digit > 9 || number < INT64_MIN / 10 ||
            number * 10 < INT64_MIN + digit)
            return otherwise;
        number = number * 10 - digit;
    }
    if (i == (uint32_t)minus || (!minus && number == INT64_MIN))
        return otherwise;
    return minus ? number : -number;
}

/* ---- memory ---- */

extern uint8_t __heap_base[];
__attribute__((weak)) uint32_t kv_alloc_next; /* one for all files of a module */

/*
 * LENGTH bytes of zeros at a multiple of 8, until the function returns: each call begins with the
 * memory as it was when the module was loaded. Without room the call ends.
 */
static inline void *
kv_alloc(uint32_t length)
{
    uint32_t at = kv_alloc_next;
    if (at == 0)
        at = ((uint32_t)(uintptr_t)__heap_base + 7) & ~7u;
    if (length > KV_ROOM_BYTES - at)
        __builtin_trap();
    kv_alloc_next = (at + length + 7) & ~7u;
    return (void *)(uintptr_t)at;
}

/* ---- replies ---- */

/* A reply that is written piece by piece, and is as long as it gets. */
struct kv_writer {
    uint8_t *bytes;
    uint32_t length, room;
};

static inline uint8_t *
kv_write_room(struct kv_writer *writer, uint32_t more)
{
    if (writer->room - writer->length < more) {
        uint32_t room = writer->room < 64 ? 128 : 2 * writer->room;
        while (room - writer->length < more)
            room *= 2;
        uint8_t *bytes = (uint8_t *)kv_alloc(room);
        for (uint32_t i = 0; i < writer->length; i++)
            bytes[i] = writer->bytes[i];
        writer->bytes = bytes;
        writer->room = room;
    }
    uint8_t *at = writer->bytes + writer->length;
    writer->length += more;
    return at;
}

static inline void
kv_write_tag(struct kv_writer *writer, char tag, uint64_t number, uint32_t number_bytes)
{
    uint8_t *at = kv_write_room(writer, 1 + number_bytes);
    *at++ = (uint8_t)tag;
    for (uint32_t i = 0; i < number_bytes; i++)
        at[i] = (uint8_t)(number >> (8 * i));
}

static inline void
kv_write_null(struct kv_writer *writer)
{
    kv_write_tag(writer, 'n', 0, 0);
}

static inline void
kv_write_bool(struct kv_writer *writer, int value)
{
    kv_write_tag(writer, value ? 't' : 'f', 0, 0);
}

static inline void
kv_write_integer(struct kv_writer *writer, int64_t number)
{
    kv_write_tag(writer, 'i', (uint64_t)number, 8);
}

static inline void
kv_write_double(struct kv_writer *writer, double number)
{
    union {
        double number;
        uint64_t bits;
    } both = {number};
    kv_write_tag(writer, 'd', both.bits, 8);
}

static inline void
kv_write_text(struct kv_writer *writer, char tag, const void *bytes, uint32_t length)
{
    if (length > KV_ROOM_BYTES)
        __builtin_trap();
    kv_write_tag(writer, tag, length, 4);
    uint8_t *at = kv_write_room(writer, length);
    for (uint32_t i = 0; i < length; i++)
        at[i] = ((const uint8_t *)bytes)[i];
}

static inline void
kv_write_bulk(struct kv_writer *writer, const void *bytes, uint32_t length)
{
    kv_write_text(writer, 's', bytes, length);
}

/* COUNT values follow; of a map COUNT pairs. */
static inline void
kv_write_array(struct kv_writer *writer, uint32_t count)
{
    kv_write_tag(writer, 'a', count, 4);
}

static inline void
kv_write_map(struct kv_writer *writer, uint32_t count)
{
    kv_write_tag(writer, 'm', count, 4);
}

static inline uint32_t
kv_text_length(const char *text)
{
    uint32_t length = 0;
    while (text[length] != '\0')
        length++;
    return length;
}

static inline kv_reply
kv_written(const struct kv_writer *writer)
{
    return writer->bytes;
}

static inline kv_reply
kv_integer(int64_t number)
{
    struct kv_writer writer = {0};
    kv_write_integer(&writer, number);
    return kv_written(&writer);
}

static inline kv_reply
kv_double(double number)
{
    struct kv_writer writer = {0};
    kv_write_double(&writer, number);
    return kv_written(&writer);
}

static inline kv_reply
kv_bulk(const void *bytes, uint32_t length)
{
    struct kv_writer writer = {0};
    kv_write_bulk(&writer, bytes, length);
    return kv_written(&writer);
}

static inline kv_reply
kv_status(const char *text)
{
    struct kv_writer writer = {0};
    kv_write_text(&writer, '+', text, kv_text_length(text));
    return kv_written(&writer);
}

/* An error that the caller gets; what the function changed stays. __builtin_trap() undoes it. */
static inline kv_reply
kv_error(const char *text)
{
    struct kv_writer writer = {0};
    kv_write_text(&writer, '-', text, kv_text_length(text));
    return kv_written(&writer);
}

#endif
#endif
