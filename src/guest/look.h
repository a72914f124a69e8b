/* SPDX-License-Identifier: Apache-2.0 */
/*
 * look.h - one inspection under way: the guest as far as it is known, and the result as it grows.
 * The steps of an inspection are functions of this struct, called in order by inspect.c.
 *
 * Ownership:  a look owns everything in it but image and options; guest_look_fini().
 * Threads:    one.
 * Errors:     steps return DOR_E_NO_MEMORY or 0; what a guest does not tell, or tells wrong, is
 *             remembered by guest_look_partial().
 */
#ifndef DOR_GUEST_LOOK_H
#define DOR_GUEST_LOOK_H

#include <dormouse/inspect.h>
#include <dormouse/store.h>

#include "guest/array.h"
#include "guest/kernel.h"
#include "guest/profile.h"
#include "guest/survey.h"

/* Rows of one kind that grow. */
struct guest_rows {
    void *rows;
    size_t count, cap, row_bytes;
};

/* Address of a struct in the guest to a row here, by open addressing; address 0 is empty. */
struct guest_map {
    struct {
        uint64_t address;
        uint32_t row;
    } * slots;
    size_t count, cap;
};

/* What is kept of a process beside the public part. */
struct guest_process {
    uint64_t mm, pgd; /* virtual address of its mm, physical of its top table */
    size_t first_mapping;
};

struct guest_look {
    const struct dor_image_info *info;
    const struct dor_inspect *options;
    struct guest_pager *pager; /* NULL when all of the memory is mapped */
    struct guest_memory memory;
    struct guest_survey survey;
    struct guest_kernel kernel;
    struct guest_profile profile;
    struct guest_array array;
    bool has_kernel, has_array;
    uint64_t *head_bits;      /* by row: first page of a free block */
    uint64_t head_count;      /* of these */
    bool free_blocks_are_bad; /* orders, alignment or overlaps that cannot be */
    struct dor_inspection result;
    struct dor_inspect_page *pages;
    struct guest_rows processes, mappings, files; /* public rows */
    struct guest_rows insides;                    /* struct guest_process, as processes */
    struct guest_map file_map;                    /* struct address_space to file */
};

void guest_look_fini(struct guest_look *look);

/* Note that something was cut or made no sense; the words of the first time are kept. */
void guest_look_partial(struct guest_look *look, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Words about the tier, unless there are some. */
void guest_look_remark(struct guest_look *look, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Room for one more row, cleared; NULL when memory ran out. */
void *guest_rows_add(struct guest_rows *rows);

/* The row of ADDRESS, or UINT32_MAX; which may also have been added, so ask guest_map_has(). */
uint32_t guest_map_find(const struct guest_map *map, uint64_t address);
bool guest_map_has(const struct guest_map *map, uint64_t address);
DOR_MUST_CHECK int guest_map_add(struct guest_map *map, uint64_t address, uint32_t row);
void guest_map_fini(struct guest_map *map);

#endif
