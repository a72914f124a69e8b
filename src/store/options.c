/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options.c - the table of options.def behind the public name/value interface.
 * Values are checked when they are set, so a store never opens with a half-valid set.
 */
#include "store/options.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"

#define BASE_OPTION_STRUCT struct store_options
static const struct base_option rows[] = {
#define OPTION BASE_OPTION_ROW
#include "store/options.def"
#undef OPTION
};

int
dor_options_new(struct dor_options **ret)
{
    struct dor_options *options = base_zalloc(sizeof *options);
    if (options == NULL)
        return DOR_E_NO_MEMORY;
    *ret = options;
    return 0;
}

void
dor_options_free(struct dor_options *options)
{
    if (options == NULL)
        return;
    for (size_t i = 0; i < options->count; i++) {
        base_free(options->names[i]);
        base_free(options->values[i]);
    }
    base_free(options->names);
    base_free(options->values);
    base_free(options);
}

static char *
copy_text(const char *text)
{
    size_t size_bytes = strlen(text) + 1;
    char *copy = base_alloc(size_bytes);
    if (copy != NULL)
        memcpy(copy, text, size_bytes);
    return copy;
}

/* A type's codec is its own or, when that is "same", that of all. */
static int
parse_codecs(struct store_options *options)
{
    const char *const names[DOR_REGION_TYPES] = {
        options->nrt_codec, options->rx_map_codec, options->w_map_codec};
    enum chunk_codec common;
    int err = chunk_codec_parse(options->codec, &common);
    for (unsigned type = 0; type < DOR_REGION_TYPES && err == 0; type++) {
        options->codec_ids[type] = common;
        if (strcmp(names[type], "same") != 0)
            err = chunk_codec_parse(names[type], &options->codec_ids[type]);
    }
    if (err == 0)
        err = chunk_codec_parse(options->cluster_codec, &options->cluster_codec_id);
    return err != 0 ? err : chunk_codec_parse(options->chain_codec, &options->chain_codec_id);
}

static int
check_value(struct store_options *options, const char *name, const char *value)
{
    int err = base_options_set(rows, ARRAY_LEN(rows), options, name, value);
    if (err != 0)
        return err;
    err = parse_codecs(options);
    if (err != 0)
        return err;
    uint64_t sizes[] = {
        options->nrt_chunk_bytes, options->rx_map_chunk_bytes, options->w_map_chunk_bytes};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        if ((sizes[i] & (sizes[i] - 1)) != 0)
            return dor_fail(DOR_E_USAGE, "option %s: %s is not a power of two", name, value);
    return 0;
}

int
dor_options_set(struct dor_options *options, const char *name, const char *value)
{
    struct store_options probe;
    store_options_default(&probe);
    int err = check_value(&probe, name, value);
    if (err != 0)
        return err;
    char **names = base_realloc_array(options->names, options->count + 1, sizeof *names);
    if (names == NULL)
        return DOR_E_NO_MEMORY;
    options->names = names;
    char **values = base_realloc_array(options->values, options->count + 1, sizeof *values);
    if (values == NULL)
        return DOR_E_NO_MEMORY;
    options->values = values;
    AUTO_FREE char *name_copy = copy_text(name);
    AUTO_FREE char *value_copy = copy_text(value);
    if (name_copy == NULL || value_copy == NULL)
        return DOR_E_NO_MEMORY;
    options->names[options->count] = TAKE(name_copy);
    options->values[options->count] = TAKE(value_copy);
    options->count++;
    return 0;
}

static void
preset_text(const struct base_option *row, char *text, size_t size_bytes)
{
    if (row->type == BASE_OPTION_STRING)
        snprintf(text, size_bytes, "%s", row->default_text);
    else if (row->type == BASE_OPTION_BOOL)
        snprintf(text, size_bytes, "%s", row->default_number != 0 ? "yes" : "no");
    else
        snprintf(text, size_bytes, "%llu", (unsigned long long)row->default_number);
}

void
dor_options_each(
    void (*visit)(
        void *context, const char *name, const char *preset, const char *unit,
        const char *text),
    void *context)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char preset[64];
        preset_text(&rows[i], preset, sizeof preset);
        visit(context, rows[i].name, preset, rows[i].unit, rows[i].text);
    }
}

void
store_options_default(struct store_options *options)
{
    memset(options, 0, sizeof *options);
    base_options_default(rows, ARRAY_LEN(rows), options);
    for (unsigned type = 0; type < DOR_REGION_TYPES; type++)
        options->codec_ids[type] = CHUNK_ZSTD;
    options->chain_codec_id = options->cluster_codec_id = CHUNK_LZ4;
}

int
store_options_apply(struct store_options *options, const struct dor_options *set)
{
    for (size_t i = 0; set != NULL && i < set->count; i++) {
        int err = check_value(options, set->names[i], set->values[i]);
        if (err != 0)
            return err;
    }
    return 0;
}

uint64_t
store_options_chunk_pages(const struct store_options *options, unsigned type)
{
    uint64_t bytes = type == DOR_RX_MAP  ? options->rx_map_chunk_bytes
                     : type == DOR_W_MAP ? options->w_map_chunk_bytes
                                         : options->nrt_chunk_bytes;
    return bytes / DOR_PAGE_BYTES;
}

uint64_t
store_options_group_pages(const struct store_options *options, unsigned type)
{
    return type == DOR_RX_MAP  ? options->rx_map_group_pages
           : type == DOR_W_MAP ? options->w_map_group_pages
                               : options->nrt_group_pages;
}
