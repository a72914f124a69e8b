/* SPDX-License-Identifier: Apache-2.0 */
/*
 * symbols.c - kallsyms as it lies in memory.
 *
 *     names        for each symbol a length (1 byte, or 2 with bit 7 of the first set: 7 bits each,
 *                  low ones first) and so many token numbers; the first letter is the kind
 *     token_table  the tokens, each ended by NUL      token_index  u16[256], where each begins
 *     offsets      i32 for each symbol, of which address and meaning have changed:
 *                    relative          base + (u32)offset
 *                    per-CPU absolute  offset >= 0: an absolute value; otherwise base - 1 - offset
 *                  base is *relative_base, in newest kernels _text
 *
 * Which meaning holds is tried out: it is the one that puts _stext where the note has it.
 */
#include "guest/symbols.h"

#include "base/le.h"

#include <string.h>

enum {
    SYMBOLS_MAX = 1 << 20,
    NAME_BYTES_MAX = 512,
    TOKENS = 256,
    INDEX_BYTES = 512,
    TOKEN_BYTES_MAX = 64
};

struct kallsyms {
    const struct guest_memory *memory;
    const uint8_t *names, *names_end;
    const uint8_t *offsets;
    uint32_t count;
    uint64_t base;
    bool has_base;
    const uint8_t *tokens[TOKENS];
    uint8_t token_bytes[TOKENS];
};

static const uint8_t *
at_symbol(const struct guest_kernel *kernel, const char *name, size_t size_bytes)
{
    uint64_t address;
    if (!guest_note_u64(&kernel->note, "SYMBOL", name, &address))
        return NULL;
    return guest_kernel_at(kernel, address, size_bytes);
}

static bool
open_tokens(const struct guest_kernel *kernel, struct kallsyms *table)
{
    uint64_t address;
    const uint8_t *index = at_symbol(kernel, "kallsyms_token_index", INDEX_BYTES);
    if (index == NULL ||
        !guest_note_u64(&kernel->note, "SYMBOL", "kallsyms_token_table", &address))
        return false;
    for (size_t i = 0; i < TOKENS; i++) {
        const uint8_t *token =
            guest_kernel_at(kernel, address + base_le16_get(index + i * 2), TOKEN_BYTES_MAX);
        if (token == NULL)
            return false;
        table->tokens[i] = token;
        table->token_bytes[i] = (uint8_t)strnlen((const char *)token, TOKEN_BYTES_MAX);
    }
    return true;
}

static bool
open_table(const struct guest_kernel *kernel, struct kallsyms *table)
{
    uint64_t names;
    const uint8_t *count = at_symbol(kernel, "kallsyms_num_syms", 4);
    const uint8_t *base = at_symbol(kernel, "kallsyms_relative_base", 8);
    if (count == NULL || !guest_note_u64(&kernel->note, "SYMBOL", "kallsyms_names", &names))
        return false;
    table->count = base_le32_get(count);
    if (table->count == 0 || table->count > SYMBOLS_MAX)
        return false;
    table->has_base = base != NULL;
    table->base = base != NULL ? base_le64_get(base) : kernel->stext;
    table->offsets = at_symbol(kernel, "kallsyms_offsets", (size_t)table->count * 4);
    /* How long the names are is not said; they end with the range of memory at the latest. */
    table->names = guest_kernel_at(kernel, names, 1);
    if (table->names == NULL || table->offsets == NULL)
        return false;
    const struct guest_range *range = guest_memory_range(
        kernel->memory, guest_kernel_physical(kernel, names) >> DOR_PAGE_SHIFT);
    table->names_end = range->data + (range->page_count << DOR_PAGE_SHIFT);
    table->memory = kernel->memory;
    return open_tokens(kernel, table);
}

/* The symbol at *AT without its kind, into NAME; false at the end of memory. */
static bool
next_name(
    const struct kallsyms *table, const uint8_t **at, char name[NAME_BYTES_MAX], size_t *ret)
{
    const uint8_t *p = *at;
    if (table->names_end - p < 2 || !guest_memory_bring(table->memory, p, 2))
        return false;
    size_t length = *p++;
    if ((length & 0x80) != 0)
        length = (length & 0x7f) | (size_t)*p++ << 7;
    if ((size_t)(table->names_end - p) < length ||
        !guest_memory_bring(table->memory, p, length))
        return false;
    size_t used = 0;
    for (const uint8_t *end = p + length; p < end; p++) {
        size_t bytes = table->token_bytes[*p];
        if (used + bytes >= NAME_BYTES_MAX)
            continue;
        memcpy(name + used, table->tokens[*p], bytes);
        used += bytes;
    }
    name[used] = '\0';
    *at = p;
    *ret = used;
    return true;
}

enum meaning { RELATIVE, PER_CPU_ABSOLUTE, MEANINGS };

static uint64_t
address_of(const struct kallsyms *table, uint32_t number, enum meaning meaning)
{
    uint32_t bits = base_le32_get(table->offsets + (size_t)number * 4);
    if (meaning == RELATIVE)
        return table->base + bits;
    int64_t offset = (int32_t)bits;
    return offset >= 0 ? (uint64_t)offset : table->base - 1 - (uint64_t)offset;
}

/* Note each wanted name's number in its address; *RET_STEXT is the number of _stext. */
static bool
find_numbers(
    const struct kallsyms *table, struct guest_wanted *wanted, size_t count,
    uint32_t *ret_stext)
{
    char name[NAME_BYTES_MAX];
    size_t name_bytes;
    bool has_stext = false;
    const uint8_t *at = table->names;
    for (uint32_t number = 0; number < table->count; number++) {
        if (!next_name(table, &at, name, &name_bytes))
            return false;
        if (name_bytes == 0)
            continue;
        if (!has_stext && strcmp(name + 1, "_stext") == 0) {
            *ret_stext = number;
            has_stext = true;
        }
        for (size_t i = 0; i < count; i++)
            if (!wanted[i].found && name[1] == wanted[i].name[0] &&
                strcmp(name + 1, wanted[i].name) == 0) {
                wanted[i].address = number;
                wanted[i].found = true;
            }
    }
    return has_stext;
}

bool
guest_symbols_find(const struct guest_kernel *kernel, struct guest_wanted *wanted, size_t count)
{
    struct kallsyms table;
    uint32_t stext = 0;
    for (size_t i = 0; i < count; i++)
        wanted[i].found = false;
    memset(&table, 0, sizeof table);
    bool read = open_table(kernel, &table) && find_numbers(&table, wanted, count, &stext);
    enum meaning meaning = RELATIVE;
    while (read && meaning < MEANINGS && address_of(&table, stext, meaning) != kernel->stext)
        meaning++;
    read = read && meaning < MEANINGS;
    for (size_t i = 0; i < count; i++) {
        wanted[i].found = wanted[i].found && read;
        if (wanted[i].found)
            wanted[i].address = address_of(&table, (uint32_t)wanted[i].address, meaning);
    }
    return read;
}
