/* SPDX-License-Identifier: Apache-2.0 */
/*
 * synth.h - a made-up Linux guest of 4 MiB that has everything an inspection looks for, each thing
 * at a place that a test knows and can break: note, page tables, symbols, types, page records, free
 * lists, tasks, mappings, files.
 *
 *     pages      what
 *     0          reserved
 *     16-63      page tables            direct map: all of memory, by pages of 2 MiB
 *     64-79      array of struct page
 *     80         the note
 *     90-119     slab: tasks, mm, mappings, files
 *     120-129    page tables of the process
 *     130-139    anon, mapped writable  140-149  file, mapped read-only
 *     150        page cache dirty       151      shmem
 *     152        on a processor's list
 *     256-511    the kernel's image: 256-383 read-only, 384-511 writable
 *     512-1023   one free block of order 9
 *
 * Ownership:  synth_fini() frees the memory.
 * Threads:    one.
 * Errors:     what is the test's own trouble ends it with bail().
 */
#ifndef TESTS_GUEST_SYNTH_H
#define TESTS_GUEST_SYNTH_H

#include <bpf/btf.h>

#include <dormouse/store.h>

#include "base/err.h"
#include "base/le.h"
#include "base/mem.h"
#include "guest/inspect_priv.h"
#include "guest/kernel.h"
#include "guest/profile.h"
#include "tap.h"

#define SYNTH_IMAGE  UINT64_C(0xffffffff81000000)
#define SYNTH_DIRECT UINT64_C(0xffff888000000000)
#define SYNTH_ARRAY  UINT64_C(0xffffea0000000000)
#define SYNTH_USER   UINT64_C(0x7f0000000000) /* anon, then file, 16 pages further */

#define SYNTH_BUILD_ID "0123456789abcdef0123456789abcdef01234567"

enum {
    SYNTH_PAGES = 1024,
    SYNTH_TABLES = 16,
    SYNTH_RECORDS = 64,
    SYNTH_NOTE = 80,
    SYNTH_SLAB = 90,
    SYNTH_PGD = 120,
    SYNTH_ANON = 130,
    SYNTH_FILE = 140,
    SYNTH_DIRTY = 150,
    SYNTH_SHMEM = 151,
    SYNTH_CACHED = 152,
    SYNTH_KERNEL = 256,
    SYNTH_KERNEL_DATA = 384,
    SYNTH_FREE = 512,
    SYNTH_PAGES_EACH = 10,
    RECORD_BYTES = 64,
    SYNTH_TASK_PID = 42,
    SYNTH_SYMBOLS_MAX = 16,
};

/* Pages of the kernel's data. */
enum {
    SYNTH_TOP = SYNTH_KERNEL_DATA,
    SYNTH_UTS,
    SYNTH_NODES,
    SYNTH_NODE,
    SYNTH_NODE_MORE,
    SYNTH_INIT_TASK,
    SYNTH_CPU,
    SYNTH_SWITCHES,
    SYNTH_SYMBOLS_PAGE = SYNTH_KERNEL + 16,
    SYNTH_BTF_PAGE = SYNTH_KERNEL + 32,
};

/* struct page as 6.1 has it. */
enum {
    REC_FLAGS = 0,
    REC_LRU = 8,
    REC_MAPPING = 24,
    REC_INDEX = 32,
    REC_PRIVATE = 40,
    REC_TYPE = 48,
    REC_REFCOUNT = 52
};

/* What a test may want otherwise; all zero is a guest like 6.1. */
struct synth_kind {
    bool five_levels;
    bool no_symbols, no_btf; /* not told by the guest */
    bool list_of_mappings;   /* as up to 6.0 */
    bool byte_types;         /* as since 6.12 */
};

struct synth {
    struct synth_kind kind;
    uint8_t *bytes;
    uint64_t next_table, next_slab;
    struct guest_profile profile; /* true for this guest */
    char note[8192];
    struct dor_image_range range;
    struct dor_image_info info;
    /* virtual addresses */
    uint64_t init_task, task, mm, vma[2], root_node, file, mapping, inode;
    uint64_t node_pgd; /* physical: the process's top table */
    struct {
        const char *name;
        uint64_t address;
    } symbols[SYNTH_SYMBOLS_MAX];
    size_t symbol_count;
};

static inline uint8_t *
synth_page(struct synth *synth, uint64_t pfn)
{
    return synth->bytes + pfn * DOR_PAGE_BYTES;
}

