/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wasm_module.c - modules read section by section and written anew.
 *
 *     in:   type import function table memory global export element code data kv(custom)
 *     out:  type import function table global export element code
 *               + two types, three imported functions, one global: the fuel
 *
 * The fuel gets less where a function begins that calls others, has a loop or is long, and in its
 * loops, where a local variable counts so that memory is only met at each LOOP_STEPS. When it is
 * used up the module calls WASM_IMPORT_POLL and has new fuel. The engine's own watch does not stop
 * WebAssembly, but it does stop what is called there. Imported functions come before those of a
 * module, so all numbers of the latter grow by three.
 *
 * memory.fill and memory.copy are done by the engine's code, which a page that cannot be written
 * would kill; they become calls that look at the place first.
 *
 * Invariants:
 * 1. An instruction that is not known here is refused, so code is read as the engine will read it.
 * 2. A number of a type, function, global or local is one that the module itself has: none of those
 *    that are added can be named.
 * 3. Reading ends with the first error, and what was read before is void.
 */
#include <dormouse/kv_wasm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "table/engine.h"
#include "table/wasm_reader.h"

enum {
    PARAMETERS_MAX = 1000,
    TABLES_MAX = 16,
    TABLE_ENTRIES_MAX = 65536,
    NAMES_BYTES_MAX = 65536,
};

/* Types of functions that matter. */
enum shape {
    SHAPE_OTHER,
    SHAPE_CALL,
    SHAPE_FIND,
    SHAPE_FIND_U32,
    SHAPE_FIND_MANY,
    SHAPE_NOW,
    SHAPE_PUT,
    SHAPE_DEL
};

/* Parameters, '>' and results, by the letters of wasm_letter_of(). */
static const char *const shapes[] = {
    [SHAPE_CALL] = ">i",        [SHAPE_FIND] = "ii>l", [SHAPE_FIND_U32] = "i>l",
    [SHAPE_FIND_MANY] = "iii>", [SHAPE_NOW] = ">d",    [SHAPE_PUT] = "iiiid>",
    [SHAPE_DEL] = "ii>i",
};

static const struct {
    const char *name;
    enum shape shape;
} imports[] = {
    {"find", SHAPE_FIND},
    {"find_u32", SHAPE_FIND_U32},
    {"find_many", SHAPE_FIND_MANY},
    {"find_many_u32", SHAPE_FIND_MANY},
    {"lengths_u32", SHAPE_FIND_MANY},
    {"now", SHAPE_NOW},
    {"put", SHAPE_PUT},
    {"del", SHAPE_DEL},
};

/* ---- sections ---- */

/* Custom sections are read past, but for the text of those with the name `kv`. */
static void
find_sections(struct reader *reader, struct span in)
{
    static const uint8_t head[] = {0, 'a', 's', 'm', 1, 0, 0, 0};
    /* The count of data stands before the code. */
    static const uint8_t rank[WASM_SECTIONS] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 10};
    struct span magic = wasm_get_bytes(reader, &in, sizeof head);
    if (reader->rc != 0 || memcmp(magic.at, head, sizeof head) != 0) {
        reader->rc = 0;
        wasm_refuse(reader, "this is no WebAssembly module of version 1");
        return;
    }
    uint8_t last = 0;
    while (reader->rc == 0 && in.at < in.end) {
        uint8_t id = wasm_get_byte(reader, &in);
        struct span body = wasm_get_name(reader, &in);
        if (reader->rc != 0)
            return;
        if (id == WASM_CUSTOM) {
            if (wasm_is(wasm_get_name(reader, &body), "kv"))
                wasm_put_bytes(&reader->names, body.at, (size_t)(body.end - body.at));
        } else if (id >= WASM_SECTIONS || rank[id] <= last) {
            wasm_refuse(reader, "the module has a section %u that is unknown or misplaced", id);
        } else {
            last = rank[id];
            reader->sections[id] = body;
        }
    }
}

