/* SPDX-License-Identifier: Apache-2.0 */
/*
 * look.c - containers of an inspection.
 */
#include "guest/look.h"

#include "base/err.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void
guest_look_fini(struct guest_look *look)
{
    guest_array_fini(&look->array);
    guest_memory_fini(&look->memory);
    guest_survey_fini(&look->survey);
    guest_map_fini(&look->file_map);
    base_free(look->head_bits);
    base_free(look->pages);
    base_free(look->processes.rows);
    base_free(look->mappings.rows);
    base_free(look->files.rows);
    base_free(look->insides.rows);
}

__attribute__((format(printf, 2, 0))) static void
set_remark(struct guest_look *look, const char *fmt, va_list args)
{
    if (look->result.remark[0] == '\0')
        vsnprintf(look->result.remark, sizeof look->result.remark, fmt, args);
}

void
guest_look_partial(struct guest_look *look, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    /* That something is missing matters more than why the tier is what it is. */
    if (!look->result.partial)
        look->result.remark[0] = '\0';
    look->result.partial = true;
    set_remark(look, fmt, args);
    va_end(args);
}

void
guest_look_remark(struct guest_look *look, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    set_remark(look, fmt, args);
    va_end(args);
}

void *
guest_rows_add(struct guest_rows *rows)
{
    if (rows->count == rows->cap) {
        size_t cap = rows->cap * 2 + 64;
        void *more = base_realloc_array(rows->rows, cap, rows->row_bytes);
        if (more == NULL)
            return NULL;
        rows->rows = more;
        rows->cap = cap;
    }
    uint8_t *row = (uint8_t *)rows->rows + rows->count * rows->row_bytes;
    memset(row, 0, rows->row_bytes);
    rows->count++;
    return row;
}

static size_t
slot_of(const struct guest_map *map, uint64_t address)
{
    /* Structs are aligned to lines, so the low bits tell nothing. */
    size_t slot =
        (size_t)((address >> 3) * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (map->cap - 1);
    while (map->slots[slot].address != 0 && map->slots[slot].address != address)
        slot = (slot + 1) & (map->cap - 1);
    return slot;
}

uint32_t
guest_map_find(const struct guest_map *map, uint64_t address)
{
    if (map->cap == 0 || address == 0)
        return UINT32_MAX;
    size_t slot = slot_of(map, address);
    return map->slots[slot].address == address ? map->slots[slot].row : UINT32_MAX;
}

bool
guest_map_has(const struct guest_map *map, uint64_t address)
{
    return map->cap != 0 && address != 0 &&
           map->slots[slot_of(map, address)].address == address;
}

static int
grow(struct guest_map *map)
{
    struct guest_map larger = {.cap = map->cap == 0 ? 256 : map->cap * 2, .count = map->count};
    larger.slots = base_array(larger.cap, sizeof larger.slots[0]);
    if (larger.slots == NULL)
        return DOR_E_NO_MEMORY;
    for (size_t i = 0; i < map->cap; i++)
        if (map->slots[i].address != 0)
            larger.slots[slot_of(&larger, map->slots[i].address)] = map->slots[i];
    base_free(map->slots);
    *map = larger;
    return 0;
}

int
guest_map_add(struct guest_map *map, uint64_t address, uint32_t row)
{
    dor_assert(address != 0);
    int rc = map->count * 2 >= map->cap ? grow(map) : 0;
    if (rc != 0)
        return rc;
    size_t slot = slot_of(map, address);
    map->count += map->slots[slot].address == 0 ? 1 : 0;
    map->slots[slot].address = address;
    map->slots[slot].row = row;
    return 0;
}

void
guest_map_fini(struct guest_map *map)
{
    base_free(map->slots);
    map->slots = NULL;
    map->cap = 0;
}