/* Where a virtual address of the direct map or the image lies here. */
static inline uint8_t *
synth_at(struct synth *synth, uint64_t address)
{
    uint64_t physical = address >= SYNTH_IMAGE
                            ? address - SYNTH_IMAGE + SYNTH_KERNEL * DOR_PAGE_BYTES
                            : address - SYNTH_DIRECT;
    dor_assert(physical < SYNTH_PAGES * DOR_PAGE_BYTES);
    return synth->bytes + physical;
}

static inline void
synth_put(struct synth *synth, uint64_t address, uint64_t value)
{
    base_le64_put(synth_at(synth, address), value);
}

static inline uint64_t
synth_image_address(uint64_t pfn)
{
    return SYNTH_IMAGE + (pfn - SYNTH_KERNEL) * DOR_PAGE_BYTES;
}

/* The address of BYTES new bytes of slab. */
static inline uint64_t
synth_new(struct synth *synth, size_t bytes)
{
    uint64_t at = synth->next_slab;
    synth->next_slab += (bytes + 255) & ~(size_t)255;
    dor_assert(synth->next_slab <= (uint64_t)SYNTH_PGD * DOR_PAGE_BYTES);
    return SYNTH_DIRECT + at;
}

static inline uint64_t
synth_number(const struct synth *synth, enum guest_number number)
{
    return (uint64_t)synth->profile.numbers[number];
}

/* Set the member NUMBER of the struct at ADDRESS. */
static inline void
synth_set(struct synth *synth, uint64_t address, enum guest_number number, uint64_t value)
{
    synth_put(synth, address + synth_number(synth, number), value);
}

/* ------------------------------------------------------------------ page tables */

enum { SYNTH_WRITE = 2, SYNTH_USER_BIT = 4, SYNTH_LARGE = 0x80 };

#define SYNTH_NX (UINT64_C(1) << 63)

/* Map ADDRESS to PFN below the table at TOP; at level 0 a page, at level 1 a page of 2 MiB. */
static inline void
synth_map(
    struct synth *synth, uint64_t top_pfn, uint64_t address, uint64_t pfn, unsigned level,
    uint64_t flags)
{
    uint64_t table = top_pfn;
    for (unsigned at = synth->kind.five_levels ? 4 : 3; at > level; at--) {
        uint8_t *entry = synth_page(synth, table) + (address >> (12 + 9 * at) & 511) * 8;
        if (base_le64_get(entry) == 0)
            base_le64_put(
                entry, (synth->next_table++ << 12) | 1 | SYNTH_WRITE | SYNTH_USER_BIT);
        table = base_le64_get(entry) >> 12 & 0xfffffff;
    }
    base_le64_put(
        synth_page(synth, table) + (address >> (12 + 9 * level) & 511) * 8,
        pfn << 12 | 1 | flags | (level > 0 ? SYNTH_LARGE : 0));
}

static inline void
synth_make_tables(struct synth *synth)
{
    synth->next_table = SYNTH_TABLES;
    for (uint64_t pfn = SYNTH_KERNEL; pfn < SYNTH_FREE; pfn++)
        synth_map(
            synth, SYNTH_TOP, synth_image_address(pfn), pfn, 0,
            pfn < SYNTH_BTF_PAGE - 16 ? 0
            : pfn < SYNTH_KERNEL_DATA ? SYNTH_NX
                                      : SYNTH_NX | SYNTH_WRITE);
    for (uint64_t pfn = 0; pfn < SYNTH_PAGES; pfn += 512)
        synth_map(
            synth, SYNTH_TOP, SYNTH_DIRECT + pfn * DOR_PAGE_BYTES, pfn, 1,
            SYNTH_WRITE | SYNTH_NX);
    for (uint64_t i = 0; i < SYNTH_PAGES * RECORD_BYTES / DOR_PAGE_BYTES; i++)
        synth_map(
            synth, SYNTH_TOP, SYNTH_ARRAY + i * DOR_PAGE_BYTES, SYNTH_RECORDS + i, 0,
            SYNTH_WRITE | SYNTH_NX);
}

/* ------------------------------------------------------------------ records of pages */

enum { FLAG_DIRTY = 3, FLAG_LRU = 4, FLAG_SLAB = 9, FLAG_RESERVED = 12, FLAG_SWAPBACKED = 19 };

static inline uint8_t *
synth_record(struct synth *synth, uint64_t pfn)
{
    return synth_page(synth, SYNTH_RECORDS) + pfn * RECORD_BYTES;
}

static inline void
synth_mark(struct synth *synth, uint64_t pfn, uint64_t flags, uint64_t mapping, uint64_t index)
{
    uint8_t *record = synth_record(synth, pfn);
    base_le64_put(record + REC_FLAGS, flags);
    base_le64_put(record + REC_MAPPING, mapping);
    base_le64_put(record + REC_INDEX, index);
    base_le32_put(record + REC_TYPE, UINT32_MAX);
    base_le32_put(record + REC_REFCOUNT, 1);
}