static struct function_type
get_function_type(struct reader *reader, struct span *in)
{
    struct function_type type = {.shape = SHAPE_OTHER};
    char text[16];
    size_t length = 0;
    bool fits = true;
    if (wasm_get_byte(reader, in) != 0x60)
        wasm_refuse(reader, "the module has types that are none of functions");
    for (unsigned side = 0; side < 2; side++) {
        uint32_t count = wasm_get_count(reader, in);
        for (uint32_t i = 0; i < count && reader->rc == 0; i++) {
            char letter = wasm_get_type(reader, in);
            fits = fits && length + 2 < sizeof text;
            if (fits)
                text[length++] = letter;
        }
        if (side > 0)
            break;
        text[length++] = '>';
        type.parameters = (uint16_t)count;
        if (count > PARAMETERS_MAX)
            wasm_refuse(reader, "a function has more than %d parameters", PARAMETERS_MAX);
    }
    text[length] = '\0';
    for (unsigned i = SHAPE_OTHER + 1; fits && i < sizeof shapes / sizeof shapes[0]; i++)
        if (strcmp(text, shapes[i]) == 0)
            type.shape = (uint8_t)i;
    return type;
}

/* The module's types, one without anything, and that of FILL and COPY. */
static void
do_types(struct reader *reader)
{
    struct span in = reader->sections[WASM_TYPE];
    struct out out = {0};
    uint32_t count = wasm_get_count(reader, &in);
    const uint8_t *begin = in.at;
    reader->types = calloc((size_t)count + 1, sizeof *reader->types);
    if (reader->types == NULL) {
        wasm_no_memory(reader);
        return;
    }
    for (uint32_t i = 0; i < count && reader->rc == 0; i++)
        reader->types[i] = get_function_type(reader, &in);
    wasm_end_section(reader, &in);
    reader->type_count = count;
    static const uint8_t added[] = {0x60, 0, 0, 0x60, 3, 0x7f, 0x7f, 0x7f, 0};
    wasm_put_u32(&out, count + 2);
    wasm_put_read(&out, begin, &in);
    wasm_put_bytes(&out, added, sizeof added);
    wasm_put_section(reader, WASM_TYPE, &out);
}

static struct function_type
type_at(struct reader *reader, uint32_t type)
{
    if (type < reader->type_count)
        return reader->types[type];
    wasm_refuse(reader, "the module names a type that it does not have");
    return (struct function_type){.shape = SHAPE_OTHER};
}

static void
add_function(struct reader *reader, struct function_type type)
{
    if ((reader->function_count & (reader->function_count + 1)) == 0) {
        struct function_type *grown = realloc(
            reader->functions, (2 * (size_t)reader->function_count + 2) * sizeof *grown);
        if (grown == NULL) {
            wasm_no_memory(reader);
            return;
        }
        reader->functions = grown;
    }
    reader->functions[reader->function_count++] = type;
}

/* A memory that the module imports or has: either way it becomes the import env.memory. */
static void
do_memory(struct reader *reader, struct span *in, struct out *out)
{
    uint8_t flags = wasm_get_byte(reader, in);
    if (flags > 1)
        wasm_refuse(reader, "the module's memory is shared, or not one of 32 bits");
    uint32_t least = wasm_get_u32(reader, in);
    if (flags == 1)
        (void)wasm_get_u32(reader, in);
    if (least > KV_ROOM_BYTES / WASM_PAGE_BYTES)
        wasm_refuse(
            reader, "the module's memory has %u pages: %u are possible", least,
            KV_ROOM_BYTES / WASM_PAGE_BYTES);
    if (reader->has_memory)
        wasm_refuse(reader, "the module has several memories");
    reader->has_memory = true;
    wasm_put_text(out, "env");
    wasm_put_text(out, "memory");
    wasm_put_byte(out, 2);
    wasm_put_byte(out, 0);
    wasm_put_u32(out, least);
}

