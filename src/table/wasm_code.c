/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wasm_code.c - the code of modules: instructions read one by one, the numbers of functions in them
 * moved, checks put in. wasm_module.c tells why.
 */
#include <dormouse/kv_wasm.h>
#include <stdlib.h>

#include "table/wasm_reader.h"

enum {
    LOCALS_MAX = 50000,
    SHORT_BODY = 256, /* bytes of code that count as one step */
    LOOP_STEPS = 16,  /* between two looks at the fuel */
    MEMORY_ALIGN_MAX = 4,
};

struct body {
    struct span in;
    struct out out;
    const uint8_t *kept;  /* what was read from there on is to be written */
    uint32_t weight;      /* steps that a check takes */
    uint32_t local_count; /* of the module's; the one behind them counts steps */
    bool calls, loops;
};

static void
flush_body(struct body *body)
{
    wasm_put_read(&body->out, body->kept, &body->in);
    body->kept = body->in.at;
}

/* Instead of what was read since BEGIN. */
static void
replace(struct body *body, const uint8_t *begin)
{
    wasm_put_bytes(&body->out, body->kept, (size_t)(begin - body->kept));
    body->kept = body->in.at;
}

static void
put_global(struct reader *reader, struct out *out, uint8_t code)
{
    wasm_put_byte(out, code);
    wasm_put_u32(out, reader->global_count);
}

static void
put_constant(struct out *out, int32_t value)
{
    wasm_put_byte(out, 0x41);
    wasm_put_i32(out, value);
}

static void
put_local(struct out *out, uint8_t code, uint32_t local)
{
    wasm_put_byte(out, code);
    wasm_put_u32(out, local);
}

/* fuel -= what lies on the stack; if (fuel < 0) { fuel = WASM_FUEL; ask(); } */
static void
put_burn(struct reader *reader, struct out *out)
{
    static const uint8_t subtract = 0x6b, test[] = {0x41, 0, 0x48, 0x04, 0x40};
    wasm_put_byte(out, subtract);
    put_global(reader, out, 0x24);
    put_global(reader, out, 0x23);
    wasm_put_bytes(out, test, sizeof test);
    put_constant(out, WASM_FUEL);
    put_global(reader, out, 0x24);
    wasm_put_byte(out, 0x10);
    wasm_put_u32(out, reader->import_count);
    wasm_put_byte(out, 0x0b);
}

/* Where a function begins. */
static void
put_entry(struct reader *reader, struct out *out, uint32_t weight)
{
    put_global(reader, out, 0x23);
    put_constant(out, (int32_t)weight);
    put_burn(reader, out);
}

/* In a loop: steps += WEIGHT; if (steps >= LOOP_STEPS) { fuel -= steps; steps = 0; ... } */
static void
put_loop(struct reader *reader, struct body *body)
{
    static const uint8_t add = 0x6a, test[] = {0x4f, 0x04, 0x40};
    struct out *out = &body->out;
    body->loops = true;
    put_local(out, 0x20, body->local_count);
    put_constant(out, (int32_t)body->weight);
    wasm_put_byte(out, add);
    put_local(out, 0x22, body->local_count);
    put_constant(out, LOOP_STEPS);
    wasm_put_bytes(out, test, sizeof test);
    put_global(reader, out, 0x23);
    put_local(out, 0x20, body->local_count);
    put_burn(reader, out);
    put_constant(out, 0);
    put_local(out, 0x21, body->local_count);
    wasm_put_byte(out, 0x0b);
}

static void
read_type_number(struct reader *reader, uint64_t type)
{
    if (type >= reader->type_count)
        wasm_refuse(reader, "the module names a type that it does not have");
}

static void
read_block_type(struct reader *reader, struct span *in)
{
    if (in->at < in->end && (*in->at == 0x40 || wasm_letter_of(*in->at) != '\0')) {
        in->at++;
        return;
    }
    read_type_number(reader, wasm_get_leb(reader, in, 33, true));
}