static inline void
synth_mark_type(struct synth *synth, uint64_t pfn, uint32_t bit, uint32_t byte)
{
    base_le32_put(
        synth_record(synth, pfn) + REC_TYPE,
        synth->kind.byte_types ? byte << 24 : UINT32_MAX & ~bit);
}

static inline void
synth_make_records(struct synth *synth)
{
    for (uint64_t pfn = 0; pfn < SYNTH_PAGES; pfn++)
        synth_mark(synth, pfn, pfn < SYNTH_NOTE ? 1u << FLAG_RESERVED : 0, 0, 0);
    for (uint64_t pfn = SYNTH_KERNEL; pfn < SYNTH_FREE; pfn++)
        synth_mark(synth, pfn, 1u << FLAG_RESERVED, 0, 0);
    for (uint64_t pfn = SYNTH_SLAB; pfn < SYNTH_PGD; pfn++) {
        synth_mark(synth, pfn, synth->kind.byte_types ? 0 : 1u << FLAG_SLAB, 0, 0);
        if (synth->kind.byte_types)
            synth_mark_type(synth, pfn, 0, 0xf5);
    }
    for (uint64_t pfn = SYNTH_PGD + 1; pfn < synth->next_table; pfn++)
        synth_mark_type(synth, pfn, 0x200, 0xf2);
    for (uint64_t i = 0; i < SYNTH_PAGES_EACH; i++) {
        synth_mark(
            synth, SYNTH_ANON + i, 1u << FLAG_LRU | 1u << FLAG_SWAPBACKED,
            (SYNTH_DIRECT + 0x1000) | 1, i);
        synth_mark(synth, SYNTH_FILE + i, 1u << FLAG_LRU, synth->mapping, 7 + i);
    }
    synth_mark(synth, SYNTH_DIRTY, 1u << FLAG_LRU | 1u << FLAG_DIRTY, synth->mapping, 100);
    synth_mark(synth, SYNTH_SHMEM, 1u << FLAG_LRU | 1u << FLAG_SWAPBACKED, synth->mapping, 3);
    base_le32_put(synth_record(synth, SYNTH_CACHED) + REC_REFCOUNT, 0);
    synth_mark_type(synth, SYNTH_FREE, 0x80, 0xf0);
    base_le64_put(synth_record(synth, SYNTH_FREE) + REC_PRIVATE, 9);
}

/* ------------------------------------------------------------------ the allocator */

enum {
    NODE_NR_ZONES = 4096,
    NODE_BYTES = 8192,
    ZONE_BYTES = 1536,
    ZONE_PCP = 8,
    ZONE_AREA = 256,
    AREA_TYPES = 3,
    AREA_BYTES = AREA_TYPES * 16 + 8,
    AREA_ORDERS = 11,
};

static inline uint64_t
synth_record_lru(uint64_t pfn)
{
    return SYNTH_ARRAY + pfn * RECORD_BYTES + REC_LRU;
}

static inline uint8_t *
synth_lru_at(struct synth *synth, uint64_t lru)
{
    return synth_page(synth, SYNTH_RECORDS) + (lru - SYNTH_ARRAY);
}

/* A ring of its own at HEAD, or of HEAD and one record. */
static inline void
synth_ring(struct synth *synth, uint64_t head, uint64_t lru)
{
    synth_put(synth, head, lru == 0 ? head : lru);
    synth_put(synth, head + 8, lru == 0 ? head : lru);
    if (lru != 0) {
        base_le64_put(synth_lru_at(synth, lru), head);
        base_le64_put(synth_lru_at(synth, lru) + 8, head);
    }
}

static inline uint64_t
synth_area(unsigned order)
{
    return synth_image_address(SYNTH_NODE) + ZONE_AREA + (uint64_t)order * AREA_BYTES;
}

static inline void
synth_make_allocator(struct synth *synth)
{
    uint64_t node = synth_image_address(SYNTH_NODE);
    uint64_t cpu = synth_image_address(SYNTH_CPU);
    synth_put(synth, synth_image_address(SYNTH_NODES), node);
    synth_put(synth, node + NODE_NR_ZONES, 1);
    for (unsigned order = 0; order < AREA_ORDERS; order++)
        for (unsigned type = 0; type < AREA_TYPES; type++)
            synth_ring(
                synth, synth_area(order) + (uint64_t)type * 16,
                order == 9 && type == 1 ? synth_record_lru(SYNTH_FREE) : 0);
    synth_put(synth, synth_area(9) + AREA_TYPES * 16, 1);
    /* One processor: its offset is 0, its lists are at the image's page for it. */
    synth_put(synth, cpu, 0);
    synth_put(synth, cpu + 64, 1);
    synth_put(synth, node + ZONE_PCP, cpu + 128);
    synth_put(synth, cpu + 128, 1);
    for (unsigned list = 0; list < 4; list++)
        synth_ring(
            synth, cpu + 128 + 16 + (uint64_t)list * 16,
            list == 1 ? synth_record_lru(SYNTH_CACHED) : 0);
}