static void
do_import(struct reader *reader, struct span *in, struct out *out)
{
    const uint8_t *begin = in->at;
    struct span room = wasm_get_name(reader, in), name = wasm_get_name(reader, in);
    uint8_t kind = wasm_get_byte(reader, in);
    if (kind == 2 && wasm_is(room, "env") && wasm_is(name, "memory")) {
        do_memory(reader, in, out);
        return;
    }
    uint32_t type = kind == 0 ? wasm_get_u32(reader, in) : 0;
    struct function_type function =
        kind == 0 ? type_at(reader, type) : (struct function_type){0};
    wasm_put_read(out, begin, in);
    for (size_t i = 0; i < sizeof imports / sizeof imports[0]; i++)
        if (kind == 0 && wasm_is(room, "kv") && wasm_is(name, imports[i].name)) {
            if (function.shape != imports[i].shape)
                wasm_refuse(reader, "the import kv.%s has another type", imports[i].name);
            add_function(reader, function);
            return;
        }
    wasm_refuse(
        reader, "the module imports %.*s.%.*s, which there is not",
        (int)(room.end - room.at > 64 ? 64 : room.end - room.at), (const char *)room.at,
        (int)(name.end - name.at > 64 ? 64 : name.end - name.at), (const char *)name.at);
}

static void
do_imports(struct reader *reader)
{
    static const char *const added[] = {WASM_IMPORT_POLL, WASM_IMPORT_FILL, WASM_IMPORT_COPY};
    struct span in = reader->sections[WASM_IMPORT];
    struct span own = reader->sections[WASM_MEMORY];
    struct out out = {0};
    uint32_t count = in.at != in.end ? wasm_get_count(reader, &in) : 0;
    uint32_t memories = own.at != own.end ? wasm_get_count(reader, &own) : 0;
    wasm_put_u32(&out, count + memories + WASM_ADDED_FUNCTIONS);
    for (uint32_t i = 0; i < count && reader->rc == 0; i++)
        do_import(reader, &in, &out);
    wasm_end_section(reader, &in);
    for (uint32_t i = 0; i < memories && reader->rc == 0; i++)
        do_memory(reader, &own, &out);
    wasm_end_section(reader, &own);
    reader->import_count = reader->function_count;
    for (uint32_t i = 0; i < WASM_ADDED_FUNCTIONS; i++) {
        wasm_put_text(&out, "kv");
        wasm_put_text(&out, added[i]);
        wasm_put_byte(&out, 0);
        wasm_put_u32(&out, reader->type_count + (i > 0));
    }
    wasm_put_section(reader, WASM_IMPORT, &out);
}

/* Write the section ID as it is, once READ has looked at each thing in it. */
static void
do_list(struct reader *reader, uint8_t id, void (*read)(struct reader *reader, struct span *in))
{
    struct span in = reader->sections[id];
    if (in.at == in.end)
        return;
    struct out out = {0};
    wasm_put_bytes(&out, in.at, (size_t)(in.end - in.at));
    uint32_t count = wasm_get_count(reader, &in);
    for (uint32_t i = 0; i < count && reader->rc == 0; i++)
        read(reader, &in);
    wasm_end_section(reader, &in);
    wasm_put_section(reader, id, &out);
}

static void
read_function(struct reader *reader, struct span *in)
{
    add_function(reader, type_at(reader, wasm_get_u32(reader, in)));
}

static void
read_table(struct reader *reader, struct span *in)
{
    uint8_t type = wasm_get_byte(reader, in), flags = wasm_get_byte(reader, in);
    (void)wasm_get_u32(reader, in);
    uint32_t most = flags == 1 ? wasm_get_u32(reader, in) : 0;
    if ((type != 0x70 && type != 0x6f) || flags != 1 || most > TABLE_ENTRIES_MAX ||
        ++reader->table_count > TABLES_MAX)
        wasm_refuse(
            reader, "tables have a largest size, of %d entries at most", TABLE_ENTRIES_MAX);
}

/* A constant, as it stands for a global. */
static void
do_constant(struct reader *reader, struct span *in, struct out *out)
{
    const uint8_t *begin = in->at;
    uint8_t code = wasm_get_byte(reader, in);
    if (code == 0xd2) {
        uint32_t function = wasm_moved(reader, wasm_get_u32(reader, in));
        wasm_put_byte(out, code);
        wasm_put_u32(out, function);
        begin = in->at;
    } else if (!wasm_get_constant(reader, in, code)) {
        wasm_refuse(reader, "the module has a constant that is computed");
    }
    if (wasm_get_byte(reader, in) != 0x0b)
        wasm_refuse(reader, "the module has a constant that is computed");
    wasm_put_read(out, begin, in);
}

