/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inspect.c - `dormouse inspect`: what each page of an image is.
 */
#include <dormouse/inspect.h>

#include "base/err.h"
#include "base/newfile.h"
#include "base/size.h"
#include "cli/cells.h"
#include "cli/cli.h"
#include "cli/json.h"
#include "cli/table.h"
#include "cli/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AUTO_IMAGE      __attribute__((cleanup(auto_image)))
#define AUTO_INSPECTION __attribute__((cleanup(auto_inspection)))

static void
auto_image(struct dor_image **image)
{
    dor_image_close(*image);
}

static void
auto_inspection(struct dor_inspection **inspection)
{
    dor_inspection_free(*inspection);
}

/* Pages by one of their three kinds of number. */
struct counts {
    uint64_t classes[DOR_CLASSES], region_types[DOR_REGION_TYPES], importances[DOR_IMPORTANCES];
};

static void
count(const struct dor_inspection *inspection, struct counts *ret)
{
    memset(ret, 0, sizeof *ret);
    cli_class_counts(inspection, ret->classes);
    for (uint64_t page = 0; page < inspection->page_count; page++) {
        ret->region_types[inspection->pages[page].region_type]++;
        ret->importances[inspection->pages[page].importance]++;
    }
}

static const char *
class_name(unsigned number)
{
    return dor_page_class_name((enum dor_page_class)number);
}

static const char *
region_type_name(unsigned number)
{
    return cli_text_region_type((enum dor_region_type)number);
}

static const char *
importance_name(unsigned number)
{
    return dor_importance_name((enum dor_importance)number);
}

/* ------------------------------------------------------------------ JSON */

static json_t *
counts_json(const uint64_t *counts, unsigned count, const char *(*name)(unsigned))
{
    AUTO_JSON json_t *object = json_object();
    for (unsigned i = 0; i < count; i++)
        if (!cli_json_set(object, name(i), cli_json_u64(counts[i])))
            return NULL;
    return json_incref(object);
}

static json_t *
file_index_json(uint32_t file)
{
    return file == UINT32_MAX ? json_null() : cli_json_u64(file);
}

static json_t *
mappings_json(const struct dor_inspection *inspection, size_t process)
{
    AUTO_JSON json_t *rows = json_array();
    for (size_t i = 0; i < inspection->mapping_count; i++) {
        const struct dor_inspect_mapping *mapping = &inspection->mappings[i];
        if (mapping->process != process)
            continue;
        json_t *row = json_pack(
            "{s:o, s:o, s:o, s:o}", "start", cli_json_u64(mapping->start), "end",
            cli_json_u64(mapping->end), "flags", cli_json_u64(mapping->flags), "file",
            file_index_json(mapping->file));
        if (json_array_append_new(rows, row) != 0)
            return NULL;
    }
    return json_incref(rows);
}

static json_t *
processes_json(const struct dor_inspection *inspection)
{
    AUTO_JSON json_t *rows = json_array();
    for (size_t i = 0; i < inspection->process_count; i++) {
        const struct dor_inspect_process *process = &inspection->processes[i];
        json_t *row = json_pack(
            "{s:o, s:o, s:b, s:o, s:o, s:o, s:o}", "pid", cli_json_u64(process->pid), "name",
            cli_json_text(process->name), "runtime", (int)process->runtime, "resident_pages",
            cli_json_u64(process->resident_pages), "file_pages",
            cli_json_u64(process->file_pages), "anon_pages", cli_json_u64(process->anon_pages),
            "mappings", mappings_json(inspection, i));
        if (json_array_append_new(rows, row) != 0)
            return NULL;
    }
    return json_incref(rows);
}

static json_t *
files_json(const struct dor_inspection *inspection)
{
    AUTO_JSON json_t *rows = json_array();
    for (size_t i = 0; i < inspection->file_count; i++) {
        const struct dor_inspect_file *file = &inspection->files[i];
        json_t *row = json_pack(
            "{s:o, s:o, s:o, s:o}", "name", cli_json_text(file->name), "file_system",
            cli_json_text(file->file_system), "inode", cli_json_u64(file->inode),
            "resident_pages", cli_json_u64(file->resident_pages));
        if (json_array_append_new(rows, row) != 0)
            return NULL;
    }
    return json_incref(rows);
}