/* ------------------------------------------------------------------ tasks and files */

static inline uint64_t
synth_text(struct synth *synth, const char *text)
{
    uint64_t at = synth_new(synth, strlen(text) + 1);
    memcpy(synth_at(synth, at), text, strlen(text) + 1);
    return at;
}

static inline uint64_t
synth_dentry(struct synth *synth, const char *name)
{
    uint64_t dentry = synth_new(synth, 512);
    synth_set(synth, dentry, GUEST_dentry_name, synth_text(synth, name));
    return dentry;
}

static inline void
synth_make_file(struct synth *synth)
{
    uint64_t super = synth_new(synth, 512);
    uint64_t type = synth_new(synth, 512);
    uint64_t dentry = synth_dentry(synth, "lib,\"odd\".so");
    synth->file = synth_new(synth, 512);
    synth->mapping = synth_new(synth, 512);
    synth->inode = synth_new(synth, 512);
    synth_set(synth, synth->file, GUEST_file_dentry, dentry);
    synth_set(synth, synth->file, GUEST_file_mapping, synth->mapping);
    synth_set(synth, synth->mapping, GUEST_mapping_host, synth->inode);
    synth_set(synth, synth->inode, GUEST_inode_mapping, synth->mapping);
    synth_set(synth, synth->inode, GUEST_inode_sb, super);
    synth_set(synth, synth->inode, GUEST_inode_ino, 1234);
    synth_set(
        synth, synth->inode, GUEST_inode_dentry,
        dentry + synth_number(synth, GUEST_dentry_alias));
    synth_set(synth, super, GUEST_sb_type, type);
    synth_set(synth, type, GUEST_fs_name, synth_text(synth, "ext4"));
}

static inline uint64_t
synth_vma(struct synth *synth, uint64_t start, uint64_t flags, uint64_t file)
{
    uint64_t vma = synth_new(synth, 512);
    synth_set(synth, vma, GUEST_vma_start, start);
    synth_set(synth, vma, GUEST_vma_end, start + SYNTH_PAGES_EACH * DOR_PAGE_BYTES);
    synth_set(synth, vma, GUEST_vma_flags, flags);
    synth_set(synth, vma, GUEST_vma_file, file);
    return vma;
}

/* A tree of two levels: gap, anon, gap | file, gap. */
static inline void
synth_make_tree(struct synth *synth)
{
    uint64_t leaves[2] = {synth_new(synth, 256), synth_new(synth, 256)};
    uint64_t slot = synth_number(synth, GUEST_range_slot);
    uint64_t bytes = SYNTH_PAGES_EACH * DOR_PAGE_BYTES;
    uint64_t middle = SYNTH_USER + 12 * DOR_PAGE_BYTES;
    synth->root_node = synth_new(synth, 256);
    for (size_t i = 0; i < 2; i++) {
        uint64_t start = SYNTH_USER + i * 16 * DOR_PAGE_BYTES;
        uint64_t leaf = leaves[i];
        synth_set(synth, leaf, GUEST_range_pivot, start - 1);
        synth_put(synth, leaf + synth_number(synth, GUEST_range_pivot) + 8, start + bytes - 1);
        synth_put(
            synth, leaf + synth_number(synth, GUEST_range_pivot) + 16,
            i == 0 ? middle : UINT64_MAX);
        synth_put(synth, leaf + slot + 8, synth->vma[i]);
        synth_put(
            synth, synth->root_node + synth_number(synth, GUEST_arange_slot) + i * 8,
            leaf | synth_number(synth, GUEST_maple_leaf) << 3);
    }
    synth_set(synth, synth->root_node, GUEST_arange_pivot, middle);
    synth_put(
        synth, synth->root_node + synth_number(synth, GUEST_arange_pivot) + 8, UINT64_MAX);
    synth_set(
        synth, synth->mm + synth_number(synth, GUEST_mm_mt), GUEST_tree_root,
        synth->root_node | synth_number(synth, GUEST_maple_arange) << 3 | 2);
}

