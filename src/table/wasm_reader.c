/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wasm_reader.c - bytes and numbers of modules, read and written.
 */
#include "table/wasm_reader.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "table/engine.h"

/* ---- errors ---- */

__attribute__((format(printf, 2, 3))) void
wasm_refuse(struct reader *reader, const char *fmt, ...)
{
    if (reader->rc != 0)
        return;
    va_list args;
    va_start(args, fmt);
    vsnprintf(reader->error, TABLE_ENGINE_ERROR_BYTES, fmt, args);
    va_end(args);
    /* Names in a module are any bytes. */
    for (char *c = reader->error; *c != '\0'; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
    reader->rc = DOR_E_USAGE;
}

void
wasm_no_memory(struct reader *reader)
{
    wasm_refuse(reader, "no memory for a module");
    reader->rc = DOR_E_NO_MEMORY;
}

/* ---- reading numbers ---- */

uint8_t
wasm_get_byte(struct reader *reader, struct span *in)
{
    if (in->at < in->end)
        return *in->at++;
    wasm_refuse(reader, "the module ends too early");
    return 0;
}

uint64_t
wasm_get_leb(struct reader *reader, struct span *in, unsigned bits, bool is_signed)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < bits; shift += 7) {
        uint8_t byte = wasm_get_byte(reader, in);
        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) != 0)
            continue;
        if (bits - shift < 7) {
            /* Bits that the number does not have are zeros, or copies of its sign. */
            unsigned kept = bits - shift - (is_signed ? 1 : 0);
            uint8_t rest = (uint8_t)((byte & 0x7f) >> kept);
            if (rest != 0 && !(is_signed && rest == 0x7f >> kept))
                break;
        }
        if (is_signed && shift + 7 < 64 && (byte & 0x40) != 0)
            value |= UINT64_MAX << (shift + 7);
        return value;
    }
    wasm_refuse(reader, "the module has a number that is none");
    return 0;
}

uint32_t
wasm_get_u32(struct reader *reader, struct span *in)
{
    return (uint32_t)wasm_get_leb(reader, in, 32, false);
}

struct span
wasm_get_bytes(struct reader *reader, struct span *in, uint64_t count)
{
    struct span bytes = {in->at, in->at};
    if (reader->rc != 0)
        return bytes;
    if (count > (uint64_t)(in->end - in->at)) {
        wasm_refuse(reader, "the module ends too early");
        return bytes;
    }
    in->at += count;
    bytes.end = in->at;
    return bytes;
}

uint32_t
wasm_get_count(struct reader *reader, struct span *in)
{
    uint32_t count = wasm_get_u32(reader, in);
    if (count > (uint64_t)(in->end - in->at)) {
        wasm_refuse(reader, "the module ends too early");
        return 0;
    }
    return reader->rc == 0 ? count : 0;
}

struct span
wasm_get_name(struct reader *reader, struct span *in)
{
    return wasm_get_bytes(reader, in, wasm_get_u32(reader, in));
}

bool
wasm_is(struct span span, const char *text)
{
    size_t length = strlen(text);
    return (size_t)(span.end - span.at) == length && memcmp(span.at, text, length) == 0;
}

/* ---- writing ---- */

void
wasm_put_bytes(struct out *out, const void *bytes, size_t length)
{
    if (out->room - out->length < length && !out->failed) {
        size_t room = out->room < 256 ? 512 : out->room;
        while (room - out->length < length)
            room *= 2;
        uint8_t *grown = realloc(out->bytes, room);
        if (grown == NULL) {
            out->failed = true;
        } else {
            out->bytes = grown;
            out->room = room;
        }
    }
    if (out->failed || length == 0)
        return;
    memcpy(out->bytes + out->length, bytes, length);
    out->length += length;
}

void
wasm_put_byte(struct out *out, uint8_t byte)
{
    wasm_put_bytes(out, &byte, 1);
}

void
wasm_put_u32(struct out *out, uint32_t value)
{
    for (; value >= 0x80; value >>= 7)
        wasm_put_byte(out, (uint8_t)(value | 0x80));
    wasm_put_byte(out, (uint8_t)value);
}

void
wasm_put_i32(struct out *out, int32_t value)
{
    while (value < -64 || value > 63) {
        wasm_put_byte(out, (uint8_t)((value & 0x7f) | 0x80));
        value >>= 7;
    }
    wasm_put_byte(out, value & 0x7f);
}

void
wasm_put_text(struct out *out, const char *text)
{
    wasm_put_u32(out, (uint32_t)strlen(text));
    wasm_put_bytes(out, text, strlen(text));
}

void
wasm_put_read(struct out *out, const uint8_t *begin, const struct span *in)
{
    wasm_put_bytes(out, begin, (size_t)(in->at - begin));
}

void
wasm_put_section(struct reader *reader, uint8_t id, struct out *body)
{
    if (body->failed)
        wasm_no_memory(reader);
    wasm_put_byte(&reader->out, id);
    wasm_put_u32(&reader->out, (uint32_t)body->length);
    wasm_put_bytes(&reader->out, body->bytes, body->length);
    free(body->bytes);
    *body = (struct out){0};
}

void
wasm_end_section(struct reader *reader, const struct span *in)
{
    if (in->at != in->end)
        wasm_refuse(reader, "a section of the module is longer than what is in it");
}

char
wasm_letter_of(uint8_t type)
{
    switch (type) {
    case 0x7f:
        return 'i';
    case 0x7e:
        return 'l';
    case 0x7d:
        return 'f';
    case 0x7c:
        return 'd';
    case 0x7b:
        return 'v';
    case 0x70:
    case 0x6f:
        return 'r';
    default:
        return '\0';
    }
}

char
wasm_get_type(struct reader *reader, struct span *in)
{
    uint8_t type = wasm_get_byte(reader, in);
    char letter = wasm_letter_of(type);
    if (letter == '\0')
        wasm_refuse(reader, "the module has a type %02x that is not allowed", type);
    return letter;
}

bool
wasm_get_constant(struct reader *reader, struct span *in, uint8_t code)
{
    switch (code) {
    case 0x41:
        (void)wasm_get_leb(reader, in, 32, true);
        return true;
    case 0x42:
        (void)wasm_get_leb(reader, in, 64, true);
        return true;
    case 0x43:
        (void)wasm_get_bytes(reader, in, 4);
        return true;
    case 0x44:
        (void)wasm_get_bytes(reader, in, 8);
        return true;
    case 0xd0:
        (void)wasm_get_type(reader, in);
        return true;
    default:
        return false;
    }
}

uint32_t
wasm_moved(struct reader *reader, uint32_t function)
{
    if (function >= reader->function_count)
        wasm_refuse(reader, "the module names a function that it does not have");
    return function < reader->import_count ? function : function + WASM_ADDED_FUNCTIONS;
}