static void
read_memory_place(struct reader *reader, struct span *in)
{
    if (wasm_get_u32(reader, in) > MEMORY_ALIGN_MAX)
        wasm_refuse(reader, "the module has several memories");
    (void)wasm_get_u32(reader, in);
}

static void
read_zeros(struct reader *reader, struct span *in, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (wasm_get_byte(reader, in) != 0)
            wasm_refuse(reader, "the module has several memories");
}

static void
refuse_code(struct reader *reader, const char *prefix, uint32_t code)
{
    wasm_refuse(
        reader, "the module has an instruction %s%02x that is not allowed", prefix, code);
}

/* Conversions, and what there is for whole pieces of memory. */
static void
do_misc(struct reader *reader, struct body *body, const uint8_t *begin)
{
    uint32_t code = wasm_get_u32(reader, &body->in);
    if (code <= 7)
        return;
    if (code == 10 || code == 11) {
        read_zeros(reader, &body->in, code == 10 ? 2 : 1);
        replace(body, begin);
        wasm_put_byte(&body->out, 0x10);
        wasm_put_u32(&body->out, reader->import_count + (code == 10 ? 2 : 1));
        body->calls = true;
    } else if (code == 16) {
        (void)wasm_get_u32(reader, &body->in);
    } else {
        refuse_code(reader, "fc ", code);
    }
}

static void
do_simd(struct reader *reader, struct span *in)
{
    uint32_t code = wasm_get_u32(reader, in);
    if (code <= 0x0b || code == 0x5c || code == 0x5d) {
        read_memory_place(reader, in);
    } else if (code == 0x0c || code == 0x0d) {
        (void)wasm_get_bytes(reader, in, 16);
    } else if (code >= 0x15 && code <= 0x22) {
        (void)wasm_get_byte(reader, in);
    } else if (code >= 0x54 && code <= 0x5b) {
        read_memory_place(reader, in);
        (void)wasm_get_byte(reader, in);
    } else if (code > 0xff) {
        refuse_code(reader, "fd ", code);
    }
}

static void
read_targets(struct reader *reader, struct span *in)
{
    uint32_t count = wasm_get_count(reader, in);
    for (uint32_t i = 0; i < count && reader->rc == 0; i++)
        (void)wasm_get_u32(reader, in);
    (void)wasm_get_u32(reader, in);
}

static void
do_call(struct reader *reader, struct body *body, const uint8_t *begin, uint8_t code)
{
    uint32_t function = wasm_moved(reader, wasm_get_u32(reader, &body->in));
    replace(body, begin);
    wasm_put_byte(&body->out, code);
    wasm_put_u32(&body->out, function);
    body->calls = true;
}

/* The size is what the module has of its own, and never grows. */
static void
do_memory_size(struct reader *reader, struct body *body, const uint8_t *begin, bool grows)
{
    read_zeros(reader, &body->in, 1);
    replace(body, begin);
    if (grows)
        wasm_put_byte(&body->out, 0x1a);
    wasm_put_byte(&body->out, 0x41);
    wasm_put_i32(&body->out, grows ? -1 : (int32_t)(KV_ROOM_BYTES / WASM_PAGE_BYTES));
}