static inline void
synth_make_tasks(struct synth *synth)
{
    uint64_t tasks = synth_number(synth, GUEST_task_tasks);
    synth->init_task = synth_image_address(SYNTH_INIT_TASK);
    synth->task = synth_new(synth, 512);
    synth->mm = synth_new(synth, 512);
    memcpy(
        synth_at(synth, synth->init_task + synth_number(synth, GUEST_task_comm)), "swapper/0",
        9);
    memcpy(synth_at(synth, synth->task + synth_number(synth, GUEST_task_comm)), "work\x1b", 5);
    synth_put(synth, synth->init_task + tasks, synth->task + tasks);
    synth_put(synth, synth->init_task + tasks + 8, synth->task + tasks);
    synth_put(synth, synth->task + tasks, synth->init_task + tasks);
    synth_put(synth, synth->task + tasks + 8, synth->init_task + tasks);
    base_le32_put(
        synth_at(synth, synth->task + synth_number(synth, GUEST_task_pid)), SYNTH_TASK_PID);
    synth_set(synth, synth->task, GUEST_task_mm, synth->mm);
    synth_set(synth, synth->mm, GUEST_mm_pgd, SYNTH_DIRECT + SYNTH_PGD * DOR_PAGE_BYTES);
    synth->vma[0] = synth_vma(synth, SYNTH_USER, 3, 0);
    synth->vma[1] = synth_vma(synth, SYNTH_USER + 16 * DOR_PAGE_BYTES, 5, synth->file);
    if (synth->kind.list_of_mappings) {
        synth_set(synth, synth->mm, GUEST_mm_mmap, synth->vma[0]);
        synth_set(synth, synth->vma[0], GUEST_vma_next, synth->vma[1]);
    } else {
        synth_make_tree(synth);
    }
}

/* The process's own tables: the kernel's upper half, and its pages. */
static inline void
synth_make_process_tables(struct synth *synth)
{
    memcpy(
        synth_page(synth, SYNTH_PGD) + DOR_PAGE_BYTES / 2,
        synth_page(synth, SYNTH_TOP) + DOR_PAGE_BYTES / 2, DOR_PAGE_BYTES / 2);
    synth->next_table = SYNTH_PGD + 1;
    for (uint64_t i = 0; i < SYNTH_PAGES_EACH; i++) {
        synth_map(
            synth, SYNTH_PGD, SYNTH_USER + i * DOR_PAGE_BYTES, SYNTH_ANON + i, 0,
            SYNTH_WRITE | SYNTH_USER_BIT | SYNTH_NX);
        synth_map(
            synth, SYNTH_PGD, SYNTH_USER + (16 + i) * DOR_PAGE_BYTES, SYNTH_FILE + i, 0,
            SYNTH_USER_BIT);
        memset(synth_page(synth, SYNTH_ANON + i), 0xa0 + (int)i, 64);
        memset(synth_page(synth, SYNTH_FILE + i), 0xb0 + (int)i, 64);
    }
}

/* ------------------------------------------------------------------ what the kernel tells */

/* Offsets in the order of profile.def, 8 bytes or an array apart; the rest as in Linux. */
static inline void
synth_make_profile(struct synth *synth)
{
    struct guest_profile *profile = &synth->profile;
    uint64_t used = 64;
    guest_profile_init(profile);
    for (size_t i = 0; i < GUEST_NUMBERS; i++)
        if (guest_rows[i].kind == GUEST_MEMBER) {
            if (i > 0 && strcmp(guest_rows[i].owner, guest_rows[i - 1].owner) != 0)
                used = 64;
            profile->numbers[i] = (int32_t)used;
            used += (guest_rows[i].bytes + 7) / 8 * 8;
        }
    profile->numbers[GUEST_range_pivot] = profile->numbers[GUEST_arange_pivot] = 8;
    profile->numbers[GUEST_range_slot] = 128;
    profile->numbers[GUEST_arange_slot] = 80;
    profile->numbers[GUEST_range_slots] = 16;
    profile->numbers[GUEST_arange_slots] = 10;
    profile->numbers[GUEST_maple_leaf] = 1;
    profile->numbers[GUEST_maple_range] = 2;
    profile->numbers[GUEST_maple_arange] = 3;
    profile->numbers[GUEST_page_index] = REC_INDEX;
    profile->numbers[GUEST_zone_pcp] = ZONE_PCP;
    profile->numbers[GUEST_pcp_count] = 0;
    profile->numbers[GUEST_pcp_lists] = 16;
    profile->numbers[GUEST_pcp_list_count] = 4;
    profile->numbers[GUEST_pg_dirty] = FLAG_DIRTY;
    profile->numbers[GUEST_pg_reserved] = FLAG_RESERVED;
    profile->numbers[GUEST_pg_head] = 16;
    if (synth->kind.list_of_mappings)
        profile->numbers[GUEST_mm_mt] = GUEST_UNKNOWN;
    snprintf(profile->build_id, sizeof profile->build_id, "%s", SYNTH_BUILD_ID);
}

