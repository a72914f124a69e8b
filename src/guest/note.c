/* SPDX-License-Identifier: Apache-2.0 */
/*
 * note.c - looks for a key line by line. A note has 130 lines and is asked some 60 times, so there
 * is no index.
 */
#include "guest/note.h"

#include "base/le.h"
#include "base/size.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { HEAD_BYTES = 24, KEY_BYTES_MAX = 128 };

static const struct dor_image_range *
range_of_row(const struct dor_image_info *info, uint64_t row)
{
    for (size_t i = 0; i < info->range_count; i++)
        if (row - info->ranges[i].first_page < info->ranges[i].page_count)
            return &info->ranges[i];
    return NULL;
}

bool
guest_note_read(
    const struct dor_image_info *info, const struct guest_note_place *place,
    struct guest_note *ret)
{
    static const char first[] = "OSRELEASE=";
    const struct dor_image_range *range = range_of_row(info, place->row);
    if (range == NULL)
        return false;
    uint64_t offset = ((place->row - range->first_page) << DOR_PAGE_SHIFT) + place->offset;
    uint64_t left = (range->page_count << DOR_PAGE_SHIFT) - offset;
    if (left < HEAD_BYTES)
        return false;
    const uint8_t *head = range->data + offset;
    uint32_t size_bytes = base_le32_get(head + 4);
    if (size_bytes < sizeof first - 1 || size_bytes > GUEST_NOTE_BYTES_MAX ||
        size_bytes > left - HEAD_BYTES ||
        memcmp(head + HEAD_BYTES, first, sizeof first - 1) != 0)
        return false;
    *ret = (struct guest_note){
        .text = (const char *)head + HEAD_BYTES, .size_bytes = size_bytes, .row = place->row};
    return true;
}

/* The value of the line that begins with KEY and '='. */
static bool
find_value(const struct guest_note *note, const char *key, const char **ret, size_t *ret_bytes)
{
    size_t key_bytes = strlen(key);
    const char *line = note->text;
    const char *end = note->text + note->size_bytes;
    while (line < end) {
        const char *next = memchr(line, '\n', (size_t)(end - line));
        size_t line_bytes = (size_t)((next == NULL ? end : next) - line);
        if (line_bytes > key_bytes && line[key_bytes] == '=' &&
            memcmp(line, key, key_bytes) == 0) {
            *ret = line + key_bytes + 1;
            *ret_bytes = line_bytes - key_bytes - 1;
            return true;
        }
        line += line_bytes + 1;
    }
    return false;
}

static unsigned
digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return (unsigned)(c - '0');
    if (c >= 'a' && c <= 'f')
        return (unsigned)(c - 'a') + 10;
    return UINT_MAX;
}

/* All of TEXT as digits of BASE that do not exceed 64 bits. */
static bool
parse_digits(const char *text, size_t size_bytes, unsigned base, uint64_t *ret)
{
    uint64_t value = 0;
    if (size_bytes == 0)
        return false;
    for (size_t i = 0; i < size_bytes; i++) {
        unsigned digit = digit_of(text[i]);
        if (digit >= base || !base_mul_u64(value, base, &value) ||
            !base_add_u64(value, digit, &value))
            return false;
    }
    *ret = value;
    return true;
}

bool
guest_note_u64(const struct guest_note *note, const char *kind, const char *name, uint64_t *ret)
{
    char key[KEY_BYTES_MAX];
    const char *value;
    size_t value_bytes;
    snprintf(key, sizeof key, "%s(%s)", kind, name);
    if (!find_value(note, key, &value, &value_bytes))
        return false;
    if (strcmp(kind, "SYMBOL") == 0)
        return parse_digits(value, value_bytes, 16, ret);
    if (value_bytes == 0 || value[0] != '-')
        return parse_digits(value, value_bytes, 10, ret);
    if (!parse_digits(value + 1, value_bytes - 1, 10, ret))
        return false;
    *ret = 0 - *ret;
    return true;
}

bool
guest_note_u32(
    const struct guest_note *note, const char *kind, const char *name, uint32_t max,
    uint32_t *ret)
{
    uint64_t value;
    if (!guest_note_u64(note, kind, name, &value) || value > max)
        return false;
    *ret = (uint32_t)value;
    return true;
}

bool
guest_note_text(const struct guest_note *note, const char *key, char *buf, size_t size_bytes)
{
    const char *value;
    size_t value_bytes;
    if (!find_value(note, key, &value, &value_bytes))
        return false;
    value_bytes = base_min_size(value_bytes, size_bytes - 1);
    for (size_t i = 0; i < value_bytes; i++)
        buf[i] = value[i] > ' ' && value[i] <= '~' ? value[i] : '?';
    buf[value_bytes] = '\0';
    return true;
}