static void
do_globals(struct reader *reader)
{
    struct span in = reader->sections[WASM_GLOBAL];
    struct out out = {0}, fuel = {0};
    uint32_t count = in.at != in.end ? wasm_get_count(reader, &in) : 0;
    wasm_put_u32(&out, count + 1);
    for (uint32_t i = 0; i < count && reader->rc == 0; i++) {
        const uint8_t *begin = in.at;
        (void)wasm_get_type(reader, &in);
        (void)wasm_get_byte(reader, &in);
        wasm_put_read(&out, begin, &in);
        do_constant(reader, &in, &out);
    }
    wasm_end_section(reader, &in);
    reader->global_count = count;
    wasm_put_byte(&fuel, 0x7f);
    wasm_put_byte(&fuel, 1);
    wasm_put_byte(&fuel, 0x41);
    wasm_put_i32(&fuel, WASM_FUEL);
    wasm_put_byte(&fuel, 0x0b);
    wasm_put_bytes(&out, fuel.bytes, fuel.length);
    out.failed |= fuel.failed;
    free(fuel.bytes);
    wasm_put_section(reader, WASM_GLOBAL, &out);
}

/* ---- functions that clients call ---- */

static char *
copy_text(struct span text)
{
    size_t length = (size_t)(text.end - text.at);
    char *copy = malloc(length + 1);
    if (copy == NULL)
        return NULL;
    if (length > 0)
        memcpy(copy, text.at, length);
    copy[length] = '\0';
    return copy;
}

/* gcc's analyzer loses sight of what is stored in the reader's module. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif
static void
publish(struct reader *reader, struct span name, struct span description, uint32_t flags)
{
    struct wasm_module *module = reader->module;
    if (module->function_count == WASM_FUNCTIONS_MAX) {
        wasm_refuse(reader, "a module has %d functions at most", WASM_FUNCTIONS_MAX);
        return;
    }
    if (module->functions == NULL)
        module->functions = calloc(WASM_FUNCTIONS_MAX, sizeof *module->functions);
    struct wasm_function function = {copy_text(name), copy_text(description), flags};
    if (module->functions == NULL || function.name == NULL || function.description == NULL) {
        free(function.name);
        free(function.description);
        wasm_no_memory(reader);
        return;
    }
    module->functions[module->function_count++] = function;
}
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

static uint32_t
flags_of(struct reader *reader, struct span list)
{
    static const char *const names[] = {TABLE_FUNCTION_FLAG_NAMES};
    uint32_t flags = 0;
    if (wasm_is(list, "-"))
        return 0;
    while (list.at < list.end) {
        const uint8_t *comma = memchr(list.at, ',', (size_t)(list.end - list.at));
        struct span word = {list.at, comma != NULL ? comma : list.end};
        unsigned i = 0;
        while (i < sizeof names / sizeof names[0] && !wasm_is(word, names[i]))
            i++;
        if (i == sizeof names / sizeof names[0])
            wasm_refuse(reader, "unknown flag given");
        else
            flags |= 1u << i;
        list.at = comma != NULL ? comma + 1 : list.end;
    }
    if ((flags & TABLE_FUNCTION_OPEN_KEYS) != 0)
        wasm_refuse(reader, "the flag open-keys is not for modules");
    return flags;
}

/* The text of LINE up to a blank, and LINE behind it. */
static struct span
next_word(struct span *line)
{
    const uint8_t *blank = memchr(line->at, ' ', (size_t)(line->end - line->at));
    struct span word = {line->at, blank != NULL ? blank : line->end};
    line->at = blank != NULL ? blank + 1 : line->end;
    return word;
}

/* Whether there is an export of NAME that is such a function; *RET is its number. */
static bool
find_export(struct reader *reader, struct span name, uint32_t *ret)
{
    struct span in = reader->sections[WASM_EXPORT];
    uint32_t count = wasm_get_count(reader, &in);
    for (uint32_t i = 0; i < count && reader->rc == 0; i++) {
        struct span own = wasm_get_name(reader, &in);
        uint8_t kind = wasm_get_byte(reader, &in);
        uint32_t number = wasm_get_u32(reader, &in);
        if (kind == 0 && own.end - own.at == name.end - name.at &&
            memcmp(own.at, name.at, (size_t)(own.end - own.at)) == 0) {
            *ret = number;
            return number < reader->function_count &&
                   reader->functions[number].shape == SHAPE_CALL;
        }
    }
    return false;
}