/* A type for row I: an array where there is a count for it, else a number of its size. */
static inline int
synth_member_type(struct btf *btf, const struct guest_profile *profile, size_t i, int word)
{
    for (size_t j = 0; j < GUEST_NUMBERS; j++)
        if (guest_rows[j].kind == GUEST_COUNT &&
            strcmp(guest_rows[j].owner, guest_rows[i].owner) == 0 &&
            strcmp(guest_rows[j].path, guest_rows[i].path) == 0)
            return btf__add_array(btf, word, word, (uint32_t)profile->numbers[j]);
    return word;
}

/* One struct with all its rows; a dotted path gets a struct inside. */
static inline void
synth_add_struct(struct btf *btf, const struct guest_profile *profile, size_t first, int word)
{
    const char *owner = guest_rows[first].owner;
    int types[GUEST_NUMBERS];
    for (size_t i = first; i < GUEST_NUMBERS; i++) {
        const char *dot = strchr(guest_rows[i].path, '.');
        types[i] = 0;
        if (guest_rows[i].kind != GUEST_MEMBER || strcmp(guest_rows[i].owner, owner) != 0)
            continue;
        types[i] = synth_member_type(btf, profile, i, word);
        if (dot != NULL) {
            types[i] = btf__add_struct(btf, "inner", 8);
            btf__add_field(btf, dot + 1, word, 0, 0);
        }
    }
    btf__add_struct(btf, owner, 1024);
    for (size_t i = first; i < GUEST_NUMBERS; i++) {
        char name[64];
        if (types[i] == 0 || profile->numbers[i] == GUEST_UNKNOWN)
            continue;
        snprintf(
            name, sizeof name, "%.*s", (int)strcspn(guest_rows[i].path, ".|"),
            guest_rows[i].path);
        btf__add_field(btf, name, types[i], (uint32_t)profile->numbers[i] * 8, 0);
    }
}

static inline bool
synth_is_first(size_t i)
{
    for (size_t j = 0; j < i; j++)
        if (strcmp(guest_rows[j].owner, guest_rows[i].owner) == 0)
            return false;
    return true;
}

/* BTF that tells PROFILE; to be freed by btf__free(). */
static inline struct btf *
synth_btf(const struct guest_profile *profile)
{
    struct btf *btf = btf__new_empty();
    int word = btf__add_int(btf, "long", 8, 0);
    for (size_t i = 0; i < GUEST_NUMBERS; i++) {
        if (!synth_is_first(i))
            continue;
        if (guest_rows[i].kind == GUEST_MEMBER) {
            synth_add_struct(btf, profile, i, word);
            continue;
        }
        btf__add_enum(btf, guest_rows[i].owner, 4);
        for (size_t j = i; j < GUEST_NUMBERS; j++)
            if (guest_rows[j].kind == GUEST_VALUE &&
                strcmp(guest_rows[j].owner, guest_rows[i].owner) == 0 &&
                profile->numbers[j] != GUEST_UNKNOWN)
                btf__add_enum_value(btf, guest_rows[j].path, profile->numbers[j]);
    }
    return btf;
}

static inline void
synth_symbol(struct synth *synth, const char *name, uint64_t address)
{
    dor_assert(synth->symbol_count < SYNTH_SYMBOLS_MAX);
    synth->symbols[synth->symbol_count].name = name;
    synth->symbols[synth->symbol_count++].address = address;
}

/* kallsyms in one page: count at 0, base at 8, offsets at 64, names at 512, tokens at 2048. */
static inline void
synth_make_symbols(struct synth *synth)
{
    uint8_t *page = synth_page(synth, SYNTH_SYMBOLS_PAGE);
    uint8_t *name = page + 512;
    base_le32_put(page, (uint32_t)synth->symbol_count);
    base_le64_put(page + 8, SYNTH_IMAGE);
    for (size_t i = 0; i < synth->symbol_count; i++) {
        size_t length = strlen(synth->symbols[i].name);
        base_le32_put(page + 64 + i * 4, (uint32_t)(synth->symbols[i].address - SYNTH_IMAGE));
        *name++ = (uint8_t)(length + 1);
        *name++ = 'D';
        memcpy(name, synth->symbols[i].name, length);
        name += length;
    }
    for (unsigned i = 0; i < 256; i++) {
        page[2048 + i * 2] = (uint8_t)i;
        base_le16_put(page + 3072 + (size_t)i * 2, (uint16_t)(i * 2));
    }
}

