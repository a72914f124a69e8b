/* SPDX-License-Identifier: Apache-2.0 */
/*
 * files.c - page -> address_space -> inode -> super block, name. A file is known by its
 * address_space; each is looked up once.
 */
#include "guest/files.h"

#include <stdio.h>
#include <string.h>

/* The name of the dentry at ADDRESS. */
static bool
read_dentry(struct guest_look *look, uint64_t address, char *buf, size_t size_bytes)
{
    uint64_t name;
    struct guest_tables *tables = &look->kernel.tables;
    return guest_read_u64(
               tables, address + guest_offset(&look->profile, GUEST_dentry_name), &name) &&
           guest_read_name(tables, name, buf, size_bytes);
}

/* The name by which INODE is known, if any dentry of it is left. */
static void
read_alias(struct guest_look *look, uint64_t inode, char *buf, size_t size_bytes)
{
    uint64_t alias;
    const struct guest_profile *profile = &look->profile;
    if (!guest_read_u64(
            &look->kernel.tables, inode + guest_offset(profile, GUEST_inode_dentry), &alias) ||
        alias == 0 ||
        !read_dentry(look, alias - guest_offset(profile, GUEST_dentry_alias), buf, size_bytes))
        buf[0] = '\0';
}

static bool
read_inode(struct guest_look *look, uint64_t inode, struct dor_inspect_file *file)
{
    const struct guest_profile *profile = &look->profile;
    struct guest_tables *tables = &look->kernel.tables;
    uint64_t super;
    uint64_t type;
    uint64_t name;
    return guest_read_u64(
               tables, inode + guest_offset(profile, GUEST_inode_ino), &file->inode) &&
           guest_read_u64(tables, inode + guest_offset(profile, GUEST_inode_sb), &super) &&
           guest_read_u64(tables, super + guest_offset(profile, GUEST_sb_type), &type) &&
           guest_read_u64(tables, type + guest_offset(profile, GUEST_fs_name), &name) &&
           guest_read_name(tables, name, file->file_system, sizeof file->file_system);
}

/* Whether the address_space MAPPING is its inode's own, as it is for all that is real. */
static bool
is_mapping_of(struct guest_look *look, uint64_t mapping, uint64_t inode)
{
    uint64_t back;
    const struct guest_profile *profile = &look->profile;
    if (!guest_knows(profile, GUEST_inode_mapping))
        return true;
    return guest_read_u64(
               &look->kernel.tables, inode + guest_offset(profile, GUEST_inode_mapping),
               &back) &&
           back == mapping;
}

/* The row of the address_space at MAPPING; what is none is remembered as UINT32_MAX, too. */
static int
file_of_mapping(struct guest_look *look, uint64_t mapping, uint32_t *ret)
{
    struct dor_inspect_file file = {0};
    uint64_t inode;
    *ret = guest_map_find(&look->file_map, mapping);
    if (*ret != UINT32_MAX || mapping == 0)
        return 0;
    if (guest_map_has(&look->file_map, mapping))
        return 0;
    if (guest_read_u64(
            &look->kernel.tables, mapping + guest_offset(&look->profile, GUEST_mapping_host),
            &inode) &&
        inode != 0 && is_mapping_of(look, mapping, inode) && read_inode(look, inode, &file)) {
        struct dor_inspect_file *row = guest_rows_add(&look->files);
        if (row == NULL)
            return DOR_E_NO_MEMORY;
        read_alias(look, inode, file.name, sizeof file.name);
        *row = file;
        *ret = (uint32_t)(look->files.count - 1);
    }
    return guest_map_add(&look->file_map, mapping, *ret);
}

int
guest_files_of_file(struct guest_look *look, uint64_t address, uint32_t *ret)
{
    uint64_t mapping;
    uint64_t dentry;
    const struct guest_profile *profile = &look->profile;
    struct guest_tables *tables = &look->kernel.tables;
    *ret = UINT32_MAX;
    if (address == 0 ||
        !guest_read_u64(tables, address + guest_offset(profile, GUEST_file_mapping), &mapping))
        return 0;
    int rc = file_of_mapping(look, mapping, ret);
    if (rc != 0 || *ret == UINT32_MAX)
        return rc;
    /* The name it was opened by is better than any of its names, or none. */
    struct dor_inspect_file *file = (struct dor_inspect_file *)look->files.rows + *ret;
    char name[sizeof file->name];
    if (guest_read_u64(tables, address + guest_offset(profile, GUEST_file_dentry), &dentry) &&
        read_dentry(look, dentry, name, sizeof name))
        memcpy(file->name, name, sizeof name);
    return 0;
}

/*
 * What the page cache may hold: file and shmem, and pages in use that are on their way to a list and
 * bear no flag yet.
 */
static bool
may_be_cached(const struct guest_look *look, const uint8_t *record, uint8_t page_class)
{
    if (page_class == DOR_CLASS_FILE_CLEAN || page_class == DOR_CLASS_FILE_DIRTY ||
        page_class == DOR_CLASS_SHMEM)
        return true;
    return page_class == DOR_CLASS_KERNEL_DATA &&
           !guest_record_has(&look->array, record, look->array.flag_reserved) &&
           base_le32_get(record + look->array.refcount) != 0;
}

static int
read_page(struct guest_look *look, struct dor_inspect_page *page, uint64_t pfn)
{
    const struct guest_array *array = &look->array;
    const uint8_t *record = guest_array_record(array, pfn);
    uint64_t head = record == NULL ? pfn : guest_array_head(array, pfn, record);
    if (head != pfn)
        record = guest_array_record(array, head);
    if (record == NULL || !may_be_cached(look, record, page->page_class))
        return 0;
    uint64_t mapping = base_le64_get(record + array->mapping);
    /* Kernel addresses are negative, and pointers to structs even. */
    if (mapping >> 63 == 0 || (mapping & 7) != 0)
        return 0;
    uint32_t file;
    int rc = file_of_mapping(look, mapping, &file);
    if (rc != 0 || file == UINT32_MAX)
        return rc;
    page->file = file;
    page->file_page = base_le64_get(record + array->index) + (pfn - head);
    ((struct dor_inspect_file *)look->files.rows)[file].resident_pages++;
    if (page->page_class == DOR_CLASS_KERNEL_DATA) {
        bool dirty = guest_record_has(array, record, array->flag_dirty);
        bool shared = guest_record_has(array, record, array->flag_swapbacked);
        page->page_class = shared  ? DOR_CLASS_SHMEM
                           : dirty ? DOR_CLASS_FILE_DIRTY
                                   : DOR_CLASS_FILE_CLEAN;
    }
    return 0;
}

int
guest_files_read(struct guest_look *look)
{
    if (!look->array.has_index)
        return 0;
    for (size_t i = 0; i < look->memory.range_count; i++) {
        const struct guest_range *range = &look->memory.ranges[i];
        for (uint64_t page = 0; page < range->page_count; page++) {
            int rc =
                read_page(look, &look->pages[range->first_row + page], range->first_pfn + page);
            if (rc != 0)
                return rc;
        }
    }
    return 0;
}