/* Instructions with an operand, or that are written in another way. */
static void
do_operand(struct reader *reader, struct body *body, const uint8_t *begin, uint8_t code)
{
    struct span *in = &body->in;
    if (wasm_get_constant(reader, in, code))
        return;
    switch (code) {
    case 0x02:
    case 0x03:
    case 0x04:
        read_block_type(reader, in);
        if (code == 0x03) {
            flush_body(body);
            put_loop(reader, body);
        }
        break;
    case 0x0c:
    case 0x0d:
    case 0x25:
    case 0x26:
        (void)wasm_get_u32(reader, in);
        break;
    case 0x20:
    case 0x21:
    case 0x22:
        if (wasm_get_u32(reader, in) >= body->local_count)
            wasm_refuse(reader, "the module names a local that it does not have");
        break;
    case 0x0e:
        read_targets(reader, in);
        break;
    case 0x10:
    case 0xd2:
        do_call(reader, body, begin, code);
        break;
    case 0x11:
        read_type_number(reader, wasm_get_u32(reader, in));
        (void)wasm_get_u32(reader, in);
        body->calls = true;
        break;
    case 0x1c:
        for (uint32_t left = wasm_get_count(reader, in); left > 0 && reader->rc == 0; left--)
            (void)wasm_get_type(reader, in);
        break;
    case 0x23:
    case 0x24:
        if (wasm_get_u32(reader, in) >= reader->global_count)
            wasm_refuse(reader, "the module names a global that it does not have");
        break;
    case 0x3f:
    case 0x40:
        do_memory_size(reader, body, begin, code == 0x40);
        break;
    case 0xfc:
        do_misc(reader, body, begin);
        break;
    case 0xfd:
        do_simd(reader, in);
        break;
    default:
        refuse_code(reader, "", code);
    }
}

static void
do_instruction(struct reader *reader, struct body *body)
{
    const uint8_t *begin = body->in.at;
    uint8_t code = wasm_get_byte(reader, &body->in);
    bool is_plain = code <= 0x01 || code == 0x05 || code == 0x0b || code == 0x0f ||
                    code == 0x1a || code == 0x1b || (code >= 0x45 && code <= 0xc4) ||
                    code == 0xd1;
    if (code >= 0x28 && code <= 0x3e)
        read_memory_place(reader, &body->in);
    else if (!is_plain)
        do_operand(reader, body, begin, code);
}

/* The locals, and one more. */
static void
do_locals(struct reader *reader, struct body *body, struct out *out)
{
    uint32_t groups = wasm_get_count(reader, &body->in);
    const uint8_t *begin = body->in.at;
    uint64_t count = 0;
    for (uint32_t i = 0; i < groups && reader->rc == 0; i++) {
        count += wasm_get_u32(reader, &body->in);
        (void)wasm_get_type(reader, &body->in);
    }
    if (count > LOCALS_MAX)
        wasm_refuse(reader, "a function of the module has more than %d locals", LOCALS_MAX);
    body->local_count += (uint32_t)count;
    wasm_put_u32(out, groups + 1);
    wasm_put_read(out, begin, &body->in);
    wasm_put_byte(out, 1);
    wasm_put_byte(out, 0x7f);
}

static void
do_body(struct reader *reader, struct span in, uint32_t function, struct out *out)
{
    struct body body = {
        .in = in,
        .weight = 1 + (uint32_t)((in.end - in.at) / SHORT_BODY),
        .local_count = reader->functions[function].parameters,
    };
    struct out head = {0};
    do_locals(reader, &body, &head);
    body.kept = body.in.at;
    while (body.in.at < body.in.end && reader->rc == 0)
        do_instruction(reader, &body);
    flush_body(&body);
    if (body.calls || body.loops || body.weight > 1)
        put_entry(reader, &head, body.weight);
    wasm_put_u32(out, (uint32_t)(head.length + body.out.length));
    wasm_put_bytes(out, head.bytes, head.length);
    wasm_put_bytes(out, body.out.bytes, body.out.length);
    out->failed |= head.failed || body.out.failed;
    free(head.bytes);
    free(body.out.bytes);
}

void
wasm_do_code(struct reader *reader)
{
    struct span in = reader->sections[WASM_CODE];
    if (in.at == in.end)
        return;
    struct out out = {0};
    uint32_t count = wasm_get_count(reader, &in);
    if (count != reader->function_count - reader->import_count) {
        wasm_refuse(reader, "the module has not as much code as functions");
        return;
    }
    wasm_put_u32(&out, count);
    for (uint32_t i = 0; i < count && reader->rc == 0; i++)
        do_body(reader, wasm_get_name(reader, &in), reader->import_count + i, &out);
    wasm_end_section(reader, &in);
    wasm_put_section(reader, WASM_CODE, &out);
}