static inline void
synth_make_btf(struct synth *synth)
{
    uint32_t bytes;
    struct btf *btf = synth_btf(&synth->profile);
    const void *data = btf__raw_data(btf, &bytes);
    uint64_t start = synth_image_address(SYNTH_BTF_PAGE);
    dor_assert(data != NULL && bytes < 16 * DOR_PAGE_BYTES);
    memcpy(synth_at(synth, start), data, bytes);
    synth_symbol(synth, "__start_BTF", start);
    synth_symbol(synth, "__stop_BTF", start + bytes);
    btf__free(btf);
}

__attribute__((format(printf, 2, 3))) static inline void
synth_line(struct synth *synth, const char *fmt, ...)
{
    size_t used = strlen(synth->note);
    va_list args;
    va_start(args, fmt);
    vsnprintf(synth->note + used, sizeof synth->note - used, fmt, args);
    va_end(args);
    strcat(synth->note, "\n");
}

/* Write the text of the note into memory, at OFFSET of the note's page. */
static inline void
synth_write_note(struct synth *synth, size_t offset)
{
    uint8_t *page = synth_page(synth, SYNTH_NOTE);
    memset(page, 0, DOR_PAGE_BYTES);
    base_le32_put(page + offset, 11);
    base_le32_put(page + offset + 4, (uint32_t)strlen(synth->note));
    memcpy(page + offset + 12, "VMCOREINFO", 11);
    memcpy(page + offset + 24, synth->note, strlen(synth->note));
}

/* Replace the line that begins with KEY by LINE, or take it away when LINE is NULL. */
static inline void
synth_change_note(struct synth *synth, const char *key, const char *line)
{
    char *at = strstr(synth->note, key);
    char rest[sizeof synth->note];
    dor_assert(at != NULL);
    snprintf(rest, sizeof rest, "%s", strchr(at, '\n') + 1);
    size_t left = sizeof synth->note - (size_t)(at - synth->note);
    int used =
        snprintf(at, left, "%s%s%s", line == NULL ? "" : line, line == NULL ? "" : "\n", rest);
    dor_assert((size_t)used < left);
    synth_write_note(synth, 0);
}

static inline void
synth_note_sizes(struct synth *synth)
{
    synth_line(synth, "SIZE(page)=%d", RECORD_BYTES);
    synth_line(synth, "SIZE(pglist_data)=%d", NODE_BYTES);
    synth_line(synth, "SIZE(zone)=%d", ZONE_BYTES);
    synth_line(synth, "SIZE(free_area)=%d", AREA_BYTES);
    synth_line(synth, "OFFSET(page.flags)=%d", REC_FLAGS);
    synth_line(synth, "OFFSET(page._refcount)=%d", REC_REFCOUNT);
    synth_line(synth, "OFFSET(page.mapping)=%d", REC_MAPPING);
    synth_line(synth, "OFFSET(page.lru)=%d", REC_LRU);
    synth_line(synth, "OFFSET(page._mapcount)=%d", REC_TYPE);
    synth_line(synth, "OFFSET(page.private)=%d", REC_PRIVATE);
    synth_line(synth, "OFFSET(page.compound_head)=%d", REC_LRU);
    synth_line(synth, "OFFSET(pglist_data.node_zones)=0");
    synth_line(synth, "OFFSET(pglist_data.nr_zones)=%d", NODE_NR_ZONES);
    synth_line(synth, "OFFSET(zone.free_area)=%d", ZONE_AREA);
    synth_line(synth, "OFFSET(free_area.free_list)=0");
    synth_line(synth, "OFFSET(list_head.next)=0\nOFFSET(list_head.prev)=8");
    synth_line(synth, "LENGTH(zone.free_area)=%d", AREA_ORDERS);
    synth_line(synth, "LENGTH(free_area.free_list)=%d", AREA_TYPES);
    synth_line(synth, "SYMBOL(node_data)=%" PRIx64, synth_image_address(SYNTH_NODES));
    synth_line(synth, "LENGTH(node_data)=4");
    synth_line(synth, "NUMBER(PG_lru)=%d", FLAG_LRU);
    synth_line(synth, "NUMBER(PG_private)=%d", FLAG_RESERVED + 1);
    synth_line(synth, "NUMBER(PG_swapbacked)=%d", FLAG_SWAPBACKED);
    synth_line(synth, "NUMBER(PG_head_mask)=65536");
    if (synth->kind.byte_types) {
        synth_line(synth, "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-268435456");
        synth_line(synth, "NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)=-184549376");
    } else {
        synth_line(synth, "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129");
        synth_line(synth, "NUMBER(PG_slab)=%d", FLAG_SLAB);
    }
}