static void
put_export(struct reader *reader, struct out *out, uint32_t number)
{
    char name[16];
    snprintf(name, sizeof name, "f%u", reader->module->function_count - 1);
    wasm_put_text(out, name);
    wasm_put_byte(out, 0);
    wasm_put_u32(out, wasm_moved(reader, number));
}

/* Those that the custom section names. */
static void
do_named(struct reader *reader, struct out *out)
{
    struct span in = {reader->names.bytes, reader->names.bytes + reader->names.length};
    while (in.at < in.end && reader->rc == 0) {
        const uint8_t *stop = memchr(in.at, '\n', (size_t)(in.end - in.at));
        struct span line = {in.at, stop != NULL ? stop : in.end};
        in.at = stop != NULL ? stop + 1 : in.end;
        uint32_t number = 0;
        if (line.at == line.end)
            continue;
        struct span name = next_word(&line);
        uint32_t flags = flags_of(reader, next_word(&line));
        if (!find_export(reader, name, &number))
            wasm_refuse(
                reader, "there is no export %.*s without parameters and with an i32 as result",
                (int)(name.end - name.at > 64 ? 64 : name.end - name.at),
                (const char *)name.at);
        publish(reader, name, line, flags);
        put_export(reader, out, number);
    }
}

/* All exports that could be functions. */
static void
do_unnamed(struct reader *reader, struct out *out)
{
    struct span in = reader->sections[WASM_EXPORT];
    uint32_t count = in.at != in.end ? wasm_get_count(reader, &in) : 0;
    for (uint32_t i = 0; i < count && reader->rc == 0; i++) {
        struct span name = wasm_get_name(reader, &in);
        uint8_t kind = wasm_get_byte(reader, &in);
        uint32_t number = wasm_get_u32(reader, &in);
        if (kind != 0 || number >= reader->function_count ||
            reader->functions[number].shape != SHAPE_CALL)
            continue;
        publish(reader, name, (struct span){NULL, NULL}, 0);
        put_export(reader, out, number);
    }
    wasm_end_section(reader, &in);
}

static void
do_exports(struct reader *reader)
{
    struct out list = {0}, out = {0};
    if (reader->names.failed || reader->names.length > NAMES_BYTES_MAX)
        wasm_refuse(reader, "the section kv has more than %d bytes", NAMES_BYTES_MAX);
    else if (reader->names.length > 0)
        do_named(reader, &list);
    else
        do_unnamed(reader, &list);
    wasm_put_u32(&out, reader->module->function_count);
    wasm_put_bytes(&out, list.bytes, list.length);
    out.failed |= list.failed;
    free(list.bytes);
    wasm_put_section(reader, WASM_EXPORT, &out);
}

/* ---- elements and data ---- */

static void
do_element(struct reader *reader, struct span *in, struct out *out)
{
    uint32_t kind = wasm_get_u32(reader, in);
    if (kind > 3)
        wasm_refuse(reader, "the module has elements that are computed");
    wasm_put_u32(out, kind);
    if (kind == 2)
        wasm_put_u32(out, wasm_get_u32(reader, in));
    if (kind == 0 || kind == 2)
        do_constant(reader, in, out);
    if (kind != 0)
        wasm_put_byte(out, wasm_get_byte(reader, in));
    uint32_t count = wasm_get_count(reader, in);
    wasm_put_u32(out, count);
    for (uint32_t i = 0; i < count && reader->rc == 0; i++)
        wasm_put_u32(out, wasm_moved(reader, wasm_get_u32(reader, in)));
}

static void
do_elements(struct reader *reader)
{
    struct span in = reader->sections[WASM_ELEMENT];
    if (in.at == in.end)
        return;
    struct out out = {0};
    uint32_t count = wasm_get_count(reader, &in);
    wasm_put_u32(&out, count);
    for (uint32_t i = 0; i < count && reader->rc == 0; i++)
        do_element(reader, &in, &out);
    wasm_end_section(reader, &in);
    wasm_put_section(reader, WASM_ELEMENT, &out);
}