static int
print_json(const struct dor_inspection *inspection, const struct counts *counts)
{
    AUTO_JSON json_t *object = json_object();
    if (!cli_json_set(object, "tier", cli_json_text(dor_inspect_tier_name(inspection->tier))) ||
        !cli_json_set(object, "partial", json_boolean(inspection->partial)) ||
        !cli_json_set(object, "free_is_sure", json_boolean(inspection->free_is_sure)) ||
        !cli_json_set(
            object, "confidence_percent", cli_json_u64(inspection->confidence_percent)) ||
        !cli_json_set(object, "remark", cli_json_text(inspection->remark)) ||
        !cli_json_set(object, "kernel", cli_json_text(inspection->kernel)) ||
        !cli_json_set(object, "build_id", cli_json_text(inspection->build_id)) ||
        !cli_json_set(object, "pages", cli_json_u64(inspection->page_count)) ||
        !cli_json_set(
            object, "classes", counts_json(counts->classes, DOR_CLASSES, class_name)) ||
        !cli_json_set(
            object, "region_types",
            counts_json(counts->region_types, DOR_REGION_TYPES, region_type_name)) ||
        !cli_json_set(
            object, "importances",
            counts_json(counts->importances, DOR_IMPORTANCES, importance_name)) ||
        !cli_json_set(object, "processes", processes_json(inspection)) ||
        !cli_json_set(object, "files", files_json(inspection)))
        return cli_json_print(NULL);
    return cli_json_print(json_incref(object));
}

/* ------------------------------------------------------------------ text */

static void
print_head(const char *path, const struct dor_inspection *inspection)
{
    char size[CLI_NUMBER_BYTES];
    char words[1024];
    printf(
        "%s: %s, %s\n", cli_text_clean(path, words, sizeof words),
        cli_text_size(inspection->page_count * DOR_PAGE_BYTES, size),
        inspection->kernel[0] == '\0' ? "no kernel found" : inspection->kernel);
    printf(
        "tier %s%s, confidence %u %%, free pages %s\n", dor_inspect_tier_name(inspection->tier),
        inspection->partial ? " (partial)" : "", inspection->confidence_percent,
        inspection->free_is_sure ? "agree with the free lists" : "are not certain");
    if (inspection->remark[0] != '\0')
        printf("%s\n", cli_text_clean(inspection->remark, words, sizeof words));
    putchar('\n');
}

static int
print_counts(
    const char *head, const uint64_t *counts, unsigned count, const char *(*name)(unsigned),
    uint64_t page_count)
{
    AUTO_TABLE struct cli_table table = {.columns = "lrrr"};
    cli_table_cell(&table, "%s", head);
    cli_table_cell(&table, "pages");
    cli_table_cell(&table, "bytes");
    cli_table_cell(&table, "of image");
    for (unsigned i = 0; i < count; i++) {
        char percent[CLI_NUMBER_BYTES];
        if (counts[i] == 0)
            continue;
        cli_table_cell(&table, "%s", name(i));
        cli_table_cell(&table, "%" PRIu64, counts[i]);
        cli_table_size(&table, counts[i] * DOR_PAGE_BYTES);
        cli_table_cell(&table, "%s", cli_text_percent(counts[i], page_count, percent));
    }
    int rc = cli_table_print(&table);
    putchar('\n');
    return rc;
}

static int
print_processes(const struct dor_inspection *inspection)
{
    static const char *const heads[] = {"pid",  "process",  "resident", "file",
                                        "anon", "mappings", ""};
    AUTO_TABLE struct cli_table table = {.columns = "rlrrrrl"};
    if (inspection->process_count == 0)
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(heads); i++)
        cli_table_cell(&table, "%s", heads[i]);
    for (size_t i = 0; i < inspection->process_count; i++) {
        const struct dor_inspect_process *process = &inspection->processes[i];
        cli_table_cell(&table, "%" PRIu32, process->pid);
        cli_table_cell(&table, "%s", process->name[0] == '\0' ? "-" : process->name);
        cli_table_size(&table, process->resident_pages * DOR_PAGE_BYTES);
        cli_table_size(&table, process->file_pages * DOR_PAGE_BYTES);
        cli_table_size(&table, process->anon_pages * DOR_PAGE_BYTES);
        cli_table_cell(&table, "%" PRIu32, process->mapping_count);
        cli_table_cell(&table, "%s", process->runtime ? "runtime" : "");
    }
    return cli_table_print(&table);
}

static int
print_text(
    const char *path, const struct dor_inspection *inspection, const struct counts *counts)
{
    uint64_t pages = inspection->page_count;
    print_head(path, inspection);
    int rc = print_counts("class", counts->classes, DOR_CLASSES, class_name, pages);
    if (rc == 0)
        rc = print_counts(
            "region type", counts->region_types, DOR_REGION_TYPES, region_type_name, pages);
    if (rc == 0)
        rc = print_counts(
            "importance", counts->importances, DOR_IMPORTANCES, importance_name, pages);
    return rc == 0 ? print_processes(inspection) : rc;
}