static inline void
synth_make_note(struct synth *synth)
{
    uint64_t symbols = synth_image_address(SYNTH_SYMBOLS_PAGE);
    synth_line(synth, "OSRELEASE=6.1.0-synth\nBUILD-ID=" SYNTH_BUILD_ID "\nPAGESIZE=4096");
    synth_line(synth, "SYMBOL(init_uts_ns)=%" PRIx64, synth_image_address(SYNTH_UTS));
    synth_line(synth, "OFFSET(uts_namespace.name)=4");
    synth_line(synth, "SYMBOL(_stext)=%" PRIx64, SYNTH_IMAGE);
    synth_line(synth, "SYMBOL(init_top_pgt)=%" PRIx64, synth_image_address(SYNTH_TOP));
    synth_line(synth, "NUMBER(phys_base)=%d", SYNTH_KERNEL * 4096 - 0x1000000);
    synth_line(synth, "NUMBER(pgtable_l5_enabled)=%d", synth->kind.five_levels);
    synth_line(synth, "NUMBER(sme_mask)=0");
    synth_line(synth, "SYMBOL(vmemmap)=%" PRIx64, SYNTH_ARRAY);
    synth_note_sizes(synth);
    if (!synth->kind.no_symbols) {
        synth_line(synth, "SYMBOL(kallsyms_num_syms)=%" PRIx64, symbols);
        synth_line(synth, "SYMBOL(kallsyms_relative_base)=%" PRIx64, symbols + 8);
        synth_line(synth, "SYMBOL(kallsyms_offsets)=%" PRIx64, symbols + 64);
        synth_line(synth, "SYMBOL(kallsyms_names)=%" PRIx64, symbols + 512);
        synth_line(synth, "SYMBOL(kallsyms_token_table)=%" PRIx64, symbols + 2048);
        synth_line(synth, "SYMBOL(kallsyms_token_index)=%" PRIx64, symbols + 3072);
    }
    synth_write_note(synth, 0);
}

/* ------------------------------------------------------------------ all of it */

static inline void
synth_init(struct synth *synth, const struct synth_kind *kind)
{
    memset(synth, 0, sizeof *synth);
    synth->kind = *kind;
    synth->bytes = base_alloc_pages(SYNTH_PAGES);
    if (synth->bytes == NULL)
        bail("%s", dor_err_message());
    memset(synth->bytes, 0, SYNTH_PAGES * DOR_PAGE_BYTES);
    synth->next_slab = SYNTH_SLAB * DOR_PAGE_BYTES;
    synth_make_profile(synth);
    synth_make_tables(synth);
    dor_assert(synth->next_table <= SYNTH_RECORDS);
    synth_make_file(synth);
    synth_make_tasks(synth);
    synth_make_process_tables(synth);
    synth_make_records(synth);
    synth_make_allocator(synth);
    snprintf(
        (char *)synth_at(synth, synth_image_address(SYNTH_UTS) + 4 + 130), 65, "6.1.0-synth");
    synth_symbol(synth, "_stext", SYNTH_IMAGE);
    synth_symbol(synth, "init_task", synth->init_task);
    synth_symbol(synth, "__per_cpu_offset", synth_image_address(SYNTH_CPU));
    synth_symbol(synth, "nr_cpu_ids", synth_image_address(SYNTH_CPU) + 64);
    synth_symbol(synth, "_page_poisoning_enabled", synth_image_address(SYNTH_SWITCHES));
    if (!kind->no_btf)
        synth_make_btf(synth);
    if (!kind->no_symbols)
        synth_make_symbols(synth);
    synth_make_note(synth);
    synth->range = (struct dor_image_range){.page_count = SYNTH_PAGES, .data = synth->bytes};
    synth->info = (struct dor_image_info){
        .format = DOR_IMAGE_RAW,
        .page_count = SYNTH_PAGES,
        .ranges = &synth->range,
        .range_count = 1,
    };
}

static inline void
synth_fini(struct synth *synth)
{
    base_free(synth->bytes);
    synth->bytes = NULL;
}

/* What an inspection of SYNTH says; OPTIONS may be NULL. */
static inline struct dor_inspection *
synth_inspect(const struct synth *synth, const struct dor_inspect *options)
{
    struct dor_inspection *inspection;
    if (guest_inspect(NULL, &synth->info, options, &inspection) != 0)
        bail("%s", dor_err_message());
    return inspection;
}

#endif