static bool
reach(struct reader *reader, uint64_t end)
{
    struct wasm_module *module = reader->module;
    if (end <= module->image_bytes)
        return true;
    /* A page more each time at least: many small pieces are one of few copies. */
    size_t bytes = (size_t)(end + end / 2 + WASM_PAGE_BYTES);
    bytes = bytes < KV_ROOM_BYTES ? bytes : KV_ROOM_BYTES;
    uint8_t *grown = realloc(module->image, bytes);
    if (grown == NULL) {
        wasm_no_memory(reader);
        return false;
    }
    memset(grown + module->image_bytes, 0, bytes - module->image_bytes);
    module->image = grown;
    module->image_bytes = bytes;
    return true;
}

static void
do_data(struct reader *reader)
{
    struct span in = reader->sections[WASM_DATA];
    uint64_t behind = 0;
    uint32_t count = in.at != in.end ? wasm_get_count(reader, &in) : 0;
    for (uint32_t i = 0; i < count && reader->rc == 0; i++) {
        uint32_t kind = wasm_get_u32(reader, &in);
        if (kind == 2 && wasm_get_u32(reader, &in) == 0)
            kind = 0;
        if (kind != 0 || !reader->has_memory || wasm_get_byte(reader, &in) != 0x41) {
            wasm_refuse(reader, "the module has data without a fixed place in env.memory");
            return;
        }
        uint32_t at = (uint32_t)wasm_get_leb(reader, &in, 32, true);
        if (wasm_get_byte(reader, &in) != 0x0b)
            wasm_refuse(reader, "the module has data without a fixed place in env.memory");
        struct span bytes = wasm_get_name(reader, &in);
        uint64_t end = (uint64_t)at + (uint64_t)(bytes.end - bytes.at);
        if (end > KV_ROOM_BYTES)
            wasm_refuse(reader, "the module has data above its %u bytes", KV_ROOM_BYTES);
        if (reader->rc != 0 || !reach(reader, end))
            return;
        memcpy(reader->module->image + at, bytes.at, (size_t)(bytes.end - bytes.at));
        behind = end > behind ? end : behind;
    }
    wasm_end_section(reader, &in);
    reader->module->image_bytes = (size_t)behind;
}

/* ---- all of it ---- */

static void
read_all(struct reader *reader)
{
    if (reader->sections[WASM_START].at != NULL)
        wasm_refuse(reader, "the module has a start function; nothing runs before a call");
    do_types(reader);
    do_imports(reader);
    do_list(reader, WASM_FUNCTION, read_function);
    do_list(reader, WASM_TABLE, read_table);
    do_globals(reader);
    do_exports(reader);
    do_elements(reader);
    wasm_do_code(reader);
    do_data(reader);
}

int
wasm_module_read(const uint8_t *bytes, size_t length, struct wasm_module *ret, char *error)
{
    struct wasm_module module = {0};
    struct reader reader = {.error = error, .module = &module};
    if (length > WASM_MODULE_BYTES_MAX)
        wasm_refuse(&reader, "the module is longer than %d bytes", WASM_MODULE_BYTES_MAX);
    static const uint8_t head[] = {0, 'a', 's', 'm', 1, 0, 0, 0};
    wasm_put_bytes(&reader.out, head, sizeof head);
    if (reader.rc == 0)
        find_sections(&reader, (struct span){bytes, bytes + length});
    if (reader.rc == 0)
        read_all(&reader);
    if (reader.out.failed)
        wasm_no_memory(&reader);
    free(reader.names.bytes);
    free(reader.types);
    free(reader.functions);
    if (reader.rc != 0) {
        free(reader.out.bytes);
        wasm_module_free(&module);
        return reader.rc;
    }
    module.code = reader.out.bytes;
    module.code_bytes = reader.out.length;
    *ret = module;
    return 0;
}

void
wasm_module_free(struct wasm_module *module)
{
    for (uint32_t i = 0; i < module->function_count; i++) {
        free(module->functions[i].name);
        free(module->functions[i].description);
    }
    free(module->functions);
    free(module->code);
    free(module->image);
    *module = (struct wasm_module){0};
}