/* ------------------------------------------------------------------ one line a page */

/* TEXT as a field of CSV: in quotes where it holds what divides fields. */
static void
put_field(FILE *out, const char *text)
{
    char clean[1024];
    cli_text_clean(text, clean, sizeof clean);
    bool quotes = strpbrk(clean, ",\"") != NULL;
    if (quotes)
        fputc('"', out);
    for (const char *p = clean; *p != '\0'; p++) {
        if (*p == '"')
            fputc('"', out);
        fputc(*p, out);
    }
    if (quotes)
        fputc('"', out);
}

static void
put_page(FILE *out, const struct dor_inspection *inspection, uint64_t row, uint64_t pfn)
{
    const struct dor_inspect_page *page = &inspection->pages[row];
    fprintf(
        out, "%" PRIu64 ",%s,%s,%s,", pfn, class_name(page->page_class),
        region_type_name(page->region_type), importance_name(page->importance));
    if (page->process != UINT32_MAX) {
        const struct dor_inspect_process *process = &inspection->processes[page->process];
        fprintf(out, "%" PRIu32 ":", process->pid);
        put_field(out, process->name);
    }
    fputc(',', out);
    if (page->file != UINT32_MAX)
        put_field(out, inspection->files[page->file].name);
    fputc('\n', out);
}

static void
put_pages(FILE *out, const struct dor_inspection *inspection)
{
    fputs("pfn,class,region_type,importance,process,file\n", out);
    for (size_t i = 0; i < inspection->range_count; i++) {
        const struct dor_image_range *range = &inspection->ranges[i];
        uint64_t pfn = range->address == DOR_IMAGE_NO_ADDRESS
                           ? range->first_page
                           : range->address >> DOR_PAGE_SHIFT;
        for (uint64_t page = 0; page < range->page_count; page++)
            put_page(out, inspection, range->first_page + page, pfn + page);
    }
}

static int
write_pages(const struct dor_inspection *inspection, const char *path)
{
    AUTO_NEWFILE struct base_newfile file = BASE_NEWFILE_NONE;
    FILE *out = NULL;
    int rc = base_newfile_open(&file, path);
    if (rc == 0)
        rc = base_newfile_stream(&file, &out);
    if (rc != 0)
        return rc;
    put_pages(out, inspection);
    rc = base_newfile_stream_end(&file, out);
    if (rc == 0)
        rc = base_newfile_sync(&file);
    return rc == 0 ? base_newfile_commit(&file) : rc;
}

/* ------------------------------------------------------------------ the verb */

static int
write_map(const struct cli *cli, const struct dor_inspection *inspection)
{
    const char *path = cli->args[0];
    if (strcmp(cli->values.map_file, "-") == 0)
        return cli_cells_draw(inspection);
    return cli_cells_write_svg(inspection, path, cli->values.map_file);
}

static int
write_files(const struct cli *cli, const struct dor_inspection *inspection)
{
    int rc = 0;
    if (cli->values.pages_file != NULL)
        rc = write_pages(inspection, cli->values.pages_file);
    if (rc == 0 && cli->values.map_file != NULL)
        rc = write_map(cli, inspection);
    return rc;
}

int
cli_inspect_run(const struct cli *cli)
{
    const struct cli_values *values = &cli->values;
    const struct dor_inspect options = {
        .process = values->process,
        .profile_directory = values->profiles,
        .vmlinux = values->vmlinux,
    };
    enum dor_image_format format = DOR_IMAGE_AUTO;
    struct counts counts;
    AUTO_IMAGE struct dor_image *image = NULL;
    AUTO_INSPECTION struct dor_inspection *inspection = NULL;
    if (values->json && values->map_file != NULL && strcmp(values->map_file, "-") == 0)
        return dor_fail(DOR_E_USAGE, "--json and --map - both want standard output");
    int rc = values->format == NULL ? 0 : dor_image_format_parse(values->format, &format);
    if (rc == 0)
        rc = dor_image_open(cli->args[0], format, &image);
    if (rc == 0)
        rc = dor_inspect(image, &options, &inspection);
    if (rc != 0)
        return rc;
    count(inspection, &counts);
    if (values->json)
        rc = print_json(inspection, &counts);
    else if (!values->quiet)
        rc = print_text(cli->args[0], inspection, &counts);
    return rc == 0 ? write_files(cli, inspection) : rc;
}
